"""Names models and judges a model folder without any runtime, so that the form can say what is wrong before a run.

Four kinds of key: ``en-de-small`` (a folder of models/), ``PATH`` (a local Hugging Face folder),
``hub:OWNER/NAME[@REVISION]`` and ``random:SHAPE`` (a written-down configuration with seeded random weights).
"""

from __future__ import annotations

import functools
import json
import re
import struct
import tomllib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from .catalog import did_you_mean
from .errors import RequestError, Unavailable

ROOT = Path(__file__).resolve().parents[2] / "models"
FAMILIES = ("t5", "mt5", "umt5")
RANDOM_NOTE = "random weights: speed and memory are real, the text is not"
_HUB = re.compile(r"^[\w.-]+/[\w.-]+$")
_MAX_HEADER_BYTES = 100_000_000  # as safetensors itself limits it


class ModelKind(StrEnum):
    SHIPPED = "shipped"
    PATH = "path"
    HUB = "hub"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class ModelKey:
    """A parsed key. name: folder name, path, hub id or shape; revision: of a hub model, empty for its default branch."""

    key: str
    kind: ModelKind
    name: str
    revision: str = ""

    @property
    def directory(self) -> Path | None:
        """Where the files are, for the kinds that lie on this machine."""
        if self.kind is ModelKind.SHIPPED:
            return ROOT / self.name
        return Path(self.name).expanduser() if self.kind is ModelKind.PATH else None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A line of models.toml. unavailable: why it cannot be used now, empty when it can or when only the hub knows."""

    key: str
    title: str
    prefix: str = ""
    unavailable: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """A written-down configuration. config: arguments of the family's transformers config class."""

    name: str
    source: str
    tokenizer: str = "words"
    config: dict[str, Any] = field(default_factory=dict)


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads((ROOT / "models.toml").read_text(encoding="utf-8"))


@functools.cache
def shapes() -> dict[str, Shape]:
    found = {}
    for name, values in _table()["shapes"].items():
        config = {key: value for key, value in values.items() if key not in ("source", "tokenizer")}
        found[name] = Shape(name, values["source"], values.get("tokenizer", "words"), config)
    return found


def entries() -> list[ModelEntry]:
    """The catalog, judged now: files may appear while the dashboard runs."""
    return [
        ModelEntry(row["key"], row["title"], row.get("prefix", ""), _why_unavailable(row["key"]))
        for row in _table()["model"]
    ]


def default_key() -> str:
    """What a newcomer starts with: the first line of the catalog that can be used here."""
    return next(entry.key for entry in entries() if not entry.unavailable)


def examples() -> list[tuple[str, str]]:
    """(title, text) of inputs that suit the catalog's first model."""
    rows = tomllib.loads((ROOT / "examples.toml").read_text(encoding="utf-8"))["example"]
    return [(row["title"], row["text"]) for row in rows]


def default_prefix(key: str) -> str:
    return next((row.get("prefix", "") for row in _table()["model"] if row["key"] == key), "")


def parse(key: str) -> ModelKey:
    """Raises RequestError for a key that names nothing."""
    key = key.strip()
    if not key:
        raise RequestError("No model is named.", "Choose one from the list or type a folder or a hub id.")
    if key.startswith("random:"):
        name = key.removeprefix("random:")
        if name not in shapes():
            raise RequestError(f"There is no shape {name!r}.{did_you_mean(name, shapes())}")
        return ModelKey(key, ModelKind.RANDOM, name)
    if key.startswith("hub:"):
        name, _, revision = key.removeprefix("hub:").partition("@")
        if not _HUB.match(name):
            raise RequestError(f"{name!r} is not a hub id.", "Write it as hub:OWNER/NAME or hub:OWNER/NAME@REVISION.")
        return ModelKey(key, ModelKind.HUB, name, revision)
    if any(row["key"] == key for row in _table()["model"]):
        return ModelKey(key, ModelKind.SHIPPED, key)
    if "/" in key or "\\" in key or key.startswith((".", "~")) or Path(key).exists():
        return ModelKey(key, ModelKind.PATH, key)
    known = [row["key"] for row in _table()["model"]]
    raise RequestError(
        f"There is no model {key!r}.{did_you_mean(key, known)}", "A folder is written with a slash, such as ./my-model."
    )


def _why_unavailable(key: str) -> str:
    directory = parse(key).directory
    if directory is None:
        return ""
    try:
        check_directory(directory)
    except Unavailable as error:
        return error.message
    return ""


def check_directory(directory: Path) -> dict[str, Any]:
    """The folder's config.json, after judging all that can be judged without a runtime. Raises Unavailable."""
    if not directory.is_dir():
        raise Unavailable(f"There is no folder {directory}.", "Check the path.")
    if not (directory / "config.json").is_file():
        raise Unavailable(
            f"{directory} is not a Hugging Face model folder: config.json is missing.", "Name the folder that holds it."
        )
    try:
        config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise Unavailable(f"{directory}/config.json cannot be read: {error}", "Download the model again.") from None
    if config.get("model_type") not in FAMILIES:
        raise Unavailable(
            f"{directory} holds a model of type {config.get('model_type')!r}, which is not one of the T5 families.",
            "Choose a T5, T5 v1.1, FLAN-T5, mT5, UMT5 or ByT5 model.",
        )
    for file in weight_files(directory):
        _check_safetensors(file)
    names = ("spiece.model", "tokenizer.json", "sentencepiece.bpe.model")
    if not any((directory / name).is_file() for name in names) and not is_byte_level(directory):
        raise Unavailable(
            f"{directory} has no tokenizer (spiece.model or tokenizer.json).", "Copy the tokenizer's files into it."
        )
    return config


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a folder, shards included. Raises Unavailable when there are none or some are missing."""
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if missing := [name for name in names if not (directory / name).is_file()]:
            raise Unavailable(f"{directory} is incomplete: {', '.join(missing)} missing.", "Download the model again.")
        return [directory / name for name in names]
    if any(directory.glob("*.bin")) or any(directory.glob("*.pt")):
        raise Unavailable(
            f"{directory} holds only pickled weights, which can run code when read; StepScope reads safetensors only.",
            "Convert it where you trust it: load it with transformers and call save_pretrained(folder).",
        )
    raise Unavailable(f"{directory} has no model.safetensors.", "Download the model again.")


def _check_safetensors(file: Path) -> None:
    """Raises Unavailable unless the file is as long as its own header says."""
    size = file.stat().st_size
    again = "Download the model again."
    with file.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise Unavailable(f"{file} is not a whole safetensors file.", again)
        try:
            header = json.loads(stream.read(length))
        except ValueError:
            raise Unavailable(f"{file} is not a safetensors file.", again) from None
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise Unavailable(f"{file} has {size:,} of {expected:,} bytes: the download was not finished.", again)


def is_byte_level(directory: Path) -> bool:
    """Whether the folder names ByT5's tokenizer, which needs no vocabulary file."""
    file = directory / "tokenizer_config.json"
    if not file.is_file():
        return False
    return "ByT5" in str(json.loads(file.read_text(encoding="utf-8")).get("tokenizer_class", ""))
