"""Tails of lengths against closed forms, statsmodels, scipy, brute force and loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.regression.mixed_linear_model import MixedLM

from rmbench.errors import DataError
from rmbench.metrics import tails
from rmbench.metrics.interval import estimate, mean, wilson_interval
from rmbench.metrics.tails import Lengths, Price


def lengths(tokens, *, cap=np.nan, finish="stop", status="ok", prompt=None):
    """Lengths of which what is given once holds for all."""
    tokens = np.asarray(tokens, float)
    n = len(tokens)
    return Lengths(
        tokens,
        np.broadcast_to(np.asarray(cap, float), n),
        [finish] * n if isinstance(finish, str | None) else finish,
        [status] * n if isinstance(status, str) else status,
        np.arange(n) if prompt is None else np.asarray(prompt),
    )


def capped(tokens, cap, **more):
    """What a cap leaves of whole lengths."""
    tokens, cap = np.asarray(tokens, float), np.broadcast_to(np.asarray(cap, float), len(tokens))
    finish = ["length" if cut else "stop" for cut in tokens > cap]
    return lengths(np.minimum(tokens, cap), cap=cap, finish=finish, **more)


def ends(found):
    return found.ci_low, found.ci_high


# Cap-saturation rates.


def test_a_response_cut_at_k_is_a_hit():
    found = tails.saturation(lengths([1000, 999], cap=1000, finish=["length", "stop"]), 1000)
    assert found.share.value == 0.5
    assert found.unidentified == {}


@pytest.mark.parametrize("k", [1, 400, 1000, 3000])
def test_csr_of_exponential_lengths_is_their_survival_function(k):
    drawn = np.ceil(np.random.default_rng(0).exponential(1500, 40_000))
    found = tails.saturation(capped(drawn, 3000), k).share
    truth = math.exp(-(k - 1) / 1500)
    assert found.ci_low <= truth <= found.ci_high
    assert found.ci_high - found.ci_low < 0.01


def test_a_cap_below_k_leaves_open_how_many_would_have_reached_it():
    found = tails.saturation(capped([500, 5000, 5000, 5000], 2000), 3000)
    assert math.isnan(found.share.value)
    assert np.isnan(ends(found.share)).all()
    assert (found.lowest.value, found.highest.value) == (0.0, 0.75)
    assert found.unidentified == {"cap below k": 3}


def test_an_unknown_cap_is_told_apart_from_one_below_k():
    data = lengths([800, 800, 800, 4000, 800], cap=[np.nan, 800, 5000, np.nan, np.nan], finish=[None] * 4 + ["stop"])
    found = tails.saturation(data, 1000)
    assert found.unidentified == {"cap unknown": 1, "cap below k": 1}
    assert (found.lowest.value, found.highest.value) == (0.2, 0.6)
    assert tails.saturation(data, 800).share.value == 1.0


def test_a_response_below_its_cap_that_does_not_say_why_it_ended_is_whole():
    found = tails.saturation(lengths([10, 20], cap=100, finish=None), 50)
    assert (found.share.value, found.unidentified) == (0.0, {})


def test_csr_is_wilsons_interval_over_prompts():
    rng = np.random.default_rng(1)
    prompt = np.repeat(np.arange(40), 5)
    tokens = np.ceil(np.exp(6 + rng.normal(size=40)[prompt] + rng.normal(size=200)))
    found = tails.saturation(lengths(tokens, prompt=prompt), 1000).share
    hits = np.bincount(prompt, weights=tokens >= 1000)
    assert ends(found) == pytest.approx([float(end) for end in wilson_interval(hits, np.full(40, 5.0))])
    alone = tails.saturation(lengths(tokens), 1000).share
    assert ends(alone) == pytest.approx(tuple(binomtest(int(hits.sum()), 200).proportion_ci(method="wilson")))
    assert found.ci_high - found.ci_low > 1.3 * (alone.ci_high - alone.ci_low)


def test_refused_and_empty_responses_are_no_lengths():
    data = lengths([5000, 3, np.nan, 0], status=["ok", "ok", "refused", "empty"])
    assert (tails.saturation(data, 1000).share.value, tails.saturation(data, 1000).share.n) == (0.5, 2)
    for status in ("refused", "empty"):
        found = tails.share_of_status(data, status)
        assert (found.value, found.n) == (0.25, 4)
        assert found.ci_low < 0.25 < found.ci_high


def test_a_response_without_a_length_that_says_it_is_ok_is_an_error():
    for wrong in (np.nan, 0.0, np.inf):
        with pytest.raises(DataError, match="response 1, `tokens`"):
            lengths([4, wrong])


# Curves.


def test_the_band_of_independent_responses_is_massarts():
    curve = tails.ecdf(lengths([3, 1, 2, 2]))
    half = math.sqrt(math.log(40) / 8)
    assert (curve.at.tolist(), curve.share.tolist(), curve.method) == ([1, 2, 3], [0.25, 0.75, 1.0], "dkw")
    assert curve.low == pytest.approx(np.maximum(curve.share - half, 0))
    assert curve.high == pytest.approx(np.minimum(curve.share + half, 1))


def test_the_band_over_prompts_is_the_quantile_of_a_plain_bootstrap_loop(monkeypatch):
    rng = np.random.default_rng(2)
    prompt = np.repeat(np.arange(30), rng.integers(1, 5, 30))
    tokens = np.ceil(np.exp(4 + rng.normal(size=30)[prompt] + 0.2 * rng.normal(size=len(prompt))))
    curve = tails.ecdf(lengths(tokens, prompt=prompt), draws=4000)
    farthest = []
    for _ in range(4000):
        picked = np.concatenate([tokens[prompt == one] for one in rng.integers(30, size=30)])
        farthest.append(np.abs((picked[:, None] <= curve.at).mean(axis=0) - curve.share).max())
    student = math.sqrt(30 / 29) * 2.04523 / 1.95996
    assert curve.method == "cluster bootstrap"
    assert curve.high[5] - curve.share[5] == pytest.approx(np.quantile(farthest, 0.95) * student, rel=0.04)
    monkeypatch.setattr(tails, "_ENTRIES", 4000 * 7)  # chunks are the same as a whole
    assert tails.ecdf(lengths(tokens, prompt=prompt), draws=4000).high == pytest.approx(curve.high, abs=1e-12)


def test_a_band_over_prompts_is_wider_than_one_that_takes_their_responses_for_independent():
    tokens = np.repeat(np.ceil(np.random.default_rng(3).exponential(500, 60)), 10)
    together = tails.ecdf(lengths(tokens, prompt=np.repeat(np.arange(60), 10)))
    alone = tails.ecdf(lengths(tokens))
    assert np.max(together.high - together.share) > 2.5 * np.max(alone.high - alone.share)


def test_an_ecdf_ends_below_the_smallest_cap():
    curve = tails.ecdf(capped([1, 5, 7, 30, 40], [100, 10, 100, 20, 100]))
    assert (curve.at.tolist(), curve.limit) == ([1, 5, 7], 10)
    assert curve.share == pytest.approx([0.2, 0.4, 0.6])


def test_with_one_cap_kaplan_meier_is_the_ecdf():
    data = capped(np.ceil(np.random.default_rng(4).exponential(300, 200)), 500)
    ecdf, km = tails.ecdf(data), tails.kaplan_meier(data)
    below = km.at < 500
    assert km.at[below].tolist() == ecdf.at.tolist()
    assert km.share[below] == pytest.approx(ecdf.share)
    assert (km.limit, ecdf.limit) == (500, 500)


def test_kaplan_meier_and_greenwood_are_those_of_statsmodels():
    rng = np.random.default_rng(5)
    data = capped(np.ceil(rng.exponential(300, 150)), rng.choice([100, 200, 300, 400], 150))
    whole = np.array([finish == "stop" for finish in data.finish])
    theirs, ours = SurvfuncRight(data.tokens, whole.astype(int)), tails.kaplan_meier(data)
    assert ours.at.tolist() == theirs.surv_times.tolist()
    assert ours.share == pytest.approx(1 - theirs.surv_prob)
    effective = theirs.surv_prob * (1 - theirs.surv_prob) / theirs.surv_prob_se**2
    hits = np.column_stack([1 - theirs.surv_prob, theirs.surv_prob]) * effective[:, None]
    for low, high, (below, above) in zip(ours.low, ours.high, hits, strict=True):
        z, n, p = 1.959964, below + above, below / (below + above)
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        assert (low, high) == pytest.approx(((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)))


def test_without_a_cap_each_point_has_wilsons_interval_over_prompts():
    rng = np.random.default_rng(6)
    prompt = np.repeat(np.arange(25), rng.integers(1, 6, 25))
    tokens = np.ceil(np.exp(4 + rng.normal(size=25)[prompt] + 0.5 * rng.normal(size=len(prompt))))
    curve = tails.kaplan_meier(lengths(tokens, prompt=prompt))
    for at, low, high in zip(curve.at, curve.low, curve.high, strict=True):
        [point] = estimate([mean("at most", (tokens <= at).astype(float), "proportion")], prompt)
        assert (low, high) == pytest.approx(ends(point), abs=1e-9)


def test_the_variance_over_prompts_with_caps_is_that_of_a_jackknife():
    rng = np.random.default_rng(7)
    prompt = np.repeat(np.arange(400), 3)
    tokens = np.ceil(np.exp(5 + rng.normal(size=400)[prompt] + 0.3 * rng.normal(size=1200)))
    data = capped(tokens, rng.choice([80, 200, 1000], 1200), prompt=prompt)
    some = tails._answers(data)
    curve = tails.kaplan_meier(data)
    at, deaths = np.unique(some.tokens[some.whole], return_counts=True)
    at_risk = len(some.tokens) - np.searchsorted(np.sort(some.tokens), at, side="left")
    point = int(np.searchsorted(at, 300))
    ours = (1 - curve.share[point]) ** 2 * tails._cluster_variance(some, at, deaths, at_risk)[point]
    left_out = []
    for one in range(400):
        rest = np.flatnonzero(prompt != one)
        finish = [data.finish[i] for i in rest]
        part = Lengths(data.tokens[rest], data.cap[rest], finish, ["ok"] * len(rest), prompt[rest])
        without = tails.kaplan_meier(part)
        left_out.append(without.share[np.searchsorted(without.at, at[point], side="right") - 1])
    assert ours == pytest.approx(399 / 400 * np.square(left_out - np.mean(left_out)).sum(), rel=0.02)


def test_a_curve_ends_before_a_response_that_may_be_cut_at_an_unknown_cap():
    data = lengths([5, 10, 20, 30], finish=["stop", "stop", None, "stop"])
    assert tails.kaplan_meier(data).at.tolist() == [5, 10]
    assert tails.kaplan_meier(data).limit == tails.ecdf(data).limit == 20


def test_nothing_with_a_length_is_an_empty_curve():
    data = lengths([np.nan], status="refused")
    assert (len(tails.ecdf(data).at), len(tails.kaplan_meier(data).at)) == (0, 0)
    assert math.isnan(tails.quantile(data, 0.5).value)
    assert math.isnan(tails.saturation(data, 10).share.value)
    assert math.isnan(tails.restricted_mean(data).value)


# Quantiles and means.


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_quantiles_of_lognormal_lengths_are_theirs(level):
    drawn = np.ceil(np.exp(6 + np.random.default_rng(80).normal(size=20_000)))
    found = tails.quantile(capped(drawn, 4000), level)
    truth = math.exp(6 + {0.1: -1.28155, 0.5: 0.0, 0.9: 1.28155}[level])
    assert found.ci_low <= math.ceil(truth) <= found.ci_high
    assert found.value == pytest.approx(truth, rel=0.03)


def test_a_quantile_at_or_above_the_cap_is_nan_and_so_is_its_upper_end():
    drawn = np.ceil(np.random.default_rng(9).exponential(1000, 500))
    found = tails.quantile(capped(drawn, 1000), 0.9)
    assert math.isnan(found.value)
    assert math.isnan(found.ci_high)
    near = tails.quantile(capped(drawn, 1000), 0.62)
    assert near.ci_low < near.value < 1000
    assert math.isnan(near.ci_high)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.sampled_from([0.25, 0.5, 0.9]))
def test_a_quantile_is_the_first_length_that_enough_do_not_exceed(tokens, level):
    expected = next(x for x in sorted(tokens) if sum(t <= x for t in tokens) >= level * len(tokens) - 1e-9)
    assert tails.quantile(lengths(tokens), level).value == expected


def test_the_interval_of_a_median_is_that_of_order_statistics():
    found = tails.quantile(lengths(np.arange(1, 102)), 0.5)
    # binomial(101, 1/2): ranks 41 and 61 hold with 95.4 % by the exact rule
    assert abs(found.ci_low - 41) <= 1
    assert abs(found.ci_high - 61) <= 1


def test_the_restricted_mean_of_exponential_lengths_is_its_integral():
    drawn = np.random.default_rng(10).exponential(1000, 20_000) + 1
    found = tails.restricted_mean(capped(drawn, 1500))
    truth = 1 + 1000 * (1 - math.exp(-1499 / 1000))
    assert found.ci_low <= truth <= found.ci_high


def test_a_restricted_mean_above_a_cap_is_nan():
    data = capped([10, 50, 400], [100, 100, 200])
    assert tails.restricted_mean(data).value == pytest.approx((10 + 50 + 100) / 3)
    assert tails.restricted_mean(data, 200).value == pytest.approx((10 + 50 + 200) / 3)
    assert math.isnan(tails.restricted_mean(data, 300).value)


# Spread, association, cost.


def test_variance_within_prompts_is_that_of_a_mixed_model():
    rng = np.random.default_rng(11)
    prompt = np.repeat(np.arange(60), 4)
    logs = 5 + 0.8 * rng.normal(size=60)[prompt] + 0.5 * rng.normal(size=240)
    within, share = tails.spread(lengths(np.exp(logs), prompt=prompt))
    # where prompts are of one size REML is the analysis of variance
    fitted = MixedLM(logs, np.ones((240, 1)), groups=prompt).fit(reml=True)
    assert within.value == pytest.approx(fitted.scale, rel=1e-4)
    assert share.value == pytest.approx(fitted.scale / (fitted.scale + float(fitted.cov_re[0, 0])), rel=1e-4)
    assert within.ci_low < 0.25 < within.ci_high
    assert (within.n, within.clusters) == (60, 60)


def test_components_of_prompts_of_different_size_are_unbiased():
    rng, found = np.random.default_rng(12), []
    prompt = np.repeat(np.arange(12), rng.integers(2, 7, 12))
    for _ in range(3000):
        logs = 5 + 0.8 * rng.normal(size=12)[prompt] + 0.5 * rng.normal(size=len(prompt))
        size, total = np.bincount(prompt).astype(float), np.bincount(prompt, weights=logs)
        inner = np.bincount(prompt, weights=np.square(logs - (total / size)[prompt]))
        found.append(
            tails._components(
                np.array([inner.sum(), size.sum(), (size**2).sum(), total.sum(), (total**2 / size).sum(), 12.0])
            )
        )
    assert np.mean(found, axis=0) == pytest.approx([0.25, 0.64], rel=0.03)


def test_prompts_with_one_response_say_nothing_of_the_spread_within():
    data = lengths([2, 8, 100, 7], prompt=[0, 0, 1, 2])
    within, _ = tails.spread(data)
    assert within.n == 1
    assert within.value == pytest.approx(np.log(4) ** 2 / 2)
    assert math.isnan(tails.spread(lengths([2, 8]))[0].value)


def test_spearman_is_scipys():
    rng = np.random.default_rng(13)
    first = np.round(rng.normal(size=50), 1)
    second = first + rng.normal(size=50)
    second[3] = np.nan
    found = tails.spearman(first, second)
    kept = np.isfinite(second)
    assert found.value == pytest.approx(spearmanr(first[kept], second[kept]).statistic)
    assert found.n == 49
    assert found.ci_low < found.value < found.ci_high
    assert math.isnan(tails.spearman(first, np.ones(50)).value)
    assert math.isnan(tails.spearman(first[:3], second[:3]).value)


def test_like_orders_correlate_perfectly_and_the_interval_ends_there():
    found = tails.spearman(np.arange(9.0), np.arange(9.0) ** 3)
    assert (found.value, found.ci_high) == (pytest.approx(1), pytest.approx(1))
    assert 0 < found.ci_low < 1


def test_mean_lengths_are_by_prompt_and_only_of_responses_with_a_length():
    data = lengths([2, 4, 9, np.nan], status=["ok", "ok", "ok", "empty"], prompt=[0, 0, 2, 1])
    assert tails.mean_lengths(data, 4).tolist() == pytest.approx([3, np.nan, 9, np.nan], nan_ok=True)


def test_cost_is_by_the_users_prices():
    prices = tails.read_prices({"mine": {"input": 2, "output": 10.0, "currency": "EUR"}})
    assert prices == {"mine": Price(2.0, 10.0, "EUR")}
    found = tails.cost_per_1000(prices["mine"], np.array([100.0, 300.0]), np.array([1000.0, 3000.0]), np.arange(2))
    assert found.value == pytest.approx(1000 * (200 * 2 + 2000 * 10) / 1e6)
    assert found.ci_low < found.value < found.ci_high


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"input": 1, "currency": "USD"}, "price of 'm', `output`: missing"),
        ({"input": 1, "output": "2", "currency": "USD"}, "`output`: '2' is no price"),
        ({"input": -1, "output": 2, "currency": "USD"}, "`input`: -1 is no price"),
        ({"input": 1, "output": 2, "currency": ""}, "`currency`: '' is no name"),
        ({"input": 1, "output": 2, "currency": "USD", "cached": 3}, "`cached`: missing or not known"),
    ],
)
def test_a_price_that_is_none_is_one_line(row, words):
    with pytest.raises(DataError, match=words):
        tails.read_prices({"m": row})


# A condition against none.


def test_the_ratio_of_lengths_is_that_of_geometric_means_over_prompts():
    rng = np.random.default_rng(14)
    prompt = np.repeat(np.arange(80), 3)
    base = np.exp(6 + rng.normal(size=80)[prompt])
    plain = lengths(base * np.exp(0.3 * rng.normal(size=240)), prompt=prompt)
    brief = lengths(0.6 * base * np.exp(0.3 * rng.normal(size=240)) + 1, prompt=prompt)
    found = tails.length_ratio(brief, plain)
    logs = [np.bincount(prompt, weights=np.log(one.tokens)) / 3 for one in (brief, plain)]
    assert found.value == pytest.approx(math.exp(np.mean(logs[0] - logs[1])))
    assert found.ci_low < 0.605 < found.ci_high < 1
    assert found.p == pytest.approx(1e-4)
    back = tails.length_ratio(plain, brief)
    assert (back.value, back.p) == (pytest.approx(1 / found.value), found.p)


def test_a_condition_that_does_nothing_has_a_p_that_does_not_say_otherwise():
    rng, prompt = np.random.default_rng(15), np.arange(15)
    ps = [
        tails.length_ratio(*(lengths(np.exp(5 + rng.normal(size=15)), prompt=prompt) for _ in range(2))).p
        for _ in range(300)
    ]
    assert np.mean(np.array(ps) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_a_difference_of_csr_is_over_the_prompts_that_have_both():
    plain = capped([5000, 5000, 10, 5000], 3000, prompt=[0, 1, 2, 3])
    brief = replace(capped([20, 5000, 10, 9], 3000, prompt=[0, 1, 2, 3]), status=["ok", "ok", "ok", "refused"])
    found = tails.saturation_difference(brief, plain, 3000)
    assert (found.value, found.n, found.p) == (pytest.approx(-1 / 3), 3, 1.0)
    assert found.ci_low < -1 / 3 < found.ci_high
    lost = tails.saturation_difference(brief, plain, 4000)
    assert math.isnan(lost.value)
    assert lost.p is None


def test_conditions_without_a_prompt_in_common_have_no_effect():
    found = tails.length_ratio(lengths([5], prompt=[0]), lengths([6], prompt=[1]))
    assert (math.isnan(found.value), found.n) == (True, 0)


# What a cap hides of a mean.


@pytest.mark.parametrize(("ours", "theirs"), [(300, None), (None, 300), (300, 300), (None, None)])
def test_a_ratio_of_lengths_is_bounded_from_the_side_that_no_cap_cut(ours, theirs):
    rng = np.random.default_rng(7)
    first, second = np.ceil(rng.exponential(250, (2, 60)))
    found = tails.length_ratio(
        *(lengths(x) if cap is None else capped(x, cap) for x, cap in ((first, ours), (second, theirs)))
    )
    plain = tails.length_ratio(
        lengths(np.minimum(first, ours or np.inf)), lengths(np.minimum(second, theirs or np.inf))
    )
    assert math.isnan(found.value) == (ours is not None or theirs is not None)
    for end, cap in (("ci_low", theirs), ("ci_high", ours)):
        assert math.isnan(getattr(found, end)) if cap else getattr(found, end) == getattr(plain, end)
    assert (found.p is None) == math.isnan(found.value)


def test_a_response_of_unknown_end_is_open_and_one_that_stopped_is_not():
    assert lengths([5, 6, 7], cap=[10, 6, np.nan], finish=[None, None, None]).open == 2
    assert capped([5, 12], 10).open == 1
