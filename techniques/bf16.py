"""Holds weights and activations in bfloat16: half the bytes that a step must read."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="bf16",
    title="bfloat16 weights",
    stage=Stage.LOAD,
    exact=False,
    summary=(
        "Weights, caches and activations have 16 bits: the exponent of float32, 8 bits of mantissa. A decode step is "
        "bound by the bytes it reads, so half the bytes can be twice the speed where the processor multiplies bfloat16 "
        "(AVX512-BF16, AMX, or a GPU); elsewhere it is emulated and slower."
    ),
    cost="Tokens can change where two candidates are close. Half the weight bytes.",
    source="Kalamkar et al. 2019 (arXiv:1905.12322)",
    sets={"dtype": "bfloat16"},
    group="weights",
)
