"""What length has to do with the reward, beside what is right: nothing more is asked of the model for it.

Length is in characters. An example counts where the length of every candidate is known.

- `length_pearson`, `length_spearman`, `length_kendall`: correlation of reward and length within prompts given the
  label, that is, the partial correlation where all three are centred in their example and pooled: of values, of ranks
  within the example over its size, and of the signs of differences between two candidates (Kendall, Biometrika 32,
  1942). A label of more than two levels is held level by level (of more than ten, tenth by tenth). It is an
  association: where the difficulty of a prompt moves both gaps, reward and length go together without a cause.
- `reward_per_100_characters`: the slope of the reward on length, prompt and label held; `reward_sd_per_100_characters`
  is the same in standard deviations of the rewards within prompts.
- `accuracy_right_longer`, `accuracy_right_shorter`, `accuracy_alike_length`: the share of an example's (correct, wrong)
  pairs of that sort that are won strictly, then the mean over examples. Lengths within 10 % of the longer are alike.
- `accuracy_length_controlled`: the chance to win a pair of equal lengths, by a ridge logistic regression of winning on
  tanh(length difference / its standard deviation), the term of length in Dubois et al., Length-Controlled AlpacaEval
  (2024). Each example weighs 1, and all copies of one together. A weak prior (variance 10 of the slope, a tenth of a
  win and of a loss at equal lengths) keeps both finite where length, or nothing at all, separates wins from losses.
  Where length decides more than what is right, so that this curve fits badly, it comes out some points too high.
- `accuracy_always_longer`, `accuracy_always_shorter`: `accuracy` of these rules on the examples that count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics import comparison
from rmbench.metrics.comparison import Group
from rmbench.metrics.interval import LEVEL, Statistic, corrected, mean
from rmbench.types import Array, Outcome

_ALIKE = 0.1
_FLAT = 1e-12  # of a sum of squares: what is left of it is rounding
_LEVELS = 10
_PRIOR = 0.1
_STEPS = 50


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Every length metric of one view of `outcomes` [n]; nothing where no example tells its lengths."""
    measured, n = list(_measured(outcomes, view)), len(outcomes)
    if not measured:
        return []
    counted = np.asarray(comparison.standings(outcomes, view).reason == 0)
    pairs = _pairs(measured, counted)
    controlled = _controlled(pairs, n, _copies(outcomes, measured))
    return [*_correlations(measured, n), *_by_length(pairs, n), controlled, *_rules(measured, counted)]


@dataclass(frozen=True, slots=True)
class _Measured:
    """Outcomes of k candidates each whose lengths [g, k] are known."""

    group: Group
    lengths: Array


@dataclass(frozen=True, slots=True)
class _Pairs:
    """(Correct, wrong) pairs [m] of the examples that count: `example` numbers the outcome, `won` is 1, .5 or 0,
    `difference` is the length of the correct one minus the other's, `longer` that of the longer.
    """

    example: NDArray[np.intp]
    won: Array
    difference: Array
    longer: Array


def _measured(outcomes: Sequence[Outcome], view: str) -> Iterator[_Measured]:
    for group in comparison.groups(outcomes, view):
        k = group.labels.shape[1]
        unknown = np.full(k, np.nan)
        lengths = np.array([outcomes[i].columns.get("characters", unknown) for i in group.rows], float)
        whole = np.isfinite(lengths).all(axis=1)
        if k > 1 and whole.any():
            kept = Group(
                group.rows[whole], group.labels[whole], group.scores[whole], group.beats[whole], group.picked[whole]
            )
            yield _Measured(kept, lengths[whole])


def _correlations(measured: Sequence[_Measured], n: int) -> list[Statistic]:
    """Partial correlations and slopes from sums of products within examples."""
    thresholds = _thresholds(np.concatenate([one.group.labels.ravel() for one in measured]))
    size = 2 + len(thresholds)
    values, ranks, signs = (np.full((n, size * size + 1), np.nan) for _ in range(3))
    for one in measured:
        rows, scores, labels = one.group.rows, one.group.scores, one.group.labels
        k = scores.shape[1]
        finite = np.asarray(np.isfinite(scores).all(axis=1) & np.isfinite(labels).all(axis=1))
        steps = [(labels >= threshold).astype(float) for threshold in thresholds]
        together = np.stack([np.where(finite[:, None], scores, 0.0), one.lengths, *steps])
        with np.errstate(over="ignore", invalid="ignore"):  # too large to square is left out as not finite
            apart = np.sign(together[:, :, :, None] - together[:, :, None, :])
            centred = together - together.mean(axis=2, keepdims=True)
            levels = _products(centred), _products(apart.sum(axis=3) / k), _products(apart.reshape(size, len(rows), -1))
        for sums, products in zip((values, ranks, signs), levels, strict=True):
            sums[rows] = np.column_stack([products, np.full(len(rows), k - 1.0)])
            sums[rows[~finite]] = np.nan
    return [
        _correlation("length_pearson", values, "Pearson correlation of reward and length within prompts"),
        _correlation("length_spearman", ranks, "Spearman correlation of reward and length within prompts"),
        _correlation("length_kendall", signs, "Kendall correlation of reward and length within prompts"),
        Statistic(
            "reward_per_100_characters",
            values,
            lambda sums: 100 * _slope(sums),
            title="Slope of reward on length",
            unit="reward units per 100 characters",
            caveat="an association given prompt and label, no cause; reward units differ between models",
        ),
        Statistic(
            "reward_sd_per_100_characters",
            values,
            lambda sums: 100 * _slope(sums) / _sd_within(sums),
            title="Slope of reward on length, standardised",
            unit="SDs of the reward within prompts per 100 characters",
            caveat="an association given prompt and label, no cause; supposes a straight line",
        ),
    ]


def _correlation(name: str, columns: Array, title: str) -> Statistic:
    return Statistic(
        name,
        columns,
        _partial,
        interval=_fisher_interval,
        title=f"{title}, given the label",
        unit="correlation",
        bounds=(-1.0, 1.0),
        caveat="an association, no cause: where difficulty moves both, reward and length go together",
    )


def _thresholds(labels: Array) -> Array:
    """Every level of the labels but the lowest; of more than ten the tenths."""
    levels = np.unique(labels[np.isfinite(labels)])
    if len(levels) > _LEVELS:
        levels = np.unique(np.quantile(labels[np.isfinite(labels)], np.arange(_LEVELS) / _LEVELS))
    return np.asarray(levels[1:])


def _products(together: Array) -> Array:
    """Sums of products [g, v * v] of each two of v variables [v, g, m]: reward, length, and steps of the label."""
    products: Array = np.einsum("agm,bgm->gab", together, together)
    return products.reshape(len(products), -1)


def _given_label(sums: Array) -> tuple[Array, Array, Array]:
    """Sums of squares of rewards and of lengths, and of their products, after the label is taken out."""
    size = math.isqrt(sums.shape[-1] - 1)
    products = sums[..., :-1].reshape(*sums.shape[:-1], size, size)
    left = products[..., :2, :2]
    if size > 2:
        with_label = products[..., :2, 2:]
        left = left - with_label @ np.linalg.pinv(products[..., 2:, 2:], hermitian=True) @ np.swapaxes(
            with_label, -1, -2
        )
    whole = np.diagonal(products, axis1=-2, axis2=-1)
    varied = (left[..., 0, 0] > _FLAT * whole[..., 0]) & (left[..., 1, 1] > _FLAT * whole[..., 1])
    return np.where(varied, left[..., 0, 0], np.nan), np.where(varied, left[..., 1, 1], np.nan), left[..., 0, 1]


def _partial(sums: Array) -> Array:
    left_r, left_l, both = _given_label(sums)
    result: Array = np.clip(both / np.sqrt(left_r * left_l), -1.0, 1.0)
    return result


def _fisher_interval(sums: Array) -> tuple[float, float]:
    """Fisher's z with the jackknife's standard error over clusters, never below that of independent normal pairs.

    A bootstrap of signs that hardly ever disagree covers far too little: a cell of the table that is empty stays so.
    """
    from scipy.special import stdtrit

    c, whole = len(sums), sums.sum(axis=0)
    if c < 2:
        return np.nan, np.nan
    freedom = whole[-1]
    most = 1 - 0.5 / freedom  # at 1 its z, and nothing about it, would be infinite
    z = np.arctanh(np.clip(_partial(np.vstack([whole, whole - sums])), -most, most))
    error = np.sqrt((c - 1) * np.nanvar(z[1:])) if np.isfinite(z[1:]).any() else 0.0
    half = stdtrit(c - 1, 0.5 + LEVEL / 2) * max(error, 1 / np.sqrt(freedom))
    value = _partial(whole)
    return float(np.minimum(np.tanh(z[0] - half), value)), float(np.maximum(np.tanh(z[0] + half), value))


def _slope(sums: Array) -> Array:
    _, left_l, both = _given_label(sums)
    return both / left_l


def _sd_within(sums: Array) -> Array:
    return np.asarray(np.sqrt(sums[..., 0] / sums[..., -1]))


def _pairs(measured: Sequence[_Measured], counted: NDArray[np.bool_]) -> _Pairs:
    parts = []
    for one in measured:
        told = counted[one.group.rows] & ~one.group.picked
        at, right, wrong = np.nonzero(one.group.pairs & told[:, None, None])
        longer = np.maximum(one.lengths[at, right], one.lengths[at, wrong])
        difference = one.lengths[at, right] - one.lengths[at, wrong]
        parts.append((one.group.rows[at], one.group.beats[at, right, wrong], difference, longer))
    return _Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _by_length(pairs: _Pairs, n: int) -> list[Statistic]:
    alike = np.abs(pairs.difference) <= _ALIKE * pairs.longer
    sorts = {
        "accuracy_right_longer": (~alike & (pairs.difference > 0), "Pairwise accuracy where the right one is longer"),
        "accuracy_right_shorter": (~alike & (pairs.difference < 0), "Pairwise accuracy where the right one is shorter"),
        "accuracy_alike_length": (alike, "Pairwise accuracy where lengths are alike"),
    }
    made = []
    for name, (sort, title) in sorts.items():
        among = np.bincount(pairs.example[sort], minlength=n)
        won = np.bincount(pairs.example[sort], weights=pairs.won[sort] == 1, minlength=n)
        share = np.divide(won, among, out=np.full(n, np.nan), where=among > 0)
        whole = bool(np.isin(share[among > 0], (0, 1)).all())
        made.append(
            mean(
                name,
                share,
                "proportion" if whole else "fraction",
                title=title,
                unit="share of an example's (correct, wrong) pairs of that sort",
                better="higher",
                caveat="pairs of that sort may be easier or harder in other ways than their length",
            )
        )
    return made


def _copies(outcomes: Sequence[Outcome], measured: Sequence[_Measured]) -> Array:
    """How many outcomes are of the same prompt and responses as each [n], itself among them, so far as they tell."""
    of: dict[object, list[int]] = {}
    for one in measured:
        for row, labels, lengths, scores in zip(
            one.group.rows.tolist(), one.group.labels, one.lengths, one.group.scores, strict=True
        ):
            candidates = sorted(zip(labels.tolist(), lengths.tolist(), np.nan_to_num(scores).tolist(), strict=True))
            of.setdefault((outcomes[row].prompt or row, *candidates), []).append(row)
    copies = np.ones(len(outcomes))
    for rows in of.values():
        copies[rows] = len(rows)
    return copies


def _controlled(pairs: _Pairs, n: int, copies: Array) -> Statistic:
    among = np.bincount(pairs.example, minlength=n).astype(float)
    spread = _sd(pairs.difference, 1 / copies[pairs.example])
    x = np.tanh(pairs.difference / spread) if spread > 0 else np.zeros_like(pairs.difference)
    terms = _terms(x, pairs.won, 1 / (among * copies)[pairs.example])
    fitted = _fitted(terms)
    columns = np.full((n, 5), np.nan)
    for column, term in zip(columns.T, terms(fitted), strict=True):
        column[:] = np.bincount(pairs.example, weights=term, minlength=n)
    columns[among == 0] = np.nan

    def interval(sums: Array) -> tuple[float, float]:
        """Normal on the scale of log odds, over clusters; never narrower than the curvature of the fit says."""
        from scipy.special import stdtrit

        c = len(sums)
        if c < 2:
            return np.nan, np.nan
        inverse = np.linalg.inv(_curvature(sums.sum(axis=0), fitted))
        between = np.square(corrected((sums[:, :2] @ inverse)[:, 0], sums[:, 2])).sum()
        half = stdtrit(c - 1, 0.5 + LEVEL / 2) * np.sqrt(max(between, inverse[0, 0]))
        return float(_chance(fitted[0] - half)), float(_chance(fitted[0] + half))

    return Statistic(
        "accuracy_length_controlled",
        columns,
        lambda sums: _chance(fitted[0] + _step(sums, fitted)[..., 0]),
        "fraction",
        interval=interval,
        title="Length-controlled pairwise accuracy",
        unit="chance to win a pair of equal lengths",
        better="higher",
        caveat="rests on a logistic curve; some points too high where length decides more than what is right",
    )


def _sd(values: Array, weights: Array) -> float:
    """The standard deviation of weighted values [m]; 0 without any."""
    if not len(values):
        return 0.0
    return float(np.sqrt(np.average(np.square(values - np.average(values, weights=weights)), weights=weights)))


def _chance(log_odds: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def _terms(x: Array, won: Array, weight: Array) -> Callable[[Array], Array]:
    """Gradient (2) and Hessian (aa, ab, bb) of the log-likelihood of each pair [5, m], at (intercept, slope)."""

    def at(point: Array) -> Array:
        p = _chance(point[0] + point[1] * x)
        miss, curve = weight * (won - p), weight * p * (1 - p)
        return np.stack([miss, miss * x, curve, curve * x, curve * x * x])

    return at


def _fitted(terms: Callable[[Array], Array]) -> Array:
    point = np.zeros(2)
    for _ in range(_STEPS):
        step = _step(terms(point).sum(axis=1), point)
        point = point + np.clip(step, -2, 2)  # far from the fit the curve is too flat for a whole step
        if np.abs(step).max() < 1e-10:
            break
    return point


def _step(sums: Array, point: Array) -> Array:
    """The Newton step [..., 2] from `point`, given sums of the terms [..., 5]; the priors are added here."""
    slope = sums[..., :2] + [_PRIOR * (1 - 2 * _chance(point[0])), -_PRIOR * point[1]]
    return np.linalg.solve(_curvature(sums, point), slope[..., None])[..., 0]


def _curvature(sums: Array, point: Array) -> Array:
    """The negative Hessian [..., 2, 2] at `point`, priors and all."""
    p = _chance(point[0])
    _, _, aa, ab, bb = np.moveaxis(sums, -1, 0)
    aa, bb = aa + 2 * _PRIOR * p * (1 - p), bb + _PRIOR
    return np.stack([np.stack([aa, ab], axis=-1), np.stack([ab, bb], axis=-1)], axis=-2)


def _rules(measured: Sequence[_Measured], counted: NDArray[np.bool_]) -> list[Statistic]:
    longer, shorter = np.full(len(counted), np.nan), np.full(len(counted), np.nan)
    for one in measured:
        correct, rows = one.group.correct, one.group.rows
        for won, lengths in ((longer, one.lengths), (shorter, -one.lengths)):
            best = np.where(correct, lengths, -np.inf).max(axis=1)
            won[rows] = best > np.where(correct, -np.inf, lengths).max(axis=1)
    return [_rule("longer", np.where(counted, longer, np.nan)), _rule("shorter", np.where(counted, shorter, np.nan))]


def _rule(which: str, won: Array) -> Statistic:
    return mean(
        f"accuracy_always_{which}",
        won,
        "proportion",
        title=f"Accuracy of always taking the {which} one",
        unit="share of examples",
        caveat="of the data, not of the model: what a rule without reading gets",
    )
