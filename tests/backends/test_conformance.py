"""Holds every discovered backend and every exact technique to the tokens of transformers' ``generate``."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stepscope.core import catalog
from stepscope.core import events as ev
from stepscope.core.compatibility import resolve, stack_reasons
from stepscope.core.errors import StepScopeError, Unavailable
from stepscope.core.plan import LoadPlan
from stepscope.core.request import RunRequest, Search
from stepscope.core.session import Generates, LoadReport, Session
from stepscope.decoding.encoder_cache import EncoderCache
from stepscope.worker import convert, opening
from stepscope.worker.generation import Generation, generate_once
from stepscope.worker.models import Source, open_source
from tests import tiny

INPUTS = ("The cat sat on the mat.", "Hi!", "A much longer input, so that padding has something to hide: 0123456789.")
SEARCHES = {
    "greedy": Search(max_new_tokens=14),
    "greedy exactly": Search(max_new_tokens=9, exact_tokens=True),
    "beams 3": Search(num_beams=3, max_new_tokens=14),
    "beams 4 early": Search(num_beams=4, max_new_tokens=14, early_stopping=True, length_penalty=0.6),
    "beams 2 long": Search(num_beams=2, max_new_tokens=14, length_penalty=2.0),
    "beams 5 short": Search(num_beams=5, max_new_tokens=14, length_penalty=-1.0),
    "beams 3 exactly": Search(num_beams=3, max_new_tokens=9, exact_tokens=True),
    "beams 16": Search(num_beams=16, max_new_tokens=8),
}
CALIBRATION = Path(__file__).resolve().parents[2] / "models" / "en-de-small" / "eval.tsv"
BEAMS = ("beam_vectorized",)
REFERENCE = ("cross_kv_cache", "self_kv_cache")
# what compiles takes tens of seconds for every shape: test_compiled_steps has a few
EXACT = [
    key
    for key, entry in sorted(catalog.techniques().items())
    if entry.spec is not None and entry.spec.exact and "compiled" not in entry.spec.sets
]


@pytest.fixture(
    scope="session", params=[(f, seed) for f in tiny.FAMILIES for seed in (0, 1)], ids=lambda p: f"{p[0]}-{p[1]}"
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, seed = request.param
    directory = tiny.build(tmp_path_factory.mktemp("models") / f"{family}{seed}", family, seed)
    if family != "t5" and seed:
        tiny.shorten(directory, INPUTS)
    return directory


@pytest.fixture(autouse=True, scope="session")
def artifacts_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPSCOPE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@functools.lru_cache(maxsize=64)
def opened(load_plan: LoadPlan) -> tuple[Source, Session | Generates]:
    """A session serves many generations: opening it once for each is what takes the time here."""
    source = open_source(load_plan.model, lambda message: None)
    if opening.converts(load_plan):
        opening.make_artifact(load_plan, source, lambda message: None, convert.in_process)
    return source, opening.open_session(load_plan, source, lambda message: None)


def tokens(request: RunRequest, times: int = 1) -> tuple[tuple[int, ...], ...]:
    """Token ids of the last of some generations of one session."""
    load_plan, decode_plan = resolve(request)
    source, session = opened(load_plan)
    cache = EncoderCache(source.revision, decode_plan.encoder_cache_bytes) if decode_plan.encoder_cache_bytes else None
    generation = Generation(request, source, session, decode_plan, cache)
    for index in range(times):
        done = generate_once(generation, index, ev.RepetitionKind.SCORED, threading.Event(), None)
    return done.token_ids


def reference(folder: Path, search: Search, inputs: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    return tokens(RunRequest(str(folder), tuple(inputs), "pytorch_generate", REFERENCE, search=search))


def stacks(backend: str, search: Search, inputs: int) -> list[tuple[str, ...]]:
    """The empty stack, each exact technique alone (with what it requires), and every full choice of one per group."""
    spec = catalog.backend(backend)
    one_row = search.num_beams == 1 and inputs == 1
    usable = [key for key in EXACT if one_row or not catalog.technique(key).one_row_only]
    usable = [key for key in usable if search.num_beams == 1 or not catalog.technique(key).greedy_only]
    usable = [key for key in usable if search.num_beams > 1 or not catalog.technique(key).beams_only]
    found: set[tuple[str, ...]] = {()}
    grouped: dict[str, list[str]] = {}
    for key in usable:
        technique = catalog.technique(key)
        grouped.setdefault(technique.group or key, []).append(key)
        if key not in spec.brings:
            found.add(tuple(sorted({key, *technique.requires})))
    for coupled, _ in spec.coupled:
        found.add(tuple(sorted(coupled)))
    found |= {tuple(sorted(choice)) for choice in itertools.product(*grouped.values())}
    return [stack for stack in sorted(found) if not stack_reasons([catalog.technique(key) for key in stack], spec, "cpu")]


@pytest.mark.parametrize("name", SEARCHES)
def test_exact_stacks_give_the_reference_tokens(folder: Path, name: str) -> None:
    search = SEARCHES[name]
    for inputs in (INPUTS, INPUTS[:1]):
        want = reference(folder, search, inputs)
        for backend, entry in catalog.backends().items():
            if entry.reason or entry.spec is None or not entry.spec.needs_model:
                continue
            if search.num_beams > 1 and entry.spec.beams_stop_otherwise:
                continue
            for stack in stacks(backend, search, len(inputs)):
                request = RunRequest(str(folder), inputs, backend, stack, search=search)
                assert tokens(request, times=2) == want, f"{backend} with {stack}"


def test_tiny_models_exercise_the_search(tmp_path: Path) -> None:
    """The models above must differ in length, reorder beams and repeat nothing, or the tests above prove little."""
    folder = tiny.build(tmp_path / "flan", "flan", 1)
    tiny.shorten(folder, INPUTS)
    rows = reference(folder, SEARCHES["greedy"], INPUTS)
    assert len({len(row) for row in rows}) > 1, "rows should end at different steps"
    assert any(len(set(row)) > 3 for row in rows)
    assert reference(folder, SEARCHES["beams 3"], INPUTS) != rows


@pytest.mark.parametrize("technique", ["bf16", "int8_dynamic"])
def test_inexact_techniques_run_and_change_the_weights(tmp_path: Path, technique: str) -> None:
    folder = tiny.build(tmp_path / "flan", "flan")
    request = RunRequest(str(folder), INPUTS, "pytorch", (technique, *REFERENCE), search=SEARCHES["greedy"])
    load_plan, _ = resolve(request)
    plain, _ = resolve(replace(request, techniques=REFERENCE))
    source = open_source(str(folder), lambda message: None)
    small = source.torch_model(load_plan)[1]
    full = source.torch_model(plain)[1]
    assert small.weight_bytes < 0.7 * full.weight_bytes
    assert bool(small.quantized) == (technique == "int8_dynamic")
    assert all(len(row) > 0 for row in tokens(request))


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of parts of torch
@pytest.mark.parametrize("family", ["t5", "umt5"])
def test_compiled_steps_give_the_reference_tokens(tmp_path: Path, family: str) -> None:
    folder = tiny.build(tmp_path / family, family, 1)
    for name in ("greedy", "beams 3"):
        search = SEARCHES[name]
        request = RunRequest(str(folder), INPUTS, "pytorch", ("torch_compile", *REFERENCE, *BEAMS), search=search)
        assert tokens(request) == reference(folder, search, INPUTS), name


@pytest.mark.parametrize("backend", ["native", "onnxruntime", "openvino", "ctranslate2"])
def test_every_weight_type_of_a_runtime_runs_and_shrinks_the_weights(tmp_path: Path, backend: str) -> None:
    if reason := catalog.backends()[backend].reason:
        pytest.skip(reason)
    folder = tiny.build(tmp_path / "flan", "flan")
    plain = report(RunRequest(str(folder), INPUTS, backend, search=SEARCHES["greedy"]))
    kinds = [key for key in catalog.backend(backend).honours if catalog.technique(key).group == "weights"]
    assert kinds
    for kind in kinds:
        request = RunRequest(str(folder), INPUTS, backend, (kind,), search=SEARCHES["greedy"], calibration=str(CALIBRATION))
        try:
            found = report(request)
        except Unavailable:  # this processor cannot compute in that type
            continue
        assert found.weight_bytes < 0.8 * plain.weight_bytes, kind
        if "quantization" in catalog.technique(kind).sets and backend != "ctranslate2":
            assert "lm_head" in found.quantized and not found.kept
            kept = report(replace(request, keep_float=("lm_head", "Dense.wo")))
            assert {name.split(".")[-1] for name in kept.kept} == {"lm_head", "wo"}


def test_keeping_an_unknown_layer_is_refused(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "t5", "t5")
    request = RunRequest(str(folder), INPUTS, "onnxruntime", ("int8_dynamic",), keep_float=("no such layer",))
    with pytest.raises(StepScopeError, match="no such layer"):
        report(request)


def report(request: RunRequest) -> LoadReport:
    """What one loading and one generation of a request held."""
    load_plan, decode_plan = resolve(request)
    source = open_source(request.model, lambda message: None)
    opening.make_artifact(load_plan, source, lambda message: None, convert.in_process)
    session = opening.open_session(load_plan, source, lambda message: None)
    generation = Generation(request, source, session, decode_plan, None)
    assert all(generate_once(generation, 0, ev.RepetitionKind.SCORED, threading.Event(), None).token_ids)
    session.close()
    return session.report
