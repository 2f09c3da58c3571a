"""Lets a 4-bit vocabulary projection pick a shortlist, which is scored again in float32."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="shortlist",
    title="Shortlisted vocabulary projection",
    stage=Stage.STEP,
    exact=False,
    summary=(
        "The vocabulary projection is up to half of the bytes that a step of a small T5 reads, to choose one token. Here it "
        "is read in int4, and its 64 best outputs are scored again from the float32 rows. The best output is nearly always "
        "among them, but nothing proves it; the normalizer of beams is int4's own."
    ),
    cost="Tokens can change where int4 misses the best output. An eighth of float32's bytes of the projection, and 64 rows.",
    source="The preview and re-scoring of Shim et al. 2017 (SVD-softmax), with 4-bit weights as the preview",
    sets={"head": "shortlist"},
    group="vocabulary projection",
)
