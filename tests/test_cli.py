"""The command line as scripts use it: a real process, a real worker, one document and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stepscope import cli
from stepscope.core import models
from stepscope.core.errors import RequestError
from stepscope.core.request import RunRequest, Search
from stepscope.core.spec_files import to_toml
from tests import tiny

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def command(home: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stepscope", *args], cwd=ROOT, env={**os.environ, "STEPSCOPE_HOME": str(home)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(home: Path, *args: str) -> tuple[int, str, str]:
    child = command(home, *args)
    out, err = child.communicate(timeout=120)
    return child.returncode, out, err


def test_a_folder_is_run_naive_and_its_document_is_all_that_is_printed(home: Path, tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "model", "t5")
    status, out, err = run(
        home, "run", "--model", str(folder), "--backend", "pytorch", "--techniques", "", "--text", "a b c",
        "--exact-tokens", "5", "--num-beams", "2", "--repetitions", "2", "--json", "-",
    )  # fmt: skip
    assert status == 0, err
    written = json.loads(out)
    assert written["status"] == "done" and written["error"] is None
    assert written["request"]["techniques"] == [] and written["load_plan"]["self_kv_cache"] is False
    scored = [each for each in written["repetitions"] if each["kind"] == "scored"]
    assert len(scored) == 2
    for each in scored:
        assert len(each["step_ns"]) == 5 and len(each["token_ids"][0]) == 5 and each["total_ns"] > sum(each["step_ns"])
    assert written["agreement"]["equal_share"] == 1.0 and written["agreement"]["first_difference_step"] is None
    assert written["memory"]["peak_rss_bytes"] > written["memory"]["baseline_rss_bytes"] > 0
    assert "start" in err, "progress belongs on standard error"
    status, out, _ = run(home, "show", written["run_id"], "--json")
    assert status == 0 and json.loads(out) == written
    status, out, _ = run(home, "history", "--search", written["run_id"])
    assert status == 0 and out.startswith(written["run_id"]) and "naive" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--text", "  "], "no input"),
        (["--text", "a", "--model", "no-such"], "no model 'no-such'"),
        (["--text", "a", "--model", "./no/such/folder"], "no folder"),
        (["--text", "a", "--techniques", "self_kv_cach"], "Did you mean self_kv_cache"),
        (["--text", "a", "--preset", "fast"], "no preset 'fast'"),
        (["--text", "a", "--model", "random:t5-small", "--exact-tokens", "0"], "Max new tokens must be between"),
        (["--text", "a", "--model", "random:t5-small", "--num-beams", "17"], "Beams must be between"),
        (["--text", "a", "--model", "random:t5-small", "--json", "/no/such/folder/x.json"], "no folder"),
        (["--input", "no-such.txt"], "cannot be read"),
        (["--text", "a\x00b", "--model", "random:t5-small"], "control character"),
    ],
)
def test_what_cannot_be_ends_with_2_and_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], words: str
) -> None:
    monkeypatch.setenv("STEPSCOPE_HOME", str(home))
    assert cli.main(["run", *args]) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err and err.count("\n") == 1


def test_a_model_that_is_not_there_fails_with_1_and_still_a_document(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(home / "hub"))
    status, out, err = run(home, "run", "--model", "hub:google-t5/t5-small", "--text", "a", "--json", "-")
    assert status == 1
    error = json.loads(out)["error"]
    assert error["kind"] == "unavailable" and error["action"] and error["message"] in err


def test_control_c_cancels_and_keeps_what_was_measured(home: Path) -> None:
    child = command(
        home, "run", "--model", "random:t5-base", "--techniques", "", "--text", "a b c", "--exact-tokens", "400",
        "--json", "-",
    )  # fmt: skip
    assert child.stderr is not None
    while (line := child.stderr.readline()) and "live" not in line:
        pass
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    written = json.loads(out)
    assert child.returncode == 1 and written["status"] == "cancelled"


def test_files_and_presets_become_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "texts.csv"
    file.write_text('id,english\n1,"Hello, you"\n2,Bye\n', encoding="utf-8")

    def request_of(*args: str):  # type: ignore[no-untyped-def]
        return cli.request_of(cli._parser().parse_args(["run", *args]))

    request = request_of("--input", str(file), "--column", "english", "--exact-tokens", "7", "--memory-limit", "1.5")
    assert request.inputs == ("Hello, you", "Bye") and request.search.max_new_tokens == 7 and request.search.exact_tokens
    assert request.model == models.default_key() and request.prefix == models.default_prefix(request.model)
    assert request.memory_limit_bytes == 1_500_000_000 and "self_kv_cache" in request.techniques
    assert request_of("--text", "a\nb", "--preset", "naive").techniques == ()
    own_loop = request_of("--text", "a", "--backend", "pytorch_generate")
    assert own_loop.techniques == ("cross_kv_cache", "sdpa", "self_kv_cache")
    with pytest.raises(RequestError, match="several columns"):
        request_of("--input", str(file))


@pytest.mark.parametrize("what", ["models", "backends", "techniques", "presets"])
def test_lists_are_for_people_and_for_programs(capsys: pytest.CaptureFixture[str], what: str) -> None:
    assert cli.main(["list", what]) == 0
    people = capsys.readouterr().out.splitlines()
    assert cli.main(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [line.split()[0] for line in people] == [row["key"] for row in rows]


SPEC = """
model = "random:t5-small"
inputs = ["a b c"]
processes = 2
max_processes = 2
control = false
[search]
max_new_tokens = 8
[[variants]]
name = "one"
backend = "null"
[[variants]]
name = "two"
backend = "null"
techniques = ["drop_finished_rows"]
"""


def test_a_comparison_is_written_checked_and_reported(home: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC, encoding="utf-8")
    names = [str(tmp_path / name) for name in ("spec.toml", "out.json", "out.csv", "out.html")]
    status, out, err = run(
        home, "compare", "--spec", names[0], "--json", names[1], "--csv", names[2], "--html", names[3]
    )  # fmt: skip
    assert status == 0, err
    assert "one" in out and "the baseline" in out and "noise:" in out
    written = json.loads(Path(names[1]).read_text(encoding="utf-8"))
    assert written["status"] == "done" and written["result"]["complete"]
    assert [len(each["process_ns"]) for each in written["result"]["variants"]] == [2, 2]
    assert len(Path(names[2]).read_text(encoding="utf-8").splitlines()) == 3
    html = Path(names[3]).read_text(encoding="utf-8")
    assert "Plotly" in html and "https://" not in html.split("<script>")[0], "it needs nothing else"
    two = written["result"]["variants"][1]
    two["ratio"] = {"value": 2e9, "low": 1e9, "high": 3e9}  # beyond any interval of two processes
    two["verdict"] = "faster"
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps(written), encoding="utf-8")
    status, _, err = run(home, "compare", "--spec", names[0], "--check", str(stored))
    assert status == 3 and "regressed: two" in err and "before" in err
    assert run(home, "compare", "--spec", str(tmp_path / "gone.toml"))[0] == 2
    stored.write_text("{}", encoding="utf-8")
    status, _, err = run(home, "compare", "--spec", names[0], "--check", str(stored))
    assert status == 2 and "no document of a comparison" in err


def test_a_request_is_run_from_a_file(home: Path, tmp_path: Path) -> None:
    request = RunRequest("random:t5-small", ("a b",), "null", search=Search(max_new_tokens=4), repetitions=1)
    (tmp_path / "request.toml").write_text(to_toml(request), encoding="utf-8")
    status, out, err = run(home, "run", "--request", str(tmp_path / "request.toml"), "--json", "-")
    assert status == 0, err
    assert json.loads(out)["request_digest"] == request.digest()
