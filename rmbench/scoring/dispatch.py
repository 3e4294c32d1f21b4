"""From requests to rewards: which kind of model, what is known already, what is left to run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

import numpy as np

from rmbench.errors import ModelError, RmbenchError
from rmbench.models.base import Derived, Encoded, Model, RewardModel, ScoreFile, TokenModel, subject_of
from rmbench.scoring.loop import forward
from rmbench.scoring.plan import distinct, request_key
from rmbench.scoring.store import Store
from rmbench.types import Request, Response, Reward

DEFAULT_BUDGET = {"cpu": 4096, "cuda": 32768, "mps": 8192}  # padded tokens a batch


class Progress(Protocol):
    """Told how scoring goes: `begin` once, `advance` after each batch or reply is safe, `end` once."""

    def begin(self, total: int) -> None: ...

    def advance(self, sequences: int) -> None: ...

    def end(self) -> None: ...


@dataclass
class Tally:
    """What scoring took, in sequences, tokens and seconds.

    `requests` were asked, of which `unique` differ and `stored` were known; `scored` were run now, `same_tokens` of
    them on the tokens of another request with other text. `batches` forwards took `seconds` and read `tokens` tokens.
    """

    requests: int = 0
    unique: int = 0
    stored: int = 0
    scored: int = 0
    same_tokens: int = 0
    batches: int = 0
    tokens: int = 0
    seconds: float = 0.0
    token_budget: int | None = None
    notices: list[str] = field(default_factory=list)


def score(
    model: Model,
    requests: Sequence[Request],
    *,
    store: Store | None = None,
    journal: Store | None = None,
    token_budget: int | None = None,
    progress: Progress | None = None,
    tally: Tally | None = None,
) -> list[Reward]:
    """One reward per request, in order. The only place that decides how a model is run.

    Rewards of a model with a fingerprint are kept in `store`, those of one without in `journal`, each batch or reply
    before the next one starts. Raises ModelError where the model cannot answer what is asked.
    """
    tally = Tally() if tally is None else tally
    _answerable(model, requests)
    if isinstance(model, Derived):
        needs = model.needs(requests)
        answers = [
            score(
                member, needed, store=store, journal=journal, token_budget=token_budget, progress=progress, tally=tally
            )
            for member, needed in zip(model.members, needs, strict=True)
        ]
        return [
            _checked(reward, request)
            for reward, request in zip(model.combine(requests, answers), requests, strict=True)
        ]
    if isinstance(model, ScoreFile):
        tally.requests += len(requests)
        tally.unique += len(requests)
        found = model.lookup(requests)
        return [_checked(reward, request) for reward, request in zip(found, requests, strict=True)]
    return _Run(model, store if model.fingerprint else journal, progress, tally).answers(requests, token_budget)


class _Run:
    """Scores the distinct requests of one model, through a store."""

    def __init__(
        self, model: RewardModel | TokenModel, store: Store | None, progress: Progress | None, tally: Tally
    ) -> None:
        self.model, self.store, self.progress, self.tally = model, store, progress, tally
        self.identity = model.fingerprint or json.dumps(asdict(subject_of(model)), sort_keys=True)

    def answers(self, requests: Sequence[Request], token_budget: int | None) -> list[Reward]:
        delivered = [_delivered(request) for request in requests]
        keys = [request_key(self.identity, request) for request in delivered]
        where = distinct(keys)
        known = {} if self.store is None else self.store.get(list(where))
        # In key order: the order of a task's requests gives labels away to a model that counts
        todo = {key: delivered[where[key][0]] for key in sorted(where) if key not in known}
        self.tally.requests += len(requests)
        self.tally.unique += len(where)
        self.tally.stored += len(known)
        self.tally.scored += len(todo)
        if self.store is not None and self.store.notice and self.store.notice not in self.tally.notices:
            self.tally.notices.append(self.store.notice)
        if todo:
            if self.progress:
                self.progress.begin(len(todo))
            started = time.perf_counter()
            try:
                if isinstance(self.model, TokenModel):
                    self._run_tokens(self.model, todo, known, token_budget)
                else:
                    self._run_replies(self.model, todo, known)
            finally:
                self.tally.seconds += time.perf_counter() - started
                if self.progress:
                    self.progress.end()
        return [known[key] for key in keys]

    def _run_tokens(
        self, model: TokenModel, todo: dict[bytes, Request], known: dict[bytes, Reward], token_budget: int | None
    ) -> None:
        keys, asked = list(todo), list(todo.values())
        encoded = model.encode(asked)
        same = distinct(_token_identity(item, index) for index, item in enumerate(encoded))
        groups = list(same.values())
        self.tally.same_tokens += len(encoded) - len(groups)
        readable = [group for group in groups if encoded[group[0]].error is None]
        unreadable = [index for group in groups if encoded[group[0]].error is not None for index in group]
        self._keep(known, [(keys[i], _unreadable(encoded[i], asked[i])) for i in unreadable])
        budget = token_budget or DEFAULT_BUDGET.get(_device_type(model), DEFAULT_BUDGET["cpu"])
        self.tally.token_budget = budget
        for batch, rewards in forward(model, [encoded[group[0]] for group in readable], budget):
            self.tally.batches += 1
            self.tally.tokens += sum(len(encoded[readable[i][0]].ids) for i in batch)
            answers = [
                (keys[index], _checked(reward, asked[index]))
                for i, reward in zip(batch, rewards, strict=True)
                for index in readable[i]
            ]
            self._keep(known, answers)

    def _run_replies(self, model: RewardModel, todo: dict[bytes, Request], known: dict[bytes, Reward]) -> None:
        keys, asked = list(todo), list(todo.values())
        try:
            for index, reward in model.rewards(asked):
                if not 0 <= index < len(keys) or keys[index] in known:
                    raise ModelError(f"{subject_of(model).id} answered request {index} of {len(keys)} twice or unasked")
                self._keep(known, [(keys[index], _checked(reward, asked[index]))])
        except RmbenchError:
            raise
        except Exception as error:
            name = subject_of(model).id
            raise ModelError(f"{name} failed with {type(error).__name__}: {error}; what it scored is kept") from error
        missing = [key for key in keys if key not in known]
        self._keep(known, [(key, _missing(todo[key])) for key in missing])

    def _keep(self, known: dict[bytes, Reward], answers: Iterable[tuple[bytes, Reward]]) -> None:
        answers = list(answers)
        if not answers:
            return
        if self.store is not None:
            self.store.put(answers)
        known.update(answers)
        if self.progress:
            self.progress.advance(len(answers))


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
    """The reward with the status its numbers have; a model that says `ok` of a NaN is not believed."""
    if len(reward.values) != len(request.shown):
        raise ModelError(f"a {request.ask} of {len(request.shown)} shown came back with {len(reward.values)} values")
    if reward.status != "ok":
        return reward
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


def _missing(request: Request) -> Reward:
    return Reward((math.nan,) * len(request.shown), status="missing", detail="the model gave no answer")


def _unreadable(item: Encoded, request: Request) -> Reward:
    values = (math.nan,) * len(request.shown)
    return Reward(values, status="error", detail=item.error, n_tokens=len(item.ids), truncated=item.cut)


def _token_identity(item: Encoded, index: int) -> object:
    """What makes two encoded requests the same forward; one that cannot be read is like no other."""
    if item.error is not None:
        return index
    types = b"" if item.type_ids is None else np.asarray(item.type_ids, dtype=np.int32).tobytes()
    return np.asarray(item.ids, dtype=np.int32).tobytes(), tuple(item.reads), types, item.ask


def _device_type(model: TokenModel) -> str:
    return str(next(iter(model.backbone.parameters())).device.type)
