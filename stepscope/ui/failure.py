"""Shows what went wrong as words with the next action, never as a stack trace."""

from __future__ import annotations

import streamlit as st

from stepscope.core.errors import ErrorRecord, RequestError, StepScopeError

_TITLES = {
    "crashed": "The worker crashed",
    "timed_out": "The run took too long",
    "out_of_memory": "Out of memory",
    "protocol": "The worker wrote something unexpected",
    "unavailable": "Not available here",
    "request": "This cannot be run",
    "interrupted": "Interrupted",
}


def show_error(error: StepScopeError) -> None:
    """An error of a request that was not accepted; nothing that was typed is lost."""
    reasons = error.reasons if isinstance(error, RequestError) else (error.message,)
    st.error("\n".join(f"- {_plain(reason)}" for reason in reasons) if len(reasons) > 1 else _plain(reasons[0]))
    if error.action:
        st.caption(_plain(error.action))


def show_record(record: ErrorRecord) -> None:
    """An error of a run."""
    st.error(f"**{_TITLES.get(record.kind, 'The run failed')}.** {_plain(record.message)}")
    if record.action:
        st.caption(f"What to do: {_plain(record.action)}")
    if record.details:
        with st.expander("Last lines of the worker"):
            st.code(record.details, language=None, wrap_lines=True)


def _plain(text: str) -> str:
    """Text from outside must not become Markdown."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>$#|~:" else char for char in text)
