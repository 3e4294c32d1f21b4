"""Objective mismatch: what a benchmark ranks against what selection by the same rewards ranks, slice by slice.

A model has its figure on the benchmark, and on each slice of a pool the label of the response that its reward picks:
what best-of-n of that pool is worth. Both are of result files. Whether two models swap places is an intersection-union
test: both differences have to be told, so its p is the larger of theirs (Berger, Technometrics 24, 1982), and Holm is
over every pair of models of every slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from rmbench.correlate.sides import Apart, Benchmark, Judged, Make, Placed, Side, judged_by, side_of
from rmbench.errors import ResultError
from rmbench.metrics import association, pick
from rmbench.metrics.interval import LEVEL, Kind, Statistic, whole_value
from rmbench.metrics.paired import holm
from rmbench.results import collection
from rmbench.results.document import as_json
from rmbench.results.figures import subsets_of
from rmbench.results.measuring import Find, measure_of
from rmbench.results.schema import TaskResult
from rmbench.types import Outcome

LEAST_EXAMPLES = 10  # of a slice
_HEADLINE = "headline"


@dataclass(frozen=True)
class Swap:
    """Two models that the benchmark ranks `above` and `below`, and the slice the other way round.

    `p` is that of both differences together, `p_holm` adjusted for every pair of models of every slice.
    """

    above: str
    below: str
    benchmark: Apart
    slice: Apart
    p: float
    p_holm: float = math.nan

    @property
    def is_told(self) -> bool:
        """Whether it is more than chance, at 5 % for the whole report."""
        return self.p_holm < 1 - LEVEL


@dataclass(frozen=True)
class Correlation:
    """A correlation over models with its 95 % interval: over models, and over the examples of both sides."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Slice:
    """What selection, or the `figure` of another task, ranks on one slice of it.

    `chance` and `oracle` are the labels of a random and of the best response, None of another figure. `models` have
    their places here, `on_benchmark` those that the benchmark gives the same models. The correlations are None where
    models are too few or a side is constant, and `reason` says so. `cost` is how far the model that the benchmark puts
    first is below the one that is first here, in the unit of the figure: at least 0, and too large by what the first
    one here owes to chance. `pairs` is how many pairs of models there are.
    """

    task: str
    slice: str
    figure: str
    kind: Kind
    examples: int
    chance: float | None
    oracle: float | None
    models: Mapping[str, Placed]
    on_benchmark: Mapping[str, Placed]
    pearson: Correlation | None
    spearman: Correlation | None
    kendall: float | None
    p: float | None
    reason: str | None
    first: str
    cost: Apart
    pairs: int
    swaps: Sequence[Swap]

    @property
    def name(self) -> str:
        """What is ranked, after the task's name: its headline, or what is picked of all or of a facet."""
        return self.figure if self.chance is None or self.slice == "all" else self.slice


@dataclass(frozen=True)
class MismatchReport:
    """All that was found. `benchmark` is the task, and `models` have their places by its `metric`, the best first.

    `left_out` has a line for each result and slice that takes no part.
    """

    benchmark: str
    metric: str
    title: str
    kind: Kind
    examples: int
    models: Mapping[str, Placed]
    slices: Sequence[Slice]
    left_out: Sequence[str]

    def json(self) -> str:
        """Everything in it; what is no number is null."""
        return as_json(self)


def mismatch(
    results: Sequence[TaskResult],
    benchmark: str,
    find: Find,
    aliases: Mapping[str, str],
    *,
    at_least: int = association.MINIMUM,
    seed: int = 0,
) -> MismatchReport:
    """What `benchmark`, a task of `results`, ranks against each slice of every task among them.

    Of a task the first slice is its own headline, where that is another; the others are what is picked from its pools,
    of all and of each facet. The benchmark's own pools count where they have more than two responses. Raises
    ResultError where fewer than two models have the benchmark and something else.
    """
    left_out = [f"{one.subject.id} on {one.task.name}" for one in results if not collection.is_answered(one)]
    left_out = [f"{name} is left out: examples are unanswered" for name in left_out]
    groups = collection.groups([one for one in results if collection.is_answered(one)])
    if benchmark not in groups:
        raise ResultError(f"no answered results of {benchmark!r}; there are some of {', '.join(groups) or 'nothing'}")
    own = max(groups[benchmark].values(), key=len)
    left_out += [
        f"{one.subject.id} on {benchmark} is left out: it judged other examples than most"
        for group in groups[benchmark].values()
        if group is not own
        for one in group
    ]
    headline = _headline(find)
    ranked = Benchmark(judged_by(own, aliases), headline, seed)
    first, slices = ranked.of([one.model for one in ranked.judged]), list[Slice]()
    for task, titled in groups.items():
        for title, group in titled.items():
            if task == benchmark and group is not own:
                continue
            name = f"{task} {title}" if len(titled) > 1 else task
            theirs = ranked.judged if group is own else judged_by(group, aliases)
            made, lines = _slices(name, ranked, theirs, headline, at_least)
            slices, left_out = slices + made, left_out + lines
    if not slices:
        raise ResultError(f"nothing to hold {benchmark} against: {'; '.join(left_out) or 'it is the only task'}")
    statistic = first.statistics[0]
    return MismatchReport(
        benchmark, statistic.name, statistic.title, statistic.kind, len(first.codes),
        first.places(), _adjusted(slices), left_out,
    )  # fmt: skip


def _headline(find: Find) -> Make:
    """The headline of a result's task, in the model's primary view. It raises ResultError where that task is not the
    one installed.
    """

    def make(judged: Judged, outcomes: Sequence[Outcome]) -> Statistic | None:
        result = judged.result
        measure, view = measure_of(result, find), result.primary_view
        made = measure.statistics(outcomes, view, result.fitted.measure.get(view))
        return next((one for one in made if one.name == measure.headline), None)

    return make


def _picked(judged: Judged, outcomes: Sequence[Outcome]) -> Statistic | None:
    """The label of what the reward picks; None of a model that only compared."""
    if judged.result.scale is None:
        return None
    return pick.statistics(outcomes, judged.result.primary_view)[0]


def _slices(
    task: str, ranked: Benchmark, theirs: Sequence[Judged], headline: Make, at_least: int
) -> tuple[list[Slice], list[str]]:
    """The slices of a task on which two models or more are that have the benchmark, and why others are none."""
    shared = [one for one in theirs if one.model in {ours.model for ours in ranked.judged}]
    if len(shared) < 2:
        return [], [f"{task} is left out: of its models {len(shared)} have the benchmark"]
    parts, lines = _parts(task, shared, headline, is_own=theirs is ranked.judged)
    made = []
    for name, make, places in parts:
        side = side_of(shared, make, places, ranked.seed)
        if side is None:
            lines.append(f"{task} {name} is left out: fewer than two models have examples that count for both")
        else:
            made.append(_slice(task, name, ranked.of(side.models), side, at_least))
    return made, lines


def _parts(
    task: str, shared: Sequence[Judged], headline: Make, *, is_own: bool
) -> tuple[list[tuple[str, Make, list[int]]], list[str]]:
    """Of each slice its name, what makes its figure, and the places of its examples; and why others are none."""
    outcomes = shared[0].outcomes
    parts, lines = list[tuple[str, Make, list[int]]](), list[str]()
    try:
        statistic = None if is_own else headline(shared[0], outcomes)
        if statistic is not None and statistic.name != pick.PICK.headline:
            parts.append((_HEADLINE, headline, list(range(len(outcomes)))))
    except ResultError as error:
        lines.append(f"the headline of {task} is left out: {error}")
    pools, few = _pools(outcomes, 3 if is_own else 2), 0
    for name, places in subsets_of([outcomes[place].facets for place in pools]).items():
        few += 0 < len(places) < LEAST_EXAMPLES
        if len(places) >= LEAST_EXAMPLES and (name == "all" or len(places) < len(pools)):
            parts.append((name, _picked, [pools[place] for place in places]))
    if few:
        lines.append(f"{few:,} slices of {task} with fewer than {LEAST_EXAMPLES} pools are left out")
    return parts, lines


def _pools(outcomes: Sequence[Outcome], least: int) -> list[int]:
    """The places of those with so many responses or more, all with labels; [] where no two differ anywhere."""
    labels = [outcome.labels for outcome in outcomes]
    pools = [place for place, one in enumerate(labels) if len(one) >= least and np.isfinite(one).all()]
    return pools if any(np.ptp(labels[place]) > 0 for place in pools) else []


def _slice(task: str, name: str, benchmark: Side, side: Side, at_least: int) -> Slice:
    """A slice held against what the benchmark says of the same models."""
    placed, before = side.places(), benchmark.places()
    first, favoured = next(iter(placed)), next(iter(before))
    rulers = [] if name == _HEADLINE else pick.statistics(side.outcomes, side.judged[0].result.primary_view)[2:]
    chance, oracle = [whole_value(one, side.codes) for one in rulers] or (None, None)
    pairs = list(combinations(before, 2))
    swaps = [_swap(one, other, benchmark, side) for one, other in pairs if _is_swapped(one, other, before, placed)]
    statistic = side.statistics[0]
    return Slice(
        task, "all" if name == _HEADLINE else name, statistic.name, statistic.kind, len(side.codes), chance, oracle,
        placed, before, *_correlated(benchmark, side, at_least), first, side.apart(first, favoured), len(pairs), swaps,
    )  # fmt: skip


def _is_swapped(above: str, below: str, before: Mapping[str, Placed], placed: Mapping[str, Placed]) -> bool:
    """Whether the second is above the first on the slice, though the first was above it."""
    return before[above].rank.rank < before[below].rank.rank and placed[above].rank.rank > placed[below].rank.rank


def _swap(above: str, below: str, benchmark: Side, side: Side) -> Swap:
    ours, theirs = benchmark.apart(above, below), side.apart(above, below)
    return Swap(above, below, ours, theirs, max(ours.p, theirs.p))


def _correlated(
    benchmark: Side, side: Side, at_least: int
) -> tuple[Correlation | None, Correlation | None, float | None, float | None, str | None]:
    """Pearson, Spearman, Kendall and the p of Pearson's, both sides signed so that more is better; else the reason."""
    n = len(side.models)
    if n < at_least:
        return None, None, None, None, f"{n} common models, expected {at_least} or more"
    x, y = (one.values() for one in (benchmark, side))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        which = "the benchmark" if np.ptp(x) == 0 else "the slice"
        return None, None, None, None, f"{which} is the same for all {n} models"
    drawn = benchmark.drawn(), side.drawn()
    return (
        Correlation(association.pearson(x, y), *association.drawn_interval(x, y, *drawn)),
        Correlation(association.spearman(x, y), *association.drawn_rank_interval(x, y, *drawn)),
        association.kendall(x, y),
        association.permutation_p(x, y, seed=side.seed),
        None,
    )


def _adjusted(slices: Sequence[Slice]) -> list[Slice]:
    """The same with Holm's p of every swap; pairs that did not swap are tests too, of p 1."""
    tests = [swap.p for one in slices for swap in one.swaps]
    others = sum(one.pairs for one in slices) - len(tests)
    adjusted = iter(holm([*tests, *[1.0] * others]))
    return [replace(one, swaps=[replace(swap, p_holm=next(adjusted)) for swap in one.swaps]) for one in slices]
