"""What a Derived makes of its members' answers, with fits that did not see the fold that they are used on.

A fold of clusters is answered by the whole of a Derived fitted without it: its members, where these fit too, and what
stands above them. So no fit, at whatever depth, sees through another what it is used on. Clusters of examples that are
not independent (Miller, Adding Error Bars to Evals, 2024) are in one fold. What is fitted to all of the data stands in
the result, for questions that come from no data of a task.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from rmbench.errors import UsageError
from rmbench.models.base import Derived, subject_of
from rmbench.scoring.answers import checked, nans
from rmbench.types import Json, Question, Reward

FOLDS = 5
_NO_NUMBER = frozenset({"nan", "refused", "error", "missing"})


class Answers(Protocol):
    """What somebody answered to a number of questions. `name` is who; `fits` is whether anything was fitted for it."""

    @property
    def name(self) -> str: ...

    @property
    def fits(self) -> bool: ...

    def rewards(self, places: Sequence[int], without: int | None) -> list[Reward]:
        """The answers to the questions at `places`, by what is fitted `without` a fold; None: to all of the data."""

    def fitted(self) -> Json | None:
        """What was fitted, JSON-able; None where nothing was."""


@dataclass(frozen=True)
class Plain:
    """The answers of a model that fits nothing."""

    name: str
    given: Sequence[Reward]
    fits: bool = False

    def rewards(self, places: Sequence[int], without: int | None) -> list[Reward]:
        """The same, whatever is left out."""
        return [self.given[place] for place in places]

    def fitted(self) -> Json | None:
        """Nothing."""
        return None


@dataclass(frozen=True)
class Needed:
    """The questions of a Derived and what it asks for them.

    `parts` are the places in `questions` by fold, `needs` what each member is asked for a part, `slots` the places of
    that among all that the member is asked.
    """

    questions: Sequence[Question]
    parts: Sequence[Sequence[int]]
    needs: Sequence[Sequence[Sequence[Question]]]
    slots: Sequence[Sequence[Sequence[int]]]

    def asked_of(self, member: int) -> list[Question]:
        """All that a member is asked, in the order of the data, which a score file may go by."""
        placed: dict[int, Question] = {}
        for slots, asked in zip(self.slots, self.needs, strict=True):
            placed.update(zip(slots[member], asked[member], strict=True))
        return [placed[slot] for slot in range(len(placed))]


def needed(
    questions: Sequence[Question],
    parts: Sequence[Sequence[int]],
    needs: Sequence[Sequence[Sequence[Question]]],
    members: int,
) -> Needed:
    """What is asked for `questions` in `parts`: of each member in the order in which the data have the examples."""
    first: dict[tuple[str, str] | None, int] = {}
    for place, question in enumerate(questions):
        first.setdefault(_example_of(question), place)
    alike: dict[tuple[int, ...], list[list[int]]] = {}  # most members are asked the very same
    by_member = []
    for member in range(members):
        asked = [of_part[member] for of_part in needs]
        key = tuple(map(id, asked))
        if key not in alike:
            alike[key] = _in_order(asked, [part[0] if part else 0 for part in parts], first)
        by_member.append(alike[key])
    return Needed(questions, parts, needs, [[slots[fold] for slots in by_member] for fold in range(len(parts))])


def _in_order(
    asked: Sequence[Sequence[Question]], begins: Sequence[int], first: dict[tuple[str, str] | None, int]
) -> list[list[int]]:
    """The places, part by part, that questions have once their examples stand as `first` has them."""
    flat = [
        (first.get(_example_of(question), begin), fold, at)
        for fold, (begin, of_part) in enumerate(zip(begins, asked, strict=True))
        for at, question in enumerate(of_part)
    ]
    slots = [[0] * len(of_part) for of_part in asked]
    for slot, (_, fold, at) in enumerate(sorted(flat)):
        slots[fold][at] = slot
    return slots


def _example_of(question: Question) -> tuple[str, str] | None:
    return None if question.place is None else (question.place.dataset, question.place.example)


@dataclass(frozen=True)
class _Part:
    """Of a fold: the questions that every member has a number for, at `places`, their `answers` by member, and the
    rewards of the others by their place.
    """

    places: Sequence[int]
    questions: Sequence[Question]
    answers: list[list[Reward]]
    lost: dict[int, Reward]


class Combination:
    """The answers of a Derived. `given` is what an earlier result fitted, for questions that come from no data."""

    def __init__(self, model: Derived, asked: Needed, members: Sequence[Answers], given: Json | None) -> None:
        self.name = subject_of(model).id
        self._model, self._asked, self._members = model, asked, members
        self._one_by_one = all(
            _one_by_one([asked.questions[place] for place in part], needed_here)
            for part, needed_here in zip(asked.parts, asked.needs, strict=True)
        )
        self._at = {place: (fold, at) for fold, part in enumerate(asked.parts) for at, place in enumerate(part)}
        self._below = any(member.fits for member in members)
        self._parts: dict[int, _Part] = {}
        self._made: dict[int, list[Reward]] = {}
        self._version: int | None = None
        self._fits: dict[int | None, Json | None] = {}
        self._present = [fold for fold in range(FOLDS) if self._part(fold, None).questions]
        self._given = given is not None and given["fit"] is not None
        if given is not None and self._given:
            self._fits[None] = given["fit"]["whole"]
        own = self._fit(None) is not None
        if own and self._present and not self._given:
            self._check()
        self._held_out = own and not self._given and len(self._present) > 1
        self.fits = self._below or self._held_out

    def _check(self) -> None:
        """Whether what is fitted can be held out. Raises UsageError where it is fitted to no data of a task."""
        first = self._part(self._present[0], None).questions
        if all(question.place is None for question in first):
            raise lacks_fit(self._model)
        if len(self._present) == 1:
            warnings.warn(
                f"{self.name} is fitted to the data that it is used on: all {len(first)} questions fall into one of "
                f"{FOLDS} folds, and none can be held out",
                stacklevel=2,
            )

    def held_out(self) -> list[Reward]:
        """One reward a question, each by what was fitted without its fold."""
        rewards: list[Reward | None] = [None] * len(self._asked.questions)
        for fold, part in enumerate(self._asked.parts):
            for place, reward in zip(part, self.rewards(part, fold), strict=True):
                rewards[place] = reward
        return [reward for reward in rewards if reward is not None]

    def rewards(self, places: Sequence[int], without: int | None) -> list[Reward]:
        """The answers to the questions at `places`, by what is fitted `without` a fold; None: to all of the data."""
        version = without if self.fits else None
        if version != self._version:
            self._made, self._version = {}, version
        for fold in dict.fromkeys(self._at[place][0] for place in places):
            if fold not in self._made:
                self._made[fold] = self._answered(fold, version)
        return [self._made[fold][at] for fold, at in (self._at[place] for place in places)]

    def fitted(self) -> Json | None:
        """What was fitted here and below, where anything was."""
        inside = [member.fitted() for member in self._members]
        whole = None if self._given else self._fit(None)
        if whole is None and all(one is None for one in inside):
            return None
        folds = [self._fit(fold) for fold in range(FOLDS)] if self._held_out else []
        return {"fit": None if whole is None else {"whole": whole, "folds": folds}, "members": inside}

    def _answered(self, fold: int, without: int | None) -> list[Reward]:
        part = self._part(fold, without)
        rewards = dict(part.lost)
        if part.questions:
            fitted = self._fit(without if self._held_out else None)
            made = self._model.combine(part.questions, part.answers, fitted)
            for place, question, reward in zip(part.places, part.questions, made, strict=True):
                rewards[place] = checked(reward, question.request)
        return [rewards[place] for place in self._asked.parts[fold]]

    def _fit(self, without: int | None) -> Json | None:
        """The fit without a fold; None where nothing is fitted, or nobody has a number."""
        if without not in self._fits:
            folds = [fold for fold in self._present if fold != without]
            parts = [self._part(fold, without) for fold in folds]
            together = [[reward for part in parts for reward in part.answers[member]]
                        for member in range(len(self._members))]  # fmt: skip
            questions = [question for part in parts for question in part.questions]
            self._fits[without] = self._model.fit(questions, together) if questions else None
        return self._fits[without]

    def _part(self, fold: int, without: int | None) -> _Part:
        """What members fitted without a fold answered to another, kept for as long as it is asked for."""
        version = without if self._below else None
        key = fold if version is None else FOLDS * (1 + version) + fold
        if key not in self._parts:
            if version is not None:
                kept = range(FOLDS * (1 + version), FOLDS * (2 + version))
                self._parts = {at: part for at, part in self._parts.items() if at in kept}
            self._parts[key] = self._apart(fold, version)
        return self._parts[key]

    def _apart(self, fold: int, version: int | None) -> _Part:
        places = self._asked.parts[fold]
        questions = [self._asked.questions[place] for place in places]
        answers = [
            member.rewards(slots, version) for member, slots in zip(self._members, self._asked.slots[fold], strict=True)
        ]
        if not self._one_by_one:
            return _Part(places, questions, answers, {})
        lost: dict[int, Reward] = {}
        kept: list[int] = []
        for at, (place, question) in enumerate(zip(places, questions, strict=True)):
            reward = self._lost(question, at, answers)
            if reward is None:
                kept.append(at)
            else:
                lost[place] = reward
        if not lost:
            return _Part(places, questions, answers, lost)
        return _Part(
            [places[at] for at in kept], [questions[at] for at in kept],
            [[of_one[at] for at in kept] for of_one in answers], lost,
        )  # fmt: skip

    def _lost(self, question: Question, at: int, answers: Sequence[Sequence[Reward]]) -> Reward | None:
        """What a question is answered with where a member's answer to it, the one `at` that place, has no number."""
        for member, rewards in zip(self._members, answers, strict=True):
            reward = rewards[at]
            if reward.status in _NO_NUMBER:
                detail = f"{reward.detail or 'no number'}, by {member.name}"
                return Reward(nans(question.request), status=reward.status, detail=detail)
        return None


def lacks_fit(model: Derived) -> UsageError:
    """The error of a Derived that fits and is given neither data of a task nor a fit."""
    expected = "expected --fitted, a result of this model (fitted in Python)"
    return UsageError(f"{subject_of(model).id} fits to the data of a task; {expected}")


def fold_of(question: Question, seed: int) -> int:
    """The fold, from 0, that a question is held out in: by the hash of its cluster, so that clusters stay whole.

    What has no place in any data is of fold 0.
    """
    if question.place is None:
        return 0
    return sha256(f"{seed}|{question.place.cluster}".encode()).digest()[0] % FOLDS


def _one_by_one(questions: Sequence[Question], needs: Sequence[Sequence[Question]]) -> bool:
    """Whether each member is asked one question for each of `questions`, about the same place."""
    return all(
        len(needed_here) == len(questions)
        and all(
            one is question or one.place == question.place for one, question in zip(needed_here, questions, strict=True)
        )
        for needed_here in needs
    )
