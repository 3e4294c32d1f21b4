"""From requests to rewards: which kind of model, what is known already, what is left to run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version

from rmbench.errors import ModelError, RmbenchError
from rmbench.models.base import Derived, Model, RewardModel, ScoreFile, TokenModel, subject_of
from rmbench.scoring.answers import checked, from_json, lasts, nans, to_json
from rmbench.scoring.forwards import forwards
from rmbench.scoring.plan import distinct, request_key
from rmbench.scoring.store import Store
from rmbench.scoring.tally import Progress, Tally
from rmbench.types import Request, Response, Reward

_DEFAULT_BUDGET = {"cpu": 4096, "cuda": 32768, "mps": 8192}  # padded tokens a batch

Answers = Iterator[list[tuple[bytes, Reward]]]


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
    return [checked(reward, request) for reward, request in zip(found, requests, strict=True)]


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
        if isinstance(model, TokenModel):
            run = forwards(model, todo.items(), token_budget, tally)
        else:
            run = _replies(model, todo)
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
            yield [(keys[index], checked(reward, asked[index]))]
    except RmbenchError:
        raise
    except Exception as error:
        raise ModelError(f"{name} failed with {type(error).__name__}: {error}; what it scored is kept") from error
    for index, request in enumerate(asked):
        if index not in answered:
            unanswered = Reward(nans(request), status="missing", detail="the model gave no answer")
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
