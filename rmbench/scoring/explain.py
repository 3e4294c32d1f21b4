"""What a run would do, without doing it: which sequences share forwards, what that saves, how long it takes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from rmbench.device import device_of, out_of_memory
from rmbench.forwards.budget import TokenBudget
from rmbench.forwards.cost import Cost, cost_of
from rmbench.forwards.estimate import budget_of
from rmbench.forwards.fastpath import Verdicts, route, tabled
from rmbench.forwards.loop import hidden_states
from rmbench.forwards.memory import held
from rmbench.forwards.plan import Bin, Way
from rmbench.forwards.shallow import Shallow, shallow
from rmbench.models.base import Encoded, TokenModel
from rmbench.scoring.windows import planner, windows
from rmbench.types import Request

_TIMES = 2  # that a forward is timed
_FEWEST = 8  # tokens
_CHECK = 0.05  # of a run's forwards, which a check may take
_LITTLE = 0.03  # of a run's forwards, which both take together at most


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
class TaskPlan:
    """What of a plan is a task's: of its `rows` (examples) come `requests`, of which so many are `known`, from the
    store or from a task before it, and `left` to be run: sequences of `tokens`, whose forwards cost so many operations.
    """

    rows: int
    requests: int
    known: int
    left: int
    tokens: int = 0
    cost: float = 0.0


@dataclass(slots=True)
class Explanation:
    """What would be run for `model`, by its name, task by task as a run has them.

    Of `requests` so many are `stored`, and `left` are to be run, of which `unreadable` need no forward and `same` read
    the same tokens as another. `reason` says why sequences are not packed, "" where they are. `rate` is operations a
    second, measured on a part of the plan; None where no forward is left, or none fits. `first` shows the first request
    as the model gets it, line by line, where its family can say. Without `runs_forwards` nobody knows tokens and time.
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
    first: tuple[str, ...] = ()
    ways: dict[Way, Share] = field(default_factory=dict)
    tasks: dict[str, TaskPlan] = field(default_factory=dict)
    runs_forwards: bool = False

    def add(self, task: str, planned: TaskPlan, stored: int) -> None:
        """Adds what a task would ask, of which so many answers are in the store."""
        self.tasks[task] = planned
        self.requests += planned.requests
        self.stored += stored
        self.left += planned.left

    def task_seconds(self, task: str) -> float | None:
        """How long the forwards of a task are predicted to take; None where no forward could be timed."""
        planned = self.tasks[task]
        if not planned.left:
            return 0.0
        return None if self.rate is None else planned.cost / self.rate

    def seconds(self, way: Way) -> float | None:
        """How long the forwards of one way are predicted to take; None where no forward could be timed."""
        return None if self.rate is None else self.ways[way].cost / self.rate


def explain_forwards(
    model: TokenModel,
    parts: Mapping[str, Iterable[tuple[bytes, Request]]],
    token_budget: int | None,
    explanation: Explanation,
    verdicts: Verdicts | None = None,
) -> None:
    """Adds the plan of what `forwards` would run for each task of the explanation, one after the other.

    Runs a small part of it twice, to learn how fast the model is here, and the check of the ways, whose verdict is
    kept; where that is no small part, the table of ways is believed.
    """
    explanation.token_budget, explanation.reason = _steady(budget_of(model, token_budget, ())), ""
    sizes: dict[int, tuple[Bin, list[Encoded]]] = {}
    for task, todo in parts.items():
        _explain_task(model, task, todo, token_budget, explanation, verdicts, sizes)
    if sizes:
        explanation.rate = _rate(model, list(sizes.values()), sum(share.cost for share in explanation.ways.values()))


def _explain_task(
    model: TokenModel,
    task: str,
    todo: Iterable[tuple[bytes, Request]],
    token_budget: int | None,
    explanation: Explanation,
    verdicts: Verdicts | None,
    sizes: dict[int, tuple[Bin, list[Encoded]]],
) -> None:
    """Adds the plan of a task, and to `sizes` a forward of each order of magnitude."""
    budget: TokenBudget | None = None
    seen: set[tuple[object, ...]] = set()
    shown = getattr(model, "shown", None)
    for window in windows(model, todo):
        if shown is not None and not explanation.first:
            explanation.first = tuple(shown(window[0].request).lines())
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
        path = route(model, encoded, cost_of(model.backbone), verdicts, part=_CHECK)
        planned = planner(model, path, budget)
        explanation.token_budget, explanation.reason = _steady(budget), path.reason
        for one in planned(encoded, budget.limit):
            items = [encoded[i] for i in one.members]
            tokens = sum(len(item.ids) for item in items)
            explanation.ways.setdefault(one.way, Share()).add(one, tokens)
            explanation.tasks[task].tokens += tokens
            explanation.tasks[task].cost += one.cost
            sizes.setdefault(int(math.log2(max(1.0, one.cost))), (one, items))


def _steady(budget: TokenBudget) -> int:
    """The tokens of a forward once the budget has grown, which it is also set to."""
    pace = budget.pace
    if pace is None:
        return budget.limit
    while 2 * pace.size <= min(pace.most, pace.limit):
        pace.size *= 2
    return pace.size


def _rate(model: TokenModel, bins: Sequence[tuple[Bin, list[Encoded]]], total: float) -> float | None:
    """Operations a second of the largest of `bins` whose first layers cost little beside `total`, or of the beginning
    of a sequence; None where it does not fit into memory.
    """
    tabled_ways = len(tabled(model).ways) > 1  # of other code nobody knows whether a few layers run by themselves
    few = shallow(model.backbone, model.layout) if tabled_ways else Shallow(model.backbone, model.layout, 1.0)
    fitting = [one for one in bins if _TIMES * few.share * one[0].cost <= _LITTLE * total]
    cost = cost_of(model.backbone)
    tokens = max(_FEWEST, int(_LITTLE * total / (_TIMES * few.share * cost.token)))
    planned, encoded = max(fitting, key=lambda one: one[0].cost) if fitting else _beginning(bins[0][1][0], tokens, cost)
    if few.share < 1.0 and planned.tree is not None:  # the last layer is a small part of all, and not of a few
        nowhere = np.zeros(0, np.int64)
        everywhere = [np.arange(len(planned.tree.ids)), *[nowhere] * (len(encoded) - 1)]
        planned = replace(planned, tree=replace(planned.tree, reads=everywhere))
    device, taken = device_of(model.backbone), []
    try:
        with held(device.kind):
            for _ in range(_TIMES):  # the first one also pays for memory and kernels
                started = time.perf_counter()
                hidden_states(cast(TokenModel, few), encoded, planned)
                device.synchronise()
                taken.append(time.perf_counter() - started)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    if not taken:  # outside of the handler, where the error still holds what it was about
        device.release()
        return None
    return few.share * planned.cost / min(taken)


def _beginning(item: Encoded, tokens: int, cost: Cost) -> tuple[Bin, list[Encoded]]:
    """A forward of the first tokens of a sequence."""
    length = min(tokens, len(item.ids))
    types = None if item.type_ids is None else item.type_ids[:length]
    begun = replace(item, ids=item.ids[:length], reads=[length - 1], type_ids=types)
    price = cost.padded([length]) + (0.0 if math.isinf(cost.start) else cost.start)
    return Bin("padded", [0], length, price), [begun]
