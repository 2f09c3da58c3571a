"""Shows one comparison, live or final: progress, verdicts, figures, outputs; the store is its only source."""

from __future__ import annotations

import difflib
import html
import json

import streamlit as st

from stepscope.core.comparison import ComparisonResult, VariantResult, Verdict
from stepscope.core.contribution import contributions
from stepscope.core.models import RANDOM_NOTE
from stepscope.core.spec_files import to_toml
from stepscope.runs.comparison_document import QUALITY_HEAD, csv_text, document, quality_rows, words
from stepscope.runs.comparison_store import ComparisonRow

from . import compare_charts, divergence, failure, format, live_chart, take_home
from .compare_report import METHOD, report
from .state import services

TICK_S = 1.0
_SIGN = {Verdict.FASTER: "▲", Verdict.SLOWER: "▼", Verdict.NO_DIFFERENCE: "=", Verdict.BASELINE: "●",
         Verdict.UNDECIDED: "…", Verdict.FAILED: "✕"}  # fmt: skip


def show_comparison(comparison_id: str) -> None:
    """The comparison of the address; a fragment that looks every second until it is final."""
    comparing = services().executor.comparing
    row = comparing.store.get(comparison_id)
    if row is None:
        st.warning(f"There is no comparison {comparison_id!r} here. The link may be of another StepScope.")
        return
    if row.status.final:
        _final(row)
        return
    if st.button("Cancel", key=f"cancel_{comparison_id}", help="What was measured stays."):
        comparing.cancel(comparison_id)
    st.fragment(_live, run_every=TICK_S)(comparison_id)


def _live(comparison_id: str) -> None:
    comparing = services().executor.comparing
    row, at = comparing.store.get(comparison_id), comparing.progress(comparison_id)
    if row is None or at is None or row.status.final:
        st.rerun()
    share = min(1.0, max(at.processes / at.least, at.spent_ns / (at.spent_ns + at.limit_ns or 1)))
    left = f"about {format.duration(at.left_ns)} left" if at.left_ns else "deciding whether more processes are needed"
    st.progress(
        share, f"Process {at.processes + 1} (at least {at.least}): {at.now} · {left if at.processes else 'starting'}"
    )
    _verdicts(row.result)
    if row.result.variants:
        live_chart.show(compare_charts.step_curves(row.result), key=f"curves_{comparison_id}")


def _final(row: ComparisonRow) -> None:
    comparing, result = services().executor.comparing, row.result
    if row.error is not None:
        failure.show_record(row.error)
    if not result.complete:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.info(f"This comparison was {row.status.value}: what was measured is below.")
            if st.button("Go on", type="primary"):
                comparing.resume(row.id)
                st.rerun()
    spec = row.spec
    search = "greedy" if spec.search.num_beams == 1 else f"{spec.search.num_beams} beams"
    st.caption(
        f"`{spec.model}` · {len(spec.inputs)} input{'s' * (len(spec.inputs) > 1)} · {search} · "
        f"{'exactly' if spec.search.exact_tokens else 'at most'} {spec.search.max_new_tokens} tokens · "
        f"{row.machine.get('processor', '')}"
    )
    if spec.model.startswith("random:"):
        st.badge(RANDOM_NOTE, color="orange")
    for banner in result.banners:
        st.warning(banner)
    _verdicts(result)
    st.caption(f"Noise of the machine: {result.grade}.", help=METHOD)
    _share(row)
    _figures(row)
    if scores := quality_rows(result):
        st.markdown("**Quality against the references**")
        st.table([dict(zip(QUALITY_HEAD, cells, strict=True)) for cells in scores])
    _outputs(row)
    take_home.show(row)


def _verdicts(result: ComparisonResult) -> None:
    """One line a variant: its colour, how many times as fast, and the verdict in words; wraps on a phone."""
    colour = compare_charts.colours(result)
    most = max((v.ratio.value for v in result.variants if v.ratio), default=1.0)
    lines = []
    for v in result.variants:
        ratio = 1.0 if v.verdict is Verdict.BASELINE else v.ratio.value if v.ratio else 0.0
        width = 100 * ratio / max(most, 1.0)
        figures = " · ".join(
            f"{name} {value}"
            for name, value in (
                ("generation", format.duration(v.summary.total_ns)), ("ITL", format.duration(v.summary.itl_p50_ns)),
                ("peak", format.size(v.summary.peak_rss_bytes)),
            ) if value != format.NONE
        )  # fmt: skip
        lines.append(
            f'<div style="display:flex;flex-wrap:wrap;gap:.1em 1em;align-items:baseline;padding:.45em 0;'
            f'border-bottom:1px solid rgba(128,140,160,.25)">'
            f'<b style="flex:0 0 12rem;overflow-wrap:anywhere"><span style="color:{colour[v.name]}">■</span> '
            f"{html.escape(v.name)}</b>"
            f'<span style="flex:1 1 20rem"><span aria-hidden="true">{_SIGN[v.verdict]}</span> '
            f"{html.escape(words(v))}{_pays(v)}"
            f'<span style="display:block;height:5px;border-radius:3px;margin:.25em 0;width:{width:.1f}%;'
            f'background:{colour[v.name]}"></span>'
            f'<small style="opacity:.75">{figures}</small></span></div>'
        )
    if lines:
        st.html("".join(lines))


def _pays(v: VariantResult) -> str:
    if v.breaks_even_after is None:
        return ""
    return f"; conversion pays off after {v.breaks_even_after:,} generation{'s' * (v.breaks_even_after > 1)}"


def _figures(row: ComparisonRow) -> None:
    result = row.result
    figures = compare_charts.all_figures(row.spec, result)
    if found := contributions(row.spec, result):
        figures.insert(1, ("What each technique contributes", compare_charts.waterfall(*found)))
    for at in range(0, len(figures), 2):
        for place, (title, figure) in zip(st.columns(2), figures[at : at + 2], strict=False):
            with place:
                st.markdown(f"**{title}**")
                live_chart.show(figure, key=f"{title}_{row.id}")
    unseen = [v.name for v in result.variants if v.process_ns and not v.curve_ns]
    if unseen:
        st.caption(f"{', '.join(unseen)}: this runtime shows only whole generations, so there are no steps to draw.")


def _outputs(row: ComparisonRow) -> None:
    """One input at a time; words that the baseline does not have are marked."""
    spec, result = row.spec, row.result
    baseline = result.variant(spec.baseline)
    if baseline is None or not baseline.texts:
        return
    st.markdown("**Outputs**")
    differing = {at for v in result.variants for at, text in enumerate(v.texts) if text != baseline.texts[at]}
    order = sorted(range(len(spec.inputs)), key=lambda at: at not in differing)
    chosen = st.selectbox(
        "Input", order, key=f"output_{row.id}",
        format_func=lambda at: f"{'≠ ' if at in differing else ''}{spec.inputs[at][:90]}",
        help=f"{len(differing)} of {len(order)} inputs have outputs that differ; those come first.",
    )  # fmt: skip
    lines = [("reference", spec.references[chosen], "")] if spec.references else []
    lines += [(v.name, v.texts[chosen], baseline.texts[chosen]) for v in result.variants if chosen < len(v.texts)]
    st.html("".join(
        f'<div style="display:flex;flex-wrap:wrap;gap:.1em 1em;padding:.3em 0"><b style="flex:0 0 12rem">{html.escape(name)}'
        f'</b><span style="flex:1 1 20rem;overflow-wrap:anywhere">{marked(text, other) if other else html.escape(text)}'
        "</span></div>" for name, text, other in lines
    ))  # fmt: skip
    others = [v.name for v in result.variants if chosen < len(v.texts) and v.texts[chosen] != baseline.texts[chosen]]
    if others:
        divergence.show(row, chosen, others)


_MARK = '<mark style="background:rgba(240,180,0,.35);color:inherit"'


def marked(text: str, other: str) -> str:
    """The text as HTML, with the words marked that ``other`` does not have in their place, and a sign for what is gone."""
    ours, theirs = text.split(), other.split()
    parts = []
    for kind, _, _, begin, end in difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        piece = html.escape(" ".join(ours[begin:end]))
        if kind == "equal":
            parts.append(piece)
        elif kind == "delete":
            parts.append(f'{_MARK} title="the baseline has words here">‸</mark>')
        else:
            parts.append(f"{_MARK}>{piece}</mark>")
    return " ".join(parts)


def _share(row: ComparisonRow) -> None:
    name = f"stepscope-{row.id}"
    with st.container(horizontal=True):
        text = json.dumps(document(row), indent=1, ensure_ascii=False)
        st.download_button("Report", lambda: report(row), f"{name}.html", "text/html", on_click="ignore")
        st.download_button("JSON", text, f"{name}.json", "application/json", on_click="ignore")
        st.download_button("CSV", csv_text(row.result), f"{name}.csv", "text/csv", on_click="ignore")
        st.download_button("TOML", to_toml(row.spec), f"{name}.toml", "application/toml", on_click="ignore",
                           help="For `python -m stepscope compare --spec FILE`, and for this page.")  # fmt: skip
    st.code(f"{str(st.context.url or '').split('?')[0].rstrip('/')}?comparison={row.id}", language=None)
