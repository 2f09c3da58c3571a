"""Watches one worker carry out one request: passes events on, samples memory, and ends what goes on for too long.

One thread waits for whichever comes first: an event, the next memory sample, the next flush, the next look at limits.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from stepscope.core import commands
from stepscope.core import events as ev
from stepscope.core.errors import WorkerError, WorkerProtocolError, WorkerTimedOut
from stepscope.core.request import RunRequest

from .sampler import MemorySampler, cpu_seconds
from .worker_process import NoEvent, Nudge, PipeEnded, WorkerProcess

Final: TypeAlias = ev.RunFinished | ev.RunCancelled | ev.RunFailed
_LOOK_S = 0.1
_CANCEL_GRACE_S = 0.7
_IDLE_SHARE = 0.1  # of one processor: a worker that sends nothing but computes is slow, not hung


class Sink(Protocol):
    """Takes events in their order and may want to be flushed at ``due_s``."""

    def add(self, event: ev.Event) -> None: ...

    def due_s(self) -> float | None: ...

    def flush(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """time_limit_s: for all that this watch does. stall_s: without an event and without work. memory_bytes: 0 is most
    of what is available."""

    time_limit_s: float
    stall_s: float
    memory_bytes: int = 0


class Watch:
    """After a WorkerError, and after a cancel that the worker did not follow in time, the worker has been killed."""

    def __init__(self, worker: WorkerProcess, sink: Sink, limits: Limits, cancel_asked: Callable[[], bool]) -> None:
        self._worker, self._sink, self._limits, self._cancel_asked = worker, sink, limits, cancel_asked
        now = time.perf_counter()
        self._sampler = MemorySampler(worker.pid, limits.memory_bytes)
        self._deadline_s = now + limits.time_limit_s
        self._look_s = now
        self._heard_s, self._heard_cpu_s, self._heard_since_look = now, cpu_seconds(worker.pid), False
        self._cancelled_s: float | None = None

    def until_ready(self) -> bool:
        """Waits for the worker's imports; False when the run was cancelled instead (the worker goes on starting)."""
        self._sampler.enter(ev.Phase.START)
        while self._worker.ready is None:
            if self._cancel_asked():
                return False
            self._next()
        self._sink.add(self._worker.ready)
        return not self._cancel_asked()

    def run(self, request: RunRequest) -> Final:
        """Raises WorkerError. The final event is returned and not passed on."""
        self._worker.send(commands.Run(request))
        while True:
            if self._cancelled_s is None and self._cancel_asked():
                self._cancelled_s = time.perf_counter()
                self._worker.send(commands.Cancel())
            if self._cancelled_s is not None and time.perf_counter() > self._cancelled_s + _CANCEL_GRACE_S:
                self._worker.kill()
                return ev.RunCancelled(time.perf_counter_ns())
            match event := self._next():
                case None:
                    continue
                case ev.RunFinished() | ev.RunCancelled() | ev.RunFailed():
                    return event
                case ev.PhaseBegan(phase=phase):
                    self._sampler.enter(phase)
                case ev.PhaseEnded():
                    self._sampler.enter(None)
            self._sink.add(event)

    def _next(self) -> ev.Event | None:
        """The next event, or None when something else was due."""
        try:
            self._tick()
            due = [self._sampler.due_s, self._look_s, self._sink.due_s() or self._look_s]
            try:
                message = self._worker.inbox.get(timeout=max(0.0, min(due) - time.perf_counter()))
            except queue.Empty:
                return None
            match message:
                case Nudge():
                    return None
                case PipeEnded():
                    if self._cancelled_s is not None:
                        self._worker.kill()
                        return ev.RunCancelled(time.perf_counter_ns())
                    raise self._worker.crash()
                case NoEvent(reason=reason):
                    raise WorkerProtocolError(
                        f"The worker wrote something that is not an event: {reason}.", "Its last lines are below."
                    )
                case event:
                    self._heard_since_look = True
                    return event
        except WorkerError as error:
            self._worker.kill()
            error.details = error.details or self._worker.last_lines()
            raise

    def _tick(self) -> None:
        now = time.perf_counter()
        if now >= self._sampler.due_s and (sample := self._sampler.look(now)) is not None:
            self._sink.add(sample)
        if (due := self._sink.due_s()) is not None and now >= due:
            self._sink.flush()
        if now >= self._look_s:
            self._look_s = now + _LOOK_S
            self._check_time(now)

    def _check_time(self, now: float) -> None:
        if now > self._deadline_s:
            raise WorkerTimedOut(
                f"The run was ended at its time limit of {self._limits.time_limit_s:g} s.",
                "Ask for fewer tokens, inputs or repetitions, or raise the time limit.",
            )
        if self._heard_since_look:
            self._heard_since_look = False
            self._heard_s, self._heard_cpu_s = now, cpu_seconds(self._worker.pid)
        elif (silent_s := now - self._heard_s) > self._limits.stall_s:
            worked_s = cpu_seconds(self._worker.pid) - self._heard_cpu_s
            if worked_s < _IDLE_SHARE * silent_s:
                raise WorkerTimedOut(
                    f"The worker hung: it sent nothing and hardly computed for {self._limits.stall_s:g} s.",
                    "Run it again; its last lines are below.",
                )
            self._heard_s, self._heard_cpu_s = now, cpu_seconds(self._worker.pid)
