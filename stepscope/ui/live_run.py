"""Shows one run, live or final: phases, output, figures, curves, agreement; the store is its only source."""

from __future__ import annotations

import html
import json
from itertools import pairwise
from typing import Literal

import streamlit as st

from stepscope.core import events as ev
from stepscope.core.compatibility import int8_warning
from stepscope.core.metrics import BY_KEY
from stepscope.core.models import RANDOM_NOTE
from stepscope.core.result import PhaseTime, RunResult, Summary
from stepscope.core.spec import ObservedBy
from stepscope.core.statistics import bootstrap_median, median
from stepscope.runs.document import document
from stepscope.runs.store import RunRow

from . import charts, failure, format, live_chart, run_details
from .state import services

TICK_S = 0.25
_CARDS = ("time_to_first_token_ns", "itl_p50_ns", "itl_p95_ns", "tokens_per_second", "peak_rss_bytes", "weight_bytes")
_STATUS_COLOUR: dict[ev.RunStatus, Literal["gray", "blue", "green", "red", "orange"]] = {
    ev.RunStatus.QUEUED: "gray", ev.RunStatus.RUNNING: "blue", ev.RunStatus.DONE: "green",
    ev.RunStatus.FAILED: "red", ev.RunStatus.CANCELLED: "orange", ev.RunStatus.INTERRUPTED: "orange",
}  # fmt: skip
_PHASE_COLOUR = {
    ev.Phase.START: "#6B7A90", ev.Phase.CONVERT: "#A0694B", ev.Phase.COMPILE: "#8A8F2A",
    ev.Phase.LOAD: "#B98510", ev.Phase.LIVE: "#1F83C4",
    ev.Phase.WARMUP: "#7F6BC4", ev.Phase.SCORED: "#0FA27A", ev.Phase.REFERENCE: "#C2649A",
}  # fmt: skip


def show_run(run_id: str) -> None:
    """The run of the address; a fragment that looks four times a second until the run is final."""
    row = services().store.run(run_id)
    if row is None:
        st.warning(f"There is no run {run_id!r} here. It may have been deleted, or the link is of another StepScope.")
        return
    _title(row)
    if row.status.final:
        _body(run_id)
        _after(row)
        return
    if st.button("Cancel", key=f"cancel_{run_id}"):
        services().executor.cancel(run_id)
    st.fragment(_body, run_every=TICK_S)(run_id)


def _title(row: RunRow) -> None:
    request = row.request
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(row.status.value, color=_STATUS_COLOUR[row.status])
        if row.random_weights:
            st.badge(RANDOM_NOTE, color="orange")
    search = "greedy" if request.search.num_beams == 1 else f"{request.search.num_beams} beams"
    st.caption(
        f"`{request.model}` · `{request.backend}` · {', '.join(request.techniques) or 'naive: no technique'} · "
        f"{search} · {request.threads} thread{'s' * (request.threads > 1)} · {len(request.inputs)} input"
        f"{'s' * (len(request.inputs) > 1)}"
    )


def _body(run_id: str) -> None:
    row = services().store.run(run_id)
    if row is None:
        st.warning("This run has been deleted.")
        return
    result = services().views.get(run_id)
    if row.status is ev.RunStatus.QUEUED:
        ahead = next((at for at, other in enumerate(services().store.queue()) if other.id == run_id), 0)
        st.info(f"Waiting: {ahead} ahead in the queue." if ahead else "Starting…")
        st.caption(result.progress)
        return
    if row.error is not None:
        failure.show_record(row.error)
    st.html(phase_strip(result.phases, running=not row.status.final))
    if result.progress:
        st.caption(result.progress)
    _output(row, result)
    _figures(row, result)
    _curve(row, result)
    if row.status.final and st.session_state.get(f"live_{run_id}"):
        st.session_state.pop(f"live_{run_id}")
        st.rerun()
    if not row.status.final:
        st.session_state[f"live_{run_id}"] = True


def phase_strip(phases: list[PhaseTime], *, running: bool) -> str:
    """A slim bar: each phase as wide as it took, with its duration below."""
    if not phases:
        return ""
    last = max(phase.end_ns or phase.start_ns for phase in phases)
    parts, labels = [], []
    for phase in phases:
        took = (phase.end_ns or last) - phase.start_ns
        name, colour = html.escape(phase.phase.value), _PHASE_COLOUR[phase.phase]
        open_end = running and phase.end_ns is None
        words = "…" if open_end else format.duration(took) if phase.end_ns else "not finished"
        parts.append(f'<div title="{name}: {words}" style="flex:{max(took, last / 1e12)} 1 6px;background:{colour}"></div>')
        labels.append(
            f'<span style="white-space:nowrap"><i style="display:inline-block;width:.7em;height:.7em;border-radius:2px;'
            f'background:{colour};margin-right:.35em"></i>{name} <b>{words}</b></span>'
        )
    return (
        f'<div style="display:flex;gap:2px;height:10px;border-radius:5px;overflow:hidden">{"".join(parts)}</div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:.2em 1.2em;font-size:.86rem;margin-top:.4em">{"".join(labels)}</div>'
    )


def _output(row: RunRow, result: RunResult) -> None:
    texts = result.texts
    for number, text in enumerate(row.request.inputs[:8]):
        with st.container(border=True, gap="xsmall"):
            st.caption(_shortened(text))
            st.text(texts[number] if number < len(texts) and texts[number] else "…" if not row.status.final else "(no text)")
    if len(row.request.inputs) > 8:
        rest = [{"input": a, "output": b} for a, b in zip(row.request.inputs, texts, strict=False)]
        with st.expander(f"All {len(row.request.inputs)} outputs"):
            st.dataframe(rest, width="stretch")


def _shortened(text: str, limit: int = 200) -> str:
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(f"\\{char}" if char in "\\`*_[]<>$#|~:" else char for char in text)


def _figures(row: RunRow, result: RunResult) -> None:
    summary = result.summary()
    provisional = not result.scored
    if provisional:
        summary = _provisional(result, summary)
    with st.container(horizontal=True, gap="small"):
        for key in _CARDS:
            metric = BY_KEY[key]
            value = getattr(summary, key)
            st.metric(metric.short, format.metric(key, value), help=f"**{metric.title}.** {metric.definition}", border=True,
                      width=108)  # fmt: skip
    if provisional and result.live_steps:
        st.caption("Provisional, of the live repetition; the scored repetitions are silent and follow.")
    elif result.scored:
        totals = [rep.total_ns for rep in result.scored]
        low, high = bootstrap_median(totals)
        st.caption(
            f"Medians of {len(totals)} scored repetition{'s' * (len(totals) > 1)}; whole generation "
            f"{format.duration(median(totals))} ({format.duration(low)} to {format.duration(high)}), "
            f"{summary.tokens} tokens, step 0 left out of ITL."
        )


def _provisional(result: RunResult, summary: Summary) -> Summary:
    ends = [step.t_ns for step in result.live_steps]
    gaps = [b - a for a, b in pairwise(ends)]
    return Summary(
        time_to_first_token_ns=ends[0] - result.live_start_ns if ends and result.live_start_ns else None,
        itl_p50_ns=round(median(gaps)) if gaps else None,
        peak_rss_bytes=max((sample.rss_bytes for sample in result.memory), default=None),
        weight_bytes=summary.weight_bytes,
    )


def _curve(row: RunRow, result: RunResult) -> None:
    if row.observed_by is ObservedBy.TOTAL:
        st.info("This runtime owns its loop and shows only the whole generation: there is no curve, and none is made up.")
        return
    start = result.live_start_ns
    if start is None:
        return
    steps = charts.StepCurve(
        row.request.backend,
        [step.t_ns - start for step in result.live_steps],
        [step.step_ns for step in result.live_steps],
        row.observed_by,
    )
    # and the last sample before: a generation may be shorter than the time between two
    first = max((at for at, sample in enumerate(result.memory) if sample.t_ns < start), default=0)
    samples = result.memory[first:]
    memory = charts.MemoryCurve(
        [max(sample.t_ns - start, 0) for sample in samples],
        [sample.rss_bytes for sample in samples],
        result.model.baseline_rss_bytes if result.model and not result.warm else None,
        result.model.weight_bytes if result.model else None,
    )
    live_chart.show(charts.live(steps, memory, row.id), key=f"live_chart_{row.id}")
    seen = {
        ObservedBy.LOOP: "Solid: StepScope's own loop called every step.",
        ObservedBy.CALLBACK: "Dashed: the runtime owns its loop and told us of each token.",
    }
    cost = result.callback_cost
    words = f" Without the callback the whole generation took {100 * -cost:+.1f} %." if cost is not None else ""
    st.caption(f"The live repetition, which is watched and not scored. {seen[row.observed_by]}{words}")


def _after(row: RunRow) -> None:
    """What only a final run has: agreement, repetitions, details, link and download."""
    result = services().views.get(row.id)
    _agreement(row, result)
    if row.observed_by is not ObservedBy.TOTAL and result.scored:
        with st.expander("Scored repetitions"):
            live_chart.show(charts.repetitions(result.scored, row.observed_by, row.id), key=f"repetitions_{row.id}")
    with st.expander("Details"):
        run_details.show(row, result)
    st.caption("Link of this run")
    st.code(f"{str(st.context.url or '').split('?')[0].rstrip('/')}/?run={row.id}", language=None)
    text = json.dumps(document(row, result), indent=1, ensure_ascii=False)
    st.download_button("Download JSON", text, f"stepscope-{row.id}.json", "application/json", on_click="ignore")


def _agreement(row: RunRow, result: RunResult) -> None:
    plan = result.load_plan
    if plan is not None and (warning := int8_warning(plan, row.machine.get("isa", ()))):
        st.warning(warning)
    agreement = result.agreement
    if agreement is None:
        if result.agreement_unknown:
            st.info(f"Agreement with the reference is not known: {result.agreement_unknown}")
        return
    if agreement.first_difference_step is None:
        st.success("The tokens are identical to the reference's (transformers generate, float32).")
        return
    st.warning(
        f"The output differs from the reference's: {format.share(agreement.equal_share)} of the tokens are equal, the first "
        f"difference is at step {agreement.first_difference_step}."
    )
    with st.expander("Outputs side by side"):
        for index in agreement.differing_inputs[:8]:
            ours, theirs = st.columns(2)
            ours.caption("this run")
            ours.text(result.texts[index] if index < len(result.texts) else "")
            theirs.caption("reference")
            theirs.text(agreement.reference_texts[index] if index < len(agreement.reference_texts) else "")
