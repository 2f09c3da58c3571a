"""The seam between the one decode loop and every runtime.

Arrays are numpy on the host. ``State`` is opaque and the session's own (KV caches, IO bindings, captured graphs).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from .plan import DecodePlan, LoadPlan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids: TypeAlias = NDArray[np.int64]
    Mask: TypeAlias = NDArray[np.bool_]
    Scores: TypeAlias = NDArray[np.float32]

State: TypeAlias = Any
Encoding: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Tokenized inputs. ids: [rows, length], right-padded; mask: [rows, length], True at tokens.

    max_new_tokens: the most steps that will be asked for, so that a session can allocate once.
    """

    ids: Ids
    mask: Mask
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best k next tokens of each row, best first, on the host.

    ids: [rows, k]; log_probs: [rows, k] natural logarithms normalized over the vocabulary, or None when k is 1 and
    nothing needs them.
    """

    ids: Ids
    log_probs: Scores | None


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was loaded. weight_bytes: bytes of all parameters as held in memory, shared tensors once.

    quantized / kept: names of the layers whose weights were and were not quantized; vocabulary: number of logits.
    """

    weight_bytes: int
    parameters: int
    vocabulary: int
    quantized: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@runtime_checkable
class Session(Protocol):
    """A loaded model that can be stepped. Raises Unavailable or WorkerOutOfMemory; never falls back silently."""

    report: LoadReport

    def encode(self, batch: TokenBatch) -> State:
        """Runs the encoder; the state holds one row per input and has taken no decode step."""
        ...

    def step(self, state: State, tokens: Ids, parents: Ids | None) -> Candidates:
        """One decoder pass. tokens: [rows] last token of each row; parents: [rows] the old row which new row i
        continues (expands, reorders or drops rows before the pass), or None when rows stay as they are."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class ReusesEncoding(Protocol):
    """Capability: encoder outputs can be taken out, kept and put back (technique ``encoder_cache``)."""

    def encodings(self, state: State) -> Sequence[tuple[Encoding, int]]:
        """For each row of a fresh state its encoder output without padding, and that output's bytes."""
        ...

    def resume(self, batch: TokenBatch, encodings: Sequence[Encoding]) -> State:
        """The state that ``encode(batch)`` would give, from kept encodings, one per row."""
        ...


@runtime_checkable
class Compiles(Protocol):
    """Capability: steps are compiled for their shapes, which takes a phase of its own (technique ``torch_compile``)."""

    def compile(self, batch: TokenBatch, num_beams: int) -> None:
        """Compiles what this batch and number of beams need, by running it once."""
        ...

    def graphs(self) -> int:
        """How many graphs have been compiled so far; more after a run than before it are recompiles."""
        ...


@runtime_checkable
class Verifies(Protocol):
    """Capability: one pass answers for several tokens of one row at once (speculative techniques)."""

    def verify(self, state: State, tokens: Ids) -> Candidates:
        """tokens: [n] the only row's last token and the drafts after it -> candidates after each, [n, k]. The state has
        then taken n steps."""
        ...

    def rewind(self, state: State, length: int) -> None:
        """Forgets all steps of the only row but the first ``length``."""
        ...


@runtime_checkable
class Drafts(Verifies, Protocol):
    """Capability: the session drafts tokens itself (technique ``self_drafting``)."""

    def draft(self, state: State, inputs: Ids, count: int) -> Ids:
        """inputs: [n] all decoder inputs so far, start token first -> the ``count`` tokens that would follow, roughly."""
        ...


@dataclass(frozen=True, slots=True)
class Generated:
    """What a runtime that owns its loop returns: per input the new token ids, end of sequence included.

    encode_ns: time of the encoder pass, None where it cannot be seen.
    """

    token_ids: tuple[tuple[int, ...], ...]
    encode_ns: int | None


@runtime_checkable
class Generates(Protocol):
    """A runtime that owns its loop."""

    report: LoadReport

    def generate(self, batch: TokenBatch, plan: DecodePlan, on_token: Callable[[Sequence[int]], None] | None) -> Generated:
        """on_token is called with the newest token of each input as soon as it is on the host, where that can be seen.

        Without on_token nothing is hooked into the runtime. Exceptions that on_token raises end the generation.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids that the loop needs: the decoder's first input, padding, end of sequence."""

    start: int
    pad: int
    eos: int


class ModelSource(Protocol):
    """The model's files, opened by the one loader; backends ask it for what they need and load nothing themselves.

    revision: identifies the weights; directory: the Hugging Face folder, None for random weights; artifact: the folder
    that ``convert`` of this backend has filled, None for backends without one.
    """

    revision: str
    directory: Path | None
    artifact: Path | None
    special: SpecialTokens

    def torch_model(self, plan: LoadPlan) -> tuple[Any, LoadReport]:
        """The transformers model (T5, MT5 or UMT5 ForConditionalGeneration) in eval mode, with the plan's dtype,
        attention, device, threads and native techniques applied, and what was loaded."""
        ...

    def calibration_ids(self, plan: LoadPlan) -> list[list[int]]:
        """Token ids of the plan's calibration inputs, the model's default prefix before each. Raises RequestError."""
        ...

    def config(self) -> dict[str, Any]:
        """config.json as a dictionary."""
        ...


class Convert(Protocol):
    """What the module of a backend with its own file format offers beside SPEC, as a function named ``convert``.

    Runs in a process of its own, so that torch's copy of the weights is never counted to the runtime. The artifact is kept
    by model revision, the plan fields that the module's ``CONVERTED_BY`` names, its ``CONVERSION`` number and versions.
    """

    def __call__(self, plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]) -> None: ...


class OpenSession(Protocol):
    """What a backend's module offers beside SPEC, as a function named ``open_session``."""

    def __call__(self, plan: LoadPlan, source: ModelSource, progress: Callable[[str], None]) -> Session | Generates: ...
