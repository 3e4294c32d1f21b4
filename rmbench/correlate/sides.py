"""One figure of several models over the same examples: values, ranks, draws, and how far two are apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.errors import ResultError
from rmbench.metrics.interval import Codes, Statistic, cluster_codes, estimate, is_mean, replicates, whole_value
from rmbench.metrics.paired import Rank, cluster_parts, difference_of, ranks
from rmbench.results import collection
from rmbench.results.replay import outcomes_of
from rmbench.results.schema import TaskResult
from rmbench.types import Array, Outcome

Make = Callable[["Judged", Sequence[Outcome]], Statistic | None]
_DRAWS = 2000


@dataclass(frozen=True)
class Judged:
    """A model's result on a task; `outcomes` are in the order of the first model's."""

    model: str
    result: TaskResult
    outcomes: Sequence[Outcome]


@dataclass(frozen=True)
class Placed:
    """A model's figure with its 95 % interval, and its rank among the models with what tests leave open."""

    value: float
    low: float
    high: float
    rank: Rank


@dataclass(frozen=True)
class Apart:
    """How far the first of two models is above the second, over the same examples; `p` is two-sided."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Side:
    """One figure of several models over the same examples, whose clusters are `codes` [n]."""

    judged: Sequence[Judged]
    statistics: Sequence[Statistic]
    outcomes: Sequence[Outcome]
    codes: Codes
    seed: int

    @property
    def models(self) -> list[str]:
        return [one.model for one in self.judged]

    @property
    def sign(self) -> float:
        """-1 where less is better."""
        return -1.0 if self.statistics[0].better == "lower" else 1.0

    def places(self) -> dict[str, Placed]:
        """Each model with its figure and rank, the best first."""
        figures = estimate(self.statistics, self.codes, draws=_DRAWS, seed=self.seed)
        clusters = len(np.unique(self.codes))
        means = all(map(is_mean, self.statistics))
        units = [
            np.asarray(one.columns)[:, :1]
            if means
            else clusters / len(self.codes) * cluster_parts(one, self.codes)[:, None]
            for one in self.statistics
        ]
        codes: NDArray[np.intp] = self.codes if means else np.arange(clusters)
        ranked = ranks([self.sign * unit for unit in units], codes, seed=self.seed)
        placed = {
            model: Placed(one.value, one.ci_low, one.ci_high, rank)
            for model, one, rank in zip(self.models, figures, ranked, strict=True)
        }
        return dict(sorted(placed.items(), key=lambda item: item[1].rank.rank))

    def values(self) -> Array:
        """Every figure [models], signed so that more is better."""
        return self.sign * np.array([whole_value(one, self.codes) for one in self.statistics])

    def drawn(self) -> Array:
        """The same in each draw of the examples [draws, models]."""
        return self.sign * np.column_stack(replicates(self.statistics, self.codes, draws=_DRAWS, seed=self.seed))

    def apart(self, first: str, second: str) -> Apart:
        """How far the first model is better than the second."""
        if first == second:
            return Apart(0.0, 0.0, 0.0, 1.0)
        ours, theirs = (self.statistics[self.models.index(name)] for name in (first, second))
        difference = difference_of(ours, theirs, self.codes, seed=self.seed)
        low, high = sorted((self.sign * difference.ci_low, self.sign * difference.ci_high))
        return Apart(self.sign * difference.value, low, high, difference.p)


class Benchmark:
    """The benchmark's figure of any of its models, each set of them once."""

    def __init__(self, judged: Sequence[Judged], headline: Make, seed: int) -> None:
        self.judged, self.seed = judged, seed
        self._headline = headline
        self._sides: dict[tuple[str, ...], Side] = {}

    def of(self, models: Sequence[str]) -> Side:
        """Raises ResultError where no example counts for all of them."""
        if (names := tuple(models)) not in self._sides:
            by_name = {one.model: one for one in self.judged}
            same = [by_name[name] for name in names]
            side = side_of(same, self._headline, range(len(same[0].outcomes)), self.seed)
            if side is None or len(side.models) < len(names):
                raise ResultError(f"the benchmark has no example that counts for each of {', '.join(names)}")
            self._sides[names] = side
        return self._sides[names]


def judged_by(group: Sequence[TaskResult], aliases: Mapping[str, str]) -> list[Judged]:
    """The results of one set of examples, by the models' names, with outcomes in one order.

    Raises ResultError where aliases make two of them one model.
    """
    order: dict[str, int] = {}
    judged = list[Judged]()
    for name, result in zip(collection.names(group), group, strict=True):
        outcomes = outcomes_of(result)
        order = order or {one.example_id: place for place, one in enumerate(outcomes)}
        outcomes = sorted(outcomes, key=lambda outcome: order[outcome.example_id])
        model = aliases.get(name, name)
        if model in {one.model for one in judged}:
            raise ResultError(
                f"two results on {result.task.name} are of {model!r} by the aliases; expected one a model"
            )
        judged.append(Judged(model, result, outcomes))
    return judged


def side_of(judged: Sequence[Judged], make: Make, places: Sequence[int], seed: int) -> Side | None:
    """The figure over those of the examples that count for every model that has it, made anew until all of them count;
    None where fewer than two models have it.
    """
    kept = np.asarray(places, int)
    while len(kept):
        made = [(one, make(one, [one.outcomes[place] for place in kept])) for one in judged]
        having = [(one, statistic) for one, statistic in made if statistic is not None]
        if len(having) < 2:
            return None
        counted = np.all([statistic.counts(len(kept)) for _, statistic in having], axis=0)
        if counted.all():
            outcomes = [judged[0].outcomes[place] for place in kept]
            codes = cluster_codes([one.cluster for one in outcomes])
            return Side([one for one, _ in having], [statistic for _, statistic in having], outcomes, codes, seed)
        kept = kept[counted]
    return None
