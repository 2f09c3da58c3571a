"""Parses our graphs and builds TensorRT engines for named GPUs, which needs none: TensorRT for RTX builds on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepscope.conversion.weights import take_apart
from stepscope.core import catalog
from stepscope.core.compatibility import resolve
from stepscope.core.errors import RequestError, Unavailable
from stepscope.core.plan import DType, LoadPlan
from stepscope.core.request import RunRequest
from stepscope.worker.models import open_source
from tests import tiny

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install -r requirements-tensorrt.txt")


def build(folder: Path, into: Path, dtype: DType, candidates: int, capability: str) -> None:
    from backends.tensorrt.export import build as build_engines

    model, _ = open_source(str(folder), print).torch_model(LoadPlan(str(folder), "pytorch"))
    plan = LoadPlan(str(folder), "tensorrt", device="cuda", dtype=dtype, candidates=candidates)
    build_engines(take_apart(model), plan, into, lambda message: None, capability)


@pytest.mark.parametrize("family", ["t5", "umt5"])
@pytest.mark.parametrize(("dtype", "capability"), [("float32", "SM80"), ("bfloat16", "SM86"), ("float16", "SM89")])
def test_engines_are_built_for_a_named_gpu(tmp_path: Path, family: str, dtype: str, capability: str) -> None:
    folder = tiny.build(tmp_path / family, family)
    into = tmp_path / "engines"
    into.mkdir()
    build(folder, into, DType(dtype), 8, capability)
    for name in ("encoder.engine", "decoder.engine"):
        assert (into / name).stat().st_size > 10_000
    assert {file.name for file in into.iterdir()} >= {"embedding.npy", "graphs.json"}


def test_a_gpu_that_cannot_is_refused_in_words(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "t5", "t5")
    with pytest.raises(Unavailable, match="could not build the encoder"):
        build(folder, tmp_path, DType.FLOAT32, 1, "SM75")


def test_without_a_gpu_the_form_says_so() -> None:
    assert not catalog.backends()["tensorrt"].reason
    with pytest.raises(RequestError, match="runs on cuda only, not on cpu"):
        resolve(RunRequest("random:t5-small", ("a",), "tensorrt"))
