"""From a model and tasks to results: the whole flow in one function."""

from __future__ import annotations

import gc
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from rmbench import scoring
from rmbench.cache import cache_folder
from rmbench.calibration.fit import Calibrated, calibrate
from rmbench.data.dataset import Dataset
from rmbench.errors import UsageError
from rmbench.metrics import scale
from rmbench.metrics.interval import estimate
from rmbench.models.base import Derived, Model, TokenModel, subject_of
from rmbench.models.spec import load_model, run_identity
from rmbench.plugins import load_task
from rmbench.results import files, provenance, records
from rmbench.results.schema import DatasetInfo, Metric, Scale, SubjectInfo, TaskInfo, TaskResult, Timing
from rmbench.scoring import Explanation, Progress, Store, Tally
from rmbench.scoring.workers import Processes, devices_of
from rmbench.task import Task
from rmbench.types import STATUSES, Example, Message, Outcome, Question, Request, Response, Reward

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

Conversation = tuple[str, str] | Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Loaded:
    """A task with the examples it will be run on, and how they were chosen."""

    task: Task
    data: Dataset
    choice: Mapping[str, Any]


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
        given = {"data_sha256": examples.sha256} if path else {}
        if deduplicate:
            examples = examples.deduplicated()
        if limit is not None:
            examples = examples.limited(limit)
        loaded.append(Loaded(task, examples, {"limit": limit, "deduplicate": deduplicate, **given}))
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
            judged = _Judged()
            for example, questions in zip(item.data.examples, asked.pop(0), strict=True):
                judged.add(item.task, example, questions, list(islice(rewards, len(questions))))
            info = SubjectInfo(
                kind="reward_model",
                id=subject.id,
                family=subject.family,
                revision=subject.revision,
                fingerprint=fingerprint(model),
            )
            config = {**subject.settings, **item.choice, "seed": seed} | ({"run": run} if run else {})
            results.append(_result(item, judged, info, config, tally, started))
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


class _Judged:
    """What is known of a task's examples once they are judged, one after the other: all but texts and requests."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.records = records.Records()
        self.statuses: Counter[str] = Counter()
        self.truncated = self.same_tokens = 0
        self._problems: dict[tuple[str, str], str] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, task: Task, example: Example, questions: Sequence[Question], rewards: Sequence[Reward]) -> None:
        self.outcomes.append(task.outcome(example, questions, rewards))
        self.records.add(example, questions, rewards)
        texts: dict[str, str | None] = {}
        for question, reward in zip(questions, rewards, strict=True):
            self.statuses[reward.status] += 1
            self.truncated += reward.truncated > 0
            if reward.read and len(question.request.responses) == 1:
                text = question.request.responses[0].text
                self.same_tokens += texts.setdefault(reward.read, text) != text
            if reward.status != "ok":
                self._add_problem(example, question, reward)

    @property
    def problems(self) -> list[str]:
        """One line per status that is not `ok` and reason, numbers in it aside: how often, and where first."""
        return [f"{self._counts[kind]:,} rewards are {kind[0]}, {line}" for kind, line in self._problems.items()]

    def _add_problem(self, example: Example, question: Question, reward: Reward) -> None:
        kind = reward.status, re.sub(r"\d[\d,.]*", "#", reward.detail or "")
        self._counts[kind] += 1
        candidates = " and ".join(map(str, question.place.candidates)) if question.place else "?"
        place = f"example {example.id}, candidate {candidates}"
        self._problems.setdefault(kind, f"first at {place}" + (f": {reward.detail}" if reward.detail else ""))


def _result(
    item: Loaded, judged: _Judged, subject: SubjectInfo, config: Mapping[str, Any], tally: Tally, started: float
) -> TaskResult:
    task, data, outcomes = item.task, item.data, judged.outcomes
    views = list(dict.fromkeys(view for outcome in outcomes for view in outcome.views))
    primary = task.primary_view(views)
    calibrated = Calibrated(reason=task.measure.uncalibrated)
    if task.measure.uncalibrated is None:
        calibrated = calibrate(outcomes, primary, seed=config["seed"])
    described = scale.describe(outcomes, primary)
    result = TaskResult(
        task=TaskInfo(name=task.name, version=task.version, protocol=task.protocol, null_verdict=task.null_verdict),
        dataset=DatasetInfo(
            source=data.source,
            revision=data.revision,
            sha256=data.sha256,
            examples_sha256=_examples_sha256(data.examples),
            responses_sha256=_responses_sha256(data.examples),
            examples=len(data.examples),
            candidates=sum(len(example.candidates) for example in data.examples),
            excluded=dict(data.excluded),
            noted=dict(data.noted),
        ),
        subject=subject,
        primary_view=primary,
        metrics=_metrics(task, outcomes, views, config["seed"]),
        left_out={view: reasons for view in views if (reasons := task.measure.left_out(outcomes, view))},
        statuses={status: judged.statuses[status] for status in STATUSES if judged.statuses[status]},
        truncated=judged.truncated,
        ties={view: task.measure.ties(outcomes, view) for view in views},
        same_tokens=judged.same_tokens,
        scale=None if described is None else Scale(**asdict(described)),
        calibration=calibrated.report,
        calibration_reason=calibrated.reason,
        timing=timing(tally, time.perf_counter() - started),
        environment=provenance.environment(),
        config={**config, "task_version": task.version, "protocol": task.protocol},
        created=provenance.now(),
    )
    result._records = judged.records.candidates(calibrated.probabilities)
    result._comparisons = judged.records.comparisons()
    result._problems = judged.problems
    return result


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


def _metrics(task: Task, outcomes: Sequence[Outcome], views: Sequence[str], seed: int) -> list[Metric]:
    subsets: dict[str, list[Outcome]] = {"all": list(outcomes)}
    for outcome in outcomes:
        for value in outcome.facets.values():
            subsets.setdefault(value, []).append(outcome)
    measure, clusters = task.measure, {name: [o.cluster for o in some] for name, some in subsets.items()}
    fits = {view: measure.fit(outcomes, view) for view in views}
    return [
        Metric(
            name=found.name,
            kind=found.kind,
            view=view,
            subset=subset,
            value=_number(found.value),
            ci_low=_number(found.ci_low),
            ci_high=_number(found.ci_high),
            n=found.n,
            clusters=found.clusters,
            p=found.p,
        )
        for view in views
        for subset, some in subsets.items()
        for found in estimate(measure.statistics(some, view, fits[view]), clusters[subset], seed=seed)
    ]


def _number(value: float) -> float | None:
    """A NaN is no number: the schema says null."""
    return None if math.isnan(value) else float(value)


def _responses_sha256(examples: Sequence[Example]) -> str | None:
    """Identity of the texts that were judged; None where a score file does not tell them."""
    if any(candidate.text is None for example in examples for candidate in example.candidates):
        return None
    texts = ([example.id, [c.text for c in example.candidates]] for example in sorted(examples, key=_by_id))
    return provenance.list_sha256(texts)


def _by_id(example: Example) -> tuple[str, list[str | None]]:
    return example.id, [candidate.text for candidate in example.candidates]


def _examples_sha256(examples: Sequence[Example]) -> str:
    return provenance.examples_sha256(
        (example.id, example.cluster, [candidate.number for candidate in example.candidates]) for example in examples
    )
