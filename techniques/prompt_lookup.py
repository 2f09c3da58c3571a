"""Proposes tokens that followed the same words in the input, and verifies several in one decode step."""

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="prompt_lookup",
    title="Prompt lookup",
    stage=Stage.DECODE,
    exact=True,
    summary=(
        "Where the output repeats the input (names, quotations, code, summaries), the tokens that followed the last few in "
        "the input are proposed as drafts. One pass answers for all of them at nearly the price of one, as it reads the "
        "weights once; the longest run of drafts that the model itself would have chosen is kept, so tokens never change."
    ),
    cost="A pass over rejected drafts is wasted work: on text that copies nothing it is a little slower. One input, greedy.",
    source="Saxena 2023 (prompt lookup decoding); Leviathan et al. 2023 (arXiv:2211.17192)",
    sets={"draft_from": "text", "draft_tokens": 8},
    group="drafts",
    one_row_only=True,
)
