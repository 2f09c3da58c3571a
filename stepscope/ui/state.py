"""The only place that knows Streamlit's session keys and the process-wide services behind the pages."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import streamlit as st

from stepscope.core import catalog
from stepscope.core.presets import PRESETS, preset
from stepscope.core.request import RunRequest
from stepscope.core.result import RunResult
from stepscope.core.spec import Stage, TechniqueSpec
from stepscope.runs.executor import Executor
from stepscope.runs.home import open_store
from stepscope.runs.store import Store

_VIEWED_RUNS = 32


@dataclass(slots=True)
class _Viewed:
    result: RunResult = field(default_factory=RunResult)
    batch: int = 0


class ResultViews:
    """Folded events of the runs that are being looked at, shared by all browsers, so that a tick reads only what is new."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._views: OrderedDict[str, _Viewed] = OrderedDict()

    def get(self, run_id: str) -> RunResult:
        with self._lock:
            view = self._views.setdefault(run_id, _Viewed())
            self._views.move_to_end(run_id)
            while len(self._views) > _VIEWED_RUNS:
                self._views.popitem(last=False)
            events, view.batch = self._store.events(run_id, view.batch)
            view.result.apply(events)
            return view.result


@dataclass(frozen=True, slots=True)
class Services:
    store: Store
    executor: Executor
    views: ResultViews


def _release(services: Services) -> None:
    services.executor.close()


@st.cache_resource(show_spinner=False, on_release=_release)
def services() -> Services:
    """One store and one executor for the whole server."""
    store = open_store()
    executor = Executor(store)
    executor.start()
    catalog.backends(), catalog.techniques()
    gc.freeze()  # what was imported will stay: a collection need not look at it again
    return Services(store, executor, ResultViews(store))


# Widget keys of the request form.
MODEL, OTHER_MODEL, PRESET, BACKEND = "form_model", "form_other_model", "form_preset", "form_backend"
SOURCE, TEXT, EXAMPLE, COLUMN, PREFIX = "form_source", "form_text", "form_example", "form_column", "form_prefix"
BEAMS, NEW_TOKENS, EXACT, PENALTY, EARLY = "form_beams", "form_tokens", "form_exact", "form_penalty", "form_early"
THREADS, DEVICE, REPETITIONS = "form_threads", "form_device", "form_repetitions"
MEMORY_LIMIT, TIME_LIMIT = "form_memory_limit", "form_time_limit"
KEEP_FLOAT, CALIBRATION = "form_keep_float", "form_calibration"
_FILLED_FROM = "form_filled_from"
OTHER = "other"  # the model list's last line


def technique_key(key: str) -> str:
    return f"form_technique_{key}"


def group_key(group: str) -> str:
    return f"form_group_{group}"


def stages() -> dict[Stage, list[TechniqueSpec]]:
    """Techniques that can be imported, by stage, in the order of their titles."""
    specs = [entry.spec for entry in catalog.techniques().values() if entry.spec is not None]
    return {stage: sorted((s for s in specs if s.stage is stage), key=lambda s: (s.group, s.title)) for stage in Stage}


def choose_techniques(keys: tuple[str, ...]) -> None:
    """Sets every technique widget."""
    for specs in stages().values():
        for spec in specs:
            if spec.group:
                chosen = spec.key in keys
                if chosen or st.session_state.get(group_key(spec.group)) not in keys:
                    st.session_state[group_key(spec.group)] = spec.key if chosen else ""
            else:
                st.session_state[technique_key(spec.key)] = spec.key in keys


def chosen_techniques() -> tuple[str, ...]:
    keys = []
    for specs in stages().values():
        for spec in specs:
            if spec.group:
                chosen = st.session_state.get(group_key(spec.group)) == spec.key
            else:
                chosen = bool(st.session_state.get(technique_key(spec.key)))
            if chosen:
                keys.append(spec.key)
    return tuple(keys)


def apply_preset() -> None:
    """Callback of the preset pills."""
    if key := st.session_state.get(PRESET):
        chosen = preset(key)
        st.session_state[BACKEND] = chosen.backend
        choose_techniques(chosen.techniques)


def forget_preset() -> None:
    """Callback of the backend and of every technique: the stack is now the person's own."""
    st.session_state[PRESET] = None


def fill(request: RunRequest, listed_models: list[str], origin: str) -> None:
    """Sets the whole form from a request, once per origin (a run's id, or "default")."""
    state = st.session_state
    if state.get(_FILLED_FROM) == origin:
        return
    state[_FILLED_FROM] = origin
    listed = request.model in listed_models
    state[MODEL] = request.model if listed else OTHER
    state[OTHER_MODEL] = "" if listed else request.model
    stack = (request.backend, request.techniques)
    state[PRESET] = next((item.key for item in PRESETS if (item.backend, item.techniques) == stack), None)
    state[BACKEND] = request.backend
    choose_techniques(request.techniques)
    state[SOURCE], state[TEXT], state[PREFIX] = "Type", "\n".join(request.inputs), request.prefix
    state[BEAMS], state[NEW_TOKENS] = request.search.num_beams, request.search.max_new_tokens
    state[EXACT], state[EARLY] = request.search.exact_tokens, request.search.early_stopping
    state[PENALTY] = request.search.length_penalty
    state[THREADS], state[DEVICE], state[REPETITIONS] = request.threads, request.device, request.repetitions
    state[KEEP_FLOAT], state[CALIBRATION] = ", ".join(request.keep_float), request.calibration
    state[MEMORY_LIMIT], state[TIME_LIMIT] = request.memory_limit_bytes / 1e9, request.time_limit_s


def run_id() -> str:
    """The run that the address names, empty for none."""
    return str(st.query_params.get("run", ""))


def open_run(new_id: str) -> None:
    """Makes the address name this run; the form keeps what it holds."""
    st.session_state[_FILLED_FROM] = new_id
    st.query_params["run"] = new_id
