"""Writes the graphs, makes the caches the decoder's state and compresses weights. Imported inside functions only."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.passes import MakeStateful, Manager

from stepscope.conversion import onnx_graph, stepping
from stepscope.conversion.weights import take_apart
from stepscope.core.errors import RequestError
from stepscope.core.plan import LoadPlan, Quantization, Reorder
from stepscope.core.session import LoadReport, ModelSource

GROUP = 32


def export(plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]) -> None:
    model, _ = source.torch_model(LoadPlan(plan.model, plan.backend, threads=plan.threads))
    weights = take_apart(model)
    gather = plan.reorder is Reorder.INDEX_SELECT
    progress("Writing the ONNX graphs")
    written = directory / "onnx"  # its data stays mapped into memory while it is converted
    written.mkdir()
    onnx_graph.write(weights, written, gather=gather)
    (written / onnx_graph.EMBEDDING).rename(directory / onnx_graph.EMBEDDING)
    quantized: list[str] = []
    kept: list[str] = []
    held = (directory / onnx_graph.EMBEDDING).stat().st_size
    for name in (onnx_graph.ENCODER, onnx_graph.DECODER):
        progress(f"Converting the {Path(name).stem} for OpenVINO")
        graph = ov.Core().read_model(written / name)
        if name == onnx_graph.DECODER:
            layers = range(weights.dimensions.decoder_layers)
            manager = Manager()
            manager.register_pass(MakeStateful({f"past_{c}_{at}": f"present_{c}_{at}" for at in layers for c in "kv"}))
            manager.run_passes(graph)
        if plan.quantization is not Quantization.NONE:
            _compress(
                graph, 4 if plan.quantization is Quantization.INT4_WEIGHT_ONLY else 8, plan.keep_float, quantized, kept
            )
        file = (directory / name).with_suffix(".xml")
        ov.save_model(graph, file, compress_to_fp16=False)
        held += file.with_suffix(".bin").stat().st_size
        del graph
    shutil.rmtree(written)
    if unknown := [part for part in plan.keep_float if not any(part in layer for layer in kept)]:
        raise RequestError(
            f"No layer's name contains {' or '.join(unknown)}.", "Names are such as decoder.block.0.Dense.wo."
        )
    report = LoadReport(held, weights.parameters, weights.dimensions.vocabulary, tuple(quantized), tuple(kept))
    stepping.describe(directory, weights, report, gather=gather)


def _compress(graph: Any, bits: int, keep: tuple[str, ...], quantized: list[str], kept: list[str]) -> None:
    """Replaces each linear layer's constant by integers and scales, in the form that OpenVINO keeps compressed in memory:
    int8 with one scale per output, int4 with one per group of inputs."""
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "MatMul" or node.input_value(1).get_node().get_type_name() != "Constant":
            continue
        name = node.get_friendly_name()
        if any(part in name for part in keep):
            kept.append(name)
            continue
        weight = np.ascontiguousarray(node.input_value(1).get_node().data.T)  # [outputs, inputs]
        outputs, inputs = weight.shape
        group = GROUP if bits == 4 and inputs % GROUP == 0 else inputs
        blocks = weight.reshape(outputs, inputs // group, group)
        scale = np.maximum(np.abs(blocks).max(axis=2, keepdims=True) / (7 if bits == 4 else 127), 1e-12).astype(np.float32)
        rounded = np.clip(np.rint(blocks / scale), -8 if bits == 4 else -127, 7 if bits == 4 else 127).astype(np.int8)
        if bits == 4:
            low, high = rounded.reshape(-1)[::2] & 15, rounded.reshape(-1)[1::2] & 15
            packed = ov.Tensor(ov.Type.i4, ov.Shape(rounded.shape))
            packed.data[:] = low | (high << 4)
            constant = ops.constant(packed)
        else:
            constant = ops.constant(rounded)
        whole = ops.multiply(ops.convert(constant, np.float32), ops.constant(scale))
        if len(whole.get_output_shape(0)) == 3:
            whole = ops.reshape(whole, ops.constant(np.array([outputs, inputs])), special_zero=False)
        new = ops.matmul(node.input_value(0), whole, False, True, name=name)
        node.output(0).replace(new.output(0))
        quantized.append(name)
