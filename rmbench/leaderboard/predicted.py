"""What a figure here says of the policies that would be trained on a reward: a line through those that were.

The policies' figures are those of `leaderboards/policy_results`; a model is in both where its name is the same, aliases
counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rmbench.correlate.tables import read_aliases, series, shipped
from rmbench.metrics.interval import LEVEL
from rmbench.results.schema import Figure
from rmbench.types import Array

LEAST = 6  # models in both; below, a line says nothing


def predict(figures: Sequence[tuple[str, float | None]], benchmark: str) -> list[Figure | None]:
    """The figure on `benchmark` that least squares predicts for each (model, figure here), as policies go.

    With a 95 % prediction interval, Student's with n - 2 degrees of freedom; None without a figure, and for all of them
    where fewer than 6 models are known in both or those have the same figure. Several figures of one model, as of its
    revisions, count once, as their mean.
    """
    measured, aliases = _measured(benchmark)
    by_model: dict[str, list[float]] = {}
    for model, value in figures:
        name = aliases.get(model, model)
        if value is not None and name in measured:
            by_model.setdefault(name, []).append(value)
    x, y = np.array([(np.mean(values), measured[name]) for name, values in by_model.items()], float).reshape(-1, 2).T
    if len(x) < LEAST or np.ptp(x) == 0:
        return [None] * len(figures)
    return [None if value is None else _at(value, x, y) for _, value in figures]


def _at(value: float, x: Array, y: Array) -> Figure:
    from scipy.special import stdtrit

    n, centred = len(x), x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    left = y - y.mean() - slope * centred
    spread = float(np.sqrt(left @ left / (n - 2) * (1 + 1 / n + (value - x.mean()) ** 2 / (centred @ centred))))
    predicted = float(y.mean() + slope * (value - x.mean()))
    half = float(stdtrit(n - 2, 0.5 + LEVEL / 2)) * spread
    return Figure(name="predicted", value=predicted, ci_low=predicted - half, ci_high=predicted + half, n=n, clusters=n)


def _measured(benchmark: str) -> tuple[Mapping[str, float], Mapping[str, str]]:
    aliases = read_aliases()
    arena = next(column for column in series(shipped("policy results"), aliases) if column.benchmark == benchmark)
    return {name: reported.value for name, reported in arena.figures.items()}, aliases
