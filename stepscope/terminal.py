"""Shows a run in a terminal: progress on standard error while it goes on, a few lines when it is final."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

from stepscope.core.result import RunResult
from stepscope.core.stages import RepetitionKind
from stepscope.runs.comparing import Comparing
from stepscope.runs.comparison_document import words
from stepscope.runs.comparison_store import ComparisonRow
from stepscope.runs.executor import Executor
from stepscope.runs.store import RunRow, Store

_TICK_S = 0.25


def _cancelling(interrupted: threading.Event) -> dict[signal.Signals, Any]:
    """The first Ctrl-C or SIGTERM sets the event, the second ends at once; the handlers that were there."""

    def cancel(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    return {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}


def follow_comparison(comparing: Comparing, comparison_id: str) -> ComparisonRow:
    """Waits until the comparison is final; the first Ctrl-C or SIGTERM cancels it and keeps what was measured."""
    interrupted = threading.Event()
    previous, line, asked = _cancelling(interrupted), _Line(), False
    try:
        while (row := comparing.wait(comparison_id, _TICK_S)) is None:
            at = comparing.progress(comparison_id)
            line.show(f"process {at.processes}: {at.now}" if at else "waiting")
            if interrupted.is_set() and not asked:
                asked = True
                comparing.cancel(comparison_id)
        line.show("")
        return row
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def comparison_lines(row: ComparisonRow) -> list[str]:
    width = max(len(variant.name) for variant in row.spec.variants)
    lines = [f"comparison {row.id}: {row.status.value}"]
    lines += [f"  {found.name:<{width}}  {words(found)}" for found in row.result.variants]
    lines += [f"noise: {row.result.grade}", *row.result.banners]
    return lines


def follow(store: Store, executor: Executor, run_id: str) -> RunRow:
    """Waits until the run is final; the first Ctrl-C or SIGTERM cancels it, the second ends at once."""
    interrupted = threading.Event()
    previous = _cancelling(interrupted)
    line, batch, result, asked = _Line(), 0, RunResult(), False
    try:
        while True:
            if (row := executor.wait(run_id, _TICK_S)) is not None:
                line.show("")
                return row
            events, batch = store.events(run_id, batch)
            line.show(_progress(result.apply(events)))
            if interrupted.is_set() and not asked:
                asked = True
                executor.cancel(run_id)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _progress(result: RunResult) -> str:
    running = [phase for phase in result.phases if phase.end_ns is None]
    if not running:
        return "waiting for the worker"
    words = running[-1].phase.value.replace("_", " ")
    if result.progress:
        return f"{words}: {result.progress}"
    done = len(result.repetitions)
    if result.live_steps and not any(rep.kind is RepetitionKind.LIVE for rep in result.repetitions):
        return f"{words}: step {len(result.live_steps)}"
    return f"{words}: repetition {done + 1}" if done else words


class _Line:
    """One line of standard error that is written over; where that is no terminal, only what is new is printed."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, text: str) -> None:
        if text == self._last:
            return
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{text}")
        elif text and text.partition(":")[0] != self._last.partition(":")[0]:
            sys.stderr.write(f"{text.partition(':')[0]}\n")
        sys.stderr.flush()
        self._last = text


def _ms(ns: int | None) -> str:
    return "–" if ns is None else f"{ns / 1e6:.2f} ms"


def _mb(size: int | None) -> str:
    return "–" if size is None else f"{size / 1e6:.0f} MB"


def summary_lines(row: RunRow, result: RunResult) -> list[str]:
    """What a person wants to see of a run without a browser."""
    summary, request, agreement = result.summary(), row.request, result.agreement
    lines = [
        f"run {row.id}: {row.status.value}",
        f"{request.model} · {request.backend} · {', '.join(request.techniques) or 'naive'}",
        *(f"  {text}" for text in result.texts),
    ]
    if row.random_weights:
        lines.append("  (random weights: speed and memory are real, the text is not)")
    if summary.total_ns is not None:
        rate = summary.tokens_per_second or 0.0
        lines += [
            f"TTFT {_ms(summary.time_to_first_token_ns)}   ITL p50 {_ms(summary.itl_p50_ns)}   "
            f"p95 {_ms(summary.itl_p95_ns)}   {rate:.1f} tokens/s   (observed by {row.observed_by.value})",
            f"memory: weights {_mb(summary.weight_bytes)}, peak {_mb(summary.peak_rss_bytes)}",
        ]
    if agreement is not None:
        where = agreement.first_difference_step
        words = (
            "all tokens equal" if where is None else f"{agreement.equal_share:.1%} equal, first difference at step {where}"
        )
        lines.append(f"agreement with {agreement.reference}: {words}")
    elif result.agreement_unknown:
        lines.append(f"agreement unknown: {result.agreement_unknown}")
    return lines


def row_line(row: RunRow) -> str:
    """One line of history."""
    summary = row.summary
    stack = ",".join(row.request.techniques) or "naive"
    rate = f"{summary.tokens_per_second:.1f} tok/s" if summary.tokens_per_second else "–"
    return f"{row.id}  {row.status.value:<11} {rate:>14}  {row.request.model}  {row.request.backend}  {stack}"
