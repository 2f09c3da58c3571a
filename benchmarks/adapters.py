"""Measures what our adapters add to the runtimes: a bare loop written for the runtime against the session, interleaved.

Both do the same greedy work with the same artifact, in one process; the ratio session / bare is taken per round.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from stepscope.conversion.onnx_graph import DECODER, EMBEDDING, ENCODER
from stepscope.conversion.stepping import Host
from stepscope.core import catalog
from stepscope.core.compatibility import accepted, resolve
from stepscope.core.plan import DecodePlan, LoadPlan
from stepscope.core.request import RunRequest, Search
from stepscope.core.session import TokenBatch
from stepscope.core.statistics import bootstrap_median, median
from stepscope.decoding.loop import decode
from stepscope.runs import machine
from stepscope.runs.home import home
from stepscope.worker import opening
from stepscope.worker.models import open_source

INPUT_TOKENS = 64
KINDS = {"onnxruntime": ("", "int8_dynamic"), "openvino": ("", "int8_weight_only"), "ctranslate2": ("", "int8_dynamic")}


def precomputed(directory: Path, batch: TokenBatch) -> tuple[Host, list[dict[str, Any]]]:
    """What a bare loop for fixed lengths would have at hand: every step's arrays but the token's embedding."""
    host = Host(directory, 1)
    state = host.new_state(batch)
    return host, [host.step_arrays(state, np.zeros(1, np.int64), None).arrays for _ in range(batch.max_new_tokens)]


def bare_onnxruntime(directory: Path, plan: LoadPlan, batch: TokenBatch, start: int) -> Callable[[], None]:
    import onnxruntime as ort

    host, steps = precomputed(directory, batch)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = plan.threads, 1
    encoder, decoder = (
        ort.InferenceSession(str(directory / name), options, providers=["CPUExecutionProvider"])
        for name in (ENCODER, DECODER)
    )
    table = np.asarray(np.load(directory / EMBEDDING, mmap_mode="r"))
    d, value = host.dimensions, ort.OrtValue.ortvalue_from_numpy
    names = [f"{what}_{at}" for at in range(d.decoder_layers) for what in "kv"]
    fixed = {"k": value(host.k), "cross_mask": value(host.cross_mask(batch))}
    feeds = host.encoder_arrays(batch)

    def run() -> None:
        cross = encoder.run_with_ort_values([f"cross_{n}" for n in names], {n: value(a) for n, a in feeds.items()})
        held = fixed | {f"cross_{n}": each for n, each in zip(names, cross, strict=True)}
        past = [value(np.zeros((1, d.heads, 0, d.size), np.float32)) for _ in names]
        outputs = ["ids", *(f"present_{n}" for n in names)]
        binding = decoder.io_binding()
        for n, each in held.items():
            binding.bind_ortvalue_input(n, each)
        token = start
        for arrays in steps:
            binding.bind_cpu_input("x", table[token].copy()[None, None])
            binding.bind_cpu_input("buckets", arrays["buckets"])
            binding.bind_cpu_input("mask", arrays["mask"])
            for n, each in zip(names, past, strict=True):
                binding.bind_ortvalue_input(f"past_{n}", each)
            binding.clear_binding_outputs()
            for n in outputs:
                binding.bind_output(n)
            decoder.run_with_iobinding(binding)
            ids, *past = binding.get_outputs()
            token = int(ids.numpy()[0, 0, 0])

    return run


def bare_openvino(directory: Path, plan: LoadPlan, batch: TokenBatch, start: int) -> Callable[[], None]:
    import openvino as ov
    from openvino import opset13 as ops

    host, steps = precomputed(directory, batch)
    core, config = ov.Core(), {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": plan.threads}
    config |= {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    model = core.read_model((directory / DECODER).with_suffix(".xml"))
    for parameter in model.get_parameters():
        if parameter.get_friendly_name() == "k":
            parameter.output(0).replace(ops.constant(host.k).output(0))
            model.remove_parameter(parameter)
    model.remove_result(model.output("log_probs").get_node())
    encoder = core.compile_model(core.read_model((directory / ENCODER).with_suffix(".xml")), "CPU", config)
    decoder = core.compile_model(model, "CPU", config)
    table = np.asarray(np.load(directory / EMBEDDING, mmap_mode="r"))
    d, feeds = host.dimensions, host.encoder_arrays(batch)
    cross_mask = host.cross_mask(batch)

    def run() -> None:
        first = encoder.create_infer_request()
        first.infer(feeds, share_inputs=True)
        request = decoder.create_infer_request()
        for variable in request.query_state():
            variable.state = ov.Tensor(np.zeros((1, d.heads, 0, d.size), np.float32))
        for at in range(d.decoder_layers):
            for what in "kv":
                request.set_tensor(f"cross_{what}_{at}", first.get_tensor(f"cross_{what}_{at}"))
        request.set_tensor("cross_mask", ov.Tensor(cross_mask, shared_memory=True))
        token = start
        for arrays in steps:
            x = table[token].copy()[None, None]
            tensors = [ov.Tensor(a, shared_memory=True) for a in (x, arrays["buckets"], arrays["mask"])]
            for name, tensor in zip(("x", "buckets", "mask"), tensors, strict=True):
                request.set_tensor(name, tensor)
            request.infer()
            token = int(request.get_tensor("ids").data[0, 0, 0])

    return run


def bare_ctranslate2(directory: Path, plan: LoadPlan, batch: TokenBatch, start: int) -> Callable[[], None]:
    import ctranslate2

    kind = "int8_float32" if plan.quantization != "none" else "float32"
    translator = ctranslate2.Translator(str(directory), compute_type=kind, intra_threads=plan.threads)
    row = [[str(token) for token in batch.ids[0]]]
    length = batch.max_new_tokens

    def run() -> None:
        translator.translate_batch(
            row, beam_size=1, max_input_length=0, max_decoding_length=length, min_decoding_length=length
        )

    return run


BARE = {"onnxruntime": bare_onnxruntime, "openvino": bare_openvino, "ctranslate2": bare_ctranslate2}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks adapters", description=__doc__)
    parser.add_argument("--model", default="random:t5-small")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=machine.usable_cores())
    parser.add_argument("--rounds", type=int, default=31)
    args = parser.parse_args(arguments)
    os.environ.setdefault("STEPSCOPE_HOME", str(home()))
    print("| backend | weights | session / bare, whole generation | bare, ms |\n|---|---|---|---|")
    for backend, kinds in KINDS.items():
        for kind in kinds:
            spec = catalog.backend(backend)
            techniques = (*accepted(("graph_optimization",), spec, "cpu"), *filter(None, [kind]))
            search = Search(max_new_tokens=args.new_tokens)
            request = RunRequest(args.model, ("",), backend, techniques, search=search, threads=args.threads)
            plan, decode_plan = resolve(request)
            ratios, base = compare(args.model, plan, decode_plan, args)
            low, high = bootstrap_median(ratios)
            print(f"| {backend} | {kind or 'float32'} | {median(ratios):.3f} ({low:.3f}-{high:.3f}) | {base / 1e6:.1f} |")
    return 0


def compare(model: str, plan: LoadPlan, decode_plan: DecodePlan, args: argparse.Namespace) -> tuple[list[float], float]:
    source = open_source(model, lambda message: None)
    opening.make_artifact(plan, source, lambda message: None)
    session: Any = opening.open_session(plan, source, lambda message: None)
    ids = np.arange(10, 10 + INPUT_TOKENS, dtype=np.int64)[None]
    batch = TokenBatch(ids, np.ones(ids.shape, bool), args.new_tokens)
    assert source.artifact is not None
    bare = BARE[plan.backend](source.artifact, plan, batch, source.special.start)

    def ours() -> None:
        if hasattr(session, "generate"):
            session.generate(batch, exact_plan, None)
        else:
            decode(session, batch, source.special, decode_plan)

    exact_plan = DecodePlan(Search(max_new_tokens=args.new_tokens, exact_tokens=True))
    times: dict[Callable[[], None], list[int]] = {bare: [], ours: []}
    for number in range(args.rounds + 3):
        for run in (bare, ours) if number % 2 else (ours, bare):
            begin = perf_counter_ns()
            run()
            times[run].append(perf_counter_ns() - begin)
    ratios = [b / a for a, b in zip(times[bare][3:], times[ours][3:], strict=True)]
    return ratios, median(times[bare][3:])
