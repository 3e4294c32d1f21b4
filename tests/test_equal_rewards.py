"""Rewards through the engine equal one forward at a time through transformers, whatever stands beside a sequence."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from ask_models import score
from checkpoints import ARCHITECTURES, make

from rmbench.models.spec import load_model
from rmbench.types import Message, Request, Response

WORDS = [
    "a",
    "train",
    "leaves",
    "at",
    "noon",
    "and",
    "37",
    "+",
    "58",
    "is",
    "95",
    "because",
    "two",
    "hours",
    "are",
    "120",
    "minutes",
    "sorry",
    "def",
    "area",
    "square",
]
TOLERANCE = 1e-5


def conversations(count: int, seed: int = 0) -> list[Request]:
    """Requests of one to 90 words, some of them empty, some repeated."""
    drawn = random.Random(seed)
    made = []
    for _ in range(count):
        prompt = " ".join(drawn.choices(WORDS, k=drawn.randint(1, 40)))
        response = " ".join(drawn.choices(WORDS, k=drawn.randint(0, 50)))
        made.append(Request("reward", (Message("user", prompt),), (Response(response),)))
    return [*made, made[0], Request("reward", (Message("user", "?"),), (Response(""),))]


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("equal") / str(request.param), request.param)


def test_rewards_equal_single_forwards_and_ignore_batch_order_and_neighbours(checkpoint: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = load_model(str(checkpoint), device="cpu", dtype="float32")
    reference = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    requests = conversations(24)
    encoded = model.encode(requests)  # type: ignore[union-attr]
    with torch.inference_mode():
        alone = [reference(input_ids=torch.tensor([[*one.ids]])).logits[0, 0].item() for one in encoded]
    scale = max(1.0, *map(abs, alone))
    for budget, seed in ((1, 0), (150, 1), (700, 2), (10**6, 3)):
        order = list(range(len(requests)))
        random.Random(seed).shuffle(order)
        rewards = score(model, [requests[i] for i in order], token_budget=budget)
        assert [reward.status for reward in rewards] == ["ok"] * len(rewards)
        worst = max(abs(reward.value - alone[i]) for i, reward in zip(order, rewards, strict=True))
        assert worst <= TOLERANCE * scale, f"{worst:.2e} at a budget of {budget} tokens"
