"""Takes inputs that have ended out of the batch, so that the remaining steps carry fewer rows."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="drop_finished_rows",
    title="Drop finished rows",
    stage=Stage.DECODE,
    exact=True,
    summary=(
        "A batch goes on until its longest output ends. Rows (with beams: all beams of an input) that have ended leave "
        "the batch and its caches, so that later steps are cheaper. Without it they are padded to the end."
    ),
    cost="One copy of the caches whenever an input ends. Nothing to gain with one input or with exactly N tokens.",
    source="Ragged or dynamic batching, as in CTranslate2's decoder",
    sets={"drop_finished_rows": True},
)
