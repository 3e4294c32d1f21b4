"""Comparison metrics against loops over pairs and tie-breaking orders, and against published figures."""

import json
import os
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.metrics import comparison, summary
from rmbench.metrics.aggregate import aggregate
from rmbench.metrics.interval import estimate
from rmbench.types import Answer, Outcome, View

RANKS = ["accuracy", "accuracy_ties", "accuracy_expected", "mrr", "mrr_expected", "mean_rank", "auc"]


def scored(labels, scores) -> Outcome:
    scores = np.array(scores, float)
    view = View(scores, None, ["ok"] * len(scores))
    return Outcome("id", None, "c", np.array(labels, float), {"default": view})


def compared(labels, beats) -> Outcome:
    view = View(None, np.array(beats, float), ["ok"] * len(labels))
    return Outcome("id", None, "c", np.array(labels, float), {"default": view})


def values(*outcomes: Outcome) -> dict[str, float]:
    estimates = estimate(comparison.statistics(outcomes, "default"), range(len(outcomes)), draws=2)
    return {e.name: e.value for e in estimates}


# A tied pair, a lost one and a won one tell the three accuracies apart.


def test_strict_accuracy_is_a_strict_win_and_a_tie_is_half_when_broken_at_random():
    found = values(scored([1, 0], [2, 2]), scored([1, 0], [1, 2]), scored([1, 0], [3, 2]), scored([0, 1], [2, 3]))
    assert (found["accuracy"], found["accuracy_ties"], found["accuracy_expected"]) == (0.5, 0.75, 0.625)


def test_ranks_of_a_constant_model_on_one_correct_of_ten():
    found = values(scored([1] + [0] * 9, [7.0] * 10))
    assert found["accuracy"] == 0
    assert found["accuracy_ties"] == 1
    assert found["accuracy_expected"] == pytest.approx(1 / 10)
    assert found["mrr"] == pytest.approx(1 / 10)
    assert found["mrr_expected"] == pytest.approx(sum(1 / r for r in range(1, 11)) / 10)  # RewardMATH's random 29.29 %
    assert found["mean_rank"] == pytest.approx(5.5)
    assert found["auc"] == 0.5


def test_graded_labels_make_the_highest_the_only_correct_one():
    assert values(scored([2, 1, 0], [5, 4, 9]))["mrr"] == 0.5


def test_the_best_of_several_correct_candidates_counts():
    assert values(scored([1, 1, 0], [0, 9, 5]))["accuracy"] == 1


def test_comparisons_without_scores_have_every_metric_but_the_margin():
    nan = np.nan
    found = values(compared([1, 0, 0], [[nan, 1, 0], [0, nan, nan], [1, nan, nan]]))
    assert found["mrr"] == 0.5
    assert found["auc"] == 0.5
    assert np.isnan(found["margin_sd"])


# Against loops that share nothing with the vectorised code.


def ranks_by_enumeration(labels, scores) -> dict[str, float]:
    """Every random order of tied candidates, sorted by score, one by one."""
    k, best = len(labels), max(labels)
    ranks = []
    for order in permutations(range(k)):
        ranking = sorted(range(k), key=lambda i: (-scores[i], order[i]))
        ahead = [labels[i] == best for i in ranking].index(True)
        ranks.append(1 + ahead)
    ranks = np.array(ranks)
    return {
        "accuracy": float(ranks.max() == 1),
        "accuracy_ties": float(ranks.min() == 1),
        "accuracy_expected": np.mean(ranks == 1),
        "mrr": 1 / ranks.max(),
        "mrr_expected": np.mean(1 / ranks),
        "mean_rank": np.mean(ranks),
        "auc": np.mean(
            [
                1.0 if scores[c] > scores[w] else 0.5 if scores[c] == scores[w] else 0.0
                for c in range(k)
                for w in range(k)
                if labels[c] == best != labels[w]
            ]
        ),
    }


examples = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.lists(st.integers(0, 2), min_size=k, max_size=k).filter(lambda labels: len(set(labels)) > 1),
        st.lists(st.integers(0, 2), min_size=k, max_size=k),
    )
)


@given(st.lists(examples, min_size=1, max_size=4))
def test_rank_metrics_equal_the_enumeration_of_all_orders(drawn):
    found = values(*(scored(*example) for example in drawn))
    for name in RANKS:
        expected = np.mean([ranks_by_enumeration(*example)[name] for example in drawn])
        assert found[name] == pytest.approx(expected, abs=1e-12), name


@given(st.lists(examples, min_size=1, max_size=4))
def test_margin_is_the_gap_over_the_pooled_deviation_within_examples(drawn):
    gaps, squares, freedom = [], 0.0, 0
    for labels, scores in drawn:
        right = [s for label, s in zip(labels, scores, strict=True) if label == max(labels)]
        wrong = [s for label, s in zip(labels, scores, strict=True) if label != max(labels)]
        gaps.append(np.mean(right) - np.mean(wrong))
        squares += sum((s - np.mean(scores)) ** 2 for s in scores)
        freedom += len(scores) - 1
    found = values(*(scored(*example) for example in drawn))["margin_sd"]
    if squares == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(np.mean(gaps) / np.sqrt(squares / freedom))


@given(st.integers(0, 2**32 - 1))
def test_comparisons_that_no_score_explains_equal_loops_over_pairs(seed):
    rng = np.random.default_rng(seed)
    k = rng.integers(2, 6)
    labels, beats = rng.permutation([1.0, *rng.integers(0, 2, k - 2), 0.0]), rng.choice([0, 0.5, 1], (k, k))
    wrong = [w for w in range(k) if not labels[w]]
    records = [
        (sum(beats[c, w] == 0 for w in wrong), sum(beats[c, w] == 0.5 for w in wrong)) for c in range(k) if labels[c]
    ]
    lost, tied = min(records)
    level = records.count((lost, tied))
    orders = [order.index(1) for order in set(permutations([0] * tied + [1] * level))]
    found = values(compared(labels, beats))
    assert found["accuracy"] == (lost == 0 and tied == 0)
    assert found["accuracy_ties"] == (lost == 0)
    assert found["accuracy_expected"] == pytest.approx(0 if lost else np.mean([x == 0 for x in orders]))
    assert found["mrr"] == pytest.approx(1 / (1 + lost + tied))
    assert found["mrr_expected"] == pytest.approx(np.mean([1 / (1 + lost + x) for x in orders]))
    assert found["mean_rank"] == pytest.approx(np.mean([1 + lost + x for x in orders]))


def test_examples_of_different_sizes_keep_their_place_whatever_the_chunk(monkeypatch):
    rng = np.random.default_rng(0)
    outcomes = [scored([1] + [0] * k, rng.normal(size=k + 1)) for k in rng.integers(1, 6, 50)]
    whole = comparison.statistics(outcomes, "default")
    monkeypatch.setattr(comparison, "_ENTRIES", 30)
    for before, after in zip(whole, comparison.statistics(outcomes, "default"), strict=True):
        np.testing.assert_array_equal(before.columns, after.columns)
    for i in (0, 17, 49):
        [alone] = comparison.statistics(outcomes[i : i + 1], "default")[3].columns
        np.testing.assert_array_equal(whole[3].columns[i], alone)


# What does not count.


def test_an_example_with_a_missing_answer_is_neither_a_loss_nor_a_win():
    outcomes = [scored([1, 0, 0], [3, np.nan, 1]), scored([1, 0], [2, 1])]
    estimates = estimate(comparison.statistics(outcomes, "default"), [0, 1], draws=2)
    assert {(e.n, e.clusters) for e in estimates} == {(1, 1)}
    assert comparison.left_out(outcomes, "default") == {"no answer": 1}


def test_only_pairs_of_a_correct_and_a_wrong_candidate_have_to_be_answered():
    beats = [[np.nan, 1, 1], [0, np.nan, np.nan], [0, np.nan, np.nan]]
    assert comparison.left_out([compared([1, 0, 0], beats)], "default") == {}


def test_every_reason_is_counted():
    outcomes = [
        scored([1, 0], [2, 1]),
        scored([1, 1], [2, 1]),
        scored([1], [2]),
        scored([0, 0], [2, 1]),
        scored([3, 3], [2, 1]),
        scored([1, np.nan], [2, 1]),
        scored([], []),
        Outcome("id", None, "c", np.array([1.0, 0.0]), {}),
    ]
    assert comparison.left_out(outcomes, "default") == {
        "unlabelled candidate": 1,
        "no wrong candidate": 2,
        "no correct candidate": 2,
        "candidates rated alike": 1,
        "no answer": 1,
    }


def test_an_infinite_score_still_wins_but_has_no_margin():
    found = values(scored([1, 0], [np.inf, 1]))
    assert found["accuracy"] == 1
    assert np.isnan(found["margin_sd"])


def test_scores_that_all_tie_have_no_margin_whatever_the_rounding():
    assert np.isnan(values(scored([1] + [0] * 9, [0.1] * 10), scored([1, 0, 0], [0.3] * 3))["margin_sd"])


def test_scores_too_large_to_square_have_no_margin_and_raise_no_warning():
    found = values(scored([1, 0], [1e308, -1e308]), scored([1, 0], [3, 1]))
    assert found["accuracy"] == 1
    assert found["margin_sd"] == pytest.approx(2**0.5)


def test_ties_counts_examples_in_which_the_best_correct_one_ties():
    outcomes = [scored([1, 0], [1, 1]), scored([1, 0, 0], [1, 1, 1]), scored([1, 1, 0], [1, 2, 1])]
    assert comparison.ties(outcomes, "default") == 2


def test_no_outcome_is_no_number():
    assert all(np.isnan(value) for value in values().values())


# Figures of the RewardMATH paper, from the official score files (KNOWLEDGE: accuracy and MRR in %).


@pytest.fixture(scope="module")
def official():
    if not (folder := os.environ.get("RMBENCH_DATA")):
        pytest.skip("RMBENCH_DATA is not set")
    return lambda name: json.loads((Path(folder) / "rewardmath" / "scores" / f"{name}_reward.json").read_text())


def percent(outcomes: list[Outcome], *names: str) -> tuple[float, ...]:
    found = values(*outcomes)
    return tuple(round(100 * found[name], 2) for name in names)


ONE_OF_TEN = [1] + [0] * 9


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("internlm2", (37.27, 55.17)),
        ("skywork_llama3", (22.15, 44.69)),
        ("ArmoRM", (20.50, 42.18)),
        ("beaver", (7.25, 26.59)),
        ("oasst-rm", (7.04, 27.03)),
    ],
)
def test_official_figures_of_scalar_rewards(official, name, figures):
    assert percent([scored(ONE_OF_TEN, row["score"]) for row in official(name)], "accuracy", "mrr") == figures


def test_official_figures_of_a_judge_that_ties(official):
    names = ("accuracy", "accuracy_ties", "accuracy_expected")
    assert percent([scored(ONE_OF_TEN, row["score"]) for row in official("gpt4o")], *names) == (25.98, 51.75, 35.71)


@pytest.mark.parametrize(
    ("name", "view", "figures"),
    [
        ("ReasonEval_7B", "prod", (18.22, 38.49)),
        ("ReasonEval_7B", "geometric_mean", (20.29, 39.26)),
        ("Math_Shepherd", "prod", (17.18, 34.68)),
        ("Math_Shepherd", "geometric_mean", (15.73, 33.61)),
    ],
)
def test_official_figures_of_process_rewards(official, name, view, figures):
    outcomes = [scored(ONE_OF_TEN, aggregate(row["score"])[view]) for row in official(name)]
    assert percent(outcomes, "accuracy", "mrr") == figures


@pytest.mark.parametrize(
    ("name", "figures"),
    [("gpt4o", (24.64, 48.92)), ("llama3_8B", (0.62, 19.06)), ("prometheus_7B", (2.28, 21.64))],
)
def test_official_figures_of_pairwise_judges(official, name, figures):
    outcomes = []
    for row in official(f"{name}_pairwise"):
        beats = np.full((10, 10), np.nan)
        beats[0, 1:] = [a == b for a, b in zip(row["score"], row["chosen_position"], strict=True)]
        outcomes.append(compared(ONE_OF_TEN, beats))
    assert percent(outcomes, "accuracy", "mrr") == figures


# JudgeBench: +1 for the right one, -1 for the wrong one, 0 for a tie or no verdict; right where the sum is above 0.

VERDICTS = {"win": (1.0, 0.0), "loss": (0.0, 1.0), "tie": (0.5, 0.5), "null": None}
POINTS = {"win": 1, "loss": -1, "tie": 0, "null": 0}


def both_orders(first, second, null_verdict="nought"):
    """The first of two responses is right; each verdict is of that one, whichever place it was shown in."""
    answers = []
    for verdict, shown in ((first, (0, 1)), (second, (1, 0))):
        masses = VERDICTS[verdict] or (np.nan, np.nan)
        answers.append(Answer(shown, tuple(masses[i] for i in shown), "ok" if VERDICTS[verdict] else "refused"))
    labels = np.array([1.0, 0.0])
    beats = comparison.beats_of_masses(labels, answers, null_verdict)
    return Outcome("e", {}, "e", labels, {"default": View(None, beats, ["ok"] * 2)}, answers=answers)


@pytest.mark.parametrize("first", VERDICTS)
@pytest.mark.parametrize("second", VERDICTS)
def test_one_null_of_two_orders_drops_no_pair_where_a_null_is_nought(first, second):
    total = POINTS[first] + POINTS[second]
    found = values(both_orders(first, second))
    assert (found["accuracy"], found["accuracy_ties"]) == (float(total > 0), float(total >= 0))
    dropped = comparison.left_out([both_orders(first, second, "no answer")], "default")
    assert dropped == ({"no answer": 1} if "null" in (first, second) else {})


@pytest.mark.parametrize("first", VERDICTS)
@pytest.mark.parametrize("second", VERDICTS)
def test_a_null_that_is_a_loss_is_one_of_the_right_response_wherever_it_was_shown(first, second):
    total = sum(-1 if verdict == "null" else POINTS[verdict] for verdict in (first, second))
    found = values(both_orders(first, second, "loss"))
    assert (found["accuracy"], found["accuracy_ties"]) == (float(total > 0), float(total >= 0))


def test_a_made_set_of_nulls_ties_and_flips_has_the_accuracy_of_a_plain_loop():
    rng = np.random.default_rng(0)
    pairs = [tuple(rng.choice(list(VERDICTS), 2)) for _ in range(200)]
    right = sum(POINTS[first] + POINTS[second] > 0 for first, second in pairs)
    assert values(*(both_orders(*pair) for pair in pairs))["accuracy"] == pytest.approx(right / 200)


def test_the_official_file_of_a_judge_of_pairs(rmbench_data):
    [path] = (rmbench_data / "judgebench" / "outputs").glob("*judge_model=o1-mini*.jsonl")
    turned = {"A>B": "B>A", "B>A": "A>B"}
    outcomes = []
    for row in map(json.loads, path.read_text().splitlines()):
        first, second = (judgment["decision"] for judgment in row["judgments"])
        second = turned.get(second, second)  # the second order shows B first
        told = ["win" if one == row["label"] else "loss" if one in turned else "tie" for one in (first, second)]
        outcomes.append(both_orders(*told))
    found = estimate(comparison.statistics(outcomes, "default"), range(len(outcomes)), draws=2)[0]
    assert (found.value * 350, found.n) == (pytest.approx(230), 350)


# A judge that names the best of k and says nothing of the others.


def picked(labels, *picks, null_verdict="no answer", shown=None, statuses=None):
    k = len(labels)
    shown = shown or [tuple(range(k))] * len(picks)
    statuses = statuses or ["ok"] * len(picks)
    answers = [
        Answer(tuple(some), tuple(float(i == pick) for i in range(len(some))), status, pick)
        for some, pick, status in zip(shown, picks, statuses, strict=True)
    ]
    labels = np.array(labels, float)
    beats = comparison.beats_of_masses(labels, answers, null_verdict)
    return Outcome("e", {}, "e", labels, {"default": View(None, beats, ["ok"] * k)}, answers=answers)


def test_sixty_right_picks_of_a_hundred_are_an_accuracy_of_60_percent():
    outcomes = [picked([1, 0, 0, 0], 0 if i < 60 else 1 + i % 3) for i in range(100)]
    found = {e.name: e for e in estimate(comparison.statistics(outcomes, "default"), range(100), draws=2)}
    for name in ("accuracy", "accuracy_ties", "accuracy_expected"):
        assert (found[name].value, found[name].n) == (0.6, 100)
    assert comparison.left_out(outcomes, "default") == {}
    for name in ("mrr", "mrr_expected", "mean_rank", "auc", "margin_sd"):
        assert np.isnan(found[name].value)
        assert found[name].n == 0


def test_picks_over_orders_are_counted_and_equal_counts_tie():
    orders = [(0, 1, 2), (2, 1, 0), (1, 2, 0)]
    assert values(picked([1, 0, 0], 0, 2, 0, shown=orders))["accuracy"] == 1  # 0, 0, 1
    assert values(picked([1, 0, 0], 1, 1, 2, shown=orders))["accuracy_ties"] == 0  # 1, 1, 0
    tied = picked([1, 0, 0], 0, 0, shown=orders[:2])  # 0, 2
    assert [values(tied)[f"accuracy{of}"] for of in ("", "_ties", "_expected")] == [0, 1, 0.5]
    assert comparison.ties([tied], "default") == 1
    assert values(picked([1, 0, 0], 0, 1, 2))["accuracy_expected"] == pytest.approx(1 / 3)


def test_any_of_several_correct_ones_may_be_picked():
    assert values(picked([1, 1, 0, 0], 1))["accuracy_expected"] == 1
    assert values(picked([1, 1, 0, 0], 2))["accuracy_ties"] == 0


def test_a_pick_of_two_says_all_there_is():
    found = values(picked([1, 0], 1))
    assert (found["accuracy"], found["mrr"], found["auc"]) == (0, 0.5, 0)


def test_a_failed_answer_beside_picks_is_no_answer_or_a_loss():
    assert comparison.left_out([picked([1, 0, 0], 0, None, statuses=["ok", "error"])], "default") == {"no answer": 1}
    refused = {"statuses": ["ok", "refused"], "null_verdict": "loss"}
    assert values(picked([1, 0, 0], 0, None, **refused))["accuracy_ties"] == 1
    assert values(picked([1, 0, 0], 1, None, **refused))["accuracy_ties"] == 0
    assert values(picked([1, 0, 0], 0, None, statuses=["ok", "missing"]))["accuracy"] == 1
    nought = {"statuses": ["ok", "refused"], "null_verdict": "nought"}
    assert values(picked([1, 0, 0], 0, None, **nought))["accuracy"] == 1
    assert comparison.left_out([picked([1, 0, 0], 0, None, **nought | {"statuses": ["ok", "error"]})], "default") == {
        "no answer": 1
    }


def test_shares_of_picks_that_are_the_same_sum_in_another_order_tie():
    shares = [(a, b, *(0.12,) * 5) for a, b in ((0.1, 0.3), (0.2, 0.2), (0.3, 0.1))]
    labels, answers = np.eye(7)[0], [Answer(tuple(range(7)), some, pick=0) for some in shares]
    assert sum(one.values[0] for one in answers) != sum(one.values[1] for one in answers)
    assert comparison.beats_of_masses(labels, answers, None)[0].tolist()[1:] == [0.5, *[1] * 5]


def test_length_says_nothing_of_pairs_that_a_pick_did_not_decide():
    lengths = {"characters": np.array([10.0, 20.0, 30.0])}
    outcomes = [replace(picked([1, 0, 0], i % 2), columns=lengths, cluster=str(i)) for i in range(10)]
    found = {e.name: e for e in estimate(summary.statistics(outcomes, "default"), range(10), draws=2)}
    assert found["accuracy_right_shorter"].n == 0
    assert (found["accuracy_always_shorter"].value, found["accuracy_always_shorter"].n) == (1, 10)


# Beside the mean over examples, the mean over categories.


@pytest.mark.parametrize("sizes", [{"a": 30, "b": 5}, {"a": 4, "b": 40, "c": 10}])
def test_where_a_facet_has_categories_the_mean_over_them_stands_beside_that_over_examples(sizes):
    rng = np.random.default_rng(8)
    outcomes = [
        replace(scored([1, 0], [rng.random() + (section == "a"), rng.random()]), cluster=f"{section} {i}",
                facets={"section": section, "language": "en"})
        for section, n in sizes.items() for i in range(n)
    ]  # fmt: skip
    found = {e.name: e for e in estimate(summary.statistics(outcomes, "default"), [o.cluster for o in outcomes])}
    won = {
        section: [o.views["default"].scores.argmax() == 0
                  for o in outcomes if o.facets["section"] == section]
        for section in sizes
    }  # fmt: skip
    assert found["accuracy"].value == pytest.approx(np.mean(np.concatenate(list(won.values()))))
    macro = found["accuracy_macro_section"]
    assert macro.value == pytest.approx(np.mean([np.mean(part) for part in won.values()]))
    assert macro.ci_low < macro.value < macro.ci_high
    assert "accuracy_macro_language" not in found  # one category alone


def test_a_facet_that_names_every_example_is_no_division_into_categories():
    outcomes = [replace(scored([1, 0], [1, 0]), cluster=str(i), facets={"name": str(i)}) for i in range(60)]
    assert not [one for one in summary.statistics(outcomes, "default") if one.name.startswith("accuracy_macro")]
