"""Beam search whose caches stay where they were written; attention reads through an index of rows and steps."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="beam_lazy_reorder",
    title="Beam search: lazy reorder",
    stage=Stage.DECODE,
    exact=True,
    summary=(
        "As the vectorized search, but no cache is rewritten when beams change places: keys and values are written once, "
        "at their step, and a small table says which row holds which step of which beam; attention gathers through it. "
        "When every beam continues itself even that gather is skipped. Cross-attention keys and values are never "
        "reordered, since beams do not leave their input."
    ),
    cost="A table of steps x rows integers. Needs the self-attention KV cache.",
    source="Cache indirection in FasterTransformer and TensorRT-LLM (beam search with a cache indirection table)",
    sets={"beam_search": "vectorized", "selection": "top_k", "reorder": "lazy"},
    group="beam search",
    requires=frozenset({"self_kv_cache"}),
    beams_only=True,
)
