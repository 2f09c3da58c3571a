"""The page table; started by ``streamlit run app.py``."""

import streamlit as st

if __name__ == "__main__":  # a rerun for one browser
    st.set_page_config(page_title="StepScope", page_icon="🔬", layout="wide", initial_sidebar_state="auto")
    st.navigation(
        [
            st.Page("pages/run.py", title="Run", default=True),
            st.Page("pages/compare.py", title="Compare", url_path="compare"),
            st.Page("pages/history.py", title="History", url_path="history"),
            st.Page("pages/techniques.py", title="Techniques", url_path="techniques"),
            st.Page("pages/machine.py", title="Machine", url_path="machine"),
        ],
        position="top",
    ).run()
else:  # the server, which imports this file once
    from stepscope.ui.server import MIDDLEWARE, lifespan

    app = st.App(__file__, lifespan=lifespan, middleware=MIDDLEWARE)
