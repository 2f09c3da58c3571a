"""The one loader: turns any of the four kinds of model key into files, tokenizer and torch model.

Reads safetensors only, never pickle; never runs a model's own code.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepscope.core import catalog, inputs, models
from stepscope.core.errors import Unavailable
from stepscope.core.plan import DType, LoadPlan
from stepscope.core.session import LoadReport, SpecialTokens

from . import tokenize

SEED = 0
CALIBRATION_INPUTS, CALIBRATION_TOKENS = 24, 128
_HUB_FILES = ("*.json", "*.safetensors", "spiece.model", "*.bpe.model", "tokenizer*")


class Source(ABC):
    """An opened model key; implements core.session.ModelSource.

    revision: of a folder, a hash of its configuration and weights; of a shape, of its configuration and seed.
    """

    revision: str
    directory: Path | None
    artifact: Path | None = None
    special: SpecialTokens
    random_weights: bool
    tokenizer: tokenize.Tokenizer

    def __init__(self, directory: Path | None, config: dict[str, Any]) -> None:
        self.directory = directory
        self._config = config
        self.special = _special(config)

    def config(self) -> dict[str, Any]:
        return self._config

    def torch_model(self, plan: LoadPlan) -> tuple[Any, LoadReport]:
        import torch

        torch.set_num_threads(plan.threads)
        if plan.device == "cuda" and not torch.cuda.is_available():
            raise Unavailable("There is no CUDA device here.", "Choose the device cpu.")
        model = self._build(getattr(torch, DType(plan.dtype).value), plan.attention.value).eval()
        for key in plan.native:
            catalog.technique_module(key).apply(model)
        if plan.device != "cpu":
            model = model.to(plan.device)
        return model, torch_report(model)

    def calibration_ids(self, plan: LoadPlan) -> list[list[int]]:
        """Of at most 24 inputs, evenly spread over the file, at most 128 tokens each."""
        file = Path(plan.calibration).expanduser() if plan.calibration else models.ROOT / "en-de-small" / "eval.tsv"
        texts = inputs.first_column(file)
        chosen = texts[:: max(1, len(texts) // CALIBRATION_INPUTS)][:CALIBRATION_INPUTS]
        prefix = models.default_prefix(plan.model)
        return [ids[:CALIBRATION_TOKENS] for ids in self.tokenizer.encode([prefix + text for text in chosen])]

    @abstractmethod
    def _build(self, dtype: Any, attention: str) -> Any:
        """The transformers model, on the CPU."""


class FolderSource(Source):
    random_weights = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, models.check_directory(directory))
        self.revision = _digest(directory)
        self.tokenizer = tokenize.pretrained(directory)

    def _build(self, dtype: Any, attention: str) -> Any:
        from transformers import AutoModelForSeq2SeqLM

        return AutoModelForSeq2SeqLM.from_pretrained(
            self.directory,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )


class ShapeSource(Source):
    random_weights = True

    def __init__(self, shape: models.Shape) -> None:
        config = {**shape.config, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
        super().__init__(None, config)
        self.revision = hashlib.sha256(json.dumps([config, SEED], sort_keys=True).encode()).hexdigest()[:16]
        bytes_only = shape.tokenizer == "bytes"
        self.tokenizer = (
            tokenize.ByteTokenizer() if bytes_only else tokenize.WordTokenizer(config["vocab_size"], self.special)
        )

    def _build(self, dtype: Any, attention: str) -> Any:
        import torch
        from transformers import AutoConfig, AutoModelForSeq2SeqLM

        values = {key: value for key, value in self._config.items() if key != "model_type"}
        config = AutoConfig.for_model(self._config["model_type"], **values)
        config.tie_word_embeddings = values["tie_word_embeddings"]  # transformers v5 sets it for all of the T5 families
        with torch.device("meta"):  # the modules' own initialization would fill every tensor two or three times
            model = AutoModelForSeq2SeqLM.from_config(config, attn_implementation=attention)
        model = model.to_empty(device="cpu")
        model.set_input_embeddings(model.get_input_embeddings())  # encoder and decoder share them, tied head or not
        model.tie_weights()
        _fill(model, config)
        return model.to(dtype)


def _fill(model: Any, config: Any) -> None:
    """Seeded T5 initialization (as in transformers' ``T5PreTrainedModel._init_weights``), each tensor written once."""
    import torch

    width, inner, hidden = config.d_model, config.num_heads * config.d_kv, config.d_ff
    deviation = {
        "shared": 1.0, "embed_tokens": 1.0, "lm_head": 1.0, "relative_attention_bias": width**-0.5,
        "q": (width * config.d_kv) ** -0.5, "k": width**-0.5, "v": width**-0.5, "o": inner**-0.5,
        "wi": width**-0.5, "wi_0": width**-0.5, "wi_1": width**-0.5, "wo": hidden**-0.5,
    }  # fmt: skip
    torch.manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # shared tensors once
            layer = name.split(".")[-2]
            if layer in deviation:
                parameter.normal_(std=deviation[layer])
            else:
                parameter.fill_(1.0)  # layer norms


def open_source(key: str, progress: Callable[[str], None]) -> Source:
    """Raises RequestError for a key that names nothing, Unavailable when its model is not here or cannot be read."""
    parsed = models.parse(key)
    if parsed.kind is models.ModelKind.RANDOM:
        return ShapeSource(models.shapes()[parsed.name])
    if parsed.kind is models.ModelKind.HUB:
        return FolderSource(_from_hub(parsed, progress))
    assert parsed.directory is not None
    return FolderSource(parsed.directory)


def _from_hub(key: models.ModelKey, progress: Callable[[str], None]) -> Path:
    """The local snapshot of a hub model, downloaded when it is not there yet."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    progress(f"Looking for {key.name} on the model hub")
    name = f"{key.name} at {key.revision}" if key.revision else key.name
    try:
        return Path(hub.snapshot_download(key.name, revision=key.revision or None, allow_patterns=list(_HUB_FILES)))
    except errors.GatedRepoError as error:
        raise Unavailable(
            f"The hub gives {name} only to people who accepted its terms.", "Accept them there and set HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise Unavailable(f"The hub has no revision {key.revision!r} of {key.name}.", "Check the revision.") from error
    except errors.RepositoryNotFoundError as error:
        raise Unavailable(
            f"The hub has no model {key.name}, or it is private.", "Check the spelling of OWNER/NAME."
        ) from error
    except Exception as error:  # the hub's client raises its transport's own errors when there is no network
        raise Unavailable(
            f"The model hub cannot be reached, and {name} has not been downloaded before.",
            "Check the network, or copy the model's folder to this machine and name its path.",
            str(error),
        ) from error


def _special(config: dict[str, Any]) -> SpecialTokens:
    eos = config.get("eos_token_id", 1)
    if not isinstance(eos, int):
        raise Unavailable(f"The model ends sequences with {eos!r}; one id is expected.", "Choose another model.")
    pad = config.get("pad_token_id", 0)
    return SpecialTokens(start=config.get("decoder_start_token_id") or pad, pad=pad, eos=eos)


def _digest(directory: Path) -> str:
    digest = hashlib.sha256((directory / "config.json").read_bytes())
    for file in models.weight_files(directory):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def torch_report(model: Any) -> LoadReport:
    """Counts a torch model's weights as they are held, shared tensors once, quantized layers by their packed size."""
    import torch
    from torch.ao.nn.quantized import dynamic

    seen: set[int] = set()
    size = count = 0
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            size += tensor.nbytes
            count += tensor.numel()
    quantized, kept = [], []
    for name, module in model.named_modules():
        if isinstance(module, dynamic.Linear):
            weight, _ = module._weight_bias()
            quantized.append(name)
            count += weight.numel()
            size += weight.numel() + (weight.shape[0] * 16 if weight.qscheme() == torch.per_channel_affine else 16)
        elif isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            kept.append(name)
    return LoadReport(size, count, model.config.vocab_size, tuple(quantized), tuple(kept) if quantized else ())
