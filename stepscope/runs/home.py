"""Says where runs and converted models are kept, so that dashboard, command line and tests agree on one folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from .store import Store


def home() -> Path:
    """``$STEPSCOPE_HOME``, or the user's data folder of this platform; not created here."""
    named = os.environ.get("STEPSCOPE_HOME", "").strip()
    return Path(named).expanduser() if named else Path(platformdirs.user_data_dir("stepscope", appauthor=False))


def open_store() -> Store:
    """The store of ``home()``, created and migrated when needed."""
    return Store(home() / "runs.sqlite3")
