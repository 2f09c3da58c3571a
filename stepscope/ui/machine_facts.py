"""Puts the machine's facts into words: what an instruction set means for a T5, what the workers hold."""

from __future__ import annotations

from typing import Any

import streamlit as st

from stepscope.core import artifacts
from stepscope.core.spec import BackendSpec
from stepscope.runs.home import home

from . import format
from .state import Services

_MEANINGS = (
    ("AVX2", ("avx2",), "the least that fast float32 kernels want"),
    ("AVX-512", ("avx512f",), "twice the width of AVX2"),
    ("VNNI", ("avx512_vnni", "avx_vnni", "dotprod"), "int8 dot products: without it int8 mostly shrinks the weights"),
    ("AVX512-BF16", ("avx512_bf16", "bf16"), "bfloat16 products: without it (or AMX) bfloat16 is emulated and slow"),
    ("AMX", ("amx_int8", "amx_bf16"), "matrix tiles for int8 and bfloat16: large batches and long inputs"),
)


def hardware(facts: dict[str, Any]) -> dict[str, list[str]]:
    quota = facts.get("cpu_quota")
    limit = facts.get("memory_limit_bytes")
    rows = {
        "Processor": str(facts.get("processor", "")),
        "Cores": f"{facts.get('usable_cores')} usable of {facts.get('logical_cores')}"
        + (f", quota {quota}" if quota else ""),
        "L2 / L3 cache": f"{format.size(facts.get('l2_bytes'))} / {format.size(facts.get('l3_bytes'))}",
        "Memory": format.size(facts.get("memory_total_bytes")) + (f", limit {format.size(limit)}" if limit else ""),
        "Available now": format.size(facts.get("memory_available_bytes")),
        "GPU": str(facts.get("gpu") or "none"),
        "Governor": str(facts.get("governor") or "not readable"),
    }
    return {"": list(rows), "value": list(rows.values())}


def instruction_sets(facts: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """(name, whether the processor has it, what it means)."""
    has = set(facts.get("isa", ()))
    return [(name, bool(has & set(keys)), meaning) for name, keys, meaning in _MEANINGS]


def no_device(spec: BackendSpec | None, facts: dict[str, Any]) -> str:
    """Why an installed backend has nothing to run on here, empty when it has."""
    if spec is None or "cpu" in spec.devices or facts.get("gpu"):
        return ""
    return f"is installed and runs on {' and '.join(sorted(spec.devices))} only; there is no such device here."


def versions(facts: dict[str, Any]) -> dict[str, list[str]]:
    found = {"python": facts.get("python"), **facts.get("versions", {}), "StepScope": facts.get("code_revision")}
    rows = {name: str(version) for name, version in found.items() if version}
    return {"package": list(rows), "version": list(rows.values())}


@st.fragment(run_every=2.0)
def live(services: Services) -> None:
    """What goes on now."""
    queue = services.store.queue()
    st.write(f"{len(queue)} run{'s' * (len(queue) != 1)} going on or waiting.")
    for worker in services.executor.workers():
        plan = worker.load_plan
        holds = f"{plan.model} on {plan.backend}" if plan else "no model"
        st.caption(f"Worker {worker.pid}: {worker.state.value}, holds {holds}, {format.size(worker.rss_bytes)}")


def converted() -> None:
    """What lies in the conversion cache, and a way to clear it."""
    found = artifacts.listed(home())
    if not found:
        st.caption("None yet. The native engine and the runtimes convert a model once and keep it here.")
        return
    st.dataframe(
        {
            "model": [artifact.about for artifact in found],
            "size, MB": [round(artifact.bytes / 1e6, 1) for artifact in found],
            "conversion, s": [round(artifact.convert_s, 1) for artifact in found],
        },
        hide_index=True,
        height=min(38 + 35 * len(found), 300),
    )
    if st.button(f"Clear {format.size(sum(artifact.bytes for artifact in found))}"):
        artifacts.clear(home())
        st.rerun()
