"""What is known of reward models, and of the policies made with them: CSV tables, results of rmbench's own, aliases."""

from __future__ import annotations

import csv
import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

import numpy as np

from rmbench import bounded
from rmbench.errors import DataError, ResultError
from rmbench.metrics.fits import Share
from rmbench.results import collection, files
from rmbench.results.schema import TaskResult

Kind = Literal["metrics", "policy results"]

METRICS = ("rm", "benchmark", "metric", "value", "low", "high", "n", "source", "better", "unit")
POLICY_RESULTS = ("rm", "policy", "method", "benchmark", "metric", "value", "low", "high", "n", "source", "unit")
_COLUMNS: Mapping[Kind, tuple[str, ...]] = {"metrics": METRICS, "policy results": POLICY_RESULTS}
_SHIPPED = "rmbench.policy_results"
_MAY_BE_EMPTY = {"low", "high", "n", "better", "unit"}
_MAY_LACK = {"better", "unit"}
_BETTER = ("higher", "lower")
_WHOLE = {"fraction": 1.0, "percent": 100.0}
_LARGEST = 1e100  # what can be squared and summed
_QUANTILES = 3.92  # standard errors between the ends of a normal's 95 % interval


@dataclass(frozen=True, slots=True)
class Reported:
    """One figure of a reward model, or of a `policy` made with it by `method`; `low` to `high` is its 95 % interval.

    `lower_is_better` is whether less of the metric is better. `unit` is `fraction` or `percent` where it is known to be
    a share, of `n` trials where that is known.
    """

    rm: str
    benchmark: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int | None
    source: str
    place: str
    policy: str = ""
    method: str = ""
    lower_is_better: bool = False
    unit: str = ""

    @property
    def error(self) -> float:
        """The standard error that the interval gives, 0 where there is none."""
        return 0.0 if self.low is None or self.high is None else (self.high - self.low) / _QUANTILES


@dataclass(frozen=True, slots=True)
class Series:
    """One metric, or one thing measured on policies, with its figure by reward model."""

    name: str
    benchmark: str
    metric: str
    policy: str
    method: str
    figures: Mapping[str, Reported]

    @property
    def lower_is_better(self) -> bool:
        """Whether less of it is better."""
        return any(figure.lower_is_better for figure in self.figures.values())

    @property
    def source(self) -> str:
        """Where its figures are from."""
        return "; ".join(dict.fromkeys(figure.source for figure in self.figures.values()))

    def share(self, models: Sequence[str]) -> Share | None:
        """What the figures of these models are a share of; None where one of them is not known to be a share."""
        figures = [self.figures[rm] for rm in models]
        units = {figure.unit for figure in figures}
        if len(units) != 1 or not units <= _WHOLE.keys():
            return None
        trials = np.array([np.nan if figure.n is None else figure.n for figure in figures], float)
        return Share(_WHOLE[units.pop()], trials)


def read_table(path: Path | Traversable, kind: Kind) -> list[Reported]:
    """The rows of a CSV table of that kind. Raises DataError naming file, row and field; row 1 is below the heading.

    A table of metrics may have the column `better`: `lower` where less of a metric is better, else `higher` or empty;
    both may have `unit`: `fraction` or `percent` where a figure is a share, else empty.
    """
    try:
        text = bounded.read_text(path, "utf-8-sig") if isinstance(path, Path) else path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        heading = next(rows, [])
        _check_heading(path.name, heading, kind)
        reported = [_reported(_cells(path.name, i, heading, row)) for i, row in enumerate(rows, 1) if row]
    except csv.Error as error:
        raise DataError(f"{path.name}, line {rows.line_num}: invalid CSV ({error})") from error
    if not reported:
        raise DataError(f"{path.name}: no rows in it")
    return reported


def shipped(kind: Kind) -> list[Reported]:
    """The rows of that kind that come with rmbench, as published."""
    entries = sorted(resources.files(_SHIPPED).iterdir(), key=lambda file: file.name)
    tables = [file for file in entries if file.name.endswith(".csv")]
    return [
        row
        for file in tables
        if file.name.endswith("_metrics.csv") == (kind == "metrics")
        for row in read_table(file, kind)
    ]


def read_results(folder: Path) -> tuple[list[Reported], list[str]]:
    """Every metric over the whole, in its primary view, of every reward model's result under `folder`; and the names of
    results that are left out because examples are unanswered, which their figures say nothing of.

    A task whose results did not all judge the same examples is a benchmark for each set of them; a model with several
    results on one (revisions, seeds) is a model for each, named with its folder. Results of policies are left out.
    Raises ResultError where there is none.
    """
    read = {path: files.read(path) for path in collection.result_files([folder])}
    if not read:
        raise ResultError(f"{folder}: no results; `rmbench run --out` writes some, --results names their folder")
    places = {id(result): path for path, result in read.items()}
    reported, left_out = list[Reported](), list[str]()
    for task, titled in collection.groups(list(read.values())).items():
        for title, results in titled.items():
            benchmark = f"{task} {title}" if len(titled) > 1 else task
            whole = [result for result in results if collection.is_answered(result)]
            left_out += [
                f"{result.subject.id} on {benchmark}" for result in results if not collection.is_answered(result)
            ]
            for name, result in zip(collection.names(whole), whole, strict=True):
                reported += _of_result(result, name, benchmark, str(places[id(result)]))
    return reported, left_out


def _of_result(result: TaskResult, name: str, benchmark: str, place: str) -> list[Reported]:
    return [
        Reported(
            name, benchmark, metric.name, metric.value, metric.ci_low, metric.ci_high, metric.n, "rmbench", place,
            lower_is_better=result.statistics[metric.name].better == "lower",
            unit="" if metric.kind == "number" else "fraction",
        )
        for metric in result.metrics
        if (metric.view, metric.subset) == (result.primary_view, "all") and metric.value is not None
    ]  # fmt: skip


def read_aliases(path: Path | None = None) -> dict[str, str]:
    """Other name -> the name that counts: those that come with rmbench, and those of the TOML file at `path`.

    A line of it is `"name" = ["other name", ...]`. Raises DataError where a name stands for two.
    """
    aliases: dict[str, str] = {}
    for file in [resources.files(_SHIPPED).joinpath("aliases.toml"), *([path] if path else [])]:
        for name, others in _read_toml(file).items():
            if not isinstance(others, list) or not all(isinstance(other, str) for other in others):
                raise DataError(
                    f'{file.name}: {name!r} = {others!r}; expected a list, as in "name" = ["other name", ...]'
                )
            for other in others:
                if aliases.setdefault(other, name) != name:
                    raise DataError(
                        f"{file.name}: {other!r} stands for {aliases[other]!r} and for {name!r}; expected one of them"
                    )
    for other, name in aliases.items():
        if name in aliases and name != other:
            raise DataError(
                f"aliases: {other!r} stands for {name!r}, which stands for {aliases[name]!r}; list both there"
            )
    return aliases


def series(rows: Sequence[Reported], aliases: Mapping[str, str]) -> list[Series]:
    """Rows put together by what they measure, under the names that count.

    Raises DataError where one model has two different figures, or one is in percent and another a fraction; warns where
    without a unit they look as if.
    """
    columns: dict[_Key, dict[str, Reported]] = {}
    for row in rows:
        figures = columns.setdefault((row.benchmark, row.metric, row.policy, row.method), {})
        name = aliases.get(row.rm, row.rm)
        first = figures.setdefault(name, row)
        if (first.value, first.low, first.high) != (row.value, row.low, row.high):
            raise DataError(
                f"{row.place}: {row.benchmark} {row.metric} of {_both(row.rm, name)} is {row.value:g}, but "
                f"{first.value:g} at {first.place}; expected one figure a model"
            )
        known = next((other for other in figures.values() if other.unit), row)
        if row.unit and row.unit != known.unit:
            raise DataError(
                f"{row.place}: {row.benchmark} {row.metric} is in {row.unit}, but in {known.unit} at {known.place}; "
                "expected one unit"
            )
    for figures in columns.values():
        _warn_of_two_units([*figures.values()])
    return [Series(_name(key, list(columns)), *key, figures) for key, figures in columns.items()]


def _warn_of_two_units(rows: Sequence[Reported]) -> None:
    """A warning where some figures of no stated unit are up to 1, and all others from 10 to 100."""
    fractions = [row for row in rows if 0 < row.value <= 1]
    percents = [row for row in rows if 10 <= row.value <= 100]
    if any(row.unit for row in rows) or not fractions or not percents or len(fractions) + len(percents) < len(rows):
        return
    low, high = fractions[0], percents[0]
    warnings.warn(
        f"{low.place}: {low.benchmark} {low.metric} is {low.value:g}, and {high.value:g} at {high.place}: is one a "
        "fraction and the other in percent? Expected one unit, or a column `unit` that says which",
        stacklevel=3,
    )


def near_matches(names: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Name -> one of `others` that is spelt nearly like it, with the same numbers; for `names` that are not in them."""
    plain = {_plain(name): name for name in others}
    matches = {}
    for name in sorted(set(names) - set(others)):
        alike = [other for other in plain if _numbers(other) == _numbers(_plain(name))]
        for close in get_close_matches(_plain(name), alike, n=1, cutoff=0.8):
            matches[name] = plain[close]
    return matches


_Key = tuple[str, str, str, str]  # benchmark, metric, policy, method


@dataclass(frozen=True, slots=True)
class _Cells:
    """One row of a table."""

    file: str
    number: int
    values: Mapping[str, str]

    def error(self, field: str, problem: str) -> DataError:
        return DataError(f"{self.file}, row {self.number}, `{field}`: {problem}")

    def optional(self, field: str) -> float | None:
        return self.required(field) if self.values[field] else None

    def required(self, field: str) -> float:
        try:
            number = float(self.values[field])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self.error(field, f"expected a finite number, got {self.values[field]!r}")
        if abs(number) > _LARGEST:
            raise self.error(field, f"expected a number up to {_LARGEST:g}, got {self.values[field]!r}")
        return number


def _cells(file: str, number: int, heading: Sequence[str], row: Sequence[str]) -> _Cells:
    if len(row) != len(heading):
        raise DataError(f"{file}, row {number}: expected {len(heading)} cells, one a column, got {len(row)}")
    return _Cells(file, number, {column: cell.strip() for column, cell in zip(heading, row, strict=True)})


def _reported(cells: _Cells) -> Reported:
    for field, text in cells.values.items():
        if not text and field not in _MAY_BE_EMPTY:
            raise cells.error(field, "empty; only `low`, `high`, `n`, `better` and `unit` may be")
    value, low, high, n = cells.required("value"), *(cells.optional(field) for field in ("low", "high", "n"))
    if (low is None) != (high is None):
        raise cells.error(
            "low" if low is None else "high", "empty, but the other end is not; expected both ends or none"
        )
    if low is not None and high is not None and not low <= value <= high:
        raise cells.error("low" if low > value else "high", f"[{low:g}, {high:g}] does not hold the value {value:g}")
    if n is not None and (n < 1 or n != int(n)):
        raise cells.error("n", f"expected a whole number from 1, got {cells.values['n']!r}")
    names = {
        field: cells.values.get(field, "") for field in ("rm", "benchmark", "metric", "source", "policy", "method")
    }
    place = f"{cells.file}, row {cells.number}"
    better = cells.values.get("better") or "higher"
    if better not in _BETTER:
        raise cells.error("better", f"expected {' or '.join(_BETTER)}, got {better!r}")
    unit = cells.values.get("unit", "")
    if unit and unit not in _WHOLE:
        raise cells.error("unit", f"expected {' or '.join(_WHOLE)}, or nothing, got {unit!r}")
    if unit and not 0 <= value <= _WHOLE[unit]:
        raise cells.error("value", f"expected a {unit}, from 0 to {_WHOLE[unit]:g}, got {value:g}")
    count = None if n is None else int(n)
    return Reported(
        value=value, low=low, high=high, n=count, place=place, lower_is_better=better == "lower", unit=unit, **names
    )


def _check_heading(file: str, heading: Sequence[str], kind: Kind) -> None:
    due, expected = _COLUMNS[kind], f"the columns of {kind} are {', '.join(_COLUMNS[kind])}"
    for column in heading:
        if column not in due:
            close = get_close_matches(column, due, n=1)
            raise DataError(f"{file}: unknown column {column!r}; {f'{close[0]}? ' if close else ''}{expected}")
        if list(heading).count(column) > 1:
            raise DataError(f"{file}: column {column!r} twice; {expected}")
    for column in due:
        if column not in heading and column not in _MAY_LACK:
            raise DataError(f"{file}: no column {column!r}; {expected}")


def _read_toml(file: Path | Traversable) -> dict[str, object]:
    try:
        return bounded.toml(bounded.read_text(file) if isinstance(file, Path) else file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except ValueError as error:
        raise DataError(f"{file.name}: invalid TOML: {error}") from error


def _name(key: _Key, keys: Sequence[_Key]) -> str:
    """Benchmark and metric, and the policy and method where there are several."""
    benchmark, metric, policy, method = key
    several = sum(other[:2] == key[:2] for other in keys) > 1
    return f"{benchmark} {metric}" + (f" ({policy}, {method})" if several else "")


def _both(given: str, name: str) -> str:
    return repr(given) if given == name else f"{given!r}, that is {name!r},"


def _plain(name: str) -> str:
    """A name without its organisation, in small letters."""
    return name.rpartition("/")[2].lower()


def _numbers(name: str) -> list[str]:
    """The numbers in a name: models of one family differ in nothing else."""
    return re.findall(r"\d+", name)
