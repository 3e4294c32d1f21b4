"""From a model and tasks to results: the whole flow in one function."""

from __future__ import annotations

import gc
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rmbench import plugins
from rmbench.cache import cache_folder
from rmbench.calibration.fit import Calibrated, calibrate
from rmbench.data.dataset import Dataset
from rmbench.errors import IncompleteRunError, UsageError
from rmbench.forwards.workers import Processes, devices_of
from rmbench.kinds.base import Task
from rmbench.metrics import scale
from rmbench.metrics.interval import Estimate, Statistic, estimate
from rmbench.models.base import Derived, Model, Opened, subject_of
from rmbench.models.spec import Spec, declared, open_model, with_seed
from rmbench.results import files, provenance, records
from rmbench.results.schema import DatasetInfo, Definition, Metric, Scale, SubjectInfo, TaskInfo, TaskResult, Timing
from rmbench.scoring import Asking, Explanation, Progress, Session, Store, Usage
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


@dataclass(frozen=True)
class Failed:
    """A task that gave no result, and why."""

    task: str
    error: Exception


@_seldom_collected()
def load_tasks(
    tasks: Sequence[str | Task],
    *,
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    deduplicate: bool = False,
) -> list[Loaded]:
    """Reads the examples of each task, from `data[name]` where given. Raises UsageError, DataError."""
    loaded = []
    for item in read_tasks(tasks, data=data, limit=limit, deduplicate=deduplicate):
        if isinstance(item, Failed):
            raise item.error
        loaded.append(item)
    return loaded


def read_tasks(
    tasks: Sequence[str | Task],
    *,
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    deduplicate: bool = False,
) -> list[Loaded | Failed]:
    """What `load_tasks` reads, one entry a task, also where one cannot be read. Raises UsageError."""
    if isinstance(tasks, str):
        raise UsageError(f"tasks={tasks!r}: expected a list of tasks, as in [{tasks!r}]")
    if data is not None and not isinstance(data, Mapping):
        raise UsageError(f"data={data!r}: expected a mapping of a task's name to a file or folder")
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit}: expected at least 1 example")
    wanted = _named(tasks)
    data = dict(data or {})
    for name in data:
        if name not in {task.name for task in wanted}:
            raise UsageError(f"--data {name}={data[name]}: {name} is not among the tasks of this run")
    return [_read(task, data.get(task.name), limit, deduplicate) for task in wanted]


def _read(task: Task, path: str | Path | None, limit: int | None, deduplicate: bool) -> Loaded | Failed:
    try:
        examples = task.load(None if path is None else Path(path))
        given = {} if path is None else {"data_sha256": examples.sha256}
        if deduplicate:
            examples = examples.deduplicated()
        if limit is not None:
            examples = examples.limited(limit)
    except Exception as error:  # a task that cannot be read loses nothing of the others
        return Failed(task.name, error)
    return Loaded(task, examples, {"limit": limit, "deduplicate": deduplicate, **given})


def _named(tasks: Sequence[str | Task]) -> list[Task]:
    """The tasks of names, suites and tasks, each once. Raises UsageError for two tasks of one name."""
    named: dict[str, Task] = {}
    for given in tasks:
        for task in plugins.load_tasks(given) if isinstance(given, str) else [given]:
            if named.setdefault(task.name, task) is not task:
                raise UsageError(f"two tasks are called {task.name}; a run takes one of them")
    return list(named.values())


@_seldom_collected()
def evaluate(
    model: str | Spec | Model | Opened | Callable[..., float],
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
    fresh: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> list[TaskResult]:
    """Scores `model` on `tasks` and returns one result per task, each written under `out` as soon as it is there.

    `model` is a spec, a loaded model, an object with a protocol's methods or `(prompt, response) -> float`; `tasks`
    are names, tasks, or what `load_tasks` returned. `data` maps a task's name to a file or folder. `name` replaces
    the model's id in results. `options` are those of `load_model`: device, dtype, max_length, ... Rewards are kept in
    the store as they come, so the same call continues where an interrupted one stopped; `fresh` asks again. With
    `devices`, as in "0,1", a process on each shares the forwards.

    A task that fails loses nothing of the others: its error is raised after them, of several tasks as an
    IncompleteRunError, which has their `results`.
    """
    read = iter(
        read_tasks(
            tasks if isinstance(tasks, str) else [task for task in tasks if not isinstance(task, Loaded)],
            data=data,
            limit=limit,
            deduplicate=deduplicate,
        )
    )
    items = [task if isinstance(task, Loaded) else next(read) for task in tasks]
    outcomes = list(
        evaluations(
            model,
            items,
            out=out,
            name=name,
            token_budget=token_budget,
            devices=devices,
            seed=seed,
            fresh=fresh,
            progress=progress,
            **options,
        )
    )
    results = [one for one in outcomes if isinstance(one, TaskResult)]
    failures = [one for one in outcomes if isinstance(one, Failed)]
    if failures and not results:
        raise failures[0].error
    if failures:
        raise IncompleteRunError({one.task: one.error for one in failures}, results)
    return results


def evaluations(
    model: str | Spec | Model | Opened | Callable[..., float],
    tasks: Sequence[Loaded | Failed],
    *,
    out: str | Path | None = None,
    name: str | None = None,
    token_budget: int | None = None,
    devices: str | None = None,
    seed: int = 0,
    fresh: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Iterator[TaskResult | Failed]:
    """What `evaluate` does, task by task: a result, written under `out`, or why there is none.

    The members of a Derived answer the needs of every task first, one member after the other, so that each is loaded
    once; what it fits is fitted task by task.
    """
    check_name(name)
    if seed < 0 or (token_budget is not None and token_budget < 1):
        raise UsageError(f"seed={seed}, token_budget={token_budget}: expected a seed from 0 and a budget from 1")
    if out is not None:
        files.check_writable(Path(out))
    spec = model if isinstance(model, str | Spec) else None
    options = with_seed(model, seed, options)
    others = _shared_out(spec, devices, options)
    opened = open_model(model, **options)
    asking = Asking(token_budget=token_budget, progress=progress, fresh=fresh, seed=seed)
    with ExitStack() as stack:
        asking.store = stack.enter_context(Store(cache_folder() / "rewards.sqlite"))
        asking.processes = stack.enter_context(Processes(others)) if others else None
        session = stack.enter_context(Session(opened, asking, spec, options))
        started = time.perf_counter()
        if isinstance(opened, Derived):
            session.fill([question for item in tasks if isinstance(item, Loaded) for question in _tried(item, session)])
        for item in tasks:
            yield item if isinstance(item, Failed) else _evaluated(item, session, name, out, started)
            asking.usage, started = Usage(), time.perf_counter()


def _tried(item: Loaded, session: Session) -> list[Question]:
    """What a task asks; nothing where that fails, which its own turn will tell."""
    try:
        return [*chain.from_iterable(_questions(item, session))]
    except Exception:  # told when it is the task's turn
        return []


def _questions(item: Loaded, session: Session) -> list[list[Question]]:
    """What a task asks of the session's model, by example."""
    answers, sha256_ = session.model.answers, item.data.sha256
    return [item.task.questions(example, answers, sha256_) for example in item.data.examples]


def _evaluated(
    item: Loaded, session: Session, name: str | None, out: str | Path | None, started: float
) -> TaskResult | Failed:
    """The result of one task, on disk where it belongs there."""
    model, asking = session.model, session.asking
    try:
        asked = _questions(item, session)
        answered = session.ask([*chain.from_iterable(asked)])
        rewards = iter(answered.rewards)
        judged = _Judged()
        for example, questions in zip(item.data.examples, asked, strict=True):
            judged.add(item.task, example, questions, list(islice(rewards, len(questions))))
        subject = subject_of(model)
        info = SubjectInfo(
            kind="reward_model",
            id=name or subject.id,
            family=subject.family,
            revision=subject.revision,
            fingerprint=session.fingerprint,
        )
        config = {**subject.settings, **session.facts, **item.choice, "seed": asking.seed}
        if (
            session.fingerprint is None
        ):  # nothing tells such a model from another, so no run overwrites another's result
            config["run"] = session.id
        result = _result(item, judged, info, config, asking.usage, started)
        if out is not None:
            files.write(result, Path(out))
    except Exception as error:  # a task that fails loses nothing of the others
        return Failed(item.task.name, error)
    return result


@_seldom_collected()
def explain(
    model: str | Spec | Model | Opened | Callable[..., float],
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
    names = tasks if isinstance(tasks, str) else [task for task in tasks if not isinstance(task, Loaded)]
    ready = iter(load_tasks(names, data=data, limit=limit, deduplicate=deduplicate))
    loaded = [task if isinstance(task, Loaded) else next(ready) for task in tasks]
    opened = open_model(model, **with_seed(model, seed, options))
    asking = Asking(token_budget=token_budget, seed=seed)
    with Store(cache_folder() / "rewards.sqlite") as asking.store, Session(opened, asking) as session:
        return session.explain([question for item in loaded for some in _questions(item, session) for question in some])


def score(
    model: str | Spec | Model | Opened | Callable[..., float],
    conversations: Sequence[Conversation],
    *,
    token_budget: int | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> list[Reward]:
    """The reward of each conversation, in order: (prompt, response), or messages that end with the assistant's.

    `model` and `options` are those of `evaluate`. Rewards are kept in the store. Raises UsageError for a conversation
    that is neither.

    >>> import rmbench
    >>> [reward.value for reward in rmbench.score("length", [("What is 2 + 2?", "4"), ("What is 2 + 2?", "four")])]
    [1.0, 4.0]
    """
    questions = [Question(_conversation(item, place)) for place, item in enumerate(conversations)]
    asking = Asking(token_budget=token_budget, progress=progress, fresh=fresh, seed=options.get("seed", 0))
    opened = open_model(model, **options)
    with Store(cache_folder() / "rewards.sqlite") as asking.store, Session(opened, asking) as session:
        return session.ask(questions).rewards


def _shared_out(spec: str | Spec | None, devices: str | None, options: dict[str, Any]) -> list[str]:
    """The devices besides the first, which becomes the one in `options`."""
    if devices is None:
        return []
    if spec is None:
        raise UsageError(f"devices {devices!r}: each process loads the model, so it has to be given by its spec")
    if "device" not in declared(spec):
        raise UsageError(f"{spec} runs its own work; several devices are for checkpoints")
    if options.get("device") is not None:
        raise UsageError(f"device {options['device']!r} and devices {devices!r}: give one of them")
    options["device"], *others = devices_of(devices)
    return others


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
    item: Loaded, judged: _Judged, subject: SubjectInfo, config: Mapping[str, Any], usage: Usage, started: float
) -> TaskResult:
    task, data, outcomes = item.task, item.data, judged.outcomes
    views = list(dict.fromkeys(view for outcome in outcomes for view in outcome.views))
    primary = task.primary_view(views)
    calibrated = Calibrated(reason=task.measure.uncalibrated)
    if task.measure.uncalibrated is None:
        calibrated = calibrate(outcomes, primary, seed=config["seed"], positive=task.positive)
    described = scale.describe(outcomes, primary)
    metrics, definitions = _metrics(task, outcomes, views, config["seed"])
    result = TaskResult(
        task=TaskInfo(name=task.name, version=task.version, protocol=task.orders, null_verdict=task.null_verdict),
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
        statistics=definitions,
        metrics=metrics,
        left_out={view: reasons for view in views if (reasons := task.measure.left_out(outcomes, view))},
        statuses={status: judged.statuses[status] for status in STATUSES if judged.statuses[status]},
        truncated=judged.truncated,
        ties={view: task.measure.ties(outcomes, view) for view in views},
        same_tokens=judged.same_tokens,
        scale=None if described is None else Scale(**asdict(described)),
        calibration=calibrated.report,
        calibration_reason=calibrated.reason,
        timing=timing(usage, time.perf_counter() - started),
        environment=provenance.environment(),
        config={**config, "task_version": task.version, "protocol": task.orders},
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


def timing(usage: Usage, seconds: float) -> Timing:
    """What a result says of a run that took `seconds` of wall clock."""
    return Timing(
        seconds=round(seconds, 3),
        scoring_seconds=round(usage.seconds, 3),
        requests=usage.requests,
        unique=usage.unique,
        stored=usage.stored,
        scored=usage.scored,
        batches=usage.batches,
        tokens=usage.tokens,
        token_budget=usage.token_budget,
        ways=dict(sorted(usage.ways.items())),
    )


def _metrics(
    task: Task, outcomes: Sequence[Outcome], views: Sequence[str], seed: int
) -> tuple[list[Metric], dict[str, Definition]]:
    """Every figure, by view and subset, and what its statistic is, by name."""
    subsets: dict[str, list[Outcome]] = {"all": list(outcomes)}
    for outcome in outcomes:
        for value in outcome.facets.values():
            subsets.setdefault(value, []).append(outcome)
    metrics, definitions = list[Metric](), dict[str, Definition]()
    for view in views:
        fitted = task.measure.fit(outcomes, view)
        for subset, some in subsets.items():
            statistics = task.measure.statistics(some, view, fitted)
            for one in statistics:
                definitions.setdefault(one.name, _definition(one))
            estimates = estimate(statistics, [outcome.cluster for outcome in some], seed=seed)
            metrics += [_metric(found, view, subset) for found in estimates]
    return metrics, definitions


def _metric(found: Estimate, view: str, subset: str) -> Metric:
    return Metric(
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


def _definition(statistic: Statistic) -> Definition:
    return Definition(
        title=statistic.title,
        unit=statistic.unit,
        better=statistic.better,
        bounds=statistic.bounds,
        caveat=statistic.caveat,
        kind=statistic.kind,
    )


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
