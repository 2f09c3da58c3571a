"""Runs the model on CTranslate2, the C++ engine that most people take when T5 must be fast on a CPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stepscope.core.errors import Unavailable
from stepscope.core.plan import DecodePlan, DType, LoadPlan, Quantization
from stepscope.core.session import Generated, LoadReport, ModelSource, SpecialTokens, TokenBatch
from stepscope.core.spec import BackendSpec, ObservedBy, Package

_INSTALL = "pip install -r requirements.txt"

SPEC = BackendSpec(
    key="ctranslate2",
    title="CTranslate2",
    summary=(
        "A C++ engine for transformer inference with its own loop, caches and beam search. Greedy steps are seen through "
        "its callback (scored also without it, and the difference is its cost); of beams only the whole can be seen."
    ),
    honours=frozenset({"self_kv_cache", "cross_kv_cache", "graph_optimization", "bf16", "int8_dynamic", "int16_dynamic"}),
    brings=frozenset({"self_kv_cache", "cross_kv_cache", "graph_optimization"}),
    packages=(Package("ctranslate2", _INSTALL),),
    steppable=False,
    own_beam_search="CTranslate2 brings its own beam search, so ways to search cannot be chosen; it ends by another rule.",
    beams_stop_otherwise=True,
    observed_by=ObservedBy.CALLBACK,
    observed_by_beams=ObservedBy.TOTAL,
    source="https://github.com/OpenNMT/CTranslate2",
)
CONVERSION = 1
CONVERTED_BY = ("dtype", "quantization")
_ABOUT = "stepscope.json"


def _compute_type(plan: LoadPlan) -> str:
    return {
        Quantization.INT8_DYNAMIC: "int8_float32",
        Quantization.INT16_DYNAMIC: "int16",
    }.get(plan.quantization, DType(plan.dtype).value)


def _check(kind: str) -> None:
    """CTranslate2 itself would load another type without a word."""
    import ctranslate2

    known = ctranslate2.get_supported_compute_types("cpu")
    if kind not in known:
        raise Unavailable(
            f"CTranslate2 cannot compute in {kind} on this processor, only in {', '.join(sorted(known))}.",
            "Choose another type for the weights.",
        )


def convert(plan: LoadPlan, source: ModelSource, directory: Path, progress: Callable[[str], None]) -> None:
    """Through CTranslate2's own loaders of the T5 families; tokens are named by their ids, since ids go in and out."""
    import numpy as np
    from ctranslate2.converters import transformers as loaders
    from ctranslate2.specs import model_spec

    from stepscope.conversion.weights import scales_output, take_apart

    kind = _compute_type(plan)
    _check(kind)
    model, _ = source.torch_model(LoadPlan(plan.model, plan.backend, threads=plan.threads))
    special, vocabulary = source.special, model.config.vocab_size
    loader = {"mt5": loaders.MT5Loader, "umt5": loaders.UMT5Loader}.get(model.config.model_type, loaders.T5Loader)()
    spec = loader.get_model_spec(model)
    scaled = scales_output(model.config)  # the loader goes by tie_word_embeddings, which transformers v5 forces
    spec.decoder.scale_outputs = np.float32(model.config.d_model**-0.5) if scaled else model_spec.OPTIONAL
    tokens = [str(token) for token in range(vocabulary)]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    config = spec.config
    config.bos_token = config.decoder_start_token = str(special.start)
    config.eos_token, config.unk_token = str(special.eos), str(vocabulary - 1)
    progress(f"Writing CTranslate2's model in {kind}")
    spec.validate()
    spec.optimize(quantization=kind)
    spec.save(str(directory))
    about = {"parameters": take_apart(model).parameters, "vocabulary": vocabulary}
    (directory / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


class TranslatorSession:
    def __init__(self, directory: Path, plan: LoadPlan, special: SpecialTokens) -> None:
        import ctranslate2

        kind = _compute_type(plan)
        _check(kind)
        about = json.loads((directory / _ABOUT).read_text(encoding="utf-8"))
        self.report = LoadReport((directory / "model.bin").stat().st_size, about["parameters"], about["vocabulary"])
        self._special = special
        self._translator = ctranslate2.Translator(
            str(directory), device="cpu", compute_type=kind, inter_threads=1, intra_threads=plan.threads
        )
        if self._translator.compute_type != kind:
            raise Unavailable(f"CTranslate2 loaded {self._translator.compute_type} instead of {kind}.")

    def generate(self, batch: TokenBatch, plan: DecodePlan, on_token: Callable[[Sequence[int]], None] | None) -> Generated:
        search = plan.search
        heard = (
            _Heard(on_token, len(batch.ids), self._special.pad) if on_token is not None and search.num_beams == 1 else None
        )
        rows = [[str(token) for token in ids[mask]] for ids, mask in zip(batch.ids, batch.mask, strict=True)]
        results = self._translator.translate_batch(
            rows,
            beam_size=search.num_beams,
            length_penalty=search.length_penalty,
            max_input_length=0,
            max_decoding_length=search.max_new_tokens,
            min_decoding_length=search.max_new_tokens if search.exact_tokens else 0,
            return_end_token=True,
            callback=heard,
        )
        if heard is not None:
            heard.flush()
            if heard.error is not None:
                raise heard.error
        return Generated(tuple(tuple(int(token) for token in result.hypotheses[0]) for result in results), None)

    def close(self) -> None:
        self._translator.unload_model()


class _Heard:
    """CTranslate2 calls once per row and step; ``on_token`` is told once per step, rows that have ended as padding."""

    def __init__(self, on_token: Callable[[Sequence[int]], None], rows: int, pad: int) -> None:
        self._on_token, self._pad = on_token, pad
        self._step, self._tokens, self._any = 0, [pad] * rows, False
        self.error: BaseException | None = None

    def __call__(self, result: Any) -> bool:
        """True ends the generation of this row."""
        if result.step != self._step:
            self.flush()
            self._step = result.step
        self._tokens[result.batch_id], self._any = result.token_id, True
        if len(self._tokens) == 1:
            self.flush()
        return self.error is not None

    def flush(self) -> None:
        """Tells of the tokens heard since the last call."""
        tokens, self._tokens = self._tokens, [self._pad] * len(self._tokens)
        heard, self._any = self._any, False
        if self.error is not None or not heard:
            return
        try:
            self._on_token(tokens)
        except BaseException as error:  # what Python raises inside the callback must not pass through C++
            self.error = error


def open_session(plan: LoadPlan, source: ModelSource, progress: Callable[[str], None]) -> TranslatorSession:
    assert source.artifact is not None
    return TranslatorSession(source.artifact, plan, source.special)
