"""Computes attention by torch's fused scaled_dot_product_attention instead of three separate operations."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="sdpa",
    title="Fused attention (SDPA)",
    stage=Stage.STEP,
    exact=True,
    summary=(
        "Scores, softmax and weighted sum run as one fused call that never writes the score matrix to memory. It helps "
        "most in the encoder and in long prefixes; a step of one token is too small to gain much."
    ),
    cost="None in memory. Sums are taken in another order: equal up to rounding.",
    source="Dao et al. 2022 (arXiv:2205.14135); torch.nn.functional.scaled_dot_product_attention",
    sets={"attention": "sdpa"},
)
