"""Holds weights and activations in float16: half the bytes that a step must read, with float16's small range."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="fp16",
    title="float16 weights",
    stage=Stage.LOAD,
    exact=False,
    summary=(
        "Weights, caches and activations have 16 bits: 5 of exponent and 11 of mantissa, finer than bfloat16 but with a "
        "range that ends at 65,504. Layer norms are computed in float32. T5's feed-forward layers can overflow; bfloat16 is "
        "the safer choice for it."
    ),
    cost="Tokens can change; a model may overflow into nonsense. Half the weight bytes.",
    source="Micikevicius et al. 2018 (arXiv:1710.03740); google-research/text-to-text-transfer-transformer issue 1072",
    sets={"dtype": "float16"},
    group="weights",
    devices=frozenset({"cuda"}),
)
