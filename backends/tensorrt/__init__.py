"""Builds TensorRT engines from our own export and steps them with the caches on the GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stepscope.core.plan import LoadPlan
from stepscope.core.session import ModelSource, Session
from stepscope.core.spec import BackendSpec, Package

_INSTALL = "pip install -r requirements-tensorrt.txt"

SPEC = BackendSpec(
    key="tensorrt",
    title="TensorRT",
    summary=(
        "The same export as under ONNX Runtime, built into engines with one optimization profile for batch, beams and "
        "lengths. TensorRT for data-centre GPUs, or TensorRT for RTX, whose builder also runs without a GPU."
    ),
    honours=frozenset(
        {
            "self_kv_cache",
            "cross_kv_cache",
            "beam_lazy_reorder",
            "drop_finished_rows",
            "graph_optimization",
            "bf16",
            "fp16",
        }
    ),
    brings=frozenset({"self_kv_cache", "cross_kv_cache", "beam_lazy_reorder", "graph_optimization"}),
    packages=(
        Package("tensorrt", _INSTALL, instead=("tensorrt_rtx",)),
        Package("torch", "pip install -r requirements.txt"),
        Package("onnx", "pip install -r requirements.txt", preload=False),
    ),
    devices=frozenset({"cuda"}),
    source="https://developer.nvidia.com/tensorrt, https://developer.nvidia.com/tensorrt-rtx",
)
CONVERSION = 1
CONVERTED_BY = ("dtype", "candidates")


def convert(plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]) -> None:
    from .export import export

    export(plan, source, directory, progress)


def open_session(plan: LoadPlan, source: ModelSource, progress: Callable[[str], None]) -> Session:
    from .session import EngineSession

    assert source.artifact is not None
    return EngineSession(source.artifact, plan)
