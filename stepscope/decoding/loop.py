"""THE decode loop: the only code that calls ``encode`` and ``step``, and the only clock on them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Protocol

import numpy as np

from stepscope.core.plan import BeamSearch, DecodePlan, DraftFrom
from stepscope.core.session import Candidates, Drafts, Session, SpecialTokens, State, TokenBatch, Verifies

from .beam_naive import NaiveBeams
from .beam_vectorized import VectorizedBeams
from .draft import Drafted, Proposer, from_text
from .encoder_cache import EncoderCache
from .greedy import Greedy

if TYPE_CHECKING:
    from stepscope.core.session import Ids


class Cancelled(Exception):
    """The person who started this generation does not want it any more."""


class Shown(Protocol):
    """What can be shown of a search while it goes on."""

    def hypotheses(self) -> tuple[tuple[int, ...], ...]: ...


class SearchState(Shown, Protocol):
    """A search over all inputs: what it chooses, the session computes next."""

    def first(self) -> Ids: ...

    def advance(self, candidates: Candidates) -> tuple[Ids, Ids | None] | None: ...


class Watcher(Protocol):
    """Sees a generation while it goes on; called outside of every timed span, but inside the inter-token latency."""

    def encoded(self, t_ns: int, encode_ns: int, cached_rows: int) -> None: ...

    def stepped(self, step: int, t_ns: int, step_ns: int, rows: int, search: Shown) -> None: ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """One generation. step_ns: each call of ``step``; token_at_ns: clock when that step's ids were on the host;
    rows: rows in each step; token_ids: per input, end of sequence included."""

    encode_ns: int
    step_ns: tuple[int, ...]
    token_at_ns: tuple[int, ...]
    rows: tuple[int, ...]
    token_ids: tuple[tuple[int, ...], ...]


def new_search(inputs: int, special: SpecialTokens, plan: DecodePlan) -> SearchState:
    if plan.search.num_beams == 1:
        return Greedy(inputs, special, plan)
    if plan.beam_search is BeamSearch.NAIVE:
        return NaiveBeams(inputs, special, plan)
    return VectorizedBeams(inputs, special, plan)


def decode(
    session: Session,
    batch: TokenBatch,
    special: SpecialTokens,
    plan: DecodePlan,
    *,
    cache: EncoderCache | None = None,
    watcher: Watcher | None = None,
    cancelled: threading.Event | None = None,
) -> Decoded:
    """Decodes one batch. Raises Cancelled between two steps once ``cancelled`` is set, and whatever the session raises."""
    search = new_search(len(batch.ids), special, plan)
    step_ns: list[int] = []
    token_at_ns: list[int] = []
    rows: list[int] = []
    begin = perf_counter_ns()
    if cache is None:
        state, cached_rows = session.encode(batch), 0
    else:
        state, cached_rows = cache.encode(session, batch)
    end = perf_counter_ns()
    encode_ns = end - begin
    if watcher is not None:
        watcher.encoded(end, encode_ns, cached_rows)
    if plan.draft_from is not DraftFrom.NONE:
        return _decode_drafted(session, state, batch, special, plan, encode_ns, watcher, cancelled)
    tokens, parents = search.first(), None
    while True:
        begin = perf_counter_ns()
        candidates = session.step(state, tokens, parents)
        end = perf_counter_ns()
        step_ns.append(end - begin)
        token_at_ns.append(end)
        rows.append(len(tokens))
        chosen = search.advance(candidates)
        if watcher is not None:
            watcher.stepped(len(step_ns) - 1, end, end - begin, len(tokens), search)
        if chosen is None:
            break
        if cancelled is not None and cancelled.is_set():
            raise Cancelled
        tokens, parents = chosen
    return Decoded(encode_ns, tuple(step_ns), tuple(token_at_ns), tuple(rows), search.hypotheses())


def _proposer(session: Session, state: State, batch: TokenBatch, special: SpecialTokens, plan: DecodePlan) -> Proposer:
    if plan.draft_from is DraftFrom.TEXT:
        return from_text(batch.ids[0][batch.mask[0]].tolist(), special)
    assert isinstance(session, Drafts)
    own = session
    return lambda tokens, count: own.draft(state, np.array([special.start, *tokens], np.int64), count).tolist()


def _decode_drafted(
    session: Session,
    state: State,
    batch: TokenBatch,
    special: SpecialTokens,
    plan: DecodePlan,
    encode_ns: int,
    watcher: Watcher | None,
    cancelled: threading.Event | None,
) -> Decoded:
    """As ``decode`` for one row and drafts: a step may yield several tokens, which then share its time of arrival."""
    assert isinstance(session, Verifies) and len(batch.ids) == 1
    search = Drafted(_proposer(session, state, batch, special, plan), special, plan)
    step_ns: list[int] = []
    token_at_ns: list[int] = []
    rows: list[int] = []
    while True:
        begin = perf_counter_ns()  # drafting is part of the step
        asked = search.next()
        candidates = session.verify(state, asked)
        end = perf_counter_ns()
        before = len(search.tokens)
        kept = search.advance(asked, candidates)
        step_ns.append(end - begin)
        rows.append(len(asked))
        token_at_ns += [end] * (len(search.tokens) - before)
        if watcher is not None:
            watcher.stepped(len(step_ns) - 1, end, end - begin, len(asked), search)
        if kept is None:
            return Decoded(encode_ns, tuple(step_ns), tuple(token_at_ns), tuple(rows), search.hypotheses())
        if kept < len(asked):
            session.rewind(state, len(search.tokens))
        if cancelled is not None and cancelled.is_set():
            raise Cancelled
