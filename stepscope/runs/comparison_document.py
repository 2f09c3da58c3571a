"""The documents of a comparison, the same for download and command line; docs/comparing.md describes them."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from stepscope.core.comparison import ComparisonResult, Interval, VariantResult, Verdict
from stepscope.core.encoding import from_json, to_json
from stepscope.core.errors import RequestError

from .comparison_store import ComparisonRow

SCHEMA_VERSION = 1
_MOST = 1000  # a bound above says no more than this one
_COLUMNS = (
    "variant", "verdict", "ratio", "ratio_low", "ratio_high", "p", "processes", "repetitions", "total_ns", "itl_p50_ns",
    "time_to_first_token_ns", "tokens_per_second", "peak_rss_bytes", "weight_bytes", "memory_ratio", "equal_share", "bleu",
    "chrf", "rouge_l", "exact_match", "breaks_even_after", "error",
)  # fmt: skip


def document(row: ComparisonRow) -> dict[str, Any]:
    """Durations are integer ``*_ns``, sizes integer ``*_bytes``; a value that was not measured is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "comparison_id": row.id,
        "status": row.status.value,
        "created_ns": row.created_ns,
        "ended_ns": row.ended_ns,
        "machine": row.machine,
        "fingerprint": row.fingerprint,
        "spec": to_json(row.spec),
        "spec_digest": row.spec.digest(),
        "result": to_json(row.result),
        "error": to_json(row.error),
    }


def csv_text(result: ComparisonResult) -> str:
    """One line a variant."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for v in result.variants:
        s, q, ratio = v.summary, v.quality, v.ratio
        writer.writerow(
            (v.name, v.verdict.value, *((ratio.value, ratio.low, ratio.high) if ratio else ("", "", "")), v.p,
             len(v.process_ns), v.repetitions, s.total_ns, s.itl_p50_ns, s.time_to_first_token_ns, s.tokens_per_second,
             s.peak_rss_bytes, s.weight_bytes, v.memory_ratio, v.equal_share,
             *((q.bleu, q.chrf, q.rouge_l, q.exact_match) if q else ("", "", "", "")), v.breaks_even_after, v.error)
        )  # fmt: skip
    return out.getvalue()


def words(v: VariantResult) -> str:
    """The verdict of a variant as a sentence: "2.31 x faster (2.24 to 2.39), tokens identical, 0.41 x memory"."""
    match v.verdict:
        case Verdict.FAILED:
            return f"failed: {v.error}"
        case Verdict.UNDECIDED:
            speed = (
                f"undecided ({_factor(v.ratio)}): more processes or a quieter machine would tell" if v.ratio else "undecided"
            )
            if not v.process_ns:
                return "not measured yet"
        case Verdict.BASELINE:
            speed = "the baseline"
        case Verdict.NO_DIFFERENCE:
            speed = f"no difference ({_factor(v.ratio)})"
        case Verdict.FASTER:
            speed = f"{v.ratio.value:.2f} x faster ({_range(v.ratio)})" if v.ratio else "faster"
        case Verdict.SLOWER:
            turned = Interval(1 / v.ratio.value, 1 / v.ratio.high, 1 / v.ratio.low) if v.ratio else None
            speed = f"{turned.value:.2f} x slower ({_range(turned)})" if turned else "slower"
    parts = [speed]
    if v.equal_share is not None:
        equal = "tokens identical" if v.first_difference_step is None else f"{100 * v.equal_share:.1f} % of tokens equal"
        parts.append(equal)
    if v.memory_ratio is not None and v.verdict is not Verdict.BASELINE:
        parts.append(f"{v.memory_ratio:.2f} x memory")
    if (d := v.quality_difference) is not None and (d.bleu.low or d.bleu.high):
        parts.append(f"BLEU {d.bleu.value:+.1f} ({d.bleu.low:+.1f} to {d.bleu.high:+.1f})")
    return ", ".join(parts)


QUALITY_HEAD = ("variant", "BLEU", "chrF", "ROUGE-L", "exact match", "BLEU to the baseline", "chrF to the baseline")


def quality_rows(result: ComparisonResult) -> list[tuple[str, ...]]:
    """The scores of every variant that has some, as text; differences with their 95 % intervals."""
    found = []
    for v in result.variants:
        if (q := v.quality) is None:
            continue
        d = v.quality_difference
        changes = [f"{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})" for i in (d.bleu, d.chrf)] if d else ["", ""]
        found.append(
            (v.name, f"{q.bleu:.1f}", f"{q.chrf:.1f}", f"{q.rouge_l:.3f}", f"{100 * q.exact_match:.0f} %", *changes)
        )
    return found


def _factor(found: Interval | None) -> str:
    return f"{found.value:.2f} x, {_range(found)}" if found else "–"


def _range(found: Interval) -> str:
    high = f"{found.high:.2f}" if found.high < _MOST else f"over {_MOST}"
    return f"{found.low:.2f} to {high}"


def stored_result(text: str) -> tuple[ComparisonResult, str]:
    """The result and the machine's fingerprint of a document. Raises RequestError for a text that is none."""
    try:
        stored = json.loads(text)
        return from_json(ComparisonResult, stored["result"]), str(stored["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"That is no document of a comparison: {error}.", "Write one with --json.") from None


def regressions(before: ComparisonResult, row: ComparisonRow) -> list[str]:
    """The variants that are slower against their baseline than before, beyond both intervals, in words."""
    found = []
    for new in row.result.variants:
        old = before.variant(new.name)
        if old is None or old.verdict is Verdict.BASELINE:
            continue
        if new.verdict is Verdict.FAILED and old.verdict is not Verdict.FAILED:
            found.append(f"{new.name} fails now: {new.error}")
        elif old.ratio and new.ratio and new.ratio.high < old.ratio.low:
            found.append(f"{new.name}: {_factor(new.ratio)} now, {_factor(old.ratio)} before")
    return found
