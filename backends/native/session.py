"""The steppable session over the engine. Imported inside functions only."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stepscope.conversion.weights import Dimensions, relative_buckets
from stepscope.core.errors import RequestError, WorkerOutOfMemory
from stepscope.core.plan import Head, LoadPlan
from stepscope.core.session import Candidates, LoadReport, TokenBatch

from . import library
from .packing import ABOUT, BIASES, DRAFT_WEIGHTS, EMBEDDING, EXACT_HEAD, F32, HEAD, WEIGHTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepscope.core.session import Ids

    Floats = NDArray[np.float32]

_ACTIVATIONS = {"relu": 0, "gelu_new": 1, "gelu": 2, "silu": 3, "swish": 3}


def _room(found: int) -> int:
    """What the engine has answered; it says 0 when memory is exhausted."""
    if not found:
        raise WorkerOutOfMemory(
            "There is no room for the caches of this generation.", "Use fewer inputs, beams or new tokens."
        )
    return found


class NativeState:
    """Holds the engine's state, and frees it. drafter: the state of the int4 weights, which has taken ``drafted`` steps."""

    def __init__(self, engine: Any, handle: int, rows: int, drafter: NativeState | None = None) -> None:
        self._engine, self.handle, self.rows = engine, handle, rows
        self.drafter, self.drafted = drafter, 0

    def __del__(self) -> None:
        self._engine.native_free_state(self.handle)


class NativeSession:
    def __init__(self, directory: Path, plan: LoadPlan, progress: Callable[[str], None]) -> None:
        self._engine = library.load(progress)
        about = json.loads((directory / ABOUT).read_text(encoding="utf-8"))
        self._dimensions = d = Dimensions(**about["dimensions"])
        self._k = plan.candidates
        self._embedding = np.load(directory / EMBEDDING, mmap_mode="r")  # only the rows in use become resident
        with np.load(directory / BIASES) as biases:
            self._encoder_bias, decoder_bias = biases["encoder"], biases["decoder"]
        buckets = relative_buckets(-np.arange(2048), d, both_ways=False)
        self._decoder_bias = np.ascontiguousarray(decoder_bias[:, buckets].transpose(0, 2, 1))
        self._biases: dict[int, Floats] = {}
        self._weights: list[int] = []
        self._handle, held = self._open(directory / WEIGHTS, about["matrices"], plan.threads)
        self._drafter = 0
        if plan.self_draft:
            self._drafter, more = self._open(directory / DRAFT_WEIGHTS, about["drafts"], plan.threads, self._handle)
            held += more
        if plan.head is not Head.FULL:
            rows = directory / HEAD if (directory / HEAD).exists() else directory / EMBEDDING
            self._head = np.load(rows, mmap_mode="r")  # a few rows a step are read
            with np.load(directory / EXACT_HEAD) as found:
                self._bounds = [np.ascontiguousarray(found[name]) for name in ("norm", "lost", "held")]
            norm, lost, held_norm = (array.ctypes.data for array in self._bounds)
            bounds = (lost, held_norm) if plan.head is Head.EXACT_INT8 else (None, None)
            held += sum(array.nbytes for array in self._bounds) + (self._head.nbytes if rows.name == HEAD else 0)
            self._engine.native_exact_head(self._handle, self._head.ctypes.data, norm, *bounds)
        float_layers = {m["name"] for m in about["matrices"] if m["format"] == F32}
        quantized = tuple(m["name"] for m in about["matrices"] if m["format"] > 1)
        kept = tuple(sorted(float_layers)) if quantized else ()
        held += self._embedding.nbytes + self._encoder_bias.nbytes + self._decoder_bias.nbytes
        self.report = LoadReport(held, about["parameters"], d.vocabulary, quantized, kept)

    def _open(self, file: Path, matrices: list[dict[str, Any]], threads: int, partner: int | None = None) -> tuple[int, int]:
        """An engine over packed weights, and their bytes. partner: the engine whose threads it shares."""
        d, size = self._dimensions, file.stat().st_size
        weights = self._engine.native_allocate(size)
        if not weights:
            raise WorkerOutOfMemory(f"There is no room for {size / 1e6:.0f} MB of weights.", "Choose a smaller type.")
        self._weights.append(weights)
        with file.open("rb") as stream:
            stream.readinto((ctypes.c_uint8 * size).from_address(weights))
        kind = _ACTIVATIONS[d.activation]
        shape = np.array(
            [d.width, d.heads, d.size, d.hidden, d.layers, d.decoder_layers, d.vocabulary, d.gated, kind], np.int64
        )
        handle = self._engine.native_engine(shape.ctypes.data, d.epsilon, threads, self._embedding.ctypes.data, partner)
        for m in matrices:
            self._engine.native_matrix(
                handle, m["side"], m["layer"], m["which"], m["n"], m["k"], m["format"], weights + m["at"]
            )
        for layer in range(d.decoder_layers):
            table = self._decoder_bias[layer % len(self._decoder_bias)]
            self._engine.native_bias(handle, layer, table.ctypes.data, table.shape[1])
        return handle, size

    def encode(self, batch: TokenBatch) -> NativeState:
        drafter = self._encode(self._drafter, batch) if self._drafter else None
        return self._encode(self._handle, batch, drafter)

    def _encode(self, engine: int, batch: TokenBatch, drafter: NativeState | None = None) -> NativeState:
        lengths = batch.mask.sum(axis=1, dtype=np.int32)
        if (largest := batch.ids.max()) >= self._dimensions.vocabulary:
            count = self._dimensions.vocabulary
            reason = f"The tokenizer gave the id {largest}, and the model has {count} embeddings: they do not fit."
            raise RequestError((reason,))
        ids = np.ascontiguousarray(batch.ids[batch.mask])  # rows one after another: padding is never computed
        longest = (int(lengths.max()) + 15) // 16 * 16
        if longest not in self._biases:
            distance = np.arange(-longest, longest + 1)
            buckets = relative_buckets(distance, self._dimensions, both_ways=True)
            self._biases = {longest: np.ascontiguousarray(self._encoder_bias[:, buckets].transpose(0, 2, 1))}
        bias = self._biases[longest]
        handle = self._engine.native_encode(
            engine, ids.ctypes.data, lengths.ctypes.data, len(lengths), batch.max_new_tokens,
            bias.ctypes.data, len(bias), bias.shape[2],
        )  # fmt: skip
        return NativeState(self._engine, _room(handle), len(lengths), drafter)

    def encodings(self, state: NativeState) -> Sequence[tuple[Any, int]]:
        """Each row's cross-attention keys and values, of the drafter too."""
        states = [state, state.drafter] if state.drafter else [state]
        found = []
        for row in range(state.rows):
            kept = [np.empty(self._engine.native_encoding_floats(each.handle, row), np.float32) for each in states]
            for each, floats in zip(states, kept, strict=True):
                self._engine.native_take(each.handle, row, floats.ctypes.data)
            found.append((kept, sum(floats.nbytes for floats in kept)))
        return found

    def resume(self, batch: TokenBatch, encodings: Sequence[list[Floats]]) -> NativeState:
        drafter = None
        if self._drafter:
            drafter = self._resume(self._drafter, batch, [kept[1] for kept in encodings])
        return self._resume(self._handle, batch, [kept[0] for kept in encodings], drafter)

    def _resume(self, engine: int, batch: TokenBatch, kept: list[Floats], drafter: NativeState | None = None) -> NativeState:
        lengths = batch.mask.sum(axis=1, dtype=np.int32)
        places = (ctypes.c_void_p * len(kept))(*(floats.ctypes.data for floats in kept))
        handle = self._engine.native_resume(engine, lengths.ctypes.data, len(kept), batch.max_new_tokens, places)
        return NativeState(self._engine, _room(handle), len(kept), drafter)

    def step(self, state: NativeState, tokens: Ids, parents: Ids | None) -> Candidates:
        if parents is not None:
            parents = np.ascontiguousarray(parents, np.int64)
            self._engine.native_follow(state.handle, parents.ctypes.data, len(parents))
            state.rows = len(parents)
        tokens = np.ascontiguousarray(tokens, np.int64)
        ids = np.empty((state.rows, self._k), np.int64)
        scores = np.empty((state.rows, self._k), np.float32)
        _room(not self._engine.native_step(state.handle, tokens.ctypes.data, self._k, ids.ctypes.data, scores.ctypes.data))
        return Candidates(ids, None if self._k == 1 else scores)

    def verify(self, state: NativeState, tokens: Ids) -> Candidates:
        tokens = np.ascontiguousarray(tokens, np.int64)
        count = len(tokens)
        ids = np.empty((count, self._k), np.int64)
        scores = np.empty((count, self._k), np.float32)
        given = (tokens.ctypes.data, count, self._k, ids.ctypes.data, scores.ctypes.data)
        _room(not self._engine.native_verify(state.handle, *given))
        return Candidates(ids, None if self._k == 1 else scores)

    def rewind(self, state: NativeState, length: int) -> None:
        self._engine.native_rewind(state.handle, length)
        if state.drafter is not None and state.drafted > length:
            state.drafted = length
            self._engine.native_rewind(state.drafter.handle, length)

    def draft(self, state: NativeState, inputs: Ids, count: int) -> Ids:
        assert state.drafter is not None
        drafts = np.empty(count, np.int64)
        unseen = np.ascontiguousarray(inputs[state.drafted :])
        answers = self.verify(state.drafter, unseen).ids[-1, 0]
        drafts[0] = answers
        for at in range(1, count):
            drafts[at] = self.step(state.drafter, drafts[at - 1 : at], None).ids[0, 0]
        state.drafted = len(inputs) + count - 1
        return drafts

    def close(self) -> None:
        for handle in (self._handle, self._drafter):
            if handle:
                self._engine.native_free(handle)
        self._handle = self._drafter = 0
        while self._weights:
            self._engine.native_release(self._weights.pop())
