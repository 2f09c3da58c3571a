"""Folds a run's events into what pages, command line and store show of it; the only reader of event order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from . import events as ev
from .plan import DecodePlan, LoadPlan
from .statistics import median, percentile


@dataclass(frozen=True, slots=True)
class PhaseTime:
    phase: ev.Phase
    start_ns: int
    end_ns: int | None = None

    @property
    def duration_ns(self) -> int | None:
        return None if self.end_ns is None else self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of the scored repetitions: medians over repetitions of each repetition's own figure."""

    time_to_first_token_ns: int | None = None
    encode_ns: int | None = None
    itl_p50_ns: int | None = None
    itl_p95_ns: int | None = None
    step_p50_ns: int | None = None
    time_per_output_token_ns: int | None = None
    total_ns: int | None = None
    tokens_per_second: float | None = None
    tokens: int | None = None
    peak_rss_bytes: int | None = None
    weight_bytes: int | None = None


@dataclass(slots=True)
class RunResult:
    """Grows event by event; every list keeps the order of arrival."""

    load_plan: LoadPlan | None = None
    decode_plan: DecodePlan | None = None
    revision: str = ""
    random_weights: bool = False
    warm: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    phases: list[PhaseTime] = field(default_factory=list)
    progress: str = ""
    converted: ev.Converted | None = None
    compiled: ev.Compiled | None = None
    model: ev.ModelLoaded | None = None
    input_lengths: tuple[int, ...] = ()
    live_start_ns: int | None = None
    live_encode: ev.Encoded | None = None
    live_steps: list[ev.StepDone] = field(default_factory=list)
    live_texts: tuple[str, ...] = ()
    repetitions: list[ev.RepetitionDone] = field(default_factory=list)
    forced: list[ev.Forced] = field(default_factory=list)
    memory: list[ev.MemorySampled] = field(default_factory=list)
    peak: ev.MemoryPeak | None = None
    encoder_cache: ev.EncoderCacheUsed | None = None
    agreement: ev.Agreement | None = None
    agreement_unknown: str = ""

    def apply(self, events: Iterable[ev.Event]) -> RunResult:
        for event in events:
            self._apply(event)
        return self

    def _apply(self, event: ev.Event) -> None:
        match event:
            case ev.WorkerReady():
                self.versions = event.versions
            case ev.PhaseBegan():
                self.phases.append(PhaseTime(event.phase, event.t_ns))
                self.progress = ""
            case ev.PhaseEnded():
                for i in reversed(range(len(self.phases))):
                    if self.phases[i].phase == event.phase and self.phases[i].end_ns is None:
                        self.phases[i] = replace(self.phases[i], end_ns=event.t_ns)
                        break
            case ev.Progress():
                self.progress = event.message
            case ev.PlanResolved():
                self.load_plan, self.decode_plan = event.load_plan, event.decode_plan
                self.revision, self.random_weights, self.warm = event.revision, event.random_weights, event.warm
            case ev.Converted():
                self.converted = event
            case ev.Compiled():
                self.compiled = event
            case ev.ModelLoaded():
                self.model = event
            case ev.InputsTokenized():
                self.input_lengths = event.lengths
            case ev.RepetitionBegan():
                if event.kind == ev.RepetitionKind.LIVE:
                    self.live_start_ns = event.t_ns
            case ev.Encoded():
                self.live_encode = event
            case ev.StepDone():
                self.live_steps.append(event)
            case ev.TextSoFar():
                self.live_texts = event.texts
            case ev.RepetitionDone():
                self.repetitions.append(event)
                if event.kind == ev.RepetitionKind.LIVE:
                    self.live_texts = event.texts
            case ev.Forced():
                self.forced.append(event)
            case ev.MemorySampled():
                self.memory.append(event)
            case ev.MemoryPeak():
                self.peak = event
            case ev.EncoderCacheUsed():
                self.encoder_cache = event
            case ev.Agreement():
                self.agreement = event
            case ev.AgreementUnknown():
                self.agreement_unknown = event.reason
            case ev.RunFinished() | ev.RunCancelled() | ev.RunFailed():
                self.progress = ""

    @property
    def scored(self) -> list[ev.RepetitionDone]:
        return [rep for rep in self.repetitions if rep.kind == ev.RepetitionKind.SCORED]

    @property
    def unwatched(self) -> list[ev.RepetitionDone]:
        """Of a runtime that owns its loop: the same work without its callback."""
        return [rep for rep in self.repetitions if rep.kind == ev.RepetitionKind.WITHOUT_CALLBACK]

    @property
    def callback_cost(self) -> float | None:
        """Share by which observing a runtime through its callback lengthened the whole generation; None if not scored."""
        if not self.unwatched or not self.scored:
            return None
        return median([rep.total_ns for rep in self.scored]) / median([rep.total_ns for rep in self.unwatched]) - 1

    @property
    def texts(self) -> tuple[str, ...]:
        return self.repetitions[-1].texts if self.repetitions else self.live_texts

    def summary(self) -> Summary:
        reps = self.scored
        if not reps:
            return Summary(
                peak_rss_bytes=self.peak.peak_rss_bytes if self.peak else None,
                weight_bytes=self.model.weight_bytes if self.model else None,
            )
        gaps = [gap for rep in reps if (gap := inter_token_ns(rep))]
        return Summary(
            time_to_first_token_ns=_whole([t for rep in reps if (t := rep.time_to_first_token_ns) is not None]),
            encode_ns=_whole([t for rep in reps if (t := rep.encode_ns) is not None]),
            itl_p50_ns=_whole([median(gap) for gap in gaps]),
            itl_p95_ns=_whole([percentile(gap, 95) for gap in gaps]),
            step_p50_ns=_whole([median(steps) for rep in reps if (steps := later_steps_ns(rep))]),
            time_per_output_token_ns=_whole([each for rep in reps if (each := time_per_output_token_ns(rep))]),
            total_ns=_whole([rep.total_ns for rep in reps]),
            tokens_per_second=median([rep.tokens / (rep.total_ns / 1e9) for rep in reps]),
            tokens=reps[-1].tokens,
            peak_rss_bytes=self.peak.peak_rss_bytes if self.peak else None,
            weight_bytes=self.model.weight_bytes if self.model else None,
        )


def _whole(values: Sequence[float]) -> int | None:
    return round(median(values)) if values else None


def later_steps_ns(rep: ev.RepetitionDone) -> list[int]:
    """Latencies of all steps but each batch's step 0."""
    first = set(rep.first_steps)
    return [step for at, step in enumerate(rep.step_ns) if at not in first]


def inter_token_ns(rep: ev.RepetitionDone) -> list[int]:
    """Gaps between consecutive tokens of a batch from step 1 on; empty when steps could not be seen."""
    first = set(rep.first_tokens)
    return [rep.token_ns[at] - rep.token_ns[at - 1] for at in range(1, len(rep.token_ns)) if at not in first]


def time_per_output_token_ns(rep: ev.RepetitionDone) -> float | None:
    """(end - first token) / (tokens - 1), per input's own sequence: steps are shared by the rows of a batch."""
    gaps = inter_token_ns(rep)
    return sum(gaps) / len(gaps) if gaps else None
