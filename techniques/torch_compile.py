"""Compiles the decode step with torch.compile: one static graph over preallocated caches instead of hundreds of calls."""

from stepscope.core.spec import Stage, TechniqueSpec

_TOP_K = "the compiled step picks its candidates by top-k; choose the vectorized search."
_ROWS = "every number of rows would be compiled anew."

SPEC = TechniqueSpec(
    key="torch_compile",
    title="torch.compile",
    stage=Stage.STEP,
    exact=True,
    summary=(
        "The decode step is written as one function over raw tensors and caches of fixed size and compiled by "
        "TorchInductor: small operations are fused into few kernels and the overhead of calling modules goes. The encoder "
        "stays as it is. Compiling is a phase of its own; another batch size, beam count or length may compile again, "
        "which is counted."
    ),
    cost="Tens of seconds at the first run of a shape. Attention always reads the whole preallocated cache.",
    source="Ansel et al. 2024 (PyTorch 2); gpt-fast (static cache, one compiled step)",
    sets={"compiled": True},
    requires=frozenset({"self_kv_cache", "cross_kv_cache"}),
    conflicts={
        "drop_finished_rows": _ROWS,
        "beam_lazy_reorder": "the compiled step keeps one cache per row, which follows the beams.",
        "beam_naive": _TOP_K,
        "int8_dynamic": "torch's dynamically quantized modules cannot be compiled.",
    },
)
