"""The kinds of task. A task is a declaration of the few things that are its own; its kind does the rest.

A kind owns what is asked of a model (`requests`) and what becomes of the answers (`outcome`). Both see labels; a
`Request` carries none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from rmbench.data.dataset import Dataset, LeftOut, collect, prompt_hash
from rmbench.data.files import Row, file_sha256, read_rows
from rmbench.data.hub import HubSet
from rmbench.data.steps import split_steps
from rmbench.errors import DataError, ModelError, UsageError
from rmbench.metrics import summary
from rmbench.metrics.measure import Measure
from rmbench.metrics.views import facts_of, given_of, outcome_of
from rmbench.types import (
    Answer,
    Array,
    Ask,
    Candidate,
    Example,
    Outcome,
    Place,
    Question,
    Request,
    Response,
    Reward,
)

Order = Literal["official", "both_orders", "round_robin"]


class Task(Protocol):
    """What the flow needs of a task; a kind provides it."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def summary(self) -> str: ...

    @property
    def card(self) -> str: ...

    @property
    def protocol(self) -> str | None: ...

    @property
    def null_verdict(self) -> Literal["no answer", "loss"] | None: ...

    @property
    def measure(self) -> Measure: ...

    def load(self, path: Path | None = None) -> Dataset: ...

    def questions(self, example: Example, answers: frozenset[Ask], dataset: str) -> list[Question]: ...

    def outcome(self, example: Example, questions: Sequence[Question], rewards: Sequence[Reward]) -> Outcome: ...

    def primary_view(self, views: Sequence[str]) -> str: ...


@dataclass(frozen=True)
class _Reading:
    """What all kinds share: where the examples come from.

    `read` turns rows into examples; the rows come from a file the user names, else from `bundled` (a file beside the
    task's module), else from `hub`. `version` rises whenever the same rows would give other examples.
    """

    name: str
    version: int
    summary: str
    card: str
    read: Callable[[Iterable[Row]], Iterator[Example | LeftOut]]
    hub: HubSet | None = None
    bundled: Path | None = None

    def _load(self, path: Path | None) -> Dataset:
        if path is not None:
            rows, source = read_rows(path), path.resolve().name
            return collect(self.read(rows), source=source, revision="local", sha256=file_sha256(path))
        if self.bundled is not None:
            rows = read_rows(self.bundled)
            return collect(self.read(rows), source="bundled", revision=None, sha256=file_sha256(self.bundled))
        if self.hub is not None:
            hub = self.hub.load(self.name)
            return collect(self.read(hub.rows), source=hub.source, revision=hub.revision, sha256=hub.sha256)
        raise DataError(f"{self.name}: no data of its own; give --data {self.name}=FILE")


@dataclass(frozen=True)
class _Judging(_Reading, ABC):
    """What the kinds for reward models share: prompts with candidates, of which one is asked what they are worth.

    A model is asked for the reward of each candidate, else for the rewards of its steps, else to compare pairs.
    `step_view` is the step aggregator to look at first.
    """

    null_verdict: Literal["no answer", "loss"] = "no answer"
    step_view: str = "prod"

    @abstractmethod
    def pairs(self, example: Example) -> list[tuple[int, ...]]:
        """Which candidates are shown to a model that only compares, in the order shown."""

    def load(self, path: Path | None = None) -> Dataset:
        """The examples of `path` (file or folder), or of the task's own data. Raises DataError."""
        data = self._load(path)
        if not any(_has_better_and_worse(example) for example in data.examples):
            raise DataError(
                f"{data.source}: no usable example: none of {len(data.examples):,} has candidates with different labels"
            )
        return data

    def questions(self, example: Example, answers: frozenset[Ask], dataset: str) -> list[Question]:
        """What to ask of a model that `answers` so; `dataset` is the data set's sha256. Raises ModelError."""
        if "reward" in answers or "steps" in answers:
            ask: Ask = "reward" if "reward" in answers else "steps"
            shown: list[tuple[int, ...]] = [(index,) for index in range(len(example.candidates))]
        elif "compare" in answers:
            ask, shown = "compare", self.pairs(example)
        else:
            given = ", ".join(sorted(answers)) or "nothing"
            raise ModelError(f"{self.name}: the model answers {given}; this task asks reward, steps or compare")
        return [_question(ask, example, indices, dataset) for indices in shown]

    def outcome(self, example: Example, questions: Sequence[Question], rewards: Sequence[Reward]) -> Outcome:
        """What metrics see of an example, given the answers to its `questions`, in the same order."""
        return outcome_of(
            example.id,
            example.facets,
            example.cluster or example.id,
            facts_of(example),
            given_of(questions, rewards),
            null_verdict=self.null_verdict,
            prompt=prompt_hash(example.prompt) if example.prompt else "",
        )

    def primary_view(self, views: Sequence[str]) -> str:
        """The view to look at first."""
        return "default" if "default" in views else self.step_view


@dataclass(frozen=True)
class Comparison(_Judging):
    """Prompts with k >= 2 candidates, of which some are better: best-of-n groups and preference pairs.

    A model that compares is shown: `official`, every (right, wrong) pair once, in the order the data states (tag
    `chosen_position`) or one drawn from the example's id; `round_robin`, every pair once, `both_orders` every pair
    twice, whatever the labels. `null_verdict` says what a verdict that could not be read is: no answer, or, where a
    benchmark defines it so, a loss of the right answer.
    """

    protocol: Order = "official"
    measure: Measure = summary.COMPARISON

    def pairs(self, example: Example) -> list[tuple[int, ...]]:
        pairs = list(combinations(range(len(example.candidates)), 2))
        if self.protocol == "both_orders":
            return [order for first, second in pairs for order in ((first, second), (second, first))]
        if self.protocol == "official":
            labels = _labels(example)
            pairs = [(a, b) if labels[a] > labels[b] else (b, a) for a, b in pairs if labels[a] != labels[b]]
        return [_displayed(example, pair) for pair in pairs]


@dataclass(frozen=True)
class Probe(_Judging):
    """Edits of a response that a reward should, or should not, follow: one base a prompt, and its edits.

    The base is the candidate whose tag `edit` is `sufficient`; a model that compares is shown every other one against
    it, in both orders. `measure` says what the edits do to the reward.
    """

    measure: Measure = field(kw_only=True)
    protocol: ClassVar[None] = None

    def pairs(self, example: Example) -> list[tuple[int, ...]]:
        """Every candidate against the base, in both orders."""
        edits = [candidate.tags.get("edit") for candidate in example.candidates]
        base = edits.index("sufficient")
        others = [index for index in range(len(edits)) if index != base]
        return [order for other in others for order in ((base, other), (other, base))]


@dataclass(frozen=True, slots=True)
class Prompt(Example):
    """An example without candidates, for a policy to answer, and the condition that it puts the policy in.

    Each condition is a view of the results; in prompts of one cluster nothing else is to differ. `tags` go into the
    records.
    """

    condition: str = "default"
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation(_Reading):
    """Prompts that a policy answers, to see how long it writes; `cap` is the most new tokens unless a run says.

    `contrasts` are effects to measure within clusters: name, condition, and the condition it is compared with.
    """

    cap: int = field(kw_only=True)
    contrasts: tuple[tuple[str, str, str], ...] = ()
    protocol: ClassVar[None] = None

    def load(self, path: Path | None = None) -> Dataset:
        """The prompts of `path` (file or folder), or of the task's own data. Raises DataError."""
        return self._load(path)

    def questions(self, example: Example, answers: frozenset[Ask], dataset: str) -> list[Question]:
        """Raises UsageError: there is nothing to ask a reward model."""
        raise UsageError(f"{self.name} is answered by a policy, not judged by a reward model; give one with -p")


def _question(ask: Ask, example: Example, indices: tuple[int, ...], dataset: str) -> Question:
    responses = tuple([_response(example.candidates[index], ask) for index in indices])
    request = Request(ask, example.prompt, responses, example.tools, example.reference, example.criteria)
    return Question(request, Place(dataset, example.id, indices, example.cluster or example.id))


def _answers(questions: Sequence[Question], rewards: Sequence[Reward]) -> list[Answer]:
    """What came back to each comparison."""
    return [
        Answer(
            question.place.candidates, reward.values, reward.status, reward.pick, reward.spread, reward.n_tokens,
            reward.truncated, reward.read,
        )
        for question, reward in zip(questions, rewards, strict=True)
        if question.place
    ]  # fmt: skip


def _response(candidate: Candidate, ask: Ask) -> Response:
    """A candidate as a model is shown it, taken apart into steps where it is asked about them."""
    response = candidate.response if isinstance(candidate.response, Response) else Response(candidate.response)
    if ask == "steps" and response.steps is None and response.text is not None:
        steps = split_steps(response.text)
        return Response(response.messages, steps, response.tokens, response.finish, response.cap, response.top)
    return response


def _has_better_and_worse(example: Example) -> bool:
    labels = _labels(example)
    return len(labels) > 1 and bool(labels.max() > labels.min())


def _labels(example: Example) -> Array:
    return np.array([candidate.number for candidate in example.candidates], float)  # None is nan


def _displayed(example: Example, pair: tuple[int, int]) -> tuple[int, int]:
    """The display order of a pair: where the right one stood officially, else drawn from the example's id."""
    better, worse = pair
    position = example.candidates[worse].tags.get("chosen_position")
    if position in ("A", "B"):
        return (better, worse) if position == "A" else (worse, better)
    low, high = sorted(pair)
    drawn = sha256(f"{example.id}|{low}|{high}".encode()).digest()[0] % 2
    return (low, high) if drawn else (high, low)
