"""Figures as pure functions of values: no Streamlit, no store, so that each can be tested and used by a report.

Colours and fonts of axes come from the page's theme, in the component that shows a figure; what is set here is data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepscope.core import events as ev
from stepscope.core.spec import ObservedBy

# Okabe-Ito hues, dark enough for white and light enough for the dark ground; one per stack, in this order.
COLOURS = ("#1F83C4", "#D9661A", "#0FA27A", "#C2649A", "#B98510", "#7F6BC4", "#6B7A90", "#A0694B")
MEMORY_COLOUR = "#8A6FC0"
DASHES = {ObservedBy.LOOP: "solid", ObservedBy.CALLBACK: "dash"}
Figure = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StepCurve:
    """Steps of one repetition. t_ns: end of each step since the repetition began; step_ns: its latency."""

    name: str
    t_ns: Sequence[int]
    step_ns: Sequence[int]
    observed_by: ObservedBy = ObservedBy.LOOP
    colour: str = COLOURS[0]


@dataclass(frozen=True, slots=True)
class MemoryCurve:
    """t_ns: since the repetition began; baseline_bytes: before loading, weight_bytes: of the parameters, if known."""

    t_ns: Sequence[int]
    rss_bytes: Sequence[int]
    baseline_bytes: int | None = None
    weight_bytes: int | None = None


def live(curve: StepCurve, memory: MemoryCurve, revision: str) -> Figure:
    """Step latency above, resident memory below, one time axis. Step 0 (prefill) is a mark of its own.

    revision: while it stays the same, zoom is kept.
    """
    seconds = [t / 1e9 for t in curve.t_ns]
    latency = [step / 1e6 for step in curve.step_ns]
    span = [t / 1e9 for t in memory.t_ns]
    traces: list[dict[str, Any]] = [
        {
            "name": "decode steps", "x": seconds[1:], "y": latency[1:], "customdata": list(range(1, len(seconds))),
            "mode": "lines+markers", "line": {"color": curve.colour, "width": 1.6, "dash": DASHES[curve.observed_by]},
            "marker": {"size": 4}, "hovertemplate": "step %{customdata}: %{y:.2f} ms<extra></extra>",
        },
        {
            "name": "step 0 (prefill)", "x": seconds[:1], "y": latency[:1], "mode": "markers",
            "marker": {"color": curve.colour, "size": 10, "symbol": "diamond-open", "line": {"width": 2}},
            "hovertemplate": "step 0 (prefill): %{y:.2f} ms<extra></extra>",
        },
        {
            "name": "resident memory", "x": span, "y": [rss / 1e6 for rss in memory.rss_bytes], "mode": "lines",
            "line": {"color": MEMORY_COLOUR, "width": 1.8, "shape": "hv"}, "yaxis": "y2",
            "hovertemplate": "%{y:.0f} MB<extra></extra>",
        },
    ]  # fmt: skip
    end = max([*seconds, *span], default=1.0)
    marks = ((memory.baseline_bytes, "before loading"), (memory.weight_bytes, "weights alone"))
    for value, words in marks:
        if value:
            traces.append(
                {
                    "name": words, "x": [0, end], "y": [value / 1e6] * 2, "mode": "lines", "yaxis": "y2",
                    "line": {"color": MEMORY_COLOUR, "width": 1, "dash": "dot"},
                    "hovertemplate": f"{words}: %{{y:.0f}} MB<extra></extra>",
                }
            )  # fmt: skip
    return {
        "data": traces,
        "layout": {
            "uirevision": revision,
            "height": 460,
            "showlegend": True,
            "legend": {"orientation": "h", "y": 1.08, "x": 0, "yanchor": "bottom"},
            "margin": {"l": 58, "r": 12, "t": 34, "b": 42},
            "xaxis": {"title": {"text": "time since the repetition began, s"}, "anchor": "y2", "rangemode": "tozero"},
            "yaxis": {"title": {"text": "step latency, ms"}, "domain": [0.47, 1.0], "rangemode": "tozero"},
            "yaxis2": {"title": {"text": "memory, MB"}, "domain": [0.0, 0.37], "rangemode": "tozero"},
        },
    }  # fmt: skip


def repetitions(scored: Sequence[ev.RepetitionDone], observed_by: ObservedBy, revision: str) -> Figure:
    """Each scored repetition's step latencies over the step number, step 0 left out; thin lines, one colour."""
    traces = [
        {
            "name": f"repetition {number}", "x": list(range(1, len(rep.step_ns))),
            "y": [step / 1e6 for step in rep.step_ns[1:]], "mode": "lines", "opacity": 0.75,
            "line": {"color": COLOURS[0], "width": 1.2, "dash": DASHES.get(observed_by, "solid")},
            "hovertemplate": f"repetition {number}, step %{{x}}: %{{y:.2f}} ms<extra></extra>",
        }
        for number, rep in enumerate(scored, 1)
    ]  # fmt: skip
    return {
        "data": traces,
        "layout": {
            "uirevision": revision,
            "height": 240,
            "showlegend": False,
            "margin": {"l": 58, "r": 12, "t": 8, "b": 42},
            "xaxis": {"title": {"text": "decode step"}},
            "yaxis": {"title": {"text": "step latency, ms"}, "rangemode": "tozero"},
        },
    }
