"""Results of several tasks beside each other: each headline by model, and what a model's tasks took and share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rmbench.results.digest import digest, figure
from rmbench.results.files import result_folder
from rmbench.results.schema import Metric, TaskResult

SHARED = (
    "distinct: requests that differ, over all tasks; shared: of these, such as another task of the run had asked "
    "already, whose answer served both; scored: now, and not from the store"
)


@dataclass(frozen=True, slots=True)
class Line:
    """The headline of one task: what its column is called, whether in percent, what the data give to a rule that does
    not read, and a figure by model, None where it has no number."""

    task: str
    examples: int
    heading: str
    is_share: bool
    chance: Metric | None
    figures: Mapping[str, Metric | None]


@dataclass(frozen=True, slots=True)
class Effort:
    """What a model's results of several tasks took.

    `requests` are those of all tasks, of which `distinct` differ; `shared` says of a task how many of its own another
    had asked before. `scored` were run now, in `seconds` that read `tokens`.
    """

    model: str
    tasks: int
    requests: int
    distinct: int
    shared: Mapping[str, int]
    scored: int
    tokens: int
    seconds: float

    @property
    def rate(self) -> float | None:
        """Tokens a second of scoring; None where no tokens were read."""
        return self.tokens / self.seconds if self.tokens and self.seconds else None


def headlines(results: Sequence[TaskResult]) -> list[Line]:
    """A line a task, in the order of the results."""
    names = _names(results)
    return [_line([result for result in results if result.label == task], names) for task in _tasks(results)]


def _line(results: Sequence[TaskResult], names: Mapping[Path, str]) -> Line:
    digested, first = digest(results), results[0]
    rule = next((figure(first, name, first.primary_view) for name in digested.rules[:1]), None)
    figures = {
        names[result_folder(result)]: figure(result, digested.headline, result.primary_view) for result in results
    }
    share = digested.is_share(digested.headline)
    return Line(first.label, first.dataset.examples, digested.heading(digested.headline), share, rule, figures)


def efforts(results: Sequence[TaskResult]) -> list[Effort]:
    """What each model took that has results of several tasks, where it was counted what these share."""
    made = []
    for folder, name in _names(results).items():
        own = [result for result in results if result_folder(result) == folder]
        if len(_tasks(own)) > 1 and all(result.timing.shared is not None for result in own):
            made.append(_effort(name, own))
    return made


def _effort(name: str, results: Sequence[TaskResult]) -> Effort:
    timings = [result.timing for result in results]
    shared = {result.label: result.timing.shared for result in results if result.timing.shared}
    return Effort(
        model=name,
        tasks=len(_tasks(results)),
        requests=sum(timing.requests for timing in timings),
        distinct=sum(timing.unique for timing in timings) - sum(shared.values()),
        shared=shared,
        scored=sum(timing.scored for timing in timings),
        tokens=sum(timing.tokens for timing in timings),
        seconds=sum(timing.scoring_seconds for timing in timings),
    )


def _names(results: Sequence[TaskResult]) -> dict[Path, str]:
    """What each model in each configuration is called: its id, with its folder where another has that id."""
    ids = {result_folder(result): result.subject.id for result in results}
    shared = Counter(ids.values())
    return {folder: id_ if shared[id_] == 1 else f"{id_} ({folder.name})" for folder, id_ in ids.items()}


def _tasks(results: Sequence[TaskResult]) -> list[str]:
    return [*dict.fromkeys(result.label for result in results)]
