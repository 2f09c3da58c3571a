"""Walks every import by AST and holds the rooms to the arrows of the design; the dashboard never loads a runtime."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STANDARD = set(sys.stdlib_module_names)
RUNTIMES = {"torch", "transformers", "onnxruntime", "openvino", "ctranslate2", "tensorrt", "tensorrt_rtx", "tokenizers"}
# room -> (own modules and libraries that it may import anywhere, ... only inside functions)
ARROWS: dict[str, tuple[set[str], set[str]]] = {
    "app.py": ({"streamlit", "stepscope.ui"}, set()),
    "pages": ({"stepscope.ui", "stepscope.runs", "stepscope.core", "streamlit"}, set()),
    "stepscope/ui": (
        {"stepscope.ui", "stepscope.runs", "stepscope.core", "streamlit", "starlette", "plotly", "pandas"},
        set(),
    ),
    "stepscope/analysis": ({"stepscope.analysis", "stepscope.core"}, {"numpy", "scipy", "sacrebleu", "rouge_score"}),
    "stepscope/runs": (
        {"stepscope.runs", "stepscope.analysis", "stepscope.core", "psutil", "platformdirs", "filelock"},
        set(),
    ),
    "stepscope/worker": (
        {"stepscope.worker", "stepscope.decoding", "stepscope.core", "numpy", "psutil"},
        {"torch", "transformers", "huggingface_hub", "tokenizers"},
    ),
    "stepscope/conversion": (
        {"stepscope.conversion", "stepscope.core", "stepscope.decoding.slots", "numpy"},
        {"onnx"},
    ),
    "stepscope/decoding": ({"stepscope.decoding", "stepscope.core", "numpy"}, set()),
    "stepscope/core": ({"stepscope.core"}, set()),
    "techniques": ({"stepscope.core", "stepscope.decoding.select"}, RUNTIMES),
    "backends": (
        {"stepscope.core", "stepscope.decoding.select"},
        {*RUNTIMES, "numpy", "onnx", "ml_dtypes", "stepscope.conversion", "stepscope.decoding.slots"},
    ),
}


def files(room: str) -> list[Path]:
    path = ROOT / room
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module by its full name, and whether the import stands at the top; type-only ones left out."""
    package = file.relative_to(ROOT).with_suffix("").parts
    package = package[:-1]

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else ()
                module = ".".join((*base, child.module) if child.module else base)
                whole = module in ("stepscope", "")
                yield from ((f"{module}.{alias.name}" if whole else module, top) for alias in child.names)
            else:
                yield from walk(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    yield from walk(ast.parse(file.read_text()), True)


@pytest.mark.parametrize("room", ARROWS)
def test_rooms_keep_to_their_arrows(room: str) -> None:
    anywhere, inside = ARROWS[room]
    for file in files(room):
        # a backend's own further files are imported inside functions only, so their top counts as inside
        late = room == "backends" and file.parent != ROOT / "backends" and file.name != "__init__.py"
        for module, top in imports(file):
            allowed = anywhere | (inside if late or not top else set())
            if room == "backends" and module.startswith(f"backends.{file.relative_to(ROOT / 'backends').parts[0]}"):
                continue
            ok = module.split(".")[0] in STANDARD or any(module == a or module.startswith(f"{a}.") for a in allowed)
            assert ok, f"{file.relative_to(ROOT)} imports {module}"


def test_every_file_has_a_room_and_a_reason() -> None:
    for file in ROOT.rglob("*.py"):
        relative = file.relative_to(ROOT)
        if relative.parts[0].startswith(".") or relative.parts[0] == "models":
            continue
        assert relative.parts[0] in {
            "app.py", "pages", "backends", "techniques", "stepscope", "benchmarks", "tests", "models",
        }, relative  # fmt: skip
        text = file.read_text()
        assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{relative} does not say why it exists"


@pytest.mark.parametrize(
    ("room", "limit"), [("pages", 150), ("backends", 350), ("stepscope", 250), ("techniques", 250), ("tests", 400)]
)
def test_files_stay_small(room: str, limit: int) -> None:
    for file in files(room):
        assert len(file.read_text().splitlines()) <= limit, file.relative_to(ROOT)


def test_the_dashboard_loads_no_runtime_and_stays_small() -> None:
    """Everything that a page imports, and a full discovery, in a process of its own."""
    modules = sorted(
        {m for room in ("app.py", "pages", "stepscope/ui", "stepscope/runs") for f in files(room) for m, _ in imports(f)}
    )
    code = f"""
import importlib, json, sys
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        importlib.import_module(name.rpartition(".")[0])
from stepscope.core import catalog
catalog.backends(), catalog.techniques()
import psutil
print(json.dumps([sorted(set(sys.modules) & {RUNTIMES!r}), psutil.Process().memory_info().rss]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded, rss = json.loads(done.stdout.strip().splitlines()[-1])
    assert loaded == []
    assert rss < 300e6
