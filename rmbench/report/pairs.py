"""What of a model that compares stands on the page: what became of each pair, and what the place did to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from rmbench.metrics.interval import estimate, mean
from rmbench.results.schema import Metric
from rmbench.types import Outcome

# By who is named: where the right answer is shown first, and where it is shown second
_BOTH = {
    (1, 1): "right in both orders",
    (-1, -1): "wrong in both orders",
    (1, -1): "whoever is shown first",
    (-1, 1): "whoever is shown second",
}
_ONE = {1: "right", -1: "wrong", 0: "a tie"}
_ORDER = [*_BOTH.values(), "a tie in some order", "no verdict in some order"]


def fates(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many pairs of a right and a wrong answer ended how, over the orders in which they were shown."""
    counts = Counter(_fate(verdicts) for outcome in outcomes for verdicts in _pairs(outcome).values())
    return {name: counts[name] for name in (*_ORDER, *sorted(counts.keys() - {*_ORDER})) if counts[name]}


def _fate(verdicts: dict[bool, int | None]) -> str:
    if None in verdicts.values():
        return "no verdict in some order"
    if len(verdicts) == 1:
        [verdict] = verdicts.values()
        return f"{_ONE[verdict or 0]}, shown in one order"
    return _BOTH.get((verdicts[True] or 0, verdicts[False] or 0), "a tie in some order")


def by_place(outcomes: Sequence[Outcome], view: str) -> list[Metric]:
    """How often the right answer is named where it is shown first, and where second; a tie is half of it."""
    shares = [[_share(outcome, first) for outcome in outcomes] for first in (True, False)]
    names = ("right answer shown first", "right answer shown second")
    statistics = [mean(name, np.array(share, float), "fraction") for name, share in zip(names, shares, strict=True)]
    clusters = [outcome.cluster for outcome in outcomes]
    return [
        Metric(
            name=one.name, value=one.value, ci_low=_end(one.ci_low), ci_high=_end(one.ci_high), n=one.n,
            clusters=one.clusters, view=view, subset="all", kind="fraction",
        )
        for one in estimate(statistics, clusters)
        if np.isfinite(one.value)
    ]  # fmt: skip


def _share(outcome: Outcome, first: bool) -> float:
    told = [pair[first] for pair in _pairs(outcome).values() if pair.get(first) is not None]
    return float(np.mean([(1 + verdict) / 2 for verdict in told if verdict is not None])) if told else np.nan


def _pairs(outcome: Outcome) -> dict[tuple[int, int], dict[bool, int | None]]:
    """For each pair (right, wrong) of an example who is named, by whether the right one is shown first: 1 the right
    one, -1 the wrong one, 0 neither, None where there is no verdict."""
    leads: dict[tuple[int, int], dict[bool, list[float]]] = {}
    for pair, first, lead in _verdicts(outcome):
        leads.setdefault(pair, {}).setdefault(first, []).append(lead)
    return {
        pair: {first: None if np.isnan(all_).any() else int(np.sign(sum(all_))) for first, all_ in orders.items()}
        for pair, orders in leads.items()
    }


def _verdicts(outcome: Outcome) -> Iterator[tuple[tuple[int, int], bool, float]]:
    for answer in outcome.answers:
        read = answer.status == "ok" and (answer.pick is None or len(answer.candidates) == 2)
        for i, j in combinations(range(len(answer.candidates)), 2):
            one, other = answer.candidates[i], answer.candidates[j]
            ahead = outcome.labels[one] - outcome.labels[other]
            if not np.isnan(ahead) and ahead:
                lead = answer.values[i] - answer.values[j] if read else np.nan
                yield ((one, other), True, lead) if ahead > 0 else ((other, one), False, -lead)


def _end(end: float) -> float | None:
    return float(end) if np.isfinite(end) else None
