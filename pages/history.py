"""History: every run that was kept; filter, sort, open, delete, download."""

import streamlit as st

from stepscope.core.events import RunStatus
from stepscope.runs.store import RunFilter
from stepscope.ui import history, state

store = state.services().store
st.title("History")

text, status, model, backend = st.columns([3, 2, 2, 2])
where = RunFilter(
    text=text.text_input("Search", key="q", bind="query-params", placeholder="id, input, model, technique"),
    statuses=tuple(RunStatus(v) for v in status.multiselect("Status", [s.value for s in RunStatus], key="status")),
    models=tuple(model.multiselect("Model", store.distinct("model"), key="model")),
    backends=tuple(backend.multiselect("Backend", store.distinct("backend"), key="backend")),
)
total = store.count(where)
if not total:
    st.info("No run matches." if where != RunFilter() else "No run yet. Start one on the Run page.")
    st.page_link("pages/run.py", label="Run")
    st.stop()

pages = -(-total // history.PAGE)
page = st.number_input(f"Page of {pages:,}", 1, pages, key="page", bind="query-params") if pages > 1 else 1
rows = store.runs(where, limit=history.PAGE, offset=(page - 1) * history.PAGE)
chosen = history.table(rows)
st.caption(f"{total:,} run{'s' * (total > 1)}. A column's head sorts this page; tick rows to act on them.")
history.actions(store, rows, chosen)
