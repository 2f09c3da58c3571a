"""Lets the runtime rewrite its graph when it loads: fold constants, fuse operators, choose layouts."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="graph_optimization",
    title="Graph optimization",
    stage=Stage.LOAD,
    exact=True,
    summary=(
        "The runtime's highest level of graph optimization: constants are folded, layer norms, quantized products and "
        "other patterns become one operator each. Fewer operators mean fewer passes over the hidden state and less overhead "
        "in a step that runs hundreds of small ones."
    ),
    cost="Loading takes longer. Without it the graph runs as it was exported.",
    source="https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html",
    sets={"graph_optimization": True},
)
