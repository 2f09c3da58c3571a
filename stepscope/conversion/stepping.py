"""What stays on the host around a step of our graphs: embedding lookup, position buckets, masks, and who follows whom."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stepscope.core.session import LoadReport, TokenBatch
from stepscope.decoding.slots import BLOCKED, BeamSlots

from .onnx_graph import EMBEDDING
from .weights import Dimensions, Weights, relative_buckets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepscope.core.session import Ids, Scores

_ABOUT = "graphs.json"


def describe(directory: Path, weights: Weights, report: LoadReport, *, gather: bool) -> None:
    """Leaves beside the graphs what ``Host`` needs of the model."""
    about = {"dimensions": asdict(weights.dimensions), "report": asdict(report), "gather": gather}
    (directory / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


@dataclass(slots=True)
class HostState:
    """slots: the book of beams; cross_mask: [inputs, 1, 1, length]."""

    slots: BeamSlots
    cross_mask: Scores


@dataclass(frozen=True, slots=True)
class StepInputs:
    """Arrays of one step by the decoder's input names. stay: old indices of the inputs that stay, when some leave."""

    arrays: dict[str, NDArray[Any]]
    stay: Ids | None


class Host:
    """The host's side of a folder of graphs. k: candidates per row."""

    def __init__(self, directory: Path, k: int) -> None:
        about = json.loads((directory / _ABOUT).read_text(encoding="utf-8"))
        self.dimensions = Dimensions(**about["dimensions"])
        report = about["report"]
        self.report = LoadReport(**{**report, "quantized": tuple(report["quantized"]), "kept": tuple(report["kept"])})
        self.gather: bool = about["gather"]
        self.k = np.array([k], np.int64)
        self._embedding = np.asarray(np.load(directory / EMBEDDING, mmap_mode="r"))  # a plain view: memmap indexes slowly
        self._encoder_buckets: dict[int, NDArray[np.int64]] = {}
        self._decoder_buckets = relative_buckets(-np.arange(2048)[::-1], self.dimensions, both_ways=False)

    def encoder_arrays(self, batch: TokenBatch) -> dict[str, NDArray[Any]]:
        length = batch.ids.shape[1]
        if length not in self._encoder_buckets:
            at = np.arange(length)
            self._encoder_buckets = {length: relative_buckets(at - at[:, None], self.dimensions, both_ways=True)}
        return {"x": self._rows(batch.ids), "buckets": self._encoder_buckets[length], "mask": self.cross_mask(batch)}

    def cross_mask(self, batch: TokenBatch) -> Scores:
        return np.where(batch.mask, np.float32(0), BLOCKED)[:, None, None]

    def new_state(self, batch: TokenBatch) -> HostState:
        return HostState(BeamSlots(len(batch.ids)), self.cross_mask(batch))

    def step_arrays(self, state: HostState, tokens: Ids, parents: Ids | None) -> StepInputs:
        """The next step's inputs, but for the caches and k."""
        slots = state.slots
        stay = slots.follow(parents)
        if stay is not None:
            state.cross_mask = state.cross_mask[stay]
        distance, mask = slots.next()
        x = self._rows(tokens)
        arrays: dict[str, NDArray[Any]]
        if not self.gather:
            arrays = {
                "x": x.reshape(slots.inputs, slots.beams, -1),
                "buckets": self._decoder_buckets[distance - 1],
                "mask": mask,
            }
        else:
            steps = np.arange(-slots.step, 0)
            arrays = {
                "x": x[:, None],
                "buckets": self._decoder_buckets[steps],
                "mask": np.zeros((len(tokens), 1, 1, slots.step), np.float32),
                "parents": np.arange(len(tokens)) if parents is None else parents,
            }
        return StepInputs(arrays, stay)

    def _rows(self, ids: Ids) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._embedding[ids], dtype=np.float32)
