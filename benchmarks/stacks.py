"""Compares the techniques of this project with each other and with transformers, interleaved, for the README's table.

Each round runs every stack once in a fresh worker process, one after the other (A B C A B C); the ratio of a stack is taken
to the baseline of the same round, and the median over rounds is reported with a bootstrap interval.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _table
from stepscope.core.events import RunStatus
from stepscope.core.request import RunRequest, Search
from stepscope.core.statistics import bootstrap_median, median
from stepscope.runs import machine
from stepscope.runs.executor import Executor, PoolSettings
from stepscope.runs.store import Store

INPUT = "The quick brown fox jumps over the lazy dog while the old farmer watches from his wooden chair near the barn. " * 3
CACHES = ("cross_kv_cache", "self_kv_cache")
BASELINE = "transformers generate"


@dataclass(frozen=True, slots=True)
class Stack:
    title: str
    backend: str
    techniques: tuple[str, ...]
    beams: int = 1


STACKS = (
    Stack(BASELINE, "pytorch_generate", (*CACHES, "sdpa")),
    Stack("naive: no cache", "pytorch", ()),
    Stack("+ self-attention KV cache", "pytorch", ("self_kv_cache",)),
    Stack("+ cross-attention KV cache", "pytorch", CACHES),
    Stack("+ fused attention", "pytorch", (*CACHES, "sdpa")),
    Stack("bfloat16", "pytorch", (*CACHES, "sdpa", "bf16")),
    Stack("dynamic int8", "pytorch", (*CACHES, "sdpa", "int8_dynamic")),
    Stack(BASELINE, "pytorch_generate", (*CACHES, "sdpa"), 4),
    Stack("beams: naive", "pytorch", (*CACHES, "sdpa", "beam_naive"), 4),
    Stack("beams: vectorized", "pytorch", (*CACHES, "sdpa", "beam_vectorized"), 4),
    Stack("beams: lazy reorder", "pytorch", (*CACHES, "sdpa", "beam_lazy_reorder"), 4),
    Stack("beams: lazy reorder, dynamic int8", "pytorch", (*CACHES, "sdpa", "beam_lazy_reorder", "int8_dynamic"), 4),
)


@dataclass(frozen=True, slots=True)
class Figures:
    total_ns: int
    itl_ns: int
    peak_rss_bytes: int
    equal_share: float


def measure(executor: Executor, stack: Stack, args: argparse.Namespace) -> Figures:
    search = Search(num_beams=stack.beams, max_new_tokens=args.new_tokens, exact_tokens=True)
    request = RunRequest(
        args.model, (INPUT,), stack.backend, stack.techniques, search=search, threads=args.threads, repetitions=3
    )
    run_id = executor.submit(request)
    row = executor.wait(run_id)
    if row is None or row.status is not RunStatus.DONE:
        raise SystemExit(f"{stack.title} ended as {row.status if row else 'nothing'}: {row.error if row else ''}")
    summary = row.summary
    assert summary.total_ns and summary.itl_p50_ns and summary.peak_rss_bytes and row.equal_share is not None
    return Figures(summary.total_ns, summary.itl_p50_ns, summary.peak_rss_bytes, row.equal_share)


def table(rounds: list[list[Figures]], args: argparse.Namespace) -> list[str]:
    facts = machine.describe()
    lines = [
        f"{args.model}, {args.new_tokens} new tokens exactly, batch 1, {args.threads} thread(s), "
        f"{len(rounds)} processes each, interleaved; {facts['processor']}, {facts['usable_cores']} cores. "
        f"Ratios are to transformers' `generate` of the same round: median (95 % interval).",
        "",
        "| stack | beams | faster, whole generation | ITL p50, ms | peak memory, MB | tokens equal |",
        "|---|---|---|---|---|---|",
    ]
    for at, stack in enumerate(STACKS):
        base = next(i for i, other in enumerate(STACKS) if other.title == BASELINE and other.beams == stack.beams)
        ratios = [each[base].total_ns / each[at].total_ns for each in rounds]
        low, high = bootstrap_median(ratios)
        ratio = "1" if at == base else f"{median(ratios):.2f} x ({low:.2f}-{high:.2f})"
        lines.append(
            f"| {stack.title} | {stack.beams} | {ratio} | {median([each[at].itl_ns for each in rounds]) / 1e6:.1f} "
            f"| {median([each[at].peak_rss_bytes for each in rounds]) / 1e6:.0f} | {100 * rounds[0][at].equal_share:.0f} % |"
        )
    return lines


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks stacks", description=__doc__)
    parser.add_argument("--model", default="random:t5-small")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEPSCOPE_HOME"] = folder
        executor = Executor(Store(Path(folder) / "bench.db"), pool=PoolSettings(blank=False, warm_bytes=0))
        executor.start()
        try:
            rounds = []
            for number in range(args.rounds):
                print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
                rounds.append([measure(executor, stack, args) for stack in STACKS])
        finally:
            executor.close()
    lines = table(rounds, args)
    print("\n".join(lines))
    if args.write:
        _table.write("stacks", lines)
    return 0
