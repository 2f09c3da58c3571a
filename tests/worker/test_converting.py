"""Converting backends end to end: a child process, a cache hit the second time, reasons that arrive in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stepscope.core.compatibility import resolve
from stepscope.core.errors import RequestError, Unavailable
from stepscope.core.request import RunRequest
from stepscope.worker import opening
from stepscope.worker.models import open_source
from tests import tiny


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEPSCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_child_converts_once_and_says_what_it_does(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "t5", "t5")
    plan, _ = resolve(RunRequest(str(folder), ("a",), "onnxruntime", ("int8_dynamic",)))
    told: list[str] = []
    first = opening.make_artifact(plan, open_source(str(folder), print), told.append)
    assert not first.hit and first.size_bytes > 0
    assert any("Quantizing" in line for line in told)
    told.clear()
    again = opening.make_artifact(plan, open_source(str(folder), print), told.append)
    assert again.hit and again.digest == first.digest and not told
    other, _ = resolve(RunRequest(str(folder), ("a",), "onnxruntime"))
    assert opening.make_artifact(other, open_source(str(folder), print), told.append).digest != first.digest


def test_the_childs_reason_arrives(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "t5", "t5")
    plan, _ = resolve(RunRequest(str(folder), ("a",), "onnxruntime", ("int8_dynamic",), keep_float=("nothing",)))
    with pytest.raises(Unavailable, match="No layer's name contains nothing"):
        opening.make_artifact(plan, open_source(str(folder), print), lambda message: None)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "ctranslate2"])
def test_a_worker_of_a_runtime_without_torch_never_imports_it(tmp_path: Path, home: Path, backend: str) -> None:
    folder = tiny.build(tmp_path / "t5", "t5")
    done = subprocess.run(
        [
            sys.executable, "-c",
            "import sys\n"
            "from stepscope.core.compatibility import resolve\n"
            "from stepscope.core.request import RunRequest\n"
            "from stepscope.worker import opening\n"
            "from stepscope.worker.models import open_source\n"
            f"plan, _ = resolve(RunRequest({str(folder)!r}, ('a',), {backend!r}))\n"
            "source = open_source(plan.model, print)\n"
            "opening.make_artifact(plan, source, lambda message: None)\n"
            "opening.open_session(plan, source, lambda message: None)\n"
            "print('torch' in sys.modules)",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[-1] == "False"


def test_the_calibration_file_must_be_there(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "t5", "t5")
    request = RunRequest(str(folder), ("a",), "onnxruntime", ("int8_static",), calibration=str(tmp_path / "none.txt"))
    plan, _ = resolve(request)
    with pytest.raises(RequestError, match="cannot be read"):
        opening.make_artifact(plan, open_source(str(folder), print), lambda message: None)
