"""Keeps book of which beam descends from which cache slot, so that runtimes can reorder beams without moving a cache.

The beams of one input share its slots: slot s holds the keys and values of one row at one step. A row attends to the slots
that it descends from and to its own newest; a reorder changes this book, not the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepscope.core.session import Ids, Mask, Scores

BLOCKED = np.float32(-1e30)  # not -inf: a softmax over it stays a number in every runtime


class BeamSlots:
    """For [inputs, beams] rows: ``steps`` [slots] the decode step of each slot, ``visible`` [inputs, beams, slots].

    plain: no input has had beams yet, so that every row sees all of its input's slots, one per step, and no book is kept.
    """

    def __init__(self, inputs: int) -> None:
        self.inputs, self.beams = inputs, 1
        self.step = 0
        self.plain = True
        self._steps: NDArray[np.int64] = np.zeros(0, np.int64)
        self._visible: Mask = np.ones((inputs, 1, 0), bool)

    def follow(self, parents: Ids | None) -> Ids | None:
        """Rows continue others; parents [rows] as in ``Session.step``, an input's rows together and equally many.

        Returns the old indices of the inputs that stay, when they are not all.
        """
        if parents is None:
            return None
        of = parents // self.beams
        stay = of[np.flatnonzero(np.diff(of, prepend=-1))]
        beams = len(parents) // len(stay)
        if self.plain and beams > 1:
            self.plain = False
            self._steps, self._visible = np.arange(self.step), np.ones((self.inputs, 1, self.step), bool)
        if not self.plain:
            self._visible = self._visible.reshape(-1, self._visible.shape[2])[parents].reshape(len(stay), beams, -1)
        self.beams = beams
        if len(stay) == self.inputs:
            return None
        self.inputs = len(stay)
        return stay

    def next(self) -> tuple[NDArray[np.int64], Scores]:
        """Takes one step: distance [slots + beams] of every slot's step from this one (0 or negative), and mask
        [inputs, 1, beams, slots + beams], 0 where a row may attend. The last ``beams`` slots are this step's."""
        self.step += 1
        if self.plain:
            return np.arange(1 - self.step, 1), np.zeros((self.inputs, 1, 1, self.step), np.float32)
        new = np.broadcast_to(np.eye(self.beams, dtype=bool), (self.inputs, self.beams, self.beams))
        self._visible = np.concatenate([self._visible, new], axis=2)
        self._steps = np.concatenate([self._steps, np.full(self.beams, self.step - 1)])
        return self._steps - self.step + 1, np.where(self._visible, np.float32(0), BLOCKED)[:, None]
