"""Runs transformers' own ``generate``: what most people run today, and the reference that every token is held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from stepscope.core.plan import DecodePlan, LoadPlan
from stepscope.core.session import Generated, LoadReport, ModelSource, SpecialTokens, TokenBatch
from stepscope.core.spec import BackendSpec, ObservedBy, Package

if TYPE_CHECKING:
    import torch

_INSTALL = "pip install -r requirements.txt"

SPEC = BackendSpec(
    key="pytorch_generate",
    title="Transformers generate",
    summary=(
        "model.generate of transformers with its own loop, cache and beam search. StepScope hears of each token through "
        "a streamer (greedy) or a stopping criterion (beams); scored also without it, and the difference is its cost."
    ),
    honours=frozenset({"self_kv_cache", "cross_kv_cache", "sdpa", "bf16"}),
    packages=(Package("torch", _INSTALL), Package("transformers", _INSTALL)),
    devices=frozenset({"cpu", "cuda"}),
    coupled=(
        (
            frozenset({"self_kv_cache", "cross_kv_cache"}),
            "Transformers generate has one switch for both caches (use_cache): choose both or neither.",
        ),
    ),
    steppable=False,
    steps_as="pytorch",
    own_beam_search="Transformers generate brings its own beam search, so ways to search cannot be chosen.",
    observed_by=ObservedBy.CALLBACK,
    observed_by_beams=ObservedBy.CALLBACK,
    source="https://github.com/huggingface/transformers (generation/utils.py)",
)


class _Heard:
    """Tells ``on_token`` of every step: a streamer for greedy search, a stopping criterion that never stops for beams."""

    def __init__(self, on_token: Callable[[Sequence[int]], None], every: int) -> None:
        self._on_token, self._every, self._prompt = on_token, every, True

    def put(self, value: torch.Tensor) -> None:
        if self._prompt:  # the first call carries the decoder's start tokens
            self._prompt = False
            return
        self._on_token(value.tolist())

    def end(self) -> None:
        pass

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        import torch

        self._on_token(input_ids[:: self._every, -1].tolist())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class GenerateSession:
    def __init__(self, model: Any, report: LoadReport, plan: LoadPlan, special: SpecialTokens) -> None:
        self.report = report
        self._model, self._plan, self._special = model, plan, special

    def generate(self, batch: TokenBatch, plan: DecodePlan, on_token: Callable[[Sequence[int]], None] | None) -> Generated:
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        search, special = plan.search, self._special
        config = GenerationConfig(
            do_sample=False,
            num_beams=search.num_beams,
            max_new_tokens=search.max_new_tokens,
            min_new_tokens=search.max_new_tokens if search.exact_tokens else None,
            length_penalty=search.length_penalty if search.num_beams > 1 else None,
            early_stopping=search.early_stopping if search.num_beams > 1 else None,
            use_cache=self._plan.self_kv_cache,
            decoder_start_token_id=special.start,
            pad_token_id=special.pad,
            eos_token_id=special.eos,
        )
        streamer, criteria, hooks = None, None, []
        encode: list[int] = []
        if on_token is not None:
            heard = _Heard(on_token, every=2 * search.num_beams)
            streamer, criteria = (heard, None) if search.num_beams == 1 else (None, StoppingCriteriaList([heard]))
            encoder = self._model.get_encoder()
            hooks = [
                encoder.register_forward_pre_hook(lambda *_: encode.append(perf_counter_ns())),
                encoder.register_forward_hook(lambda *_: encode.append(perf_counter_ns())),
            ]
        try:
            with torch.inference_mode():
                sequences = self._model.generate(
                    torch.from_numpy(batch.ids).to(self._plan.device),
                    attention_mask=torch.from_numpy(batch.mask).long().to(self._plan.device),
                    generation_config=config,
                    streamer=streamer,
                    stopping_criteria=criteria,
                )
        finally:
            for hook in hooks:
                hook.remove()
        rows = tuple(_until(row, special.eos) for row in sequences[:, 1:].tolist())
        return Generated(rows, encode[1] - encode[0] if len(encode) == 2 else None)

    def close(self) -> None:
        self._model = None


def _until(row: list[int], eos: int) -> tuple[int, ...]:
    """Cut after the end of sequence."""
    return tuple(row[: row.index(eos) + 1] if eos in row else row)


def open_session(plan: LoadPlan, source: ModelSource, progress: Callable[[str], None]) -> GenerateSession:
    model, report = source.torch_model(plan)
    return GenerateSession(model, report, plan, source.special)
