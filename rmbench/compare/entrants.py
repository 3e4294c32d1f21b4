"""Who is compared: runs read from result files, and the reasons why two results say nothing of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path

from rmbench.errors import ResultError, UsageError
from rmbench.results.collection import Run, check_comparable, read_checked, result_files, run_names, runs
from rmbench.results.schema import TaskResult


@dataclass(frozen=True)
class ComparedModel:
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
    def is_limited(self) -> bool:
        """Whether `--limit` cut off the examples that it was run on."""
        return any(result.config.data.get("limit") for _, result in self.results)

    @property
    def part(self) -> str:
        """Which part of the task it was run on, "" where every run was of the whole."""
        return next((part for _, result in self.results if (part := result.dataset.part)), "")

    @property
    def views(self) -> list[str]:
        """The views that every run has."""
        (_, first), *others = self.results
        return [view for view in first.views if all(view in result.views for _, result in others)]


def read_models(paths: Sequence[Path], groups: Mapping[str, Sequence[Path]]) -> list[ComparedModel]:
    """Every run in `paths` as a model, then each of `groups` as one. Raises ResultError and UsageError."""
    runs = [run for path in paths for run in _runs(path)]
    names = run_names(runs)
    for name in set(groups) & set(names):
        raise UsageError(f"--group {name}: a model has that name; give the group another")
    models = [ComparedModel(name, [run]) for name, run in zip(names, runs, strict=True)]
    models += [
        ComparedModel(name, [run for path in folders for run in _runs(path)]) for name, folders in groups.items()
    ]
    if len(models) < 2:
        given = f"only {models[0].name} is" if models else "nothing is"
        raise UsageError(f"{given} given; a comparison needs two models or more (their results, files or folders)")
    _refuse_repeated([path for model in models for run in model.runs for path in run.files.values()])
    return models


def shared_tasks(models: Sequence[ComparedModel], wanted: Sequence[str]) -> list[str]:
    """The tasks that two models or more have, or those of them that are wanted, in the order of the models'."""
    tasks = {model.name: list(dict.fromkeys(task for run in model.runs for task in run.files)) for model in models}
    names = list(dict.fromkeys(task for own in tasks.values() for task in own))
    for task in wanted:
        if task not in names:
            raise UsageError(unknown("task", task, names))
    shared = [task for task in wanted or names if sum(task in own for own in tasks.values()) > 1]
    if not shared:
        have = "; ".join(f"{name} has {', '.join(own)}" for name, own in tasks.items())
        raise ResultError(f"no task in common: {have}")
    return shared


def sides_of(task: str, models: Sequence[ComparedModel]) -> tuple[list[Side], list[str]]:
    """Those models that can be compared with each other on a task, and a line for each that cannot be with them.

    Of several sets of such models it is one of whole runs if there is any, then one of a subset, then the largest,
    then the first.
    """
    groups, refused, members = list[list[Side]](), list[str](), dict[str, Side]()
    for model in models:
        try:
            members[model.name] = side = _side(task, model)
        except ResultError as error:
            refused.append(f"{task}: {model.name} is not compared: {error}")
            continue
        joined = next((group for group in groups if not any(_why_not(side, other) for other in group)), None)
        if joined is None:
            groups.append([side])
        else:
            joined.append(side)
    if not groups:
        return [], refused
    several = [group for group in groups if len(group) > 1] or groups[:1]
    chosen = min(several, key=lambda group: (is_try(group), is_part(group), -len(group)))
    left = [side for side in members.values() if side not in chosen]
    return chosen, refused + [f"{task}: {side.name} is not compared: {_reason(side, chosen)}" for side in left]


def is_try(sides: Sequence[Side]) -> bool:
    """Whether `--limit` cut off the examples of all of these results: what they say is of a part that nobody chose."""
    return all(side.is_limited for side in sides)


def is_part(sides: Sequence[Side]) -> bool:
    """Whether all of these results are of a part of the task: a subset, or a try."""
    return all(side.part for side in sides)


def part_notes(sides: Sequence[Side]) -> list[str]:
    """What a reader must know where results are not of a whole task."""
    notes = []
    if is_try(sides):
        notes.append("a try, of examples that --limit cut off: it decides nothing; run the task whole")
    if parts := list(dict.fromkeys(side.part for side in sides if side.part)):
        notes.append(f"no whole task: {'; '.join(parts)}")
    return notes


def _reason(side: Side, chosen: Sequence[Side]) -> str:
    if side.is_limited and not is_try(chosen):
        _, result = side.results[0]
        limit = result.config.data["limit"]
        return f"a try of {result.dataset.examples:,} examples (--limit {limit}), where there are whole runs"
    if side.part and not is_part(chosen):
        return f"of a part, {side.part}, where there are whole runs"
    return next(filter(None, (_why_not(side, other) for other in chosen)), "")


def _why_not(side: Side, other: Side) -> str | None:
    """Why two models cannot be compared; None where they can."""
    try:
        for one in other.results:
            for mine in side.results:
                check_comparable(one, mine, again=True)
    except ResultError as error:
        return str(error)
    return None


def unknown(what: str, name: str, names: Sequence[str]) -> str:
    """`unknown <what> 'name' (did you mean 'x'?)`, and what there is."""
    close = get_close_matches(name, names, n=1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown {what} {name!r}{meant}; there is {', '.join(names) or 'none'}"


def _runs(path: Path) -> list[Run]:
    """The runs that a result file, or a folder with result files under it, holds."""
    paths = result_files([path])
    if not paths:
        raise ResultError(f"{path}: no results of reward models, with their records, under it")
    return runs(paths)


def _refuse_repeated(paths: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise ResultError(f"the same result twice: {seen[path.resolve()]} and {path}")
        seen[path.resolve()] = path


def _side(task: str, model: ComparedModel) -> Side:
    for run in model.runs:
        if task not in run.files:
            raise ResultError(f"{run.name} was not run on it")
    results = [(run.files[task], read_checked(run.files[task])) for run in model.runs]
    for one, other in combinations(results, 2):
        check_comparable(one, other)
    return Side(model.name, results)
