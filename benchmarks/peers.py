"""Holds the native engine against every peer on equal work, for the README's first table.

Every contender runs in fresh worker processes, interleaved (A B C A B C), seven repetitions in each of at least three; it is
first tried at one and at all threads and then runs at its better count. A ratio is taken per round between medians of whole
generations; the median over rounds is reported with a bootstrap interval. For the native engine: the bytes of weights that a
step reads, how fast, and what share that is of the rate at which as many threads read as many bytes and do nothing else.

Optimum's export under ONNX Runtime is no contender: optimum-onnx 0.1 needs transformers below 4.58.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import sacrebleu

from backends.native import library
from benchmarks import _table
from stepscope.core import catalog, models
from stepscope.core.compatibility import accepted
from stepscope.core.errors import StepScopeError
from stepscope.core.events import RunStatus
from stepscope.core.request import RunRequest, Search
from stepscope.core.statistics import bootstrap_median, median
from stepscope.runs import machine
from stepscope.runs.executor import Executor, PoolSettings
from stepscope.runs.home import home
from stepscope.runs.store import Store

EXACT = ("self_kv_cache", "cross_kv_cache", "sdpa", "graph_optimization", "beam_lazy_reorder", "drop_finished_rows")
REPETITIONS = 7


@dataclass(frozen=True, slots=True)
class Contender:
    title: str
    backend: str
    more: tuple[str, ...] = ()

    @property
    def small(self) -> bool:
        """Whether its weights have 8 bits or fewer."""
        return any("int" in key for key in self.more)


NATIVE, NATIVE4, NATIVE32 = OURS = (
    Contender("native int8", "native", ("int8_dynamic",)),
    Contender("native int4", "native", ("int4_weight_only",)),
    Contender("native fp32", "native"),
)
VARIANTS = (
    Contender("native int8, activations 16 bits", "native", ("int8_weight_only",)),
    Contender("native int8, shortlist", "native", ("int8_dynamic", "shortlist")),
    Contender("native int4, shortlist", "native", ("int4_weight_only", "shortlist")),
    Contender("native fp32, self-drafting", "native", ("self_drafting", "exact_head")),
)
CT2 = Contender("CTranslate2 int8", "ctranslate2", ("int8_dynamic",))
PEERS = (
    Contender("transformers generate", "pytorch_generate"),
    Contender("transformers int8", "pytorch_generate", ("int8_dynamic",)),
    Contender("CTranslate2 fp32", "ctranslate2"),
    CT2,
    Contender("ONNX Runtime fp32", "onnxruntime"),
    Contender("ONNX Runtime int8", "onnxruntime", ("int8_dynamic",)),
    Contender("OpenVINO fp32", "openvino"),
    Contender("OpenVINO int8", "openvino", ("int8_weight_only",)),
)
ALL = (*PEERS, *OURS, *VARIANTS)


@dataclass(frozen=True, slots=True)
class Work:
    """inputs: how many; length: tokens of each; new_tokens: exactly. Length 0: texts of the evaluation set, and at most."""

    title: str
    model: str
    length: int
    new_tokens: int
    inputs: int = 1
    beams: int = 1

    def texts(self) -> tuple[str, ...]:
        if self.length:
            return tuple(" ".join(["word"] * (self.length - 2) + [str(at)]) for at in range(self.inputs))
        rows = (models.ROOT / self.model / "eval.tsv").read_text(encoding="utf-8").splitlines()
        return tuple(row.split("\t")[0] for row in rows[: self.inputs])


ROWS = (
    Work("t5-small, 64 in, 64 out, greedy", "random:t5-small", 64, 64),
    Work("t5-small, 64 in, 64 out, beam 4", "random:t5-small", 64, 64, beams=4),
    Work("t5-small, 64 in, 64 out, batch 8", "random:t5-small", 64, 64, inputs=8),
    Work("t5-small, 512 in, 64 out", "random:t5-small", 512, 64),
    Work("flan-t5-base, 64 in, 64 out, greedy", "random:flan-t5-base", 64, 64),
    Work("en-de-small, 30 of eval.tsv in one batch", "en-de-small", 0, 160, inputs=30),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """total_ns: of a whole generation; step_ns: median, 0 where no step is seen; artifact: digest of the converted model."""

    total_ns: float
    step_ns: float
    texts: tuple[str, ...]
    artifact: str


Rounds = list[dict[Contender, Measured]]


def measure(executor: Executor, who: Contender, work: Work, threads: int, repetitions: int) -> Measured | None:
    """Medians of one process, None when it cannot be."""
    techniques = (*accepted(EXACT, catalog.backend(who.backend), "cpu"), *who.more)
    search = Search(num_beams=work.beams, max_new_tokens=work.new_tokens, exact_tokens=bool(work.length))
    request = RunRequest(
        work.model, work.texts(), who.backend, techniques, models.default_prefix(work.model), search,
        threads=threads, repetitions=repetitions, time_limit_s=3600,
    )  # fmt: skip
    try:
        run_id = executor.submit(request)
    except StepScopeError as error:
        print(f"{who.title}: {error}", file=sys.stderr)
        return None
    row = executor.wait(run_id)
    if row is None or row.status is not RunStatus.DONE or not row.summary.total_ns:
        print(f"{who.title}: {row.error.message if row is not None and row.error else 'no result'}", file=sys.stderr)
        return None
    result = executor.store.result(run_id)
    digest = result.converted.digest if result.converted else ""
    return Measured(row.summary.total_ns, result.summary().step_p50_ns or 0, result.texts, digest)


def bandwidth(who: Contender, work: Work, threads: int, step_ns: float) -> str:
    """Of the native engine: bytes of weights per step, the rate, and its share of the rate of reading alone."""
    digest = artifact_of[who, work]
    about = json.loads((home() / "artifacts" / digest / "native.json").read_text())
    places = about["matrices"]
    ends = [m["at"] for m in places[1:]] + [(home() / "artifacts" / digest / "weights.bin").stat().st_size]
    read = sum(end - m["at"] for m, end in zip(places, ends, strict=True) if m["side"] == 1 or m["name"] == "lm_head")
    alone_ns = library.load(print).native_stream(read, threads, 31)
    return f"{read / 1e6:.1f} MB a step, {read / step_ns:.1f} GB/s, {100 * alone_ns / step_ns:.0f} % of reading alone"


artifact_of: dict[tuple[Contender, Work], str] = {}


def ratios(rounds: Rounds, over: Contender, under: Contender) -> str:
    """How many times faster ``over`` is than ``under``."""
    found = [each[under].total_ns / each[over].total_ns for each in rounds if over in each and under in each]
    if not found:
        return "–"
    low, high = bootstrap_median(found)
    return f"{median(found):.2f} x ({low:.2f}-{high:.2f})"


def compare(executor: Executor, work: Work, args: argparse.Namespace) -> tuple[dict[Contender, int], Rounds]:
    """Each contender's better thread count, and the rounds."""
    best: dict[Contender, int] = {}
    for who in (who for who in ALL if not args.small or (who.small and who not in VARIANTS)):
        tried = {n: measure(executor, who, work, n, 3) for n in sorted({1, machine.usable_cores()})}
        if found := {n: t for n, t in tried.items() if t is not None}:
            best[who] = min(found, key=lambda n: found[n].total_ns)
            artifact_of[who, work] = found[best[who]].artifact
    rounds = []
    for number in range(args.rounds):
        print(f"{work.title}: round {number + 1} of {args.rounds}", file=sys.stderr)
        times = {who: measure(executor, who, work, threads, REPETITIONS) for who, threads in best.items()}
        rounds.append({who: t for who, t in times.items() if t is not None})
    return best, rounds


def row_of(work: Work, best: dict[Contender, int], rounds: Rounds) -> str:
    middle = {who: median([each[who].total_ns for each in rounds if who in each]) for who in best}
    rivals = [who for who in PEERS if who.small and who in middle]
    rival = min(rivals, key=lambda who: middle[who])
    return (
        f"| {work.title} | {middle[NATIVE] / 1e6:.1f} | {ratios(rounds, NATIVE, CT2)} "
        f"| {ratios(rounds, NATIVE, rival)} ({rival.title}) | {ratios(rounds, NATIVE4, CT2)} "
        f"| {ratios(rounds, NATIVE32, PEERS[0])} |"
    )


def detail(who: Contender, work: Work, threads: int, found: list[Measured]) -> str:
    words = f"  {who.title:<33} {threads} thread(s) {median([each.total_ns for each in found]) / 1e6:9.1f} ms"
    if who.backend == "native" and work.length and "self_drafting" not in who.more:
        words += f"   {bandwidth(who, work, threads, median([each.step_ns for each in found]))}"
    if not work.length:
        rows = (models.ROOT / work.model / "eval.tsv").read_text(encoding="utf-8").splitlines()[: work.inputs]
        references = [row.split("\t")[1] for row in rows]
        words += f"   BLEU {sacrebleu.corpus_bleu(list(found[-1].texts), [references]).score:.1f}"
    return words


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers", description=__doc__)
    parser.add_argument("--row", type=int, action="append", help=f"only these, from 1 to {len(ROWS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="only contenders of 8 bits and fewer, without the variants")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    args = parser.parse_args(arguments)
    facts = machine.describe()
    lines = [
        f"{facts['processor']}, {facts['usable_cores']} cores; {REPETITIONS} repetitions in each of {args.rounds} "
        "processes, interleaved, each contender at its better thread count. Whole generations: median of the ratios (95 % "
        "interval).",
        "",
        "| work | native int8, ms | native int8 against CTranslate2 int8 | against the best other at 8 bits | native int4 "
        "against CTranslate2 int8 | native fp32 against transformers generate |",
        "|---|---|---|---|---|---|",
    ]
    details = []
    artifacts = home() / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEPSCOPE_HOME"] = folder
        (Path(folder) / "artifacts").symlink_to(artifacts)
        executor = Executor(Store(Path(folder) / "bench.db"), pool=PoolSettings(blank=False, warm_bytes=0))
        executor.start()
        try:
            for number, work in enumerate(ROWS, 1):
                if args.row and number not in args.row:
                    continue
                best, rounds = compare(executor, work, args)
                lines.append(row_of(work, best, rounds))
                details.append(f"{work.title}:")
                details += [
                    detail(who, work, threads, [r[who] for r in rounds if who in r]) for who, threads in best.items()
                ]
                print("\n".join([lines[-1], *details]), file=sys.stderr)
        finally:
            executor.close()
    print("\n".join([*lines, "", *details]))
    if args.write:
        _table.write("peers", lines)
    return 0
