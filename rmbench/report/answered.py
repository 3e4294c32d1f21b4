"""What of a policy's result stands on the page: conditions with their lengths and caps, and the longest responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import numpy as np

from rmbench.report.curves import Point, round_step
from rmbench.results.schema import TaskResult
from rmbench.types import Example, Message

MOST, BINS, STEPS = 10, 30, 200
_FINISH = {"length": "cut by the cap", "stop": "ended by itself", None: "end not known"}


@dataclass(frozen=True, slots=True)
class Condition:
    """The samples of one condition, counted: by what became of them, by cap, and their lengths in `unit`."""

    name: str
    samples: int
    statuses: Mapping[str, int]
    finishes: Mapping[str, int]
    caps: Mapping[str, int]
    unit: str
    shortest: int | None
    median: float | None
    longest: int | None


@dataclass(frozen=True, slots=True)
class LongResponse:
    """One sample with what is known of it; `text` is None where it is not at hand, `prompt` empty."""

    example_id: str
    number: int
    prompt: Sequence[Message]
    text: str | None
    said: Sequence[str]


def conditions(result: TaskResult) -> list[Condition]:
    """Every condition, in the order of the views."""
    rows = result.records.to_pylist()
    measure, unit = length_of(result)
    return [_condition(view, [row for row in rows if row["condition"] == view], measure, unit) for view in result.views]


def _condition(name: str, rows: Sequence[Mapping[str, Any]], measure: str, unit: str) -> Condition:
    lengths = [row[measure] for row in rows if row[measure] is not None]
    return Condition(
        name,
        len(rows),
        Counter(_status(row) for row in rows),
        Counter(_FINISH.get(row["finish"], str(row["finish"])) for row in rows if row["status"] == "ok"),
        Counter("not known" if row["cap"] is None else f"{row['cap']:,}" for row in rows if row["status"] == "ok"),
        unit,
        min(lengths, default=None),
        float(np.median(lengths)) if lengths else None,
        max(lengths, default=None),
    )


def length_of(result: TaskResult) -> tuple[str, str]:
    """The column of records that lengths are in, and its unit: tokens where some are known."""
    if any(tokens is not None for tokens in result.records["tokens"].to_pylist()):
        return "tokens", str(result.config.model.get("unit", "tokens"))
    return "characters", "characters"


def longest(result: TaskResult, texts: Mapping[str, Example]) -> list[LongResponse]:
    """The longest responses, the longest first; `texts` are the prompts known, by id."""
    measure, unit = length_of(result)
    rows = [row for row in result.records.to_pylist() if row[measure] is not None]
    responses = result.responses or {}
    shown = []
    for row in nlargest(MOST, rows, key=lambda row: row[measure]):
        name, number = row["example_id"], row["candidate"]
        example = texts.get(name)
        shown.append(
            LongResponse(
                name, number, example.prompt if example else (), responses.get((name, number)), _said(row, unit)
            )
        )
    return shown


def _said(row: Mapping[str, Any], unit: str) -> list[str]:
    tokens = [] if row["tokens"] is None else [f"{row['tokens']:,} {unit}"]
    characters = [] if row["characters"] is None else [f"{row['characters']:,} characters"]
    cap = "cap not known" if row["cap"] is None else f"cap {row['cap']:,}"
    status = [] if _status(row) == "answered" else [_status(row)]
    return [*tokens, *characters, _FINISH.get(row["finish"], str(row["finish"])), cap, *status, row["condition"]]


def _status(row: Mapping[str, Any]) -> str:
    if row["status"] != "ok":
        return str(row["status"])
    return "empty" if row["empty"] else "looks like a refusal" if row["refused"] else "answered"


def histogram(result: TaskResult) -> list[Point]:
    """How many responses have which length, by how they ended."""
    measure, _ = length_of(result)
    rows = [row for row in result.records.to_pylist() if row[measure] is not None]
    if not rows:
        return []
    step = max(1.0, round_step(max(row[measure] for row in rows) / BINS))
    counts = Counter((_FINISH.get(row["finish"], str(row["finish"])), int(row[measure] // step)) for row in rows)
    return [
        {"ending": ending, "from": place * step, "to": (place + 1) * step, "responses": count}
        for (ending, place), count in sorted(counts.items())
    ]


def at_least(result: TaskResult) -> list[Point]:
    """The share of responses of at least so many tokens among those that CSR counts, by condition, as far as every cap
    lets it be known."""
    points: list[Point] = []
    rows = [row for row in result.records.to_pylist() if row["tokens"] is not None and _status(row) == "answered"]
    for view in result.views:
        alike = [row for row in rows if row["condition"] == view]
        if not alike:
            continue
        lengths = np.sort([row["tokens"] for row in alike])
        cut = min((row["tokens"] for row in alike if row["finish"] != "stop"), default=None)
        seen = lengths if cut is None else lengths[lengths <= cut]
        places = np.unique(np.linspace(0, len(seen) - 1, STEPS).astype(int)) if len(seen) else np.zeros(0, int)
        for length in dict.fromkeys([0, *seen[places].tolist()]):
            share = float(np.mean(lengths >= length))
            points.append({"condition": view, "tokens": length, "share": share, "n": len(lengths)})
    return points
