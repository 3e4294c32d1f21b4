"""Many results: which are one run, where a run lies, and what may be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_models import Scripted
from test_flow import compared, length, task

import rmbench
from rmbench.data.files import read_rows
from rmbench.data.scorefile import read_entries
from rmbench.models.scores import Scores
from rmbench.results import collection, files
from rmbench.results.replay import outcomes_of
from rmbench.results.schema import TaskResult
from rmbench.types import Candidate, Example, Reward


def pairs(path: Path, letter: str = "x", count: int = 6) -> Path:
    rows = [{"id": str(i), "prompt": f"p{i}", "chosen": letter * 5, "rejected": "y" * 3} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_one_run_lies_in_one_folder_and_other_data_in_a_file_of_their_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for letter in "xz":
        data = {"preference": pairs(tmp_path / f"{letter}.jsonl", letter)}
        rmbench.evaluate("length", ["best_of_n", "length_bias", "preference"], data=data, out=out)
    paths = sorted(path.relative_to(out) for path in out.rglob("*.json"))
    assert len({path.parent for path in paths}) == 1
    names = [path.stem for path in paths]
    assert names[:2] == ["best_of_n", "length_bias"]
    assert len(names) == 4
    assert all(name.startswith("preference-") for name in names[2:])
    first, second = collection.runs(collection.result_files([out]))
    assert set(first.files) == {"best_of_n", "length_bias", "preference"}
    assert set(second.files) == {"preference"}


def test_how_it_was_run_is_no_other_folder_and_another_limit_is(tmp_path: Path) -> None:
    for options in ({}, {"token_budget": 100}, {"limit": 3}):
        rmbench.evaluate("length", ["best_of_n"], out=tmp_path, **options)
    assert len(list(tmp_path.rglob("*.json"))) == 2


def changed(result: TaskResult, **parts: dict[str, Any]) -> TaskResult:
    document = result.model_dump()
    made = TaskResult.model_validate({n: v | parts[n] if n in parts else v for n, v in document.items()})
    made._records, made._requests = result.records, result.requests
    return made


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("task versions", {"task": {"version": 2}}),
        ("orders", {"task": {"orders": "both"}}),
        ("examples", {"dataset": {"examples_sha256": "0" * 64}}),
        ("responses", {"dataset": {"responses_sha256": "0" * 64}}),
    ],
)
def test_there_is_one_rule_of_what_may_be_compared(what: str, parts: Any) -> None:
    (result,) = rmbench.evaluate(Scripted(length), [task()])
    other = changed(result, **parts)
    assert f"different {what}: " in (collection.why_not(result, other) or "")
    assert len(collection.groups([result, other])["given"]) == 2
    assert collection.why_not(result, changed(result, dataset={"responses_sha256": None})) is None


def test_texts_that_both_know_must_agree_where_some_are_not_known() -> None:
    (result,) = rmbench.evaluate(Scripted(length), [task()])
    partly = changed(result, dataset={"responses_sha256": None})
    texts = result.records["text_hash"].to_pylist()
    place = result.records.column_names.index("text_hash")
    partly._records = result.records.set_column(place, "text_hash", pa.array([None, "0" * 32, *texts[2:]], pa.string()))
    assert "candidate 1 of example short is another text" in (collection.why_not(partly, result) or "")


def test_names_are_told_apart_by_their_folders() -> None:
    (first,) = rmbench.evaluate(Scripted(length), [task()])
    (second,) = rmbench.evaluate(Scripted(length), [task()], seed=1)
    one, other = collection.names([first, second])
    assert one != other
    assert one == f"tests/scripted ({files.result_folder(first).name})"
    assert collection.names([first]) == ["tests/scripted"]


def test_a_table_of_requests_is_a_score_file(tmp_path: Path) -> None:
    (result,) = rmbench.evaluate(Scripted(compared, answers=["compare"]), [task(orders="both")], out=tmp_path)
    path = files.requests_path(tmp_path / files.result_path(result))
    (again,) = rmbench.evaluate(f"scores:{path}", [task(orders="both")])
    assert again.metric("accuracy").value == result.metric("accuracy").value
    with pytest.raises(rmbench.errors.DataError, match=r"requests\.parquet is the score file"):
        rmbench.evaluate(f"scores:{path.with_name(path.name.replace('.requests', ''))}", [task()])


def test_a_pick_stands_in_a_score_file(tmp_path: Path) -> None:
    path = tmp_path / "picks.jsonl"
    path.write_text(json.dumps({"example_id": "a", "candidates": [2, 0, 1], "values": [0, 1, 0], "pick": 1}) + "\n")
    (entry,) = read_entries(read_rows(path))
    assert (entry.candidates, entry.reward.pick, entry.reward.values) == ((2, 0, 1), 1, (0.0, 1.0, 0.0))
    assert Scores([entry], name="picks", sha256="0").answers == {"compare"}


def test_tags_of_several_types_come_back_as_they_were() -> None:
    tags: list[Any] = [1, "one", {"deep": [1, 2]}, None, True]
    some = tuple(Candidate(f"{'x' * (i + 1)}", i == 0, tags={} if tag is None else {"odd": tag})
                 for i, tag in enumerate(tags))  # fmt: skip
    (result,) = rmbench.evaluate(Scripted(length), [task([Example("e", (), some)])])
    assert [found.get("odd") for found in outcomes_of(result)[0].tags] == tags


def test_reasons_are_counted_without_what_is_of_one_request() -> None:
    def answer(request: Any) -> Reward:
        return Reward((float("nan"),), status="refused", detail=f"/home/me/x says no: {request.responses[0].text}")

    (result,) = rmbench.evaluate(Scripted(answer), [task()])
    assert result.reasons == {"refused": {"... says no": 8}}
