"""Medians, percentiles and bootstrap intervals, small enough to need no library in the dashboard's process."""

from __future__ import annotations

import random
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    return percentile(values, 50)


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between closest ranks (Hyndman & Fan type 7, numpy's default). Raises ValueError if empty."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def bootstrap_median(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the median (Efron 1979); seeded, so that a stored value can be recomputed."""
    if not values:
        raise ValueError("no values")
    rng = random.Random(seed)
    medians = [median(rng.choices(values, k=len(values))) for _ in range(resamples)]
    tail = (1 - confidence) / 2 * 100
    return percentile(medians, tail), percentile(medians, 100 - tail)
