"""Rewards checked against what was asked, as JSON for the store, and which of them are worth keeping."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from rmbench.checkpoints.notes import BEFORE_PADS, LAST
from rmbench.errors import ModelError
from rmbench.metrics.views import status_of
from rmbench.types import Request, Reward

_LASTING = frozenset({"ok", "nan", "inf", "refused"})


def lasts(reward: Reward) -> bool:
    """Whether it would come out the same next time; an `error` or a `missing` answer may not."""
    return reward.status in _LASTING


def checked(reward: Reward, request: Request) -> Reward:
    """The reward with the status its values have, and no number where its status says that there is none.

    Raises ModelError for an answer that does not have one entry per response, or per step.
    """
    k = len(request.responses)
    for name, entries in (("values", reward.values), ("spreads", reward.spread), *reward.heads.items()):
        if entries is not None and len(entries) != k:
            raise ModelError(f"a {request.ask} of {k} responses came back with {len(entries)} {name}; expected {k}")
    if reward.pick is not None and not 0 <= reward.pick < k:
        raise ModelError(f"a {request.ask} of {k} responses came back with response {reward.pick} picked")
    if reward.pick is not None and reward.status == "ok" and reward.values[reward.pick] != max(reward.values):
        raise ModelError(f"a {request.ask} of {k} responses came back with response {reward.pick} picked, and values "
                         "that name another")  # fmt: skip
    if reward.status in ("refused", "error", "missing"):
        return Reward(
            nans(request),
            status=reward.status,
            detail=reward.detail,
            n_tokens=reward.n_tokens,
            truncated=reward.truncated,
            read=reward.read,
        )
    if request.ask == "embedding":
        if len(reward.vectors) != k:
            raise ModelError(f"an embedding of {k} responses came back with {len(reward.vectors)} vectors")
        return replace(reward, values=nans(request), status="ok")
    if request.ask == "steps":
        steps = request.responses[0].step_count
        for name, rewards in (("rewards", reward.steps), *reward.step_heads.items()):
            if steps is not None and len(rewards) != steps:
                raise ModelError(f"{steps} steps came back with {len(rewards)} {name}; one each, nan if cut")
    status = status_of(request.ask, reward)
    return reward if reward.status == status else replace(reward, status=status)


def nans(request: Request) -> tuple[float, ...]:
    """No number for any of the responses."""
    return (math.nan,) * len(request.responses)


def to_json(reward: Reward) -> list[Any]:
    """The fields of a reward, in their order; those that few rewards have are left out at the end."""
    fields = [
        reward.values,
        dict(reward.heads),
        reward.steps,
        dict(reward.step_heads),
        reward.tokens,
        reward.status,
        reward.detail,
        reward.n_tokens,
        reward.truncated,
        reward.read,
    ]
    rare: list[Any] = [reward.spread, reward.pick, reward.vectors, reward.noted]
    while rare and (rare[-1] is None or rare[-1] == ()):
        rare.pop()
    return [*fields, *rare]


def from_json(fields: Sequence[Any]) -> Reward:
    """The reward that `to_json` was given."""
    values, heads, steps, step_heads, tokens, status, detail, n_tokens, truncated, read, *rare = fields
    absent: list[Any] = [None, None, (), ()]
    spread, pick, vectors, noted = [*rare, *absent[len(rare) :]]
    return Reward(
        tuple(values),
        _tuples(heads),
        tuple(steps),
        _tuples(step_heads),
        tuple(tokens),
        None if spread is None else tuple(spread),
        status,
        detail,
        n_tokens,
        truncated,
        read,
        tuple(tuple(vector) for vector in vectors),
        pick,
        tuple(noted),
    )


def with_last(rewards: Sequence[Reward]) -> list[Reward]:
    """The rewards with heads of the very last token for all of them, or for none where they nowhere differ.

    A model gives those heads only where it reads the reward before pads; elsewhere they are the reward's own.
    """
    double = [reward for reward in rewards if BEFORE_PADS in reward.noted]
    heads = list(dict.fromkeys(name for reward in double for name in reward.heads))
    names = [name for name in heads if name.endswith(f"@{LAST}")] or [name for name in heads if name == LAST]
    if not names:
        return list(rewards)
    if all(reward.heads[name] == _before(reward, name) for reward in double for name in names):
        return [_without(reward, names) if BEFORE_PADS in reward.noted else reward for reward in rewards]
    return [
        replace(reward, heads={**reward.heads, **{name: _before(reward, name) for name in names}})
        if reward.status in ("ok", "nan", "inf") and BEFORE_PADS not in reward.noted
        else reward
        for reward in rewards
    ]


def _before(reward: Reward, head: str) -> tuple[float, ...]:
    """What a head of the last token would be, were it the one that the reward is read at."""
    return reward.values if head == LAST else reward.heads[head.removesuffix(f"@{LAST}")]


def _without(reward: Reward, heads: Collection[str]) -> Reward:
    kept = {name: values for name, values in reward.heads.items() if name not in heads}
    return replace(reward, heads=kept, noted=tuple(one for one in reward.noted if one != BEFORE_PADS))


def _tuples(heads: dict[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(values) for name, values in heads.items()}
