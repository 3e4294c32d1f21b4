"""Tasks: every one keeps the contract, and each file format becomes the examples it means."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rmbench.data.cards import card_names, read_card
from rmbench.data.dataset import Dataset, LeftOut
from rmbench.data.files import Row
from rmbench.data.part import Part
from rmbench.errors import DataError, ModelError
from rmbench.plugins import load_task, task_names
from rmbench.tasks.best_of_n import generate
from rmbench.types import Ask, Example, Message, Request, Reward

TASKS = [load_task(name) for name in task_names()]


def read(task: str, *rows: Mapping[str, Any]) -> list[Example | LeftOut]:
    return list(load_task(task).read(Row(dict(row), "x.jsonl", number) for number, row in enumerate(rows, 1)))


def read_one(task: str, *rows: Mapping[str, Any]) -> Example:
    (example,) = read(task, *rows)
    assert isinstance(example, Example)
    return example


def user(*turns: str) -> list[dict[str, str]]:
    """A conversation in turns, the user's first."""
    return [{"role": ("user", "assistant")[index % 2], "content": turn} for index, turn in enumerate(turns)]


# every task


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_has_a_card_that_says_the_same_as_its_code(task: Any) -> None:
    card = read_card(task.card)
    stated = card.front["rmbench"]
    assert (stated["task"], stated["version"], stated["orders"]) == (task.name, task.version, task.orders)
    assert stated.get("hub", []) == (task.sources[0].id if task.sources else [])
    assert ("bundled" in stated) == (task.bundled is not None)
    if task.bundled is not None:
        data = task.load()
        counted = {"examples": len(data.examples), "candidates": sum(len(e.candidates) for e in data.examples)}
        assert stated["bundled"] == counted
    assert card.front["license"]
    assert card.front["pretty_name"]


def test_a_card_that_is_not_there_names_those_that_are() -> None:
    assert {task.card for task in TASKS} <= set(card_names())
    with pytest.raises(DataError, match="no data card 'nothing'; there are agent_reward_bench, appetite, "):
        read_card("nothing")


@pytest.mark.parametrize("name", ["best_of_n", "preference"])
@pytest.mark.parametrize("asks", ["reward", "compare"])
def test_requests_carry_no_label_and_no_response_in_the_prompt(name: str, asks: Ask) -> None:
    row = {"prompt": "?", "chosen": "RIGHT", "rejected": "WRONG", "candidates": ["RIGHT", "WRONG"], "labels": [1, 0]}
    example = read_one(name, row)
    for request, _ in load_task(name).questions(example, frozenset({asks}), "data"):
        assert request.prompt == (Message("user", "?"),)
        assert {response.text for response in request.responses} <= {"RIGHT", "WRONG"}


@pytest.mark.parametrize("task", [t for t in TASKS if t.bundled and t.kind != "generation"], ids=lambda task: task.name)
@pytest.mark.parametrize("ask", ["reward", "steps", "compare"])
def test_what_a_task_asks_becomes_what_its_measure_reads(task: Any, ask: Ask) -> None:
    data = task.load(part=Part(limit=20))
    if ask not in task.asks:
        with pytest.raises(ModelError, match=f"{task.name}: the model answers {ask}; this task asks {task.asks[0]}"):
            task.questions(data.examples[0], frozenset({ask}), data.sha256)
        return
    outcomes = []
    for example in data.examples:
        questions = task.questions(example, frozenset({ask}), data.sha256)
        assert all(question.request.ask == ask for question in questions)
        assert all(question.request.reference == example.reference for question in questions)
        rewards = [answered(question.request) for question in questions]
        outcomes.append(task.outcome(example, questions, rewards))
    measure, view = task.measure, task.primary_view(list(outcomes[0].views))
    assert view in outcomes[0].views
    statistics = measure.statistics(outcomes, view, measure.fit(outcomes, view))
    names = [statistic.name for statistic in statistics]
    assert len(set(names)) == len(names)
    assert all(statistic.title and statistic.unit for statistic in statistics)
    assert measure.headline in names or ask == "compare"
    assert measure.left_out(outcomes, view) == {}
    assert task.kind in ("comparison", "probe", "steps", "grading")


def answered(request: Request) -> Reward:
    """An answer that goes by lengths, as a model of each ask would give it."""
    lengths = [float(len(response.text or "")) for response in request.responses]
    if request.ask == "compare":
        return Reward(tuple(float(length == max(lengths)) for length in lengths))
    steps = request.responses[0].step_count if request.ask == "steps" else 0
    return Reward((lengths[0],), steps=tuple(1 / (i + lengths[0] + 1) for i in range(steps or 0)))


# preference


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "?", "chosen": "good", "rejected": "bad"},
        {"question": "?", "chosen": "good", "reject": "bad"},
        {"messages": user("?"), "chosen": {"answer": "good"}, "rejected": {"text": "bad"}},
        {"chosen": user("?", "good"), "rejected": user("?", "bad")},
        {"prompt": "?", "chosen": user("?", "good"), "rejected": user("?", "bad")},
        {"prompt": "another", "chosen": user("?", "good"), "rejected": user("?", "bad")},
        {"prompt": "?", "chosen": user("?", "good")[1:], "rejected": user("?", "bad")[1:]},
        {"chosen": "\n\nHuman: ?\n\nAssistant: good", "rejected": "\n\nHuman: ?\n\nAssistant: bad"},
        {"prompt": "\n\nHuman: ?\n\nAssistant:", "chosen": "good", "rejected": "bad"},
    ],
)
def test_a_pair_in_any_of_its_shapes(row: dict[str, Any]) -> None:
    example = read_one("preference", row)
    assert example.prompt == (Message("user", "?"),)
    assert [(c.text, c.label) for c in example.candidates] == [("good", True), ("bad", False)]
    assert example.id == ""


@pytest.mark.parametrize(
    ("prompt", "read_as"),
    [
        ({"instruction": "Translate.", "input": "Bonjour"}, "Translate.\n\nBonjour"),
        ({"instruction": "Tell a joke.", "input": ""}, "Tell a joke."),
        ({"instruction": "Tell a joke.", "input": None}, "Tell a joke."),
        ({"input": "Bonjour"}, "Bonjour"),
        ({"prompt": None, "question": "?"}, "?"),
        ({"prompt": "", "messages": [], "query": "?"}, "?"),
    ],
)
def test_no_text_of_a_prompt_is_lost(prompt: dict[str, Any], read_as: str) -> None:
    for task, replies in (
        ("preference", {"chosen": "good", "rejected": "bad"}),
        ("best_of_n", {"responses": ["good", "bad"], "labels": [1, 0]}),
    ):
        assert read_one(task, prompt | replies).prompt == (Message("user", read_as),)
    flat = [prompt | {"response": text, "label": label} for text, label in (("good", 1), ("bad", 0))]
    assert read_one("best_of_n", *flat).prompt == (Message("user", read_as),)


@pytest.mark.parametrize("prompt", [{}, {"prompt": None}, {"prompt": ""}])
@pytest.mark.parametrize(
    ("task", "replies"),
    [
        ("preference", {"chosen": "good", "rejected": "bad"}),
        ("best_of_n", {"responses": ["good", "bad"], "labels": [1, 0]}),
    ],
)
def test_a_row_without_a_prompt_is_left_out(task: str, prompt: dict[str, Any], replies: dict[str, Any]) -> None:
    assert read(task, prompt | replies) == [LeftOut("no prompt")]


def test_rmb_pairs_as_they_are() -> None:
    turns = [{**turn, "language": "English"} for turn in user("Hi", "Hello", "?")]
    example = read_one("preference", {
        "pair_uid": "9", "conversation_input": turns, "category_path": "Chat/Casual",
        "chosen": {"llm_name": "m1", "answer": "good"}, "reject": {"llm_name": "m2", "answer": ""},
    })  # fmt: skip
    assert (example.id, example.facets["subset"]) == ("9", "Chat/Casual")
    assert [message.role for message in example.prompt] == ["user", "assistant", "user"]
    assert [(c.text, c.tags) for c in example.candidates] == [("good", {"policy": "m1"}), ("", {"policy": "m2"})]


@given(
    turns=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")), min_size=2, max_size=6)
)
def test_a_transcript_splits_into_the_turns_it_was_made_of(turns: list[str]) -> None:
    turns = turns[: len(turns) // 2 * 2]
    assume(any(turn.strip() for turn in turns[:-1]))
    text = "".join(f"\n\n{('Human', 'Assistant')[index % 2]}: {turn}" for index, turn in enumerate(turns))
    example = read_one("preference", {"chosen": text, "rejected": text})
    assert [m.text for m in example.prompt] == turns[:-1]
    assert example.candidates[0].text == turns[-1]


def test_pairs_that_no_reward_compares_are_left_out() -> None:
    assert read(
        "preference",
        {"chosen": user("one?", "good"), "rejected": user("two?", "bad")},
        {"chosen": user("?"), "rejected": user("?")},
    ) == [LeftOut("prompts differ"), LeftOut("no response")]
    assert all(f"`{reason}`" in read_card("preference").body for reason in ("prompts differ", "no response"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "?", "chosen": "a"}, "no `rejected`; found `prompt`, `chosen`; a preference row has `chosen` and"),
        ({"prompt": "?", "chosen": None, "rejected": "a"}, "`chosen`: no response: expected a text .*, got null"),
        ({"chosen": 3, "rejected": "a"}, "`chosen`: expected a text or a list of messages, got 3"),
        (
            {"chosen": "a", "rejected": {"x": 1}},
            "no `text`; found `x`; `rejected` is a text or an object that holds one",
        ),
        (
            {"chosen": [{"role": "critic", "content": "a"}], "rejected": "a"},
            "`chosen`: message 1 is .*; expected an object",
        ),
        ({"instruction": "?", "input": 3, "chosen": "a", "rejected": "b"}, "`input`: expected a text, got 3"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "`prompt`: expected a text or a list of messages, got 3"),
    ],
)
def test_a_pair_of_another_shape_is_an_error(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl, row 1(: |, )" + message):
        read("preference", row)


def test_preference_has_no_data_of_its_own() -> None:
    with pytest.raises(DataError, match="give --data preference=FILE"):
        load_task("preference").load()


def test_scores_join_the_same_rows_in_any_order_and_no_other_rows(tmp_path: Path) -> None:
    rows = [{"prompt": p, "chosen": f"{p} good", "rejected": f"{p} bad"} for p in ("one?", "two?", "three?")]
    others = [{"prompt": row["prompt"], "chosen": "x", "rejected": "y"} for row in rows]
    for name, lines in (("a", rows), ("turned", rows[::-1]), ("b", others)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made, turned, other = (load_task("preference").load(tmp_path / f"{name}.jsonl") for name in ("a", "turned", "b"))
    ids = {e.prompt: e.id for e in made.examples}
    assert {e.prompt: e.id for e in turned.examples} == ids
    assert not {e.id for e in other.examples} & set(ids.values())


# best of n


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": "?", "candidates": ["good", "bad"], "labels": [True, False]}],
        [{"question": "?", "responses": ["good", "bad"], "scores": [1, 0.0]}],
        [
            {
                "messages": user("?"),
                "completions": [{"text": "good", "correct": True}, {"text": "bad", "correct": False}],
            }
        ],
        [{"candidates": [user("?", "good"), user("?", "bad")], "labels": [1, 0]}],
        [{"prompt": "?", "response": "good", "label": "true"}, {"prompt": "?", "response": "bad", "label": "False"}],
        [{"prompt": "?", "answer": "good", "score": "0.5"}, {"prompt": "?", "answer": "bad", "score": "-1e3"}],
        [{"conversation_input": user("?"), "bon_best": {"answer": "good"}, "loser_list": [{"answer": "bad"}]}],
        [
            {
                "question": "?",
                "m1": {"solution": "good", "is_correct": True},
                "m2": {"solution": "bad", "is_correct": False},
            }
        ],
    ],
)
def test_a_group_in_any_of_its_shapes(rows: list[dict[str, Any]]) -> None:
    example = read_one("best_of_n", *rows)
    assert example.prompt == (Message("user", "?"),)
    assert [c.text for c in example.candidates] == ["good", "bad"]
    good, bad = (float(c.label or 0) for c in example.candidates)
    assert good > bad


def test_gsm8k_and_rmb_rows_name_the_policies() -> None:
    right, wrong = {"solution": "4", "is_correct": True}, {"solution": "", "is_correct": False}
    gsm8k = read_one("best_of_n", {"question": "?", "ground_truth": "4", "6b": right, "175b": wrong})
    assert [c.tags for c in gsm8k.candidates] == [{"policy": "6b"}, {"policy": "175b"}]
    assert (gsm8k.reference, gsm8k.candidates[1].text) == ("4", "")
    rmb = read_one("best_of_n", {
        "conversation_input": user("?"), "bon_uid": "3", "category_path": "S1",
        "bon_best": {"llm_name": "m1", "answer": "good"}, "loser_list": [{"llm_name": "m2", "answer": "bad"}],
    })  # fmt: skip
    assert [c.tags["policy"] for c in rmb.candidates] == ["m1", "m2"]
    assert (rmb.id, rmb.facets["subset"]) == ("3", "S1")


def test_rows_of_one_candidate_join_by_group_or_prompt_wherever_they_stand() -> None:
    rows = [
        {"prompt": "one", "response": "a", "label": 1},
        {"prompt": "two", "response": "b", "label": 1, "group_id": "g", "policy": "m"},
        {"prompt": "one", "response": "c", "label": None},
        {"prompt": "two", "response": "d", "label": 0, "group_id": "g"},
    ]
    one, two = (item for item in read("best_of_n", *rows) if isinstance(item, Example))
    assert (one.id, [(c.text, c.label) for c in one.candidates]) == ("", [("a", 1), ("c", None)])
    assert (two.id, [c.text for c in two.candidates], two.candidates[0].tags) == ("g", ["b", "d"], {"policy": "m"})


def test_groups_that_are_no_choice_are_left_out() -> None:
    assert read(
        "best_of_n",
        {"prompt": "?", "candidates": ["only"], "labels": [1]},
        {"candidates": [user("one?", "a"), user("two?", "b")], "labels": [1, 0]},
    ) == [LeftOut("fewer than two responses"), LeftOut("prompts differ")]


GROUP = {"prompt": "?", "candidates": ["a", "b"], "labels": [1, 0]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a"}], "row 1: no `prompt`; found `text`; a best_of_n row has `prompt` and `candidates`"),
        ([{"prompt": "?"}], "row 1: no `response`; found `prompt`; a best_of_n row has"),
        ([{"prompt": "?", "response": "a"}], "row 1: no `label`; found `prompt`, `response`; a best_of_n row has"),
        ([{"prompt": "?", "candidates": ["a", None], "labels": [1, 0]}], "row 1, `candidates`: no response"),
        ([{"prompt": "?", "candidates": ["a", "b"]}], "row 1: no `labels`; found `prompt`, `candidates`; a best_of_n"),
        ([{"prompt": "?", "candidates": [{"text": "a"}, {"text": "b"}]}], "row 1: no `label`; found `text`; a best_of"),
        (
            [GROUP | {"labels": [1]}],
            r"row 1, `labels`: expected a list with one label for each of 2 responses, got \[1\]",
        ),
        ([GROUP | {"labels": ["good", "bad"]}], "row 1, `labels`: expected true, false or a number, got 'good'"),
        ([GROUP | {"candidates": "a"}], "row 1, `candidates`: expected a list of responses, got 'a'"),
        ([{"prompt": "?", "bon_best": "a"}], "row 1, `loser_list`: expected a list of responses, got None"),
        (
            [{"prompt": p, "group": 1, "response": "a", "label": 1} for p in "ab"],
            "row 2, `prompt`: another prompt than",
        ),
    ],
)
def test_a_group_of_another_shape_is_an_error(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl, " + message):
        read("best_of_n", *rows)


# the bundled rows


def bundled() -> Dataset:
    return load_task("best_of_n").load()


def test_the_bundled_rows_are_what_the_generator_makes() -> None:
    path = load_task("best_of_n").bundled
    assert path is not None
    assert path.read_bytes() == generate.text().encode()


def test_the_right_response_stands_anywhere_and_is_not_told_by_its_length() -> None:
    examples = bundled().examples
    places = Counter([c.label for c in e.candidates].index(True) for e in examples)
    assert places == dict.fromkeys(range(4), 27)
    assert all(sum(c.label is True for c in e.candidates) == 1 for e in examples)
    lengths: dict[bool, list[int]] = {
        right: [len(c.text or "") for e in examples for c in e.candidates if c.label is right]
        for right in (True, False)
    }
    assert mean(lengths[True]) == pytest.approx(mean(lengths[False]), rel=0.03)
    for favourite in (min, max):
        picks = [favourite(e.candidates, key=lambda c: len(c.text or "")).label for e in examples]
        assert 0.15 < mean(map(bool, picks)) < 0.35


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def solve_dates(prompt: str) -> str:
    day, month, year, days = re.findall(r"on (\d+) (\w+) (\d+) and is due (\d+)", prompt)[0]
    months = [date(2000, m, 1).strftime("%B") for m in range(1, 13)]
    due = date(int(year), months.index(month) + 1, int(day)) + timedelta(int(days))
    return f"{due.day} {months[due.month - 1]} {due.year}"


def solve_clock(prompt: str) -> str:
    hour, minute, hours, minutes = numbers(prompt)
    end = timedelta(hours=hour + hours, minutes=minute + minutes)
    return str(end)[:-3].zfill(5)


def solve_table(prompt: str) -> str:
    header, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in prompt.splitlines() if "|" in line
    ]
    column = header.index(re.findall(r"most in (\w+)", prompt)[0])
    return max(rows, key=lambda row: int(row[column]))[0]


def solve_order(prompt: str) -> str:
    words, place = re.findall(r"order: (.*)\. Which word comes (\w+)", prompt)[0]
    return sorted(words.split(", "))[["first", "second", "third", "fourth"].index(place)]


def solve_chain(prompt: str) -> str:
    pairs = re.findall(r"(\w+) is older than (\w+)", prompt)
    older = {a: {b for x, b in pairs if x == a} for pair in pairs for a in pair}
    for _ in older:
        older = {a: below.union(*(older[b] for b in below)) for a, below in older.items()}
    ranked = sorted(older, key=lambda person: -len(older[person]))
    asked = re.findall(r"Who is the (.*) of the four", prompt)[0]
    return ranked[["oldest", "second oldest", "second youngest", "youngest"].index(asked)]


def solve_units(prompt: str) -> str:
    whole, rest = numbers(prompt)
    per = {"minutes": 60, "inches": 12, "ounces": 16, "days": 7}[prompt.split()[2]]
    return str(whole * per + rest)


def solve_boxes(prompt: str) -> str:
    count, size, loose = numbers(prompt)
    return str(count * size + loose)


def solve_change(prompt: str) -> str:
    count, price, fee, paid = numbers(prompt)
    return str(paid - count * price - fee)


SOLVERS: dict[str, Callable[[str], str]] = {
    "boxes": solve_boxes,
    "change": solve_change,
    "units": solve_units,
    "dates": solve_dates,
    "clock": solve_clock,
    "table": solve_table,
    "order": solve_order,
    "letters": lambda prompt: prompt.split("'")[1][::-1],
    "chain": solve_chain,
}


@pytest.mark.parametrize("kind", SOLVERS)
def test_the_right_response_and_no_other_states_the_solved_answer(kind: str) -> None:
    examples = [e for e in bundled().examples if e.facets["subset"] == kind]
    assert len(examples) == 12
    for e in examples:
        solved = SOLVERS[kind](e.prompt[0].text)
        for candidate in e.candidates:
            (answer,) = re.findall(r"answer is (.+?)(?:[.:] |\.$)", candidate.text or "")
            assert (answer == solved) == candidate.label, (e.prompt, candidate.text)


# data by others, as it is


def test_rmb_best_of_n(rmbench_data: Path) -> None:
    data = load_task("best_of_n").load(rmbench_data / "rmb" / "BoN_set")
    assert (len(data.examples), sum(len(e.candidates) for e in data.examples), data.excluded) == (1559, 5153, {})
    assert {[m.role for m in e.prompt][-1] for e in data.examples} == {"user"}
    assert data.examples[0].facets["subset"] == "BoN_set/Harmlessness/S1"


def test_gsm8k_solutions(rmbench_data: Path) -> None:
    data = load_task("best_of_n").load(rmbench_data / "gsm8k_solutions" / "example_model_solutions.jsonl")
    right = Counter(sum(bool(c.label) for c in e.candidates) for e in data.examples)
    assert (len(data.examples), right[0], right[4]) == (1319, 432, 156)


def test_hh_rlhf(rmbench_data: Path) -> None:
    data = load_task("preference").load(rmbench_data / "hh_rlhf" / "test.jsonl.gz")
    assert (len(data.examples), data.excluded) == (2307, {"prompts differ": 5})
    assert data.noted == {"empty responses": 4}
    assert all(e.prompt[0].role == "user" for e in data.examples)


def test_rmb_pairs(rmbench_data: Path) -> None:
    data = load_task("preference").load(rmbench_data / "rmb" / "Pairwise_set")
    assert (len(data.examples), data.excluded) == (2674, {})
    assert data.noted["examples with identical responses"] == 6
    assert data.examples[0].candidates[0].tags == {"policy": "vicuna-7b-v1.5"}


def test_a_file_of_another_task_is_refused_in_one_line(rmbench_data: Path) -> None:
    for name in ("best_of_n", "preference"):
        with pytest.raises(DataError, match="row 1: no `") as error:
            load_task(name).load(rmbench_data / "rewardmath" / "RewardMATH_direct.json")
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("labels", [[1, 1], [None, None], [0.5, 0.5]])
def test_labels_that_rank_nothing_are_no_usable_example(labels: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "p", "responses": ["a", "b"], "labels": labels}))
    with pytest.raises(DataError, match="no usable example: none of 1 has candidates with different labels"):
        load_task("best_of_n").load(path)
