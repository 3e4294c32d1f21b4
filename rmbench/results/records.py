"""The tables beside a result: one row a candidate, and one a request where some show several responses. No texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from rmbench.data.dataset import prompt_hash
from rmbench.metrics.views import Given, alone_of
from rmbench.results.provenance import reason_of
from rmbench.types import Candidate, Example, Image, Message, Response, Reward

if TYPE_CHECKING:
    import pyarrow as pa

TAG = "tag_"
JSON = {b"rmbench": b"json"}  # what a column says whose values are JSON

_AT_ONCE = 1 << 16  # rows held as Python objects
_HEX = 32  # digits of the hash of a text


class Records:
    """The tables of a run on one task, grown an example at a time; no texts are kept."""

    def __init__(self) -> None:
        self._candidates = _Table(candidate_types())
        self._requests = _Table(request_types())
        self._tags: dict[str, list[Any]] = {}
        self._count = 0
        self._several = self._headed = self._noted = False

    def add(self, example: Example, given: Sequence[Given]) -> list[str | None]:
        """Adds an example with what was given to its requests, in the order asked; the hash of each candidate's text.

        A candidate's row holds the reward that it was given by itself.
        """
        texts = [text_hash(candidate) for candidate in example.candidates]
        self._add_candidates(example, given, texts)
        several = any(len(one.candidates) > 1 for one in given)
        self._several |= several
        self._noted |= any(one.reward.noted for one in given)
        for number, (ask, candidates, reward) in enumerate(given if several else ()):
            heads = {name: list(head) for name, head in reward.heads.items()} if len(candidates) > 1 else {}
            self._headed |= bool(heads)
            self._requests.add(
                example.id, number, ask, list(candidates), list(reward.values), reward.pick,
                None if reward.spread is None else list(reward.spread), reward.status, _reason(reward), reward.n_tokens,
                reward.truncated, reward.read or None, list(heads.items()) or None, list(reward.noted) or None,
            )  # fmt: skip
        return texts

    def candidates(self) -> pa.Table:
        """One row a candidate, in the order of the data: what is known of it and what it was given.

        With `noted` where something was.
        """
        import pyarrow as pa

        table = self._candidates.made()
        table = table if self._noted else table.drop_columns(["noted"])
        for name, values in sorted(self._tags.items()):
            values.extend([None] * (self._count - len(values)))
            array, metadata = _tag_array(values)
            table = table.append_column(pa.field(f"{TAG}{name}", array.type, metadata=metadata), array)
        return table

    def requests(self) -> pa.Table | None:
        """One row a request, in the order asked, of the examples of which some showed several; None without any.

        With `heads` and `noted` where one of those requests has some.
        """
        if not self._several:
            return None
        table = self._requests.made()
        return table.drop_columns([*([] if self._headed else ["heads"]), *([] if self._noted else ["noted"])])

    def _add_candidates(self, example: Example, given: Sequence[Given], texts: Sequence[str | None]) -> None:
        facets = list(example.facets.items())
        prompt = prompt_hash(example.prompt) if example.prompt else None
        asks = {one.candidates[0]: one.ask for one in given if len(one.candidates) == 1}
        rewards = alone_of(len(example.candidates), given)
        for index, (candidate, text) in enumerate(zip(example.candidates, texts, strict=True)):
            self._candidates.add(
                example.id, index, facets, example.cluster, prompt, candidate.number,
                candidate.label if isinstance(candidate.label, str) else None, list(candidate.annotations) or None,
                None if candidate.step_labels is None else list(candidate.step_labels), text,
                *_reward_cells(asks[index], rewards[index]) if index in asks else _UNASKED,
                None if candidate.text is None else len(candidate.text),
                list(rewards[index].noted) or None if index in asks else None,
            )  # fmt: skip
            for tag, value in candidate.tags.items():
                column = self._tags.setdefault(tag, [])
                column.extend([None] * (self._count + index - len(column)))
                column.append(value)
        self._count += len(example.candidates)


class _Table:
    """Columns that grow by rows; Python objects take several times what their columns do, so few are held at once."""

    def __init__(self, types: Mapping[str, pa.DataType]) -> None:
        self._types = types
        self._done: list[pa.Table] = []
        self.clear()

    def clear(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    def add(self, *cells: Any) -> None:
        self._rows.append(cells)
        if len(self._rows) >= _AT_ONCE:
            self._pack()

    def made(self) -> pa.Table:
        import pyarrow as pa

        self._pack()
        return pa.concat_tables(self._done)

    def _pack(self) -> None:
        import pyarrow as pa

        columns = zip(*self._rows, strict=True) if self._rows else ([] for _ in self._types)
        arrays = {name: pa.array(cells, kind) for (name, kind), cells in zip(self._types.items(), columns, strict=True)}
        self._done.append(pa.table(arrays))
        self.clear()


def with_probabilities(table: pa.Table, probabilities: Sequence[Any] | None) -> pa.Table:
    """The table of candidates with `probability`: one number per candidate of each example, in the order of the data.

    nan where there is none; None without calibration.
    """
    import numpy as np
    import pyarrow as pa

    if probabilities is None:
        return table
    column = pa.array(np.concatenate([np.zeros(0), *probabilities]), pa.float64(), from_pandas=True)
    return table.set_column(table.column_names.index("probability"), "probability", column)


def text_hash(candidate: Candidate) -> str | None:
    """The first 32 hex digits of the sha256 of a response: of its text, or of its turns where it is no single text."""
    response = candidate.response
    if isinstance(response, Response):
        if response.messages is None:
            return None
        if len(response.messages) > 1 or not response.messages[0].is_plain:
            turns = json.dumps([_turn(message) for message in response.messages], ensure_ascii=False)
            return sha256(turns.encode(errors="surrogatepass")).hexdigest()[:_HEX]
        response = response.messages[0].text
    return sha256(response.encode(errors="surrogatepass")).hexdigest()[:_HEX]


def _turn(message: Message) -> list[Any]:
    parts = [{"image": part.sha256} if isinstance(part, Image) else part for part in message.parts]
    calls = [[call.name, call.arguments, call.id] for call in message.tool_calls]
    return [message.role, parts, calls, message.tool_call_id, message.name]


def _reward_cells(ask: str, reward: Reward) -> tuple[Any, ...]:
    return (
        ask,
        reward.read or None,
        reward.value,
        [(name, head[0]) for name, head in reward.heads.items()],
        list(reward.steps) or None,
        [(name, list(steps)) for name, steps in reward.step_heads.items()] or None,
        None if reward.spread is None else reward.spread[0],
        None,
        reward.status,
        _reason(reward),
        reward.n_tokens,
        reward.truncated,
    )


_UNASKED = (None,) * 12


def _reason(reward: Reward) -> str | None:
    return None if reward.status == "ok" else reason_of(reward.detail)


def generation_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """One row a sample of a policy: what is known of it and how long it is, its tags last. No texts.

    `candidate` counts the samples of a prompt, `tokens` and `cap` are in the result's unit.
    """
    import pyarrow as pa

    tags = dict.fromkeys(tag for row in rows for tag in row["tags"])
    rows = [{**row, "facets": list(row["facets"].items())} for row in rows]
    arrays = {name: pa.array([row[name] for row in rows], kind) for name, kind in generation_types().items()}
    table = pa.table(arrays)
    for tag in sorted(tags):
        array, metadata = _tag_array([row["tags"].get(tag) for row in rows])
        table = table.append_column(pa.field(f"{TAG}{tag}", array.type, metadata=metadata), array)
    return table


def candidate_types() -> Mapping[str, pa.DataType]:
    """The columns of the table of candidates, but for tags. Only some tables have `noted`."""
    import pyarrow as pa

    numbers = pa.list_(pa.float64())
    return {
        "example_id": pa.string(),
        "candidate": pa.int32(),
        "facets": pa.map_(pa.string(), pa.string()),
        "cluster": pa.string(),
        "prompt": pa.string(),
        "label": pa.float64(),
        "class": pa.string(),
        "annotations": numbers,
        "step_labels": numbers,
        "text_hash": pa.string(),
        "ask": pa.string(),
        "read": pa.string(),
        "reward": pa.float64(),
        "heads": pa.map_(pa.string(), pa.float64()),
        "steps": numbers,
        "step_heads": pa.map_(pa.string(), numbers),
        "spread": pa.float64(),
        "probability": pa.float64(),
        "status": pa.string(),
        "reason": pa.string(),
        "n_tokens": pa.int32(),
        "truncated": pa.int32(),
        "characters": pa.int32(),
        "noted": pa.list_(pa.string()),
    }


def request_types() -> Mapping[str, pa.DataType]:
    """The columns of the table of requests; `request` counts those of an example. Only some tables have `noted`, and
    `heads`, which are those of requests that showed several responses."""
    import pyarrow as pa

    return {
        "example_id": pa.string(),
        "request": pa.int32(),
        "ask": pa.string(),
        "candidates": pa.list_(pa.int32()),
        "values": pa.list_(pa.float64()),
        "pick": pa.int32(),
        "spread": pa.list_(pa.float64()),
        "status": pa.string(),
        "reason": pa.string(),
        "n_tokens": pa.int32(),
        "truncated": pa.int32(),
        "read": pa.string(),
        "heads": pa.map_(pa.string(), pa.list_(pa.float64())),
        "noted": pa.list_(pa.string()),
    }


def generation_types() -> Mapping[str, pa.DataType]:
    """The columns of a policy's samples, but for tags."""
    import pyarrow as pa

    return {
        "example_id": pa.string(),
        "candidate": pa.int32(),
        "facets": pa.map_(pa.string(), pa.string()),
        "cluster": pa.string(),
        "prompt": pa.string(),
        "text_hash": pa.string(),
        "condition": pa.string(),
        "status": pa.string(),
        "refused": pa.bool_(),
        "empty": pa.bool_(),
        "tokens": pa.int32(),
        "characters": pa.int32(),
        "finish": pa.string(),
        "cap": pa.int32(),
    }


def _tag_array(values: Sequence[Any]) -> tuple[pa.Array, Mapping[bytes, bytes] | None]:
    """A column of tags; values that are not all of one plain type become JSON, and the column says so."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str} or kinds <= {bool} or kinds <= {int} or kinds <= {int, float}:
        return pa.array(values), None
    texts = [None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in values]
    return pa.array(texts, pa.string()), JSON
