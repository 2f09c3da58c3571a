"""Compiles the engine for this machine's processor, once per source and processor, and loads it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepscope.core import catalog
from stepscope.core.errors import Unavailable

HERE = Path(__file__).parent
_SOURCES = ("engine.cpp", "kernels.h", "team.h")
_FLAGS = ("-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-pthread")

_P, _I, _L, _F = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_float
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "native_packed_size": (_L, (_I, _I, _I)),
    "native_pack": (None, (_P, _I, _I, _I, _P)),
    "native_engine": (_P, (_P, _F, _I, _P, _P)),
    "native_matrix": (None, (_P, _I, _I, _I, _I, _I, _I, _P)),
    "native_bias": (None, (_P, _I, _P, _I)),
    "native_exact_head": (None, (_P, _P, _P, _P, _P)),
    "native_encode": (_P, (_P, _P, _P, _I, _I, _P, _I, _I)),
    "native_encoding_floats": (_L, (_P, _I)),
    "native_take": (None, (_P, _I, _P)),
    "native_resume": (_P, (_P, _P, _I, _I, _P)),
    "native_follow": (None, (_P, _P, _I)),
    "native_step": (_I, (_P, _P, _I, _P, _P)),
    "native_verify": (_I, (_P, _P, _I, _I, _P, _P)),
    "native_rewind": (None, (_P, _I)),
    "native_stream": (ctypes.c_double, (_L, _I, _I)),
    "native_free_state": (None, (_P,)),
    "native_free": (None, (_P,)),
    "native_allocate": (_P, (_L,)),
    "native_release": (None, (_P,)),
}


@functools.cache
def load(progress: Callable[[str], None]) -> Any:
    """The engine's functions. Raises Unavailable when the compiler fails; SPEC says what must be here."""
    flags = catalog.processor_flags()
    digest = hashlib.sha256(repr([_FLAGS, sorted(flags), platform.machine()]).encode())
    for name in _SOURCES:
        digest.update((HERE / name).read_bytes())
    place = Path(os.environ["STEPSCOPE_HOME"]) / "native"
    file = place / f"engine-{digest.hexdigest()[:16]}.so"
    if not file.exists():
        progress("Compiling the native engine for this processor")
        place.mkdir(parents=True, exist_ok=True)
        _compile(file)
    try:
        library = ctypes.CDLL(str(file))
    except OSError:  # a crash or a full disk has left half a file
        _compile(file)
        library = ctypes.CDLL(str(file))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _compile(file: Path) -> None:
    compiler = next(found for name in catalog.backend("native").tools if (found := shutil.which(name)))
    descriptor, aside = tempfile.mkstemp(dir=file.parent)
    os.close(descriptor)
    done = subprocess.run(
        [compiler, *_FLAGS, "-o", aside, str(HERE / "engine.cpp")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        os.unlink(aside)
        raise Unavailable("The native engine did not compile.", "Install g++ 11 or newer.", done.stderr[-2000:])
    os.replace(aside, file)
