"""Pooled AUC and correlations, in the data and in every draw, against scikit-learn and scipy on what was drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from rmbench.metrics import pooled
from rmbench.metrics.interval import Statistic, as_function, estimate
from rmbench.metrics.pooled import Items
from rmbench.types import Array

RNG = np.random.default_rng(0)
M, N, C = 60, 30, 12
ROWS = RNG.integers(0, N, M)
CODES = np.unique(RNG.integers(0, C, N), return_inverse=True)[1]
SCORES = RNG.integers(0, 9, M) / 3  # with ties
LABELS = SCORES + RNG.integers(-3, 4, M)
RIGHT = LABELS > 1
ITEMS = Items(SCORES, ROWS, CODES)


def drawn(times: Array) -> Array:
    """The items that one draw of the clusters has, each as often as its cluster."""
    return np.repeat(np.arange(M), times[CODES[ROWS]].astype(int))


@pytest.mark.parametrize(
    ("statistic", "reference"),
    [
        (pooled.auc("auc", ITEMS, RIGHT), lambda i: roc_auc_score(RIGHT[i], SCORES[i])),
        (pooled.pearson("pearson", ITEMS, LABELS), lambda i: stats.pearsonr(SCORES[i], LABELS[i]).statistic),
        (pooled.spearman("spearman", ITEMS, LABELS), lambda i: stats.spearmanr(SCORES[i], LABELS[i]).statistic),
        (pooled.kendall("kendall", ITEMS, LABELS), lambda i: stats.kendalltau(SCORES[i], LABELS[i]).statistic),
    ],
)
def test_the_whole_and_every_draw(statistic: Statistic, reference: Callable[[np.ndarray], float]) -> None:
    c = int(CODES.max()) + 1
    times = np.vstack([np.ones(c), RNG.multinomial(c, np.full(c, 1 / c), size=20)]).astype(float)
    values = as_function(statistic, CODES)(times)
    assert values == pytest.approx([reference(drawn(each)) for each in times], abs=1e-9)
    (found,) = estimate([statistic], CODES.tolist(), draws=200)
    assert found.value == pytest.approx(values[0])
    assert found.ci_low < found.value < found.ci_high
    assert found.n == len(set(ROWS.tolist()))


def test_what_has_nothing_to_tell_apart_is_nan() -> None:
    same, nobody = np.ones(M), np.array([], np.intp)
    empty = Items(np.zeros(0), nobody, CODES)
    for statistic in (
        pooled.auc("auc", ITEMS, np.ones(M, bool)),
        pooled.auc("auc", empty, np.zeros(0, bool)),
        *(make("r", ITEMS, same) for make in (pooled.pearson, pooled.spearman, pooled.kendall)),
        *(make("r", empty, np.zeros(0)) for make in (pooled.pearson, pooled.spearman, pooled.kendall)),
    ):
        (found,) = estimate([statistic], CODES.tolist(), draws=20)
        assert np.isnan([found.value, found.ci_low, found.ci_high]).all()


def test_beyond_so_many_items_kendall_has_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, *_ = estimate([pooled.kendall("kendall", ITEMS, LABELS)], CODES.tolist(), draws=20)
    monkeypatch.setattr(pooled, "_MOST", 10)
    statistic = pooled.kendall("kendall", ITEMS, LABELS)
    (found,) = estimate([statistic], CODES.tolist(), draws=20)
    assert found.value == pytest.approx(exact.value)
    assert np.isnan([found.ci_low, found.ci_high]).all()
    assert "no interval" in statistic.caveat
