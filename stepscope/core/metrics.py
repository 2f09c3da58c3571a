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
    Metric("peak_rss_bytes", "Memory", "Peak resident memory", Unit.BYTES, Better.LOWER,
           "The kernel's high-water mark of the worker process (VmHWM); loading is in it unless the worker was warm."),
    Metric("weight_bytes", "Weights", "Weight bytes", Unit.BYTES, Better.LOWER,
           "Bytes of all parameters as held in memory, shared tensors counted once."),
    Metric("equal_share", "Agreement", "Agreement with the reference", Unit.SHARE, Better.HIGHER,
           "Equal tokens at equal positions / the longer length, against transformers' generate in float32."),
)  # fmt: skip

BY_KEY: dict[str, Metric] = {metric.key: metric for metric in METRICS}

WORDS: tuple[tuple[str, str], ...] = (
    ("encode", "The encoder pass."),
    ("decode step", "One decoder pass for all rows."),
    (
        "prefill",
        "Encode and step 0, which projects the cross-attention keys and values; step 0 is never averaged with later steps.",
    ),
    ("row", "Batch item x beam."),
    ("self-attention KV cache", "The decoder's own keys and values; grows by one position a step."),
    ("cross-attention KV cache", "Keys and values of the encoder output; fixed after step 0."),
    ("beam reorder", "The parents of a step: which old row each new row continues."),
    ("warm-up", "Repetitions that are run and not scored. Not calibration."),
    ("calibration", "The pass over a data set that static quantization needs."),
    ("repetition", "One generation."),
    ("run", "One configuration measured."),
    ("comparison", "Several stacks on the same inputs, in fresh processes that take turns."),
    ("variant", "One stack of a comparison; the baseline is the one that ratios are to."),
    ("control (A/A)", "The baseline measured a second time: what it differs from itself is noise."),
    ("verdict", "Faster, slower, no difference or undecided, from the interval of the ratio to the baseline."),
    ("teacher forcing", "Feeding given tokens whatever the model would choose, to see how it scores them."),
    ("exact", "A technique that must leave the tokens unchanged, and is tested to."),
    ("reference", "transformers' generate, float32, default caches, CPU: same weights, inputs and search."),
)


def glossary() -> str:
    """docs/glossary.md, which ``python -m stepscope.core.metrics`` prints."""
    lines = ["# Glossary", "", "Written by `python -m stepscope.core.metrics`; do not edit.", "", "## Metrics", ""]
    lines += ["| metric | key | unit | better | definition |", "|---|---|---|---|---|"]
    lines += [f"| {m.title} ({m.short}) | `{m.key}` | {m.unit} | {m.better} | {m.definition} |" for m in METRICS]
    lines += ["", "## Words", "", "| word | meaning |", "|---|---|"]
    lines += [f"| {word} | {meaning} |" for word, meaning in WORDS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(glossary(), end="")
