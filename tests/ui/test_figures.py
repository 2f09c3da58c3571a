"""Figures and formatting are pure: what goes in is what is drawn."""

from __future__ import annotations

import pytest

from stepscope.core.result import PhaseTime
from stepscope.core.spec import ObservedBy
from stepscope.core.stages import Phase
from stepscope.ui import charts, format
from stepscope.ui.live_run import phase_strip

MS = 1_000_000


def test_step_0_is_a_mark_of_its_own_and_memory_shares_the_axis() -> None:
    steps = charts.StepCurve("x", [10 * MS, 20 * MS, 30 * MS], [9 * MS, 4 * MS, 5 * MS])
    memory = charts.MemoryCurve([0, 15 * MS], [100 * MS, 120 * MS], baseline_bytes=50 * MS, weight_bytes=None)
    line, prefill, rss, baseline = charts.live(steps, memory, "r")["data"]
    assert line["x"] == [0.02, 0.03] and line["y"] == [4.0, 5.0] and line["customdata"] == [1, 2]
    assert prefill["x"] == [0.01] and prefill["y"] == [9.0]
    assert rss["y"] == [100.0, 120.0] and rss["yaxis"] == "y2" and "xaxis" not in rss
    assert baseline["y"] == [50.0, 50.0]


def test_how_it_was_observed_is_the_dash() -> None:
    dashes = {
        seen: charts.live(charts.StepCurve("x", [1, 2], [1, 1], seen), charts.MemoryCurve([], []), "r")["data"][0]["line"][
            "dash"
        ]
        for seen in (ObservedBy.LOOP, ObservedBy.CALLBACK)
    }
    assert dashes == {ObservedBy.LOOP: "solid", ObservedBy.CALLBACK: "dash"}


def test_an_empty_run_draws_an_empty_chart() -> None:
    figure = charts.live(charts.StepCurve("x", [], []), charts.MemoryCurve([], []), "r")
    assert figure["data"][0]["x"] == [] and figure["layout"]["uirevision"] == "r"


def test_colours_differ_and_stand_out_on_both_grounds() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert len(set(charts.COLOURS)) == len(charts.COLOURS) == 8
    for colour in (*charts.COLOURS, charts.MEMORY_COLOUR):
        for ground in ("#FFFFFF", "#0E131B"):
            light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, f"{colour} on {ground}"


@pytest.mark.parametrize(
    ("ns", "words"),
    [(None, "–"), (0, "0 ns"), (950, "950 ns"), (12_300, "12.3 µs"), (1_234_567, "1.23 ms"), (99_960_000, "100 ms"),
     (2_500_000_000, "2.50 s"), (61_000_000_000, "1 min 01 s")],
)  # fmt: skip
def test_durations(ns: int | None, words: str) -> None:
    assert format.duration(ns) == words


@pytest.mark.parametrize(
    ("count", "words"), [(None, "–"), (999, "999 B"), (154_000_000, "154 MB"), (1_500_000_000, "1.50 GB")]
)
def test_sizes(count: int | None, words: str) -> None:
    assert format.size(count) == words


def test_only_equality_is_100_percent() -> None:
    assert format.share(1.0) == "100 %" and format.share(0.99999) == "99.9 %" and format.share(0.5) == "50.0 %"


def test_the_phase_strip_names_every_phase() -> None:
    strip = phase_strip([PhaseTime(Phase.LOAD, 0, 5 * MS), PhaseTime(Phase.LIVE, 5 * MS)], running=True)
    assert "load <b>5.00 ms</b>" in strip and "live <b>…</b>" in strip
    assert "not finished" in phase_strip([PhaseTime(Phase.LIVE, 5 * MS)], running=False)
    assert phase_strip([], running=True) == ""
