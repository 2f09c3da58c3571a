"""Starts one measuring process and carries lines to and from it, so that its crash is an event, not a dead dashboard.

Three small threads only move bytes (events in, output tail in, commands out); all decisions are the caller's.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import psutil

from stepscope.core import commands
from stepscope.core import events as ev
from stepscope.core.errors import WorkerCrashed

from .home import home
from .machine import ROOT

DEFAULT_COMMAND = (sys.executable, "-m", "stepscope.worker")
_TAIL_LINES, _TAIL_CHARACTERS = 40, 500
_ENDING_S = 1.0  # a core dump may take a moment between the end of the pipe and the end of the process
_LINE_BYTES = 64 << 20  # longer than the longest event by far; a line without end must not fill the memory


@dataclass(frozen=True, slots=True)
class NoEvent:
    """A line that is no event."""

    reason: str


@dataclass(frozen=True, slots=True)
class PipeEnded:
    """The worker's end of the pipe is closed: it has ended or is ending."""


@dataclass(frozen=True, slots=True)
class Nudge:
    """Nothing was said; look again at what may have changed (readiness, a cancel)."""


Message: TypeAlias = ev.Event | NoEvent | PipeEnded | Nudge


class WorkerProcess:
    """One worker and its process group.

    modules: what it imports before its first run. Start it from a thread that lives as long as it may: Linux ends the
    worker with the *thread* that started it.
    ready: set once the worker has imported its runtime. Raises WorkerCrashed when it cannot be started at all.
    """

    def __init__(self, command: Sequence[str] = DEFAULT_COMMAND, modules: Sequence[str] = ()) -> None:
        self.since_ns = time.time_ns()
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.ready: ev.WorkerReady | None = None
        self._outbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._events, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs), *([",".join(modules)] if modules else [])],
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
                start_new_session=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            os.close(self._events)
            raise WorkerCrashed(f"The worker could not be started: {error}.", "Free memory and run it again.") from None
        finally:
            os.close(theirs)  # or the end of the pipe would never be seen
        self.pid = self._process.pid
        loops = (self._read_events, self._read_output, self._write_commands)
        self._threads = [threading.Thread(target=loop, name=f"worker-{self.pid}", daemon=True) for loop in loops]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Asked without reaping: until kill() the group's id cannot be given to other processes."""
        if self._process.returncode is not None:
            return False
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._process.poll() is None
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        try:  # while its threads still end, one that was killed cannot be waited for yet
            return psutil.Process(self.pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except psutil.Error:
            return False

    def send(self, command: commands.Command) -> None:
        """Never blocks; a worker that has ended is noticed by its pipe."""
        self._outbox.put(commands.encode(command))

    def nudge(self) -> None:
        self.inbox.put(Nudge())

    def last_lines(self, settle_s: float = 0.0) -> str:
        """The end of what the worker wrote to stdout and stderr; events and output come by different pipes, so what was
        written before an event may arrive a little after it."""
        time.sleep(settle_s)
        return "\n".join(self._tail)

    def forget_output(self) -> None:
        """What earlier runs wrote explains nothing about the next one."""
        self._tail.clear()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends the whole group (runtimes may have started helpers) and waits until it is gone."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._outbox.put(None)
        for thread in self._threads:
            thread.join(1.0)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()

    def crash(self) -> WorkerCrashed:
        """What ended a worker whose pipe has ended without a final event."""
        deadline = time.monotonic() + _ENDING_S
        while (went_on := self.alive) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.kill()
        message, action = _ending(None if went_on else self._process.returncode)
        return WorkerCrashed(message, action, self.last_lines())

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _read_events(self) -> None:
        with open(self._events, "rb") as stream:
            while line := stream.readline(_LINE_BYTES):
                try:
                    event = ev.decode(line.decode("utf-8"))
                except ValueError as error:
                    self.inbox.put(NoEvent(f"{str(error)[:300]}"))
                    continue
                if isinstance(event, ev.WorkerReady):
                    self.ready = event
                    self.nudge()
                else:
                    self.inbox.put(event)
        self.inbox.put(PipeEnded())

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(_TAIL_CHARACTERS):  # a progress bar's \r ends a line too
            if line.strip():
                self._tail.append(line.rstrip())

    def _write_commands(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # the worker is gone: its pipe says so
            while (line := self._outbox.get()) is not None:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()


def _environment() -> dict[str, str]:
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return {
        **os.environ,
        "PYTHONPATH": path,
        "STEPSCOPE_HOME": str(home()),  # where converted models are kept
        "PYTHONFAULTHANDLER": "1",  # a segmentation fault leaves a trace in the last lines
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _ending(code: int | None) -> tuple[str, str]:
    """What happened and what to do, for an exit status as subprocess gives it."""
    if code is None:
        return "The worker closed its pipe without a result and went on running.", "Run it again."
    if code == -signal.SIGKILL:
        return (
            "The worker was ended by SIGKILL (often the kernel's out-of-memory killer).",
            "Choose a smaller model or batch, or close other programs.",
        )
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"The worker was ended by {name}.", "Its last lines are below; another backend or technique may work."
    return f"The worker ended with exit status {code} and without a result.", "Its last lines are below."
