"""Makes stored runs by writing events, so that pages can be tested without measuring anything."""

from __future__ import annotations

from stepscope.core import events as ev
from stepscope.core.errors import ErrorRecord
from stepscope.core.plan import DecodePlan, LoadPlan
from stepscope.core.request import RunRequest, Search
from stepscope.core.result import RunResult
from stepscope.core.spec import ObservedBy
from stepscope.runs.store import Store

REQUEST = RunRequest("random:t5-small", ("Hello <b>there</b> *you*",), techniques=("self_kv_cache",), search=Search(2, 8))
MS = 1_000_000


def events(steps: int = 8, *, equal: bool = True) -> list[ev.Event]:
    """What a worker tells of one short run."""
    plan = LoadPlan(REQUEST.model, REQUEST.backend)
    told: list[ev.Event] = [
        ev.PhaseBegan(ev.Phase.LOAD, 0),
        ev.PlanResolved(plan, DecodePlan(REQUEST.search), "rev", True, False),
        ev.PhaseEnded(ev.Phase.LOAD, 500 * MS),
        ev.ModelLoaded(242 * MS, 60 * MS, 32128, 200 * MS, 450 * MS, 460 * MS, (), ()),
        ev.PhaseBegan(ev.Phase.LIVE, 600 * MS),
        ev.RepetitionBegan(0, ev.RepetitionKind.LIVE, 600 * MS),
        ev.InputsTokenized((7,)),
        ev.Encoded(610 * MS, 9 * MS, 0),
    ]
    ends = [(30 + 10 * step) * MS for step in range(steps)]
    told += [ev.StepDone(step, 600 * MS + end, 9 * MS, 2) for step, end in enumerate(ends)]
    told += [ev.MemorySampled((600 + 20 * i) * MS, (450 + i) * MS) for i in range(6)]
    for index, kind in enumerate((ev.RepetitionKind.LIVE, ev.RepetitionKind.SCORED, ev.RepetitionKind.SCORED)):
        told.append(
            ev.RepetitionDone(
                index, kind, 0, MS, 9 * MS, (20 * MS, *(9 * MS,) * (steps - 1)), tuple(ends), (2,) * steps,
                ends[0], ends[-1] + MS, steps, (tuple(range(2, steps + 2)),), ("Hallo *du* <i>da</i>",),
            )
        )  # fmt: skip
    told.append(ev.MemoryPeak(470 * MS, 465 * MS))
    told.append(
        ev.Agreement(1.0, None, (), "transformers generate", ("Hallo",))
        if equal
        else ev.Agreement(0.5, 3, (0,), "transformers generate", ("Hallo anders",))
    )
    return told


def store_run(
    store: Store,
    status: ev.RunStatus = ev.RunStatus.DONE,
    *,
    request: RunRequest = REQUEST,
    told: list[ev.Event] | None = None,
    error: ErrorRecord | None = None,
    owner: tuple[int, float] = (1, 0.0),
) -> str:
    run_id = store.create(request, machine={"processor": "Test"}, fingerprint="f", observed_by=ObservedBy.LOOP, owner=owner)
    if status is ev.RunStatus.QUEUED:
        return run_id
    store.start(run_id)
    told = events() if told is None else told
    store.append(run_id, told)
    if status is not ev.RunStatus.RUNNING:
        store.finish(run_id, status, RunResult().apply(told), error)
    return run_id
