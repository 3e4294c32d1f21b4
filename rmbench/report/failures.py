"""The worst failures of a result: where a wrong answer is furthest ahead of the right one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.results.schema import TaskResult
from rmbench.types import Example, Message, Outcome, View

_MOST = 10


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """One candidate of a failure; None is what is not known of it."""

    candidate: int
    label: float
    text: str | None
    reward: float | None
    probability: float | None
    characters: int | None
    tags: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """An example whose wrong answer is ahead of the right one, and by how much, in words. `prompt` may be unknown.

    `part` says where in the data it is, by its facets.
    """

    example_id: str
    part: str
    prompt: Sequence[Message]
    right: ShownAnswer
    wrong: ShownAnswer
    by: str


def worst(result: TaskResult, texts: Mapping[str, Example], outcomes: Sequence[Outcome]) -> list[Failure]:
    """At most ten failures of the primary view, the largest margin first; `texts` are the examples known, by id.

    `outcomes` are those of the result (`outcomes_of`).

    A margin is the reward of the best wrong candidate minus that of the best right one. Where answers are edits (tag
    `edit`) the right one is the unedited answer, `sufficient`. Where only pairs were compared it is how many wrong ones
    were preferred to the right one that lost least.
    """
    lost_pairs = ((*lost, outcome) for outcome in outcomes for lost in _lost(outcome, result.primary_view))
    failures = []
    for _, by, right, wrong, outcome in nlargest(_MOST, lost_pairs, key=lambda lost: lost[0]):
        example = texts.get(outcome.example_id)
        if example is not None and len(example.candidates) != len(outcome.labels):
            example = None
        rows = _rows(result, outcome.example_id)
        pair = [_answer(result, outcome, example, at, rows[at]) for at in (right, wrong)]
        prompt = example.prompt if example else ()
        part = ", ".join(f"{facet}={value}" for facet, value in outcome.facets.items())
        failures.append(Failure(outcome.example_id, part, prompt, pair[0], pair[1], by))
    return failures


def _rows(result: TaskResult, example: str) -> list[int]:
    """Where the records have an example's candidates, in their order."""
    import pyarrow.compute as pc

    rows = np.flatnonzero(pc.equal(result.records["example_id"], example).to_numpy())
    candidates = result.records["candidate"].take(rows).to_numpy()
    return [int(row) for row in rows[np.argsort(candidates, kind="stable")]]


def _lost(outcome: Outcome, name: str) -> Iterator[tuple[float, str, int, int]]:
    """The margin, in words too, and both candidates of an example that is lost; nothing for any other."""
    view, labels = outcome.views[name], outcome.labels
    if not len(labels) or not labels.max() > labels.min():
        return
    right, wrong = np.flatnonzero(labels == labels.max()), np.flatnonzero(labels < labels.max())
    unedited = [at for at in right.tolist() if outcome.tags and outcome.tags[at].get("edit") == "sufficient"]
    right = np.array(unedited, dtype=np.intp) if unedited else right
    yield from _by_pairs(view, right, wrong) if view.scores is None else _by_reward(view, right, wrong)


def _by_reward(view: View, right: NDArray[np.intp], wrong: NDArray[np.intp]) -> Iterator[tuple[float, str, int, int]]:
    scores = np.asarray(view.scores)
    if np.isnan(scores[right]).any() or np.isnan(scores[wrong]).all():
        return
    best, rival = right[scores[right].argmax()], wrong[np.nanargmax(scores[wrong])]
    with np.errstate(invalid="ignore", over="ignore"):
        margin = float(scores[rival] - scores[best])
    if margin > 0:
        yield margin, f"The wrong answer is ahead by {margin:.4g}.", int(best), int(rival)


def _by_pairs(view: View, right: NDArray[np.intp], wrong: NDArray[np.intp]) -> Iterator[tuple[float, str, int, int]]:
    beats = np.asarray(view.beats)[np.ix_(right, wrong)]
    lost = (beats == 0).sum(axis=1)
    best = int(lost.argmin())
    if lost[best]:
        rival = wrong[np.flatnonzero(beats[best] == 0)[0]]
        words = (
            f"{lost[best]} of {len(wrong)} wrong answers were preferred to the right one; the first of them is shown."
        )
        yield float(lost[best]), words, int(right[best]), int(rival)


def _answer(result: TaskResult, outcome: Outcome, example: Example | None, at: int, row: int) -> ShownAnswer:
    scores = outcome.views[result.primary_view].scores
    reward = None if scores is None else float(scores[at])
    probability = result.records["probability"][row].as_py()
    length = float(outcome.columns["characters"][at])
    return ShownAnswer(
        candidate=at,
        label=float(outcome.labels[at]),
        text=example.candidates[at].text if example else None,
        reward=reward,
        probability=probability,
        characters=None if math.isnan(length) else int(length),
        tags=outcome.tags[at] if outcome.tags else {},
    )
