"""A user's file as rows of responses, with everything else that stands in them, which is written beside what was asked.

One row comes out for each response, in the order of the file. The user's columns go along, `response` is the text that
was asked about. Columns that hold several responses give way to it, and fields of an object that holds a response
become columns. What came before is in `prompt` where no column of the row says so any more.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rmbench.data.conversation import RESPONSES, Responses, read_prompt, read_responses
from rmbench.data.files import Row, read_rows
from rmbench.errors import DataError
from rmbench.types import Message

STDIN = "-"
_PAIR = ("chosen", "rejected", "reject", "rejected_response")
_TEXTS = ("text", "answer", "response", "content", "solution", "completion", "output", "messages")


@dataclass(frozen=True)
class ResponseRows:
    """`read` has what each row asks; of each response, in the order of the file, `places` has the example's id and
    which of its candidates it is, `own` the columns that go with it.
    """

    read: Sequence[Responses]
    places: Sequence[tuple[str, int]]
    own: Sequence[Mapping[str, Any]]

    @property
    def prompts(self) -> int:
        """How many different prompts there are."""
        return len({row.prompt for row in self.read})

    @property
    def prompt_of_each(self) -> list[tuple[Message, ...]]:
        """The prompt that each response answers."""
        return [row.prompt for row in self.read for _ in row.texts]

    @property
    def empty(self) -> int:
        """How many responses say nothing: no text, or white space alone."""
        return sum(not text.strip() for row in self.read for text in row.texts)


def check_input(file: Path) -> None:
    """Raises DataError for a file or folder that is not there, or no data file; better before a model is looked at."""
    if str(file) != STDIN:
        next(read_rows(file))


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


def rows_of(file: Path) -> ResponseRows:
    """Every row of a data file or folder, or of standard input (`-`). Raises DataError."""
    with input_file(file) as path:
        given = list(read_rows(path))
    read = [read_responses(row) for row in given]
    kept = [_kept(row.value, len(asked.texts)) for row, asked in zip(given, read, strict=True)]
    silent = [not _says(columns, asked) for (columns, _), asked in zip(kept, read, strict=True)]
    as_text = all(is_one_text(row.prompt) for row in read)
    own: list[dict[str, Any]] = []
    for (columns, values), asked, lacks in zip(kept, read, silent, strict=True):
        told = lacks or ("prompt" in columns and any(silent) and not as_text)
        prompt = prompt_of(asked.prompt, as_text=as_text) if told else None
        beside = _with(columns, "prompt", prompt, same=not lacks) if told else columns
        own += [_of_one(beside, text, value) for text, value in zip(asked.texts, values, strict=True)]
    return ResponseRows(read, _places(given, read), own)


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
    return turns[0].text if as_text else [{"role": turn.role, "content": turn.text} for turn in turns]


def is_one_text(turns: Sequence[Message]) -> bool:
    """Whether a prompt is one plain turn of the user."""
    return len(turns) == 1 and turns[0].role == "user"


def _places(given: Sequence[Row], read: Sequence[Responses]) -> list[tuple[str, int]]:
    """Id and candidate of each response. Rows that say both, as those written here, keep theirs; else an id that stood
    before has `#2`, `#3`, ... behind it."""
    said = [_said_place(row) if len(asked.texts) == 1 else None for row, asked in zip(given, read, strict=True)]
    if None not in said and len(set(said)) == len(said):
        return [place for place in said if place is not None]
    times: Counter[str] = Counter()
    places = []
    for row in read:
        times[row.id] += 1
        name = row.id if times[row.id] == 1 else f"{row.id}#{times[row.id]}"
        places += [(name, candidate) for candidate in range(len(row.texts))]
    return places


def _said_place(row: Row) -> tuple[str, int] | None:
    name, candidate = row.name(("example_id",)), str(row.value.get("candidate"))
    return (name, int(candidate)) if name is not None and candidate.isdecimal() and len(candidate) < 10 else None


def _kept(row: Mapping[str, Any], k: int) -> tuple[dict[str, Any], Sequence[Any]]:
    """The columns of a row that do not hold its k responses together, and what was held of each."""
    listed = next((name for name in RESPONSES if isinstance(row.get(name), list) and len(row[name]) == k), None)
    pair = [name for name in _PAIR if name in row] if "chosen" in row else []
    sides = [one for name in pair for one in _listed(row[name])]
    if listed is not None:
        holders, values = [listed], row[listed]
    elif pair and k in (len(pair), len(sides)):
        holders, values = pair, sides if len(sides) == k else [row[name] for name in pair]
    else:
        holders, values = [], [None] * k
    return {name: value for name, value in row.items() if name not in holders}, values


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


def _listed(value: Any) -> list[Any]:
    """Several responses of one side; a conversation is one."""
    several = isinstance(value, list) and not (value and isinstance(value[0], Mapping) and "role" in value[0])
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
