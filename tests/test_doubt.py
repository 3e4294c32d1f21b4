"""Whether spread predicts errors: against loops over pairs, planted doubt, and what results state of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given import example, given, judged
from rich.console import Console
from scipy.stats import norm
from scipy.stats import t as student

from rmbench.cli._report import print_results
from rmbench.errors import DataError, ResultError
from rmbench.kinds.comparison import Comparison
from rmbench.kinds.grading import Grading
from rmbench.metrics import decided, doubt
from rmbench.metrics.decided import Decided
from rmbench.metrics.doubt import Doubt
from rmbench.metrics.grading import Grades
from rmbench.metrics.interval import Estimate, cluster_codes, estimate
from rmbench.metrics.summary import COMPARISON
from rmbench.metrics.views import Given, views
from rmbench.report import doubted, frame, page
from rmbench.results.schema import TaskResult
from rmbench.results.verify import verify
from rmbench.types import Answer, Ask, Candidate, Outcome, Request, Reward, View


def outcome(labels: Any, scores: Any, spread: Any, name: str = "e", **more: Any) -> Outcome:
    kept = None if spread is None else np.array(spread, float)
    view = View(np.array(scores, float), None, ["ok"] * len(scores), kept)
    cluster = more.pop("cluster", name)
    return Outcome(name, more.pop("facets", {}), cluster, np.array(labels, float), {"default": view}, **more)


def compared(labels: Sequence[float], *answers: Answer) -> Outcome:
    from rmbench.metrics.comparison import beats_of_masses

    labels_of = np.array(labels, float)
    view = View(None, beats_of_masses(labels_of, answers, None), ["ok"] * len(labels))
    return Outcome("e", {}, "e", labels_of, {"default": view}, answers=answers)


def found(outcomes: Sequence[Outcome], measure: Any = COMPARISON) -> Doubt:
    codes = cluster_codes([one.cluster for one in outcomes])
    made = doubt.of_view(measure, outcomes, "default", measure.fit(outcomes, "default"), codes)
    assert made is not None
    return made


def estimates(of: Doubt, *names: str, draws: int = 200, seed: int = 0) -> dict[str, Estimate]:
    statistics = [one for one in doubt.statistics(of) if not names or one.name in names]
    return {one.name: one for one in estimate(statistics, of.codes, draws=draws, seed=seed)}


def values(of: Doubt) -> dict[str, float]:
    return {name: one.value for name, one in estimates(of, draws=20).items()}


def random_outcomes(seed: int, n: int = 30) -> list[Outcome]:
    """Of two to five candidates with labels and rewards that tie now and then, some without spread."""
    rng = np.random.default_rng(seed)
    made = []
    for at in range(n):
        k = int(rng.integers(2, 6))
        spread = np.where(rng.random(k) < 0.1, np.nan, rng.integers(1, 12, k) / 8)
        scores = rng.integers(0, 6, k).astype(float)
        made.append(outcome(rng.integers(0, 3, k), scores, spread, f"e{at}", cluster=f"c{at // 3}"))
    return made


def by_loops(outcomes: Sequence[Outcome]) -> list[tuple[float, float, float, float]]:
    """The weight, error, margin and standard deviation of every pair whose spread is known."""
    rows = []
    for one in outcomes:
        view, pairs = one.views["default"], []
        assert view.scores is not None
        assert view.spread is not None
        for i, j in product(range(len(one.labels)), repeat=2):
            if one.labels[i] > one.labels[j] and np.isfinite(view.spread[[i, j]]).all():
                gap = view.scores[i] - view.scores[j]
                error = 0.5 if gap == 0 else float(gap < 0)
                pairs.append((error, abs(gap), math.sqrt(view.spread[i] ** 2 + view.spread[j] ** 2)))
        rows += [(1 / len(pairs), *pair) for pair in pairs]
    return rows


def auc_by_loops(rows: Sequence[tuple[float, float, float, float]], doubts: Sequence[float]) -> float:
    won = of = 0.0
    for one, d in zip(rows, doubts, strict=True):
        for other, c in zip(rows, doubts, strict=True):
            both = one[0] * one[1] * other[0] * (1 - other[1])
            won += both * ((d > c) + (d == c) / 2)
            of += both
    return won / of


def test_every_pair_of_different_labels_against_loops() -> None:
    outcomes = random_outcomes(0)
    rows = by_loops(outcomes)
    weight, error, margin, spread = np.array(rows).T
    of = values(found(outcomes))
    flip = norm.cdf(-margin / spread)
    assert of["doubt_auc"] == pytest.approx(auc_by_loops(rows, spread.tolist()))
    assert of["doubt_flip_auc"] == pytest.approx(
        auc_by_loops(rows, [round(one, 10) for one in (-margin / spread).tolist()])
    )
    assert of["doubt_margin_auc"] == pytest.approx(auc_by_loops(rows, (-margin).tolist()))
    assert of["doubt_added"] == pytest.approx(of["doubt_flip_auc"] - of["doubt_margin_auc"])
    risk, sure = np.average(error, weights=weight), margin > norm.ppf(0.975) * spread
    assert of["doubt_accuracy"] == pytest.approx(1 - risk)
    assert of["doubt_area_random"] == pytest.approx(risk)
    assert of["doubt_area_oracle"] == pytest.approx(risk + (1 - risk) * math.log(1 - risk))
    gain = (risk - of["doubt_area"]) / (risk - of["doubt_area_oracle"])
    assert of["doubt_gain"] == pytest.approx(gain)
    assert of["doubt_expected"] == pytest.approx(np.average(flip, weights=weight))
    assert of["doubt_sure"] == pytest.approx(np.average(sure, weights=weight))
    assert of["doubt_sure_right"] == pytest.approx(1 - np.average(error[sure], weights=weight[sure]))
    assert of["doubt_covered"] == pytest.approx(1 - np.average(error * sure, weights=weight))
    surest = np.argsort(spread, kind="stable")
    kept = np.cumsum(weight[surest]) <= 0.8 * weight.sum()
    assert of["doubt_accuracy_80"] == pytest.approx(
        1 - np.average(error[surest][kept], weights=weight[surest][kept]), abs=0.02
    )
    shares = []
    for one in outcomes:
        known = np.isfinite(one.views["default"].spread)
        asked = [(i, j) for i, j in product(range(len(known)), repeat=2) if one.labels[i] > one.labels[j]]
        shares += [np.mean([known[i] and known[j] for i, j in asked])] if asked else []
    assert of["doubt_known"] == pytest.approx(np.mean(shares))


def test_a_curve_ends_at_the_risk_of_all_and_passes_through_the_accuracy_at_80() -> None:
    of = found(random_outcomes(1))
    curve = {(one.name, one.at): one for one in doubt.curves(of)}
    made = estimate(list(curve.values()), of.codes, draws=50)
    risks = {place: one.value for place, one in zip(curve, made, strict=True)}
    assert [at for name, at in risks if name == doubt.RISK] == list(doubt.COVERAGES)
    assert risks[doubt.RISK, 1.0] == pytest.approx(1 - values(of)["doubt_accuracy"])
    assert risks[doubt.RISK, 0.8] == pytest.approx(1 - values(of)["doubt_accuracy_80"])
    assert risks[doubt.FLIP_RISK, 0.8] == pytest.approx(1 - values(of)["doubt_flip_accuracy_80"])


def planted(seed: int, kind: str, n: int = 150, each: int = 3) -> Doubt:
    """Pairs in clusters of `each`, whose rewards and spreads have much in common."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n // each), each)
    scale = np.exp(0.5 * rng.normal(size=n // each))[cluster]
    shift = 0.7 * rng.normal(size=n // each)[cluster]
    margin = 1 + shift + rng.normal(size=n)
    spread = scale * rng.gamma(2, 1, n)
    if kind == "error":
        spread = np.where(margin < 0, 1.0, 0.1)
    if kind == "honest":
        spread = 0.5 * spread
        margin = np.abs(margin) + spread * rng.normal(size=n)
    made = Decided(np.arange(n), (margin < 0).astype(float), np.abs(margin), spread)
    return Doubt(made, cluster, "pairs", False)


def test_spread_that_is_the_error_has_an_auc_of_1() -> None:
    of = estimates(planted(0, "error"))
    assert of["doubt_auc"].value == 1.0
    rarer = len(np.unique(planted(0, "error").codes[planted(0, "error").known.error == 1]))
    assert of["doubt_auc"].ci_low == pytest.approx(rarer / (rarer + norm.ppf(0.975) ** 2))
    assert of["doubt_area"].value == pytest.approx(of["doubt_area_oracle"].value)
    assert of["doubt_gain"].value == pytest.approx(1.0)
    assert of["doubt_accuracy_80"].value == pytest.approx(min(1.0, of["doubt_accuracy"].value / 0.8))


def test_the_interval_of_an_auc_has_the_variance_of_delong() -> None:
    """Of a difference, which is symmetric: Student's, with the degrees of freedom of the rarer kind, and one error more
    that may be off by the SD of 0 and 1 with the mean of an AUC."""
    rng = np.random.default_rng(0)
    error = (rng.random(60) < 0.3).astype(float)
    made = Decided(np.arange(60), error, rng.random(60), rng.random(60))
    one = estimates(Doubt(made, np.arange(60), "pairs", False), "doubt_added")["doubt_added"]
    wrong, right = error == 1, error == 0
    placed = []
    for doubts in (made.spread / made.margin, -made.margin):
        above = (doubts[wrong][:, None] > doubts[right]).astype(float)
        placed.append((above.mean(axis=1), above.mean(axis=0)))
    each = [np.var(placed[0][side] - placed[1][side], ddof=1) / len(placed[0][side]) for side in (0, 1)]
    unseen = max(np.mean(one[0]) * (1 - np.mean(one[0])) for one in placed) / wrong.sum() ** 2
    half = student.ppf(0.975, wrong.sum() - 1) * math.sqrt(sum(each) + unseen)
    assert one.value == pytest.approx(np.mean(placed[0][0]) - np.mean(placed[1][0]))
    assert (one.ci_low, one.ci_high) == pytest.approx((one.value - half, one.value + half))


def test_three_errors_that_stand_alike_leave_room_for_one_that_does_not() -> None:
    error = np.isin(np.arange(60), (50, 51, 52)).astype(float)
    made = Decided(np.arange(60), error, np.ones(60), np.arange(60) + 1.0)
    of = estimates(Doubt(made, np.arange(60), "pairs", False), "doubt_auc", "doubt_added")
    assert of["doubt_auc"].value == pytest.approx(50 / 57)
    assert of["doubt_auc"].ci_low < 0.5 < of["doubt_auc"].value
    assert of["doubt_added"].ci_low < 0 < of["doubt_added"].value


def test_no_error_among_a_tenth_of_a_hundred_is_none_among_ten() -> None:
    made = Decided(np.arange(100), np.zeros(100), np.ones(100), np.arange(100) + 1.0)
    of = Doubt(made, np.arange(100), "pairs", False)
    first = estimate(doubt.curves(of)[:1], of.codes)[0]
    square = norm.ppf(0.975) ** 2
    assert (first.value, first.ci_low, first.ci_high) == pytest.approx((0, 0, square / (10 + square)))


def test_spread_that_is_noise_has_an_auc_of_a_half_within_its_interval() -> None:
    hits = [one.ci_low <= 0.5 <= one.ci_high for one in (estimates(planted(seed, "noise"), "doubt_auc")["doubt_auc"]
                                                          for seed in range(100))]  # fmt: skip
    assert 0.88 <= np.mean(hits) <= 0.99


def test_spread_that_is_what_it_says_states_as_many_errors_as_there_are() -> None:
    of = estimates(planted(0, "honest", 30_000))
    assert of["doubt_expected"].value == pytest.approx(of["doubt_area_random"].value, abs=0.05)
    assert of["doubt_sure_right"].value > 0.975
    assert of["doubt_covered"].value > 0.975
    assert of["doubt_added"].ci_low > 0
    noise = estimates(planted(0, "noise", 30_000))
    assert noise["doubt_added"].ci_high < 0
    assert noise["doubt_auc"].ci_low < 0.5 < noise["doubt_auc"].ci_high


@pytest.mark.prove
@pytest.mark.parametrize("kind", ["noise", "honest"])
def test_intervals_cover_what_is_so_with_clusters_of_several_pairs(kind: str) -> None:
    """900 pairs in 300 clusters. What is so is what 300,000 pairs say."""
    truth = {
        one.name: float(one.value(np.nan_to_num(one.columns).sum(axis=0)))
        for one in doubt.statistics(planted(9_999, kind, 300_000))
    }
    names = [name for name in truth if name not in ("doubt_known", "doubt_covered", "doubt_sure_right")]
    hits: dict[str, list[bool]] = {name: [] for name in names}
    for seed in range(250):
        for name, one in estimates(planted(seed, kind, 900), *names, draws=200, seed=seed).items():
            hits[name].append(one.ci_low <= truth[name] <= one.ci_high)
    low = {name: np.mean(some) for name, some in hits.items()}
    assert 0.93 <= np.mean([*low.values()]) <= 0.97
    assert {name: share for name, share in low.items() if not 0.9 <= share <= 0.985} == {}


@pytest.mark.prove
def test_an_interval_of_few_errors_is_not_too_short() -> None:
    """Five errors of a hundred, on average: draws alone would cover four times in five."""
    hits = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        error = (rng.random(100) < 0.05).astype(float)
        made = Decided(np.arange(100), error, rng.random(100), np.exp(rng.normal(size=100) + error))
        one = estimates(Doubt(made, np.arange(100), "pairs", False), "doubt_auc")["doubt_auc"]
        if np.isfinite(one.ci_low):
            hits.append(one.ci_low <= norm.cdf(1 / math.sqrt(2)) <= one.ci_high)
    assert np.mean(hits) > 0.88


def test_a_constant_spread_says_nothing() -> None:
    outcomes = [replace(one, views={"default": replace(one.views["default"], spread=np.ones(len(one.labels)))})
                for one in random_outcomes(2)]  # fmt: skip
    of = values(found(outcomes))
    assert of["doubt_auc"] == 0.5
    assert of["doubt_added"] == pytest.approx(0.0, abs=1e-12)
    assert of["doubt_area"] == pytest.approx(of["doubt_area_random"])
    assert of["doubt_gain"] == pytest.approx(0.0, abs=1e-12)
    assert of["doubt_accuracy_80"] == pytest.approx(of["doubt_accuracy"])


def test_what_is_no_spread_is_not_known_and_counted() -> None:
    """nan, infinite and negative ones are left out; 0 is sure."""
    odd = [outcome([1, 0], [1, 0], [bad, 1], f"e{at}") for at, bad in enumerate([math.nan, math.inf, -1.0, 0.0])]
    of = found([*odd, outcome([1, 0], [0, 1], [2, 2], "wrong"), outcome([1, 1], [0, 1], [1, 1], "alike")])
    assert len(of.known.rows) == 2
    assert values(of)["doubt_known"] == pytest.approx(2 / 5)
    assert doubt.of_view(COMPARISON, odd[:3], "default", None, np.arange(3)) is None
    assert doubt.of_view(COMPARISON, [outcome([1, 1], [0, 1], [1, 1])], "default", None, np.arange(1)) is None
    assert doubt.of_view(COMPARISON, [outcome([1, 0], [0, 1], None)], "default", None, np.arange(1)) is None


def test_no_spread_at_all_is_sure_and_equal_rewards_are_a_tie_in_doubt() -> None:
    ends = [([1, 0], [0, 0]), ([0, 0], [0, 0]), ([math.inf, -math.inf], [1, 1]), ([1e308, -1e308], [1, 1])]
    of = found([outcome([1, 0], scores, spread, f"e{at}") for at, (scores, spread) in enumerate(ends)])
    assert of.sureness.tolist() == [math.inf, 0.0, math.inf, math.inf]
    assert of.sure.tolist() == [1, 0, 1, 1]
    assert of.known.error.tolist() == [0, 0.5, 0, 0]


def test_what_only_rounding_tells_apart_is_in_equal_doubt() -> None:
    alike = [((0.7, 0.4), (1.0, 0.0)), ((0.3, 0.6), (0.6, 0.8)), ((0.3, 0.0), (0.0, 1.0)), ((0.2, 0.5), (0.8, 0.6))]
    of = found([outcome([1, 0], scores, spread, f"e{at}") for at, (scores, spread) in enumerate(alike)])
    assert len({*of.known.margin.tolist()}) > 1
    for order in (of.by_spread, of.by_flip, of.by_margin):
        assert order is not None
        assert order.level.tolist() == [0, 0, 0, 0]


def test_a_large_example_gives_a_hundred_of_its_pairs_and_weighs_as_much_as_any() -> None:
    rng = np.random.default_rng(0)
    pool = outcome([1.0] * 20 + [0.0] * 20, rng.random(40), rng.random(40), "pool")
    of = found([pool, outcome([1, 0], [1, 0], [1, 1], "pair")])
    assert np.bincount(of.known.rows).tolist() == [decided.MOST_PAIRS, 1]
    assert of.told.tolist() == pytest.approx([1.0, 1.0])
    every = decided.pairs([pool], "default")
    assert len({*zip(every.margin.tolist(), every.spread.tolist(), strict=True)}) == decided.MOST_PAIRS
    scores = pool.views["default"].scores
    assert every.error.mean() == pytest.approx(np.mean(scores[:20, None] < scores[20:]), abs=0.1)


def test_comparisons_add_up_what_each_request_leads_by_and_its_variance() -> None:
    both = (
        Answer((0, 1), (0.7, 0.3), spread=(0.1, 0.1)),
        Answer((1, 0), (0.6, 0.4), spread=(0.2, 0.2)),
    )
    of = decided.pairs([compared([1, 0], *both)], "default")
    assert of.error.tolist() == [0.0]
    assert of.margin.tolist() == pytest.approx([0.4 - 0.2])
    assert of.spread.tolist() == pytest.approx([math.hypot(0.2, 0.4)])
    unanswered = replace(both[1], values=(math.nan, math.nan), status="nan")
    assert len(decided.pairs([compared([1, 0], both[0], unanswered)], "default").rows) == 0
    silent = compared([1, 0], both[0], replace(both[1], spread=None))
    assert np.isnan(decided.pairs([silent], "default").spread).all()
    missing = compared([1, 0], both[0], replace(both[1], status="missing"))
    assert decided.pairs([missing], "default").spread.tolist() == pytest.approx([0.2])


def test_single_responses_are_decided_by_their_threshold() -> None:
    rng = np.random.default_rng(0)
    outcomes = [outcome([float(rng.random() < 0.5)], [rng.normal()], [rng.random()], f"e{at}") for at in range(40)]
    of = found(outcomes, Grades(at=0.25))
    scores, labels = (np.concatenate(some) for some in ([one.views["default"].scores for one in outcomes],
                                                        [one.labels for one in outcomes]))  # fmt: skip
    assert of.known.error.tolist() == ((scores >= 0.25) != labels).astype(float).tolist()
    assert of.known.margin.tolist() == pytest.approx(np.abs(scores - 0.25).tolist())
    accuracy = next(one for one in Grades(at=0.25).statistics(outcomes, "default", {"threshold": 0.25}))
    assert values(of)["doubt_accuracy"] == pytest.approx(estimate([accuracy], np.arange(40), draws=20)[0].value)


def test_heads_decide_without_a_margin_and_what_they_leave_open_is_not_decided() -> None:
    classes, heads = ["correct", "incorrect", "correct"], [(2.0, 1.0), (2.0, 1.0), (math.nan, 1.0)]
    outcomes = []
    for at, (name, (right, wrong)) in enumerate(zip(classes, heads, strict=True)):
        one = outcome([math.nan], [0.0], [0.5], f"e{at}", classes=[name])
        more = {
            head: View(np.array([value]), None, ["ok"]) for head, value in (("correct", right), ("incorrect", wrong))
        }
        outcomes.append(replace(one, views=dict(one.views) | more))
    of = found(outcomes, Grades(positive="correct"))
    assert of.known.error.tolist() == [0, 1]
    assert np.isnan(of.known.margin).all()
    told = values(of)
    assert told["doubt_auc"] == 0.5
    assert np.isnan([told[name] for name in ("doubt_flip_auc", "doubt_added", "doubt_sure", "doubt_expected")]).all()


def test_the_reward_that_a_model_makes_of_its_steps_has_its_spread_and_other_aggregates_have_none() -> None:
    given_to = [Given("steps", (0,), Reward((0.5,), steps=(0.5, 0.9), spread=(0.1,)))]
    made = views(np.array([1.0]), given_to)
    assert made["default"].spread == pytest.approx([0.1])
    assert {name for name, view in made.items() if view.spread is not None} == {"default"}


def test_scores_for_labels_are_held_against_each_other_within_an_example() -> None:
    rows = [outcome([0.5, 2.0, 1.0], [1.0, 3.0, 2.0], [0.1, 0.2, 0.3], f"e{at}") for at in range(4)]
    assert len(found(rows, Grades(positive=None)).known.rows) == 12


class Doubting:
    """Rates a response by the number that it is, with another number for its spread."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = None

    def __init__(self, spread: bool = True) -> None:
        self.spread = spread

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            value, spread = map(float, (request.responses[0].text or "").split())
            yield index, Reward((value,), heads={"other": (-value,)}, spread=(spread,) if self.spread else None)


class Voting:
    """Compares such responses, as sure as the first one's spread says."""

    answers: frozenset[Ask] = frozenset({"compare"})
    fingerprint = None

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            (a, spread), (b, _) = (map(float, (shown.text or "").split()) for shown in request.responses)
            win = 1 / (1 + math.exp(b - a))
            yield index, Reward((win, 1 - win), spread=(spread, spread))


def pairs_task(n: int = 40) -> Any:
    rng = np.random.default_rng(0)
    rows = []
    for at in range(n):
        right, wrong = (f"{rng.normal(shift):.3f} {rng.random():.3f}" for shift in (1.0, 0.0))
        facets = {"part": "one" if at % 2 else "two"}
        rows.append(example(f"e{at}", Candidate(right, True), Candidate(wrong, False), facets=facets))
    return given(Comparison, rows)


def said(result: TaskResult) -> dict[str, list[Any]]:
    """The metrics of doubt by the view and subset that they are of."""
    places: dict[str, list[Any]] = {}
    for one in result.metrics:
        if one.name.startswith("doubt_"):
            places.setdefault(f"{one.view}, {one.subset}", []).append(one)
    return places


@pytest.mark.parametrize("model", [Doubting(), Voting()])
def test_a_result_says_it_in_the_whole_and_in_each_subset_and_its_records_give_it_again(model: Any) -> None:
    task = pairs_task()
    result = judged(model, task)
    places = said(result)
    assert [*places] == ["default, all", "default, part=two", "default, part=one"]
    names = {one.name for one in places["default, all"]}
    assert names == {name for name in result.statistics if name.startswith("doubt_")}
    assert {doubt.RISK, doubt.FLIP_RISK} == names - {one.name for one in places["default, part=one"]}
    assert all(one.value is not None for one in places["default, all"])
    at = next(i for i, one in enumerate(result.metrics) if one.name == "doubt_auc")
    wrong = [*result.metrics[:at], result.metrics[at].model_copy(update={"value": 0.99}), *result.metrics[at + 1 :]]
    forged = result.model_copy(update={"metrics": wrong})
    forged._records, forged._requests = result._records, result._requests
    with pytest.raises(ResultError, match="doubt_auc of view 'default' is 0.99"):
        verify(forged, task)


def test_without_spread_a_result_says_nothing_of_it_and_all_else_is_the_same() -> None:
    task = pairs_task()
    with_spread, without = judged(Doubting(), task), judged(Doubting(spread=False), task)
    assert said(without) == {}
    rest = [one for one in with_spread.metrics if not one.name.startswith("doubt_")]
    assert rest == without.metrics
    assert {name for name in with_spread.statistics if not name.startswith("doubt_")} == {*without.statistics}


def printed(result: TaskResult, width: int) -> str:
    console = Console(width=width, record=True, file=StringIO())
    print_results([result], console)
    return console.export_text()


def test_the_terminal_says_it_in_tables_of_their_own() -> None:
    result = judged(Doubting(), pairs_task())
    for width in (80, 100):
        text = printed(result, width)
        assert max(map(len, text.splitlines())) <= width
        auc, right = (result.metric(name).value for name in ("doubt_auc", "doubt_accuracy_80"))
        assert f"{100 * auc:.1f}" in text
        assert f"{100 * right:.1f}" in text
        assert "does spread say where a model is wrong?" in text
        assert "doubt sure" not in text  # no columns of the other tables
    assert "does spread say" not in printed(judged(Doubting(spread=False), pairs_task()), 100)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (9, "is larger where it is wrong; for its margin it says more of errors than the margin alone"),
        (1, "whether its spread is larger where it is wrong is not told from chance; for its margin it says as much of "
            "errors as the margin alone, as far as can be told"),
        (1 / 9, "is larger where it is right, so that a small one is no reason to trust it; for its margin it says "
                "less of errors than the margin alone"),
    ],
)  # fmt: skip
def test_the_terminal_says_in_words_what_spread_is_worth(wrong: float, expected: str) -> None:
    """One in three is wrong, by as much as the others are right, with so many times their spread."""
    rng, rows = np.random.default_rng(1), []
    for at in range(120):
        is_wrong, margin = at % 3 == 0, rng.uniform(0.5, 1)
        spread = math.exp(rng.normal(0, 0.5)) * (wrong if is_wrong else 1)
        right = f"{-margin if is_wrong else margin} {spread}"
        rows.append(example(f"e{at}", Candidate(right, True), Candidate("0 0", False)))
    assert expected in " ".join(printed(judged(Doubting(), given(Comparison, rows)), 250).split())


def test_the_terminal_says_where_spread_is_not_known_or_nothing_tells_what_it_is_worth() -> None:
    rows = [example(f"e{at}", Candidate(f"{at} {spread}", True), Candidate(f"{5 - at} 1", False))
            for at, spread in enumerate(["nan", "1", "2", "3", "4"])]  # fmt: skip
    text = printed(judged(Doubting(), given(Comparison, rows)), 160)
    assert "the spread of 80.0 % is known; doubt is of these alone" in text
    scores = given(Grading, [example(f"e{at}", Candidate(f"{at} 1", float(at))) for at in range(5)],
                   measure=Grades(positive=None))  # fmt: skip
    text = printed(judged(Doubting(), scores), 160)
    assert "its rewards have spread, and nothing says whether it is where they are wrong" in text


def test_the_page_draws_the_risk_of_what_is_kept_between_chance_and_an_oracle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "library", lambda: "")
    result = judged(Doubting(), pairs_task())
    page.write([result], {}, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Errors among what is kept" in text
    assert "Doubt risk" not in text  # no plot of a curve besides
    curve = [one for one in result.metrics if one.name == doubt.RISK]
    drawn = doubted.points({doubt.RISK: curve})
    assert [point["risk"] for point in drawn] == [one.value for one in curve]
    assert [point["kept"] for point in drawn] == list(doubt.COVERAGES)
    oracle = {point["kept"]: point["risk"] for point in doubted.rulers(0.25)["oracle"]}
    assert oracle[0.7] == 0
    assert oracle[0.75] == 0
    assert oracle[0.8] == pytest.approx(0.05 / 0.8)
    assert oracle[1.0] == 0.25
    without = judged(Doubting(spread=False), pairs_task())
    page.write([without], {}, tmp_path / "without.html")
    assert "Errors among what is kept" not in (tmp_path / "without.html").read_text(encoding="utf-8")


def test_records_with_spread_are_a_score_file_that_has_it(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    task = pairs_task()
    result = judged(Doubting(), task)
    pq.write_table(result.records, tmp_path / "kept.parquet")
    again = judged(f"scores:{tmp_path / 'kept.parquet'}", task)
    assert said(again) == said(result)
    (tmp_path / "odd.jsonl").write_text('{"example_id": "e0", "candidate": 0, "reward": 1, "spread": "wide"}\n')
    with pytest.raises(DataError, match=r"odd.jsonl, row 1, `spread`: expected a number, got 'wide'"):
        judged(f"scores:{tmp_path / 'odd.jsonl'}", task)


def test_a_grading_task_says_it_of_responses() -> None:
    rng = np.random.default_rng(1)
    rows = [
        example(f"e{at}", Candidate(f"{rng.normal(at % 2):.3f} {rng.random():.3f}", at % 2 == 1)) for at in range(60)
    ]
    result = judged(Doubting(), given(Grading, rows))
    assert result.metric("doubt_accuracy").value == pytest.approx(result.metric("accuracy").value)
    assert result.statistics["doubt_auc"].unit == "share of responses"


@pytest.mark.prove
def test_twenty_thousand_examples_of_ten_take_seconds() -> None:
    """900,000 pairs; of 100,000 examples half a minute of a busy core, most of it to sort them and to draw clusters."""
    rng = np.random.default_rng(0)
    outcomes = [outcome(rng.random(10), rng.random(10), rng.random(10), f"e{at}") for at in range(20_000)]
    began = time.perf_counter()
    of = found(outcomes)
    estimate([*doubt.statistics(of), *doubt.curves(of)], of.codes)
    assert len(of.known.rows) == 900_000
    assert time.perf_counter() - began < 20
