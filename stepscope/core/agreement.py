"""Compares a run's tokens with the reference's, because speed is never shown without agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest


@dataclass(frozen=True, slots=True)
class Agreement:
    """Tokens against the reference's, over all inputs.

    equal_share: equal tokens at equal positions / longer of the two lengths; first_difference_step: earliest step at
    which any input differs, None when all are equal; differing_inputs: their indices.
    """

    equal_share: float
    first_difference_step: int | None
    differing_inputs: tuple[int, ...]
    reference: str
    reference_texts: tuple[str, ...]


def compare(
    tokens: Sequence[Sequence[int]],
    reference: Sequence[Sequence[int]],
    *,
    made_by: str,
    reference_texts: Sequence[str],
) -> Agreement:
    """tokens, reference: per input the new token ids. A missing token differs, so trailing differences count.

    Raises ValueError when the two do not hold the same number of inputs.
    """
    if len(tokens) != len(reference):
        raise ValueError(f"{len(tokens)} inputs against {len(reference)} of the reference")
    equal = longest = 0
    firsts: list[int] = []
    differing: list[int] = []
    for number, (ours, theirs) in enumerate(zip(tokens, reference, strict=True)):
        matches = [mine == other for mine, other in zip_longest(ours, theirs)]
        equal += sum(matches)
        longest += len(matches)
        if not all(matches):
            firsts.append(matches.index(False))
            differing.append(number)
    return Agreement(
        equal_share=equal / longest if longest else 1.0,
        first_difference_step=min(firsts, default=None),
        differing_inputs=tuple(differing),
        reference=made_by,
        reference_texts=tuple(reference_texts),
    )
