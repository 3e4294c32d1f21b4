"""Two forms of how gold goes with optimisation, d(a - b d) and d(a - b log d), where d is the square root of the KL.

They are those that Gao, Schulman and Hilton (Scaling laws for reward model overoptimization, 2022) found for best-of-n
and for reinforcement learning. Gold is counted from that of the policy itself.

Intervals are of what the form says, and gold need not follow either. Of gold with t noise of 2 degrees of freedom,
which peaks at n = 12 (200 simulated pools of 500 prompts x 64), the interval of the optimum n has that n in 68 %, that
of the peak the true one in 67 % of the first form and 16 % of the second; `overoptimisation.turn_over` needs no form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rmbench.metrics.best_of import kl
from rmbench.metrics.curve import Figure
from rmbench.metrics.interval import LEVEL
from rmbench.types import Array

Form = Literal["best of n", "reinforcement learning"]  # d (a - b d) and d (a - b log d), d = sqrt(KL)
FORMS: tuple[Form, Form] = ("best of n", "reinforcement learning")

_FARTHEST = 1e6  # an optimum beyond this is none


@dataclass(frozen=True)
class Fit:
    """gold(d) = start + d (a - b d), or start + d (a - b log d), fitted to the curve of best-of-n.

    `optimum_kl` is where it is highest and `optimum_n` the n of best-of-n there, inf where it never turns over; 0 and 1
    where it falls as far as was seen, and would only rise again beyond. `is_extrapolated` where the optimum is beyond
    the largest n that was seen. `error` is the root mean square of what is left.
    """

    form: Form
    start: float
    a: Figure
    b: Figure
    optimum_kl: Figure
    optimum_n: Figure
    peak: Figure
    is_extrapolated: bool
    error: float


def fit(form: Form, sizes: Sequence[int], gold: Array, drawn: Array, clusters: int) -> Fit:
    """A form fitted to gold [m] of best-of-n at `sizes` [m], the first of them 1, whose gold is the start.

    Given the start, a and b are linear: least squares over the points. Intervals are the expanded percentiles of the
    same fit to `drawn` [draws, m], the curve with `clusters` clusters drawn anew; they are as good as the form.
    """
    distance = np.sqrt(kl(sizes))
    terms = _terms(form, distance[1:])
    solve = np.linalg.pinv(terms)
    above, drawn_above = gold[1:] - gold[0], drawn[:, 1:] - drawn[:, :1]
    a, b = solve @ above
    drawn_a, drawn_b = (drawn_above @ solve.T).T
    last = float(distance[-1])
    optimum, drawn_optimum = _optimum(form, a, b, last), _optimum(form, drawn_a, drawn_b, last)
    peak, drawn_peak = (
        start + _height(form, *ab, where)
        for start, ab, where in ((gold[0], (a, b), optimum), (drawn[:, 0], (drawn_a, drawn_b), drawn_optimum))
    )
    divergence, drawn_divergence = (
        np.where(where > _FARTHEST, np.inf, where) ** 2 for where in (optimum, drawn_optimum)
    )
    return Fit(
        form,
        float(gold[0]),
        _figure(a, drawn_a, clusters),
        _figure(b, drawn_b, clusters),
        _figure(divergence, drawn_divergence, clusters),
        _figure(size_at(divergence), size_at(drawn_divergence), clusters),
        _figure(peak, drawn_peak, clusters),
        bool(optimum > distance[-1]),
        float(np.sqrt(np.mean(np.square(above - terms @ (a, b))))),
    )


def size_at(kl_of_best: Array) -> Array:
    """The n, no whole number, whose best-of-n is `kl_of_best` from its policy: log n - (n - 1) / n solved by Newton."""
    target = np.asarray(kl_of_best, float)
    finite = np.where(np.isfinite(target), target, 0.0)
    logs = finite + 1.0
    for _ in range(60):
        left = np.exp(-logs)
        logs = np.maximum(logs - (logs - 1 + left - finite) / np.maximum(1 - left, 1e-9), 0.0)
    with np.errstate(over="ignore"):
        return np.asarray(np.where(np.isfinite(target), np.where(target > 0, np.exp(logs), 1.0), np.inf))


def _terms(form: Form, distance: Array) -> Array:
    """What a and b multiply [..., 2]."""
    bend = distance if form == "best of n" else np.log(distance)
    return np.stack([distance, -distance * bend], axis=-1)


def _optimum(form: Form, a: Array, b: Array, last: float) -> Array:
    """The distance where gold is highest: inf where it rises without end, 0 where it is lower up to the `last` seen."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        turn = np.maximum(a / (2 * b), 0.0) if form == "best of n" else np.exp(a / b - 1)
    falls = a <= b * (last if form == "best of n" else np.log(last))
    optimum = np.where(b > 0, turn, np.where(falls, 0.0, np.inf))
    return np.asarray(np.where(optimum > _FARTHEST, np.inf, optimum))


def _height(form: Form, a: Array, b: Array, optimum: Array) -> Array:
    """How far gold at the optimum is above the start."""
    there = np.where(np.isfinite(optimum) & (optimum > 0), optimum, 1.0)
    height = a * there - b * there * (there if form == "best of n" else np.log(there))
    return np.asarray(np.where(optimum == 0, 0.0, np.where(np.isinf(optimum), np.inf, height)))


def _figure(value: Array, drawn: Array, clusters: int) -> Figure:
    """A value with the expanded percentiles of its draws (`interval.percentiles`), some of which may be infinite."""
    from scipy.special import ndtr, stdtrit

    if clusters < 2 or np.isnan(drawn).any():
        return Figure(float(value))
    freedom = clusters - 1
    tail = float(ndtr(np.sqrt(clusters / freedom) * stdtrit(freedom, (1 - LEVEL) / 2)))
    low, high = np.quantile(drawn, tail, method="lower"), np.quantile(drawn, 1 - tail, method="higher")
    return Figure(float(value), float(low), float(high))
