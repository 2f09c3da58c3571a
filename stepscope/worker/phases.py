"""Carries out one run: load, the live repetition, warm-up, scored repetitions, each phase told as events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns

from stepscope.core import events as ev
from stepscope.core.compatibility import resolve
from stepscope.core.errors import WorkerProtocolError
from stepscope.core.plan import DecodePlan, LoadPlan
from stepscope.core.request import RunRequest
from stepscope.core.session import Compiles, Generates, Session
from stepscope.decoding.encoder_cache import EncoderCache

from . import opening, probe
from .generation import Generation, generate_once
from .models import Source, open_source

Emit = Callable[[ev.Event], None]


@dataclass(slots=True)
class Held:
    """What this process holds for its whole life."""

    plan: LoadPlan
    source: Source
    session: Session | Generates
    cache: EncoderCache | None = None


class Runner:
    """Runs requests one after another; all must resolve to the same LoadPlan."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._held: Held | None = None

    def run(self, request: RunRequest, cancelled: threading.Event) -> None:
        """Emits everything but the final event. Raises StepScopeError, Cancelled, or whatever a runtime raises."""
        load_plan, decode_plan = resolve(request)
        if self._held is not None and self._held.plan != load_plan:
            raise WorkerProtocolError("This worker holds another load plan.", "Start the run again.")
        peak_told = probe.reset_peak()
        held = self._load(load_plan, decode_plan)
        load_peak = probe.peak_rss_bytes()
        if peak_told:
            probe.reset_peak()
        generation = Generation(request, held.source, held.session, decode_plan, self._cache(held, decode_plan))
        compiled = self._compile(generation)
        with self._phase(ev.Phase.LIVE):
            self._repeat(generation, 0, ev.RepetitionKind.LIVE, cancelled)
        peak = probe.peak_rss_bytes()
        self._emit(ev.MemoryPeak(max(load_peak, peak), peak if peak_told else 0, _device_peak(load_plan.device)))
        with self._phase(ev.Phase.WARMUP):
            self._repeat(generation, 1, ev.RepetitionKind.WARMUP, cancelled)
        kinds = [ev.RepetitionKind.SCORED]
        if isinstance(held.session, Generates):
            kinds.append(ev.RepetitionKind.WITHOUT_CALLBACK)
        with self._phase(ev.Phase.SCORED):
            done = [
                generate_once(generation, 2 + at * len(kinds) + which, kind, cancelled, None)
                for at in range(request.repetitions)
                for which, kind in enumerate(kinds)
            ]
        for repetition in done:
            self._emit(repetition)
        if isinstance(held.session, Compiles):
            self._emit(ev.Compiled(compiled, held.session.graphs() - compiled))
        if (cache := generation.cache) is not None:
            self._emit(ev.EncoderCacheUsed(cache.hits, cache.misses, cache.held_bytes, cache.limit_bytes))

    def _load(self, plan: LoadPlan, decode_plan: DecodePlan) -> Held:
        baseline = probe.rss_bytes()
        if self._held is None:
            converts = opening.converts(plan)
            if converts:
                with self._phase(ev.Phase.CONVERT):
                    source = self._open(plan, decode_plan)
                    self._emit(opening.make_artifact(plan, source, self._progress))
            with self._phase(ev.Phase.LOAD):
                source = source if converts else self._open(plan, decode_plan)
                self._held = Held(plan, source, opening.open_session(plan, source, self._progress))
        else:
            with self._phase(ev.Phase.LOAD):
                self._tell_plan(plan, decode_plan, self._held.source, warm=True)
        report = self._held.session.report
        self._emit(
            ev.ModelLoaded(
                report.weight_bytes,
                report.parameters,
                report.vocabulary,
                baseline,
                probe.rss_bytes(),
                probe.peak_rss_bytes(),
                report.quantized,
                report.kept,
            )
        )
        return self._held

    def _compile(self, generation: Generation) -> int:
        """Graphs compiled so far."""
        session = generation.session
        if not isinstance(session, Compiles):
            return 0
        with self._phase(ev.Phase.COMPILE):
            self._progress("Compiling the decode step for these shapes")
            session.compile(generation.batch(), generation.plan.search.num_beams)
        return session.graphs()

    def _open(self, plan: LoadPlan, decode: DecodePlan) -> Source:
        source = open_source(plan.model, self._progress)
        self._tell_plan(plan, decode, source, warm=False)
        return source

    def _tell_plan(self, plan: LoadPlan, decode: DecodePlan, source: Source, *, warm: bool) -> None:
        self._emit(ev.PlanResolved(plan, decode, source.revision, source.random_weights, warm))

    def _cache(self, held: Held, plan: DecodePlan) -> EncoderCache | None:
        """The encoder cache lives as long as the worker, and is used by the runs that ask for it."""
        if not plan.encoder_cache_bytes:
            return None
        if held.cache is None:
            held.cache = EncoderCache(held.source.revision, plan.encoder_cache_bytes)
        return held.cache

    def _repeat(self, generation: Generation, index: int, kind: ev.RepetitionKind, cancelled: threading.Event) -> None:
        live = kind is ev.RepetitionKind.LIVE
        done = generate_once(generation, index, kind, cancelled, self._emit if live else None)
        self._emit(done)

    def _progress(self, message: str) -> None:
        self._emit(ev.Progress(message))

    @contextmanager
    def _phase(self, phase: ev.Phase) -> Iterator[None]:
        self._emit(ev.PhaseBegan(phase, perf_counter_ns()))
        yield
        self._emit(ev.PhaseEnded(phase, perf_counter_ns()))


def _device_peak(device: str) -> int:
    """The allocator's own peak on a GPU, in bytes; 0 on the CPU."""
    if device == "cpu":
        return 0
    import torch

    return int(torch.cuda.max_memory_allocated())
