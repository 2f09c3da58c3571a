"""Gathers a comparison's stacks: from presets, earlier runs, a file or by hand; takes one apart."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from stepscope.core import catalog, compatibility
from stepscope.core.comparison import MAX_VARIANTS, Variant
from stepscope.core.contribution import ALL, NONE, decomposed
from stepscope.core.errors import StepScopeError
from stepscope.core.events import RunStatus
from stepscope.core.presets import LADDER, PRESETS, preset
from stepscope.core.spec_files import read_comparison
from stepscope.runs import machine
from stepscope.runs.store import RunFilter

from . import failure, state
from .stack_form import stack_form

_RECENT = 40
# On a phone too the cross stays beside what it takes out.
_UNSTACKED = """<style>.st-key-stacks [data-testid="stHorizontalBlock"] { flex-wrap: nowrap; }
.st-key-stacks [data-testid="stColumn"] { min-width: 0; }
.st-key-stacks [data-testid="stColumn"]:last-child { flex: 0 0 2.5rem; }
</style>"""


def compare_stacks() -> None:
    """Draws the stacks so far and the ways to add one."""
    st.html(_UNSTACKED)
    with st.container(key="stacks"):
        _variants()
    _add()


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


def of_preset(key: str) -> Variant | None:
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
            if st.button("Add", key="add_preset") and (variant := of_preset(key)) is not None:
                _append(variant)
                st.rerun()
            if st.button("All, from naive to native", key="add_ladder", help="Instead of the stacks above."):
                state.set_variants([variant for key in LADDER if (variant := of_preset(key)) is not None])
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
        label_visibility="collapsed", help="Without its techniques, with each alone, without each: the first eight.",
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
