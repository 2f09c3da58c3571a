"""A comparison's figures as pure functions of its result, for the page and for the report alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepscope.core.comparison import ComparisonResult, ComparisonSpec, VariantResult
from stepscope.core.contribution import Contribution
from stepscope.core.events import Phase
from stepscope.core.spec import ObservedBy

from .charts import COLOURS, DASHES, Figure

_MOST_POINTS = 512
_ONCE = (("start", "start the process"), ("convert", "convert"), ("load", "load"), ("compile", "compile"))
_EACH = (("encode", "encode"), ("steps", "decode steps and the rest"))
_PART_COLOURS = ("#6B7A90", "#A0694B", "#B98510", "#8A8F2A", "#0FA27A", "#1F83C4")


def colours(result: ComparisonResult) -> dict[str, str]:
    return {variant.name: COLOURS[at % len(COLOURS)] for at, variant in enumerate(result.variants)}


def step_curves(result: ComparisonResult) -> Figure:
    """Median latency of each step from step 1 on, on a logarithmic axis; what shows no steps is absent."""
    colour = colours(result)
    traces = []
    for variant in result.variants:
        if variant.observed_by is ObservedBy.TOTAL or len(variant.curve_ns) < 2:
            continue
        every = -(-len(variant.curve_ns) // _MOST_POINTS)
        steps = list(range(1, len(variant.curve_ns), every))
        traces.append(
            {
                "name": variant.name, "x": steps, "y": [variant.curve_ns[at] / 1e6 for at in steps], "mode": "lines",
                "line": {"color": colour[variant.name], "width": 1.8, "dash": DASHES[variant.observed_by]},
                "hovertemplate": "step %{x}: %{y:.3f} ms",
            }
        )  # fmt: skip
    return _figure(traces, 340, "decode step", "step latency, ms", logarithmic_y=True, legend=True)


def step_distributions(result: ComparisonResult) -> Figure:
    """Of all steps from step 1 on: thin 5 to 95 %, thick the middle half, mark the median."""
    colour = colours(result)
    traces: list[dict[str, Any]] = []
    for variant in result.variants:
        if not variant.steps_ns:
            continue
        low, q1, middle, q3, high = (value / 1e6 for value in variant.steps_ns)
        for ends, width in (((low, high), 2), ((q1, q3), 10)):
            traces.append(
                {
                    "x": list(ends), "y": [_short(variant.name)] * 2, "mode": "lines", "hoverinfo": "skip",
                    "line": {"color": colour[variant.name], "width": width},
                }
            )  # fmt: skip
        traces.append(
            {
                "x": [middle], "y": [_short(variant.name)], "mode": "markers", "name": variant.name,
                "marker": {"color": colour[variant.name], "size": 13, "symbol": "line-ns-open", "line": {"width": 3}},
                "hovertemplate": f"median %{{x:.3f}} ms, half {q1:.3f} to {q3:.3f}, 5 to 95 % {low:.3f} to {high:.3f}",
            }
        )  # fmt: skip
    figure = _figure(traces, 90 + 42 * max(1, len(traces) // 3), "step latency, ms", "", logarithmic_x=True)
    return _named_rows(figure)


def memory_over_time(result: ComparisonResult) -> Figure:
    """Resident memory of one process of each; zero is where the first generation begins."""
    colour = colours(result)
    traces = []
    for variant in result.variants:
        begin = next((p.start_ns for p in variant.memory.phases if p.phase is Phase.LIVE), None)
        if begin is None:
            continue
        memory = variant.memory
        traces.append(
            {
                "name": variant.name, "x": [(t - begin) / 1e9 for t in memory.t_ns], "mode": "lines",
                "y": [rss / 1e6 for rss in memory.rss_bytes],
                "line": {"color": colour[variant.name], "width": 1.8, "shape": "hv"}, "hovertemplate": "%{y:.0f} MB",
            }
        )  # fmt: skip
    return _figure(traces, 320, "time, s; 0: the first generation begins", "memory, MB", legend=True)


def memory_owners(result: ComparisonResult) -> Figure:
    """Who holds the memory, as far as it is known: imports before loading, weights, what else loading took, generation."""
    names, parts = [], []
    for variant in reversed(result.variants):
        m = variant.memory
        if not m.peak_rss_bytes:
            continue
        names.append(_short(variant.name))
        loaded = max(0, m.loaded_rss_bytes - m.baseline_rss_bytes)
        weights = min(m.weight_bytes, loaded)
        parts.append(
            (m.baseline_rss_bytes, weights, loaded - weights,
             max(0, m.peak_rss_bytes - max(m.loaded_rss_bytes, m.baseline_rss_bytes)))
        )  # fmt: skip
    titles = ("interpreter and runtime", "weights", "rest of loading", "caches, activations, peaks")
    traces = [
        {
            "type": "bar", "orientation": "h", "name": title, "y": names, "x": [part[at] / 1e6 for part in parts],
            "marker": {"color": _PART_COLOURS[at]}, "hovertemplate": f"{title}: %{{x:.0f}} MB",
        }
        for at, title in enumerate(titles)
    ]  # fmt: skip
    return _named_rows(_figure(traces, 120 + 34 * len(names), "peak memory, MB", "", legend=True, stacked=True))


def phases(result: ComparisonResult, *, once: bool) -> Figure:
    """once: what a process pays one time; else what every generation costs."""
    parts = _ONCE if once else _EACH
    shown = [variant for variant in reversed(result.variants) if variant.phases]
    unit, divisor = ("s", 1e9) if once else ("ms", 1e6)
    traces = [
        {
            "type": "bar", "orientation": "h", "name": title, "y": [_short(variant.name) for variant in shown],
            "x": [variant.phases.get(key, 0) / divisor for variant in shown],
            "marker": {"color": _PART_COLOURS[at + (0 if once else 4)]}, "hovertemplate": f"{title}: %{{x:.3g}} {unit}",
        }
        for at, (key, title) in enumerate(parts)
        if any(variant.phases.get(key) for variant in shown)
    ]  # fmt: skip
    words = "paid once, s" if once else "per generation, ms"
    return _named_rows(_figure(traces, 120 + 34 * len(shown), words, "", legend=True, stacked=True))


def quality_of(variant: VariantResult) -> float | None:
    """BLEU where there are references, else the share of tokens equal to the reference's, in percent."""
    if variant.quality is not None:
        return variant.quality.bleu
    return None if variant.equal_share is None else 100 * variant.equal_share


def pareto(result: ComparisonResult) -> Figure:
    """Speed to the right, quality up, area by memory; the line joins what nothing else beats in both."""
    colour = colours(result)
    points = [
        (variant, 1e9 / variant.summary.total_ns, quality)
        for variant in result.variants
        if variant.summary.total_ns and (quality := quality_of(variant)) is not None
    ]
    most = max((variant.summary.peak_rss_bytes or 1 for variant, _, _ in points), default=1)
    frontier = sorted(
        (p for p in points if not any(o[1] >= p[1] and o[2] >= p[2] and o[1:] != p[1:] for o in points)),
        key=lambda point: point[1],
    )
    traces: list[dict[str, Any]] = [
        {
            "x": [speed for _, speed, _ in frontier], "y": [quality for _, _, quality in frontier], "mode": "lines",
            "name": "frontier", "line": {"color": "#6B7A90", "width": 1.2, "dash": "dot"}, "hoverinfo": "skip",
        }
    ]  # fmt: skip
    for variant, speed, quality in points:
        size = variant.summary.peak_rss_bytes or 0
        traces.append(
            {
                "x": [speed], "y": [quality], "mode": "markers", "name": variant.name,
                "marker": {"color": colour[variant.name], "size": 10 + 30 * (size / most) ** 0.5, "opacity": 0.85},
                "hovertemplate": f"%{{x:.3g}} generations/s, %{{y:.1f}}, {size / 1e6:.0f} MB",
            }
        )  # fmt: skip
    scored = any(variant.quality for variant, _, _ in points)
    words = "BLEU" if scored else "tokens equal to the reference's, %"
    return _figure(traces, 380, "generations per second", words, logarithmic_x=True, legend=True)


def waterfall(found: Sequence[Contribution], interaction: float) -> Figure:
    """Factors on speed: each technique alone and last, and what the combination adds or takes."""
    names = [each.title for each in found][::-1]
    traces = [
        {
            "type": "bar", "orientation": "h", "name": words, "y": names, "base": 1,
            "x": [None if value is None else value - 1 for value in values][::-1], "marker": {"color": colour},
            "customdata": list(values)[::-1], "hovertemplate": f"{words}: %{{customdata:.2f}} x",
        }
        for words, values, colour in (
            ("alone", [each.alone for each in found], COLOURS[0]),
            ("added last, to all others", [each.last for each in found], COLOURS[1]),
        )
    ]  # fmt: skip
    traces.append(
        {
            "type": "bar", "orientation": "h", "name": "interaction", "y": ["all together, beyond the product"], "base": 1,
            "x": [interaction - 1], "customdata": [interaction], "marker": {"color": COLOURS[3]},
            "hovertemplate": "interaction: %{customdata:.2f} x",
        }
    )  # fmt: skip
    figure = _figure(traces, 140 + 52 * (len(names) + 1), "times as fast", "", legend=True, logarithmic_x=True)
    return _named_rows(figure)


def all_figures(spec: ComparisonSpec, result: ComparisonResult) -> list[tuple[str, Figure]]:
    """Titles and figures, in the order of a report."""
    found = [
        ("Speed and quality", pareto(result)),
        ("Step latency", step_curves(result)),
        ("Distribution of step latency", step_distributions(result)),
        ("What a generation costs", phases(result, once=False)),
        ("What is paid once", phases(result, once=True)),
        ("Memory over time", memory_over_time(result)),
        ("Who holds the memory", memory_owners(result)),
    ]
    return [(title, figure) for title, figure in found if figure["data"]]


def _short(name: str) -> str:
    return name if len(name) <= 22 else name[:21] + "…"


def _named_rows(figure: Figure) -> Figure:
    """For figures whose rows are variants: room for their names, first on top."""
    figure["layout"]["yaxis"].update({"automargin": True, "tickfont": {"size": 12}, "type": "category"})
    figure["layout"]["margin"]["l"] = 8
    if not any(trace.get("type") == "bar" for trace in figure["data"]):
        figure["layout"]["yaxis"]["autorange"] = "reversed"
    return figure


def _figure(
    traces: list[dict[str, Any]], height: int, x: str, y: str, *, logarithmic_x: bool = False,
    logarithmic_y: bool = False, legend: bool = False, stacked: bool = False,
) -> Figure:  # fmt: skip
    def axis(title: str, logarithmic: bool) -> dict[str, Any]:
        words: dict[str, Any] = {"title": {"text": title}}
        return {**words, "type": "log", "dtick": "D2"} if logarithmic else words

    return {
        "data": traces,
        "layout": {
            "uirevision": "comparison",
            "height": height,
            "showlegend": legend,
            "legend": {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
            "margin": {"l": 58, "r": 12, "t": 20, "b": 44},
            "xaxis": axis(x, logarithmic_x),
            "yaxis": axis(y, logarithmic_y),
            **({"barmode": "stack"} if stacked else {}),
        },
    }
