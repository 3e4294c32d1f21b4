"""JudgeBench: both orders by +1 and -1, and the files of judgements as its own code writes them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from score_files import figures

import rmbench
from rmbench.data.cards import read_card
from rmbench.data.files import Row
from rmbench.data.scorefile import read_entries
from rmbench.errors import DataError
from rmbench.results.verify import verify
from rmbench.tasks.judgebench import TASK

_SOURCES = ("mmlu-pro-law", "livebench-reasoning", "livebench-math", "livecodebench")
_DECISIONS = ("A>B", "B>A", "A=B", None)


def row(number: int, label: str = "A>B") -> dict[str, Any]:
    return {
        "pair_id": f"pair {number}", "original_id": number, "source": _SOURCES[number % 4], "label": label,
        "question": f"How many legs have {number} hens?", "response_model": "somebody",
        "response_A": f"They have {2 * number}.", "response_B": f"I count {3 * number}.",
    }  # fmt: skip


def judged_rows() -> list[dict[str, Any]]:
    """Every two verdicts that a judge can give, for either label; a failed call is null in the place of its object."""
    rows = []
    for number, (label, one, other) in enumerate(
        (label, one, other) for label in ("A>B", "B>A") for one in (*_DECISIONS, "") for other in (*_DECISIONS, "")
    ):
        games = [None if decision == "" else {"judgment": {}, "decision": decision} for decision in (one, other)]
        rows.append(row(number, label) | {"judge_name": "arena_hard", "judgments": games})
    return rows


def by_definition(rows: Sequence[Mapping[str, Any]]) -> float:
    """The share of pairs of which the verdicts of both orders add up to more than 0."""
    turned = {"A>B": "B>A", "B>A": "A>B"}
    won = 0
    for one in rows:
        verdicts = [game and game["decision"] for game in one["judgments"]]
        named = [verdicts[0], *(turned.get(verdict, verdict) for verdict in verdicts[1:])]
        won += sum((name == one["label"]) - (name == turned[one["label"]]) for name in named) > 0
    return won / len(rows)


def written(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_both_orders_add_up(tmp_path: Path) -> None:
    rows = judged_rows()
    scores = written(tmp_path / "judge.jsonl", rows)
    data = written(tmp_path / "data.jsonl", [{**one, "judgments": None} for one in rows])
    (result,) = rmbench.evaluate(f"scores:{scores}", ["judgebench"], data={"judgebench": data})
    verify(result, TASK)
    found = {f"{metric.name} {metric.subset}".removesuffix(" all"): metric.value for metric in result.metrics}
    assert found["accuracy"] == pytest.approx(by_definition(rows))
    for source, section in zip(_SOURCES, ("knowledge", "reasoning", "math", "coding"), strict=True):
        of_source = [one for one in rows if one["source"] == source]
        assert found[f"accuracy section={section}"] == pytest.approx(by_definition(of_source))
    assert found["refused"] == pytest.approx(2 * 20 / 100)


def test_a_single_game_is_one_order(tmp_path: Path) -> None:
    rows = [one | {"judgments": one["judgments"][:1]} for one in judged_rows()]
    found = figures(TASK, written(tmp_path / "judge.jsonl", rows))
    assert found["accuracy"] == pytest.approx(by_definition(rows))


def test_a_reward_model_has_one_order(tmp_path: Path) -> None:
    scores = [(1.5, 0.5), (0.5, 1.5), (1.0, 1.0)]
    rows = []
    for number in range(12):
        a, b = scores[number % 3]
        games = [{"judgment": {"scores": pair}, "decision": "A>B" if pair[0] > pair[1] else "B>A"}
                 for pair in ([a, b], [b, a])]  # fmt: skip
        rows.append(row(number, "A>B" if number % 2 else "B>A") | {"judge_name": "reward_model", "judgments": games})
    found = figures(TASK, written(tmp_path / "rewards.jsonl", rows))
    assert found["accuracy"] == pytest.approx(by_definition(rows)) == pytest.approx(4 / 12)
    entries = list(read_entries(Row(dict(one), "x.jsonl", n) for n, one in enumerate(rows, 1)))
    assert [(one.ask, one.candidates, one.reward.value) for one in entries[:2]] == [
        ("reward", (0,), 1.5), ("reward", (1,), 0.5)
    ]  # fmt: skip


def test_neither_label_nor_policy_reaches_a_model() -> None:
    (example,) = TASK.read([Row(row(3, "B>A"), "x.jsonl", 1)])
    assert [candidate.label for candidate in example.candidates] == [False, True]
    assert example.facets == {"section": "coding", "subset": "livecodebench"}
    asked = TASK.questions(example, frozenset({"compare"}), "")
    assert [place.candidates for _, place in asked if place] == [(0, 1), (1, 0)]
    assert "somebody" not in str([request for request, _ in asked])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "A"}, "`label`: expected 'A>B' or 'B>A', got 'A'"),
        ({"label": None}, "`label`: expected 'A>B' or 'B>A', got None"),
        ({"label": ["A>B"]}, r"`label`: expected 'A>B' or 'B>A', got \['A>B'\]"),
        ({"source": "trivia"}, "`source`: expected one that begins with mmlu-pro, .*, got 'trivia'"),
        ({"response_B": 3}, "`response_B`: expected a text, got 3"),
    ],
)
def test_a_broken_row_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl, row 7, " + message) as error:
        list(TASK.read([Row(row(1) | change, "x.jsonl", 7)]))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judgments": []}, r"`judgments`: expected a list of one or two judgments, got \[\]"),
        ({"judgments": ["A>B"]}, "`judgments`: expected null or an object with `decision`, got 'A>B'"),
        ({"judgments": [{"decision": "A>B"}], "judge_name": "reward_model"}, "`judgments`: expected two numbers in"),
        ({"judgments": [{"decision": ["A>B"]}]}, "`judgments`: expected a text or null as `decision`, got "),
        ({"judgments": [None], "pair_id": None}, "`pair_id`: no pair is named"),
    ],
)
def test_a_broken_judgement_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl, row 7, " + message) as error:
        list(read_entries([Row(row(1) | change, "x.jsonl", 7)]))
    assert len(str(error.value).splitlines()) == 1


def test_published_figures(rmbench_data: Path) -> None:
    published = {
        "reward_model,judge_model=internlm_internlm2-7b-reward": 59.43,
        "reward_model,judge_model=Skywork_Skywork-Reward-Llama-3.1-8B": 62.29,
        "arena_hard,judge_model=o1-mini-2024-09-12": 65.71,
    }
    (data,) = (rmbench_data / "judgebench" / "data").iterdir()
    for name, figure in published.items():
        (scores,) = (rmbench_data / "judgebench" / "outputs").glob(f"*judge_name={name}.jsonl")
        accuracy = figures(TASK, scores, data)["accuracy"]
        assert round(100 * accuracy, 2) == figure
        assert accuracy == pytest.approx(by_definition([*map(json.loads, scores.read_text().splitlines())]))


def test_the_real_file(rmbench_data: Path) -> None:
    (reads,) = read_card("judgebench").front["rmbench"]["reads"]
    data = TASK.load(rmbench_data / reads["data"])
    assert (len(data.examples), data.excluded) == (reads["examples"], {})
    assert sum(len(example.candidates) for example in data.examples) == reads["candidates"]
    assert Counter(example.facets["section"] for example in data.examples) == reads["section"]
    assert sum(bool(example.candidates[0].label) for example in data.examples) == 193
