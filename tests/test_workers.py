"""Several devices on one plan: the same rewards, and one line for whatever ends a process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from ask_models import score
from cards import Card
from checkpoints import make

import rmbench
from rmbench.cli import main
from rmbench.device import standing_in
from rmbench.errors import ModelError, UsageError
from rmbench.forwards.workers import Processes, devices_of
from rmbench.models.spec import load_model
from rmbench.scoring import Usage
from rmbench.scoring.windows import forwards
from rmbench.types import Message, Request, Response

REQUESTS = [
    Request("reward", (Message("user", f"What is {a} + {b}?"),), (Response("It is " + "so " * b + str(a + b)),))
    for a in range(12)
    for b in range(5)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("workers") / "llama", "llama")


@pytest.fixture
def model(folder: Path) -> Any:
    return load_model(str(folder), device="cpu")


def end(processes: Processes) -> None:
    """Kills the first process, as the system does where memory is short."""
    process = processes._seats[0].process
    assert process is not None
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()


def test_two_processes_give_the_rewards_of_one_and_the_threads_come_back(folder: Path, model: Any) -> None:
    threads = torch.get_num_threads()
    alone = score(model, REQUESTS, token_budget=200)
    with Processes(["cpu"]) as processes:
        shared = score(model, REQUESTS, token_budget=200, processes=processes, spec=str(folder))
    assert torch.get_num_threads() == threads
    assert [reward.value for reward in shared] == pytest.approx([reward.value for reward in alone], abs=1e-6)
    assert [reward.n_tokens for reward in shared] == [reward.n_tokens for reward in alone]


def test_members_of_a_derived_take_turns_in_the_same_processes(folder: Path, tmp_path: Path) -> None:
    """On two GPUs, of which the second is another process; `--devices` names them by number."""
    other = make(tmp_path / "gpt2", "gpt2")
    cards = {"cuda:0": Card(2**30), "cuda:1": Card(2**30)}
    rewards, alone, used = [], [], set()
    with standing_in(cards):
        first, *others = devices_of("0,1")
        with Processes(others) as processes:
            for spec in (str(folder), str(other), str(folder)):
                model = load_model(spec, device=first)
                held = {"processes": processes, "spec": spec, "options": {"device": first}}
                rewards.append(score(model, REQUESTS, token_budget=200, **held))
                alone.append(score(model, REQUESTS, token_budget=200))
                used |= {seat.process.pid for seat in processes._seats.values() if seat.process}
                if len(rewards) == 1:
                    with (
                        pytest.raises(ModelError, match="no config.json"),
                        processes.holding(str(tmp_path), {}, "no model"),
                    ):
                        pass
    for shared, own in zip(rewards, alone, strict=True):
        assert [reward.value for reward in shared] == pytest.approx([reward.value for reward in own], abs=1e-6)
    assert len(used) == 1


@pytest.mark.prove
def test_memory_that_runs_out_in_another_process_is_planned_anew(folder: Path, model: Any) -> None:
    """Either GPU has room for a few sequences only."""
    card = Card(10**5)
    with standing_in({"cuda:0": card, "cuda:1": Card(10**5)}), Processes(["cuda:1"]) as processes:
        rewards = score(model, REQUESTS, token_budget=5000, processes=processes, spec=str(folder))
        alone = score(model, REQUESTS, token_budget=30)
    assert card.peak <= card.total
    assert [reward.value for reward in rewards] == pytest.approx([reward.value for reward in alone], abs=1e-6)


@pytest.mark.prove
def test_a_process_that_died_is_started_anew(folder: Path, model: Any) -> None:
    with Processes(["cpu"]) as processes:
        for _ in range(2):
            assert score(model, REQUESTS[:5], processes=processes, spec=str(folder))[0].status == "ok"
            end(processes)


@pytest.mark.prove
def test_a_process_that_dies_is_one_line_with_its_device(folder: Path, model: Any) -> None:
    with Processes(["cpu"]) as processes, processes.holding(str(folder), {}, model.fingerprint) as workers:
        end(processes)
        with pytest.raises(ModelError, match="device cpu: its process ended before it answered"):
            list(forwards(model, [(bytes([i]), one) for i, one in enumerate(REQUESTS)], 200, Usage(), workers))


@pytest.mark.prove
def test_a_device_that_is_not_there_is_one_line_and_leaves_no_process(folder: Path, model: Any) -> None:
    threads, processes = torch.get_num_threads(), Processes(["cpu", "cuda:7"])
    there = r"^device cuda:7: device 'cuda:7' is not there; here are"
    with processes, pytest.raises(ModelError, match=there), processes.holding(str(folder), {}, model.fingerprint):
        pass
    assert torch.get_num_threads() == threads
    assert not any(process.name.startswith("rmbench") for process in multiprocessing.active_children())


@pytest.mark.prove
def test_a_process_with_another_model_is_refused(folder: Path) -> None:
    another = pytest.raises(ModelError, match="device cpu: its process loaded another model")
    with Processes(["cpu"]) as processes, another, processes.holding(str(folder), {}, "another"):
        pass


@pytest.mark.parametrize(
    ("given", "names"), [("0,1", ["cuda:0", "cuda:1"]), ("cuda", ["cuda:0"]), ("cpu, cpu", ["cpu", "cpu"])]
)
def test_devices_are_numbers_or_names(given: str, names: list[str]) -> None:
    assert devices_of(given) == names


@pytest.mark.parametrize("given", ["", "0,", "auto", "0,0", "cuda,0"])
def test_devices_that_make_no_sense_are_refused(given: str) -> None:
    with pytest.raises(UsageError, match="devices"):
        devices_of(given)


def test_a_model_that_runs_its_own_work_has_no_devices() -> None:
    with pytest.raises(UsageError, match="several devices are for checkpoints"):
        rmbench.evaluate("length", ["best_of_n"], devices="cpu,cpu")
    with pytest.raises(UsageError, match="by its spec"):
        rmbench.evaluate(lambda prompt, response: 0.0, ["best_of_n"], devices="cpu,cpu")


def test_a_plan_is_explained_and_nothing_is_scored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "-m", str(folder), "-m", "length", "-t", "best_of_n", "--max-length", "300", "--explain-plan"]
    assert main([*arguments, "--json"]) == 0
    planned, other = json.loads(capsys.readouterr().out)
    assert planned["left"] == planned["requests"] == other["left"] > 0
    assert planned["stored"] == 0
    assert sum(way["sequences"] for way in planned["ways"].values()) + planned["same_tokens"] == planned["left"]
    assert all(way["seconds"] > 0 and way["forwards"] > 0 for way in planned["ways"].values())
    assert other["reason"] == "it runs its own work"
    (task,) = planned["tasks"].values()
    assert (task["rows"], task["requests"], task["known"]) == (108, planned["requests"], 0)
    assert task["tokens"] == sum(way["tokens"] for way in planned["ways"].values())
    assert task["seconds"] == pytest.approx(sum(way["seconds"] for way in planned["ways"].values()))
    assert other["tasks"]["best_of_n"]["tokens"] is None
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "predicted:" in shown
    assert f"best_of_n 108 432 0 432 {task['tokens']:,} " in " ".join(shown.split())
    assert f"{planned['left']:,} to run" in shown


@pytest.mark.parametrize("other", [["--explain-plan"], ["--device", "cpu"]])
def test_options_that_contradict_devices_are_refused(folder: Path, other: list[str]) -> None:
    assert main(["run", "-m", str(folder), "-t", "best_of_n", "--devices", "cpu,cpu", *other]) == 2
