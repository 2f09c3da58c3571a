"""Decides which stacks can be, from declarations alone, and says every reason at once in words a person can act on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from . import catalog
from .encoding import from_json, to_json
from .errors import RequestError, StepScopeError
from .plan import FORCED_CANDIDATES, DecodePlan, LoadPlan, Quantization, candidates_needed
from .request import RunRequest
from .spec import BackendSpec, TechniqueSpec

_LOAD_FIELDS = {f.name for f in fields(LoadPlan)}


def reasons_against(technique: TechniqueSpec, backend: BackendSpec, device: str, num_beams: int = 1) -> list[str]:
    """Why this technique cannot be chosen for this backend on this device; empty when it can."""
    reasons = []
    honoured = technique.key in backend.honours or backend.key in technique.native_for
    if not honoured:
        if technique.beams_only and backend.own_beam_search:
            reasons.append(f"{technique.title}: {backend.own_beam_search}")
        else:
            reasons.append(f"{technique.title} is not something that the backend {backend.title} can do.")
    if device not in technique.devices:
        reasons.append(f"{technique.title} runs on {' and '.join(sorted(technique.devices))} only, not on {device}.")
    return reasons


def goes(technique: TechniqueSpec, backend: BackendSpec) -> bool:
    """Whether there is a device on which this backend can do this technique."""
    return any(not reasons_against(technique, backend, device) for device in technique.devices & backend.devices)


def stack_reasons(chosen: list[TechniqueSpec], backend: BackendSpec, device: str) -> list[str]:
    """Every reason why these techniques cannot be run together by this backend on this device."""
    keys = {technique.key for technique in chosen}
    titles = {technique.key: technique.title for technique in chosen}
    reasons = []
    if device not in backend.devices:
        reasons.append(f"The backend {backend.title} runs on {' and '.join(sorted(backend.devices))} only, not on {device}.")
    groups: dict[str, list[str]] = {}
    for technique in chosen:
        reasons += reasons_against(technique, backend, device)
        if missing := sorted(technique.requires - keys):
            reasons.append(f"{technique.title} needs {' and '.join(missing)}: choose that too.")
        for other, why in technique.conflicts.items():
            if other in keys:
                reasons.append(f"{technique.title} cannot go with {titles[other]}: {why}")
        if technique.group:
            groups.setdefault(technique.group, []).append(technique.title)
    for members in groups.values():
        if len(members) > 1:
            reasons.append(f"{' and '.join(members)} are ways to do the same thing: choose one.")
    for together, why in backend.coupled:
        if together & keys and not together <= keys:
            reasons.append(why)
    return reasons


def brought(chosen: list[TechniqueSpec], backend: BackendSpec) -> list[TechniqueSpec]:
    """The techniques that this backend adds of itself to a stack."""
    keys, groups = {t.key for t in chosen}, {t.group for t in chosen if t.group}
    found = [catalog.technique(key) for key in sorted(backend.brings - keys)]
    return [technique for technique in found if technique.group not in groups]


def accepted(keys: tuple[str, ...], backend: BackendSpec, device: str) -> tuple[str, ...]:
    """Those of a stack's techniques that this backend can do on this device: what is left when only it changes."""
    found = [spec for key in keys if (spec := catalog.technique(key)) and not reasons_against(spec, backend, device)]
    while stack_reasons(found, backend, device):
        found.pop()
    return tuple(spec.key for spec in found)


def resolve(request: RunRequest, *, eos_tokens: int = 1) -> tuple[LoadPlan, DecodePlan]:
    """The plans that a worker carries out. Raises RequestError with every reason, or Unavailable."""
    backend = catalog.backend(request.backend)
    chosen, reasons = [], []
    for key in request.techniques:
        try:
            chosen.append(catalog.technique(key))
        except StepScopeError as error:
            reasons.append(error.message)
    chosen += brought(chosen, backend)
    reasons += stack_reasons(chosen, backend, request.device)
    if request.search.num_beams > 1:
        reasons += [
            f"{technique.title} works with greedy search: choose 1 beam." for technique in chosen if technique.greedy_only
        ]
    if request.search.num_beams > 1 or len(request.inputs[: request.batch_size or None]) > 1:
        one = [technique.title for technique in chosen if technique.one_row_only]
        reasons += [f"{title} works on one input with greedy search: choose 1 beam and one line." for title in one]
    quantizes = any("quantization" in technique.sets for technique in chosen)
    if request.keep_float and quantizes and not backend.keeps_float:
        reasons.append(f"{backend.title} quantizes all layers or none: leave out the layers to keep in float32.")
    if reasons:
        raise RequestError(tuple(reasons))
    load = LoadPlan(
        model=request.model,
        backend=request.backend,
        device=request.device,
        threads=request.threads,
        candidates=FORCED_CANDIDATES if request.forced else candidates_needed(request.search, eos_tokens),
        native=tuple(t.key for t in chosen if backend.key in t.native_for),
        keep_float=request.keep_float if quantizes else (),
        calibration=request.calibration if any(t.calibrates for t in chosen) else "",
    )
    decode = DecodePlan(search=request.search)
    load_sets: dict[str, Any] = {}
    decode_sets: dict[str, Any] = {}
    for technique in chosen:
        for name, value in technique.sets.items():
            (load_sets if name in _LOAD_FIELDS else decode_sets)[name] = value
    return _with(load, load_sets), _with(decode, decode_sets)


_INTEGER_DOT = {"avx512_vnni", "avx_vnni", "dotprod", "amx_int8"}


def int8_warning(plan: LoadPlan, instructions: Collection[str]) -> str:
    """Why integer weights may not pay on a processor with these instructions, empty where they can."""
    if plan.quantization is Quantization.NONE or plan.device != "cpu" or _INTEGER_DOT & set(instructions):
        return ""
    return (
        "This processor has no integer dot products (VNNI, AMX): quantized weights save memory here, "
        "but the products themselves are not faster than float32's."
    )


def _with(plan: Any, sets: dict[str, Any]) -> Any:
    """The plan with these fields set, converted and checked as on the wire."""
    return from_json(type(plan), {**to_json(plan), **sets})
