"""Writes the graphs and quantizes them with ONNX Runtime's own tools. Imported inside functions only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from stepscope.conversion import onnx_graph, stepping
from stepscope.conversion.weights import take_apart
from stepscope.core.plan import LoadPlan, Quantization, Reorder
from stepscope.core.session import LoadReport, ModelSource


def export(plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]) -> None:
    model, _ = source.torch_model(LoadPlan(plan.model, plan.backend, threads=plan.threads))
    weights = take_apart(model)
    gather = plan.reorder is Reorder.INDEX_SELECT
    progress("Writing the ONNX graphs")
    onnx_graph.write(weights, directory, gather=gather)
    report = LoadReport(weight_bytes(directory), weights.parameters, weights.dimensions.vocabulary)
    stepping.describe(directory, weights, report, gather=gather)
    if plan.quantization is Quantization.NONE:
        return
    from .quantize import quantize

    quantized, kept = quantize(plan, source, directory, progress)
    report = LoadReport(weight_bytes(directory), weights.parameters, weights.dimensions.vocabulary, quantized, kept)
    stepping.describe(directory, weights, report, gather=gather)


def weight_bytes(directory: Path) -> int:
    """Bytes of both graphs' arrays and of the embedding table."""
    graphs = [onnx.load(directory / name, load_external_data=False) for name in (onnx_graph.ENCODER, onnx_graph.DECODER)]
    return sum(_bytes(array) for g in graphs for array in g.graph.initializer) + (
        (directory / onnx_graph.EMBEDDING).stat().st_size
    )


def _bytes(array: Any) -> int:
    count = 1
    for size in array.dims:
        count *= size
    bits = {onnx.TensorProto.FLOAT: 32, onnx.TensorProto.INT64: 64, onnx.TensorProto.INT32: 32, onnx.TensorProto.INT4: 4}
    return count * bits.get(array.data_type, 8) // 8
