"""Teacher forcing: a stack that is fed its own choices must put each of them first, and another's choices somewhere."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import pytest

from stepscope.core import events as ev
from stepscope.core.errors import RequestError
from stepscope.core.plan import FORCED_CANDIDATES
from stepscope.core.request import RunRequest, Search
from stepscope.core.result import RunResult
from stepscope.worker.phases import Runner
from tests import tiny


def run(request: RunRequest) -> RunResult:
    result = RunResult()
    Runner(lambda event: result.apply([event])).run(request, threading.Event())  # type: ignore[func-returns-value]
    return result


@pytest.mark.parametrize(
    ("backend", "techniques"),
    [("pytorch", ()), ("native", ()), ("native", ("exact_head",)), ("native", ("shortlist",)), ("onnxruntime", ())],
)
def test_a_stack_agrees_with_itself(
    tmp_path: Path, backend: str, techniques: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPSCOPE_HOME", str(tmp_path / "home"))
    folder = str(tiny.build(tmp_path / "flan", "flan", 1))
    texts = ("The cat sat on the mat.", "Hi!")
    search = Search(max_new_tokens=9)
    chosen = run(RunRequest(folder, texts, backend, techniques, search=search, repetitions=1)).repetitions[-1].token_ids
    found = run(RunRequest(folder, texts, backend, techniques, search=search, forced=chosen)).forced
    assert [each.input for each in found] == [0, 1]
    for tokens, each in zip(chosen, found, strict=True):
        assert tuple(ids[0] for ids in each.ids) == tokens
        assert {len(scores) for scores in each.log_probs} == {FORCED_CANDIDATES} == {len(row) for row in each.texts}
        assert all(0 < sum(math.exp(score) for score in scores) <= 1.001 for scores in each.log_probs)
        assert all(list(scores) == sorted(scores, reverse=True) for scores in each.log_probs)


def test_several_batches_are_one_repetition(tmp_path: Path) -> None:
    folder = str(tiny.build(tmp_path / "t5", "t5", 1))
    texts = ("one", "two and more", "three", "four", "five")
    whole = run(RunRequest(folder, texts, "pytorch", search=Search(max_new_tokens=7), repetitions=1)).repetitions[-1]
    parts = run(RunRequest(folder, texts, "pytorch", search=Search(max_new_tokens=7), repetitions=1, batch_size=2))
    last = parts.repetitions[-1]
    assert last.token_ids == whole.token_ids and last.texts == whole.texts
    assert len(last.first_steps) == 3 and last.first_steps[0] == 0 and max(last.rows) == 2
    assert len(parts.live_texts) == 5 and [step.step for step in parts.live_steps] == list(range(len(last.step_ns)))


def test_a_runtime_that_owns_its_loop_cannot_be_fed(tmp_path: Path) -> None:
    folder = str(tiny.build(tmp_path / "t5", "t5"))
    with pytest.raises(RequestError, match="owns its loop"):
        run(RunRequest(folder, ("a",), "pytorch_generate", forced=((5, 6),)))


def test_warm_up_ends_when_nothing_gets_faster(tmp_path: Path) -> None:
    folder = str(tiny.build(tmp_path / "t5", "t5"))
    result = run(RunRequest(folder, ("a",), "pytorch", repetitions=2))
    warm = [rep.total_ns for rep in result.repetitions if rep.kind is ev.RepetitionKind.WARMUP]
    before = [result.repetitions[0].total_ns, *warm]
    assert 1 <= len(warm) <= 10 and (len(warm) == 10 or before[-1] > 0.98 * min(before[:-1]))
