"""Preference pairs: any file of chosen and rejected responses, as texts, objects or conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rmbench.data.conversation import read_reply, to_example
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row
from rmbench.kinds.comparison import Comparison
from rmbench.types import Example

_EXPECTED = (
    "a preference row has `chosen` and `rejected` (or `reject`), each a text, an object with `answer`, or messages, "
    "and may have `prompt`"
)


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row: candidate 0 is the chosen response, candidate 1 the rejected one."""
    for row in rows:
        sides = row.need(("chosen",), _EXPECTED), row.need(("rejected", "reject"), _EXPECTED)
        replies = [read_reply(row, side, row.value[side]) for side in sides]
        yield to_example(row, replies, (True, False), ids=("pair_uid", "pair_id", "id", "uid"))


TASK = Comparison(
    name="preference",
    version=1,
    summary="Preference pairs of your own (chosen, rejected): --data preference=FILE",
    card="preference",
    read=read,
    orders="both",
)
