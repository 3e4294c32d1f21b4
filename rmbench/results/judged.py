"""A task's examples as they are judged, one after the other, and the result that they make."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from rmbench.data.dataset import Dataset
from rmbench.metrics.measure import Measure
from rmbench.metrics.views import given_of
from rmbench.plugins import did_you_mean
from rmbench.results import provenance, records
from rmbench.results.figures import Counts, bootstrap, figures
from rmbench.results.replay import data_hashes
from rmbench.results.schema import (
    Config,
    DatasetInfo,
    Fitted,
    ModelFit,
    Source,
    SubjectInfo,
    TaskInfo,
    TaskResult,
    Timing,
)
from rmbench.types import Example, NullVerdict, Outcome, Question, Reward

_LISTED = 8  # values of a facet that a line names


class JudgingTask(Protocol):
    """What a result needs of the task that it is of."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def null_verdict(self) -> NullVerdict | None: ...

    @property
    def measure(self) -> Measure: ...

    @property
    def positive(self) -> str | None: ...

    def outcome(self, example: Example, questions: Sequence[Question], rewards: Sequence[Reward]) -> Outcome: ...

    def primary_view(self, views: Sequence[str]) -> str: ...


class Judged:
    """What is known of a task's examples once they are judged: all but texts and requests."""

    def __init__(self, task: JudgingTask) -> None:
        self.task = task
        self.outcomes: list[Outcome] = []
        self.counts = Counts()
        self._records = records.Records()
        self._candidates = 0
        self._problems: dict[tuple[str, str], str] = {}
        self._times: Counter[tuple[str, str]] = Counter()

    def add(self, example: Example, questions: Sequence[Question], rewards: Sequence[Reward]) -> None:
        """Adds an example, with the answers to its questions in the same order."""
        given = given_of(questions, rewards)
        self.outcomes.append(self.task.outcome(example, questions, rewards))
        texts = self._records.add(example, given)
        self.counts.add(given, texts)
        self._candidates += len(texts)
        for one in given:
            if one.reward.status != "ok":
                self._add_problem(example, one.candidates, one.reward)

    @property
    def problems(self) -> list[str]:
        """One line per status that is not `ok` and reason, numbers in it aside: how often, and where first."""
        return [f"{self._times[kind]:,} rewards are {kind[0]}, {line}" for kind, line in self._problems.items()]

    def result(
        self,
        data: Dataset,
        subject: SubjectInfo,
        config: Config,
        timing: Timing,
        *,
        seed: int = 0,
        fitted: ModelFit | None = None,
    ) -> TaskResult:
        """The result of everything that was added; `fitted` is what the model itself fitted."""
        drawn = bootstrap(seed)
        measured = figures(self.task, self.outcomes, drawn)
        candidates = records.with_probabilities(self._records.candidates(), measured.probabilities)
        requests, hashes = self._records.requests(), data_hashes(candidates)
        fields = dict(measured.fields) | self.counts.fields()
        fits = Fitted(**fields.pop("fitted"), model=fitted)
        result = TaskResult(
            task=task_info(self.task),
            dataset=DatasetInfo(
                sources=sources_of(data),
                sha256=data.sha256,
                examples_sha256=hashes.examples,
                responses_sha256=hashes.responses,
                examples=len(self.outcomes),
                candidates=self._candidates,
                excluded=dict(data.excluded),
                noted=dict(data.noted),
                part=data.part,
            ),
            subject=subject,
            fitted=fits,
            bootstrap=drawn,
            columns=provenance.columns_of(candidates, requests),
            timing=timing,
            environment=provenance.environment(),
            config=config,
            created=provenance.now(),
            **fields,
        )
        result._records, result._requests = candidates, requests
        result._problems = [*self.problems, *headless(result)]
        return result

    def _add_problem(self, example: Example, candidates: Sequence[int], reward: Reward) -> None:
        kind = reason_of(reward)
        self._times[kind] += 1
        place = f"example {example.id}, candidate {' and '.join(map(str, candidates))}"
        self._problems.setdefault(kind, f"first at {place}" + (f": {reward.detail}" if reward.detail else ""))


def reason_of(reward: Reward) -> tuple[str, str]:
    """What a reward that is none is counted under: its status and the reason, numbers and the example in it aside."""
    reason = provenance.OF_ONE_EXAMPLE.sub("", reward.detail or "")
    return reward.status, re.sub(r"\d[\d,.]*", "#", reason)


def headless(result: TaskResult) -> list[str]:
    """A line where the measure's headline has no value, as where the data lack a part of a mean over parts."""
    headline = result.task.headline
    metrics = [one for one in result.metrics if (one.view, one.subset) == (result.primary_view, "all")]
    values = {one.name: one.value for one in metrics}
    if not metrics or values.get(headline) is not None:
        return []
    if headline not in values:
        return [f"the headline {headline!r} is no figure of {result.primary_view}{did_you_mean(headline, values)}"]
    if sum(result.left_out.get(result.primary_view, {}).values()) == result.dataset.examples:  # whatever the parts
        return [f"the headline {headline} has no value, as no example counts"]
    facets: dict[str, list[str]] = {}
    for facet in sorted({one.subset for one in result.metrics} - {"all"}):
        facets.setdefault(facet.partition("=")[0], []).append(facet)
    listed = [
        ", ".join(parts) if len(parts) <= _LISTED else f"{len(parts)} of {name}" for name, parts in facets.items()
    ]
    return [f"the headline {headline} has no value; the facets of the data are {', '.join(listed) or 'none'}"]


def task_info(task: Any) -> TaskInfo:
    """What a result says of its task; orders and verdicts only where the kind has them."""
    return TaskInfo(
        name=task.name,
        version=task.version,
        kind=task.kind,
        measure=task.measure.name,
        headline=task.measure.headline,
        orders=task.orders,
        null_verdict=getattr(task, "null_verdict", None),
    )


def sources_of(data: Dataset) -> list[Source]:
    """Where a data set's rows are from."""
    return [
        Source(
            id=source.id,
            revision=source.revision,
            config=source.config,
            split=source.split,
            facets=dict(source.facets),
            sha256=source.sha256,
            rows=source.rows,
        )
        for source in data.sources
    ]
