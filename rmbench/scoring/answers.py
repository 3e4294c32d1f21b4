"""Rewards checked against what was asked, as JSON for the store, and which of them are worth keeping."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from rmbench.errors import ModelError
from rmbench.types import Request, Reward

_LASTING = frozenset({"ok", "nan", "inf", "refused"})


def lasts(reward: Reward) -> bool:
    """Whether it would come out the same next time; an `error` or a `missing` answer may not."""
    return reward.status in _LASTING


def checked(reward: Reward, request: Request) -> Reward:
    """The reward with the status its numbers have, and no number where its status says that there is none."""
    if len(reward.values) != len(request.shown):
        raise ModelError(f"a {request.ask} of {len(request.shown)} shown came back with {len(reward.values)} values")
    if reward.status in ("refused", "error", "missing"):
        return replace(reward, values=nans(request), heads={}, steps=(), step_heads={}, tokens=())
    steps = request.shown[0].steps
    if request.ask == "steps" and steps is not None and len(reward.steps) != len(steps):
        raise ModelError(f"{len(steps)} steps came back with {len(reward.steps)} rewards; one each, nan if cut")
    heads = (*reward.heads.values(), *reward.step_heads.values())
    numbers = (*reward.values, *reward.steps, *reward.tokens, *(number for head in heads for number in head))
    if all(map(math.isfinite, numbers)):
        return reward
    return replace(reward, status="nan" if any(map(math.isnan, numbers)) else "inf")


def nans(request: Request) -> tuple[float, ...]:
    """No number for any of what was shown."""
    return (math.nan,) * len(request.shown)


def to_json(reward: Reward) -> list[Any]:
    """The fields of a reward, in their order."""
    return [
        reward.values,
        dict(reward.heads),
        reward.steps,
        dict(reward.step_heads),
        reward.tokens,
        reward.spread,
        reward.status,
        reward.detail,
        reward.n_tokens,
        reward.truncated,
        reward.read,
    ]


def from_json(fields: list[Any]) -> Reward:
    """The reward that `to_json` was given."""
    values, heads, steps, step_heads, tokens, *rest = fields
    return Reward(tuple(values), _tuples(heads), tuple(steps), _tuples(step_heads), tuple(tokens), *rest)


def _tuples(heads: dict[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(values) for name, values in heads.items()}
