"""HelpSteer2-Preference: which of two responses people prefer, and how strongly (Wang et al., arXiv 2410.01257)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison
from rmbench.metrics.measure import Unfitted
from rmbench.tasks.helpsteer2 import turns
from rmbench.tasks.helpsteer3 import preferred, statistics, strengths
from rmbench.types import Example

_RESPONSES = ("response_1", "response_2")
_PREFERENCE, _EACH = "preference_strength", "three_most_similar_preferences"
_EXPECTED = (
    f"a row of HelpSteer2's preferences has `prompt`, `response_1`, `response_2` and `{_PREFERENCE}`; rows with "
    "`helpfulness` are those of helpsteer2"
)
_TRAINING = "a row of the split train"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, its responses in the order of the data; a preference of 0 is a tie. One file holds both
    splits, of which that for training is left out."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("prompt", *_RESPONSES, _PREFERENCE):
        row.need((field,), _EXPECTED)
    if row.name(("split",)) == "train":
        raise row.no_example(_TRAINING)
    candidates, strength = preferred(row, _RESPONSES, _PREFERENCE, strengths(row, _EACH, "strength"))
    return Example("", turns(row.text("prompt")), candidates, facets=strength)


TASK = Comparison(
    name="helpsteer2_preference",
    version=1,
    summary="HelpSteer2's preferences with their strength: --data helpsteer2_preference=preference.jsonl.gz",
    card="helpsteer2_preference",
    read=read,
    orders="both",
    measure=Unfitted("strength", "accuracy", statistics, comparison.left_out, comparison.ties),
)
