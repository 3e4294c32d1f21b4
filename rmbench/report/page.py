"""The run report: one HTML page of results, as `frame` makes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rmbench.errors import ResultError
from rmbench.metrics import order
from rmbench.report import answered, charts, curves, doubted, frame, pairs
from rmbench.report.failures import Failure, worst
from rmbench.report.frame import Board, Plot
from rmbench.report.unanswered import AllUnanswered, unanswered
from rmbench.results import collection
from rmbench.results.digest import (
    ERROR_WORDS,
    Digest,
    calibration_errors,
    calibration_map,
    digest,
    figure,
    said,
    whole,
    with_effective,
)
from rmbench.results.overview import SHARED, efforts, headlines
from rmbench.results.replay import outcomes_of
from rmbench.results.schema import CalibrationMap, Definition, Figure, Metric, TaskResult
from rmbench.types import Example, Outcome

_FOLD, _LONGEST = 600, 20_000  # characters of a text shown at once, and at all
_SHOWN = 3  # failures that are not folded
_SUBSET_ROWS = 500
_PARTS = 60  # more are in the table alone
_FIGURES = 3  # columns of a task's table beside its headline


@dataclass(frozen=True, slots=True)
class ModelPart:
    """All that the page says of one model on one task; `n` examples count in its headline.

    `conditions` and `longest` are of a policy, which has no failures; a reward model has none of the two.
    """

    anchor: str
    name: str
    result: TaskResult
    plots: Sequence[Plot]
    calibrations: Sequence[CalibrationMap]
    failures: Sequence[Failure]
    unanswered: AllUnanswered
    conditions: Sequence[answered.Condition]
    longest: Sequence[answered.LongResponse]
    has_texts: bool
    n: str
    metrics: Sequence[Metric]
    subsets: Sequence[Metric]
    subsets_left: int


@dataclass(frozen=True, slots=True)
class TaskPart:
    """A task with its models: `headlines` maps columns of its table to one figure a model, None where it has none.

    `comparable` is whether all of them judged the same examples and responses, `glossary` says what each metric is.
    """

    anchor: str
    name: str
    versions: Sequence[int]
    comparable: bool
    headlines: Mapping[str, Sequence[Figure | None]]
    glossary: Mapping[str, Definition]
    models: Sequence[ModelPart]


def write(results: Sequence[TaskResult], texts: Mapping[str, Mapping[str, Example]], path: Path) -> None:
    """Writes the page of `results` (with their tables) to `path`.

    `texts` maps a task's name to its examples by id; where it is empty, failures are shown without texts. Raises
    ResultError where there is nothing to show, the page cannot be written, or the extra `site` is not installed.
    """
    if not results:
        raise ResultError(f"{path}: no results to report")
    frame.keep(path, _render(results, texts))


def count(path: Path) -> int:
    """How many results a page is of; 0 for a file that is none."""
    tag = re.search(r'<meta name="results" content="(\d+)">', path.read_text(encoding="utf-8", errors="replace"))
    return int(tag[1]) if tag else 0


def _render(results: Sequence[TaskResult], texts: Mapping[str, Mapping[str, Example]]) -> str:
    specs: dict[str, charts.Spec] = {}
    tasks = [
        _task_part(f"task-{number}", [result for result in results if result.label == name], texts, specs)
        for number, name in enumerate(dict.fromkeys(result.label for result in results), 1)
    ]
    lines = headlines(results)
    filters: dict[str, Callable[..., object]] = {
        "number": _number,
        "percent": lambda value: "-" if value is None else f"{100 * value:.1f}",
        "said": said,
        "with_effective": with_effective,
        "p_value": lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}",
    }
    words = {
        "tasks": tasks,
        "results": results,
        "lines": lines,
        "models": [*dict.fromkeys(model for line in lines for model in line.figures)],
        "efforts": efforts(results),
        "shared_words": SHARED,
        "made": max(result.created for result in results),
        "fold": _FOLD,
        "shown": _SHOWN,
        "longest": _LONGEST,
    }
    return frame.render("page.html.jinja", ["page.css"], specs, filters, words)


def _task_part(
    anchor: str,
    results: Sequence[TaskResult],
    texts: Mapping[str, Mapping[str, Example]],
    specs: dict[str, charts.Spec],
) -> TaskPart:
    name = results[0].label
    models = []
    for number, (label, result) in enumerate(zip(collection.names(results), results, strict=True), 1):
        models.append(_model_part(f"{anchor}-model-{number}", label, result, texts.get(name, {}), specs))
    versions = sorted({result.task.version for result in results})
    digested = digest(results)
    comparable = len(collection.groups(results)[results[0].task.name]) == 1
    return TaskPart(anchor, name, versions, comparable, _headlines(digested, results), digested.statistics, models)


def _model_part(
    anchor: str, name: str, result: TaskResult, texts: Mapping[str, Example], specs: dict[str, charts.Spec]
) -> ModelPart:
    if result.subject.kind == "policy":
        return _policy_part(anchor, name, result, texts, specs)
    primary = [metric for metric in result.metrics if metric.view == result.primary_view]
    subsets = [metric for metric in primary if metric.subset != "all"]
    outcomes = outcomes_of(result)
    headline = figure(result, result.task.headline, result.primary_view)
    return ModelPart(
        anchor=anchor,
        name=name,
        result=result,
        plots=_plots(result, outcomes, Board(anchor, name, specs)),
        calibrations=result.calibration.maps if result.calibration else (),
        failures=worst(result, texts, outcomes),
        unanswered=unanswered(result, texts),
        conditions=(),
        longest=(),
        has_texts=bool(texts),
        n="-" if headline is None else with_effective(headline.n, headline.n_effective),
        metrics=[metric for metric in primary if metric.subset == "all"],
        subsets=subsets[:_SUBSET_ROWS],
        subsets_left=len(subsets[_SUBSET_ROWS:]),
    )


def _policy_part(
    anchor: str, name: str, result: TaskResult, texts: Mapping[str, Example], specs: dict[str, charts.Spec]
) -> ModelPart:
    whole_of_view = [metric for metric in result.metrics if metric.subset == "all"]
    rest = [metric for metric in result.metrics if metric.subset != "all"]
    headline = figure(result, result.task.headline, result.primary_view)
    return ModelPart(
        anchor=anchor,
        name=name,
        result=result,
        plots=_length_plots(result, Board(anchor, name, specs)),
        calibrations=(),
        failures=(),
        unanswered=AllUnanswered(0, ()),
        conditions=answered.conditions(result),
        longest=answered.longest(result, texts),
        has_texts=result.responses is not None,
        n="-" if headline is None else with_effective(headline.n, headline.n_effective),
        metrics=[_of_view(metric, metric.view) for metric in whole_of_view],
        subsets=[_of_view(metric, f"{metric.view}, {metric.subset}") for metric in rest[:_SUBSET_ROWS]],
        subsets_left=len(rest[_SUBSET_ROWS:]),
    )


def _of_view(metric: Metric, where: str) -> Metric:
    return metric.model_copy(update={"subset": where})


def _length_plots(result: TaskResult, board: Board) -> list[Plot]:
    """How long the responses of a policy are, as far as their caps let it be known."""
    _, unit = answered.length_of(result)
    bars, points = answered.histogram(result), answered.at_least(result)
    return [
        board.plot(
            "Lengths",
            f"Responses of all conditions, in {unit}, by how they ended.",
            charts.lengths(bars, unit) if bars else None,
            "no length is known",
        ),
        board.plot(
            "At least so long",
            "Shares of responses that neither refuse nor are empty, up to the shortest that may have been cut.",
            charts.at_least(points) if points else None,
            "nothing counts their tokens; --count-with TOKENIZER does",
        ),
    ]


def _headlines(digested: Digest, results: Sequence[TaskResult]) -> dict[str, list[Figure | None]]:
    """The columns of a task's table: its headline, what a rule gets of it, and what else models are compared by."""
    names = dict.fromkeys([digested.headline, *digested.rules[:1], *digested.beside[:_FIGURES]])
    columns: dict[str, list[Figure | None]]
    columns = {digested.heading(name): [figure(r, name, r.primary_view) for r in results] for name in names}
    for name in digested.rules[:1]:  # of the data alone, and beside the headline to be read with it
        rule = digested.heading(name)
        columns[rule] = [f and f.model_copy(update={"ci_low": None, "ci_high": None}) for f in columns[rule]]
    return {title: figures for title, figures in columns.items() if any(figures)}


def _plots(result: TaskResult, outcomes: Sequence[Outcome], board: Board) -> list[Plot]:
    """Where effects are tested, these and the shares; else what rewards are worth. First what parts and curves say,
    last what spread does."""
    digested = digest([result])
    parts = _part_plots(result, digested, board)
    if digested.tested:
        plots = [*_effect_plots(result, digested, board), *parts]
    elif _only_compared(result, outcomes):
        plots = [*parts, *_pair_plots(result, outcomes, board)]
    else:
        plots = [*parts, *_reliability_plots(result, board), *_reward_plots(result, outcomes, board)]
    return [*plots, *doubted.plots(result, board)]


def _only_compared(result: TaskResult, outcomes: Sequence[Outcome]) -> bool:
    views = [outcome.views[result.primary_view] for outcome in outcomes if result.primary_view in outcome.views]
    return any(view.scores is None for view in views)


def _pair_plots(result: TaskResult, outcomes: Sequence[Outcome], board: Board) -> list[Plot]:
    """What comparisons tell: there is no reward to calibrate, to set against length or to rank by."""
    fates, places = pairs.fates(outcomes), pairs.by_place(outcomes, result.primary_view)
    names = {statistic.name for statistic in order.statistics(outcomes, result.primary_view)}
    figures = [m for m in whole(result, result.primary_view) if m.name in names and m.value is not None]
    return [
        board.plot(
            "Pairs",
            "A right and a wrong answer each, by whom the model named, over the orders in which they were shown.",
            charts.counts(fates, "pairs") if fates else None,
            "no right and wrong answer were compared",
        ),
        board.plot(
            "Where the right answer stands",
            "How often it is named, by its place, with 95 % intervals; a tie is half.",
            charts.dots(places, "share", ends=(0.0, 1.0)) if places else None,
            "no comparison of a right and a wrong answer has a verdict",
        ),
        board.plot(
            "Orders and refusals",
            "Shares of pairs and of comparisons, with 95 % intervals.",
            charts.dots(figures, "share") if figures else None,
            "no comparison was made",
        ),
    ]


def _effect_plots(result: TaskResult, digested: Digest, board: Board) -> list[Plot]:
    """The effects of each unit that several have, then all shares."""
    stated = [metric for metric in whole(result, result.primary_view) if metric.value is not None]
    units: dict[str, list[Metric]] = {}
    for metric in stated:
        if metric.name in digested.tested:
            units.setdefault(digested.statistics[metric.name].unit, []).append(metric)
    plots = [
        board.plot("Effects", f"In {unit}, with 95 % intervals.", charts.dots(effects, unit))
        for unit, effects in units.items()
        if len(effects) > 1
    ]
    shares = [metric for metric in stated if digested.is_share(metric.name)]
    return [
        *(plots or [board.plot("Effects", "", None, "no effect could be measured: rewards are missing")]),
        board.plot(
            "Rates",
            "Shares, with 95 % intervals.",
            charts.dots(shares, "share", ends=(0.0, 1.0)) if shares else None,
            "no share could be measured: answers are missing",
        ),
    ]


def _part_plots(result: TaskResult, digested: Digest, board: Board) -> list[Plot]:
    """The headline beside what else has its unit, and of each part of the examples; every metric that is a curve."""
    primary = [m for m in result.metrics if m.view == result.primary_view and m.value is not None]
    parts = [m.model_copy(update={"name": m.subset}) for m in primary if m.name == digested.headline and m.at is None]
    named = {metric.name: metric for metric in primary if metric.subset == "all"}
    alike = [named[name] for name in (digested.headline, *digested.variants) if name in named]
    if digested.tested or len({metric.value for metric in alike}) == 1:  # effects have a plot of their own
        alike = []
    plots = []
    for title, metrics, words in (
        ("Headline", alike, f"{digested.headline} and what else has its unit, with 95 % intervals."),
        ("Parts", parts, f"{digested.headline} of each part of the examples, with 95 % intervals."),
    ):
        if 1 < len(metrics) <= _PARTS:
            ends = (0.0, 1.0) if digested.is_share(digested.headline) else None
            spec = charts.dots(metrics, digested.statistics[digested.headline].unit, ends=ends)
            plots.append(board.plot(title, words, spec))
    points: dict[str, list[Metric]] = {}
    for metric in primary:
        if metric.at is not None and metric.subset == "all" and metric.name not in doubted.SERIES:
            points.setdefault(metric.name, []).append(metric)
    for name, metrics in points.items():
        about = digested.statistics[name]
        spec = charts.curve(metrics, name.replace("_", " "), about.unit)
        plots.append(board.plot(name.replace("_", " "), f"{about.title}, with 95 % intervals.", spec))
    return plots


def _reliability_plots(result: TaskResult, board: Board) -> list[Plot]:
    """One plot for each scope that was calibrated: rewards as they are, and after the map that is kept."""
    calibration = result.calibration
    if calibration is None:
        return [
            board.plot("Reliability", "", None, f"not calibrated: {result.calibration_reason or 'no reason was given'}")
        ]
    captions = {
        "pairs": "How often the response with the higher reward is the better one, against the probability for it.",
        "softmax": "How often a response is the one right among those to its prompt, against its softmax.",
        "pooled": "How often a response is right, whatever its prompt, against the probability made of its reward.",
    }
    plots = []
    for scope in dict.fromkeys(each.scope for each in calibration.maps):
        before, after = (calibration_map(calibration, scope, fitted=fitted) for fitted in (False, True))
        if before is not None and before.reliability:
            text = f"{captions[scope]} Judged out of fold, with 95 % intervals. {_errors(before, after)}"
            plots.append(board.plot(f"Reliability: {scope}", text, charts.reliability(before, after)))
    return plots


def _errors(before: CalibrationMap, after: CalibrationMap | None) -> str:
    """The figures that the terminal shows, of the same maps."""
    said = []
    for when, fitted_map in (("before", before), ("after", after)):
        if fitted_map is not None:
            square, absolute = map(_percent, calibration_errors(fitted_map))
            said.append(f"{when} ({fitted_map.map}) RMS {square}, L1 {absolute}")
    return f"Calibration error in %: {'; '.join(said)}. {ERROR_WORDS}."


def _percent(figure: Figure) -> str:
    """In percent with its interval, or the interval alone."""
    value = "" if figure.value is None else f"{100 * figure.value:.1f} "
    if figure.ci_low is None or figure.ci_high is None:
        return value.strip() or "-"
    return f"{value}[{100 * figure.ci_low:.1f}, {100 * figure.ci_high:.1f}]"


def _reward_plots(result: TaskResult, outcomes: Sequence[Outcome], board: Board) -> list[Plot]:
    titles = ("Reward and length", "Margins", "Right answers by rank")
    rewards = curves.rewards_of(outcomes, result.primary_view)
    if rewards is None:
        reason = "no example has a right and a wrong answer and a finite reward for each"
        return [board.plot(title, "", None, reason) for title in titles]
    left_out = f" Examples left out because a reward or one kind of answer is missing: {rewards.left_out:,}."
    left_out = left_out if rewards.left_out else ""
    length, margins = curves.length_curve(rewards), curves.margins(rewards)
    beyond = f" Margins beyond the ends count in the outermost bars: {margins.beyond:,}." if margins.beyond else ""
    return [
        board.plot(
            titles[0],
            "Mean reward by length, both within prompts, in bins of like counts with 95 % intervals." + left_out,
            charts.length_curve(length) if length else None,
            "the lengths of the responses are not known",
        ),
        board.plot(
            titles[1],
            "Right of zero the best right answer has the highest reward." + beyond + left_out,
            charts.margins(margins.bars) if margins.bars else None,
            "no margin is finite",
        ),
        board.plot(
            titles[2],
            "A reward that knows what is right has all of it at rank 1; the dashed line is chance." + left_out,
            charts.by_rank(curves.by_rank(rewards), curves.share_right(rewards)),
        ),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
