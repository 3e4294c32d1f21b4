"""Rewards as JSON for the store, and which of them are worth keeping."""

from __future__ import annotations

from typing import Any

from rmbench.types import Reward

_LASTING = frozenset({"ok", "nan", "inf", "refused"})


def lasts(reward: Reward) -> bool:
    """Whether it would come out the same next time; an `error` or a `missing` answer may not."""
    return reward.status in _LASTING


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
