"""Collects a run's events and writes them in batches, because a database row for every step would cost more than it."""

from __future__ import annotations

import time

from stepscope.core import events as ev
from stepscope.core.result import RunResult

from .store import Store

_BATCH_S = 0.06
_AT_ONCE = (ev.PhaseBegan, ev.PhaseEnded, ev.Progress, ev.RepetitionDone, ev.Agreement, ev.AgreementUnknown)


class Journal:
    """result: the events so far, folded. The first token is written at once: someone may be waiting for it."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._pending: list[ev.Event] = []
        self._since_s = 0.0
        self._seen_first: set[type] = set()
        self.result = RunResult()

    def add(self, event: ev.Event) -> None:
        self.result.apply((event,))
        if not self._pending:
            self._since_s = time.perf_counter()
        self._pending.append(event)
        first = isinstance(event, (ev.StepDone, ev.TextSoFar)) and type(event) not in self._seen_first
        if first:
            self._seen_first.add(type(event))
        if first or isinstance(event, _AT_ONCE):
            self.flush()

    def due_s(self) -> float | None:
        """When ``flush`` wants to be called; None while nothing waits."""
        return self._since_s + _BATCH_S if self._pending else None

    def flush(self) -> None:
        pending, self._pending = self._pending, []
        self._store.append(self._run_id, pending)
