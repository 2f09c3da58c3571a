"""The steppable session over the engine. Imported inside functions only."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stepscope.conversion.weights import Dimensions, relative_buckets
from stepscope.core.errors import WorkerOutOfMemory
from stepscope.core.plan import LoadPlan
from stepscope.core.session import Candidates, LoadReport, TokenBatch

from . import library
from .packing import ABOUT, BIASES, EMBEDDING, EXACT_HEAD, F32, HEAD, WEIGHTS

if TYPE_CHECKING:
    from stepscope.core.session import Ids

_ACTIVATIONS = {"relu": 0, "gelu_new": 1, "gelu": 2, "silu": 3, "swish": 3}


class NativeState:
    """Holds the engine's state, and frees it."""

    def __init__(self, engine: Any, handle: int, rows: int) -> None:
        self._engine, self.handle, self.rows = engine, handle, rows

    def __del__(self) -> None:
        self._engine.native_free_state(self.handle)


class NativeSession:
    def __init__(self, directory: Path, plan: LoadPlan, progress: Callable[[str], None]) -> None:
        self._engine = library.load(progress)
        about = json.loads((directory / ABOUT).read_text(encoding="utf-8"))
        self._dimensions = d = Dimensions(**about["dimensions"])
        self._k = plan.candidates
        self._embedding = np.load(directory / EMBEDDING, mmap_mode="r")  # only the rows in use become resident
        size = (directory / WEIGHTS).stat().st_size
        self._weights = self._engine.native_allocate(size)
        if not self._weights:
            raise WorkerOutOfMemory(f"There is no room for {size / 1e6:.0f} MB of weights.", "Choose a smaller type.")
        with (directory / WEIGHTS).open("rb") as file:
            file.readinto((ctypes.c_uint8 * size).from_address(self._weights))
        kind = _ACTIVATIONS[d.activation]
        shape = np.array(
            [d.width, d.heads, d.size, d.hidden, d.layers, d.decoder_layers, d.vocabulary, d.gated, kind], np.int64
        )
        self._handle = self._engine.native_engine(shape.ctypes.data, d.epsilon, plan.threads, self._embedding.ctypes.data)
        for m in about["matrices"]:
            self._engine.native_matrix(
                self._handle, m["side"], m["layer"], m["which"], m["n"], m["k"], m["format"], self._weights + m["at"]
            )
        with np.load(directory / BIASES) as biases:
            self._encoder_bias, decoder_bias = biases["encoder"], biases["decoder"]
        buckets = relative_buckets(-np.arange(2048), d, both_ways=False)
        self._decoder_bias = np.ascontiguousarray(decoder_bias[:, buckets].transpose(0, 2, 1))
        for layer in range(d.decoder_layers):
            table = self._decoder_bias[layer % len(self._decoder_bias)]
            self._engine.native_bias(self._handle, layer, table.ctypes.data, len(buckets))
        self._biases: dict[int, Any] = {}
        if plan.exact_head:
            rows = directory / HEAD if (directory / HEAD).exists() else directory / EMBEDDING
            self._head = np.load(rows, mmap_mode="r")  # a few rows a step are read
            with np.load(directory / EXACT_HEAD) as found:
                self._bounds = [np.ascontiguousarray(found[name]) for name in ("norm", "lost", "held")]
            addresses = [array.ctypes.data for array in (self._head, *self._bounds)]
            self._engine.native_exact_head(self._handle, *addresses)
        float_layers = {m["name"] for m in about["matrices"] if m["format"] == F32}
        quantized = tuple(m["name"] for m in about["matrices"] if m["format"] > 1)
        kept = tuple(sorted(float_layers)) if quantized else ()
        held = size + self._embedding.nbytes + self._encoder_bias.nbytes + self._decoder_bias.nbytes
        self.report = LoadReport(held, about["parameters"], d.vocabulary, quantized, kept)

    def encode(self, batch: TokenBatch) -> NativeState:
        lengths = batch.mask.sum(axis=1, dtype=np.int32)
        ids = np.ascontiguousarray(batch.ids[batch.mask])  # rows one after another: padding is never computed
        longest = (int(lengths.max()) + 15) // 16 * 16
        if longest not in self._biases:
            distance = np.arange(-longest, longest + 1)
            buckets = relative_buckets(distance, self._dimensions, both_ways=True)
            self._biases = {longest: np.ascontiguousarray(self._encoder_bias[:, buckets].transpose(0, 2, 1))}
        bias = self._biases[longest]
        handle = self._engine.native_encode(
            self._handle, ids.ctypes.data, lengths.ctypes.data, len(lengths), batch.max_new_tokens,
            bias.ctypes.data, len(bias), bias.shape[2],
        )  # fmt: skip
        return NativeState(self._engine, handle, len(lengths))

    def step(self, state: NativeState, tokens: Ids, parents: Ids | None) -> Candidates:
        if parents is not None:
            parents = np.ascontiguousarray(parents, np.int64)
            self._engine.native_follow(state.handle, parents.ctypes.data, len(parents))
            state.rows = len(parents)
        tokens = np.ascontiguousarray(tokens, np.int64)
        ids = np.empty((state.rows, self._k), np.int64)
        scores = np.empty((state.rows, self._k), np.float32)
        self._engine.native_step(state.handle, tokens.ctypes.data, self._k, ids.ctypes.data, scores.ctypes.data)
        return Candidates(ids, None if self._k == 1 else scores)

    def verify(self, state: NativeState, tokens: Ids) -> Candidates:
        tokens = np.ascontiguousarray(tokens, np.int64)
        count = len(tokens)
        ids = np.empty((count, self._k), np.int64)
        scores = np.empty((count, self._k), np.float32)
        self._engine.native_verify(state.handle, tokens.ctypes.data, count, self._k, ids.ctypes.data, scores.ctypes.data)
        return Candidates(ids, None if self._k == 1 else scores)

    def rewind(self, state: NativeState, length: int) -> None:
        self._engine.native_rewind(state.handle, length)

    def close(self) -> None:
        self._engine.native_free(self._handle)
