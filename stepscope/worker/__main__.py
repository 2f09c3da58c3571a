"""Entry of the worker process, and the project's only catch-all: whatever happens becomes one final event.

``python -m stepscope.worker FD [MODULE,...]``: events go to file descriptor FD, commands come on standard input, and
everything that libraries print goes to standard error. The modules are imported before the first command is taken. The
end of standard input means that the parent is gone: the process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import importlib.metadata
import os
import queue
import signal
import sys
import threading
import traceback
from time import perf_counter_ns

from stepscope.core import commands
from stepscope.core import events as ev
from stepscope.core.errors import StepScopeError, WorkerCrashed, WorkerOutOfMemory

from .stream import EventStream

_PACKAGES = (
    "torch", "transformers", "numpy", "sentencepiece", "tokenizers", "onnxruntime", "openvino", "ctranslate2", "tensorrt",
    "tensorrt-rtx",
)  # fmt: skip


def main() -> None:
    emit = EventStream(os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")).emit
    os.dup2(2, 1)  # a stray print must not look like data
    faulthandler.enable()
    _die_with_parent()
    inbox: queue.SimpleQueue[commands.Run] = queue.SimpleQueue()
    cancelled = threading.Event()
    threading.Thread(target=_listen, args=(inbox, cancelled), name="commands", daemon=True).start()
    begin = perf_counter_ns()
    runner = _import_runtime(emit, sys.argv[2].split(",") if len(sys.argv) > 2 else [])
    emit(ev.WorkerReady(perf_counter_ns(), perf_counter_ns() - begin, _rss(), _versions()))
    while True:
        command = inbox.get()
        emit(_carry_out(runner, command, cancelled))
        cancelled.clear()


def _import_runtime(emit: object, modules: list[str]) -> object:
    """What every run needs, imported before the first one asks, so that a click does not wait for it.

    Only the backend's own modules: a runtime that needs no torch is not charged with torch's memory.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for name in modules:
        importlib.import_module(name)
    if "transformers" in modules:
        from transformers import AutoModelForSeq2SeqLM, logging  # noqa: F401
        from transformers.models.t5 import modeling_t5  # noqa: F401

        logging.set_verbosity_error()
        logging.disable_progress_bar()
    from .phases import Runner

    return Runner(emit)  # type: ignore[arg-type]


def _carry_out(runner: object, command: commands.Run, cancelled: threading.Event) -> ev.Event:
    from stepscope.decoding.loop import Cancelled

    try:
        runner.run(command.request, cancelled)  # type: ignore[attr-defined]
    except Cancelled:
        return ev.RunCancelled(perf_counter_ns())
    except StepScopeError as error:
        return ev.RunFailed(error.record())
    except Exception as error:
        return ev.RunFailed(_described(error).record())
    return ev.RunFinished(perf_counter_ns())


def _described(error: Exception) -> StepScopeError:
    trace = traceback.format_exc()
    text = str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text.lower():
        return WorkerOutOfMemory(
            "An allocation failed: the memory limit does not hold this model and batch.",
            "Choose a smaller model or batch, or raise the memory limit.",
            trace,
        )
    return WorkerCrashed(f"{type(error).__name__}: {text}", "This is likely a defect: report it with the details.", trace)


def _listen(inbox: queue.SimpleQueue[commands.Run], cancelled: threading.Event) -> None:
    for line in sys.stdin:
        match commands.decode(line):
            case commands.Run() as run:
                cancelled.clear()  # here, where commands have an order: a late Cancel must not end the next run
                inbox.put(run)
            case commands.Cancel():
                cancelled.set()
    os._exit(0)  # the parent is gone; a runtime may sit in a long call


def _die_with_parent() -> None:
    """On Linux the kernel itself ends this process with the parent's thread (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _rss() -> int:
    from .probe import rss_bytes

    return rss_bytes()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


if __name__ == "__main__":
    main()
