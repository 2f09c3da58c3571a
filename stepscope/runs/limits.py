"""Reads what a container allows, because its processor and memory limits are what a run really has.

cgroup v1 and v2; a limit counts at every level from this process's group up to the root.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil

_ROOT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63


@cache
def _groups() -> dict[str, str]:
    """Controller name -> path of this process's group; the key '' is cgroup v2."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _levels(controller: str) -> Iterator[Path]:
    groups = _groups()
    for key, base in ((controller, _ROOT / controller), ("", _ROOT)):
        if key in groups:
            folder = base / groups[key].lstrip("/")
            while folder.is_relative_to(base):
                yield folder
                folder = folder.parent


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):  # absent at this level, or "max"
        return None


def memory_limit_bytes() -> int | None:
    """The smallest memory limit over this process's groups, None when there is none."""
    found = [
        limit
        for folder in _levels("memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (limit := _number(folder / name)) is not None and limit < _UNLIMITED
    ]
    return min(found, default=None)


def memory_total_bytes() -> int:
    """What this process could ever use: the machine's memory or the container's limit."""
    limit = memory_limit_bytes()
    total = int(psutil.virtual_memory().total)
    return total if limit is None else min(limit, total)


def memory_available_bytes() -> int:
    """What can still be used without swapping, here and now."""
    available = int(psutil.virtual_memory().available)
    for folder in _levels("memory"):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and used is not None and limit < _UNLIMITED:
                available = min(available, max(0, limit - used + _reclaimable(folder)))
    return available


def _reclaimable(folder: Path) -> int:
    """Page cache that counts as used in the group's figure although the kernel gives it back."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    figures = dict(line.split(None, 1) for line in lines if " " in line)
    return int(figures.get("total_inactive_file") or figures.get("inactive_file") or 0)


def cpu_quota() -> float | None:
    """Processors' worth of time that the groups allow, None when unlimited."""
    found = []
    for folder in _levels("cpu"):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                found.append(int(quota) / int(period))
        except (OSError, ValueError):
            pass
        v1, v1_period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if v1 is not None and v1_period and v1 > 0:
            found.append(v1 / v1_period)
    return min(found, default=None)


def usable_cores() -> int:
    """Logical processors that this process may keep busy: affinity and quota; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))
