"""Published figures of process models from the score files that others made, through `scores:` and an evaluation.

StrictPRMBench (staged-benchmark-2026/StrictPRMBench@2ad65ed, CC BY 4.0): pools of 32 solutions of one policy. Its
figure takes the first maximum.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rmbench
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row
from rmbench.errors import DataError
from rmbench.kinds.steps import Steps
from rmbench.metrics import pick
from rmbench.metrics.interval import estimate
from rmbench.metrics.steps import Errors
from rmbench.results.schema import TaskResult
from rmbench.tasks import mr_math
from rmbench.types import Candidate, Example, Message, Outcome, Response, View

needs_data = pytest.mark.skipif("RMBENCH_DATA" not in os.environ, reason="needs RMBENCH_DATA")

# Of each file Pass_prod, Pass_GM and Pass_official of results/prevalence_table.csv
PASSES = {
    "math_shepherd_gsm8k": (0.850, 0.848, 0.852),
    "qwen_prm_gsm8k": (0.894, 0.894, 0.894),
    "rlhflow_prm_gsm8k": (0.852, 0.856, 0.858),
    "internlm2_7b_reward_gsm8k": (0.828, 0.840, 0.884),
    "internlm2_1_8b_reward_gsm8k": (0.828, 0.832, 0.844),
    "qwen_prm_math500": (0.744, 0.738, 0.744),
}


def data(*parts: str) -> Path:
    return Path(os.environ["RMBENCH_DATA"], *parts)


def passes(result: TaskResult) -> tuple[float, ...]:
    """What a result has of the three, `default` being the official aggregator."""
    picked = [result.metric("picked_first", view=view) for view in ("prod", "geometric_mean", "default")]
    assert {one.n for one in picked} == {500}
    return tuple(round(one.value, 6) for one in picked)


# the other files of GSM8K are proved beside their ensembles in test_overoptimize
@needs_data
@pytest.mark.parametrize(
    ("file", "official"),
    [("math_shepherd_gsm8k", "min"), pytest.param("qwen_prm_math500", "prod", marks=pytest.mark.prove)],
)
def test_the_published_passes_of_strictprmbench(file: str, official: str) -> None:
    path = data("strictprmbench", "step_scores", f"{file}.jsonl.gz")
    (result,) = rmbench.evaluate(f"scores:{path}?aggregate={official}", ["samples"], data={"samples": path})
    assert passes(result) == PASSES[file]


def pool(labels: list[float], scores: list[float], name: str = "p") -> Outcome:
    return Outcome(name, {}, name, np.array(labels), {"min": View(np.array(scores), None, ["ok"] * len(scores))})


def picks(*outcomes: Outcome) -> dict[str, float]:
    return {
        one.name: one.value for one in estimate(pick.statistics(outcomes, "min"), [one.cluster for one in outcomes])
    }


def test_equal_rewards_at_the_top_are_averaged_and_the_first_of_them_stands_beside() -> None:
    tied = pool([0, 1, 1, 0], [0.1, 0.9, 0.9, 0.9], "tied")
    assert picks(tied) == {"picked": pytest.approx(2 / 3), "picked_first": 1, "picked_chance": 0.5, "picked_oracle": 1}
    turned = pool([0, 1, 1, 0][::-1], [0.1, 0.9, 0.9, 0.9][::-1], "turned")
    assert picks(turned)["picked_first"] == 0
    assert picks(turned)["picked"] == picks(tied)["picked"]
    assert pick.ties([tied, turned, pool([1, 1], [1, 1]), pool([1, 0], [1, 0])], "min") == 2


def test_pools_all_right_all_wrong_and_infinite_rewards_count_and_unknown_ones_do_not() -> None:
    outcomes = [
        pool([1, 1], [0.1, 0.2], "right"),
        pool([0, 0], [0.1, 0.2], "wrong"),
        pool([0, 1], [0.5, np.inf], "inf"),
        pool([0, 1], [0.5, np.nan], "nan"),
        pool([np.nan, 1], [0.5, 0.6], "unlabelled"),
    ]
    assert picks(*outcomes)["picked"] == pytest.approx(2 / 3)
    assert pick.left_out(outcomes, "min") == {"no reward": 1, "unlabelled candidate": 1}


def test_a_labelled_step_shown_in_parts_has_the_least_reward_of_them(tmp_path: Path) -> None:
    rows = [
        {"id": i, "question": "?", "model_output": "abc", "model_output_step_format": [["a", "b"], ["c"]]}
        | {"model_output_solution_first_error_step": first}
        for i, first in enumerate(("N/A", 1, 2))
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewards = [[0.9, 0.8, 0.7], [0.9, 0.1, 0.9], [0.6, 0.7, 0.2]]
    lines = [
        {"problem_id": f"invalid-{i}", "candidate_index": 0, "step_scores": steps} for i, steps in enumerate(rewards)
    ]
    with gzip.open(tmp_path / "scores.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    task = replace(mr_math.TASK, measure=Errors(at=0.5))
    (result,) = rmbench.evaluate(
        f"scores:{tmp_path / 'scores.jsonl.gz'}", [task], data={"mr_math": tmp_path / "data.jsonl"}
    )
    found = {name: result.metric(name).value for name in ("first_error_f1", "step_auc", "solution_f1_macro")}
    assert found == {"first_error_f1": 1, "step_auc": 1, "solution_f1_macro": 1}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([1, 1], "tag sub_steps: expected 3 in all, as many steps as the response has, got 2"),
        ([2, 0, 1], r"tag sub_steps: expected a list of whole numbers from 1, one a labelled step, got \[2, 0, 1\]"),
        ("21", "tag sub_steps: expected a list of whole numbers from 1, one a labelled step, got '21'"),
        ([3], "expected 1 step labels, one a step, got 2"),
    ],
)
def test_parts_that_do_not_go_with_the_steps_are_refused(tmp_path: Path, parts: Any, message: str) -> None:
    def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
        for _ in rows:
            candidate = Candidate(
                Response("abc", ("a", "b", "c")), True, step_labels=(1, -1), tags={"sub_steps": parts}
            )
            yield Example("e", (Message("user", "?"),), (candidate,))

    (tmp_path / "data.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match=f"example e, candidate 0: {message}"):
        Steps(name="s", version=1, summary="", card="", read=read).load(tmp_path / "data.jsonl")
