"""The command line's options for a request, shared by its commands."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from stepscope.core import catalog, compatibility, inputs, models
from stepscope.core.errors import RequestError
from stepscope.core.presets import PRESETS, preset
from stepscope.core.request import RunRequest, Search, split_lines


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """All of a request but its stack."""
    add = parser.add_argument
    add("--model", help="a key, a folder, hub:OWNER/NAME[@REVISION] or random:SHAPE; default: the first available")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--request", metavar="FILE", help="all of it, as .toml or .json; other options are ignored")
    source.add_argument("--text", help="the input; several lines are a batch")
    source.add_argument("--input", metavar="FILE", help=".txt with one input a line, .csv or .jsonl; - for standard input")
    add("--column", help="of a .csv or .jsonl")
    add("--prefix", help="put before every input; default: the model's own")
    add("--num-beams", type=int, default=1, help="1 is greedy search")
    add("--max-new-tokens", type=int, default=64, help="at most that many")
    add("--exact-tokens", type=int, metavar="N", help="exactly that many: the end of sequence is suppressed")
    add("--length-penalty", type=float, default=1.0, help="scores are divided by length to this power")
    add("--early-stopping", action="store_true", help="stop at as many finished hypotheses as beams")
    add("--threads", type=int, default=1, help="of the runtime")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="where the model runs")
    add("--repetitions", type=int, default=3, help="scored repetitions")
    add("--memory-limit", type=float, default=0.0, metavar="GB", help="0: most of what is available")
    add("--keep-float", default="", metavar="A,B", help="quantization leaves layers named so alone, where it can")
    add("--calibration", default="", metavar="FILE", help="inputs that static quantization sees; default: eval.tsv")
    add("--time-limit", type=float, default=600.0, metavar="S", help="for the whole run")


def request_of(args: argparse.Namespace) -> RunRequest:
    """The request that the options describe. Raises RequestError, Unavailable."""
    model = args.model or models.default_key()
    start = _preset(args.preset)
    backend = args.backend or start.backend
    if args.techniques is not None:
        techniques = tuple(key.strip() for key in args.techniques.split(",") if key.strip())
    else:
        techniques = start.techniques
        if backend != start.backend:
            techniques = compatibility.accepted(techniques, catalog.backend(backend), args.device)
    return RunRequest(
        model=model,
        inputs=_inputs(args),
        backend=backend,
        techniques=techniques,
        prefix=models.default_prefix(model) if args.prefix is None else args.prefix,
        search=Search(
            num_beams=args.num_beams,
            max_new_tokens=args.max_new_tokens if args.exact_tokens is None else args.exact_tokens,
            exact_tokens=args.exact_tokens is not None,
            length_penalty=args.length_penalty,
            early_stopping=args.early_stopping,
        ),
        threads=args.threads,
        device=args.device,
        repetitions=args.repetitions,
        memory_limit_bytes=round(args.memory_limit * 1e9),
        time_limit_s=args.time_limit,
        keep_float=tuple(part.strip() for part in args.keep_float.split(",") if part.strip()),
        calibration=args.calibration,
    )


def _preset(key: str) -> Any:
    known = [item.key for item in PRESETS]
    if key not in known:
        raise RequestError(f"There is no preset {key!r}.{catalog.did_you_mean(key, known)}")
    return preset(key)


def _inputs(args: argparse.Namespace) -> tuple[str, ...]:
    if args.text is not None:
        return split_lines(args.text)
    if args.input == "-":
        return inputs.read_inputs("stdin.txt", sys.stdin.buffer.read())
    try:
        data = Path(args.input).read_bytes()
    except OSError as error:
        raise RequestError(f"{args.input} cannot be read: {error.strerror}.", "Check the path.") from None
    return inputs.read_inputs(args.input, data, args.column)
