"""Keeps every run in one SQLite file: the only channel between a run and a page, so that any browser sees the same.

Events are appended while a run goes on, in batches of JSON lines; a killed dashboard leaves the finished part behind.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from stepscope.core import events as ev
from stepscope.core.encoding import to_json
from stepscope.core.errors import ErrorRecord, Unavailable
from stepscope.core.request import RunRequest
from stepscope.core.result import RunResult
from stepscope.core.spec import ObservedBy

from . import database
from .rows import RunFilter, RunRow, final_columns, from_row

__all__ = ["RunFilter", "RunRow", "Store"]

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no characters that are read for one another
_LIVE = "status IN ('queued', 'running')"


def new_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


class Store:
    """One SQLite file in WAL mode; every thread gets its own connection. Raises Unavailable when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"The folder {path.parent} cannot be made: {error}.", "Set STEPSCOPE_HOME.") from None
        self.path = path
        self._local = threading.local()
        database.migrate(self.connection())

    def connection(self) -> sqlite3.Connection:
        """This thread's own."""
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = database.connect(self.path)
        return db

    def close(self) -> None:
        """Closes this thread's connection."""
        if (db := getattr(self._local, "db", None)) is not None:
            db.close()
            self._local.db = None

    def create(
        self,
        request: RunRequest,
        *,
        machine: dict[str, Any],
        fingerprint: str,
        observed_by: ObservedBy,
        owner: tuple[int, float],
        part_of: tuple[str, str, int] | None = None,
    ) -> str:
        """Queues a run for the executor of process ``owner`` (pid, start time) and returns its id.

        part_of: comparison, variant and round of a process of a comparison; round -1 for what only looks into it.
        """
        run_id = new_id()
        self.connection().execute(
            "INSERT INTO runs (id, created_ns, status, model, backend, techniques, device, num_beams, inputs, preview,"
            " request, digest, machine, fingerprint, observed_by, random_weights, owner_pid, owner_started,"
            " comparison, variant, round) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (run_id, time.time_ns(), ev.RunStatus.QUEUED, request.model, request.backend,
             json.dumps(request.techniques), request.device, request.search.num_beams, len(request.inputs),
             request.inputs[0][:120], json.dumps(to_json(request)), request.digest(), json.dumps(machine), fingerprint,
             observed_by, request.model.startswith("random:"), *owner, *(part_of or (None, None, None))),
        )  # fmt: skip
        return run_id

    def start(self, run_id: str) -> None:
        self.connection().execute(
            "UPDATE runs SET status=?, started_ns=? WHERE id=?", (ev.RunStatus.RUNNING, time.time_ns(), run_id)
        )

    def append(self, run_id: str, events: Sequence[ev.Event]) -> None:
        """Adds events in their order; one row for the whole batch."""
        if events:
            lines = "\n".join(ev.encode(event) for event in events)
            self.connection().execute(
                "INSERT INTO events SELECT ?, COALESCE(MAX(seq), 0) + 1, ? FROM events WHERE run_id=?",
                (run_id, lines, run_id),
            )

    def finish(self, run_id: str, status: ev.RunStatus, result: RunResult, error: ErrorRecord | None = None) -> None:
        """Makes the run final, with the summary that History shows."""
        columns = final_columns(result, error)
        sets = ", ".join(f"{name}=?" for name in columns)
        self.connection().execute(
            f"UPDATE runs SET status=?, ended_ns=?, {sets} WHERE id=?",
            (status, time.time_ns(), *columns.values(), run_id),
        )

    def run(self, run_id: str) -> RunRow | None:
        row = self.connection().execute("SELECT * FROM runs WHERE id=?", (run_id,)).fetchone()
        return from_row(row) if row else None

    def events(self, run_id: str, after: int = 0) -> tuple[list[ev.Event], int]:
        """Events of the batches after number ``after``, and the number of the last batch."""
        rows = self.connection().execute(
            "SELECT seq, lines FROM events WHERE run_id=? AND seq>? ORDER BY seq", (run_id, after)
        ).fetchall()  # fmt: skip
        found = [ev.decode(line) for row in rows for line in row["lines"].split("\n")]
        return found, rows[-1]["seq"] if rows else after

    def result(self, run_id: str) -> RunResult:
        return RunResult().apply(self.events(run_id)[0])

    def runs(self, where: RunFilter = RunFilter(), *, limit: int = 200, offset: int = 0) -> list[RunRow]:
        """Newest first."""
        clause, values = where.clause()
        query = f"SELECT * FROM runs {clause} ORDER BY created_ns DESC, id LIMIT ? OFFSET ?"
        return [from_row(row) for row in self.connection().execute(query, (*values, limit, offset))]

    def count(self, where: RunFilter = RunFilter()) -> int:
        clause, values = where.clause()
        return int(self.connection().execute(f"SELECT COUNT(*) FROM runs {clause}", values).fetchone()[0])

    def distinct(self, column: str) -> list[str]:
        """Values that occur, for filters; ``column`` is model or backend."""
        assert column in ("model", "backend")
        return [row[0] for row in self.connection().execute(f"SELECT DISTINCT {column} FROM runs ORDER BY 1")]

    def queue(self) -> list[RunRow]:
        """Running and queued runs, oldest first."""
        query = f"SELECT * FROM runs WHERE {_LIVE} ORDER BY status DESC, created_ns"
        return [from_row(row) for row in self.connection().execute(query)]

    def delete(self, run_ids: Iterable[str]) -> int:
        """Deletes final runs with their events and returns how many; a run that goes on is left."""
        ids = [(run_id,) for run_id in run_ids]
        # Events go with their run (ON DELETE CASCADE); deletions by cascade are not in rowcount.
        with self.connection() as db:
            db.execute("BEGIN IMMEDIATE")
            return db.executemany(f"DELETE FROM runs WHERE id=? AND NOT {_LIVE}", ids).rowcount

    def request_cancel(self, run_id: str) -> None:
        """Any process may ask; the owner's executor looks several times a second."""
        self.connection().execute(f"UPDATE runs SET cancel_requested=1 WHERE id=? AND {_LIVE}", (run_id,))

    def cancel_requested(self, run_id: str) -> bool:
        row = self.connection().execute("SELECT cancel_requested FROM runs WHERE id=?", (run_id,)).fetchone()
        return bool(row and row[0])

    def mark_interrupted(self, owner_alive: Callable[[int, float], bool]) -> list[str]:
        """Runs whose owner is gone become interrupted, with the summary of what had finished; returns their ids."""
        query = f"SELECT id, owner_pid, owner_started FROM runs WHERE {_LIVE}"
        gone = [row["id"] for row in self.connection().execute(query) if not owner_alive(row[1], row[2])]
        for run_id in gone:
            error = ErrorRecord("interrupted", "The dashboard ended while this run went on.", "Run it again.")
            self.finish(run_id, ev.RunStatus.INTERRUPTED, self.result(run_id), error)
        return gone

    def reference(self, digest: str) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...], str] | None:
        """Token ids and texts of a reference, and what computed it."""
        row = self.connection().execute("SELECT * FROM reference_tokens WHERE digest=?", (digest,)).fetchone()
        if row is None:
            return None
        token_ids = tuple(tuple(ids) for ids in json.loads(row["token_ids"]))
        return token_ids, tuple(json.loads(row["texts"])), row["made_by"]

    def save_reference(
        self, digest: str, token_ids: tuple[tuple[int, ...], ...], texts: tuple[str, ...], made_by: str
    ) -> None:
        self.connection().execute(
            "INSERT OR REPLACE INTO reference_tokens VALUES (?,?,?,?)",
            (digest, json.dumps(token_ids), json.dumps(texts), made_by),
        )
