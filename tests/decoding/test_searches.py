"""Works small searches by hand, and holds the two beam searches to each other on random tables."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from stepscope.core.plan import BeamSearch, DecodePlan, candidates_needed
from stepscope.core.request import Search
from stepscope.core.session import SpecialTokens, TokenBatch
from stepscope.decoding.loop import Cancelled, decode
from tests.decoding.scripted import ScriptedSession, Table

SPECIAL = SpecialTokens(start=0, pad=0, eos=1)
BEAMS = [BeamSearch.NAIVE, BeamSearch.VECTORIZED]
A, B, C = 2, 3, 4


def batch(rows: int, limit: int) -> TokenBatch:
    return TokenBatch(np.ones((rows, 1), np.int64), np.ones((rows, 1), bool), limit)


def run(tables: list[Table], plan: DecodePlan, vocabulary: int = 8) -> tuple[tuple[tuple[int, ...], ...], ScriptedSession]:
    session = ScriptedSession(tables, vocabulary, candidates_needed(plan.search))
    decoded = decode(session, batch(len(tables), plan.search.max_new_tokens), SPECIAL, plan)
    return decoded.token_ids, session


def garden_path(prefix: tuple[int, ...]) -> dict[int, float]:
    """Greedy takes A (0.6) and then finds only poor odds; B (0.4) leads to a sure ending."""
    return {(): {A: 0.6, B: 0.4}, (A,): {A: 0.5, B: 0.4}, (B,): {1: 0.95, C: 0.05}}.get(prefix, {1: 0.9, C: 0.1})


def test_greedy_follows_the_best_token_and_stops_at_the_end() -> None:
    ids, session = run([garden_path], DecodePlan(Search(max_new_tokens=10)))
    assert ids == ((A, A, 1),)
    assert session.calls == [([0], None), ([A], None), ([A], None)]


@pytest.mark.parametrize("beam_search", BEAMS)
def test_beams_leave_the_garden_path(beam_search: BeamSearch) -> None:
    plan = DecodePlan(Search(num_beams=2, max_new_tokens=10, length_penalty=0.0), beam_search)
    ids, session = run([garden_path], plan)
    assert ids == ((B, 1),)  # 0.4 x 0.95 = 0.38 against 0.6 x 0.5 x 0.9 = 0.27
    assert session.calls[0] == ([0], None)
    assert session.calls[1] == ([A, B], [0, 0])  # one row becomes two beams
    assert session.calls[2] == ([A, B], [0, 0])  # B has ended: both beams go on from A


@pytest.mark.parametrize("beam_search", BEAMS)
def test_length_penalty_prefers_the_longer(beam_search: BeamSearch) -> None:
    plan = DecodePlan(Search(num_beams=2, max_new_tokens=10, length_penalty=4.0), beam_search)
    ids, _ = run([garden_path], plan)
    # log 0.38 / 2^4 = -0.060; log 0.27 / 3^4 = -0.016
    assert ids[0][:1] == (A,) and ids[0][-1] == 1 and len(ids[0]) >= 3


@pytest.mark.parametrize("beam_search", BEAMS)
def test_early_stopping_ends_with_the_first_full_set(beam_search: BeamSearch) -> None:
    """Two hypotheses finish at step 2; without early stopping the better third one is still found."""

    def table(prefix: tuple[int, ...]) -> dict[int, float]:
        return {
            (): {A: 0.5, B: 0.4, C: 0.1},
            (A,): {1: 0.3, A: 0.7},
            (B,): {1: 0.5, B: 0.5},
            (A, A): {1: 0.99, C: 0.01},
        }.get(prefix, {1: 0.01, C: 0.99})

    early = Search(num_beams=2, max_new_tokens=8, length_penalty=0.0, early_stopping=True)
    late = Search(num_beams=2, max_new_tokens=8, length_penalty=0.0)
    early_ids, early_session = run([table], DecodePlan(early, beam_search))
    late_ids, late_session = run([table], DecodePlan(late, beam_search))
    assert early_ids == late_ids == ((A, A, 1),)
    assert len(early_session.calls) == 3
    assert len(late_session.calls) == 3


@pytest.mark.parametrize("beam_search", BEAMS)
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("num_beams", [1, 2, 3, 5])
def test_dropping_rows_changes_nothing_and_shrinks_the_batch(num_beams: int, drop: bool, beam_search: BeamSearch) -> None:
    def ends_at(length: int) -> Table:
        return lambda prefix: {1: 0.99, A: 0.006, B: 0.004} if len(prefix) == length else {A: 0.7, B: 0.2, 1: 0.1}

    tables = [ends_at(2), ends_at(6), ends_at(4)]
    search = Search(num_beams=num_beams, max_new_tokens=9, length_penalty=0.0)
    kept, full = run(tables, DecodePlan(search, beam_search, drop_finished_rows=False), 12)
    got, session = run(tables, DecodePlan(search, beam_search, drop_finished_rows=drop), 12)
    assert got == kept
    widths = [len(tokens) for tokens, _ in session.calls]
    assert (widths[-1] < max(widths)) == drop
    assert len(session.calls) == len(full.calls)


@pytest.mark.parametrize("seed", range(30))
def test_naive_and_vectorized_beams_agree_on_random_tables(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, beams = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    memory: dict[tuple[int, tuple[int, ...]], dict[int, float]] = {}

    def table(index: int) -> Table:
        def look_up(prefix: tuple[int, ...]) -> dict[int, float]:
            if (index, prefix) not in memory:
                odds = np.random.default_rng([seed, index, *prefix]).dirichlet(np.full(14, 0.4))
                memory[index, prefix] = {token: float(odds[token - 1]) + 1e-9 for token in range(1, 15)}
            return memory[index, prefix]

        return look_up

    search = Search(
        num_beams=beams,
        max_new_tokens=int(rng.integers(1, 9)),
        length_penalty=float(rng.choice([0.0, 1.0, -1.0, 2.0])),
        early_stopping=bool(rng.integers(2)),
        exact_tokens=bool(rng.integers(4) == 0),
    )
    tables = [table(index) for index in range(rows)]
    results = [
        run(tables, DecodePlan(search, which, drop_finished_rows=drop), 16)[0] for which in BEAMS for drop in (False, True)
    ]
    assert all(result == results[0] for result in results)
    if search.exact_tokens:
        assert all(len(ids) == search.max_new_tokens and 1 not in ids for ids in results[0])


def test_exact_tokens_never_end() -> None:
    ids, _ = run([lambda prefix: {1: 0.9, A: 0.1}], DecodePlan(Search(max_new_tokens=5, exact_tokens=True)))
    assert ids == ((A, A, A, A, A),)


def test_every_step_is_timed_and_cancel_stops_between_steps() -> None:
    cancelled = threading.Event()

    class Watcher:
        steps: list[int] = []  # noqa: RUF012 - one use

        def encoded(self, t_ns: int, encode_ns: int, cached_rows: int) -> None:
            assert encode_ns >= 0 and cached_rows == 0

        def stepped(self, step: int, t_ns: int, step_ns: int, rows: int, search: object) -> None:
            self.steps.append(step)
            if step == 2:
                cancelled.set()

    session = ScriptedSession([lambda prefix: {A: 1.0}], 8, 1)
    watcher = Watcher()
    with pytest.raises(Cancelled):
        decode(session, batch(1, 50), SPECIAL, DecodePlan(Search(max_new_tokens=50)), watcher=watcher, cancelled=cancelled)
    assert watcher.steps == [0, 1, 2]
    done = decode(session, batch(1, 7), SPECIAL, DecodePlan(Search(max_new_tokens=7)))
    assert len(done.step_ns) == len(done.token_at_ns) == len(done.rows) == 7
    assert list(done.token_at_ns) == sorted(done.token_at_ns)
