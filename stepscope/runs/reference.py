"""Gets the reference's tokens for a run, from the store or from a worker of its own, so that agreement can be told."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stepscope.core import events as ev
from stepscope.core.request import RunRequest

BACKEND = "pytorch_generate"
TECHNIQUES = ("cross_kv_cache", "self_kv_cache")


@dataclass(frozen=True, slots=True)
class Reference:
    """token_ids: per input, end of sequence included. made_by: in words."""

    token_ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    made_by: str


def reference_request(request: RunRequest, cores: int) -> RunRequest:
    """transformers' generate in float32 on the CPU: same weights, inputs and search, everything else plain."""
    return replace(
        request,
        backend=BACKEND,
        techniques=TECHNIQUES,
        device="cpu",
        threads=cores,
        repetitions=1,
        memory_limit_bytes=0,
    )


def is_reference(request: RunRequest) -> bool:
    return (request.backend, request.techniques, request.device) == (BACKEND, TECHNIQUES, "cpu")


def made_by(versions: dict[str, str]) -> str:
    version = versions.get("transformers", "")
    return f"transformers {version} generate, float32, CPU".replace("  ", " ")


class ReferenceSink:
    """Waits for the first repetition: all of a reference's repetitions yield the same tokens."""

    def __init__(self) -> None:
        self.repetition: ev.RepetitionDone | None = None

    def add(self, event: ev.Event) -> None:
        if isinstance(event, ev.RepetitionDone):
            self.repetition = self.repetition or event

    def due_s(self) -> float | None:
        return None

    def flush(self) -> None:
        pass
