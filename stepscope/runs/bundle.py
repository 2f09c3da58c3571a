"""Packs a stack to be taken home: a script, what it imports, its pinned requirements, the model and its converted form."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

from stepscope.core import catalog, models
from stepscope.core.request import RunRequest
from stepscope.core.spec_files import to_toml

from .home import home

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "decoding", "worker", "conversion")
MOST_BYTES = 400_000_000  # of a model, and of a converted model; above, the script makes or downloads it itself
_NOT_MODEL = (".py", ".tsv")
_ALWAYS = ("numpy", "tokenizers", "sentencepiece", "safetensors", "huggingface_hub", "protobuf", "psutil", "platformdirs")
_TORCH = ("torch", "transformers")

SCRIPT = '''"""Runs one stack of StepScope: python run.py "a text" "another one"; without texts, those it was measured on.

Set up first: python -m venv .venv && .venv/bin/pip install -r requirements.txt
"""

import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.chdir(HERE)
os.environ["STEPSCOPE_HOME"] = str(HERE / "home")  # holds the converted model
sys.path.insert(0, str(HERE))

from stepscope.core.errors import StepScopeError
from stepscope.core.spec_files import read_request
from stepscope.worker.stack import Stack


def main() -> None:
    request = read_request("stack.toml", (HERE / "stack.toml").read_bytes())
    texts = sys.argv[1:] or request.inputs
    try:
        with Stack(request) as stack:
            begin = time.perf_counter()
            for output in stack.generate(texts):
                print(output)
            print(f"{1000 * (time.perf_counter() - begin):.1f} ms", file=sys.stderr)
    except StepScopeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
'''


def bundle(request: RunRequest, artifact: str = "") -> bytes:
    """A zip file. artifact: digest of the converted model, empty for none."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        model, folder = _model(request.model)
        kept = home() / "artifacts" / artifact if artifact else None
        kept = kept if kept is not None and kept.is_dir() and _size(kept) <= MOST_BYTES else None
        archive.writestr("run.py", SCRIPT)
        archive.writestr("stack.toml", to_toml(replace(request, model=model, repetitions=1)))
        archive.writestr("requirements.txt", requirements(request.backend, converted=kept is not None))
        for file in _sources(request.backend):
            archive.write(file, file.relative_to(ROOT))
        for source, place in ((folder, "model"), (kept, f"home/artifacts/{artifact}")):
            for file in sorted(source.iterdir()) if source is not None else ():
                if file.is_file() and file.suffix not in _NOT_MODEL:
                    archive.write(file, f"{place}/{file.name}")
    return out.getvalue()


def requirements(backend: str, *, converted: bool) -> str:
    """The pinned lines of requirements.txt that this backend needs; torch too where it must convert first."""
    spec = catalog.backend(backend)
    wanted = {*_ALWAYS, *(p.distribution or p.module for p in spec.packages)}
    if not converted and hasattr(catalog.backend_module(backend), "convert"):
        wanted.update(_TORCH)
    names = {name.replace("_", "-") for name in wanted}
    lines = []
    for file in sorted(ROOT.glob("requirements*.txt")):
        if file.name == "requirements-dev.txt":
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            of_backend = file.name == f"requirements-{backend}.txt" and not line.startswith("#")
            if (of_backend or line.split("==")[0].replace("_", "-") in names) and line not in lines:
                lines.append(line)
    return "\n".join(lines) + "\n"


def _model(key: str) -> tuple[str, Path | None]:
    """The key in the bundle, and the folder that goes with it."""
    directory = models.parse(key).directory
    if directory is None:
        return key, None
    return ("./model", directory) if _size(directory) <= MOST_BYTES else (str(directory.resolve()), None)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _sources(backend: str) -> list[Path]:
    own = ROOT / "backends" / backend
    found = [ROOT / "stepscope" / "__init__.py", ROOT / "backends" / "__init__.py"]
    found += (
        sorted(file for file in own.rglob("*") if file.suffix in (".py", ".cpp", ".h"))
        if own.is_dir()
        else [own.with_suffix(".py")]
    )
    for room in ROOMS:
        found += sorted((ROOT / "stepscope" / room).rglob("*.py"))
    found += sorted((ROOT / "techniques").glob("*.py"))
    return [*found, ROOT / "models" / "models.toml", ROOT / "models" / "examples.toml"]
