"""Whether two models gave the same rewards, how far these are apart where they did not, and which settings differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbench.metrics import comparison
from rmbench.results.schema import TaskResult
from rmbench.types import Array, Outcome, View


@dataclass(frozen=True)
class Agreement:
    """Two models' `rewards` of the same responses, those that both gave a number of.

    `differing` of them are not equal, by `largest` at most, which is so many `sds` of the first model's; without
    rewards, as where pairs were compared, these say nothing. Of the `pairs` of responses to one prompt that both put in
    order, `flips` are in the other order, in `flipped_examples`; `ties` are one in just one of them. `unmatched` counts
    responses, or else pairs, that just one of them has an answer for.
    """

    rewards: int
    differing: int
    largest: float
    sds: float
    pairs: int
    flips: int
    flipped_examples: int
    ties: int
    unmatched: int

    @property
    def is_same(self) -> bool:
        """Whether nothing at all differs."""
        return not (self.differing or self.flips or self.ties or self.unmatched)


def agreement(theirs: Sequence[Outcome], their_view: str, ours: Sequence[Outcome], our_view: str) -> Agreement:
    """How the outcomes [n] of two models agree, each in its view; example by example in one order."""
    counts, apart, spread = np.zeros(6, dtype=int), [np.zeros(0)], [np.zeros(0)]
    for one, other in zip(theirs, ours, strict=True):
        k = len(one.labels)
        views = one.views.get(their_view), other.views.get(our_view)
        given = [_scores(view, k) for view in views]
        present = [~np.isnan(scores) for scores in given]
        both = present[0] & present[1]
        with np.errstate(invalid="ignore"):  # infinities that are equal are no difference
            apart.append(np.where(given[0] == given[1], 0.0, np.abs(given[0] - given[1]))[both])
        spread.append(given[0][np.isfinite(given[0])])
        orders = [_order(view, k) for view in views]
        answered = [np.isfinite(order) for order in orders]
        upper = np.triu(answered[0] & answered[1], 1)
        products, flat = orders[0] * orders[1], (orders[0] == 0) != (orders[1] == 0)
        flips = int((products[upper] < 0).sum())
        lost = int((present[0] != present[1]).sum()) or int(np.triu(answered[0] != answered[1], 1).sum())
        counts += [upper.sum(), flips, flips > 0, (flat & upper).sum(), lost, both.sum()]
    pairs, flips, examples, ties, lost, rewards = counts.tolist()
    differences, scale = np.concatenate(apart), np.concatenate(spread)
    largest = float(differences.max(initial=0.0)) if rewards else np.nan
    sd = float(scale.std()) if len(scale) else np.nan
    sds = largest / sd if sd > 0 else np.nan
    return Agreement(rewards, int((differences > 0).sum()), largest, sds, pairs, flips, examples, ties, lost)


def settings_that_differ(theirs: TaskResult, ours: TaskResult) -> dict[str, tuple[str, str]]:
    """By name, what two results were made with that is not the same; `-` where one has none."""
    one, other = dict(_settings(theirs)), dict(_settings(ours))
    return {
        name: (one.get(name, "-"), other.get(name, "-"))
        for name in dict.fromkeys([*one, *other])
        if one.get(name, "-") != other.get(name, "-")
    }


def _settings(result: TaskResult) -> Iterator[tuple[str, str]]:
    config, subject = result.config, result.subject
    yield from {"revision": subject.revision or "-", "fingerprint": (subject.fingerprint or "-")[:12]}.items()
    for part in (config.model, config.data, config.task, config.run, subject.facts, result.environment):
        yield from _flat("", part)


def _flat(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(f"{place}.{name}" if place else str(name), item)
    else:
        yield place, "-" if value is None else str(value)


def _scores(view: View | None, k: int) -> Array:
    return np.full(k, np.nan) if view is None or view.scores is None else np.asarray(view.scores, float)


def _order(view: View | None, k: int) -> Array:
    """1 where the row's response is before the column's [k, k], -1 where behind, 0 where level, nan where not known."""
    if view is None:
        return np.full((k, k), np.nan)
    beats = comparison.beats(_scores(view, k)) if view.beats is None else view.beats
    order: Array = np.sign(np.asarray(beats, float) - 0.5)
    return order
