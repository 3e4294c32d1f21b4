"""HelpSteer2: responses rated by people in five respects, two to a prompt (Wang et al., arXiv 2406.08673)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut, content_id
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.grading import Grading
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import Unfitted, macro, of_rows
from rmbench.metrics.ratings import RATINGS
from rmbench.types import Candidate, Criterion, Example, Message, Outcome

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
HIGHEST = 4
_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
_EXPECTED = (
    f"a HelpSteer2 row has `prompt`, `response` and {', '.join(ATTRIBUTES)}; rows with `preference_strength` are those "
    "of helpsteer2_preference"
)


@dataclass(frozen=True, slots=True)
class _Rated:
    """A response with its rating in each of the five respects."""

    prompt: str
    response: str
    ratings: tuple[float, ...]


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a prompt and respect, of one cluster; rows of one prompt are joined."""
    groups: dict[str, list[_Rated]] = {}
    for row in rows:
        rated = attempt(row, _rated)
        if isinstance(rated, LeftOut):
            yield rated
        else:
            groups.setdefault(rated.prompt, []).append(rated)
    for prompt, group in groups.items():
        yield from _examples(turns(prompt), group)


def _rated(row: Row) -> _Rated:
    for field in ("prompt", "response", *ATTRIBUTES):
        row.need((field,), _EXPECTED)
    ratings = tuple([_rating(row, attribute) for attribute in ATTRIBUTES])
    return _Rated(row.text("prompt"), row.text("response"), ratings)


def _rating(row: Row, attribute: str) -> float:
    rating = row.value[attribute]
    if isinstance(rating, bool) or not isinstance(rating, int | float) or not 0 <= rating <= HIGHEST:
        raise row.error(f"expected a number from 0 to {HIGHEST}, got {shown(rating)}", attribute)
    return float(rating)


def turns(prompt: str) -> tuple[Message, ...]:
    """The turns of a prompt, whose first is the user's and is not marked."""
    first, *marked = _TURN.split(prompt)
    said = [] if marked and not first else [("User", first)]
    return tuple(
        Message(speaker.lower(), text) for speaker, text in [*said, *zip(marked[::2], marked[1::2], strict=True)]
    )


def _examples(prompt: tuple[Message, ...], group: Sequence[_Rated]) -> Iterator[Example]:
    name = content_id(Example("", prompt, tuple(Candidate(rated.response) for rated in group)))
    for place, attribute in enumerate(ATTRIBUTES):
        candidates = tuple(Candidate(rated.response, rated.ratings[place]) for rated in group)
        yield Example(f"{name}.{attribute}", prompt, candidates, facets={"attribute": attribute},
                      criteria=(Criterion(attribute),))  # fmt: skip


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Of each respect the pairs ordered as rated and Pearson's r, then those of all ratings pooled."""
    pooled = RATINGS.statistics(outcomes, view)
    makes = {statistic.name: of_rows(statistic, outcomes) for statistic in pooled if statistic.columns is not None}
    each = [
        macro(f"{attribute}_{name}", [(1.0, {"attribute": attribute}, makes[name])], title=f"{title}, {attribute}",
              caveat="says nothing of the other four respects")
        for name, title in (("pair_accuracy", "Pairs ordered as rated"), ("pearson", "Pearson's r"))
        for attribute in ATTRIBUTES
    ]  # fmt: skip
    return [*(make(outcomes, view, None) for make in each), *pooled]


TASK = Grading(
    name="helpsteer2",
    version=1,
    summary="HelpSteer2: two responses to a prompt, rated by people in five respects",
    card="helpsteer2",
    read=read,
    sources=(HubSet("nvidia/HelpSteer2", split="validation"),),
    measure=Unfitted("helpsteer2", "helpfulness_pair_accuracy", statistics, RATINGS.left_out, RATINGS.ties,
                     RATINGS.uncalibrated),
)  # fmt: skip
