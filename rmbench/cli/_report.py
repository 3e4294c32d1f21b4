"""Results on a terminal: one table a task, one row a model, the interval beside every number."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rmbench.results.schema import Metric, TaskResult

_TIE_COLUMNS = {"ties": "ties", "accuracy_ties": "ties win", "accuracy_expected": "at random"}
_PIPED_WIDTH = 120
_WIDE = 100  # narrower, ties are told below the table, so that no name is lost


def print_results(results: Sequence[TaskResult]) -> None:
    """One table for each task, in the order of the results, with what a reader must know below it."""
    console = _console()
    for task in dict.fromkeys(result.task.name for result in results):
        _print_task(console, task, [result for result in results if result.task.name == task])


def print_details(result: TaskResult) -> None:
    """Every metric of every view and subset of one result."""
    console = _console()
    console.print(f"[bold]{plain(result.subject.id)}[/] on [bold]{result.task.name}[/] v{result.task.version}")
    console.print(plain(_data_line(result)))
    table = Table("view", "subset", "metric", "value", "95 % interval", "n", "clusters", header_style="bold")
    for metric in result.metrics:
        low_high = _interval(metric, 100 if _is_fraction(metric) else 1)
        cells = (
            metric.view,
            metric.subset,
            metric.name,
            _value(metric),
            low_high,
            f"{metric.n:,}",
            f"{metric.clusters:,}",
        )
        table.add_row(*map(plain, cells))
    console.print(table)
    _print_notes(console, [result])


def plain(text: str) -> str:
    """Text as it is: no markup, and nothing that moves the cursor or colours the terminal."""
    return escape("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def _console() -> Console:
    """As wide as the terminal; rich's guess for a pipe or a log, 80, folds names."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPED_WIDTH)


def _print_task(console: Console, task: str, results: Sequence[TaskResult]) -> None:
    console.print(f"\n[bold]{plain(task)}[/]  {plain(_data_line(results[0]))}", highlight=False)
    rows = [(result, view) for result in results for view in _views(result)]
    tied = any(result.ties[view] for result, view in rows)
    wide = console.width >= _WIDE
    table = Table(header_style="bold", caption="[ ] 95 % interval", caption_justify="left")
    table.add_column("model", min_width=12, overflow="fold")
    for heading in ("accuracy %", "MRR %", "n", *(_TIE_COLUMNS.values() if tied and wide else ())):
        table.add_column(heading, justify="right", no_wrap=wide)
    for result, view in rows:
        accuracy, mrr = (result.metric(name, view=view) for name in ("accuracy", "mrr"))
        cells = [_name(result, view), *(f"{_value(m)} {_interval(m, 100)}" for m in (accuracy, mrr)), f"{accuracy.n:,}"]
        table.add_row(*map(plain, cells + (_tie_cells(result, view) if tied and wide else [])))
    console.print(table)
    if tied and not wide:
        for result, view in rows:
            if result.ties[view]:
                ties, won, drawn = _tie_cells(result, view)
                text = f"{_name(result, view)}: {ties} ties; accuracy {won} % if ties win, {drawn} % at random"
                console.print(f"  {plain(text)}", highlight=False)
    _print_notes(console, results)


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
        for problem in result.problems:
            console.print(f"  [yellow]{name}: {plain(problem)}[/]", highlight=False)
        labels = result.config.get("labels") or ()
        if len(labels) > 1:
            reward = f"the reward is the head {result.config['reward']!r} of {', '.join(map(repr, labels))}"
            console.print(f"  {name}: {plain(reward)}", highlight=False)
        if result.truncated:
            console.print(f"  [yellow]{name}: {result.truncated:,} sequences were cut[/]", highlight=False)
        if result.same_tokens:
            count = f"{result.same_tokens:,}"
            console.print(f"  {name}: {count} responses have the tokens of another with other text", highlight=False)


def _data_line(result: TaskResult) -> str:
    data = result.dataset
    revision = f" @ {data.revision[:12]}" if data.revision and data.revision != "local" else ""
    return f"{data.source}{revision}: {data.examples:,} examples, {data.candidates:,} candidates"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _is_fraction(metric: Metric) -> bool:
    return metric.name not in ("mean_rank", "margin_sd")


def _value(metric: Metric) -> str:
    if metric.value is None:
        return "-"
    return f"{100 * metric.value:.1f}" if _is_fraction(metric) else f"{metric.value:.2f}"


def _interval(metric: Metric, scale: float) -> str:
    if metric.ci_low is None or metric.ci_high is None:
        return ""
    digits = 1 if scale == 100 else 2
    return f"[{scale * metric.ci_low:.{digits}f}, {scale * metric.ci_high:.{digits}f}]"
