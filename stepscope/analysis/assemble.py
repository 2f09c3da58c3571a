"""Puts a comparison's finished processes together into its result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stepscope.core import events as ev
from stepscope.core.comparison import (
    CONTROL,
    ComparisonResult,
    ComparisonSpec,
    Interval,
    MemoryTrace,
    Variant,
    VariantResult,
    Verdict,
    unequal_work,
)
from stepscope.core.compatibility import int8_warning
from stepscope.core.result import RunResult, later_steps_ns
from stepscope.core.spec import ObservedBy
from stepscope.core.statistics import median, percentile

from . import quality, verdict

_SAMPLES, _CURVE = 300, 1024
_QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, slots=True)
class Visit:
    """One process of one variant, as the store kept it. round: from 0. isa: instructions of the machine it ran on."""

    variant: str
    round: int
    run_id: str
    status: ev.RunStatus
    error: str
    fingerprint: str
    isa: tuple[str, ...]
    observed_by: ObservedBy
    result: RunResult

    @property
    def total_ns(self) -> float | None:
        """Median whole generation, unwatched where there is a difference; None when the process did not finish."""
        scored = [rep.total_ns for rep in self.result.unwatched or self.result.scored]
        return median(scored) if scored and self.status is ev.RunStatus.DONE else None


def times(visits: Sequence[Visit], name: str, rounds: int) -> list[float | None]:
    found: list[float | None] = [None] * rounds
    for visit in visits:
        if visit.variant == name:
            found[visit.round] = visit.total_ns
    return found


def intervals(spec: ComparisonSpec, visits: Sequence[Visit]) -> dict[str, tuple[Interval, float] | None]:
    """Ratio to the baseline and adjusted p of every measured variant but the baseline, the control included."""
    rounds = 1 + max((visit.round for visit in visits), default=-1)
    base = times(visits, spec.baseline, rounds)
    others = [variant.name for variant in spec.measured if variant.name != spec.baseline]
    compared = max(1, len(spec.variants) - 1)
    return {name: verdict.ratio(base, times(visits, name, rounds), 1 if name == CONTROL else compared) for name in others}


def assemble(
    spec: ComparisonSpec,
    visits: Sequence[Visit],
    *,
    complete: bool,
    conversions: Mapping[str, float] | None = None,
    scores: bool = True,
) -> ComparisonResult:
    """conversions: seconds that making each artifact took, by digest. scores: quality too, which takes a second or two."""
    ratios = intervals(spec, visits)
    noise = found[0] if (found := ratios.get(CONTROL)) else None
    base_total = _middle(visits, spec.baseline)
    results = []
    for variant in spec.variants:
        mine = [visit for visit in visits if visit.variant == variant.name]
        result = _variant(spec, variant, mine, conversions or {})
        got = ratios.get(variant.name)
        result = replace(result, ratio=got[0] if got else None, p=got[1] if got else None)
        if variant.name == spec.baseline:
            result = replace(result, verdict=Verdict.BASELINE if not result.error else Verdict.FAILED)
        elif not result.error:
            result = replace(result, verdict=verdict.verdict(result.ratio, noise))
        results.append(_breaks_even(result, base_total))
    baseline = next(result for result in results if result.name == spec.baseline)
    results = [_memory_ratio(result, baseline) for result in results]
    if scores and spec.references:
        results = [_scored(spec, result, baseline) for result in results]
    return ComparisonResult(
        tuple(results),
        noise,
        verdict.grade(noise),
        tuple(_banners(spec, visits, results)),
        next((v.result.agreement.reference_texts for v in visits if v.result.agreement), ()),
        complete,
    )


def _middle(visits: Sequence[Visit], name: str) -> float | None:
    found = [t for visit in visits if visit.variant == name and (t := visit.total_ns)]
    return median(found) if found else None


def _variant(
    spec: ComparisonSpec, variant: Variant, visits: Sequence[Visit], conversions: Mapping[str, float]
) -> VariantResult:
    done = [visit for visit in visits if visit.total_ns]
    run_ids = tuple(visit.run_id for visit in visits)
    if not done:
        failed = next((visit for visit in visits if visit.error), None)
        state = Verdict.FAILED if failed else Verdict.UNDECIDED
        return VariantResult(variant.name, state, run_ids, failed.error if failed else "")
    first, last = done[0], done[-1].result
    merged = RunResult(peak=first.result.peak, model=first.result.model)
    merged.repetitions = [rep for visit in done for rep in visit.result.scored]
    steps = [step for rep in merged.repetitions for step in later_steps_ns(rep)]
    agreement = last.agreement
    phases = _phases(done)
    digest = last.converted.digest if last.converted else ""
    if digest in conversions:
        phases["convert"] = round(conversions[digest] * 1e9)
    isa, plan = done[-1].isa, last.load_plan
    warnings = [words for words in (int8_warning(plan, isa) if plan else "",) if words]
    return VariantResult(
        variant.name,
        Verdict.UNDECIDED,
        run_ids,
        observed_by=first.observed_by,
        process_ns=tuple(t for visit in done if (t := visit.total_ns)),
        repetitions=len(merged.repetitions),
        summary=replace(merged.summary(), total_ns=round(median([t for visit in done if (t := visit.total_ns)]))),
        curve_ns=_curve(merged.repetitions),
        steps_ns=tuple(round(percentile(steps, q)) for q in _QUANTILES) if steps else (),
        phases=phases,
        memory=_memory(first.result),
        converted=bool(digest),
        tokens=merged.repetitions[-1].tokens,
        equal_share=agreement.equal_share if agreement else None,
        first_difference_step=agreement.first_difference_step if agreement else None,
        differing_inputs=agreement.differing_inputs if agreement else (),
        agreement_unknown=last.agreement_unknown,
        texts=last.texts,
        warnings=tuple(warnings),
    )


def _phases(done: Sequence[Visit]) -> dict[str, int]:
    """Medians over processes; of a scored repetition: encode, and everything after it as steps."""
    found: dict[str, list[int]] = {}
    for visit in done:
        for phase in visit.result.phases:
            if phase.duration_ns is not None and phase.phase in (ev.Phase.START, ev.Phase.LOAD, ev.Phase.COMPILE):
                found.setdefault(phase.phase.value, []).append(phase.duration_ns)
        for rep in visit.result.scored:
            encode = rep.encode_ns or 0
            found.setdefault("encode", []).append(encode)
            found.setdefault("steps", []).append(rep.total_ns - encode)
    return {name: round(median(values)) for name, values in found.items()}


def _curve(repetitions: Sequence[ev.RepetitionDone]) -> tuple[int, ...]:
    """Of the first batch."""
    batches = [rep.step_ns[: rep.first_steps[1]] if len(rep.first_steps) > 1 else rep.step_ns for rep in repetitions]
    length = min((len(batch) for batch in batches), default=0)
    return tuple(round(median([batch[at] for batch in batches])) for at in range(min(length, _CURVE)))


def _memory(result: RunResult) -> MemoryTrace:
    if not result.phases or not result.memory:
        return MemoryTrace()
    begin = result.phases[0].start_ns
    every = math.ceil(len(result.memory) / _SAMPLES)
    samples = result.memory[::every]
    model, peak = result.model, result.peak
    spans = (replace(p, start_ns=p.start_ns - begin, end_ns=p.end_ns - begin) for p in result.phases if p.end_ns)
    return MemoryTrace(
        tuple(sample.t_ns - begin for sample in samples),
        tuple(sample.rss_bytes for sample in samples),
        tuple(spans),
        model.baseline_rss_bytes if model else 0,
        model.rss_bytes if model else 0,
        model.weight_bytes if model else 0,
        peak.peak_rss_bytes if peak else 0,
    )


def _memory_ratio(result: VariantResult, baseline: VariantResult) -> VariantResult:
    mine, theirs = result.summary.peak_rss_bytes, baseline.summary.peak_rss_bytes
    return replace(result, memory_ratio=mine / theirs if mine and theirs else None)


def _breaks_even(result: VariantResult, baseline_ns: float | None) -> VariantResult:
    """After how many generations what was paid once (conversion, compilation) has come back."""
    paid = result.phases.get("convert", 0) + result.phases.get("compile", 0)
    mine = result.summary.total_ns
    if not paid or not baseline_ns or not mine or result.verdict is not Verdict.FASTER:
        return result
    return replace(result, breaks_even_after=math.ceil(paid / (baseline_ns - mine)))


def _scored(spec: ComparisonSpec, result: VariantResult, baseline: VariantResult) -> VariantResult:
    if len(result.texts) != len(spec.references):
        return result
    found = quality.score(result.texts, spec.references)
    if result.name == baseline.name or len(baseline.texts) != len(spec.references):
        return replace(result, quality=found)
    return replace(
        result, quality=found, quality_difference=quality.difference(result.texts, baseline.texts, spec.references)
    )


def _banners(spec: ComparisonSpec, visits: Sequence[Visit], results: Sequence[VariantResult]) -> list[str]:
    found = unequal_work(spec)
    if len({visit.fingerprint for visit in visits}) > 1:
        found.append("The processes ran on different machines or versions: their times cannot be compared.")
    tokens = {result.name: result.tokens for result in results if result.tokens}
    if len(set(tokens.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in tokens.items())
        found.append(
            f"Work was not equal: the variants decoded different numbers of tokens ({listed}). Ask for an exact number of "
            "tokens to compare speed alone."
        )
    found += [f"{result.name}: {words}" for result in results for words in result.warnings]
    return found
