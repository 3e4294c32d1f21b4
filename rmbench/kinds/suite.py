"""Suites: tasks that are run together, and the mean of them where there is one.

A suite has a mean only where every one of its tasks has a metric, each is a fraction of which more is better, and every
task was run whole. Its interval is over the clusters of all tasks at once, joined where they share a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from rmbench.errors import UsageError
from rmbench.metrics.interval import Estimate, Statistic, estimate
from rmbench.metrics.measure import Make, Measure, macro
from rmbench.types import Json, Outcome

_TASK = "task of the suite"  # the facet that an outcome's task is while a mean is made


@dataclass(frozen=True)
class Suite:
    """`tasks` gives each task by name its metric, None where it has none in a mean, and its weight in that mean."""

    name: str
    summary: str
    tasks: Mapping[str, tuple[str | None, float]]

    def __post_init__(self) -> None:
        """Raises UsageError for a suite without tasks and for weights that are none."""
        object.__setattr__(self, "tasks", MappingProxyType(dict(self.tasks)))
        if not self.tasks:
            raise UsageError(f"suite {self.name!r} has no tasks")
        for task, (_, weight) in self.tasks.items():
            if not (math.isfinite(weight) and weight > 0):
                raise UsageError(f"suite {self.name!r}: the weight of {task} is {weight!r}; expected a number above 0")


def suite_mean(
    suite: Suite,
    outcomes: Mapping[str, Sequence[Outcome]],
    measures: Mapping[str, Measure],
    view: str | Mapping[str, str] = "default",
    *,
    partial: Collection[str] = (),
    draws: int = 2000,
    seed: int = 0,
) -> Estimate | str:
    """The mean of a suite with its 95 % interval, else the reason why there is none.

    `outcomes` and `measures` are those of each task by name, `view` is one of all tasks or of each, and `partial` names
    the tasks that were not run whole. Clusters are joined where their outcomes share a prompt, whatever their names:
    the same name in two tasks says nothing, and one prompt in two tasks is no two draws.
    """
    parts, joined = [], _joined({task: outcomes[task] for task in suite.tasks if task in outcomes})
    for task, (metric, weight) in suite.tasks.items():
        if metric is None:
            return f"{task} has no metric that a mean could take"
        if not outcomes.get(task):
            return f"{task} was not run"
        if task in partial:
            return f"{task} was not run whole"
        seen = view if isinstance(view, str) else view[task]
        measure = measures[task]
        fitted = measure.fit(outcomes[task], seen)
        statistics = {one.name: one for one in measure.statistics(outcomes[task], seen, fitted)}
        if metric not in statistics:
            return f"{task} gives no {metric} of the view {seen}"
        if reason := _open(task, statistics[metric], outcomes[task]):
            return reason
        parts.append((float(weight), {_TASK: task}, _make(measure, metric, seen, fitted)))
    pooled = [outcome for task in suite.tasks for outcome in joined[task]]
    mean = macro("mean", parts)(pooled, "", None)
    [estimated] = estimate([mean], [outcome.cluster for outcome in pooled], draws=draws, seed=seed)
    return estimated if math.isfinite(estimated.value) else "a metric of one of its tasks has no value"


def _open(task: str, statistic: Statistic, outcomes: Sequence[Outcome]) -> str | None:
    """Why a metric of a task has no place in a mean; None where it has."""
    if statistic.kind == "number" or statistic.better != "higher":
        return f"{statistic.name} of {task} is no fraction of which more is better"
    lost = _unanswered(outcomes, statistic)
    return f"{lost:,} of {len(outcomes):,} examples of {task} are unanswered" if lost else None


def _unanswered(outcomes: Sequence[Outcome], statistic: Statistic) -> int:
    """How many examples lack an answer; a verdict that could not be read, or an infinity, is one where it counts."""
    counts = statistic.counts(len(outcomes)).tolist()
    return sum(
        any(answer.status not in (("ok", "inf", "refused") if counted else ("ok",)) for answer in outcome.answers)
        for outcome, counted in zip(outcomes, counts, strict=True)
    )


def _make(measure: Measure, metric: str, view: str, fitted: Json) -> Make:
    def make(outcomes: Sequence[Outcome], _: str, __: Json) -> Statistic:
        return next(one for one in measure.statistics(outcomes, view, fitted) if one.name == metric)

    return make


def _joined(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, list[Outcome]]:
    """The outcomes of each task, in clusters that are joined through the prompts they share."""
    parents: dict[tuple[str, ...], tuple[str, ...]] = {}

    def root(node: tuple[str, ...]) -> tuple[str, ...]:
        while (above := parents.setdefault(node, node)) != node:
            parents[node] = parents[above]
            node = above
        return node

    for task, own in outcomes.items():
        for outcome in own:
            if outcome.prompt:
                parents[root((outcome.prompt,))] = root((task, str(outcome.cluster)))
    numbers: dict[tuple[str, ...], int] = {}
    return {
        task: [
            replace(
                outcome,
                facets={**outcome.facets, _TASK: task},
                cluster=str(numbers.setdefault(root((task, str(outcome.cluster))), len(numbers))),
            )
            for outcome in own
        ]
        for task, own in outcomes.items()
    }
