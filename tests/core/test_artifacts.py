"""The conversion cache: one conversion at a time, nothing half-made, bounded, cleared on request."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from stepscope.core import artifacts
from stepscope.core.errors import RequestError


def write(directory: Path, size: int = 100) -> None:
    (directory / "model.bin").write_bytes(b"x" * size)


def test_a_second_request_finds_the_first_ones_files(tmp_path: Path) -> None:
    first, hit = artifacts.get_or_make(tmp_path, "abc", "a model", write)
    assert not hit and (first / "model.bin").stat().st_size == 100
    again, hit = artifacts.get_or_make(tmp_path, "abc", "a model", lambda directory: pytest.fail("made twice"))
    assert hit and again == first
    (found,) = artifacts.listed(tmp_path)
    assert (found.digest, found.about, found.bytes) == ("abc", "a model", 100)


def test_a_conversion_that_fails_or_crashes_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        write(directory)
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        artifacts.get_or_make(tmp_path, "abc", "a model", fail)
    assert artifacts.listed(tmp_path) == []
    aside = tmp_path / "artifacts" / "abc.new"  # as a crash in the middle leaves it
    aside.mkdir()
    (aside / "half").write_text("half")
    path, hit = artifacts.get_or_make(tmp_path, "abc", "a model", write)
    assert not hit and sorted(file.name for file in path.iterdir()) == ["artifact.json", "model.bin"]


def test_two_at_once_convert_once(tmp_path: Path) -> None:
    made, gate = [], threading.Event()

    def slow(directory: Path) -> None:
        made.append(threading.get_ident())
        gate.wait(5)
        write(directory)

    hits: list[bool] = []
    threads = [
        threading.Thread(target=lambda: hits.append(artifacts.get_or_make(tmp_path, "abc", "a model", slow)[1]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1 and sorted(hits) == [False, True, True]


def test_the_least_recently_used_goes_when_there_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "LIMIT_BYTES", 250)
    for at, name in enumerate(("one", "two")):
        path, _ = artifacts.get_or_make(tmp_path, name, name, write)
        os.utime(path / "artifact.json", (at, at))
    artifacts.get_or_make(tmp_path, "three", "three", write)
    assert [artifact.digest for artifact in artifacts.listed(tmp_path)] == ["three", "two"]


def test_clearing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        artifacts.get_or_make(tmp_path, name, name, write)
    with pytest.raises(RequestError, match="no converted model 'three'"):
        artifacts.clear(tmp_path, "three")
    assert artifacts.clear(tmp_path, "one") == 100
    assert artifacts.clear(tmp_path) == 100
    assert artifacts.listed(tmp_path) == []


def test_what_decides_the_content_decides_the_name() -> None:
    parts = {"revision": "a", "plan": {"dtype": "float32"}}
    assert artifacts.digest(parts) == artifacts.digest({"plan": {"dtype": "float32"}, "revision": "a"})
    assert artifacts.digest(parts) != artifacts.digest({**parts, "revision": "b"})
