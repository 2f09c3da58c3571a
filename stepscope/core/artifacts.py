"""Keeps converted models on disk, named by what decided their content, so that a conversion is paid for once.

``HOME/artifacts/DIGEST/`` holds one artifact: the converter's files and ``artifact.json``. It is written aside and renamed,
so a crash leaves nothing that looks finished; a lock per digest lets one process convert while others wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import RequestError

try:
    import fcntl
except ImportError:  # Windows: two processes may convert at once; the rename still lets only one of them win
    fcntl = None  # type: ignore[assignment]

LIMIT_BYTES = 20_000_000_000
_ABOUT = "artifact.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One converted model. about: what it was made from, in words; used_s: unix time of its last use."""

    digest: str
    about: str
    bytes: int
    made_s: float
    convert_s: float
    used_s: float


def digest(parts: dict[str, Any]) -> str:
    """Name of the artifact that these JSON values decide."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def get_or_make(home: Path, name: str, about: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
    """The artifact's folder, and whether it was there already. ``make`` fills an empty folder; its errors pass through."""
    place = home / "artifacts"
    place.mkdir(parents=True, exist_ok=True)
    target = place / name
    with _locked(place / f"{name}.lock"):
        hit = (target / _ABOUT).exists()
        if not hit:
            aside = place / f"{name}.new"
            shutil.rmtree(aside, ignore_errors=True)  # of a conversion that crashed
            aside.mkdir()
            begin = time.monotonic()
            try:
                make(aside)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
            held = sum(file.stat().st_size for file in aside.rglob("*") if file.is_file())
            made = Artifact(name, about, held, time.time(), time.monotonic() - begin, 0.0)
            (aside / _ABOUT).write_text(json.dumps(asdict(made)), encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            aside.rename(target)
        os.utime(target / _ABOUT)
    _trim(home, keep=name)
    return target, hit


def listed(home: Path) -> list[Artifact]:
    """What is there, last used first."""
    found = []
    for file in (home / "artifacts").glob(f"*/{_ABOUT}"):
        with contextlib.suppress(OSError, ValueError, TypeError):  # removed meanwhile, or written by another version
            values = json.loads(file.read_text(encoding="utf-8"))
            found.append(Artifact(**{**values, "used_s": file.stat().st_mtime}))
    return sorted(found, key=lambda artifact: -artifact.used_s)


def clear(home: Path, name: str = "") -> int:
    """Removes one artifact, or all; the bytes that were freed. Raises RequestError for an unknown name."""
    chosen = [artifact for artifact in listed(home) if name in ("", artifact.digest)]
    if name and not chosen:
        raise RequestError(f"There is no converted model {name!r}.", "`python -m stepscope artifacts` lists them.")
    for artifact in chosen:
        shutil.rmtree(home / "artifacts" / artifact.digest, ignore_errors=True)
    return sum(artifact.bytes for artifact in chosen)


def _trim(home: Path, keep: str) -> None:
    held = 0
    for artifact in listed(home):
        held += artifact.bytes
        if held > LIMIT_BYTES and artifact.digest != keep:
            shutil.rmtree(home / "artifacts" / artifact.digest, ignore_errors=True)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
