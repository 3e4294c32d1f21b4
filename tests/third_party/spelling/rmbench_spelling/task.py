"""Which of two spellings is right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rmbench.data.rows import Row
from rmbench.kinds.comparison import Comparison
from rmbench.types import Candidate, Example, Message


def read(rows: Iterable[Row]) -> Iterator[Example]:
    """A pair a row."""
    for row in rows:
        pair = (Candidate(row.text("right"), True), Candidate(row.text("wrong"), False))
        yield Example(row.text("name"), (Message("user", "How is it spelt?"),), pair)


TASK = Comparison(
    name="spelling",
    version=1,
    summary="Which of two spellings is right",
    card="spelling",
    read=read,
    bundled=Path(__file__).with_name("rows.jsonl"),
)
