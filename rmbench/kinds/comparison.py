"""Prompts with several candidates, of which some are better."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import ClassVar

from rmbench.errors import UsageError
from rmbench.kinds.base import Judging, drawn
from rmbench.metrics import summary
from rmbench.metrics.measure import Measure
from rmbench.types import Candidate, Example

_ORDERS = "official, both, round_robin or permutations:N"


@dataclass(frozen=True)
class Comparison(Judging):
    """Prompts with k >= 2 candidates, of which some are better: best-of-n groups and preference pairs.

    A model that compares is shown, by `orders`:

    - `official`: every (right, wrong) pair once, in the order the data state (tag `chosen_position`) or a drawn one;
      where all candidates are labelled alike, every pair of them;
    - `round_robin`: every pair once, whatever the labels, in a drawn order; `both`: every pair in both orders;
    - `permutations:N`: all candidates at once, in N drawn orders, in which each stands in each place as often; to a
      model that compares fewer, every pair in so many orders as a pair has: both, or a drawn one.

    Orders are drawn from what the model sees, so that neither place nor label decides. Equal labels are data: a pair
    that annotators call a tie is asked like any other. Labels that are classes are the task's own measure's to read.
    """

    kind: ClassVar[str] = "comparison"

    orders: str = "official"
    measure: Measure = summary.COMPARISON

    def __post_init__(self) -> None:
        if not re.fullmatch(r"official|both|round_robin|permutations:[1-9]\d*", self.orders):
            raise UsageError(f"{self.name}: orders={self.orders!r}; expected {_ORDERS}")

    def is_usable(self, example: Example) -> bool:
        """Whether its candidates are labelled differently, or by classes or annotators."""
        judged = any(isinstance(one.label, str) or one.annotations for one in example.candidates)
        return len(example.candidates) > 1 if judged else super().is_usable(example)

    def displays(self, example: Example, most: int | None = None) -> list[tuple[int, ...]]:
        """Which candidates are shown to a model that only compares, in the order shown, at most so many at once."""
        orders = self.orders
        if orders.startswith("permutations:"):
            n = int(orders.partition(":")[2])
            if most is None or most >= len(example.candidates):
                return _permutations(example, n)
            orders = "both" if n > 1 else "round_robin"
        pairs = list(combinations(range(len(example.candidates)), 2))
        if orders == "both":
            return [order for first, second in pairs for order in ((first, second), (second, first))]
        if orders == "official" and not _alike(example.candidates):
            pairs = [pair for pair in pairs if _differ(example, pair)]
        keys = [drawn(example, index) for index in range(len(example.candidates))]
        stated = [_stated(example, pair) if orders == "official" else None for pair in pairs]
        return [
            order or ((low, high) if keys[low] <= keys[high] else (high, low))
            for order, (low, high) in zip(stated, pairs, strict=True)
        ]

    def states_order(self, example: Example, shown: tuple[int, ...]) -> bool:
        """Whether data or task state the order in which these are shown, so that it is not drawn from texts."""
        if len(shown) != 2 or self.orders != "official":
            return super().states_order(example, shown)
        return _stated(example, (min(shown), max(shown))) is not None


def _alike(candidates: tuple[Candidate, ...]) -> bool:
    return len({candidate.label for candidate in candidates}) == 1


def _differ(example: Example, pair: tuple[int, int]) -> bool:
    """Whether the labels of a pair differ; of a label that is missing nobody knows."""
    first, second = (example.candidates[index].label for index in pair)
    return first is None or second is None or first != second


def _stated(example: Example, pair: tuple[int, int]) -> tuple[int, int] | None:
    """The order in which the data say that a pair was shown, by where the better one stood."""
    first, second = (example.candidates[index].number or 0.0 for index in pair)
    better, worse = pair if first > second else pair[::-1]
    position = example.candidates[worse].tags.get("chosen_position")
    return {"A": (better, worse), "B": (worse, better)}.get(str(position))


def _permutations(example: Example, n: int) -> list[tuple[int, ...]]:
    """`n` different orders of all candidates, or all there are: the rotations of a drawn one, then of another."""
    k = len(example.candidates)
    orders: dict[tuple[int, ...], None] = {}
    turn = 0
    while k > 1 and len(orders) < min(n, factorial(k)):
        keys = [drawn(example, index, f"{turn}") for index in range(k)]
        first = sorted(range(k), key=keys.__getitem__)
        for start in range(k):
            if len(orders) < n:
                orders.setdefault((*first[start:], *first[:start]))
        turn += 1
    return list(orders)
