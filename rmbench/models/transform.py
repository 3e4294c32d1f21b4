"""Transforms: the reward of one model of any family, made bounded, centred, or free of what length is worth to it.

`how` is what becomes of a reward r (`rmbench.metrics.ensembles` has sources):

- `zscore`: in SDs about the mean of all responses of the task, fitted out of fold by cluster;
- `clip`: no less than `low` and no more than `high`;
- `sigmoid`, `logsigmoid`: of r - c, the latter what a logical AND of rewards sums;
- `par`: the mean over references of sigmoid(r - reward of the reference);
- `length`: r minus what length is worth to it within prompts, a curve fitted out of fold by cluster
  (`rmbench.metrics.length_curve`).

The centre c is `centre`, 0 unless stated; or the `quantile` of the rewards of all responses to the same prompt; or what
the model says of `references`, a file of rows with a prompt and responses to it: their mean, or their `quantile`. The
prompt's own responses are those of its example, without a task those of its prompt: a response alone is its own centre.

`spread` is that of the model times the slope of the transform, to first order, the centre held fixed. The reward as it
was is a view of a result by the model's name, beside its own heads. No finite number stays none.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.errors import DataError, ModelError, UsageError
from rmbench.metrics import ensembles
from rmbench.metrics.ensembles import Moved
from rmbench.metrics.length_curve import LengthCurve, length_curve
from rmbench.models.base import Option, Subject
from rmbench.models.members import (
    MEMBERS,
    Member,
    called,
    check_used,
    constant,
    look,
    rewards_of,
    stated_of,
    without_number,
)
from rmbench.models.options import given
from rmbench.types import Array, Ask, Json, Message, Place, Question, Response, Reward

VERSION = 1
SOURCE = "member"
OPTIONS: Mapping[str, Option] = {
    "members": replace(MEMBERS, help="the one model that it changes: in a file, or from Python, a list"),
    "how": Option("what becomes of a reward", choices=("zscore", "clip", "sigmoid", "logsigmoid", "par", "length")),
    "low": Option("of clip: the least", float),
    "high": Option("of clip: the most", float),
    "centre": Option("of sigmoid, logsigmoid, par: the reward that is taken off", float),
    "quantile": Option("of the same: that of the prompt's own rewards is taken off, or of its references'", float),
    "references": Option("of the same: a file of prompts and responses, whose rewards are taken off"),
}
_CENTRED = ("centre", "quantile", "references")
_OF = {"clip": ("low", "high"), "sigmoid": _CENTRED, "logsigmoid": _CENTRED, "par": _CENTRED}
_FITTED = ("zscore", "length")
Turns = tuple[Message, ...]
Group = tuple[object, ...]


@dataclass(frozen=True)
class References:
    """Responses by the prompt that they answer, out of a file of that `name` whose bytes are known by `sha256`."""

    name: str
    sha256: str
    by_prompt: Mapping[Turns, tuple[Response, ...]]


@dataclass(frozen=True)
class Transform:
    """A Derived: the reward of its one member, changed."""

    subject: Subject
    fingerprint: str
    members: tuple[Any, ...]
    member: Member
    how: str
    settings: Mapping[str, Any]
    references: References | None = None
    answers: frozenset[Ask] = frozenset({"reward"})
    _told: list[str] = field(default_factory=list, compare=False, repr=False)

    @property
    def fits(self) -> bool:
        """Whether it learns a scale or a curve from the data of a task."""
        return self.how in _FITTED

    @property
    def looks_up(self) -> bool:
        """Whether its member knows rewards by their place in the data only."""
        return self.member.looks_up

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        """The questions, and behind them those about the references to their prompts, an example of their own each."""
        about = [one for asked in self._of_references(questions).values() for one in asked]
        return [self.member.asked([*questions, *about] if about else questions)]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        """Mean and SD, or the curve of length; None where nothing is fitted. Raises ModelError where none can be."""
        if self.how == "zscore":
            rewards = rewards_of([self.member], answers)[0]
            numbers = rewards[np.isfinite(rewards)]
            if not len(numbers):
                return None
            centre, sd = ensembles.scale_of(numbers)
            if sd == 0:
                raise constant(self.member, centre, len(numbers))
            return {"mean": centre, "sd": sd}
        if self.how == "length":
            return self._curve(questions, rewards_of([self.member], answers)[0])
        self._check_groups(questions)
        return None

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        """The reward of each question, changed, with the member's own beside it."""
        (given_,) = answers
        every = rewards_of([self.member], answers)[0]
        rewards, count = every[: len(questions)], len(questions)
        places = np.flatnonzero(np.isfinite(rewards))
        values, slopes = np.full(count, math.nan), np.full(count, math.nan)
        if self._centres_by_group:
            self._by_group(questions, every, values, slopes)
        elif len(places):
            values[places], slopes[places] = self._moved(
                rewards[places], [questions[at] for at in places.tolist()], fitted
            )
        finite = set(places.tolist())
        return [
            self._told_of(reward, value, slope) if at in finite else without_number([self.member], [reward])
            for at, (reward, value, slope) in enumerate(
                zip(given_[:count], values.tolist(), slopes.tolist(), strict=True)
            )
        ]

    def _told_of(self, reward: Reward, value: float, slope: float) -> Reward:
        if math.isnan(value):
            assert self.references is not None  # noqa: S101
            return Reward((math.nan,), status="error", detail=f"no reference with a number in {self.references.name}")
        heads = {**reward.heads, self.member.name: reward.values}
        spread = None if reward.spread is None else (abs(slope) * reward.spread[0],)
        return Reward((value,), heads=heads, spread=spread, n_tokens=reward.n_tokens, truncated=reward.truncated,
                      read=reward.read, noted=reward.noted)  # fmt: skip

    def _moved(self, rewards: Array, questions: Sequence[Question], fitted: Json | None) -> Moved:
        """Values and slopes of rewards [n], each by itself."""
        if self.fits and fitted is None:
            raise ModelError(f"{self.subject.id}: no reward of {self.member.name} tells its scale; none is a finite "
                             "number")  # fmt: skip
        of, learned = self.settings, dict(fitted or {})
        match self.how:
            case "zscore":
                return ensembles.z_score(rewards, learned["mean"], learned["sd"])
            case "clip":
                return ensembles.clip(rewards, of["low"], of["high"])
            case "length":
                curve = LengthCurve(tuple(learned["knots"]), tuple(learned["worth"]))
                return rewards - curve.at(self._lengths(questions)), np.ones(len(rewards))
            case "logsigmoid":
                return ensembles.log_sigmoid(rewards - of["centre"])
            case _:
                return ensembles.sigmoid(rewards - of["centre"])

    @property
    def _centres_by_group(self) -> bool:
        return self.how in ("sigmoid", "logsigmoid", "par") and self.settings["centre"] is None

    def _by_group(self, questions: Sequence[Question], every: Array, values: Array, slopes: Array) -> None:
        """Writes values and slopes of the questions, which their own prompt's rewards or references' centre."""
        groups: dict[Group, list[int]] = {}
        for at, question in enumerate(questions):
            groups.setdefault(_group_of(question), []).append(at)
        references = self._of_references(questions)
        begin = len(questions)
        for group, places in groups.items():
            own = every[places]
            centres = own
            if self.references is not None:
                centres = every[begin : begin + len(references.get(group, ()))]
                begin += len(centres)
            centres = centres[np.isfinite(centres)]
            if len(centres):
                values[places], slopes[places] = self._centred(own, centres)

    def _centred(self, rewards: Array, centres: Array) -> Moved:
        if self.how == "par" and self.references is not None:
            return ensembles.as_preference(rewards, centres)
        quantile = self.settings["quantile"]
        centre = float(centres.mean() if quantile is None else np.quantile(centres, quantile))
        squash = ensembles.log_sigmoid if self.how == "logsigmoid" else ensembles.sigmoid
        return squash(rewards - centre)

    def _of_references(self, questions: Sequence[Question]) -> dict[Group, list[Question]]:
        """What is asked about the references to each group's prompt, in the order of the groups."""
        asked: dict[Group, list[Question]] = {}
        if self.references is None:
            return asked
        for question in questions:
            group = _group_of(question)
            if group not in asked:
                known = self.references.by_prompt.get(question.request.prompt, ())
                asked[group] = [_about(question, response, at) for at, response in enumerate(known)]
        return asked

    def _check_groups(self, questions: Sequence[Question]) -> None:
        """Warns of prompts that are their own centre. Raises DataError where no prompt has a reference."""
        if not self._centres_by_group:
            return
        if self.references is not None:
            if not any(question.request.prompt in self.references.by_prompt for question in questions):
                raise DataError(f"{self.references.name}: no reference to a prompt of the data; expected rows with the "
                                "prompts of the data, word for word")  # fmt: skip
            return
        counts: dict[Group, int] = {}
        for question in questions:
            counts[_group_of(question)] = counts.get(_group_of(question), 0) + 1
        alone = sum(count == 1 for count in counts.values())
        if alone and not self._told:
            self._told.append("alone")
            warnings.warn(
                f"{self.subject.id}: {alone:,} of {len(counts):,} prompts have one response, which is its own "
                "quantile, so that its reward is that of 0",
                stacklevel=2,
            )

    def _curve(self, questions: Sequence[Question], rewards: Array) -> Json:
        numbered: dict[Group, int] = {}
        prompts = np.array([numbered.setdefault(_group_of(question), len(numbered)) for question in questions])
        lengths, known = self._lengths(questions), np.isfinite(rewards)
        curve = length_curve(rewards[known], lengths[known], prompts[known]) if known.any() else None
        if curve is None:
            raise ModelError(f"{self.subject.id}: no prompt has two responses of different lengths; expected some, "
                             "which tell what length is worth")  # fmt: skip
        return {"knots": list(curve.knots), "worth": list(curve.worth)}

    def _lengths(self, questions: Sequence[Question]) -> Array:
        """The characters of each response. Raises ModelError where nobody knows its text."""
        texts = [question.request.responses[0].text for question in questions]
        at = next((at for at, text in enumerate(texts) if text is None), None)
        if at is not None:
            place = questions[at].place
            raise ModelError(
                f"{self.subject.id} needs the responses' texts, and example {place.example if place else '?'} comes "
                "from a score file without; give data with texts"
            )
        return np.array([float(len(text or "")) for text in texts])


def _group_of(question: Question) -> Group:
    """What responses to one prompt share: their example, else prompt and tools."""
    if question.place is not None:
        return question.place.dataset, question.place.example
    return question.request.prompt, json.dumps(question.request.tools)


def _about(question: Question, response: Response, at: int) -> Question:
    """A question about a reference to the same prompt, of the same cluster, and an example of its own."""
    place = question.place
    if place is not None:
        place = Place(place.dataset, f"{place.example}, reference {at}", (0,), place.cluster)
    return Question(replace(question.request, responses=(response,)), place)


def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> Transform:
    """A transform of a member that is looked at, not loaded.

    Raises UsageError for anything but one member, for no `how`, options that it has no use for and values that cannot
    be, DataError for references that cannot be read, and ModelError for a member that gives a response no reward.
    """
    how, specs = options["how"], tuple(options["members"])
    if len(specs) != 1:
        raise UsageError(f"transform: {len(specs)} members; expected one, as transform:MODEL?how=clip")
    if how is None:
        raise UsageError(f"transform: no how; expected one of {', '.join(OPTIONS['how'].choices)}")
    stated = given(options, OPTIONS)
    check_used(stated, how, _OF, ("members", "how"))
    settings = _settings(stated, how)
    (member,) = look(specs, "transform")
    references = None
    if (file := settings.pop("references", None)) is not None:
        if member.looks_up:
            raise UsageError(f"references={Path(file).name}: {member.subject.id} knows rewards of its own data only; "
                             "expected a model that can be asked about them")  # fmt: skip
        references = _read(Path(file))
    identity = {"how": how, **settings} | ({"references": references.sha256} if references else {})
    subject = Subject(
        called("transform", how, [member.name]),
        "transform",
        settings={**stated_of(identity), "members": [member.stated()]},
    )
    fingerprint = f"transform:{VERSION}:{json.dumps(identity, sort_keys=True)}"
    return Transform(subject, fingerprint, specs, member, how, settings, references)


def _settings(stated: Mapping[str, Any], how: str) -> dict[str, Any]:
    """The values of the options of `how`. Raises UsageError where they are not what it takes."""
    for name, value in stated.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{name}={value}: expected a finite number")
    if how == "clip":
        if not stated.keys() & {"low", "high"}:
            raise UsageError("clip: neither low nor high; expected one of them or both")
        low, high = stated.get("low", -math.inf), stated.get("high", math.inf)
        if low >= high:
            raise UsageError(f"low={low} is not below high={high}; expected a range")
        return {"low": low, "high": high}
    if how not in _OF:
        return {}
    centre, quantile, references = (stated.get(name) for name in _CENTRED)
    if quantile is not None and not 0 <= quantile <= 1:
        raise UsageError(f"quantile={quantile}: expected a number from 0 to 1")
    if centre is not None and not (quantile is None and references is None):
        raise UsageError(f"centre={centre} beside quantile or references: expected one of them")
    if how == "par":
        if quantile is not None and references is not None:
            raise UsageError(f"quantile={quantile}: par is a mean over references; expected references alone")
        if (centre, quantile, references) == (None, None, None):
            raise UsageError("par: nothing to prefer to; expected references, a file of prompts and responses")
    elif quantile is None and references is None:
        centre = 0.0 if centre is None else centre
    return {"centre": centre, "quantile": quantile, "references": references}


def _read(file: Path) -> References:
    """The responses of a file, by prompt. Raises DataError."""
    from rmbench.data.conversation import Responses, read_all
    from rmbench.data.files import Rows

    rows = Rows(file)
    by_prompt: dict[Turns, tuple[Response, ...]] = {}
    for item in read_all(rows):
        if isinstance(item, Responses):
            by_prompt[item.prompt] = (*by_prompt.get(item.prompt, ()), *item.responses)
    if not by_prompt:
        raise DataError(f"{file.name}: no prompt with a response in it")
    return References(file.name, rows.sha256(), by_prompt)
