"""Keeps the keys and values that cross-attention projects from the encoder output, which never change after step 0."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="cross_kv_cache",
    title="Cross-attention KV cache",
    stage=Stage.STEP,
    exact=True,
    summary=(
        "The encoder output is the same at every step, so its keys and values are projected once, in step 0, and kept. "
        "Without it every step projects all input positions again in every layer: work that grows with the input length."
    ),
    cost="Memory: 2 x layers x heads x head size x bytes per input token and row; fixed after step 0.",
    source="Vaswani et al. 2017 (arXiv:1706.03762), as implemented in every encoder-decoder runtime",
    sets={"cross_kv_cache": True},
)
