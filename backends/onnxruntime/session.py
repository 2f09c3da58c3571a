"""The steppable session over our two graphs. Imported inside functions only: it imports onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from stepscope.conversion.onnx_graph import DECODER, ENCODER
from stepscope.conversion.stepping import Host, HostState
from stepscope.core.errors import Unavailable
from stepscope.core.plan import LoadPlan
from stepscope.core.session import Candidates, TokenBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepscope.core.session import Ids

    Kept = list[NDArray[np.float32]]

_PROVIDERS = ["CPUExecutionProvider"]


@dataclass(slots=True)
class OnnxState:
    """past and cross: the caches as OrtValues, in the order of the decoder's inputs of that name."""

    host: HostState
    binding: Any
    past: list[Any]
    cross: list[Any]


class OnnxSession:
    def __init__(self, directory: Path, plan: LoadPlan) -> None:
        self._host = Host(directory, plan.candidates)
        self.report = self._host.report
        self._greedy = plan.candidates == 1
        self._encoder = _open(directory / ENCODER, plan)
        self._decoder = _open(directory / DECODER, plan)
        layers = range(self._host.dimensions.decoder_layers)
        self._past = [f"past_{what}_{at}" for at in layers for what in "kv"]
        self._present = [f"present_{what}_{at}" for at in layers for what in "kv"]
        self._cross = [f"cross_{what}_{at}" for at in layers for what in "kv"]
        self._k = ort.OrtValue.ortvalue_from_numpy(self._host.k)

    def encode(self, batch: TokenBatch) -> OnnxState:
        feeds = {name: ort.OrtValue.ortvalue_from_numpy(a) for name, a in self._host.encoder_arrays(batch).items()}
        return self._state(batch, self._encoder.run_with_ort_values(self._cross, feeds))

    def _state(self, batch: TokenBatch, cross: list[Any]) -> OnnxState:
        d = self._host.dimensions
        empty = np.zeros((len(batch.ids), d.heads, 0, d.size), np.float32)
        state = OnnxState(
            self._host.new_state(batch),
            self._decoder.io_binding(),
            [ort.OrtValue.ortvalue_from_numpy(empty) for _ in self._past],
            cross,
        )
        state.binding.bind_ortvalue_input("k", self._k)
        self._bind_cross(state)
        return state

    def _bind_cross(self, state: OnnxState) -> None:
        for name, value in zip(self._cross, state.cross, strict=True):
            state.binding.bind_ortvalue_input(name, value)
        state.binding.bind_cpu_input("cross_mask", state.host.cross_mask)

    def step(self, state: OnnxState, tokens: Ids, parents: Ids | None) -> Candidates:
        inputs = self._host.step_arrays(state.host, tokens, parents)
        if inputs.stay is not None:
            state.cross = [_rows(value, inputs.stay) for value in state.cross]
            if not self._host.gather:
                state.past = [_rows(value, inputs.stay) for value in state.past]
            self._bind_cross(state)
        binding = state.binding
        for name, array in inputs.arrays.items():
            binding.bind_cpu_input(name, array)
        for name, value in zip(self._past, state.past, strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.clear_binding_outputs()
        binding.bind_output("ids")
        if not self._greedy:
            binding.bind_output("log_probs")
        for name in self._present:
            binding.bind_output(name)
        self._decoder.run_with_iobinding(binding)
        ids, *rest = binding.get_outputs()
        found = ids.numpy().reshape(len(tokens), -1)
        if self._greedy:
            state.past = rest
            return Candidates(found, None)
        scores, *state.past = rest
        return Candidates(found, scores.numpy().reshape(len(tokens), -1))

    def encodings(self, state: OnnxState) -> Sequence[tuple[Kept, int]]:
        """The cross-attention keys and values themselves: resuming skips their projection too."""
        arrays = [value.numpy() for value in state.cross]
        found = []
        for row, blocked in enumerate(state.host.cross_mask[:, 0, 0]):
            length = int((blocked == 0).sum())
            kept = [
                np.ascontiguousarray(a[row, :, :, :length] if at % 2 == 0 else a[row, :, :length])
                for at, a in enumerate(arrays)
            ]
            found.append((kept, sum(array.nbytes for array in kept)))
        return found

    def resume(self, batch: TokenBatch, encodings: Sequence[Kept]) -> OnnxState:
        d, shape = self._host.dimensions, batch.ids.shape
        cross = []
        for at in range(len(self._cross)):
            size = (d.size, shape[1]) if at % 2 == 0 else (shape[1], d.size)
            whole = np.zeros((shape[0], d.heads, *size), np.float32)
            for row, kept in enumerate(encodings):
                whole[row, :, : kept[at].shape[1], : kept[at].shape[2]] = kept[at]
            cross.append(ort.OrtValue.ortvalue_from_numpy(whole))
        return self._state(batch, cross)

    def close(self) -> None:
        del self._encoder, self._decoder


def _rows(value: Any, stay: Ids) -> Any:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value.numpy()[stay]))


def _open(file: Path, plan: LoadPlan) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = plan.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if plan.graph_optimization else levels.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(file), options, providers=_PROVIDERS)
    if session.get_providers() != _PROVIDERS:
        raise Unavailable(f"ONNX Runtime chose {session.get_providers()} instead of {_PROVIDERS}.")
    return session
