"""Suites, and the one mean that they may have: whole, of fractions, over clusters that share no prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rmbench.errors import UsageError
from rmbench.kinds.suite import Suite, suite_mean
from rmbench.metrics.interval import Estimate, mean
from rmbench.metrics.measure import Unfitted
from rmbench.types import Answer, Outcome


def outcomes(values: Sequence[float], prompts: Sequence[str] | None = None, **more: Any) -> list[Outcome]:
    """One outcome a value, each a cluster of its own that is called by its place."""
    prompts = [f"{more} {place}" for place in range(len(values))] if prompts is None else prompts
    return [
        Outcome(str(place), {}, str(place), np.array([value]), {}, prompt=prompt)
        for place, (value, prompt) in enumerate(zip(values, prompts, strict=True))
    ]


def share(kind: Any = "proportion", better: Any = "higher") -> Any:
    """A measure with one statistic, the mean of what stands as an outcome's label."""

    def of(some: Sequence[Outcome], view: str) -> list[Any]:
        return [mean("share", np.array([outcome.labels[0] for outcome in some]), kind, better=better)]

    return Unfitted("share", "share", of, lambda some, view: {}, lambda some, view: 0)


BOTH = Suite("both", "Two tasks", {"a": ("share", 1), "b": ("share", 3)})
MEASURES = {"a": share(), "b": share()}


@pytest.mark.parametrize(
    ("status", "value", "there"),
    [
        ("missing", np.nan, False),
        ("error", np.nan, False),
        ("nan", 1.0, False),
        ("refused", np.nan, False),
        ("refused", 0.0, True),
        ("inf", 1.0, True),
    ],
)
def test_there_is_no_mean_where_an_example_is_unanswered(status: Any, value: float, there: bool) -> None:
    given = {"a": outcomes([1, 0, value]), "b": outcomes([1, 0], x=2)}
    given["a"][2] = replace(given["a"][2], answers=[Answer((0,), (np.nan,), status)])
    found = suite_mean(BOTH, given, MEASURES)
    assert (found == "1 of 3 examples of a are unanswered") != there
    assert isinstance(found, Estimate) == there


def test_a_mean_is_that_of_its_tasks_by_their_weights() -> None:
    found = suite_mean(BOTH, {"a": outcomes([1, 1, 0, 0], x=1), "b": outcomes([1, 0, 0, 0, 0], x=2)}, MEASURES)
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx((0.5 + 3 * 0.2) / 4)
    assert (found.n, found.clusters) == (9, 9)
    assert found.ci_low < found.value < found.ci_high


@pytest.mark.parametrize(
    ("suite", "given", "options", "reason"),
    [
        (replace(BOTH, tasks={"a": (None, 1)}), {"a": outcomes([1])}, {}, "a has no metric that a mean could take"),
        (BOTH, {"a": outcomes([1])}, {}, "b was not run"),
        (BOTH, {"a": outcomes([1, 0]), "b": outcomes([1, 0])}, {"partial": {"b"}}, "b was not run whole"),
        (
            replace(BOTH, tasks={"a": ("accuracy", 1)}),
            {"a": outcomes([1])},
            {},
            "a gives no accuracy of the view default",
        ),
        (BOTH, {"a": outcomes([1, 0]), "b": outcomes([np.nan])}, {}, "a metric of one of its tasks has no value"),
    ],
)
def test_without_all_of_it_there_is_no_mean_but_a_reason(suite: Suite, given: Any, options: Any, reason: str) -> None:
    assert suite_mean(suite, given, MEASURES, **options) == reason


@pytest.mark.parametrize(("kind", "better"), [("number", "higher"), ("proportion", "lower"), ("fraction", None)])
def test_what_is_no_fraction_or_not_better_when_higher_has_no_mean(kind: Any, better: Any) -> None:
    given = {"a": outcomes([1, 0]), "b": outcomes([1, 0])}
    reason = "share of b is no fraction of which more is better"
    assert suite_mean(BOTH, given, MEASURES | {"b": share(kind, better)}) == reason


def test_clusters_are_joined_by_prompts_and_never_by_name() -> None:
    apart = {"a": outcomes([1, 0, 1], x=1), "b": outcomes([1, 0, 1], x=2)}
    shared = {"a": outcomes([1, 0, 1], ["p", "q", "r"]), "b": outcomes([1, 0, 1], ["r", "q", "s"])}
    # a chain: two prompts of one cluster of `a` stand in two clusters of `b`
    chained = {"a": [replace(outcome, cluster="one") for outcome in shared["a"]], "b": shared["b"]}
    clusters = [suite_mean(BOTH, given, MEASURES).clusters for given in (apart, shared, chained)]  # type: ignore[union-attr]
    assert clusters == [6, 4, 2]


def test_outcomes_whose_prompt_nobody_knows_are_not_one_prompt() -> None:
    found = suite_mean(BOTH, {"a": outcomes([1, 0], ["", ""]), "b": outcomes([1, 0], ["", ""])}, MEASURES)
    assert isinstance(found, Estimate)
    assert found.clusters == 4


def test_intervals_cover_where_tasks_share_prompts_and_would_not_if_they_were_taken_for_two() -> None:
    """Two tasks put the same 60 prompts, and a prompt that is right in one is mostly right in the other."""
    rng, even, runs = np.random.default_rng(0), Suite("even", "", {"a": ("share", 1), "b": ("share", 1)}), 400
    covered = {"joined": 0, "apart": 0}
    prompts = [f"p{place}" for place in range(60)]
    for _ in range(runs):
        right = rng.random(60) < 0.6
        again = np.where(rng.random(60) < 0.1, rng.random(60) < 0.6, right)
        for way, others in (("joined", prompts), ("apart", [f"other {prompt}" for prompt in prompts])):
            given = {"a": outcomes(right.astype(float), prompts), "b": outcomes(again.astype(float), others)}
            found = suite_mean(even, given, MEASURES, draws=400)
            assert isinstance(found, Estimate)
            covered[way] += found.ci_low <= 0.6 <= found.ci_high
    assert 0.92 < covered["joined"] / runs < 0.98
    assert covered["apart"] / runs < 0.89


@pytest.mark.parametrize(
    ("tasks", "message"),
    [({}, "suite 'none' has no tasks"), ({"a": ("share", 0)}, "the weight of a is 0; expected a number above 0")],
)
def test_a_suite_that_cannot_be_is_refused(tasks: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Suite("none", "", tasks)
