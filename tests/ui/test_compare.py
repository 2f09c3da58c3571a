"""The Compare page and its figures, against comparisons that were written by hand."""

from __future__ import annotations

import html as html_module
import json
import time
from dataclasses import replace

import pytest

from stepscope.analysis.assemble import assemble
from stepscope.core.comparison import CONTROL, ComparisonSpec, Variant
from stepscope.core.contribution import ALL, NONE
from stepscope.core.events import RunStatus
from stepscope.core.spec import ObservedBy
from stepscope.runs.comparison_store import ComparisonRow
from stepscope.ui import compare_charts, state
from stepscope.ui.compare_report import report
from stepscope.ui.compare_view import marked
from tests.comparisons import spec, visit

from .test_pages import page, words

EIGHT = tuple(f"variant {at}" for at in range(8))


def finished(
    services: state.Services, asked: ComparisonSpec, *, steps: int = 8, status: RunStatus = RunStatus.DONE
) -> ComparisonRow:
    """A stored comparison: variant n takes n + 1 times 10 ms, and says something else from the second one on."""
    store = services.executor.comparing.store
    visits = [
        visit(variant.name, round_, 10.0 * (1 if variant.name == CONTROL else at + 1), steps=steps,
              texts=["Hallo" if at == 0 else "Hallo <b>du</b>"],
              equal=at == 0, observed_by=ObservedBy.TOTAL if at == 2 else ObservedBy.LOOP)
        for round_ in range(3) for at, variant in enumerate(asked.measured)
    ]  # fmt: skip
    found = store.create(asked, machine={"processor": "Test"}, fingerprint="f", owner=(1, 0.0))
    store.save(found, assemble(asked, visits, complete=status is RunStatus.DONE))
    store.finish(found, status)
    row = store.get(found)
    assert row is not None
    return row


def shown(at) -> str:  # type: ignore[no-untyped-def]
    return words(at) + "\n".join(str(element.proto.body) for element in at.get("html"))


def test_a_newcomer_can_compare_at_once(services: state.Services) -> None:
    at = page("compare")
    assert "Transformers" in words(at) and "About" in words(at)
    next(button for button in at.button if button.label == "Compare").click().run()
    assert not at.exception
    (row,) = services.executor.comparing.store.newest()
    assert row.status is RunStatus.QUEUED and 2 <= len(row.spec.variants) <= 8 and row.spec.baseline == "Transformers"
    assert at.query_params["comparison"] in (row.id, [row.id])


def test_a_stack_can_be_taken_out_added_and_taken_apart(services: state.Services) -> None:
    at = page("compare")
    before = [variant.name for variant in at.session_state["compare_variants"]]
    at.button(key="remove_0").click().run()
    assert [variant.name for variant in at.session_state["compare_variants"]] == before[1:]
    at.button(key="add_preset").click().run()
    assert at.session_state["compare_variants"][-1].name == "Naive"
    chosen = next(box for box in at.selectbox if "Explain one stack" in str(box.placeholder))
    chosen.set_value("All exact").run()
    next(button for button in at.button if button.label == "Take it apart").click().run()
    names = [variant.name for variant in at.session_state["compare_variants"]]
    assert names[0] == NONE and names[-1] == ALL and len(names) == 8


def test_an_impossible_comparison_is_refused_and_nothing_is_lost(services: state.Services) -> None:
    at = page("compare")
    at.text_area(key=state.C_TEXT).set_value("").run()
    assert "There is no input" in words(at)
    at.text_area(key=state.C_TEXT).set_value("keep me").run()
    at.switch_page("pages/history.py").run()
    at.switch_page("pages/compare.py").run()
    assert at.text_area(key=state.C_TEXT).value == "keep me"


def test_a_finished_comparison_shows_its_verdicts(services: state.Services) -> None:
    row = finished(services, spec("fast", "slow", "whole", references=("Hallo",)))
    at = page("compare", comparison=row.id)
    text = shown(at)
    assert "2.00 x slower" in text and "tokens identical" in text and "50.0 % of tokens equal" in text
    assert "Noise of the machine" in text and "BLEU" in text
    assert "Hallo <mark" in text and "<b>du</b>" not in text, "outputs are text, never markup"
    assert html_module.escape("<b>du</b>") in text
    next(button for button in at.button if button.label == "Edit a copy").click().run()
    assert [variant.name for variant in at.session_state["compare_variants"]] == ["fast", "slow", "whole"]
    assert state.C_MODEL in at.session_state


def test_an_interrupted_comparison_can_go_on(services: state.Services) -> None:
    row = finished(services, spec("one", "two"), status=RunStatus.INTERRUPTED)
    at = page("compare", comparison=row.id)
    assert "interrupted" in words(at)
    next(button for button in at.button if button.label == "Go on").click().run()
    again = services.executor.comparing.store.get(row.id)
    assert again is not None and again.status is RunStatus.QUEUED
    assert "There is no comparison 'nope'" in words(page("compare", comparison="nope"))


def test_eight_variants_of_512_steps_stay_small(services: state.Services) -> None:
    row = finished(services, spec(*EIGHT), steps=512)
    assert len(json.dumps(compare_charts.all_figures(row.spec, row.result))) < 600_000
    began = time.perf_counter()
    page("compare", comparison=row.id)
    assert time.perf_counter() - began < 20, "it renders at all"


@pytest.mark.parametrize("name", ["pareto", "step_curves", "step_distributions", "memory_over_time", "memory_owners"])
def test_every_figure_has_every_variant_that_it_can_show(services: state.Services, name: str) -> None:
    result = finished(services, spec("one", "two", "whole")).result
    figure = getattr(compare_charts, name)(result)
    text = json.dumps(figure)
    assert "one" in text and "two" in text
    assert ("whole" in text) == (name != "step_curves"), "what shows no steps has no curve"
    json.loads(text)


def test_the_frontier_is_what_nothing_beats_in_both(services: state.Services) -> None:
    result = finished(services, spec("one", "two", "three")).result
    assert len(compare_charts.pareto(result)["data"][0]["x"]) == 1, "the fastest is also the best here"


def test_a_waterfall_stands_where_a_stack_was_taken_apart(services: state.Services) -> None:
    parts = (
        Variant(NONE, "pytorch"), Variant("only sdpa", "pytorch", ("sdpa",)),
        Variant("only cross_kv_cache", "pytorch", ("cross_kv_cache",)),
        Variant(ALL, "pytorch", ("sdpa", "cross_kv_cache")),
    )  # fmt: skip
    row = finished(services, replace(spec(control=False), variants=parts, baseline=NONE))
    assert "What each technique contributes" in words(page("compare", comparison=row.id))


def test_the_report_needs_nothing_else(services: state.Services) -> None:
    row = finished(services, spec("one <i>", "two", references=("Hallo",)))
    text = report(row)
    assert "one &lt;i&gt;" in text and "<i>" not in text.split("<script>")[0]
    assert "Method" in text and "Hallo &lt;b&gt;du&lt;/b&gt;" in text
    assert 'src="http' not in text and "Plotly.newPlot" in text


def test_words_that_differ_are_marked() -> None:
    assert marked("a b c", "a b c") == "a b c"
    assert "<mark" in marked("a x c", "a b c") and ">x</mark>" in marked("a x c", "a b c")
    assert "‸" in marked("a c", "a b c")
