"""One stack in this process, for programs: what is taken home from a comparison opens it and generates."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

from stepscope.core import events as ev
from stepscope.core.compatibility import resolve
from stepscope.core.errors import Unavailable
from stepscope.core.plan import DraftFrom
from stepscope.core.request import RunRequest
from stepscope.core.session import Compiles
from stepscope.decoding.encoder_cache import EncoderCache

from . import opening
from .generation import Generation, generate_once
from .models import open_source


class Stack:
    """request: model, stack and search; its inputs do not matter. ``$STEPSCOPE_HOME`` holds the converted model.

    Raises StepScopeError when the stack cannot be here.
    """

    def __init__(self, request: RunRequest) -> None:
        self._request, self._pid, self._one_at_a_time = request, os.getpid(), threading.Lock()
        self._plan, self._decode_plan = resolve(request)
        self._source = open_source(self._plan.model, print)
        if opening.converts(self._plan):
            opening.make_artifact(self._plan, self._source, print)
        self._session = opening.open_session(self._plan, self._source, print)
        limit = self._decode_plan.encoder_cache_bytes
        self._cache = EncoderCache(self._source.revision, limit) if limit else None

    def generate(self, texts: Sequence[str]) -> tuple[str, ...]:
        """The outputs, one per text; the request's prefix is put before each. Threads take turns."""
        if os.getpid() != self._pid:
            raise Unavailable("This stack was opened before the process forked.", "Open one in each process.")
        request = replace(self._request, inputs=tuple(texts))
        if self._decode_plan.draft_from is not DraftFrom.NONE:
            request = replace(request, batch_size=1)
        generation = Generation(request, self._source, self._session, self._decode_plan, self._cache)
        with self._one_at_a_time:
            if isinstance(self._session, Compiles):
                for which in request.batches:
                    self._session.compile(generation.batch(which), request.search.num_beams)
            return generate_once(generation, 0, ev.RepetitionKind.SCORED, threading.Event(), None).texts

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._session.close()
