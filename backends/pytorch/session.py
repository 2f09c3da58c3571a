"""The steppable session over the transformers modules. Imported inside functions only: it imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import EncoderDecoderCache

from stepscope.core.plan import LoadPlan, Reorder, Selection
from stepscope.core.session import Candidates, LoadReport, TokenBatch

from .caches import new_cache

if TYPE_CHECKING:
    from stepscope.core.session import Ids


@dataclass(slots=True)
class TorchState:
    """hidden: [rows, input length, width] encoder output; mask: [rows, input length]; prefix: [rows, tokens so far],
    kept only when the self-attention cache is off; inputs: [rows] which input each row belongs to."""

    hidden: Tensor
    mask: Tensor
    cache: EncoderDecoderCache
    prefix: Tensor | None
    inputs: Tensor
    steps: int = 0


class TorchSession:
    def __init__(self, model: Any, report: LoadReport, plan: LoadPlan) -> None:
        self.report = report
        self._model, self._plan = model, plan
        self._device = torch.device(plan.device)
        self._layers = model.config.num_decoder_layers or model.config.num_layers
        self._scale = model.config.d_model**-0.5 if _scales_output(model.config) else 1.0

    @torch.inference_mode()
    def encode(self, batch: TokenBatch) -> TorchState:
        ids, mask = self._to_device(batch.ids), self._to_device(batch.mask)
        hidden = self._model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return self._state(hidden, mask, batch.max_new_tokens)

    def encodings(self, state: TorchState) -> Sequence[tuple[Tensor, int]]:
        kept = [hidden[mask].clone() for hidden, mask in zip(state.hidden, state.mask, strict=True)]
        return [(hidden, hidden.nbytes) for hidden in kept]

    @torch.inference_mode()
    def resume(self, batch: TokenBatch, encodings: Sequence[Tensor]) -> TorchState:
        hidden = torch.nn.utils.rnn.pad_sequence(list(encodings), batch_first=True)
        return self._state(hidden, self._to_device(batch.mask), batch.max_new_tokens)

    def _to_device(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _state(self, hidden: Tensor, mask: Tensor, capacity: int) -> TorchState:
        plan = self._plan
        cache = new_cache(
            self._layers,
            capacity,
            self_kv=plan.self_kv_cache,
            cross_kv=plan.cross_kv_cache,
            reorder=plan.reorder,
            device=self._device,
        )
        prefix = None if plan.self_kv_cache else torch.empty(len(hidden), 0, dtype=torch.long, device=self._device)
        return TorchState(hidden, mask, cache, prefix, torch.arange(len(hidden), device=self._device))

    @torch.inference_mode()
    def step(self, state: TorchState, tokens: Ids, parents: Ids | None) -> Candidates:
        if parents is not None:
            self._select(state, self._to_device(parents))
        ids = self._to_device(tokens)[:, None]
        if state.prefix is not None:
            state.prefix = ids = torch.cat([state.prefix, ids], dim=1)
        if not self._plan.cross_kv_cache:
            state.cache.is_updated.clear()
        hidden = self._model.decoder(
            input_ids=ids,
            encoder_hidden_states=state.hidden,
            encoder_attention_mask=state.mask,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        state.steps += 1
        logits = self._model.lm_head(hidden * self._scale if self._scale != 1.0 else hidden).float()
        return self._candidates(logits)

    def _select(self, state: TorchState, parents: Tensor) -> None:
        """Rows continue others: caches, prefix and what belongs to the inputs follow."""
        plan = self._plan
        for layer in state.cache.self_attention_cache.layers:
            layer.select(parents)
        if state.prefix is not None:
            state.prefix = state.prefix[parents]
        inputs = state.inputs[parents]
        if plan.reorder is Reorder.LAZY and torch.equal(inputs, state.inputs):
            return  # beams do not leave their input: nothing that belongs to it has to move
        state.inputs = inputs
        state.mask = state.mask[parents]
        state.hidden = state.hidden[parents]
        for layer in state.cache.cross_attention_cache.layers:
            layer.select(parents)

    def _candidates(self, logits: Tensor) -> Candidates:
        k = self._plan.candidates
        if k == 1:
            return Candidates(logits.argmax(dim=-1, keepdim=True).cpu().numpy(), None)
        if self._plan.selection is Selection.FULL_SORT:
            scores, ids = logits.log_softmax(dim=-1).sort(dim=-1, descending=True)
            scores, ids = scores[:, :k], ids[:, :k]
        else:
            scores, ids = logits.topk(k, dim=-1)
            scores = scores - logits.logsumexp(dim=-1, keepdim=True)
        return Candidates(ids.cpu().numpy(), scores.cpu().numpy())

    def close(self) -> None:
        self._model = None


def _scales_output(config: Any) -> bool:
    """Whether the family's ``forward`` scales the decoder output before the vocabulary projection (transformers v5)."""
    if config.model_type == "umt5":
        return bool(config.tie_word_embeddings)
    return bool(getattr(config, "scale_decoder_outputs", False))  # mT5 never does
