"""The steppable session over two engines, with torch tensors as device buffers. Imported inside functions only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stepscope.conversion.onnx_graph import DECODER, ENCODER
from stepscope.conversion.stepping import Host, HostState
from stepscope.core.errors import Unavailable, WorkerCrashed
from stepscope.core.plan import LoadPlan
from stepscope.core.session import Candidates, TokenBatch

from .export import module

if TYPE_CHECKING:
    from torch import Tensor

    from stepscope.core.session import Ids


@dataclass(slots=True)
class EngineState:
    """past, cross: the caches on the GPU by the decoder's input names."""

    host: HostState
    past: dict[str, Tensor]
    cross: dict[str, Tensor]


class EngineSession:
    def __init__(self, directory: Path, plan: LoadPlan) -> None:
        if not torch.cuda.is_available():
            raise Unavailable("TensorRT needs an NVIDIA GPU to run its engines.", "Choose a backend for the CPU.")
        trt = module()
        self._host = Host(directory, plan.candidates)
        self.report = self._host.report
        self._greedy = plan.candidates == 1
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engines = [
            runtime.deserialize_cuda_engine((directory / name).with_suffix(".engine").read_bytes())
            for name in (ENCODER, DECODER)
        ]
        if None in self._engines:
            raise Unavailable("The engines do not fit this GPU or TensorRT.", "Clear the converted model and run again.")
        self._encoder, self._decoder = (engine.create_execution_context() for engine in self._engines)
        self._types = {getattr(trt, name): kind for name, kind in _TYPES.items()}
        self._stream = torch.cuda.Stream()

    def encode(self, batch: TokenBatch) -> EngineState:
        inputs = {name: torch.from_numpy(array).cuda() for name, array in self._host.encoder_arrays(batch).items()}
        cross = self._run(0, self._encoder, inputs)
        d = self._host.dimensions
        past = {
            f"past_{what}_{at}": torch.empty((len(batch.ids), d.heads, 0, d.size), dtype=cross["cross_k_0"].dtype).cuda()
            for at in range(d.decoder_layers)
            for what in "kv"
        }
        return EngineState(self._host.new_state(batch), past, cross)

    def step(self, state: EngineState, tokens: Ids, parents: Ids | None) -> Candidates:
        prepared = self._host.step_arrays(state.host, tokens, parents)
        if prepared.stay is not None:
            stay = torch.from_numpy(prepared.stay).cuda()
            state.cross = {name: tensor[stay].contiguous() for name, tensor in state.cross.items()}
            state.past = {name: tensor[stay].contiguous() for name, tensor in state.past.items()}
        arrays = prepared.arrays | {"cross_mask": state.host.cross_mask}
        inputs = {name: torch.from_numpy(array).cuda() for name, array in arrays.items()}
        found = self._run(1, self._decoder, inputs | state.past | state.cross)
        state.past = {name.replace("present", "past"): t for name, t in found.items() if name.startswith("present")}
        ids = found["ids"].reshape(len(tokens), -1).cpu().numpy()
        return Candidates(ids, None if self._greedy else found["log_probs"].reshape(len(tokens), -1).cpu().numpy())

    def _run(self, which: int, context: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        engine, outputs = self._engines[which], {}
        for name, tensor in inputs.items():
            context.set_input_shape(name, tuple(tensor.shape))
            context.set_tensor_address(name, tensor.data_ptr())
        for at in range(engine.num_io_tensors):
            if (name := engine.get_tensor_name(at)) not in inputs:
                shape = tuple(context.get_tensor_shape(name))
                outputs[name] = torch.empty(shape, dtype=self._types[engine.get_tensor_dtype(name)], device="cuda")
                context.set_tensor_address(name, outputs[name].data_ptr())
        self._stream.wait_stream(torch.cuda.current_stream())
        if not context.execute_async_v3(self._stream.cuda_stream):
            raise WorkerCrashed("TensorRT could not run a step.", "Its last lines are below.")
        self._stream.synchronize()
        return outputs

    def close(self) -> None:
        del self._encoder, self._decoder, self._engines


_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int64": torch.int64}
