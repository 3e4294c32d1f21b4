"""From the records of a result back to all that its measures saw: to check figures, and to compare models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmbench.bounded import MOST_JUDGED
from rmbench.metrics.views import Facts, Given, outcome_of
from rmbench.results.provenance import examples_sha256, list_sha256, responses_sha256
from rmbench.results.records import JSON, TAG
from rmbench.results.schema import TaskResult
from rmbench.types import Outcome, Reward

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE = 1 << 15  # rows held as Python objects
_NO_TAGS: Mapping[str, Any] = {}
STATED = ("example_id", "cluster", "prompt", "facets", "label", "class", "annotations", "step_labels")
RESPONSE = ("text_hash", "characters")


@dataclass(frozen=True, slots=True)
class JudgedExample:
    """One example of the records: the labels of its candidates (a number, a class or None), and their rows."""

    id: str
    facets: Mapping[str, str]
    cluster: str | None
    labels: list[float | str | None]
    rows: list[int]


@dataclass(frozen=True, slots=True)
class Replayed:
    """One example as it was evaluated: its outcome, what was given to its requests, and the hash of each text."""

    outcome: Outcome
    given: Sequence[Given]
    texts: Sequence[str | None]


def examples_of(result: TaskResult) -> list[JudgedExample]:
    """The examples that a result's records are about, candidates in their order."""
    records = result.records
    rows, ends = grouped(records)
    starts = [0, *ends[:-1]]
    names, facets, clusters = (
        records[name].take(rows[starts]).to_pylist() for name in ("example_id", "facets", "cluster")
    )
    labels = _labels(records["label"].take(rows).to_pylist(), records["class"].take(rows).to_pylist())
    places = rows.tolist()
    return [
        JudgedExample(name, dict(stated or ()), cluster, labels[start:end], places[start:end])
        for name, stated, cluster, start, end in zip(names, facets, clusters, starts, ends, strict=True)
    ]


class DataHashes(NamedTuple):
    """Two identities of what was judged: of all that the data state, and of the responses, None where one has no text.

    Lengths and tags are of the responses: score files, which have no texts, have not the same ones.
    """

    examples: str
    responses: str | None


def data_hashes(records: pa.Table) -> DataHashes:
    """The identities of the examples and the responses that a table of candidates is about."""
    rows, ends = grouped(records)
    examples, responses, all_texts = list[tuple[str, str]](), list[tuple[str, str]](), True
    tags = [name for name in records.column_names if name.startswith(TAG)]
    for table, sizes in _blocks(records.select([*STATED, *RESPONSE, *tags]), rows, ends):
        columns = {name: table[name].to_pylist() for name in (*STATED, *RESPONSE)}
        labels = _labels(columns["label"], columns["class"])
        of_rows = tags_of(table) if tags else [_NO_TAGS] * table.num_rows
        start = 0
        for size in sizes:
            place = slice(start, start + size)
            name, facets = columns["example_id"][start], sorted(columns["facets"][start] or ())
            of_example = [columns["cluster"][start], columns["prompt"][start], facets, labels[place]]
            of_example += [columns[what][place] for what in ("annotations", "step_labels")]
            of_responses = [columns["text_hash"][place], columns["characters"][place], of_rows[place]]
            examples.append((name, list_sha256(of_example)))
            responses.append((name, list_sha256(of_responses)))
            all_texts = all_texts and None not in columns["text_hash"][place]
            start += size
    return DataHashes(examples_sha256(examples), responses_sha256(responses) if all_texts else None)


def outcomes_of(result: TaskResult) -> list[Outcome]:
    """What measures saw, one outcome an example, with every view of it."""
    return [one.outcome for one in replayed(result)]


def replayed(result: TaskResult) -> Iterator[Replayed]:
    """Every example of a result, in the order of its records."""
    rows, ends = grouped(result.records)
    requests = {} if result.requests is None else _requests(result.requests)
    if unknown := sorted(set(requests) - set(result.records["example_id"].unique().to_pylist())):
        raise ValueError(f"requests are about example {unknown[0]!r}, of which there is no candidate")
    for table, sizes in _blocks(result.records, rows, ends):
        columns = {name: table[name].to_pylist() for name in table.column_names if not name.startswith(TAG)}
        tags = tags_of(table)
        start = 0
        for size in sizes:
            place = slice(start, start + size)
            example = {name: values[place] for name, values in columns.items()}
            yield _replayed(example, tags[place] if tags else [_NO_TAGS] * size, requests, result.task.null_verdict)
            start += size


def _replayed(
    example: Mapping[str, list[Any]],
    tags: Sequence[Mapping[str, Any]],
    requests: Mapping[str, list[Given]],
    null_verdict: str | None,
) -> Replayed:
    name = example["example_id"][0]
    facts = Facts(
        np.array(example["label"], float),  # None is nan
        np.array(example["characters"], float),
        classes=example["class"],
        annotations=[numbers or () for numbers in example["annotations"]],
        tags=tags,
        step_labels=example["step_labels"],
    )
    alone = {index: _reward(example, index) for index, ask in enumerate(example["ask"]) if ask is not None}
    given = [Given(example["ask"][index], (index,), reward) for index, reward in alone.items()]
    if name in requests:
        _check_alone(name, alone, requests[name])
        given = [
            one._replace(reward=alone.get(one.candidates[0], one.reward)) if len(one.candidates) == 1 else one
            for one in requests[name]
        ]
    outcome = outcome_of(
        name,
        dict(example["facets"][0] or ()),
        example["cluster"][0] or name,
        facts,
        given,
        null_verdict=null_verdict,
        prompt=example["prompt"][0] or "",
    )
    return Replayed(outcome, given, example["text_hash"])


def _check_alone(name: str, alone: Mapping[int, Reward], requests: Sequence[Given]) -> None:
    """Raises ValueError where the two tables say something else of a candidate that was asked about by itself."""
    single = {one.candidates[0]: _cells(one.reward) for one in requests if len(one.candidates) == 1}
    if single != {index: _cells(reward) for index, reward in alone.items()}:
        raise ValueError(f"the tables give example {name!r} other answers to what was asked of single candidates")


def _cells(reward: Reward) -> tuple[str, ...]:
    return tuple(map(str, (reward.values, reward.status, reward.n_tokens, reward.truncated, reward.read)))


def _reward(example: Mapping[str, list[Any]], at: int) -> Reward:
    """The reward that a candidate was given by itself; its reason stands for its detail."""
    cells = {name: values[at] for name, values in example.items()}
    value, spread = cells["reward"], cells["spread"]
    return Reward(
        (np.nan if value is None else value,),
        heads={name: (head,) for name, head in cells["heads"] or ()},
        steps=tuple(cells["steps"] or ()),
        step_heads={name: tuple(steps) for name, steps in cells["step_heads"] or ()},
        spread=None if spread is None else (spread,),
        status=cells["status"],
        detail=cells["reason"],
        n_tokens=cells["n_tokens"],
        truncated=cells["truncated"],
        read=cells["read"] or "",
        noted=tuple(cells.get("noted") or ()),
    )


def _requests(table: pa.Table) -> dict[str, list[Given]]:
    """What was given to the requests of each example, in the order asked."""
    by_example: dict[str, list[Given]] = {}
    for start in range(0, table.num_rows, _AT_ONCE):
        for row in table.slice(start, _AT_ONCE).to_pylist():
            reward = Reward(
                tuple(row["values"]),
                spread=None if row["spread"] is None else tuple(row["spread"]),
                status=row["status"],
                detail=row["reason"],
                n_tokens=row["n_tokens"],
                truncated=row["truncated"],
                read=row["read"] or "",
                pick=row["pick"],
                heads={name: tuple(head) for name, head in row.get("heads") or ()},
                noted=tuple(row.get("noted") or ()),
            )
            of_example = by_example.setdefault(row["example_id"], [])
            if row["request"] != len(of_example):
                raise ValueError(
                    f"request {row['request']} of example {row['example_id']!r}; expected {len(of_example)}"
                )
            of_example.append(Given(row["ask"], tuple(row["candidates"]), reward))
    return by_example


def grouped(records: pa.Table) -> tuple[NDArray[np.intp], list[int]]:
    """The rows of the records, those of an example together and in the order of its candidates, and where each ends."""
    numbers = records["candidate"].to_numpy()
    order = np.argsort(numbers, kind="stable")
    codes = records["example_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    rows = order[np.argsort(codes[order], kind="stable")]
    sizes = np.bincount(codes)
    if sizes.max(initial=0) > MOST_JUDGED:
        raise ValueError(f"an example of {sizes.max():,} candidates; expected at most {MOST_JUDGED:,}")
    due = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    if (numbers[rows] != due).any():
        example = records["example_id"][int(rows[np.argmax(numbers[rows] != due)])]
        raise ValueError(f"candidates of example {example.as_py()!r} are not numbered from 0, each once")
    return rows, np.cumsum(sizes).tolist()


def _blocks(records: pa.Table, rows: NDArray[np.intp], ends: Sequence[int]) -> Iterator[tuple[pa.Table, list[int]]]:
    """The records in that order, whole examples, a bounded number at a time, and how many rows each example has."""
    in_order = bool((np.diff(rows) == 1).all())
    start, sizes = 0, list[int]()
    for at, end in enumerate(ends):
        sizes.append(end - (ends[at - 1] if at else 0))
        if end - start >= _AT_ONCE or at == len(ends) - 1:
            table = records.slice(start, end - start) if in_order else records.take(rows[start:end])
            yield table, sizes
            start, sizes = end, []


def tags_of(table: pa.Table) -> list[dict[str, Any]]:
    """The tags of each row, [] where the table has none."""
    names = [name for name in table.column_names if name.startswith(TAG)]
    columns = []
    for name in names:
        values = table[name].to_pylist()
        if dict(table.schema.field(name).metadata or {}).items() >= JSON.items():
            values = [None if value is None else json.loads(value) for value in values]
        columns.append(values)
    tags = [name.removeprefix(TAG) for name in names]
    return [
        {tag: value for tag, value in zip(tags, row, strict=True) if value is not None}
        for row in zip(*columns, strict=True)
    ]


def _labels(numbers: Sequence[float | None], classes: Sequence[str | None]) -> list[float | str | None]:
    return [number if word is None else word for number, word in zip(numbers, classes, strict=True)]
