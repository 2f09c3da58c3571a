"""Composes the stack: preset, backend and techniques by stage, with the reason for whatever cannot be chosen."""

from __future__ import annotations

import streamlit as st

from stepscope.core import catalog
from stepscope.core.compatibility import reasons_against
from stepscope.core.presets import PRESETS
from stepscope.core.spec import BackendSpec, Stage, TechniqueSpec

from . import state

_STAGES = {Stage.LOAD: "Load", Stage.ENCODE: "Encode", Stage.STEP: "Decode step", Stage.DECODE: "Search"}
_WRAPPED = f"<style>.st-key-{state.PRESET} [data-testid='stButtonGroup'] > div {{ flex-wrap: wrap; }}</style>"
_NONE = {"beam search": "naive (default)", "weights": "float32 (as they are)"}


def stack_form() -> None:
    """Draws the choices, which live in session state."""
    found = catalog.backends()
    usable = {key: entry.spec for key, entry in found.items() if entry.spec is not None and not entry.reason}
    if (asked := st.session_state[state.BACKEND]) not in usable:
        reason = found[asked].reason if asked in found else "it is not installed"
        st.warning(f"The backend {asked} cannot be used here: {reason} Its techniques that PyTorch can do are kept.")
        st.session_state[state.BACKEND], st.session_state[state.PRESET] = "pytorch", None
    presets = [item for item in PRESETS if item.backend in usable]
    titles = {item.key: item.title for item in presets}
    about = "\n".join(f"- **{item.title}**: {item.summary}" for item in presets)
    st.html(_WRAPPED)
    st.pills(
        "Stack", list(titles), format_func=titles.__getitem__, key=state.PRESET, on_change=state.apply_preset, help=about
    )
    backend = usable[st.session_state[state.BACKEND]]
    count = len(state.chosen_techniques())
    with st.expander(f"{backend.title}, {count} technique{'s' * (count != 1)}"):
        st.selectbox(
            "Backend",
            list(usable),
            format_func=lambda key: usable[key].title,
            key=state.BACKEND,
            on_change=state.forget_preset,
            help="\n".join(f"- **{spec.title}**: {spec.summary}" for spec in usable.values()),
        )
        device = st.session_state.get(state.DEVICE, "cpu")
        for stage, specs in state.stages().items():
            if specs:
                st.caption(f"**{_STAGES[stage]}**")
                _stage(specs, backend, device)


def _stage(specs: list[TechniqueSpec], backend: BackendSpec, device: str) -> None:
    groups: dict[str, list[TechniqueSpec]] = {}
    for spec in specs:
        if spec.group:
            groups.setdefault(spec.group, []).append(spec)
            continue
        reasons, always = reasons_against(spec, backend, device), spec.key in backend.brings
        key = state.technique_key(spec.key)
        if reasons or always:
            st.session_state[key] = always
        title = f"{spec.title} (always on here)" if always else spec.title
        st.toggle(
            title, key=key, disabled=bool(reasons) or always, on_change=state.forget_preset, help=_about(spec, reasons)
        )
    for group, members in groups.items():
        against = {spec.key: reasons_against(spec, backend, device) for spec in members}
        options = {spec.key: spec for spec in members if not against[spec.key]}
        key = state.group_key(group)
        if st.session_state.get(key) not in options:
            st.session_state[key] = ""
        own = next((spec.title for spec in members if spec.key in backend.brings), None)
        nothing = f"{own} (default here)" if own else _NONE.get(group, "none")
        st.selectbox(
            group.capitalize(),
            ["", *sorted(options)],
            format_func={"": nothing, **{k: spec.title for k, spec in options.items()}}.__getitem__,
            key=key,
            disabled=not options,
            on_change=state.forget_preset,
            help="\n\n".join(_about(spec, against[spec.key]) for spec in members),
        )
        if not options:
            st.caption(next(iter(against.values()))[0])


def _about(spec: TechniqueSpec, reasons: list[str]) -> str:
    exact = "Exact: the tokens stay the same." if spec.exact else "Not exact: tokens may change."
    why = f"\n\n**Cannot be chosen:** {' '.join(reasons)}" if reasons else ""
    return f"**{spec.title}.** {spec.summary}\n\n*Cost:* {spec.cost} {exact}{why}"
