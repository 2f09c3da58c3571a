"""Beam search as it is first written: Python lists per hypothesis, a sorted vocabulary, caches copied row by row."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="beam_naive",
    title="Beam search: naive",
    stage=Stage.DECODE,
    exact=True,
    summary=(
        "Each hypothesis is a Python list; each row's whole vocabulary is log-softmaxed and sorted; survivors are picked "
        "by sorting a list; every row's cache is copied every step. The baseline that the other two are measured against."
    ),
    cost="Slow on purpose. Also what runs when beams are asked for and no beam technique is chosen.",
    source="Sutskever et al. 2014 (arXiv:1409.3215); the search itself is transformers' (same tokens)",
    sets={"beam_search": "naive", "selection": "full_sort", "reorder": "copy"},
    group="beam search",
    beams_only=True,
)
