"""An executor over scripted workers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stepscope.core.request import RunRequest
from stepscope.runs.executor import Executor, PoolSettings
from stepscope.runs.store import Store

SCRIPTED = (sys.executable, "-m", "tests.runs.scripted_worker")


def request(script: str, **values: object) -> RunRequest:
    return RunRequest("random:t5-small", (script,), backend="null", **values)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path / "runs.sqlite3")
    yield found
    found.close()


@pytest.fixture
def make_executor(store: Store, tmp_path: Path) -> Iterator[Callable[..., Executor]]:
    made: list[Executor] = []

    def make(**values: object) -> Executor:
        pool = values.pop("pool", PoolSettings(blank=False))
        executor = Executor(store, worker_command=SCRIPTED, pool=pool, lock_directory=tmp_path, **values)  # type: ignore[arg-type]
        executor.start()
        made.append(executor)
        return executor

    yield make
    for executor in made:
        executor.close()


@pytest.fixture
def executor(make_executor: Callable[..., Executor]) -> Executor:
    return make_executor()
