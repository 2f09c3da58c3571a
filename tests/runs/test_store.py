"""What is written is what is read, whoever else has the file open."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stepscope.core import events as ev
from stepscope.core.errors import ErrorRecord, Unavailable
from stepscope.runs import document as documents
from stepscope.runs.store import RunFilter, Store
from tests.stored_runs import REQUEST, events, store_run


def test_a_run_comes_back_as_it_was(store: Store) -> None:
    run_id = store_run(store)
    row = store.run(run_id)
    assert row is not None and row.request == REQUEST and row.status is ev.RunStatus.DONE
    found, last = store.events(run_id)
    assert found == events() and last == 1
    assert row.summary.tokens == 8 and row.equal_share == 1.0
    assert store.run("nosuchid") is None


def test_events_are_read_from_where_one_left_off(store: Store) -> None:
    told = events()
    run_id = store_run(store, ev.RunStatus.RUNNING, told=told[:3])
    first, after = store.events(run_id)
    store.append(run_id, told[3:5])
    second, after = store.events(run_id, after)
    assert (first, second) == (told[:3], told[3:5])
    assert store.events(run_id, after) == ([], after)


def test_filters_and_their_special_characters(store: Store) -> None:
    plain = store_run(store)
    percent = store_run(store, request=replace(REQUEST, inputs=("100% of it",), backend="null", techniques=()))
    failed = store_run(store, ev.RunStatus.FAILED, error=ErrorRecord("crashed", "It crashed."))

    def ids(where: RunFilter) -> set[str]:
        assert store.count(where) == len(store.runs(where))
        return {row.id for row in store.runs(where)}

    assert ids(RunFilter()) == {plain, percent, failed}
    assert ids(RunFilter(text="0%")) == {percent}
    assert ids(RunFilter(text="_")) >= {plain}  # an underscore is itself, not any character
    assert ids(RunFilter(text="self_kv")) == {plain, failed}
    assert ids(RunFilter(statuses=(ev.RunStatus.FAILED,), models=(REQUEST.model,))) == {failed}
    assert ids(RunFilter(backends=("null",))) == {percent}
    assert [row.id for row in store.runs(limit=1, offset=1)] == [percent]


def test_deletion_takes_the_events_along_and_leaves_what_goes_on(store: Store) -> None:
    done, going = store_run(store), store_run(store, ev.RunStatus.RUNNING)
    assert store.delete([done, going, "nosuchid"]) == 1
    assert store.run(done) is None and store.events(done) == ([], 0)
    assert store.run(going) is not None and store.events(going)[0]


def test_runs_of_a_dead_owner_become_interrupted(store: Store) -> None:
    mine, gone = (
        store_run(store, ev.RunStatus.RUNNING, owner=(1, 0.0)),
        store_run(store, ev.RunStatus.QUEUED, owner=(2, 0.0)),
    )
    assert store.mark_interrupted(lambda pid, started: pid == 1) == [gone]
    rows = {row.id: row.status for row in store.runs()}
    assert rows == {mine: ev.RunStatus.RUNNING, gone: ev.RunStatus.INTERRUPTED}


def test_the_reference_is_kept(store: Store) -> None:
    assert store.reference("d") is None
    store.save_reference("d", ((1, 2), (3,)), ("a", "b"), "transformers")
    assert store.reference("d") == (((1, 2), (3,)), ("a", "b"), "transformers")


def test_two_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    file = tmp_path / "new" / "runs.sqlite3"
    code = "import sys; from pathlib import Path; from stepscope.runs.store import Store; Store(Path(sys.argv[1])).count()"
    children = [subprocess.Popen([sys.executable, "-c", code, str(file)]) for _ in range(4)]
    assert [child.wait(60) for child in children] == [0] * 4


def test_files_that_are_no_store_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite3").write_text("This is not a database. " * 100)
    with pytest.raises(Unavailable, match="cannot be opened"):
        Store(tmp_path / "text.sqlite3")
    newer = sqlite3.connect(tmp_path / "newer.sqlite3")
    newer.execute("PRAGMA user_version=999")
    newer.close()
    with pytest.raises(Unavailable, match="newer StepScope"):
        Store(tmp_path / "newer.sqlite3")


def test_the_document_holds_what_docs_promise(store: Store) -> None:
    run_id = store_run(store)
    row = store.run(run_id)
    assert row is not None
    written = json.loads(json.dumps(documents.document(row, store.result(run_id))))
    promised = {
        "schema_version", "run_id", "status", "request", "load_plan", "observed_by", "machine", "phases", "repetitions",
        "memory", "agreement", "error",
    }  # fmt: skip
    assert promised <= written.keys() and written["run_id"] == run_id and written["error"] is None
    for repetition in written["repetitions"]:
        assert {"encode_ns", "step_ns", "token_ids", "texts", "time_to_first_token_ns", "total_ns"} <= repetition.keys()
    assert written["memory"]["samples"][0] == {"t_ns": 600_000_000, "rss_bytes": 450_000_000}
    assert written["memory"]["weight_bytes"] == 242_000_000 and written["memory"]["peak_rss_bytes"] == 470_000_000
    assert written["agreement"]["equal_share"] == 1.0 and written["agreement"]["first_difference_step"] is None
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    missing = [key for key in written if f"`{key}`" not in text]
    assert not missing, f"docs/cli.md does not describe {missing}"


def test_csv_has_a_line_for_each_run(store: Store) -> None:
    store_run(store)
    store_run(store, ev.RunStatus.FAILED, told=[], error=ErrorRecord("crashed", "It crashed."))
    lines = documents.csv_text(store.runs()).splitlines()
    assert len(lines) == 3 and len({line.count(",") for line in lines}) == 1
