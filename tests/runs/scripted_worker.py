"""A worker that does what its input says, so that every way to end can be had in milliseconds."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from stepscope.core import commands
from stepscope.core import events as ev
from stepscope.core.errors import ErrorRecord
from stepscope.core.plan import DecodePlan, LoadPlan
from stepscope.core.stages import RepetitionKind

out = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
cancelled = threading.Event()
held: list[bytearray] = []


def emit(event: ev.Event) -> None:
    out.write(ev.encode(event) + "\n")
    out.flush()


def now() -> int:
    return time.perf_counter_ns()


def repetition(index: int, kind: RepetitionKind) -> ev.RepetitionDone:
    steps = (2_000_000, 1_000_000, 1_000_000)
    return ev.RepetitionDone(
        index, kind, now(), 1000, 500_000, steps, (3_000_000, 4_000_000, 5_000_000), (1, 1, 1), 3_000_000, 5_100_000, 3,
        ((5, 6, 1),), ("scripted",),
    )  # fmt: skip


def carry_out(command: commands.Run) -> None:
    words = command.request.inputs[0].split()
    emit(ev.PhaseBegan(ev.Phase.LOAD, now()))
    emit(ev.PlanResolved(LoadPlan(command.request.model, "null"), DecodePlan(), "rev", True, False))
    emit(ev.ModelLoaded(10, 10, 10, 10, 10, 10, (), ()))
    emit(ev.PhaseEnded(ev.Phase.LOAD, now()))
    emit(ev.PhaseBegan(ev.Phase.LIVE, now()))
    emit(ev.RepetitionBegan(0, RepetitionKind.LIVE, now()))
    for step in range(3):
        emit(ev.StepDone(step, now(), 1_000_000, 1))
    print(f"doing {words[0]}", file=sys.stderr, flush=True)
    match words[0]:
        case "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "garbage":
            out.write("Loading weights... 100%\n")
            out.flush()
            time.sleep(60)
        case "hang":
            time.sleep(60)
        case "close":
            out.close()
            time.sleep(60)
        case "busy":  # computes without a word, as a long compilation does
            until = time.monotonic() + float(words[1])
            while time.monotonic() < until:
                sum(range(1000))
        case "grow":
            while len(held) < 4000:
                held.append(bytearray(b"x") * (1 << 20))
                time.sleep(0.0005)
        case "patient":  # follows a cancel
            cancelled.wait(60)
            emit(ev.RunCancelled(now()))
            return
        case "stubborn":  # does not
            time.sleep(60)
        case "fail":
            emit(ev.RunFailed(ErrorRecord("out_of_memory", "An allocation failed.", "Choose less.")))
            return
    emit(repetition(0, RepetitionKind.LIVE))
    emit(ev.PhaseEnded(ev.Phase.LIVE, now()))
    emit(repetition(1, RepetitionKind.SCORED))
    emit(ev.MemoryPeak(20, 20))
    emit(ev.RunFinished(now()))


def main() -> None:
    inbox: list[commands.Run] = []
    arrived = threading.Semaphore(0)

    def listen() -> None:
        for line in sys.stdin:
            command = commands.decode(line)
            if isinstance(command, commands.Run):
                cancelled.clear()
                inbox.append(command)
                arrived.release()
            else:
                cancelled.set()
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    emit(ev.WorkerReady(now(), 1, 1, {"torch": "0", "transformers": "0"}))
    while True:
        arrived.acquire()
        carry_out(inbox.pop())


if __name__ == "__main__":
    main()
