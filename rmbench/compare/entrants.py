"""Who is compared: runs read from result files, and the reasons why two results say nothing of each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path

from rmbench.errors import ResultError, UsageError
from rmbench.results import files, provenance
from rmbench.results.replay import examples_of
from rmbench.results.schema import TaskResult

# What a run's configuration says of a task, and may be another for the next
_OF_ONE_TASK = {"limit", "deduplicate", "data_sha256", "task_version", "protocol"}


@dataclass(frozen=True)
class Run:
    """One evaluation of one model: the result file of each task, at least one."""

    id: str
    files: Mapping[str, Path]

    @property
    def name(self) -> str:
        """The id, with the folder of its first result: other revisions and configurations have another."""
        return f"{self.id} ({next(iter(self.files.values())).parent.name})"


@dataclass(frozen=True)
class Model:
    """What is compared: one run, or several seeds or checkpoints of one model."""

    name: str
    runs: Sequence[Run]


@dataclass(frozen=True)
class Side:
    """A model on one task."""

    name: str
    results: Sequence[tuple[Path, TaskResult]]

    @property
    def primary_view(self) -> str:
        views = {result.primary_view for _, result in self.results}
        if len(views) > 1:
            raise ResultError(f"{self.name}: its runs have different primary views, {', '.join(sorted(views))}")
        return views.pop()

    @property
    def views(self) -> list[str]:
        """The views that every run has."""
        measured = [{metric.view for metric in result.metrics} for _, result in self.results]
        return [view for view in self.results[0][1].ties if all(view in some for some in measured)]


def read_models(paths: Sequence[Path], groups: Mapping[str, Sequence[Path]]) -> list[Model]:
    """Every run in `paths` as a model, then each of `groups` as one. Raises ResultError and UsageError."""
    runs = [run for path in paths for run in _runs(path)]
    names = _names(runs)
    for name in set(groups) & set(names):
        raise UsageError(f"--group {name}: a model has that name; give the group another")
    models = [Model(name, [run]) for name, run in zip(names, runs, strict=True)]
    models += [Model(name, [run for path in some for run in _runs(path)]) for name, some in groups.items()]
    if len(models) < 2:
        given = f"only {models[0].name} is" if models else "nothing is"
        raise UsageError(f"{given} given; a comparison needs two models or more")
    _refuse_repeated([path for model in models for run in model.runs for path in run.files.values()])
    return models


def shared_tasks(models: Sequence[Model], wanted: Sequence[str]) -> list[str]:
    """The tasks of the baseline, or those of them that are wanted, that another model has too."""
    tasks = {model.name: list(dict.fromkeys(task for run in model.runs for task in run.files)) for model in models}
    known = list(dict.fromkeys(task for some in tasks.values() for task in some))
    for task in wanted:
        if task not in known:
            raise UsageError(unknown("task", task, known))
    baseline, *others = tasks.values()
    shared = [task for task in wanted or baseline if task in baseline and any(task in some for some in others)]
    if not shared:
        have = "; ".join(f"{name} has {', '.join(some)}" for name, some in tasks.items())
        raise ResultError(f"no task in common: {have}")
    return shared


def sides_of(task: str, models: Sequence[Model]) -> tuple[list[Side], list[str]]:
    """The baseline and the models that can be compared with it on a task, and a line for each that cannot."""
    sides, refused = list[Side](), list[str]()
    for model in models:
        try:
            side = _side(task, model)
            for one, other in combinations([result for some in (*sides, side) for result in some.results], 2):
                check_comparable(one, other)
        except ResultError as error:
            if not sides:
                raise
            refused.append(f"{task}: {model.name} is not compared: {error}")
        else:
            sides.append(side)
    return sides, refused


def unknown(what: str, name: str, names: Sequence[str]) -> str:
    """`unknown <what> 'name': did you mean 'x'?`, and what there is."""
    close = get_close_matches(name, names, n=1)
    meant = f": did you mean {close[0]!r}?" if close else ""
    return f"unknown {what} {name!r}{meant}; there is {', '.join(names) or 'none'}"


def _runs(path: Path) -> list[Run]:
    """The runs that a result file, or a folder with result files under it, holds."""
    paths = files.of_reward_models(path) if path.is_dir() else [path]
    if not paths:
        raise ResultError(f"{path}: no result files, with their records, under it")
    found: list[tuple[tuple[str, str], dict[str, Path]]] = []
    for file in paths:
        result = files.read(file)
        task, identity = result.task.name, _identity(result)
        tasks = next((tasks for known, tasks in found if known == identity and task not in tasks), None)
        if tasks is None:
            tasks = {}
            found.append((identity, tasks))
        tasks[task] = file
    return [Run(model, tasks) for (model, _), tasks in found]


def _identity(result: TaskResult) -> tuple[str, str]:
    """The same for every task of a run: the model's id, and a hash of what it is and how it was run."""
    config = {name: value for name, value in result.config.items() if name not in _OF_ONE_TASK}
    subject = {"revision": result.subject.revision, "fingerprint": result.subject.fingerprint}
    return result.subject.id, provenance.short_hash({"subject": subject, "config": config})


def _names(runs: Sequence[Run]) -> list[str]:
    """A name for each run that no other has: its id where that is enough."""
    ids = Counter(run.id for run in runs)
    names = [run.id if ids[run.id] == 1 else run.name for run in runs]
    return [name if names.count(name) == 1 else f"{name} #{place}" for place, name in enumerate(names, start=1)]


def _refuse_repeated(paths: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise ResultError(f"the same result twice: {seen[path.resolve()]} and {path}")
        seen[path.resolve()] = path


def _side(task: str, model: Model) -> Side:
    for run in model.runs:
        if task not in run.files:
            raise ResultError(f"{run.name} was not run on it")
    return Side(model.name, [(run.files[task], read_checked(run.files[task])) for run in model.runs])


def read_checked(path: Path) -> TaskResult:
    result = files.read(path, tables=True)
    if result.subject.kind == "policy":
        raise ResultError(f"{path}: a result of a policy; reward models are compared")
    try:
        judged = ((example.id, example.cluster, example.labels) for example in examples_of(result))
        agrees = provenance.examples_sha256(judged) == result.dataset.examples_sha256
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{path.with_suffix('.parquet')}: no records of a result ({error})") from error
    if not agrees:
        raise ResultError(f"{path.with_suffix('.parquet')}: its examples or labels are not those of {path.name}")
    return result


def check_comparable(one: tuple[Path, TaskResult], other: tuple[Path, TaskResult]) -> None:
    """Raises ResultError with the first reason why two results of a task say nothing of each other."""
    (path, ours), (other_path, theirs) = one, other
    for what, a, b in (
        ("task versions", ours.task.version, theirs.task.version),
        ("protocols", ours.task.protocol, theirs.task.protocol),
        ("examples", ours.dataset.examples_sha256, theirs.dataset.examples_sha256),
        ("responses", ours.dataset.responses_sha256, theirs.dataset.responses_sha256),
    ):
        unknown = what == "responses" and None in (a, b)
        if a != b and not unknown:
            raise ResultError(
                f"{path} and {other_path} have different {what}: {_short(a)} and {_short(b)} "
                f"({_data(ours)}; {_data(theirs)})"
            )
    if _identity(ours) == _identity(theirs) and ours.records.equals(theirs.records):
        raise ResultError(f"the same result twice: {path} and {other_path}")


def _data(result: TaskResult) -> str:
    chosen = {name: value for name in ("limit", "deduplicate") if (value := result.config.get(name))}
    return ", ".join(
        [f"{result.dataset.source}: {result.dataset.examples:,} examples", *(f"{n}={v}" for n, v in chosen.items())]
    )


def _short(value: object) -> str:
    return str(value)[:12]
