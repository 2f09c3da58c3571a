"""The instrument without a browser: the same request, worker and store, for scripts and for machines one only has ssh to.

Exit status: 0 when it worked, 2 for a request that cannot be (one line says why), 1 when a run failed, 3 when a comparison
found a regression.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepscope.core import artifacts, catalog, models
from stepscope.core.errors import RequestError, Unavailable
from stepscope.core.presets import DEFAULT, PRESETS
from stepscope.core.request import RunRequest
from stepscope.core.spec_files import read_comparison, read_request
from stepscope.core.stages import RunStatus
from stepscope.runs.comparison_document import csv_text, regressions, stored_result
from stepscope.runs.comparison_document import document as comparison_document
from stepscope.runs.document import document
from stepscope.runs.executor import Executor, PoolSettings
from stepscope.runs.home import home, open_store
from stepscope.runs.store import RunFilter, RunRow, Store

from .options import add_request_options, request_of
from .terminal import comparison_lines, follow, follow_comparison, row_line, summary_lines
from .ui.compare_report import report

_POOL = PoolSettings(blank=False, max_warm=1)


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return int(args.do(args))
    except (RequestError, Unavailable) as error:
        print(f"stepscope: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has had enough
        return 0


def _run(args: argparse.Namespace) -> int:
    request = _request(args)
    if args.json not in (None, "-") and not Path(args.json).absolute().parent.is_dir():
        raise RequestError(f"There is no folder {Path(args.json).absolute().parent}.", "Make it, or write elsewhere.")
    store = open_store()
    executor = Executor(store, pool=_POOL)
    executor.start()
    try:
        run_id = executor.submit(request)
        follow(store, executor, run_id)
    finally:
        executor.close()
    row = store.run(run_id)
    assert row is not None
    if args.json == "-":
        _print_json(document(row, store.result(run_id)))
    elif args.json:
        Path(args.json).write_text(_text(document(row, store.result(run_id))) + "\n", encoding="utf-8")
    else:
        print("\n".join(summary_lines(row, store.result(run_id))))
    if row.error:
        print(f"stepscope: {row.error.message} {row.error.action}".rstrip(), file=sys.stderr)
        if row.error.details:
            print(row.error.details, file=sys.stderr)
    return 0 if row.status is RunStatus.DONE else 1


def _request(args: argparse.Namespace) -> RunRequest:
    if not args.request:
        return request_of(args)
    try:
        return read_request(args.request, Path(args.request).read_bytes())
    except OSError as error:
        raise RequestError(f"{args.request} cannot be read: {error.strerror}.", "Check the path.") from None


def _compare(args: argparse.Namespace) -> int:
    """Exit status 3: --check found a regression."""
    file = Path(args.spec)
    try:
        spec = read_comparison(file.name, file.read_bytes(), file.parent)
        stored = stored_result(Path(args.check).read_text(encoding="utf-8")) if args.check else None
    except OSError as error:
        raise RequestError(f"{error.filename} cannot be read: {error.strerror}.", "Check the path.") from None
    store = open_store()
    executor = Executor(store, pool=_POOL)
    executor.start()
    try:
        comparison_id = executor.comparing.submit(spec)
        row = follow_comparison(executor.comparing, comparison_id)
    finally:
        executor.close()
    wanted: tuple[tuple[str | None, Callable[[], str]], ...] = (
        (args.json, lambda: _text(comparison_document(row))),
        (args.csv, lambda: csv_text(row.result)),
        (args.html, lambda: report(row)),
    )
    for place, make in wanted:
        if place == "-":
            print(make(), flush=True)
        elif place:
            Path(place).write_text(make().rstrip("\n") + "\n", encoding="utf-8")
    if "-" not in (args.json, args.csv, args.html):
        print("\n".join(comparison_lines(row)))
    if row.error:
        print(f"stepscope: {row.error.message} {row.error.action}".rstrip(), file=sys.stderr)
    if stored is not None:
        before, fingerprint = stored
        if fingerprint != row.fingerprint:
            print("stepscope: the stored comparison is of another machine or other versions", file=sys.stderr)
        for words in (found := regressions(before, row)):
            print(f"stepscope: regressed: {words}", file=sys.stderr)
        if found:
            return 3
    return 0 if row.status is RunStatus.DONE and not any(v.error for v in row.result.variants) else 1


def _list(args: argparse.Namespace) -> int:
    """One line each: key, what it is, and why it cannot be used when it cannot."""
    rows: list[dict[str, Any]]
    match args.what:
        case "models":
            rows = [{"key": m.key, "title": m.title, "unavailable": m.unavailable} for m in models.entries()]
        case "presets":
            rows = [
                {"key": p.key, "title": p.title, "backend": p.backend, "techniques": list(p.techniques),
                 "summary": p.summary} for p in PRESETS
            ]  # fmt: skip
        case "backends":
            rows = [
                {"key": e.key, "title": e.spec.title if e.spec else e.key, "unavailable": e.reason}
                for e in catalog.backends().values()
            ]
        case _:
            rows = [
                {"key": e.key, "title": e.spec.title if e.spec else e.key, "unavailable": e.reason,
                 **({"stage": e.spec.stage.value, "exact": e.spec.exact} if e.spec else {})}
                for e in catalog.techniques().values()
            ]  # fmt: skip
    if args.json:
        _print_json(rows)
        return 0
    width = max(len(row["key"]) for row in rows)
    for row in rows:
        note = f"  (not available: {row['unavailable']})" if row.get("unavailable") else ""
        print(f"{row['key']:<{width}}  {row.get('summary') or row['title']}{note}")
    return 0


def _show(args: argparse.Namespace) -> int:
    store = open_store()
    row = _stored(store, args.run_id)
    if args.json:
        _print_json(document(row, store.result(row.id)))
    else:
        print("\n".join(summary_lines(row, store.result(row.id))))
    return 0


def _stored(store: Store, run_id: str) -> RunRow:
    row = store.run(run_id)
    if row is None:
        raise RequestError(f"There is no run {run_id!r}.", "See: python -m stepscope history")
    return row


def _history(args: argparse.Namespace) -> int:
    rows = open_store().runs(RunFilter(text=args.search), limit=args.limit)
    for row in rows:
        print(row_line(row))
    if not rows:
        print("No run matches." if args.search else "No run yet.", file=sys.stderr)
    return 0


def _artifacts(args: argparse.Namespace) -> int:
    """One converted model a line: name, size, seconds it took, what it is."""
    if args.clear is not None:
        print(f"{artifacts.clear(home(), args.clear) / 1e6:,.0f} MB freed")
        return 0
    found = artifacts.listed(home())
    for artifact in found:
        print(f"{artifact.digest}  {artifact.bytes / 1e6:>8,.0f} MB  {artifact.convert_s:>6.1f} s  {artifact.about}")
    if not found:
        print("No converted model.", file=sys.stderr)
    return 0


def _text(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


def _print_json(value: object) -> None:
    print(_text(value), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stepscope", description="Measure a T5-like model and a stack of techniques, without a browser."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="carry out one run", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    run.set_defaults(do=_run)
    add_request_options(run)
    run.add_argument("--preset", default=DEFAULT, help="stack to start from; see: list presets")
    run.add_argument("--backend", help="instead of the preset's; see: list backends")
    run.add_argument(
        "--techniques",
        help="comma-separated keys instead of the preset's (of which another backend takes what it can); '' is naive",
    )
    run.add_argument("--json", metavar="OUT", help="write the run's document there; - for standard output and nothing else")

    compare = commands.add_parser("compare", help="several stacks on the same inputs, with verdicts")
    compare.set_defaults(do=_compare)
    compare.add_argument("--spec", required=True, metavar="FILE", help=".toml or .json; see docs/comparing.md")
    compare.add_argument("--json", metavar="OUT", help="write the comparison's document there; - for standard output")
    compare.add_argument("--csv", metavar="OUT", help="write one line a variant there; - for standard output")
    compare.add_argument("--html", metavar="OUT", help="write a report that needs nothing else there")
    compare.add_argument("--check", metavar="STORED", help="a document of --json: exit 3 when a variant has regressed")

    listing = commands.add_parser("list", help="what there is to choose from")
    listing.set_defaults(do=_list)
    listing.add_argument("what", choices=("models", "backends", "techniques", "presets"))
    listing.add_argument("--json", action="store_true")

    show = commands.add_parser("show", help="a stored run")
    show.set_defaults(do=_show)
    show.add_argument("run_id")
    show.add_argument("--json", action="store_true", help="its whole document")

    history = commands.add_parser("history", help="stored runs, newest first")
    history.set_defaults(do=_history)
    history.add_argument("--search", default="", help="part of id, model, backend, technique or input")
    history.add_argument("--limit", type=int, default=20)

    converted = commands.add_parser("artifacts", help="converted models on disk")
    converted.set_defaults(do=_artifacts)
    converted.add_argument("--clear", nargs="?", const="", metavar="NAME", help="remove one, or all")
    return parser
