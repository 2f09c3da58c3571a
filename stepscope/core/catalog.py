"""Finds backends and techniques by walking their packages, so that adding one is one new file and no edit elsewhere.

A module that cannot be imported is listed with its reason, never hidden; importing one loads no runtime.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from .errors import RequestError, Unavailable
from .spec import BackendSpec, TechniqueSpec

Spec = TypeVar("Spec", BackendSpec, TechniqueSpec)


@dataclass(frozen=True, slots=True)
class Entry(Generic[Spec]):
    """key: the module's name. reason: why it cannot be used here (empty when it can); spec is None if it cannot load."""

    key: str
    spec: Spec | None
    reason: str = ""


def _walk(package: str, cls: type[Spec]) -> dict[str, Entry[Spec]]:
    entries: dict[str, Entry[Spec]] = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if info.name.startswith("_"):
            continue
        try:
            spec = getattr(importlib.import_module(f"{package}.{info.name}"), "SPEC", None)
        except Exception as error:  # any failure of foreign code becomes a listed reason
            entries[info.name] = Entry(info.name, None, f"{package}/{info.name}.py cannot be imported: {error}")
            continue
        if not isinstance(spec, cls):
            entries[info.name] = Entry(info.name, None, f"{package}/{info.name}.py defines no SPEC of type {cls.__name__}")
        else:
            entries[spec.key] = Entry(spec.key, spec, missing(spec) if isinstance(spec, BackendSpec) else "")
    return entries


def missing(spec: BackendSpec) -> str:
    """What a backend needs and is not here, with the line that installs it; empty when it can be used."""
    absent = [package for package in spec.packages if not package.found()]
    reasons = [f"{package.module} is not installed: {package.install}" for package in absent]
    if lacking := sorted(spec.instructions - processor_flags()):
        reasons.append(f"This processor lacks {', '.join(lacking)}.")
    if spec.tools and not any(shutil.which(tool) for tool in spec.tools):
        reasons.append(f"None of {', '.join(spec.tools)} is installed (Debian: apt install {spec.tools[0]}).")
    return " ".join(reasons)


@functools.cache
def processor_flags() -> frozenset[str]:
    """Instruction sets as Linux names them; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


@functools.cache
def backends() -> dict[str, Entry[BackendSpec]]:
    return _walk("backends", BackendSpec)


@functools.cache
def techniques() -> dict[str, Entry[TechniqueSpec]]:
    return _walk("techniques", TechniqueSpec)


def backend(key: str) -> BackendSpec:
    """Raises RequestError for an unknown key (with the nearest names), Unavailable when it cannot be used here."""
    return _usable(backends(), key, "backend")


def technique(key: str) -> TechniqueSpec:
    return _usable(techniques(), key, "technique")


def _usable(entries: dict[str, Entry[Spec]], key: str, what: str) -> Spec:
    entry = entries.get(key)
    if entry is None:
        raise RequestError(f"There is no {what} {key!r}.{did_you_mean(key, entries)}")
    if entry.spec is None or entry.reason:
        raise Unavailable(f"The {what} {key} cannot be used here: {entry.reason}")
    return entry.spec


def did_you_mean(key: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(key, names, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else f" Known: {', '.join(sorted(names))}."


def backend_module(key: str) -> ModuleType:
    """The module that holds ``open_session``."""
    return importlib.import_module(f"backends.{key}")


def technique_module(key: str) -> ModuleType:
    """The module that holds a native technique's ``apply``."""
    return importlib.import_module(f"techniques.{key}")
