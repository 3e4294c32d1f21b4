"""Results on a terminal: one table a task, one row a model, the interval beside every number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from textwrap import wrap

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rmbench.checkpoints.notes import lines
from rmbench.cli import _doubt
from rmbench.cli._console import terminal
from rmbench.data.rows import told
from rmbench.results.digest import (
    ERROR_WORDS,
    Digest,
    calibration_errors,
    calibration_map,
    digest,
    few_clusters,
    figure,
    whole,
    with_effective,
)
from rmbench.results.schema import WORSE, CalibrationMap, Figure, Metric, TaskResult

NOTHING = "-"
_TESTED = "* differs from 0 at 5 % (sign flips, Holm)"
_PAIRS = (
    "calibration: of the chance that the right one of a pair has the larger reward, differences being log odds, "
    "out of fold"
)
_BOUNDS = {
    "upper bound": "upper bound: larger rewards are no better",
    "lower bound": "lower bound: no pair in the wrong order",
    "prior": "prior: hardly a pair in the wrong order",
}
_KINDS = {"softmax": "a softmax over a prompt's responses", "pooled": "pooled over all prompts"}
_METRIC_WIDTH, _MODEL_WIDTH = 34, 26
_INDENT = "  "
# spaces that no line ends at: in p < .001, n = 32, 5 %, [ ] and inside an interval
_TIED = re.compile(r"(?<=\b[pn]) (?=[<=])|(?<=[<=]) (?=[\d.])|(?<=\d) (?=%)|(?<=\[) (?=\])|(?<=\d,) (?=-?[\d.]+\])")
_TIE = "\N{NO-BREAK SPACE}"
Row = tuple[TaskResult, str]  # a result and a view
Cell = Callable[[TaskResult, str], str]


def print_results(results: Sequence[TaskResult], console: Console | None = None) -> None:
    """One table for each task, in the order of the results, with what a reader must know below it."""
    console = console or terminal()
    for task in dict.fromkeys(result.label for result in results):
        _print_task(console, task, [result for result in results if result.label == task])


def plain(text: str) -> str:
    """Text as it is: no markup, and nothing that moves the cursor or colours the terminal."""
    return escape("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def print_note(console: Console, text: str, *, style: str = "", indent: str = _INDENT) -> None:
    """A line below a table; what it does not hold goes on further in, so that the next note is told from it."""
    room = console.width - len(indent)
    tied = _TIED.sub(_TIE, plain(text))
    for line in wrap(tied, room, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False):
        console.print(f"{indent}{line.replace(_TIE, ' ')}", style=style, highlight=False)


def _print_task(console: Console, task: str, results: Sequence[TaskResult]) -> None:
    console.print(f"\n[bold]{plain(task)}[/]  {plain(_data_line(results[0]))}", highlight=False)
    digested = digest(results)
    if digested.tested:
        _print_effects(console, digested, results)
        for result in results:
            if tied := result.ties.get(result.primary_view):
                print_note(console, f"{result.subject.id}: in {tied:,} examples a tie decides")
    else:
        rows = [(result, view) for result in results for view in _views(result, digested.headline)]
        _print_headline(console, digested, rows)
        _print_beside(console, digested, [(result, result.primary_view) for result in results])
        _print_calibrated(console, rows)
    _print_doubt(console, [(result, view) for result in results for view in _doubt.doubted(result)])
    _print_notes(console, results)


def _print_headline(console: Console, digested: Digest, rows: Sequence[Row]) -> None:
    """One row a model: the headline beside chance, the first figure of another unit, and where ties or parts make it
    another one."""
    tied = any(result.ties.get(view) for result, view in rows)
    variants = [name for name in digested.variants if any(_differs(digested, name, row) for row in rows)]
    firsts = [digested.headline, *digested.beside[:1]]
    headline, *others = [(digested.heading(name), partial(_figure, name)) for name in firsts]
    chance = [(digested.heading(name), partial(_alone, name)) for name in digested.rules[:1]]
    columns: dict[str, Cell] = dict([("model", _name), headline, *chance, *others])
    columns["n"] = lambda result, view: _count(figure(result, digested.headline, view))
    more: dict[str, Cell] = {"ties": lambda result, view: f"{result.ties.get(view, 0):,}"} if tied else {}
    more |= {digested.heading(name): partial(_alone, name) for name in variants}
    wide = _fits(console, columns | more, rows)
    print_rows(console, columns | (more if wide else {}), rows, _legend(digested, rows))
    for result, view in rows if more and not wide else ():
        cells = ", ".join(f"{heading} {cell(result, view)}" for heading, cell in more.items())
        print_note(console, f"{_name(result, view)}: {cells}")


def _print_beside(console: Console, digested: Digest, rows: Sequence[Row]) -> None:
    """What else was measured that can be compared between models."""
    columns: dict[str, Cell] = {"model": _name}
    columns |= {digested.heading(name): partial(_figure, name) for name in digested.beside[1:]}
    print_parts(console, columns, rows)


def _print_calibrated(console: Console, rows: Sequence[Row]) -> None:
    """What a margin is worth."""
    rows = [row for row in rows if _map(*row, fitted=False)]
    if not rows:
        return
    before, after = _errors("as it is", fitted=False), _errors("calibrated", fitted=True)
    after["temperature"] = _temperature
    bounds = (said for end, said in _BOUNDS.items() if f"({end})" in str([_temperature(*row) for row in rows]))
    words = [_PAIRS, ERROR_WORDS, *bounds]
    columns: dict[str, Cell] = {"model": _name, **before, **after}
    whole_table = len(_held(console, columns, rows)) == len(columns)
    for part in [columns] if whole_table else [{"model": _name, **before}, {"model": _name, **after}]:
        print_parts(console, part, rows, words if "temperature" in part else ())
    for result, view in rows:
        fitted_map = _map(result, view, fitted=True)
        if fitted_map is not None and WORSE in (fitted_map.note or ""):
            print_note(console, f"{_name(result, view)}: temperature: {WORSE}")


def _print_doubt(console: Console, rows: Sequence[Row]) -> None:
    """Whether the spread of rewards says where they are wrong."""
    if not rows:
        return
    for table in _doubt.TABLES:
        columns: dict[str, Cell] = {"doubt": _name}
        columns |= {title: partial(_figure if both else _alone, name) for title, (name, both) in table.items()}
        print_parts(console, columns, rows)
    print_note(console, _doubt.words(rows[0][0]))
    for result, view in rows:
        for verdict in _doubt.verdicts(result, view):
            print_note(console, f"{_name(result, view)}: {verdict}")


def print_rows(console: Console, columns: Mapping[str, Cell], rows: Sequence[Row], words: Sequence[str] = ()) -> None:
    """One row a result and view, the first column its name.

    Where the terminal is narrow, an interval stands below its number, so that both stay whole.
    """
    named, *headings = columns
    cells = _cells(columns, rows, narrow=not _fits(console, columns, rows))
    table = Table(header_style="bold", caption="; ".join(words) or None, caption_justify="left")
    table.add_column(named, min_width=12, overflow="fold")
    long, short = _widths(headings, cells)
    whole_headings = _wide(rows, long) <= console.width
    for heading, width in zip(headings, long if whole_headings else short, strict=True):
        table.add_column(plain(heading), justify="right", overflow="fold", width=width)  # rich would fold the numbers
    for number, row in enumerate(rows):
        lines = [[plain(line) for line in column[number].split("\n")] for column in cells]
        table.add_row(plain(_name(*row)), *map("\n".join, lines))
    console.print(table)


def print_parts(console: Console, columns: Mapping[str, Cell], rows: Sequence[Row], words: Sequence[str] = ()) -> None:
    """The same in as many tables as the terminal makes of the columns behind the first; none where there are none."""
    named, *left = columns
    while left:
        part = _held(console, {named: columns[named], **{name: columns[name] for name in left}}, rows)
        left = [name for name in left if name not in part]
        print_rows(console, part, rows, () if left else words)


def _held(console: Console, columns: Mapping[str, Cell], rows: Sequence[Row]) -> dict[str, Cell]:
    """The first columns, at least one beside the names, that the terminal holds with intervals below their numbers."""
    widths = _widths([*columns][1:], _cells(columns, rows, narrow=True))[1]
    count = next((n for n in range(len(widths), 1, -1) if _wide(rows, widths[:n]) <= console.width), 1)
    return dict([*columns.items()][: count + 1])


def _cells(columns: Mapping[str, Cell], rows: Sequence[Row], *, narrow: bool) -> list[list[str]]:
    """The cells of every column but the first."""
    space = "\n" if narrow else " "
    return [[cell(*row).replace(" [", f"{space}[") for row in rows] for cell in [*columns.values()][1:]]


def _widths(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> tuple[list[int], list[int]]:
    """How wide each column is with its heading whole, and with the heading's words below each other."""
    widest = [max(len(line) for cell in column for line in cell.split("\n")) for column in cells]
    long = [max(len(heading), width) for heading, width in zip(headings, widest, strict=True)]
    return long, [max(*map(len, heading.split()), width) for heading, width in zip(headings, widest, strict=True)]


def _wide(rows: Sequence[Row], widths: Sequence[int]) -> int:
    """How wide a table is, with the names of its rows and its rules."""
    return max(12, *(len(_name(*row)) for row in rows)) + sum(widths) + 3 * len(widths) + 4


def _fits(console: Console, columns: Mapping[str, Cell], rows: Sequence[Row]) -> bool:
    """Whether a table of these columns is whole with every number and its interval on one line."""
    short = _widths([*columns][1:], _cells(columns, rows, narrow=False))[1]
    return _wide(rows, short) <= console.width


def _legend(digested: Digest, rows: Sequence[Row]) -> list[str]:
    """What the headline is, and what a rule that does not read gets of it."""
    first = digested.statistics.get(digested.headline)
    words = ["[ ] 95 % interval"]
    if first is not None:
        words.append(f"{digested.headline.replace('_', ' ')}: {first.title}{f' ({first.unit})' if first.unit else ''}")
    if any("(" in _count(figure(result, digested.headline, view)) for result, view in rows):
        words.append("n (as many independent examples tell as much)")
    for name in digested.rules[1:]:
        unit = " %" if digested.is_share(name) else ""
        values = dict.fromkeys(_alone(name, *row) for row in rows)
        words += [f"{name.replace('_', ' ')}: {value}{unit}" for value in values if value != NOTHING]
    return words


def _differs(digested: Digest, name: str, row: Row) -> bool:
    """Whether a figure says more than the headline does."""
    other, headline = (figure(row[0], one, row[1]) for one in (name, digested.headline))
    return other is not None and (headline is None or other.value != headline.value)


def _figure(name: str, result: TaskResult, view: str) -> str:
    return _cell(figure(result, name, view))


def _alone(name: str, result: TaskResult, view: str) -> str:
    """A figure without its interval."""
    metric = figure(result, name, view)
    return NOTHING if metric is None else _value(metric)


def _count(metric: Metric | None) -> str:
    return NOTHING if metric is None else with_effective(metric.n, metric.n_effective)


def _print_effects(console: Console, digested: Digest, results: Sequence[TaskResult]) -> None:
    """One row a metric and one column a model, as many beside each other as the terminal holds."""
    fitting = max(1, (console.width - _METRIC_WIDTH) // _MODEL_WIDTH)
    first = digested.statistics.get(digested.headline)
    unit = "" if first is None or not first.unit else f"{digested.headline.replace('_', ' ')} in {first.unit}; "
    for start in range(0, len(results), fitting):
        part = results[start : start + fitting]
        table = Table(header_style="bold", caption=f"{unit}{_TESTED}", caption_justify="left")
        table.add_column("metric", no_wrap=True)
        for result in part:
            table.add_column(plain(_name(result, result.primary_view)), justify="right", overflow="fold")
        adjusted = [_adjusted(result) for result in part]
        for label in dict.fromkeys(metric.label for result in part for metric in whole(result, result.primary_view)):
            cells, share = [], ""
            for result, tested in zip(part, adjusted, strict=True):
                metric = next((m for m in whole(result, result.primary_view) if m.label == label), None)
                cells.append(_cell(metric) + (" *" if tested.get(label, 1.0) < 0.05 else ""))
                share = " %" if metric is not None and _is_fraction(metric) else share
            table.add_row(*map(plain, [label.replace("_", " ") + share, *cells]))
        console.print(table)


def _adjusted(result: TaskResult) -> dict[str, float]:
    """The effects' p by label, Holm over all of them."""
    from rmbench.metrics.paired import holm

    tested = {metric.label: metric.p for metric in whole(result, result.primary_view) if metric.p is not None}
    return dict(zip(tested, holm(list(tested.values())), strict=True))


def _map(result: TaskResult, view: str, *, fitted: bool) -> CalibrationMap | None:
    """From differences of rewards to the chance that the larger is the right one's; None where no pair tells."""
    if result.calibration is None or result.calibration.view != view:
        return None
    return calibration_map(result.calibration, "pairs", fitted=fitted)


def _error(which: int, fitted: bool, result: TaskResult, view: str) -> str:
    fitted_map = _map(result, view, fitted=fitted)
    return NOTHING if fitted_map is None else _cell(calibration_errors(fitted_map)[which])


def _errors(when: str, *, fitted: bool) -> dict[str, Cell]:
    """The columns of both errors of a map."""
    return {f"{name} % {when}": partial(_error, which, fitted) for which, name in enumerate(("RMS", "L1"))}


def _temperature(result: TaskResult, view: str) -> str:
    fitted_map = _map(result, view, fitted=True)
    if fitted_map is None:
        return NOTHING
    bound = next(
        (f" ({end})" for end in _BOUNDS if (fitted_map.note or "").startswith(f"the temperature is at its {end}")), ""
    )
    return f"{fitted_map.parameters['temperature']:.3g}{bound}"


def _name(result: TaskResult, view: str) -> str:
    return result.subject.id if view == "default" else f"{result.subject.id} ({view})"


def _views(result: TaskResult, headline: str) -> list[str]:
    """A process model's aggregators side by side, where they have a headline; of heads the one that is its reward."""
    if result.primary_view == "default":
        return ["default"]
    figures = {view: figure(result, headline, view) for view in result.views}
    return [view for view, one in figures.items() if view == result.primary_view or (one and one.value is not None)]


def _print_notes(console: Console, results: Sequence[TaskResult]) -> None:
    """What the numbers do not show: rows left out, odd ones, cuts, and requests without a reward."""
    data = results[0].dataset
    if data.excluded:
        print_note(console, f"rows left out: {_counts(data.excluded)}")
    for line in told(data.noted):
        print_note(console, f"noted: {line}")
    reasons = dict.fromkeys(result.calibration_reason for result in results)
    shared = reasons.popitem()[0] if len(reasons) == 1 else None
    for result in results:
        name = result.subject.id
        left_out = result.left_out.get(result.primary_view)
        if left_out:
            print_note(console, f"{name}: examples that no metric counts: {_counts(left_out)}")
        for line in _beside(result, shared):
            print_note(console, f"{name}: {line}")
        for problem in result.problems:
            print_note(console, f"{name}: {problem}", style="yellow")
        for line in lines(result.noted, sum(result.statuses.values())):
            print_note(console, f"{name}: {line}")
        labels = result.config.model.get("labels") or ()
        if len(labels) > 1:
            reward = f"the reward is the head {result.config.model['reward']!r} of {', '.join(map(repr, labels))}"
            print_note(console, f"{name}: {reward}")
        if result.truncated:
            print_note(console, f"{name}: {result.truncated:,} sequences were cut", style="yellow")
        if result.same_tokens:
            print_note(console, f"{name}: {result.same_tokens:,} responses have the tokens of another with other text")
    if shared and results[0].subject.kind == "reward_model":
        print_note(console, f"not calibrated: {shared}")


def _beside(result: TaskResult, shared: str | None) -> Iterator[str]:
    """What is behind a dash, and what `probability` is; `shared` is why no result of the task is calibrated."""
    scale, calibration = result.scale, result.calibration
    if few := few_clusters(result):
        yield few
    if scale is not None and scale.distinct == 1:
        yield f"every reward is the same, {scale.minimum:g}"
    if _doubt.has_spread(result) and not _doubt.doubted(result):
        yield _doubt.NOT_TOLD
    if result.dataset.responses_sha256 is None:
        yield "the texts of some responses are not known, and what needs them is not measured"
    if calibration is not None:
        used = calibration.of(calibration.kind, calibration.map)
        kind = f"{_KINDS[calibration.kind]} ({calibration.map})"
        yield f"`probability` in the records is {kind}, RMS error {_cell(calibration_errors(used)[0])} %"
    elif result.calibration_reason and not shared:
        yield f"not calibrated: {result.calibration_reason}"


def _data_line(result: TaskResult) -> str:
    data = result.dataset
    revision = f" @ {data.revision[:12]}" if data.revision and data.revision != "local" else ""
    size = "prompts" if result.subject.kind == "policy" else f"examples, {data.candidates:,} candidates"
    part = f"; a part: {data.part}" if data.part else ""
    return f"{data.source}{revision}: {data.examples:,} {size}{part}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _is_fraction(figure: Figure) -> bool:
    """A probability's error is a fraction too; other figures of a calibration are shown nowhere here."""
    return not isinstance(figure, Metric) or figure.kind != "number"


def _cell(figure: Figure | None) -> str:
    """A number with its interval; an interval alone where there is no number to say."""
    if figure is None or (figure.value is None and figure.ci_low is None and figure.ci_high is None):
        return NOTHING
    if figure.value is None and (figure.ci_low is None) != (figure.ci_high is None):
        return _bound(figure)
    return f"{'' if figure.value is None else _value(figure)} {_interval(figure)}".strip()


def _bound(figure: Figure) -> str:
    """What is known from one side only, at 95 %."""
    end = figure.ci_low if figure.ci_high is None else figure.ci_high
    return "" if end is None else f"{'at least' if figure.ci_high is None else 'at most'} {_scaled(figure, end)}"


def _value(figure: Figure) -> str:
    if figure.value is None:
        return NOTHING
    return _scaled(figure, figure.value)


def _interval(figure: Figure) -> str:
    if figure.ci_low is None or figure.ci_high is None:
        return _bound(figure)
    if figure.ci_low == figure.ci_high == figure.value:  # of the data alone: nothing was drawn
        return ""
    return f"[{_scaled(figure, figure.ci_low)}, {_scaled(figure, figure.ci_high)}]"


def _scaled(figure: Figure, value: float) -> str:
    if _is_fraction(figure):
        return f"{100 * value:.1f}"
    shown = f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
    return shown.removeprefix("-") if float(shown) == 0 else shown
