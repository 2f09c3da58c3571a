"""The declarations from which the catalog, the form's reasons and the conformance tests are computed.

To add a backend or a technique is one new file with a module-level ``SPEC``; see docs/extending.md.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    LOAD = "load"
    ENCODE = "encode"
    STEP = "step"
    DECODE = "decode"


class ObservedBy(StrEnum):
    """How per-step times were seen. LOOP: our loop called every step. CALLBACK: the runtime told us of each token.
    TOTAL: only the whole generation is visible."""

    LOOP = "loop"
    CALLBACK = "callback"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Package:
    """An importable module that a backend needs, and the line that installs it. preload: a session needs it (else only
    the conversion does). instead: modules of which any will do as well."""

    module: str
    install: str
    preload: bool = True
    distribution: str = ""  # the name under which it is installed, where that differs
    instead: tuple[str, ...] = ()

    def found(self) -> str:
        """The module that is here, empty when none is."""
        return next((name for name in (self.module, *self.instead) if importlib.util.find_spec(name) is not None), "")


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """One runtime.

    honours: keys of the techniques whose plan fields this backend carries out; coupled: sets of techniques that only go
    together here (with the reason); observed_by / observed_by_beams: how steps are seen in greedy and in beam search;
    needs_model: False for the null backend, which opens without weights; steppable: has ``encode``/``step`` (else
    ``generate``); own_beam_search: why the beam techniques do not apply, when the runtime brings its own.
    steps_as: a backend that steps the same weights in the same way, for a runtime that owns its loop.
    beams_stop_otherwise: its beam search ends by another rule than the reference's, so beams may give other tokens.
    instructions: of the processor, as Linux names them, that it cannot do without; tools: programs of which it needs one.
    brings: techniques that are on whether chosen or not, each unless another one of its group is chosen.
    """

    key: str
    title: str
    summary: str
    honours: frozenset[str]
    packages: tuple[Package, ...] = ()
    devices: frozenset[str] = frozenset({"cpu"})
    brings: frozenset[str] = frozenset()
    coupled: tuple[tuple[frozenset[str], str], ...] = ()
    steppable: bool = True
    own_beam_search: str = ""
    steps_as: str = ""
    beams_stop_otherwise: bool = False
    keeps_float: bool = False
    observed_by: ObservedBy = ObservedBy.LOOP
    observed_by_beams: ObservedBy = ObservedBy.LOOP
    needs_model: bool = True
    instructions: frozenset[str] = frozenset()
    tools: tuple[str, ...] = ()
    source: str = ""

    def observation(self, num_beams: int) -> ObservedBy:
        return self.observed_by if num_beams == 1 else self.observed_by_beams


@dataclass(frozen=True, slots=True)
class TechniqueSpec:
    """One technique. summary, cost and source are the paragraph that the pages show.

    exact: outputs must not change (held to it by the conformance test). sets: the plan fields (of LoadPlan or DecodePlan)
    that it sets; a native technique sets none and is applied by its own file's ``apply(handle)`` for the named backends.
    group: at most one of a group can be chosen. requires: techniques without which this one cannot be.
    beams_only: has no effect in greedy search; greedy_only: needs greedy search; one_row_only: over one input. calibrates:
    needs a pass over a data set before it can be loaded.
    """

    key: str
    title: str
    stage: Stage
    exact: bool
    summary: str
    cost: str
    source: str
    sets: dict[str, bool | int | str] = field(default_factory=dict)
    group: str = ""
    requires: frozenset[str] = frozenset()
    conflicts: dict[str, str] = field(default_factory=dict)
    devices: frozenset[str] = frozenset({"cpu", "cuda"})
    native_for: frozenset[str] = frozenset()
    beams_only: bool = False
    greedy_only: bool = False
    one_row_only: bool = False
    calibrates: bool = False
