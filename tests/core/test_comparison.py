"""What a comparison may be, its file formats, and the order in which its processes are measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stepscope.core import events as ev
from stepscope.core.comparison import CONTROL, Variant, check
from stepscope.core.encoding import to_json
from stepscope.core.errors import RequestError
from stepscope.core.request import RunRequest, Search
from stepscope.core.spec_files import read_comparison, read_request, to_toml
from stepscope.runs.comparing import next_visit, repetitions
from tests.comparisons import spec, visit


def test_every_reason_is_told_at_once() -> None:
    wrong = replace(
        spec("one", "one"), baseline="three", references=("a", "b"), precision=0.0,
        variants=(Variant("one", "null", ("int8_dynamic",)), Variant("one", "null", threads=99)),
    )  # fmt: skip
    with pytest.raises(RequestError) as caught:
        check(wrong, cores=2)
    told = "\n".join(caught.value.reasons)
    for part in ("called 'one'", "'three' is none", "1 inputs and 2 references", "Precision", "int8", "Threads"):
        assert part in told, part
    check(spec(), cores=2)


def test_toml_and_json_give_back_what_was_written() -> None:
    asked = spec(inputs=('Say "hi"\\\tnow', "Grüße\nzwei"), references=("x", "y"), search=Search(2, 8, True, 0.6))
    assert read_comparison("a.toml", to_toml(asked).encode()) == asked
    assert read_comparison("a.json", json.dumps(to_json(asked)).encode()) == asked
    request = RunRequest("en-de-small", ("a",), "native", ("int8_dynamic",), keep_float=("lm_head",), threads=2)
    assert read_request("r.toml", to_toml(request).encode()) == request


def test_people_may_write_less(tmp_path: Path) -> None:
    (tmp_path / "mine.tsv").write_text("Hello\tHallo\nBye\tTschüs\n", encoding="utf-8")
    text = 'inputs = "mine.tsv"\n[[variants]]\npreset = "transformers"\n[[variants]]\npreset = "int8"\nthreads = 2\n'
    found = read_comparison("c.toml", text.encode(), tmp_path)
    assert found.inputs == ("Hello", "Bye") and found.references == ("Hallo", "Tschüs")
    assert found.baseline == "Transformers" and found.variants[1].threads == 2 and found.prefix
    assert len(read_comparison("c.toml", b'inputs = "eval"\nfirst = 7\n[[variants]]\npreset = "naive"\n').inputs) == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("inputs = [", "cannot be read"),
        ('inputs = ["a"]', "lists no variants"),
        ('inputs = ["a"]\n[[variants]]\npreset = "nativ"', "no preset 'nativ'"),
        ('inputs = ["a"]\n[[variants]]\nbackend = "null"', "no name"),
        ('inputs = ["a"]\nspeed = 3\n[[variants]]\nname = "a"', "unknown key 'speed'"),
        ('inputs = "gone.tsv"\n[[variants]]\nname = "a"', "gone.tsv cannot be read"),
    ],
)
def test_bad_files_are_refused_in_words(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        read_comparison("c.toml", text.encode(), tmp_path)


def test_processes_take_turns_and_the_control_is_one_of_them() -> None:
    asked, visits, order = spec("one", "two", processes=3, max_processes=3), [], []
    while (following := next_visit(asked, visits, 0.0)) is not None:
        variant, round_ = following
        order.append((variant.name, round_))
        visits.append(visit(variant.name, round_, 50.0))
    assert order == [
        ("one", 0), ("two", 0), (CONTROL, 0), ("two", 1), (CONTROL, 1), ("one", 1), (CONTROL, 2), ("one", 2), ("two", 2),
    ]  # fmt: skip


def test_wide_intervals_ask_for_more_processes_until_the_limits() -> None:
    asked = spec("one", "two", control=False, max_processes=5, precision=0.02)
    noisy = [visit(name, at, 50.0 + 10 * at * (name == "two")) for at in range(3) for name in ("one", "two")]
    assert next_visit(asked, noisy, 0.0) is not None
    assert next_visit(asked, noisy, asked.time_limit_s) is None
    steady = [visit(name, at, 50.0) for at in range(3) for name in ("one", "two")]
    assert next_visit(asked, steady, 0.0) is None


def test_a_variant_that_keeps_failing_is_given_up() -> None:
    asked = spec("one", "two", control=False, max_processes=3)
    visits = [visit("two", at, 0.0, status=ev.RunStatus.FAILED) for at in range(2)]
    visits += [visit("one", at, 50.0) for at in range(2)]
    following = next_visit(asked, visits, 0.0)
    assert following is not None and (following[0].name, following[1]) == ("one", 2)


def test_repetitions_follow_the_time_that_one_takes() -> None:
    assert repetitions([], "one") == 3
    assert [repetitions([visit("one", 0, ms)], "one") for ms in (5.0, 100.0, 4000.0)] == [30, 10, 2]
