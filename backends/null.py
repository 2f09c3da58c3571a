"""Decodes nothing, instantly: what remains is the loop itself, the floor under every other backend's steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepscope.core.plan import LoadPlan
from stepscope.core.session import Candidates, LoadReport, ModelSource, TokenBatch
from stepscope.core.spec import BackendSpec

if TYPE_CHECKING:
    from stepscope.core.session import Ids

SPEC = BackendSpec(
    key="null",
    title="Null (loop floor)",
    summary=(
        "Returns prepared candidates without any model. A run on it measures what the decode loop, the search and the "
        "event stream cost by themselves; no other backend can be faster. Its text means nothing."
    ),
    honours=frozenset({"beam_naive", "beam_vectorized", "drop_finished_rows"}),
    needs_model=False,
    source="stepscope/decoding: the loop that drives every steppable backend",
)


@dataclass(slots=True)
class _State:
    rows: int
    step: int = 0


class NullSession:
    """Row r's candidates at step t are fixed numbers of r and t, never the end of sequence, so that runs are long."""

    def __init__(self, plan: LoadPlan, vocabulary: int) -> None:
        import numpy as np

        self.report = LoadReport(weight_bytes=0, parameters=0, vocabulary=vocabulary)
        self._k = plan.candidates
        first = 100 if vocabulary > 200 + self._k else 2
        span = vocabulary - first - self._k
        starts = (np.arange(4096, dtype=np.int64) * 7919) % max(1, span) + first
        self._ids = starts[:, None] + np.arange(self._k, dtype=np.int64)
        self._log_probs = -0.5 - 0.25 * np.tile(np.arange(self._k, dtype=np.float32), (4096, 1))
        self._log_probs -= (starts % 97).astype(np.float32)[:, None] / 1000

    def encode(self, batch: TokenBatch) -> _State:
        return _State(rows=len(batch.ids))

    def step(self, state: _State, tokens: Ids, parents: Ids | None) -> Candidates:
        state.rows = len(tokens)
        at = state.step % 2048
        state.step += 1
        end = at + state.rows
        return Candidates(self._ids[at:end], self._log_probs[at:end] if self._k > 1 else None)

    def close(self) -> None:
        pass


def open_session(plan: LoadPlan, source: ModelSource, progress: Callable[[str], None]) -> NullSession:
    """Needs only the size of the vocabulary."""
    return NullSession(plan, int(source.config()["vocab_size"]))
