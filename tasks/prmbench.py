"""PRMBench: steps of solutions into which one of nine kinds of error was put (Song et al., arXiv 2501.03124)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import nextafter
from typing import ClassVar

import numpy as np

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.steps import Steps
from rmbench.metrics import steps
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import Make, macro, of_rows
from rmbench.types import Array, Candidate, Example, Json, Message, Outcome, Response

SECTIONS = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}
CORRECT, WITHOUT_ERROR = "correct", "multi_solutions"
REDUNDANT, REDUNDANCY = SECTIONS["simplicity"], "redundancy"
_SECTION_OF = {kind: section for section, kinds in SECTIONS.items() for kind in kinds}
_UNMODIFIED_OF = "redundency"  # the rows whose original solutions are the examples without an error
_RIGHT, _REDUNDANT = 0.5, 0.15
_EXPECTED = "a row of PRMBench has `modified_question`, `modified_process`, `error_steps`, `classification` and `idx`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a kind of error and problem, and the unmodified solution of each problem with a redundant step."""
    seen: set[str] = set()
    for row in rows:
        examples = attempt(row, _examples)
        if isinstance(examples, LeftOut):
            yield examples
            continue
        for example in examples:
            if example.id not in seen:
                yield example
            elif example.facets["subset"] != CORRECT:
                yield LeftOut("a problem that stood before with this kind of error")
            seen.add(example.id)


def _examples(row: Row) -> list[Example]:
    for field in ("modified_question", "modified_process", "error_steps", "classification", "idx"):
        row.need((field,), _EXPECTED)
    kind, name, errors = row.text("classification"), row.text("idx"), row.value["error_steps"]
    if kind not in _SECTION_OF:
        raise row.error(f"expected one of {', '.join(_SECTION_OF)}, got {shown(kind)}", "classification")
    if not isinstance(errors, list) or not all(isinstance(one, int) and one > 0 for one in errors):
        raise row.error(f"expected a list of whole numbers from 1, got {shown(errors)}", "error_steps")
    name, process = name.removeprefix(f"{kind}_"), row.texts("modified_process")
    if any(one > len(process) for one in errors):
        row.note("solutions with an error step beyond their last, which counts for nothing")
    modified = _example(kind, name, row.text("modified_question"), process, errors)
    if kind != _UNMODIFIED_OF:
        return [modified]
    return [_example(CORRECT, name, row.text("original_question"), row.texts("original_process"), []), modified]


def _example(kind: str, name: str, question: str, process: Sequence[str], errors: Sequence[int]) -> Example:
    labels = tuple(-1 if at in errors else 1 for at in range(1, len(process) + 1))
    candidate = Candidate(Response("\n".join(process), process), -1 not in labels, step_labels=labels)
    section = {"section": _SECTION_OF[kind]} if kind in _SECTION_OF else {}
    facets = {"subset": kind, **section}
    return Example(f"{kind}_{name}", (Message("user", question),), (candidate,), facets=facets, cluster=name)


def counts(outcomes: Sequence[Outcome], view: str) -> Array:
    """Of each of `outcomes` how many steps are right and pass, wrong and pass, right and fail, wrong and fail, whether
    its first wrong step fails, and whether it has one [n, 6]; nan where it has no answer, or no error was put in.

    A step passes by the model's own verdict, else above one half. Where redundant steps are the error and the model
    says how redundant a step is, it passes up to .15 of that.
    """
    sums = np.full((len(outcomes), 6), np.nan)
    own = view.rpartition("/")[0] in ("", steps.VERDICT)
    redundant = {row for row, one in enumerate(outcomes) if own and _says_redundant(one, view)}
    turned = [replace(one, views={view: replace(one.views[view], steps=[-said for said in one.step_heads[REDUNDANCY]])})
              if row in redundant else one for row, one in enumerate(outcomes)]  # fmt: skip
    valid = steps.solutions(outcomes, view, {"threshold": nextafter(_RIGHT, 1)})
    useful = steps.solutions(turned, view, {"threshold": -_REDUNDANT}, verdicts=False)
    for solution in (
        *(one for one in valid if one.row not in redundant),
        *(one for one in useful if one.row in redundant),
    ):
        if outcomes[solution.row].facets.get("subset") == CORRECT:
            continue
        right, passes, at = solution.labels == 1, solution.wrong == 0, solution.first_error
        cells = [right & passes, ~right & passes, right & ~passes, ~right & ~passes]
        first_caught = at is not None and not passes[at]
        sums[solution.row] = [*(cell.sum() for cell in cells), first_caught, at is not None]
    return sums


def _modified(outcome: Outcome) -> Outcome:
    """The outcome, without labels where no error was put into the solution, which then does not count."""
    return replace(outcome, step_labels=()) if outcome.facets.get("subset") == CORRECT else outcome


def _says_redundant(outcome: Outcome, view: str) -> bool:
    return outcome.facets.get("subset") in REDUNDANT and REDUNDANCY in outcome.step_heads and view in outcome.views


def _f1(hits: Array, wrong: Array, missed: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * hits / (2 * hits + wrong + missed))


def _score(sums: Array, name: str, *, alone: bool) -> Statistic:
    """Half F1 and half F1 of wrong steps, over all steps; `alone`, of solutions without an error, F1 by itself."""

    def value(total: Array) -> Array:
        passed, slipped, held, caught = np.moveaxis(total, -1, 0)
        right = _f1(passed, slipped, held)
        return right if alone else (right + _f1(caught, held, slipped)) / 2

    return Statistic(
        name,
        sums[:, :4],
        value,
        "fraction",
        title="PRMScore",
        unit="mean of two F1 of steps",
        better="higher",
        caveat="a threshold is held fixed; F1 of right steps is high for who passes all",
    )


def _share(sums: Array, name: str, title: str, hits: Sequence[int], of: Sequence[int]) -> Statistic:
    pair = np.column_stack([sums[:, hits].sum(axis=1), sums[:, of].sum(axis=1)])
    pair[pair[:, 1] == 0] = np.nan
    return Statistic(name, pair, lambda s: s[..., 0] / s[..., 1], "fraction", title=title, unit="share",
                     better="higher", caveat="a threshold is held fixed in its interval")  # fmt: skip


def _sections(outcomes: Sequence[Outcome], sums: Array) -> Iterator[Make]:
    plain, alone = (of_rows(_score(sums, "prm_score", alone=alone), outcomes) for alone in (False, True))
    for section, kinds in SECTIONS.items():
        parts = [(1.0, {"subset": kind}, alone if kind == WITHOUT_ERROR else plain) for kind in kinds]
        yield macro(f"prm_score_{section}", parts, title=f"PRMScore, mean over the kinds of {section}")


@dataclass(frozen=True)
class PrmScore:
    """PRMScore of all steps together, of the kinds of error by their facet, and its means over three sections.

    Beside it, by the reward alone as redundancy is on another scale, the AUC of steps and the place of the first wrong.
    """

    name: str = "prm_score"
    headline: str = "prm_score"
    uncalibrated: str | None = None
    steps_alone: ClassVar[bool] = True

    def fit(self, outcomes: Sequence[Outcome], view: str) -> Json:
        """None: thresholds are given."""
        return None

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        """PRMScore and what it is made of."""
        sums = counts(outcomes, view)
        counted = zip(outcomes, np.isfinite(sums[:, 0]), strict=True)
        kinds = {outcome.facets.get("subset") for outcome, counts_in in counted if counts_in}

        def f1(name: str, title: str, hits: int, wrong: int, missed: int) -> Statistic:
            columns = sums[:, [hits, wrong, missed]]
            return Statistic(name, columns, lambda s: _f1(s[..., 0], s[..., 1], s[..., 2]), "fraction", title=title,
                             unit="harmonic mean of precision and recall", better="higher")  # fmt: skip

        return [
            _score(sums, "prm_score", alone=kinds == {WITHOUT_ERROR}),
            *(make(outcomes, view, fitted) for make in _sections(outcomes, sums)),
            f1("f1", "F1 of right steps", 0, 1, 2),
            f1("negative_f1", "F1 of wrong steps", 3, 2, 1),
            _share(sums, "step_accuracy", "Steps judged rightly", [0, 3], [0, 1, 2, 3]),
            _share(sums, "right_step_accuracy", "Right steps passed", [0], [0, 2]),
            _share(sums, "wrong_step_accuracy", "Wrong steps caught", [3], [1, 3]),
            _share(sums, "first_error_accuracy", "First wrong step caught", [4], [5]),
            *steps.by_reward([_modified(one) for one in outcomes], view),
        ]

    def left_out(self, outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
        """How many outcomes have a solution that does not count, by reason."""
        return steps.Errors(at=_RIGHT).left_out(outcomes, view)

    def ties(self, outcomes: Sequence[Outcome], view: str) -> int:
        """0: a step at the threshold is a wrong one."""
        return 0


TASK = Steps(
    name="prmbench",
    version=1,
    summary="Steps of solutions into which one of nine kinds of error was put",
    card="prmbench",
    read=read,
    sources=(HubSet("hitsmy/PRMBench_Preview", split="train"),),
    measure=PrmScore(),
)
