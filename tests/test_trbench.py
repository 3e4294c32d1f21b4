"""TRBench-BFCL: its rows, which stand twice, the rule of its authors against plain loops, and what a template sees."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from checkpoints import make

import rmbench
from rmbench.data.files import Row, rows_of
from rmbench.errors import DataError
from rmbench.metrics.interval import estimate
from rmbench.results.verify import verify
from rmbench.tasks.trbench import TASK
from rmbench.types import Outcome, Request, Reward

SPLITS = ("simple", "multiple", "multi_turn_base")
TOOLS = '# Tools\n\n<tools>\n{"type": "function", "function": {"name": "ring", "parameters": {}}}\n</tools>'


def call(minutes: int) -> str:
    return f'<tool_call>\n{{"name": "ring", "arguments": {{"minutes": {minutes}}}}}\n</tool_call>'


def row(at: int, **more: Any) -> dict[str, Any]:
    history = [{"role": "system", "content": TOOLS}, {"role": "user", "content": f"Ring in {at} minutes."}]
    if SPLITS[at % 3] == "multi_turn_base":
        history += [{"role": "assistant", "content": call(0)}, {"role": "tool", "content": "[]"}]
    return {
        "uuid": at, "raw_id": f"task_{at // 2}", "task_source": SPLITS[at % 3], "chat_history": history,
        "chosen_response": call(at), "reject_response": "" if at == 1 else call(-at - 1),
        "reject_response_from": "weak", "reward_model": {"ground_truth": "1"},
        "extra_info": {"index": at, "original_index": at, "task_source": SPLITS[at % 3]},
    } | more  # fmt: skip


def twice(count: int) -> list[dict[str, Any]]:
    """Rows as the authors' file has them: every pair, then every pair with its responses exchanged for a judge."""
    again = [
        row(at, reward_model={"ground_truth": "2"})
        | {"extra_info": {"index": count + at, "original_index": at, "task_source": SPLITS[at % 3]}}
        for at in range(count)
    ]
    return [*map(row, range(count)), *again]


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def test_each_pair_is_read_once_whatever_files_it_stands_in(tmp_path: Path) -> None:
    datasets.Dataset.from_list(twice(6)).to_parquet(tmp_path / "trbench_test_think.parquet")
    written(tmp_path / "trbench_test_no_think.jsonl", twice(6))
    for path, left_out in ((tmp_path, 18), (tmp_path / "trbench_test_think.parquet", 6)):
        data = TASK.load(path)
        assert [one.id for one in data.examples] == [f"{at}" for at in range(6)]
        assert [*data.excluded.values()] == [left_out]
    assert [one.facets["subset"] for one in data.examples] == [*SPLITS, *SPLITS]
    assert [one.cluster for one in data.examples] == [f"task_{at // 2}" for at in range(6)]
    assert [one.role for one in data.examples[2].prompt] == ["system", "user", "assistant", "tool"]
    first, second = data.examples[1].candidates
    assert (first.text, first.label, first.tags) == (call(1), True, {})
    assert (second.text, second.label, second.tags) == ("", False, {"policy": "weak"})
    other = TASK.load(written(tmp_path / "other.jsonl", [row(0), row(0, uuid=9), row(0, uuid=9, reject_response="?")]))
    assert (len(other.examples), other.excluded) == (3, {})


class Told:
    """Rewards by a table, from the last turn of a user and the response."""

    answers, fingerprint = frozenset({"reward"}), "told"

    def __init__(self, table: Mapping[tuple[str, str], float]) -> None:
        self.table = table
        self.asked: list[Request] = []

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        self.asked += requests
        for index, request in enumerate(requests):
            yield index, Reward((self.table[request.prompt[1].text, request.responses[0].text or ""],))


def test_a_reward_wins_where_the_chosen_response_has_strictly_more(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    scores = rng.choice([0.0, 1.0, 2.0], (12, 2))
    rows, table = twice(12), {}
    for one, (chosen, rejected) in zip(rows, scores.tolist(), strict=False):
        asked = one["chat_history"][1]["content"]
        table |= {(asked, one["chosen_response"]): chosen, (asked, one["reject_response"]): rejected}
    model = Told(table)
    (result,) = rmbench.evaluate(model, [TASK], data={"trbench": written(tmp_path / "rows.jsonl", rows)})
    verify(result, TASK)
    for split in (None, *SPLITS):
        due = [float(one > other) for at, (one, other) in enumerate(scores) if split in (None, SPLITS[at % 3])]
        found = result.metric("pair_accuracy", subset="all" if split is None else f"subset={split}")
        assert (found.value, found.n) == (pytest.approx(sum(due) / len(due)), len(due))
    assert TASK.measure.headline == "pair_accuracy"
    assert all(TOOLS in request.prompt[0].text and request.tools == () for request in model.asked)


def test_a_judge_wins_where_it_is_right_in_both_orders_and_a_verdict_that_is_none_is_wrong() -> None:
    rng = np.random.default_rng(4)
    data = TASK.load(rows_of([row(at) for at in range(30)]))
    verdicts = ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (math.nan, math.nan))
    outcomes: list[Outcome] = []
    won = []
    for example in data.examples:
        questions = TASK.questions(example, frozenset({"compare"}), "data")
        answers = [verdicts[at] for at in rng.choice(4, 2, p=[0.4, 0.4, 0.1, 0.1])]
        rewards = [Reward(one, status="ok" if one[0] == one[0] else "refused") for one in answers]
        outcomes.append(TASK.outcome(example, questions, rewards))
        truths = ((1.0, 0.0), (0.0, 1.0))  # the chosen response stands first, then second
        won.append(math.prod(float(answer == truth) for answer, truth in zip(answers, truths, strict=True)))
    statistics = TASK.measure.statistics(outcomes, "default", None)
    found = {one.name: one.value for one in estimate(statistics, [one.cluster for one in outcomes], draws=2)}
    assert 0 < sum(won) < 30
    assert found["pair_accuracy"] == pytest.approx(sum(won) / 30)
    assert TASK.measure.left_out(outcomes, "default") == {}


REFUSES = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "<{{ m.role }}> {{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize(("fold", "status"), [(False, "refused"), (True, "ok")])
def test_a_template_without_system_turns_gets_the_tools_in_the_first_turn_of_the_user(
    fold: bool, status: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / "gemma", "llama", max_position_embeddings=512)
    (folder / "asked.jinja").write_text(REFUSES)
    (result,) = rmbench.evaluate(
        str(folder), [TASK], data={"trbench": written(tmp_path / "rows.jsonl", [row(0), row(3)])},
        template=str(folder / "asked.jinja"), fold_system=fold, max_length=400,
    )  # fmt: skip
    assert result.statuses == {status: 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen_response": None}, "`chosen_response`: expected a text, got None"),
        ({"reject_response": ...}, "no `reject_response`; found .*; a TRBench-BFCL row has"),
        ({"chat_history": "?"}, r"`chat_history`: expected a text or a list of messages, got '\?'"),
        ({"chat_history": []}, r"`chat_history`: expected turns that ask something, got \[\]"),
        ({"chat_history": [{"role": "robot", "content": "?"}]}, "`chat_history`: message 1 is .*; expected an object"),
        ({"extra_info": {"index": 3}}, "`extra_info`: expected an object whose `task_source` is a name, got"),
    ],
)
def test_a_broken_row_is_one_line(change: dict[str, Any], message: str) -> None:
    rows = {name: value for name, value in {**row(0), **change}.items() if value is not ...}
    with pytest.raises(DataError, match=rf"^rows\.jsonl, row 7(, |: ){message}"):
        list(TASK.read([Row(rows, "rows.jsonl", 7)]))
