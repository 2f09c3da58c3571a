"""Decides from the times of interleaved processes what is faster, slower or not distinguishable.

The unit is the process: the median of its scored repetitions, because what is inside one process is correlated. Processes
run in rounds (A B C B C A), so the ratio of a round is free of what changed slowly; the interval is Student's over the
rounds' log ratios, simultaneous over all variants (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from stepscope.core.comparison import Interval, Verdict

CONFIDENCE = 0.95
RESOLUTION = 0.01  # differences below one percent are not called differences
_WIDE = 0.10  # half-width above which an interval that holds 1 says nothing
_QUIET, _USABLE = 0.03, 0.10

Times = Sequence[float | None]  # nanoseconds by round; None where a process failed


def ratio(baseline: Times, times: Times, comparisons: int = 1) -> tuple[Interval, float] | None:
    """How many times faster ``times`` are, and the adjusted p of no difference; None below two rounds that have both.

    Geometric mean over rounds with its t interval (scipy.stats.ttest_1samp), at 1 - 0.05 / comparisons.
    """
    from scipy import stats

    logs = [math.log(b / t) for b, t in zip(baseline, times, strict=False) if b and t]
    if len(logs) < 2:
        return None
    if max(logs) - min(logs) < 1e-12:  # scripted times: no variance, no test
        value = math.exp(logs[0])
        return Interval(value, value, value), 1.0 if abs(logs[0]) < 1e-12 else 0.0
    tested = stats.ttest_1samp(logs, 0.0)
    found = tested.confidence_interval(1 - (1 - CONFIDENCE) / comparisons)
    value = math.exp(sum(logs) / len(logs))
    return Interval(value, math.exp(found.low), math.exp(found.high)), min(1.0, float(tested.pvalue) * comparisons)


def verdict(found: Interval | None, noise: Interval | None) -> Verdict:
    """A difference needs an interval without 1 and more than the resolution, or than the control differs from itself; no
    difference needs a narrow one with 1."""
    if found is None:
        return Verdict.UNDECIDED
    least = max(RESOLUTION, abs(noise.value - 1) if noise else 0.0)
    if found.low <= 1 <= found.high:
        return Verdict.NO_DIFFERENCE if (found.high - found.low) / 2 <= _WIDE else Verdict.UNDECIDED
    if abs(found.value - 1) < least:
        return Verdict.NO_DIFFERENCE
    return Verdict.FASTER if found.value > 1 else Verdict.SLOWER


def grade(noise: Interval | None) -> str:
    """The machine's noise in words, from the control."""
    if noise is None:
        return "unknown: the comparison has no control, or too few processes of it yet"
    worst = max(abs(noise.low - 1), abs(noise.high - 1))
    words = f"the baseline against itself: {noise.value:.3f} x ({noise.low:.3f} to {min(noise.high, 1000):.3f})"
    if worst < _QUIET:
        return f"quiet; {words}"
    return f"usable; {words}" if worst < _USABLE else f"noisy; {words}: only large differences mean anything"


def narrow_enough(intervals: Mapping[str, Interval | None], precision: float) -> bool:
    """Whether more processes would change no verdict: every interval is narrow for its size."""
    return all(
        found is not None and (found.high - found.low) / 2 <= max(precision * found.value, 0.1 * abs(found.value - 1))
        for found in intervals.values()
    )
