"""Model keys and folders are judged in words before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stepscope.core import models
from stepscope.core.errors import RequestError, StepScopeError, Unavailable
from tests import tiny


def test_keys_of_all_four_kinds() -> None:
    assert models.parse("en-de-small").kind is models.ModelKind.SHIPPED
    assert models.parse("random:t5-base").name == "t5-base"
    hub = models.parse("hub:google/flan-t5-base@abc123")
    assert (hub.kind, hub.name, hub.revision) == (models.ModelKind.HUB, "google/flan-t5-base", "abc123")
    assert models.parse("./x").kind is models.ModelKind.PATH
    assert models.parse("~/x").directory == Path("~/x").expanduser()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "No model is named"),
        ("random:t5-smal", "Did you mean t5-small"),
        ("hub:t5-small", "not a hub id"),
        ("hub:../../etc", "not a hub id|hub id"),
        ("en-de-smal", "Did you mean en-de-small"),
    ],
)
def test_keys_that_name_nothing(key: str, words: str) -> None:
    with pytest.raises(StepScopeError, match=words):
        models.parse(key)


def test_every_entry_of_the_catalog_parses() -> None:
    entries = models.entries()
    assert {entry.key for entry in entries} >= {"en-de-small", "random:t5-small", "hub:google-t5/t5-small"}
    assert all(shape.source.startswith("https://") for shape in models.shapes().values())
    with pytest.raises(RequestError):
        models.parse("nothing")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("model"), "t5")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_whole_folder_is_accepted(folder: Path) -> None:
    assert models.check_directory(folder)["model_type"] == "t5"


def test_broken_folders_are_refused_in_words(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = weights.read_bytes()

    def refused(words: str) -> None:
        with pytest.raises(Unavailable, match=words) as caught:
            models.check_directory(folder)
        assert caught.value.action

    weights.write_bytes(data[: len(data) // 2])
    refused("the download was not finished")
    weights.write_bytes(b"")
    refused("not a whole safetensors file")
    weights.write_bytes(b"\xff" * 64)
    refused("not a whole safetensors file")
    weights.unlink()
    refused("has no model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(data)
    refused("pickled weights")
    weights.write_bytes(data)
    (folder / "tokenizer_config.json").unlink()
    refused("has no tokenizer")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    refused("type 'bert'")
    (folder / "config.json").write_text("{")
    refused("cannot be read")
    (folder / "config.json").unlink()
    refused("config.json is missing")
    with pytest.raises(Unavailable, match="no folder"):
        models.check_directory(folder / "nowhere")


def test_missing_shards_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(Unavailable, match=r"model-00001-of-00002\.safetensors missing"):
        models.check_directory(folder)
