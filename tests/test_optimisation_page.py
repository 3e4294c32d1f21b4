"""The page of what optimising rewards does: what it draws is what was found, and nothing from data is markup."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optimisation_reports import NAMES, SAMPLES, simulated

from rmbench.errors import ResultError
from rmbench.metrics.curve import Curve, Figure
from rmbench.optimise.report import Contrast, Entrant, OptimisationReport
from rmbench.report import frame, optimisation
from rmbench.report import optimisation_charts as charts

HOSTILE = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">{{ 7 * 7 }}"
TOPICS = ("gold", "proxy", "kl", "winners", "coverage", "signs", "diversity")


@pytest.fixture(scope="module")
def eight() -> OptimisationReport:
    return simulated()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, eight: OptimisationReport) -> str:
    return written(tmp_path_factory.mktemp("whole"), eight)


def written(tmp_path: Path, report: OptimisationReport) -> str:
    """The page without the library, which is the same in all."""
    path = tmp_path / "optimisation.html"
    optimisation.write(report, path)
    return path.read_text(encoding="utf-8").replace(frame.library(), "")


def specs_of(page: str) -> dict[str, Any]:
    [found] = re.findall(r'<script type="application/json" id="specs">(.*?)</script>', page, re.DOTALL)
    specs: dict[str, Any] = json.loads(found)
    return specs


def shown(spec: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], list[dict[str, Any]]]]:
    """Each layer of a plot with the points that it shows."""
    return [(layer, spec["datasets"][layer["data"]["name"]]) for layer in spec["layer"]]


def marked(spec: Mapping[str, Any], kind: str, style: str) -> list[list[dict[str, Any]]]:
    return [points for layer, points in shown(spec) if (layer["mark"]["type"], layer["mark"]["style"]) == (kind, style)]


def bare(entrant: Entrant) -> Entrant:
    """A reward with infinities on data that have neither answers nor prompts with good and poor samples."""
    nothing = [math.nan] * SAMPLES
    none = Curve(entrant.gold.at, entrant.gold.kl, nothing, nothing, nothing)
    return replace(
        entrant, proxy=none, proxy_rise=Figure(math.nan), tilted=Curve([], [], [], [], []), tilted_gap=Figure(math.nan),
        poor_wins=None, good_loses=None, by_coverage=[], weighted_majority=None, rank_bias=None, likelihood=None,
        variance_within=Figure(math.nan), sign_flips=[], distinct=None, useful=[], fits=[], statuses={},
        turns_over_p=math.nan,
    )  # fmt: skip


def without(report: OptimisationReport, entrants: list[Entrant]) -> OptimisationReport:
    return replace(
        report, entrants=entrants, majority=None, pass_at=None, noisy_oracle=None, measured=[], notes=[], left_out={},
        contrasts=[], good_loses_by_chance=None,
    )  # fmt: skip


def test_every_question_has_a_plot_of_every_reward(whole: str) -> None:
    specs = specs_of(whole)
    assert sorted(re.findall(r'data-spec="(.*?)"', whole)) == sorted(specs)
    assert len(specs) == 1 + len(TOPICS) * len(NAMES)
    for topic in TOPICS:
        assert f'<section id="{topic}">' in whole
    assert "Not shown" not in whole


def test_every_kind_of_plot_is_a_valid_specification(tmp_path: Path, eight: OptimisationReport) -> None:
    import altair

    for spec in specs_of(written(tmp_path, replace(eight, entrants=eight.entrants[:1]))).values():
        few = {**spec, "datasets": {name: points[:1] for name, points in spec["datasets"].items()}}
        altair.LayerChart.from_dict(few)  # raises for what Vega-Lite does not know


def test_every_number_of_a_verdict_is_on_the_page(whole: str, eight: OptimisationReport) -> None:
    page = html.unescape(whole)
    for entrant in eight.entrants:
        row = next(line for line in page.splitlines() if f">{entrant.title}<" in line and entrant.verdict in line)
        for figure in (entrant.degree, entrant.gold_at_best, entrant.gold_at_end):
            assert f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]" in row
        best = entrant.best_n
        assert f"<td>{best.value:.0f} [{best.low:.0f}, {best.high:.0f}]</td>" in row


def test_gold_is_drawn_with_its_band_its_rulers_and_its_best_n(eight: OptimisationReport) -> None:
    entrant, *others = eight.entrants
    rulers = {"oracle": eight.oracle}
    spec = charts.gold_over_n(entrant, others, rulers, eight.random.value, (0.0, 1.0))
    [band], [line] = marked(spec, "area", "first"), marked(spec, "line", "first")
    assert [point["n"] for point in band] == list(eight.sizes)
    for point, low, value, high in zip(line, entrant.gold.low, entrant.gold.value, entrant.gold.high, strict=True):
        assert [point["low"], point["value"], point["high"]] == pytest.approx([low, value, high], rel=1e-4)
    [[dot]], [[foot]] = marked(spec, "point", "ink"), marked(spec, "rule", "ink")
    for mark in (dot, foot):
        assert [mark[end] for end in ("best n", "low", "high")] == [
            entrant.best_n.value,
            entrant.best_n.low,
            entrant.best_n.high,
        ]
    assert foot["value"] == 0
    assert dot["value"] == pytest.approx(entrant.gold_at_best.value, rel=1e-4)
    ground, oracle = marked(spec, "line", "soft")
    assert len({point["of"] for point in ground}) == len(others)
    assert oracle[-1]["value"] == pytest.approx(eight.oracle.value[-1], rel=1e-4)


@pytest.mark.parametrize("number", [0, 1])
def test_a_fit_is_drawn_by_its_form(number: int, eight: OptimisationReport) -> None:
    entrant = replace(eight.entrants[0], fits=[eight.entrants[0].fits[number]])
    spec = charts.gold_over_kl(entrant, [], eight.random.value, (-9.0, 9.0))
    [line] = marked(spec, "line", "ink")
    assert len(line) == 48
    start, a, b = entrant.fits[0].start, entrant.fits[0].a.value, entrant.fits[0].b.value
    for point in line:
        d = math.sqrt(point["kl"])
        gold = start + d * (a - b * (d if number == 0 else math.log(d)))
        assert point["value"] == pytest.approx(gold, rel=1e-3)
    assert line[-1]["kl"] == pytest.approx(entrant.gold.kl[-1], rel=1e-4)


def test_what_a_fit_does_is_said(tmp_path: Path, eight: OptimisationReport) -> None:
    peak, endless = eight.entrants[0].fits  # the second rises
    falling = replace(endless, a=Figure(-0.4), b=Figure(-0.1))
    far = replace(peak, is_extrapolated=True)
    for fits, words in (
        ((peak, endless), "fitted: highest at n = 20, or rising throughout"),
        ((falling, falling), "fitted: falling from the first"),
        ((far, far), "fitted: highest at n = 20 (extrapolated)"),
        ((peak, replace(peak, optimum_n=Figure(7.6e10))), "fitted: highest at n = 20, or highest beyond n = 1,000,000"),
    ):
        page = written(tmp_path, replace(eight, entrants=[replace(eight.entrants[0], fits=fits)]))
        assert f"<span>{words}</span>" in page
        assert ("* beyond the largest n" in page) == any(fit.is_extrapolated for fit in fits)


def test_each_side_has_its_own_colour_and_shape(whole: str, eight: OptimisationReport) -> None:
    entrant, specs = eight.entrants[0], specs_of(whole)
    keys = {key.partition("-plot-")[0]: key for key in specs}

    def values(topic: str, style: str) -> list[float]:
        return [point["value"] for points in marked(specs[keys[topic]], "point", style) for point in points]

    def exactly(numbers: list[float]) -> Any:
        return pytest.approx([one for one in numbers if math.isfinite(one)], rel=1e-4)

    assert entrant.good_loses
    assert entrant.poor_wins
    assert values("winners-1", "first") == exactly(list(entrant.good_loses.value))
    assert values("winners-1", "second") == exactly(list(entrant.poor_wins.value))
    assert values("coverage-1", "first") == exactly([row.good_loses.value for row in entrant.by_coverage])
    assert values("coverage-1", "second") == exactly([row.poor_wins.value for row in entrant.by_coverage])
    assert values("signs-1", "first") == exactly([row.by_noise.value for row in entrant.sign_flips])
    assert values("signs-1", "second") == exactly([row.against_gold.value for row in entrant.sign_flips])
    assert values("overview", "first") == exactly([one.gold_at_best.value for one in eight.entrants])
    assert values("overview", "second") == exactly([one.gold_at_end.value for one in eight.entrants])
    kl = specs[keys["kl-1"]]["layer"][-1]["encoding"]["x"]
    assert (kl["field"], kl["scale"]["type"]) == ("kl", "sqrt")
    chance, *_ = marked(specs[keys["winners-1"]], "line", "soft")
    assert chance[-1]["value"] == pytest.approx(eight.good_loses_by_chance.value[-1], rel=1e-4)


def test_the_others_behind_a_reward_are_not_itself(whole: str) -> None:
    for key, spec in specs_of(whole).items():
        if re.match(r"(gold|diversity)-\d", key):
            ground = next(points for points in marked(spec, "line", "soft") if "of" in points[0])
            assert len({point["of"] for point in ground}) == len(NAMES) - 1


def test_where_gold_is_best_at_the_end_nothing_is_said_of_a_fall(tmp_path: Path, eight: OptimisationReport) -> None:
    entrant = replace(eight.entrants[0], best_n=Figure(12.0), degree=Figure(-0.0001))
    words = "from the best n to 32 it rises by 1.20 SD within prompts, gold falls by 0.000"
    assert words in written(tmp_path, replace(eight, entrants=[entrant]))
    at_end = replace(entrant, best_n=Figure(32.0))
    assert "from the best n" not in written(tmp_path, replace(eight, entrants=[at_end]))


def test_rulers_are_stated_at_doublings_and_at_the_largest_n(tmp_path: Path, eight: OptimisationReport) -> None:
    page = written(tmp_path, replace(eight, entrants=eight.entrants[:1], sizes=range(1, 12)))
    [row] = [line for line in page.splitlines() if '<th scope="col" class="word">n</th>' in line]
    assert re.findall(r"<th scope=\"col\">(\d+)</th>", row) == ["1", "2", "4", "8", "11"]


def test_an_interval_without_an_end_leaves_the_others_their_room(tmp_path: Path, eight: OptimisationReport) -> None:
    entrant = eight.entrants[0]
    assert entrant.distinct
    wide = replace(entrant, distinct=replace(entrant.distinct, high=[1e6, *entrant.distinct.high[1:]]))
    specs = specs_of(written(tmp_path, replace(eight, entrants=[wide])))
    [spec] = [one for key, one in specs.items() if key.startswith("diversity")]
    assert spec["layer"][-1]["encoding"]["y"]["scale"]["domain"][1] < 2 * max(entrant.distinct.value)


def test_a_fit_ends_where_it_leaves_the_plot(eight: OptimisationReport) -> None:
    falling = replace(eight.entrants[0].fits[0], start=0.5, a=Figure(1.0), b=Figure(2.0))
    spec = charts.gold_over_kl(replace(eight.entrants[0], fits=[falling]), [], 0.5, (0.4, 0.7))
    [line] = marked(spec, "line", "ink")
    assert 1 < len(line) < 48
    assert min(point["value"] for point in line) >= 0.4


def test_measured_policies_stand_with_their_reward_alone(whole: str, eight: OptimisationReport) -> None:
    specs = specs_of(whole)
    own = [spec for key, spec in specs.items() if key.startswith("kl-") and marked(spec, "point", "third")]
    assert len(own) == 1
    [points] = marked(own[0], "point", "third")
    assert [(point["method"], point["kl"]) for point in points] == [("PPO", 1), ("PPO", 4), ("PPO", 9), ("DPO", 2)]
    [named] = marked(own[0], "text", "words")
    assert [(point["method"], point["kl"]) for point in named] == [("PPO", 9), ("DPO", 2)]
    assert own[0]["layer"][0]["encoding"]["y"]["scale"]["domain"][0] < 0.32  # the axis reaches the interval of the last
    for policy in eight.measured:  # one of them of a reward that is not here
        assert html.escape(policy.source) in whole


def test_everything_of_one_question_has_one_axis(whole: str) -> None:
    specs = specs_of(whole)
    for topic in ("gold", "kl", "winners", "coverage", "signs", "diversity"):
        axes = [
            tuple(layer["encoding"]["y"]["scale"]["domain"])
            for key, spec in specs.items()
            if re.match(rf"{topic}-\d", key)
            for layer in spec["layer"]
        ]
        assert len(set(axes)) == 1, topic


def test_what_the_data_do_not_say_vanishes_with_its_reason(tmp_path: Path, eight: OptimisationReport) -> None:
    page = written(tmp_path, without(eight, [bare(eight.entrants[0])]))
    assert len(specs_of(page)) == 3  # the overview, gold over n and over KL
    assert re.findall(r"Not shown: (.*?)\.", page) == [
        "a reward of its samples is infinite",
        "no prompt has both good and poor samples",
        "no prompt has both good and poor samples",
        "a reward is infinite, or no prompt has two samples",
        "no two samples have one answer or text, or none is known",
    ]
    for absent in (
        "nan",
        "None",
        "majority",
        "Fits",
        "Useful ranges",
        "Differences",
        "Measured",
        "other rewards",
        "tilted policy",
    ):
        assert absent not in re.sub(r"<style>.*?</style>|<script.*?</script>", "", page, flags=re.DOTALL), absent
    for topic in ("proxy", "winners"):
        assert f'href="#{topic}"' not in page


def test_one_reward_of_several_may_lack_what_others_have(tmp_path: Path, eight: OptimisationReport) -> None:
    page = written(tmp_path, replace(eight, entrants=[bare(eight.entrants[0]), *eight.entrants[1:3]]))
    assert len(specs_of(page)) == 1 + 3 * len(TOPICS) - 5
    assert page.count("Not shown") == 5
    assert 'href="#proxy"' in page


def test_rewards_that_are_told_apart_come_first_and_the_others_are_folded(
    tmp_path: Path, eight: OptimisationReport
) -> None:
    told = Contrast("one", "two", "degree", Figure(0.2, 0.1, 0.3), 0.002, 0.004)
    still = Contrast("one", "three", "degree", Figure(0.0, -0.1, 0.1), 0.01, 0.06)
    page = written(tmp_path, replace(eight, contrasts=[still, told]))
    part = page[page.index('id="contrasts"') :]
    assert "Degree of over-optimisation" in part
    assert "0.200 [0.100, 0.300]" in part[: part.index("<details>")]
    assert "1 not told apart" in part
    assert part.index(">two<") < part.index(">three<")
    page = written(tmp_path, replace(eight, contrasts=[still]))
    assert "No two rewards are told apart." in page


def test_infinities_are_said_and_never_drawn(tmp_path: Path, whole: str, eight: OptimisationReport) -> None:
    assert "20 [12, ∞]" in whole  # the optimum of a fit
    assert "∞ [50, ∞]" in whole
    endless = replace(
        eight.entrants[0].gold, value=[math.inf] * SAMPLES, low=[1.0] * SAMPLES, high=[math.inf] * SAMPLES
    )
    lacking = replace(eight.entrants[0], distinct=endless)
    assert "no two samples have one answer or text" in written(tmp_path, replace(eight, entrants=[lacking]))


def test_nothing_from_data_is_markup(tmp_path: Path) -> None:
    report = simulated((HOSTILE, "demo"))
    policy = replace(report.measured[0], reward=HOSTILE, method=HOSTILE, source=HOSTILE)
    useful = [replace(report.entrants[0].useful[0], member=HOSTILE)]
    entrants = [
        replace(report.entrants[0], useful=useful, statuses={HOSTILE: 1}, likelihood=HOSTILE),
        report.entrants[1],
    ]
    page = written(
        tmp_path,
        replace(report, task=HOSTILE, policy=HOSTILE, gold=HOSTILE, notes=[HOSTILE], left_out={HOSTILE: 1},
                entrants=entrants, measured=[policy]),
    )  # fmt: skip
    assert "<img" not in page
    assert len(re.findall("<script", page)) == 3
    assert "{{ 7 * 7 }}" in page
    escaped = html.escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    assert page.count(escaped) >= 12


def test_long_names_are_cut_and_plots_tell_them_apart(tmp_path: Path) -> None:
    names = ("x" * 3000, "x" * 3001)
    page = written(tmp_path, simulated(names))
    visible = re.sub(r"<dd>.*?</dd>", "", page)  # the names of files are whole
    assert "x" * 121 not in re.sub(r"<script type.*?</script>", "", visible, flags=re.DOTALL)
    overview = specs_of(page)["overview-plot-1"]
    assert len({point["reward"] for _, points in shown(overview) for point in points if "reward" in point}) == 2
    assert all(len(point.get("reward", "")) < 40 for _, points in shown(overview) for point in points)


def test_the_policy_lets_only_the_pages_own_scripts_run(whole: str) -> None:
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', whole)
    assert html.unescape(policy).startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "style=" not in whole  # which the policy would not let work
    assert not re.findall(r'(?:src|href)="(?!#)', whole)


def test_a_report_of_nothing_and_one_that_cannot_be_written_are_one_line(
    tmp_path: Path, eight: OptimisationReport
) -> None:
    with pytest.raises(ResultError, match="no reward to report on"):
        optimisation.write(replace(eight, entrants=[]), tmp_path / "page.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="cannot write the report"):
        optimisation.write(eight, tmp_path / "file" / "page.html")


@pytest.mark.parametrize(
    ("numbers", "ends"),
    [([0.0, 1.0], (-0.04, 1.04)), ([math.nan, 2.0, math.inf], (1.9, 2.1)), ([], (-0.04, 1.04)), ([0.0], (-0.05, 0.05))],
)
def test_an_axis_has_room_for_every_number(numbers: list[float], ends: tuple[float, float]) -> None:
    assert charts.ends_of(numbers) == pytest.approx(ends)
