"""The steppable session over a stateful decoder. Imported inside functions only: it imports openvino."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from stepscope.conversion.onnx_graph import DECODER, ENCODER
from stepscope.conversion.stepping import Host, HostState
from stepscope.core.errors import Unavailable
from stepscope.core.plan import DType, LoadPlan
from stepscope.core.session import Candidates, TokenBatch

if TYPE_CHECKING:
    from stepscope.core.session import Ids

_PRECISION = {DType.FLOAT32: ov.Type.f32, DType.BFLOAT16: ov.Type.bf16}


@dataclass(slots=True)
class OpenVinoState:
    """The caches are the request's own state. held: arrays that the request reads in place."""

    host: HostState
    request: Any
    held: dict[str, Any]


class OpenVinoSession:
    def __init__(self, directory: Path, plan: LoadPlan) -> None:
        self._host = Host(directory, plan.candidates)
        report = self._host.report
        if plan.dtype is DType.BFLOAT16:  # the graphs' float32 arrays are converted when they are compiled
            report = replace(report, weight_bytes=report.weight_bytes // 2)
        self.report = report
        self._greedy = plan.candidates == 1
        core = ov.Core()
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": plan.threads,
            "INFERENCE_PRECISION_HINT": _PRECISION[plan.dtype],
            "KV_CACHE_PRECISION": _PRECISION[plan.dtype],
        }
        decoder = core.read_model((directory / DECODER).with_suffix(".xml"))
        _fix_k(decoder, self._host.k)
        if self._greedy:
            decoder.remove_result(decoder.output("log_probs").get_node())
        self._encoder = core.compile_model(core.read_model((directory / ENCODER).with_suffix(".xml")), "CPU", config)
        self._decoder = core.compile_model(decoder, "CPU", config)
        got = self._decoder.get_property("INFERENCE_PRECISION_HINT")
        if got != _PRECISION[plan.dtype]:
            raise Unavailable(f"OpenVINO computes in {got.to_string()} here, not in {plan.dtype.value}.")
        layers = range(self._host.dimensions.decoder_layers)
        self._cross = [f"cross_{what}_{at}" for at in layers for what in "kv"]

    def encode(self, batch: TokenBatch) -> OpenVinoState:
        encoder = self._encoder.create_infer_request()
        arrays = self._host.encoder_arrays(batch)  # read in place, so they must live until the end of infer
        for name, array in arrays.items():
            encoder.set_tensor(name, ov.Tensor(array, shared_memory=True))
        encoder.infer()
        d = self._host.dimensions
        request = self._decoder.create_infer_request()
        empty = np.zeros((len(batch.ids), d.heads, 0, d.size), np.float32)
        for variable in request.query_state():
            variable.state = ov.Tensor(empty)
        state = OpenVinoState(self._host.new_state(batch), request, {n: encoder.get_tensor(n) for n in self._cross})
        self._set_cross(state)
        return state

    def _set_cross(self, state: OpenVinoState) -> None:
        state.held["cross_mask"] = ov.Tensor(state.host.cross_mask, shared_memory=True)
        for name, tensor in state.held.items():
            state.request.set_tensor(name, tensor)

    def step(self, state: OpenVinoState, tokens: Ids, parents: Ids | None) -> Candidates:
        request = state.request
        inputs = self._host.step_arrays(state.host, tokens, parents)
        if inputs.stay is not None:
            for name in self._cross:
                state.held[name] = ov.Tensor(np.ascontiguousarray(state.held[name].data[inputs.stay]))
            if not self._host.gather:
                for variable in request.query_state():
                    variable.state = ov.Tensor(np.ascontiguousarray(variable.state.data[inputs.stay]))
            self._set_cross(state)
        tensors = {name: ov.Tensor(array, shared_memory=True) for name, array in inputs.arrays.items()}
        for name, tensor in tensors.items():
            request.set_tensor(name, tensor)
        request.infer()
        ids = request.get_tensor("ids").data.reshape(len(tokens), -1).astype(np.int64)
        if self._greedy:
            return Candidates(ids, None)
        return Candidates(ids, request.get_tensor("log_probs").data.reshape(len(tokens), -1).copy())

    def close(self) -> None:
        del self._encoder, self._decoder


def _fix_k(model: Any, k: Any) -> None:
    """The number of candidates becomes a constant of the graph."""
    for parameter in model.get_parameters():
        if parameter.get_friendly_name() == "k":
            parameter.output(0).replace(ops.constant(k).output(0))
            model.remove_parameter(parameter)
