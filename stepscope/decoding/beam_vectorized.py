"""Beam search in array operations over all inputs at once, with back-pointers instead of copied sequences.

Rules, as in transformers' ``GenerationMixin._beam_search`` (v5), n being the number of new tokens so far:

- the best 2 x beams of an input's beams x vocabulary continuations are kept; the first ``beams`` of those that do not end
  go on; among the first ``beams`` of all, those that end are finished with score log-probability / n ** length_penalty;
- the best ``beams`` finished hypotheses of an input are held; an input is done when it holds that many and either
  early stopping is on or its best running hypothesis, scored as if it ended now, is not better than the worst held;
- at the last allowed token every continuation ends.

One flat top-k over beams x candidates equals that over beams x vocabulary, since no row can place more than its own best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepscope.core.plan import DecodePlan
from stepscope.core.session import Candidates, SpecialTokens

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepscope.core.session import Ids, Scores

_Finished = tuple[float, int, int, int]  # score, step, row at that step, last token


class VectorizedBeams:
    def __init__(self, inputs: int, special: SpecialTokens, plan: DecodePlan) -> None:
        self._special = special
        self._search = plan.search
        self._drop = plan.drop_finished_rows
        self._beams = plan.search.num_beams
        self._inputs = inputs
        self._active = list(range(inputs))  # inputs whose rows the session holds, in row order
        self._scores = np.zeros((inputs, 1), dtype=np.float32)  # [active inputs, beams] of running hypotheses
        self._parents: list[Ids] = []  # per step: row of the step before which each row continues
        self._tokens: list[Ids] = []  # per step: token of each row
        self._finished: list[list[_Finished]] = [[] for _ in range(inputs)]
        self._done = [False] * inputs
        self._bases: Ids = np.arange(inputs, dtype=np.int64)[:, None]
        self._length = 0

    def first(self) -> Ids:
        return np.full(self._inputs, self._special.start, dtype=np.int64)

    def advance(self, candidates: Candidates) -> tuple[Ids, Ids | None] | None:
        self._length += 1
        beams, active = self._beams, len(self._active)
        k = candidates.ids.shape[1]
        log_probs = candidates.log_probs
        assert log_probs is not None
        if self._search.exact_tokens:
            log_probs = np.where(candidates.ids == self._special.eos, np.float32(-np.inf), log_probs)
        totals = (log_probs.reshape(active, -1, k) + self._scores[:, :, None]).reshape(active, -1)
        order = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * beams]
        flat = order + self._bases * (totals.shape[1])
        scores = totals.ravel()[flat]  # [active, 2 x beams], best first
        tokens = candidates.ids.ravel()[flat]
        rows = flat // k  # row of the step before
        if self._length == self._search.max_new_tokens:
            for index in range(active):
                self._finish(index, scores, rows, tokens, range(beams))
            return None
        ends = tokens == self._special.eos
        if not ends.any():
            keep_rows, keep_tokens, keep_scores = rows[:, :beams], tokens[:, :beams], scores[:, :beams]
        else:
            for index in np.flatnonzero(ends[:, :beams].any(axis=1)).tolist():
                self._finish(index, scores, rows, tokens, np.flatnonzero(ends[index, :beams]).tolist())
            keep = np.argsort(ends, axis=1, kind="stable")[:, :beams]  # those that go on, still best first
            keep_rows = np.take_along_axis(rows, keep, axis=1)
            keep_tokens = np.take_along_axis(tokens, keep, axis=1)
            keep_scores = np.take_along_axis(scores, keep, axis=1)
        if (stay := self._judge(keep_scores)) is not None:
            if not len(stay):
                return None
            keep_rows, keep_tokens, keep_scores = keep_rows[stay], keep_tokens[stay], keep_scores[stay]
            self._active = [self._active[index] for index in stay]
        self._scores = keep_scores
        if len(self._bases) != len(self._active):
            self._bases = self._bases[: len(self._active)]
        parents, chosen = keep_rows.ravel(), keep_tokens.ravel()
        self._parents.append(parents)
        self._tokens.append(chosen)
        return chosen, parents

    def _finish(self, index: int, scores: Scores, rows: Ids, tokens: Ids, ranks: Iterable[int]) -> None:
        """Adds the hypotheses of active input ``index`` at these ranks to those that it holds."""
        which = self._active[index]
        if self._done[which]:
            return
        held = self._finished[which]
        penalty = np.float32(self._length**self._search.length_penalty)
        for rank in ranks:
            score = float(scores[index, rank] / penalty)
            held.append((score, self._length, int(rows[index, rank]), int(tokens[index, rank])))
        held.sort(key=lambda hypothesis: -hypothesis[0])
        del held[self._beams :]

    def _judge(self, running: Scores) -> list[int] | None:
        """Marks inputs that are done; the active inputs that stay when rows must change, [] when all are done."""
        newly = False
        for index, which in enumerate(self._active):
            held = self._finished[which]
            if len(held) < self._beams or self._done[which]:
                continue
            penalty = np.float32(self._length**self._search.length_penalty)
            if self._search.early_stopping or not float(running[index, 0] / penalty) > held[-1][0]:
                self._done[which] = newly = True
        if not newly:
            return None
        if all(self._done):
            return []
        return [i for i, which in enumerate(self._active) if not self._done[which]] if self._drop else None

    def hypotheses(self) -> tuple[tuple[int, ...], ...]:
        """The best finished hypothesis of each input, or the best running one while none has finished."""
        best = []
        for which, held in enumerate(self._finished):
            if held:
                _, step, row, token = held[0]
                best.append((*self._walk(step - 2, row), token))
            else:
                index = self._active.index(which)
                best.append(self._walk(len(self._tokens) - 1, index * self._beams) if self._tokens else ())
        return tuple(best)

    def _walk(self, step: int, row: int) -> tuple[int, ...]:
        """Follows the back-pointers from this row of step ``step`` (from 0) to the start."""
        tokens = []
        while step >= 0:
            tokens.append(int(self._tokens[step][row]))
            row = int(self._parents[step][row])
            step -= 1
        return tuple(reversed(tokens))
