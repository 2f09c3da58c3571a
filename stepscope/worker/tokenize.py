"""Turns texts into ids and back, for models with a tokenizer and for shapes that have none."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stepscope.core.errors import Unavailable
from stepscope.core.models import is_byte_level
from stepscope.core.session import SpecialTokens, TokenBatch


class Tokenizer(Protocol):
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, end of sequence included."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids without special tokens."""
        ...


class PretrainedTokenizer:
    """A transformers tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(ids) for ids in self._tokenizer(list(texts))["input_ids"]]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


class WordTokenizer:
    """For random weights, whose vocabulary has no words: about as many tokens as sentencepiece would make of a text.

    Pieces of up to five letters and single marks become ids by their CRC-32; ids are shown as ⟨id⟩, so that nobody
    takes them for language.
    """

    _PIECE = re.compile(r"\w{1,5}|[^\w\s]")

    def __init__(self, vocabulary: int, special: SpecialTokens) -> None:
        self._special = special
        self._first = max(special.start, special.pad, special.eos) + 2  # after the unknown token
        self._span = vocabulary - self._first

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [
            [self._first + zlib.crc32(p.encode()) % self._span for p in self._PIECE.findall(text)] + [self._special.eos]
            for text in texts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(f"⟨{token}⟩" for token in ids if token != self._special.eos)


class FastTokenizer:
    """A tokenizer.json, read by the tokenizers library alone: transformers would import torch with it."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


class ByteTokenizer:
    """ByT5's: UTF-8 bytes after three special tokens; ids beyond the bytes are sentinels and have no text."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[byte + 3 for byte in text.encode("utf-8", "replace")] + [1] for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(token - 3 for token in ids if 3 <= token < 259).decode("utf-8", errors="ignore")


def pretrained(directory: Path) -> Tokenizer:
    """The folder's own tokenizer. Raises Unavailable when it cannot be read."""
    if is_byte_level(directory):  # by itself: AutoTokenizer goes by the model's type, and there are mT5 models on bytes
        return ByteTokenizer()
    try:
        if (directory / "tokenizer.json").exists():
            return FastTokenizer(directory / "tokenizer.json")
        from transformers import AutoTokenizer

        return PretrainedTokenizer(AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False))
    except Exception as error:  # these libraries raise many types for a broken tokenizer
        raise Unavailable(
            f"The tokenizer in {directory} cannot be read: {error}", "Copy the model's tokenizer files again."
        ) from error


def to_batch(rows: Sequence[Sequence[int]], pad: int, max_new_tokens: int) -> TokenBatch:
    """Right-pads rows of ids to [rows, longest]."""
    ids = np.full((len(rows), max(len(row) for row in rows)), pad, dtype=np.int64)
    mask = np.zeros(ids.shape, dtype=bool)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = True
    return TokenBatch(ids, mask, max_new_tokens)
