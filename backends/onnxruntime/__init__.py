"""Runs our own ONNX export of the model on ONNX Runtime, one decode step per call, caches left where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stepscope.core.plan import LoadPlan
from stepscope.core.session import ModelSource, Session
from stepscope.core.spec import BackendSpec, Package

_INSTALL = "pip install -r requirements.txt"

SPEC = BackendSpec(
    key="onnxruntime",
    title="ONNX Runtime",
    summary=(
        "An export made for the decode step: fused query, key and value projections, top-k inside the graph, embedding "
        "rows looked up on the host, caches passed from step to step as they lie. The encoder hands over the "
        "cross-attention keys and values of all layers. No torch in the process."
    ),
    honours=frozenset(
        {
            "self_kv_cache",
            "cross_kv_cache",
            "encoder_cache",
            "beam_vectorized",
            "beam_lazy_reorder",
            "drop_finished_rows",
            "graph_optimization",
            "int8_dynamic",
            "int8_static",
            "int8_weight_only",
            "int4_weight_only",
        }
    ),
    brings=frozenset({"self_kv_cache", "cross_kv_cache", "beam_lazy_reorder"}),
    keeps_float=True,
    packages=(
        Package("onnxruntime", _INSTALL),
        Package("onnx", _INSTALL, preload=False),
    ),
    source="https://onnxruntime.ai",
)
CONVERSION = 1
CONVERTED_BY = ("quantization", "reorder", "keep_float", "calibration")


def convert(plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]) -> None:
    from .export import export

    export(plan, source, directory, progress)


def open_session(plan: LoadPlan, source: ModelSource, progress: Callable[[str], None]) -> Session:
    from .session import OnnxSession

    assert source.artifact is not None
    return OnnxSession(source.artifact, plan)
