"""Composes a comparison: the same inputs for up to eight stacks, from presets, earlier runs, a file or by hand."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from stepscope.core import models
from stepscope.core.comparison import ComparisonSpec
from stepscope.core.errors import RequestError, StepScopeError
from stepscope.core.inputs import read_pairs
from stepscope.core.request import MAX_BATCH, MAX_BEAMS, MAX_NEW_TOKENS, Search, split_lines
from stepscope.core.spec_files import evaluation_set
from stepscope.runs import machine
from stepscope.runs.estimate import estimate

from . import failure, format, state
from .compare_stacks import compare_stacks, of_preset
from .request_form import default_request, examples, listed

_TYPE, _SET, _UPLOAD = "Type", "Evaluation set", "Upload"
_START = ("transformers", "all_exact", "onnxruntime_int8", "fastest")
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
    found = [variant for key in _START if (variant := of_preset(key)) is not None]
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
        compare_stacks()
    try:
        spec = _spec(inputs())
        state.keep_comparison(spec)
        found = estimate(state.services().store, spec)
    except StepScopeError as error:
        failure.show_error(error)
        return None
    words = f"About **{format.duration(found.seconds * 1e9)}**, and at most **{format.size(found.memory_bytes)}** at a time."
    if found.rough:
        words += f" A rough guess, as no earlier run is known of: {', '.join(found.rough)}."
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
