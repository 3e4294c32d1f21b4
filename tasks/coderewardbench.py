"""Themis-CodeRewardBench: pairs of code, better by one of five aspects, in eight languages (arXiv 2605.00754)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.pairs import PairRows
from rmbench.data.rows import Row
from rmbench.kinds.comparison import Comparison
from rmbench.types import Candidate, Example, Response

_FACETS = ("aspect", "language", "subset")
_SCORED = (("chosen_score", "rejected_score"), ("score_chosen", "score_rejected"))
_EXPECTED = (
    "a CodeRewardBench row has `prompt`, `chosen`, `rejected`, `aspect`, `language` and `subset`; a row of its score "
    "files `chosen_score` and `rejected_score`, or `score_chosen` and `score_rejected`, in the place of texts"
)


def _facets(row: Row) -> Mapping[str, str]:
    return {name: row.text(row.need((name,), _EXPECTED)) for name in _FACETS}


ROWS = PairRows(
    needs=("prompt", "chosen", "rejected", *_FACETS),
    expected=_EXPECTED,
    sides=("chosen", "rejected"),
    prompt=lambda row: row.text("prompt"),
    facets=_facets,
    ids=("id",),
)


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, the better response first: a pair, or one that only a score file knows."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    if not any(set(sides) <= row.value.keys() for sides in _SCORED):
        return ROWS.example(row)
    candidates = tuple(Candidate(Response(None), right) for right in (True, False))
    return Example(row.name(("id",)) or "", (), candidates, facets=_facets(row))


TASK = Comparison(
    name="coderewardbench",
    version=1,
    summary="Themis-CodeRewardBench: pairs of code, better by one of five aspects, in eight languages",
    card="coderewardbench",
    read=read,
    sources=(HubSet("project-themis/Themis-CodeRewardBench", config="Full", split="Full"),),
    null_verdict="loss",
)
