"""Says in a table what a run was: how it was seen, what was converted and quantized, on what it ran."""

from __future__ import annotations

import re

import streamlit as st

from stepscope.core.result import RunResult
from stepscope.runs.store import RunRow

from . import format


def show(row: RunRow, result: RunResult) -> None:
    facts = {
        "observed by": row.observed_by.value,
        "input tokens": ", ".join(map(str, result.input_lengths)) or format.NONE,
        "worker": "warm: the model was loaded already" if result.warm else "fresh",
        "parameters": f"{result.model.parameters:,}" if result.model else format.NONE,
        "model revision": result.revision or format.NONE,
        "processor": str(row.machine.get("processor", "")),
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
    }
    if (cache := result.encoder_cache) is not None:
        seen = cache.hits + cache.misses
        facts["encoder cache"] = (
            f"{cache.hits} of {seen} inputs found ({format.share(cache.hits / seen if seen else 0)}), "
            f"{format.size(cache.held_bytes)} of {format.size(cache.limit_bytes)} held"
        )
    if (converted := result.converted) is not None:
        found = "found in the cache" if converted.hit else "made for this run"
        facts["converted model"] = f"{format.size(converted.size_bytes)} on disk, {found} ({converted.digest})"
    if (compiled := result.compiled) is not None:
        facts["compiled"] = f"{compiled.graphs} graphs before the repetitions, {compiled.recompiles} again during them"
    if (model := result.model) is not None and model.quantized:
        facts["weights"] = f"{format.size(model.weight_bytes)}; in float32 they would be {format.size(4 * model.parameters)}"
        facts["quantized layers"] = f"{len(model.quantized)}: {_by_kind(model.quantized)}"
        facts["layers kept"] = _by_kind(model.kept) or "none"
    st.table({"": list(facts), "value": list(facts.values())})


def _by_kind(names: tuple[str, ...]) -> str:
    """Layer names without their block numbers, each once."""
    return ", ".join(dict.fromkeys(re.sub(r"\b\d+\b", "N", name) for name in names))
