"""Splits the speed of a stack into what its techniques contribute, alone and last, so that interactions show."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from . import catalog
from .comparison import MAX_VARIANTS, ComparisonResult, ComparisonSpec, Variant

NONE, ALL = "none of them", "all of them"


@dataclass(frozen=True, slots=True)
class Contribution:
    """Of one technique (or of several that only go together), as factors on the speed of a whole generation.

    alone: added to the stack without any; last: added to all the others, None where that was not measured.
    """

    title: str
    alone: float | None
    last: float | None


def decomposed(variant: Variant) -> list[Variant]:
    """The stack without its techniques, each alone, all but each, and the whole: as many as a comparison holds.

    What a technique requires stays with it, and what its backend brings is in all.
    """
    bare = replace(variant, name=NONE, techniques=())
    whole = replace(variant, name=ALL)
    keys = variant.techniques
    found = [bare]
    for key in keys:
        needed = catalog.technique(key).requires & set(keys)
        found.append(replace(variant, name=f"only {key}", techniques=(key, *sorted(needed))))
    for key in keys if len(keys) > 2 else ():
        dependent = {other for other in keys if key in catalog.technique(other).requires}
        left = tuple(other for other in keys if other != key and other not in dependent)
        found.append(replace(variant, name=f"without {key}", techniques=left))
    unique = {each.techniques: each for each in found}
    unique.pop(whole.techniques, None)
    return [*list(unique.values())[: MAX_VARIANTS - 1], whole]


def contributions(spec: ComparisonSpec, result: ComparisonResult) -> tuple[list[Contribution], float] | None:
    """Each technique's factors and the interaction: what all together give beyond the product of each alone. None unless
    the comparison holds a stack, the same without its techniques, and some in between, equal in all else."""
    times = {v.name: v.summary.total_ns for v in result.variants if v.summary.total_ns}
    known = {v.techniques: times[v.name] for v in spec.variants if v.name in times and _alike(v, spec.variants[0])}
    if not known or len(known) < 3:
        return None
    smallest, largest = min(known, key=len), max(known, key=len)
    added = set(largest) - set(smallest)
    if not set(smallest) < set(largest) or not all(set(smallest) <= set(each) <= set(largest) for each in known):
        return None
    found = []
    for key in sorted(added):
        alone = _time(known, {*smallest, key})
        rest = _time(known, set(largest) - {key})
        title = catalog.technique(key).title
        found.append(
            Contribution(title, known[smallest] / alone if alone else None, rest / known[largest] if rest else None)
        )
    product = math.prod(each.alone for each in found if each.alone)
    if any(each.alone is None for each in found):
        return (found, 1.0) if any(each.last for each in found) else None
    return found, known[smallest] / known[largest] / product


def _time(known: dict[tuple[str, ...], int], techniques: set[str]) -> int | None:
    return known.get(tuple(sorted(techniques)))


def _alike(one: Variant, other: Variant) -> bool:
    return replace(one, name="", techniques=()) == replace(other, name="", techniques=())
