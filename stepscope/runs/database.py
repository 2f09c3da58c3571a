"""Opens the SQLite file and brings its tables up to date, also when two processes do so at the same moment."""

from __future__ import annotations

import sqlite3
import time
from importlib import resources
from pathlib import Path

from stepscope.core.errors import Unavailable

_WAIT_S = 10.0


def connect(path: Path) -> sqlite3.Connection:
    """A connection in WAL mode and autocommit. Raises Unavailable when the file is no store or cannot be written."""
    db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
    db.row_factory = sqlite3.Row
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;")
            return db
        except sqlite3.OperationalError as error:
            # Changing to WAL does not wait for the other process that is just doing it, whatever the timeout says.
            if "locked" not in str(error) or time.monotonic() > deadline:
                db.close()
                raise Unavailable(f"The store {path} cannot be opened: {error}.", _ACTION) from None
            time.sleep(0.02)
        except sqlite3.DatabaseError as error:
            db.close()
            raise Unavailable(f"The store {path} cannot be opened: {error}.", _ACTION) from None


_ACTION = "Check the file, or name another folder in STEPSCOPE_HOME."


def migrate(db: sqlite3.Connection) -> None:
    """Applies the numbered scripts that this file has not seen; each is one transaction with its number.

    Raises Unavailable for a file that a newer StepScope has written.
    """
    folder = resources.files("stepscope.runs") / "migrations"
    scripts = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    if _version(db) > len(scripts):
        raise Unavailable("The store was written by a newer StepScope.", "Update, or name another STEPSCOPE_HOME.")
    for number, script in enumerate(scripts, 1):
        if _version(db) >= number:
            continue
        try:
            db.executescript(f"BEGIN IMMEDIATE;{script.read_text('utf-8')};PRAGMA user_version={number};COMMIT;")
        except sqlite3.OperationalError:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if _version(db) < number:  # not: the other process was faster
                raise


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
