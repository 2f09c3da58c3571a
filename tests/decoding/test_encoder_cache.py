"""The encoder cache finds inputs by their tokens whatever the padding, keeps to its bytes, and forgets the oldest."""

from __future__ import annotations

import numpy as np

from stepscope.core.session import Candidates, LoadReport, TokenBatch
from stepscope.decoding.encoder_cache import EncoderCache


class CountingSession:
    """Its encoding of a row is the row's own tokens, 8 bytes each."""

    report = LoadReport(0, 0, 10)

    def __init__(self) -> None:
        self.encoded: list[list[int]] = []

    def encode(self, batch: TokenBatch) -> list[list[int]]:
        rows = [batch.ids[i][batch.mask[i]].tolist() for i in range(len(batch.ids))]
        self.encoded += rows
        return rows

    def encodings(self, state: list[list[int]]) -> list[tuple[list[int], int]]:
        return [(row, 8 * len(row)) for row in state]

    def resume(self, batch: TokenBatch, encodings: list[list[int]]) -> list[list[int]]:
        return list(encodings)

    def step(self, state: object, tokens: object, parents: object) -> Candidates:
        raise AssertionError("no step is needed here")

    def close(self) -> None:
        pass


def batch(*rows: list[int]) -> TokenBatch:
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros(ids.shape, bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return TokenBatch(ids, mask, 4)


def test_rows_are_found_in_other_batches_and_states_are_whole() -> None:
    session, cache = CountingSession(), EncoderCache("r", 1000)
    assert cache.encode(session, batch([1, 2, 3], [4])) == ([[1, 2, 3], [4]], 0)
    assert cache.encode(session, batch([4], [5, 6], [1, 2, 3])) == ([[4], [5, 6], [1, 2, 3]], 2)
    assert session.encoded == [[1, 2, 3], [4], [5, 6]]
    assert (cache.hits, cache.misses, cache.held_bytes) == (2, 3, 48)


def test_bytes_are_bounded_and_the_least_recently_used_goes_first() -> None:
    session, cache = CountingSession(), EncoderCache("r", 32)
    cache.encode(session, batch([1, 1]))
    cache.encode(session, batch([2, 2]))
    cache.encode(session, batch([1, 1]))
    cache.encode(session, batch([3, 3]))  # 48 bytes: [2, 2] has to go
    assert cache.held_bytes == 32
    session.encoded.clear()
    cache.encode(session, batch([1, 1], [3, 3]))
    assert session.encoded == []
    cache.encode(session, batch([2, 2]))
    assert session.encoded == [[2, 2]]
    cache.encode(session, batch([9] * 5))  # larger than all that may be held
    assert cache.held_bytes <= 32


def test_equal_rows_of_one_batch() -> None:
    session, cache = CountingSession(), EncoderCache("r", 1000)
    assert cache.encode(session, batch([7], [7]))[0] == [[7], [7]]
    assert cache.held_bytes == 8
