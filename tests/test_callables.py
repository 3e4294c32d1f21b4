"""Functions as models: what they may take and give, what is told of anything else, and when it is enough."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rmbench import evaluate, score
from rmbench.cli import main
from rmbench.errors import ModelError, UsageError
from rmbench.models.callables import PythonCallable
from rmbench.models.spec import open_model
from rmbench.types import Message, Request, Response, Reward

Asked = Callable[..., Any]


def asked(count: int, ask: Any = "reward") -> list[Request]:
    responses = [tuple(Response("x" * (i + at)) for at in range(1 + (ask == "compare"))) for i in range(1, count + 1)]
    return [Request(ask, (Message("user", "Why?"),), response) for response in responses]


def answers(function: Asked, count: int = 1, ask: Any = "reward", **options: Any) -> list[Reward]:
    given = dict(PythonCallable(function, options=options).rewards(asked(count, ask)))
    return [given[i] for i in range(count)]


class AsyncObject:
    async def __call__(self, prompt: str, response: str) -> float:
        return len(response)


class BatchedObject:
    batched = True

    def __call__(self, questions: Sequence[str], texts: Sequence[str]) -> tuple[int, ...]:
        return tuple(map(len, texts))


async def awaited(prompt: str, response: str) -> float:
    await asyncio.sleep(0)
    return len(response)


async def awaited_batch(prompts: Sequence[str], responses: Sequence[str]) -> list[int]:
    return [len(response) for response in responses]


def batched(prompts: Sequence[str], responses: Sequence[str]) -> Any:
    assert len(prompts) == len(responses)
    return torch.tensor([[float(len(response))] for response in responses])


@pytest.mark.parametrize(
    "function",
    [
        lambda prompt, response: len(response),
        lambda prompt, response, temperature=1.0: np.float32(len(response)),
        lambda *texts: Decimal(len(texts[1])),
        lambda prompt, response: torch.tensor([[float(len(response))]], requires_grad=True),
        lambda prompt, response: np.array([len(response)]),
        lambda prompts, responses: np.array([len(response) for response in responses]),
        batched,
        BatchedObject(),
        awaited,
        AsyncObject(),
        awaited_batch,
    ],
)
@pytest.mark.parametrize("concurrency", [None, 3])
def test_whatever_a_function_takes_and_gives_it_is_one_number_a_response(
    function: Asked, concurrency: int | None
) -> None:
    rewards = answers(function, 70, concurrency=concurrency)
    assert [reward.value for reward in rewards] == [*range(1, 71)]


async def cancelled(prompt: str, response: str) -> float:
    if len(response) == 2:
        raise asyncio.CancelledError
    return len(response)


def test_a_call_that_something_cancels_is_an_error_of_its_row() -> None:
    rewards = answers(cancelled, 3)
    assert [reward.status for reward in rewards] == ["ok", "error", "ok"]
    assert "CancelledError" in (rewards[1].detail or "")


def compare(prompt: str, first: str, second: str) -> float:
    return 0.75


async def better(prompt: str, one: str, other: str) -> bool:
    return len(one) > len(other)


better.answers = "compare"  # type: ignore[attr-defined]


def compare_all(prompts: Sequence[str], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
    return [0.5 for _ in prompts]


@pytest.mark.parametrize(
    ("function", "values"), [(compare, (0.75, 0.25)), (better, (0.0, 1.0)), (compare_all, (0.5, 0.5))]
)
def test_a_function_of_two_responses_compares_them(function: Asked, values: tuple[float, float]) -> None:
    assert [reward.values for reward in answers(function, 3, "compare")] == [values] * 3
    [result] = evaluate(function, ["best_of_n"], limit=2)
    assert result.subject.answers == ["compare"]
    assert set(result.statuses) == {"ok"}


@pytest.mark.parametrize(
    ("value", "status", "detail"),
    [
        (None, "refused", "the function returned None"),
        (np.array([1.0, 2.0]), "error", "returned an array, expected a number: ndarray of shape (2,)"),
        (torch.zeros(0), "error", "returned an array, expected a number: Tensor of shape (0,)"),
        ({"reward": 1.0}, "error", "returned a dict, expected a number or None: {'reward': 1.0}"),
        ("high", "error", "returned a str, expected a number or None: 'high'"),
        ([1.0], "error", "returned a list, expected a number or None: [1.0]"),
        (1j, "error", "returned a complex, expected a number or None: 1j"),
        (10**400, "error", "returned no number: int, OverflowError"),
        (awaited, "error", "returned a function, expected a number or None"),
        (torch.zeros(1, device="meta"), "error", "returned no number: Tensor, "),
    ],
)
def test_what_is_no_number_is_told_of_its_row(value: Any, status: str, detail: str) -> None:
    [reward] = answers(lambda prompt, response: value)
    assert reward.status == status
    assert detail in (reward.detail or "")
    first, second = answers(lambda prompts, responses: [value, 2.0], 2)
    assert (first.status, first.detail) == (status, reward.detail)
    assert second.values == (2.0,)


@pytest.mark.parametrize(
    ("function", "detail"),
    [
        (lambda prompt, first, second: 2, "the function returned no share from 0 to 1: 2.0"),
        (lambda prompt, first, second: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_comparison_that_is_no_share_is_told_of_its_row(function: Asked, detail: str) -> None:
    [reward] = answers(function, 1, "compare")
    assert (reward.status, reward.detail, len(reward.values)) == ("error", detail, 2)


def exits(prompt: str, response: str) -> float:
    sys.exit("bye")


async def exits_in_a_loop(prompt: str, response: str) -> float:
    sys.exit("bye")


@pytest.mark.parametrize("function", [exits, exits_in_a_loop])
def test_a_function_that_exits_is_an_error_of_its_row(function: Asked) -> None:
    assert {reward.detail for reward in answers(function, 3)} == {"SystemExit: bye"}


def test_one_cursed_row_of_a_batch_costs_no_other() -> None:
    def cursed(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        if "x" * 37 in responses:
            raise ValueError("row 37 is cursed\nand more")
        return [1.0] * len(prompts)

    rewards = answers(cursed, 100)
    assert [i for i, reward in enumerate(rewards, 1) if reward.status == "error"] == [37]
    assert rewards[36].detail == "ValueError: row 37 is cursed"


class Server:
    """Answers as long as it lives, and counts what it is asked."""

    def __init__(self, lives: int) -> None:
        self.lives, self.calls = lives, 0

    def __call__(self, prompt: str, response: str) -> float:
        self.calls += 1
        if self.calls > self.lives:
            raise ConnectionError("refused")
        return 1.0


@pytest.mark.parametrize(
    ("options", "calls"), [({}, 30 + 20), ({"give_up": 5}, 30 + 5), ({"give_up": 0}, 200), ({"concurrency": 4}, None)]
)
def test_a_dead_server_is_given_up_after_failures_in_a_row(options: dict[str, Any], calls: int | None) -> None:
    server = Server(30)
    model = PythonCallable(server, options=options)
    if options.get("give_up") == 0:
        assert len([*model.rewards(asked(200))]) == 200
    else:
        with pytest.raises(ModelError, match=r"Server: \d+ calls failed in a row, the last: ConnectionError: "
                           r"refused; given up after \d+ of 200 were tried; what was answered is kept"):  # fmt: skip
            [*model.rewards(asked(200))]
    assert server.calls == calls or (calls is None and 50 <= server.calls < 54)


def test_a_dead_server_behind_batches_is_given_up_too_and_another_task_asks_it_once() -> None:
    calls: list[int] = []

    def dead(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        calls.append(len(prompts))
        raise TimeoutError

    model = PythonCallable(dead, options={"give_up": 3, "batch": 8})
    with pytest.raises(ModelError, match="3 calls failed in a row, the last: TimeoutError; given up after 8 of 100"):
        [*model.rewards(asked(100))]
    assert calls == [8, 1, 1]


DYING = """
from pathlib import Path

calls = []

def reward(prompt, response):
    if len(calls) >= 50 and not Path("up").exists():
        raise ConnectionError("refused")
    calls.append(response)
    return len(response)
"""


def test_what_was_answered_before_it_was_given_up_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "dying_server.py").write_text(DYING)
    conversations = [("p", "x" * n) for n in range(1, 121)]
    with pytest.raises(ModelError, match="20 calls failed in a row, .* given up after 70 of 120 were tried"):
        score("python:dying_server:reward", conversations)
    (tmp_path / "up").touch()
    assert [reward.value for reward in score("python:dying_server:reward", conversations)] == [*range(1, 121)]
    calls = sys.modules.pop("dying_server").calls
    assert len(calls) == len(set(calls)) == 120


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("concurrency", [1, 6])
def test_calls_wait_for_one_another_only_as_far_as_is_asked(concurrency: int, is_async: bool) -> None:
    running = most = 0
    lock = threading.Lock()

    def counted(more: int) -> float:
        nonlocal running, most
        with lock:
            running += more
            most = max(most, running)
        return 1.0

    def plain(prompt: str, response: str) -> float:
        counted(1)
        time.sleep(0.01)
        return counted(-1)

    async def awaiting(prompt: str, response: str) -> float:
        counted(1)
        await asyncio.sleep(0.01)
        return counted(-1)

    answers(awaiting if is_async else plain, 24, concurrency=concurrency)
    assert most == concurrency


def test_a_loop_lives_as_long_as_its_function_and_one_that_runs_already_is_no_hindrance() -> None:
    loops = set()

    async def client(prompt: str, response: str) -> float:
        loops.add(asyncio.get_running_loop())
        return 1.0

    model = PythonCallable(client)
    for _ in range(2):
        assert len([*model.rewards(asked(3))]) == 3
    assert len(loops) == 1

    async def notebook() -> list[Reward]:
        return score(client, [("p", "r")])

    assert asyncio.run(notebook())[0].value == 1


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda: 1.0, {}, r"takes \(\); expected \(prompt, response\), \(prompts, responses\) or \(prompt, first"),
        (lambda prompt, response, reference: 1.0, {}, r"takes \(prompt, response, reference\); expected"),
        (lambda response, prompt: 1.0, {}, r"takes \(response, prompt\), and is called in order; expected"),
        (lambda responses, prompts: [1.0], {}, r"takes \(responses, prompts\), and is called in order; expected"),
        (compare, {"batch": 4}, r"batch=4: python/compare takes one response"),
        (awaited, {"concurrency": 0}, r"concurrency=0: expected a whole number from 1"),
        (awaited, {"give_up": -1}, r"give_up=-1: expected a whole number from 0"),
        (awaited, {"max_length": 5}, r"max_length=5 cannot change a model that is loaded already|unknown option"),
    ],
)
def test_a_function_or_option_that_cannot_be_is_told_before_anything_is_asked(
    function: Asked, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        open_model(function, **options)


def test_a_function_answers_rewards_or_comparisons() -> None:
    def steps(prompt: str, response: str) -> list[float]:
        return [1.0]

    steps.answers = {"steps"}  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="answers steps; a function answers reward or compare"):
        open_model(steps)


BROKEN = [
    ("def f(p, r:\n  return 1\n", r"SyntaxError: '\(' was never closed \(own_0.py, line 1\)"),
    ("import nosuchmodule_xyz\n", "ModuleNotFoundError: No module named 'nosuchmodule_xyz'"),
    ("def f(p, r):\n    return 1\nimport sys\nsys.exit('no GPU')\n", "SystemExit: no GPU"),
    ("print('hello')\n1 / 0\n", "ZeroDivisionError: division by zero"),
]


@pytest.mark.parametrize(("code", "message"), BROKEN)
def test_a_module_that_cannot_be_imported_is_one_line_before_anything_is_scored(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    name = f"own_{[code for code, _ in BROKEN].index(code)}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / f"{name}.py").write_text(code)
    assert main(["run", "-m", "length", "-m", f"python:{name}:f", "-t", "best_of_n", "--limit", "3"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    [line] = [line for line in said.err.splitlines() if line != "hello"]
    assert line.startswith(f"rmbench: error: python:{name}:f cannot be imported: ")
    assert re.search(message, line)
    assert not [*tmp_path.rglob("*.json")]


OWN = """
import sqlite3
from rmbench.cache import cache_folder
from rmbench.types import Reward

kept = []

def count():
    connection = sqlite3.connect(cache_folder() / "rewards.sqlite")
    kept.append(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    connection.close()

def one(prompt, response):
    count()
    return 1.0

def several(prompts, responses):
    count()
    return [1.0] * len(prompts)

class Own:
    answers, fingerprint = frozenset({"reward"}), None
    def rewards(self, requests):
        for index, _ in enumerate(requests):
            yield index, Reward((one("", ""),))
"""


@pytest.mark.parametrize(("name", "step"), [("one", 1), ("several?batch=4", 4), ("Own", 1)])
def test_what_own_code_answered_is_kept_before_it_is_asked_for_more(
    name: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_kept.py").write_text(OWN)
    for responses in ("ab", "cd"):  # as two tasks of a run, or two runs
        score(f"python:own_kept:{name}", [("p", response * n) for response in responses for n in range(1, 9)])
    kept = sys.modules.pop("own_kept").kept
    assert kept == [*range(0, 32, step)]


def test_the_object_that_the_readme_shows_is_a_model() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    [code] = [block for block in readme.split("```python\n")[1:] if "class Server" in block]
    names: dict[str, Any] = {"ask": lambda chat: {"overall": 2.0, "style": float(len(chat))}}
    exec(code.partition("```")[0], names)
    [reward] = score(names["Server"](), [("p", "r")])
    assert (reward.value, dict(reward.heads)) == (2.0, {"overall": (2.0,), "style": (2.0,)})
    assert len(code.partition("class Server")[2].partition("```")[0].splitlines()) <= 12


def test_code_that_changes_is_imported_again_and_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for value in (1, 22, 1):
        (tmp_path / "own_changing.py").write_text(f"def f(prompt, response): return {value}\n")
        assert score("python:own_changing:f", [("p", "r")])[0].value == value


def test_a_name_for_code_of_another_file_is_known_by_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_inner.py").write_text("def f(prompt, response): return 1\n")
    (tmp_path / "own_outer.py").write_text("from own_inner import f\n")
    before = open_model("python:own_outer:f").fingerprint
    (tmp_path / "own_inner.py").write_text("def f(prompt, response): return 2\n")
    assert open_model("python:own_outer:f").fingerprint != before


def test_options_of_functions_are_no_options_of_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_object.py").write_text(
        "class Own:\n"
        "    answers, fingerprint = frozenset({'reward'}), None\n"
        "    def rewards(self, requests):\n        yield from ()\n"
    )
    with pytest.raises(UsageError, match="batch=4: python:own_object:Own has a protocol, and calls itself as it likes"):
        open_model("python:own_object:Own?batch=4")
