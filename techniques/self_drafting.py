"""Drafts tokens with the same weights in int4, and verifies several in one decode step."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="self_drafting",
    title="Self-drafting",
    stage=Stage.DECODE,
    exact=True,
    summary=(
        "A second copy of the same weights in int4 decodes a few tokens ahead, each at about an eighth of the bytes of a "
        "float32 step. One pass of the model itself then answers for all of them and keeps those that it would have chosen: "
        "float32's own tokens come out at a fraction of its bytes per token. No second model is trained or needed."
    ),
    cost="An eighth more weight memory, an encoder pass of its own; no gain where the weights are small already. One input, "
    "greedy.",
    source="Leviathan et al. 2023 (arXiv:2211.17192); Zhang et al. 2024 (arXiv:2309.08168) draft with the model itself",
    sets={"self_draft": True, "draft_from": "self", "draft_tokens": 4},
    group="drafts",
    conflicts={"int4_weight_only": "the drafts come from the same int4 weights, so nothing would be saved."},
    one_row_only=True,
)
