"""Feeds given tokens whatever the model would choose (teacher forcing), to see how two stacks score the same text."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stepscope.core.session import Session, SpecialTokens, TokenBatch

from .loop import Cancelled

if TYPE_CHECKING:
    from stepscope.core.session import Ids, Scores


def forced(
    session: Session, batch: TokenBatch, special: SpecialTokens, tokens: Sequence[int], cancelled: threading.Event
) -> tuple[Ids, Scores]:
    """batch: one input. Ids and log-probabilities [len(tokens), k] of the candidates where each token was to be chosen.

    Raises Cancelled.
    """
    state = session.encode(batch)
    ids, scores = [], []
    for token in (special.start, *tokens[:-1]):
        if cancelled.is_set():
            raise Cancelled
        candidates = session.step(state, np.array([token], np.int64), None)
        assert candidates.log_probs is not None, "teacher forcing asks for more than one candidate"
        ids.append(candidates.ids[0])
        scores.append(candidates.log_probs[0])
    return np.stack(ids), np.stack(scores)
