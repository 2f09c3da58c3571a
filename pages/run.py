"""Run: compose a stack, press Run, watch it decode; with a run in the address, that run."""

import streamlit as st

from stepscope.core.errors import StepScopeError
from stepscope.ui import failure, live_chart, state
from stepscope.ui.live_run import show_run
from stepscope.ui.request_form import default_request, listed, request_form

# On a phone the columns stack: with a run in the address its result comes first.
_RESULT_FIRST = """<style>@media (max-width: 640px) {
  .st-key-workbench [data-testid="stHorizontalBlock"]:has(.st-key-result) { flex-direction: column-reverse; }
}</style>"""

services = state.services()
run_id = state.run_id()
row = services.store.run(run_id) if run_id else None
state.fill(row.request if row else default_request(), listed(), run_id if row else "default")

if run_id:
    st.html(_RESULT_FIRST)  # before what it moves
with st.container(key="workbench"):
    left, right = st.columns([5, 8], gap="large")
with left:
    request = request_form(busy=bool(row and not row.status.final))
    if request is not None:
        try:
            new_id = services.executor.submit(request)
        except StepScopeError as error:
            failure.show_error(error)
        else:
            state.open_run(new_id)
            st.rerun()
with right, st.container(key="result"):
    if run_id:
        show_run(run_id)
    else:
        st.subheader("What makes this T5 fast, here, on your input?")
        st.markdown(
            "Choose a model, an input and a stack of techniques, and press **Run**. You will see the tokens as they are "
            "decoded, the latency and memory of every decode step, and whether the output is still the reference's.\n\n"
            "Every run has a link that a colleague can open while it goes on."
        )
        live_chart.prepare()
