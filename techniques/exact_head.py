"""Holds the vocabulary projection in int8 and scores the few outputs that can be the best again, exactly."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="exact_head",
    title="int8 vocabulary projection, exact",
    stage=Stage.STEP,
    exact=True,
    summary=(
        "The vocabulary projection is up to half of the bytes that a step of a small T5 reads. Here it is read in int8; for "
        "every output the error of its score is bounded (Cauchy-Schwarz, from norms computed at conversion), and the few "
        "outputs whose bound reaches the best are scored again in float32. Greedy search then gives the token of a float32 "
        "projection, also over quantized layers, whose own projection would be int8."
    ),
    cost="A quarter of the projection's bytes plus a few float32 rows a step. Greedy only: beams need exact normalizers.",
    source="Bounds by Cauchy-Schwarz, as in exact maximum inner product search; backends/native/engine.cpp",
    sets={"head": "exact_int8"},
    group="vocabulary projection",
    greedy_only=True,
)
