"""Takes a comparison from its queued row to its verdicts, one process at a time; between two all is in the store."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stepscope.analysis import verdict
from stepscope.analysis.assemble import Visit, assemble, intervals
from stepscope.core import artifacts
from stepscope.core.comparison import ComparisonSpec, Variant, check
from stepscope.core.errors import ErrorRecord
from stepscope.core.events import RunStatus

from . import machine
from .checks import check_device, located
from .comparison_store import ComparisonRow, ComparisonStore
from .home import home
from .measurement import INTERRUPTED
from .store import Store

_FIRST_REPETITIONS, _LEAST_REPETITIONS, _MOST_REPETITIONS = 3, 2, 30
_SECONDS_PER_PROCESS = 1.0  # of scored repetitions, about
_FAILURES = 2  # after so many processes a variant is given up


@dataclass(frozen=True, slots=True)
class ComparisonProgress:
    """processes: finished, of at least ``least``; now: what is measured; left_ns: until the least is reached, by the mean so
    far; limit_ns: until the time limit."""

    processes: int
    least: int
    now: str
    left_ns: float | None
    spent_ns: int
    limit_ns: float


Measure = Callable[[ComparisonSpec, Variant, int, str, int], str]


class Comparing:
    """The comparisons of this process: any thread submits, the executor's one thread works.

    changed: notified when something waits or has ended. measure(spec, variant, repetitions, comparison, round): creates the
    run of one process and carries it out. cancel_run: ends a run.
    """

    def __init__(
        self, store: Store, changed: threading.Condition, measure: Measure, cancel_run: Callable[[str], None]
    ) -> None:
        self.store = ComparisonStore(store)
        self._changed, self._measure, self._cancel_run = changed, measure, cancel_run
        self.waiting: deque[str] = deque()
        self._visits: dict[str, list[Visit]] = {}

    def submit(self, spec: ComparisonSpec) -> str:
        """Queues a comparison and returns its id; runs go before its next process. Raises RequestError, Unavailable."""
        check(spec, cores=machine.usable_cores())
        spec = replace(spec, model=located(spec.model))
        for device in {variant.device for variant in spec.variants}:
            check_device(device)
        described = machine.describe()
        comparison_id = self.store.create(
            spec, machine=described, fingerprint=machine.fingerprint(described), owner=machine.owner()
        )
        self._enqueue(comparison_id)
        return comparison_id

    def resume(self, comparison_id: str) -> None:
        """Goes on with one that was cancelled or interrupted; what was measured is not measured again."""
        self.store.resume(comparison_id, machine.owner())
        self._enqueue(comparison_id)

    def cancel(self, comparison_id: str) -> None:
        """What was measured stays."""
        self.store.request_cancel(comparison_id)
        for _, _, row in self.store.runs(comparison_id):
            if not row.status.final:
                self._cancel_run(row.id)
        self.store.mark_interrupted(machine.owner_alive)  # nobody would follow if its process is gone

    def wait(self, comparison_id: str, timeout_s: float | None = None) -> ComparisonRow | None:
        """The comparison once it is final, None when it is not within the time."""

        def final() -> ComparisonRow | None:
            row = self.store.get(comparison_id)
            return row if row is not None and row.status.final else None

        with self._changed:
            self._changed.wait_for(lambda: final() is not None, timeout_s)
        return final()

    def progress(self, comparison_id: str) -> ComparisonProgress | None:
        """How far a comparison is; None for one that does not exist."""
        row = self.store.get(comparison_id)
        if row is None:
            return None
        runs = self.store.runs(comparison_id)
        now = next((f"{name}, round {round_ + 1}" for name, round_, run in runs if not run.status.final), "waiting")
        ended = [run.ended_ns - run.started_ns for _, _, run in runs if run.ended_ns and run.started_ns]
        least = row.spec.processes * len(row.spec.measured)
        left_ns = max(0, least - len(ended)) * (sum(ended) / len(ended)) if ended else None
        limit_ns = max(0.0, row.spec.time_limit_s * 1e9 - sum(ended))
        return ComparisonProgress(
            len(ended), least, now, None if left_ns is None else min(left_ns, limit_ns), sum(ended), limit_ns
        )

    def work(self) -> bool:
        """One process of the comparison that waits longest; False when none waits."""
        with self._changed:
            if not self.waiting:
                return False
            comparison_id = self.waiting[0]
        try:
            goes_on = self._step(comparison_id)
        except Exception as error:  # a full disk or a fault of ours must not end the queue
            goes_on = False
            message = f"StepScope itself failed: {type(error).__name__}: {error}"
            record = ErrorRecord("internal", message, "Press Go on; report it if it comes back.")
            self.store.finish(comparison_id, RunStatus.FAILED, record)
        with self._changed:
            if not goes_on:
                self._visits.pop(comparison_id, None)
                self.waiting.remove(comparison_id)
            self._changed.notify_all()
        return True

    def close(self) -> None:
        for comparison_id in self.waiting:
            self.store.finish(comparison_id, RunStatus.INTERRUPTED, INTERRUPTED)

    def _enqueue(self, comparison_id: str) -> None:
        with self._changed:
            self.waiting.append(comparison_id)
            self._changed.notify_all()

    def _step(self, comparison_id: str) -> bool:
        """Carries out the next process; False once the comparison is final."""
        row = self.store.get(comparison_id)
        if row is None or row.status.final:
            return False
        self.store.start(comparison_id)
        visits, spent_s = self._seen(comparison_id)
        cancelled = self.store.cancel_requested(comparison_id)
        following = None if cancelled else next_visit(row.spec, visits, spent_s)
        if following is None:
            self._save(row, visits, final=True, complete=not cancelled)
            self.store.finish(comparison_id, RunStatus.CANCELLED if cancelled else RunStatus.DONE)
            return False
        variant, round_ = following
        self._measure(row.spec, variant, repetitions(visits, variant.name), comparison_id, round_)
        self._save(row, self._seen(comparison_id)[0], final=False, complete=False)
        return True

    def _seen(self, comparison_id: str) -> tuple[list[Visit], float]:
        """All finished processes, each read once, and the seconds that they took. One that was interrupted or cancelled
        is as if it had never been, so that it is measured again after a restart."""
        visits = self._visits.setdefault(comparison_id, [])
        known = {visit.run_id for visit in visits}
        spent_ns = 0
        for name, round_, row in self.store.runs(comparison_id):
            if row.started_ns and row.ended_ns:
                spent_ns += row.ended_ns - row.started_ns
            if row.status in (RunStatus.DONE, RunStatus.FAILED) and row.id not in known:
                visits.append(self.store.visit(name, round_, row))
        return visits, spent_ns / 1e9

    def _save(self, row: ComparisonRow, visits: Sequence[Visit], *, final: bool, complete: bool) -> None:
        conversions = {artifact.digest: artifact.convert_s for artifact in artifacts.listed(home())}
        result = assemble(row.spec, visits, complete=complete, conversions=conversions, scores=final)
        self.store.save(row.id, result)


def next_visit(spec: ComparisonSpec, visits: Sequence[Visit], spent_s: float) -> tuple[Variant, int] | None:
    """The process to be measured next, None when there is enough. Rounds begin with another variant each (A B C, B C A)."""
    if spent_s >= spec.time_limit_s:
        return None
    done = {(visit.variant, visit.round) for visit in visits}
    failures = [visit.variant for visit in visits if visit.status is RunStatus.FAILED]
    alive = [variant for variant in spec.measured if failures.count(variant.name) < _FAILURES]
    if spec.baseline not in (variant.name for variant in alive):
        return None
    for round_ in range(spec.max_processes):
        if round_ >= spec.processes and _narrow(spec, visits):
            return None
        turn = round_ % max(1, len(alive))
        for variant in (*alive[turn:], *alive[:turn]):
            if (variant.name, round_) not in done:
                return variant, round_
    return None


def _narrow(spec: ComparisonSpec, visits: Sequence[Visit]) -> bool:
    found = {name: pair[0] if pair else None for name, pair in intervals(spec, visits).items()}
    measured = {visit.variant for visit in visits if visit.total_ns}
    return verdict.narrow_enough({name: found[name] for name in found if name in measured}, spec.precision)


def repetitions(visits: Sequence[Visit], name: str) -> int:
    """Scored repetitions of the next process: about a second of them, once it is known how long one takes."""
    known = [t for visit in visits if visit.variant == name and (t := visit.total_ns)]
    if not known:
        return _FIRST_REPETITIONS
    return round(min(_MOST_REPETITIONS, max(_LEAST_REPETITIONS, _SECONDS_PER_PROCESS * 1e9 / known[-1])))
