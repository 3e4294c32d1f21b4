"""The numbers of `rmbench correlate`: every metric against every downstream figure, over the models that have both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rmbench.correlate.tables import Reported, Series, near_matches, series
from rmbench.errors import DataError, UsageError
from rmbench.metrics import association
from rmbench.metrics.association import MINIMUM
from rmbench.metrics.fits import Choice, choose
from rmbench.metrics.paired import Rank, holm
from rmbench.results.document import as_json
from rmbench.types import Array


@dataclass(frozen=True)
class Pair:
    """A metric against a downstream figure over `n` models; None where there is no number, and then `reason` says why.

    `pearson` has the ends `ci_low` and `ci_high` of its 95 % interval and the `p` of its permutation test, `p_holm`
    adjusted for every pair of the report; `spearman` has ends of its own. `somers_d` is over the models that the
    downstream figure tells apart, `somers_d_of_metric` over those that the metric does. `fit` has the forms of the
    downstream figure on the metric. `rank` is among the metrics of a downstream figure.
    """

    metric: str
    downstream: str
    n: int
    pearson: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    r_squared: float | None = None
    spearman: float | None = None
    spearman_low: float | None = None
    spearman_high: float | None = None
    kendall: float | None = None
    somers_d: float | None = None
    somers_d_of_metric: float | None = None
    p: float | None = None
    p_holm: float | None = None
    fit: Choice | None = None
    rank: int | None = None
    rank_low: int | None = None
    rank_high: int | None = None
    lower_is_better: bool = False
    reason: str | None = None
    models: Sequence[str] = ()
    metric_source: str = ""
    downstream_source: str = ""

    @property
    def foretold(self) -> float | None:
        """The error of models left out by the form that AICc takes, over that of their mean: 1 foretells nothing."""
        if self.fit is None:
            return None
        return self.fit.of(self.fit.by_aicc).left_out_error / self.fit.of("mean").left_out_error


@dataclass(frozen=True)
class Downstream:
    """What was measured on policies, and every metric against it: the best predictor first, no number last."""

    name: str
    policy: str
    method: str
    models: int
    source: str
    pairs: Sequence[Pair]


@dataclass(frozen=True)
class CorrelationReport:
    """All that was found. `near` has, for names without a policy result, the name that may be the same model.

    `metrics` and `policies` are what the pairs were made of, by name.
    """

    downstream: Sequence[Downstream]
    near: Mapping[str, str]
    metrics: Mapping[str, Series]
    policies: Mapping[str, Series]

    @property
    def pairs(self) -> list[Pair]:
        """Every pair, in the order shown."""
        return [pair for against in self.downstream for pair in against.pairs]

    def json(self) -> str:
        """A JSON list of the pairs; null where there is no number."""
        return as_json(self.pairs)


def correlate(
    metrics: Sequence[Reported],
    policy_results: Sequence[Reported],
    aliases: Mapping[str, str],
    *,
    downstream: Sequence[str] = (),
    at_least: int = MINIMUM,
    seed: int = 0,
) -> CorrelationReport:
    """Each metric against each downstream figure, or those of the benchmarks named by `downstream`.

    Of fewer common models than `at_least`, 4 or more, there is no number. Raises UsageError where there is no such
    benchmark, DataError where no model has a metric and a policy result.
    """
    measured, policies = series(metrics, aliases), _chosen(series(policy_results, aliases), downstream)
    models = list(dict.fromkeys(rm for policy in policies for rm in policy.figures))
    names = list(dict.fromkeys(rm for metric in measured for rm in metric.figures))
    near = near_matches(names, models)
    if not set(names) & set(models):
        raise DataError(_nothing_shared(names, models, near))
    against = [_against(policy, measured, at_least, seed) for policy in policies]
    return CorrelationReport(
        _adjusted(against), near, {m.name: m for m in measured}, {policy.name: policy for policy in policies}
    )


def _chosen(policies: Sequence[Series], downstream: Sequence[str]) -> list[Series]:
    names = list(dict.fromkeys(policy.benchmark for policy in policies))
    for name in downstream:
        if name not in names:
            raise UsageError(f"no policy results on {name!r}; there are {', '.join(names)}")
    return [policy for policy in policies if not downstream or policy.benchmark in downstream]


def _nothing_shared(names: Sequence[str], models: Sequence[str], near: Mapping[str, str]) -> str:
    if near:
        likely = ", ".join(f"{name!r} may be {other!r}" for name, other in list(near.items())[:5])
        return f"no model has both a metric and a policy result: {likely}; give --aliases FILE with a line for each"
    return (
        f"no model has both a metric and a policy result; metrics are of {_some(names)}, policy results of "
        f"{_some(models)}; --aliases FILE says which names are one model"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "") or "no model"


def _against(policy: Series, metrics: Sequence[Series], at_least: int, seed: int) -> Downstream:
    """Every metric against one downstream figure, ranked."""
    pairs = [_pair(metric, policy, at_least, seed) for metric in metrics]
    numbered = [(pair, metric) for pair, metric in zip(pairs, metrics, strict=True) if pair.pearson is not None]
    ranked = [
        replace(pair, rank=rank.rank, rank_low=rank.low, rank_high=rank.high)
        for (pair, _), rank in zip(numbered, _ranks([metric for _, metric in numbered], policy), strict=True)
    ]
    ranked.sort(key=lambda pair: pair.rank or 0)
    dashes = sorted((pair for pair in pairs if pair.pearson is None), key=lambda pair: -pair.n)
    return Downstream(policy.name, policy.policy, policy.method, len(policy.figures), policy.source, [*ranked, *dashes])


def _pair(metric: Series, policy: Series, at_least: int, seed: int) -> Pair:
    models = [rm for rm in policy.figures if rm in metric.figures]
    pair = Pair(
        metric.name, policy.name, len(models), lower_is_better=metric.lower_is_better, models=models,
        metric_source=metric.source, downstream_source=policy.source,
    )  # fmt: skip
    if len(models) < at_least:
        return replace(
            pair, reason=f"{len(models)} common model{'' if len(models) == 1 else 's'}, expected {at_least} or more"
        )
    x, x_error = _values(metric, models)
    y, y_error = _values(policy, models)
    r = association.pearson(x, y)
    if np.isnan(r):
        which = metric.name if np.ptp(x) == 0 else policy.name
        return replace(pair, reason=f"{which} is the same for all {len(models)} common models")
    low, high = association.correlation_interval(x, y, x_error, y_error, seed=seed)
    ranked_low, ranked_high = association.rank_interval(x, y, x_error, y_error, seed=seed)
    return replace(
        pair,
        pearson=r,
        ci_low=_known(low),
        ci_high=_known(high),
        r_squared=r * r,
        spearman=association.spearman(x, y),
        spearman_low=_known(ranked_low),
        spearman_high=_known(ranked_high),
        kendall=association.kendall(x, y),
        somers_d=association.somers_d(y, x),
        somers_d_of_metric=association.somers_d(x, y),
        p=association.permutation_p(x, y, seed=seed),
        fit=choose(x, y, metric.share(models), policy.share(models)),
    )


def _ranks(metrics: Sequence[Series], policy: Series) -> list[Rank]:
    """Ranks by r, of -r where a lower figure is the better one."""
    rms = list(policy.figures)
    y, y_error = _values(policy, rms)
    columns = [_values(metric, rms) for metric in metrics]
    signs = [-1.0 if metric.lower_is_better else 1.0 for metric in metrics]
    predictors = [sign * x for sign, (x, _) in zip(signs, columns, strict=True)]
    return association.predictive_ranks(predictors, [error for _, error in columns], y, y_error)


def _values(measured: Series, models: Sequence[str]) -> tuple[Array, Array]:
    """Figures [n] and their standard errors [n], nan for a model without one."""
    figures = [measured.figures.get(rm) for rm in models]
    pairs = [(np.nan, np.nan) if figure is None else (figure.value, figure.error) for figure in figures]
    values, errors = np.array(pairs, float).T
    return values, errors


def _adjusted(downstream: Sequence[Downstream]) -> list[Downstream]:
    """The same, with Holm's adjustment of p over every pair that has one."""
    tested = [(id(pair), pair.p) for pairs in downstream for pair in pairs.pairs if pair.p is not None]
    adjusted = dict(zip((place for place, _ in tested), holm([p for _, p in tested]), strict=True))
    return [
        replace(pairs, pairs=[replace(pair, p_holm=adjusted.get(id(pair))) for pair in pairs.pairs])
        for pairs in downstream
    ]


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number
