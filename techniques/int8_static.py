"""Quantizes weights and activations to int8 with ranges found in advance by a calibration pass (static)."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="int8_static",
    title="Static int8 quantization",
    stage=Stage.LOAD,
    exact=False,
    summary=(
        "Before loading, the float32 model decodes a calibration data set while the range of every linear layer's input "
        "is recorded. At run time these ranges are constants, so nothing has to be measured per call; an input beyond its "
        "range is clipped. T5's feed-forward activations have outliers: name layers to keep in float32, often Dense.wo."
    ),
    cost="Tokens change more than with dynamic quantization. A calibration pass; its data set decides the quality.",
    source="Jacob et al. 2017 (arXiv:1712.05877)",
    sets={"quantization": "int8_static"},
    group="weights",
    devices=frozenset({"cpu"}),
    calibrates=True,
)
