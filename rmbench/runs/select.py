"""Rejection sampling: of the responses to each prompt of a file, those that a reward likes best."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.data.dataset import prompt_hash
from rmbench.data.files import read_rows
from rmbench.errors import DataError
from rmbench.runs.rows import ResponseRows
from rmbench.runs.score import Scored, score_file
from rmbench.scoring import Progress
from rmbench.types import Array, Message, Outcome, View

Turns = tuple[Message, ...]
Place = tuple[str, int]  # an example's id and a candidate


@dataclass(frozen=True)
class Selected:
    """`columns` have one value a selected response, the user's beside what was found.

    `by` is the model that selected. `outcomes` are the prompts as measures see them, with the gold rewards as labels;
    [] without gold. `failed` counts the rewards that are no finite number.
    """

    columns: Mapping[str, Any]
    by: str
    prompts: int
    responses: int
    failed: int
    notes: Sequence[str]
    outcomes: Sequence[Outcome] = ()

    @property
    def count(self) -> int:
        """How many responses are selected."""
        return len(self.columns["rank"])


def select_file(
    models: str | Mapping[str, tuple[str, Mapping[str, Any]]],
    file: Path,
    k: int,
    *,
    gold: str | Path | None = None,
    fitted: Sequence[Path] = (),
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    token_budget: int | None = None,
    fresh: bool = False,
    progress: Callable[[str], Progress] | None = None,
    **options: Any,
) -> Selected:
    """The `k` responses of the largest reward to each prompt of a data file or folder, best first.

    Rows of one prompt are joined, prompts in the order in which they first stand. Of equal rewards the one that stands
    first in the file goes first. A response without a finite reward is never selected; a prompt that has fewer than `k`
    others gives all of them. Of several `models` the first selects, and what the others say stands beside it. `gold`
    is the name of one that is only to judge, or a file of rewards as `score_file` gives them. `fitted` and `options`
    are as there. Raises what `score_file` does.
    """
    recorded = gold_rewards(gold) if isinstance(gold, Path) else None
    reading: dict[str, Any] = {"columns": columns, "skip_bad_rows": skip_bad_rows}
    scored = score_file(
        models, file, fitted=fitted, token_budget=token_budget, fresh=fresh, progress=progress, **reading, **options
    )
    names = [name for name in scored.rewards if name != gold] or [*scored.rewards]
    proxy = [reward.value for reward in scored.rewards[names[0]]]
    groups = _groups(scored.rows)
    finite = {prompt: [at for at in places if math.isfinite(proxy[at])] for prompt, places in groups.items()}
    ranked = {prompt: sorted(places, key=lambda at: -proxy[at]) for prompt, places in finite.items()}
    selected = {prompt: places[:k] for prompt, places in ranked.items()}
    written = _columns(scored, [at for places in selected.values() for at in places])
    written["rank"] = [rank for places in selected.values() for rank in range(1, len(places) + 1)]
    truth = None
    if recorded is not None:
        truth = [recorded.get(place, math.nan) for place in scored.rows.places]
        if not np.isfinite(truth).any():
            raise DataError(
                f"{gold}: no reward of a response of {file}; expected rows with its example_id and candidate"
            )
    elif gold is not None:
        truth = [reward.value for reward in scored.rewards[str(gold)]]
    outcomes = (
        [] if truth is None else [_outcome(scored.rows, prompt, at, proxy, truth) for prompt, at in groups.items()]
    )
    notes = [*scored.notes, *_notes(ranked, proxy, k)]
    return Selected(written, names[0], len(groups), len(proxy), scored.failed, notes, outcomes)


def _groups(rows: ResponseRows) -> dict[Turns, list[int]]:
    """The places of the responses to each prompt."""
    groups: dict[Turns, list[int]] = {}
    for at, prompt in enumerate(rows.prompt_of_each):
        groups.setdefault(prompt, []).append(at)
    return groups


def _notes(ranked: Mapping[Turns, Sequence[int]], proxy: Sequence[float], k: int) -> list[str]:
    """What the selection does not show: prompts that have too few, and ties that the order in the file broke."""
    counts = {
        "have no response with a finite reward; none of theirs is selected": [not p for p in ranked.values()],
        f"have fewer than {k:,} responses with a finite reward; all of theirs are selected": [
            0 < len(p) < k for p in ranked.values()
        ],
        f"have equal rewards at place {k:,}; those that stand first in the file are selected": [
            len(p) > k and proxy[p[k - 1]] == proxy[p[k]] for p in ranked.values()
        ],
    }
    return [f"{sum(held):,} of {len(held):,} prompts {what}" for what, held in counts.items() if any(held)]


def _columns(scored: Scored, places: Sequence[int]) -> dict[str, Any]:
    """The columns at some places, of an Arrow array with its type."""
    return {
        name: [values[at] for at in places] if isinstance(values, list) else values.take(np.array(places, dtype=int))
        for name, values in scored.columns.items()
    }


def _outcome(
    rows: ResponseRows, prompt: Turns, places: Sequence[int], proxy: Sequence[float], gold: Sequence[float]
) -> Outcome:
    """A prompt as measures see it: how good its responses are by `gold`, and what `proxy` makes of them."""
    scores: Array = np.array([proxy[at] for at in places])
    wrote = [rows.policy_of_each[at] for at in places]
    return Outcome(
        rows.places[places[0]][0],
        {},
        prompt_hash(prompt),
        np.array([gold[at] for at in places]),
        {"default": View(scores, None, ["ok"] * len(places))},
        tags=[{} if policy is None else {"policy": policy} for policy in wrote],
    )


def _whole(value: Any) -> int:
    """The whole number that a value or its text is. Raises ValueError and TypeError for what is none."""
    if float(value) != int(float(value)):
        raise ValueError(f"{value} is no whole number")
    return int(float(value))


def gold_rewards(file: Path) -> dict[Place, float]:
    """The rewards of a file as `score_file` writes them, by example and candidate. Raises DataError."""
    rewards: dict[Place, float] = {}
    for row in read_rows(file):
        expected = "expected a file that rmbench score wrote: example_id, candidate, reward"
        for name in ("example_id", "candidate", "reward"):
            row.need((name,), expected)
        value = row.value["reward"]
        try:
            place = str(row.value["example_id"]), _whole(row.value["candidate"])
            reward = math.nan if value in (None, "") else float(value)
        except (TypeError, ValueError, OverflowError):
            raise row.error(f"got {json.dumps(value, default=str)[:40]}; {expected}", "reward") from None
        if rewards.setdefault(place, reward) != reward and not math.isnan(reward):
            raise row.error(f"another reward of candidate {place[1]} of example {place[0]} than before", "reward")
    return rewards
