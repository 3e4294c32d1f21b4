"""What a task is, and what the kinds share: where examples come from, what is asked, what becomes of the answers."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from rmbench.data.dataset import Collection, Dataset, LeftOut, Source, prompt_hash
from rmbench.data.files import Rows
from rmbench.data.hub import LOCAL, HubSet
from rmbench.data.part import Part
from rmbench.data.rows import Row
from rmbench.data.steps import in_steps
from rmbench.errors import DataError, ModelError
from rmbench.metrics.measure import Measure
from rmbench.metrics.views import facts_of, given_of, outcome_of
from rmbench.types import (
    Ask,
    Candidate,
    Due,
    Example,
    NullVerdict,
    Outcome,
    Place,
    Question,
    Request,
    Response,
    Reward,
)

Read = Callable[[Iterable[Row]], Iterator[Example | LeftOut]]


class Task(Protocol):
    """What an evaluation needs of a task; a kind provides it."""

    @property
    def kind(self) -> str: ...

    @property
    def subject(self) -> Literal["reward_model", "policy"]: ...

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def summary(self) -> str: ...

    @property
    def card(self) -> str: ...

    @property
    def sources(self) -> Sequence[HubSet]: ...

    @property
    def orders(self) -> str | None: ...

    @property
    def null_verdict(self) -> NullVerdict | None: ...

    @property
    def positive(self) -> str | None: ...

    @property
    def measure(self) -> Measure: ...

    def load(self, data: Path | Rows | None = None, part: Part | None = None) -> Dataset: ...

    def questions(
        self, example: Example, answers: frozenset[Ask], dataset: str, most: int | None = None
    ) -> list[Question]: ...

    def outcome(self, example: Example, questions: Sequence[Question], rewards: Sequence[Reward]) -> Outcome: ...

    def primary_view(self, views: Sequence[str]) -> str: ...


@dataclass(frozen=True)
class Reading:
    """What all kinds share: where the examples come from.

    `read` turns rows into examples; the rows come from a file the user names, else from `bundled` (a file beside the
    task's module), else from `sources` on the hub, one after the other, each with its facets. `version` rises whenever
    the same rows would give other examples. `subject` is who is asked.
    """

    subject: ClassVar[Literal["reward_model", "policy"]] = "reward_model"
    lacks: ClassVar[str] = "can be used"  # none of the examples, where the data are refused

    name: str
    version: int
    summary: str
    card: str
    read: Read
    sources: tuple[HubSet, ...] = ()
    bundled: Path | None = None

    def load(self, data: Path | Rows | None = None, part: Part | None = None) -> Dataset:
        """The examples, or a `part` of them, of `data` (a file, a folder, or rows), or of the task's own.

        Raises DataError, UsageError.
        """
        given, collection = data or self.bundled, Collection(part, self.is_usable)
        sources, noted = list[Source](), Counter[str]()
        if given is not None:
            rows = given if isinstance(given, Rows) else Rows(given)
            for item in self.read(rows):
                collection.add(item, rows.file)
            for reason in rows.skipped.elements():
                collection.add(LeftOut(reason), rows.file)
            name, revision = ("bundled", None) if data is None else (rows.name, LOCAL)
            sources.append(Source(name, revision, rows.sha256(), rows.count))
            noted.update(rows.noted())
        elif not self.sources:
            raise DataError(f"{self.name}: no data of its own; give --data {self.name}=FILE")
        for hub in self.sources if given is None else ():
            loaded = hub.load(self.name)
            for item in self.read(loaded.rows):
                collection.add(_of_facets(item, hub.facets), hub.place)
            sources.append(loaded.source)
            noted.update(loaded.tally.noted())
        examples = collection.dataset(sources, noted)
        if not collection.is_usable:
            raise DataError(f"{examples.source}: no usable example: none of {collection.seen:,} {self.lacks}")
        return examples

    def is_usable(self, example: Example) -> bool:
        """Whether something can be measured on an example; data without any such are refused."""
        return True


def _of_facets(item: Example | LeftOut, facets: Mapping[str, str]) -> Example | LeftOut:
    if isinstance(item, LeftOut) or not facets:
        return item
    return replace(item, facets={**item.facets, **facets})


@dataclass(frozen=True)
class Judging(Reading, ABC):
    """What the kinds for reward models share: prompts with candidates, of which one is asked what they are worth.

    `asks` are those that a task can put, the first of which a model that answers several is asked. `primary` is the
    view that the benchmark prescribes, where a model has it. `null_verdict` says what a verdict that could not be read
    is: no answer, or, where a benchmark defines it so, a loss (of the right answer, or of whoever gave no verdict of a
    response) or nought, which adds nothing to what the other orders say. `positive` is the class that is right, None
    where labels say so themselves.
    """

    null_verdict: NullVerdict = "no answer"
    primary: str | None = None
    asks: tuple[Ask, ...] = ("reward", "steps", "compare")

    positive: ClassVar[str | None] = None
    lacks: ClassVar[str] = "has candidates with different labels"

    @abstractmethod
    def displays(self, example: Example, most: int | None = None) -> list[tuple[int, ...]]:
        """Which candidates are shown to a model that only compares, in the order shown, at most so many at once."""

    def is_usable(self, example: Example) -> bool:
        """Whether two candidates have different labels."""
        labels = [candidate.number for candidate in example.candidates]
        return None not in labels and len(set(labels)) > 1

    def questions(
        self, example: Example, answers: frozenset[Ask], dataset: str, most: int | None = None
    ) -> list[Question]:
        """What to ask of a model that `answers` so, and compares so many responses at `most` (None: any number).

        `dataset` is the data set's sha256. Raises ModelError.
        """
        ask = next((ask for ask in self.asks if ask in answers), None)
        if ask is None:
            given = ", ".join(sorted(answers)) or "nothing"
            asked = " or ".join(filter(None, [", ".join(self.asks[:-1]), self.asks[-1]]))
            raise ModelError(f"{self.name}: the model answers {given}; this task asks {asked}")
        alone = [(index,) for index in range(len(example.candidates))]
        shown = self.displays(example, most) if ask == "compare" else alone
        return [_question(ask, example, indices, dataset) for indices in shown]

    def due(self, outcome: Outcome, answers: frozenset[Ask], most: int | None = None) -> Sequence[Due] | None:
        """What `questions` asks of an example, from what a result's records hold of it: all but its texts.

        None where only texts tell: a task that asks by them, and not by labels, tags or facets, returns that.
        """
        example = _without_texts(outcome)
        asked = [(one.request.ask, one.place) for one in self.questions(example, answers, "", most)]
        return [
            Due(ask, place.candidates, not self.states_order(example, place.candidates))
            for ask, place in asked
            if place is not None
        ]

    def states_order(self, example: Example, shown: tuple[int, ...]) -> bool:
        """Whether data or task state the order in which these are shown, so that it is not drawn from texts."""
        return len(shown) == 1

    def outcome(self, example: Example, questions: Sequence[Question], rewards: Sequence[Reward]) -> Outcome:
        """What measures see of an example, given the answers to its `questions`, in the same order."""
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
        """The view to look at first: the one prescribed, else the model's own, else the product of its steps."""
        if self.primary in views:
            return str(self.primary)
        return "default" if "default" in views else "prod"


def drawn(example: Example, index: int, turn: str = "") -> bytes:
    """A hash of one candidate by which an order is drawn: of what a model sees of it, never of its place or label.

    A candidate that only a score file knows has nothing to see, and its place stands for it. `turn` gives other draws.
    """
    candidate = example.candidates[index]
    response = _whole(candidate)
    if response.messages is None:
        seen: object = [example.id, index]
    else:
        seen = [prompt_hash(example.prompt), prompt_hash(response.messages)]
    return sha256(json.dumps([turn, seen]).encode()).digest()


def _without_texts(outcome: Outcome) -> Example:
    """The example that an outcome is of, as far as it knows it."""
    labels = [None if math.isnan(label) else float(label) for label in outcome.labels]
    classes = outcome.classes or [None] * len(labels)
    tags = outcome.tags or [{}] * len(labels)
    annotations = [()] * len(labels) if outcome.annotations is None else map(tuple, outcome.annotations.tolist())
    candidates = [
        Candidate(Response(None), number if word is None else word, given, None, own_tags)
        for number, word, given, own_tags in zip(labels, classes, annotations, tags, strict=True)
    ]
    return Example(outcome.example_id, (), tuple(candidates), facets=outcome.facets, cluster=outcome.cluster)


def _question(ask: Ask, example: Example, indices: tuple[int, ...], dataset: str) -> Question:
    candidates = [example.candidates[index] for index in indices]
    responses = tuple([taken_apart(one) if ask == "steps" else _whole(one) for one in candidates])
    request = Request(ask, example.prompt, responses, example.tools, example.reference, example.criteria)
    return Question(request, Place(dataset, example.id, indices, example.cluster or example.id))


def taken_apart(candidate: Candidate) -> Response:
    """A candidate in the steps that the data give it, else in those of its text, or one a turn of a trajectory."""
    return in_steps(_whole(candidate))


def _whole(candidate: Candidate) -> Response:
    return candidate.response if isinstance(candidate.response, Response) else Response(candidate.response)
