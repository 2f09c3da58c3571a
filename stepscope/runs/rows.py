"""The shape of a stored run and its way from and to database columns, apart from the queries that use it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from stepscope.core import events as ev
from stepscope.core.encoding import from_json, to_json
from stepscope.core.errors import ErrorRecord
from stepscope.core.request import RunRequest
from stepscope.core.result import RunResult, Summary
from stepscope.core.spec import ObservedBy

SUMMARY_COLUMNS = (
    "time_to_first_token_ns", "itl_p50_ns", "itl_p95_ns", "tokens_per_second", "total_ns", "tokens",
    "peak_rss_bytes", "weight_bytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run without its events. Times are unix nanoseconds; summary fields are None until measured."""

    id: str
    created_ns: int
    started_ns: int | None
    ended_ns: int | None
    status: ev.RunStatus
    request: RunRequest
    digest: str
    machine: dict[str, Any]
    fingerprint: str
    observed_by: ObservedBy
    random_weights: bool
    error: ErrorRecord | None
    summary: Summary
    equal_share: float | None
    first_difference_step: int | None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """text: substring of id, model, backend, techniques or input; empty fields do not filter. Processes of comparisons are
    never found: they are their comparison's."""

    text: str = ""
    statuses: tuple[ev.RunStatus, ...] = ()
    models: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()

    def clause(self) -> tuple[str, list[str]]:
        """A WHERE clause and its values."""
        parts, values = ["comparison IS NULL"], []
        if self.text:
            columns = ("id", "model", "backend", "techniques", "preview")
            parts.append("(" + " OR ".join(f"{column} LIKE ? ESCAPE '\\'" for column in columns) + ")")
            escaped = self.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            values += [f"%{escaped}%"] * len(columns)
        for column, wanted in (("status", self.statuses), ("model", self.models), ("backend", self.backends)):
            if wanted:
                parts.append(f"{column} IN ({','.join('?' * len(wanted))})")
                values += list(wanted)
        return "WHERE " + " AND ".join(parts), values


def from_row(row: sqlite3.Row) -> RunRow:
    return RunRow(
        id=row["id"],
        created_ns=row["created_ns"],
        started_ns=row["started_ns"],
        ended_ns=row["ended_ns"],
        status=ev.RunStatus(row["status"]),
        request=from_json(RunRequest, json.loads(row["request"])),
        digest=row["digest"],
        machine=json.loads(row["machine"]),
        fingerprint=row["fingerprint"],
        observed_by=ObservedBy(row["observed_by"]),
        random_weights=bool(row["random_weights"]),
        error=from_json(ErrorRecord, json.loads(row["error"])) if row["error"] else None,
        summary=Summary(**{name: row[name] for name in SUMMARY_COLUMNS}),
        equal_share=row["equal_share"],
        first_difference_step=row["first_difference_step"],
    )


def final_columns(result: RunResult, error: ErrorRecord | None) -> dict[str, str | int | float | None]:
    """What becomes known when a run ends, by column."""
    summary, agreement = result.summary(), result.agreement
    return {
        "error": json.dumps(to_json(error)) if error else None,
        "equal_share": agreement.equal_share if agreement else None,
        "first_difference_step": agreement.first_difference_step if agreement else None,
        **{name: getattr(summary, name) for name in SUMMARY_COLUMNS},
    }
