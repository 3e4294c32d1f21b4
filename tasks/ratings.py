"""Ratings: responses rated in one respect or several, as HelpSteer2's attributes and UltraFeedback's scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rmbench.data.conversation import (
    CHOSEN,
    IDS,
    POLICY,
    PROMPT,
    REJECTED,
    RESPONSE,
    RESPONSES,
    Responses,
    attempt,
    read_responses,
)
from rmbench.data.dataset import LeftOut, content_id
from rmbench.data.rows import Row
from rmbench.kinds.grading import Grading
from rmbench.metrics.ratings import RATINGS
from rmbench.types import Candidate, Criterion, Example, Response

_EXPECTED = (
    "a rated row has `prompt`, a response and numbers beside it, as `helpfulness`; or `chosen` and `rejected` with "
    "numbers for both, as `score_chosen` and `score_rejected`; or `completions`, objects with numbers of their own"
)
# of ranks the first is the best: as ratings they would be the wrong way round
_COUNTS_AND_RANKS = ("rank", "ranks", "ranking", "words", "characters", "timestamp")
_NO_RATING = {
    *(*PROMPT, *RESPONSE, *RESPONSES, *CHOSEN, *REJECTED, *IDS, *POLICY, "cluster", "index", "idx", "seed", "turn"),
    *("temperature", "top_p", "margin"),
    *_COUNTS_AND_RANKS,
}
_NO_RATING_END = ("_id", "_idx", "_index", "tokens", "length", *(f"_{name}" for name in _COUNTS_AND_RANKS))
_HOLDERS = ("annotations", "ratings", "scores", "attributes")

_NO_RATING_HERE = "no rating"

Rated = Mapping[str, Sequence[float | None]]  # of each respect, one rating a response


@dataclass
class _Group:
    """The rated responses to one prompt, of one row or of several."""

    first: Responses
    id: str | None
    responses: list[Response] = field(default_factory=list)
    ratings: dict[str, list[float | None]] = field(default_factory=dict)

    def add(self, responses: Sequence[Response], rated: Rated) -> None:
        """Adds responses; what has no rating in a respect has None there."""
        before = len(self.responses)
        self.responses += responses
        for name in dict.fromkeys([*self.ratings, *rated]):
            column = self.ratings.setdefault(name, [None] * before)
            column += rated.get(name, [None] * len(responses))

    def examples(self) -> Iterator[Example]:
        """One example a respect, of one cluster."""
        named = self.id or content_id(Example("", self.first.prompt, tuple(map(Candidate, self.responses))))
        for name, ratings in self.ratings.items():
            candidates = tuple(Candidate(one, rating) for one, rating in zip(self.responses, ratings, strict=True))
            criteria = (Criterion(name),)
            yield Example(f"{named}.{name}", self.first.prompt, candidates, self.first.tools,
                          facets={"attribute": name}, criteria=criteria)  # fmt: skip


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a prompt and respect; rows of one response each are joined by their prompts."""
    groups: dict[object, _Group] = {}
    for number, row in enumerate(rows):
        rated = attempt(row, _rated)
        if isinstance(rated, LeftOut):
            yield rated
            continue
        responses, ratings = rated
        alone = len(responses.responses) == 1
        key: object = (responses.prompt, str(responses.tools)) if alone else number
        group = groups.setdefault(key, _Group(responses, None if alone else responses.id))
        group.add(responses.responses, ratings)
    for group in groups.values():
        yield from group.examples()


def _rated(row: Row) -> tuple[Responses, Rated]:
    responses = read_responses(row)
    k, value = len(responses.responses), row.value.get(responses.fields[0])
    rated: dict[str, list[float | None]] = {}
    if isinstance(value, list) and len(value) == k and all(isinstance(one, dict) for one in value) and k > 1:
        each = [_of_object(one) for one in value]
        rated = {name: [one.get(name) for one in each] for name in dict.fromkeys(name for one in each for name in one)}
    rated |= _beside(row, k) if k == 1 else _of_sides(row, responses) | _of_lists(row, k)
    rated = {name: ratings for name, ratings in rated.items() if any(one is not None for one in ratings)}
    if not rated and any(_may_rate(name) and _is_gap(row.peek(name)) for name in row.given):
        raise row.no_example(_NO_RATING_HERE)
    if not rated:
        raise row.lacks("rating", _EXPECTED)
    return responses, rated


def _beside(row: Row, k: int) -> dict[str, list[float | None]]:
    """The numbers beside one response, and those in an object of ratings."""
    plain = {name: row.value[name] for name in row.value if _may_rate(name) and _number(row.peek(name)) is not None}
    held = [row.value[name] for name in _HOLDERS if isinstance(row.peek(name), dict)]
    return {name: [rating] for name, rating in {**_of_object(plain), **dict(_flat(held))}.items()}


def _of_sides(row: Row, responses: Responses) -> dict[str, list[float | None]]:
    """The numbers of the chosen and of the rejected response, where there is one of each."""
    rated: dict[str, list[float | None]] = {}
    for name in [*row.value]:
        other = name.replace("chosen", "rejected")
        if other == name or other not in row.value or name in CHOSEN or len(responses.responses) != 2:
            continue
        if (pair := [_number(row.peek(one)) for one in (name, other)]) != [None, None]:
            row.value.get(name), row.value.get(other)
            rated[name.replace("chosen", "").strip("_- ") or "rating"] = pair
    return rated


def _of_lists(row: Row, k: int) -> dict[str, list[float | None]]:
    """Lists of numbers, one a response, alone or in an object by respect."""
    lists, holders = {name: row.peek(name) for name in row.value if _may_rate(name)}, dict[str, str]()
    for name in _HOLDERS:
        if isinstance(held := row.peek(name), dict):
            lists |= held
            holders |= dict.fromkeys(held, name)
    rated = {}
    for name, numbers in lists.items():
        if isinstance(numbers, list) and len(numbers) == k and any(_number(one) is not None for one in numbers):
            row.value.get(holders.get(name, name))
            rated[name] = [_number(one) for one in numbers]
    return rated


def _of_object(holder: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of an object, those of its annotations among them."""
    plain = {
        name: number for name, value in holder.items() if _may_rate(name) and (number := _number(value)) is not None
    }
    return plain | dict(_flat([holder[name] for name in _HOLDERS if isinstance(holder.get(name), dict)]))


def _flat(held: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float | None]]:
    """Ratings by respect, each a number or an object with a `Rating`, as UltraFeedback has them."""
    for holder in held:
        for name, value in holder.items():
            rating = next((value[key] for key in ("Rating", "rating", "score") if key in value), None) if isinstance(
                value, dict) else value  # fmt: skip
            if (number := _number(rating)) is not None:
                yield name, number


def _may_rate(name: str) -> bool:
    return name.lower() not in _NO_RATING and not name.lower().endswith(_NO_RATING_END)


def _is_gap(value: Any) -> bool:
    """Whether a column of numbers may have this where it has none."""
    return value in (None, "") or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    """A number, also one that CSV or a judge wrote as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


TASK = Grading(
    name="ratings",
    version=1,
    summary="Responses rated in one respect or several, as HelpSteer2's: --data ratings=FILE",
    card="ratings",
    read=read,
    measure=RATINGS,
)
