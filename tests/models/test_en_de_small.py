"""The shipped model is what its card says: it loads as any T5 does, and translates."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepscope.core import models
from stepscope.core.presets import DEFAULT, preset
from stepscope.core.request import RunRequest
from stepscope.ui.request_form import default_request

FOLDER = models.ROOT / "en-de-small"
PREFIX = models.default_prefix("en-de-small")


@pytest.fixture(scope="module")
def shipped():  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    return AutoTokenizer.from_pretrained(FOLDER), T5ForConditionalGeneration.from_pretrained(FOLDER)


def translate(shipped, texts: list[str], **search: object) -> list[str]:  # type: ignore[no-untyped-def]
    tokenizer, model = shipped
    batch = tokenizer([PREFIX + text for text in texts], return_tensors="pt", padding=True)
    return list(tokenizer.batch_decode(model.generate(**batch, **search), skip_special_tokens=True))


def test_it_is_the_default_and_small() -> None:
    assert models.default_key() == "en-de-small"
    request = default_request()
    assert request == RunRequest(
        "en-de-small", ("The cat sat on the mat.",), preset(DEFAULT).backend, preset(DEFAULT).techniques, PREFIX,
    )  # fmt: skip
    assert sum(file.stat().st_size for file in FOLDER.iterdir() if file.is_file()) < 30_000_000


def test_it_is_a_deep_enough_t5_in_half_precision(shipped) -> None:  # type: ignore[no-untyped-def]
    _, model = shipped
    assert model.config.num_layers >= 4 and model.config.num_decoder_layers >= 4
    header = models.check_directory(FOLDER)
    assert header["dtype"] == "bfloat16"


def test_it_translates(shipped) -> None:  # type: ignore[no-untyped-def]
    assert translate(shipped, ["Do you know where the station is?", "I bought a new book yesterday."]) == [
        "Weißt du, wo der Bahnhof ist?",
        "Ich habe gestern ein neues Buch gekauft.",
    ]


def test_the_evaluation_set_is_whole() -> None:
    rows = (FOLDER / "eval.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [tuple(row.split("\t")) for row in rows]
    assert len(pairs) == 200 and all(len(pair) == 2 and all(pair) for pair in pairs)
    assert len({english for english, _ in pairs}) == 200
    assert any(english.count(".") >= 3 for english, _ in pairs), "no paragraph"
    assert len(models.examples()) == 8 and models.examples()[0][1] == "The cat sat on the mat."


def test_the_tokenizer_is_sentencepieces_own(shipped) -> None:  # type: ignore[no-untyped-def]
    import sentencepiece

    tokenizer, _ = shipped
    own = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "spiece.model"))
    for row in (FOLDER / "eval.tsv").read_text(encoding="utf-8").splitlines()[:50]:
        for text in row.split("\t"):
            assert tokenizer(text)["input_ids"] == [*own.encode(text), own.eos_id()]


def test_the_card_says_what_the_licence_asks() -> None:
    card = Path(FOLDER / "README.md").read_text(encoding="utf-8")
    assert "https://tatoeba.org" in card and "CC BY 2.0 FR" in card and "BLEU" in card
