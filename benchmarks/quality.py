"""Measures what each weight type costs in quality: the shipped model's evaluation set, translated by every runtime.

BLEU and chrF against the references of eval.tsv (sacrebleu), the share of tokens equal to the float32 reference's, and by
teacher forcing with the reference's tokens: the root mean square error of their log-probabilities, and how often the best
candidate is another one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
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

MODEL, BATCH, FORCED = "en-de-small", 25, 60


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


Scores = list[dict[int, float]]  # log-probabilities of the candidates by token, for each forced token


def forced(executor: Executor, cell: Cell, sources: list[str], tokens: tuple[tuple[int, ...], ...], threads: int) -> Scores:
    """Empty where the runtime owns its loop."""
    request = RunRequest(
        MODEL, tuple(sources[: len(tokens)]), cell.backend, cell.techniques, models.default_prefix(MODEL), threads=threads,
        forced=tokens,
    )  # fmt: skip
    run_id = executor.submit(request)
    executor.wait(run_id)
    return [
        dict(zip(ids, scores, strict=True))
        for each in executor.store.result(run_id).forced
        for ids, scores in zip(each.ids, each.log_probs, strict=True)
    ]


def error(found: Scores, reference: Scores, tokens: tuple[tuple[int, ...], ...]) -> str:
    wanted = [token for ids in tokens for token in ids]
    if not found:
        return "– | –"
    rows = list(zip(found, reference, wanted, strict=True))
    squares = [(ours[token] - theirs[token]) ** 2 for ours, theirs, token in rows if token in ours and token in theirs]
    other = sum(next(iter(ours)) != next(iter(theirs)) for ours, theirs, _ in rows)
    return f"{(sum(squares) / len(squares)) ** 0.5:.4f} | {100 * other / len(rows):.2f} %"


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
        "| backend | weights | BLEU | chrF | tokens equal | log-probability error | other best candidate |",
        "|---|---|---|---|---|---|---|",
    ]
    artifacts = home() / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEPSCOPE_HOME"] = folder
        (Path(folder) / "artifacts").symlink_to(artifacts)
        executor = Executor(Store(Path(folder) / "bench.db"), pool=PoolSettings(blank=False))
        executor.start()
        try:
            plain = Cell("pytorch_generate", "float32", ("self_kv_cache", "cross_kv_cache"))
            first = RunRequest(MODEL, tuple(sources[:FORCED]), plain.backend, plain.techniques,
                               models.default_prefix(MODEL), Search(max_new_tokens=64), repetitions=1)  # fmt: skip
            run_id = executor.submit(first)
            executor.wait(run_id)
            tokens = executor.store.result(run_id).repetitions[-1].token_ids
            truth = forced(executor, replace(plain, backend="pytorch"), sources, tokens, args.threads)
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
                scores = error(forced(executor, cell, sources, tokens, args.threads), truth, tokens)
                figures = f"{bleu:.1f} | {chrf:.1f} | {100 * share:.1f} % | {scores}"
                lines.append(f"| {cell.backend} | {cell.weights} | {figures} |")
        finally:
            executor.close()
    print("\n".join(lines))
    if args.write:
        _table.write("quality", lines)
    return 0
