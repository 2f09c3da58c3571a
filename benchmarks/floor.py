"""Measures the loop's own floor, and what instruments and event stream add to a step, so that neither is guessed.

Floor: the whole loop over the null session, per step, greedy and with 4 beams. Instruments: a session whose step takes
2 ms of work, decoded with and without the live watcher writing its events to a pipe that another process reads,
interleaved; the ratio of each pair.
"""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter_ns

import numpy as np

from backends.null import NullSession
from stepscope.core.plan import BeamSearch, DecodePlan, LoadPlan, candidates_needed
from stepscope.core.request import Search
from stepscope.core.session import Candidates, SpecialTokens, TokenBatch
from stepscope.core.statistics import bootstrap_median, median
from stepscope.decoding.loop import decode
from stepscope.worker.generation import LiveWatcher
from stepscope.worker.stream import EventStream

SPECIAL = SpecialTokens(start=0, pad=0, eos=1)
STEPS = 256
REPETITIONS = 41
STEP_NS = 2_000_000
BARS_NS = {1: 15_000, 4: 60_000}


class TwoMillisecondSession(NullSession):
    """Spins for 2 ms in every step, as a runtime that keeps the processor busy does."""

    def step(self, state: object, tokens: object, parents: object) -> Candidates:
        end = perf_counter_ns() + STEP_NS
        while perf_counter_ns() < end:
            pass
        return super().step(state, tokens, parents)  # type: ignore[arg-type]


def session(cls: type[NullSession], search: Search) -> NullSession:
    return cls(LoadPlan("", "null", candidates=candidates_needed(search)), vocabulary=32128)


def batch() -> TokenBatch:
    return TokenBatch(np.ones((1, 16), np.int64), np.ones((1, 16), bool), STEPS)


def floor(num_beams: int) -> list[float]:
    """Nanoseconds per step of the whole loop, one value a repetition."""
    search = Search(num_beams=num_beams, max_new_tokens=STEPS)
    plan = DecodePlan(search, BeamSearch.VECTORIZED)
    null = session(NullSession, search)
    values = []
    for repetition in range(REPETITIONS + 5):
        begin = perf_counter_ns()
        decode(null, batch(), SPECIAL, plan)
        if repetition >= 5:
            values.append((perf_counter_ns() - begin) / STEPS)
    return values


def instruments() -> list[float]:
    """Ratio of the time of a generation with the live watcher to one without, one value a pair."""
    search = Search(max_new_tokens=STEPS)
    plan = DecodePlan(search)
    slow = session(TwoMillisecondSession, search)
    drain = subprocess.Popen(
        [sys.executable, "-c", "import sys\nfor line in sys.stdin: pass"], stdin=subprocess.PIPE, text=True
    )
    assert drain.stdin is not None
    emit = EventStream(drain.stdin).emit
    ratios = []
    for _ in range(11):
        times = []
        for watcher in (None, LiveWatcher(emit, lambda ids: " ".join(map(str, ids)))):
            begin = perf_counter_ns()
            decode(slow, batch(), SPECIAL, plan, watcher=watcher)
            times.append(perf_counter_ns() - begin)
        ratios.append(times[1] / times[0])
    drain.stdin.close()
    drain.wait()
    return ratios


def main(arguments: list[str]) -> int:
    good = True
    for num_beams, bar in BARS_NS.items():
        values = floor(num_beams)
        low, high = bootstrap_median(values)
        met = median(values) < bar
        good &= met
        print(
            f"loop floor, {'greedy' if num_beams == 1 else f'{num_beams} beams'}: {median(values) / 1e3:.1f} us a step"
            f" ({low / 1e3:.1f}-{high / 1e3:.1f}), bar {bar / 1e3:.0f} us: {'met' if met else 'MISSED'}"
        )
    ratios = instruments()
    low, high = bootstrap_median(ratios)
    met = median(ratios) < 1.02
    good &= met
    print(
        f"instruments and event stream on a 2 ms step: {100 * (median(ratios) - 1):+.2f} %"
        f" ({100 * (low - 1):+.2f} to {100 * (high - 1):+.2f}), bar 2 %: {'met' if met else 'MISSED'}"
    )
    return 0 if good else 1
