"""Takes a T5-like model apart into named arrays, so that no converter has to know transformers or a model family."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Dimensions:
    """width: of the hidden state; size: of one head; inner: heads x size; buckets: of relative positions."""

    vocabulary: int
    width: int
    heads: int
    size: int
    hidden: int
    layers: int
    decoder_layers: int
    gated: bool
    activation: str
    epsilon: float
    buckets: int
    max_distance: int

    @property
    def inner(self) -> int:
        return self.heads * self.size


@dataclass(frozen=True, slots=True)
class Layer:
    """One block's matrices, [inputs, outputs]; the projections that read the same input stand in one matrix.

    qkv: [width, 3 x inner]; o: [inner, width]; wi: [width, hidden], or [width, 2 x hidden] gate first; wo: [hidden, width].
    cross_q, cross_kv ([width, 2 x inner]), cross_o, cross_norm: of a decoder's block. bias: [buckets, heads].
    """

    norm: Array
    qkv: Array
    o: Array
    bias: Array
    ff_norm: Array
    wi: Array
    wo: Array
    cross_norm: Array | None = None
    cross_q: Array | None = None
    cross_kv: Array | None = None
    cross_o: Array | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """embedding: [vocabulary, width]; head: [vocabulary, width], the same array when tied. The factor by which some
    families scale the decoder's output stands in decoder_norm."""

    dimensions: Dimensions
    embedding: Array
    encoder: tuple[Layer, ...]
    encoder_norm: Array
    decoder: tuple[Layer, ...]
    decoder_norm: Array
    head: Array

    @property
    def tied(self) -> bool:
        return self.head is self.embedding

    @property
    def parameters(self) -> int:
        arrays = [self.embedding, self.encoder_norm, self.decoder_norm, *(() if self.tied else (self.head,))]
        biases: dict[int, Array] = {}
        for layer in (*self.encoder, *self.decoder):
            named = (layer.norm, layer.qkv, layer.o, layer.ff_norm, layer.wi, layer.wo, layer.cross_norm, layer.cross_q,
                     layer.cross_kv, layer.cross_o)  # fmt: skip
            arrays += [array for array in named if array is not None]
            biases[id(layer.bias)] = layer.bias
        return sum(array.size for array in (*arrays, *biases.values()))


def take_apart(model: Any) -> Weights:
    """model: a transformers T5, MT5 or UMT5 ForConditionalGeneration in float32."""
    config = model.config
    dimensions = dimensions_of(config)
    scale = config.d_model**-0.5 if scales_output(config) else 1.0
    embedding = _array(model.shared)
    tied = model.lm_head.weight.data_ptr() == model.shared.weight.data_ptr()
    return Weights(
        dimensions,
        embedding,
        _stack(model.encoder),
        _array(model.encoder.final_layer_norm),
        _stack(model.decoder),
        _array(model.decoder.final_layer_norm) * np.float32(scale),
        embedding if tied else _array(model.lm_head),
    )


def dimensions_of(config: Any) -> Dimensions:
    """config: of the family's transformers class."""
    return Dimensions(
        vocabulary=config.vocab_size,
        width=config.d_model,
        heads=config.num_heads,
        size=config.d_kv,
        hidden=config.d_ff,
        layers=config.num_layers,
        decoder_layers=config.num_decoder_layers or config.num_layers,
        gated=config.is_gated_act,
        activation=config.dense_act_fn,
        epsilon=config.layer_norm_epsilon,
        buckets=config.relative_attention_num_buckets,
        max_distance=config.relative_attention_max_distance,
    )


def scales_output(config: Any) -> bool:
    """Whether the family's ``forward`` scales the decoder output before the vocabulary projection (transformers v5)."""
    if config.model_type == "umt5":
        return bool(config.tie_word_embeddings)
    return bool(getattr(config, "scale_decoder_outputs", False))  # mT5 never does


def _stack(stack: Any) -> tuple[Layer, ...]:
    layers, bias = [], None
    for block in stack.block:
        attention = block.layer[0].SelfAttention
        if attention.has_relative_attention_bias:  # UMT5 has one per layer, the others one per stack
            bias = _array(attention.relative_attention_bias)
        assert bias is not None
        dense = block.layer[-1].DenseReluDense
        wi = [dense.wi_0, dense.wi_1] if hasattr(dense, "wi_0") else [dense.wi]
        cross: dict[str, Array] = {}
        if len(block.layer) == 3:
            other = block.layer[1].EncDecAttention
            cross = {
                "cross_norm": _array(block.layer[1].layer_norm),
                "cross_q": _matrix(other.q),
                "cross_kv": _matrix(other.k, other.v),
                "cross_o": _matrix(other.o),
            }
        layers.append(
            Layer(
                norm=_array(block.layer[0].layer_norm),
                qkv=_matrix(attention.q, attention.k, attention.v),
                o=_matrix(attention.o),
                bias=bias,
                ff_norm=_array(block.layer[-1].layer_norm),
                wi=_matrix(*wi),
                wo=_matrix(dense.wo),
                **cross,
            )
        )
    return tuple(layers)


def _array(module: Any) -> Array:
    values: Array = module.weight.detach().float().cpu().numpy()
    return values


def _matrix(*modules: Any) -> Array:
    return np.ascontiguousarray(np.concatenate([_array(module) for module in modules]).T)


def relative_buckets(distance: NDArray[np.int64], dimensions: Dimensions, *, both_ways: bool) -> NDArray[np.int64]:
    """Bucket of each relative position (key position - query position), as T5 does (arXiv:1910.10683, section 2.1)."""
    count = dimensions.buckets
    offset = np.zeros_like(distance)
    if both_ways:
        count //= 2
        offset = np.where(distance > 0, count, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = count // 2
    with np.errstate(divide="ignore"):
        ratio = np.log(np.maximum(distance, 1).astype(np.float32) / exact) / math.log(dimensions.max_distance / exact)
    far = np.minimum(exact + (ratio * (count - exact)).astype(np.int64), count - 1)
    return offset + np.where(distance < exact, distance, far)
