"""The run report: what is plotted is what the records hold, what fails is shown, and nothing from data is markup."""

from __future__ import annotations

import html
import json
import re
import sys
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rmbench
from rmbench.cli import main
from rmbench.errors import ResultError
from rmbench.report import charts, curves, frame, page
from rmbench.report.failures import worst
from rmbench.results.replay import outcomes_of
from rmbench.results.schema import Metric, TaskResult
from rmbench.runs.loading import load_tasks
from rmbench.types import Example, Outcome, View

HOSTILE = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"


def longest(prompt: str, response: str) -> float:
    return len(response)


def outcome(labels: Sequence[float], scores: Sequence[float], characters: Sequence[float] = (), **more: Any) -> Outcome:
    known = np.array(characters if len(characters) else np.full(len(labels), np.nan), float)
    view = View(np.array(scores, float), None, ())
    columns = {"characters": known}
    return Outcome("id", None, more.get("cluster", "c"), np.array(labels, float), {"default": view}, columns)


def pairs(count: int, **texts: str) -> list[dict[str, str]]:
    """Rows of which a third has the longer answer right; `texts` replace those of row 0."""
    rows = [{"prompt": f"p{i}", "chosen": "r" * (3 + i % 3 * 4), "rejected": "w" * (8 + i)} for i in range(count)]
    return [rows[0] | texts, *rows[1:]]


def evaluate(tmp_path: Path, model: Any, rows: Sequence[Mapping[str, Any]], **options: Any) -> tuple[TaskResult, Any]:
    """A result on `rows` and the texts of its examples, by task and id."""
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (loaded,) = load_tasks(["preference"], data={"preference": data})
    (result,) = rmbench.evaluate(model, [loaded], **options)
    return result, {"preference": {example.id: example for example in loaded.data.examples}}


def written(tmp_path: Path, results: Sequence[TaskResult], texts: Mapping[str, Mapping[str, Example]]) -> str:
    """The page without the library, which is the same in all."""
    path = tmp_path / "report.html"
    page.write(results, texts, path)
    return path.read_text(encoding="utf-8").replace(frame.library(), "")


def specs(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="specs">(.*?)</script>', text, re.DOTALL)
    assert found
    specs: dict[str, Any] = json.loads(found[1])
    return specs


def test_the_length_curve_is_the_mean_of_what_is_left_of_reward_and_length_in_the_prompt() -> None:
    rng = np.random.default_rng(0)
    outcomes = [
        outcome([1, 0, 0], rng.normal(size=3), rng.integers(10, 90, size=3), cluster=str(i)) for i in range(200)
    ]
    rewards = curves.rewards_of(outcomes, "default")
    assert rewards is not None
    points = curves.length_curve(rewards)
    for answers, at in (("right", [0]), ("wrong", [1, 2])):
        some = [point for point in points if point["answers"] == answers]
        assert len(some) == curves.LENGTH_BINS
        centred = [
            (o.columns["characters"][i] - o.columns["characters"].mean(), scores[i] - scores.mean())
            for o in outcomes
            for i in at
            if (scores := o.views["default"].scores) is not None
        ]
        for axis, name in enumerate(("characters", "reward")):
            by_bin = sum(point[name] * point["n"] for point in some) / len(centred)
            assert by_bin == pytest.approx(np.mean([pair[axis] for pair in centred]))
        assert [point["characters"] for point in some] == sorted(point["characters"] for point in some)
        assert all(point["low"] < point["reward"] < point["high"] for point in some)


def test_a_reward_that_is_length_is_a_line_with_slope_one() -> None:
    outcomes = [outcome([1, 0], [i, 2 * i], [i, 2 * i], cluster=str(i)) for i in range(1, 60)]
    rewards = curves.rewards_of(outcomes, "default")
    assert rewards is not None
    for point in curves.length_curve(rewards):
        assert point["reward"] == pytest.approx(point["characters"])


def test_margins_are_counted_on_their_side_of_zero_and_ties_apart() -> None:
    drawn = np.random.default_rng(1).normal(size=300)
    outcomes = [outcome([1, 0, 0], [0, -margin, -margin - 1]) for margin in drawn] + [outcome([1, 0], [2, 2])] * 7
    rewards = curves.rewards_of(outcomes, "default")
    assert rewards is not None
    bars = curves.margins(rewards).bars
    counts = {
        ahead: sum(bar["examples"] for bar in bars if bar["ahead"] == ahead) for ahead in {b["ahead"] for b in bars}
    }
    assert counts == {"right answer ahead": (drawn > 0).sum(), "wrong answer ahead": (drawn < 0).sum(), "tie": 7}
    assert not any(bar["from"] < 0 < bar["to"] for bar in bars)


def test_one_far_margin_leaves_the_others_their_bars_and_is_counted() -> None:
    outcomes = [outcome([1, 0], [margin, 0]) for margin in [*np.linspace(-1, 1, 1000), 1e6]]
    rewards = curves.rewards_of(outcomes, "default")
    assert rewards is not None
    found = curves.margins(rewards)
    assert sum(bar["examples"] for bar in found.bars) == 1001
    assert found.beyond >= 1
    assert len(found.bars) > 10


def test_equal_rewards_share_their_ranks() -> None:
    outcomes = [outcome([0, 1, 0], [5, 5, 1], cluster="a"), outcome([1, 0, 0], [3, 2, 1], cluster="b")]
    rewards = curves.rewards_of(outcomes, "default")
    assert rewards is not None
    assert [point["share"] for point in curves.by_rank(rewards)] == pytest.approx([0.75, 0.25, 0])
    assert curves.share_right(rewards) == pytest.approx(1 / 3)


def test_examples_of_different_sizes_have_the_ranks_they_have() -> None:
    outcomes = [outcome([0, 1], [1, 2], cluster="a"), outcome([1, 0, 0, 1], [4, 3, 2, 1], cluster="b")]
    rewards = curves.rewards_of(outcomes, "default")
    assert rewards is not None
    assert [(p["share"], p["n"]) for p in curves.by_rank(rewards)] == [(1, 2), (0, 2), (0, 1), (1, 1)]


@pytest.mark.parametrize(
    ("scores", "labels"), [([np.nan, 1], [1, 0]), ([np.inf, 1], [1, 0]), ([2, 1], [1, 1]), ([2, 1], [np.nan, 0])]
)
def test_an_example_without_all_it_takes_is_left_out_and_counted(scores: list[float], labels: list[float]) -> None:
    assert curves.rewards_of([outcome(labels, scores)], "default") is None
    rewards = curves.rewards_of([outcome(labels, scores), outcome([1, 0], [2, 1])], "default")
    assert rewards is not None
    assert rewards.left_out == 1


def test_a_hundred_thousand_candidates_become_few_points() -> None:
    rng = np.random.default_rng(2)
    outcomes = [
        outcome([1, *[0] * 9], rng.normal(size=10), rng.integers(1, 999, size=10), cluster=str(i))
        for i in range(10_000)
    ]
    rewards = curves.rewards_of(outcomes, "default")
    assert rewards is not None
    points = [*curves.length_curve(rewards), *curves.margins(rewards).bars, *curves.by_rank(rewards)]
    assert len(points) < 100


def test_the_worst_failures_are_the_largest_margins_with_both_texts(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, longest, pairs(40))
    failures = worst(result, texts["preference"], outcomes_of(result))
    margins = sorted((8 + i - (3 + i % 3 * 4) for i in range(40)), reverse=True)
    assert [f.wrong.reward - f.right.reward for f in failures] == margins[:10]  # type: ignore[operator]
    assert (failures[0].prompt[0].text, failures[0].right.text, failures[0].wrong.text) == ("p39", "rrr", "w" * 47)
    assert (failures[0].right.characters, failures[0].wrong.characters) == (3, 47)


def test_without_texts_failures_are_shown_and_the_page_says_so(tmp_path: Path) -> None:
    result, _ = evaluate(tmp_path, longest, pairs(20))
    text = written(tmp_path, [result], {})
    assert "The texts of these examples were not at hand" in text
    assert text.count('<article class="failure">') == 10


def test_nothing_from_data_is_markup(tmp_path: Path) -> None:
    result, texts = evaluate(
        tmp_path, longest, pairs(20, prompt=HOSTILE, chosen="no", rejected=HOSTILE * 9, subset=HOSTILE, id=HOSTILE)
    )
    hostile = result.model_copy(
        update={
            "subject": result.subject.model_copy(update={"id": f"a/{HOSTILE}"}),
            "config": result.config.model_copy(update={"model": {HOSTILE: HOSTILE}}),
            "calibration_reason": HOSTILE,
        }
    )
    hostile._records = result.records
    text = written(tmp_path, [hostile], texts)
    assert html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    assert "<img" not in text
    assert text.count("<script") == text.count("</script>") == 3
    assert "&lt;script&gt;document.title" in text


def test_a_long_text_is_folded_whole_and_an_endless_one_is_cut_and_says_so(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, longest, pairs(20, chosen="no", rejected="é" * 5000))
    text = written(tmp_path, [result], texts)
    assert "All 5,000 characters" in text
    assert "é" * 5000 in text
    result, texts = evaluate(tmp_path, longest, pairs(20, chosen="no", rejected="é" * 50_000))
    text = written(tmp_path, [result], texts)
    assert "All 50,000 characters, of which the first 20,000 are here" in text
    assert "é" * 20_001 not in text


def test_every_metric_and_count_of_the_primary_view_is_on_the_page(tmp_path: Path) -> None:
    rows = [{**row, "subset": f"s{i % 2}"} for i, row in enumerate(pairs(30))]
    other = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}
    result, texts = evaluate(tmp_path, longest, [*rows, other])
    text = written(tmp_path, [result], texts)
    for metric in result.metrics:
        assert f'<th scope="row">{metric.name}</th>' in text
        if metric.value is not None:
            assert f"<td>{metric.value:.4g}</td>" in text
    (reason,) = result.dataset.excluded
    assert f"{html.escape(reason)} 1" in text
    assert result.dataset.examples_sha256 in text
    assert result.environment["numpy"] in text


def test_the_page_says_what_every_metric_is(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, longest, pairs(30))
    text = html.unescape(written(tmp_path, [result], texts))
    for name, definition in result.statistics.items():
        if result.metric(name).value is not None:
            assert f"<dt>{name}</dt><dd>{definition.title} ({definition.unit}); " in text
            assert definition.caveat in text


def test_models_that_judged_other_responses_are_not_compared(tmp_path: Path) -> None:
    first, texts = evaluate(tmp_path, longest, pairs(20))
    other = {"responses_sha256": "0" * 64}
    second = first.model_copy(update={"dataset": first.dataset.model_copy(update=other)})
    second._records = first.records
    assert "cannot be compared" in written(tmp_path, [first, second], texts)


def test_what_calibration_found_is_drawn_before_and_after(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, longest, pairs(60))
    assert result.calibration is not None, result.calibration_reason
    drawn = written(tmp_path, [result], texts)
    for scope in {each.scope for each in result.calibration.maps}:
        assert f"Reliability: {scope}" in drawn
        spec = next(spec for spec in specs(drawn).values() if spec["description"].startswith(f"Reliability: {scope}"))
        points = [at for data in spec["datasets"].values() for at in data if "probability" in at]
        before = result.calibration.of(scope, "raw").reliability
        assert [at["probability"] for at in points if at["scores"] == "before (raw)"] == [at.predicted for at in before]
        assert len({at["scores"] for at in points}) == 2


def test_where_nothing_is_calibrated_the_reason_is_there(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, lambda prompt, response: float("nan"), pairs(20))
    assert result.calibration_reason
    text = written(tmp_path, [result], texts)
    assert f"not calibrated: {html.escape(result.calibration_reason)}" in text
    assert "no example has a right and a wrong answer and a finite reward for each" in text
    assert "No wrong answer is ahead of the right one." in text
    assert specs(text) == {}


def test_constant_rewards_make_a_page_without_failures(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, lambda prompt, response: 0.5, pairs(20))
    text = written(tmp_path, [result], texts)
    assert "No wrong answer is ahead of the right one." in text
    assert any("Margins" in spec["description"] for spec in specs(text).values())


def test_infinite_rewards_make_a_page_with_their_failures(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, lambda prompt, response: float("inf") if "w" in response else 0.0, pairs(20))
    text = written(tmp_path, [result], texts)
    assert text.count('<article class="failure">') == 10


def test_rewards_too_far_apart_for_a_number_have_no_points() -> None:
    rewards = curves.rewards_of([outcome([1, 0], [1.7e308, -1.7e308], [1, 2])] * 3, "default")
    assert rewards is not None
    assert curves.margins(rewards).bars == []
    json.dumps([curves.length_curve(rewards), curves.by_rank(rewards)], allow_nan=False)


class Compares:
    """Prefers the longer response, and says so by comparing; the one shown first where `moved` says so of a prompt, and
    nobody where `refused` does."""

    answers = frozenset({"compare"})
    fingerprint = None

    def __init__(self, moved: Sequence[str] = (), refused: Sequence[str] = ()) -> None:
        self.moved, self.refused = moved, refused

    def rewards(self, requests: Any) -> Any:
        from rmbench.types import Reward

        for index, request in enumerate(requests):
            first, second = (len(shown.text) for shown in request.responses)
            prompt = request.prompt[0].text
            if prompt in self.refused:
                yield index, Reward((np.nan, np.nan), status="refused", detail="no <b> verdict")
            else:
                yield (
                    index,
                    Reward((1.0, 0.0) if prompt in self.moved else (float(first > second), float(first < second))),
                )


def test_a_model_that_only_compares_has_failures_and_no_empty_plot(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, Compares(), pairs(20))
    text = written(tmp_path, [result], texts)
    assert "Not shown" not in text
    assert "This model compared responses and gave no rewards." in text
    assert "1 of 1 wrong answers were preferred to the right one" in text


@pytest.mark.parametrize("task", ["preference", "best_of_n"])
def test_what_became_of_each_pair_and_what_its_place_did_is_drawn(task: str, tmp_path: Path) -> None:
    # p0: 3 to 8 characters, wrong; p1: moved; p2 and p5: 11 to 10 and 13, right and wrong; p4: refused
    rows: list[Any] = [pairs(6)[place] for place in (0, 1, 2, 4)]
    if task == "best_of_n":
        rows = [
            {"prompt": row["prompt"], "responses": [row["chosen"], row["rejected"]], "labels": [1, 0]} for row in rows
        ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (loaded,) = load_tasks([task], data={task: data})
    (result,) = rmbench.evaluate(Compares(moved=["p1"], refused=["p4"]), [loaded])
    drawn = {spec["description"].split(",")[0]: spec for spec in specs(written(tmp_path, [result], {})).values()}
    counts = {at["name"]: at["count"] for data in drawn["Pairs"]["datasets"].values() for at in data}
    assert counts == {
        "right in both orders": 1,
        "wrong in both orders": 1,
        "whoever is shown first": 1,
        "no verdict in some order": 1,
    }
    places = {
        at["name"]: at["value"]
        for data in drawn["Where the right answer stands"]["datasets"].values()
        for at in data
        if "name" in at
    }
    assert places == {
        "right answer shown first": pytest.approx(2 / 3),
        "right answer shown second": pytest.approx(1 / 3),
    }
    shown = {at["name"] for data in drawn["Orders and refusals"]["datasets"].values() for at in data if "name" in at}
    assert shown == {"consistency", "position bias", "refused"}


def nan_of(prompt: str, response: str) -> float:
    if prompt == "p3":
        raise ValueError("no <i>reward</i> for it")
    return float("nan") if prompt == "p5" and "w" in response else len(response)


@pytest.mark.parametrize(
    ("model", "count", "said"),
    [
        (nan_of, 2, ["error: ", "candidate 0; candidate 1", "nan (candidate 1)"]),
        (Compares(refused=["p3", "p4", "p7"]), 3, ["refused: no <b> verdict", "candidates 0 and 1"]),
    ],
)
def test_what_is_unanswered_is_shown_with_its_reason(
    model: Any, count: int, said: Sequence[str], tmp_path: Path
) -> None:
    result, texts = evaluate(tmp_path, model, pairs(20))
    text = written(tmp_path, [result], texts)
    assert f"{count} of 20 examples have an answer missing" in text
    part = text.partition("<h4>Unanswered</h4>")[2].partition("<h4>Numbers</h4>")[0]
    for line in said:
        assert html.escape(line) in part
    assert "<b>" not in part
    assert "<pre>p3</pre>" in part


def test_where_all_is_answered_nothing_is_said_of_it(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, longest, pairs(20))
    assert "Unanswered" not in written(tmp_path, [result], texts)


WRITTEN = [
    {"prompt": "Say hi", "output": "hi", "tokens": 1, "finish": "stop", "cap": 4000},
    {"prompt": HOSTILE, "output": f"Once {HOSTILE}", "tokens": 4000, "finish": "length", "cap": 4000},
    {"prompt": "Why?", "output": "I'm sorry, I can't do that.", "tokens": 9, "finish": "stop", "cap": 5000},
    {"prompt": "And?", "output": " ", "tokens": 0, "finish": "stop", "cap": 5000},
]


@pytest.mark.parametrize("counted", [True, False], ids=["tokens", "characters"])
def test_the_page_of_a_policy_has_its_texts_lengths_and_caps(counted: bool, tmp_path: Path, capsys: Any) -> None:
    rows = [row if counted else {name: row[name] for name in ("prompt", "output")} for row in WRITTEN]
    file = tmp_path / "outputs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["-p", f"outputs:{file}", "-t", "lengths", "--data", f"lengths={file}", "--out", str(tmp_path / "out")]
    assert main(["run", *arguments]) == 0
    assert main(["view", str(tmp_path / "out"), "--no-browser"]) == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8").replace(frame.library(), "")
    assert html.escape(f"Once {HOSTILE}", quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    assert "<img" not in text
    assert "answered 2, looks like a refusal 1, empty 1" in text
    told = "4,000 tokens as the file counts them" if counted else "characters, end not known, cap not known"
    assert told in text
    assert ("cut by the cap, cap 4,000" in text) == counted
    drawn = specs(text)
    bars = next(spec for spec in drawn.values() if spec["description"].startswith("Lengths"))
    assert sum(at["responses"] for data in bars["datasets"].values() for at in data) == 4
    assert main(["view", str(tmp_path / "out"), "--no-browser", "--all"]) == 0
    again = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "The texts of these responses were not at hand; lengths and caps are." in again
    assert "no results" not in capsys.readouterr().err


@pytest.mark.parametrize("what", ["page", "board", "table"])
def test_what_is_written_stands_whole_or_as_it_was(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rmbench.leaderboard.build import build
    from rmbench.results.tables import target

    result, texts = evaluate(tmp_path, longest, pairs(20), out=tmp_path / "results")
    path = {"page": "report.html", "board": "preference.md", "table": "table.csv"}[what]
    write: dict[str, Callable[[], object]] = {
        "page": lambda: page.write([result], texts, tmp_path / path),
        "board": lambda: build(tmp_path / "results", tmp_path),
        "table": lambda: target(tmp_path / path).write({"a": [1]}),
    }
    (tmp_path / path).write_text("as it was")
    frame.library()
    before = {*tmp_path.iterdir()}

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(ResultError, match="No space left on device"):
            write[what]()
    assert (tmp_path / path).read_text() == "as it was"
    assert {*tmp_path.iterdir()} == before
    write[what]()
    assert (tmp_path / path).read_text(encoding="utf-8") != "as it was"


def test_a_probe_is_drawn_as_dots_and_its_failures_start_from_the_unedited_answer(tmp_path: Path) -> None:
    (loaded,) = load_tasks(["length_bias"], limit=20)
    (result,) = rmbench.evaluate(longest, [loaded])
    texts = {"length_bias": {example.id: example for example in loaded.data.examples}}
    drawn = {spec["description"].split(",")[0]: spec for spec in specs(written(tmp_path, [result], texts)).values()}
    values = {
        title: [at["value"] for data in spec["datasets"].values() for at in data if "value" in at]
        for title, spec in drawn.items()
    }
    whole = [metric for metric in result.metrics if metric.subset == "all"]
    assert values == {
        "Effects": [metric.value for metric in whole if metric.name.startswith("effect_")],
        "Rates": [metric.value for metric in whole if metric.kind == "proportion"],
        "Parts": [metric.value for metric in result.metrics if metric.name == "effect_padding"],
    }
    for failure in worst(result, texts["length_bias"], outcomes_of(result)):
        assert failure.right.tags["edit"] == "sufficient"
        assert failure.wrong.label == 0


def test_two_configurations_of_one_model_are_told_apart(tmp_path: Path) -> None:
    first, texts = evaluate(tmp_path, longest, pairs(20))
    second, _ = evaluate(tmp_path, longest, pairs(20), seed=1)
    text = written(tmp_path, [first, second], texts)
    headings = re.findall(r"<h3>(.*?)<span", text)
    assert len(set(headings)) == 2
    assert len(set(re.findall(r' id="(.*?)"', text))) == len(re.findall(r' id="(.*?)"', text))


def test_models_that_judged_other_examples_are_not_compared(tmp_path: Path) -> None:
    first, texts = evaluate(tmp_path, longest, pairs(20))
    second, _ = evaluate(tmp_path, longest, pairs(21))
    assert "cannot be compared" in written(tmp_path, [first, second], texts)
    assert "cannot be compared" not in written(tmp_path, [first, first], texts)


def test_a_page_over_a_thousand_examples_is_small(tmp_path: Path) -> None:
    words = "Some words of an answer that goes on for a while. " * 40
    rows = [
        {"prompt": f"{i} {words}", "chosen": f"{i} {words}", "rejected": f"{words * 2}{i}", "subset": f"s{i % 20}"}
        for i in range(1000)
    ]
    result, texts = evaluate(tmp_path, longest, rows)
    assert len(written(tmp_path, [result] * 3, texts).encode()) < 3e6


def test_the_policy_lets_only_the_pages_own_scripts_run(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, longest, pairs(20))
    text = written(tmp_path, [result], texts)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    policy = html.unescape(policy)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 3


def test_no_place_of_this_machine_is_on_the_page(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, longest, pairs(20))
    assert str(tmp_path) not in written(tmp_path, [result], texts)
    assert str(Path.home()) not in written(tmp_path, [result], texts)


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, texts = evaluate(tmp_path, longest, pairs(20))
    frame.library.cache_clear()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ResultError, match=r"pip install 'rmbench\[site\]'"):
        page.write([result], texts, tmp_path / "report.html")


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    result, texts = evaluate(tmp_path, longest, pairs(20))
    with pytest.raises(ResultError, match="cannot write the report"):
        page.write([result], texts, tmp_path / "nowhere" / "report.html")


def test_a_spec_can_end_neither_its_element_nor_a_line() -> None:
    text = frame.as_json({"a": "</script><!-- & \u2028\u2029"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028\u2029"}


def test_a_dot_plot_grows_with_its_lines() -> None:
    metric = Metric(name="a", value=1, ci_low=0, ci_high=2, n=3, clusters=3, view="v", subset="all", kind="number")
    assert charts.dots([metric], "title")["height"] == 22


@pytest.fixture
def results(tmp_path: Path) -> Path:
    main(["run", "-m", "length", "-t", "best_of_n", "--limit", "20", "--out", str(tmp_path / "results")])
    (tmp_path / "results" / "report.html").unlink(missing_ok=True)  # as after a run without the extra
    return tmp_path / "results"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was asked to open."""
    found: list[str] = []

    def remember(url: str) -> bool:
        found.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", remember)
    return found


def test_view_builds_the_report_with_bundled_texts_and_opens_it(results: Path, opened: list[str], capsys: Any) -> None:
    assert main(["view", str(results)]) == 0
    report = results / "report.html"
    assert opened == [report.resolve().as_uri()]
    assert capsys.readouterr().out.splitlines()[-1] == str(report)
    (loaded,) = load_tasks(["best_of_n"], limit=20)
    text = html.unescape(report.read_text(encoding="utf-8"))
    assert any(example.prompt[0].text in text for example in loaded.data.examples)


def test_view_opens_the_report_that_is_there(tmp_path: Path, opened: list[str], capsys: Any) -> None:
    (tmp_path / "report.html").write_text("as it was")
    assert main(["view", str(tmp_path), "--no-browser"]) == 0
    assert (tmp_path / "report.html").read_text() == "as it was"
    assert opened == []


def test_view_of_other_rows_than_the_bundled_ones_shows_no_texts(tmp_path: Path, opened: list[str]) -> None:
    data = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"p{i}", "responses": ["a", "bb"], "labels": [1, 0]} for i in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = main(
        ["run", "-m", "length", "-t", "best_of_n", "--data", f"best_of_n={data}", "--out", str(tmp_path / "out")]
    )
    assert code == 0
    (tmp_path / "out" / "report.html").unlink(missing_ok=True)
    assert main(["view", str(tmp_path / "out")]) == 0
    assert "The texts of these examples were not at hand" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("make", "line"),
    [(lambda folder: None, "no such folder"), (lambda folder: folder.mkdir(), "no results in it")],
)
def test_view_of_nothing_is_one_line(
    make: Callable[[Path], None], line: str, tmp_path: Path, opened: list[str], capsys: Any
) -> None:
    make(tmp_path / "results")
    assert main(["view", str(tmp_path / "results")]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert line in error


def test_the_script_of_the_plots_is_kept_and_made_again_where_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RMBENCH_CACHE", str(tmp_path))
    script = frame.library.__wrapped__()
    (kept,) = tmp_path.iterdir()
    made = []
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda snippet: made.append(snippet) or script)
    assert frame.library.__wrapped__() == script
    assert not made
    kept.write_text(kept.read_text().replace("vega", "vage", 1))
    assert frame.library.__wrapped__() == script
    assert len(made) == 1


def test_a_page_of_a_part_says_so(tmp_path: Path) -> None:
    data = {"preference": pairs(6)}
    (result,) = rmbench.evaluate(longest, ["preference"], data=data, limit=4)  # type: ignore[arg-type]
    assert "4 examples, 8 candidates. A part: 4 of 6 examples" in written(tmp_path, [result], {})
