"""A session whose candidates are written by hand, so that a search can be worked on paper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stepscope.core.session import Candidates, LoadReport, TokenBatch
from stepscope.decoding.select import top_candidates

Table = Callable[[tuple[int, ...]], dict[int, float]]


class ScriptedSession:
    """Row r of input i continues its own prefix; ``table(i, prefix)`` gives probabilities of the next token.

    calls: the (tokens, parents) of every step, as the loop sent them.
    """

    def __init__(self, tables: list[Table], vocabulary: int, k: int) -> None:
        self.report = LoadReport(0, 0, vocabulary)
        self._tables, self._vocabulary, self._k = tables, vocabulary, k
        self.calls: list[tuple[list[int], list[int] | None]] = []

    def encode(self, batch: TokenBatch) -> list[tuple[int, tuple[int, ...]]]:
        return [(index, ()) for index in range(len(batch.ids))]

    def step(
        self, state: list[tuple[int, tuple[int, ...]]], tokens: NDArray[np.int64], parents: NDArray[np.int64] | None
    ) -> Candidates:
        self.calls.append((tokens.tolist(), None if parents is None else parents.tolist()))
        if parents is not None:
            state[:] = [state[parent] for parent in parents.tolist()]
        assert len(state) == len(tokens)
        state[:] = [(index, (*prefix, token)) for (index, prefix), token in zip(state, tokens.tolist(), strict=True)]
        logits = np.full((len(state), self._vocabulary), -30.0, dtype=np.float32)
        for row, (index, prefix) in enumerate(state):
            for token, probability in self._tables[index](prefix[1:]).items():
                logits[row, token] = np.log(probability)
        return top_candidates(logits, self._k)

    def close(self) -> None:
        pass
