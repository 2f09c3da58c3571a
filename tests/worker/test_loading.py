"""The one loader: four kinds of key, the words for what is not there, and what it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepscope.core import models
from stepscope.core.errors import Unavailable
from stepscope.core.plan import Attention, DType, LoadPlan
from stepscope.core.session import SpecialTokens
from stepscope.worker import tokenize
from stepscope.worker.models import ShapeSource, open_source
from tests import tiny


def quiet(message: str) -> None:
    pass


@pytest.mark.parametrize("shape", models.shapes())
def test_shapes_have_their_published_sizes(shape: str) -> None:
    """Parameter counts of the published checkpoints, from the configurations alone (nothing is allocated)."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    published = {
        "t5-small": 60_506_624, "t5-base": 222_903_552, "flan-t5-small": 76_961_152, "flan-t5-base": 247_577_856,
        "mt5-small": 300_176_768, "byt5-small": 299_637_760, "t5-efficient-tiny": 15_570_688,
    }  # fmt: skip
    values = dict(models.shapes()[shape].config)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    config.tie_word_embeddings = values["tie_word_embeddings"]
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(config)
    model.set_input_embeddings(model.get_input_embeddings())
    assert sum(parameter.numel() for parameter in model.parameters()) == published[shape]


def test_random_weights_are_seeded_and_like_transformers_own() -> None:
    import torch

    source = open_source("random:t5-efficient-tiny", quiet)
    assert isinstance(source, ShapeSource) and source.random_weights
    plan = LoadPlan("random:t5-efficient-tiny", "pytorch", attention=Attention.SDPA)
    one, report = source.torch_model(plan)
    two, _ = open_source("random:t5-efficient-tiny", quiet).torch_model(plan)
    assert torch.equal(one.shared.weight, two.shared.weight)
    assert report.parameters == 15_570_688 and report.weight_bytes == 4 * 15_570_688
    assert one.lm_head.weight.data_ptr() == one.shared.weight.data_ptr()
    query = one.encoder.block[0].layer[0].SelfAttention.q.weight.detach()
    assert float(query.std()) == pytest.approx((256 * 64) ** -0.5, rel=0.02)
    assert one.config._attn_implementation == "sdpa" and not one.training


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_folders_of_every_family_load_as_they_were_saved(family: str, tmp_path: Path) -> None:
    folder = tiny.build(tmp_path, family)
    source = open_source(str(folder), quiet)
    model, report = source.torch_model(LoadPlan(str(folder), "pytorch", dtype=DType.BFLOAT16))
    tied = model.lm_head.weight.data_ptr() == model.shared.weight.data_ptr()
    assert tied == tiny.FAMILIES[family]["tie_word_embeddings"]
    assert report.weight_bytes == 2 * report.parameters
    assert source.special == SpecialTokens(0, 0, 1)
    assert source.tokenizer.decode(source.tokenizer.encode(["Grüße 🌍"])[0]) == "Grüße 🌍"


def test_the_revision_is_of_the_weights(tmp_path: Path) -> None:
    one = open_source(str(tiny.build(tmp_path / "a", "t5", 0)), quiet).revision
    again = open_source(str(tiny.build(tmp_path / "b", "t5", 0)), quiet).revision
    other = open_source(str(tiny.build(tmp_path / "c", "t5", 1)), quiet).revision
    assert one == again != other


def test_a_hub_that_cannot_be_reached_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    def fail(*args: object, **kwargs: object) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(Unavailable, match="hub cannot be reached") as caught:
        open_source("hub:google-t5/t5-small", quiet)
    assert "path" in caught.value.action


def test_a_hub_model_is_read_from_its_snapshot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    folder = tiny.build(tmp_path, "t5")
    asked = {}

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert open_source("hub:google/flan-t5-base@abc", quiet).directory == folder
    assert (asked["name"], asked["revision"]) == ("google/flan-t5-base", "abc")
    assert not any("bin" in pattern.split(".")[-1] for pattern in asked["patterns"])


def test_word_tokenizer_is_stable_and_stays_in_the_vocabulary() -> None:
    tokenizer = tokenize.WordTokenizer(100, SpecialTokens(0, 0, 1))
    rows = tokenizer.encode(["The cat sat on the mat.", "🙂 مرحبا"])
    assert rows == tokenizer.encode(["The cat sat on the mat.", "🙂 مرحبا"])
    assert all(2 < token < 100 for row in rows for token in row[:-1]) and all(row[-1] == 1 for row in rows)
    assert tokenizer.decode([0, 7, 1]) == "⟨0⟩ ⟨7⟩"


def test_batches_are_padded_on_the_right() -> None:
    batch = tokenize.to_batch([[5, 1], [6, 7, 1]], 0, 9)
    assert batch.ids.tolist() == [[5, 1, 0], [6, 7, 1]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
