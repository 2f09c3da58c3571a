"""Beam search as it is first written, one Python list per hypothesis: the baseline that makes the others' gain visible.

The search is that of transformers' ``GenerationMixin._beam_search`` (v5): the same scores in float32, the same rules for
finished hypotheses, length penalty and early stopping; ``beam_vectorized`` states the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stepscope.core.plan import DecodePlan
from stepscope.core.session import Candidates, SpecialTokens

if TYPE_CHECKING:
    from stepscope.core.session import Ids


@dataclass(slots=True)
class _Hypothesis:
    tokens: list[int]
    score: np.float32


@dataclass(slots=True)
class _Input:
    running: list[_Hypothesis]
    finished: list[_Hypothesis] = field(default_factory=list)
    done: bool = False


class NaiveBeams:
    def __init__(self, inputs: int, special: SpecialTokens, plan: DecodePlan) -> None:
        self._special = special
        self._search = plan.search
        self._drop = plan.drop_finished_rows
        self._inputs = [_Input([_Hypothesis([], np.float32(0))]) for _ in range(inputs)]
        self._active = list(self._inputs)  # the inputs whose rows the session holds, in row order
        self._length = 0

    def first(self) -> Ids:
        return np.full(len(self._inputs), self._special.start, dtype=np.int64)

    def advance(self, candidates: Candidates) -> tuple[Ids, Ids | None] | None:
        assert candidates.log_probs is not None
        self._length += 1
        last = self._length == self._search.max_new_tokens
        tokens: list[int] = []
        parents: list[int] = []
        row = 0
        stay = []
        for one in self._active:
            first_row = row
            row += len(one.running)
            survivors = self._advance_input(one, candidates, first_row, last)
            if one.done and self._drop:
                continue
            stay.append(one)
            for beam, hypothesis in survivors:
                parents.append(first_row + beam)
                tokens.append(hypothesis.tokens[-1])
            one.running = [hypothesis for _, hypothesis in survivors]
        if last or all(one.done for one in self._inputs):
            return None
        self._active = stay
        return np.array(tokens, dtype=np.int64), np.array(parents, dtype=np.int64)

    def _advance_input(
        self, one: _Input, candidates: Candidates, first_row: int, last: bool
    ) -> list[tuple[int, _Hypothesis]]:
        beams = self._search.num_beams
        grown = []
        for beam, hypothesis in enumerate(one.running):
            ids, scores = candidates.ids[first_row + beam], candidates.log_probs[first_row + beam]  # type: ignore[index]
            for token, score in zip(ids.tolist(), scores, strict=True):
                if not (self._search.exact_tokens and token == self._special.eos):
                    grown.append((beam, _Hypothesis([*hypothesis.tokens, token], hypothesis.score + score)))
        grown.sort(key=lambda pair: -pair[1].score)
        grown = grown[: 2 * beams]
        penalty = self._length**self._search.length_penalty
        survivors: list[tuple[int, _Hypothesis]] = []
        for rank, (beam, hypothesis) in enumerate(grown):
            ends = last or hypothesis.tokens[-1] == self._special.eos
            if ends and rank < beams and not one.done:
                one.finished.append(_Hypothesis(hypothesis.tokens, np.float32(hypothesis.score / np.float32(penalty))))
            if not ends and len(survivors) < beams:
                survivors.append((beam, hypothesis))
        one.finished.sort(key=lambda hypothesis: -hypothesis.score)
        del one.finished[beams:]
        if len(one.finished) == beams and survivors:
            best = survivors[0][1].score / np.float32(penalty)
            one.done |= self._search.early_stopping or not best > one.finished[-1].score
        return survivors

    def hypotheses(self) -> tuple[tuple[int, ...], ...]:
        """The best finished hypothesis of each input, or the best running one while none has finished."""
        return tuple(tuple((one.finished or one.running)[0].tokens) for one in self._inputs)
