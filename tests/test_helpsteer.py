"""HelpSteer2, its preferences, and HelpSteer3: what their rows become, and their figures as plain loops."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from fake_models import Scripted
from test_benchmark_sources import on_disk

import rmbench
from rmbench.data.dataset import LeftOut, collect
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.metrics.interval import estimate
from rmbench.results.schema import TaskResult
from rmbench.results.verify import verify
from rmbench.tasks import helpsteer2, helpsteer2_preference, helpsteer3
from rmbench.types import Example, Message, Reward

RATED = {"prompt": "Name a fruit.", "response": "A pear.", "helpfulness": 3, "correctness": 4, "coherence": 4,
         "complexity": 1, "verbosity": 0}  # fmt: skip


PREFERRED = {"domain": "code", "language": "python", "context": [{"role": "user", "content": "Sort this."}],
             "response1": "sorted(x)", "response2": "x.sort()", "overall_preference": -2,
             "individual_preference": [{"score": score, "reasoning": "a", "feedback1": "b", "feedback2": "c"}
                                       for score in (-1, 0)]}  # fmt: skip


PAIR = {"split": "val", "prompt": "Sort this.\n<extra_id_1>Assistant\nHow?\n<extra_id_1>User\nUp.",
        "response_1": "1, 2", "response_2": "2, 1", "preference_strength": 1,
        "preference_statement": "@Response 2 is better.", "preference_elaboration": "It goes up.",
        "three_most_similar_preferences": [{"statement": "a", "elaboration": "b", "strength": strength}
                                           for strength in (1, 2, -1)],
        "all_preferences_unprocessed": [{"strength": strength, "justification": "a b"}
                                        for strength in (1, 2, -1, -100)]}  # fmt: skip


def read(task: str, *rows: Mapping[str, Any]) -> list[Example | LeftOut]:
    return list(rmbench.load_task(task).read(Row(dict(row), "x.jsonl", at) for at, row in enumerate(rows, 1)))


def read_one(task: str, row: Mapping[str, Any]) -> Example:
    (example,) = read(task, row)
    assert isinstance(example, Example)
    return example


def judged(task: str, rows: Sequence[Mapping[str, Any]], tmp_path: Path) -> TaskResult:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = Scripted(lambda request: reward_of(request.responses[0].text or ""))
    (result,) = rmbench.evaluate(model, [task], data={task: tmp_path / "rows.jsonl"})
    verify(result, rmbench.load_task(task))
    return result


def figures(task: Any, rows: Sequence[Mapping[str, Any]], **facets: str) -> dict[str, float]:
    """What a task measures of rewards that stand in the responses, of the examples with these facets."""
    outcomes = []
    for example in collect(read(task.name, *rows), []).examples:
        if facets.items() <= example.facets.items():
            questions = task.questions(example, frozenset({"reward"}), "data")
            rewards = [Reward((reward_of(question.request.responses[0].text or ""),)) for question in questions]
            outcomes.append(task.outcome(example, questions, rewards))
    statistics = task.measure.statistics(outcomes, "default", None)
    return {one.name: one.value for one in estimate(statistics, [one.cluster for one in outcomes], draws=2)}


def reward_of(text: str) -> float:
    """The number before the first space of a response."""
    return float(text.split(maxsplit=1)[0])


# HelpSteer2


def test_rows_of_one_prompt_are_one_example_a_respect() -> None:
    examples = read("helpsteer2", RATED, RATED | {"prompt": "Other?"}, RATED | {"response": "No.", "helpfulness": 0})
    assert all(isinstance(example, Example) for example in examples)
    respects = [(one.facets["attribute"], one.prompt[0].text) for one in examples if isinstance(one, Example)]
    assert respects == [(name, prompt) for prompt in ("Name a fruit.", "Other?") for name in helpsteer2.ATTRIBUTES]
    first, second = examples[:2]
    assert isinstance(first, Example)
    assert isinstance(second, Example)
    assert [(one.text, one.label) for one in first.candidates] == [("A pear.", 3.0), ("No.", 0.0)]
    assert [one.label for one in second.candidates] == [4.0, 4.0]
    assert first.criteria[0].text == "helpfulness"


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ("Hi", [("user", "Hi")]),
        ("", [("user", "")]),
        (
            "Hi\n<extra_id_1>Assistant\nHello\n\n<extra_id_1>User\nAnd now?\n",
            [("user", "Hi"), ("assistant", "Hello\n"), ("user", "And now?\n")],
        ),
        ("<extra_id_1>User\nHi\n<extra_id_1>Assistant\n", [("user", "Hi"), ("assistant", "")]),
        ("What is <extra_id_1>User?", [("user", "What is <extra_id_1>User?")]),
    ],
)
def test_a_prompt_of_helpsteer2_is_taken_apart_into_turns(prompt: str, turns: list[tuple[str, str]]) -> None:
    assert helpsteer2.turns(prompt) == tuple(Message(role, text) for role, text in turns)


def rated_rows(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Two responses to each of thirty prompts, with rewards in halves as texts, so that some tie."""
    return [
        {"prompt": f"{prompt}?", "response": f"{rng.integers(0, 7) / 2} {prompt} {side}"}
        | {name: int(rng.integers(0, 5)) for name in helpsteer2.ATTRIBUTES}
        for prompt in range(30)
        for side in "ab"
    ]


def test_each_respect_has_its_pairs_and_its_correlation() -> None:
    rows = rated_rows(np.random.default_rng(0))
    whole = figures(helpsteer2.TASK, rows)
    rewards = [reward_of(row["response"]) for row in rows]
    for name in helpsteer2.ATTRIBUTES:
        ratings = [row[name] for row in rows]
        won, pairs = 0.0, 0
        for at in range(0, len(rows), 2):
            better, worse = (at, at + 1) if ratings[at] > ratings[at + 1] else (at + 1, at)
            if ratings[better] == ratings[worse]:
                continue
            pairs += 1
            won += 0.5 if rewards[better] == rewards[worse] else float(rewards[better] > rewards[worse])
        r = np.corrcoef(rewards, ratings)[0, 1]
        assert whole[f"{name}_pair_accuracy"] == pytest.approx(won / pairs)
        assert whole[f"{name}_pearson"] == pytest.approx(r)
        if name == "verbosity":
            part = figures(helpsteer2.TASK, rows, attribute=name)
            assert [part["pair_accuracy"], part["pearson"]] == pytest.approx([won / pairs, r])


def test_the_records_of_helpsteer2_give_its_figures_again(tmp_path: Path) -> None:
    result = judged("helpsteer2", rated_rows(np.random.default_rng(1))[:4], tmp_path)
    assert result.task.headline == "helpfulness_pair_accuracy"
    assert result.statuses == {"ok": 20}


# HelpSteer3


def test_a_preference_below_0_is_for_the_first_response() -> None:
    example = read_one("helpsteer3", PREFERRED)
    assert example.prompt == (Message("user", "Sort this."),)
    assert example.facets == {"domain": "code", "language": "python", "strength": "2"}
    first, second = example.candidates
    assert [(one.text, one.label) for one in (first, second)] == [("sorted(x)", 5.0), ("x.sort()", 1.0)]
    assert str([first.annotations, second.annotations]) == "[(1.0, 0.5, nan), (0.0, 0.5, nan)]"
    turned = read_one("helpsteer3", PREFERRED | {"overall_preference": 3, "context": "Sort this."})
    assert turned.prompt == example.prompt
    assert [one.label for one in turned.candidates] == [0.0, 6.0]


def test_a_tie_is_data_and_has_no_strength() -> None:
    example = read_one("helpsteer3", without(PREFERRED, "individual_preference") | {"overall_preference": 0})
    assert [(one.label, one.annotations) for one in example.candidates] == [(3.0, ()), (3.0, ())]
    assert "strength" not in example.facets


def test_a_row_without_a_response_is_left_out() -> None:
    assert read("helpsteer3", PREFERRED | {"response2": None}) == [LeftOut("no response")]
    assert read("helpsteer3", PREFERRED | {"context": []}) == [LeftOut("no prompt")]


def preferred_rows(rng: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """Pairs of every domain, in texts that begin with their rewards, some of which tie."""
    languages = ("english", "english", "python", "korean")
    return [
        PREFERRED
        | {"domain": helpsteer3.DOMAINS[at % 4], "language": languages[at % 4], "context": f"{at}?"}
        | {f"response{side}": f"{rng.integers(0, 4)} {at} {side}" for side in (1, 2)}
        | {"overall_preference": int(rng.integers(-3, 4))}
        | {"individual_preference": [{"score": int(score)} for score in rng.integers(-2, 3, 2 + at % 2)]}
        for at in range(count)
    ]


def wins(rows: Sequence[Mapping[str, Any]], first: str, second: str, preference: str) -> list[tuple[int, float]]:
    """The strength of each preference that is none of 0, and whether the better response has strictly more reward."""
    won_by_strength = []
    for row in rows:
        ahead, strength = reward_of(row[first]) - reward_of(row[second]), row[preference]
        if strength:
            won_by_strength.append((abs(strength), float(ahead > 0 if strength < 0 else ahead < 0)))
    return won_by_strength


def test_pairs_count_alike_or_by_their_strength_or_domain() -> None:
    rows = preferred_rows(np.random.default_rng(2), 100)
    whole = figures(helpsteer3.TASK, rows)
    every = wins(rows, "response1", "response2", "overall_preference")
    assert whole["accuracy"] == pytest.approx(sum(won for _, won in every) / len(every))
    weighted = sum(strength * won for strength, won in every) / sum(strength for strength, _ in every)
    assert whole["strength_weighted_accuracy"] == pytest.approx(weighted)
    for strength in (1, 3):
        of = [won for weight, won in every if weight == strength]
        part = figures(helpsteer3.TASK, rows, strength=str(strength))
        assert [part["accuracy"], part["strength_weighted_accuracy"]] == pytest.approx([sum(of) / len(of)] * 2)
    of_domain = wins([row for row in rows if row["domain"] == "stem"], "response1", "response2", "overall_preference")
    stem = figures(helpsteer3.TASK, rows, domain="stem")["accuracy"]
    assert stem == pytest.approx(sum(won for _, won in of_domain) / len(of_domain))
    three = [{np.sign(vote["score"]) for vote in row["individual_preference"]} for row in rows[1::2]]
    assert whole["unanimous"] == pytest.approx(sum(len(votes) == 1 for votes in three) / len(three))


def test_the_records_of_helpsteer3_give_its_figures_again(tmp_path: Path) -> None:
    rows = [row | {"overall_preference": at % 3 - 1} for at, row in enumerate(
        preferred_rows(np.random.default_rng(3), 9))]  # fmt: skip
    result = judged("helpsteer3", rows, tmp_path)
    assert result.task.headline == "accuracy"
    assert result.left_out == {"default": {"candidates rated alike": 3}}


# HelpSteer2's preferences


def test_a_preference_between_the_responses_of_helpsteer2() -> None:
    example = read_one("helpsteer2_preference", PAIR)
    assert [(turn.role, turn.text) for turn in example.prompt] == [
        ("user", "Sort this."), ("assistant", "How?"), ("user", "Up.")
    ]  # fmt: skip
    assert [(one.text, one.label, one.annotations) for one in example.candidates] == [
        ("1, 2", 2.0, (0.0, 0.0, 1.0)),
        ("2, 1", 4.0, (1.0, 1.0, 0.0)),
    ]
    assert example.facets == {"strength": "1"}
    assert read("helpsteer2_preference", PAIR | {"split": "train"}) == [LeftOut("a row of the split train")]
    assert read_one("helpsteer2_preference", without(PAIR, "split")) == example


def test_pairs_of_helpsteer2_count_by_their_strength_and_those_for_training_not_at_all() -> None:
    rng = np.random.default_rng(4)
    rows = [
        PAIR
        | {
            "prompt": f"{at}?",
            "split": ("train", "val", "val")[at % 3],
            "preference_strength": int(rng.integers(-3, 4)),
        }
        | {f"response_{side}": f"{rng.integers(0, 4)} {at} {side}" for side in (1, 2)}
        for at in range(120)
    ]
    whole = figures(helpsteer2_preference.TASK, rows)
    every = wins([row for row in rows if row["split"] == "val"], "response_1", "response_2", "preference_strength")
    assert whole["accuracy"] == pytest.approx(sum(won for _, won in every) / len(every))
    weighted = sum(strength * won for strength, won in every) / sum(strength for strength, _ in every)
    assert whole["strength_weighted_accuracy"] == pytest.approx(weighted)
    assert whole["unanimous"] == 0


# the hub sets


def test_hub_sets_are_read_as_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for task, config, rows in (
        (helpsteer2.TASK, "default", [RATED, RATED | {"response": "No."}]),
        (helpsteer3.TASK, "preference", [PREFERRED, without(PREFERRED, "language") | {"overall_preference": 0}]),
    ):
        folder = tmp_path / task.name
        folder.mkdir()
        name = on_disk(folder, config, {"train": rows[:1], "validation": rows})
        (source,) = task.sources
        examples = replace(task, sources=(replace(source, id=name),)).load().examples
        assert [*examples] == [*collect(read(task.name, *rows), []).examples]


# broken rows


def without(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("helpsteer2", without(RATED, "coherence"), "row 1: no `coherence`; found .*; a HelpSteer2 row has `prompt`"),
        ("helpsteer2", RATED | {"verbosity": 5}, "row 1, `verbosity`: expected a number from 0 to 4, got 5"),
        ("helpsteer2", RATED | {"helpfulness": [3, 4]}, r"`helpfulness`: expected a number from 0 to 4, got \[3, 4\]"),
        ("helpsteer2", RATED | {"response": None}, "row 1, `response`: expected a text, got None"),
        ("helpsteer2", PREFERRED, "row 1: no `prompt`; found `domain`, .*; a HelpSteer2 row has `prompt`"),
        ("helpsteer2_preference", RATED, "row 1: no `response_1`; found .*; a row of HelpSteer2's preferences has"),
        ("helpsteer2_preference", PAIR | {"preference_strength": 1.5}, "`preference_strength`: expected a .*, got 1.5"),
        ("helpsteer2_preference", PAIR | {"prompt": 3}, "row 1, `prompt`: expected a text, got 3"),
        ("helpsteer3", RATED, "row 1: no `domain`; found `prompt`, .*; a HelpSteer3 row has `domain`, `language`"),
        ("helpsteer3", PREFERRED | {"domain": "law"}, "row 1, `domain`: expected one of general, .*, got 'law'"),
        ("helpsteer3", PREFERRED | {"overall_preference": 4}, "`overall_preference`: expected a whole .* to 3, got 4"),
        ("helpsteer3", PREFERRED | {"overall_preference": None}, "`overall_preference`: expected a whole .*, got None"),
        ("helpsteer3", PREFERRED | {"individual_preference": [{"score": "1"}]}, "_preference`: .* as `score`, got '1'"),
        ("helpsteer3", PREFERRED | {"individual_preference": "x"}, "`individual_preference`: expected a list of obj"),
        ("helpsteer3", PREFERRED | {"response1": 3}, "row 1, `response1`: expected a text, got 3"),
        (
            "helpsteer3",
            PREFERRED | {"context": [{"role": "x"}]},
            "row 1, `context`: message 1 is .*; expected an object",
        ),
    ],
)
def test_a_broken_row_is_one_line_with_file_row_and_field(task: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(task, row)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("x.jsonl, row 1")
