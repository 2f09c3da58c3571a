"""The same beam search in array operations: top-k instead of a sort, one normalizer per row, one gather per cache."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="beam_vectorized",
    title="Beam search: vectorized",
    stage=Stage.DECODE,
    exact=True,
    summary=(
        "Only the best 2 x beams candidates of each row leave the model, found by top-k on the raw logits and normalized "
        "by a single log-sum-exp; one flat top-k over beams x candidates picks the survivors, which is the same as over "
        "beams x vocabulary. Caches follow by one index_select per tensor."
    ),
    cost="Every cache tensor is still copied at every step.",
    source="transformers' vectorized beam search (v4.50 and later); Freitag & Al-Onaizan 2017 (arXiv:1702.01806)",
    sets={"beam_search": "vectorized", "selection": "top_k", "reorder": "index_select"},
    group="beam search",
    beams_only=True,
)
