"""Folding events gives the figures by their definitions, worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stepscope.core import events as ev
from stepscope.core.metrics import METRICS, glossary
from stepscope.core.result import RunResult, Summary, inter_token_ns, time_per_output_token_ns
from stepscope.core.statistics import bootstrap_median, median, percentile


def repetition(index: int, kind: ev.RepetitionKind, token_ns: tuple[int, ...], total: int) -> ev.RepetitionDone:
    steps = tuple(10 for _ in token_ns)
    return ev.RepetitionDone(
        index,
        kind,
        0,
        1,
        5,
        steps,
        token_ns,
        steps,
        token_ns[0] if token_ns else None,
        total,
        4,
        ((2, 3, 4, 1),),
        ("x",),
    )


def test_summary_uses_scored_repetitions_only_and_leaves_step_0_out() -> None:
    scored, live = ev.RepetitionKind.SCORED, ev.RepetitionKind.LIVE
    result = RunResult().apply(
        [
            repetition(0, live, (9000, 90000), 10**9),
            repetition(1, scored, (100, 110, 130, 160), 200),
            repetition(2, scored, (300, 310, 320, 330), 400),
        ]
    )
    summary = result.summary()
    assert summary.time_to_first_token_ns == 200
    assert summary.itl_p50_ns == 15  # medians 20 and 10
    assert summary.time_per_output_token_ns == 15  # 60 / 3 and 30 / 3
    assert summary.total_ns == 300
    assert summary.tokens_per_second == pytest.approx((4 / 200e-9 + 4 / 400e-9) / 2)
    assert inter_token_ns(result.scored[0]) == [10, 20, 30]
    assert time_per_output_token_ns(result.scored[0]) == 20


def test_callback_cost_is_the_difference_of_observed_and_unobserved() -> None:
    result = RunResult().apply(
        [
            repetition(1, ev.RepetitionKind.SCORED, (1, 2), 110),
            repetition(2, ev.RepetitionKind.WITHOUT_CALLBACK, (), 100),
        ]
    )
    assert result.callback_cost == pytest.approx(0.1)
    assert RunResult().callback_cost is None


def test_phases_and_unfinished_runs() -> None:
    result = RunResult().apply([ev.PhaseBegan(ev.Phase.LOAD, 5), ev.Progress("reading")])
    assert result.phases[0].duration_ns is None and result.progress == "reading"
    result.apply([ev.PhaseEnded(ev.Phase.LOAD, 9), ev.StepDone(0, 1, 2, 3), ev.TextSoFar(1, ("a",))])
    assert result.phases[0].duration_ns == 4
    assert result.texts == ("a",) and result.summary() == Summary()


def test_percentiles_are_numpys() -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]
    for percent in (0, 5, 50, 95, 100):
        assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))
    with pytest.raises(ValueError, match="no values"):
        median([])


def test_bootstrap_interval_covers_and_is_seeded() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        values = rng.normal(10, 1, 15).tolist()
        low, high = bootstrap_median(values, resamples=400)
        inside += low <= 10 <= high
    assert inside >= 51  # 95 % nominal; 85 % is far outside of chance
    assert bootstrap_median([1, 2, 3]) == bootstrap_median([1, 2, 3])


def test_the_glossary_is_the_tables() -> None:
    file = Path(__file__).resolve().parents[2] / "docs" / "glossary.md"
    assert file.read_text() == glossary(), "write it again: python -m stepscope.core.metrics > docs/glossary.md"


def test_every_metric_of_the_table_is_a_field() -> None:
    fields = set(Summary.__dataclass_fields__) | {"equal_share"}
    assert {metric.key for metric in METRICS} <= fields
