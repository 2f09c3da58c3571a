"""Our own engine for the decode step: one call per step, packed weights, own threads; built on this machine at first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stepscope.core.plan import LoadPlan
from stepscope.core.session import ModelSource, Session
from stepscope.core.spec import BackendSpec, Package

SPEC = BackendSpec(
    key="native",
    title="Native",
    summary=(
        "StepScope's own T5 engine in C++ for AVX-512: a whole decode step is one call. Weights are packed in the order in "
        "which a step reads them, projections are fused, layer norms folded into the matrices; beams reorder a small book "
        "of slots instead of caches, padding is never computed. Compiled for this processor at first use."
    ),
    honours=frozenset(
        {
            "self_kv_cache",
            "cross_kv_cache",
            "beam_lazy_reorder",
            "drop_finished_rows",
            "prompt_lookup",
            "exact_head",
            "shortlist",
            "self_drafting",
            "encoder_cache",
            "bf16",
            "int8_dynamic",
            "int8_weight_only",
            "int4_weight_only",
        }
    ),
    brings=frozenset({"self_kv_cache", "cross_kv_cache", "beam_lazy_reorder"}),
    keeps_float=True,
    packages=(Package("numpy", "pip install -r requirements.txt"),),
    instructions=frozenset({"avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"}),
    tools=("g++", "clang++"),
    source="backends/native/engine.cpp; docs/decisions/0005-native-engine.md",
)
CONVERSION = 2
CONVERTED_BY = ("dtype", "quantization", "keep_float", "head", "self_draft")


def convert(plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]) -> None:
    from .packing import export

    export(plan, source, directory, progress)


def open_session(plan: LoadPlan, source: ModelSource, progress: Callable[[str], None]) -> Session:
    from .session import NativeSession

    assert source.artifact is not None
    return NativeSession(source.artifact, plan, progress)
