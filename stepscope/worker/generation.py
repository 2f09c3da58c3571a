"""Times one generation from text to text, for sessions that our loop steps and for runtimes that own their loop."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

from stepscope.core import events as ev
from stepscope.core.plan import DecodePlan
from stepscope.core.request import RunRequest
from stepscope.core.session import Generates, Session, TokenBatch
from stepscope.decoding.encoder_cache import EncoderCache
from stepscope.decoding.loop import Cancelled, Shown, decode

from .models import Source
from .tokenize import to_batch

Emit = Callable[[ev.Event], None]
TEXT_EVERY_NS = 100_000_000  # detokenizing is not free: at most ten times a second


@dataclass(slots=True)
class Generation:
    """All that a repetition needs; equal for every repetition of a run."""

    request: RunRequest
    source: Source
    session: Session | Generates
    plan: DecodePlan
    cache: EncoderCache | None

    def batch(self, which: slice = slice(None)) -> TokenBatch:
        return self.padded(self.source.tokenizer.encode(self.request.texts[which]))

    def padded(self, rows: Sequence[Sequence[int]]) -> TokenBatch:
        return to_batch(rows, self.source.special.pad, self.plan.search.max_new_tokens)


class LiveWatcher:
    """Streams the live repetition: each step, and the text so far. before: texts and steps of earlier batches."""

    def __init__(
        self, emit: Emit, decode_text: Callable[[Sequence[int]], str], before: tuple[str, ...] = (), steps_before: int = 0
    ) -> None:
        self._emit, self._decode_text = emit, decode_text
        self._before, self._steps_before = before, steps_before
        self._last_text_ns = 0

    def encoded(self, t_ns: int, encode_ns: int, cached_rows: int) -> None:
        self._emit(ev.Encoded(t_ns, encode_ns, cached_rows))

    def stepped(self, step: int, t_ns: int, step_ns: int, rows: int, search: Shown) -> None:
        self._emit(ev.StepDone(self._steps_before + step, t_ns, step_ns, rows))
        if t_ns - self._last_text_ns > TEXT_EVERY_NS:
            self._last_text_ns = t_ns
            texts = (self._decode_text(ids) for ids in search.hypotheses())
            self._emit(ev.TextSoFar(t_ns, (*self._before, *texts)))


def generate_once(
    generation: Generation, index: int, kind: ev.RepetitionKind, cancelled: threading.Event, emit: Emit | None
) -> ev.RepetitionDone:
    """One repetition: all batches, one after another; streamed when ``emit`` is given. Raises Cancelled."""
    if cancelled.is_set():
        raise Cancelled
    begin = perf_counter_ns()
    if emit is not None:
        emit(ev.RepetitionBegan(index, kind, begin))
    tokenizer = generation.source.tokenizer
    rows = tokenizer.encode(generation.request.texts)
    tokenized = perf_counter_ns()
    if emit is not None:
        emit(ev.InputsTokenized(tuple(len(row) for row in rows)))
    parts: list[_Seen] = []
    texts: tuple[str, ...] = ()
    for which in generation.request.batches:
        steps = sum(len(part.step_ns) for part in parts)
        watcher = LiveWatcher(emit, tokenizer.decode, texts, steps) if emit is not None else None
        parts.append(_generate(generation, generation.padded(rows[which]), kind, cancelled, watcher, emit))
        texts += tuple(tokenizer.decode(ids) for ids in parts[-1].token_ids)
    end = perf_counter_ns()
    token_ids = tuple(ids for part in parts for ids in part.token_ids)
    token_ns = tuple(at - begin for part in parts for at in part.token_at_ns)
    encodes = [part.encode_ns for part in parts if part.encode_ns is not None]
    return ev.RepetitionDone(
        index=index,
        kind=kind,
        t_ns=begin,
        tokenize_ns=tokenized - begin,
        encode_ns=sum(encodes) if len(encodes) == len(parts) else None,
        step_ns=tuple(step for part in parts for step in part.step_ns),
        token_ns=token_ns,
        rows=tuple(count for part in parts for count in part.rows),
        time_to_first_token_ns=token_ns[0] if token_ns else None,
        total_ns=end - begin,
        tokens=sum(len(ids) for ids in token_ids),
        token_ids=token_ids,
        texts=texts,
        first_steps=_starts([len(part.step_ns) for part in parts]),
        first_tokens=_starts([len(part.token_at_ns) for part in parts]),
    )


def _starts(lengths: Sequence[int]) -> tuple[int, ...]:
    return tuple(itertools.accumulate(lengths[:-1], initial=0))


def _generate(
    generation: Generation,
    batch: TokenBatch,
    kind: ev.RepetitionKind,
    cancelled: threading.Event,
    watcher: LiveWatcher | None,
    emit: Emit | None,
) -> _Seen:
    """One batch."""
    session, plan, source = generation.session, generation.plan, generation.source
    if isinstance(session, Generates):
        watch = kind is not ev.RepetitionKind.WITHOUT_CALLBACK
        return _owned(session, batch, plan, emit, cancelled, source.tokenizer.decode, watch=watch)
    decoded = decode(session, batch, source.special, plan, cache=generation.cache, watcher=watcher, cancelled=cancelled)
    return _Seen(decoded.encode_ns, decoded.step_ns, decoded.token_at_ns, decoded.rows, decoded.token_ids)


@dataclass(slots=True)
class _Seen:
    encode_ns: int | None
    step_ns: tuple[int, ...]
    token_at_ns: tuple[int, ...]
    rows: tuple[int, ...]
    token_ids: tuple[tuple[int, ...], ...]


def _owned(
    session: Generates,
    batch: TokenBatch,
    plan: DecodePlan,
    emit: Emit | None,
    cancelled: threading.Event,
    decode_text: Callable[[Sequence[int]], str],
    *,
    watch: bool,
) -> _Seen:
    """A runtime that owns its loop: the time between two of its callbacks stands for a step."""
    at: list[int] = []
    newest: list[Sequence[int]] = []
    begin = perf_counter_ns()
    last_text = 0

    def on_token(tokens: Sequence[int]) -> None:
        nonlocal last_text
        now = perf_counter_ns()
        before = at[-1] if at else begin
        at.append(now)
        newest.append(tokens)
        if cancelled.is_set():
            raise Cancelled
        if emit is None:
            return
        emit(ev.StepDone(len(at) - 1, now, now - before, len(tokens) * plan.search.num_beams))
        if plan.search.num_beams == 1 and now - last_text > TEXT_EVERY_NS:
            last_text = now
            columns = zip(*newest, strict=True)
            emit(ev.TextSoFar(now, tuple(decode_text(ids) for ids in columns)))

    done = session.generate(batch, plan, on_token if watch else None)
    if not at:
        return _Seen(done.encode_ns, (), (), (), done.token_ids)
    first = begin + (done.encode_ns or 0)
    steps = tuple(b - a for a, b in zip([first, *at], at, strict=False))
    return _Seen(done.encode_ns, steps, tuple(at), (len(batch.ids) * plan.search.num_beams,) * len(at), done.token_ids)
