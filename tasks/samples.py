"""Samples: many responses of one policy to each prompt, with what each is worth; `rmbench overoptimize` reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rmbench.data.conversation import (
    POLICY,
    PROMPT,
    RESPONSE,
    RESPONSES,
    Reply,
    facets,
    read_grouped,
    read_prompt,
    read_reply,
    to_example,
)
from rmbench.data.dataset import LeftOut
from rmbench.data.labels import read_label
from rmbench.data.messages import as_json_list
from rmbench.data.rows import Row, listed, shown
from rmbench.errors import WrongFileError
from rmbench.kinds.comparison import Comparison
from rmbench.metrics.pick import POOL
from rmbench.types import Candidate, Example, Message, Response

_GOLD = ("gold", "label", "is_correct", "correct", "score", "rating")
_GROUP = ("problem_id", "prompt_id", "group_id", "group")
_NAMED = (*_GROUP, "example_id", "id")
_INDEX = ("candidate_index", "candidate")
_ANSWER = ("answer", "final_answer")
_LOGPROB = ("logprob", "cumulative_logprob")
_TEXT = ("response", "completion", "solution", "output", "text", "content", "messages", "candidate", "answer")
# of a row that lists its responses, the lists of what is known of each, by what it is called of one
_LISTS = {"gold": ("gold", "labels", "is_correct", "correct", "scores", "ratings"), "answer": ("final_answers",),
          "logprob": ("logprobs", *_LOGPROB), "policy": ("policies",)}  # fmt: skip
_EXPECTED = (
    "a row of samples has `prompt`, `response` and `gold`, or `prompt`, a list of `responses` and one of `gold`, or, "
    "where only score files know the texts, `problem_id`, `candidate_index` and `is_correct`"
)


@dataclass(frozen=True)
class Samples(Comparison):
    """A comparison whose samples may have no labels, since another model can say what they are worth."""

    lacks: ClassVar[str] = "has several samples"

    def is_usable(self, example: Example) -> bool:
        """Whether there is something to choose among."""
        return len(example.candidates) > 1


@dataclass(frozen=True, slots=True)
class _Sample:
    """One response of a row, with what it is worth."""

    reply: Reply
    gold: bool | float | None


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a prompt: a row that lists its samples, or rows of one sample each, joined by id or prompt."""
    return read_grouped(rows, _group, _listed, _joined)


def _group(row: Row) -> object | None:
    """What a row of one sample is joined by, None of a row that lists the samples of its prompt."""
    if _is_known_by_number(row):
        return row.name(_NAMED)
    if (field := row.filled(RESPONSES)) is not None and isinstance(as_json_list(row.peek(field)), list):
        return None
    row.need(PROMPT, _EXPECTED)
    return row.name(_GROUP) or read_prompt(row)


def _is_known_by_number(row: Row) -> bool:
    """Whether a row has a sample without its text: the name of a prompt, and the number of the sample."""
    texts = tuple(name for name in (*PROMPT, *RESPONSE, *RESPONSES) if name not in (*_INDEX, *_ANSWER))
    return row.filled(texts) is None and None not in (row.filled(_NAMED), row.filled(_INDEX))


def _listed(row: Row) -> Example:
    """A row of several responses: objects that say all of themselves, or texts with lists of the rest beside them."""
    field = row.need(RESPONSES, _EXPECTED)
    values, named = as_json_list(row.value[field]), _named_gold(row)
    if not all(isinstance(value, dict) for value in values):
        columns = {"response": values, **_beside(row, len(values))}
        values = [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]
    elif named is not None:
        raise row.error(f"objects in `{field}` say their gold themselves; expected lists beside texts", "gold")
    samples = [_sample(row.of(value), field) for value in values]
    return to_example(row, [one.reply for one in samples], [one.gold for one in samples], _NAMED)


def _beside(row: Row, count: int) -> dict[str, list[Any]]:
    """What lists beside the responses say of each of them."""
    columns: dict[str, list[Any]] = {}
    for name, lists in _LISTS.items():
        field = row.first(lists)
        values = None if field is None else as_json_list(row.value[field])
        if field is not None and (not isinstance(values, list) or len(values) != count):
            raise row.error(f"expected a list with one for each of {count} responses, got {shown(values)}", field)
        if values is not None:
            columns[name] = values
    return columns


def _joined(group: list[Row]) -> Example:
    """Rows of one sample each."""
    first = group[0]
    if _is_known_by_number(first):
        return _known_by_number(group)
    group = _in_order(group)
    prompt = read_prompt(first)
    for row in group[1:]:
        if read_prompt(row) != prompt:
            raise row.error(f"another prompt than in row {first.number} of the same group", row.filled(PROMPT))
    samples = [_sample(row) for row in group]
    return to_example(first, [one.reply for one in samples], [one.gold for one in samples], _GROUP)


def _in_order(group: list[Row]) -> list[Row]:
    """Rows of one prompt by the number of their sample, which score files go by, as they stand where some have none.

    Raises DataError for one number twice, as of a file that was joined with itself.
    """
    texts = [str(row.value.get(_INDEX[0])) for row in group]
    if not all(text.isdecimal() for text in texts):
        return group
    numbers = [int(text) for text in texts]
    seen = dict[int, Row]()
    for number, row in zip(numbers, group, strict=True):
        if seen.setdefault(number, row) is not row:
            raise row.error(f"{number} stands in row {seen[number].number} of the same prompt already", _INDEX[0])
    return [seen[number] for number in sorted(seen)]


def _known_by_number(group: list[Row]) -> Example:
    """Samples whose texts only a score file's maker has: their prompt's name stands for it."""
    first = group[0]
    if len(group) < 2:
        raise first.no_example("fewer than two responses")
    numbered = dict[int, Row]()
    for row in group:
        field = row.need(_INDEX, _EXPECTED)
        number = row.one_of(field, {at: at for at in range(len(group))})
        if numbered.setdefault(number, row) is not row:
            raise row.error(f"{number} stands in row {numbered[number].number} of the same prompt already", field)
    candidates = [
        Candidate(Response(None), _gold(row), tags=_tags(row, ""))
        for _, row in sorted(numbered.items(), key=lambda item: item[0])
    ]
    name = first.name(_NAMED) or ""
    prompt = (Message("user", name),)
    return Example(name, prompt, tuple(candidates), facets=facets(first, ("subset",)), cluster=first.name(("cluster",)))


def _sample(row: Row, listed_in: str = "") -> _Sample:
    """The response of an object in the list `listed_in` of a row, "" of a row itself, with what is known of it."""
    field = row.need(_TEXT if listed_in else RESPONSE, _EXPECTED)
    reply = read_reply(row, listed_in or field, row.value[field])
    return _Sample(replace(reply, tags={**reply.tags, **_tags(row, field)}), _gold(row))


def _tags(row: Row, text: str) -> dict[str, Any]:
    """Who wrote it, the answer it comes to, and how likely the policy was to write it; `text` is its field."""
    policy, answer, likely = row.name(POLICY), row.filled(_ANSWER), row.filled(_LOGPROB)
    tags: dict[str, Any] = {} if policy is None else {"policy": policy}
    if answer is not None and answer != text:
        tags["answer"] = str(row.value[answer])
    if likely is not None:
        tags["logprob"] = read_label(row, likely, row.value[likely])
    return tags


def _named_gold(row: Row) -> str | None:
    """The column that was named to be the gold."""
    return None if row.tally is None else row.tally.columns.get("gold")


def _gold(row: Row) -> bool | float | None:
    """What a sample is worth; None where nobody says it. Raises DataError where a column was named and is not there."""
    named = _named_gold(row)
    field = row.first(("gold",) if named else _GOLD)
    if field is None and named:
        raise row.error(f"no column {named!r} to be the gold; found {listed(row.given)}", kind=WrongFileError)
    return None if field is None else read_label(row, field, row.value[field])


TASK = Samples(
    name="samples",
    version=1,
    summary="Samples of one policy with what each is worth, as overoptimize reads: --data samples=FILE",
    card="samples",
    read=read,
    asks=("reward", "steps"),
    measure=POOL,
)
