"""The JSON document of a run, the same for download and command line; docs/cli.md describes it."""

from __future__ import annotations

import csv
import io
from typing import Any

from stepscope.core.encoding import to_json
from stepscope.core.result import RunResult, Summary

from .store import RunRow

SCHEMA_VERSION = 1
_COLUMNS = (
    "run_id", "created_ns", "status", "model", "backend", "techniques", "num_beams", "inputs", "threads", "device",
    "observed_by", "fingerprint", *Summary.__dataclass_fields__, "equal_share", "first_difference_step",
)  # fmt: skip


def document(row: RunRow, result: RunResult) -> dict[str, Any]:
    """Durations are integer ``*_ns``, sizes integer ``*_bytes``; a value that was not measured is null."""
    model, peak = result.model, result.peak
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": row.id,
        "status": row.status.value,
        "created_ns": row.created_ns,
        "started_ns": row.started_ns,
        "ended_ns": row.ended_ns,
        "request": to_json(row.request),
        "request_digest": row.digest,
        "load_plan": to_json(result.load_plan),
        "decode_plan": to_json(result.decode_plan),
        "observed_by": row.observed_by.value,
        "revision": result.revision,
        "random_weights": row.random_weights,
        "warm": result.warm,
        "versions": result.versions,
        "machine": row.machine,
        "fingerprint": row.fingerprint,
        "phases": [
            {"phase": phase.phase.value, "start_ns": phase.start_ns, "duration_ns": phase.duration_ns}
            for phase in result.phases
        ],
        "input_tokens": list(result.input_lengths),
        "repetitions": [to_json(repetition) for repetition in result.repetitions],
        "callback_cost": result.callback_cost,
        "memory": {
            "samples": [{"t_ns": sample.t_ns, "rss_bytes": sample.rss_bytes} for sample in result.memory],
            "baseline_rss_bytes": model.baseline_rss_bytes if model else None,
            "loaded_rss_bytes": model.rss_bytes if model else None,
            "peak_rss_bytes": peak.peak_rss_bytes if peak else None,
            "generation_peak_rss_bytes": peak.generation_peak_rss_bytes if peak else None,
            "device_peak_bytes": peak.device_peak_bytes if peak else None,
            "weight_bytes": model.weight_bytes if model else None,
        },
        "converted": to_json(result.converted),
        "compiled": to_json(result.compiled),
        "quantized": list(model.quantized) if model else [],
        "kept": list(model.kept) if model else [],
        "encoder_cache": to_json(result.encoder_cache),
        "agreement": to_json(result.agreement),
        "agreement_unknown": result.agreement_unknown,
        "summary": to_json(result.summary()),
        "error": to_json(row.error),
    }


def csv_text(rows: list[RunRow]) -> str:
    """One line a run, for History's download."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for row in rows:
        request = row.request
        writer.writerow(
            (row.id, row.created_ns, row.status.value, request.model, request.backend, " ".join(request.techniques),
             request.search.num_beams, len(request.inputs), request.threads, request.device, row.observed_by.value,
             row.fingerprint, *to_json(row.summary).values(), row.equal_share, row.first_difference_step)
        )  # fmt: skip
    return out.getvalue()
