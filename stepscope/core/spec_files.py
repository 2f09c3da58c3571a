"""Reads and writes requests and comparisons as TOML or JSON, the same for form, command line and what is taken home."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from . import catalog, compatibility, models
from .comparison import ComparisonSpec
from .encoding import from_json, to_json
from .errors import RequestError
from .inputs import read_pairs
from .presets import PRESETS, preset
from .request import RunRequest

T = TypeVar("T", RunRequest, ComparisonSpec)
EVALUATION = "eval"  # as inputs: the evaluation set that ships with the model


def read_request(name: str, data: bytes) -> RunRequest:
    """Raises RequestError."""
    return _read(RunRequest, name, _parsed(name, data))


def read_comparison(name: str, data: bytes, folder: Path = Path()) -> ComparisonSpec:
    """A ComparisonSpec's fields, or for people: ``inputs`` may be "eval" or a file beside (.tsv, .csv, .jsonl, .txt), a
    variant may name a ``preset``, ``prefix`` is the model's own and ``baseline`` the first variant. Raises RequestError."""
    values = _parsed(name, data)
    values.setdefault("model", models.default_key())
    values.setdefault("prefix", models.default_prefix(values["model"]))
    if isinstance(values.get("inputs"), str):
        sources, references = (
            evaluation_set(values["model"]) if values["inputs"] == EVALUATION else _beside(folder / values["inputs"])
        )
        most = values.pop("first", len(sources))
        values["inputs"], values["references"] = list(sources[:most]), list(references[:most])
    variants = values.get("variants")
    if not isinstance(variants, list) or not all(isinstance(each, dict) for each in variants):
        raise RequestError(f"{name} lists no variants.", "Write a [[variants]] table for each.")
    for variant in variants:
        _fill(variant)
    if variants:
        values.setdefault("baseline", variants[0]["name"])
    if len(values.get("inputs", ())) > 64:
        values.setdefault("batch_size", 16)
    return _read(ComparisonSpec, name, values)


def to_toml(value: RunRequest | ComparisonSpec) -> str:
    """TOML that the readers above take; fields at their defaults too, so that it says all."""
    plain = to_json(value)
    tables = {key: item for key, item in plain.items() if isinstance(item, dict)}
    arrays = {key: item for key, item in plain.items() if isinstance(item, list) and item and isinstance(item[0], dict)}
    lines = [f"{key} = {_toml(item)}" for key, item in plain.items() if key not in tables and key not in arrays]
    for key, table in tables.items():
        lines += ["", f"[{key}]", *(f"{name} = {_toml(item)}" for name, item in table.items())]
    for key, array in arrays.items():
        for table in array:
            lines += ["", f"[[{key}]]", *(f"{name} = {_toml(item)}" for name, item in table.items())]
    return "\n".join(lines) + "\n"


def evaluation_set(model: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Inputs and references that ship with a model. Raises RequestError for a model that has none."""
    directory = models.parse(model).directory
    if directory is None or not (directory / "eval.tsv").is_file():
        raise RequestError(f"The model {model} ships no evaluation set.", "Upload one, with source and reference.")
    return read_pairs("eval.tsv", (directory / "eval.tsv").read_bytes())


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    # JSON's strings, numbers and booleans are TOML's, but for DEL, which TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _parsed(name: str, data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")
        values = json.loads(text) if name.lower().endswith(".json") else tomllib.loads(text)
    except (UnicodeDecodeError, ValueError) as error:
        raise RequestError(f"{name} cannot be read: {error}.", "It should be TOML, or JSON with the ending .json.") from None
    if not isinstance(values, dict):
        raise RequestError(f"{name} holds no table.", "docs/comparing.md and docs/cli.md have examples.")
    return values


def _read(kind: type[T], name: str, values: dict[str, Any]) -> T:
    try:
        return from_json(kind, values)
    except (ValueError, TypeError) as error:
        raise RequestError(f"{name}: {error}.", "docs/comparing.md and docs/cli.md have examples.") from None


def _beside(file: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        return read_pairs(file.name, file.read_bytes())
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}.", "Name a file beside the specification.") from None


def _fill(variant: dict[str, Any]) -> None:
    """A preset's stack; with another backend, what that one can do of it."""
    if (key := variant.pop("preset", None)) is not None:
        known = [item.key for item in PRESETS]
        if key not in known:
            raise RequestError(f"There is no preset {key!r}.{catalog.did_you_mean(str(key), known)}")
        start = preset(key)
        variant.setdefault("name", start.title)
        backend = variant.setdefault("backend", start.backend)
        keys = start.techniques
        if backend != start.backend:
            keys = compatibility.accepted(keys, catalog.backend(backend), variant.get("device", "cpu"))
        variant.setdefault("techniques", list(keys))
    if "name" not in variant:
        raise RequestError("A variant has no name.", "Give each one a name, or a preset.")
