"""Every page, in Streamlit's own test harness, against a store that was written by hand."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from stepscope.core import events as ev
from stepscope.core.errors import ErrorRecord, RequestError
from stepscope.core.models import RANDOM_NOTE
from stepscope.core.request import RunRequest, Search
from stepscope.core.spec_files import to_toml
from stepscope.runs.comparing import Comparing
from stepscope.runs.store import Store
from stepscope.ui import state
from tests.stored_runs import REQUEST, events, store_run

APP = str(Path(__file__).resolve().parents[2] / "app.py")


class StubExecutor:
    """Accepts requests and carries nothing out."""

    submitted: list[RunRequest]

    def __init__(self, store: Store) -> None:
        self.store = store
        self.submitted = []
        self.cancelled: list[str] = []
        self.refuse: RequestError | None = None
        self.comparing = Comparing(store, threading.Condition(), lambda *asked: "", self.cancel)

    def start(self) -> None:
        pass

    def submit(self, request: RunRequest) -> str:
        if self.refuse:
            raise self.refuse
        self.submitted.append(request)
        return store_run(self.store, ev.RunStatus.QUEUED, request=request)

    def cancel(self, run_id: str) -> None:
        self.cancelled.append(run_id)

    def workers(self) -> list[Any]:
        return []

    def close(self) -> None:
        pass


def page(name: str = "", **query: str) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=20)
    for key, value in query.items():
        at.query_params[key] = value
    if name:
        at.run()
        at.switch_page(f"pages/{name}.py")
    at.run()
    assert not at.exception, at.exception
    return at


def words(at: AppTest) -> str:
    kinds = (at.markdown, at.caption, at.text, at.error, at.warning, at.success, at.info, at.subheader, at.title, at.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def test_a_newcomer_can_run_at_once(services: state.Services) -> None:
    at = page()
    assert "press **Run**" in words(at)
    next(button for button in at.button if button.label == "Run").click().run()
    assert not at.exception
    (request,) = services.executor.submitted  # type: ignore[attr-defined]
    assert request.inputs and request.techniques and request.backend == "pytorch"
    assert at.query_params["run"]
    assert "queued" in words(at)


def test_presets_choose_the_stack_and_impossible_techniques_are_off(services: state.Services) -> None:
    at = page()
    at.session_state[state.PRESET] = "transformers"
    state_before = at.session_state[state.BACKEND]
    at.run()
    at.selectbox(key=state.BACKEND).set_value("pytorch_generate").run()
    assert state_before == "pytorch"
    toggles = {toggle.key: toggle for toggle in at.toggle}
    assert toggles[state.technique_key("encoder_cache")].disabled
    assert "Cannot be chosen" in toggles[state.technique_key("encoder_cache")].help
    assert at.selectbox(key=state.group_key("beam search")).disabled
    assert "brings its own beam search" in words(at)


def test_the_form_reads_back_a_configuration(services: state.Services) -> None:
    at = page()
    wanted = RunRequest("random:t5-small", ("from a file",), "native", ("int8_dynamic",), search=Search(3, 17), threads=2)
    at.file_uploader[0].set_value(("mine.toml", to_toml(wanted).encode(), "application/toml")).run()
    next(button for button in at.button if button.label == "Fill the form").click().run()
    assert at.text_area(key=state.TEXT).value == "from a file" and at.number_input(key=state.BEAMS).value == 3
    next(button for button in at.button if button.label == "Run").click().run()
    (request,) = services.executor.submitted  # type: ignore[attr-defined]
    assert request.backend == "native" and "int8_dynamic" in request.techniques and request.search.max_new_tokens == 17


def test_a_backend_that_cannot_be_here_is_said_and_another_is_taken(
    services: state.Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from stepscope.core import catalog

    found = dict(catalog.backends())
    found["native"] = replace(found["native"], reason="This processor lacks avx512f.")
    monkeypatch.setattr(catalog, "backends", lambda: found)
    request = RunRequest("random:t5-small", ("an older run",), "native", ("int8_dynamic", "shortlist"))
    at = page(run=store_run(services.store, request=request))
    assert not at.exception and "This processor lacks avx512f." in words(at)
    assert at.session_state[state.BACKEND] == "pytorch" and "fastest" not in at.pills(key=state.PRESET).options


def test_a_refused_request_says_every_reason_and_loses_nothing(services: state.Services) -> None:
    services.executor.refuse = RequestError(("First *reason*.", "Second."), "Do this.")  # type: ignore[attr-defined]
    at = page()
    at.text_area(key=state.TEXT).set_value("keep me")
    next(button for button in at.button if button.label == "Run").click().run()
    shown = words(at)
    assert "First \\*reason\\*." in shown and "Second." in shown and "Do this." in shown
    assert at.text_area(key=state.TEXT).value == "keep me"


def test_an_empty_input_is_refused_in_words(services: state.Services) -> None:
    from stepscope.core.request import validate

    services.executor.submit = lambda request: validate(request, cores=8)  # type: ignore[method-assign,assignment,return-value]
    at = page()
    at.text_area(key=state.TEXT).set_value("  \n ")
    next(button for button in at.button if button.label == "Run").click().run()
    assert "There is no input" in words(at)


def test_a_finished_run_shows_figures_text_and_refills_the_form(services: state.Services) -> None:
    run_id = store_run(services.store)
    at = page(run=run_id)
    shown = words(at)
    assert "done" in shown and RANDOM_NOTE in shown and run_id in shown
    assert "Hallo *du* <i>da</i>" in [text.value for text in at.text]  # as text, never as markup
    assert "Hello \\<b\\>there" in shown
    assert "identical to the reference" in shown
    figures = {metric.label: metric.value for metric in at.metric}
    assert figures["TTFT"] == "30.0 ms" and figures["ITL p50"] == "10.0 ms" and figures["Weights"] == "242 MB"
    assert at.text_area(key=state.TEXT).value == REQUEST.inputs[0]
    assert at.number_input(key=state.BEAMS).value == 2
    assert at.toggle(key=state.technique_key("self_kv_cache")).value
    assert not at.toggle(key=state.technique_key("cross_kv_cache")).value


def test_a_run_that_differs_says_where(services: state.Services) -> None:
    at = page(run=store_run(services.store, told=events(equal=False)))
    assert "50.0 %" in words(at) and "step 3" in words(at) and "Hallo anders" in words(at)


@pytest.mark.parametrize("kind", ["crashed", "timed_out", "out_of_memory", "interrupted"])
def test_a_failed_run_says_what_to_do_and_keeps_what_it_had(services: state.Services, kind: str) -> None:
    error = ErrorRecord(kind, "It ended.", "Try this.", "last line of stderr")
    at = page(run=store_run(services.store, ev.RunStatus.FAILED, told=events()[:12], error=error))
    shown = words(at)
    assert "It ended" in shown and "Try this" in shown and "last line of stderr" in shown
    assert "Traceback" not in shown


def test_a_running_run_can_be_cancelled_and_is_labelled_provisional(services: state.Services) -> None:
    run_id = store_run(services.store, ev.RunStatus.RUNNING, told=events()[:14])
    at = page(run=run_id)
    assert "Provisional" in words(at)
    next(button for button in at.button if button.label == "Cancel").click().run()
    assert services.executor.cancelled == [run_id]  # type: ignore[attr-defined]


def test_an_unknown_run_is_said_in_words(services: state.Services) -> None:
    assert "There is no run 'nope1234' here" in words(page(run="nope1234"))


def test_history_lists_filters_and_deletes(services: state.Services) -> None:
    kept = store_run(services.store)
    store_run(services.store, ev.RunStatus.FAILED, told=[], error=ErrorRecord("crashed", "x"))
    at = page("history")
    assert len(at.dataframe[0].value) == 2
    at.multiselect(key="status").set_value(["done"]).run()
    assert at.dataframe[0].value["run"].tolist() == [f"/?run={kept}"]
    at.text_input(key="q").set_value("nothing like this").run()
    assert "No run matches" in words(at)


def test_history_without_runs_leads_on(services: state.Services) -> None:
    assert "No run yet" in words(page("history"))


def test_history_pages_through_many_runs(services: state.Services) -> None:
    for _ in range(101):
        store_run(services.store, told=[])
    at = page("history")
    assert len(at.dataframe[0].value) == 100
    at.number_input(key="page").set_value(2).run()
    assert len(at.dataframe[0].value) == 1


def test_techniques_lists_every_technique_backend_and_preset(services: state.Services) -> None:
    from stepscope.core import catalog
    from stepscope.core.presets import PRESETS

    shown = words(page("techniques"))
    for key in (*catalog.techniques(), *catalog.backends(), *(preset.key for preset in PRESETS)):
        assert f"`{key}`" in shown
    assert "brings its own beam search" in shown


def test_machine_shows_the_processor_and_checks_noise(services: state.Services) -> None:
    at = page("machine")
    assert "VNNI" in words(at) and "Fingerprint" in words(at)
    next(button for button in at.button if button.label == "Check now").click().run()
    assert not at.exception
    assert any(metric.label == "Grade" for metric in at.metric)
