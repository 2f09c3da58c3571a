"""Techniques: the catalog, with what each technique does, costs and comes from, and which backend can do it."""

import streamlit as st

from stepscope.core import catalog
from stepscope.core.compatibility import goes
from stepscope.core.presets import PRESETS
from stepscope.ui import state

_MARK = {True: "✓", False: "–"}

state.services()
st.title("Techniques")
st.caption("Each is one file. Exact techniques leave the tokens unchanged, and a test holds them to it.")

backends = {key: entry for key, entry in catalog.backends().items() if entry.spec is not None}
techniques = [spec for specs in state.stages().values() for spec in specs]

st.subheader("What goes with what")
st.dataframe(
    {
        "technique": [spec.title for spec in techniques],
        "stage": [spec.stage.value for spec in techniques],
        "exact": [_MARK[spec.exact] for spec in techniques],
    }
    | {
        entry.spec.title: [_MARK[goes(spec, entry.spec)] for spec in techniques]
        for entry in backends.values()
        if entry.spec is not None
    },
    hide_index=True,
    width="stretch",
    height="content",
)

for stage, specs in state.stages().items():
    if not specs:
        continue
    st.subheader(f"Stage: {stage.value}")
    for spec in specs:
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{spec.title}** `{spec.key}`")
                st.badge("exact" if spec.exact else "may change tokens", color="green" if spec.exact else "orange")
                if spec.devices != {"cpu", "cuda"}:
                    st.badge(f"{' and '.join(sorted(spec.devices))} only", color="gray")
            st.write(spec.summary)
            able = [entry.spec.title for entry in backends.values() if entry.spec and goes(spec, entry.spec)]
            st.caption(f"With: {', '.join(able)}.")
            needs = f" Needs {', '.join(sorted(spec.requires))}." if spec.requires else ""
            st.caption(f"Cost: {spec.cost}{needs} Source: {spec.source}.")

st.subheader("Backends")
for entry in catalog.backends().values():
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**{entry.spec.title if entry.spec else entry.key}** `{entry.key}`")
        if entry.spec:
            st.write(entry.spec.summary)
            beams = (
                "" if entry.spec.observed_by == entry.spec.observed_by_beams else f", beams {entry.spec.observed_by_beams}"
            )
            st.caption(
                f"Devices: {', '.join(sorted(entry.spec.devices))}. Steps observed by: {entry.spec.observed_by}{beams}. "
                f"{entry.spec.own_beam_search} Source: {entry.spec.source}"
            )
        if entry.reason:
            st.warning(f"Cannot be used here: {entry.reason}")

st.subheader("Presets")
for preset in PRESETS:
    st.markdown(f"**{preset.title}** `{preset.key}`: {preset.summary}")
    st.caption(f"{preset.backend}: {', '.join(preset.techniques) or 'no technique'}")

broken = [entry for entry in catalog.techniques().values() if entry.reason]
for entry in broken:
    st.warning(f"The technique {entry.key} cannot be loaded: {entry.reason}")
