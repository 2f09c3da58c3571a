"""Runs every available backend with every weight type it has on equal work, interleaved, for the README's runtime table.

Each round runs every cell once in a fresh worker process (A B C A B C); a cell's ratio is taken to transformers' generate of
the same round, and the median over rounds is reported with a bootstrap interval. What cannot run is listed with its reason.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _table
from stepscope.core import catalog
from stepscope.core.compatibility import accepted, stack_reasons
from stepscope.core.events import RunStatus
from stepscope.core.request import RunRequest, Search
from stepscope.core.statistics import bootstrap_median, median
from stepscope.runs import machine
from stepscope.runs.executor import Executor, PoolSettings
from stepscope.runs.home import home
from stepscope.runs.store import Store

BASELINE = "pytorch_generate"
EXACT = ("self_kv_cache", "cross_kv_cache", "sdpa", "graph_optimization", "beam_lazy_reorder")
COMPILED = ("self_kv_cache", "cross_kv_cache", "torch_compile", "beam_vectorized")
MODELS = ("random:t5-small", "random:t5-base")


@dataclass(frozen=True, slots=True)
class Cell:
    backend: str
    weights: str
    techniques: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    total_ns: int
    itl_ns: int | None
    weight_bytes: int
    peak_rss_bytes: int
    equal_share: float


def cells() -> tuple[list[Cell], list[str]]:
    """All that can be here, the baseline first, and why the others cannot."""
    found, missing = [], []
    types = sorted(e.spec.key for e in catalog.techniques().values() if e.spec is not None and e.spec.group == "weights")
    for key, entry in catalog.backends().items():
        spec = entry.spec
        if spec is None or entry.reason or "cpu" not in spec.devices:
            why = entry.reason or f"runs on {' and '.join(sorted(spec.devices if spec else ()))} only"
            missing.append(f"{key}: {why}")
            continue
        if not spec.needs_model:
            continue
        exact = accepted(EXACT, spec, "cpu")
        found.append(Cell(key, "float32", exact))
        for kind in types:
            stack = (*exact, kind)
            if not stack_reasons([catalog.technique(each) for each in stack], spec, "cpu"):
                found.append(Cell(key, kind, stack))
        if "torch_compile" in spec.honours:
            found.append(Cell(key, "float32, torch.compile", COMPILED))
    return sorted(found, key=lambda cell: cell.backend != BASELINE), missing


def measure(executor: Executor, cell: Cell, model: str, args: argparse.Namespace) -> Figures | str:
    """The figures, or why there are none."""
    search = Search(num_beams=args.beams, max_new_tokens=args.new_tokens, exact_tokens=True)
    inputs = tuple(" ".join(["word"] * (args.input_tokens - 2) + [str(at)]) for at in range(args.batch))
    request = RunRequest(
        model, inputs, cell.backend, cell.techniques, search=search, threads=args.threads, repetitions=3, time_limit_s=3600
    )
    row = executor.wait(executor.submit(request))
    if row is None or row.status is not RunStatus.DONE:
        return str(row.error.message if row is not None and row.error else "no result")
    summary = row.summary
    assert summary.total_ns and summary.peak_rss_bytes and summary.weight_bytes and row.equal_share is not None
    return Figures(summary.total_ns, summary.itl_p50_ns, summary.weight_bytes, summary.peak_rss_bytes, row.equal_share)


def table(model: str, chosen: list[Cell], rounds: list[dict[Cell, Figures]]) -> list[str]:
    lines = [
        f"**{model}**",
        "",
        "| backend | weights | faster, whole generation | ITL p50, ms | weights, MB | peak memory, MB | tokens equal |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in chosen:
        each = [figures[cell] for figures in rounds]
        ratios = [figures[chosen[0]].total_ns / figures[cell].total_ns for figures in rounds]
        low, high = bootstrap_median(ratios)
        ratio = "1" if cell is chosen[0] else f"{median(ratios):.2f} x ({low:.2f}-{high:.2f})"
        gaps = [f.itl_ns for f in each if f.itl_ns]
        itl = f"{median(gaps) / 1e6:.2f}" if gaps else "not visible"
        lines.append(
            f"| {cell.backend} | {cell.weights} | {ratio} | {itl} | {each[0].weight_bytes / 1e6:.0f} "
            f"| {median([f.peak_rss_bytes for f in each]) / 1e6:.0f} | {100 * each[0].equal_share:.0f} % |"
        )
    return lines


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks runtimes", description=__doc__)
    parser.add_argument("--model", action="append", help=f"default: {' and '.join(MODELS)}")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--input-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=machine.usable_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    args = parser.parse_args(arguments)
    facts = machine.describe()
    lines = [
        f"{args.input_tokens} tokens in, exactly {args.new_tokens} out, batch {args.batch}, {args.beams} beam(s), "
        f"{args.threads} thread(s), {args.rounds} processes each, interleaved; {facts['processor']}, "
        f"{facts['usable_cores']} cores. Ratios are to transformers' `generate` of the same round: median (95 % interval). "
        "With random weights near ties are many, so few equal tokens say little about quality."
    ]
    chosen, missing = cells()
    artifacts = home() / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEPSCOPE_HOME"] = folder
        (Path(folder) / "artifacts").symlink_to(artifacts)  # conversions are worth keeping, these runs are not
        executor = Executor(Store(Path(folder) / "bench.db"), pool=PoolSettings(blank=False, warm_bytes=0))
        executor.start()
        try:
            for model in args.model or MODELS:
                kept, rounds = list(chosen), []
                for number in range(args.rounds):
                    print(f"{model}: round {number + 1} of {args.rounds}", file=sys.stderr)
                    figures: dict[Cell, Figures] = {}
                    for cell in list(kept):
                        got = measure(executor, cell, model, args)
                        if isinstance(got, str):
                            kept.remove(cell)
                            missing.append(f"{cell.backend} {cell.weights}, {model}: {got}")
                        else:
                            figures[cell] = got
                    rounds.append(figures)
                lines += ["", *table(model, kept, rounds)]
        finally:
            executor.close()
    lines += ["", "Not here:", *(f"- {reason}" for reason in missing)]
    print("\n".join(lines))
    if args.write:
        _table.write("runtimes", lines)
    return 0
