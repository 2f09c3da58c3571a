"""Checks on this machine, before it is queued, what a run or a comparison names."""

from __future__ import annotations

from stepscope.core import models
from stepscope.core.errors import Unavailable

from . import machine


def located(model: str) -> str:
    """The model's key, absolute for a folder: the worker's own folder is another one. Raises RequestError, Unavailable."""
    key = models.parse(model)
    if (directory := key.directory) is None:
        return model
    models.check_directory(directory)
    return str(directory.resolve()) if key.kind is models.ModelKind.PATH else model


def check_device(device: str) -> None:
    """Raises Unavailable for a device that is not here."""
    if device == "cuda" and not machine.has_gpu():
        raise Unavailable("This machine has no CUDA device that nvidia-smi can see.", "Choose the device cpu.")
