"""Turns sentence pairs into training batches: vocabulary, other names, sloppy typing, paragraphs, length buckets."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch

PREFIX = "translate English to German: "
VOCABULARY = 8000
LONGEST = 200
MALE = (
    "Peter Paul David Daniel Michael Robert Martin Simon Ben Leon Adam Oliver Jack Henry Eric Kevin Brian Frank George "
    "William Richard Mark Steve Andrew Philip Anton Karl Tim Jan Noah"
).split()
FEMALE = (
    "Anna Julia Sarah Laura Lisa Emma Sophie Lena Eva Helen Linda Susan Kate Nina Clara Emily Alice Jane Nicole Karen "
    "Sandra Barbara Martha Hannah Lucy Olivia Mia Lea Nora Amy"
).split()
Pair = tuple[str, str]
Example = tuple[list[int], list[int]]


def read_pairs(file: Path) -> list[Pair]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        rows = [line.rstrip("\n").split("\t") for line in stream]
    return [(row[0], row[1]) for row in rows]


def train_vocabulary(pairs: list[Pair], file: Path) -> None:
    """Sentencepiece unigram with T5's special ids and every character of ordinary western typing."""
    letters = "äöüÄÖÜßéèêëáàâãåæçíìîïñóòôõøúùûýÿœÉÈÀÁÇÑ€£§°–—„“”‚‘’«»…½²³·×"
    required = "".join(sorted({chr(code) for code in range(33, 127)} | set(letters)))
    text = file.with_suffix(".txt")
    with text.open("w", encoding="utf-8") as stream:
        for number, (english, german) in enumerate(pairs):
            stream.write(f"{english}\n{german}\n" + (f"{PREFIX}{english}\n" if number % 40 == 0 else ""))
    spm.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(file.with_suffix("")), vocab_size=VOCABULARY, model_type="unigram",
        character_coverage=1.0, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", eos_piece="</s>",
        unk_piece="<unk>", required_chars=required, split_digits=True, num_threads=2, minloglevel=2,
    )  # fmt: skip
    text.unlink()


def rename(pair: Pair, rng: random.Random) -> Pair:
    """A quarter of the pairs name Tom or Mary: other names take their place in half of them."""
    english, german = pair
    if "Tom" in english and rng.random() < 0.5:
        name = rng.choice(MALE)
        english, german = re.sub(r"\bTom\b", name, english), re.sub(r"\bTom(s?)\b", name + r"\1", german)
    if "Mary" in english and "Maria" in german and rng.random() < 0.6:
        name = rng.choice(FEMALE)
        english, german = re.sub(r"\bMary\b", name, english), re.sub(r"\bMaria(s?)\b", name + r"\1", german)
    return english, german


def as_typed(english: str, rng: random.Random) -> str:
    """Now and then without the capital or the full stop, as people type."""
    if rng.random() < 0.05:
        english = english[0].lower() + english[1:]
    return english[:-1] if rng.random() < 0.05 and english.endswith(".") else english


class Batches:
    """Epochs of batches of about ``tokens`` padded tokens, bucketed by length; the seed fixes every epoch."""

    def __init__(self, pairs: list[Pair], sp: spm.SentencePieceProcessor, tokens: int, seed: int) -> None:
        self.pairs, self.sp, self.tokens, self.seed = pairs, sp, tokens, seed
        self.prefix: list[int] = sp.encode(PREFIX.strip())
        self.english: list[list[int]] = sp.encode([e for e, _ in pairs], num_threads=2)
        self.german: list[list[int]] = sp.encode([g for _, g in pairs], num_threads=2)

    def _varied(self, rng: random.Random) -> tuple[list[list[int]], list[list[int]]]:
        """This epoch's ids: only the pairs that the variations touched are encoded again."""
        english, german = list(self.english), list(self.german)
        for index, pair in enumerate(self.pairs):
            new_english, new_german = rename(pair, rng)
            typed = as_typed(new_english, rng)
            if typed is not pair[0]:
                english[index] = self.sp.encode(typed)
            if new_german is not pair[1]:
                german[index] = self.sp.encode(new_german)
        return english, german

    def epoch(self, number: int, *, joined: bool) -> Iterator[list[Example]]:
        """joined: paragraphs of up to five sentences and always the prefix; else single sentences, few with it.

        The prefix is a third of a short source: leaving it out of most early batches buys more steps per minute.
        """
        rng = random.Random(self.seed * 1000 + number)
        english, german = self._varied(rng)
        order = list(range(len(self.pairs)))
        rng.shuffle(order)
        weights = (0.7, 0.12, 0.08, 0.06, 0.04) if joined else (1.0, 0.0, 0.0, 0.0, 0.0)
        examples: list[Example] = []
        at = 0
        while at < len(order):
            count = rng.choices((1, 2, 3, 4, 5), weights)[0]
            group, at = order[at : at + count], at + count
            prefix = self.prefix if joined or rng.random() < 0.1 else []
            source = prefix + [t for i in group for t in english[i]] + [1]
            target = [t for i in group for t in german[i]] + [1]
            if len(source) <= LONGEST and len(target) <= LONGEST:
                examples.append((source, target))
        examples.sort(key=lambda e: (len(e[1]), len(e[0]) + rng.random()))
        batches: list[list[Example]] = [[]]
        width = height = 0
        for example in examples:
            width, height = max(width, len(example[0])), max(height, len(example[1]))
            if batches[-1] and (width + height) * (len(batches[-1]) + 1) > self.tokens:
                batches.append([])
                width, height = len(example[0]), len(example[1])
            batches[-1].append(example)
        rng.shuffle(batches)
        yield from batches


def tensors(batch: list[Example], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Source ids padded with 0 and target ids padded with -100."""
    source = np.zeros((len(batch), max(len(s) for s, _ in batch)), np.int64)
    target = np.full((len(batch), max(len(t) for _, t in batch)), -100, np.int64)
    for row, (s, t) in enumerate(batch):
        source[row, : len(s)] = s
        target[row, : len(t)] = t
    return torch.from_numpy(source).to(device), torch.from_numpy(target).to(device)
