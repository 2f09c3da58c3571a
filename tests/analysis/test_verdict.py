"""The statistics against hand-worked numbers, against scipy by another way, and over simulated comparisons."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from stepscope.analysis import verdict
from stepscope.analysis.assemble import assemble
from stepscope.core.comparison import CONTROL, Interval, Verdict
from tests.comparisons import spec, visit


def test_a_ratio_is_the_geometric_mean_with_student_s_interval() -> None:
    found = verdict.ratio([200.0, 220.0, 240.0], [100.0, 100.0, 100.0])
    assert found is not None
    interval, p = found
    logs = [math.log(2.0), math.log(2.2), math.log(2.4)]
    mean = sum(logs) / 3
    deviation = math.sqrt(sum((value - mean) ** 2 for value in logs) / 2)
    half = stats.t.ppf(0.975, 2) * deviation / math.sqrt(3)
    assert interval.value == pytest.approx(math.exp(mean))
    assert interval.low == pytest.approx(math.exp(mean - half)) and interval.high == pytest.approx(math.exp(mean + half))
    assert p == pytest.approx(2 * stats.t.sf(mean / (deviation / math.sqrt(3)), 2))


def test_rounds_that_lack_one_of_the_two_do_not_count() -> None:
    assert verdict.ratio([1.0, None, 3.0], [1.0, 2.0, None]) is None
    found = verdict.ratio([2.0, None, 2.2], [1.0, 5.0, 1.0])
    assert found is not None and found[0].value == pytest.approx(math.sqrt(2.0 * 2.2))


def test_more_comparisons_widen_the_intervals() -> None:
    one = verdict.ratio([1.0, 1.1, 1.2], [1.0, 1.0, 1.0], 1)
    seven = verdict.ratio([1.0, 1.1, 1.2], [1.0, 1.0, 1.0], 7)
    assert one is not None and seven is not None
    assert seven[0].low < one[0].low and seven[0].high > one[0].high and seven[1] == pytest.approx(min(1.0, 7 * one[1]))


def test_verdicts() -> None:
    quiet, drifting = Interval(1.0, 0.99, 1.01), Interval(1.06, 1.04, 1.08)
    assert verdict.verdict(Interval(2.0, 1.9, 2.1), quiet) is Verdict.FASTER
    assert verdict.verdict(Interval(0.5, 0.45, 0.55), quiet) is Verdict.SLOWER
    assert verdict.verdict(Interval(1.01, 0.98, 1.04), quiet) is Verdict.NO_DIFFERENCE
    assert verdict.verdict(Interval(1.005, 1.001, 1.009), quiet) is Verdict.NO_DIFFERENCE, "below the resolution"
    assert verdict.verdict(Interval(1.05, 1.02, 1.08), drifting) is Verdict.NO_DIFFERENCE, (
        "the baseline differs more from itself"
    )
    assert verdict.verdict(Interval(1.2, 0.6, 2.4), quiet) is Verdict.UNDECIDED, "too wide to say anything"
    assert verdict.verdict(None, None) is Verdict.UNDECIDED


def simulated(slowdown: float, seed: int) -> Verdict:
    """Processes differ by 1 %, the machine drifts by 3 % from round to round, repetitions by 1 %."""
    rng = random.Random(seed)
    rounds = []
    for round_ in range(6):
        drift = rng.gauss(1, 0.03)
        rounds += [
            visit(name, round_, 50 * factor * drift * rng.gauss(1, 0.01))
            for name, factor in (("one", 1.0), ("two", 1 + slowdown), (CONTROL, 1.0))
        ]
    return assemble(spec(), rounds, complete=True).variants[1].verdict


def test_identical_stacks_are_not_told_apart_and_five_percent_are() -> None:
    same = [simulated(0.0, seed) for seed in range(100)]
    assert sum(found is Verdict.NO_DIFFERENCE for found in same) >= 93
    slower = [simulated(0.05, seed) for seed in range(100)]
    assert sum(found is Verdict.SLOWER for found in slower) >= 85


def test_the_noise_is_graded() -> None:
    assert verdict.grade(Interval(1.0, 0.99, 1.02)).startswith("quiet")
    assert verdict.grade(Interval(1.0, 0.95, 1.05)).startswith("usable")
    assert verdict.grade(Interval(1.0, 0.8, 1.3)).startswith("noisy")
    assert verdict.grade(None).startswith("unknown")
