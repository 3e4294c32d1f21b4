"""Means over parts against loops that draw clusters, and a threshold fitted on one subset for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from rmbench.metrics import comparison, draws
from rmbench.metrics.interval import Statistic, estimate, mean, wilson, wilson_interval
from rmbench.metrics.measure import Make, Measure, Unfitted, macro, named, of_rows
from rmbench.metrics.paired import difference_of
from rmbench.plugins import load_task, task_names
from rmbench.types import Array, Json, Outcome, Reward, View

PLAIN = Unfitted("plain", "accuracy", comparison.statistics, comparison.left_out, comparison.ties)
ACCURACY = named(PLAIN.statistics, "accuracy")


def outcome(right: float, wrong: float, cluster: str, **facets: str) -> Outcome:
    view = View(np.array([right, wrong]), None, ["ok", "ok"])
    return Outcome("x", facets, cluster, np.array([1.0, 0.0]), {"default": view})


def won(rate: float, n: int, seed: int, **facets: str) -> list[Outcome]:
    lost = np.random.default_rng(seed).random(n) > rate
    return [outcome(1 - 2 * x, 0.5, f"{seed} {i}", **facets) for i, x in enumerate(lost)]


def accuracy_of(outcomes: Sequence[Outcome]) -> float:
    return float(np.mean([o.views["default"].scores[0] > 0.5 for o in outcomes]))


def one(make, outcomes: Sequence[Outcome], fitted: Json = None, **more):
    [found] = estimate([make(outcomes, "default", fitted)], [o.cluster for o in outcomes], **more)
    return found


def pooled_auc(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
    """The slow form, each outcome being a cluster."""
    scores = np.stack([o.views[view].scores for o in outcomes])
    beaten = (scores[:, :1] > scores[:, 1]).astype(float)

    def of(times: Array) -> Array:
        return np.einsum("di,ij,dj->d", times, beaten, times) / np.square(times.sum(axis=1))

    return Statistic("pooled_auc", of=of, kind="fraction", title="Pooled AUC", better="higher")


A, B = won(0.9, 30, 1, section="a"), won(0.3, 20, 2, section="b", subset="hard")
BOTH = macro("both", [(1.0, {"section": "a"}, ACCURACY), (3.0, {"section": "b"}, ACCURACY)])


def test_a_macro_is_the_weighted_mean_of_its_parts() -> None:
    found = one(BOTH, [*A, *B])
    assert found.value == pytest.approx((accuracy_of(A) + 3 * accuracy_of(B)) / 4)
    assert (found.n, found.clusters, found.kind) == (50, 50, "fraction")


def test_a_part_is_made_from_the_rows_of_the_whole() -> None:
    both = [*A, *B]
    whole = ACCURACY(both, "default", None)
    found = one(macro("both", [(1.0, {"section": "a"}, of_rows(whole, both)), (3.0, {"section": "b"}, ACCURACY)]), both)
    assert found == one(BOTH, both)
    with pytest.raises(ValueError, match="statistic 'pooled_auc': expected `columns`"):
        of_rows(pooled_auc(both, "default", None), both)(A, "default", None)


@pytest.mark.parametrize("some", [A, B, []])
def test_a_macro_without_a_part_is_nan(some: list[Outcome]) -> None:
    found = one(BOTH, some)
    assert np.isnan([found.value, found.ci_low, found.ci_high]).all()


def test_a_part_where_nothing_counts_is_not_there() -> None:
    unanswered = [replace(o, views={}) for o in B]
    assert np.isnan(one(BOTH, [*A, *unanswered]).value)


def test_draws_are_a_loop_over_the_clusters_of_each_stratum() -> None:
    mixed = [*A, *B, *(replace(o, cluster=f"2 {i}") for i, o in enumerate(won(0.6, 8, 3, section="a")))]
    statistic = BOTH(mixed, "default", None)
    codes = {name: i for i, name in enumerate(dict.fromkeys(o.cluster for o in mixed))}
    touched = [{o.facets["section"] for o in mixed if o.cluster == name} for name in codes]
    strata = np.array([[{"a"}, {"b"}, {"a", "b"}].index(some) for some in touched])
    assert set(strata) == {0, 1, 2}
    rows = np.array([codes[o.cluster] for o in mixed])
    by_code = dict(zip(rows.tolist(), np.asarray(statistic.strata).tolist(), strict=True))
    assert len(set(zip(by_code.values(), (strata[code] for code in by_code), strict=True))) == 3
    [times] = draws.times(len(codes), 300, 5, strata=np.array([by_code[i] for i in range(len(codes))]))
    values = []
    for draw in times:
        kept = [o for o, code in zip(mixed, rows, strict=True) for _ in range(int(draw[code]))]
        parts = [accuracy_of([o for o in kept if o.facets["section"] == name]) for name in "ab"]
        values.append((parts[0] + 3 * parts[1]) / 4)
    found = one(BOTH, mixed, draws=300, seed=5)
    freedom = found.clusters - 3
    n = found.value * (1 - found.value) / (np.var(values) * found.clusters / freedom)
    expected = wilson(np.asarray(found.value), np.asarray(n), student.ppf(0.975, freedom))
    assert (found.ci_low, found.ci_high) == pytest.approx(expected)
    slow = macro("slow", [(1.0, {"section": "a"}, ACCURACY), (3.0, {"section": "b"}, as_slow(ACCURACY))])
    assert one(slow, mixed, draws=300, seed=5).ci_low == pytest.approx(found.ci_low)
    assert one(slow, mixed, draws=300, seed=5).ci_high == pytest.approx(found.ci_high)


def as_slow(make):
    """The same statistic in the slow form."""

    def slow(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        quick = make(outcomes, view, fitted)
        names = list(dict.fromkeys(o.cluster for o in outcomes))
        inside = np.array([[o.cluster == name for o in outcomes] for name in names], float)
        return Statistic(quick.name, of=lambda times: quick.value(times @ inside @ quick.columns), kind="fraction")

    return slow


def test_a_macro_takes_parts_of_the_slow_form() -> None:
    both = macro("both", [(1.0, {"section": "a"}, pooled_auc), (1.0, {"section": "b"}, ACCURACY)])
    found = one(both, [*A, *B])
    assert found.value == pytest.approx((pooled_auc(A, "default", None).of(np.ones((1, 30)))[0] + accuracy_of(B)) / 2)
    assert found.ci_low < found.value < found.ci_high


@pytest.mark.parametrize("make", [ACCURACY, as_slow(ACCURACY)])
def test_macros_nest(make) -> None:
    c = won(0.5, 10, 4, section="b", subset="easy")
    inner = macro("b", [(1.0, {"subset": "hard"}, make), (1.0, {"subset": "easy"}, make)])
    outer = macro("all", [(1.0, {"section": "a"}, make), (1.0, {"section": "b"}, inner)])
    found = one(outer, [*A, *B, *c])
    assert found.value == pytest.approx((accuracy_of(A) + (accuracy_of(B) + accuracy_of(c)) / 2) / 2)
    assert len(set(np.asarray(outer([*A, *B, *c], "default", None).strata))) == 3
    assert np.isnan(one(outer, [*A, *B]).value)


@pytest.mark.parametrize("make", [ACCURACY, as_slow(ACCURACY)])
def test_a_part_of_one_cluster_leaves_the_interval_open(make: Make) -> None:
    lone = macro("both", [(1.0, {"section": "a"}, make), (3.0, {"section": "b"}, make)])
    found = one(lone, [*A, B[0]])
    assert np.isfinite(found.value)
    assert np.isnan([found.ci_low, found.ci_high]).all()
    made = lone([*A, B[0]], "default", None)
    apart = difference_of(made, made, [o.cluster for o in [*A, B[0]]])
    assert apart.value == 0
    assert np.isnan([apart.ci_low, apart.ci_high, apart.p, apart.detectable]).all()


@pytest.mark.parametrize("values", [("a", "b"), {"a", "b"}, frozenset({"b", "a", "none"})])
def test_a_part_takes_one_of_several_values_of_a_facet(values) -> None:
    c = won(0.5, 10, 4, section="c")
    found = one(macro("all but c", [(1.0, {"section": values}, ACCURACY)]), [*A, *B, *c])
    assert (found.value, found.n) == (accuracy_of([*A, *B]), 50)
    assert np.isnan(one(macro("none", [(1.0, {"section": ()}, ACCURACY)]), A).value)


@pytest.mark.parametrize("make", [ACCURACY, as_slow(ACCURACY)])
def test_a_perfect_macro_is_as_sure_as_its_smallest_parts_let_it(make: Make) -> None:
    a, b = won(2.0, 30, 1, section="a"), won(2.0, 3, 2, section="b", subset="hard")
    found = one(macro("both", [(1.0, {"section": "a"}, make), (3.0, {"section": "b"}, make)]), [*a, *b])
    n = 16 / (1 / 30 + 9 / 3)
    assert (found.value, found.ci_high) == (1, 1)
    assert found.ci_low == pytest.approx(1 / (1 + 1.959964**2 / n))
    nested = macro("b", [(1.0, {"subset": "hard"}, make)])
    outer = macro("all", [(1.0, {"section": "a"}, make), (3.0, {"section": "b"}, nested)])
    assert one(outer, [*a, *b]).ci_low == pytest.approx(found.ci_low)
    alike = one(macro("alike", [(1.0, {}, make)]), a)
    assert alike.ci_low == pytest.approx(float(wilson_interval(np.ones(30), np.ones(30))[0]))


def test_macros_are_compared_over_the_same_draws() -> None:
    better = [replace(o, views=won(0.95, 1, i).pop().views) for i, o in enumerate([*A, *B])]
    ours, theirs = BOTH(better, "default", None), BOTH([*A, *B], "default", None)
    found = difference_of(ours, theirs, [o.cluster for o in [*A, *B]], seed=2)
    apart = one(BOTH, better).value - one(BOTH, [*A, *B]).value
    assert found.value == pytest.approx(apart)
    assert 0 < found.ci_low < found.value < found.ci_high
    assert found.p < 0.01


def test_a_cluster_alone_in_its_stratum_joins_another() -> None:
    spanning = [outcome(1, 0, "both", section="a"), outcome(0, 1, "both", section="b")]
    statistic = BOTH([*A, *B, *spanning], "default", None)
    assert sorted(np.unique(np.asarray(statistic.strata), return_counts=True)[1]) in ([20, 32], [22, 30])


def test_what_a_macro_says_is_what_its_parts_agree_on() -> None:
    made = BOTH([*A, *B], "default", None)
    assert (made.better, made.bounds, made.unit) == ("higher", (0.0, 1.0), ACCURACY(A, "default", None).unit)
    told = macro("both", [(1.0, {}, ACCURACY)], title="Score", better=None)(A, "default", None)
    assert (told.title, told.better) == ("Score", None)


def test_weights_are_above_zero() -> None:
    with pytest.raises(ValueError, match="macro 'x'"):
        macro("x", [(0.0, {}, ACCURACY)])
    with pytest.raises(ValueError, match="macro 'x'"):
        macro("x", [])


def test_intervals_of_a_macro_cover() -> None:
    rng, covered = np.random.default_rng(0), 0
    parts = [(1.0, {"section": name}, of_value) for name in "ab"]
    for repeat in range(400):
        sizes = {"a": 40, "b": 12}
        some = [
            replace(outcome(0, 0, f"{name}{i}", section=name), tags=[{"x": rng.exponential()}])
            for name, size in sizes.items() for i in range(size)
        ]  # fmt: skip
        found = one(macro("m", parts), some, draws=400, seed=repeat)
        covered += found.ci_low <= 1 <= found.ci_high
    assert 0.9 <= covered / 400 <= 0.97  # twelve exponentials are skewed: Student's interval covers 92 %


def of_value(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
    return mean("value", np.array([o.tags[0]["x"] for o in outcomes]))


class Thresholded:
    """A share of scores on the right side of a threshold, which is the mean score of the subset `easy`."""

    name, headline, uncalibrated = "thresholded", "right", None

    def fit(self, outcomes: Sequence[Outcome], view: str) -> Json:
        return {"threshold": float(np.mean([o.views[view].scores for o in outcomes if o.facets["subset"] == "easy"]))}

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        above = [[o.views[view].scores > fitted["threshold"]] == o.labels for o in outcomes]
        return [mean("right", np.mean(above, axis=(1, 2)), "fraction")]

    def left_out(self, outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
        return {}

    def ties(self, outcomes: Sequence[Outcome], view: str) -> int:
        return 0


def test_a_threshold_is_fitted_once_and_used_for_every_subset() -> None:
    measure: Measure = Thresholded()
    easy, hard = [outcome(3, 1, str(i), subset="easy") for i in range(4)], [outcome(9, 8, "h", subset="hard")]
    fitted = measure.fit([*easy, *hard], "default")
    assert fitted == {"threshold": 2.0}
    [alone] = measure.statistics(hard, "default", fitted)
    assert alone.value(alone.columns.sum(axis=0)) == 0.5
    [whole] = estimate(measure.statistics([*easy, *hard], "default", fitted), range(5))
    assert whole.value == 0.9


def test_a_fit_reaches_every_part_of_a_macro() -> None:
    def right(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        return Thresholded().statistics(outcomes, view, fitted)[0]

    easy, hard = [outcome(3, 1, str(i), subset="easy") for i in range(4)], [outcome(9, 8, "h", subset="hard")]
    for make in (right, named(Thresholded().statistics, "right")):
        both = macro("both", [(1.0, {"subset": "easy"}, make), (1.0, {"subset": "hard"}, make)])
        assert one(both, [*easy, *hard], {"threshold": 2.0}).value == 0.75


def test_a_measure_is_declared_from_functions() -> None:
    measure: Measure = Unfitted("x", "accuracy", comparison.statistics, comparison.left_out, comparison.ties)
    names = [s.name for s in measure.statistics(A, "default", measure.fit(A, "default"))]
    assert measure.headline in names
    assert (measure.left_out(A, "none"), measure.ties(A, "default")) == ({"no answer": 30}, 0)


def test_a_statistic_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no statistic 'acuracy'"):
        named(PLAIN.statistics, "acuracy")(A, "default", None)


# Every measure of a task that comes with its data.

BUNDLED = [name for name in task_names() if load_task(name).bundled and load_task(name).subject == "reward_model"]


def measured(name: str) -> tuple[Measure, list[Outcome]]:
    """A task's measure, and outcomes of its first examples for a model whose rewards are noise with a head more."""
    task = load_task(name)
    rng = np.random.default_rng(0)
    examples = task.load().examples[:40]
    questions = [(example, task.questions(example, frozenset({"reward"}), "data")) for example in examples]
    return task.measure, [
        task.outcome(example, asked, [Reward((float(rng.normal()),), {"head": (1.0,)}) for _ in asked])
        for example, asked in questions
    ]


@pytest.mark.parametrize("name", BUNDLED)
def test_every_statistic_of_a_task_says_what_it_is(name: str) -> None:
    measure, outcomes = measured(name)
    made = measure.statistics(outcomes, "default", measure.fit(outcomes, "default"))
    estimates = estimate(made, [o.cluster for o in outcomes], draws=50)
    assert measure.headline in [one.name for one in made]
    assert len({one.name for one in made}) == len({one.title for one in made}) == len(made)
    for one, found in zip(made, estimates, strict=True):
        assert all((one.title[:1].isupper(), one.unit, one.caveat)), one.name
        assert len(one.caveat) < 120, one.name
        assert one.bounds == (0.0, 1.0) or one.kind == "number"
        low, high = (np.nan if end is None else end for end in one.bounds)
        assert (found.value < low, found.value > high) == (False, False), one.name


@pytest.mark.parametrize("name", BUNDLED)
def test_what_a_statistic_is_does_not_depend_on_the_outcomes(name: str) -> None:
    measure, outcomes = measured(name)
    words = [
        {s.name: (s.title, s.unit, s.better, s.bounds, s.caveat, s.at) for s in measure.statistics(some, view, None)}
        for some in (outcomes, outcomes[:3])
        for view in ("default", "head")
    ]
    assert all(other.items() <= words[0].items() for other in words[1:])  # a mean over categories wants several
