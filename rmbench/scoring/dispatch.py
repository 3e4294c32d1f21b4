"""From requests to rewards: which kind of model, what is known already, what is left to run."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from importlib.metadata import version
from typing import cast, overload

from rmbench.errors import ModelError, RmbenchError, UsageError
from rmbench.models.base import Derived, Model, RewardModel, ScoreFile, TokenModel, subject_of, uses_of
from rmbench.scoring.answers import checked, from_json, lasts, nans, to_json
from rmbench.scoring.explain import Explanation, explain_forwards
from rmbench.scoring.forwards import forwards
from rmbench.scoring.keys import delivered, request_keys
from rmbench.scoring.loop import Workers
from rmbench.scoring.store import Store
from rmbench.scoring.tally import Progress, Tally
from rmbench.scoring.writer import Writer
from rmbench.types import Question, Request, Reward, Use

_WINDOW = 0.05  # seconds in which replies are committed together
Answers = Generator[list[tuple[bytes, Reward]]]


def score(
    model: Model,
    questions: Sequence[Question],
    *,
    store: Store | None = None,
    journal: Store | None = None,
    token_budget: int | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
    tally: Tally | None = None,
    place: str = "",
) -> list[Reward]:
    """One reward per question, in order. The only place that decides how a model is run.

    Rewards of a model with a fingerprint are kept in `store`, those of one without in `journal`, each forward batch
    while the next one runs, replies as they come (see `Writer`); `place` tells members of a Derived apart that have
    none. `workers` share the forwards of a TokenModel. Raises ModelError where the model cannot answer what is asked,
    and UsageError for workers with a model that runs its own work.
    """
    tally = Tally() if tally is None else tally
    _answerable(model, questions)
    if workers is not None and not isinstance(model, TokenModel):
        raise UsageError(f"{subject_of(model).id} runs its own work; several devices are for checkpoints")
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
            for index, (member, needed) in enumerate(zip(model.members, model.needs(questions), strict=True))
        ]
        found = model.combine(questions, answers, model.fit(questions, answers))
    elif isinstance(model, ScoreFile):
        tally.requests += len(questions)
        tally.unique += len(questions)
        found = model.lookup(questions)
    else:
        kept_in = store if model.fingerprint else journal
        return _through_store(model, questions, kept_in, token_budget, workers, progress, tally, place)
    return [checked(reward, question.request) for reward, question in zip(found, questions, strict=True)]


def explain(
    model: Model,
    questions: Sequence[Question],
    *,
    store: Store | None = None,
    journal: Store | None = None,
    token_budget: int | None = None,
    place: str = "",
) -> list[Explanation]:
    """What `score` would run, one explanation for each model that forwards are run for or that runs its own work."""
    _answerable(model, questions)
    if isinstance(model, Derived):
        members = enumerate(zip(model.members, model.needs(questions), strict=True))
        return [
            found
            for index, (member, needed) in members
            for found in explain(
                member, needed, store=store, journal=journal, token_budget=token_budget, place=f"{place}/{index}"
            )
        ]
    name = subject_of(model).id
    if isinstance(model, ScoreFile):
        return [Explanation(name, requests=len(questions), reason="its scores are looked up")]
    kept_in = store if model.fingerprint else journal
    _, known, todo, left = _left(model, questions, kept_in, place)
    found = Explanation(name, requests=len(questions), stored=len(known), left=len(todo), reason="it runs its own work")
    if isinstance(model, TokenModel):
        explain_forwards(model, zip(todo, left, strict=True), token_budget, found)
    return [found]


def _through_store(
    model: RewardModel | TokenModel,
    questions: Sequence[Question],
    store: Store | None,
    token_budget: int | None,
    workers: Workers | None,
    progress: Progress | None,
    tally: Tally,
    place: str,
) -> list[Reward]:
    """Runs the distinct requests that the store does not know, and keeps each answer while the next is made."""
    forwarded = model if isinstance(model, TokenModel) else None
    keys, known, todo, left = _left(model, questions, store, place)
    tally.requests += len(questions)
    tally.unique += len(known) + len(todo)
    tally.stored += len(known)
    tally.scored += len(todo)
    if not todo:
        return [known[key] for key in keys]
    if progress:
        progress.begin(len(todo), len(known))
    started = time.perf_counter()
    try:
        run: Answers
        if forwarded is None:
            run, window = _replies(cast(RewardModel, model), todo, left), _WINDOW
        else:
            run, window = forwards(forwarded, zip(todo, left, strict=True), token_budget, tally, workers), 0.0
        # Closed here, since a traceback may hold the generator, and with it threads and memory
        with closing(run), nullcontext() if store is None else Writer(store, window) as writer:
            for answers in run:
                if writer is not None:
                    handed = time.perf_counter()
                    writer.put((key, to_json(reward)) for key, reward in answers if lasts(reward))
                    tally.keeping += time.perf_counter() - handed
                known.update(answers)
                if progress:
                    progress.advance(len(answers))
    finally:
        tally.seconds += time.perf_counter() - started
        if progress:
            progress.end()
    return [known[key] for key in keys]


def _left(
    model: RewardModel | TokenModel, questions: Sequence[Question], store: Store | None, place: str
) -> tuple[list[bytes], dict[bytes, Reward], list[bytes], _Delivered]:
    """The key of each request, what is known of them, and the keys and requests that are left to run."""
    forwarded = isinstance(model, TokenModel)
    keys: list[bytes] = []
    first: dict[bytes, int] = {}
    digests: dict[bytes, bytes] = {}
    uses, requests = uses_of(model), (question.request for question in questions)
    for at, (digest, key) in enumerate(request_keys(_identity(model, place), requests, uses)):
        keys.append(key)
        if first.setdefault(key, at) == at and forwarded:
            digests[key] = digest
    ordered = sorted(first)
    known = {} if store is None else {key: from_json(fields) for key, fields in store.find(ordered)}
    # By digests, since the order of a task's requests gives labels away to a model that counts. Those of one prompt
    # stand together for forwards, which share it; the store takes keys fastest in their own order.
    todo = [key for key in ordered if key not in known]
    if digests:
        todo.sort(key=lambda key: digests[key])
        digests.clear()
    return keys, known, todo, _Delivered(questions, [first[key] for key in todo], uses)


class _Delivered(Sequence[Request]):
    """What reaches a model of the questions at `places`, made when it is looked at, so that nothing is held twice."""

    def __init__(self, questions: Sequence[Question], places: Sequence[int], uses: frozenset[Use]) -> None:
        self._questions, self._places, self._uses = questions, places, uses

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Request: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Request]: ...

    def __getitem__(self, index: int | slice) -> Request | Sequence[Request]:
        if isinstance(index, slice):
            return _Delivered(self._questions, self._places[index], self._uses)
        return delivered(self._questions[self._places[index]].request, self._uses)

    def __iter__(self) -> Iterator[Request]:
        return (delivered(self._questions[place].request, self._uses) for place in self._places)


def _replies(model: RewardModel, keys: Sequence[bytes], asked: Sequence[Request]) -> Answers:
    """The answers of a model that runs its own work, one at a time; what it leaves out is missing."""
    name = subject_of(model).id
    answered = bytearray(len(keys))
    try:
        for index, reward in model.rewards(asked):
            if not 0 <= index < len(keys) or answered[index]:
                raise ModelError(f"{name} answered request {index} of {len(keys)} twice or unasked")
            answered[index] = 1
            yield [(keys[index], checked(reward, asked[index]))]
    except RmbenchError:
        raise
    except Exception as error:
        raise ModelError(f"{name} failed with {type(error).__name__}: {error}; what it scored is kept") from error
    for index, key in enumerate(keys):
        if not answered[index]:
            unanswered = Reward(nans(asked[index]), status="missing", detail="the model gave no answer")
            yield [(key, unanswered)]


def _identity(model: RewardModel | TokenModel, place: str) -> str:
    """What a stored answer belongs to. Another transformers may run the same weights in another way."""
    if model.fingerprint is None:
        return json.dumps([place, asdict(subject_of(model))], sort_keys=True)
    if isinstance(model, TokenModel):
        return f"{model.fingerprint} transformers {version('transformers')}"
    return model.fingerprint


def _answerable(model: Model, questions: Sequence[Question]) -> None:
    for ask in {question.request.ask for question in questions} - model.answers:
        raise ModelError(f"{subject_of(model).id} answers {', '.join(sorted(model.answers))}, not {ask}")
    if isinstance(model, ScoreFile | Derived):
        return
    textless = next((q for q in questions for response in q.request.responses if response.messages is None), None)
    if textless:
        example = textless.place.example if textless.place else "?"
        raise ModelError(
            f"{subject_of(model).id} needs the responses' texts, and example {example} comes from a score file "
            "without; give data with texts, or the scores as the model (scores:FILE)"
        )
