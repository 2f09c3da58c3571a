"""Writes a T5-like model as two ONNX graphs made for the decode step, which ONNX Runtime, OpenVINO and TensorRT read.

Encoder: embedded inputs -> cross-attention keys and values of every decoder layer. Decoder: one step over [inputs, beams].
The embedding table is in neither: rows are looked up on the host, so that only the rows in use are ever in memory.

The self-attention cache is appended to and never reordered: an input's beams share its slots, and ``mask`` says which beam
descends from which slot. With ``gather`` the cache follows ``parents`` instead, as a conventional beam search does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .weights import Dimensions, Layer, Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET = 17
ENCODER, DECODER, EMBEDDING, DATA = "encoder.onnx", "decoder.onnx", "embedding.npy", ".bin"


@dataclass(slots=True)
class _Graph:
    """Collects nodes; every method returns the name of what it adds. kind: type of weights, caches and hidden states."""

    kind: Any = np.float32

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)

    def add(self, op: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        from onnx import helper

        name = name or f"{op}_{len(self.nodes)}"
        names = [f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: NDArray[Any], name: str = "") -> str:
        from onnx import numpy_helper

        name = name or f"constant_{value.dtype}_{'x'.join(map(str, value.shape))}_{hash(value.tobytes()) & 0xFFFFFFFFFFFF:x}"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def real(self, value: float | NDArray[Any], name: str = "") -> str:
        return self.constant(np.asarray(value, np.float32).astype(self.kind), name)

    def cast(self, x: str, kind: Any) -> str:
        """x is of the other type, if there are two."""
        from onnx import helper

        return x if self.kind == np.float32 else str(self.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))))

    def input(self, name: str, kind: type, *shape: int | str) -> str:
        self.inputs.append(self._value(name, kind, shape))
        return name

    def output(self, value: str, name: str, kind: type, *shape: int | str) -> None:
        self.add("Identity", value, name=name)
        self.nodes[-1].output[0] = name
        self.outputs.append(self._value(name, kind, shape))

    @staticmethod
    def _value(name: str, kind: type, shape: tuple[int | str, ...]) -> Any:
        from onnx import helper

        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)

    def model(self, name: str) -> Any:
        from onnx import helper

        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, list(self.constants.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)

    def norm(self, x: str, weight: NDArray[Any], epsilon: float, name: str) -> str:
        """T5's layer norm: no mean, no bias, in float32; written out as runtimes fuse it."""
        x = self.cast(x, np.float32)
        square = self.add("Pow", x, self.constant(np.array(2, np.float32)))
        mean = self.add("ReduceMean", square, axes=[-1], keepdims=1)
        root = self.add("Sqrt", self.add("Add", mean, self.constant(np.array(epsilon, np.float32))))
        return self.cast(self.add("Mul", self.add("Div", x, root), self.constant(weight, f"{name}.weight")), self.kind)

    def linear(self, x: str, weight: NDArray[Any], name: str) -> str:
        return str(self.add("MatMul", x, self.real(weight, f"{name}.weight"), name=name))

    def heads(self, x: str, d: Dimensions) -> str:
        """[rows, length, inner] -> [rows, heads, length, size]"""
        return str(self.add("Transpose", self.add("Reshape", x, self.ints(0, 0, d.heads, d.size)), perm=[0, 2, 1, 3]))

    def merged(self, x: str, d: Dimensions) -> str:
        """[rows, heads, length, size] -> [rows, length, inner]"""
        return str(self.add("Reshape", self.add("Transpose", x, perm=[0, 2, 1, 3]), self.ints(0, 0, d.inner)))

    def attend(self, q: str, k_transposed: str, v: str, bias: str) -> str:
        """softmax(q k + bias) v; T5 does not scale by the size of a head."""
        weights = self.add("Softmax", self.add("Add", self.add("MatMul", q, k_transposed), bias), axis=-1)
        return str(self.add("MatMul", weights, v))

    def dense(self, x: str, layer: Layer, d: Dimensions, name: str) -> str:
        both = self.linear(x, layer.wi, f"{name}.wi")
        if not d.gated:
            return self.linear(self.activation(both, d.activation), layer.wo, f"{name}.wo")
        gate, value = self.add("Split", both, self.ints(d.hidden, d.hidden), outputs=2, axis=-1)
        return self.linear(self.add("Mul", self.activation(gate, d.activation), value), layer.wo, f"{name}.wo")

    def activation(self, x: str, kind: str) -> str:
        if kind == "relu":
            return str(self.add("Relu", x))
        if kind in ("silu", "swish"):
            return str(self.add("Mul", x, self.add("Sigmoid", x)))
        one, half = self.real(1), self.real(0.5)
        if kind == "gelu":
            inner = self.add("Erf", self.add("Div", x, self.real(np.sqrt(2))))
        elif kind == "gelu_new":
            cube = self.add("Mul", x, self.add("Mul", x, x))
            term = self.add("Add", x, self.add("Mul", cube, self.real(0.044715)))
            inner = self.add("Tanh", self.add("Mul", term, self.real(np.sqrt(2 / np.pi))))
        else:
            raise ValueError(f"The activation {kind!r} has no ONNX form here.")
        return str(self.add("Mul", self.add("Mul", x, half), self.add("Add", inner, one)))

    def position_bias(self, layer: Layer, buckets: str, axes: tuple[int, ...]) -> str:
        """The heads' values of these buckets, [1, heads, ...] after the missing axes."""
        gathered = self.add("Gather", self.real(layer.bias.T), buckets, axis=1)
        return str(self.add("Unsqueeze", gathered, self.ints(*axes)))


def encoder(weights: Weights, kind: Any = np.float32) -> Any:
    """x [rows, length, width], buckets [length, length] int64, mask [rows, 1, 1, length] (0, or -inf at padding) ->
    cross_k_L [rows, heads, size, length] and cross_v_L [rows, heads, length, size] for each decoder layer L."""
    d, g = weights.dimensions, _Graph(kind)
    x = g.cast(g.input("x", np.float32, "rows", "length", d.width), kind)
    buckets = g.input("buckets", np.int64, "length", "length")
    mask = g.cast(g.input("mask", np.float32, "rows", 1, 1, "length"), kind)
    bias, of = "", None
    for at, layer in enumerate(weights.encoder):
        name = f"encoder.block.{at}"
        if layer.bias is not of:
            bias, of = g.add("Add", g.position_bias(layer, buckets, (0,)), mask), layer.bias
        qkv = g.linear(g.norm(x, layer.norm, d.epsilon, f"{name}.norm"), layer.qkv, f"{name}.SelfAttention.qkv")
        q, k, v = (g.heads(part, d) for part in g.add("Split", qkv, g.ints(*[d.inner] * 3), outputs=3, axis=-1))
        out = g.attend(q, g.add("Transpose", k, perm=[0, 1, 3, 2]), v, bias)
        x = g.add("Add", x, g.linear(g.merged(out, d), layer.o, f"{name}.SelfAttention.o"))
        x = g.add("Add", x, g.dense(g.norm(x, layer.ff_norm, d.epsilon, f"{name}.ff_norm"), layer, d, f"{name}.Dense"))
    x = g.norm(x, weights.encoder_norm, d.epsilon, "encoder.final_norm")
    for at, layer in enumerate(weights.decoder):
        assert layer.cross_kv is not None
        kv = g.linear(x, layer.cross_kv, f"decoder.block.{at}.EncDecAttention.kv")
        k, v = g.add("Split", kv, g.ints(d.inner, d.inner), outputs=2, axis=-1)
        k = g.add("Transpose", g.add("Reshape", k, g.ints(0, 0, d.heads, d.size)), perm=[0, 2, 3, 1])
        g.output(k, f"cross_k_{at}", kind, "rows", d.heads, d.size, "length")
        g.output(g.heads(v, d), f"cross_v_{at}", kind, "rows", d.heads, "length", d.size)
    return g.model("encoder")


def decoder(weights: Weights, *, gather: bool = False, kind: Any = np.float32, k: int | None = None) -> Any:
    """x [inputs, beams, width] embedded tokens, buckets [slots + beams] int64, mask [inputs, 1, beams, slots + beams],
    cross_mask [inputs, 1, 1, length], k [1] int64, past_k_L and past_v_L [inputs, heads, slots, size], cross_k_L and
    cross_v_L as the encoder gives them -> ids and log_probs [inputs, beams, k], present_k_L, present_v_L (slots + beams).

    k: the number of candidates as a constant instead of an input. kind: as above; x, masks and log_probs stay float32.
    gather: one more input, parents [inputs] int64, by which the past is gathered along its first axis; each row is then an
    input of its own for the self-attention, while cross-attention keeps [cross rows, beams].
    """
    d, g = weights.dimensions, _Graph(kind)
    x = g.cast(g.input("x", np.float32, "inputs", "beams", d.width), kind)
    buckets = g.input("buckets", np.int64, "now")
    mask = g.cast(g.input("mask", np.float32, "inputs", 1, "beams", "now"), kind)
    cross_mask = g.cast(g.input("cross_mask", np.float32, "cross", 1, 1, "length"), kind)
    k_best = g.input("k", np.int64, 1) if k is None else g.ints(k)
    parents = g.input("parents", np.int64, "inputs") if gather else ""
    cross_rows = g.add("Shape", cross_mask, start=0, end=1)
    grouped = g.add("Concat", cross_rows, g.ints(-1, d.heads, d.size), axis=0)
    flat = g.add("Concat", g.add("Shape", x, start=0, end=2), g.ints(d.inner), axis=0)
    bias, of = "", None
    for at, layer in enumerate(weights.decoder):
        name = f"decoder.block.{at}"
        assert layer.cross_norm is not None and layer.cross_q is not None and layer.cross_o is not None
        if layer.bias is not of:
            bias, of = g.add("Add", g.position_bias(layer, buckets, (0, 2)), mask), layer.bias
        qkv = g.linear(g.norm(x, layer.norm, d.epsilon, f"{name}.norm"), layer.qkv, f"{name}.SelfAttention.qkv")
        q, key, value = (g.heads(part, d) for part in g.add("Split", qkv, g.ints(*[d.inner] * 3), outputs=3, axis=-1))
        now = []
        for what, new in (("k", key), ("v", value)):
            past = g.input(f"past_{what}_{at}", kind, "old" if gather else "inputs", d.heads, "slots", d.size)
            past = g.add("Gather", past, parents, axis=0) if gather else past
            now.append(g.add("Concat", past, new, axis=2))
            g.output(now[-1], f"present_{what}_{at}", kind, "inputs", d.heads, "now", d.size)
        out = g.attend(q, g.add("Transpose", now[0], perm=[0, 1, 3, 2]), now[1], bias)
        x = g.add("Add", x, g.linear(g.merged(out, d), layer.o, f"{name}.SelfAttention.o"))
        q = g.linear(
            g.norm(x, layer.cross_norm, d.epsilon, f"{name}.cross_norm"), layer.cross_q, f"{name}.EncDecAttention.q"
        )
        q = g.add("Transpose", g.add("Reshape", q, grouped), perm=[0, 2, 1, 3])
        cross_k = g.input(f"cross_k_{at}", kind, "cross", d.heads, d.size, "length")
        cross_v = g.input(f"cross_v_{at}", kind, "cross", d.heads, "length", d.size)
        out = g.add("Transpose", g.attend(q, cross_k, cross_v, cross_mask), perm=[0, 2, 1, 3])
        out = g.linear(g.add("Reshape", out, flat), layer.cross_o, f"{name}.EncDecAttention.o")
        x = g.add("Add", x, out)
        x = g.add("Add", x, g.dense(g.norm(x, layer.ff_norm, d.epsilon, f"{name}.ff_norm"), layer, d, f"{name}.Dense"))
    x = g.norm(x, weights.decoder_norm, d.epsilon, "decoder.final_norm")
    logits = g.cast(g.linear(x, np.ascontiguousarray(weights.head.T), "lm_head"), np.float32)
    best, ids = g.add("TopK", logits, k_best, outputs=2, axis=-1)
    peak = g.add("ReduceMax", logits, axes=[-1], keepdims=1)
    total = g.add("ReduceSum", g.add("Exp", g.add("Sub", logits, peak)), g.ints(-1), keepdims=1)
    g.output(ids, "ids", np.int64, "inputs", "beams", "k")
    g.output(g.add("Sub", g.add("Sub", best, peak), g.add("Log", total)), "log_probs", np.float32, "inputs", "beams", "k")
    return g.model("decoder")


def save(model: Any, file: Path) -> None:
    """The graph, and beside it one file with all its arrays."""
    import onnx

    onnx.save_model(
        model, file, save_as_external_data=True, all_tensors_to_one_file=True, location=file.stem + DATA, size_threshold=1024
    )


def write(weights: Weights, directory: Path, *, gather: bool = False) -> None:
    """encoder.onnx, decoder.onnx, each with its data, and embedding.npy."""
    np.save(directory / EMBEDDING, weights.embedding)
    save(encoder(weights), directory / ENCODER)
    save(decoder(weights, gather=gather), directory / DECODER)
