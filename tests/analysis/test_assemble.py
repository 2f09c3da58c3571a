"""From finished processes to a result: medians, phases, memory, banners, break-even, failures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stepscope.analysis import quality
from stepscope.analysis.assemble import assemble
from stepscope.core import events as ev
from stepscope.core.comparison import Variant, Verdict
from stepscope.core.contribution import ALL, NONE, contributions, decomposed
from stepscope.core.spec import ObservedBy
from stepscope.runs.comparison_document import csv_text, words
from tests.comparisons import MS, spec, visit


def rounds(times: dict[str, float], count: int = 3, **values: object):  # type: ignore[no-untyped-def]
    return [visit(name, at, ms * (1 + 0.004 * at), **values) for at in range(count) for name, ms in times.items()]  # type: ignore[arg-type]


def test_a_result_says_what_each_process_showed() -> None:
    found = assemble(spec(control=False), rounds({"one": 90.0, "two": 45.0}), complete=True)
    one, two = found.variants
    assert (one.verdict, two.verdict) == (Verdict.BASELINE, Verdict.FASTER)
    assert two.ratio is not None and two.ratio.value == pytest.approx(2.0) and len(two.process_ns) == 3
    assert two.repetitions == 9 and len(two.curve_ns) == 8 and two.steps_ns[2] == pytest.approx(5 * MS, rel=0.02)
    assert two.phases["start"] == 300 * MS and two.phases["load"] == 100 * MS
    assert two.memory_ratio == 1.0 and two.memory.weight_bytes == 40 * MS and len(two.memory.t_ns) == 40
    assert words(two) == "2.00 x faster (2.00 to 2.00), tokens identical, 1.00 x memory"
    slower = assemble(replace(spec(control=False), baseline="two"), rounds({"one": 90.0, "two": 45.0}), complete=True)
    assert words(slower.variants[0]).startswith("2.00 x slower (2.00 to 2.00)")
    assert len(csv_text(found).splitlines()) == 3


def test_unequal_work_is_said() -> None:
    visits = [*rounds({"one": 90.0}), *rounds({"two": 45.0}, steps=6)]
    found = assemble(spec(control=False), visits, complete=True)
    assert any("different numbers of tokens (one 8, two 6)" in banner for banner in found.banners)
    two = replace(spec(control=False), variants=(Variant("one", "null"), Variant("two", "null", threads=2)))
    assert any("different threads" in banner for banner in assemble(two, visits, complete=True).banners)
    moved = [replace(each, fingerprint="another") if each.round else each for each in visits]
    assert any("different machines" in banner for banner in assemble(spec(control=False), moved, complete=True).banners)


def test_a_killed_process_costs_its_round_only() -> None:
    visits = rounds({"one": 90.0, "two": 45.0}, 4)
    visits[3] = visit("two", 1, 0.0, status=ev.RunStatus.FAILED)
    found = assemble(spec(control=False), visits, complete=True)
    assert found.variants[1].verdict is Verdict.FASTER and len(found.variants[1].process_ns) == 3
    failed = [visit("two", at, 0.0, status=ev.RunStatus.FAILED) for at in range(2)]
    lost = assemble(spec(control=False), [*rounds({"one": 90.0}), *failed], complete=True).variants[1]
    assert lost.verdict is Verdict.FAILED and "SIGKILL" in words(lost)


def test_conversion_pays_off_after_some_generations() -> None:
    visits = rounds({"one": 90.0, "two": 40.0})
    for each in visits:
        if each.variant == "two":
            each.result.apply([ev.Converted("digest", True, 1)])
    two = assemble(spec(control=False), visits, complete=True, conversions={"digest": 10.0}).variants[1]
    assert two.phases["convert"] == 10_000 * MS and two.breaks_even_after == 200


def test_quality_is_told_against_references_with_a_paired_bootstrap() -> None:
    references = tuple(f"Das ist der Satz Nummer {at} von allen" for at in range(20))
    worse = tuple(text.replace("der Satz", "die Sätze") if at % 2 else text for at, text in enumerate(references))
    inputs = tuple(f"sentence {at}" for at in range(20))
    asked = spec(control=False, inputs=inputs, references=references)
    visits = [*rounds({"one": 9.0}, texts=references), *rounds({"two": 9.0}, texts=worse)]
    one, two = assemble(asked, visits, complete=True).variants
    assert one.quality is not None and one.quality.bleu == pytest.approx(100) and one.quality.exact_match == 1
    assert two.quality is not None and two.quality.exact_match == 0.5 and 0.7 < two.quality.rouge_l < 0.95
    change = two.quality_difference
    assert change is not None and change.bleu.high < 0 and change.p_bleu < 0.05
    same = quality.difference(references, references, references)
    assert (same.bleu.value, same.bleu.low, same.bleu.high, same.p_bleu) == (0.0, 0.0, 0.0, 1.0)


def test_a_runtime_without_steps_has_no_curve() -> None:
    visits = [*rounds({"one": 90.0}), *rounds({"two": 45.0}, observed_by=ObservedBy.TOTAL)]
    assert assemble(spec(control=False), visits, complete=True).variants[1].observed_by is ObservedBy.TOTAL


def test_a_stack_is_taken_apart_and_put_together_again() -> None:
    whole = Variant("mine", "pytorch", ("cross_kv_cache", "self_kv_cache", "sdpa"))
    parts = decomposed(whole)
    assert parts[0].name == NONE and parts[-1].name == ALL and len(parts) == 8
    assert {len(part.techniques) for part in parts} == {0, 1, 2, 3}
    ms = {0: 120.0, 1: 60.0, 2: 25.0, 3: 10.0}
    asked = replace(spec(control=False), variants=tuple(parts), baseline=NONE)
    visits = [visit(part.name, at, ms[len(part.techniques)]) for at in range(2) for part in parts]
    found = contributions(asked, assemble(asked, visits, complete=True))
    assert found is not None
    each, interaction = found
    assert [one.alone for one in each] == pytest.approx([2.0] * 3) and [one.last for one in each] == pytest.approx([2.5] * 3)
    assert interaction == pytest.approx(12 / 8), "together they give more than the product of each alone"
    assert (
        contributions(spec(control=False), assemble(spec(control=False), rounds({"one": 1.0, "two": 2.0}), complete=True))
        is None
    )
