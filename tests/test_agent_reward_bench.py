"""AgentRewardBench: its labels, the authors' figures as plain loops count them, and the figures that they published."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import rmbench
from rmbench.data.cards import read_card
from rmbench.data.files import Row
from rmbench.errors import DataError, ModelError
from rmbench.results.verify import verify
from rmbench.tasks.agent_reward_bench import TASK
from rmbench.types import Reward

AGENTS = ("claude", "gpt")


def folder_of(path: Path, successes: Sequence[str], extra: Sequence[Sequence[str]] = ()) -> Path:
    """A folder as the authors have it: each agent in turn on each task, the last of which is of another split."""
    names = [f"webarena.{at}" if at % 2 else f"workarena.l2.{at}" for at in range((len(successes) + 1) // 2 + 1)]
    tasks = [(names[at // 2], AGENTS[at % 2], success) for at, success in enumerate(successes)]
    rows = [["A", task.split(".")[0], task, agent, success] for task, agent, success in tasks]
    rows += [["A", names[-1].split(".")[0], names[-1], "gpt", "Successful"], *extra]
    path.mkdir()
    with (path / "annotations.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["annotator_name", "benchmark", "task_id", "model_name", "trajectory_success"], *rows]
        )
    splits = [[name, "?", "dev" if name == names[-1] else "test"] for name in names]
    with (path / "splits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["task_id", "benchmark", "split"], *splits])
    return path


def scored(path: Path, names: Sequence[str], given: Sequence[Any]) -> Path:
    """A score file of rewards, or of why there is none; None is a trajectory that it has not."""
    rows = [
        {"example_id": name, "candidate": 0}
        | ({"reward": None, "status": one} if isinstance(one, str) else {"reward": one})
        for name, one in zip(names, given, strict=True)
        if one is not None
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def measured(data: Path, scores: Path) -> Any:
    (result,) = rmbench.evaluate(f"scores:{scores}", [TASK], data={"agent_reward_bench": data})
    verify(result, TASK)
    return result


def plain(truth: Sequence[int], said: Sequence[int]) -> dict[str, float]:
    """The loops of the authors' eval/metrics.py, unrounded; a judge that wrote nothing said -1."""
    pairs = [*zip(truth, said, strict=True)]
    tp, tn = sum(t == s == 1 for t, s in pairs), sum(t == s == 0 for t, s in pairs)
    fp, fn = sum(t == 0 and s == 1 for t, s in pairs), sum(t == 1 and s == 0 for t, s in pairs)
    precision, recall = tp / (tp + fp) if tp + fp else 0, tp / (tp + fn) if tp + fn else 0
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0,
        "npv": tn / (tn + fn) if tn + fn else 0,
        "tnr": tn / truth.count(0) if truth.count(0) else 0,
        "accuracy": sum(t == s for t, s in pairs) / len(pairs),
    }


TRUTH = [1, 0, 1, 1, 0, 0, 1, 0]
LABELS = ["Successful" if one else "Unsuccessful" for one in TRUTH]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1, 1, 0, "refused", 0, "error", 1, 0.4], [1, 1, 0, 0, 0, -1, 1, 0]),
        ([0.5, 0, 0, 0, 0, 0, 0, 0], [0] * 8),
        (["error"] * 3 + [0.51] * 5, [-1] * 3 + [1] * 5),
    ],
    ids=["some", "never", "always"],
)
def test_figures_are_those_of_plain_loops(given: Sequence[Any], said: Sequence[int], tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", LABELS)
    names = [example.id for example in TASK.load(data).examples]
    result = measured(data, scored(tmp_path / "judge.jsonl", names, given))
    for subset, places in {"all": range(8), "agent=claude": range(0, 8, 2), "subset=webarena": (2, 3, 6, 7)}.items():
        due = plain([TRUTH[at] for at in places], [said[at] for at in places])
        found = {metric.name: metric.value for metric in result.metrics if metric.subset == subset}
        assert found == {name: pytest.approx(value) for name, value in due.items()}
    assert result.left_out == {}
    assert result.metric("precision").clusters == 4


def test_a_trajectory_that_is_not_judged_is_left_out(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", LABELS)
    names = [example.id for example in TASK.load(data).examples]
    result = measured(data, scored(tmp_path / "judge.jsonl", names, [1, None, None, 0, 0, 0, 1, 1]))
    assert result.left_out == {"default": {"no answer": 2}}
    due = plain([TRUTH[at] for at in (0, 3, 4, 5, 6, 7)], [1, 0, 0, 0, 1, 1])
    assert result.metric("precision").value == pytest.approx(due["precision"])
    with pytest.raises(ModelError, match="needs the responses' texts"):
        rmbench.evaluate("length", [TASK], data={"agent_reward_bench": data})


def test_the_first_annotation_of_each_trajectory_of_the_test_split_is_read(tmp_path: Path) -> None:
    extra = [
        ["B", "workarena", "workarena.l2.0", "claude", "Unsuccessful"],
        ["B", "webarena", "webarena.improved.1", "other", "Unsure"],
        ["B", "webarena", "webarena.resized.1", "other", " SUCCESSFUL "],
    ]
    data = TASK.load(folder_of(tmp_path / "data", ["Successful", "Unsuccessful", "Successful"], extra))
    assert [(one.id, one.candidates[0].label) for one in data.examples] == [
        ("workarena/claude/workarena.l2.0", True),
        ("workarena/gpt/workarena.l2.0", False),
        ("webarena/claude/webarena.1", True),
        ("webarena/other/webarena.resized.1", True),
    ]
    assert data.excluded == {
        "of the split dev": 1, "annotated by another expert before": 1, "of which the expert is unsure": 1
    }  # fmt: skip
    assert [one.facets["subset"] for one in data.examples] == ["workarena++", "workarena++", "webarena", "webarena"]
    assert data.examples[2].cluster == data.examples[3].cluster == "webarena.1"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("annotations.csv", "benchmark,task_id,model_name,trajectory_success\na,b,c,Successful\n",
         "annotations.csv, row 1, `task_id`: expected a task that splits.csv beside it has, got 'b'"),
        ("annotations.csv", "benchmark,task_id,model_name\na,webarena.1,c\n",
         "annotations.csv, row 1: no `trajectory_success`; found .*; a row of annotations.csv has"),
        ("annotations.csv", "benchmark,task_id,model_name,trajectory_success\na,webarena.1,c,Maybe\n",
         "annotations.csv, row 1, `trajectory_success`: expected Successful, Unsuccessful or Unsure, got 'maybe'"),
        ("splits.csv", "split,task\ntest,webarena.1\n", "splits.csv, row 1: no `task_id`; found"),
    ],
)  # fmt: skip
def test_a_broken_row_is_one_line(file: str, text: str, message: str, tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", LABELS)
    (data / file).write_text(text)
    with pytest.raises(DataError, match=f"^{message}"):
        TASK.load(data)


def test_a_row_of_json_is_read_as_well() -> None:
    rows = [
        {"benchmark": "webarena", "task_id": "webarena.1", "model_name": "gpt", "trajectory_success": "Successful"},
        {"task_id": "webarena.1", "split": "test"},
    ]
    (example,) = TASK.read(Row(row, "rows.jsonl", at) for at, row in enumerate(rows, 1))
    assert example.id == "webarena/gpt/webarena.1"  # type: ignore[union-attr]


# the authors' labels


def test_the_counts_on_the_card_and_the_agreement_of_experts(rmbench_data: Path) -> None:
    stated = read_card("agent_reward_bench").front["rmbench"]["labels"]
    data = TASK.load(rmbench_data / stated["data"])
    assert {
        "data": stated["data"],
        "examples": len(data.examples),
        "clusters": len({example.cluster for example in data.examples}),
        "successes": sum(example.candidates[0].label is True for example in data.examples),
        "excluded": data.excluded,
        "subset": dict(Counter(example.facets["subset"] for example in data.examples)),
    } == stated
    with (rmbench_data / stated["data"] / "annotations.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    first: dict[tuple[str, ...], str] = {}
    pairs = []
    for row in rows:
        which, said = tuple(row[name] for name in ("benchmark", "model_name", "task_id")), row["trajectory_success"]
        if which in first and "Unsure" not in (first[which], said):
            pairs.append(first[which] == said)
        first.setdefault(which, said)
    assert (len(pairs), sum(pairs)) == (105, 93)


# precision, recall and F1 of apps/results.csv, and the only numbers of true and false positives that give them
PUBLISHED = {
    "Rule-based": (83.8, 55.9, 67.1, 165, 32),
    "AER-C": (67.7, 71.9, 69.7, 212, 101),
    "AER-V": (67.6, 71.5, 69.5, 211, 101),
    "NNetNav": (52.5, 82.4, 64.1, 243, 220),
    "Claude 3.7 S. (A)": (68.8, 81.6, 74.7, 240, 109),
    "GPT-4o (A)": (69.8, 83.1, 75.9, 245, 106),
    "GPT-4o Mini (A)": (61.5, 86.1, 71.7, 254, 159),
    "Llama 3.3 (A)": (67.7, 79.0, 72.9, 233, 111),
    "Qwen2.5-VL (A)": (64.3, 89.8, 75.0, 265, 147),
    "Claude 3.7 S. (S)": (69.4, 76.3, 72.7, 225, 99),
    "GPT-4o (S)": (68.1, 80.3, 73.7, 237, 111),
    "GPT-4o Mini (S)": (64.5, 78.3, 70.8, 231, 127),
    "Qwen2.5-VL (S)": (64.5, 86.1, 73.7, 254, 140),
}


def test_published_figures_come_from_their_counts_over_the_authors_labels(rmbench_data: Path) -> None:
    """Claude with the accessibility tree wrote nothing on one success: its figures fit no other counts."""
    examples = TASK.load(rmbench_data / "agent_reward_bench").examples
    asked = [TASK.questions(example, frozenset({"reward"}), "data") for example in examples]
    for judge, (precision, recall, f1, hits, alarms) in PUBLISHED.items():
        left, outcomes = {True: hits, False: alarms}, []
        nothing = judge == "Claude 3.7 S. (A)"
        for example, questions in zip(examples, asked, strict=True):
            label = example.candidates[0].label is True
            said, left[label] = float(left[label] > 0), left[label] - 1
            silent = nothing and label and not said
            nothing = nothing and not silent
            reward = Reward((math.nan,), status="error") if silent else Reward((said,))
            outcomes.append(TASK.outcome(example, questions, [reward]))
        statistics = TASK.measure.statistics(outcomes, "default", None)
        found = {one.name: float(one.value(one.columns.sum(axis=0))) for one in statistics}  # type: ignore[misc, union-attr]
        p, r = (round(found[name], 4) for name in ("precision", "recall"))  # as the authors do before F1
        due = found["precision"], found["recall"], 2 * p * r / (p + r)
        assert [round(100 * one, 1) for one in due] == [precision, recall, f1], judge
        assert found["f1"] == pytest.approx(2 * p * r / (p + r), abs=1e-4)


def test_what_no_draw_tells_is_told_by_the_verdicts_that_it_is_of(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", LABELS * 5)
    names = [example.id for example in TASK.load(data).examples]
    one_right = measured(data, scored(tmp_path / "judge.jsonl", names, [1, *[0] * 39])).metric("precision")
    assert one_right.value == 1
    assert one_right.ci_low < 0.3, "one verdict, however many trajectories"
    none = measured(data, scored(tmp_path / "never.jsonl", names, [0] * 40)).metric("precision")
    assert (none.value, none.ci_low) == (0, 0)
    assert none.ci_high > 0.7


# the files of the authors' judges


def judgment(judge: str, agent: str, text: str | None, reward: float = 0.0) -> dict[str, Any]:
    response = None if text is None else {"choices": [{"message": {"content": text}}]}
    return {"benchmark": "webarena", "agent": agent, "judge": judge, "response": response,
            "trajectory_info": {"summary_info": {"cum_reward": reward}}}  # fmt: skip


JUDGED = {
    "gpt-4o": [
        ("<reasoning>Done.</reasoning>\n<success>\n'Successful'</success>", 1),
        ("<success>Unsuccessful</success>", 0),
        ("It was successful.", 0),
        ("<success>n/a</success>", -1),
    ],
    "aer": [
        ("Status: failure\nThoughts: fine after all\nStatus: success", 1),
        ('Thoughts: bad\nStatus: "failure"\n', 0),
        ("Thoughts: well", 0),
        (None, -1),
    ],
    "nnetnav": [("Thought: good\nReward: 4", 1), ("Thought: so so\nReward: 3", 0), ("Reward: 5 of 5", 0), (None, -1)],
}


@pytest.mark.parametrize("judge", [*JUDGED, "functional"])
def test_judgments_are_read_as_the_code_of_the_authors_reads_them(judge: str, tmp_path: Path) -> None:
    given = JUDGED.get(judge, [(None, 1), (None, 0), (None, 1), (None, 0)])
    truth = [1, 0, 0, 1]
    data, judgments = tmp_path / "data", tmp_path / "judgments"
    extra = [
        ["A", "webarena", "webarena.1", agent, "Successful" if one else "Unsuccessful"]
        for agent, one in zip("wxyz", truth, strict=True)
    ]
    folder_of(data, ["Unsure", "Unsure", "Unsure"], extra)
    for at, (agent, (text, _)) in enumerate(zip("wxyz", given, strict=True)):
        folder = judgments / "webarena" / agent / judge
        folder.mkdir(parents=True)
        written = judgment(judge, agent, text, (0.6, 0.5, 1, 0)[at])
        (folder / "webarena.1.json").write_text(json.dumps(written))
        failed = {"error": "too long", "chat_messages": {}, "trajectory_info": {}}
        (folder / "webarena.3_error.json").write_text(json.dumps(failed))
    result = measured(data, judgments)
    due = plain(truth, [one for _, one in given])
    found = {metric.name: metric.value for metric in result.metrics if metric.subset == "all"}
    assert found == {name: pytest.approx(value) for name, value in due.items()}
    assert result.left_out == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agent": None}, "`agent`: expected a text, got None"),
        ({"judge": "functional", "trajectory_info": {}}, "`trajectory_info`: expected a number in `summary_info.cum"),
        ({"response": {"choices": [{}]}}, r"`response`: expected a text in `choices\[0\].message.content`, got None"),
    ],
)
def test_a_broken_judgment_is_one_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "webarena.1.json"
    file.write_text(json.dumps(judgment("gpt-4o", "w", "?") | change))
    with pytest.raises(DataError, match=f"^webarena.1.json, row 1, {message}"):
        rmbench.evaluate(f"scores:{file}", [TASK], data={"agent_reward_bench": folder_of(tmp_path / "data", LABELS)})


def test_two_judges_in_one_folder_and_none_at_all_are_one_line(tmp_path: Path) -> None:
    data, folder = folder_of(tmp_path / "data", LABELS), tmp_path / "judgments"
    for judge in ("aer", "gpt-4o"):
        (folder / judge).mkdir(parents=True)
        (folder / judge / "webarena.1.json").write_text(json.dumps(judgment(judge, "claude", "?")))
    with pytest.raises(
        DataError, match=r"^gpt-4o/webarena\.1\.json, row 1: scores example webarena/claude/webarena\.1"
    ):
        rmbench.evaluate(f"scores:{folder}", [TASK], data={"agent_reward_bench": data})
    (tmp_path / "failed.json").write_text(json.dumps({"error": "too long", "trajectory_info": {}}))
    with pytest.raises(DataError, match=r"^failed\.json: no scores in it"):
        rmbench.evaluate(f"scores:{tmp_path / 'failed.json'}", [TASK], data={"agent_reward_bench": data})
