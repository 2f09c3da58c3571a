"""Scores outputs against references: BLEU and chrF (sacrebleu), ROUGE-L (rouge_score), exact match, paired bootstrap."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stepscope.core.comparison import Interval, Quality, QualityDifference

SAMPLES, SEED = 1000, 12345


def score(outputs: Sequence[str], references: Sequence[str]) -> Quality:
    """Corpus scores of all inputs. Raises ValueError when the two differ in length or are empty."""
    import sacrebleu
    from rouge_score import rouge_scorer

    if len(outputs) != len(references) or not outputs:
        raise ValueError(f"{len(outputs)} outputs against {len(references)} references")
    rouge = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())
    pairs = list(zip(outputs, references, strict=True))
    return Quality(
        bleu=sacrebleu.corpus_bleu(list(outputs), [list(references)]).score,
        chrf=sacrebleu.corpus_chrf(list(outputs), [list(references)]).score,
        exact_match=sum(ours.strip() == theirs.strip() for ours, theirs in pairs) / len(pairs),
        rouge_l=sum(rouge.score(theirs, ours)["rougeL"].fmeasure for ours, theirs in pairs) / len(pairs),
    )


class _Words:
    """Words of any language: rouge_score's own tokenizer drops letters outside of a to z."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())


def difference(outputs: Sequence[str], baseline: Sequence[str], references: Sequence[str]) -> QualityDifference:
    """What ``outputs`` score more than the baseline's, with a paired bootstrap over inputs (Koehn 2004)."""
    import numpy as np
    from sacrebleu.metrics import BLEU, CHRF

    draws = np.random.default_rng(SEED).integers(0, len(references), (SAMPLES, len(references)))
    intervals, p = [], 1.0
    for metric in (BLEU(), CHRF()):
        ours, theirs = (_statistics(metric, texts, references) for texts in (outputs, baseline))
        value = _score(metric, ours.sum(axis=0)) - _score(metric, theirs.sum(axis=0))
        found = np.array([_score(metric, ours[d].sum(axis=0)) - _score(metric, theirs[d].sum(axis=0)) for d in draws])
        low, high = np.percentile(found, [2.5, 97.5])
        intervals.append(Interval(value, float(low), float(high)))
        if isinstance(metric, BLEU):
            centred = np.abs(found - found.mean())
            p = float((np.sum(centred >= abs(value)) + 1) / (SAMPLES + 1)) if value else 1.0
    return QualityDifference(intervals[0], intervals[1], p)


def _statistics(metric: Any, outputs: Sequence[str], references: Sequence[str]) -> Any:
    """Counts of each input, which add up to the corpus' (what sacrebleu's own significance tests resample)."""
    import numpy as np

    return np.array(metric._extract_corpus_statistics(list(outputs), [list(references)]))


def _score(metric: Any, counts: Any) -> float:
    return float(metric._compute_score_from_stats(counts.tolist()).score)
