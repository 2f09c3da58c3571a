"""The table of runs and what can be done with the ticked ones."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from stepscope.core.metrics import BY_KEY
from stepscope.core.presets import PRESETS
from stepscope.runs.document import csv_text, document
from stepscope.runs.store import RunRow, Store

from . import format

PAGE = 100
_SUMMARY = ("time_to_first_token_ns", "itl_p50_ns", "tokens_per_second", "peak_rss_bytes")


def table(rows: list[RunRow]) -> list[RunRow]:
    """Draws one page of runs and returns the ticked ones. Numbers stay numbers, so that a column sorts by value."""
    frame = pd.DataFrame(
        {
            "run": [f"/?run={row.id}" for row in rows],
            "when": [format.moment(row.created_ns) for row in rows],
            "status": [row.status.value for row in rows],
            "model": [row.request.model for row in rows],
            "backend": [row.request.backend for row in rows],
            "ttft": _scaled([row.summary.time_to_first_token_ns for row in rows], 1e6),
            "itl": _scaled([row.summary.itl_p50_ns for row in rows], 1e6),
            "rate": [row.summary.tokens_per_second for row in rows],
            "memory": _scaled([row.summary.peak_rss_bytes for row in rows], 1e6),
            "agreement": _scaled([row.equal_share for row in rows], 0.01),
            "input": [row.request.inputs[0][:80] for row in rows],
            "stack": [_stack(row) for row in rows],
        }
    )
    number = st.column_config.NumberColumn
    heads = [BY_KEY[key].definition for key in _SUMMARY]
    event = st.dataframe(
        frame,
        hide_index=True,
        height="auto",
        width="stretch",
        key="history_table",
        on_select="rerun",
        selection_mode="multi-row",
        column_config={
            "run": st.column_config.LinkColumn("run", display_text=r"run=(\w+)", width="small"),
            "when": st.column_config.DatetimeColumn("when", format="YYYY-MM-DD HH:mm:ss", width="medium"),
            "status": st.column_config.TextColumn("status", width="small"),
            "ttft": number("TTFT, ms", format="%.1f", help=heads[0]),
            "itl": number("ITL p50, ms", format="%.2f", help=heads[1]),
            "rate": number("tokens/s", format="%.1f", help=heads[2]),
            "memory": number("peak, MB", format="%.0f", help=heads[3]),
            "agreement": number("agreement, %", format="%.1f", help=BY_KEY["equal_share"].definition),
        },
    )
    ticked = event["selection"]["rows"]
    return [rows[at] for at in ticked if at < len(rows)]


def _stack(row: RunRow) -> str:
    """The preset's title, or the techniques."""
    stack = (row.request.backend, row.request.techniques)
    named = next((item.title for item in PRESETS if (item.backend, item.techniques) == stack), None)
    return named or ", ".join(row.request.techniques) or "no technique"


def _scaled(values: list[int | None] | list[float | None], divisor: float) -> list[float | None]:
    return [None if value is None else value / divisor for value in values]


def actions(store: Store, rows: list[RunRow], chosen: list[RunRow]) -> None:
    """Open one, download or delete what is ticked; without ticks the downloads hold this page."""
    subject = chosen or rows
    words = f"{len(chosen)} ticked" if chosen else "this page"
    with st.container(horizontal=True):
        if len(chosen) == 1:
            st.page_link("pages/run.py", label="Open", query_params={"run": chosen[0].id})
        st.download_button(f"CSV ({words})", csv_text(subject), "stepscope-runs.csv", "text/csv", on_click="ignore")
        if chosen:
            documents = [document(row, store.result(row.id)) for row in chosen]
            text = json.dumps(documents, indent=1, ensure_ascii=False)
            st.download_button(f"JSON ({words})", text, "stepscope-runs.json", "application/json", on_click="ignore")
            if st.button(f"Delete ({words})"):
                _confirm(store, tuple(row.id for row in chosen))


@st.dialog("Delete runs")
def _confirm(store: Store, ids: tuple[str, ...]) -> None:
    st.write(f"Delete {len(ids)} run{'s' * (len(ids) > 1)} and what was measured? Their links will stop working.")
    st.caption(", ".join(ids[:20]) + (" …" if len(ids) > 20 else ""))
    if st.button("Delete for good", type="primary"):
        gone = store.delete(ids)
        st.toast(f"Deleted {gone}." + (f" {len(ids) - gone} still going on: cancel first." if gone < len(ids) else ""))
        st.rerun()
