"""Services behind the pages that carry nothing out, over a store that tests write by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from stepscope.ui import state

from .test_pages import StubExecutor


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[state.Services]:
    monkeypatch.setenv("STEPSCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(state, "Executor", StubExecutor)
    st.cache_resource.clear()
    yield state.services()
    st.cache_resource.clear()
