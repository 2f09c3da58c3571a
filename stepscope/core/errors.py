"""One tree of errors, so that every boundary can say what went wrong and what to do next.

::

    StepScopeError
    ├── RequestError        the request cannot be carried out: unknown key, incompatible stack, bad input
    ├── Unavailable         something is not here: a package, a device, a model, the hub
    ├── WorkerError         the measuring process did not finish
    │   ├── WorkerCrashed       ended without a final event (signal or exit status, last stderr lines)
    │   ├── WorkerTimedOut      ran past the time limit, or sent nothing for too long (hung)
    │   ├── WorkerOutOfMemory   passed the memory limit, or an allocation failed
    │   └── WorkerProtocolError wrote something that is not an event
    └── OutputMismatch      an exact technique changed the tokens
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error as it is stored and shown: what happened, what to do next, and the last lines of the worker's stderr."""

    kind: str
    message: str
    action: str = ""
    details: str = ""


class StepScopeError(Exception):
    """Base of the tree. ``action`` is the next thing that a person can do, in the imperative."""

    kind: ClassVar[str] = "error"

    def __init__(self, message: str, action: str = "", details: str = "") -> None:
        super().__init__(message)
        self.message, self.action, self.details = message, action, details

    def __str__(self) -> str:
        return f"{self.message} {self.action}".strip()

    def record(self) -> ErrorRecord:
        return ErrorRecord(self.kind, self.message, self.action, self.details)


class RequestError(StepScopeError):
    """The request cannot be; ``reasons`` holds every reason, not only the first."""

    kind = "request"

    def __init__(self, reasons: str | tuple[str, ...], action: str = "") -> None:
        self.reasons = (reasons,) if isinstance(reasons, str) else reasons
        super().__init__(" ".join(self.reasons), action)


class Unavailable(StepScopeError):
    kind = "unavailable"


class WorkerError(StepScopeError):
    kind = "worker"


class WorkerCrashed(WorkerError):
    kind = "crashed"


class WorkerTimedOut(WorkerError):
    kind = "timed_out"


class WorkerOutOfMemory(WorkerError):
    kind = "out_of_memory"


class WorkerProtocolError(WorkerError):
    kind = "protocol"


class OutputMismatch(StepScopeError):
    kind = "output_mismatch"
