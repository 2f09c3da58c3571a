"""Comparisons through the executor: to their verdict, cancelled, resumed after a restart, with killed workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stepscope.core import events as ev
from stepscope.core.comparison import ComparisonSpec, Verdict
from stepscope.core.errors import RequestError
from stepscope.core.request import Search
from stepscope.runs.estimate import estimate
from stepscope.runs.executor import Executor, PoolSettings
from stepscope.runs.store import RunFilter, Store
from stepscope.runs.worker_process import DEFAULT_COMMAND
from tests.comparisons import spec

TWO = spec("one", "two", processes=2, max_processes=2, control=False)


@pytest.fixture
def real(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Executor]:
    """Executors over real workers, which end with the test."""
    monkeypatch.setenv("STEPSCOPE_HOME", str(tmp_path))

    def make() -> Executor:
        executor = Executor(store, worker_command=DEFAULT_COMMAND, pool=PoolSettings(blank=False), lock_directory=tmp_path)
        executor.start()
        return executor

    return make


def test_two_stacks_are_measured_in_turns_to_a_verdict(real: Callable[[], Executor], store: Store) -> None:
    executor = real()
    found_id = executor.comparing.submit(replace(TWO, search=Search(max_new_tokens=16, exact_tokens=True)))
    row = executor.comparing.wait(found_id, 120)
    executor.close()
    assert row is not None and row.status is ev.RunStatus.DONE and row.result.complete
    runs = executor.comparing.store.runs(found_id)
    assert [(name, round_) for name, round_, _ in runs] == [("one", 0), ("two", 0), ("two", 1), ("one", 1)]
    one, two = row.result.variants
    assert one.verdict is Verdict.BASELINE and two.ratio is not None and len(two.process_ns) == 2
    assert len(one.curve_ns) == 16 and one.tokens == 16
    assert store.count(RunFilter()) == 0, "its processes are not runs of History"
    assert not estimate(store, TWO).rough, "what was run is known"
    executor.comparing.store.delete(found_id)
    assert executor.comparing.store.get(found_id) is None and store.run(runs[0][2].id) is None


def test_cancel_keeps_what_was_measured_and_it_goes_on_after_a_restart(real: Callable[[], Executor]) -> None:
    executor = real()
    asked = replace(TWO, processes=3, max_processes=3, search=Search(max_new_tokens=8))
    found_id = executor.comparing.submit(asked)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        at = executor.comparing.progress(found_id)
        if at is not None and at.processes >= 2:
            break
        time.sleep(0.02)
    executor.comparing.cancel(found_id)
    row = executor.comparing.wait(found_id, 60)
    assert row is not None and row.status is ev.RunStatus.CANCELLED and not row.result.complete
    before = [run.id for _, _, run in executor.comparing.store.runs(found_id) if run.status is ev.RunStatus.DONE]
    assert len(before) >= 2 and row.result.variants[0].process_ns
    executor.close()
    again = real()
    again.comparing.resume(found_id)
    row = again.comparing.wait(found_id, 120)
    again.close()
    assert row is not None and row.status is ev.RunStatus.DONE and row.result.complete
    done = [run.id for _, _, run in again.comparing.store.runs(found_id) if run.status is ev.RunStatus.DONE]
    assert done[: len(before)] == before and len(done) == 6, "nothing is measured twice"


def scripted(make: Callable[..., Executor], asked: ComparisonSpec):  # type: ignore[no-untyped-def]
    executor = make()
    found_id = executor.comparing.submit(asked)
    return executor, executor.comparing.wait(found_id, 60)


def test_a_worker_that_is_killed_fails_its_variant_and_nothing_else(make_executor: Callable[..., Executor]) -> None:
    asked = replace(TWO, inputs=("kill",), processes=2, max_processes=2)
    executor, row = scripted(make_executor, asked)
    assert row is not None and row.status is ev.RunStatus.DONE
    assert all(variant.verdict is Verdict.FAILED and "SIGKILL" in variant.error for variant in row.result.variants)
    assert len(executor.comparing.store.runs(row.id)) == 4


def test_a_comparison_that_cannot_be_is_refused(make_executor: Callable[..., Executor]) -> None:
    with pytest.raises(RequestError, match="2 to 8 variants"):
        make_executor().comparing.submit(spec("alone"))


def test_a_dashboard_that_is_gone_leaves_an_interrupted_comparison(
    store: Store, make_executor: Callable[..., Executor]
) -> None:
    executor = make_executor()
    found_id = executor.comparing.store.create(TWO, machine={}, fingerprint="f", owner=(2**22 + 1, 0.0))
    executor.comparing.store.mark_interrupted(lambda pid, started: False)
    row = executor.comparing.store.get(found_id)
    assert row is not None and row.status is ev.RunStatus.INTERRUPTED and row.error is not None
