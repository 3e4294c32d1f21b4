"""The demo is made again from a seed, and none of its training problems is one of those it is scored on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from test_rewardmath_mini import bundled, normalised, signature

import rmbench
from rmbench.demo import train
from rmbench.tasks.rewardmath_mini.generate import problems
from rmbench.types import Message

pytestmark = pytest.mark.prove


def test_training_twice_from_one_seed_gives_the_same_accuracy(tmp_path: Path) -> None:
    found = []
    for run in ("first", "second"):
        train.train(7, steps=200, out=tmp_path / run)
        (result,) = rmbench.evaluate(str(tmp_path / run), ["rewardmath_mini"], limit=120, device="cpu")
        found.append(result.metric("accuracy"))
    print("\n", *found, sep="\n")
    first, second = found
    assert first.ci_low <= second.value <= first.ci_high
    assert second.ci_low <= first.value <= second.ci_high


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_problem_of_a_whole_training_is_bundled(seed: int) -> None:
    texts, signatures = {normalised(e.prompt) for e in bundled()}, {signature(e.prompt) for e in bundled()}
    for problem in islice(problems(seed, held_out=False), train.BATCH * (train.STEPS + 8)):
        prompt = (Message("user", problem.text),)
        assert normalised(prompt) not in texts
        assert signature(prompt) not in signatures
