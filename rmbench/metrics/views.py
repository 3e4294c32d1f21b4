"""From what came back to the requests about an example to what measures see of it.

There is no other way there: an evaluation goes it with the answers of a model, and whoever reads a result with what its
records hold, so that both measure the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, overload

import numpy as np

from rmbench.metrics import comparison
from rmbench.metrics.aggregate import aggregate
from rmbench.types import Answer, Array, Ask, Example, Outcome, Question, Reward, Status, View

_NOTHING: Array = np.zeros(0)  # of most candidates, and an array each would be most of an outcome
_NOTHING.setflags(write=False)
_NOT_ASKED = Reward((np.nan,), status="missing")


class Given(NamedTuple):
    """What came back to one request: what was asked, about which candidates in the order shown, and the reward."""

    ask: Ask
    candidates: tuple[int, ...]
    reward: Reward


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the k candidates of an example, whatever a model says of them; each has one entry a candidate.

    `labels` is [k], nan where there is none, or a class. `characters` is [k], nan without text.
    """

    labels: Array
    characters: Array
    classes: Sequence[str | None] = ()
    annotations: Sequence[Sequence[float]] = ()
    tags: Sequence[Mapping[str, Any]] = ()
    step_labels: Sequence[Sequence[float] | None] = ()


def outcome_of(
    example_id: str,
    facets: Mapping[str, str],
    cluster: str,
    facts: Facts,
    given: Sequence[Given],
    *,
    null_verdict: str | None = None,
    prompt: str = "",
) -> Outcome:
    """What measures see of an example, from what was `given` to its requests, in the order asked."""
    alone = alone_of(len(facts.labels), given)
    columns = {"characters": facts.characters}
    if alone and len(given) == len(alone):
        columns["n_tokens"] = np.array([float(reward.n_tokens) for reward in alone])
        columns["truncated"] = np.array([float(reward.truncated) for reward in alone])
    heads = dict.fromkeys(head for reward in alone for head in reward.step_heads)
    return Outcome(
        example_id,
        facets,
        cluster,
        facts.labels,
        views(facts.labels, given, null_verdict),
        columns=columns,
        tags=facts.tags,
        step_heads={head: [_array(reward.step_heads.get(head, ())) for reward in alone] for head in heads},
        step_labels=[_array(labels or ()) for labels in facts.step_labels],
        prompt=prompt,
        classes=facts.classes,
        annotations=_annotations(facts.annotations),
        answers=_answers(given),
    )


def facts_of(example: Example) -> Facts:
    """What the data know of an example's candidates."""
    candidates = example.candidates
    texts = [candidate.text for candidate in candidates]
    return Facts(
        np.array([candidate.number for candidate in candidates], float),  # None is nan
        np.array([np.nan if text is None else float(len(text)) for text in texts]),
        classes=[candidate.label if isinstance(candidate.label, str) else None for candidate in candidates],
        annotations=[candidate.annotations for candidate in candidates],
        tags=[candidate.tags for candidate in candidates],
        step_labels=[candidate.step_labels for candidate in candidates],
    )


def status_of(ask: Ask, reward: Reward) -> Status:
    """The status of an answer that was given, by its numbers. Of rewards of steps that nothing is made of, it is the
    steps' status: ok where one of them has a number.
    """
    of = reward.values
    if ask == "steps" and math.isnan(reward.value):
        of = tuple(filter(math.isfinite, reward.steps))[:1] or reward.steps or of
    if all(map(math.isfinite, of)):
        return "ok"
    return "nan" if any(map(math.isnan, of)) else "inf"


def given_of(questions: Sequence[Question], rewards: Sequence[Reward]) -> list[Given]:
    """What a model gave to each of `questions`, those without a place left out."""
    return [
        Given(question.request.ask, question.place.candidates, reward)
        for question, reward in zip(questions, rewards, strict=True)
        if question.place is not None
    ]


def views(labels: Array, given: Sequence[Given], null_verdict: str | None = None) -> dict[str, View]:
    """Every view of the candidates with `labels` [k]: by head or step aggregator, `default` otherwise. Where steps were
    rated `default` is what the model makes of them itself, if it does.

    Where candidates were rated one by one the ratings are the views; else it is who was preferred to whom, in which a
    `refused` verdict is a loss of the one with the higher label if `null_verdict` is "loss", and adds nothing if it is
    "nought".
    """
    alone = alone_of(len(labels), given)
    if not alone:
        return _compared_views(labels, given, null_verdict)
    if any(one.ask == "steps" for one in given):
        return _step_views(alone)
    return _head_views(alone)


def alone_of(k: int, given: Sequence[Given]) -> list[Reward]:
    """The reward of each of k candidates that was rated by itself, `missing` where one was not; [] where none was."""
    rewards = {one.candidates[0]: one.reward for one in given if one.ask != "compare"}
    return [rewards.get(index, _NOT_ASKED) for index in range(k)] if rewards else []


def _compared_views(labels: Array, given: Sequence[Given], null_verdict: str | None) -> dict[str, View]:
    statuses: list[Status] = ["ok"] * len(labels)
    for one in given:
        if one.reward.status != "ok":
            for index in one.candidates:
                statuses[index] = one.reward.status
    answers = {"default": list(map(_answer, given))}
    for head in dict.fromkeys(name for one in given for name in one.reward.heads):
        answers[_of_head(head)] = [
            replace(answer, values=one.reward.heads.get(head, (np.nan,) * len(one.candidates)), pick=None)
            for one, answer in zip(given, answers["default"], strict=True)
        ]
    return {
        name: View(None, comparison.beats_of_masses(labels, values, null_verdict), statuses)
        for name, values in answers.items()
    }


def _of_head(head: str) -> str:
    """The view of a head: `default` is the reward itself, whatever a model calls its heads."""
    return "default head" if head == "default" else head


def _head_views(rewards: Sequence[Reward]) -> dict[str, View]:
    statuses = [reward.status for reward in rewards]
    by_name = {"default": View(np.array([reward.value for reward in rewards]), None, statuses, _spread(rewards))}
    for head in dict.fromkeys(name for reward in rewards for name in reward.heads):
        scores = np.array([reward.heads[head][0] if head in reward.heads else np.nan for reward in rewards])
        by_name[_of_head(head)] = View(scores, None, statuses)
    return by_name


def _step_views(rewards: Sequence[Reward]) -> dict[str, View]:
    statuses = [reward.status for reward in rewards]
    own = np.array([reward.value for reward in rewards])
    heads = {"": [_array(reward.steps) for reward in rewards]}
    for head in dict.fromkeys(name for reward in rewards for name in reward.step_heads):
        heads[f"{head}/"] = [_array(reward.step_heads.get(head, ())) for reward in rewards]
    default = View(own, None, statuses, _spread(rewards), heads[""])
    by_name = {"default": default} if np.isfinite(own).any() else {}
    for head, steps in heads.items():
        for name, scores in aggregate(steps).items():
            by_name[f"{head}{name}"] = View(scores, None, statuses, steps=steps)
    return by_name


def _spread(rewards: Sequence[Reward]) -> Array | None:
    """That of each candidate's own reward, nan where it has none; None where none has."""
    if not any(reward.spread for reward in rewards):
        return None
    return np.array([reward.spread[0] if reward.spread else np.nan for reward in rewards])


def _annotations(given: Sequence[Sequence[float]]) -> Array | None:
    """One row a candidate, one column an annotator, nan where one is missing; None where nobody annotated."""
    most = max(map(len, given), default=0)
    if not most:
        return None
    table: Array = np.full((len(given), most), np.nan)
    for row, numbers in enumerate(given):
        table[row, : len(numbers)] = numbers
    return table


def _array(numbers: Sequence[float]) -> Array:
    return np.array(numbers, float) if len(numbers) else _NOTHING


def _answers(given: Sequence[Given]) -> Sequence[Answer]:
    if any(len(one.candidates) > 1 for one in given):
        return tuple(map(_answer, given))
    return _OneByOne([(one.candidates, one.reward.values, one.reward.status, one.reward.spread, one.reward.n_tokens,
                       one.reward.truncated, one.reward.read) for one in given])  # fmt: skip


def _answer(given: Given) -> Answer:
    reward = given.reward
    return Answer(given.candidates, reward.values, reward.status, reward.pick, reward.spread, reward.n_tokens,
                  reward.truncated, reward.read)  # fmt: skip


class _OneByOne(Sequence[Answer]):
    """Answers about one candidate each, made when they are looked at: few measures do, and a million take space."""

    __slots__ = ("_rows",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Answer: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Answer]: ...
    def __getitem__(self, at: int | slice) -> Answer | Sequence[Answer]:
        if isinstance(at, slice):
            return _OneByOne(self._rows[at])
        candidates, values, status, spread, n_tokens, truncated, read = self._rows[at]
        return Answer(candidates, values, status, None, spread, n_tokens, truncated, read)

    def __iter__(self) -> Iterator[Answer]:
        return (self[at] for at in range(len(self)))
