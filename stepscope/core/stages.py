"""Names the stages that a run and its generations go through; part of the events' vocabulary."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Phases are stored apart and never averaged together."""

    START = "start"  # the worker process starts and imports its runtime (zero when it was warm or blank)
    CONVERT = "convert"
    LOAD = "load"
    COMPILE = "compile"  # steps are compiled for this run's shapes
    LIVE = "live"  # the repetition that a person watches: streamed, memory sampled, never scored
    WARMUP = "warmup"
    SCORED = "scored"  # silent repetitions that are reported
    REFERENCE = "reference"  # the reference's tokens are computed, in another process


class RepetitionKind(StrEnum):
    LIVE = "live"
    WARMUP = "warmup"
    SCORED = "scored"
    WITHOUT_CALLBACK = "without_callback"  # of a runtime that owns its loop: the same work, unobserved


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def final(self) -> bool:
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING)
