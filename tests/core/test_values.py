"""Requests, events and errors: what crosses a boundary comes back as it was, and what cannot be is refused in words."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import replace

import pytest

from stepscope.core import commands
from stepscope.core import events as ev
from stepscope.core.compatibility import resolve, stack_reasons
from stepscope.core.encoding import from_json, to_json
from stepscope.core.errors import ErrorRecord, RequestError
from stepscope.core.plan import DecodePlan, LoadPlan, Reorder, candidates_needed
from stepscope.core.request import RunRequest, Search, validate

REQUEST = RunRequest("random:t5-small", ("Hello, wörld 🌍 مرحبا",), techniques=("b", "a", "a"), search=Search(num_beams=4))


def example(hint: typing.Any) -> typing.Any:
    """A value of a field type, so that every event can be made without writing each by hand."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return (example(args[0]), example(args[0]))
    if origin is dict:
        return {"key": example(args[1])}
    if args and type(None) in args:
        return example(args[0])
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{name: example(hints[name]) for name in hints})  # type: ignore[operator]
    if isinstance(hint, type) and issubclass(hint, str) and hint is not str:
        return next(iter(hint))  # a StrEnum
    return {int: 7, float: 0.5, str: "ä\n\0", bool: True}[hint]


@pytest.mark.parametrize("cls", typing.get_args(ev.Event), ids=lambda cls: cls.__name__)
def test_every_event_survives_the_wire_as_one_line(cls: type) -> None:
    event = example(cls)
    line = ev.encode(event)
    assert "\n" not in line
    assert ev.decode(line) == event


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"type":"Nope"}', '{"type":"StepDone","step":1}', "noise"])
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ev.decode(line)


def test_requests_survive_and_techniques_are_a_set() -> None:
    assert REQUEST.techniques == ("a", "b")
    assert from_json(RunRequest, to_json(REQUEST)) == REQUEST
    assert commands.decode(commands.encode(commands.Run(REQUEST))) == commands.Run(REQUEST)
    assert commands.decode(commands.encode(commands.Cancel())) == commands.Cancel()


def test_reading_is_strict() -> None:
    data = to_json(REQUEST)
    for broken, words in (
        ({**data, "thread": 1}, "unknown key 'thread'"),
        ({**data, "threads": "2"}, "threads: expected int"),
        ({**data, "inputs": "one"}, "inputs: expected a list"),
        ({k: v for k, v in data.items() if k != "model"}, "model: missing"),
        ({**data, "search": {"num_beams": True}}, "search.num_beams: expected int"),
    ):
        with pytest.raises(ValueError, match=words):
            from_json(RunRequest, broken)
    assert from_json(Search, {"length_penalty": 1}).length_penalty == 1.0
    assert from_json(ErrorRecord, {"kind": "a", "message": "b"}) == ErrorRecord("a", "b")


def test_digests_tell_requests_apart() -> None:
    assert REQUEST.digest() == replace(REQUEST).digest() != replace(REQUEST, threads=2).digest()
    assert REQUEST.reference_digest("r") == replace(REQUEST, threads=2, backend="x").reference_digest("r")
    assert REQUEST.reference_digest("r") != REQUEST.reference_digest("s")
    assert REQUEST.reference_digest("r") != replace(REQUEST, prefix="x").reference_digest("r")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": ()}, "There is no input"),
        ({"inputs": ("  ",)}, "There is no input"),
        ({"inputs": ("a", " ")}, "Input 2 is empty"),
        ({"inputs": ("x" * 100_000,)}, "100,000 characters"),
        ({"inputs": ("a\0b",)}, "NUL.*position 2"),
        ({"inputs": ("a\x1bb",)}, r"U\+001B"),
        ({"inputs": tuple("x" for _ in range(65))}, "65 inputs"),
        ({"search": Search(max_new_tokens=0)}, "Max new tokens must be between 1 and 1024, not 0"),
        ({"search": Search(num_beams=17)}, "Beams must be between 1 and 16"),
        ({"search": Search(length_penalty=99.0)}, "Length penalty"),
        ({"threads": 3}, "Threads must be between 1 and 2"),
        ({"repetitions": 0}, "Repetitions"),
        ({"time_limit_s": 0.0}, "time limit"),
    ],
)
def test_bad_values_are_refused_in_words(change: dict[str, typing.Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        validate(replace(REQUEST, **change), cores=2)


def test_ordinary_unusual_text_is_welcome() -> None:
    for text in ("🙂👩‍👩‍👧", "שלום עולם", "tab\tand\u00a0space", "中文", "e\u0301"):
        validate(replace(REQUEST, inputs=(text,)), cores=2)


def test_all_reasons_are_told_at_once() -> None:
    search = Search(max_new_tokens=0, num_beams=99)
    with pytest.raises(RequestError) as caught:
        validate(replace(REQUEST, inputs=("\0",), search=search, threads=9), cores=2)
    assert len(caught.value.reasons) == 4


def test_stacks_resolve_to_neutral_plans() -> None:
    request = replace(REQUEST, techniques=("self_kv_cache", "beam_lazy_reorder", "encoder_cache", "int8_dynamic"))
    load, decode = resolve(request)
    assert load.reorder is Reorder.LAZY and load.self_kv_cache and not load.cross_kv_cache
    assert load.native == ("int8_dynamic",) and load.candidates == 8
    assert decode.encoder_cache_bytes > 0 and decode.search == request.search
    assert resolve(replace(REQUEST, techniques=()))[0] == LoadPlan("random:t5-small", "pytorch", candidates=8)
    assert resolve(replace(REQUEST, techniques=()))[1] == DecodePlan(REQUEST.search)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backend": "pytorhc"}, "Did you mean pytorch"),
        ({"techniques": ("self_kv",)}, "Did you mean self_kv_cache"),
        ({"techniques": ("beam_lazy_reorder",)}, "needs self_kv_cache"),
        ({"techniques": ("beam_naive", "beam_vectorized")}, "choose one"),
        ({"techniques": ("bf16", "int8_dynamic")}, "choose one"),
        ({"techniques": ("int8_dynamic",), "device": "cuda"}, "cpu only"),
        ({"backend": "pytorch_generate", "techniques": ("self_kv_cache",)}, "use_cache"),
        ({"backend": "pytorch_generate", "techniques": ("beam_vectorized",)}, "its own beam search"),
        ({"backend": "null", "techniques": ("sdpa",)}, "not something that the backend"),
        ({"backend": "null", "device": "cuda"}, "runs on cpu only"),
    ],
)
def test_impossible_stacks_are_refused_in_words(change: dict[str, typing.Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        resolve(replace(REQUEST, **{"techniques": (), **change}))


def test_every_reason_of_a_stack_is_told() -> None:
    request = replace(REQUEST, backend="null", device="cuda", techniques=("sdpa", "bf16", "beam_lazy_reorder", "nope"))
    with pytest.raises(RequestError) as caught:
        resolve(request)
    assert len(caught.value.reasons) >= 6
    assert stack_reasons.__doc__


def test_candidates_leave_room_for_the_suppressed_end() -> None:
    assert candidates_needed(Search()) == 1
    assert candidates_needed(Search(exact_tokens=True)) == 2
    assert candidates_needed(Search(num_beams=4)) == 8
    assert candidates_needed(Search(num_beams=4, exact_tokens=True)) == 9
