"""Tells how noisy this machine is right now, because small differences mean nothing on a busy one."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from stepscope.core.statistics import median, percentile

_BLOCK = bytes(1 << 18)
_QUIET, _USABLE = 1.05, 1.25


@dataclass(frozen=True, slots=True)
class NoiseReport:
    """spread: 95th percentile / median of a fixed kernel's time. steal_share: time that the hypervisor took, of all
    processor time while the check ran; None off Linux."""

    samples: int
    median_ns: int
    p95_ns: int
    spread: float
    grade: str
    load_average: float | None
    steal_share: float | None


def noise_check(seconds: float = 0.5) -> NoiseReport:
    """Times the same work over and over; takes ``seconds`` of one processor."""
    before = _processor_times()
    times: list[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 20:
        start = time.perf_counter_ns()
        hashlib.sha256(_BLOCK).digest()
        times.append(time.perf_counter_ns() - start)
    after = _processor_times()
    middle, high = median(times), percentile(times, 95)
    spread = high / middle
    steal = None
    if before and after:
        total = sum(after) - sum(before)
        steal = (after[7] - before[7]) / total if total > 0 else 0.0
    return NoiseReport(len(times), round(middle), round(high), spread, _grade(spread, steal or 0.0), _load_average(), steal)


def _grade(spread: float, steal: float) -> str:
    if spread < _QUIET and steal < 0.01:
        return "quiet: differences of a few percent can be seen"
    if spread < _USABLE and steal < 0.05:
        return "usable: look for differences of 10 % and more"
    return "noisy: other work is running; only large differences mean anything"


def _load_average() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _processor_times() -> tuple[int, ...]:
    """user, nice, system, idle, iowait, irq, softirq, steal in clock ticks over all processors; empty off Linux."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return ()
    return tuple(int(value) for value in first[1:9])
