"""The numbers of a comparison: paired differences of every model with the first, overlap of errors, ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rmbench.compare.agreement import Agreement, agreement, settings_that_differ
from rmbench.compare.entrants import ComparedModel, Side, is_try, part_notes, shared_tasks, sides_of, unknown
from rmbench.compare.measured import Measured, Rows, SideOutcomes, common
from rmbench.errors import ResultError, UsageError
from rmbench.metrics.interval import LEVEL, Kind
from rmbench.metrics.paired import Difference, Overlap, Rank, holm, overlap
from rmbench.results.document import as_json
from rmbench.results.measuring import Find, measure_of


@dataclass(frozen=True)
class Contrast:
    """A model against the baseline, over the `n` examples of a subset that count for both; `dropped` do not.

    `difference` is the model's value minus the baseline's. A headline is of the primary views, over the whole;
    `p_holm` is adjusted for all headlines of the report, None elsewhere. Without an example there is no number. Of a
    headline of one run each `agreement` says how far rewards are apart, and `settings` which are not the same.
    """

    baseline: str
    model: str
    baseline_view: str
    model_view: str
    subset: str
    headline: bool
    n: int
    dropped: int
    baseline_value: float | None = None
    model_value: float | None = None
    difference: Difference | None = None
    p_holm: float | None = None
    overlap: Overlap | None = None
    agreement: Agreement | None = None
    settings: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def is_told(self) -> bool:
        """Whether the adjusted p tells the two apart at 5 %."""
        return self.p_holm is not None and self.p_holm < 1 - LEVEL


@dataclass(frozen=True)
class RankedModel:
    """A model's rank by its primary view among those for which every example counts, `n` of them."""

    model: str
    value: float
    rank: Rank
    n: int


@dataclass(frozen=True)
class TaskComparison:
    """One task: the contrasts of every model with the first, and the ranking where there are more than two.

    `title`, `unit` and `caveat` are what the metric says of itself. With `is_try` all results are of examples that
    `--limit` cut off, and nothing is told apart.
    """

    task: str
    version: int
    metric: str
    lower_is_better: bool
    examples: int
    kind: Kind
    title: str
    unit: str
    caveat: str
    contrasts: Sequence[Contrast]
    ranking: Sequence[RankedModel]
    notes: Sequence[str]
    is_try: bool = False


@dataclass(frozen=True)
class ComparisonReport:
    """All that was found. `models` has the runs of each, `refused` a line for what cannot be compared."""

    models: Mapping[str, Sequence[str]]
    tasks: Sequence[TaskComparison]
    refused: Sequence[str]

    def json(self) -> str:
        """One JSON document; null where there is no number."""
        return as_json(self)


def compare(
    models: Sequence[ComparedModel],
    find: Find,
    *,
    metric: str | None = None,
    tasks: Sequence[str] = (),
    view: str | None = None,
    seed: int = 0,
) -> ComparisonReport:
    """Compares those of `models` that can be, the first with each other one, on `tasks`, else on all that two share.

    `metric` is any of those of the task's measure, its headline unless told; `find` gives the task of a name. Of what
    is no mean, as an effect over its own SD, the values are made anew in every draw, and their difference taken. A
    task, or a model on a task, that cannot be compared is a line of the report. Where nothing can, raises UsageError if
    there is no such task, view or metric, else ResultError.
    """
    comparisons, refused, misnamed = list[TaskComparison](), list[str](), False
    for task in shared_tasks(models, tasks):
        try:
            sides, lines = sides_of(task, models)
            refused += lines
            if len(sides) > 1:
                comparisons.append(_compared(sides, find, metric, view, seed))
        except (ResultError, UsageError) as error:
            refused.append(f"{task} is not compared: {error}")
            misnamed = misnamed or isinstance(error, UsageError)
    if not comparisons:
        raise (UsageError if misnamed else ResultError)("; ".join(refused))
    runs = {model.name: [run.name for run in model.runs] for model in models}
    return ComparisonReport(runs, _adjusted(comparisons), refused)


def _compared(sides: Sequence[Side], find: Find, wanted: str | None, view: str | None, seed: int) -> TaskComparison:
    """The primary views, else `view`, of each side against those of the first; then every view that all have."""
    first_result = sides[0].results[0][1]
    measure = measure_of(first_result, find)
    metric = wanted or measure.headline
    if view is not None and not any(view in side.views for side in sides):
        raise UsageError(unknown("view", view, list(dict.fromkeys(name for side in sides for name in side.views))))
    judged = [SideOutcomes(sides[0])]
    judged += [SideOutcomes(side, like=judged[0]) for side in sides[1:]]
    subsets, notes = judged[0].subsets, _notes(sides)
    if any(other.subsets != subsets for other in judged[1:]):
        subsets = {"all": subsets["all"]}
        notes.append("subsets are not compared: the results divide the examples differently")
    views = [view if view in side.views else side.primary_view for side in sides]
    first = [
        Measured.of(outcomes, seen or outcomes.side.primary_view, metric, measure)
        for outcomes, seen in zip(judged, views, strict=True)
    ]
    contrasts = [_with_agreement(one, first) for one in _contrasts(first, subsets, seed, headline=True)]
    for name in _further_views(sides, [measured.view for measured in first]) if view is None else []:
        try:
            further = [Measured.of(outcomes, name, metric, measure) for outcomes in judged]
        except (ResultError, UsageError) as error:
            notes.append(f"view {name} is not compared: {error}")
        else:
            contrasts += _contrasts(further, subsets, seed, headline=False)
    open_parts = list(dict.fromkeys(c.subset for c in contrasts if _is_open(c) and c.subset != "all"))
    if open_parts:
        notes.append(f"not shown, because {metric} has no number there: {', '.join(open_parts)}")
    contrasts = [contrast for contrast in contrasts if contrast.subset not in open_parts or not _is_open(contrast)]
    said = first[0].whole[0]
    ranking = list[RankedModel]()
    if len(sides) > 2 and said.better is not None:
        ranking, unranked = _ranking(first, seed)
        notes += unranked
    return TaskComparison(
        first_result.label,
        first_result.task.version,
        metric,
        said.better == "lower",
        len(subsets["all"]),
        said.kind,
        said.title,
        said.unit,
        said.caveat,
        contrasts,
        ranking,
        notes,
        is_try(sides),
    )


def _notes(sides: Sequence[Side]) -> list[str]:
    """What a reader must know of the models before their numbers."""
    notes = part_notes(sides)
    if len({len(side.results) > 1 for side in sides}) > 1:
        alone = ", ".join(side.name for side in sides if len(side.results) == 1)
        notes.append(f"of one run, so no interval says how far other seeds would be from it: {alone}")
    uses = {side.name: sorted({use for _, result in side.results for use in result.subject.uses}) for side in sides}
    if len({tuple(used) for used in uses.values()}) > 1:
        told = "; ".join(f"{name} looks at {', '.join(used) or 'nothing'}" for name, used in uses.items())
        notes.append(f"besides prompt and responses {told}")
    return notes


def _further_views(sides: Sequence[Side], shown: Sequence[str]) -> list[str]:
    common_views = [view for view in sides[0].views if all(view in side.views for side in sides)]
    return [view for view in common_views if any(view != primary for primary in shown)]


def _contrasts(
    measured: Sequence[Measured], subsets: Mapping[str, Sequence[int]], seed: int, *, headline: bool
) -> list[Contrast]:
    """Every model against the first, over the whole and then over each subset."""
    n = len(subsets["all"])
    return [
        _contrast(measured[0], other, subset, _rows(places, n), seed, headline and subset == "all")
        for subset, places in subsets.items()
        for other in measured[1:]
    ]


def _is_open(contrast: Contrast) -> bool:
    """Whether a model has no number, though examples count for both: a mean over parts that are not all there."""
    return contrast.difference is not None and bool(np.isnan(contrast.difference.value))


def _rows(places: Sequence[int], n: int) -> Rows:
    rows = np.zeros(n, dtype=bool)
    rows[places] = True
    return rows


def _contrast(theirs: Measured, ours: Measured, subset: str, rows: Rows, seed: int, headline: bool) -> Contrast:
    both = common([theirs, ours], rows)
    n = 0 if both is None else both.n
    contrast = Contrast(
        theirs.name, ours.name, theirs.view, ours.view, subset, headline, n, dropped=int(rows.sum()) - n
    )
    if both is None:
        return contrast
    their_value, our_value = both.value
    verdicts = both.verdicts
    return replace(
        contrast,
        baseline_value=their_value,
        model_value=our_value,
        difference=both.difference(seed=seed),
        overlap=None if verdicts is None else overlap(verdicts[1], verdicts[0]),
    )


def _with_agreement(contrast: Contrast, measured: Sequence[Measured]) -> Contrast:
    """A headline with what two runs have in common; seeds of one model differ in what nobody asked for."""
    theirs, ours = measured[0], next(one for one in measured[1:] if one.name == contrast.model)
    if not contrast.headline or len(theirs.judged.runs) > 1 or len(ours.judged.runs) > 1:
        return contrast
    return replace(
        contrast,
        agreement=agreement(theirs.judged.runs[0], theirs.view, ours.judged.runs[0], ours.view),
        settings=settings_that_differ(theirs.judged.side.results[0][1], ours.judged.side.results[0][1]),
    )


def _ranking(measured: Sequence[Measured], seed: int) -> tuple[list[RankedModel], list[str]]:
    """The place of every model for which all examples count that do for any, the best first; and a note on the others.

    So what one of them left unanswered neither helps it nor leaves the others with fewer examples.
    """
    n = len(measured[0].judged.clusters)
    counted = [np.all([one.counts(n) for one in model.whole], axis=0) for model in measured]
    most = np.any(counted, axis=0)
    whole, left = list[Measured](), list[str]()
    for model, rows in zip(measured, counted, strict=True):
        if (rows == most).all():
            whole.append(model)
        else:
            left.append(f"{model.name} ({int(rows.sum()):,} of {int(most.sum()):,})")
    notes = [f"not ranked, because not every example counts for it: {', '.join(left)}"] if left else []
    shared = common(whole, most) if len(whole) > 1 else None
    ranks = [] if shared is None else shared.ranks(seed=seed)
    if shared is None or not ranks:
        return [], notes
    places = [
        RankedModel(model.name, value, rank, shared.n)
        for model, value, rank in zip(whole, shared.value, ranks, strict=True)
    ]
    return sorted(places, key=lambda place: place.rank.rank), notes


def _adjusted(tasks: Sequence[TaskComparison]) -> list[TaskComparison]:
    """The same, with Holm's adjustment of p over all headlines that have one; a try is no test."""
    decided = [contrast for task in tasks if not task.is_try for contrast in task.contrasts]
    tested = [(c, c.difference.p) for c in decided if c.headline and c.difference]
    stated = [(id(contrast), p) for contrast, p in tested if not np.isnan(p)]
    adjusted = dict(zip((place for place, _ in stated), holm([p for _, p in stated]), strict=True))
    return [replace(task, contrasts=[replace(c, p_holm=adjusted.get(id(c))) for c in task.contrasts]) for task in tasks]
