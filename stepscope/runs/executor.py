"""Carries runs out one at a time, so that no measurement disturbs another; pages and command line only submit."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stepscope.core import catalog, compatibility
from stepscope.core import events as ev
from stepscope.core.comparison import ComparisonSpec, Variant
from stepscope.core.errors import ErrorRecord, RequestError, Unavailable
from stepscope.core.request import RunRequest, validate
from stepscope.core.result import RunResult

from . import machine
from .checks import check_device, located
from .comparing import Comparing
from .device_lock import DeviceLock
from .measurement import INTERRUPTED, Measurement
from .pool import PoolSettings, WorkerInfo, WorkerPool
from .store import RunRow, Store

__all__ = ["Executor", "PoolSettings", "WorkerInfo"]

MAX_QUEUE = 200
_POLL_S = 0.15
_BLANK_RETRY_S, _TIDY_S = 5.0, 60.0


class Executor:
    """The queue of this process. Any thread may call; one thread starts all workers and carries all runs out.

    worker_command: instead of the real worker, for tests. stall_s: silence without work that counts as hung.
    lock_directory: of the machine-wide locks, for tests.
    """

    def __init__(
        self,
        store: Store,
        *,
        worker_command: Sequence[str] | None = None,
        pool: PoolSettings = PoolSettings(),
        stall_s: float = 120.0,
        lock_directory: Path | None = None,
    ) -> None:
        self.store = store
        self._pool = WorkerPool(pool, worker_command)
        self._keeps_blank, self._lock_directory = pool.blank, lock_directory
        self._measurement = Measurement(
            store,
            self._pool,
            stall_s=stall_s,
            lock_directory=lock_directory,
            cancel_asked=self._cancel_asked,
            closing=lambda: self._closing,
        )
        self._changed = threading.Condition()
        self.comparing = Comparing(store, self._changed, self._measure_variant, self.cancel)
        self._queued: deque[str] = deque()
        self._cancelled: set[str] = set()
        self._closing = False
        self._polled_s = 0.0
        self._thread = threading.Thread(target=self._work, name="stepscope-executor", daemon=True)

    def start(self) -> None:
        """Marks what an earlier, killed process left behind, and begins."""
        self.store.mark_interrupted(machine.owner_alive)
        self.comparing.store.mark_interrupted(machine.owner_alive)
        self._thread.start()

    def submit(self, request: RunRequest, part_of: tuple[str, str, int] | None = None) -> str:
        """Queues a run and returns its id. Raises RequestError with every reason, or Unavailable.

        part_of: of a comparison, as the store has it; History leaves such a run out.
        """
        validate(request, cores=machine.usable_cores())
        request = replace(request, model=located(request.model))
        compatibility.resolve(request)
        check_device(request.device)
        described = machine.describe()
        with self._changed:
            if self._closing:
                raise Unavailable("StepScope is closing.", "Start it again.")
            if len(self._queued) >= MAX_QUEUE:
                raise RequestError(f"{MAX_QUEUE} runs are waiting already.", "Wait for some of them, or cancel them.")
            run_id = self._create(request, described, part_of)
            self._queued.append(run_id)
            self._changed.notify_all()
        return run_id

    def _create(self, request: RunRequest, described: dict[str, Any], part_of: tuple[str, str, int] | None = None) -> str:
        return self.store.create(
            request,
            machine=described,
            fingerprint=machine.fingerprint(described),
            observed_by=catalog.backend(request.backend).observation(request.search.num_beams),
            owner=machine.owner(),
            part_of=part_of,
        )

    def _measure_variant(self, spec: ComparisonSpec, variant: Variant, repetitions: int, part_of: str, round_: int) -> str:
        request = spec.request(variant, repetitions)
        run_id = self._create(request, machine.describe(), (part_of, variant.name, round_))
        self._carry_out(run_id, fresh=True)
        return run_id

    def cancel(self, run_id: str) -> None:
        """A queued run is cancelled when this returns, a running one within a second, another process's run soon."""
        self.store.request_cancel(run_id)
        with self._changed:
            self._cancelled.add(run_id)
            if run_id in self._queued:
                self._queued.remove(run_id)
                self._finish_early(run_id, ev.RunStatus.CANCELLED)
        self.store.mark_interrupted(machine.owner_alive)  # nobody would follow if its process is gone

    def wait(self, run_id: str, timeout_s: float | None = None) -> RunRow | None:
        """The run once it is final; None when it is not within the time or does not exist. For this process's runs."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_final(run_id), timeout_s)
        row = self.store.run(run_id)
        return row if row is not None and row.status.final else None

    def workers(self) -> list[WorkerInfo]:
        return self._pool.workers()

    def close(self) -> None:
        """Ends all workers; runs that go on or wait are marked interrupted."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _is_final(self, run_id: str) -> bool:
        row = self.store.run(run_id)
        return row is None or row.status.final

    def _work(self) -> None:
        retry_s = self._prepare()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queued or self.comparing.waiting or self._closing, retry_s)
                if self._closing:
                    break
                run_id = self._queued.popleft() if self._queued else None
            if run_id is None and self.comparing.work():
                continue
            if run_id is None:
                self._pool.end_dead()
                self._pool.trim()
            else:
                self._carry_out(run_id)
            retry_s = self._prepare()
        for run_id in self._queued:
            self._finish_early(run_id, ev.RunStatus.INTERRUPTED, INTERRUPTED)
        self.comparing.close()
        self._pool.close()
        self.store.close()

    def _carry_out(self, run_id: str, *, fresh: bool = False) -> None:
        row = self.store.run(run_id)
        if row is None or row.status.final:
            return
        try:
            self._measurement.carry_out(row, fresh=fresh)
        except Exception as error:  # a full disk or a fault of ours must not end the queue
            message = f"StepScope itself failed: {type(error).__name__}: {error}"
            record = ErrorRecord("internal", message, "Run it again; report it if it comes back.")
            self.store.finish(run_id, ev.RunStatus.FAILED, self.store.result(run_id), record)
        with self._changed:
            self._cancelled.discard(run_id)
            self._changed.notify_all()

    def _prepare(self) -> float:
        """Starts the blank worker while nothing is measured here or elsewhere; seconds until the next look."""
        if self._keeps_blank and not self._queued:
            lock = DeviceLock("cpu", self._lock_directory)
            if not lock.try_acquire():
                return _BLANK_RETRY_S
            lock.release()
            self._pool.prepare_blank()
        return _TIDY_S

    def _cancel_asked(self, run_id: str) -> bool:
        if self._closing or run_id in self._cancelled:
            return True
        if (now := time.monotonic()) < self._polled_s + _POLL_S:
            return False
        self._polled_s = now
        with self._changed:  # another process may cancel what waits here
            for queued in [q for q in self._queued if self.store.cancel_requested(q)]:
                self._queued.remove(queued)
                self._finish_early(queued, ev.RunStatus.CANCELLED)
        return self.store.cancel_requested(run_id)

    def _finish_early(self, run_id: str, status: ev.RunStatus, error: ErrorRecord | None = None) -> None:
        self.store.finish(run_id, status, RunResult(), error)
        with self._changed:
            self._changed.notify_all()
