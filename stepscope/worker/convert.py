"""Runs a backend's conversion in a child process, because what it needs of memory and torch is not the runtime's.

``python -m stepscope.worker.convert DIRECTORY`` with a LoadPlan as JSON on standard input; lines on standard output are
progress, the last one an error record when the exit status is 3.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from stepscope.core import catalog
from stepscope.core.encoding import from_json, to_json
from stepscope.core.errors import ErrorRecord, StepScopeError, Unavailable, WorkerCrashed
from stepscope.core.plan import LoadPlan

from .models import Source, open_source

_FAILED = 3


def in_child(plan: LoadPlan, source: Source, directory: Path, progress: Callable[[str], None]) -> None:
    """Raises Unavailable with the converter's own reason, WorkerCrashed when it left none."""
    child = subprocess.Popen(
        [sys.executable, "-m", "stepscope.worker.convert", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert child.stdin is not None and child.stdout is not None
    with child:
        child.stdin.write(json.dumps(to_json(plan)))
        child.stdin.close()
        last = ""
        for line in child.stdout:
            last = line.strip()
            if not last.startswith("{"):
                progress(last)
    if child.returncode == _FAILED:
        record = from_json(ErrorRecord, json.loads(last))
        raise Unavailable(record.message, record.action, record.details)
    if child.returncode:
        raise WorkerCrashed(
            f"The conversion ended with status {child.returncode}.", "Its last lines are below; free memory and try again."
        )


def in_process(plan: LoadPlan, source: Source, directory: Path, progress: Callable[[str], None]) -> None:
    catalog.backend_module(plan.backend).convert(plan, source, directory, progress)


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with the worker (PR_SET_PDEATHSIG)
    out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not progress

    def progress(message: str) -> None:
        print(message.replace("\n", " "), file=out, flush=True)

    try:
        plan = from_json(LoadPlan, json.loads(sys.stdin.read()))
        in_process(plan, open_source(plan.model, progress), Path(sys.argv[1]), progress)
    except StepScopeError as error:
        print(json.dumps(to_json(error.record())), file=out, flush=True)
        sys.exit(_FAILED)
    except Exception as error:  # any library's error becomes a reason that the parent can show
        record = ErrorRecord("unavailable", f"The model cannot be converted: {type(error).__name__}: {error}")
        print(json.dumps(to_json(record)), file=out, flush=True)
        raise SystemExit(_FAILED) from error


if __name__ == "__main__":
    main()
