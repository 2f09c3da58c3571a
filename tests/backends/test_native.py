"""What only the native engine promises: a row's scores do not depend on what is computed beside it; it refuses in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepscope.core import catalog
from stepscope.core.compatibility import resolve
from stepscope.core.errors import RequestError, Unavailable, WorkerOutOfMemory
from stepscope.core.request import RunRequest, Search
from stepscope.core.session import TokenBatch
from stepscope.worker import convert, opening
from stepscope.worker.models import open_source
from stepscope.worker.stack import Stack
from tests import tiny

WEIGHTS = ("", "bf16", "int8_dynamic", "int8_weight_only", "int4_weight_only")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if reason := catalog.missing(catalog.backend("native")):
        pytest.skip(reason)
    monkeypatch.setenv("STEPSCOPE_HOME", str(tmp_path / "home"))
    return str(tiny.build(tmp_path / "t5", "t5", 1))


def opened(folder: str, *techniques: str, candidates: int = 2) -> Any:
    plan, _ = resolve(RunRequest(folder, ("a",), "native", tuple(filter(None, techniques)), search=Search(candidates)))
    source = open_source(plan.model, lambda message: None)
    opening.make_artifact(plan, source, lambda message: None, convert.in_process)
    return opening.open_session(plan, source, lambda message: None)


def batch(*rows: list[int], room: int = 16) -> TokenBatch:
    width = max(len(row) for row in rows)
    ids = np.array([row + [0] * (width - len(row)) for row in rows], np.int64)
    return TokenBatch(ids, np.array([[at < len(row) for at in range(width)] for row in rows]), room)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_row_has_the_same_scores_alone_in_a_batch_and_in_a_draft(folder: str, weights: str) -> None:
    session = opened(folder, weights)
    source, tokens = [5, 9, 7, 3, 1], np.array([0, 4, 8, 6, 2, 11, 3, 9, 5], np.int64)
    alone, drafted = session.encode(batch(source)), session.encode(batch(source))
    together = session.encode(batch(*[source] * 9))
    steps = [session.step(alone, tokens[at : at + 1], None) for at in range(len(tokens))]
    verified = session.verify(drafted, tokens)
    assert np.array_equal(np.concatenate([each.log_probs for each in steps]), verified.log_probs)
    for at, each in enumerate(steps):
        rows = session.step(together, np.repeat(tokens[at : at + 1], 9), None)
        assert np.array_equal(rows.log_probs, np.repeat(each.log_probs, 9, axis=0))
    session.close()


def test_a_foreign_tokenizer_and_too_little_memory_are_said(folder: str) -> None:
    session = opened(folder)
    with pytest.raises(RequestError, match="the model has"):
        session.encode(batch([5, 10**6, 1]))
    state = session.encode(batch([5, 1], room=2**30))
    with pytest.raises(WorkerOutOfMemory, match="no room for the caches"):
        session.step(state, np.zeros(1, np.int64), None)
    del state
    session.close()
    session.close()


def test_a_drafting_stack_answers_every_text_and_stays_in_its_process(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, search = ("The cat sat.", "Hi!", "One more."), Search(max_new_tokens=8)
    found = []
    for techniques in ((), ("prompt_lookup",)):
        with Stack(RunRequest(folder, ("a",), "native", techniques, search=search)) as stack:
            found.append(stack.generate(texts))
    assert len(found[1]) == 3 and found[0] == found[1]
    with Stack(RunRequest(folder, ("a",), "native", search=search)) as stack:
        monkeypatch.setattr("os.getpid", lambda: -1)
        with pytest.raises(Unavailable, match="forked"):
            stack.generate(texts)
