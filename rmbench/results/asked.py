"""Whether the records of a result hold what its task asks, and answers that such requests can have."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from rmbench.errors import ResultError
from rmbench.metrics.views import Given, status_of
from rmbench.results.replay import Replayed
from rmbench.types import STATUSES, Ask, Due, Outcome, Reward

DueOf = Callable[[Outcome, frozenset[Ask], int | None], Sequence[Due] | None]


class Asked:
    """What was asked, an example after the other, against what is `due`.

    A model that compares fewer responses at once than an example has is asked otherwise; it is one number of them for
    the whole result, and the largest that was `shown`. Where nobody can tell what is due, every candidate is asked, and
    of all examples in the same way.
    """

    def __init__(self, due: DueOf, answers: frozenset[Ask], shown: int) -> None:
        self._due, self._answers = due, answers
        self._wrong: dict[int | None, str | None] = dict.fromkeys((None, shown) if shown > 1 else (None,))
        self._asks: frozenset[Ask] | None = None

    def check(self, one: Replayed) -> None:
        """Raises ResultError where something else was asked than is due, or an answer is none that can be."""
        _check_possible(one)
        for most, wrong in self._wrong.items():
            if wrong is None:
                self._wrong[most] = self._reason(one, most)
        if None not in self._wrong.values():
            raise ResultError(str(self._wrong[None]))

    def _reason(self, one: Replayed, most: int | None) -> str | None:
        due = self._due(one.outcome, self._answers, most)
        name = one.outcome.example_id
        if due is not None:
            reason = _differs(one.given, due)
            return reason and f"requests of example {name}: {reason}"
        asks = frozenset(given.ask for given in one.given)
        self._asks = asks if self._asks is None else self._asks
        covered = {index for given in one.given for index in given.candidates}
        if asks != self._asks or len(covered) != len(one.texts):
            return f"requests of example {name}: not every candidate was asked about as those of other examples were"
        return None


def _differs(given: Sequence[Given], due: Sequence[Due]) -> str | None:
    """How what was asked differs from what is due; None where it does not."""
    asked = Counter((one.ask, _set(one.candidates)) for one in given)
    expected = Counter((one.ask, _set(one.candidates)) for one in due)
    for ask, place in [*(expected - asked), *(asked - expected)]:
        times, wanted = asked[ask, place], expected[ask, place]
        return f"candidates {_and(place)} have {times} of {ask!r}, its task asks {wanted}"
    orders = Counter((one.ask, one.candidates) for one in given)
    stated = Counter((one.ask, one.candidates) for one in due)
    several = max(stated.values(), default=1)
    for (_, candidates), times in orders.items():
        if times > several:
            return f"candidates {_and(candidates)} were shown {times} times in that order, its task shows {several}"
    for one in due:
        if not one.drawn and orders[one.ask, one.candidates] != stated[one.ask, one.candidates]:
            return f"candidates {_and(one.candidates)} were not shown in that order, as the data state it"
    return None


def _check_possible(one: Replayed) -> None:
    """Raises ResultError for a request that nobody can make, or an answer that it cannot have."""
    name, k = one.outcome.example_id, len(one.texts)
    for number, (ask, candidates, reward) in enumerate(one.given):
        place = f"request {number} of example {name}"
        if not candidates or len(set(candidates)) < len(candidates) or not set(candidates) <= set(range(k)):
            raise ResultError(f"{place} shows candidates {_and(candidates)}; expected different ones from 0 to {k - 1}")
        if len(candidates) > 1 and ask != "compare":
            raise ResultError(f"{place} asks {ask!r} of {len(candidates)} responses; only a comparison shows several")
        entries: Iterable[tuple[str, Sequence[float] | None]] = (
            ("values", reward.values), ("spreads", reward.spread), *reward.heads.items(),
        )  # fmt: skip
        for what, numbers in entries:
            if numbers is not None and len(numbers) != len(candidates):
                raise ResultError(f"{place} has {len(numbers)} {what}; expected {len(candidates)}, one a response")

        if reason := _no_answer(ask, reward):
            raise ResultError(f"{place}, about candidates {_and(candidates)}, {reason}")


def _no_answer(ask: Ask, reward: Reward) -> str | None:
    """Why a reward is none that can be kept: its status is that of its numbers, as `scoring` checked it."""
    if reward.status not in STATUSES:
        return f"has the status {reward.status!r}; expected one of {', '.join(STATUSES)}"
    if reward.n_tokens < 0 or reward.truncated < 0:
        return f"read {reward.n_tokens} tokens and cut {reward.truncated}; expected none or more"
    numbers = [*reward.values, *reward.steps, *chain.from_iterable(reward.step_heads.values())]
    if reward.status in ("refused", "error", "missing"):
        given = [number for number in numbers if not math.isnan(number)]
        more = given or reward.heads or reward.spread or reward.pick is not None
        return f"is {reward.status}, and has an answer" if more else None
    if ask == "embedding":
        return None
    due = status_of(ask, reward)
    return None if reward.status == due else f"is {reward.status!r}, its numbers make it {due!r}"


def _set(candidates: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(candidates))


def _and(candidates: Sequence[int]) -> str:
    return " and ".join(map(str, candidates)) or "none"
