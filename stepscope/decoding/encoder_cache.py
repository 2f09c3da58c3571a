"""Keeps encoder outputs of inputs seen before (technique ``encoder_cache``), for any session that can reuse them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from stepscope.core.session import Encoding, ReusesEncoding, Session, State, TokenBatch

if TYPE_CHECKING:
    from stepscope.core.session import Ids


class EncoderCache:
    """Least recently used out first, bounded by bytes. One per worker, that is per model and load plan.

    hits, misses: inputs found and not found, over the cache's life; held_bytes: bytes of the kept encodings.
    """

    def __init__(self, revision: str, limit_bytes: int) -> None:
        self._revision = revision.encode()
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[bytes, tuple[Encoding, int]] = OrderedDict()

    def encode(self, session: Session, batch: TokenBatch) -> tuple[State, int]:
        """The state for the batch, and how many of its rows were found here. Encodes only the others."""
        assert isinstance(session, ReusesEncoding)
        keys = [self._key(batch.ids[row][batch.mask[row]]) for row in range(len(batch.ids))]
        found = {key: self._kept[key][0] for key in keys if key in self._kept}
        hits = sum(key in found for key in keys)
        self.hits += hits
        self.misses += len(keys) - hits
        for key in found:
            self._kept.move_to_end(key)
        new = [row for row, key in enumerate(keys) if key not in found]
        if not new:
            return session.resume(batch, [found[key] for key in keys]), hits
        length = int(batch.mask[new].sum(axis=1).max())
        part = TokenBatch(batch.ids[new][:, :length], batch.mask[new][:, :length], batch.max_new_tokens)
        state = session.encode(part)
        for row, (encoding, size) in zip(new, session.encodings(state), strict=True):
            found[keys[row]] = encoding
            self._keep(keys[row], encoding, size)
        if len(new) == len(keys):
            return state, 0
        return session.resume(batch, [found[key] for key in keys]), hits

    def _key(self, tokens: Ids) -> bytes:
        return hashlib.sha256(self._revision + np.ascontiguousarray(tokens).tobytes()).digest()

    def _keep(self, key: bytes, encoding: Encoding, size: int) -> None:
        if key in self._kept or size > self.limit_bytes:
            return
        self._kept[key] = (encoding, size)
        self.held_bytes += size
        while self.held_bytes > self.limit_bytes:
            _, (_, freed) = self._kept.popitem(last=False)
            self.held_bytes -= freed
