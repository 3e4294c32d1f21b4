"""The table beside a result: one row a candidate, and one row a comparison where pairs were asked. No texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rmbench.types import Array, Example, Request, Reward

if TYPE_CHECKING:
    import pyarrow as pa

Asked = Sequence[tuple[Example, Sequence[Request], Sequence[Reward]]]


def candidate_table(asked: Asked, probabilities: Sequence[Array] | None) -> pa.Table:
    """One row a candidate, in the order of the data: what is known of it and what it was given.

    `probabilities` has one number per candidate of each example, nan where there is none; None without calibration.
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in _candidate_types()}
    tag_names = dict.fromkeys(tag for example, _, _ in asked for c in example.candidates for tag in c.tags)
    tags: dict[str, list[Any]] = {f"tag_{name}": [] for name in tag_names}
    for at, (example, requests, rewards) in enumerate(asked):
        alone = {r.where.candidates[0]: reward for r, reward in _placed(requests, rewards) if len(r.shown) == 1}
        for index, candidate in enumerate(example.candidates):
            reward = alone.get(index)
            row = {
                "example_id": example.id,
                "candidate": index,
                "subset": example.subset,
                "cluster": example.cluster,
                "label": None if candidate.label is None else float(candidate.label),
                "reward": reward.value if reward else None,
                "heads": [(name, head[0]) for name, head in reward.heads.items()] if reward else None,
                "steps": list(reward.steps) if reward and reward.steps else None,
                "probability": _known(probabilities[at][index]) if probabilities else None,
                "status": reward.status if reward else None,
                "n_tokens": reward.n_tokens if reward else None,
                "truncated": reward.truncated if reward else None,
                "characters": None if candidate.text is None else len(candidate.text),
            }
            for name, value in row.items():
                columns[name].append(value)
            for name in tag_names:
                tags[f"tag_{name}"].append(candidate.tags.get(name))
    arrays = {name: pa.array(columns[name], kind) for name, kind in _candidate_types().items()}
    return pa.table(arrays | {name: _tag_array(values) for name, values in tags.items()})


def comparison_table(asked: Asked) -> pa.Table | None:
    """One row a pair of candidates in the order shown, with the win mass of each; None where nothing was compared."""
    import pyarrow as pa

    rows = [
        {
            "example_id": example.id,
            "first": request.where.candidates[i],
            "second": request.where.candidates[j],
            "win_first": reward.values[i],
            "win_second": reward.values[j],
            "status": reward.status,
        }
        for example, requests, rewards in asked
        for request, reward in _placed(requests, rewards)
        for i in range(len(request.shown))
        for j in range(i + 1, len(request.shown))
    ]
    types = {
        "example_id": pa.string(),
        "first": pa.int32(),
        "second": pa.int32(),
        "win_first": pa.float64(),
        "win_second": pa.float64(),
        "status": pa.string(),
    }
    return pa.Table.from_pylist(rows, schema=pa.schema(types)) if rows else None


def generation_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """One row a sample of a policy: what is known of it and how long it is, its tags last. No texts.

    `candidate` counts the samples of a prompt, `tokens` and `cap` are in the result's unit.
    """
    import pyarrow as pa

    tags = dict.fromkeys(tag for row in rows for tag in row["tags"])
    arrays = {name: pa.array([row[name] for row in rows], kind) for name, kind in _generation_types().items()}
    return pa.table(arrays | {f"tag_{tag}": _tag_array([row["tags"].get(tag) for row in rows]) for tag in tags})


def _placed(requests: Sequence[Request], rewards: Sequence[Reward]) -> list[tuple[Any, Reward]]:
    return [pair for pair in zip(requests, rewards, strict=True) if pair[0].where is not None]


def _candidate_types() -> Mapping[str, pa.DataType]:
    import pyarrow as pa

    return {
        "example_id": pa.string(),
        "candidate": pa.int32(),
        "subset": pa.string(),
        "cluster": pa.string(),
        "label": pa.float64(),
        "reward": pa.float64(),
        "heads": pa.map_(pa.string(), pa.float64()),
        "steps": pa.list_(pa.float64()),
        "probability": pa.float64(),
        "status": pa.string(),
        "n_tokens": pa.int32(),
        "truncated": pa.int32(),
        "characters": pa.int32(),
    }


def _generation_types() -> Mapping[str, pa.DataType]:
    import pyarrow as pa

    return {
        "example_id": pa.string(),
        "candidate": pa.int32(),
        "subset": pa.string(),
        "cluster": pa.string(),
        "condition": pa.string(),
        "status": pa.string(),
        "refused": pa.bool_(),
        "empty": pa.bool_(),
        "tokens": pa.int32(),
        "characters": pa.int32(),
        "finish": pa.string(),
        "cap": pa.int32(),
    }


def _known(probability: float) -> float | None:
    return None if math.isnan(probability) else float(probability)


def _tag_array(values: Sequence[Any]) -> pa.Array:
    """A tag column; values of mixed types become their text."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
