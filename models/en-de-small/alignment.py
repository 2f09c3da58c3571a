"""Shows the cross-attention where to look: without it a small T5 spends its first hour as a mere language model.

Word alignments come from IBM model 1 (Brown et al. 1993, "The Mathematics of Statistical Machine Translation") over
the same pieces that the model reads, sharpened by a preference for the diagonal; guiding one head by them follows
Garg et al. 2019, "Jointly Learning to Align and Translate with Transformer Models".
"""

from __future__ import annotations

import numpy as np
import torch

from pairs import VOCABULARY, Example


class Alignments:
    """p(target piece | source piece) from the training pairs, and from it a target distribution for attention."""

    def __init__(self, english: list[list[int]], german: list[list[int]], iterations: int = 4) -> None:
        cells, widths = [], []
        for source, target in zip(english, german, strict=True):
            e, g = np.array([*source, 1], np.int32), np.array([*target, 1], np.int32)
            cells.append((g[:, None] + VOCABULARY * e[None, :]).ravel())
            widths.append(np.full(len(g), len(e), np.int32))
        lengths = np.concatenate(widths)
        starts = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)])
        self.keys, place = np.unique(np.concatenate(cells), return_inverse=True)
        del cells
        source_of = self.keys // VOCABULARY
        self.values = np.ones(len(self.keys))
        for _ in range(iterations):
            weight = self.values[place]
            weight /= np.repeat(np.add.reduceat(weight, starts), lengths)
            count = np.bincount(place, weight, len(self.keys))
            self.values = count / np.bincount(source_of, count, VOCABULARY)[source_of]

    def guide(self, batch: list[Example], source: torch.Tensor, target: torch.Tensor, prefix: list[int]) -> torch.Tensor:
        """[rows, target, source] distributions over the source; nothing falls on padding or on the prefix."""
        x, y = source.cpu().numpy(), target.cpu().numpy()
        keys = np.clip(y, 0, None)[:, :, None] + VOCABULARY * x[:, None, :]
        at = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        weight = np.where(self.keys[at] == keys, self.values[at], 0.0) + 1e-4
        weight += 0.5 * (y[:, :, None] == x[:, None, :])  # names and numbers stay what they are
        skip = np.array([len(prefix) if s[: len(prefix)] == prefix else 0 for s, _ in batch])[:, None]
        real_x = np.array([len(s) for s, _ in batch])[:, None] - skip
        real_y = np.array([len(t) for _, t in batch])[:, None]
        i = (np.arange(x.shape[1])[None] - skip) / real_x
        j = np.arange(y.shape[1])[None] / real_y
        weight *= np.exp(-4 * np.abs(j[:, :, None] - i[:, None, :])) * ((i >= 0) & (x != 0))[:, None, :]
        weight /= weight.sum(2, keepdims=True)
        return torch.from_numpy(weight.astype(np.float32)).to(source.device)
