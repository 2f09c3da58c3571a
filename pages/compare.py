"""Compare: several stacks on the same inputs, with a verdict; with a comparison in the address, that one."""

import streamlit as st

from stepscope.core.errors import StepScopeError
from stepscope.ui import compare_form, failure, format, live_chart, state
from stepscope.ui.compare_view import show_comparison

comparing = state.services().executor.comparing
chosen = state.comparison_id()

if chosen:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title("Comparison")
        if (row := comparing.store.get(chosen)) is not None and st.button("Edit a copy"):
            state.fill_comparison(row.spec)  # none of its widgets is drawn in this run
            del st.query_params["comparison"]
            st.rerun()
        if st.button("New"):
            del st.query_params["comparison"]
            st.rerun()
    show_comparison(chosen)
    st.stop()

st.title("Compare")
st.caption(
    "Up to eight stacks on the same inputs, in fresh processes that take turns, with a verdict that survives a sceptic."
)
compare_form.prepare()
spec = compare_form.compare_form()
if spec is not None:
    try:
        st.query_params["comparison"] = comparing.submit(spec)
        st.rerun()
    except StepScopeError as error:
        failure.show_error(error)
if rows := comparing.store.newest(10):
    st.subheader("Earlier comparisons")
    for row in rows:
        names = ", ".join(variant.name for variant in row.spec.variants)
        moment = format.moment(row.created_ns).strftime("%Y-%m-%d %H:%M")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link(
                "pages/compare.py", label=f"{moment} · {row.status.value} · {names}", query_params={"comparison": row.id}
            )
            if row.status.final:
                with st.popover("", icon=":material/delete:", type="tertiary", key=f"ask_{row.id}"):
                    st.caption("Its link will stop working.")
                    if st.button("Delete for good", key=f"delete_{row.id}"):
                        comparing.store.delete(row.id)
                        st.rerun()
live_chart.prepare()
