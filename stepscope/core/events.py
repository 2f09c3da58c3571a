"""What a worker tells, as a tagged union: one JSON object a line, ``type`` first, times from one clock.

All ``t_ns`` are ``time.perf_counter_ns`` (CLOCK_MONOTONIC on Linux), which worker and parent share, so that memory
sampled from outside and steps timed inside stand on one time axis.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

from .agreement import Agreement as Agreement
from .encoding import from_json, to_json
from .errors import ErrorRecord
from .plan import DecodePlan, LoadPlan
from .stages import Phase as Phase
from .stages import RepetitionKind as RepetitionKind
from .stages import RunStatus as RunStatus


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker has imported its runtime and waits for a command."""

    t_ns: int
    import_ns: int
    rss_bytes: int
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class PhaseBegan:
    phase: Phase
    t_ns: int


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    phase: Phase
    t_ns: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A line for the person who waits, inside a long phase."""

    message: str


@dataclass(frozen=True, slots=True)
class PlanResolved:
    """What is carried out; ``revision`` identifies the weights. random_weights: the text means nothing."""

    load_plan: LoadPlan
    decode_plan: DecodePlan
    revision: str
    random_weights: bool
    warm: bool


@dataclass(frozen=True, slots=True)
class Converted:
    """The runtime's own form of the model is on disk. hit: it was there already; size_bytes: of all its files."""

    digest: str
    hit: bool
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """Graphs compiled before the run's repetitions, and again during them."""

    graphs: int
    recompiles: int


@dataclass(frozen=True, slots=True)
class ModelLoaded:
    weight_bytes: int
    parameters: int
    vocabulary: int
    baseline_rss_bytes: int
    rss_bytes: int
    peak_rss_bytes: int
    quantized: tuple[str, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InputsTokenized:
    """Tokens of each input, end of sequence included."""

    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RepetitionBegan:
    """t_ns: the request was accepted by the worker; time to first token counts from here."""

    index: int
    kind: RepetitionKind
    t_ns: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """Streamed in the live repetition only. cached_rows: rows whose encoder output was reused."""

    t_ns: int
    encode_ns: int
    cached_rows: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """Streamed in the live repetition only. step_ns: the call of ``step``; rows: rows in that call."""

    step: int
    t_ns: int
    step_ns: int
    rows: int


@dataclass(frozen=True, slots=True)
class TextSoFar:
    """The best hypothesis of each input so far."""

    t_ns: int
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RepetitionDone:
    """One generation.

    encode_ns: tokenization left out, None where it cannot be seen; step_ns: each call of ``step`` (empty when only the
    total can be seen); token_ns: time of each step's tokens on the host, from the repetition's start; total_ns: start to
    the last text. tokens: new tokens over all inputs, end of sequence included. token_ids: per input, likewise.
    first_steps, first_tokens: where in step_ns and in token_ns each batch begins; one batch unless the request has more.
    """

    index: int
    kind: RepetitionKind
    t_ns: int
    tokenize_ns: int
    encode_ns: int | None
    step_ns: tuple[int, ...]
    token_ns: tuple[int, ...]
    rows: tuple[int, ...]
    time_to_first_token_ns: int | None
    total_ns: int
    tokens: int
    token_ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    first_steps: tuple[int, ...] = (0,)
    first_tokens: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Forced:
    """Teacher forcing of one input: at each of its forced tokens the best candidates, best first, their log-probabilities
    and texts [steps][k]."""

    input: int
    ids: tuple[tuple[int, ...], ...]
    log_probs: tuple[tuple[float, ...], ...]
    texts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class EncoderCacheUsed:
    """Over the worker's life: rows found and not found, bytes held and allowed."""

    hits: int
    misses: int
    held_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class MemorySampled:
    """Sampled by the parent from outside the worker."""

    t_ns: int
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryPeak:
    """The kernel's own high-water marks: over the process's life, and since loading ended (0 where it cannot tell)."""

    peak_rss_bytes: int
    generation_peak_rss_bytes: int
    device_peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AgreementUnknown:
    """The reference could not be computed, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The worker's last word on a run; the worker stays warm."""

    t_ns: int


@dataclass(frozen=True, slots=True)
class RunCancelled:
    t_ns: int


@dataclass(frozen=True, slots=True)
class RunFailed:
    error: ErrorRecord


Event: TypeAlias = (
    WorkerReady | PhaseBegan | PhaseEnded | Progress | PlanResolved | Converted | Compiled | ModelLoaded | InputsTokenized
    | RepetitionBegan | Encoded | StepDone | TextSoFar | RepetitionDone | Forced | EncoderCacheUsed | MemorySampled
    | MemoryPeak | Agreement | AgreementUnknown | RunFinished | RunCancelled | RunFailed
)  # fmt: skip

_TYPES: dict[str, type] = {cls.__name__: cls for cls in get_args(Event)}


def encode(event: Event) -> str:
    """One line of JSON, without the line end."""
    return json.dumps({"type": type(event).__name__, **to_json(event)}, separators=(",", ":"), ensure_ascii=False)


def decode(line: str) -> Event:
    """Raises ValueError, with the reason, for anything that ``encode`` did not write."""
    data: Any = json.loads(line)
    if not isinstance(data, dict) or data.get("type") not in _TYPES:
        raise ValueError(f"not an event: {line[:200]!r}")
    cls = _TYPES[data.pop("type")]
    event: Event = from_json(cls, data)
    return event
