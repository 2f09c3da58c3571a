"""Quantizes weights and, at each call, their inputs to 16-bit integers (dynamic quantization)."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="int16_dynamic",
    title="Dynamic int16 quantization",
    stage=Stage.LOAD,
    exact=False,
    summary=(
        "As dynamic int8 with 16-bit integers: half of float32's bytes and nearly its accuracy, for processors whose 16-bit "
        "integer products are fast."
    ),
    cost="Tokens rarely change. Half of float32's bytes.",
    source="CTranslate2: https://opennmt.net/CTranslate2/quantization.html",
    sets={"quantization": "int16_dynamic"},
    group="weights",
    devices=frozenset({"cpu"}),
)
