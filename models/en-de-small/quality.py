"""Scores translations with BLEU and chrF, so that training is judged by what it is for and not by its loss."""

from __future__ import annotations

import torch

from pairs import PREFIX, Pair, tensors


@torch.no_grad()
def translate(model, sp, sentences: list[str], beams: int = 1, longest: int = 160, size: int = 100) -> list[str]:
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    out = [""] * len(sentences)
    device = next(model.parameters()).device.type
    for at in range(0, len(order), size):
        part = order[at : at + size]
        source, _ = tensors([([*sp.encode(PREFIX + sentences[i]), 1], [1]) for i in part], device)
        ids = model.generate(source, attention_mask=(source != 0).long(), max_new_tokens=longest, num_beams=beams)
        for i, row in zip(part, ids.tolist(), strict=True):
            out[i] = sp.decode([t for t in row if t > 2])
    return out


def scores(model, sp, pairs: list[Pair], beams: int = 1, longest: int = 160) -> tuple[float, float]:
    """BLEU and chrF (sacrebleu's defaults) of greedy or beam translations."""
    import sacrebleu

    got, want = translate(model, sp, [e for e, _ in pairs], beams, longest), [[g for _, g in pairs]]
    return round(sacrebleu.corpus_bleu(got, want).score, 2), round(sacrebleu.corpus_chrf(got, want).score, 2)
