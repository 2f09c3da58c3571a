"""Puts the verdicts themselves to the test: identical stacks must not be told apart, an injected slowdown must be found.

The null backend spins for a millisecond in each step; the slower one, told apart by a technique that changes nothing there,
by --slowdown more. Everything else is a comparison as the page makes it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from stepscope.core.comparison import ComparisonSpec, Variant, Verdict
from stepscope.core.request import Search
from stepscope.runs.executor import Executor, PoolSettings
from stepscope.runs.store import Store

STEP_NS = 1_000_000
MARK = "drop_finished_rows"  # has no effect on the null backend, whose rows never finish


def comparison(slow: bool, tokens: int) -> ComparisonSpec:
    variants = (Variant("one", "null"), Variant("two", "null", (MARK,) if slow else ()))
    return ComparisonSpec("random:t5-small", ("a b c",), variants, "one", search=Search(1, tokens, True))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks verdicts", description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="comparisons of identical stacks, and of different ones")
    parser.add_argument("--slowdown", type=float, default=0.05)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"STEPSCOPE_HOME": folder, "NULL_SLOWDOWN": str(args.slowdown)}
        worker = (sys.executable, "-m", "benchmarks.verdicts", "worker")
        executor = Executor(Store(Path(folder) / "bench.db"), worker_command=worker, pool=PoolSettings(blank=False))
        executor.start()
        try:
            for words, slow in (("identical", False), (f"{100 * args.slowdown:g} % slower", True)):
                found: Counter[Verdict] = Counter()
                for number in range(args.times):
                    row = executor.comparing.wait(executor.comparing.submit(comparison(slow, args.tokens)))
                    assert row is not None
                    two = row.result.variants[1]
                    found[two.verdict] += 1
                    ratio = two.ratio
                    shown = f"{ratio.value:.4f} x ({ratio.low:.4f} to {ratio.high:.4f})" if ratio else two.error
                    print(f"{words} {number + 1}: {two.verdict}, {shown}, {len(two.process_ns)} processes", file=sys.stderr)
                print(f"{words}: " + ", ".join(f"{count} x {verdict}" for verdict, count in found.items()))
        finally:
            executor.close()
    return 0


def _worker() -> None:
    """A real worker whose null sessions take time."""
    from backends import null
    from stepscope.worker import __main__ as worker
    from stepscope.worker import phases

    factor = [1.0]
    plain, resolve = null.NullSession.step, phases.resolve

    def step(self, state, tokens, parents):  # type: ignore[no-untyped-def]
        end = time.perf_counter_ns() + STEP_NS * factor[0]
        found = plain(self, state, tokens, parents)
        while time.perf_counter_ns() < end:
            pass
        return found

    def resolved(request):  # type: ignore[no-untyped-def]
        factor[0] = 1.0 + float(os.environ["NULL_SLOWDOWN"]) * (MARK in request.techniques)
        return resolve(request)

    null.NullSession.step, phases.resolve = step, resolved  # type: ignore[method-assign,assignment]
    worker.main()


if __name__ == "__main__":
    sys.argv.remove("worker")
    _worker()
