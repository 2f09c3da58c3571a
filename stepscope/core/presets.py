"""Names the stacks that a person starts from; form and command line offer the same ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    key: str
    title: str
    backend: str
    techniques: tuple[str, ...]
    summary: str


PRESETS: tuple[Preset, ...] = (
    Preset("naive", "Naive", "pytorch", (), "No cache, eager attention, float32, naive beams."),
    Preset("caches", "Caches", "pytorch", ("cross_kv_cache", "self_kv_cache"), "Both KV caches, nothing else."),
    Preset(
        "transformers",
        "Transformers",
        "pytorch_generate",
        ("cross_kv_cache", "sdpa", "self_kv_cache"),
        "What model.generate does out of the box.",
    ),
    Preset(
        "all_exact",
        "All exact",
        "pytorch",
        ("beam_lazy_reorder", "cross_kv_cache", "drop_finished_rows", "encoder_cache", "sdpa", "self_kv_cache"),
        "Every technique of PyTorch that leaves the tokens unchanged and needs no compiling.",
    ),
    Preset(
        "int8",
        "Exact + int8",
        "pytorch",
        (
            "beam_lazy_reorder", "cross_kv_cache", "drop_finished_rows", "encoder_cache", "int8_dynamic", "sdpa",
            "self_kv_cache",
        ),
        "The same over dynamically quantized linear layers; tokens may change.",
    ),
    Preset(
        "onnxruntime_int8",
        "ONNX Runtime int8",
        "onnxruntime",
        (
            "beam_lazy_reorder", "cross_kv_cache", "drop_finished_rows", "encoder_cache", "graph_optimization",
            "int8_dynamic", "self_kv_cache",
        ),
        "Our export on ONNX Runtime with dynamically quantized layers, without torch; tokens may change.",
    ),
    Preset(
        "openvino_int8",
        "OpenVINO int8",
        "openvino",
        (
            "beam_lazy_reorder", "cross_kv_cache", "drop_finished_rows", "graph_optimization", "int8_weight_only",
            "self_kv_cache",
        ),
        "Our export on OpenVINO with compressed weights, without torch; tokens may change.",
    ),
    Preset(
        "fastest",
        "Fastest",
        "native",
        ("beam_lazy_reorder", "cross_kv_cache", "drop_finished_rows", "int8_dynamic", "self_kv_cache"),
        "StepScope's own engine with int8 weights; tokens may change.",
    ),
)  # fmt: skip

DEFAULT = "all_exact"
LADDER = ("naive", "caches", "all_exact", "int8", "onnxruntime_int8", "fastest")  # each one step further


def preset(key: str) -> Preset:
    """Raises KeyError for an unknown key."""
    return next(p for p in PRESETS if p.key == key)
