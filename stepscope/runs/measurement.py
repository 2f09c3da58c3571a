"""Takes one run from its queued row to its final status: lock, worker, events, reference, agreement."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from stepscope.core import agreement, catalog, compatibility, models
from stepscope.core import events as ev
from stepscope.core.errors import ErrorRecord, StepScopeError
from stepscope.core.plan import LoadPlan
from stepscope.core.request import RunRequest

from .device_lock import DeviceLock
from .journal import Journal
from .limits import usable_cores
from .pool import Holding, PooledWorker, WorkerPool
from .reference import Reference, ReferenceSink, is_reference, made_by, reference_request
from .store import RunRow, Store
from .watch import Final, Limits, Watch

_LOCK_POLL_S = 0.1
INTERRUPTED = ErrorRecord("interrupted", "StepScope was closed while this run went on.", "Run it again.")


class Measurement:
    """cancel_asked is asked many times a second; closing: the executor ends, the run is interrupted."""

    def __init__(
        self,
        store: Store,
        pool: WorkerPool,
        *,
        stall_s: float,
        lock_directory: Path | None,
        cancel_asked: Callable[[str], bool],
        closing: Callable[[], bool],
    ) -> None:
        self._store, self._pool = store, pool
        self._stall_s, self._lock_directory = stall_s, lock_directory
        self._cancel_asked, self._closing = cancel_asked, closing

    def carry_out(self, row: RunRow, *, fresh: bool = False) -> None:
        """Whatever happens to the worker is stored as what it is; raises only what the store itself raises.

        fresh: in a process of its own that ends with the run, as a comparison needs it.
        """
        self._store.start(row.id)
        journal = Journal(self._store, row.id)
        try:
            final: Final = self._locked(row, journal, fresh)
        except StepScopeError as error:
            final = ev.RunFailed(error.record())
        match final:
            case ev.RunFinished():
                status, record = ev.RunStatus.DONE, None
            case ev.RunFailed(error=failure):
                status, record = ev.RunStatus.FAILED, failure
            case ev.RunCancelled():
                closing = self._closing()
                status = ev.RunStatus.INTERRUPTED if closing else ev.RunStatus.CANCELLED
                record = INTERRUPTED if closing else None
        journal.add(final)
        journal.flush()
        self._store.finish(row.id, status, journal.result, record)

    def _locked(self, row: RunRow, journal: Journal, fresh: bool) -> Final:
        lock = DeviceLock(row.request.device, self._lock_directory)
        waiting = False
        while not lock.try_acquire():
            if not waiting:
                waiting = True
                journal.add(ev.Progress("Waiting: another measurement is running on this machine"))
            if self._cancel_asked(row.id):
                return ev.RunCancelled(time.perf_counter_ns())
            time.sleep(_LOCK_POLL_S)
        try:
            return self._measured(row, journal, fresh)
        finally:
            self._pool.resume_starting()
            lock.release()

    def _measured(self, row: RunRow, journal: Journal, fresh: bool) -> Final:
        request = row.request
        journal.add(ev.PhaseBegan(ev.Phase.START, time.perf_counter_ns()))
        wanted = holding(request)
        worker = self._pool.start(wanted) if fresh else self._pool.acquire(wanted)
        try:
            self._pool.pause_starting()
            limits = Limits(request.time_limit_s, self._stall_s, request.memory_limit_bytes)
            watch = Watch(worker.process, journal, limits, lambda: self._cancel_asked(row.id))
            if not watch.until_ready():
                self._pool.release(worker)
                return ev.RunCancelled(time.perf_counter_ns())
            journal.add(ev.PhaseEnded(ev.Phase.START, time.perf_counter_ns()))
            final = watch.run(request)
            match final:
                case ev.RunFinished():
                    worker.holding = wanted
                    self._add_agreement(row, journal)
                    if not fresh:
                        self._pool.release(worker)
                case ev.RunCancelled() if not fresh:
                    self._keep_if_loaded(worker, wanted, journal)
                case ev.RunFailed(error=error):
                    final = ev.RunFailed(_with_details(error, worker.process.last_lines(settle_s=0.1)))
            return final
        finally:
            if worker.busy:  # fresh, or failed: in what state, nobody knows
                self._pool.discard(worker)

    def _keep_if_loaded(self, worker: PooledWorker, wanted: Holding, journal: Journal) -> None:
        """After a cancel: a worker that had loaded its model stays warm, one that was loading does not."""
        if worker.process.alive and (worker.holding is not None or journal.result.model is not None):
            worker.holding = wanted
            self._pool.release(worker)

    def _add_agreement(self, row: RunRow, journal: Journal) -> None:
        request, result = row.request, journal.result
        if not catalog.backend(request.backend).needs_model:
            journal.add(ev.AgreementUnknown(f"the {request.backend} backend decodes no model"))
            return
        if not result.repetitions:
            journal.add(ev.AgreementUnknown("the run has no tokens"))
            return
        try:
            reference = self._reference(row, journal)
            last = result.repetitions[-1]
            journal.add(
                agreement.compare(
                    last.token_ids, reference.token_ids, made_by=reference.made_by, reference_texts=reference.texts
                )
            )
        except (StepScopeError, ValueError) as error:
            journal.add(ev.AgreementUnknown(str(error)))

    def _reference(self, row: RunRow, journal: Journal) -> Reference:
        """From the store, from the run itself when it is one, or computed now. Raises StepScopeError."""
        digest = row.request.reference_digest(journal.result.revision)
        if (stored := self._store.reference(digest)) is not None:
            return Reference(*stored)
        words = made_by(journal.result.versions)
        if is_reference(row.request):
            last = journal.result.repetitions[-1]
            reference = Reference(last.token_ids, last.texts, words)
        else:
            journal.add(ev.PhaseBegan(ev.Phase.REFERENCE, time.perf_counter_ns()))
            journal.add(ev.Progress("Computing the reference's tokens with transformers' own generate"))
            repetition = self._reference_repetition(row)
            reference = Reference(repetition.token_ids, repetition.texts, words)
            journal.add(ev.PhaseEnded(ev.Phase.REFERENCE, time.perf_counter_ns()))
        self._store.save_reference(digest, reference.token_ids, reference.texts, reference.made_by)
        return reference

    def _reference_repetition(self, row: RunRow) -> ev.RepetitionDone:
        request = reference_request(row.request, usable_cores())
        wanted, sink = holding(request), ReferenceSink()
        worker = self._pool.acquire(wanted)
        try:
            self._pool.pause_starting()
            watch = Watch(
                worker.process,
                sink,
                Limits(row.request.time_limit_s, self._stall_s),
                lambda: sink.repetition is not None or self._cancel_asked(row.id),
            )
            final = watch.run(request) if watch.until_ready() else ev.RunCancelled(time.perf_counter_ns())
            if isinstance(final, ev.RunFailed):
                raise StepScopeError(f"the reference failed: {final.error.message}")
            if worker.process.alive and sink.repetition is not None:
                worker.holding = wanted
                self._pool.release(worker)
        finally:
            if worker.busy:
                self._pool.discard(worker)
        if sink.repetition is None:
            raise StepScopeError("the run was cancelled while the reference was computed")
        return sink.repetition


def holding(request: RunRequest) -> Holding:
    """What a worker must hold to carry this request out. Raises RequestError, Unavailable."""
    plan: LoadPlan = compatibility.resolve(request)[0]
    return Holding(plan, _stamp(models.parse(request.model).directory))


def _stamp(directory: Path | None) -> str:
    """Names, sizes and times of a model folder's files: cheap, and changes with every new download or training step."""
    if directory is None or not directory.is_dir():
        return ""
    found = []
    for file in sorted(directory.iterdir()):
        if file.is_file():
            stat = file.stat()
            found.append(f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]


def _with_details(error: ErrorRecord, lines: str) -> ErrorRecord:
    return error if error.details else ErrorRecord(error.kind, error.message, error.action, lines)
