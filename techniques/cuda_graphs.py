"""Replays the compiled decode step as one CUDA graph: a single launch instead of one per kernel."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="cuda_graphs",
    title="CUDA graphs",
    stage=Stage.STEP,
    exact=True,
    summary=(
        "The compiled step's kernels are recorded once and replayed with one launch. A decode step of a small model is "
        "bound by launches, not by arithmetic, so this is most of what a GPU can gain at batch 1."
    ),
    cost="Fixed shapes and addresses; some memory for each recorded shape.",
    source="torch.compile(mode='reduce-overhead'); https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/",
    sets={"cuda_graphs": True},
    requires=frozenset({"torch_compile"}),
    devices=frozenset({"cuda"}),
)
