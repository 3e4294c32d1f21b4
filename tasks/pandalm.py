"""PandaLM's test set: which of two responses three annotators prefer, or neither (Wang et al., arXiv 2306.05087)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from rmbench.data.conversation import attempt, read_prompt
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import summary, verdicts
from rmbench.metrics.interval import Statistic, mean
from rmbench.metrics.measure import Unfitted
from rmbench.types import Array, Candidate, Example, Outcome

_ANNOTATORS = ("annotator1", "annotator2", "annotator3")
_FIRST = {0: 0.5, 1: 1.0, 2: 0.0}  # what a vote says of the first response
_EXPECTED = "a PandaLM row has `instruction`, `input`, `response1`, `response2` and `annotator1` to `annotator3`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, its responses in the order of the data; the label is the majority of three votes, and a row
    of three different ones is left out."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("instruction", "response1", "response2", *_ANNOTATORS):
        row.need((field,), _EXPECTED)
    votes = [row.one_of(name, _FIRST) for name in _ANNOTATORS]
    (label, count), *_ = Counter(votes).most_common(1)
    if count == 1:
        raise row.no_example("three annotators of three opinions")
    if row.filled(("label",)) and row.one_of("label", _FIRST) != label:
        stated = shown(row.value["label"])
        raise row.error(f"expected the majority of {', '.join(_ANNOTATORS)}, got {stated}", "label")
    position = {"chosen_position": "A" if label == 1 else "B"}  # responses are shown as they stand in the data
    wrote = (row.name(("cmp_key",)) or "_").split("_")
    policies = wrote if len(wrote) == 2 and all(wrote) else [None, None]
    candidates = tuple(
        Candidate(
            _response(row, field),
            one,
            tuple(vote if place == 0 else 1 - vote for vote in votes),
            tags=position if policies[place] is None else {**position, "policy": policies[place]},
        )
        for place, (field, one) in enumerate((("response1", label), ("response2", 1 - label)))
    )
    idx = row.name(("idx",))
    return Example(idx or "", read_prompt(row), candidates)


def _response(row: Row, field: str) -> str:
    """A response, as text also where the file has true, false or a number: the authors put it into their prompt so."""
    value = row.value.get(field)
    return str(value) if isinstance(value, int | float) else row.text(field)


def unanimous(outcomes: Sequence[Outcome]) -> Array:
    """Whether the annotators of each example say the same [n]; nan without annotators."""
    votes = [np.full(1, np.nan) if one.annotations is None else one.annotations[0] for one in outcomes]
    return np.array([np.nan if np.isnan(said).any() else float(len(set(said.tolist())) == 1) for said in votes])


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Accuracy, precision, recall and F1 over three classes, the ceiling, then every metric of the pairs decided."""
    judged = verdicts.verdicts(outcomes, view)
    caveat = "says nothing of the model, but how much of the labels is certain"
    ceiling = mean("unanimous", unanimous(outcomes), "proportion", title="Annotators all agree",
                   unit="share of examples", caveat=caveat)  # fmt: skip
    three = verdicts.single_accuracy(judged, "accuracy_three")
    return [three, *verdicts.by_class(judged), ceiling, *summary.statistics(outcomes, view)]


TASK = Comparison(
    name="pandalm",
    version=1,
    summary="PandaLM's test set: first, second or tie, three annotators each: --data pandalm=testset-v1.json",
    card="pandalm",
    read=read,
    measure=Unfitted("three classes", "accuracy_three", statistics, verdicts.left_out, verdicts.ties),
)
