"""Keeps comparisons in the store's file, so that reload, restart and colleagues see the same one."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stepscope.analysis.assemble import Visit
from stepscope.core.comparison import ComparisonResult, ComparisonSpec
from stepscope.core.encoding import from_json, to_json
from stepscope.core.errors import ErrorRecord
from stepscope.core.events import RunStatus

from .rows import RunRow, from_row
from .store import Store, new_id

_LIVE = "status IN ('queued', 'running')"


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """A comparison. Times are unix nanoseconds; result: of the processes so far."""

    id: str
    created_ns: int
    ended_ns: int | None
    status: RunStatus
    spec: ComparisonSpec
    machine: dict[str, Any]
    fingerprint: str
    error: ErrorRecord | None
    result: ComparisonResult


class ComparisonStore:
    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, spec: ComparisonSpec, *, machine: dict[str, Any], fingerprint: str, owner: tuple[int, float]) -> str:
        """Queues a comparison for the executor of process ``owner`` and returns its id."""
        comparison_id = new_id()
        self._store.connection().execute(
            "INSERT INTO comparisons (id, created_ns, status, spec, digest, machine, fingerprint, owner_pid, owner_started)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            (comparison_id, time.time_ns(), RunStatus.QUEUED, json.dumps(to_json(spec)), spec.digest(),
             json.dumps(machine), fingerprint, *owner),
        )  # fmt: skip
        return comparison_id

    def resume(self, comparison_id: str, owner: tuple[int, float]) -> None:
        """Queues a final comparison again; what was measured stays."""
        self._store.connection().execute(
            f"UPDATE comparisons SET status=?, ended_ns=NULL, error=NULL, cancel_requested=0, owner_pid=?, owner_started=?"
            f" WHERE id=? AND NOT {_LIVE}",
            (RunStatus.QUEUED, *owner, comparison_id),
        )

    def start(self, comparison_id: str) -> None:
        self._store.connection().execute("UPDATE comparisons SET status=? WHERE id=?", (RunStatus.RUNNING, comparison_id))

    def save(self, comparison_id: str, result: ComparisonResult) -> None:
        text = json.dumps(to_json(result), ensure_ascii=False)
        self._store.connection().execute("UPDATE comparisons SET result=? WHERE id=?", (text, comparison_id))

    def finish(self, comparison_id: str, status: RunStatus, error: ErrorRecord | None = None) -> None:
        record = json.dumps(to_json(error)) if error else None
        self._store.connection().execute(
            "UPDATE comparisons SET status=?, ended_ns=?, error=? WHERE id=?",
            (status, time.time_ns(), record, comparison_id),
        )

    def get(self, comparison_id: str) -> ComparisonRow | None:
        row = self._store.connection().execute("SELECT * FROM comparisons WHERE id=?", (comparison_id,)).fetchone()
        return _from_row(row) if row else None

    def newest(self, limit: int = 50) -> list[ComparisonRow]:
        """Without their results, which are long."""
        query = (
            "SELECT id, created_ns, ended_ns, status, spec, machine, fingerprint, error, NULL AS result FROM comparisons"
            " ORDER BY created_ns DESC LIMIT ?"
        )
        return [_from_row(row) for row in self._store.connection().execute(query, (limit,))]

    def runs(self, comparison_id: str) -> list[tuple[str, int, RunRow]]:
        """Variant, round and run of every process, in the order of measuring; round -1 is no process of it."""
        query = "SELECT * FROM runs WHERE comparison=? AND round>=0 ORDER BY created_ns, id"
        found = self._store.connection().execute(query, (comparison_id,))
        return [(row["variant"], row["round"], from_row(row)) for row in found]

    def visit(self, name: str, round_: int, row: RunRow) -> Visit:
        """A final process with what it measured."""
        error = f"{row.error.message} {row.error.action}".strip() if row.error else ""
        isa = tuple(row.machine.get("isa", ()))
        result = self._store.result(row.id)
        return Visit(name, round_, row.id, row.status, error, row.fingerprint, isa, row.observed_by, result)

    def delete(self, comparison_id: str) -> None:
        """With its processes; one that goes on is left."""
        self._store.connection().execute(f"DELETE FROM comparisons WHERE id=? AND NOT {_LIVE}", (comparison_id,))

    def request_cancel(self, comparison_id: str) -> None:
        self._store.connection().execute(
            f"UPDATE comparisons SET cancel_requested=1 WHERE id=? AND {_LIVE}", (comparison_id,)
        )

    def cancel_requested(self, comparison_id: str) -> bool:
        query = "SELECT cancel_requested FROM comparisons WHERE id=?"
        row = self._store.connection().execute(query, (comparison_id,)).fetchone()
        return bool(row and row[0])

    def mark_interrupted(self, owner_alive: Callable[[int, float], bool]) -> None:
        query = f"SELECT id, owner_pid, owner_started FROM comparisons WHERE {_LIVE}"
        for row in self._store.connection().execute(query).fetchall():
            if not owner_alive(row[1], row[2]):
                words = "The dashboard ended while this comparison went on."
                self.finish(row["id"], RunStatus.INTERRUPTED, ErrorRecord("interrupted", words, "Press Go on."))


def _from_row(row: sqlite3.Row) -> ComparisonRow:
    return ComparisonRow(
        row["id"],
        row["created_ns"],
        row["ended_ns"],
        RunStatus(row["status"]),
        from_json(ComparisonSpec, json.loads(row["spec"])),
        json.loads(row["machine"]),
        row["fingerprint"],
        from_json(ErrorRecord, json.loads(row["error"])) if row["error"] else None,
        from_json(ComparisonResult, json.loads(row["result"])) if row["result"] else ComparisonResult(),
    )
