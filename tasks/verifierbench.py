"""VerifierBench: is an answer correct, incorrect or invalid, given the gold answer (Liu et al., arXiv 2508.03686)?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.grading import Grading
from rmbench.metrics.grading import Grades, graded
from rmbench.metrics.interval import Kind, Statistic, ratio
from rmbench.types import Candidate, Example, Json, Message, Outcome

CLASSES = {"A": "correct", "B": "incorrect", "C": "invalid"}
_RIGHT = CLASSES["A"]
_FIELDS = ("question", "gold_answer", "llm_response", "gold_judgment")
_EXPECTED = "a VerifierBench row has `question`, `gold_answer`, `llm_response` and `gold_judgment`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row: one response, which `gold_judgment` says is A (correct), B (incorrect) or C (invalid)."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in _FIELDS:
        row.need((field,), _EXPECTED)
    letter = row.text("gold_judgment").strip().upper()
    if letter not in CLASSES:
        raise row.error(f"expected A, B or C, got {shown(row.value['gold_judgment'])}", "gold_judgment")
    domain = row.name(("domain",))
    prompt, candidate = (Message("user", row.text("question")),), Candidate(row.text("llm_response"), CLASSES[letter])
    facets = {"subset": domain} if domain else {}
    return Example("", prompt, (candidate,), facets=facets, reference=row.words(("gold_answer",)) or "")


@dataclass(frozen=True)
class TwoLabels(Grades):
    """Grades of which the headline takes incorrect and invalid for one, as the official evaluation does."""

    @property
    def headline(self) -> str:
        """What to look at first."""
        return "accuracy_two"

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        """The share of responses rightly told to be correct or not, then those of `Grades`."""
        lost = self.null_verdict == "loss"
        grades = graded(outcomes, view, self.positive, fitted, refused_is_wrong=lost)
        right = {_RIGHT, "1"}  # a model without a head for each class says 1 or 0
        said = [None if one is None else one in right for one in grades.said]
        hits = np.array([a == (b in right) for a, b in zip(said, grades.classes, strict=True)], float)
        decided = np.array([one is not None for one in said], bool) | grades.tied | grades.lost
        sums = np.stack(
            [np.bincount(grades.rows, weights, len(outcomes)) for weights in (hits, decided.astype(float))], axis=1
        )
        kind: Kind = "proportion" if sums[:, 1].max(initial=0) <= 1 else "fraction"
        columns = np.where(sums[:, 1:] > 0, sums, np.nan)
        caveat = "incorrect and invalid are one label; a threshold is held fixed in its interval"
        two = Statistic("accuracy_two", columns, ratio, kind, title="Accuracy, two labels", unit="share of responses",
                        better="higher", caveat=caveat)  # fmt: skip
        return [two, *super().statistics(outcomes, view, fitted)]


TASK = Grading(
    name="verifierbench",
    version=1,
    summary="VerifierBench: responses correct, incorrect or invalid by a gold answer (unverified)",
    card="verifierbench",
    read=read,
    sources=(HubSet("opencompass/VerifierBench", split="test"),),
    measure=TwoLabels(positive=_RIGHT),
    null_verdict="loss",
)
