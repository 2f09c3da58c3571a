"""Shows where two stacks part on one input: the step, both tokens, and how each stack scores them, by teacher forcing."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from stepscope.core import catalog
from stepscope.core.comparison import ComparisonSpec
from stepscope.core.errors import StepScopeError
from stepscope.core.events import Forced
from stepscope.core.request import RunRequest
from stepscope.runs.comparison_store import ComparisonRow

from . import failure
from .state import services

_SHOWN = 5


def show(row: ComparisonRow, at: int, names: list[str]) -> None:
    """at: the input; names: variants whose output differs from the baseline's."""
    with st.expander("Where they part"):
        name = st.selectbox("Variant", names, key=f"divergence_{row.id}")
        found = _tokens(row, at, name)
        if found is None:
            st.info("The tokens of these runs are not stored any more.")
            return
        ours, theirs = found
        step = next((n for n, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]),
                    min(len(ours), len(theirs)))  # fmt: skip
        st.caption(
            f"The first difference is at step {step}. Both stacks are fed the baseline's tokens up to there, and asked what "
            "they would choose next (greedy)."
            + "".join(
                f" {title} owns its loop: {catalog.backend(other).title} steps the same weights in its place."
                for title in (row.spec.baseline, name)
                if (other := catalog.backend(row.spec.variant(title).backend).steps_as)
            )
        )
        if not st.button("Look", key=f"look_{row.id}"):
            return
        forced = (*theirs[:step], (theirs[step] if step < len(theirs) else 0))
        requests = {title: _request(row.spec, title, at, forced) for title in (row.spec.baseline, name)}
        try:
            with st.spinner("Teacher forcing both stacks…"):
                answers = {title: _forced(row, title, request) for title, request in requests.items()}
        except StepScopeError as error:
            failure.show_error(error)
            return
        pair = [tokens[step] if step < len(tokens) else None for tokens in (theirs, ours)]
        for place, (title, answer) in zip(st.columns(2), answers.items(), strict=True):
            with place:
                st.markdown(f"**{title}**")
                st.table(_rows(answer, step))
                st.caption(_margin(answer, step, pair))


def _tokens(row: ComparisonRow, at: int, name: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Token ids of the variant and of the baseline for this input."""
    found = []
    for each in (name, row.spec.baseline):
        variant = row.result.variant(each)
        results = (services().store.result(run_id) for run_id in (variant.run_ids if variant else ()))
        last = next((result.repetitions[-1] for result in results if result.repetitions), None)
        if last is None:
            return None
        found.append(last.token_ids[at])
    return found[0], found[1]


def _request(spec: ComparisonSpec, name: str, at: int, forced: tuple[int, ...]) -> RunRequest:
    variant = spec.variant(name)
    if other := catalog.backend(variant.backend).steps_as:
        variant = replace(variant, backend=other)
    request = spec.request(variant, 1)
    search = replace(request.search, num_beams=1, exact_tokens=False)
    return replace(request, inputs=(spec.inputs[at],), batch_size=0, search=search, forced=(forced,))


def _forced(row: ComparisonRow, name: str, request: RunRequest) -> Forced:
    """Raises StepScopeError."""
    executor = services().executor
    run_id = executor.submit(request, part_of=(row.id, name, -1))
    executor.wait(run_id, 300.0)
    found = services().store.run(run_id)
    result = services().store.result(run_id)
    if found is None or found.error is not None or not result.forced:
        message = found.error.message if found and found.error else "It did not finish in time."
        raise StepScopeError(f"{name} could not be fed given tokens. {message}", "Choose another variant.")
    return result.forced[0]


def _rows(answer: Forced, step: int) -> dict[str, list[str]]:
    best = list(zip(answer.texts[step], answer.log_probs[step], strict=True))[:_SHOWN]
    return {"token": [f"`{text}`" for text, _ in best], "log-probability": [f"{score:.3f}" for _, score in best]}


def _margin(answer: Forced, step: int, pair: list[int | None]) -> str:
    scores = dict(zip(answer.ids[step], answer.log_probs[step], strict=True))
    texts = dict(zip(answer.ids[step], answer.texts[step], strict=True))
    ours, theirs = (None if token is None else scores.get(token) for token in pair)
    if ours is None or theirs is None or pair[0] is None or pair[1] is None:
        return "One of the two tokens is not among its best candidates."
    return f"`{texts[pair[0]]}` before `{texts[pair[1]]}` by {ours - theirs:+.3f}"
