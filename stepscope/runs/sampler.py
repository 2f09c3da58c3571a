"""Measures a worker's memory from outside, so that no sampling code runs in the process whose time is measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from stepscope.core import events as ev
from stepscope.core.errors import WorkerOutOfMemory

from .limits import memory_available_bytes

_SAMPLED = frozenset({ev.Phase.START, ev.Phase.CONVERT, ev.Phase.LOAD, ev.Phase.LIVE})
_FINE_S, _COARSE_S = 0.02, 0.25
_SAMPLES_PER_PACE = 350  # then half as often: under 2,000 samples in the first five minutes of a phase
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_SHARE_OF_AVAILABLE = 0.9


def rss_bytes(pid: int) -> int:
    """Resident bytes of a process, 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)  # off Linux
    except psutil.Error:
        return 0


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, 0 when it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def default_memory_limit(pid: int) -> int:
    """What the process holds and nine tenths of what is still available."""
    return rss_bytes(pid) + int(memory_available_bytes() * _SHARE_OF_AVAILABLE)


class MemorySampler:
    """due_s: the ``time.perf_counter`` at which ``look`` wants to be called next.

    In phases whose memory is drawn every look is a sample; in the scored phases a look only guards the limit, seldom.
    """

    def __init__(self, pid: int, limit_bytes: int) -> None:
        self._pid = pid
        self._limit = limit_bytes or default_memory_limit(pid)
        self.due_s = 0.0
        self._sampling = False
        self._pace_s, self._left = _COARSE_S, 0

    def enter(self, phase: ev.Phase | None) -> None:
        """Takes the pace of a phase, or of none."""
        self._sampling = phase in _SAMPLED
        self._pace_s, self._left = (_FINE_S if self._sampling else _COARSE_S), _SAMPLES_PER_PACE
        self.due_s = time.perf_counter() + (0.0 if self._sampling else self._pace_s)

    def look(self, now_s: float) -> ev.MemorySampled | None:
        """Raises WorkerOutOfMemory above the limit."""
        rss = rss_bytes(self._pid)
        if rss > self._limit:
            raise WorkerOutOfMemory(
                f"The run was ended at {_gib(rss)} of memory, above its limit of {_gib(self._limit)}.",
                "Choose a smaller model, fewer inputs or beams, or raise the memory limit.",
            )
        if self._sampling:
            self._left -= 1
            if self._left == 0:
                self._pace_s, self._left = self._pace_s * 2, _SAMPLES_PER_PACE
        self.due_s = now_s + self._pace_s
        return ev.MemorySampled(time.perf_counter_ns(), rss) if self._sampling and rss else None


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
