"""Pairs under the names that a benchmark has for them: one example a row, of a prompt and two texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row
from rmbench.types import Candidate, Example, Message


def first_is_better(row: Row) -> bool:
    """True: most benchmarks write the better response in a column of its own."""
    return True


@dataclass(frozen=True)
class PairRows:
    """Rows of which each has two responses, in the columns `sides`, the better one in the first unless `first_wins`
    says otherwise.

    `needs` are the columns that a row must have, of which `expected` says so in an error; `prompt` makes the text that
    was asked, `facets` what sort of example it is. The id is the first of `ids` that a row has, else its content.
    """

    needs: tuple[str, ...]
    expected: str
    sides: tuple[str, str]
    prompt: Callable[[Row], str]
    facets: Callable[[Row], Mapping[str, str]]
    ids: tuple[str, ...] = ()
    first_wins: Callable[[Row], bool] = first_is_better

    def read(self, rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
        """One example a row, its responses in the order of `sides`."""
        for row in rows:
            yield attempt(row, self.example)

    def example(self, row: Row) -> Example:
        """The example of one row. Raises DataError."""
        for field in self.needs:
            row.need((field,), self.expected)
        prompt, won = (Message("user", self.prompt(row)),), self.first_wins(row)
        candidates = tuple(
            Candidate(row.text(field), right) for field, right in zip(self.sides, (won, not won), strict=True)
        )
        name = row.name(self.ids) if self.ids else None
        return Example(name or "", prompt, candidates, facets=self.facets(row))


def named_after(row: Row, names: Collection[str]) -> str | None:
    """The longest of `names` that the file of a row has in its own name as a word, None where it has none."""
    file = PurePath(row.file).name
    words = sorted(names, key=len, reverse=True)
    return next((one for one in words if re.search(rf"(?<![A-Za-z0-9]){re.escape(one)}(?![A-Za-z0-9])", file)), None)
