"""What a run would do, without doing it: which sequences share forwards, what that saves, how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rmbench.device import device_of
from rmbench.forwards.budget import TokenBudget
from rmbench.forwards.cost import flops_a_second
from rmbench.forwards.estimate import budget_of
from rmbench.forwards.fastpath import route
from rmbench.forwards.loop import rewards_of
from rmbench.forwards.memory import held
from rmbench.forwards.plan import Bin, Way
from rmbench.models.base import Encoded, TokenModel
from rmbench.scoring.windows import planner, windows
from rmbench.types import Request


@dataclass(slots=True)
class Share:
    """What is run in one way: `sequences` of `tokens`, of which `computed` are in `forwards` with padding and without
    what is shared; `cost` is in operations.
    """

    sequences: int = 0
    tokens: int = 0
    computed: int = 0
    forwards: int = 0
    cost: float = 0.0

    def add(self, planned: Bin, tokens: int) -> None:
        self.sequences += len(planned.members)
        self.tokens += tokens
        self.computed += planned.tokens
        self.forwards += 1
        self.cost += planned.cost


@dataclass(slots=True)
class Explanation:
    """What would be run for `model`, by its name.

    Of `requests` so many are `stored`, and `left` are to be run, of which `unreadable` need no forward and `same` read
    the same tokens as another. `reason` says why sequences are not packed, "" where they are. `rate` is operations a
    second, measured on one forward of the plan; None where no forward is left, or none fits.
    """

    model: str
    requests: int = 0
    stored: int = 0
    left: int = 0
    unreadable: int = 0
    same: int = 0
    token_budget: int = 0
    reason: str = ""
    rate: float | None = None
    ways: dict[Way, Share] = field(default_factory=dict)

    def seconds(self, way: Way) -> float | None:
        """How long the forwards of one way are predicted to take; None where no forward could be timed."""
        return None if self.rate is None else self.ways[way].cost / self.rate


def explain_forwards(
    model: TokenModel, todo: Iterable[tuple[bytes, Request]], token_budget: int | None, explanation: Explanation
) -> None:
    """Adds the plan of what `forwards` would run. Runs one forward of it twice, to learn how fast the model is here."""
    explanation.token_budget, explanation.reason = budget_of(model, token_budget, ()).limit, ""
    budget: TokenBudget | None = None
    seen: set[tuple[object, ...]] = set()
    probe: tuple[Bin, list[Encoded]] | None = None
    second = flops_a_second(model.backbone)
    for window in windows(model, todo):
        encoded: list[Encoded] = []
        for asked in window:
            explanation.unreadable += asked.item.error is not None
            if asked.item.error is None:
                explanation.same += asked.identity in seen
                if asked.identity not in seen:
                    encoded.append(asked.item)
                seen.add(asked.identity)
        if not encoded:
            continue
        budget = budget or budget_of(model, token_budget, encoded)
        explanation.token_budget = budget.limit
        explanation.reason = route(model, encoded).reason
        for planned in planner(model, encoded)(encoded, budget.limit):
            items = [encoded[i] for i in planned.members]
            explanation.ways.setdefault(planned.way, Share()).add(planned, sum(len(item.ids) for item in items))
            # the largest that takes a second or less, or the smallest there is
            if probe is None or _better(planned.cost, probe[0].cost, second):
                probe = planned, items
    if probe is not None:
        explanation.rate = _rate(model, *probe)


def _better(cost: float, than: float, second: float) -> bool:
    return cost < than if than > second else than < cost <= second


def _rate(model: TokenModel, planned: Bin, encoded: Sequence[Encoded]) -> float | None:
    """Operations a second of a forward; None where it does not fit into memory."""
    taken = []
    with held(device_of(model.backbone).kind):
        for _ in range(2):  # the first one also pays for memory and kernels
            started = time.perf_counter()
            if rewards_of(model, encoded, planned) is None:
                return None
            taken.append(time.perf_counter() - started)
    return planned.cost / min(taken)
