"""Rejection sampling: of the responses to each prompt of a file, those that a reward likes best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmbench.data.conversation import Responses
from rmbench.runs.score import score_file
from rmbench.scoring import Progress
from rmbench.types import Message

if TYPE_CHECKING:
    import pyarrow as pa

Turns = tuple[Message, ...]


@dataclass(frozen=True)
class Selected:
    """`table` has one row a selected response; `failed` counts the responses without a finite reward."""

    table: pa.Table
    prompts: int
    responses: int
    failed: int
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Place:
    """One response of the file: whose it is, what it says, and its reward, nan where it has none."""

    id: str
    candidate: int
    text: str
    reward: float


def select_file(
    model: str,
    file: Path,
    k: int,
    *,
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    token_budget: int | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Selected:
    """The `k` responses of the largest reward to each prompt of a data file or folder, best first.

    Rows of one prompt are joined. Of equal rewards the one that stands first in the file goes first. A response without
    a finite reward is never selected; a prompt that has fewer than `k` others gives all of them. `options` are those of
    `load_model`. Raises what `score_file` does.
    """
    reading: dict[str, Any] = {"columns": columns, "skip_bad_rows": skip_bad_rows}
    scored = score_file(model, file, token_budget=token_budget, fresh=fresh, progress=progress, **reading, **options)
    groups = _groups(scored.rows, scored.table["reward"].to_pylist())
    finite = {prompt: [place for place in places if math.isfinite(place.reward)] for prompt, places in groups.items()}
    ranked = {prompt: sorted(places, key=lambda place: -place.reward) for prompt, places in finite.items()}
    notes = [*scored.notes, *_notes(ranked, k)]
    selected = {prompt: places[:k] for prompt, places in ranked.items()}
    return Selected(_table(selected), len(groups), sum(map(len, groups.values())), scored.failed, notes)


def _groups(rows: Sequence[Responses], rewards: Sequence[float | None]) -> dict[Turns, list[_Place]]:
    groups: dict[Turns, list[_Place]] = {}
    places = [(row, candidate) for row in rows for candidate in range(len(row.texts))]
    for (row, candidate), reward in zip(places, rewards, strict=True):
        place = _Place(row.id, candidate, row.texts[candidate], math.nan if reward is None else reward)
        groups.setdefault(row.prompt, []).append(place)
    return groups


def _notes(ranked: Mapping[Turns, Sequence[_Place]], k: int) -> list[str]:
    """What the selection does not show: prompts that have too few, and ties that the order in the file broke."""
    counts = {
        "have no response with a finite reward; none of theirs is selected": [not p for p in ranked.values()],
        f"have fewer than {k:,} responses with a finite reward; all of theirs are selected": [
            0 < len(p) < k for p in ranked.values()
        ],
        f"have equal rewards at place {k:,}; those that stand first in the file are selected": [
            len(p) > k and p[k - 1].reward == p[k].reward for p in ranked.values()
        ],
    }
    return [f"{sum(held):,} of {len(held):,} prompts {what}" for what, held in counts.items() if any(held)]


def _table(selected: Mapping[Turns, Sequence[_Place]]) -> pa.Table:
    import pyarrow as pa

    as_text = all(len(prompt) == 1 and prompt[0].role == "user" for prompt in selected)
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    types = {
        "example_id": pa.string(),
        "candidate": pa.int32(),
        "prompt": pa.string() if as_text else pa.list_(message),
        "response": pa.string(),
        "reward": pa.float64(),
        "rank": pa.int32(),
    }
    rows = [
        {
            "example_id": place.id,
            "candidate": place.candidate,
            "prompt": prompt[0].text if as_text else [{"role": m.role, "content": m.text} for m in prompt],
            "response": place.text,
            "reward": place.reward,
            "rank": rank,
        }
        for prompt, places in selected.items()
        for rank, place in enumerate(places, start=1)
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(types))
