"""From a model and tasks to results: the whole flow in one function."""

from __future__ import annotations

import gc
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from rmbench import scoring
from rmbench.cache import cache_folder
from rmbench.data.dataset import Dataset
from rmbench.errors import UsageError
from rmbench.kinds.base import Task
from rmbench.models.base import Derived, Model, TokenModel, subject_of
from rmbench.models.spec import load_model, run_identity
from rmbench.plugins import load_task
from rmbench.results import files
from rmbench.results.judged import Judged
from rmbench.results.schema import Config, SubjectInfo, TaskResult, Timing
from rmbench.scoring import Explanation, Progress, Store, Tally
from rmbench.scoring.workers import Processes, devices_of
from rmbench.types import Message, Question, Request, Response, Reward

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

Conversation = tuple[str, str] | Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Loaded:
    """A task with the examples it will be run on: how they were chosen, and what of it is not the task's own."""

    task: Task
    data: Dataset
    choice: Mapping[str, Any]
    own: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """The garbage collector looks at all objects over and over as millions are made, and they are in no cycle."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@_seldom_collected()
def load_tasks(
    tasks: Sequence[str | Task],
    *,
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    deduplicate: bool = False,
) -> list[Loaded]:
    """Reads the examples of each task, from `data[name]` where given. Raises UsageError, DataError."""
    if isinstance(tasks, str):
        raise UsageError(f"tasks={tasks!r}: expected a list of tasks, as in [{tasks!r}]")
    if data is not None and not isinstance(data, Mapping):
        raise UsageError(f"data={data!r}: expected a mapping of a task's name to a file or folder")
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit}: expected at least 1 example")
    found = [load_task(task) if isinstance(task, str) else task for task in tasks]
    data = dict(data or {})
    for name in data:
        if name not in {task.name for task in found}:
            raise UsageError(f"--data {name}={data[name]}: {name} is not among the tasks of this run")
    loaded = []
    for task in found:
        path = Path(data[task.name]) if task.name in data else None
        examples = task.load(path)
        own = {"data": {"name": path.resolve().name, "sha256": examples.sha256}} if path else {}
        if deduplicate:
            examples = examples.deduplicated()
        if limit is not None:
            examples = examples.limited(limit)
        loaded.append(Loaded(task, examples, {"limit": limit, "deduplicate": deduplicate}, own))
    return loaded


@_seldom_collected()
def evaluate(
    model: str | Model | Callable[..., float],
    tasks: Sequence[str | Task | Loaded],
    *,
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    deduplicate: bool = False,
    out: str | Path | None = None,
    name: str | None = None,
    token_budget: int | None = None,
    devices: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> list[TaskResult]:
    """Scores `model` on `tasks` and returns one result per task, written under `out` where that is given.

    `model` is a spec, a loaded model, an object with a protocol's methods or `(prompt, response) -> float`; `tasks`
    are names, tasks, or what `load_tasks` returned. `data` maps a task's name to a file or folder. `name` replaces
    the model's id in results. `options` are those of `load_model`: device, dtype, max_length, ... Rewards are kept in
    the store as they come, so the same call continues where an interrupted one stopped. With `devices`, as in "0,1",
    a process on each shares the forwards.
    """
    started = time.perf_counter()
    check_name(name)
    if seed < 0 or (token_budget is not None and token_budget < 1):
        raise UsageError(f"seed={seed}, token_budget={token_budget}: expected a seed from 0 and a budget from 1")
    loaded = _all_loaded(tasks, data, limit, deduplicate)
    if out is not None:
        files.check_writable(Path(out))
    spec = model if isinstance(model, str) else None
    options["seed"] = seed
    others = _shared_out(spec, devices, options)
    model = load_model(model, **options)
    subject = subject_of(model) if name is None else replace(subject_of(model), id=name)
    run = run_of(model, spec)

    asked = _asked(model, loaded)
    tally = Tally()
    with kept(run if spec else None) as (store, journal), _workers(model, spec, others, options) as workers:
        rewards = iter(
            scoring.score(
                model,
                [*chain.from_iterable(chain.from_iterable(asked))],
                token_budget=token_budget,
                workers=workers,
                store=store,
                journal=journal,
                progress=progress,
                tally=tally,
            )
        )
        results = []
        for item in loaded:
            judged = Judged(item.task)
            for example, questions in zip(item.data.examples, asked.pop(0), strict=True):
                judged.add(example, questions, list(islice(rewards, len(questions))))
            info = SubjectInfo(
                kind="reward_model",
                id=subject.id,
                family=subject.family,
                revision=subject.revision,
                fingerprint=fingerprint(model),
                identity="none" if run else "content",
                may_change=run is not None,
                uses=sorted(getattr(model, "uses", ())),
                answers=sorted(model.answers),
            )
            config = Config(
                model={**subject.settings} | ({"run": run} if run else {}),
                data={**item.choice, "seed": seed},
                task=dict(item.own),
                run={"devices": devices, "token_budget": token_budget},
            )
            took = timing(tally, time.perf_counter() - started)
            results.append(judged.result(item.data, info, config, took, seed=seed))
        if out is not None:
            for result in results:
                files.write(result, Path(out))
    return results


@_seldom_collected()
def explain(
    model: str | Model | Callable[..., float],
    tasks: Sequence[str | Task | Loaded],
    *,
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    deduplicate: bool = False,
    token_budget: int | None = None,
    seed: int = 0,
    **options: Any,
) -> list[Explanation]:
    """What `evaluate` would run of these, and how long its forwards would take; nothing is scored."""
    spec = model if isinstance(model, str) else None
    loaded = _all_loaded(tasks, data, limit, deduplicate)
    model = load_model(model, seed=seed, **options)
    questions = [*chain.from_iterable(chain.from_iterable(_asked(model, loaded)))]
    run = run_of(model, spec) if spec else None
    there = run is not None and (cache_folder() / "journals" / f"{run}.sqlite").exists()
    with _opened(run if there else None) as (store, journal):
        return scoring.explain(model, questions, store=store, journal=journal, token_budget=token_budget)


def score(
    model: str | Model | Callable[..., float],
    conversations: Sequence[Conversation],
    *,
    token_budget: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> list[Reward]:
    """The reward of each conversation, in order: (prompt, response), or messages that end with the assistant's.

    `model` and `options` are those of `evaluate`. Rewards are kept in the store. Raises UsageError for a conversation
    that is neither.
    """
    spec = model if isinstance(model, str) else None
    model = load_model(model, **options)
    questions = [Question(_conversation(item, place)) for place, item in enumerate(conversations)]
    with kept(run_of(model, spec) if spec else None) as (store, journal):
        return scoring.score(
            model, questions, store=store, journal=journal, token_budget=token_budget, progress=progress
        )


def _all_loaded(
    tasks: Sequence[str | Task | Loaded], data: Mapping[str, str | Path] | None, limit: int | None, deduplicate: bool
) -> list[Loaded]:
    names = tasks if isinstance(tasks, str) else [task for task in tasks if not isinstance(task, Loaded)]
    ready = iter(load_tasks(names, data=data, limit=limit, deduplicate=deduplicate))
    return [task if isinstance(task, Loaded) else next(ready) for task in tasks]


def _asked(model: Model, loaded: Sequence[Loaded]) -> list[list[list[Question]]]:
    """What is asked of a model, by task and example."""
    return [
        [item.task.questions(example, model.answers, item.data.sha256) for example in item.data.examples]
        for item in loaded
    ]


def _shared_out(spec: str | None, devices: str | None, options: dict[str, Any]) -> list[str]:
    """The devices besides the first, which becomes the one in `options`."""
    if devices is None:
        return []
    if spec is None:
        raise UsageError(f"devices {devices!r}: each process loads the model, so it has to be given by its spec")
    if options.get("device") is not None:
        raise UsageError(f"device {options['device']!r} and devices {devices!r}: give one of them")
    options["device"], *others = devices_of(devices)
    return others


@contextmanager
def _workers(model: Model, spec: str | None, devices: Sequence[str], options: Mapping[str, Any]) -> Iterator[Any]:
    """Processes for `model` on `devices`, None where there is no device but its own."""
    if not devices or spec is None:
        yield None
        return
    if not isinstance(model, TokenModel):
        raise UsageError(f"{subject_of(model).id} runs its own work; several devices are for checkpoints")
    with Processes(spec, options, devices, model.fingerprint) as processes:
        yield processes


@contextmanager
def kept(run: str | None) -> Iterator[tuple[Store, Store | None]]:
    """Where scoring keeps what it has: the store, and the journal of `run`, emptied once all went well."""
    with _opened(run) as (store, journal):
        yield store, journal
        if journal is not None:
            journal.clear()


@contextmanager
def _opened(run: str | None) -> Iterator[tuple[Store, Store | None]]:
    with ExitStack() as stack:
        store = stack.enter_context(Store(cache_folder() / "rewards.sqlite"))
        journal = stack.enter_context(Store(cache_folder() / "journals" / f"{run}.sqlite")) if run else None
        yield store, journal


def run_of(model: Model, spec: str | None) -> str | None:
    """What a run of code without a fingerprint is known again by, None for a model that has one.

    Such code may change: only the same file continues a run, and no run overwrites another's result.
    """
    if fingerprint(model):
        return None
    return sha256((run_identity(spec) if spec else uuid4().hex).encode()).hexdigest()[:12]


def fingerprint(model: Model) -> str | None:
    """A Derived's with its members', so that another member or setting is another result."""
    if not isinstance(model, Derived):
        return model.fingerprint
    parts = [model.fingerprint, *(fingerprint(member) for member in model.members)]
    if None in parts:
        return None
    return sha256(json.dumps(parts).encode()).hexdigest()


def _conversation(item: Conversation, place: int) -> Request:
    if isinstance(item, tuple) and len(item) == 2 and all(isinstance(text, str) for text in item):
        item = [{"role": "user", "content": str(item[0])}, {"role": "assistant", "content": str(item[1])}]
    if isinstance(item, str) or not all(isinstance(message, Mapping) for message in item):
        raise UsageError(f"conversation {place}: expected (prompt, response) or messages with role and content")
    messages = [_message(message, f"conversation {place}, message {number}") for number, message in enumerate(item)]
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise UsageError(f"conversation {place}: its last message must be the assistant's, after at least one other")
    return Request("reward", tuple(messages[:-1]), (Response(messages[-1].text),))


def _message(message: Any, place: str) -> Message:
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise UsageError(
            f"{place}: expected content, a text, and role, one of system, user, assistant; got {message!r:.80}"
        )
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{place}: a lone surrogate at character {error.start} is no text") from error
    return Message(role, content)


def check_name(name: str | None) -> None:
    """Raises UsageError for a name that is no id of a result."""
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(f"name {name!r}: a model's id in results is letters, digits, . _ and -, as in org/model")


def timing(tally: Tally, seconds: float) -> Timing:
    """What a result says of a run that took `seconds` of wall clock."""
    return Timing(
        seconds=round(seconds, 3),
        scoring_seconds=round(tally.seconds, 3),
        requests=tally.requests,
        unique=tally.unique,
        stored=tally.stored,
        scored=tally.scored,
        batches=tally.batches,
        tokens=tally.tokens,
        token_budget=tally.token_budget,
        ways=dict(sorted(tally.ways.items())),
    )
