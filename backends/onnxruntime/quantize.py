"""Quantizes the exported graphs, dynamically, by blocks of weights, or statically with a calibration pass."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

from stepscope.conversion import onnx_graph
from stepscope.conversion.stepping import Host
from stepscope.core.errors import RequestError
from stepscope.core.plan import LoadPlan, Quantization
from stepscope.core.session import ModelSource, TokenBatch

GRAPHS = (onnx_graph.ENCODER, onnx_graph.DECODER)
BLOCK = 32
_STEPS, _EVERY = 24, 4  # of each calibration input: decode steps, and one in how many is recorded
_INT8_COMPUTE = 4  # accuracy_level: activations are rounded to int8 by block inside the kernel


def quantize(
    plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Replaces both graphs by their quantized form; the names of the layers that were and were not quantized."""
    logging.getLogger().setLevel(logging.ERROR)  # the quantizers warn of advice that is followed here
    names = _layers(directory)
    kept = tuple(name for name in names if any(part in name for part in plan.keep_float))
    if unknown := [part for part in plan.keep_float if not any(part in name for name in names)]:
        raise RequestError(
            f"No layer's name contains {' or '.join(unknown)}.", "Names are such as decoder.block.0.Dense.wo and lm_head."
        )
    feeds = _calibration(plan, source, directory, progress) if plan.quantization is Quantization.INT8_STATIC else {}
    for name in GRAPHS:
        progress(f"Quantizing {name.removesuffix('.onnx')} ({plan.quantization.value})")
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            target = Path(folder) / name
            _quantize_one(plan.quantization, directory / name, target, list(kept), feeds.get(name, []))
            model = onnx.load(target)
        (directory / name).with_suffix(onnx_graph.DATA).unlink()
        onnx_graph.save(model, directory / name)
    return tuple(name for name in names if name not in kept), kept


def _quantize_one(kind: Quantization, file: Path, target: Path, kept: list[str], feeds: list[dict[str, Any]]) -> None:
    if kind is Quantization.INT8_DYNAMIC:
        quantize_dynamic(
            file, target, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
            nodes_to_exclude=kept, use_external_data_format=True, extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
    elif kind is Quantization.INT8_STATIC:
        quantize_static(
            file, target, _Reader(feeds), quant_format=QuantFormat.QDQ, op_types_to_quantize=["MatMul"], per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=[*kept, *_not_linear(file)],
            use_external_data_format=True, calibrate_method=CalibrationMethod.MinMax,
            extra_options={"MatMulConstBOnly": True, "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1}},
        )  # fmt: skip
    else:
        bits = 4 if kind is Quantization.INT4_WEIGHT_ONLY else 8
        config = DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=True, accuracy_level=_INT8_COMPUTE, bits=bits)
        quantizer = MatMulNBitsQuantizer(onnx.load(file), algo_config=config, nodes_to_exclude=kept)
        quantizer.process()
        onnx.save_model(quantizer.model.model, target, save_as_external_data=True, location="weights")


def _layers(directory: Path) -> list[str]:
    graphs = [onnx.load(directory / name, load_external_data=False).graph for name in GRAPHS]
    return [node.name for graph in graphs for node in graph.node if _is_linear(node)]


def _not_linear(file: Path) -> list[str]:
    graph = onnx.load(file, load_external_data=False).graph
    return [node.name for node in graph.node if node.op_type == "MatMul" and not _is_linear(node)]


def _is_linear(node: Any) -> bool:
    return bool(node.op_type == "MatMul" and node.input[1].endswith(".weight"))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: list[dict[str, Any]]) -> None:
        self._left: Iterator[dict[str, Any]] = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def _calibration(
    plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]
) -> dict[str, list[dict[str, Any]]]:
    """Inputs of both graphs while the float32 graphs decode the calibration inputs greedily."""
    host = Host(directory, 1)
    encoder, decoder = (ort.InferenceSession(str(directory / name), providers=["CPUExecutionProvider"]) for name in GRAPHS)
    d = host.dimensions
    caches = [f"{what}_{at}" for at in range(d.decoder_layers) for what in "kv"]
    feeds: dict[str, list[dict[str, Any]]] = {name: [] for name in GRAPHS}
    rows = source.calibration_ids(plan)
    for at, ids in enumerate(rows):
        progress(f"Calibrating: input {at + 1} of {len(rows)}")
        batch = TokenBatch(np.array([ids]), np.ones((1, len(ids)), bool), _STEPS)
        feeds[onnx_graph.ENCODER].append(host.encoder_arrays(batch))
        cross = encoder.run([f"cross_{name}" for name in caches], feeds[onnx_graph.ENCODER][-1])
        fixed = {f"cross_{name}": value for name, value in zip(caches, cross, strict=True)}
        fixed |= {"k": host.k, "cross_mask": host.cross_mask(batch)}
        past = [np.zeros((1, d.heads, 0, d.size), np.float32)] * len(caches)
        state, token = host.new_state(batch), source.special.start
        for step in range(_STEPS):
            feed = fixed | host.step_arrays(state, np.array([token]), None).arrays
            feed |= {f"past_{name}": value for name, value in zip(caches, past, strict=True)}
            if step % _EVERY == 1:  # step 0 has an empty cache, which the calibrator cannot take
                feeds[onnx_graph.DECODER].append(feed)
            ids_found, *past = decoder.run(["ids", *(f"present_{name}" for name in caches)], feed)
            token = int(ids_found[0, 0, 0])
            if token == source.special.eos:
                break
    return feeds
