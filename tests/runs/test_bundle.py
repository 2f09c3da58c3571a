"""A stack that is taken home must run where StepScope is not: unpacked elsewhere, by its own script."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stepscope.core import catalog
from stepscope.core.compatibility import resolve
from stepscope.core.request import RunRequest, Search
from stepscope.runs.bundle import SCRIPT, bundle, requirements
from stepscope.worker import opening
from stepscope.worker.models import open_source
from stepscope.worker.stack import Stack

TEXT = "Do you know where the station is?"
PREFIX = "translate English to German: "


@pytest.mark.parametrize(
    ("backend", "techniques"),
    [("pytorch", ("self_kv_cache", "cross_kv_cache")), ("onnxruntime", ("int8_dynamic",)), ("native", ("int8_dynamic",)),
     ("ctranslate2", ())],
)  # fmt: skip
def test_the_script_gives_the_stack_s_output(
    backend: str, techniques: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := catalog.backends()[backend].reason:
        pytest.skip(reason)
    monkeypatch.setenv("STEPSCOPE_HOME", str(tmp_path / "home"))
    request = RunRequest("en-de-small", (TEXT,), backend, techniques, PREFIX, Search(max_new_tokens=30))
    with Stack(request) as stack:
        want = stack.generate([TEXT])[0]
    assert "Bahnhof" in want
    plan, source = resolve(request)[0], open_source(request.model, print)
    digest = opening.make_artifact(plan, source, print).digest if opening.converts(plan) else ""
    place = tmp_path / "elsewhere"
    with zipfile.ZipFile(io.BytesIO(bundle(request, digest))) as archive:
        archive.extractall(place)
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "STEPSCOPE_HOME")}
    done = subprocess.run(
        [sys.executable, "run.py", TEXT], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[-1] == want
    assert not any("Converting" in line for line in lines), "the converted model was in the bundle"


def test_the_script_is_short_and_its_requirements_are_pinned() -> None:
    assert len(SCRIPT.splitlines()) <= 60
    needed = requirements("onnxruntime", converted=True).splitlines()
    assert all("==" in line for line in needed)
    names = {line.split("==")[0] for line in needed}
    assert {"onnxruntime", "numpy", "tokenizers"} <= names and "torch" not in names and "streamlit" not in names
    assert "torch" in {line.split("==")[0] for line in requirements("onnxruntime", converted=False).splitlines()}
