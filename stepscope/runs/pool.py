"""Keeps worker processes ready between runs, so that a click shows its first token at once, within a memory budget.

All methods but ``workers`` belong to the executor's one queue thread, which lives as long as the workers may.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from stepscope.core import catalog
from stepscope.core.errors import WorkerCrashed
from stepscope.core.plan import LoadPlan

from .limits import memory_total_bytes
from .sampler import rss_bytes
from .worker_process import DEFAULT_COMMAND, WorkerProcess

_USUAL_BACKEND = "pytorch"


class WorkerState(StrEnum):
    STARTING = "starting"  # imports its runtime
    BLANK = "blank"  # imported, holds no model
    BUSY = "busy"
    WARM = "warm"  # holds a loaded model


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker process as the Machine page shows it. since_ns: unix time at which it started."""

    pid: int
    state: WorkerState
    load_plan: LoadPlan | None
    rss_bytes: int
    since_ns: int


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """blank: keep one pre-imported worker ready. warm_bytes: resident bytes that all idle workers may hold together
    (None: ``$STEPSCOPE_WARM_BYTES``, else a quarter of the memory). idle_s: an unused warm worker ends after this."""

    blank: bool = True
    max_warm: int = 3
    warm_bytes: int | None = None
    idle_s: float = 1800.0

    def budget_bytes(self) -> int:
        if self.warm_bytes is not None:
            return self.warm_bytes
        named = os.environ.get("STEPSCOPE_WARM_BYTES", "")
        return int(named) if named.isdigit() else memory_total_bytes() // 4


@dataclass(frozen=True, slots=True)
class Holding:
    """What a warm worker holds: the plan, and a stamp of the model's files, which may change under the same name."""

    plan: LoadPlan
    stamp: str = ""


@dataclass(eq=False, slots=True)
class PooledWorker:
    """modules: what it has imported. holding: None while blank. idle_since_s: monotonic time of its last release."""

    process: WorkerProcess
    modules: tuple[str, ...] = ()
    holding: Holding | None = None
    busy: bool = False
    idle_since_s: float = 0.0

    @property
    def state(self) -> WorkerState:
        if self.busy:
            return WorkerState.BUSY
        if self.holding is not None:
            return WorkerState.WARM
        return WorkerState.BLANK if self.process.ready else WorkerState.STARTING


class WorkerPool:
    """Workers in the order of their last use, most recent last."""

    def __init__(self, settings: PoolSettings, command: Sequence[str] | None = None) -> None:
        self._settings = settings
        self._command = tuple(command or DEFAULT_COMMAND)
        self._lock = threading.Lock()
        self._workers: list[PooledWorker] = []

    def workers(self) -> list[WorkerInfo]:
        """Of any thread."""
        with self._lock:
            found = list(self._workers)
        return [
            WorkerInfo(w.process.pid, w.state, w.holding.plan if w.holding else None, rss_bytes(w.process.pid),
                       w.process.since_ns)
            for w in found
        ]  # fmt: skip

    def acquire(self, wanted: Holding) -> PooledWorker:
        """The warm worker that holds this, else the blank one, else a new one. Raises WorkerCrashed if none starts."""
        self.end_dead()
        idle = [worker for worker in reversed(self._workers) if not worker.busy]
        same_plan = [w for w in idle if w.holding is not None and w.holding.plan == wanted.plan]
        for stale in (w for w in same_plan if w.holding != wanted):  # the model's files have changed
            self.discard(stale)
        chosen = next((w for w in same_plan if w.holding == wanted), None)
        modules = runtime_modules(wanted.plan.backend)
        chosen = chosen or next((w for w in idle if w.holding is None and modules in ((), w.modules)), None)
        chosen = chosen or self._spawn(modules)
        chosen.busy = True
        chosen.process.resume()  # it may have been held back while it was starting
        chosen.process.forget_output()
        return chosen

    def start(self, wanted: Holding) -> PooledWorker:
        """A new process for this alone. Raises WorkerCrashed."""
        worker = self._spawn(runtime_modules(wanted.plan.backend))
        worker.busy = True
        return worker

    def release(self, worker: PooledWorker) -> None:
        """Keeps a worker for later, if the budget lets it."""
        with self._lock:
            worker.busy, worker.idle_since_s = False, time.monotonic()
            self._workers.remove(worker)
            self._workers.append(worker)
        self.trim()

    def discard(self, worker: PooledWorker) -> None:
        with self._lock:
            self._workers.remove(worker)
        worker.process.kill()

    def trim(self) -> None:
        """Ends warm workers that are too many, too large together or unused for too long, least recently used first."""
        warm = [w for w in self._workers if not w.busy and w.holding is not None]
        held = sum(rss_bytes(worker.process.pid) for worker in warm)
        budget, oldest = self._settings.budget_bytes(), time.monotonic() - self._settings.idle_s
        for number, worker in enumerate(warm):
            if len(warm) - number > self._settings.max_warm or held > budget or worker.idle_since_s < oldest:
                held -= rss_bytes(worker.process.pid)
                self.discard(worker)

    def prepare_blank(self) -> None:
        """Starts the pre-imported worker of the next run that finds no warm one; it makes room by ending nothing."""
        if self._settings.blank and not any(worker.holding is None and not worker.busy for worker in self._workers):
            with contextlib.suppress(WorkerCrashed):  # the next run will try again and report it
                self._spawn(runtime_modules(_USUAL_BACKEND))

    def pause_starting(self) -> None:
        """Holds back a worker that is still importing, because imports would disturb a measurement."""
        for worker in self._workers:
            if worker.state is WorkerState.STARTING:
                worker.process.pause()

    def resume_starting(self) -> None:
        for worker in self._workers:
            if worker.state is WorkerState.STARTING:
                worker.process.resume()

    def end_dead(self) -> None:
        for worker in [w for w in self._workers if not w.busy and not w.process.alive]:
            self.discard(worker)

    def close(self) -> None:
        for worker in list(self._workers):
            self.discard(worker)

    def _spawn(self, modules: tuple[str, ...]) -> PooledWorker:
        worker = PooledWorker(WorkerProcess(self._command, modules), modules)
        with self._lock:
            self._workers.append(worker)
        return worker


def runtime_modules(backend: str) -> tuple[str, ...]:
    """What a worker of this backend imports: nothing more, so that its memory is its own."""
    return tuple(package.found() for package in catalog.backend(backend).packages if package.preload)
