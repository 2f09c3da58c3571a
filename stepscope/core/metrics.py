"""One table of metrics: axis titles, table headers, tooltips and docs/glossary.md all read from here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    NS = "ns"
    BYTES = "bytes"
    PER_SECOND = "per second"
    COUNT = "count"
    SHARE = "share"


class Better(StrEnum):
    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Metric:
    """key: the field's name in core.result.Summary; short: for cards and headers; definition: one sentence."""

    key: str
    short: str
    title: str
    unit: Unit
    better: Better
    definition: str


METRICS: tuple[Metric, ...] = (
    Metric("time_to_first_token_ns", "TTFT", "Time to first token", Unit.NS, Better.LOWER,
           "Request accepted by the worker to first token on the host: tokenization, encoder and step 0, load left out."),
    Metric("encode_ns", "Encode", "Encode", Unit.NS, Better.LOWER, "One encoder pass over all inputs of the batch."),
    Metric("itl_p50_ns", "ITL p50", "Inter-token latency, median", Unit.NS, Better.LOWER,
           "Gap between consecutive tokens on the host from step 1 on; median within a repetition, then over repetitions."),
    Metric("itl_p95_ns", "ITL p95", "Inter-token latency, 95th percentile", Unit.NS, Better.LOWER,
           "95th percentile of the gaps between consecutive tokens within a repetition; median over repetitions."),
    Metric("step_p50_ns", "Step p50", "Step latency, median", Unit.NS, Better.LOWER,
           "One call of step (one decoder pass for all rows) from step 1 on; step 0 is part of the prefill."),
    Metric("time_per_output_token_ns", "Time / token", "Time per output token", Unit.NS, Better.LOWER,
           "(last token - first token) / (tokens - 1)."),
    Metric("total_ns", "Total", "Whole generation", Unit.NS, Better.LOWER,
           "Request accepted by the worker to the last text: tokenization, encoder, all steps and detokenization."),
    Metric("tokens_per_second", "Tokens/s", "Tokens per second", Unit.PER_SECOND, Better.HIGHER,
           "New tokens of all inputs (beams not counted) / whole generation."),
    Metric("tokens", "Tokens", "New tokens", Unit.COUNT, Better.NEITHER,
           "New tokens of all inputs, end of sequence included."),
    Metric("peak_rss_bytes", "Peak memory", "Peak resident memory", Unit.BYTES, Better.LOWER,
           "The kernel's high-water mark of the worker process (VmHWM), imports and loading included."),
    Metric("weight_bytes", "Weights", "Weight bytes", Unit.BYTES, Better.LOWER,
           "Bytes of all parameters as held in memory, shared tensors counted once."),
    Metric("equal_share", "Agreement", "Agreement with the reference", Unit.SHARE, Better.HIGHER,
           "Equal tokens at equal positions / the longer length, against transformers' generate in float32."),
)  # fmt: skip

BY_KEY: dict[str, Metric] = {metric.key: metric for metric in METRICS}
