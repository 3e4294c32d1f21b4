"""From a model and tasks to results, task by task: the whole flow in one readable place."""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rmbench.cache import cache_folder
from rmbench.errors import IncompleteRunError, UsageError
from rmbench.forwards.workers import Processes, devices_of
from rmbench.kinds.base import Task
from rmbench.models.base import Derived, Model, Opened, TokenModel, most_of, subject_of
from rmbench.models.borrowed import Borrowed, writes_results
from rmbench.models.spec import Spec, declared, open_model, spec_of, with_seed
from rmbench.results import files, provenance
from rmbench.results.judged import Judged
from rmbench.results.schema import Config, ModelFit, SubjectInfo, TaskResult, Timing
from rmbench.runs.loading import Data, Failed, TaskData, load_tasks, read_tasks, seldom_collected
from rmbench.scoring import Asking, Explanation, Progress, Session, Store, Usage
from rmbench.scoring.usage import busy
from rmbench.types import Question

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

_FOLDS = "5 folds by the sha256 of seed and cluster"


@seldom_collected()
def evaluate(
    model: str | Spec | Model | Opened | Callable[..., float],
    tasks: Sequence[str | Task | TaskData],
    *,
    data: Mapping[str, Data | Mapping[str, Data]] | None = None,
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    subset: Mapping[str, str | Sequence[str]] | None = None,
    deduplicate: bool = False,
    revision: str | Mapping[str, str] | None = None,
    orders: str | None = None,
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

    `model` is a spec, a Path, `(model, tokenizer)` or a text-classification pipeline as a training run has them, an
    object with a protocol's methods, or a function as `rmbench.models.callables` takes it; `tasks` are names, tasks, or
    what `load_tasks` returned. `data` maps a task's name to a path, a list of mappings or a `datasets.Dataset`, or to a
    mapping of names to several of these; `columns` maps what a task reads to their columns, as in
    `{"prompt": "question"}`, and with `skip_bad_rows` bad rows are left out and counted. `limit` examples are drawn by
    `seed`, within facets and files alike, of those that `subset` leaves, as `{"domain": "math"}`; what is no whole task
    is labelled so. `revision` is the commit of a task's hub set, or of each by its task. `orders` are shown to a model
    that compares instead of each task's own, as "both": every pair in both orders. `name` replaces the model's id in
    results. `options` are those of `load_model`: device, dtype, max_length, ... Rewards are kept in the store as they
    come, so the same call continues where an interrupted one stopped; `fresh` asks again. With `devices`, as in "0,1",
    a process on each shares the forwards.

    A model in memory is put into order for inference and left as it was found, also after an error. Where several
    processes train together each of them calls this, and the first writes the results.

    A task that fails loses nothing of the others: its error is raised after them, of several tasks as an
    IncompleteRunError, which has their `results`.

    >>> import rmbench
    >>> (result,) = rmbench.evaluate("length", ["best_of_n"], limit=20)
    >>> accuracy = result.metric("accuracy")
    >>> accuracy.n, accuracy.ci_low <= accuracy.value <= accuracy.ci_high
    (20, True)
    """
    choice: dict[str, Any] = {
        "columns": columns,
        "skip_bad_rows": skip_bad_rows,
        "limit": limit,
        "subset": subset,
        "seed": seed,
        "deduplicate": deduplicate,
        "revision": revision,
        "orders": orders,
    }
    items = read_tasks(tasks, data=data, **choice)
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
    tasks: Sequence[TaskData | Failed],
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
    given = spec_of(model)
    spec = None if given.model is not None else model if isinstance(model, str) else given
    name = name or given.name
    options = with_seed(model, seed, options)
    device, others = _shared_out(spec, devices, options)
    with busy(progress, "opening"):
        opened = open_model(given, **options)
    if isinstance(opened, Borrowed) and not writes_results():
        out = None
    if devices is not None and not isinstance(opened, TokenModel | Opened | Derived):
        raise UsageError(f"{spec} runs its own work; several devices are for checkpoints")
    asking = Asking(device=device, token_budget=token_budget, progress=progress, fresh=fresh, seed=seed)
    command = _command(model, options, {"devices": devices, "token_budget": token_budget, "seed": seed, "fresh": fresh})
    with ExitStack() as stack:
        asking.store = stack.enter_context(Store(cache_folder() / "rewards.sqlite"))
        asking.processes = stack.enter_context(Processes(others)) if others else None
        session = stack.enter_context(Session(opened, asking, spec, options))
        started = time.perf_counter()
        if isinstance(opened, Derived):
            session.fill([_tried(item, session) for item in tasks if isinstance(item, TaskData)])
            asking.usage.requests = asking.usage.unique = asking.usage.stored = 0  # each task counts its own
        for item in tasks:
            asking.task = item.name if isinstance(item, TaskData) else None
            yield item if isinstance(item, Failed) else _evaluated(item, session, command, name, out, started)
            asking.usage, started = Usage(), time.perf_counter()


@seldom_collected()
def explain(
    model: str | Spec | Model | Opened | Callable[..., float],
    tasks: Sequence[str | Task | TaskData],
    *,
    data: Mapping[str, Data | Mapping[str, Data]] | None = None,
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    subset: Mapping[str, str | Sequence[str]] | None = None,
    deduplicate: bool = False,
    revision: str | Mapping[str, str] | None = None,
    orders: str | None = None,
    token_budget: int | None = None,
    seed: int = 0,
    **options: Any,
) -> list[Explanation]:
    """What `evaluate` would run of these, task by task, and how long its forwards would take; nothing is scored.

    >>> import rmbench.runs.evaluate
    >>> (plan,) = rmbench.runs.evaluate.explain("length", ["best_of_n"], limit=20)
    >>> plan.tasks["best_of_n"].rows, plan.tasks["best_of_n"].requests
    (20, 80)
    """
    choice: dict[str, Any] = {
        "columns": columns,
        "skip_bad_rows": skip_bad_rows,
        "limit": limit,
        "subset": subset,
        "seed": seed,
        "deduplicate": deduplicate,
        "revision": revision,
        "orders": orders,
    }
    loaded = load_tasks(tasks, data=data, **choice)
    opened = open_model(model, **with_seed(model, seed, options))
    asking = Asking(token_budget=token_budget, seed=seed)
    with Store(cache_folder() / "rewards.sqlite") as asking.store, Session(opened, asking) as session:
        return session.explain({item.name: [*chain.from_iterable(_questions(item, session))] for item in loaded})


def _tried(item: TaskData, session: Session) -> list[Question]:
    """What a task asks; nothing where that fails, which its own turn will tell."""
    try:
        return [*chain.from_iterable(_questions(item, session))]
    except Exception:  # told when it is the task's turn
        return []


def _questions(item: TaskData, session: Session) -> list[list[Question]]:
    """What a task asks of the session's model, by example."""
    answers, most, sha256_ = session.model.answers, most_of(session.model), item.data.sha256
    return [item.task.questions(example, answers, sha256_, most) for example in item.data.examples]


def _evaluated(
    item: TaskData,
    session: Session,
    command: Mapping[str, Any],
    name: str | None,
    out: str | Path | None,
    started: float,
) -> TaskResult | Failed:
    """The result of one task, on disk where it belongs there."""
    asking = session.asking
    try:
        _tell_orders(item, session)
        asked = _questions(item, session)
        answered = session.ask([*chain.from_iterable(asked)])
        rewards = iter(answered.rewards)
        judged = Judged(item.task)
        for example, questions in zip(item.data.examples, asked, strict=True):
            judged.add(example, questions, list(islice(rewards, len(questions))))
        result = judged.result(
            item.data,
            _subject(session, name),
            _config(item, session, command),
            timing(asking.usage, time.perf_counter() - started),
            seed=asking.seed,
            fitted=None if answered.fitted is None else ModelFit(rule=_FOLDS, **answered.fitted),
        )
        if out is not None:
            files.write(result, Path(out))
    except Exception as error:  # a task that fails loses nothing of the others
        return Failed.of(item.task, error, item.name)
    return result


def _tell_orders(item: TaskData, session: Session) -> None:
    """Warns where a model is shown pairs in one order whose authors' figures are of both."""
    wanted, shown = getattr(session.model, "orders", None), item.task.orders
    if wanted == "both" and shown in ("official", "round_robin", "permutations:1"):
        warnings.warn(
            f"{item.name} shows each pair in one order ({shown}), and the authors of {subject_of(session.model).id}"
            " compare in both: --orders both does",
            stacklevel=2,
        )


def _subject(session: Session, name: str | None) -> SubjectInfo:
    """What a result says of the session's model, under the id `name` where that is given.

    A judge's id names its policy too: one template and parser make as many judges as there are policies.
    """
    model, subject, identity = session.model, subject_of(session.model), session.identity
    policy = "" if session.policy is None else f"-{subject_of(session.policy).id.rpartition('/')[2]}"
    return SubjectInfo(
        kind="reward_model",
        id=name or f"{subject.id}{policy}",
        family=subject.family,
        revision=subject.revision,
        fingerprint=session.fingerprint,
        identity=identity,
        may_change=identity != "content",
        uses=sorted(session.uses),
        answers=sorted(model.answers),
        facts=dict(session.facts),
    )


def _config(item: TaskData, session: Session, command: Mapping[str, Any]) -> Config:
    """How a result was made. Nothing tells a model without a fingerprint from another, so that its run has a name."""
    asking = session.asking
    run = {} if session.fingerprint else {"run": session.id}
    policy = session.policy
    written = {} if policy is None else {"policy": {"id": subject_of(policy).id, "fingerprint": policy.fingerprint}}
    return Config(
        model={**subject_of(session.model).settings, **written, **run},
        data={**item.choice, "seed": asking.seed},
        task=dict(item.own),
        run={"token_budget": asking.token_budget, "device": ", ".join(session.devices) or None, "threads": threads()},
        command={**command, "task": item.task.name, **item.choice},
    )


def _command(model: object, options: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, as parsed; no path of this machine."""
    spec = spec_of(model)
    given = {"model": _stated(spec), "options": {**spec.options, **options}, **run}
    stated: dict[str, Any] = provenance.stated(given)
    return stated


def _stated(spec: Spec) -> dict[str, Any]:
    """A spec as the command of a result has it; one that is made of others with these, each with its options."""
    named = {"family": spec.family, "source": spec.source or None, "revision": spec.revision, "name": spec.name}
    members = [{**_stated(one), "options": dict(one.options)} for one in spec.members]
    return {**named, "members": members} if members else named


def _shared_out(spec: str | Spec | None, devices: str | None, options: dict[str, Any]) -> tuple[str | None, list[str]]:
    """The device of this process, on which a model and all that it stands on are started, and those of the others.

    The first is put into `options` where the model declares one, so that a spec that says otherwise is refused.
    """
    if devices is None:
        return None, []
    if spec is None:
        raise UsageError(f"devices {devices!r}: each process loads the model, so it has to be given by its spec")
    if options.get("device") is not None:
        raise UsageError(f"device {options['device']!r} and devices {devices!r}: give one of them")
    first, *others = devices_of(devices)
    if "device" in declared(spec):
        options["device"] = first
    return first, others


def check_name(name: str | None) -> None:
    """Raises UsageError for a name that is no id of a result."""
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(f"name {name!r}: a model's id in results is letters, digits, . _ and -, as in org/model")


def threads() -> int | None:
    """How many torch computes with; None where nothing of a run took it."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def timing(usage: Usage, seconds: float) -> Timing:
    """What a result says of a run that took `seconds` of wall clock."""
    return Timing(
        seconds=round(seconds, 3),
        scoring_seconds=round(usage.seconds, 3),
        requests=usage.requests,
        unique=usage.unique,
        shared=usage.shared,
        stored=usage.stored,
        scored=usage.scored,
        batches=usage.batches,
        tokens=usage.tokens,
        token_budget=usage.token_budget,
        ways=dict(sorted(usage.ways.items())),
    )
