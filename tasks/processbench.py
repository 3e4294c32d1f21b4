"""ProcessBench: the first wrong step of a solution, or that there is none (Zheng et al., arXiv 2412.06559)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.steps import Steps, until_first_error
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import macro, of_rows
from rmbench.metrics.steps import Errors
from rmbench.types import Candidate, Example, Json, Message, Outcome, Response

SUBSETS = ("gsm8k", "math", "olympiadbench", "omnimath")
_EXPECTED = "a row of ProcessBench has `problem`, `steps` and `label`, the index of the first wrong step or -1"
_F1 = "first_error_f1"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, one solution each; its subset is what its id begins with."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("problem", "steps", "label"):
        row.need((field,), _EXPECTED)
    steps, label = row.texts("steps"), row.value["label"]
    if not isinstance(label, int) or isinstance(label, bool) or not -1 <= label < len(steps):
        raise row.error(f"expected -1 or the index of one of {len(steps)} steps, got {shown(label)}", "label")
    name = row.text("id")
    subset = name.rpartition("-")[0]
    if subset not in SUBSETS:
        raise row.error(f"expected SUBSET-NUMBER with one of {', '.join(SUBSETS)}, got {shown(name)}", "id")
    tags: dict[str, Any] = {tag: row.value[tag] for tag in ("generator", "final_answer_correct") if tag in row.value}
    labels = until_first_error(len(steps), None if label == -1 else label)
    candidate = Candidate(Response("\n\n".join(steps), steps), label == -1, step_labels=labels, tags=tags)
    return Example(name, (Message("user", row.text("problem")),), (candidate,), facets={"subset": subset})


@dataclass(frozen=True)
class FirstErrors:
    """F1 of first errors by three thresholds: the one that is best on the GSM8K part, held for all, as its authors
    choose it; one chosen out of fold, so that nobody is judged by their own; and one half. The average is over the four
    subsets. A model's own verdicts are not used, as a threshold is prescribed.
    """

    name: str = "first_errors"
    headline: str = "average_f1"
    uncalibrated: str | None = None
    steps_alone: ClassVar[bool] = True

    def fit(self, outcomes: Sequence[Outcome], view: str) -> Json:
        """Of each rule the threshold that it chooses."""
        return {name: rule.fit(outcomes, view) for name, (rule, _) in _RULES.items()}

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        """The official figures, then F1 by the other two thresholds, each of all outcomes and as an average."""
        averages: list[Statistic] = []
        plain: list[Statistic] = []
        official: list[Statistic] = []
        for name, (rule, words) in _RULES.items():
            ending = "" if name == "gsm8k" else f"_{name}"
            chosen = fitted.get(name) if isinstance(fitted, Mapping) else None
            first, *others = rule.statistics(outcomes, view, chosen)
            average = macro(
                f"average_f1{ending}",
                [(1.0, {"subset": subset}, of_rows(first, outcomes)) for subset in SUBSETS],
                title=f"F1 of first errors, mean over the four subsets, {words}",
            )
            averages.append(average(outcomes, view, chosen))
            plain.append(replace(first, name=f"{_F1}{ending}", title=f"F1 of first errors, {words}"))
            official = official or others
        return [*averages, *plain, *official]

    def left_out(self, outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
        """How many outcomes do not count by the official rule."""
        return OFFICIAL.left_out(outcomes, view)

    def ties(self, outcomes: Sequence[Outcome], view: str) -> int:
        """0: a step at the threshold is not below it."""
        return 0


OFFICIAL = Errors(on={"subset": "gsm8k"}, verdicts=False)
_RULES = {
    "gsm8k": (OFFICIAL, "threshold chosen on GSM8K"),
    "out_of_fold": (Errors(verdicts=False), "threshold chosen out of fold"),
    "at_half": (Errors(at=0.5, verdicts=False), "threshold one half"),
}

TASK = Steps(
    name="processbench",
    version=1,
    summary="The first wrong step of a solution, or that there is none: GSM8K, MATH, OlympiadBench, Omni-MATH",
    card="processbench",
    read=read,
    sources=tuple(HubSet("Qwen/ProcessBench", split=name, facets={"subset": name}) for name in SUBSETS),
    measure=FirstErrors(),
)
