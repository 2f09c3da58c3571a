"""Offers a variant to be taken home: its script with all it needs, or its configuration."""

from __future__ import annotations

import streamlit as st

from stepscope.core.spec_files import to_toml
from stepscope.runs.bundle import SCRIPT, bundle, requirements
from stepscope.runs.comparison_store import ComparisonRow

from .state import services


def show(row: ComparisonRow) -> None:
    names = [variant.name for variant in row.result.variants if variant.process_ns]
    if not names:
        return
    with st.expander("Use this stack"):
        quickest = min(names, key=lambda name: _total(row, name))
        name = st.selectbox("Variant", names, index=names.index(quickest), key=f"use_{row.id}")
        spec, found = row.spec, row.result.variant(name)
        request = spec.request(spec.variant(name), 1)
        converted = services().store.result(found.run_ids[-1]).converted if found is not None else None
        digest = converted.digest if converted else ""
        st.caption(
            "A zip with a script, the modules it imports, its pinned requirements, the model and its converted form: unpack "
            "it anywhere, install the requirements and run it."
        )
        with st.container(horizontal=True):
            st.download_button(
                "Script and model", lambda: bundle(request, digest), f"stepscope-{row.id}-stack.zip", "application/zip",
                on_click="ignore", type="primary",
            )  # fmt: skip
            st.download_button(
                "Configuration", to_toml(request), f"stepscope-{row.id}-stack.toml", "application/toml", on_click="ignore",
                help="For `python -m stepscope run --request FILE`, and for the Run page.",
            )  # fmt: skip
        st.code(SCRIPT, language="python")
        st.caption("requirements.txt")
        st.code(requirements(request.backend, converted=bool(digest)), language=None)


def _total(row: ComparisonRow, name: str) -> int:
    found = row.result.variant(name)
    return (found.summary.total_ns if found else None) or 1 << 62
