"""Opens a session for a plan, converting the model first when the backend has a format of its own."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from stepscope.core import artifacts, catalog
from stepscope.core import events as ev
from stepscope.core.encoding import to_json
from stepscope.core.errors import RequestError
from stepscope.core.plan import LoadPlan, Quantization
from stepscope.core.session import Generates, Session

from . import convert
from .models import Source

Progress = Callable[[str], None]
Converter = Callable[[LoadPlan, Source, Path, Progress], None]


def open_session(plan: LoadPlan, source: Source, progress: Progress) -> Session | Generates:
    """``source.artifact`` must be set when the backend converts."""
    session: Session | Generates = catalog.backend_module(plan.backend).open_session(plan, source, progress)
    return session


def converts(plan: LoadPlan) -> bool:
    return hasattr(catalog.backend_module(plan.backend), "convert")


def make_artifact(
    plan: LoadPlan, source: Source, progress: Progress, converter: Converter = convert.in_child
) -> ev.Converted:
    """Finds or makes the backend's own files and names them in ``source.artifact``. Raises Unavailable, WorkerError."""
    module = catalog.backend_module(plan.backend)
    parts = {
        "revision": source.revision,
        "conversion": [plan.backend, module.CONVERSION, _versions(module)],
        "plan": {name: value for name, value in to_json(plan).items() if name in module.CONVERTED_BY},
        "calibration": _stamp(plan.calibration),
    }
    name = artifacts.digest(parts)
    weights = plan.dtype.value if plan.quantization is Quantization.NONE else plan.quantization.value
    about = f"{plan.model} for {plan.backend}, {weights}"
    home = Path(os.environ["STEPSCOPE_HOME"])

    def make(directory: Path) -> None:
        progress(f"Converting {about}")
        converter(plan, source, directory, progress)

    source.artifact, hit = artifacts.get_or_make(home, name, about, make)
    return ev.Converted(name, hit, sum(file.stat().st_size for file in source.artifact.iterdir()))


def _versions(module: ModuleType) -> dict[str, Any]:
    return {p.found(): importlib.metadata.version(p.distribution or p.found()) for p in module.SPEC.packages}


def _stamp(file: str) -> list[Any]:
    if not file:
        return []
    try:
        stat = Path(file).expanduser().stat()
    except OSError as error:
        raise RequestError(
            f"The calibration file {file} cannot be read: {error.strerror}.", "Name a .txt, .tsv, .csv or .jsonl file."
        ) from None
    return [file, stat.st_size, stat.st_mtime_ns]
