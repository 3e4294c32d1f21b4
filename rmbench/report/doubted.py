"""Whether spread says where a model is wrong, as a plot: the errors among those that it keeps, the surest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rmbench.metrics.doubt import COVERAGES, FLIP_RISK, RISK
from rmbench.report import charts
from rmbench.report.curves import Point
from rmbench.report.frame import Board, Plot
from rmbench.results.digest import figure
from rmbench.results.schema import Metric, TaskResult

SERIES = {RISK: "by spread", FLIP_RISK: "by chance of a flip"}


def plots(result: TaskResult, board: Board) -> Iterator[Plot]:
    """One for each view that has spread; none without."""
    for view in result.views:
        curves = {name: _curve(result, name, view) for name in SERIES}
        if not curves[RISK]:
            continue
        risk_of_all = curves[RISK][-1].value or 0.0
        yield board.plot(
            "Doubt" if view == "default" else f"Doubt of {view}",
            "Errors among what is kept where the least sure are left out, with 95 % intervals. Dashed, above, what "
            f"leaving out at random gives, and, below, an oracle that knows the errors.{_auc(result, view)}",
            charts.risk(points(curves), rulers(risk_of_all), [SERIES[name] for name in curves if curves[name]]),
        )


def points(curves: Mapping[str, Sequence[Metric]]) -> list[Point]:
    """Those of each curve."""
    return [
        {"kept": one.at, "risk": one.value, "low": low, "high": high, "by": SERIES[name], "n": one.n}
        for name, curve in curves.items()
        for one in curve
        for low, high in [(one.value if end is None else end for end in (one.ci_low, one.ci_high))]
    ]


def rulers(risk_of_all: float) -> dict[str, list[Point]]:
    """The risk where what is left out is drawn, and where it is what is wrong."""
    right = 1 - risk_of_all
    kept = sorted({*COVERAGES, *([right] if right > 0 else [])})
    return {
        "at random": [{"kept": at, "risk": risk_of_all} for at in (0.0, 1.0)],
        "oracle": [{"kept": at, "risk": max(0.0, at - right) / at} for at in kept],
    }


def _curve(result: TaskResult, name: str, view: str) -> list[Metric]:
    of = [one for one in result.metrics if (one.name, one.view, one.subset) == (name, view, "all")]
    return sorted((one for one in of if one.value is not None), key=lambda one: one.at or 0.0)


def _auc(result: TaskResult, view: str) -> str:
    about = figure(result, "doubt_auc", view)
    if about is None or about.value is None:
        return ""
    known = about.ci_low is not None and about.ci_high is not None
    ends = f" [{100 * (about.ci_low or 0):.1f}, {100 * (about.ci_high or 0):.1f}]" if known else ""
    return f" AUC of the spread for errors: {100 * about.value:.1f}{ends} %."
