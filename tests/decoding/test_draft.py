"""Drafts from the input: what is proposed, and that only what the model would have chosen is kept."""

from __future__ import annotations

import numpy as np
import pytest

from stepscope.core.compatibility import resolve
from stepscope.core.errors import RequestError
from stepscope.core.plan import DecodePlan
from stepscope.core.request import RunRequest, Search
from stepscope.core.session import Candidates, SpecialTokens
from stepscope.decoding.draft import Drafted, from_text

SPECIAL = SpecialTokens(start=0, pad=0, eos=1)


def proposed(history: list[int], source: list[int], count: int) -> list[int]:
    return list(from_text(source, SPECIAL)(history, count))


def test_what_followed_the_longest_match_is_proposed() -> None:
    source = [5, 6, 7, 8, 9, 6, 7, 10]
    assert proposed([3, 6, 7], source, 1) == [10], "the most recent place wins"
    assert proposed([3, 6, 7], source, 4) == [8, 9, 6, 7], "where as much follows as is asked for"
    assert proposed([2, 2, 2, 2], [], 3) == [2], "a repetition is continued as far as it is known"
    assert proposed([2] * 9, [], 3) == [2, 2, 2]
    assert proposed([5, 6, 7], source, 2) == [8, 9], "a longer match wins over a more recent one"
    assert proposed([4], source, 4) == []
    assert proposed([2, 3, 2], source, 4) == [3, 2], "the output itself is looked into when the input has no match"


def answered(search: Drafted, asked: list[int], answers: list[int]) -> int | None:
    return search.advance(np.array(asked), Candidates(np.array(answers)[:, None], None))


def test_drafts_are_kept_up_to_the_first_that_the_model_would_not_have_chosen() -> None:
    search = Drafted(from_text([5, 6, 7, 8, 1], SPECIAL), SPECIAL, DecodePlan(Search(max_new_tokens=20), draft_tokens=3))
    assert search.next().tolist() == [0]
    assert answered(search, [0], [5]) == 1
    asked = search.next().tolist()
    assert asked == [5, 6, 7, 8]
    assert answered(search, asked, [6, 7, 2, 9]) == 3, "6 and 7 were right; 2 is the model's own after them"
    assert search.tokens == [5, 6, 7, 2]
    assert answered(search, [2], [1]) is None
    assert search.hypotheses() == ((5, 6, 7, 2, 1),)


def test_the_limit_and_the_end_of_sequence_inside_a_draft() -> None:
    search = Drafted(from_text([5, 6, 7, 8, 1], SPECIAL), SPECIAL, DecodePlan(Search(max_new_tokens=3), draft_tokens=8))
    answered(search, [0], [5])
    assert search.next().tolist() == [5, 6], "no more drafts than there is room for, and one token after them"
    assert answered(search, [5, 6], [6, 7]) is None
    assert search.tokens == [5, 6, 7]


def test_more_than_one_row_is_refused() -> None:
    for search, inputs in ((Search(num_beams=2), ("a",)), (Search(), ("a", "b"))):
        with pytest.raises(RequestError, match="one input with greedy search"):
            resolve(RunRequest("random:t5-small", inputs, "native", ("prompt_lookup",), search=search))
