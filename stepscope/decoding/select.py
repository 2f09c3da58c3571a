"""The reference for picking a row's candidates from logits, in numpy; runtimes have their own, held to this by tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stepscope.core.session import Candidates


def top_candidates(logits: NDArray[np.float32], k: int) -> Candidates:
    """logits: [rows, vocabulary] -> the best k per row, best first, normalized by one log-sum-exp per row.

    For k = 1 the log-probability is left out, as nothing needs it.
    """
    if k == 1:
        return Candidates(logits.argmax(axis=1)[:, None], None)
    part = np.argpartition(-logits, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(logits, part, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    ids, best = np.take_along_axis(part, order, axis=1), np.take_along_axis(values, order, axis=1)
    peak = logits.max(axis=1, keepdims=True)
    normalizer = peak + np.log(np.exp(logits - peak).sum(axis=1, keepdims=True))
    return Candidates(ids, (best - normalizer).astype(np.float32))
