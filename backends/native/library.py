"""Compiles the engine for this machine's processor, once per source and processor, and loads it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepscope.core.errors import Unavailable

HERE = Path(__file__).parent
_SOURCES = ("engine.cpp", "kernels.h", "team.h")
_FLAGS = ("-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-pthread")
_NEEDED = ("avx512f", "avx512bw", "avx512_vnni", "avx512_bf16")

_P, _I, _L, _F = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_float
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "native_packed_size": (_L, (_I, _I, _I)),
    "native_pack": (None, (_P, _I, _I, _I, _P)),
    "native_engine": (_P, (_P, _F, _I, _P)),
    "native_matrix": (None, (_P, _I, _I, _I, _I, _I, _I, _P)),
    "native_bias": (None, (_P, _I, _P, _I)),
    "native_encode": (_P, (_P, _P, _P, _I, _I, _P, _I, _I)),
    "native_follow": (None, (_P, _P, _I)),
    "native_step": (None, (_P, _P, _I, _P, _P)),
    "native_free_state": (None, (_P,)),
    "native_free": (None, (_P,)),
    "native_allocate": (_P, (_L,)),
}


@functools.cache
def load(progress: Callable[[str], None]) -> Any:
    """The engine's functions. Raises Unavailable where the processor or a compiler is missing."""
    flags = _processor_flags()
    if missing := [name for name in _NEEDED if name not in flags]:
        raise Unavailable(
            f"The native engine is written for AVX-512; this processor lacks {', '.join(missing)}.",
            "Choose ONNX Runtime or OpenVINO, which have kernels for it.",
        )
    digest = hashlib.sha256(repr([_FLAGS, sorted(flags), platform.machine()]).encode())
    for name in _SOURCES:
        digest.update((HERE / name).read_bytes())
    place = Path(os.environ["STEPSCOPE_HOME"]) / "native"
    file = place / f"engine-{digest.hexdigest()[:16]}.so"
    if not file.exists():
        progress("Compiling the native engine for this processor")
        place.mkdir(parents=True, exist_ok=True)
        _compile(file)
    library = ctypes.CDLL(str(file))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _compile(file: Path) -> None:
    compiler = next((found for name in ("g++", "clang++", "c++") if (found := shutil.which(name))), None)
    if compiler is None:
        raise Unavailable("The native engine needs a C++ compiler at first use.", "Install g++ (Debian: apt install g++).")
    aside = file.with_suffix(f".{os.getpid()}")
    done = subprocess.run(
        [compiler, *_FLAGS, "-o", str(aside), str(HERE / "engine.cpp")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable("The native engine did not compile.", "Install g++ 11 or newer.", done.stderr[-2000:])
    aside.rename(file)


def _processor_flags() -> set[str]:
    """As Linux names them; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())
