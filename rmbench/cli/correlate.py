"""`rmbench correlate`: do metrics of reward models predict the policies made with them?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli import debug_option
from rmbench.metrics.association import MINIMUM

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rmbench.correlate.report import CorrelationReport, Downstream, Pair

_RESULTS = Path("leaderboards/results")
_WIDE = 130  # narrower, an interval stands below its number, so that it stays whole
_NAMED = 8  # of many names
_MANY = 6  # downstream figures from which on each has one line, unless it is asked for by name
_CAPTION = (
    "r: Pearson over models, [ ] its 95 % interval for figures as noisy as these. p: two-sided permutation test of r; "
    "Holm: adjusted for every p shown. rho: Spearman. tau: Kendall's tau-b. D: Somers' D over the pairs of models that "
    "the downstream figure tells apart, then over those that the metric does. fit: the form that AICc takes, mean "
    "where none is told from it; {other}. off: the error of models left out by that form, over the error by their "
    "mean. Of a rank, [ ] is what tests between all metrics, after Holm, leave open."
)
_OTHER = ("a * where another foretells models left out better", "after / the one that foretells models left out best")
_BRIEFLY = (
    "its best metric: the one, of so many, with the largest r. n: models in common. r: Pearson over models, [ ] its "
    "95 % interval for figures as noisy as these. Holm: its p by permutation, adjusted for every pair, also of metrics "
    "that are not shown."
)
_LOWER = "v: less is better, so the rank is that of -r."


@click.command()
@click.option(
    "--metrics", multiple=True, metavar="CSV", type=click.Path(path_type=Path),
    help="Figures of reward models, in place of those that come with rmbench (repeatable).",
)  # fmt: skip
@click.option(
    "--policy-results", multiple=True, metavar="CSV", type=click.Path(path_type=Path),
    help="Figures of policies made with them, in place of those that come with rmbench (repeatable).",
)  # fmt: skip
@click.option(
    "--results", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False),
    help="Results of rmbench's own, whose metrics are added.  [default: ./leaderboards/results if it is there]",
)  # fmt: skip
@click.option(
    "--aliases", metavar="TOML", type=click.Path(path_type=Path),
    help='Other names of a model, added to those that come with rmbench: "name" = ["other", ...].',
)  # fmt: skip
@click.option("--downstream", multiple=True, metavar="BENCHMARK", help="Only this one (repeatable).")
@click.option(
    "--at-least", type=click.IntRange(min=4), default=MINIMUM, show_default=True,
    help="Common models from which on there is a number; of few, figures that have nothing in common correlate.",
)  # fmt: skip
@click.option(
    "--mismatch", "benchmark", metavar="TASK",
    help="In place of policy results: what TASK ranks, against what selection by the same rewards ranks on the other "
    "tasks of --results, slice by slice.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of what is drawn.")
@click.option("--json", "as_json", is_flag=True, help="Print every pair as JSON and nothing else.")
@click.option(
    "--plots", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
    help="Write a scatter plot of every pair into DIR.",
)  # fmt: skip
@debug_option
def command(
    metrics: tuple[Path, ...],
    policy_results: tuple[Path, ...],
    results: Path | None,
    aliases: Path | None,
    downstream: tuple[str, ...],
    at_least: int,
    benchmark: str | None,
    seed: int,
    as_json: bool,
    plots: Path | None,
) -> None:
    """Correlate metrics of reward models with what was measured on policies made with them.

    Models are matched by name, letter by letter. Tables have the columns rm, benchmark, metric, value, low, high, n,
    source; those of policies also policy and method. low and high, the ends of a 95 % interval, and n may be empty. A
    column unit (fraction or percent) says which figures are shares.
    """
    from rmbench.correlate import tables
    from rmbench.correlate.plots import draw
    from rmbench.correlate.report import correlate

    folder = results or (_RESULTS if _RESULTS.is_dir() else None)
    if benchmark is not None:
        given = {"--metrics": metrics, "--policy-results": policy_results, "--downstream": downstream, "--plots": plots}
        if refused := [name for name, value in given.items() if value]:
            raise click.UsageError(f"{', '.join(refused)}: of policy results, which --mismatch does without")
        _tell_mismatch(benchmark, folder, aliases, at_least=at_least, seed=seed, as_json=as_json)
        return
    measured = [row for path in metrics for row in tables.read_table(path, "metrics")] or tables.shipped("metrics")
    policies = [row for path in policy_results for row in tables.read_table(path, "policy results")]
    own, unanswered = tables.read_results(folder) if folder else ([], [])
    report = correlate(
        measured + own,
        policies or tables.shipped("policy results"),
        tables.read_aliases(aliases),
        downstream=downstream,
        at_least=at_least,
        seed=seed,
    )
    if as_json:
        click.echo(report.json())
    else:
        _print(report, is_chosen=bool(downstream))
    for name in unanswered:
        click.echo(f"rmbench: {name} is left out: examples are unanswered", err=True)
    if plots:
        click.echo(f"rmbench: {len(draw(report, plots)):,} plots in {plots}", err=True)


def _tell_mismatch(
    task: str, folder: Path | None, aliases: Path | None, *, at_least: int, seed: int, as_json: bool
) -> None:
    """What the task ranks against what selection ranks, of the results in `folder`."""
    from rmbench.cli._console import terminal
    from rmbench.cli._mismatch import print_mismatch
    from rmbench.cli._tasks import finder
    from rmbench.correlate.mismatch import mismatch
    from rmbench.correlate.tables import read_aliases
    from rmbench.results import collection

    paths = [folder or _RESULTS]
    found = [collection.read_checked(path) for path in collection.result_files(paths)]
    if not found:
        raise collection.nothing_in(paths)
    (name,), find = finder([task])
    report = mismatch(found, name, find, read_aliases(aliases), at_least=at_least, seed=seed)
    if as_json:
        click.echo(report.json())
    else:
        print_mismatch(report, terminal(140))


def _print(report: CorrelationReport, *, is_chosen: bool) -> None:
    """For each downstream figure its table, best predictor first, and why the rest has no number.

    Where not asked for by name, downstream figures without a number are a line together, and many have a line each.
    """
    from rmbench.cli._console import terminal
    from rmbench.cli._report import plain, print_note

    console = terminal(140)
    numbered = [downstream for downstream in report.downstream if downstream.pairs and downstream.pairs[0].rank]
    brief = not is_chosen and len(numbered) > _MANY
    if brief:
        _print_overview(console, numbered, report)
    for downstream in [] if brief else report.downstream if is_chosen or not numbered else numbered:
        how = f"{downstream.models} models; {downstream.method}, policy {downstream.policy}; {downstream.source}"
        console.print(f"[bold]{plain(downstream.name)}[/]  {plain(how)}", highlight=False)
        if shown := [pair for pair in downstream.pairs if pair.rank]:
            console.print(_table(shown, wide=console.width >= _WIDE))
        if counts := sorted({pair.n for pair in downstream.pairs if pair.fit}):
            print_note(console, _told_by(counts))
        _print_reasons(console, downstream)
        console.print()
    if numbered and not is_chosen and len(numbered) < len(report.downstream):
        print_note(console, _without(report, 2 if brief else _NAMED), indent="")
    for name, other in report.near.items():
        console.print(plain(f"{name!r} has no policy result; is it {other!r}? --aliases would say so"), highlight=False)
    lower = any(pair.lower_is_better and pair.rank for pair in report.pairs)
    if brief:
        print_note(console, _BRIEFLY, indent="")
        return
    caption = _CAPTION.format(other=_OTHER[console.width >= _WIDE])
    print_note(console, f"{caption} {_LOWER if lower else ''}", indent="")


def _print_overview(console: Console, numbered: Sequence[Downstream], report: CorrelationReport) -> None:
    """A line for each downstream figure: the metric that goes with it most."""
    from rich import box
    from rich.table import Table

    from rmbench.cli._report import plain, print_note

    wide = console.width >= _WIDE
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if wide else 0))
    longest = max(len(word) for downstream in numbered for word in downstream.name.split())
    table.add_column("policies' figure", overflow="fold", min_width=min(longest, console.width // 2))
    table.add_column("its best metric", overflow="fold")
    for heading in ("of", "n", "r", "Holm"):
        table.add_column(heading, justify="right", no_wrap=True)
    for downstream in numbered:
        best, among = downstream.pairs[0], sum(pair.rank is not None for pair in downstream.pairs)
        metric = f"{best.metric}{' v' if best.lower_is_better else ''}"
        ends = [] if best.ci_low is None else [f"\\[{best.ci_low:.2f}, {best.ci_high:.2f}]"]
        r = (" " if wide else "\n").join([f"{best.pearson:.3f}", *ends])
        table.add_row(plain(downstream.name), plain(metric), str(among), str(best.n), r, _p(best.p_holm))
    console.print(table)
    name = report.policies[numbered[0].name].benchmark
    said = f"--downstream BENCHMARK, such as {name!r}, shows every metric of one and its fits, --json every pair"
    print_note(console, said, indent="")


def _told_by(counts: Sequence[int]) -> str:
    """How little so many models can tell of a form."""
    from rmbench.metrics.fits import line_from, parabola_from

    lines = [f"{line_from(n):.2f} of {n} models" for n in counts if n > 4]
    parabolas = [f"{100 * parabola_from(n):.2g} % of {n}" for n in counts if n > 5]
    of_lines = f"told from the mean: a line from |r| = {', '.join(lines)}" if lines else "of so few models: no form"
    of_parabolas = f"a parabola where it leaves at most {', '.join(parabolas)} of a line's squares"
    return f"{of_lines}; {of_parabolas if parabolas else 'a parabola never'}"


def _without(report: CorrelationReport, named: int) -> str:
    """The downstream figures that no metric has enough models in common with."""
    names: dict[str, list[str]] = {}
    for downstream in report.downstream:
        if not (downstream.pairs and downstream.pairs[0].rank):
            most = max((pair.n for pair in downstream.pairs), default=0)
            names.setdefault(f"{most} of {downstream.models} models in common", []).append(downstream.name)
    told = "; ".join(f"{_some(given, named)} ({why})" for why, given in names.items())
    return f"no metric has models enough for: {told}. --downstream shows one"


def _table(pairs: Sequence[Pair], *, wide: bool) -> Table:
    from rmbench.cli._cells import light_table
    from rmbench.cli._report import plain

    table = light_table(wide=wide)
    table.add_column("rank", no_wrap=True)
    table.add_column("metric", overflow="fold")
    headings = ("n", "r", "r2", "rho", "tau", "D", "p", "Holm", "fit", "off")
    for heading in headings if wide else ("n", "r", "r2", "rho\ntau", "D", "p\nHolm", "fit\noff"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in pairs:
        table.add_row(*_cells(pair, plain(pair.metric), wide=wide))
    return table


def _cells(pair: Pair, name: str, *, wide: bool) -> list[str]:
    """A row; without room, what belongs together stands below each other."""
    if pair.pearson is None:
        return ["-", name, str(pair.n), *["-"] * (9 if wide else 6)]
    space = " " if wide else "\n"
    interval = "" if pair.ci_low is None else f"{space}\\[{pair.ci_low:.2f}, {pair.ci_high:.2f}]"
    together = [
        [f"{pair.spearman:.2f}", f"{pair.kendall:.2f}"],
        [f"{pair.somers_d:.2f}{space}{pair.somers_d_of_metric:.2f}"],
        [_p(pair.p), _p(pair.p_holm)],
        [_form(pair, wide=wide), "-" if pair.foretold is None else f"{pair.foretold:.2f}"],
    ]
    return [
        f"{pair.rank}{space}\\[{pair.rank_low}, {pair.rank_high}]",
        f"{name}{' v' if pair.lower_is_better else ''}",
        str(pair.n),
        f"{pair.pearson:.3f}{interval}",
        f"{pair.r_squared:.2f}",
        *(itertools.chain(*together) if wide else map("\n".join, together)),
    ]


def _form(pair: Pair, *, wide: bool) -> str:
    if pair.fit is None:
        return "-"
    taken, foretells = pair.fit.by_aicc, pair.fit.by_left_out
    if taken == foretells:
        return taken
    return f"{taken}/{foretells}" if wide else f"{taken}*"


def _print_reasons(console: Console, downstream: Downstream) -> None:
    from rmbench.cli._report import print_note

    without: dict[str, list[str]] = {}
    for pair in downstream.pairs:
        if pair.reason and pair.n:
            without.setdefault(pair.reason, []).append(pair.metric)
    for reason, metrics in without.items():
        print_note(console, f"-: {reason}: {_some(metrics)}")
    apart = sum(pair.n == 0 for pair in downstream.pairs)
    if apart:
        console.print(f"  not shown, because no model is in both: metrics {apart:,}", highlight=False)


def _some(names: Sequence[str], most: int = _NAMED) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _p(p: float | None) -> str:
    if p is None:
        return "-"
    if p < 0.0001:
        return "<.0001"
    return f"{p:.4f}" if p < 0.01 else f"{p:.2f}"
