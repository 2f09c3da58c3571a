"""Measures what each weight type costs in quality: the shipped model's evaluation set, translated by every runtime.

BLEU and chrF against the references of eval.tsv (sacrebleu), and the share of tokens equal to the float32 reference's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import sacrebleu

from benchmarks import _table
from benchmarks.runtimes import Cell, cells
from stepscope.core import models
from stepscope.core.events import RunStatus
from stepscope.core.request import RunRequest, Search
from stepscope.runs import machine
from stepscope.runs.executor import Executor, PoolSettings
from stepscope.runs.home import home
from stepscope.runs.store import Store

MODEL, BATCH = "en-de-small", 25


def measure(executor: Executor, cell: Cell, sources: list[str], args: argparse.Namespace) -> tuple[list[str], float] | str:
    """Outputs and the mean share of equal tokens, or why there are none."""
    texts: list[str] = []
    shares: list[float] = []
    for at in range(0, len(sources), BATCH):
        request = RunRequest(
            MODEL, tuple(sources[at : at + BATCH]), cell.backend, cell.techniques, models.default_prefix(MODEL),
            Search(num_beams=args.beams, max_new_tokens=160), threads=args.threads, repetitions=1,
        )  # fmt: skip
        run_id = executor.submit(request)
        row = executor.wait(run_id)
        if row is None or row.status is not RunStatus.DONE:
            return str(row.error.message if row is not None and row.error else "no result")
        result = executor.store.result(run_id)
        texts += result.texts
        shares.append(row.equal_share or 0.0)
    return texts, sum(shares) / len(shares)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks quality", description=__doc__)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--threads", type=int, default=machine.usable_cores())
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    args = parser.parse_args(arguments)
    rows = (models.ROOT / MODEL / "eval.tsv").read_text(encoding="utf-8").splitlines()
    sources, references = ([row.split("\t")[at] for row in rows] for at in (0, 1))
    lines = [
        f"{MODEL}, {len(rows)} sentences and paragraphs of eval.tsv, {args.beams} beam(s). Equal: tokens at equal "
        "positions, against transformers' `generate` in float32.",
        "",
        "| backend | weights | BLEU | chrF | tokens equal |",
        "|---|---|---|---|---|",
    ]
    artifacts = home() / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEPSCOPE_HOME"] = folder
        (Path(folder) / "artifacts").symlink_to(artifacts)
        executor = Executor(Store(Path(folder) / "bench.db"), pool=PoolSettings(blank=False))
        executor.start()
        try:
            for cell in cells()[0]:
                if "compile" in cell.weights:
                    continue  # the same arithmetic, and a compilation for every batch
                got = measure(executor, cell, sources, args)
                print(cell.backend, cell.weights, got if isinstance(got, str) else "", file=sys.stderr)
                if isinstance(got, str):
                    continue
                texts, share = got
                bleu = sacrebleu.corpus_bleu(texts, [references]).score
                chrf = sacrebleu.corpus_chrf(texts, [references]).score
                lines.append(f"| {cell.backend} | {cell.weights} | {bleu:.1f} | {chrf:.1f} | {100 * share:.1f} % |")
        finally:
            executor.close()
    print("\n".join(lines))
    if args.write:
        _table.write("quality", lines)
    return 0
