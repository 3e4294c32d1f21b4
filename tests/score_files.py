"""The figures of a score file on a task, without intervals: quick enough to go through many files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmbench.metrics.interval import cluster_codes, whole_value
from rmbench.models import scores
from rmbench.types import Outcome, Reward


def figures(task: Any, file: Path, data: Path | None = None, **facets: str) -> dict[str, float]:
    """Every statistic by name, of the examples that have these `facets`; the score file is the data unless told."""
    return values(task, [one for one in outcomes_of(task, file, data or file) if facets.items() <= one.facets.items()])


def values(task: Any, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The value of every statistic of the task's measure, in the view to look at first."""
    view = task.primary_view(list(outcomes[0].views))
    codes = cluster_codes([outcome.cluster for outcome in outcomes])
    fitted = task.measure.fit(outcomes, view)
    return {one.name: whole_value(one, codes) for one in task.measure.statistics(outcomes, view, fitted)}


def outcomes_of(task: Any, file: Path, data: Path) -> list[Outcome]:
    """What a score file says of every example of the data."""
    model, loaded = scores.open(str(file), {"aggregate": None}, None), task.load(data)
    asked = [task.questions(example, model.answers, loaded.sha256) for example in loaded.examples]
    rewards = iter(model.lookup([question for questions in asked for question in questions]))
    return [
        task.outcome(example, questions, [next(rewards) for _ in questions])
        for example, questions in zip(loaded.examples, asked, strict=True)
    ]


def rewarded(task: Any, data: Path) -> list[Outcome]:
    """The outcomes of a model that rewards length."""
    loaded = task.load(data)
    asked = [task.questions(example, frozenset({"reward"}), loaded.sha256) for example in loaded.examples]
    return [
        task.outcome(example, questions, [Reward((float(len(one.request.responses[0].text)),)) for one in questions])
        for example, questions in zip(loaded.examples, asked, strict=True)
    ]
