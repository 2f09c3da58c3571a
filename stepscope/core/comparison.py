"""What a comparison asks for and what it found, as plain values that page, command line, store and reports share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from enum import StrEnum

from . import catalog, compatibility, models
from .encoding import to_json
from .errors import RequestError, StepScopeError
from .request import RunRequest, Search, validate
from .result import PhaseTime, Summary
from .spec import ObservedBy

MAX_VARIANTS = 8
CONTROL = "A/A"  # the baseline once more, under another name: what differs between the two is noise


@dataclass(frozen=True, slots=True)
class Variant:
    """One stack. num_beams: 0 is the comparison's own; another number is work that is not equal, and said so."""

    name: str
    backend: str = "pytorch"
    techniques: tuple[str, ...] = ()
    threads: int = 1
    num_beams: int = 0
    device: str = "cpu"
    keep_float: tuple[str, ...] = ()
    calibration: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "techniques", tuple(sorted(set(self.techniques))))


@dataclass(frozen=True, slots=True)
class ComparisonSpec:
    """Several stacks on the same inputs.

    references: what a person would have written, per input, or none. baseline: name of the variant that ratios are to.
    batch_size: inputs generated together (0: all). processes: fresh processes of each variant at least and at most.
    precision: half-width of every ratio's interval, relative, at which no more processes are started. time_limit_s: after
    which none is started either. control: measure the baseline a second time, for the machine's noise.
    """

    model: str
    inputs: tuple[str, ...]
    variants: tuple[Variant, ...]
    baseline: str
    references: tuple[str, ...] = ()
    prefix: str = ""
    search: Search = field(default_factory=Search)
    batch_size: int = 0
    processes: int = 3
    max_processes: int = 8
    precision: float = 0.05
    time_limit_s: float = 110.0
    control: bool = True

    @property
    def measured(self) -> tuple[Variant, ...]:
        """All variants and, if asked for, the control, in the order of measuring."""
        if not self.control:
            return self.variants
        return (*self.variants, replace(self.variant(self.baseline), name=CONTROL))

    def variant(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)

    def request(self, variant: Variant, repetitions: int) -> RunRequest:
        """What one process of a variant carries out."""
        search = replace(self.search, num_beams=variant.num_beams or self.search.num_beams)
        return RunRequest(
            self.model, self.inputs, variant.backend, variant.techniques, self.prefix, search, variant.threads,
            variant.device, repetitions, keep_float=variant.keep_float, calibration=variant.calibration,
            batch_size=self.batch_size,
        )  # fmt: skip

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(to_json(self), sort_keys=True).encode()).hexdigest()[:16]


def check(spec: ComparisonSpec, *, cores: int) -> None:
    """Raises RequestError with every reason why this cannot be compared."""
    reasons = []
    names = [variant.name for variant in spec.variants]
    if not 2 <= len(names) <= MAX_VARIANTS:
        reasons.append(f"A comparison has 2 to {MAX_VARIANTS} variants, not {len(names)}.")
    reasons += [f"Two variants are called {name!r}." for name in sorted({n for n in names if names.count(n) > 1})]
    if any(not name.strip() or name == CONTROL for name in names):
        reasons.append(f"Every variant needs a name, and {CONTROL!r} is taken by the control.")
    if spec.baseline not in names:
        reasons.append(f"The baseline {spec.baseline!r} is none of the variants: {', '.join(names)}.")
    if spec.references and len(spec.references) != len(spec.inputs):
        reasons.append(f"There are {len(spec.inputs)} inputs and {len(spec.references)} references.")
    limits = (
        ("Processes", spec.processes, 2, 20), ("At most processes", spec.max_processes, spec.processes, 50),
        ("Precision", spec.precision, 0.001, 1.0), ("The time limit in seconds", spec.time_limit_s, 5, 24 * 3600),
    )  # fmt: skip
    reasons += [f"{name} must be between {low} and {high}, not {value}." for name, value, low, high in limits
                if not low <= value <= high]  # fmt: skip
    for variant in spec.variants:
        request = spec.request(variant, 3)
        try:
            validate(request, cores=cores)
            models.parse(spec.model)
            compatibility.resolve(request)
        except StepScopeError as error:
            reasons += [f"{variant.name}: {reason}" for reason in getattr(error, "reasons", (error.message,))]
    if reasons:
        raise RequestError(tuple(dict.fromkeys(reasons)))


class Verdict(StrEnum):
    BASELINE = "baseline"
    FASTER = "faster"
    SLOWER = "slower"
    NO_DIFFERENCE = "no difference"
    UNDECIDED = "undecided"  # too few processes, or too much noise
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Against the references (BLEU and chrF by sacrebleu, 0 to 100; exact match and ROUGE-L as shares)."""

    bleu: float
    chrf: float
    exact_match: float
    rouge_l: float


@dataclass(frozen=True, slots=True)
class QualityDifference:
    """To the baseline, with the interval of a paired bootstrap over the inputs; p: that there is none."""

    bleu: Interval
    chrf: Interval
    p_bleu: float


@dataclass(frozen=True, slots=True)
class MemoryTrace:
    """Resident bytes of one process. t_ns: since it started; phases on the same axis."""

    t_ns: tuple[int, ...] = ()
    rss_bytes: tuple[int, ...] = ()
    phases: tuple[PhaseTime, ...] = ()
    baseline_rss_bytes: int = 0
    loaded_rss_bytes: int = 0
    weight_bytes: int = 0
    peak_rss_bytes: int = 0


@dataclass(frozen=True, slots=True)
class VariantResult:
    """What was found of one variant.

    ratio: how many times faster than the baseline, over whole generations; p: adjusted, that there is no difference.
    process_ns: median generation of each process. curve_ns: median latency of each step over repetitions (of the first
    batch); steps_ns: quantiles 5, 25, 50, 75, 95 of all later steps. phases: median nanoseconds by name. tokens: new tokens
    of one repetition. warnings: why its figures want care, in words.
    """

    name: str
    verdict: Verdict
    run_ids: tuple[str, ...] = ()
    error: str = ""
    observed_by: ObservedBy = ObservedBy.LOOP
    ratio: Interval | None = None
    p: float | None = None
    memory_ratio: float | None = None
    process_ns: tuple[float, ...] = ()
    repetitions: int = 0
    summary: Summary = field(default_factory=Summary)
    curve_ns: tuple[int, ...] = ()
    steps_ns: tuple[int, ...] = ()
    phases: dict[str, int] = field(default_factory=dict)
    memory: MemoryTrace = field(default_factory=MemoryTrace)
    converted: bool = False
    tokens: int = 0
    equal_share: float | None = None
    first_difference_step: int | None = None
    differing_inputs: tuple[int, ...] = ()
    agreement_unknown: str = ""
    texts: tuple[str, ...] = ()
    quality: Quality | None = None
    quality_difference: QualityDifference | None = None
    breaks_even_after: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """noise: the control's ratio to the baseline; grade: in words. complete: nothing more will be measured."""

    variants: tuple[VariantResult, ...] = ()
    noise: Interval | None = None
    grade: str = ""
    banners: tuple[str, ...] = ()
    reference_texts: tuple[str, ...] = ()
    complete: bool = False

    def variant(self, name: str) -> VariantResult | None:
        return next((variant for variant in self.variants if variant.name == name), None)


def unequal_work(spec: ComparisonSpec) -> list[str]:
    """What differs between variants beside their stacks, in words."""
    found = []
    for words, values in (
        ("threads", {v.name: v.threads for v in spec.variants}),
        ("beams", {v.name: v.num_beams or spec.search.num_beams for v in spec.variants}),
        ("devices", {v.name: v.device for v in spec.variants}),
    ):
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name} {value}" for name, value in values.items())
            found.append(f"Work was not equal: the variants have different {words} ({listed}).")
    stops = [v.name for v in spec.variants if catalog.backend(v.backend).beams_stop_otherwise]
    if stops and spec.search.num_beams > 1:
        found.append(f"The beam search of {' and '.join(stops)} ends by its runtime's own rule.")
    return found
