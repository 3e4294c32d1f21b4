"""The task `samples`: every shape of a samples file becomes the same pools, and what cannot be read is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rmbench
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Rows
from rmbench.errors import DataError
from rmbench.plugins import load_task
from rmbench.types import Example, Message

TASK = load_task("samples")


def read(*rows: dict[str, Any], **options: Any) -> list[Example | LeftOut]:
    return list(TASK.read(Rows(rows, **options)))


def only(*rows: dict[str, Any], **options: Any) -> Example:
    (example,) = read(*rows, **options)
    assert isinstance(example, Example)
    return example


def known(example: Example) -> list[tuple[str | None, Any, dict[str, Any]]]:
    return [(one.text, one.label, dict(one.tags)) for one in example.candidates]


SAID = [("a", 1.0, {"answer": "7", "logprob": -2.0, "policy": "p"}), ("b", 0.0, {"logprob": -3.0, "policy": "p"})]
SHAPES = {
    "a row a sample": [
        {"prompt": "?", "response": "a", "gold": 1, "answer": "7", "logprob": -2, "policy": "p"},
        {"prompt": "?", "response": "b", "gold": 0, "logprob": -3, "policy": "p"},
    ],
    "objects": [
        {
            "question": "?",
            "policy": "p",
            "candidates": [
                {"text": "a", "is_correct": 1, "answer": "7", "cumulative_logprob": -2, "model_name": "p"},
                {"text": "b", "is_correct": 0, "cumulative_logprob": -3},
            ],
        }
    ],
    "lists": [
        {
            "prompt": "?",
            "policy": "p",
            "responses": ["a", "b"],
            "gold": [1, 0],
            "final_answers": ["7", None],
            "logprobs": [-2, -3],
        }
    ],
    "text of a table": [
        {"prompt": "?", "response": "a", "gold": "1", "answer": "7", "logprob": "-2", "policy": "p"},
        {"prompt": "?", "response": "b", "gold": "0", "answer": "", "logprob": "-3", "policy": "p"},
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_samples(shape: str) -> None:
    example = only(*SHAPES[shape])
    assert example.prompt == (Message("user", "?"),)
    assert known(example) == SAID


def test_rows_are_joined_by_their_id_or_prompt_and_never_by_the_id_of_a_sample() -> None:
    rows = [{"prompt": f"{at % 2}", "response": f"r{at}", "gold": True, "example_id": f"e{at}"} for at in range(6)]
    assert [[one.text for one in example.candidates] for example in read(*rows)] == [
        ["r0", "r2", "r4"],
        ["r1", "r3", "r5"],
    ]
    named = [{**row, "prompt": "?", "problem_id": f"p{at // 3}"} for at, row in enumerate(rows)]
    assert [(example.id, len(example.candidates)) for example in read(*named)] == [("p0", 3), ("p1", 3)]


def test_samples_known_by_number_stand_in_its_order_and_have_no_text() -> None:
    rows = [{"problem_id": "x", "candidate_index": at, "is_correct": at == 2, "step_scores": [0.5]} for at in (2, 0, 1)]
    example = only(*rows)
    assert example.id == "x"
    assert known(example) == [(None, False, {}), (None, False, {}), (None, True, {})]
    answered = only(*({**row, "answer": f"{at}"} for at, row in enumerate(rows)))
    assert [one.tags for one in answered.candidates] == [{"answer": "1"}, {"answer": "2"}, {"answer": "0"}]


def test_a_column_that_is_named_is_the_gold_and_one_may_be_absent() -> None:
    rows = [{"prompt": "?", "response": text, "label": 0, "quality": worth} for text, worth in (("a", 0.25), ("b", 2))]
    assert [one.label for one in only(*rows, columns={"gold": "quality"}).candidates] == [0.25, 2.0]
    beside = {"prompt": "?", "responses": ["a", "b"], "quality": [0.25, 2]}
    assert [one.label for one in only(beside, columns={"gold": "quality"}).candidates] == [0.25, 2.0]
    objects = {"prompt": "?", "responses": [{"text": "a", "quality": 1}], "quality": 1}
    with pytest.raises(DataError, match="`quality`: objects in `responses` say their gold themselves; expected lists"):
        read(objects, columns={"gold": "quality"})
    bare = [{"prompt": "?", "response": text} for text in ("a", "b")]
    assert [one.label for one in only(*bare).candidates] == [None, None]
    with pytest.raises(DataError, match="row 1: no column 'quality' to be the gold; found `prompt`, `response`"):
        read(*bare, columns={"gold": "quality"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"response": "a", "gold": 1}],
            "row 1: no `prompt`; found `response`, `gold`; a row of samples has",
        ),
        ([{"prompt": "?", "gold": 1}], "row 1: no `response`; found `prompt`, `gold`; a row of samples"),
        ([{"prompt": "?", "response": "a", "gold": "good"}], "`gold`: expected true, false or a number, got 'good'"),
        ([{"prompt": "?", "responses": ["a", "b"], "gold": [1]}], "expected a list with one for each of 2 responses"),
        (
            [{"problem_id": "x", "candidate_index": at, "is_correct": 1} for at in (0, 0)],
            "row 2, `candidate_index`: 0 stands in row 1 of the same prompt already",
        ),
        (
            [{"problem_id": "x", "candidate_index": at, "is_correct": 1} for at in (0, 2)],
            "row 2, `candidate_index`: expected 0 or 1, got 2",
        ),
        (
            [{"prompt": what, "response": "a", "gold": 1, "problem_id": "x"} for what in "pq"],
            "row 2, `prompt`: another prompt than in row 1 of the same group",
        ),
    ],
)
def test_what_is_no_sample_is_one_line(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(*rows)


def test_prompts_of_one_sample_are_left_out_and_a_file_of_them_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": f"{at}", "response": "a", "gold": 1} for at in range(3)]
    assert read(*rows) == [LeftOut("fewer than two responses")] * 3
    path = tmp_path / "one.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"no usable example \(fewer than two responses: 3\)"):
        rmbench.evaluate("length", ["samples"], data={"samples": path})


def test_a_run_says_what_the_choice_among_all_is_worth_and_calibrates_nothing() -> None:
    rows = [{"prompt": f"{at}", "response": "x" * (1 + n), "gold": n == at % 4} for at in range(8) for n in range(4)]
    (result,) = rmbench.evaluate("length", ["samples"], data={"samples": rows})
    assert result.metric("picked").value == 0.25
    assert result.metric("picked_oracle").value == 1
    assert result.calibration is None


def test_samples_whose_texts_nobody_has_are_refused_to_a_model_that_reads() -> None:
    rows = [{"problem_id": "x", "candidate_index": at, "is_correct": at} for at in range(2)]
    with pytest.raises(rmbench.RmbenchError, match="needs the responses' texts, and example x comes from a score file"):
        rmbench.evaluate("length", ["samples"], data={"samples": rows})
