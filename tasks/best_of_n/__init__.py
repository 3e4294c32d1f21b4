"""Best of n: prompts with several responses, some right or better; bundled rows, or any grouped file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rmbench.data.conversation import (
    CHOSEN,
    POLICY,
    PROMPT,
    REJECTED,
    RESPONSE,
    RESPONSES,
    Reply,
    read_answers,
    read_grouped,
    read_prompt,
    read_reply,
    to_example,
)
from rmbench.data.dataset import LeftOut
from rmbench.data.labels import read_label
from rmbench.data.messages import as_json_list
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.types import Example

_IDS = ("id", "bon_uid", "uid", "example_id")
_LIST_LABELS = ("labels", "is_correct", "correct", "scores", "ratings")
_LABEL = ("label", "is_correct", "correct", "score", "rating")
_GROUP = ("group_id", "group", "prompt_id", "problem_id", "example_id")
_EXPECTED = (
    "a best_of_n row has `prompt` and `candidates`, texts with a list `labels` or objects with `text` and `label`; "
    "or it is one candidate, with `prompt`, `response` and `label`"
)


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, or, where a row is one candidate, a group of rows of the same group id or prompt."""
    return read_grouped(rows, _group, _alone, _joined)


def _group(row: Row) -> object | None:
    """What a row of one candidate is joined by, None of a row that is an example by itself."""
    if "bon_best" in row.value or row.first((*RESPONSES, *CHOSEN, *REJECTED)) or _solutions(row):
        return None
    row.need(PROMPT, _EXPECTED)
    return row.name(_GROUP) or read_prompt(row)


def _alone(row: Row) -> Example:
    if "bon_best" in row.value:
        return _rmb(row)
    if solutions := _solutions(row):
        return _gsm8k(row, solutions)
    return _grouped(row) if row.first(RESPONSES) else _sides(row)


def _sides(row: Row) -> Example:
    """Chosen against rejected responses."""
    answers = read_answers(row)
    right = answers.chosen or 0
    return to_example(row, answers.replies, [place < right for place in range(len(answers.replies))], _IDS)


def _rmb(row: Row) -> Example:
    """RMB's best-of-n rows: `bon_best` beats every one of `loser_list`."""
    losers = row.value.get("loser_list")
    if not isinstance(losers, list):
        raise row.error(f"expected a list of responses, got {shown(losers)}", "loser_list")
    replies = [
        read_reply(row, "bon_best", row.value["bon_best"]),
        *(read_reply(row, "loser_list", loser) for loser in losers),
    ]
    return to_example(row, replies, [True] + [False] * len(losers), _IDS)


def _solutions(row: Row) -> list[str]:
    """The columns of GSM8K's example_model_solutions that hold a graded solution, one per model."""
    graded = {"solution", "is_correct"}
    return [name for name, value in row.value.items() if isinstance(value, dict) and graded <= value.keys()]


def _gsm8k(row: Row, columns: list[str]) -> Example:
    replies = [read_reply(row, name, row.value[name]) for name in columns]
    replies = [
        replace(reply, tags={"policy": name, **_final_answer(reply.text)})
        for name, reply in zip(columns, replies, strict=True)
    ]
    return to_example(row, replies, [read_label(row, name, row.value[name]["is_correct"]) for name in columns], _IDS)


def _final_answer(text: str | None) -> dict[str, str]:
    """GSM8K's solutions end with `A: ` and the answer; one that does not has none."""
    _, mark, answer = (text or "").rpartition("\nA: ")
    return {"answer": answer.strip()} if mark else {}


def _grouped(row: Row) -> Example:
    field = row.need(RESPONSES, _EXPECTED)
    values = as_json_list(row.value[field])
    if not isinstance(values, list):
        raise row.error(f"expected a list of responses, got {shown(values)}", field)
    replies = [read_reply(row, field, value) for value in values]
    return to_example(row, replies, _labels(row, values), _IDS)


def _labels(row: Row, values: list[Any]) -> list[bool | float | None]:
    """One label per response: from the list beside them, else from the responses, which are objects then."""
    if row.first(_LIST_LABELS) is None and all(isinstance(value, dict) for value in values):
        holders = [row.of(value) for value in values]
        fields = [holder.need(_LABEL, _EXPECTED) for holder in holders]
        return [read_label(row, name, holder.value[name]) for name, holder in zip(fields, holders, strict=True)]
    field = row.need(_LIST_LABELS, _EXPECTED)
    labels = as_json_list(row.value[field])
    if not isinstance(labels, list) or len(labels) != len(values):
        raise row.error(
            f"expected a list with one label for each of {len(values)} responses, got {shown(labels)}", field
        )
    return [read_label(row, field, label) for label in labels]


def _joined(group: list[Row]) -> Example:
    """Rows of one candidate each."""
    prompts = [read_prompt(row) for row in group]
    for row, prompt in zip(group, prompts, strict=True):
        if prompt != prompts[0]:
            raise row.error(f"another prompt than in row {group[0].number} of the same group", row.filled(PROMPT))
    replies: list[Reply] = []
    labels: list[bool | float | None] = []
    for row in group:
        response, label = row.need(RESPONSE, _EXPECTED), row.need(_LABEL, _EXPECTED)
        reply = read_reply(row, response, row.value[response])
        policy = row.name(POLICY)
        replies.append(replace(reply, tags={"policy": policy}) if policy else reply)
        labels.append(read_label(row, label, row.value[label]))
    return to_example(group[0], replies, labels, _GROUP)


TASK = Comparison(
    name="best_of_n",
    version=2,
    summary="Best of n: bundled questions with checked answers, or grouped responses of your own",
    card="best_of_n",
    read=read,
    bundled=Path(__file__).parent / "rows.jsonl",
    orders="both",
)
