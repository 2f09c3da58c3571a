"""Keeps the decoder's self-attention keys and values, so that a step computes one position instead of the whole prefix."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="self_kv_cache",
    title="Self-attention KV cache",
    stage=Stage.STEP,
    exact=True,
    summary=(
        "Each decode step projects keys and values for its own token only and keeps them for the steps to come. Without "
        "it the decoder runs over the whole prefix again at every step, so that step latency grows with the position."
    ),
    cost="Memory: 2 x layers x heads x head size x bytes per token and row. Beams must reorder it.",
    source="Shazeer 2019, Fast Transformer Decoding (arXiv:1911.02150); Pope et al. 2022 (arXiv:2211.05102)",
    sets={"self_kv_cache": True},
)
