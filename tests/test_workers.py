"""Several devices on one plan: the same rewards, and one line for whatever ends a process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from ask_models import score
from checkpoints import make

import rmbench
from rmbench.cli import main
from rmbench.errors import ModelError, UsageError
from rmbench.models.spec import load_model
from rmbench.scoring.workers import Processes, devices_of
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


def test_two_processes_give_the_rewards_of_one_and_the_threads_come_back(folder: Path, model: Any) -> None:
    threads = torch.get_num_threads()
    alone = score(model, REQUESTS, token_budget=200)
    with Processes(str(folder), {}, ["cpu"], model.fingerprint) as workers:
        shared = score(model, REQUESTS, token_budget=200, workers=workers)
    assert torch.get_num_threads() == threads
    assert [reward.value for reward in shared] == pytest.approx([reward.value for reward in alone], abs=1e-6)
    assert [reward.n_tokens for reward in shared] == [reward.n_tokens for reward in alone]


@pytest.mark.prove
def test_a_process_that_dies_is_one_line_with_its_device(folder: Path, model: Any) -> None:
    with Processes(str(folder), {}, ["cpu"], model.fingerprint) as workers:
        os.kill(workers._processes[0].pid or 0, signal.SIGKILL)
        workers._processes[0].join()
        with pytest.raises(ModelError, match="device cpu: its process ended before it answered"):
            score(model, REQUESTS, token_budget=200, workers=workers)


@pytest.mark.prove
def test_a_device_that_is_not_there_is_one_line_and_leaves_no_process(folder: Path, model: Any) -> None:
    threads, workers = torch.get_num_threads(), Processes(str(folder), {}, ["cpu", "cuda:7"], model.fingerprint)
    with pytest.raises(ModelError, match=r"^device cuda:7: device 'cuda:7' is not there; here are"), workers:
        pass
    assert torch.get_num_threads() == threads
    assert not any(process.is_alive() for process in workers._processes)


@pytest.mark.prove
def test_a_process_with_another_model_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="device cpu: its process loaded another model"):
        Processes(str(folder), {}, ["cpu"], "another").__enter__()


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
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "predicted:" in shown
    assert f"{planned['left']:,} to run" in shown


@pytest.mark.parametrize("other", [["--explain-plan"], ["--device", "cpu"]])
def test_options_that_contradict_devices_are_refused(folder: Path, other: list[str]) -> None:
    assert main(["run", "-m", str(folder), "-t", "best_of_n", "--devices", "cpu,cpu", *other]) == 2
