"""An order of decisions against loops over all pairs, all shares and all orders of what is in equal doubt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from rmbench.metrics import abstention
from rmbench.metrics.abstention import Order, ordered

OF: Mapping[str, Callable[[Order], Any]] = {
    "auc": abstention.auc,
    "area": abstention.area,
    "risk at .1": lambda order: abstention.risk(order, 0.1),
    "risk at .8": lambda order: abstention.risk(order, 0.8),
    "risk at 1": lambda order: abstention.risk(order, 1.0),
}


def parts(worth: Any) -> Any:
    return worth.wrong + worth.right if isinstance(worth, abstention.Auc) else worth.parts


def drawn(seed: int, levels: int, n: int = 40) -> tuple[Any, Any, Any]:
    """Doubt of so many levels, weights and errors, some of them ties."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, n).astype(float), rng.uniform(0.5, 2, n), rng.choice([0.0, 0.0, 1.0, 0.5], n)


def auc_by_pairs(doubt: Any, weight: Any, error: Any) -> float:
    won = all_of = 0.0
    for i in range(len(doubt)):
        for j in range(len(doubt)):
            both = weight[i] * error[i] * weight[j] * (1 - error[j])
            won += both * ((doubt[i] > doubt[j]) + 0.5 * (doubt[i] == doubt[j]))
            all_of += both
    return float(won / all_of)


def risk_by_filling(doubt: Any, weight: Any, error: Any, coverage: float) -> float:
    """Of each level in turn the same share of everything, until so much of all weight is kept."""
    room, wrong = coverage * weight.sum(), 0.0
    left = room
    for level in np.unique(doubt):
        inside = doubt == level
        share = min(1.0, left / weight[inside].sum())
        wrong += share * (weight[inside] * error[inside]).sum()
        left -= share * weight[inside].sum()
        if left <= 0:
            break
    return float(wrong / room)


@pytest.mark.parametrize("levels", [1, 3, 10_000])
def test_an_order_against_loops(levels: int) -> None:
    for seed in range(5):
        doubt, weight, error = drawn(seed, levels)
        order = ordered(doubt, weight, error)
        assert abstention.auc(order).value == pytest.approx(auc_by_pairs(doubt, weight, error))
        for coverage in (0.1, 0.33, 0.8, 1.0):
            expected = risk_by_filling(doubt, weight, error, coverage)
            assert abstention.risk(order, coverage).value == pytest.approx(expected)
        shares = (np.arange(1_000) + 0.5) / 1_000
        mean = np.mean([risk_by_filling(doubt, weight, error, share) for share in shares])
        assert abstention.area(order).value == pytest.approx(mean, abs=2e-3)


def test_the_auc_is_that_of_scikit_learn() -> None:
    doubt, weight, _ = drawn(0, 12, 300)
    error = np.random.default_rng(1).integers(0, 2, 300).astype(float)
    expected = roc_auc_score(error, doubt, sample_weight=weight)
    assert abstention.auc(ordered(doubt, weight, error)).value == pytest.approx(expected)


def test_equal_doubt_is_every_order_alike() -> None:
    """The risk at whole numbers of decisions is the mean over all orders of the level, and of the area at many."""
    error = np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    order = ordered(np.array([0.0, 1.0, 1.0, 1.0, 2.0]), np.ones(5), error)
    tied = [[error[0], *middle, error[4]] for middle in permutations(error[1:4])]
    for kept in range(1, 6):
        expected = np.mean([np.mean(one[:kept]) for one in tied])
        assert abstention.risk(order, kept / 5).value == pytest.approx(expected)


def test_the_area_is_the_published_mean_over_ranks_where_decisions_are_many() -> None:
    rng = np.random.default_rng(0)
    doubt = rng.random(20_000)
    error = (rng.random(20_000) < 0.3 * doubt).astype(float)
    by_rank = np.cumsum(error[np.argsort(doubt)]) / np.arange(1, 20_001)
    assert abstention.area(ordered(doubt, np.ones(20_000), error)).value == pytest.approx(by_rank.mean(), abs=1e-4)


def test_an_oracle_and_chance() -> None:
    error = (np.arange(1_000) < 300).astype(float)
    known = ordered(error, np.ones(1_000), error)
    assert abstention.area(known).value == pytest.approx(float(abstention.oracle_area(np.array(0.3))))
    assert abstention.area(ordered(np.zeros(1_000), np.ones(1_000), error)).value == pytest.approx(0.3)
    np.testing.assert_allclose(abstention.oracle_area(np.array([0.0, 1.0])), [0.0, 1.0])
    assert abstention.auc(known).value == 1.0
    assert abstention.auc(ordered(-error, np.ones(1_000), error)).value == 0.0
    assert np.isnan(abstention.auc(ordered(error, np.ones(1_000), np.ones(1_000))).value)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 4, 10_000]))
def test_parts_are_how_a_value_moves_with_weights(seed: int, levels: int) -> None:
    doubt, weight, error = drawn(seed, levels)
    for name in ("auc", "area"):
        of = OF[name]
        found = of(ordered(doubt, weight, error))
        assert float(weight @ parts(found)) == pytest.approx(0.0, abs=1e-9)
        for at in (0, 7, 39):
            np.testing.assert_allclose(parts(found)[at], slope(of, doubt, weight, error, at), atol=1e-6)


def slope(of: Callable[[Order], Any], doubt: Any, weight: Any, error: Any, at: int) -> float:
    """How fast the value moves with the weight of one decision, times all weight."""
    values = []
    for step in (1e-5, -1e-5):
        moved = weight.copy()
        moved[at] += step
        values.append(of(ordered(doubt, moved, error)).value)
    return float((values[0] - values[1]) / 2e-5 * weight.sum())


@pytest.mark.parametrize("name", OF)
def test_parts_have_the_variance_of_draws(name: str) -> None:
    """The standard error that the parts of one sample give is that of many samples, within a tenth.

    Who is near the cut at .8 is far more often wrong than who is kept, and so a cut that moves adds a fifth to it.
    """
    values, errors = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        doubt = rng.random(300)
        error = (rng.random(300) < 2 * doubt - 1).astype(float)
        found = OF[name](ordered(doubt, np.ones(300), error))
        values.append(found.value)
        errors.append(np.sqrt(np.square(parts(found)).sum()) / 300)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.1)
