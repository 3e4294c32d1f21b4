"""A user's file as rows of responses, with everything else that stands in them, which is written beside what was asked.

One row comes out for each response, in the order of the file. The user's columns go along, `response` is the text that
was asked about. Columns that hold several responses give way to it, and fields of an object that holds a response
become columns. What came before is in `prompt` where no column of the row says so any more.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rmbench.data.conversation import CHOSEN, Responses, read_all, read_prompt
from rmbench.data.dataset import LeftOut, nothing_left, oddities
from rmbench.data.files import Rows
from rmbench.data.messages import is_turn
from rmbench.data.rows import Row, told
from rmbench.errors import DataError
from rmbench.runs.loading import seldom_collected
from rmbench.types import Candidate, Example, Message

STDIN = "-"
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_TEXTS = ("text", "answer", "response", "content", "solution", "completion", "output", "messages")


@dataclass(frozen=True)
class ResponseRows:
    """`read` has what each row asks; of each response, in the order of the file, `places` has the example's id and
    which of its candidates it is, `own` the columns that go with it. `notes` say what of the file is left out or not
    read.
    """

    read: Sequence[Responses]
    places: Sequence[tuple[str, int]]
    own: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()

    @property
    def prompts(self) -> int:
        """How many different prompts there are."""
        return len({row.prompt for row in self.read})

    @property
    def prompt_of_each(self) -> list[tuple[Message, ...]]:
        """The prompt that each response answers."""
        return [row.prompt for row in self.read for _ in row.texts]

    @cached_property
    def policy_of_each(self) -> list[str | None]:
        """Who wrote each response, where the data say so."""
        return [policy for row in self.read for policy in row.policies]

    @property
    def empty(self) -> int:
        """How many responses say nothing: no text, or white space alone."""
        return sum(not text.strip() for row in self.read for text in row.texts)


def check_input(file: Path) -> None:
    """Raises DataError for a file or folder that is not there, or no data file; better before a model is looked at."""
    if str(file) != STDIN:
        next(iter(Rows(file, skip_bad_rows=True)), None)


@contextmanager
def input_file(file: Path) -> Iterator[Path]:
    """`file`, or, of `-`, a file of what stands on standard input: JSON lines, or a JSON list. Raises DataError."""
    if str(file) != STDIN:
        yield file
        return
    with TemporaryDirectory(prefix="rmbench-") as folder:
        path = Path(folder, "stdin.json")
        buffer = getattr(sys.stdin, "buffer", None)
        path.write_bytes(sys.stdin.read().encode() if buffer is None else buffer.read())
        if not path.stat().st_size:
            raise DataError("standard input: nothing in it; expected a JSON object a line")
        yield path


@seldom_collected()
def rows_of(file: Path, *, columns: Mapping[str, str] | None = None, skip_bad_rows: bool = False) -> ResponseRows:
    """Every row of a data file or folder, or of standard input (`-`). Raises DataError, UsageError."""
    with input_file(file) as path:
        rows = Rows(path, columns=columns, skip_bad_rows=skip_bad_rows)
        items = list(read_all(rows))
    read = [item for item in items if isinstance(item, Responses)]
    excluded = Counter([item.reason for item in items if isinstance(item, LeftOut)]) + rows.skipped
    places = _places(read)
    noted = rows.noted()
    if not read:
        raise nothing_left(rows.name, excluded, noted)
    notes = [f"rows left out: {reason}: {count:,}" for reason, count in excluded.items()]
    notes += [f"noted: {line}" for line in told({**_odd(read), **noted})]
    kept = [_kept(asked, columns or {}) for asked in read]
    silent = [not _says(own, asked) for (own, _), asked in zip(kept, read, strict=True)]
    as_text, some_silent = all(is_one_text(row.prompt) for row in read), any(silent)
    own: list[dict[str, Any]] = []
    for (beside, values), asked, lacks in zip(kept, read, silent, strict=True):
        said = lacks or ("prompt" in beside and some_silent and not as_text)
        prompt = prompt_of(asked.prompt, as_text=as_text) if said else None
        whole = _with(beside, "prompt", prompt, same=not lacks) if said else beside
        own += [_of_one(whole, text, value) for text, value in zip(asked.texts, values, strict=True)]
    return ResponseRows(read, places, own, notes)


def _of_one(columns: Mapping[str, Any], text: str, value: Any) -> dict[str, Any]:
    """The columns that go with one response; `value` is what the row holds it in, if that is an object."""
    beside = _beside(value) if isinstance(value, Mapping) else {}
    more = {name if name not in columns else f"response_{name}": one for name, one in beside.items()}
    return _with({**columns, **more}, "response", text)


def joined(own: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The columns of a user's rows, then those that were made, and a line on those of the user's that are called
    `input_...` because a column was made of their name that says something else."""
    names = dict.fromkeys(name for row in own for name in row)
    columns: dict[str, Any] = {}
    moved = [name for name in ("prompt", "response") if f"input_{name}" in names]
    for name in names:
        values = [row.get(name) for row in own]
        if name not in made:
            columns[name] = values
        elif [*map(_told, values)] != [*map(_told, _listed_column(made[name]))]:
            columns[_free(f"input_{name}", {*names, *made})] = values
            moved.append(name)
    line = f"columns of the input that are called like one of the output are input_NAME there: {', '.join(moved)}"
    return {**columns, **made}, [line] if moved else []


def _listed_column(values: Any) -> list[Any]:
    listed: list[Any] = values if isinstance(values, list) else values.to_pylist()
    return listed


def _told(value: Any) -> str:
    """A value as a text, in which a CSV file has it too."""
    return "" if value is None else str(value)


def prompt_of(turns: Sequence[Message], *, as_text: bool) -> Any:
    """A prompt as a column holds it: a text, or a list of messages."""
    return turns[0].text if as_text else [_message(turn) for turn in turns]


def _message(turn: Message) -> dict[str, Any]:
    """A turn as data have it; an image is known by its hash alone."""
    parts = [{"type": "text", "text": one} if isinstance(one, str) else {"type": "image", "sha256": one.sha256}
             for one in turn.parts]  # fmt: skip
    calls = [{"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
             | ({"id": call.id} if call.id else {}) for call in turn.tool_calls]  # fmt: skip
    more: dict[str, Any] = {"tool_calls": calls or None, "tool_call_id": turn.tool_call_id, "name": turn.name}
    content = parts if turn.images else turn.text
    more |= {name: json.loads(text) for name, text in turn.extras}
    return {"role": turn.role, "content": content} | {name: value for name, value in more.items() if value is not None}


def is_one_text(turns: Sequence[Message]) -> bool:
    """Whether a prompt is one plain turn of the user."""
    return len(turns) == 1 and turns[0].role == "user" and turns[0].is_plain


def _odd(read: Sequence[Responses]) -> dict[str, int]:
    """What a task notes of the same rows, but for empty responses, of which each command has a line of its own."""
    examples = [Example(row.id, row.prompt, tuple(map(Candidate, row.responses)), row.tools) for row in read]
    return {what: count for what, count in oddities(examples, frozenset()).items() if what != "empty responses"}


def _places(read: Sequence[Responses]) -> list[tuple[str, int]]:
    """Id and candidate of each response. Rows that say both, as those written here, keep theirs; else an id that stood
    before has `#2`, `#3`, ... behind it."""
    said = [_said_place(row) if len(row.texts) == 1 else None for row in read]
    if None not in said and len(set(said)) == len(said):
        for row in read:
            row.row.value.get("example_id"), row.row.value.get("candidate")  # which counts as read
        return [place for place in said if place is not None]
    times: Counter[str] = Counter()
    places = []
    for row in read:
        times[row.id] += 1
        name = row.id if times[row.id] == 1 else f"{row.id}#{times[row.id]}"
        places += [(name, candidate) for candidate in range(len(row.texts))]
    return places


def _said_place(row: Responses) -> tuple[str, int] | None:
    name, candidate = row.row.given.get("example_id"), str(row.row.given.get("candidate"))
    return None if name is None or not _COUNT.fullmatch(candidate) else (str(name), int(candidate))


def _kept(asked: Responses, columns: Mapping[str, str]) -> tuple[dict[str, Any], Sequence[Any]]:
    """The columns of a row that do not hold its responses together, and what was held of each of these."""
    given = asked.row.given
    holders = [columns.get(name, name) for name in asked.fields]
    values = [one for name in holders for one in _apart(given.get(name))]
    listed = isinstance(given.get(holders[0]), list) and _apart(given[holders[0]]) == given[holders[0]]
    alone = len(holders) == 1 and not listed and CHOSEN[0] not in asked.fields
    if alone or len(values) != len(asked.texts):
        return dict(given), [None] * len(asked.texts)
    return {name: value for name, value in given.items() if name not in holders}, values


def _with(columns: Mapping[str, Any], name: str, value: Any, *, same: bool = False) -> dict[str, Any]:
    """The columns with one of ours; the user's of that name is kept as `input_...`, unless it says the same."""
    own = dict(columns)
    if name in own and not same and own[name] != value:
        own[_free(f"input_{name}", own)] = own[name]
    return {**own, name: value}


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name = f"input_{name}"
    return name


def _apart(value: Any) -> list[Any]:
    """What a column holds of each response; a conversation is one."""
    several = isinstance(value, list) and bool(value) and not any(map(is_turn, value))
    return list(value) if several else [value]


def _beside(holder: Mapping[str, Any]) -> dict[str, Any]:
    """What an object has besides the response that it holds."""
    text = next((name for name in _TEXTS if name in holder), None)
    return {name: value for name, value in holder.items() if name != text}


def _says(kept: Mapping[str, Any], asked: Responses) -> bool:
    """Whether the columns that are left give the prompt that was asked about."""
    try:
        return read_prompt(Row(dict(kept), "", 0)) == asked.prompt
    except DataError:
        return False
