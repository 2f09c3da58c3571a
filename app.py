"""The page table; started by ``streamlit run app.py``."""

import streamlit as st

st.set_page_config(page_title="StepScope", page_icon="🔬", layout="wide", initial_sidebar_state="auto")

st.navigation(
    [
        st.Page("pages/run.py", title="Run", default=True),
        st.Page("pages/history.py", title="History", url_path="history"),
        st.Page("pages/techniques.py", title="Techniques", url_path="techniques"),
        st.Page("pages/machine.py", title="Machine", url_path="machine"),
    ],
    position="top",
).run()
