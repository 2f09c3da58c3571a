"""Writes events to the parent so that telling of a step costs microseconds: steps travel together, all else at once."""

from __future__ import annotations

import threading
from time import perf_counter_ns
from typing import TextIO

from stepscope.core import events as ev

GATHER_NS = 25_000_000  # a page looks four times a second; each write wakes the parent, which competes for the processor


class EventStream:
    """Steps are held back for at most 25 ms (or until the next event); after any other event nothing is held back."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._flushed_ns = 0

    def emit(self, event: ev.Event) -> None:
        line = ev.encode(event) + "\n"
        now = perf_counter_ns()
        with self._lock:
            self._out.write(line)
            if not isinstance(event, ev.StepDone) or now - self._flushed_ns > GATHER_NS:
                self._out.flush()
                self._flushed_ns = now
