"""Greedy search over one input that verifies drafts: from the same n-gram in input or output, or from the session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stepscope.core.plan import DecodePlan
from stepscope.core.session import Candidates, SpecialTokens

if TYPE_CHECKING:
    from stepscope.core.session import Ids

LONGEST, SHORTEST = 3, 1  # tokens of the n-gram that is looked up, the longest first


class _Text:
    """A text that grows, and where its n-grams end: a proposal looks up and never scans."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], list[int]] = {}  # n-gram -> where the tokens behind it begin
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            at = len(self._tokens)
            for length in range(SHORTEST, min(LONGEST, at) + 1):
                self._after.setdefault(tuple(self._tokens[at - length :]), []).append(at)
            self._tokens.append(token)

    def __len__(self) -> int:
        return len(self._tokens)

    def behind(self, gram: tuple[int, ...], count: int) -> list[int]:
        """What once followed: after the most recent place that has ``count`` tokens, else the place that has most."""
        best: list[int] = []
        for at in reversed(self._after.get(gram, ())):
            best = max(best, self._tokens[at : at + count], key=len)
            if len(best) == count:
                break
        return best


Proposer = Callable[[Sequence[int], int], Sequence[int]]


def from_text(source: Sequence[int], special: SpecialTokens) -> Proposer:
    """Proposes what followed the end of the output so far: in the input, else in the output. source: ids of the input."""
    texts = _Text([token for token in source if token != special.eos]), _Text()

    def propose(history: Sequence[int], count: int) -> list[int]:
        texts[1].extend(history[len(texts[1]) :])
        for length in range(min(LONGEST, len(history)), SHORTEST - 1, -1):
            for text in texts:
                if found := text.behind(tuple(history[-length:]), count):
                    return found
        return []

    return propose


class Drafted:
    """The search's side: what to verify next, and what of it is kept. propose(tokens so far, most) -> drafts."""

    def __init__(self, propose: Proposer, special: SpecialTokens, plan: DecodePlan) -> None:
        self._propose = propose
        self._special = special
        self._limit, self._exact = plan.search.max_new_tokens, plan.search.exact_tokens
        self._most = plan.draft_tokens
        self.tokens: list[int] = []

    def next(self) -> Ids:
        """The last token and the drafts after it."""
        room = self._limit - len(self.tokens) - 1
        drafts = self._propose(self.tokens, min(self._most, room)) if self.tokens and room > 0 else []
        return np.array([self.tokens[-1] if self.tokens else self._special.start, *drafts], np.int64)

    def advance(self, asked: Ids, candidates: Candidates) -> int | None:
        """Keeps the answers up to the first draft that the model would not have chosen; how many, or None at the end."""
        answers = candidates.ids[:, 0]
        if self._exact:
            answers = np.where(answers == self._special.eos, candidates.ids[:, 1], answers)
        kept = 0
        for at, answer in enumerate(answers.tolist()):
            self.tokens.append(answer)
            kept += 1
            if answer == self._special.eos or len(self.tokens) == self._limit:
                return None
            if at + 1 == len(asked) or asked[at + 1] != answer:
                break
        return kept

    def hypotheses(self) -> tuple[tuple[int, ...], ...]:
        return (tuple(self.tokens),)
