"""Which figures stand where follows from what statistics say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

import rmbench
from rmbench.cli._report import print_results
from rmbench.report.page import _errors
from rmbench.results.digest import FITTED, Digest, calibration_errors, calibration_map, few_clusters, said
from rmbench.results.schema import Definition, TaskResult


def made(unit: str, better: Any = "higher", kind: Any = "fraction", bounds: Any = (0.0, 1.0)) -> Definition:
    return Definition(title="A title", unit=unit, better=better, bounds=bounds, caveat="a caveat", kind=kind)


@pytest.fixture
def digest() -> Digest:
    """The figures of a benchmark that nobody knows."""
    return Digest(
        "gold",
        {
            "gold": made("share of tales", kind="proportion"),
            "silver": made("share of tales"),
            "whatever": made("share of tales", better=None),
            "loss": made("share of tales", better="lower"),
            "depth": made("fathoms", kind="number", bounds=(0.0, None)),
            "tide": made("correlation", better=None, kind="number", bounds=(-1.0, 1.0)),
            "ebb": made("correlation", better=None, kind="number", bounds=(-1.0, 1.0)),
        },
        frozenset(),
    )


def test_of_the_headlines_unit_and_direction_are_variants_and_without_direction_rules(digest: Digest) -> None:
    assert digest.variants == ["silver"]
    assert digest.rules == ["whatever"]


def test_beside_stands_the_first_of_each_other_unit_with_both_ends(digest: Digest) -> None:
    assert digest.beside == ["tide"]


def test_a_share_is_headed_in_percent(digest: Digest) -> None:
    assert [digest.heading(name) for name in ("gold", "depth", "not_there")] == ["gold %", "depth", "not there"]


def test_a_headline_that_nothing_has_leaves_the_others_beside_it(digest: Digest) -> None:
    lost = Digest("lost", digest.statistics, frozenset())
    assert (lost.variants, lost.rules, lost.beside) == ([], [], ["gold", "whatever", "loss", "tide"])


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        (made("tales"), ["A title (tales)", "higher is better", "0 to 1", "a caveat"]),
        (made("", None, "number", (0.0, None)), ["A title", "neither more nor less is better", "from 0", "a caveat"]),
        (made("", "lower", "number", (None, 3.0)), ["A title", "lower is better", "to 3", "a caveat"]),
    ],
)
def test_a_definition_in_words(definition: Definition, words: list[str]) -> None:
    assert said(definition) == words


@pytest.fixture(scope="module")
def judged() -> TaskResult:
    [result] = rmbench.evaluate("demo", ["rewardmath_mini"], limit=40)
    return result


@pytest.mark.parametrize(
    ("clusters", "effective", "line"),
    [
        (500, 1.48, "500 clusters, which tell as much as 1.5 alike in size"),
        (8, 8.0, "8 clusters; below 10"),
        (1, 1.0, "1 cluster; below 10"),
        (12, 11.0, None),
        (500, None, None),  # a file of yesterday does not say
    ],
)
def test_few_clusters_or_a_few_large_ones_are_said(
    judged: TaskResult, clusters: int, effective: float | None, line: str | None
) -> None:
    headline = judged.metric("accuracy").model_copy(update={"clusters": clusters, "clusters_effective": effective})
    found = few_clusters(judged.model_copy(update={"metrics": [headline]}))
    assert (found is None) == (line is None)
    assert line is None or line in str(found)


def test_below_some_hundred_clusters_a_calibration_error_is_its_interval_alone(judged: TaskResult) -> None:
    assert judged.calibration is not None
    for scope in FITTED:
        for fitted in (False, True):
            found = calibration_map(judged.calibration, scope, fitted=fitted)
            assert found is not None
            square, absolute = calibration_errors(found)
            assert square.value is None
            assert square.ci_low is not None
            assert absolute.value is not None
            assert absolute.ci_low is not None
            assert absolute.ci_high is not None
            assert absolute.ci_low <= absolute.value <= absolute.ci_high
            many = [one.model_copy(update={"clusters": 200}) for one in found.figures]
            whole = found.model_copy(update={"figures": many})
            assert calibration_errors(whole)[0].value == found.figure("ece").value


def test_terminal_and_page_show_the_same_maps_and_never_a_bare_0(
    judged: TaskResult, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged.calibration is not None
    before, after = (calibration_map(judged.calibration, "pairs", fitted=fitted) for fitted in (False, True))
    assert before is not None
    assert after is not None
    print_results([judged])
    printed, page = " ".join(capsys.readouterr().out.split()), _errors(before, after)
    for found in (before, after):
        square, _ = calibration_errors(found)
        assert square.ci_low is not None
        assert square.ci_high is not None
        ends = f"[{100 * square.ci_low:.1f}, {100 * square.ci_high:.1f}]"
        assert ends in printed
        assert f"({found.map}) RMS {ends}, L1" in page
        assert f"0.0 {ends}" not in printed
    assert "root mean square" in printed
    assert "the published ECE" in printed
    assert "debiased" in page
