"""Times one generation from text to text, for sessions that our loop steps and for runtimes that own their loop."""

from __future__ import annotations

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

    def batch(self) -> TokenBatch:
        rows = self.source.tokenizer.encode(self.request.texts)
        return to_batch(rows, self.source.special.pad, self.plan.search.max_new_tokens)


class LiveWatcher:
    """Streams the live repetition: each step, and the text so far."""

    def __init__(self, emit: Emit, decode_text: Callable[[Sequence[int]], str]) -> None:
        self._emit, self._decode_text = emit, decode_text
        self._last_text_ns = 0

    def encoded(self, t_ns: int, encode_ns: int, cached_rows: int) -> None:
        self._emit(ev.Encoded(t_ns, encode_ns, cached_rows))

    def stepped(self, step: int, t_ns: int, step_ns: int, rows: int, search: Shown) -> None:
        self._emit(ev.StepDone(step, t_ns, step_ns, rows))
        if t_ns - self._last_text_ns > TEXT_EVERY_NS:
            self._last_text_ns = t_ns
            self._emit(ev.TextSoFar(t_ns, tuple(self._decode_text(ids) for ids in search.hypotheses())))


def generate_once(
    generation: Generation, index: int, kind: ev.RepetitionKind, cancelled: threading.Event, emit: Emit | None
) -> ev.RepetitionDone:
    """One repetition; streamed when ``emit`` is given. Raises Cancelled."""
    if cancelled.is_set():
        raise Cancelled
    begin = perf_counter_ns()
    if emit is not None:
        emit(ev.RepetitionBegan(index, kind, begin))
    source, plan, tokenizer = generation.source, generation.plan, generation.source.tokenizer
    rows = tokenizer.encode(generation.request.texts)
    batch = to_batch(rows, source.special.pad, plan.search.max_new_tokens)
    tokenized = perf_counter_ns()
    if emit is not None:
        emit(ev.InputsTokenized(tuple(len(row) for row in rows)))
    session = generation.session
    if isinstance(session, Generates):
        watch = kind is not ev.RepetitionKind.WITHOUT_CALLBACK
        seen = _owned(session, batch, plan, emit, cancelled, tokenizer.decode, watch=watch)
    else:
        watcher = LiveWatcher(emit, tokenizer.decode) if emit is not None else None
        decoded = decode(session, batch, source.special, plan, cache=generation.cache, watcher=watcher, cancelled=cancelled)
        seen = _Seen(decoded.encode_ns, decoded.step_ns, decoded.token_at_ns, decoded.rows, decoded.token_ids)
    texts = tuple(tokenizer.decode(ids) for ids in seen.token_ids)
    end = perf_counter_ns()
    return ev.RepetitionDone(
        index=index,
        kind=kind,
        t_ns=begin,
        tokenize_ns=tokenized - begin,
        encode_ns=seen.encode_ns,
        step_ns=seen.step_ns,
        token_ns=tuple(at - begin for at in seen.token_at_ns),
        rows=seen.rows,
        time_to_first_token_ns=seen.token_at_ns[0] - begin if seen.token_at_ns else None,
        total_ns=end - begin,
        tokens=sum(len(ids) for ids in seen.token_ids),
        token_ids=seen.token_ids,
        texts=texts,
    )


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
