"""Composes a comparison: the same inputs for up to eight stacks, from presets, earlier runs, a file or by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import streamlit as st

from stepscope.core import catalog, compatibility, models
from stepscope.core.comparison import MAX_VARIANTS, ComparisonSpec, Variant
from stepscope.core.contribution import ALL, NONE, decomposed
from stepscope.core.errors import RequestError, StepScopeError
from stepscope.core.events import RunStatus
from stepscope.core.inputs import read_pairs
from stepscope.core.presets import LADDER, PRESETS, preset
from stepscope.core.request import MAX_BATCH, MAX_BEAMS, MAX_NEW_TOKENS, Search, split_lines
from stepscope.core.spec_files import evaluation_set, read_comparison
from stepscope.runs import machine
from stepscope.runs.estimate import estimate
from stepscope.runs.store import RunFilter

from . import failure, format, state
from .request_form import default_request, examples, listed
from .stack_form import stack_form

_TYPE, _SET, _UPLOAD = "Type", "Evaluation set", "Upload"
_START = ("transformers", "all_exact", "onnxruntime_int8", "fastest")
_RECENT = 40
Inputs = tuple[tuple[str, ...], tuple[str, ...]]


def prepare() -> None:
    """Fills the form: with what was in it before another page was looked at, else with a newcomer's comparison (the presets
    from transformers to the native engine, on the examples)."""
    state.fill(default_request(), listed(), "default")
    if state.C_MODEL in st.session_state:
        return
    if (kept := state.kept_comparison()) is not None:
        state.fill_comparison(kept)
        return
    model = models.default_key()
    found = [variant for key in _START if (variant := _of_preset(key)) is not None]
    texts = tuple(text for _, text in examples())
    state.fill_comparison(
        ComparisonSpec(model, texts, tuple(found), found[0].name, (), models.default_prefix(model), Search())
    )


def compare_form() -> ComparisonSpec | None:
    """Draws the form and returns the comparison when Compare was pressed."""
    left, right = st.columns([5, 6], gap="large")
    with left:
        st.subheader("The same work")
        inputs = _work()
    with right:
        st.subheader("Different stacks")
        _variants()
        _add()
    try:
        spec = _spec(inputs())
        state.keep_comparison(spec)
        found = estimate(state.services().store, spec)
    except StepScopeError as error:
        failure.show_error(error)
        return None
    words = f"About **{format.duration(found.seconds * 1e9)}**, and at most **{format.size(found.memory_bytes)}** at a time."
    if found.rough:
        words += f" A rough guess: {', '.join(found.rough)} has not been run here before."
    st.markdown(words)
    if not st.button("Compare", type="primary", width="stretch"):
        return None
    return spec


def _work() -> Callable[[], Inputs]:
    entries = [entry.key for entry in models.entries() if not entry.unavailable]
    model = st.session_state[state.C_MODEL]
    st.selectbox(
        "Model", [*entries, *([model] if model not in entries else [])], key=state.C_MODEL, accept_new_options=True,
        help="Or type a folder, or hub:OWNER/NAME.",
    )  # fmt: skip
    source = st.segmented_control("Inputs", [_TYPE, _SET, _UPLOAD], key=state.C_SOURCE, required=True, width="content")
    reader: Callable[[], Inputs] = _typed
    if source == _TYPE:
        st.text_area("Text, one input per line", key=state.C_TEXT, height=150, label_visibility="collapsed")
    elif source == _SET:
        st.number_input("First inputs of the set", 1, 1000, 20, key=state.C_FIRST)
        reader = _evaluation
    else:
        file = st.file_uploader(
            "A .tsv (source, reference), a .csv or .jsonl with the columns source and reference, or a .txt",
            type=["tsv", "csv", "jsonl", "txt"],
        )

        def uploaded() -> Inputs:
            if file is None:
                raise RequestError("There is no file yet.", "Upload one, or type sentences.")
            return read_pairs(file.name, file.getvalue())

        reader = uploaded
    one, two, three = st.columns(3)
    one.number_input("Beams", 1, MAX_BEAMS, key=state.C_BEAMS)
    two.number_input("Max new tokens", 1, MAX_NEW_TOKENS, key=state.C_TOKENS)
    three.number_input("Threads", 1, machine.usable_cores(), machine.usable_cores(), key=state.C_THREADS,
                       help="Of every stack that is added from now on.")  # fmt: skip
    st.checkbox("Exactly that many tokens", key=state.C_EXACT, help="Equal work where stacks would end at different tokens.")
    with st.expander("How it is measured"):
        one, two = st.columns(2)
        one.number_input("Processes of each, at least", 2, 20, key=state.C_PROCESSES)
        two.number_input("At most", 2, 50, key=state.C_MOST)
        one.number_input("Until intervals are within, %", 0.1, 50.0, key=state.C_PRECISION, help="Of every ratio.")
        two.number_input("Time limit, s", 5.0, 86400.0, step=60.0, key=state.C_LIMIT)
        one.number_input("Batch size", 0, MAX_BATCH, key=state.C_BATCH, help="Inputs generated together; 0: all.")
        st.checkbox("Measure the baseline twice (A/A)", key=state.C_CONTROL, help="What it differs from itself is noise.")
        st.text_input("Task prefix", key=state.C_PREFIX)
    return reader


def _typed() -> Inputs:
    found, kept = split_lines(st.session_state[state.C_TEXT]), state.kept_comparison()
    return found, kept.references if kept is not None and kept.inputs == found else ()


def _evaluation() -> Inputs:
    first = int(st.session_state[state.C_FIRST])
    sources, references = evaluation_set(st.session_state[state.C_MODEL])
    return sources[:first], references[:first]


def _spec(inputs: Inputs) -> ComparisonSpec:
    """Raises RequestError for what cannot even be estimated."""
    session, found = st.session_state, tuple(state.variants())
    if len(found) < 2:
        raise RequestError("A comparison needs at least two stacks.", "Add another one.")
    batch = int(session[state.C_BATCH]) or (16 if len(inputs[0]) > MAX_BATCH else 0)
    if not inputs[0]:
        raise RequestError("There is no input: type a sentence, or choose the evaluation set.")
    return ComparisonSpec(
        str(session[state.C_MODEL]).strip(), inputs[0], found, session[state.C_BASELINE], inputs[1],
        session[state.C_PREFIX],
        Search(int(session[state.C_BEAMS]), int(session[state.C_TOKENS]), bool(session[state.C_EXACT])), batch,
        int(session[state.C_PROCESSES]), max(int(session[state.C_MOST]), int(session[state.C_PROCESSES])),
        float(session[state.C_PRECISION]) / 100, float(session[state.C_LIMIT]), bool(session[state.C_CONTROL]),
    )  # fmt: skip


def _variants() -> None:
    """The stacks so far; one is the baseline, each can be taken out."""
    found = state.variants()
    names = [variant.name for variant in found]
    if names and st.session_state.get(state.C_BASELINE) not in names:
        st.session_state[state.C_BASELINE] = names[0]
    for at, variant in enumerate(found):
        words, out = st.columns([12, 1], vertical_alignment="center")
        stack = ", ".join(variant.techniques) or "no technique"
        threads = f"{variant.threads} thread{'s' * (variant.threads > 1)}"
        words.markdown(f"**{variant.name}**  \n:small[{catalog.backend(variant.backend).title}, {threads}: {stack}]")
        out.button("", icon=":material/close:", key=f"remove_{at}", help=f"Take out {variant.name}",
                   on_click=_remove, args=(at,), type="tertiary")  # fmt: skip
    if names:
        st.selectbox("Baseline", names, key=state.C_BASELINE, help="Ratios are to this one.")


def _remove(at: int) -> None:
    del state.variants()[at]


def _append(variant: Variant) -> None:
    found = state.variants()
    if len(found) == MAX_VARIANTS:
        st.toast(f"A comparison has at most {MAX_VARIANTS} stacks: take one out first.")
        return
    names, name, number = {each.name for each in found}, variant.name, 2
    while name in names:
        name, number = f"{variant.name} {number}", number + 1
    found.append(replace(variant, name=name))


def _of_preset(key: str) -> Variant | None:
    """None for one whose backend is not available here."""
    chosen = preset(key)
    if catalog.backends()[chosen.backend].reason:
        return None
    threads = int(st.session_state.get(state.C_THREADS, machine.usable_cores()))
    return Variant(chosen.title, chosen.backend, chosen.techniques, threads)


def _add() -> None:
    with st.expander("Add stacks"):
        preset_, earlier, hand, file = st.tabs(["Preset", "Earlier run", "By hand", "File"])
    with preset_:
        titles = {item.key: item.title for item in PRESETS if not catalog.backends()[item.backend].reason}
        key = st.selectbox("Preset", list(titles), format_func=titles.__getitem__, label_visibility="collapsed")
        with st.container(horizontal=True):
            if st.button("Add", key="add_preset") and (variant := _of_preset(key)) is not None:
                _append(variant)
                st.rerun()
            if st.button("All, from naive to native", key="add_ladder", help="Instead of the stacks above."):
                state.set_variants([variant for key in LADDER if (variant := _of_preset(key)) is not None])
                st.rerun()
    with earlier:
        _earlier()
    with hand:
        stack_form()
        if st.button("Add", key="add_hand"):
            backend, keys = st.session_state[state.BACKEND], state.chosen_techniques()
            keys = compatibility.accepted(keys, catalog.backend(backend), "cpu")
            _append(Variant(f"{catalog.backend(backend).title}", backend, keys, int(st.session_state[state.C_THREADS])))
            st.rerun()
    with file:
        upload = st.file_uploader("A comparison as TOML or JSON", type=["toml", "json"])
        if upload is not None and st.button("Fill the form", key="add_file"):
            try:
                state.refill_comparison(read_comparison(upload.name, upload.getvalue()))
                st.rerun()
            except StepScopeError as error:
                failure.show_error(error)
    found = state.variants()
    if found and (chosen := st.selectbox(
        "Explain one stack", [v.name for v in found if v.techniques], index=None, placeholder="Explain one stack…",
        label_visibility="collapsed", help="Compares it without its techniques, with each alone, and without each.",
    )):  # fmt: skip
        st.button("Take it apart", on_click=_take_apart, args=(chosen,))


def _take_apart(name: str) -> None:
    found = decomposed(next(variant for variant in state.variants() if variant.name == name))
    state.set_variants(found)
    st.session_state[state.C_BASELINE] = NONE if found[0].name == NONE else ALL


def _earlier() -> None:
    rows = state.services().store.runs(RunFilter(statuses=(RunStatus.DONE,)), limit=_RECENT)
    if not rows:
        st.caption("No run yet.")
        return
    by_id = {row.id: row for row in rows}
    chosen = st.selectbox(
        "Run", list(by_id), label_visibility="collapsed",
        format_func=lambda key: f"{key} · {by_id[key].request.backend}: {', '.join(by_id[key].request.techniques)}",
    )  # fmt: skip
    if st.button("Add", key="add_run"):
        request = by_id[chosen].request
        title = catalog.backend(request.backend).title
        _append(Variant(f"{title} {chosen}", request.backend, request.techniques, request.threads, 0, request.device,
                        request.keep_float, request.calibration))  # fmt: skip
        st.rerun()
