"""The steppable session whose decode step is one compiled function. Imported inside functions only: it imports torch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import ACT2FN

from stepscope.conversion.weights import dimensions_of, relative_buckets, scales_output
from stepscope.core.errors import Unavailable
from stepscope.core.plan import LoadPlan
from stepscope.core.session import Candidates, LoadReport, TokenBatch

if TYPE_CHECKING:
    from stepscope.core.session import Ids

_ROUND = 32  # lengths are padded to a multiple, so that few shapes are compiled
_MAX_GRAPHS = 64


@dataclass(frozen=True, slots=True)
class _Layer:
    """One decoder block's tensors, [outputs, inputs] as torch has them. bias: [heads, distance]."""

    norm: Tensor
    qkv: Tensor
    o: Tensor
    bias: Tensor
    cross_norm: Tensor
    cross_q: Tensor
    cross_o: Tensor
    ff_norm: Tensor
    wi: Tensor
    wo: Tensor


@dataclass(slots=True)
class CompiledState:
    """keys, values: per layer [rows, heads, capacity, size]; cross_*: per layer [rows, heads, length, size];
    cross_bias: [rows, 1, 1, length]; position: [1], the step to come."""

    keys: list[Tensor]
    values: list[Tensor]
    cross_keys: list[Tensor]
    cross_values: list[Tensor]
    cross_bias: Tensor
    position: Tensor


class CompiledSession:
    def __init__(self, model: Any, report: LoadReport, plan: LoadPlan) -> None:
        if plan.device == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
            raise Unavailable("torch.compile needs a C++ compiler on the CPU.", "Install g++ (Debian: apt install g++).")
        self.report = report
        self._model, self._plan, self._device = model, plan, torch.device(plan.device)
        config = model.config
        self._heads, self._size, self._epsilon = config.num_heads, config.d_kv, config.layer_norm_epsilon
        self._gated, self._act = config.is_gated_act, ACT2FN[config.dense_act_fn]
        self._dtype = model.shared.weight.dtype
        scale = config.d_model**-0.5 if scales_output(config) else 1.0
        self._norm = model.decoder.final_layer_norm.weight.detach() * scale
        self._cross = [block.layer[1].EncDecAttention for block in model.decoder.block]
        self._layers: list[_Layer] = []
        self._capacity = 0
        torch._dynamo.config.cache_size_limit = _MAX_GRAPHS
        torch._dynamo.config.suppress_errors = False  # falling back to eager would be silent
        torch._dynamo.reset()
        mode = "reduce-overhead" if plan.cuda_graphs else None
        self._compiled = torch.compile(self._step, dynamic=False, fullgraph=True, mode=mode)

    def compile(self, batch: TokenBatch, num_beams: int) -> None:
        state = self.encode(batch)
        tokens = np.zeros(len(batch.ids), np.int64)
        self.step(state, tokens, None)
        if num_beams > 1:
            parents = np.repeat(np.arange(len(tokens)), num_beams)
            self.step(state, tokens[parents], parents)

    def graphs(self) -> int:
        return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    @torch.inference_mode()
    def encode(self, batch: TokenBatch) -> CompiledState:
        ids, mask = (torch.from_numpy(a).to(self._device) for a in (batch.ids, batch.mask))
        hidden = self._model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        extra = -hidden.shape[1] % _ROUND
        hidden, mask = F.pad(hidden, (0, 0, 0, extra)), F.pad(mask, (0, extra))
        capacity = batch.max_new_tokens + -batch.max_new_tokens % _ROUND
        if capacity != self._capacity:
            self._capacity, self._layers = capacity, self._take_layers(capacity)
        shape = (len(ids), self._heads, capacity, self._size)
        count = len(self._cross)
        return CompiledState(
            [torch.zeros(shape, dtype=self._dtype, device=self._device) for _ in range(count)],
            [torch.zeros(shape, dtype=self._dtype, device=self._device) for _ in range(count)],
            [self._split(attention.k(hidden)) for attention in self._cross],
            [self._split(attention.v(hidden)) for attention in self._cross],
            torch.zeros(mask.shape, dtype=self._dtype, device=self._device).masked_fill(~mask, torch.finfo(self._dtype).min)[
                :, None, None
            ],
            torch.zeros(1, dtype=torch.long, device=self._device),
        )

    def _split(self, x: Tensor) -> Tensor:
        """[rows, length, inner] -> [rows, heads, length, size]"""
        return x.view(x.shape[0], x.shape[1], self._heads, self._size).transpose(1, 2).contiguous()

    def _take_layers(self, capacity: int) -> list[_Layer]:
        layers: list[_Layer] = []
        bias = None
        found = relative_buckets(-np.arange(capacity), dimensions_of(self._model.config), both_ways=False)
        buckets = torch.from_numpy(found).to(self._device)
        for block in self._model.decoder.block:
            own, cross, dense = block.layer[0], block.layer[1], block.layer[2]
            attention = own.SelfAttention
            if attention.has_relative_attention_bias:
                bias = attention.relative_attention_bias(buckets).T.contiguous()
            assert bias is not None
            d = dense.DenseReluDense
            layers.append(
                _Layer(
                    own.layer_norm.weight,
                    torch.cat([attention.q.weight, attention.k.weight, attention.v.weight]),
                    attention.o.weight,
                    bias,
                    cross.layer_norm.weight,
                    cross.EncDecAttention.q.weight,
                    cross.EncDecAttention.o.weight,
                    dense.layer_norm.weight,
                    torch.cat([d.wi_0.weight, d.wi_1.weight]) if self._gated else d.wi.weight,
                    d.wo.weight,
                )
            )
        return layers

    @torch.inference_mode()
    def step(self, state: CompiledState, tokens: Ids, parents: Ids | None) -> Candidates:
        if parents is not None:
            self._follow(state, torch.from_numpy(parents).to(self._device))
        ids = torch.from_numpy(tokens).to(self._device)
        if self._plan.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        found, scores = self._compiled(
            ids, state.keys, state.values, state.cross_keys, state.cross_values, state.cross_bias, state.position
        )
        state.position += 1
        return Candidates(found.cpu().numpy(), None if scores is None else scores.cpu().numpy())

    def _follow(self, state: CompiledState, parents: Tensor) -> None:
        for caches in (state.keys, state.values):
            caches[:] = [cache.index_select(0, parents) for cache in caches]
        if len(parents) != len(state.cross_bias):
            state.cross_bias = state.cross_bias.index_select(0, parents)
            for caches in (state.cross_keys, state.cross_values):
                caches[:] = [cache.index_select(0, parents) for cache in caches]

    def _rms(self, x: Tensor, weight: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._epsilon)).to(weight.dtype) * weight

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """q: [rows, inner] -> [rows, inner]"""
        q = q.view(-1, self._heads, 1, self._size)
        scores = (q @ k.transpose(2, 3)).float() + bias.float()
        return (torch.softmax(scores, -1).to(v.dtype) @ v).view(-1, self._heads * self._size)

    def _step(
        self,
        ids: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        cross_keys: Sequence[Tensor],
        cross_values: Sequence[Tensor],
        cross_bias: Tensor,
        position: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """What is compiled: ids [rows] -> ids [rows, k] and log-probabilities; the caches are written in place."""
        x = F.embedding(ids, self._model.shared.weight)
        back = position - torch.arange(self._capacity, device=ids.device)
        for at, layer in enumerate(self._layers):
            bias = layer.bias.float()[:, back.clamp(min=0)].masked_fill(back < 0, -1e30)[None, :, None]
            qkv = F.linear(self._rms(x, layer.norm), layer.qkv).view(-1, 3, self._heads, 1, self._size)
            keys[at].index_copy_(2, position, qkv[:, 1])
            values[at].index_copy_(2, position, qkv[:, 2])
            x = x + F.linear(self._attend(qkv[:, 0], keys[at], values[at], bias), layer.o)
            q = F.linear(self._rms(x, layer.cross_norm), layer.cross_q)
            x = x + F.linear(self._attend(q, cross_keys[at], cross_values[at], cross_bias), layer.cross_o)
            h = F.linear(self._rms(x, layer.ff_norm), layer.wi)
            if self._gated:
                gate, h = h.chunk(2, dim=-1)
                h = self._act(gate) * h
            else:
                h = self._act(h)
            x = x + F.linear(h, layer.wo)
        logits = F.linear(self._rms(x, self._norm), self._model.lm_head.weight).float()
        k = self._plan.candidates
        if k == 1:
            return logits.argmax(dim=-1, keepdim=True), None
        scores, found = logits.topk(k, dim=-1)
        return found, scores - logits.logsumexp(dim=-1, keepdim=True)

    def close(self) -> None:
        self._model = None
        torch._dynamo.reset()
