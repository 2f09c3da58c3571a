"""Holds weights as 4-bit integers in small blocks, each with its own scale (weight-only quantization)."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="int4_weight_only",
    title="Weight-only int4 quantization",
    stage=Stage.LOAD,
    exact=False,
    summary=(
        "As weight-only int8, with 16 levels per weight: an eighth of float32's bytes, so that small models fit into a "
        "processor's cache, where reading is several times faster than from memory."
    ),
    cost="Tokens change; small models lose noticeable quality. About 0.16 of float32's bytes in the quantized layers.",
    source="Dettmers & Zettlemoyer 2022 (arXiv:2212.09720)",
    sets={"quantization": "int4_weight_only"},
    group="weights",
    devices=frozenset({"cpu"}),
)
