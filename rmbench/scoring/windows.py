"""From requests to the answers of a TokenModel: tokens, one forward for those with the same, rewards."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import cast

import numpy as np

from rmbench.device import device_of
from rmbench.errors import RmbenchError
from rmbench.forwards.budget import TokenBudget
from rmbench.forwards.cost import cost_of
from rmbench.forwards.estimate import budget_of
from rmbench.forwards.fastpath import Route, Verdicts, route
from rmbench.forwards.loop import Workers, run
from rmbench.forwards.memory import held
from rmbench.forwards.plan import Bin, plan
from rmbench.forwards.prefixes import Ids
from rmbench.models.base import Encoded, TokenModel, failed
from rmbench.scoring.answers import checked, nans
from rmbench.scoring.usage import Usage
from rmbench.types import Request, Reward, Status

# Requests that are tokenised and planned together: few at first, so that the first forward starts soon
_WINDOWS = (256, 8192)

Answers = list[tuple[bytes, Reward]]
_Identity = tuple[object, ...]


def forwards(
    model: TokenModel,
    todo: Iterable[tuple[bytes, Request]],
    token_budget: int | None,
    usage: Usage,
    workers: Workers | None = None,
    verdicts: Verdicts | None = None,
) -> Generator[Answers]:
    """The answers of each forward; requests with the same tokens share what is computed.

    `todo` is read as it is needed, a window ahead of the forwards and from another thread; requests of one prompt
    should follow one another, because only what is in one window shares forwards. `workers` share the forwards out;
    `verdicts` keep what the start-up check found.
    """
    budget: TokenBudget | None = None
    answered: dict[_Identity, Reward] = {}
    with held(device_of(model.backbone).kind), closing(windows(model, todo)) as coming:
        for window in coming:
            budget = budget or budget_of(model, token_budget, readable(window))
            usage.token_budget = budget.limit
            yield from _answers(model, window, answered, budget, usage, workers, verdicts)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way through a window; `identity` is what has to agree for two of them to share an answer."""

    key: bytes
    request: Request
    item: Encoded
    read: str
    identity: _Identity

    def answer(self, reward: Reward) -> tuple[bytes, Reward]:
        of_item = replace(reward, truncated=self.item.cut, read=self.read, noted=self.item.noted)
        return self.key, checked(of_item, self.request)

    def failed(self, detail: str | None) -> tuple[bytes, Reward]:
        n_tokens, cut = len(self.item.ids), self.item.cut
        status: Status = "refused" if self.item.refused else "error"
        reward = Reward(nans(self.request), status=status, detail=detail, n_tokens=n_tokens, truncated=cut)
        return self.key, checked(reward, self.request)


def _answers(
    model: TokenModel,
    window: Sequence[Asked],
    answered: dict[_Identity, Reward],
    budget: TokenBudget,
    usage: Usage,
    workers: Workers | None,
    verdicts: Verdicts | None,
) -> Iterator[Answers]:
    """The answers of one window: those that need no forward, and then those of each forward."""
    at_once = [asked.failed(asked.item.error) for asked in window if asked.item.error is not None]
    at_once += [asked.answer(answered[asked.identity]) for asked in window if asked.identity in answered]
    if at_once:
        yield at_once
    waiting: dict[_Identity, list[Asked]] = {}
    for asked in window:
        if asked.item.error is None and asked.identity not in answered:
            waiting.setdefault(asked.identity, []).append(asked)
    groups = list(waiting.values())
    encoded = [group[0].item for group in groups]
    if not encoded:
        return
    path = route(model, encoded, cost_of(model.backbone), verdicts)
    for planned, rewards in run(model, encoded, planner(model, path, budget), budget, workers):
        usage.batches += 1
        usage.ways[planned.way] = usage.ways.get(planned.way, 0) + len(planned.members)
        usage.tokens += sum(len(encoded[i].ids) for i in planned.members)
        answers: Answers = []
        for at, i in enumerate(planned.members):
            if rewards is None:
                detail = f"out of memory on a sequence of {len(encoded[i].ids):,} tokens by itself"
                answers += [asked.failed(detail) for asked in groups[i]]
            else:
                answered[groups[i][0].identity] = rewards[at]
                answers += [asked.answer(rewards[at]) for asked in groups[i]]
        yield answers


def planner(model: TokenModel, path: Route, budget: TokenBudget) -> Callable[[Sequence[Encoded], int], list[Bin]]:
    """How sequences are planned for a model that may be run as `path` says."""
    cost = cost_of(model.backbone)
    if budget.pace is not None and path.rate is not None:
        budget.pace.expect(path.rate / cost.token)
    return lambda sequences, tokens: plan(sequences, cost, 1 if path.alone else tokens, path.ways, budget.pace)


def readable(window: Sequence[Asked]) -> list[Encoded]:
    """The sequences of a window that can be read."""
    return [asked.item for asked in window if asked.item.error is None]


def windows(model: TokenModel, todo: Iterable[tuple[bytes, Request]]) -> Generator[list[Asked]]:
    """Windows of encoded requests, the next being made in the background while one is worked on."""
    remaining = iter(todo)
    with ThreadPoolExecutor(1, thread_name_prefix="rmbench-encode") as background:
        coming = background.submit(_window, model, remaining, _WINDOWS[0])
        while window := coming.result():
            coming = background.submit(_window, model, remaining, _WINDOWS[1])
            yield window


def _window(model: TokenModel, remaining: Iterator[tuple[bytes, Request]], size: int) -> list[Asked]:
    keyed = list(islice(remaining, size))
    try:
        encoded = model.encode([request for _, request in keyed])
    except RmbenchError:
        raise
    except Exception as error:
        raise failed(model, error) from error
    return [_asked(key, request, item) for (key, request), item in zip(keyed, encoded, strict=True)]


def _asked(key: bytes, request: Request, item: Encoded) -> Asked:
    if item.error is not None:
        return Asked(key, request, item, "", ())
    ids = np.asarray(item.ids, np.int32)  # a quarter of what a list of numbers takes
    read = _tokens_hash(ids, () if item.type_ids is None else item.type_ids)
    # a family's own note is not looked into
    reads = item.reads if isinstance(item.reads, range) else tuple(item.reads)  # a range of many takes no room
    identity = (read, item.ask, reads, None if item.note is None else key)
    return Asked(key, request, replace(item, ids=cast(Sequence[int], ids)), read, identity)


def _tokens_hash(ids: Ids, types: Sequence[int]) -> str:
    """16 hex digits that tell apart what two sequences make a model read."""
    return sha256(np.concatenate([[len(ids)], ids, types]).astype(np.int64).tobytes()).hexdigest()[:16]
