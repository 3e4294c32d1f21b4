"""What a leaderboard shows. A column is one line of COLUMNS, and says by itself how it looks in Markdown and in CSV."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rmbench.leaderboard.entries import BoardRow
from rmbench.results.digest import Digest, calibration_errors, calibration_map, with_effective
from rmbench.results.schema import Figure, Metric

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """`markdown` gives a row's cell; `csv` gives its cells by name, empty where there is no number.

    A table leaves out a column in which no row has anything, unless it is `always` there. `name` is that of its figure.
    """

    heading: str
    markdown: Callable[[Any], str]
    csv: Callable[[Any], Mapping[str, str]]
    align: str = "right"
    always: bool = False
    name: str = ""


def text(heading: str, value: Callable[[Any], str]) -> Column:
    """Words from a result file."""
    return Column(heading, lambda row: inert(value(row)), lambda row: {heading: _no_formula(value(row))}, "left")


def count(heading: str, value: Callable[[Any], int | None]) -> Column:
    """A whole number."""
    return Column(
        heading,
        lambda row: NOTHING if value(row) is None else f"{value(row):,}",
        lambda row: {_csv_name(heading): "" if value(row) is None else str(value(row))},
    )


def number(heading: str, value: Callable[[Any], float | None], digits: int) -> Column:
    """A number without an interval."""
    return Column(
        heading,
        lambda row: NOTHING if value(row) is None else f"{value(row):.{digits}f}",
        lambda row: {_csv_name(heading): _decimals(value(row))},
        name=_csv_name(heading),
    )


def figure(heading: str, value: Callable[[Any], Figure | None], *, name: str = "", scale: int = 100) -> Column:
    """A metric with its interval; in percent where `scale` is 100, in CSV always as it is in the result."""
    name = name or _csv_name(heading)

    def csv(row: Any) -> dict[str, str]:
        metric = value(row)
        ends = (metric.value, metric.ci_low, metric.ci_high) if metric else (None, None, None)
        return {f"{name}{end}": _decimals(x) for end, x in zip(("", "_low", "_high"), ends, strict=True)}

    return Column(heading, lambda row: _with_interval(value(row), scale), csv, name=name)


def metric(name: str, heading: str, *, scale: int = 100) -> Column:
    """The metric `name` of the row's view over the whole."""
    return figure(heading, lambda row: row.metric(name), name=name, scale=scale)


def calibration_error(name: str, heading: str, *, fitted: bool) -> Column:
    """The root mean square calibration error of rewards as they are, or of the map fitted to their differences."""

    def value(row: BoardRow) -> Figure | None:
        calibration = row.result.calibration
        if calibration is None or calibration.view != row.view:
            return None
        fitted_map = calibration_map(calibration, "pairs", fitted=fitted)
        return None if fitted_map is None else calibration_errors(fitted_map)[0]

    return figure(heading, value, name=name)


def inert(given: str) -> str:
    """Text that Markdown shows as it is: all but plain ASCII as entities, which have no meaning."""
    visible = "".join(c if c.isprintable() else repr(c)[1:-1] for c in given)
    return re.sub(
        r"[^A-Za-z0-9 _/.-]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=www)\.", lambda match: f"&#{ord(match[0])};", visible
    )


def _csv_name(heading: str) -> str:
    return re.sub(r"\W+", "_", heading).strip("_")


def _no_formula(given: str) -> str:
    """What a spreadsheet would run as a formula, it shows behind an apostrophe."""
    return f"'{given}" if given.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else given


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _with_interval(metric: Figure | None, scale: int) -> str:
    if metric is None or metric.value is None:
        return NOTHING
    digits = 1 if scale == 100 else 2
    shown = f"{scale * metric.value:.{digits}f}"
    if metric.ci_low is None or metric.ci_high is None:
        return shown
    return f"{shown} [{scale * metric.ci_low:.{digits}f}, {scale * metric.ci_high:.{digits}f}]"


def counting_lost(heading: str) -> Column:
    """The headline of a row that left examples unanswered, where these are lost; in percent where it is a share."""

    def shown(row: BoardRow) -> str:
        value, definition = row.standing.at_least, row.result.statistics.get(row.headline)
        if value is None or definition is None:
            return NOTHING
        return f"{value:.2f}" if definition.kind == "number" else f"{100 * value:.1f} %"

    return Column(heading, shown, lambda row: {_csv_name(heading): _decimals(row.standing.at_least)})


def _unanswered(row: BoardRow) -> int:
    return sum(n for status, n in row.result.statuses.items() if status != "ok")


def with_own(columns: Sequence[Column], own: Digest) -> list[Column]:
    """The columns, and behind the tiers what a task's measure has in the place of those that none of them is of.

    These are its headline, what else has its unit, and the first figure of each other unit.
    """
    shown = list(columns)
    if own.headline in own.statistics and own.headline not in {column.name for column in columns}:
        place = next(at for at, column in enumerate(shown) if column.name == "p") + 1
        names = [own.headline, *own.variants, *own.beside]
        shown[place:place] = [
            metric(name, inert(own.heading(name)).replace("&#37;", "%"), scale=100 if own.is_share(name) else 1)
            for name in names
            if name not in {column.name for column in columns}
        ]
    return shown


def _counted(heading: str, value: Callable[[Any], Metric | None]) -> Column:
    """How many examples a figure is of; beside them, in CSV by itself, as many independent ones as tell as much."""

    def shown(row: Any) -> str:
        figured = value(row)
        return NOTHING if figured is None else with_effective(figured.n, figured.n_effective)

    def csv(row: Any) -> dict[str, str]:
        figured = value(row)
        ends = ("", "") if figured is None else (str(figured.n), _decimals(figured.n_effective))
        return dict(zip((heading, f"{heading}_effective"), ends, strict=True))

    return Column(heading, shown, csv)


COLUMNS = (
    text("model", lambda row: row.result.subject.id),
    text("revision", lambda row: row.revision),
    text("view", lambda row: row.view),
    count("tier", lambda row: row.standing.tier),
    number("p", lambda row: row.standing.p, digits=3),
    metric("accuracy", "accuracy %"),
    metric("mrr", "MRR %"),
    metric("auc", "AUC (pairs) %"),
    metric("accuracy_length_controlled", "at equal length (pairs) %"),
    metric("accuracy_expected", "ties at random %"),
    metric("accuracy_chance", "chance %"),
    metric("accuracy_always_longer", "always longer %"),
    metric("accuracy_always_shorter", "always shorter %"),
    metric("length_pearson", "r of length", scale=1),
    calibration_error("ece_raw", "ECE %", fitted=False),
    calibration_error("ece_calibrated", "ECE calibrated %", fitted=True),
    replace(figure("predicted Arena", lambda row: row.arena, scale=1), always=True),
    metric("effect_padding", "padding (sd)", scale=1),
    metric("padded_wrong_preferred", "padded wrong preferred %"),
    metric("overflow_preferred", "overflow preferred %"),
    metric("selected_length_ratio_at_all", "length of the best / mean", scale=1),
    count("ties", lambda row: row.result.ties.get(row.view)),
    _counted("n", lambda row: row.first),
    count("clusters", lambda row: getattr(row.first, "clusters", None)),
    count("unanswered", _unanswered),
    count("examples unanswered", lambda row: row.standing.lost or None),
    counting_lost("these counted as lost"),
    count("truncated", lambda row: row.result.truncated),
)
