"""The book of beam slots against a search that copies every row's own history."""

from __future__ import annotations

import numpy as np
import pytest

from stepscope.decoding.slots import BeamSlots


@pytest.mark.parametrize("seed", range(6))
def test_rows_see_exactly_their_own_past(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, beams = 3, int(rng.integers(1, 4))
    slots = BeamSlots(inputs)
    rows: list[list[tuple[int, int]]] = [[] for _ in range(inputs)]  # of each row: (step, number of the slot)
    taken = 0
    for step in range(8):
        parents = None
        if step:
            groups = [list(range(i * slots.beams, (i + 1) * slots.beams)) for i in range(slots.inputs)]
            if step == 5 and len(groups) > 1:
                del groups[int(rng.integers(len(groups)))]
            width = beams if step >= 2 else slots.beams
            parents = np.array([rng.choice(group) for group in groups for _ in range(width)])
            before = slots.inputs
            stay = slots.follow(parents)
            assert (stay is None) == (len(groups) == before)
            rows = [list(rows[parent]) for parent in parents]
        distance, mask = slots.next()
        for row in range(len(rows)):
            rows[row].append((step, taken + row % slots.beams))
        taken += slots.beams
        assert mask.shape == (slots.inputs, 1, slots.beams, taken) and distance.shape == (taken,)
        for row, history in enumerate(rows):
            seen = np.flatnonzero(mask[row // slots.beams, 0, row % slots.beams] == 0)
            assert seen.tolist() == [slot for _, slot in history]
            assert (distance[seen] + step).tolist() == [at for at, _ in history]
