"""What a reward that is made of others knows of them: their names, what each is asked, and what has no number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Literal

import numpy as np

from rmbench.data.steps import in_steps
from rmbench.errors import ModelError, UsageError
from rmbench.metrics.pools import LARGEST
from rmbench.models.base import Derived, Option, ScoreFile, Subject, subject_of
from rmbench.models.spec import Spec, open_model, spec_of
from rmbench.types import Array, Question, Reward

_MEANS_SOMETHING = ("default", "verdict")  # heads that are read as more than a head
_LONGEST = 60  # characters of a name that is made of the members'
_OUTSIDE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class Member:
    """A model that others are made of: `name` is what a view of it is called, and no other member has it.

    One that rates steps alone is asked for those, and its reward is what it makes of them itself. `looks_up` is whether
    it knows rewards by their place in the data only.
    """

    name: str
    subject: Subject
    ask: Literal["reward", "steps"]
    looks_up: bool

    def asked(self, questions: Sequence[Question]) -> Sequence[Question]:
        """What it is asked for each of `questions`."""
        if self.ask == "reward":
            return questions
        return [
            question._replace(
                request=replace(request, ask="steps", responses=tuple(map(in_steps, request.responses)))
            )
            for question in questions
            for request in [question.request]
        ]  # fmt: skip

    def stated(self) -> dict[str, Any]:
        """What a result says of it."""
        revision = {} if self.subject.revision is None else {"revision": self.subject.revision}
        return {"name": self.name, "id": self.subject.id, **revision, **self.subject.settings}


def look(specs: Sequence[Any], family: str) -> tuple[Member, ...]:
    """The members behind specs or objects, looked at but not loaded.

    Raises UsageError where one stands twice, and ModelError where one gives a response no reward.
    """
    named = [spec_of(one) for one in specs]
    for at, spec in enumerate(named):
        if spec in named[:at]:
            told = str(spec) or spec.family
            raise UsageError(f"{family}: member {told} stands twice; expected each once (how=sum has weights)")
    opened = [open_model(spec) for spec in named]
    names = _names(named, [subject_of(one).id for one in opened])
    return tuple(
        Member(name, subject_of(one), _ask_of(one, family), _looks_up(one))
        for name, one in zip(names, opened, strict=True)
    )


def _names(specs: Sequence[Spec], ids: Sequence[str]) -> list[str]:
    """What each is named, else the last part of its id, the whole where that is another's too, then with a number."""
    short = [spec.name or id_.rpartition("/")[2] for spec, id_ in zip(specs, ids, strict=True)]
    names: list[str] = []
    for name, id_ in zip(short, ids, strict=True):
        whole = id_ if short.count(name) > 1 or name in _MEANS_SOMETHING else name
        if whole in _MEANS_SOMETHING:
            raise UsageError(f"a member is called {whole}, which means something else; expected another name")
        tried, times = whole, 1
        while tried in names:
            times += 1
            tried = f"{whole}-{times}"
        names.append(tried)
    return names


def _ask_of(model: Any, family: str) -> Literal["reward", "steps"]:
    if "reward" in model.answers:
        return "reward"
    if "steps" in model.answers:
        return "steps"
    what = "compares responses" if "compare" in model.answers else f"answers {', '.join(sorted(model.answers))}"
    raise ModelError(f"{family}: {subject_of(model).id} {what}; expected a member that gives each response a reward")


def _looks_up(model: Any) -> bool:
    return isinstance(model, ScoreFile) or (isinstance(model, Derived) and bool(getattr(model, "looks_up", False)))


def called(family: str, how: str, names: Sequence[str]) -> str:
    """The id of what a family makes of others of these names: a hash of them where that grows long."""
    name = _OUTSIDE.sub("-", "-".join([how, *names])).strip("-.")
    if len(name) > _LONGEST:
        name = f"{how}-of-{len(names)}-{sha256(name.encode()).hexdigest()[:6]}"
    return f"{family}/{name}"


def check_used(stated: Mapping[str, Any], how: str, of: Mapping[str, Sequence[str]], always: Sequence[str]) -> None:
    """Raises UsageError for an option that was stated and that `how` has no use for; `of` has the options of each."""
    for name, value in stated.items():
        if name not in (*always, *of.get(how, ())):
            owners = [one for one, names in of.items() if name in names]
            raise UsageError(f"{name}={value}: it is of how={' and '.join(owners)}, and how is {how}")


def stated_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them: a bound that is none is null."""
    return {
        name: [_bound(one) for one in value] if isinstance(value, tuple) else _bound(value)
        for name, value in settings.items()
    }


def _bound(value: Any) -> Any:
    return None if isinstance(value, float) and math.isinf(value) else value


def numbers(text: str) -> tuple[float, ...]:
    """Numbers apart by commas. Raises ValueError."""
    return tuple([_number(part, math.isfinite) for part in text.split(",")])


def bounds(text: str) -> tuple[float, ...]:
    """Numbers apart by commas, of which some may be infinite. Raises ValueError."""
    return tuple([_number(part, lambda number: not math.isnan(number)) for part in text.split(",")])


def _number(text: str, usable: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not usable(number):
        raise ValueError(f"expected numbers apart by commas, got {text.strip() or 'nothing'!r}")
    return number


# what members answered


def rewards_of(members: Sequence[Member], answers: Sequence[Sequence[Reward]]) -> Array:
    """The rewards [m, n] that members gave, nan where there is no finite number.

    Raises ModelError where a member rates steps and makes no reward of them.
    """
    made: Array = np.array([[one.values[0] if one.status == "ok" else math.nan for one in given] for given in answers])
    for member, given, row in zip(members, answers, made, strict=True):
        if any(given[at].status == "ok" and given[at].steps for at in np.flatnonzero(np.isnan(row)).tolist()):
            raise ModelError(
                f"{member.subject.id} rates steps and makes no reward of them; expected a member that does, as "
                "scores:FILE?aggregate=prod"
            )
    made[~np.isfinite(made)] = math.nan
    for member, row in zip(members, made, strict=True):
        if (large := row[np.abs(row) > LARGEST]).size:
            raise ModelError(f"{member.subject.id}: a reward of {large[0]:g}; expected {-LARGEST:g} to {LARGEST:g}")
    return made.reshape(len(members), -1)


def without_number(members: Sequence[Member], given: Sequence[Reward]) -> Reward:
    """The answer to a question for which one of the members has no finite number: whose it is, and why."""
    for member, reward in zip(members, given, strict=True):
        value = reward.values[0]
        if reward.status != "ok" or not math.isfinite(value):
            kept = value if math.isinf(value) else math.nan
            detail = f"{reward.detail or 'no finite number'}, by {member.subject.id}"
            status = "nan" if reward.status == "ok" else reward.status
            return Reward((kept,), status="inf" if math.isinf(kept) else status, detail=detail)
    raise ValueError("every member has a number")


def constant(member: Member, value: float, count: int) -> ModelError:
    """The error of a member that has no scale."""
    return ModelError(
        f"{member.subject.id}: all {count:,} rewards that a z-score is fitted to are {value:g}; expected some that "
        "differ"
    )


def read_alike(given: Sequence[Reward]) -> dict[str, Any]:
    """What a reward says of what was read for it: the longest and the most cut, and what tells texts apart."""
    reads = [one.read for one in given]
    return {
        "n_tokens": max(one.n_tokens for one in given),
        "truncated": max(one.truncated for one in given),
        "noted": tuple(dict.fromkeys(note for one in given for note in one.noted)),
        "read": "" if not all(reads) else reads[0] if len(reads) == 1
        else sha256("|".join(reads).encode()).hexdigest()[:16],
    }  # fmt: skip


MEMBERS = Option("the models that it is made of: in a file, or from Python, a list", default=())
