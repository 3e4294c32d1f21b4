"""The page of what optimising rewards does: one HTML file of an `OptimisationReport`, as `frame` makes pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rmbench.errors import ResultError
from rmbench.metrics.curve import Curve, Figure
from rmbench.metrics.gold_fits import Fit
from rmbench.optimise.report import Contrast, Entrant, Measured, OptimisationReport
from rmbench.report import frame
from rmbench.report import optimisation_charts as charts
from rmbench.report.charts import Spec
from rmbench.report.frame import Board, Plot

_LONGEST = 120  # characters of a name
_MOST = 1_000_000  # beyond so many samples an optimum is none
_TOLD = 0.05  # the p, after Holm, under which two rewards are told apart

_VERDICTS = {
    "turns over": "gold falls again before the largest n, and that is certain",
    "still rises": "gold is still rising at the largest n",
    "level": "gold neither rises nor falls by an amount that matters",
    "open": "the data cannot tell",
}
_FIGURES = {
    "gold_at_best": "gold at its best n",
    "gold_at_end": "gold at the largest n",
    "degree": "degree of over-optimisation",
    "optimum": "best n, in doublings",
}


@dataclass(frozen=True, slots=True)
class Key:
    """What a line or a point means: its `look` are classes, a colour and a shape, its `dash` that of the plots."""

    look: str
    words: str
    dash: Sequence[int] = ()


_RULER_WORDS = {"oracle": "an oracle", "majority": "a majority vote", "noisy": "an oracle whose judgements are noisy"}
_FORMS = {
    "best of n": "fit d (a - b d), as of best-of-n",
    "reinforcement learning": "fit d (a - b log d), as of reinforcement learning",
}
_RANDOM = Key("soft", "a random sample", charts.DASHES["random"])
_OVERVIEW_KEY = [
    Key("first dot", "gold at its best n"),
    Key("second square", "gold at the largest n"),
    _RANDOM,
    Key("soft", "an oracle at the largest n", charts.DASHES["oracle"]),
]


@dataclass(frozen=True, slots=True)
class Topic:
    """One question, a plot of each reward for it; `missing` says why there is none at all."""

    anchor: str
    title: str
    words: str
    key: Sequence[Key]
    plots: Sequence[Plot]
    missing: str


@dataclass(frozen=True, slots=True)
class Ruler:
    """What is got at some of the sizes, by no reward: figures beside the sizes of the page's table."""

    name: str
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Compared:
    """The contrasts in one figure, those that tell two rewards apart and those that do not."""

    figure: str
    told: Sequence[Contrast]
    open: Sequence[Contrast]


def write(report: OptimisationReport, path: Path) -> None:
    """Writes the page of a report to `path`.

    Raises ResultError where no reward was optimised, the page cannot be written, or the extra `site` is not installed.
    """
    if not report.entrants:
        raise ResultError(f"{path}: no reward to report on")
    specs: dict[str, Spec] = {}
    sizes = _some(report.sizes)
    words = {
        "report": report,
        "largest": max(report.sizes),
        "verdicts": _VERDICTS,
        "overview": _overview(report, specs),
        "overview_key": _OVERVIEW_KEY,
        "topics": _topics(report, specs),
        "rulers": _rulers(report, sizes),
        "ruler_sizes": sizes,
        "compared": _compared(report.contrasts),
        "told": _TOLD,
        "fitted": [one for one in report.entrants if one.fits],
        "extrapolated": any(fit.is_extrapolated for one in report.entrants for fit in one.fits),
        "useful": [one for one in report.entrants if one.useful],
    }
    filters: dict[str, Callable[..., object]] = {
        "figure": _figure,
        "whole": _whole,
        "number": _number,
        "p_value": lambda p: "-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}",
        "name": lambda name: name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…",
    }
    styles = ["page.css", "optimisation.css"]
    frame.keep(path, frame.render("optimisation.html.jinja", styles, specs, filters, words))


def _overview(report: OptimisationReport, specs: dict[str, Spec]) -> Plot:
    spec = charts.compared(report.entrants, report.random.value, report.oracle.value[-1])
    return Board("overview", report.task, specs).plot("Gold at its best n and at the largest", "", spec)


def _topics(report: OptimisationReport, specs: dict[str, Spec]) -> list[Topic]:
    """Every question of the page, first those of gold."""
    making = (_gold, _proxy, _distance, _sides, _coverage, _signs, _diversity)
    return [make(report, specs) for make in making]


def _gold(report: OptimisationReport, specs: dict[str, Spec]) -> Topic:
    rulers = _ruler_curves(report)
    shown = [one.gold for one in report.entrants] + [one.weighted_majority for one in report.entrants]
    ends = charts.ends_of([*charts.numbers_of(*shown, *rulers.values()), report.random.value])
    key = [
        Key("first band", "this reward, with its 95 % band"),
        Key("ink dot", "its best n; at the foot, the n that may be"),
    ]
    key += [Key("soft faint", "other rewards")] * (len(report.entrants) > 1)
    key += [Key("soft", _RULER_WORDS[name], charts.DASHES[name]) for name in rulers]
    key += [_RANDOM]
    if any(one.weighted_majority for one in report.entrants):
        key.append(Key("second", "a vote weighted by this reward", charts.DASHES["second"]))

    def spec(one: Entrant, others: Sequence[Entrant]) -> Spec:
        return charts.gold_over_n(one, others, rulers, report.random.value, ends)

    def caption(one: Entrant) -> str:
        return f"{one.verdict}; best n {_whole(one.best_n)}"

    words = "What the best of n by each reward is worth. The rulers are of the data alone."
    return _topic("gold", "Gold over n", words, key, report, specs, spec, caption)


def _proxy(report: OptimisationReport, specs: dict[str, Spec]) -> Topic:
    def spec(one: Entrant, others: Sequence[Entrant]) -> Spec | None:
        return charts.over_n(one.proxy, [], "proxy", "reward")

    def caption(one: Entrant) -> str:
        rise, largest = one.proxy_rise.value, max(report.sizes)
        if not math.isfinite(rise) or one.best_n.value == largest:
            return ""
        lost = _number(one.degree.value)
        return f"from the best n to {largest} it rises by {rise:.2f} SD within prompts, gold falls by {lost}"

    words = "What each reward says of what it chose, in its own units: it rises with n whatever gold does."
    missing = "a reward of its samples is infinite"
    return _topic("proxy", "The reward itself over n", words, [], report, specs, spec, caption, missing)


def _distance(report: OptimisationReport, specs: dict[str, Spec]) -> Topic:
    of = {one.title: _measured_of(one, report.measured) for one in report.entrants}
    shown = [curve for one in report.entrants for curve in (one.gold, one.tilted)]
    ends = charts.ends_of([
        *charts.numbers_of(*shown), report.random.value,
        *(x for policies in of.values() for one in policies for x in (one.gold.value, one.gold.low, one.gold.high)),
    ])  # fmt: skip
    key = [Key("first band", "best of n"), _RANDOM]
    if any(one.tilted.value for one in report.entrants):
        key.append(Key("second", "the tilted policy, the best for the reward at each KL", charts.DASHES["second"]))
    forms = dict.fromkeys(fit.form for one in report.entrants for fit in one.fits)
    key += [Key("ink", _FORMS[form], charts.DASHES[form]) for form in forms]
    key += [Key("third diamond", "measured policies, by method")] * any(of.values())

    def spec(one: Entrant, others: Sequence[Entrant]) -> Spec:
        return charts.gold_over_kl(one, of[one.title], report.random.value, ends)

    def caption(one: Entrant) -> str:
        said = dict.fromkeys(_course(fit, one.gold.kl[-1]) for fit in one.fits)
        return f"fitted: {', or '.join(said).replace('or highest at', 'or')}" if said else ""

    words = "Gold against how far what is chosen is from the policy, in nats, along d, the root of the KL."
    if forms:
        words += (
            " Fits begin at a random sample and go as far as the axes: beyond the largest n they are extrapolations."
        )
    return _topic("kl", "Gold over KL", words, key, report, specs, spec, caption)


def _sides(report: OptimisationReport, specs: dict[str, Spec]) -> Topic:
    def spec(one: Entrant, others: Sequence[Entrant]) -> Spec | None:
        if one.poor_wins is None or one.good_loses is None:
            return None
        return charts.both_sides(one.poor_wins, one.good_loses, report.good_loses_by_chance)

    good = f" (good: {report.good})" if report.good else ""
    words = (
        f"Over prompts that have good and poor samples{good}: how often the best of n is poor (type I), and how often "
        "a good one among n has a poor one rated above it (type II)."
    )
    missing = "no prompt has both good and poor samples"
    key = [Key("first band", "good ones lose"), Key("second band", "poor ones win", charts.DASHES["second"])]
    key += [Key("soft", "good ones lose by chance", charts.DASHES["random"])] * (
        report.good_loses_by_chance is not None
    )
    return _topic("winners", "The winner's curse", words, key, report, specs, spec, lambda one: "", missing)


def _coverage(report: OptimisationReport, specs: dict[str, Spec]) -> Topic:
    def spec(one: Entrant, others: Sequence[Entrant]) -> Spec | None:
        return charts.by_coverage(one.by_coverage) if one.by_coverage else None

    words = f"The same at n = {max(report.sizes)}, by how many of a prompt's samples are good."
    missing = "no prompt has both good and poor samples"
    key = [Key("first dot", "good ones lose"), Key("second square", "poor ones win")]
    return _topic("coverage", "By how many are good", words, key, report, specs, spec, lambda one: "", missing)


def _signs(report: OptimisationReport, specs: dict[str, Spec]) -> Topic:
    shown = [figure for one in report.entrants for row in one.sign_flips for figure in (row.by_noise, row.against_gold)]
    _, most = charts.ends_of([x for figure in shown for x in (figure.value, figure.high)])

    def spec(one: Entrant, others: Sequence[Entrant]) -> Spec | None:
        return charts.sign_flips(one.sign_flips, (0.0, max(0.5, most)))

    def caption(one: Entrant) -> str:
        noisy = any(_is_known(row.by_noise) for row in one.sign_flips)
        return "" if noisy or not one.sign_flips else "no spread: its own noise is not known"

    key = []
    if any(_is_known(row.by_noise) for one in report.entrants for row in one.sign_flips):
        key = [Key("first dot", "turned by its own noise, over the mean"), Key("first triangle", "over the median")]
    key += [Key("second dot", "not the sign of gold, over the mean"), Key("second triangle", "over the median")]
    words = "Group-relative training: shares of samples whose advantage over their group has the wrong sign."
    missing = "a reward is infinite, or no prompt has two samples"
    return _topic("signs", "Signs of advantages", words, key, report, specs, spec, caption, missing)


def _diversity(report: OptimisationReport, specs: dict[str, Spec]) -> Topic:
    curves = [one.distinct for one in report.entrants if one.distinct]
    most = max([x for curve in curves for x in curve.value if math.isfinite(x)], default=1.0)
    bands = [x for x in charts.numbers_of(*curves) if x <= 1.5 * most]  # an upper end may be anywhere
    ends = charts.ends_of([1.0, *bands])

    def spec(one: Entrant, others: Sequence[Entrant]) -> Spec | None:
        with_any = [other for other in others if other.distinct]
        return charts.over_n(one.distinct, with_any, "distinct", "responses", ends) if one.distinct else None

    words = (
        "The effective number of different responses chosen; at n = 1 it is the policy's own. From N samples it is "
        "known up to n = N / 2."
    )
    key = [Key("first band", "this reward"), *([Key("soft faint", "other rewards")] * (len(report.entrants) > 1))]
    missing = "no two samples have one answer or text, or none is known"
    return _topic("diversity", "How diverse choices are", words, key, report, specs, spec, lambda one: "", missing)


def _topic(
    anchor: str,
    title: str,
    words: str,
    key: Sequence[Key],
    report: OptimisationReport,
    specs: dict[str, Spec],
    spec: Callable[[Entrant, Sequence[Entrant]], Spec | None],
    caption: Callable[[Entrant], str],
    missing: str = "",
) -> Topic:
    plots = []
    for number, one in enumerate(report.entrants, 1):
        others = [other for other in report.entrants if other is not one]
        board = Board(f"{anchor}-{number}", title, specs)
        plots.append(board.plot(one.title, caption(one), spec(one, others), missing))
    return Topic(anchor, title, words, key, plots, "" if any(plot.key for plot in plots) else missing)


def _ruler_curves(report: OptimisationReport) -> dict[str, Curve]:
    known = {"oracle": report.oracle, "majority": report.majority, "noisy": report.noisy_oracle}
    return {name: curve for name, curve in known.items() if curve is not None}


def _rulers(report: OptimisationReport, sizes: Sequence[int]) -> list[Ruler]:
    curves = {
        "oracle": report.oracle,
        f"oracle, noise {report.label_noise:g}": report.noisy_oracle,
        "pass@n": report.pass_at,
        "majority": report.majority,
    }
    return [Ruler(name, _at(curve, sizes)) for name, curve in curves.items() if curve is not None]


def _at(curve: Curve, sizes: Sequence[int]) -> list[Figure]:
    rows = zip(curve.value, curve.low, curve.high, strict=True)
    figures = {int(at): Figure(*row) for at, row in zip(curve.at, rows, strict=True)}
    return [figures.get(n, Figure(math.nan)) for n in sizes]


def _some(sizes: Sequence[int]) -> list[int]:
    """The doublings among sizes, and the largest."""
    return [n for n in sizes if n & (n - 1) == 0 or n == max(sizes)]


def _measured_of(entrant: Entrant, policies: Sequence[Measured]) -> list[Measured]:
    return [policy for policy in policies if policy.reward in (entrant.name, entrant.title)]


def _compared(contrasts: Sequence[Contrast]) -> list[Compared]:
    tables = []
    for figure, words in _FIGURES.items():
        rows = sorted((one for one in contrasts if one.figure == figure), key=lambda one: (one.p_holm, one.p))
        if rows:
            told = [one for one in rows if one.p_holm < _TOLD]
            tables.append(Compared(words, told, [one for one in rows if one not in told]))
    return tables


def _is_known(figure: Figure) -> bool:
    return math.isfinite(figure.value)


def _course(fit: Fit, seen: float) -> str:
    """What gold does along a fit, which was seen up to a KL."""
    if math.isfinite(fit.optimum_n.value):
        n = fit.optimum_n.value
        if n >= _MOST:
            return f"highest beyond n = {_MOST:,}"
        return f"highest at n = {_whole_number(n)}{' (extrapolated)' if fit.is_extrapolated else ''}"
    return "rising throughout" if charts.fitted(fit, math.sqrt(seen)) > fit.start else "falling from the first"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return (f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}").replace("-0.000", "0.000")


def _figure(figure: Figure) -> str:
    """A figure and its interval."""
    if math.isnan(figure.low) and math.isnan(figure.high):
        return _number(figure.value)
    return f"{_number(figure.value)} [{_number(figure.low)}, {_number(figure.high)}]"


def _whole_number(value: float) -> str:
    if math.isinf(value) or math.isnan(value):
        return _number(value)
    return f"{value:,.0f}" if value < _MOST else f"> {_MOST:,}"


def _whole(figure: Figure) -> str:
    """A number of samples and its interval."""
    if math.isnan(figure.low) and math.isnan(figure.high):
        return _whole_number(figure.value)
    return f"{_whole_number(figure.value)} [{_whole_number(figure.low)}, {_whole_number(figure.high)}]"
