"""Rewards checked against what was asked, as JSON for the store, and which of them are worth keeping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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
    rare = [reward.spread, reward.pick, reward.vectors]
    return [*fields, *rare] if reward.spread is not None or reward.pick is not None or reward.vectors else fields


def from_json(fields: Sequence[Any]) -> Reward:
    """The reward that `to_json` was given."""
    values, heads, steps, step_heads, tokens, status, detail, n_tokens, truncated, read, *rare = fields
    spread, pick, vectors = rare or (None, None, ())
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
    )


def _tuples(heads: dict[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(values) for name, values in heads.items()}
