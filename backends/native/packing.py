"""Packs a model's weights in the order in which the engine reads them, and finds them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stepscope.conversion.weights import Dimensions, Layer, Weights, take_apart
from stepscope.core.errors import RequestError
from stepscope.core.plan import DType, Head, LoadPlan, Quantization
from stepscope.core.session import ModelSource

from . import library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

F32, BF16, I8, I4, I8A16 = range(5)
EXACT_HEAD, HEAD = "exact_head.npz", "head.npy"
WEIGHTS, DRAFT_WEIGHTS, EMBEDDING, BIASES, ABOUT = "weights.bin", "drafts.bin", "embedding.npy", "biases.npz", "native.json"
ALIGN = 64
ENCODER, DECODER, REST = range(3)
MATRICES = (
    "SelfAttention.qkv",
    "SelfAttention.o",
    "EncDecAttention.q",
    "EncDecAttention.o",
    "Dense.wi",
    "Dense.wi_value",
    "Dense.wo",
)


def export(plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]) -> None:
    """weights.bin (all packed matrices), their places in native.json, the embedding table and the position biases."""
    model, _ = source.torch_model(LoadPlan(plan.model, plan.backend, threads=plan.threads))
    weights = take_apart(model)
    layers, head = _formats(plan)
    engine = library.load(progress)
    progress("Packing the weights")
    matrices = _pack(engine, weights, directory / WEIGHTS, layers, head, plan.keep_float)
    drafts = _pack(engine, weights, directory / DRAFT_WEIGHTS, I4, I4) if plan.self_draft else []
    names = [m["name"] for m in matrices]
    if unknown := [part for part in plan.keep_float if not any(part in name for name in names)]:
        raise RequestError(
            f"No layer's name contains {' or '.join(unknown)}.", "Names are such as decoder.block.0.Dense.wo and lm_head."
        )
    np.save(directory / EMBEDDING, weights.embedding)
    if plan.head is not Head.FULL:
        _save_exact_head(weights, directory)
    np.savez(
        directory / BIASES,
        encoder=np.stack([layer.bias for layer in _unshared(weights.encoder)]),
        decoder=np.stack([layer.bias for layer in _unshared(weights.decoder)]),
    )
    about = {
        "dimensions": asdict(weights.dimensions), "parameters": weights.parameters, "matrices": matrices, "drafts": drafts,
    }  # fmt: skip
    (directory / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _pack(
    engine: Any, weights: Weights, file: Path, layers: int, head: int, keep_float: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Writes every matrix in these formats and returns the places."""
    found = []
    with file.open("wb") as out:
        for name, side, layer, which, matrix in _matrices(weights):
            chosen = head if name == "lm_head" else layers
            if any(part in name for part in keep_float):
                chosen = F32
            n, k = matrix.shape
            packed = np.empty(engine.native_packed_size(n, k, chosen), np.uint8)
            whole = np.ascontiguousarray(matrix, np.float32)
            engine.native_pack(whole.ctypes.data, n, k, chosen, packed.ctypes.data)
            place = {"name": name, "side": side, "layer": layer, "which": which, "n": n, "k": k, "format": chosen}
            found.append({**place, "at": out.tell()})
            out.write(packed.tobytes())
            out.write(bytes(-out.tell() % ALIGN))
    return found


def _save_exact_head(weights: Weights, directory: Path) -> None:
    """What the engine needs to bound the error of its int8 projection, and its rows when they are not the embedding's."""
    head = weights.head * weights.decoder_norm
    top = np.abs(head).max(axis=1, keepdims=True)
    scale = np.where(top > 0, top / np.float32(127), np.float32(1)).astype(np.float32)
    kept = np.rint(head / scale) * scale
    extra = padded(len(head)) - len(head)
    np.savez(
        directory / EXACT_HEAD,
        norm=weights.decoder_norm,
        lost=np.pad(np.linalg.norm(head - kept, axis=1), (0, extra)).astype(np.float32),
        held=np.pad(np.linalg.norm(kept, axis=1), (0, extra)).astype(np.float32),
    )
    if not weights.tied:
        np.save(directory / HEAD, weights.head)


def _formats(plan: LoadPlan) -> tuple[int, int]:
    """Of the layers and of the vocabulary projection."""
    layers, head = _plain_formats(plan)
    return layers, {Head.FULL: head, Head.EXACT_INT8: I8, Head.SHORTLIST: I4}[plan.head]


def _plain_formats(plan: LoadPlan) -> tuple[int, int]:
    """The vocabulary projection is what 4 bits would hurt most."""
    if plan.quantization is Quantization.INT8_DYNAMIC:
        return I8, I8
    if plan.quantization is Quantization.INT8_WEIGHT_ONLY:
        return I8A16, I8A16
    if plan.quantization is Quantization.INT4_WEIGHT_ONLY:
        return I4, I8
    return (BF16, BF16) if plan.dtype is DType.BFLOAT16 else (F32, F32)


def _unshared(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """One layer when all have the same bias."""
    return layers if layers[-1].bias is not layers[0].bias else layers[:1]


def padded(n: int) -> int:
    return -(-n // 64) * 64


def _heads(matrix: Array, d: Dimensions) -> Array:
    """[outputs in heads, inputs] with each head's outputs padded to a multiple of 64."""
    parts = matrix.reshape(-1, d.size, matrix.shape[1])
    return np.pad(parts, ((0, 0), (0, padded(d.size) - d.size), (0, 0))).reshape(-1, matrix.shape[1])


def _inputs(matrix: Array) -> Array:
    return np.pad(matrix, ((0, 0), (0, padded(matrix.shape[1]) - matrix.shape[1])))


def _matrices(weights: Weights) -> Iterator[tuple[str, int, int, int, Array]]:
    """(name, side, layer, which, [outputs, inputs]) with inputs padded to 64 and the norm before each folded in."""
    d = weights.dimensions

    def after_norm(matrix: Array, norm: Array) -> Array:
        return _inputs((matrix * norm[:, None]).T)

    for side, name, layers in ((ENCODER, "encoder", weights.encoder), (DECODER, "decoder", weights.decoder)):
        for at, layer in enumerate(layers):
            found: list[Array | None] = [
                _heads(after_norm(layer.qkv, layer.norm), d),
                _inputs(_heads(layer.o, d).T),
                None if layer.cross_q is None else _heads(after_norm(layer.cross_q, _given(layer.cross_norm)), d),
                None if layer.cross_o is None else _inputs(_heads(layer.cross_o, d).T),
                after_norm(layer.wi[:, : d.hidden], layer.ff_norm),
                after_norm(layer.wi[:, d.hidden :], layer.ff_norm) if d.gated else None,
                _inputs(layer.wo.T),
            ]
            for which, matrix in enumerate(found):
                if matrix is not None:
                    yield f"{name}.block.{at}.{MATRICES[which]}", side, at, which, matrix
    cross = [_heads(after_norm(_given(layer.cross_kv), weights.encoder_norm), d) for layer in weights.decoder]
    yield "decoder.EncDecAttention.kv", REST, 0, 0, np.concatenate(cross)
    yield "lm_head", REST, 0, 1, _inputs(weights.head * weights.decoder_norm)


def _given(array: Any) -> Array:
    assert array is not None
    return np.asarray(array)
