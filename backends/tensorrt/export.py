"""Parses the graphs with TensorRT's ONNX parser and builds one engine of each. Imported inside functions only.

Needs no GPU where TensorRT for RTX is installed: the engine is then built for a named compute capability.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stepscope.conversion import onnx_graph, stepping
from stepscope.conversion.weights import Dimensions, Weights, take_apart
from stepscope.core.errors import Unavailable
from stepscope.core.plan import DType, LoadPlan
from stepscope.core.session import LoadReport, ModelSource

MAX_INPUTS, MAX_BEAMS, MAX_LENGTH, MAX_SLOTS = 64, 16, 1024, 1024
TIMING_CACHE = "tensorrt-timing.cache"


def module() -> Any:
    """tensorrt, else tensorrt_rtx: the same API."""
    try:
        import tensorrt
    except ImportError:
        import tensorrt_rtx as tensorrt
    return tensorrt


def export(plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]) -> None:
    model, _ = source.torch_model(LoadPlan(plan.model, plan.backend))
    weights = take_apart(model)
    build(weights, plan, directory, progress)


def build(weights: Weights, plan: LoadPlan, directory: Path, progress: Callable[[str], None], capability: str = "") -> None:
    """Writes encoder.engine, decoder.engine and what the host needs. capability: such as SM86, empty for this GPU.

    Raises Unavailable with the parser's or builder's own words.
    """
    kind = _numpy_type(plan.dtype)
    np.save(directory / onnx_graph.EMBEDDING, weights.embedding)
    held = weights.embedding.nbytes
    graphs = {
        onnx_graph.ENCODER: onnx_graph.encoder(weights, kind),
        onnx_graph.DECODER: onnx_graph.decoder(weights, kind=kind, k=plan.candidates),
    }
    for name, graph in graphs.items():
        onnx_graph.save(graph, directory / name)
        progress(f"Building the {Path(name).stem}'s engine")
        engine = _engine(directory / name, _shapes(name, weights.dimensions), capability)
        (directory / name).with_suffix(".engine").write_bytes(engine)
        held += (directory / name).with_suffix(onnx_graph.DATA).stat().st_size
        (directory / name).unlink()
        (directory / name).with_suffix(onnx_graph.DATA).unlink()
    report = LoadReport(held, weights.parameters, weights.dimensions.vocabulary)
    stepping.describe(directory, weights, report, gather=False)


def _numpy_type(dtype: DType) -> Any:
    if dtype is DType.BFLOAT16:
        import ml_dtypes

        return ml_dtypes.bfloat16
    return np.float16 if dtype is DType.FLOAT16 else np.float32


def _shapes(graph: str, d: Dimensions) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Least, most usual and largest shape of every input."""

    def three(make: Callable[[int, int, int, int], tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
        return make(1, 1, 1, 0), make(1, 4, 64, 64), make(MAX_INPUTS, MAX_BEAMS, MAX_LENGTH, MAX_SLOTS * 4)

    if graph == onnx_graph.ENCODER:
        return {
            "x": three(lambda n, b, length, s: (n, length, d.width)),
            "buckets": three(lambda n, b, length, s: (length, length)),
            "mask": three(lambda n, b, length, s: (n, 1, 1, length)),
        }
    shapes = {
        "x": three(lambda n, b, length, s: (n, b, d.width)),
        "buckets": three(lambda n, b, length, s: (s + b,)),
        "mask": three(lambda n, b, length, s: (n, 1, b, s + b)),
        "cross_mask": three(lambda n, b, length, s: (n, 1, 1, length)),
    }
    for at in range(d.decoder_layers):
        for what in "kv":
            shapes[f"past_{what}_{at}"] = three(lambda n, b, length, s: (n, d.heads, s, d.size))
        shapes[f"cross_k_{at}"] = three(lambda n, b, length, s: (n, d.heads, d.size, length))
        shapes[f"cross_v_{at}"] = three(lambda n, b, length, s: (n, d.heads, length, d.size))
    return shapes


def _engine(file: Path, shapes: dict[str, tuple[tuple[int, ...], ...]], capability: str) -> bytes:
    trt = module()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(file)):
        reasons = "; ".join(parser.get_error(at).desc() for at in range(parser.num_errors))
        raise Unavailable(f"TensorRT cannot read the {file.stem}: {reasons}")
    config = builder.create_builder_config()
    if capability:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    profile = builder.create_optimization_profile()
    for name, three in shapes.items():
        profile.set_shape(name, *three)
    config.add_optimization_profile(profile)
    kept = Path(os.environ.get("STEPSCOPE_HOME", file.parent)) / TIMING_CACHE
    times = trt.__name__ == "tensorrt"  # TensorRT for RTX times nothing when it builds
    if times:
        cache = config.create_timing_cache(kept.read_bytes() if kept.exists() else b"")
        config.set_timing_cache(cache, ignore_mismatch=True)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise Unavailable(
            f"TensorRT could not build the {file.stem}'s engine.", "Its last lines say why; try another weight type."
        )
    if times and (timings := config.get_timing_cache()) is not None:
        kept.write_bytes(memoryview(timings.serialize()))
    return bytes(memoryview(engine))
