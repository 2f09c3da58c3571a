"""Every way in which a run can end, and that the queue goes on after each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from stepscope.core import events as ev
from stepscope.core.errors import RequestError, Unavailable
from stepscope.runs.device_lock import DeviceLock
from stepscope.runs.executor import Executor, PoolSettings
from stepscope.runs.store import RunRow, Store

from .conftest import request

MIB = 1 << 20


def carried_out(executor: Executor, script: str, timeout_s: float = 30, **values: object) -> RunRow:
    row = executor.wait(executor.submit(request(script, **values)), timeout_s)
    assert row is not None, f"{script} did not end"
    return row


def until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def running(store: Store, run_id: str) -> bool:
    """Whether what the run's worker first says is in the store."""
    return len(store.result(run_id).live_steps) == 3


def test_a_run_is_carried_out_and_kept(executor: Executor, store: Store) -> None:
    row = carried_out(executor, "ok")
    assert row.status is ev.RunStatus.DONE and row.error is None
    result = store.result(row.id)
    assert [phase.phase for phase in result.phases][:3] == [ev.Phase.START, ev.Phase.LOAD, ev.Phase.LIVE]
    assert all(phase.end_ns for phase in result.phases)
    assert result.texts == ("scripted",) and len(result.live_steps) == 3 and result.memory
    assert row.summary.tokens == 3 and row.summary.time_to_first_token_ns == 3_000_000
    assert "no model" in result.agreement_unknown


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("segv", "crashed", "SIGSEGV"),
        ("kill", "crashed", "SIGKILL"),
        ("exit", "crashed", "exit status 3"),
        ("close", "crashed", "closed its pipe"),
        ("garbage", "protocol", "not an event"),
        ("fail", "out_of_memory", "An allocation failed"),
    ],
)
def test_what_ends_a_worker_is_told_and_the_queue_goes_on(
    executor: Executor, store: Store, script: str, kind: str, words: str
):
    broken, after = executor.submit(request(script)), executor.submit(request("ok"))
    row = executor.wait(broken, 30)
    assert row is not None and row.status is ev.RunStatus.FAILED and row.error is not None
    assert row.error.kind == kind and words in row.error.message and row.error.action
    assert f"doing {script}" in row.error.details
    assert len(store.result(broken).live_steps) == 3, "what had been measured is lost"
    follower = executor.wait(after, 30)
    assert follower is not None and follower.status is ev.RunStatus.DONE


def test_a_silent_worker_is_ended_unless_it_computes(make_executor: Callable[..., Executor]) -> None:
    executor = make_executor(stall_s=0.6)
    hung = carried_out(executor, "hang")
    assert hung.error is not None and hung.error.kind == "timed_out" and "hung" in hung.error.message
    assert carried_out(executor, "busy 1.5").status is ev.RunStatus.DONE


def test_the_time_limit_ends_a_run(executor: Executor) -> None:
    row = carried_out(executor, "busy 60", time_limit_s=1.5)
    assert row.error is not None and row.error.kind == "timed_out" and "time limit of 1.5 s" in row.error.message


def test_the_memory_limit_ends_a_run_before_the_machine_suffers(executor: Executor) -> None:
    row = carried_out(executor, "grow", memory_limit_bytes=300 * MIB)
    assert row.error is not None and row.error.kind == "out_of_memory" and "limit of 0.29 GiB" in row.error.message


@pytest.mark.parametrize("script", ["patient", "stubborn"])
def test_a_cancel_is_followed_within_a_second_and_keeps_what_was_measured(executor: Executor, store: Store, script: str):
    run_id = executor.submit(request(script))
    until(lambda: running(store, run_id))
    begin = time.monotonic()
    executor.cancel(run_id)
    row = executor.wait(run_id, 10)
    assert row is not None and row.status is ev.RunStatus.CANCELLED
    assert time.monotonic() - begin < 3  # a second on an idle machine
    assert len(store.result(run_id).live_steps) == 3
    assert carried_out(executor, "ok").status is ev.RunStatus.DONE


def test_a_waiting_run_is_cancelled_at_once(executor: Executor, store: Store) -> None:
    first, waiting = executor.submit(request("patient")), executor.submit(request("ok"))
    executor.cancel(waiting)
    row = store.run(waiting)
    assert row is not None and row.status is ev.RunStatus.CANCELLED
    executor.cancel(first)


def test_another_process_may_cancel_through_the_store(executor: Executor, store: Store) -> None:
    run_id, waiting = executor.submit(request("patient")), executor.submit(request("ok"))
    until(lambda: running(store, run_id))
    store.request_cancel(waiting)
    store.request_cancel(run_id)
    for each in (run_id, waiting):
        row = executor.wait(each, 10)
        assert row is not None and row.status is ev.RunStatus.CANCELLED


def test_workers_are_reused_for_the_same_plan_and_end_beyond_their_number(make_executor: Callable[..., Executor]) -> None:
    executor = make_executor(pool=PoolSettings(blank=False, max_warm=2))
    carried_out(executor, "ok")
    (first,) = executor.workers()
    carried_out(executor, "ok again")
    assert [worker.pid for worker in executor.workers()] == [first.pid]
    carried_out(executor, "ok", threads=2)
    assert len(executor.workers()) == 2
    executor.wait(executor.submit(replace(request("ok"), model="random:t5-base")), 30)
    pids = {worker.pid for worker in executor.workers()}
    assert len(pids) == 2 and first.pid not in pids
    until(lambda: not psutil.pid_exists(first.pid))


def test_warm_workers_end_beyond_their_memory(make_executor: Callable[..., Executor]) -> None:
    executor = make_executor(pool=PoolSettings(blank=False, warm_bytes=0))
    carried_out(executor, "ok")
    until(lambda: executor.workers() == [])


def test_a_warm_worker_that_died_is_replaced(executor: Executor) -> None:
    carried_out(executor, "ok")
    (worker,) = executor.workers()
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_ZOMBIE)
    assert carried_out(executor, "ok").status is ev.RunStatus.DONE


def test_a_blank_worker_is_kept_and_takes_the_first_run(make_executor: Callable[..., Executor]) -> None:
    executor = make_executor(pool=PoolSettings(blank=True))
    until(lambda: [worker.state for worker in executor.workers()] == ["blank"])
    (blank,) = executor.workers()
    carried_out(executor, "ok")
    until(lambda: sorted(worker.state for worker in executor.workers()) == ["blank", "warm"])
    assert blank.pid in [worker.pid for worker in executor.workers() if worker.state == "warm"]


def test_one_measurement_at_a_time_on_this_machine(executor: Executor, store: Store, tmp_path: Path) -> None:
    lock = DeviceLock("cpu", tmp_path)
    until(lock.try_acquire)
    run_id = executor.submit(request("ok"))
    until(lambda: store.result(run_id).progress)
    assert "another" in store.result(run_id).progress.lower()
    lock.release()
    row = executor.wait(run_id, 30)
    assert row is not None and row.status is ev.RunStatus.DONE


def test_requests_that_cannot_be_are_refused_before_they_are_stored(executor: Executor, store: Store) -> None:
    for refused in (
        replace(request("ok"), techniques=("self_kv_cache",)),
        replace(request("ok"), techniques=("no_such",)),
        replace(request("ok"), model="no-such-model"),
        replace(request("ok"), repetitions=0),
        request(" "),
    ):
        with pytest.raises(RequestError):
            executor.submit(refused)
    with pytest.raises(Unavailable, match="no folder"):
        executor.submit(replace(request("ok"), model="./no-such-folder"))
    assert store.count() == 0


def test_closing_ends_workers_and_marks_runs(make_executor: Callable[..., Executor], store: Store) -> None:
    executor = make_executor()
    going, waiting = executor.submit(request("stubborn")), executor.submit(request("ok"))
    until(lambda: running(store, going))
    (worker,) = executor.workers()
    executor.close()
    assert not psutil.pid_exists(worker.pid)
    for each in (going, waiting):
        row = store.run(each)
        assert row is not None and row.status is ev.RunStatus.INTERRUPTED
    with pytest.raises(Unavailable):
        executor.submit(request("ok"))


KILLED = """
import sys, time
from pathlib import Path
from stepscope.runs.executor import Executor, PoolSettings
from stepscope.runs.store import Store
from tests.runs.conftest import SCRIPTED, request
folder = Path(sys.argv[1])
store = Store(folder / "runs.sqlite3")
executor = Executor(store, worker_command=SCRIPTED, pool=PoolSettings(blank=True), lock_directory=folder)
executor.start()
print(executor.submit(request("stubborn")), executor.submit(request("ok")), flush=True)
while True:
    print(*[worker.pid for worker in executor.workers()], flush=True)
    time.sleep(0.1)
"""


def test_after_kill_9_no_worker_is_left_and_the_finished_part_can_be_read(store: Store, tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    going, waiting = child.stdout.readline().split()
    until(lambda: running(store, going))
    workers = [int(pid) for pid in child.stdout.readline().split()]
    while not workers:
        workers = [int(pid) for pid in child.stdout.readline().split()]
    child.kill()
    child.wait()
    child.stdout.close()
    until(lambda: not any(psutil.pid_exists(pid) for pid in workers))
    later = Executor(store, pool=PoolSettings(blank=False), lock_directory=tmp_path)
    later.start()
    for each in (going, waiting):
        row = store.run(each)
        assert row is not None and row.status is ev.RunStatus.INTERRUPTED and row.error is not None
    assert len(store.result(going).live_steps) == 3
    later.close()
