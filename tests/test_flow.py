"""From a model and a task to results, files and resume."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import MeanOf, Scripted, TinyTokenModel

import rmbench
from rmbench.data.dataset import Source, collect
from rmbench.data.part import Part
from rmbench.errors import ModelError, ResultError, UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.metrics.aggregate import VIEWS
from rmbench.models.base import Encoded
from rmbench.models.classifier import OPTIONS
from rmbench.models.random import Random
from rmbench.results import files
from rmbench.runs.evaluate import evaluate
from rmbench.runs.loading import load_tasks
from rmbench.types import Candidate, Example, Message, Request, Response, Reward


def pair(id_: str, right: str, wrong: str, **more: Any) -> Example:
    candidates = (Candidate(right, True, tags={"length": len(right)}), Candidate(wrong, False))
    return Example(id_, (Message("user", more.pop("prompt", id_)),), candidates, **more)


EXAMPLES = [
    pair("short", "a", "bbb", facets={"subset": "x"}),
    pair("long", "cccc", "d", facets={"subset": "x"}),
    pair("tie", "ee", "ff", facets={"subset": "y"}),
    pair("long2", "gg", "h", facets={"subset": "y"}),
]


class Task(Comparison):
    """A comparison task whose examples are given."""

    def load(self, path: Path | None = None, part: Part | None = None) -> Any:
        return collect(self.examples, [Source("given", None, "0" * 64, len(self.examples))], part=part)


def task(examples: Any = EXAMPLES, **more: Any) -> Task:
    made = Task("given", 1, "given examples", "none", read=lambda rows: iter(()), **more)
    object.__setattr__(made, "examples", examples)
    return made


def length(request: Request) -> float:
    return len(request.responses[0].text or "")


def compared(request: Request) -> Reward:
    """The longer of the two wins; equal lengths tie."""
    first, second = (len(response.text or "") for response in request.responses)
    win = (np.sign(first - second) + 1) / 2
    return Reward((win, 1 - win))


def test_a_result_says_what_was_measured() -> None:
    (result,) = evaluate(Scripted(length), [task()])
    accuracy = result.metric("accuracy")
    assert (accuracy.value, accuracy.n, accuracy.clusters) == (0.5, 4, 4)
    assert accuracy.ci_low < 0.5 < accuracy.ci_high
    assert result.metric("accuracy_ties").value == 0.75
    assert result.metric("accuracy_expected").value == 0.625
    assert result.metric("accuracy", subset="subset=x").value == 0.5
    assert (result.ties, result.statuses, result.truncated) == ({"default": 1}, {"ok": 8}, 0)
    assert (result.dataset.examples, result.dataset.candidates) == (4, 8)
    assert (result.calibration, result.subject.kind) == (None, "reward_model")
    assert result.calibration_reason


@pytest.mark.parametrize("orders", ["official", "both", "round_robin"])
def test_comparisons_and_rewards_of_the_same_model_agree(orders: Any) -> None:
    (by_reward,) = evaluate(Scripted(length), [task()])
    (by_pair,) = evaluate(Scripted(compared, answers=["compare"]), [task(orders=orders)])
    for name in ("accuracy", "accuracy_ties", "accuracy_expected", "mrr", "auc"):
        assert by_pair.metric(name).value == by_reward.metric(name).value
    assert by_pair.requests.num_rows == 4 * (2 if orders == "both" else 1)
    assert by_reward.requests is None


def test_a_judge_that_always_prefers_the_first_ties_in_both_orders() -> None:
    first = Scripted(lambda request: Reward((1.0, 0.0)), answers=["compare"])
    (result,) = evaluate(first, [task(orders="both")])
    assert result.ties == {"default": 4}
    assert result.metric("accuracy_expected").value == 0.5


def test_the_official_protocol_does_not_always_show_the_right_one_first() -> None:
    first = Scripted(lambda request: Reward((1.0, 0.0)), answers=["compare"])
    (result,) = evaluate(first, [task([pair(str(i), "a", "b") for i in range(200)])])
    assert 0.4 < result.metric("accuracy").value < 0.6


def test_an_unparsed_verdict_counts_against_the_right_answer_only_where_that_is_official() -> None:
    null = Reward((math.nan, math.nan), status="refused")
    (official,) = evaluate(Scripted(lambda request: null, answers=["compare"]), [task(null_verdict="loss")])
    assert (official.metric("accuracy").value, official.metric("accuracy").n) == (0.0, 4)
    assert official.statuses == {"refused": 4}
    (other,) = evaluate(Scripted(lambda request: null, ["compare"], "scripted:2"), [task()])
    assert other.metric("accuracy").value is None
    assert other.left_out == {"default": {"no answer": 4}}


@pytest.mark.parametrize("status", ["error", "nan", "missing", "refused"])
def test_no_other_status_is_a_loss_or_a_win(status: Any) -> None:
    def answer(request: Request) -> Reward:
        value = math.nan if status == "nan" else 0.0
        return Reward((value,), status=status) if request.responses[0].text == "a" else Reward((length(request),))

    (result,) = evaluate(Scripted(answer), [task()])
    assert (result.metric("accuracy").n, result.left_out) == (3, {"default": {"no answer": 1}})
    assert result.statuses[status] == 1


def test_step_rewards_give_every_aggregator_as_a_view() -> None:
    steps = tuple("ab")
    examples = [Example("e", (), tuple(Candidate(Response("ab", steps), label) for label in (True, False)))]
    (result,) = evaluate(TinyTokenModel(answers=["steps"]), [task(examples)])
    assert list(result.ties) == ["default", *VIEWS]
    assert result.primary_view == "default", "what the model makes of its steps itself"
    assert len(result.records.column("steps")[0]) == 2


def test_steps_of_which_nothing_is_made_are_ok_where_they_have_a_number() -> None:
    given = {"a": (0.5, 1.0), "b": (math.nan, 0.5), "c": (math.nan, math.nan), "d": (math.inf, math.inf)}

    def answer(request: Request) -> Reward:
        return Reward((math.nan,), steps=given[request.responses[0].text or ""])

    examples = [Example("e", (), tuple(Candidate(Response(text, "xy"), text == "a") for text in given))]
    (result,) = evaluate(Scripted(answer, answers=["steps"]), [task(examples)])
    assert result.records.column("status").to_pylist() == ["ok", "ok", "nan", "inf"]
    assert result.views == [*VIEWS]
    assert result.primary_view == "prod"


def test_two_ratings_of_a_step_are_views_of_their_own() -> None:
    def answer(request: Request) -> Reward:
        return Reward((0.0,), steps=(0.5, 0.5), step_heads={"redundancy": (0.1, length(request))})

    examples = [Example("e", (), tuple(Candidate(Response(text, tuple("ab")), text == "aa") for text in ("aa", "b")))]
    (result,) = evaluate(Scripted(answer, answers=["steps"]), [task(examples)])
    assert result.metric("accuracy", view="redundancy/last").value == 1
    assert result.metric("accuracy", view="last").value == 0


def test_every_head_is_a_view() -> None:
    (result,) = evaluate(TinyTokenModel(answers=["reward"]), [task()])
    assert result.metric("accuracy", view="sum").value == result.metric("accuracy").value
    assert result.metric("accuracy", view="negative").value == 1 - result.metric("accuracy_ties", view="sum").value


def test_records_hold_every_candidate_and_no_text() -> None:
    (result,) = evaluate(TinyTokenModel(answers=["reward"]), [task()])
    rows = result.records.to_pylist()
    assert [row["example_id"] for row in rows] == [example.id for example in EXAMPLES for _ in range(2)]
    assert rows[0]["label"] == 1.0
    assert rows[0]["tag_length"] == 1
    assert rows[1]["tag_length"] is None
    assert dict(rows[0]["heads"])["sum"] == rows[0]["reward"]
    assert rows[0]["n_tokens"] == len("short") + 2
    assert "gg" not in str(rows)


def test_a_task_that_asks_what_a_model_does_not_answer_says_so() -> None:
    with pytest.raises(ModelError, match="given: the model answers tokens; this task asks reward, steps or compare"):
        evaluate(TinyTokenModel(answers=["tokens"]), [task()])


def test_files_are_where_the_design_says_and_read_back_equal(tmp_path: Path) -> None:
    (result,) = evaluate(Scripted(length), [task()], out=tmp_path)
    (path,) = tmp_path.rglob("*.json")
    assert path.relative_to(tmp_path).match("tests__scripted/local-*/given.json")
    read = files.read(path, tables=True)
    assert read.model_dump() == result.model_dump()
    assert read.records.equals(result.records)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix not in (".json", ".parquet")]


def test_another_seed_limit_or_setting_is_another_file(tmp_path: Path) -> None:
    for seed in (0, 1):
        evaluate("random", [task()], seed=seed, out=tmp_path)
    evaluate("random", [task()], limit=2, out=tmp_path)
    evaluate("random", [task()], out=tmp_path)  # the first again
    assert len(list(tmp_path.rglob("*.json"))) == 3


def test_two_functions_of_the_same_members_are_two_results(tmp_path: Path) -> None:
    members = Scripted(length), Random()
    other = MeanOf(*members)
    other.fingerprint = "mean-of:2"
    for model in (MeanOf(*members), other):
        evaluate(model, [task()], out=tmp_path)
    assert len(list(tmp_path.rglob("*.json"))) == 2


def test_nothing_written_names_this_machine(tmp_path: Path) -> None:
    import getpass
    import socket

    evaluate(Scripted(length), [task()], out=tmp_path)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()).decode(errors="replace")
    for private in (str(Path.cwd()), str(tmp_path), str(Path.home()), socket.gethostname()):
        assert private not in written
    assert f"/{getpass.getuser()}" not in written


def test_results_of_one_data_set_are_comparable_whatever_order_it_came_in() -> None:
    (one,) = evaluate("length", [task()])
    (other,) = evaluate("length", [task(EXAMPLES[::-1])])
    (less,) = evaluate("length", [task()], limit=3)
    assert one.dataset.examples_sha256 == other.dataset.examples_sha256 != less.dataset.examples_sha256
    (texts,) = evaluate("length", [task([pair("short", "x", "y", facets={"subset": "x"}), *EXAMPLES[1:]])])
    assert one.dataset.examples_sha256 == texts.dataset.examples_sha256
    assert one.dataset.responses_sha256 == other.dataset.responses_sha256 != texts.dataset.responses_sha256


def test_responses_with_the_same_tokens_are_counted_also_when_nothing_is_scored_again() -> None:
    class Lowercase(TinyTokenModel):
        def _encode(self, request: Request) -> Encoded:
            return super()._encode(replace(request, responses=(Response((request.responses[0].text or "").lower()),)))

    examples = [pair("a", "Yes", "yes"), pair("b", "no", "No"), pair("c", "x", "y")]
    counts = [evaluate(Lowercase(answers=["reward"]), [task(examples)])[0].same_tokens for _ in range(2)]
    assert counts == [2, 2]


def test_a_process_model_gets_steps_where_the_data_have_none() -> None:
    (result,) = evaluate(TinyTokenModel(answers=["steps"]), [task([pair("e", "one\ntwo", "one\ntwo\nthree")])])
    assert [len(steps) for steps in result.records.column("steps").to_pylist()] == [2, 3]


def test_outcomes_keep_step_rewards_and_labels_in_place() -> None:
    steps = [Candidate(Response("ab", ("a", "b")), label, step_labels=(1, -1)) for label in (True, False)]
    example = Example("e", (), (steps[0], Candidate("c", False), steps[1]))
    rewards = [Reward((0.2,), steps=(0.1, 0.2)), Reward((math.nan,), status="error"), Reward((0.4,), steps=(0.3, 0.4))]
    made = task([example])
    outcome = made.outcome(example, made.questions(example, frozenset({"steps"}), "0"), rewards)
    assert [list(scores) for scores in outcome.views["prod"].steps] == [[0.1, 0.2], [], [0.3, 0.4]]
    assert outcome.views["last"].scores[[0, 2]].tolist() == [0.2, 0.4]
    assert [list(labels) for labels in outcome.step_labels] == [[1, -1], [], [1, -1]]


def test_a_head_called_default_is_not_the_reward() -> None:
    reward = Reward((1.0,), heads={"default": (0.0,)})
    (result,) = evaluate(Scripted(lambda r: reward), [task()])
    assert list(result.ties) == ["default", "default head"]


def test_an_option_cannot_change_a_model_that_is_loaded() -> None:
    with pytest.raises(UsageError, match="max_length=3 cannot change a model that is loaded already"):
        evaluate(Scripted(length), [task()], max_length=3)


CODE = """
CALLS = []


def reward(prompt, response):
    CALLS.append(response)
    if len(CALLS) == 4:
        raise KeyboardInterrupt
    return float(len(response))
"""


def test_an_interrupted_run_of_plain_code_continues_and_a_finished_one_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = "python:interrupted:reward"
    with pytest.raises(KeyboardInterrupt):
        evaluate(spec, [task()])
    calls = sys.modules["interrupted"].CALLS
    evaluate(spec, [task()], out=tmp_path)
    assert len(calls) == 8 + 1, "three were kept, one was interrupted"
    evaluate(spec, [task()], out=tmp_path)
    assert len(calls) == 9, "its file is what it was"
    evaluate(spec, [task()], out=tmp_path, fresh=True)
    assert len(calls) == 9 + 8, "what the file imports may have changed"
    assert len(list(tmp_path.rglob("given.json"))) == 1


def test_an_interrupted_run_is_not_continued_by_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "changing.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        evaluate("python:changing:reward", [task()])
    (tmp_path / "changing.py").write_text(CODE.replace("float(len(response))", "-1.0"))
    sys.modules.pop("changing")
    (result,) = evaluate("python:changing:reward", [task(EXAMPLES[:1])])
    assert set(result.records.column("reward").to_pylist()) == {-1.0}


def test_two_callables_in_one_program_are_two_results(tmp_path: Path) -> None:
    for model in (lambda prompt, response: 1.0, lambda prompt, response: 2.0):
        evaluate(model, [task()], out=tmp_path)
    assert len(list(tmp_path.rglob("given.json"))) == 2


def test_an_error_in_plain_code_loses_one_reward() -> None:
    (result,) = evaluate(lambda prompt, response: {"a": 1}[response], [task()])
    assert result.statuses == {"ok": 1, "error": 7}


def test_a_json_that_is_no_result_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"schema_version": 3}')
    with pytest.raises(ResultError, match="x.json: no result file: task: Field required"):
        files.read(tmp_path / "x.json")


def test_newer_and_unknown_fields_are_refused(tmp_path: Path) -> None:
    evaluate("length", [task()], out=tmp_path)
    (path,) = tmp_path.rglob("*.json")
    good = json.loads(path.read_text())
    path.write_text(json.dumps(good | {"schema_version": 4}))
    with pytest.raises(ResultError, match="schema version 4; this rmbench reads 3"):
        files.read(path)
    path.write_text(json.dumps(good | {"extra": 1}))
    with pytest.raises(ResultError, match="extra: Extra inputs are not permitted"):
        files.read(path)


def test_an_output_folder_that_cannot_be_written_is_refused_before_scoring(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model = Scripted(length)
    with pytest.raises(ResultError, match="cannot write results here .*--out names another folder"):
        evaluate(model, [task()], out=tmp_path / "file")
    assert not model.seen


FULL = """
import resource, sys
import rmbench

rows, limit, out = sys.argv[1:]
model = "python:counted:reward"
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
try:
    rmbench.evaluate(model, ["preference"], data={"preference": rows}, out=out)
except rmbench.ResultError as error:
    print(error)
"""


def test_a_disk_that_is_full_is_one_line_and_leaves_no_half_result(tmp_path: Path) -> None:
    """A real limit, on the size of any file: the first to reach it is the error."""
    rows = [{"prompt": f"{i}", "chosen": f"{i} a", "rejected": f"{i} b"} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "counted.py").write_text(
        "def reward(prompt, response):\n    open('calls', 'a').write('x')\n    return len(response)\n"
    )
    (tmp_path / "full.py").write_text(FULL)

    def run(limit: int, out: str) -> str:
        command = [sys.executable, "full.py", "rows.jsonl", str(limit), out]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    (error,) = run(2000, "a").splitlines()
    assert "cannot keep rewards" in error or "cannot write" in error
    assert not list((tmp_path / "a").rglob("*.json"))
    assert run(10**8, "b") == ""
    assert list((tmp_path / "b").rglob("preference-*.json"))


def test_a_result_that_cannot_be_written_does_not_cost_its_rewards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quiet.py").write_text(CODE.replace("len(CALLS) == 4", "False"))
    monkeypatch.syspath_prepend(str(tmp_path))
    replaced = Path.replace

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(ResultError, match="No space left on device.; the rewards are kept"):
            evaluate("python:quiet:reward", [task()], out=tmp_path / "a")
    assert Path.replace is replaced
    assert not [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    evaluate("python:quiet:reward", [task()], out=tmp_path / "b")
    assert len(sys.modules["quiet"].CALLS) == 8


def test_data_for_a_task_that_is_not_run_is_an_error() -> None:
    with pytest.raises(UsageError, match="--data other=x.json: other is not among the tasks of this run"):
        load_tasks([task()], data={"other": "x.json"})


def test_score_takes_pairs_and_messages() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert [reward.value for reward in rmbench.score("length", [("Hi", "abc"), messages])] == [3, 5]


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([{"role": "user", "content": "Hi"}], "conversation 0: its last message must be the assistant's"),
        ([{"role": "user"}], "conversation 0, message 0: expected content, a text, and role"),
        ([{"role": "alien", "content": "x"}], "conversation 0, message 0: expected content, a text, and role"),
        ([{"role": "user", "content": [{"type": "text"}]}], "conversation 0, message 0: expected content, a text"),
        (("p", "\ud800"), "conversation 0, message 1: a lone surrogate at character 0"),
        ("text", "conversation 0: expected .prompt, response. or messages"),
    ],
)
def test_score_refuses_what_is_no_conversation(conversation: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rmbench.score("length", [conversation])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit=0: expected at least 1"),
        ({"limit": -1}, "limit=-1: expected at least 1"),
        ({"seed": -1}, "expected a seed from 0"),
        ({"token_budget": 0}, "a budget from 1"),
        ({"data": "x.json"}, "data='x.json': expected a mapping"),
        ({"pooling": "mean"}, "pooling='mean' of family 'classifier': expected one of auto, last, hf"),
        ({"truncation_side": "middle"}, "truncation_side='middle' of family 'classifier': expected one of left, right"),
        ({"max_length": "long"}, "max_length='long' of family 'classifier': expected a whole number"),
    ],
)
def test_an_option_that_means_nothing_is_refused(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        evaluate("classifier:org/name", [task()], **options)


def test_tasks_are_a_list() -> None:
    with pytest.raises(UsageError, match="tasks='preference': expected a list of tasks"):
        evaluate("length", "preference")


def test_one_of_two_orders_that_a_score_file_does_not_know_is_missing_and_the_other_counts() -> None:
    def answer(request: Request) -> Reward:
        first = (request.responses[0].text or "") < (request.responses[1].text or "")
        return compared(request) if first else Reward((math.nan, math.nan), status="missing")

    (result,) = evaluate(Scripted(answer, answers=["compare"]), [task(orders="both")])
    assert result.statuses == {"ok": 4, "missing": 4}
    assert result.metric("accuracy").n == 4


def test_options_have_defaults_that_change_no_reward() -> None:
    defaults = {name: option.default for name, option in OPTIONS.items()}
    assert (defaults["head_dtype"], defaults["truncation_side"], defaults["pooling"]) == ("float32", "left", "auto")


def test_a_result_states_its_command_without_a_path(tmp_path: Path) -> None:
    scores = tmp_path / "made.jsonl"
    (tmp_path / "out").mkdir()
    evaluate("length", [task()], out=tmp_path / "first")
    (records,) = (tmp_path / "first").rglob("given.parquet")
    scores = records.rename(tmp_path / "made.parquet")
    (result,) = evaluate(f"scores:{scores}", [task()], seed=3)
    command = result.config.command
    assert command["model"] == {
        "family": "scores",
        "source": {"file": "made.parquet", "sha256": command["model"]["source"]["sha256"]},
    }
    assert (command["task"], command["seed"]) == ("given", 3)
    assert str(tmp_path) not in result.model_dump_json()
