"""Composes a request: model, input, stack of techniques, decode settings; says why something cannot be chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import streamlit as st

from stepscope.core import models
from stepscope.core.errors import RequestError, StepScopeError
from stepscope.core.inputs import columns, read_inputs
from stepscope.core.presets import DEFAULT, preset
from stepscope.core.request import MAX_BEAMS, MAX_NEW_TOKENS, RunRequest, Search, split_lines
from stepscope.core.spec_files import read_request
from stepscope.runs import machine

from . import failure, state
from .stack_form import stack_form

_TYPE, _UPLOAD = "Type", "Upload"


@st.cache_data(ttl=30, show_spinner=False)
def _models() -> list[models.ModelEntry]:
    return models.entries()


@st.cache_data(show_spinner=False)
def examples() -> list[tuple[str, str]]:
    return models.examples()


def default_request() -> RunRequest:
    """What a newcomer's first click runs."""
    model, start = models.default_key(), preset(DEFAULT)
    return RunRequest(
        model, (examples()[0][1],), start.backend, start.techniques, models.default_prefix(model), Search(max_new_tokens=64)
    )


def listed() -> list[str]:
    return [entry.key for entry in _models()]


def request_form(busy: bool) -> RunRequest | None:
    """Draws the form and returns the request when Run was pressed and the input could be read."""
    _model()
    stack_form()
    _source()
    with st.form("request", border=False):
        texts = _input()
        search = _settings()
        request = _limits(_quantization(RunRequest("", (), search=search)))
        pressed = st.form_submit_button("Queue" if busy else "Run", type="primary", width="stretch")
    _from_file()
    if not pressed:
        return None
    try:
        return replace(
            request,
            model=_chosen_model(),
            inputs=texts(),
            backend=st.session_state[state.BACKEND],
            techniques=state.chosen_techniques(),
            prefix=st.session_state[state.PREFIX],
        )
    except StepScopeError as error:
        failure.show_error(error)
        return None


def _from_file() -> None:
    """Fills the form from a configuration; a popover, as few need it."""
    with st.popover("From a file", type="tertiary"):
        upload = st.file_uploader('A configuration as .toml or .json, as "Use this stack" gives', type=["toml", "json"])
        if upload is not None:
            st.button("Fill the form", on_click=_fill, args=(upload.name, upload.getvalue()))


def _fill(name: str, data: bytes) -> None:
    """A callback: once a widget is drawn its value cannot be set any more."""
    try:
        state.refill(read_request(name, data), listed())
    except StepScopeError as error:
        failure.show_error(error)


def _chosen_model() -> str:
    chosen = st.session_state[state.MODEL]
    return str(st.session_state[state.OTHER_MODEL]).strip() if chosen == state.OTHER else str(chosen)


def _model() -> None:
    entries = {entry.key: entry for entry in _models()}

    def title(key: str) -> str:
        if key == state.OTHER:
            return "Other folder or hub id…"
        entry = entries[key]
        note = " · not available" if entry.unavailable else " · random weights" if key.startswith("random:") else ""
        return f"{entry.title}{note}"

    def prefix() -> None:
        st.session_state[state.PREFIX] = models.default_prefix(_chosen_model())

    st.selectbox("Model", [*entries, state.OTHER], format_func=title, key=state.MODEL, on_change=prefix)
    chosen = st.session_state[state.MODEL]
    if chosen == state.OTHER:
        st.text_input(
            "Folder or hub id",
            key=state.OTHER_MODEL,
            placeholder="./my-t5  or  hub:google/flan-t5-small",
            help="A Hugging Face folder with config.json, model.safetensors and a tokenizer, or hub:OWNER/NAME[@REVISION].",
        )
    elif entries[chosen].unavailable:
        st.warning(f"Not available: {entries[chosen].unavailable}")
    elif chosen.startswith("random:"):
        st.caption(models.RANDOM_NOTE[0].upper() + models.RANDOM_NOTE[1:] + ".")


def _source() -> None:
    """Where the input comes from; outside of the form, as it changes what the form shows."""
    known = dict(examples())

    def take() -> None:
        if chosen := st.session_state[state.EXAMPLE]:
            st.session_state[state.TEXT] = "\n".join(known[title] for title in chosen)

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control("Input", [_TYPE, _UPLOAD], key=state.SOURCE, required=True, width="content")
        if st.session_state[state.SOURCE] == _TYPE:
            st.multiselect(
                "Examples", list(known), key=state.EXAMPLE, on_change=take, placeholder="Examples",
                help="Several examples, or several lines, are one batch.",
            )  # fmt: skip


def _input() -> Callable[[], tuple[str, ...]]:
    """Draws the input; what is returned reads it, and raises RequestError when an upload cannot be read."""
    if st.session_state[state.SOURCE] == _TYPE:
        st.text_area("Text, one input per line", key=state.TEXT, height=90, label_visibility="collapsed")
        return lambda: split_lines(st.session_state[state.TEXT])
    file = st.file_uploader("A .txt with one input per line, or a .csv or .jsonl", type=["txt", "csv", "jsonl"])
    st.text_input("Column", key=state.COLUMN, help="Of a .csv or .jsonl: the column that holds the inputs.")

    def read() -> tuple[str, ...]:
        if file is None:
            raise RequestError("There is no file yet.", "Upload one, or type a sentence.")
        data = file.getvalue()
        column = str(st.session_state[state.COLUMN] or "").strip() or None
        if column is None and len(found := columns(file.name, data)) > 1:
            raise RequestError(f"{file.name} has several columns: {', '.join(found)}.", "Type one into Column.")
        return read_inputs(file.name, data, column)

    return read


def _settings() -> Search:
    left, right = st.columns(2)
    with left:
        beams = st.number_input("Beams", 1, MAX_BEAMS, key=state.BEAMS, help="1 is greedy search.")
    with right:
        tokens = st.number_input("Max new tokens", 1, MAX_NEW_TOKENS, key=state.NEW_TOKENS)
    exact = st.checkbox(
        "Exactly that many tokens", key=state.EXACT, help="Suppresses the end of sequence, so that stacks do equal work."
    )
    with st.expander("Prefix and beam search"):
        st.text_input("Task prefix", key=state.PREFIX, help="Put before every input; T5 has one for each task.")
        penalty = st.number_input(
            "Length penalty", -10.0, 10.0, step=0.1, key=state.PENALTY, help="Scores are divided by length to this power."
        )
        early = st.checkbox(
            "Early stopping", key=state.EARLY, help="Stop as soon as there are as many finished hypotheses as beams."
        )
    return Search(int(beams), int(tokens), exact, float(penalty), early)


def _quantization(request: RunRequest) -> RunRequest:
    with st.expander("Quantization"):
        keep = st.text_input(
            "Layers to keep in float32", key=state.KEEP_FLOAT, placeholder="Dense.wo, lm_head",
            help="Parts of layer names, with commas between (Native, ONNX Runtime, OpenVINO); a run's details list them.",
        )  # fmt: skip
        calibration = st.text_input(
            "Calibration file", key=state.CALIBRATION, placeholder="the shipped evaluation inputs",
            help="For static quantization: a .txt, .tsv, .csv or .jsonl on this machine; its first column is used.",
        )  # fmt: skip
    parts = tuple(part.strip() for part in keep.split(",") if part.strip())
    return replace(request, keep_float=parts, calibration=calibration.strip())


def _limits(request: RunRequest) -> RunRequest:
    with st.expander("Machine and limits"):
        devices = ["cpu", "cuda"] if machine.has_gpu() else ["cpu"]
        left, right = st.columns(2)
        with left:
            threads = st.number_input("Threads", 1, machine.usable_cores(), key=state.THREADS)
            memory = st.number_input(
                "Memory limit, GB", 0.0, 1024.0, step=0.5, key=state.MEMORY_LIMIT, help="0: most of what is available now."
            )
        with right:
            repetitions = st.number_input("Scored repetitions", 1, 100, key=state.REPETITIONS)
            limit = st.number_input("Time limit, s", 1.0, 86400.0, key=state.TIME_LIMIT)
        device = st.selectbox("Device", devices, key=state.DEVICE, disabled=len(devices) == 1)
    return replace(
        request,
        threads=int(threads),
        device=device,
        repetitions=int(repetitions),
        memory_limit_bytes=int(memory * 1e9),
        time_limit_s=float(limit),
    )
