"""Keeps encoder outputs of inputs seen before, so that a repeated input skips its encoder pass."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="encoder_cache",
    title="Encoder-output cache",
    stage=Stage.ENCODE,
    exact=True,
    summary=(
        "Encoder outputs are kept per input, keyed by a hash of model and tokens, least recently used out first, up to "
        "256 MiB. A worker that stays warm keeps them across runs. The live repetition of a new input is a miss, the "
        "scored ones are hits: the encode time then shows what a repeated input costs."
    ),
    cost="Memory: input tokens x model width x bytes per kept input. Helps only where inputs repeat.",
    source="Common practice in serving (prefix and embedding caches); bounded LRU as in functools.lru_cache",
    sets={"encoder_cache_bytes": 256 * 1024 * 1024},
)
