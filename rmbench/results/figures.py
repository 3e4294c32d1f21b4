"""Every figure of a result, from outcomes and counts: an evaluation states what this gives, and a check compares it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from rmbench.calibration.fit import Calibrated, calibrate
from rmbench.metrics import doubt, scale
from rmbench.metrics.interval import Estimate, Statistic, cluster_codes, estimate
from rmbench.metrics.measure import Measure
from rmbench.metrics.views import Given
from rmbench.results.provenance import reason_of
from rmbench.results.schema import Bootstrap, Calibration, Definition, Metric, Scale
from rmbench.types import STATUSES, Array, Json, Outcome

RULE = "philox:1"  # how `rmbench.metrics.draws` makes draws and signs of a seed
DRAWS = 2000


class MeasuredTask(Protocol):
    """What figures need of a task that judges."""

    @property
    def measure(self) -> Measure: ...

    @property
    def positive(self) -> str | None: ...

    def primary_view(self, views: Sequence[str]) -> str: ...


@dataclass
class Counts:
    """What is counted of the requests of a task, and of the texts that they showed, an example after the other."""

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    noted: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    same_tokens: int = 0

    def add(self, given: Sequence[Given], texts: Sequence[str | None]) -> None:
        """Adds an example: what was given to its requests, and the hash of each candidate's text."""
        read: dict[str, str | None] = {}
        for _, candidates, reward in given:
            self.statuses[reward.status] += 1
            self.noted.update(reward.noted)
            self.truncated += reward.truncated > 0
            if reward.read and len(candidates) == 1:
                text = texts[candidates[0]]
                self.same_tokens += read.setdefault(reward.read, text) != text
            if reward.status != "ok":
                self.reasons.setdefault(reward.status, Counter())[reason_of(reward.detail)] += 1

    def fields(self) -> dict[str, Any]:
        """The fields of a result that they are."""
        return {
            "statuses": {status: self.statuses[status] for status in STATUSES if self.statuses[status]},
            "reasons": {
                status: dict(sorted(self.reasons[status].items())) for status in STATUSES if status in self.reasons
            },
            "noted": dict(sorted(self.noted.items())),
            "truncated": self.truncated,
            "same_tokens": self.same_tokens,
        }


@dataclass(frozen=True)
class Figures:
    """The fields of a result by name, and the probability of each candidate to be right, by outcome."""

    fields: Mapping[str, Any]
    probabilities: Sequence[Array] | None


def bootstrap(seed: int) -> Bootstrap:
    """How clusters are drawn, from `seed`."""
    return Bootstrap(rule=RULE, draws=DRAWS, seed=seed)


def figures(
    task: MeasuredTask,
    outcomes: Sequence[Outcome],
    drawn: Bootstrap,
    *,
    fitted: Mapping[str, Json] | None = None,
    calibration: Calibration | None = None,
) -> Figures:
    """What `outcomes` give by the measure of `task`, with intervals by `drawn`.

    With `fitted` (by view) and `calibration` the figures are those of the parameters in them, not of a fit made anew.
    """
    views = list(dict.fromkeys(view for outcome in outcomes for view in outcome.views))
    primary, measure = task.primary_view(views), task.measure
    calibrated = Calibrated(reason=measure.uncalibrated)
    if measure.uncalibrated is None:
        calibrated = calibrate(outcomes, primary, seed=drawn.seed, positive=task.positive, stated=calibration)
    firsts = _measured_as(measure, outcomes, views)
    made = {view: measure.fit(outcomes, view) for view in dict.fromkeys(firsts.values())}
    left_out = {view: measure.left_out(outcomes, view) for view in made}
    ties = {view: measure.ties(outcomes, view) for view in made}
    fits = {view: made[first] for view, first in firsts.items()}
    metrics, definitions = _metrics(measure, outcomes, firsts, fits | dict(fitted or {}), drawn)
    for view in views:
        of_doubt, said = _doubts(measure, outcomes, view, (fits | dict(fitted or {})).get(view), drawn)
        metrics, definitions = metrics + of_doubt, definitions | said
    described = scale.describe(outcomes, primary)
    measured = {
        "primary_view": primary,
        "fitted": {"measure": {view: fit for view, fit in fits.items() if fit is not None}},
        "statistics": definitions,
        "metrics": metrics,
        "left_out": {view: left_out[first] for view, first in firsts.items() if left_out[first]},
        "ties": {view: ties[first] for view, first in firsts.items()},
        "scale": None if described is None else Scale(**asdict(described)),
        "calibration": calibrated.report,
        "calibration_reason": calibrated.reason,
    }
    return Figures(measured, calibrated.probabilities)


def subsets_of(facets: Sequence[Mapping[str, str]]) -> dict[str, list[int]]:
    """`all` and every `facet=value`, with the places of the examples that are in it."""
    subsets: dict[str, list[int]] = {"all": list(range(len(facets)))}
    names = sorted({name for own in facets for name in own})
    for name in names:
        for place, own in enumerate(facets):
            if name in own:
                subsets.setdefault(f"{name}={own[name]}", []).append(place)
    return subsets


def metric(one: Estimate, view: str, subset: str, at: float | None = None) -> Metric:
    """An estimate as it stands in a result; null where there is no number."""
    value, low, high, p, clusters_effective, n_effective = (
        None if x is None or math.isnan(x) else float(x)
        for x in (one.value, one.ci_low, one.ci_high, one.p, one.clusters_effective, one.n_effective)
    )
    return Metric(
        name=one.name,
        kind=one.kind,
        view=view,
        subset=subset,
        value=value,
        ci_low=low,
        ci_high=high,
        n=one.n,
        clusters=one.clusters,
        clusters_effective=clusters_effective,
        n_effective=n_effective,
        p=p,
        at=at,
    )


def definition(statistic: Statistic) -> Definition:
    """What a statistic says of itself."""
    return Definition(
        title=statistic.title,
        unit=statistic.unit,
        better=statistic.better,
        bounds=statistic.bounds,
        caveat=statistic.caveat,
        kind=statistic.kind,
    )


def _measured_as(measure: Measure, outcomes: Sequence[Outcome], views: Sequence[str]) -> dict[str, str]:
    """Of each view the one that it is measured as: the first with the same steps, for a measure that reads them alone.

    All aggregators of a head share its steps, as the very same object.
    """
    if not getattr(measure, "steps_alone", False):
        return {view: view for view in views}
    firsts: dict[tuple[int | str, ...], str] = {}
    return {view: firsts.setdefault(tuple(_steps_of(outcome, view) for outcome in outcomes), view) for view in views}


def _steps_of(outcome: Outcome, view: str) -> int | str:
    """Which steps a view of an outcome has; a view that has none is like no other."""
    if view not in outcome.views:
        return ""
    steps = outcome.views[view].steps
    return view if steps is None else id(steps)


def _metrics(
    measure: Measure, outcomes: Sequence[Outcome], firsts: Mapping[str, str], fits: Mapping[str, Json], drawn: Bootstrap
) -> tuple[list[Metric], dict[str, Definition]]:
    """What each view of `firsts` gives, and what it says of itself; a view is measured as its first if fitted so."""
    of_view, definitions = dict[str, list[Metric]](), dict[str, Definition]()
    subsets = subsets_of([outcome.facets for outcome in outcomes])
    for view, first in firsts.items():
        if first != view and fits[first] == fits[view]:
            of_view[view] = [one.model_copy(update={"view": view}) for one in of_view[first]]
            continue
        of_view[view] = []
        for subset, places in subsets.items():
            part = outcomes if subset == "all" else [outcomes[place] for place in places]
            statistics = measure.statistics(part, view, fits[view])
            estimates = estimate(statistics, [outcome.cluster for outcome in part], draws=drawn.draws, seed=drawn.seed)
            for statistic, estimated in zip(statistics, estimates, strict=True):
                definitions.setdefault(statistic.name, definition(statistic))
                of_view[view].append(metric(estimated, view, subset, statistic.at))
    return [one for metrics in of_view.values() for one in metrics], definitions


def _doubts(
    measure: Measure, outcomes: Sequence[Outcome], view: str, fit: Json, drawn: Bootstrap
) -> tuple[list[Metric], dict[str, Definition]]:
    """What the spread of a view says of its errors, in the whole and in each subset; nothing without spread."""
    clusters = [outcome.cluster for outcome in outcomes]
    in_all = doubt.of_view(measure, outcomes, view, fit, cluster_codes(clusters))
    metrics, definitions = list[Metric](), dict[str, Definition]()
    if in_all is None:
        return metrics, definitions
    for subset, places in subsets_of([outcome.facets for outcome in outcomes]).items():
        codes = cluster_codes([clusters[place] for place in places])
        part = in_all if subset == "all" else in_all.of(places, codes)
        statistics = [*doubt.statistics(part), *(doubt.curves(part) if subset == "all" else ())]
        estimates = estimate(statistics, codes, draws=drawn.draws, seed=drawn.seed)
        for statistic, estimated in zip(statistics, estimates, strict=True):
            definitions.setdefault(statistic.name, definition(statistic))
            metrics.append(metric(estimated, view, subset, statistic.at))
    return metrics, definitions
