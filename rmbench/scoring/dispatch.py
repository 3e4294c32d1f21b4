"""From requests to rewards: which kind of model, what is known already, what is left to run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from typing import Protocol

import numpy as np

from rmbench.errors import ModelError, RmbenchError
from rmbench.models.base import Derived, Encoded, Model, RewardModel, ScoreFile, TokenModel, subject_of
from rmbench.scoring.answers import from_json, lasts, to_json
from rmbench.scoring.loop import forward
from rmbench.scoring.plan import distinct, request_key
from rmbench.scoring.store import Store
from rmbench.types import Request, Response, Reward

_DEFAULT_BUDGET = {"cpu": 4096, "cuda": 32768, "mps": 8192}  # padded tokens a batch

Answers = Iterator[list[tuple[bytes, Reward]]]


class Progress(Protocol):
    """Told how scoring goes: how many are to run and were known, what is safe after each batch or reply, the end."""

    def begin(self, total: int, known: int) -> None: ...

    def advance(self, sequences: int) -> None: ...

    def end(self) -> None: ...


@dataclass
class Tally:
    """What scoring took, in sequences, tokens and seconds.

    `requests` were asked, of which `unique` differ and `stored` were known; `scored` were run now, in `batches`
    forwards that took `seconds` and read `tokens` tokens, padding not counted.
    """

    requests: int = 0
    unique: int = 0
    stored: int = 0
    scored: int = 0
    batches: int = 0
    tokens: int = 0
    seconds: float = 0.0
    token_budget: int | None = None


def score(
    model: Model,
    requests: Sequence[Request],
    *,
    store: Store | None = None,
    journal: Store | None = None,
    token_budget: int | None = None,
    progress: Progress | None = None,
    tally: Tally | None = None,
    place: str = "",
) -> list[Reward]:
    """One reward per request, in order. The only place that decides how a model is run.

    Rewards of a model with a fingerprint are kept in `store`, those of one without in `journal`, each batch or reply
    before the next one starts; `place` tells members of a Derived apart that have none. Raises ModelError where the
    model cannot answer what is asked.
    """
    tally = Tally() if tally is None else tally
    _answerable(model, requests)
    if isinstance(model, Derived):
        answers = [
            score(
                member,
                needed,
                store=store,
                journal=journal,
                token_budget=token_budget,
                progress=progress,
                tally=tally,
                place=f"{place}/{index}",
            )
            for index, (member, needed) in enumerate(zip(model.members, model.needs(requests), strict=True))
        ]
        found = model.combine(requests, answers)
    elif isinstance(model, ScoreFile):
        tally.requests += len(requests)
        tally.unique += len(requests)
        found = model.lookup(requests)
    else:
        kept_in = store if model.fingerprint else journal
        return _through_store(model, requests, kept_in, token_budget, progress, tally, place)
    return [_checked(reward, request) for reward, request in zip(found, requests, strict=True)]


def _through_store(
    model: RewardModel | TokenModel,
    requests: Sequence[Request],
    store: Store | None,
    token_budget: int | None,
    progress: Progress | None,
    tally: Tally,
    place: str,
) -> list[Reward]:
    """Runs the distinct requests that the store does not know, and keeps each answer before the next is made."""
    delivered = [_delivered(request) for request in requests]
    identity = _identity(model, place)
    keys = [request_key(identity, request) for request in delivered]
    positions = distinct(keys)
    stored = {} if store is None else store.get(list(positions))
    known = {key: from_json(fields) for key, fields in stored.items()}
    # In key order: the order of a task's requests gives labels away to a model that counts
    todo = {key: delivered[positions[key][0]] for key in sorted(positions) if key not in known}
    tally.requests += len(requests)
    tally.unique += len(positions)
    tally.stored += len(known)
    tally.scored += len(todo)
    if not todo:
        return [known[key] for key in keys]
    if progress:
        progress.begin(len(todo), len(known))
    started = time.perf_counter()
    try:
        run = _forwards(model, todo, token_budget, tally) if isinstance(model, TokenModel) else _replies(model, todo)
        for answers in run:
            if store is not None:
                store.put((key, to_json(reward)) for key, reward in answers if lasts(reward))
            known.update(answers)
            if progress:
                progress.advance(len(answers))
    finally:
        tally.seconds += time.perf_counter() - started
        if progress:
            progress.end()
    return [known[key] for key in keys]


def _forwards(model: TokenModel, todo: dict[bytes, Request], token_budget: int | None, tally: Tally) -> Answers:
    """The answers of each forward batch; requests with the same tokens share a forward."""
    keys, asked = list(todo), list(todo.values())
    encoded = model.encode(asked)
    unreadable = [i for i, item in enumerate(encoded) if item.error is not None]
    if unreadable:
        yield [(keys[i], _failed(asked[i], encoded[i], encoded[i].error)) for i in unreadable]
    read = {i: _tokens_hash(item) for i, item in enumerate(encoded) if item.error is None}
    readable = list(read)
    same = distinct(_forward_identity(encoded[i], read[i], i) for i in readable)
    groups = [[readable[place] for place in places] for places in same.values()]
    budget = token_budget or _DEFAULT_BUDGET.get(_device_type(model), _DEFAULT_BUDGET["cpu"])
    tally.token_budget = budget
    for batch, rewards in forward(model, [encoded[group[0]] for group in groups], budget):
        tally.batches += 1
        tally.tokens += sum(len(encoded[groups[place][0]].ids) for place in batch)
        answers = []
        for at, place in enumerate(batch):
            for i in groups[place]:
                if rewards is None:
                    detail = f"out of memory on a sequence of {len(encoded[i].ids):,} tokens by itself"
                    reward = _failed(asked[i], encoded[i], detail)
                else:
                    reward = replace(rewards[at], truncated=encoded[i].cut, read=read[i])
                answers.append((keys[i], _checked(reward, asked[i])))
        yield answers


def _replies(model: RewardModel, todo: dict[bytes, Request]) -> Answers:
    """The answers of a model that runs its own work, one at a time; what it leaves out is missing."""
    keys, asked = list(todo), list(todo.values())
    name = subject_of(model).id
    answered: set[int] = set()
    try:
        for index, reward in model.rewards(asked):
            if not 0 <= index < len(keys) or index in answered:
                raise ModelError(f"{name} answered request {index} of {len(keys)} twice or unasked")
            answered.add(index)
            yield [(keys[index], _checked(reward, asked[index]))]
    except RmbenchError:
        raise
    except Exception as error:
        raise ModelError(f"{name} failed with {type(error).__name__}: {error}; what it scored is kept") from error
    for index, request in enumerate(asked):
        if index not in answered:
            unanswered = Reward(_nans(request), status="missing", detail="the model gave no answer")
            yield [(keys[index], unanswered)]


def _identity(model: RewardModel | TokenModel, place: str) -> str:
    """What a stored answer belongs to. Another transformers may run the same weights in another way."""
    if model.fingerprint is None:
        return json.dumps([place, asdict(subject_of(model))], sort_keys=True)
    if isinstance(model, TokenModel):
        return f"{model.fingerprint} transformers {version('transformers')}"
    return model.fingerprint


def _answerable(model: Model, requests: Sequence[Request]) -> None:
    for ask in {request.ask for request in requests} - model.asks:
        raise ModelError(f"{subject_of(model).id} answers {', '.join(sorted(model.asks))}, not {ask}")
    if isinstance(model, ScoreFile | Derived):
        return
    textless = next((r for r in requests if any(response.text is None for response in r.shown)), None)
    if textless:
        example = textless.where.example if textless.where else "?"
        raise ModelError(
            f"{subject_of(model).id} needs the responses' texts, and example {example} comes from a score file "
            "without; give data with texts, or the scores as the model (scores:FILE)"
        )


def _delivered(request: Request) -> Request:
    """What reaches the model, and no more than its key covers: no `where`, steps only where they are asked about."""
    shown = tuple(
        Response(response.text, response.steps if request.ask == "steps" else None) for response in request.shown
    )
    return replace(request, shown=shown, where=None)


def _checked(reward: Reward, request: Request) -> Reward:
    """The reward with the status its numbers have, and no number where its status says that there is none."""
    if len(reward.values) != len(request.shown):
        raise ModelError(f"a {request.ask} of {len(request.shown)} shown came back with {len(reward.values)} values")
    if reward.status in ("refused", "error", "missing"):
        return replace(reward, values=_nans(request), heads={}, steps=(), step_heads={}, tokens=())
    steps = request.shown[0].steps
    if request.ask == "steps" and steps is not None and len(reward.steps) != len(steps):
        raise ModelError(f"{len(steps)} steps came back with {len(reward.steps)} rewards; one each, nan if cut")
    heads = (*reward.heads.values(), *reward.step_heads.values())
    numbers = (*reward.values, *reward.steps, *reward.tokens, *(number for head in heads for number in head))
    if any(math.isnan(number) for number in numbers):
        return replace(reward, status="nan")
    if any(math.isinf(number) for number in numbers):
        return replace(reward, status="inf")
    return reward


def _failed(request: Request, item: Encoded, detail: str | None) -> Reward:
    return Reward(_nans(request), status="error", detail=detail, n_tokens=len(item.ids), truncated=item.cut)


def _nans(request: Request) -> tuple[float, ...]:
    return (math.nan,) * len(request.shown)


def _tokens_hash(item: Encoded) -> str:
    """16 hex digits that tell apart what two sequences make a model read."""
    types = () if item.type_ids is None else item.type_ids
    return sha256(np.array([len(item.ids), *item.ids, *types], dtype=np.int64).tobytes()).hexdigest()[:16]


def _forward_identity(item: Encoded, read: str, index: int) -> tuple[object, ...]:
    """What has to agree for two sequences to share a forward; a family's own note is not looked into."""
    return read, item.ask, tuple(item.reads), index if item.note is not None else None


def _device_type(model: TokenModel) -> str:
    return str(next(iter(model.backbone.parameters())).device.type)
