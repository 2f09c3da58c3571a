"""Holds weights as int8 in small blocks, each with its own scale (weight-only quantization)."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="int8_weight_only",
    title="Weight-only int8 quantization",
    stage=Stage.LOAD,
    exact=False,
    summary=(
        "Weights are stored as int8 in blocks with one scale each and multiplied out, or dotted as integers, inside the "
        "kernel; between layers everything stays float32. A decode step is bound by the bytes of its weights, so a quarter "
        "of the bytes helps even where nothing else is quantized."
    ),
    cost="Tokens can change. About 0.28 of float32's bytes in the quantized layers.",
    source="Dettmers & Zettlemoyer 2022 (arXiv:2212.09720)",
    sets={"quantization": "int8_weight_only"},
    group="weights",
    devices=frozenset({"cpu"}),
)
