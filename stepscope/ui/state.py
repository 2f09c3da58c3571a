"""The only place that knows Streamlit's session keys and the process-wide services behind the pages."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import streamlit as st

from stepscope.core import catalog
from stepscope.core.comparison import ComparisonSpec, Variant
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
_ADDRESSED = "addressed_comparison"

# Widget keys of the comparison's form, and the variants that it has gathered.
C_MODEL, C_SOURCE, C_TEXT, C_FIRST, C_PREFIX = (
    "compare_model",
    "compare_source",
    "compare_text",
    "compare_first",
    "compare_prefix",
)
C_BEAMS, C_TOKENS, C_EXACT, C_THREADS = "compare_beams", "compare_tokens", "compare_exact", "compare_threads"
C_PROCESSES, C_MOST, C_PRECISION, C_LIMIT = "compare_processes", "compare_most", "compare_precision", "compare_limit"
C_CONTROL, C_BASELINE, C_BATCH = "compare_control", "compare_baseline", "compare_batch"
_VARIANTS, _KEPT = "compare_variants", "compare_kept"
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
    if state.get(_FILLED_FROM) == origin and BACKEND in state:
        return
    state[_FILLED_FROM] = origin
    refill(request, listed_models)


def refill(request: RunRequest, listed_models: list[str]) -> None:
    """Sets the whole form, whatever it was filled from."""
    state = st.session_state
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


def variants() -> list[Variant]:
    """Those of the comparison that is being composed."""
    found: list[Variant] = st.session_state.setdefault(_VARIANTS, [])
    return found


def set_variants(found: list[Variant]) -> None:
    st.session_state[_VARIANTS] = found


def fill_comparison(spec: ComparisonSpec) -> None:
    """Sets the whole comparison form."""
    state = st.session_state
    keep_comparison(spec)  # with the references, which no widget holds
    set_variants(list(spec.variants))
    state[C_MODEL], state[C_PREFIX] = spec.model, spec.prefix
    state[C_SOURCE], state[C_TEXT] = "Type", "\n".join(spec.inputs)
    state[C_BEAMS], state[C_TOKENS] = spec.search.num_beams, spec.search.max_new_tokens
    state[C_EXACT], state[C_BASELINE], state[C_BATCH] = spec.search.exact_tokens, spec.baseline, spec.batch_size
    state[C_PROCESSES], state[C_MOST], state[C_CONTROL] = spec.processes, spec.max_processes, spec.control
    state[C_PRECISION], state[C_LIMIT] = 100 * spec.precision, spec.time_limit_s


def keep_comparison(spec: ComparisonSpec) -> None:
    """Remembers the form: Streamlit forgets a page's widgets when another page is shown."""
    st.session_state[_KEPT] = spec


def kept_comparison() -> ComparisonSpec | None:
    kept: ComparisonSpec | None = st.session_state.get(_KEPT)
    return kept


def refill_comparison(spec: ComparisonSpec) -> None:
    """Sets the form in the next run: once a widget is drawn its value cannot be set any more."""
    keep_comparison(spec)
    del st.session_state[C_MODEL]


def comparison_id() -> str:
    """The comparison that the address names, empty for none."""
    found = str(st.query_params.get("comparison", ""))
    if found != st.session_state.get(_ADDRESSED, ""):
        st.session_state[_ADDRESSED] = found
        if found:
            st.query_params["comparison"] = found  # a link to the page that is shown leaves the browser's address as it was
    return found


def run_id() -> str:
    """The run that the address names, empty for none."""
    return str(st.query_params.get("run", ""))


def open_run(new_id: str) -> None:
    """Makes the address name this run; the form keeps what it holds."""
    st.session_state[_FILLED_FROM] = new_id
    st.query_params["run"] = new_id
