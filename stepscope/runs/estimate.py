"""Says before a comparison starts how long it will take and how much memory, from earlier runs where there are any."""

from __future__ import annotations

import json
from dataclasses import dataclass

from stepscope.core import catalog, models
from stepscope.core.comparison import ComparisonSpec, Variant
from stepscope.core.events import Phase
from stepscope.core.plan import Quantization

from .rows import from_row
from .store import Store

_GENERATIONS = 1 + 2 + 5  # watched, warm-up, scored: of a process, about
_BYTES_PER_S, _TORCH_START_S, _START_S = 8e9, 6.0, 1.0
_UNKNOWN_WEIGHTS = 250_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of all processes at the least number of rounds. rough: variants of which no earlier run is known."""

    seconds: float
    memory_bytes: int
    rough: tuple[str, ...]


def estimate(store: Store, spec: ComparisonSpec) -> Estimate:
    seconds, memory, rough = 0.0, 0, []
    for variant in spec.measured:
        known = _known(store, spec, variant)
        if known is None and variant in spec.variants:
            rough.append(variant.name)
        start_s, step_s, peak = known or _guessed(spec, variant)
        each_s = start_s + _GENERATIONS * _steps(spec) * step_s
        seconds += spec.processes * each_s
        memory = max(memory, peak)
    return Estimate(min(seconds, spec.time_limit_s), memory, tuple(rough))


def _steps(spec: ComparisonSpec) -> int:
    """Decode steps of one generation: as many as asked for, or as the longest input's words suggest."""
    total = 0
    for which in spec.request(spec.variants[0], 1).batches:
        words = max(len(text.split()) for text in spec.inputs[which])
        most = spec.search.max_new_tokens
        total += most if spec.search.exact_tokens else min(most, 2 * words + 4)
    return total


def _known(store: Store, spec: ComparisonSpec, variant: Variant) -> tuple[float, float, int] | None:
    """Seconds to start, seconds a step and peak bytes of the newest run of this stack."""
    request = spec.request(variant, 1)
    query = (
        "SELECT * FROM runs WHERE model=? AND backend=? AND techniques=? AND num_beams=? AND status='done'"
        " AND total_ns IS NOT NULL ORDER BY created_ns DESC LIMIT 1"
    )
    found = store.connection().execute(
        query, (request.model, request.backend, json.dumps(request.techniques), request.search.num_beams)
    ).fetchone()  # fmt: skip
    if found is None:
        return None
    row = from_row(found)
    result = store.result(row.id)
    once = sum(p.duration_ns or 0 for p in result.phases if p.phase in (Phase.START, Phase.LOAD, Phase.COMPILE))
    last = result.scored[-1]
    steps = len(last.step_ns) or last.tokens
    return once / 1e9, last.total_ns / 1e9 / max(1, steps), row.summary.peak_rss_bytes or 0


def _guessed(spec: ComparisonSpec, variant: Variant) -> tuple[float, float, int]:
    directory = models.parse(spec.model).directory
    weights = _UNKNOWN_WEIGHTS
    if directory is not None and directory.is_dir():
        weights = 2 * sum(file.stat().st_size for file in directory.glob("*.safetensors"))  # float32 of 16 bits
    sets = [catalog.technique(key).sets for key in variant.techniques]
    small = any(each.get("quantization", Quantization.NONE) != Quantization.NONE for each in sets)
    cached = any("self_kv_cache" in each for each in sets) or "self_kv_cache" in catalog.backend(variant.backend).brings
    torch = any(package.module == "torch" and package.preload for package in catalog.backend(variant.backend).packages)
    step_s = 0.001 + weights * (0.25 if small else 1.0) * (1 if cached else 4) / _BYTES_PER_S
    return (_TORCH_START_S if torch else _START_S), step_s, weights * 2 + (400_000_000 if torch else 100_000_000)
