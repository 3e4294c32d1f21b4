"""Ensembles: one reward of the rewards of several models of any family, and how much these disagree.

`how` is what is made of the members' rewards of a response (`rmbench.metrics.ensembles` has sources):

- `mean`, `median`, `min` (WCO), `uwo` (mean - lambda * variance), `lower` (mean - k * SD), variance and SD over
  members with ddof 0;
- `and`: the sum of log sigmoid(r); `sum`: with `weights`, of 1 each unless stated;
- `constrained`: the sum of members, each held to its useful range from `low` to `high`: what is beyond adds nothing;
- `gated`: the members in the order given, each counted as long as all before it reach their `thresholds`.

With `scale=z` each member's reward is its z-score, by mean and SD (ddof 0) over all responses of the task, fitted out
of fold by cluster; thresholds and ranges are of those then. Raw rewards of different scales make the least of them, and
their spread, that of one member, so that this is warned of.

`spread` is the SD over members (ddof 0) after the scale. Every member is a view of a result, by its name, as it is
without the scale. Where a member has no finite number the ensemble has none.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rmbench.errors import ModelError, UsageError
from rmbench.metrics import ensembles
from rmbench.models.base import Option, Subject
from rmbench.models.members import (
    MEMBERS,
    Member,
    bounds,
    called,
    check_used,
    constant,
    look,
    numbers,
    read_alike,
    rewards_of,
    stated_of,
    without_number,
)
from rmbench.models.options import given
from rmbench.types import Array, Ask, Json, Question, Reward

VERSION = 1
SOURCE = "members"
_MADE: Mapping[str, Callable[[Array, Mapping[str, Any]], Array]] = {
    "mean": lambda rewards, of: ensembles.mean(rewards),
    "median": lambda rewards, of: ensembles.median(rewards),
    "min": lambda rewards, of: ensembles.worst_case(rewards),
    "uwo": lambda rewards, of: ensembles.uncertainty_weighted(rewards, of["lambda"]),
    "lower": lambda rewards, of: ensembles.lower_bound(rewards, of["k"]),
    "and": lambda rewards, of: ensembles.all_of(rewards),
    "sum": lambda rewards, of: ensembles.weighted_sum(rewards, of["weights"]),
    "constrained": lambda rewards, of: ensembles.constrained(rewards, of["low"], of["high"]),
    "gated": lambda rewards, of: ensembles.gated(rewards, of["thresholds"]),
}
OPTIONS: Mapping[str, Option] = {
    "members": MEMBERS,
    "how": Option("what is made of the members' rewards", default="mean", choices=tuple(_MADE)),
    "scale": Option("raw: as they are; z: z-scores, fitted out of fold", default="raw", choices=("raw", "z")),
    "lambda": Option("of uwo: what the variance over members weighs", float, 0.5),
    "k": Option("of lower: how many SDs over members are taken off", float, 1.0),
    "weights": Option("of sum: a weight a member, apart by commas", numbers),
    "low": Option("of constrained: the least of each member that counts, or -inf, apart by commas", bounds),
    "high": Option("of constrained: the most of each member that counts, or inf, apart by commas", bounds),
    "thresholds": Option("of gated: what each member but the last has to reach, apart by commas", numbers),
}
_OF = {"uwo": ("lambda",), "lower": ("k",), "sum": ("weights",), "constrained": ("low", "high"),
       "gated": ("thresholds",)}  # fmt: skip
_BY_SCALE = frozenset({"min", "median", "uwo", "lower"})  # where the largest scale decides
_APART = 3.0  # of the largest SD to the smallest, from which on raw rewards are warned of
_FEWEST = 10  # rewards, of which an SD says something


@dataclass(frozen=True)
class Ensemble:
    """A Derived: one reward of those of its members, which are asked the same."""

    subject: Subject
    fingerprint: str
    members: tuple[Any, ...]
    looked: tuple[Member, ...]
    how: str
    scale: str
    settings: Mapping[str, Any]
    answers: frozenset[Ask] = frozenset({"reward"})
    _told: list[str] = field(default_factory=list, compare=False, repr=False)

    @property
    def fits(self) -> bool:
        """Whether it learns the scales of its members from the data of a task."""
        return self.scale == "z"

    @property
    def looks_up(self) -> bool:
        """Whether a member knows rewards by their place in the data only."""
        return any(member.looks_up for member in self.looked)

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        """The same of each member, for its steps where it rates these alone."""
        return [member.asked(questions) for member in self.looked]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        """Mean and SD of the rewards of each member; None of raw ones. Raises ModelError for an SD of 0."""
        rewards = rewards_of(self.looked, answers)
        numbers = [row[np.isfinite(row)] for row in rewards]
        scales = [ensembles.scale_of(row) if len(row) else None for row in numbers]
        if not self.fits:
            if self.how in _BY_SCALE and rewards.shape[1] >= _FEWEST:
                self._tell_scales(
                    {member.name: scale[1] for member, scale in zip(self.looked, scales, strict=True) if scale}
                )
            return None
        for member, row, scale in zip(self.looked, numbers, scales, strict=True):
            if scale is not None and scale[1] == 0:
                raise constant(member, scale[0], len(row))
        return [
            None if scale is None else {"member": member.name, "mean": scale[0], "sd": scale[1]}
            for member, scale in zip(self.looked, scales, strict=True)
        ]

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        """One reward a question, with each member's as a head."""
        raw = rewards_of(self.looked, answers)
        scaled = self._scaled(raw, fitted) if self.fits else raw
        whole = np.asarray(np.isfinite(scaled).all(axis=0))
        values, spread = np.full(len(whole), math.nan), np.zeros(len(whole))
        if whole.any():
            values[whole] = _MADE[self.how](scaled[:, whole], self.settings)
            spread[whole] = ensembles.disagreement(scaled[:, whole])
        names = [member.name for member in self.looked]
        heads = [zip(names, map(_alone, row), strict=True) for row in raw.T.tolist()]
        return [
            Reward((value,), heads=dict(head), spread=(doubt,), **read_alike(one)) if known
            else without_number(self.looked, one)
            for one, known, value, doubt, head in zip(
                zip(*answers, strict=True), whole.tolist(), values.tolist(), spread.tolist(), heads, strict=True
            )
        ]  # fmt: skip

    def _scaled(self, rewards: Array, fitted: Json | None) -> Array:
        """The z-scores of rewards [m, n]."""
        rows = []
        for member, row, scale in zip(self.looked, rewards, fitted or [None] * len(rewards), strict=True):
            if scale is None and np.isfinite(row).any():
                raise ModelError(
                    f"{self.subject.id}: no reward of {member.name} tells its scale; none is a finite number"
                )
            rows.append(row if scale is None else ensembles.z_score(row, scale["mean"], scale["sd"])[0])
        return np.array(rows)

    def _tell_scales(self, sds: Mapping[str, float]) -> None:
        """Warns once where members of different scales are taken as they are."""
        if self._told or not sds:
            return
        least, most = min(sds, key=sds.__getitem__), max(sds, key=sds.__getitem__)
        if sds[most] > _APART * sds[least]:
            self._told.append("scales")
            warnings.warn(
                f"{self.subject.id}: its members' rewards are on different scales, from an SD of {sds[least]:.3g} "
                f"({least}) to {sds[most]:.3g} ({most}), and how={self.how} takes them as they are; scale=z makes "
                "z-scores of them",
                stacklevel=2,
            )


def _alone(value: float) -> tuple[float]:
    return (value,)


def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> Ensemble:
    """An ensemble of members that are looked at, not loaded.

    Raises UsageError for fewer than two members, one that stands twice, and options that `how` has no use for or that
    are not one a member; ModelError for a member that gives a response no reward.
    """
    how, scale, specs = options["how"], options["scale"], tuple(options["members"])
    if len(specs) < 2:
        lack = "one member" if specs else "no members"
        raise UsageError(f"ensemble: {lack}; expected two or more, as ensemble:A,B?how={how}")
    check_used(given(options, OPTIONS), how, _OF, ("members", "how", "scale"))
    settings = _settings(options, how, len(specs))
    looked = look(specs, "ensemble")
    names = [member.name for member in looked]  # which are the views of a result
    stated = {"how": how, "scale": scale, **settings}
    subject = Subject(
        called("ensemble", how if scale == "raw" else f"{how}-{scale}", names), "ensemble",
        settings={**stated_of(stated), "members": [member.stated() for member in looked]},
    )  # fmt: skip
    fingerprint = f"ensemble:{VERSION}:{json.dumps(stated, sort_keys=True)}"
    return Ensemble(subject, fingerprint, specs, looked, how, scale, settings)


def _settings(options: Mapping[str, Any], how: str, count: int) -> dict[str, Any]:
    """The values of the options of `how`. Raises UsageError where they are not what it takes."""
    settings: dict[str, Any] = {name: options[name] for name in _OF.get(how, ())}
    for name in settings.keys() & {"lambda", "k"}:
        if not (math.isfinite(settings[name]) and settings[name] >= 0):
            raise UsageError(f"{name}={settings[name]}: expected a number from 0")
    if how == "sum":
        settings["weights"] = _of_each("weights", settings["weights"] or (1.0,) * count, count)
    if how == "gated":
        if settings["thresholds"] is None:
            raise UsageError(f"gated: no thresholds; expected {_times(count - 1)}, one for each member but the last")
        settings["thresholds"] = _of_each("thresholds", settings["thresholds"], count - 1, " but the last")
    if how == "constrained":
        if settings["low"] is None and settings["high"] is None:
            raise UsageError(f"constrained: neither low nor high; expected {_times(count)}, one for each member")
        settings["low"] = _of_each("low", settings["low"] or (-math.inf,) * count, count)
        settings["high"] = _of_each("high", settings["high"] or (math.inf,) * count, count)
        crossed = next((at for at in range(count) if settings["low"][at] > settings["high"][at]), None)
        if crossed is not None:
            raise UsageError(f"low={settings['low'][crossed]} is above high={settings['high'][crossed]}, of member "
                             f"{crossed + 1}; expected a range")  # fmt: skip
    return settings


def _of_each(name: str, values: Sequence[float], count: int, but: str = "") -> tuple[float, ...]:
    if len(values) != count:
        written = ",".join(f"{value:g}" for value in values)
        raise UsageError(f"{name}={written}: {_times(len(values))}; expected {count}, one for each member{but}")
    return tuple(values)


def _times(count: int) -> str:
    return f"{count} number{'s' if count > 1 else ''}"
