"""Describes this machine, so that every stored run says where it was measured and runs of two machines are told apart.

No runtime is imported: versions come from package metadata, the GPU from nvidia-smi.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from stepscope.core.encoding import to_json

from .limits import cpu_quota, memory_available_bytes, memory_limit_bytes, usable_cores
from .noise import NoiseReport, noise_check

__all__ = [
    "NoiseReport", "describe", "fingerprint", "has_gpu", "noise_check", "owner", "owner_alive", "usable_cores",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = (
    "torch", "transformers", "tokenizers", "sentencepiece", "safetensors", "numpy", "onnxruntime", "openvino",
    "ctranslate2", "streamlit",
)  # fmt: skip
_ISA = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16",
    "sve", "sve2",
)  # fmt: skip
_NAMES = {"asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16"}  # what Linux calls them -> what people call them


@dataclass(frozen=True, slots=True)
class Machine:
    """isa: instruction sets that matter to inference, of those that the processor has. Sizes are None where unknown."""

    processor: str
    architecture: str
    isa: tuple[str, ...]
    physical_cores: int
    logical_cores: int
    usable_cores: int
    cpu_quota: float | None
    governor: str
    l2_bytes: int | None
    l3_bytes: int | None
    memory_total_bytes: int
    memory_limit_bytes: int | None
    memory_available_bytes: int
    gpu: str
    gpu_driver: str
    gpu_memory_bytes: int | None
    os: str
    python: str
    versions: dict[str, str]
    code_revision: str


def describe() -> dict[str, Any]:
    """The machine as a JSON object; keys are the fields of ``Machine``."""
    name, driver, gpu_bytes = _gpu()
    processor, isa = _processor()
    value: dict[str, Any] = to_json(
        Machine(
            processor=processor,
            architecture=platform.machine(),
            isa=isa,
            physical_cores=psutil.cpu_count(logical=False) or 0,
            logical_cores=psutil.cpu_count() or 1,
            usable_cores=usable_cores(),
            cpu_quota=cpu_quota(),
            governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            l2_bytes=_cache_bytes(2),
            l3_bytes=_cache_bytes(3),
            memory_total_bytes=int(psutil.virtual_memory().total),
            memory_limit_bytes=memory_limit_bytes(),
            memory_available_bytes=memory_available_bytes(),
            gpu=name,
            gpu_driver=driver,
            gpu_memory_bytes=gpu_bytes,
            os=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            versions=dict(_versions()),
            code_revision=_code_revision(),
        )
    )
    return value


def fingerprint(machine: dict[str, Any]) -> str:
    """Hash of what makes runs comparable; not of what changes by the minute (available memory) or with a commit."""
    keys = (
        "processor", "architecture", "isa", "physical_cores", "logical_cores", "usable_cores", "cpu_quota",
        "memory_total_bytes", "memory_limit_bytes", "gpu", "gpu_driver", "python", "versions",
    )  # fmt: skip
    kept: dict[str, Any] = {key: machine.get(key) for key in keys}
    # Kernels reserve a little more or less from boot to boot.
    kept["memory_total_bytes"] = round((kept["memory_total_bytes"] or 0) / 2**30)
    text = json.dumps(kept, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def has_gpu() -> bool:
    return bool(_gpu()[0])


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _output(*command: str) -> str:
    """A short command's standard output, empty when it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, cwd=ROOT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def _processor() -> tuple[str, tuple[str, ...]]:
    model = ""
    flags: set[str] = set()
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "model name" and not model:
            model = value
        elif key in ("flags", "Features") and not flags:
            flags = set(value.split())
    if platform.system() == "Darwin":
        model = _output("sysctl", "-n", "machdep.cpu.brand_string")
        features = _output("sysctl", "hw.optional").lower()
        flags = {"asimd"} | {flag for flag in ("i8mm", "bf16") if f"feat_{flag}: 1" in features}
    isa = tuple(_NAMES.get(flag, flag) for flag in _ISA if flag in flags)
    return model or platform.processor() or platform.machine(), isa


@cache
def _cache_bytes(level: int) -> int | None:
    """Size of one processor's cache of this level."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        size = _read(f"{folder}/size")
        if _read(f"{folder}/level") == str(level) and size[:-1].isdigit():
            return int(size[:-1]) * units.get(size[-1], 1)
    return None


@cache
def _gpu() -> tuple[str, str, int | None]:
    """Name, driver and memory of the first GPU that nvidia-smi lists; empty names when there is none."""
    line = _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits")
    parts = [part.strip() for part in line.split("\n")[0].split(",")]
    if len(parts) != 3:
        return "", "", None
    return parts[0], parts[1], int(parts[2]) << 20 if parts[2].isdigit() else None


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def _code_revision() -> str:
    """The commit of this checkout, with ``-dirty`` when files differ from it; empty outside a checkout."""
    if not (ROOT / ".git").exists():
        return ""
    commit = _output("git", "rev-parse", "--short=12", "HEAD")
    dirty = _output("git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if commit and dirty else commit


def owner() -> tuple[int, float]:
    """This process: pid and start time, which together name a process even after its pid was used again."""
    return os.getpid(), float(psutil.Process().create_time())


def owner_alive(pid: int, started: float) -> bool:
    """Whether the process of ``owner`` still runs; start times may move by clock corrections."""
    try:
        process = psutil.Process(pid)
        return abs(float(process.create_time()) - started) < 2 and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
