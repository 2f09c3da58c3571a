"""Runs our own export of the model on OpenVINO with a stateful decoder: the caches never leave the runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stepscope.core.plan import LoadPlan
from stepscope.core.session import ModelSource, Session
from stepscope.core.spec import BackendSpec, Package

_INSTALL = "pip install -r requirements.txt"

SPEC = BackendSpec(
    key="openvino",
    title="OpenVINO",
    summary=(
        "The same export as under ONNX Runtime, compiled by OpenVINO for latency. The self-attention caches are the model's "
        "own state; a conventional beam search reorders them inside by beam index, a lazy one not at all. No torch in the "
        "process."
    ),
    honours=frozenset(
        {
            "self_kv_cache",
            "cross_kv_cache",
            "beam_vectorized",
            "beam_lazy_reorder",
            "drop_finished_rows",
            "graph_optimization",
            "bf16",
            "int8_weight_only",
            "int4_weight_only",
        }
    ),
    brings=frozenset({"self_kv_cache", "cross_kv_cache", "beam_lazy_reorder", "graph_optimization"}),
    keeps_float=True,
    packages=(Package("openvino", _INSTALL), Package("onnx", _INSTALL, preload=False)),
    source="https://docs.openvino.ai",
)
CONVERSION = 1
CONVERTED_BY = ("quantization", "reorder", "keep_float")


def convert(plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]) -> None:
    from .export import export

    export(plan, source, directory, progress)


def open_session(plan: LoadPlan, source: ModelSource, progress: Callable[[str], None]) -> Session:
    from .session import OpenVinoSession

    assert source.artifact is not None
    return OpenVinoSession(source.artifact, plan)
