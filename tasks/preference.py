"""Preference pairs: any file of chosen and rejected responses, as texts, objects or conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rmbench.data.conversation import REJECTED, attempt, no_response, read_answers, to_example
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row
from rmbench.kinds.comparison import Comparison
from rmbench.types import Example

_EXPECTED = (
    "a preference row has `chosen` and `rejected` (or `reject`), each a text, an object with `answer`, messages, or a "
    "list of these, or `messages` or `response` and `rejected_response`, beside a `prompt`; responses with ratings are "
    "for ratings"
)


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row: the chosen responses first (most rows have one), then the rejected ones."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    answers = read_answers(row)
    if not answers.chosen and row.filled(REJECTED) is None and (name := row.first(REJECTED)):
        raise no_response(row, name)
    if not answers.chosen or answers.chosen == len(answers.replies):
        raise row.lacks("rejected" if answers.chosen else "chosen", _EXPECTED)
    return to_example(row, answers.replies, [place < answers.chosen for place in range(len(answers.replies))])


TASK = Comparison(
    name="preference",
    version=2,
    summary="Preference pairs of your own (chosen, rejected): --data preference=FILE",
    card="preference",
    read=read,
    orders="both",
)
