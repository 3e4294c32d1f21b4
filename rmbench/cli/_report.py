"""Results on a terminal: one table a task, one row a model, the interval beside every number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rmbench.results.schema import Calibration, CalibrationMap, Figure, Metric, TaskResult

_TIE_COLUMNS = {"ties": "ties", "accuracy_ties": "ties win", "accuracy_expected": "at random"}
NOTHING = "-"
_EFFECTS = (
    "effects in SDs of the unpadded answers' rewards; tokens are words and punctuation marks; * differs from 0 at 5 % "
    "(sign flips, Holm)"
)
_PAIRS = "ECE: of the chance that the right one of a pair has the larger reward, from differences as log odds"
_BOUNDS = {
    "upper bound": "upper bound: larger rewards are no better",
    "lower bound": "lower bound: hardly a pair in the wrong order",
}
_KINDS = {"softmax": "a softmax over a prompt's responses", "pooled": "pooled over all prompts"}
_METRIC_WIDTH, _MODEL_WIDTH = 34, 26
_PIPED_WIDTH = 120
_WIDE = 100  # narrower, ties are told below the table, so that no name is lost


def print_results(results: Sequence[TaskResult]) -> None:
    """One table for each task, in the order of the results, with what a reader must know below it."""
    console = _console()
    for task in dict.fromkeys(result.task.name for result in results):
        _print_task(console, task, [result for result in results if result.task.name == task])


def print_details(result: TaskResult) -> None:
    """Every metric of every view and subset of one result, its calibration and its scale."""
    console = _console()
    console.print(f"[bold]{plain(result.subject.id)}[/] on [bold]{result.task.name}[/] v{result.task.version}")
    console.print(plain(_data_line(result)))
    table = Table("view", "subset", "metric", "value", "95 % interval", "n", "clusters", header_style="bold")
    for metric in result.metrics:
        cells = (
            metric.view,
            metric.subset,
            metric.name,
            _value(metric),
            _interval(metric),
            f"{metric.n:,}",
            f"{metric.clusters:,}",
        )
        table.add_row(*map(plain, cells))
    console.print(table)
    if result.calibration is not None:
        _print_calibration(console, result.calibration)
    if result.scale is not None and result.scale.rewards:
        scale = result.scale
        console.print(
            f"  {scale.rewards:,} rewards from {scale.minimum:g} ({scale.at_minimum:,} times) to {scale.maximum:g} "
            f"({scale.at_maximum:,} times), {scale.distinct:,} different ones",
            highlight=False,
        )
    _print_notes(console, [result])


def _print_calibration(console: Console, calibration: Calibration) -> None:
    """Every figure of every map, judged out of fold."""
    table = Table("of", "map", "figure", "value", "95 % interval", "n", "clusters", header_style="bold")
    for found in calibration.maps:
        for figure in found.figures:
            value = "-" if figure.value is None else f"{figure.value:.4f}"
            ends = "" if figure.ci_low is None else f"[{figure.ci_low:.4f}, {figure.ci_high:.4f}]"
            table.add_row(found.scope, found.map, figure.name, value, ends, f"{figure.n:,}", f"{figure.clusters:,}")
    console.print(table)
    for found in calibration.maps:
        if found.note:
            console.print(f"  {found.scope}, {found.map}: {plain(found.note)}", highlight=False)


def plain(text: str) -> str:
    """Text as it is: no markup, and nothing that moves the cursor or colours the terminal."""
    return escape("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def _console() -> Console:
    """As wide as the terminal; rich's guess for a pipe or a log, 80, folds names."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPED_WIDTH)


def _print_task(console: Console, task: str, results: Sequence[TaskResult]) -> None:
    console.print(f"\n[bold]{plain(task)}[/]  {plain(_data_line(results[0]))}", highlight=False)
    if results[0].task.kind == "probe":
        _print_probe(console, results)
    else:
        rows = [(result, view) for result in results for view in _views(result)]
        _print_accuracy(console, rows)
        _print_beside(console, rows)
    _print_notes(console, results)


def _print_accuracy(console: Console, rows: Sequence[tuple[TaskResult, str]]) -> None:
    tied = any(result.ties[view] for result, view in rows)
    wide = console.width >= _WIDE
    table = Table(header_style="bold", caption="[ ] 95 % interval", caption_justify="left")
    table.add_column("model", min_width=12, overflow="fold")
    for heading in ("accuracy %", "MRR %", "n", *(_TIE_COLUMNS.values() if tied and wide else ())):
        table.add_column(heading, justify="right", no_wrap=wide)
    for result, view in rows:
        accuracy, mrr = (result.metric(name, view=view) for name in ("accuracy", "mrr"))
        cells = [_name(result, view), _cell(accuracy), _cell(mrr), f"{accuracy.n:,}"]
        table.add_row(*map(plain, cells + (_tie_cells(result, view) if tied and wide else [])))
    console.print(table)
    if tied and not wide:
        for result, view in rows:
            if result.ties[view]:
                ties, won, drawn = _tie_cells(result, view)
                text = f"{_name(result, view)}: {ties} ties; accuracy {won} % if ties win, {drawn} % at random"
                console.print(f"  {plain(text)}", highlight=False)


def _print_beside(console: Console, rows: Sequence[tuple[TaskResult, str]]) -> None:
    """What else moves the reward, and what a margin is worth."""
    columns: tuple[tuple[str, Callable[[TaskResult, str], str]], ...] = (
        ("model", _name),
        ("at equal length %", lambda result, view: _cell(_find(result, "accuracy_length_controlled", view))),
        ("r of length", lambda result, view: _cell(_find(result, "length_pearson", view))),
        ("ECE % as it is", lambda result, view: _error(result, view, "raw")),
        ("calibrated", lambda result, view: _error(result, view, "temperature")),
        ("temperature", _temperature),
    )
    if console.width < _WIDE:
        columns = columns[:-1]
    cells = [[cell(*row) for _, cell in columns] for row in rows]
    if all(cell == NOTHING for row in cells for cell in row[1:]):
        return
    said = dict.fromkeys(_rules(result, view) for result, view in rows)
    caption = [*filter(None, said), _PAIRS, *(said for end, said in _BOUNDS.items() if f"({end})" in str(cells))]
    table = Table(header_style="bold", caption="; ".join(caption), caption_justify="left")
    for number, (heading, _) in enumerate(columns):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(plain, row))
    console.print(table)


def _print_probe(console: Console, results: Sequence[TaskResult]) -> None:
    """One row a metric and one column a model, as many beside each other as the terminal holds."""
    fitting = max(1, (console.width - _METRIC_WIDTH) // _MODEL_WIDTH)
    for start in range(0, len(results), fitting):
        some = results[start : start + fitting]
        table = Table(header_style="bold", caption=_EFFECTS, caption_justify="left")
        table.add_column("metric", no_wrap=True)
        for result in some:
            table.add_column(plain(_name(result, result.primary_view)), justify="right", overflow="fold")
        kept = {(result.subject.id, i): _adjusted(result) for i, result in enumerate(some)}
        names = dict.fromkeys(metric.name for result in some for metric in _whole(result))
        for name in names:
            cells, unit = [], ""
            for i, result in enumerate(some):
                metric = _find(result, name, result.primary_view)
                star = " *" if kept[result.subject.id, i].get(name, 1.0) < 0.05 else ""
                cells.append(_cell(metric) + star)
                unit = " %" if metric is not None and _is_fraction(metric) else ""
            table.add_row(*map(plain, [name.replace("_", " ") + unit, *cells]))
        console.print(table)


def _whole(result: TaskResult) -> list[Metric]:
    return [m for m in result.metrics if (m.view, m.subset) == (result.primary_view, "all")]


def _adjusted(result: TaskResult) -> dict[str, float]:
    """The effects' p by name, Holm over all of them."""
    from rmbench.metrics.paired import holm

    tested = {metric.name: metric.p for metric in _whole(result) if metric.p is not None}
    return dict(zip(tested, holm(list(tested.values())), strict=True))


def _find(result: TaskResult, name: str, view: str) -> Metric | None:
    try:
        return result.metric(name, view=view)
    except KeyError:
        return None


def _map(result: TaskResult, view: str, how: str) -> CalibrationMap | None:
    """From differences of rewards to the chance that the larger is the right one's; None where no pair tells."""
    calibration = result.calibration
    if calibration is None or calibration.view != view:
        return None
    return next((found for found in calibration.maps if (found.scope, found.map) == ("pairs", how)), None)


def _error(result: TaskResult, view: str, how: str) -> str:
    found = _map(result, view, how)
    return NOTHING if found is None else _cell(found.figure("ece"))


def _temperature(result: TaskResult, view: str) -> str:
    found = _map(result, view, "temperature")
    if found is None:
        return NOTHING
    bound = next(
        (f" ({end})" for end in _BOUNDS if (found.note or "").startswith(f"the temperature is at its {end}")), ""
    )
    return f"{found.parameters['temperature']:.3g}{bound}"


def _rules(result: TaskResult, view: str) -> str:
    """The accuracy of going by length alone."""
    rules = {how: _find(result, f"accuracy_always_{how}", view) for how in ("longer", "shorter")}
    return ", ".join(f"always {how}: {_value(rule)} %" for how, rule in rules.items() if rule is not None)


def _name(result: TaskResult, view: str) -> str:
    return result.subject.id if view == "default" else f"{result.subject.id} ({view})"


def _tie_cells(result: TaskResult, view: str) -> list[str]:
    won, drawn = (result.metric(name, view=view) for name in ("accuracy_ties", "accuracy_expected"))
    return [f"{result.ties[view]:,}", _value(won), _value(drawn)]


def _views(result: TaskResult) -> list[str]:
    """A process model's aggregators side by side; of a model's heads only the one that is its reward."""
    return list(result.ties) if result.primary_view != "default" else ["default"]


def _print_notes(console: Console, results: Sequence[TaskResult]) -> None:
    """What the numbers do not show: rows left out, odd ones, cuts, and requests without a reward."""
    data = results[0].dataset
    if data.excluded:
        console.print(f"  rows left out: {plain(_counts(data.excluded))}", highlight=False)
    if data.noted:
        console.print(f"  noted: {plain(_counts(data.noted))}", highlight=False)
    for result in results:
        name = plain(result.subject.id)
        left_out = result.left_out.get(result.primary_view)
        if left_out:
            console.print(f"  {name}: examples that no metric counts: {plain(_counts(left_out))}", highlight=False)
        for line in _beside(result):
            console.print(f"  {name}: {plain(line)}", highlight=False)
        for problem in result.problems:
            console.print(f"  [yellow]{name}: {plain(problem)}[/]", highlight=False)
        labels = result.config.model.get("labels") or ()
        if len(labels) > 1:
            reward = f"the reward is the head {result.config.model['reward']!r} of {', '.join(map(repr, labels))}"
            console.print(f"  {name}: {plain(reward)}", highlight=False)
        if result.truncated:
            console.print(f"  [yellow]{name}: {result.truncated:,} sequences were cut[/]", highlight=False)
        if result.same_tokens:
            count = f"{result.same_tokens:,}"
            console.print(f"  {name}: {count} responses have the tokens of another with other text", highlight=False)


def _beside(result: TaskResult) -> Iterator[str]:
    """What is behind a dash, and what `probability` is."""
    scale, calibration = result.scale, result.calibration
    if scale is not None and scale.distinct == 1:
        yield f"every reward is the same, {scale.minimum:g}"
    if result.task.kind == "probe":
        if tied := result.ties.get(result.primary_view):
            yield f"in {tied:,} examples an edit is rewarded just as what it was made from, which is no rise and no win"
        return
    if _find(result, "length_pearson", result.primary_view) is None:
        yield "nothing is said of length: the responses' texts are not known"
    if calibration is None:
        yield f"not calibrated: {result.calibration_reason}"
    else:
        used = calibration.of(calibration.kind, calibration.map)
        kind = f"{_KINDS[calibration.kind]} ({calibration.map})"
        yield f"`probability` in the records is {kind}, ECE {_cell(used.figure('ece'))} %"


def _data_line(result: TaskResult) -> str:
    data = result.dataset
    revision = f" @ {data.revision[:12]}" if data.revision and data.revision != "local" else ""
    size = "prompts" if result.subject.kind == "policy" else f"examples, {data.candidates:,} candidates"
    return f"{data.source}{revision}: {data.examples:,} {size}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _is_fraction(figure: Figure) -> bool:
    """A probability's error is a fraction too; other figures of a calibration are shown nowhere here."""
    return not isinstance(figure, Metric) or figure.kind != "number"


def _cell(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return NOTHING
    return f"{_value(figure)} {_interval(figure)}".rstrip()


def _value(figure: Figure) -> str:
    if figure.value is None:
        return NOTHING
    return _scaled(figure, figure.value)


def _interval(figure: Figure) -> str:
    if figure.ci_low is None or figure.ci_high is None:
        return ""
    return f"[{_scaled(figure, figure.ci_low)}, {_scaled(figure, figure.ci_high)}]"


def _scaled(figure: Figure, value: float) -> str:
    if _is_fraction(figure):
        return f"{100 * value:.1f}"
    shown = f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
    return shown.removeprefix("-") if float(shown) == 0 else shown
