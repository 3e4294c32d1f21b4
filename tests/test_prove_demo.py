"""The demo is made again from a seed, and none of its training problems is one of those it is scored on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_rewardmath_mini import bundled, normalised, signature

import rmbench
from rmbench.demo import train
from rmbench.tasks.rewardmath_mini.generate import problems
from rmbench.types import Message

pytestmark = pytest.mark.prove


def test_training_twice_from_one_seed_gives_the_same_model(tmp_path: Path) -> None:
    """The same weights to the last bit, which after 120 of 2,500 steps says more than an accuracy near chance would."""
    weights = []
    for run in ("first", "second"):
        train.train(7, steps=120, out=tmp_path / run)
        weights.append(load_file(tmp_path / run / "model.safetensors"))
    first, second = weights
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    accuracies = [
        rmbench.evaluate(str(tmp_path / run), ["rewardmath_mini"], limit=60, device="cpu")[0].metric("accuracy")
        for run in ("first", "second")
    ]
    print("\n", *accuracies, sep="\n")
    assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_problem_of_a_whole_training_is_bundled(seed: int) -> None:
    texts, signatures = {normalised(e.prompt) for e in bundled()}, {signature(e.prompt) for e in bundled()}
    for problem in islice(problems(seed, held_out=False), train.BATCH * (train.STEPS + 8)):
        prompt = (Message("user", problem.text),)
        assert normalised(prompt) not in texts
        assert signature(prompt) not in signatures
