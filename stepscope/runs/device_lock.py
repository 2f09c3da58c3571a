"""Lets one measurement at a time use a device, across all processes of this machine: they would slow each other."""

from __future__ import annotations

import tempfile
from pathlib import Path

from filelock import FileLock, Timeout


class DeviceLock:
    """A file lock per device, which the kernel drops with the process that holds it."""

    def __init__(self, device: str, directory: Path | None = None) -> None:
        folder = directory or Path(tempfile.gettempdir())
        self._lock = FileLock(folder / f"stepscope-{device}.lock", mode=0o666, thread_local=False)

    def try_acquire(self) -> bool:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        self._lock.release()
