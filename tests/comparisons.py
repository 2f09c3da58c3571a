"""Makes comparisons by hand: specs, visits and results, so that verdicts and pages can be tested without measuring."""

from __future__ import annotations

from collections.abc import Sequence

from stepscope.analysis.assemble import Visit
from stepscope.core import events as ev
from stepscope.core.comparison import ComparisonSpec, Variant
from stepscope.core.request import Search
from stepscope.core.result import RunResult
from stepscope.core.spec import ObservedBy

MS = 1_000_000


def spec(*names: str, **values: object) -> ComparisonSpec:
    """Variants of the null backend, the first one the baseline."""
    chosen = names or ("one", "two")
    variants = tuple(Variant(name, "null") for name in chosen)
    fields = {"inputs": ("a b c",), "search": Search(max_new_tokens=8), **values}
    return ComparisonSpec("random:t5-small", variants=variants, baseline=chosen[0], **fields)  # type: ignore[arg-type]


def visit(
    name: str, round_: int, total_ms: float, *, steps: int = 8, texts: Sequence[str] = ("Hallo",), equal: bool = True,
    status: ev.RunStatus = ev.RunStatus.DONE, observed_by: ObservedBy = ObservedBy.LOOP, peak: int = 100 * MS,
) -> Visit:  # fmt: skip
    """One process with three scored repetitions of about that long."""
    result = RunResult()
    result.apply([
        ev.PhaseBegan(ev.Phase.START, 0), ev.PhaseEnded(ev.Phase.START, 300 * MS),
        ev.PhaseBegan(ev.Phase.LOAD, 300 * MS), ev.PhaseEnded(ev.Phase.LOAD, 400 * MS),
        ev.ModelLoaded(40 * MS, 10, 100, 30 * MS, 80 * MS, 80 * MS, (), ()),
        ev.PhaseBegan(ev.Phase.LIVE, 400 * MS),
        *(ev.MemorySampled((100 + 10 * at) * MS, (30 + at) * MS) for at in range(40)),
        ev.MemoryPeak(peak, peak),
        ev.PhaseEnded(ev.Phase.LIVE, 500 * MS),
    ])  # fmt: skip
    if status is ev.RunStatus.DONE:
        step = round(total_ms * MS / (steps + 1))
        ends = [step * (at + 2) for at in range(steps)]
        for index, factor in enumerate((0.99, 1.0, 1.01)):
            result.apply([ev.RepetitionDone(
                index, ev.RepetitionKind.SCORED, 0, 0, step, (step,) * steps, tuple(ends), (1,) * steps, ends[0],
                round(total_ms * MS * factor), steps, (tuple(range(steps)),), tuple(texts),
            )])  # fmt: skip
        result.apply(
            [ev.Agreement(1.0 if equal else 0.5, None if equal else 2, () if equal else (0,), "reference", ("Hallo",))]
        )
    error = "" if status is ev.RunStatus.DONE else "The worker was ended by SIGKILL."
    return Visit(name, round_, f"{name}{round_}", status, error, "machine", ("avx512_vnni",), observed_by, result)
