"""Small models that answer every ask of the protocols, for tests of what stands between model and metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from rmbench.models.base import Encoded, Model, Subject
from rmbench.types import Ask, Json, Question, Request, Reward

ASKS: tuple[Ask, ...] = ("reward", "steps", "tokens", "compare")


class TinyBackbone(torch.nn.Module):
    """A causal network on bytes: each hidden state is a mean over what stands before it, so padding cannot leak."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(256, width, generator=generator), requires_grad=False)
        self.shapes: list[tuple[int, int]] = []

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        assert not use_cache
        self.shapes.append(tuple(input_ids.shape))
        counts = torch.arange(1, input_ids.shape[1] + 1)[None, :, None]
        return SimpleNamespace(last_hidden_state=self.table[input_ids].cumsum(1) / counts)


class TinyTokenModel:
    """A TokenModel that answers every ask: `compare` is two responses in one sequence, steps end with a newline."""

    layout = "causal"

    def __init__(self, answers: Sequence[Ask] = ASKS, fingerprint: str = "tiny:1") -> None:
        self.answers: frozenset[Ask] = frozenset(answers)
        self.fingerprint = fingerprint
        self.subject = Subject("tests/tiny", "tiny")
        self.backbone: Any = TinyBackbone()
        self.encoded = 0

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        self.encoded += len(requests)
        return [self._encode(request) for request in requests]

    def _encode(self, request: Request) -> Encoded:
        prompt = "\n".join(message.text for message in request.prompt).encode() + b"\0"
        match request.ask:
            case "compare":
                parts = [(response.text or "").encode() + b"\1" for response in request.responses]
                ends = [len(prompt) + sum(map(len, parts[: i + 1])) - 1 for i in range(len(parts))]
                return Encoded(list(prompt + b"".join(parts)), ends, ask=request.ask, note=len(parts))
            case "steps":
                steps = [step.encode() + b"\n" for step in request.responses[0].steps or ()]
                ends = [len(prompt) + sum(map(len, steps[: i + 1])) - 1 for i in range(len(steps))]
                return Encoded(list(prompt + b"".join(steps)), ends, ask=request.ask)
            case _:
                ids = list(prompt + (request.responses[0].text or "").encode())
                reads = [len(ids) - 1] if request.ask == "reward" else list(range(len(prompt) - 1, len(ids) - 1))
                return Encoded(ids, reads, ask=request.ask)

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        return [self._read(states.sum(-1).tolist(), one) for states, one in zip(hidden, encoded, strict=True)]

    def _read(self, numbers: list[float], one: Encoded) -> Reward:
        n = len(one.ids)
        match one.ask:
            case "compare":
                best = max(numbers)
                winners = [float(number == best) for number in numbers]
                return Reward(tuple(winner / sum(winners) for winner in winners), n_tokens=n)
            case "steps":
                return Reward((numbers[-1],), steps=tuple(numbers), n_tokens=n)
            case "tokens":
                return Reward((math.fsum(numbers),), tokens=tuple(numbers), n_tokens=n)
            case _:
                return Reward((numbers[0],), heads={"sum": (numbers[0],), "negative": (-numbers[0],)}, n_tokens=n)


class Scripted:
    """A RewardModel that answers from a function of the request, and remembers what it saw."""

    def __init__(
        self, answer: Any, answers: Sequence[Ask] = ("reward",), fingerprint: str | None = "scripted:1"
    ) -> None:
        self.answer, self.answers, self.fingerprint = answer, frozenset(answers), fingerprint
        self.subject = Subject("tests/scripted", "scripted")
        self.seen: list[Request] = []

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            self.seen.append(request)
            answer = self.answer(request)
            yield index, answer if isinstance(answer, Reward) else Reward((float(answer),))


class MeanOf:
    """A Derived: the mean of its members' rewards, minus the mean over the whole run."""

    fingerprint = "mean-of:1"
    subject = Subject("tests/mean-of", "derived")

    def __init__(self, *members: Model) -> None:
        self.members = members
        self.answers: frozenset[Ask] = frozenset({"reward"})

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        return [questions for _ in self.members]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        means = _means(answers)
        return sum(means) / len(means)

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        return [Reward((mean - fitted,)) for mean in _means(answers)]


def _means(answers: list[list[Reward]]) -> list[float]:
    return [sum(some.value for some in each) / len(each) for each in zip(*answers, strict=True)]
