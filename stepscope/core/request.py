"""What a person asks for, as one plain value that form, command line, queue, store and permalink share."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass, field

from .encoding import to_json
from .errors import RequestError

MAX_BATCH, MAX_INPUTS = 64, 1000
MAX_INPUT_CHARACTERS = 20_000
MAX_BEAMS = 16
MAX_NEW_TOKENS = 1024
MAX_REPETITIONS = 100


@dataclass(frozen=True, slots=True)
class Search:
    """How tokens are chosen; the fields mean what they mean in transformers' GenerationConfig.

    exact_tokens: suppress the end of sequence, so that every row yields exactly ``max_new_tokens`` tokens (equal work).
    """

    num_beams: int = 1
    max_new_tokens: int = 64
    exact_tokens: bool = False
    length_penalty: float = 1.0
    early_stopping: bool = False


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One configuration on one batch of inputs.

    techniques: keys, in any order (stored sorted). prefix: put before every input (T5's task prefix).
    threads: intra-op threads of the runtime. repetitions: scored repetitions after the live one and the warm-up.
    memory_limit_bytes: resident bytes at which the run is ended (0: most of what the machine has available).
    time_limit_s: wall-clock seconds for the whole run, load included.
    keep_float: parts of layer names that quantization leaves alone; calibration: file whose inputs static quantization
    sees (empty: the shipped evaluation inputs).
    batch_size: inputs that are generated together, batch after batch (0: all at once).
    forced: per input the tokens that are fed whatever the model would choose (teacher forcing); then that is the whole run.
    """

    model: str
    inputs: tuple[str, ...]
    backend: str = "pytorch"
    techniques: tuple[str, ...] = ()
    prefix: str = ""
    search: Search = field(default_factory=Search)
    threads: int = 1
    device: str = "cpu"
    repetitions: int = 3
    memory_limit_bytes: int = 0
    time_limit_s: float = 600.0
    keep_float: tuple[str, ...] = ()
    calibration: str = ""
    batch_size: int = 0
    forced: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "techniques", tuple(sorted(set(self.techniques))))

    @property
    def texts(self) -> tuple[str, ...]:
        """The inputs as the tokenizer sees them."""
        return tuple(self.prefix + text for text in self.inputs)

    @property
    def batches(self) -> list[slice]:
        """Which inputs go together."""
        size = self.batch_size or len(self.inputs) or 1
        return [slice(at, at + size) for at in range(0, len(self.inputs), size)]

    def digest(self) -> str:
        """Hash of the whole request: equal requests are comparable runs."""
        return _digest(to_json(self))

    def reference_digest(self, revision: str) -> str:
        """Hash of all that decides the reference's tokens: weights (``revision``), inputs and search."""
        return _digest([self.model, revision, self.texts, to_json(self.search)])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def split_lines(text: str) -> tuple[str, ...]:
    """The non-empty lines of a text, each one input of the batch."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def validate(request: RunRequest, *, cores: int) -> None:
    """Raises RequestError with every reason why the values themselves cannot be; stacks are judged elsewhere."""
    reasons = list(_input_reasons(request))
    search = request.search
    limits = (
        ("Beams", search.num_beams, 1, MAX_BEAMS),
        ("Max new tokens", search.max_new_tokens, 1, MAX_NEW_TOKENS),
        ("Threads", request.threads, 1, cores),
        ("Repetitions", request.repetitions, 1, MAX_REPETITIONS),
        ("Batch size", request.batch_size, 0, MAX_BATCH),
    )
    for name, value, low, high in limits:
        if not low <= value <= high:
            reasons.append(f"{name} must be between {low} and {high}, not {value}.")
    if not -10.0 <= search.length_penalty <= 10.0:
        reasons.append(f"Length penalty must be between -10 and 10, not {search.length_penalty}.")
    if not 1.0 <= request.time_limit_s <= 24 * 3600:
        reasons.append(f"The time limit must be between 1 second and 24 hours, not {request.time_limit_s} s.")
    if reasons:
        raise RequestError(tuple(reasons))


def _input_reasons(request: RunRequest) -> list[str]:
    inputs = request.inputs
    if not inputs or not any(text.strip() for text in inputs):
        return ["There is no input: type a sentence, choose an example or upload a file."]
    reasons = []
    most = MAX_INPUTS if request.batch_size else MAX_BATCH
    if len(inputs) > most:
        reasons.append(f"{len(inputs)} inputs are more than one batch can hold ({most}): remove some lines.")
    for number, text in enumerate(inputs, 1):
        if not text.strip():
            reasons.append(f"Input {number} is empty: remove it or type something.")
        elif len(text) > MAX_INPUT_CHARACTERS:
            reasons.append(
                f"Input {number} has {len(text):,} characters, more than the {MAX_INPUT_CHARACTERS:,} that fit: shorten it."
            )
        elif (bad := _control_character(text)) is not None:
            where, name = bad
            reasons.append(f"Input {number} holds a control character ({name}) at position {where}: remove it.")
    return reasons


def _control_character(text: str) -> tuple[int, str] | None:
    """Position (from 1) and code of the first control character; tabs and line ends are ordinary white space."""
    for position, char in enumerate(text, 1):
        if unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\r":
            return position, "NUL" if char == "\0" else f"U+{ord(char):04X}"
    return None
