"""Tiny random models of every T5 family, written as ordinary Hugging Face folders, so that the real loader is tested.

Weights are larger than T5's own initialization, so that greedy and beam outputs vary and beams change places.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FAMILIES: dict[str, dict[str, Any]] = {
    "t5": {"model_type": "t5", "feed_forward_proj": "relu", "tie_word_embeddings": True},
    "flan": {"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "mt5": {"model_type": "mt5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "umt5": {"model_type": "umt5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "byt5": {"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_layers": 3},
}


def build(directory: Path, family: str, seed: int = 0) -> Path:
    """Writes config.json, model.safetensors and a tokenizer; vocabulary 384 (ByT5's), so that bytes are the tokens."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, ByT5Tokenizer

    values = {
        "vocab_size": 384, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 3,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16,
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, **FAMILIES[family],
    }  # fmt: skip
    torch.manual_seed(seed)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    config.tie_word_embeddings = values["tie_word_embeddings"]  # transformers v5 sets it for all of the T5 families
    model = AutoModelForSeq2SeqLM.from_config(config)
    model.set_input_embeddings(model.get_input_embeddings())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.7 if "shared" in name or "lm_head" in name else 0.35
            parameter.copy_(torch.ones_like(parameter) if "layer_norm" in name else torch.randn_like(parameter) * scale)
    model.save_pretrained(directory)
    tied = load_file(directory / "model.safetensors").keys().isdisjoint({"lm_head.weight"})
    assert tied == values["tie_word_embeddings"]
    ByT5Tokenizer().save_pretrained(directory)
    return directory


def shorten(directory: Path, inputs: Sequence[str]) -> None:
    """Lets the end of sequence win wherever a token would have that comes early in one output and late in another.

    For models with a head of their own.
    """
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForSeq2SeqLM, ByT5Tokenizer

    model = AutoModelForSeq2SeqLM.from_pretrained(directory)
    batch = ByT5Tokenizer()(list(inputs), return_tensors="pt", padding=True)
    with torch.inference_mode():
        rows = model.generate(**batch, max_new_tokens=14, min_new_tokens=14)[:, 1:].tolist()
    ends = {token: tuple(row.index(token) if token in row else 14 for row in rows) for row in rows for token in row[1:]}
    token = max(ends, key=lambda token: (len(set(ends[token])), min(ends[token])))
    file = directory / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"][1] = 1.01 * tensors["lm_head.weight"][token]
    save_file(tensors, file, metadata={"format": "pt"})
