"""Carries out one run: load, the live repetition, warm-up, scored repetitions, each phase told as events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter_ns

from stepscope.core import events as ev
from stepscope.core.compatibility import resolve
from stepscope.core.errors import RequestError, WorkerProtocolError
from stepscope.core.plan import DecodePlan, LoadPlan
from stepscope.core.request import RunRequest
from stepscope.core.session import Compiles, Generates, Session
from stepscope.decoding.encoder_cache import EncoderCache
from stepscope.decoding.forced import forced

from . import opening, probe
from .generation import Generation, generate_once
from .models import Source, open_source

Emit = Callable[[ev.Event], None]
_MOST_WARMUPS, _STEADY = 10, 0.02


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
        if request.forced:
            self._force(generation, cancelled)
            return
        with self._phase(ev.Phase.LIVE):
            live = self._repeat(generation, 0, ev.RepetitionKind.LIVE, cancelled)
        peak = probe.peak_rss_bytes()
        self._emit(ev.MemoryPeak(max(load_peak, peak), peak if peak_told else 0, _device_peak(load_plan.device)))
        with self._phase(ev.Phase.WARMUP):
            index = self._warm_up(generation, live.total_ns, cancelled)
        kinds = [ev.RepetitionKind.SCORED]
        if isinstance(held.session, Generates):
            kinds.append(ev.RepetitionKind.WITHOUT_CALLBACK)
        with self._phase(ev.Phase.SCORED):
            done = [
                generate_once(generation, index + at * len(kinds) + which, kind, cancelled, None)
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
            for which in generation.request.batches:
                session.compile(generation.batch(which), generation.plan.search.num_beams)
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

    def _repeat(
        self, generation: Generation, index: int, kind: ev.RepetitionKind, cancelled: threading.Event
    ) -> ev.RepetitionDone:
        live = kind is ev.RepetitionKind.LIVE
        done = generate_once(generation, index, kind, cancelled, self._emit if live else None)
        self._emit(done)
        return done

    def _warm_up(self, generation: Generation, first_ns: int, cancelled: threading.Event) -> int:
        """Repeats until a repetition is no longer faster than all before it; the index of the next one."""
        best_ns = first_ns
        for index in range(1, 1 + _MOST_WARMUPS):
            took_ns = self._repeat(generation, index, ev.RepetitionKind.WARMUP, cancelled).total_ns
            if took_ns > (1 - _STEADY) * best_ns:
                break
            best_ns = took_ns
        return index + 1

    def _force(self, generation: Generation, cancelled: threading.Event) -> None:
        """Teacher forcing, input by input, instead of repetitions. Raises RequestError if the session has no steps."""
        session, request = generation.session, generation.request
        if not isinstance(session, Session):
            raise RequestError("This runtime owns its loop and cannot be fed given tokens.", "Choose another backend.")
        with self._phase(ev.Phase.SCORED):
            for number, tokens in enumerate(request.forced):
                batch = replace(generation.batch(slice(number, number + 1)), max_new_tokens=len(tokens))
                ids, scores = forced(session, batch, generation.source.special, tokens, cancelled)
                self._emit(
                    ev.Forced(
                        number,
                        tuple(tuple(row) for row in ids.tolist()),
                        tuple(tuple(row) for row in scores.tolist()),
                        tuple(tuple(generation.source.tokenizer.decode([token]) for token in row) for row in ids.tolist()),
                    )
                )

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
