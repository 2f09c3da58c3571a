"""Greedy search: the most probable token of each row, until every row has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepscope.core.plan import DecodePlan
from stepscope.core.session import Candidates, SpecialTokens

if TYPE_CHECKING:
    from stepscope.core.session import Ids


class Greedy:
    """Rows that have ended are fed padding, or leave the batch when the plan drops finished rows."""

    def __init__(self, inputs: int, special: SpecialTokens, plan: DecodePlan) -> None:
        self._special = special
        self._limit = plan.search.max_new_tokens
        self._exact = plan.search.exact_tokens
        self._drop = plan.drop_finished_rows
        self._inputs = inputs
        self._steps: list[Ids] = []  # chosen token of each active row at each step
        self._active_at: list[Ids] = []  # which inputs these rows were
        self._active = np.arange(inputs)
        self._ended = np.zeros(inputs, dtype=bool)
        self._any_ended = False

    def first(self) -> Ids:
        return np.full(self._inputs, self._special.start, dtype=np.int64)

    def advance(self, candidates: Candidates) -> tuple[Ids, Ids | None] | None:
        """The next step's tokens and parents, or None when every row has ended."""
        ids = candidates.ids[:, 0]
        if self._exact:
            ids = np.where(ids == self._special.eos, candidates.ids[:, 1], ids)
        if self._any_ended and not self._drop:
            ids = np.where(self._ended, self._special.pad, ids)
        self._steps.append(ids)
        self._active_at.append(self._active)
        if len(self._steps) == self._limit:
            return None
        ends = ids == self._special.eos
        if not ends.any():
            return ids, None
        if not self._drop:
            self._ended |= ends
            self._any_ended = True
            return None if self._ended.all() else (ids, None)
        stay = np.flatnonzero(~ends)
        if not len(stay):
            return None
        self._active = self._active[stay]
        return ids[stay], stay

    def hypotheses(self) -> tuple[tuple[int, ...], ...]:
        """The tokens of each input so far, cut after the end of sequence."""
        rows: list[list[int]] = [[] for _ in range(self._inputs)]
        ended = [False] * self._inputs
        for ids, active in zip(self._steps, self._active_at, strict=True):
            for row, token in zip(active.tolist(), ids.tolist(), strict=True):
                if not ended[row]:
                    rows[row].append(token)
                    ended[row] = token == self._special.eos
        return tuple(tuple(row) for row in rows)
