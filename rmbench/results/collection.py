"""Many results: where they are, which of them are one run, what to call them, and which may be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rmbench.errors import ResultError
from rmbench.results import files, provenance
from rmbench.results.replay import data_hashes
from rmbench.results.schema import TaskResult

Kind = Literal["reward_model", "policy"]


@dataclass(frozen=True)
class Run:
    """One evaluation of one model: the result file of each task, at least one."""

    id: str
    files: Mapping[str, Path]

    @property
    def name(self) -> str:
        """The id, with the folder of its first result: other revisions and configurations have another."""
        return f"{self.id} ({next(iter(self.files.values())).parent.name})"


def result_files(paths: Iterable[Path], kind: Kind = "reward_model") -> list[Path]:
    """The files of results in `paths`, which are files or folders of them: in a folder those with their records beside
    them, of that kind of subject. Each stands once. Raises ResultError.
    """
    given = [*paths]
    return [path for path in files_in(given) if path in given or files.read(path).subject.kind == kind]


def files_in(paths: Iterable[Path]) -> list[Path]:
    """`paths`, and in place of a folder the files in it that have records beside them, unread. Each stands once."""
    result_paths = []
    for path in paths:
        inside = sorted(path.rglob("*.json")) if path.is_dir() else None
        result_paths += [path] if inside is None else [file for file in inside if file.with_suffix(".parquet").exists()]
    return list({path.resolve(): path for path in result_paths}.values())


def nothing_in(paths: Sequence[Path]) -> ResultError:
    """That there is no result in `paths`."""
    named = ", ".join(map(str, paths))
    return ResultError(f"{named}: no results in it; `rmbench run --out {paths[0]}` writes some")


def read_checked(path: Path) -> TaskResult:
    """A reward model's result with its tables, which are as they were written. Raises ResultError."""
    result = read_whole(path)
    if result.subject.kind == "policy":
        raise ResultError(f"{path}: a result of a policy; reward models are compared")
    return result


def read_whole(path: Path) -> TaskResult:
    """A result with its tables, which are as they were written. Raises ResultError."""
    result = files.read(path, tables=True)
    records = path.with_suffix(".parquet")
    try:
        judged = result.subject.kind == "reward_model"
        agrees = not judged or data_hashes(result.records).examples == result.dataset.examples_sha256
        columns = provenance.columns_of(result.records, result.requests)
    except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError, NotImplementedError) as error:
        raise ResultError(f"{records}: no records of a result ({error})") from error
    if not agrees:
        raise ResultError(f"{records}: its examples or labels are not those of {path.name}")
    for table, file in (("candidates", records), ("requests", files.requests_path(path))):
        if columns.get(table) != result.columns.get(table):
            raise ResultError(f"{file}: damaged, or of another result: its columns are not those of {path.name}")
    return result


def runs(paths: Iterable[Path]) -> list[Run]:
    """The runs that result files are of, in their order: one model, settings and choice of data, one file a task.

    A task that was run twice so, on data of the user's own, makes another run.
    """
    gathered: list[tuple[Path, str, dict[str, Path]]] = []
    for file in paths:
        result = files.read(file)
        task, identity = result.label, files.result_folder(result)
        tasks = next((tasks for other, _, tasks in gathered if other == identity and task not in tasks), None)
        if tasks is None:
            tasks = {}
            gathered.append((identity, result.subject.id, tasks))
        tasks[task] = file
    return [Run(model, tasks) for _, model, tasks in gathered]


def run_names(gathered: Sequence[Run]) -> list[str]:
    """A name for each run that no other has: its id where that is enough."""
    ids = Counter(run.id for run in gathered)
    names = [run.id if ids[run.id] == 1 else run.name for run in gathered]
    return [name if names.count(name) == 1 else f"{name} #{place}" for place, name in enumerate(names, start=1)]


def names(results: Sequence[TaskResult]) -> list[str]:
    """A name for each result of one task: its model's id, with revision and configuration where another has that id."""
    ids = Counter(result.subject.id for result in results)
    named = [
        f"{result.subject.id} ({files.result_folder(result).name})" if ids[result.subject.id] > 1 else result.subject.id
        for result in results
    ]
    return [name if named.count(name) == 1 else f"{name} #{place}" for place, name in enumerate(named, start=1)]


def stands(result: TaskResult) -> set[str]:
    """The statuses that are answers: with a verdict that could not be read where the task says what it is worth."""
    return {"ok", "inf"} if result.task.null_verdict == "no answer" else {"ok", "inf", "refused"}


def is_answered(result: TaskResult) -> bool:
    """Whether every request has an answer, and every example by its primary view."""
    return result.statuses.keys() <= stands(result) and "no answer" not in result.left_out.get(result.primary_view, {})


def groups(results: Sequence[TaskResult]) -> dict[str, dict[str, list[TaskResult]]]:
    """Results by task, and by a title that those share that may be compared with each other.

    The title names version, orders, examples, the part of the task that they are where all chose one, and, where there
    are several, responses. Results whose responses are not
    known go with any, and stand apart only where the others do not agree among themselves.
    """
    tasks: dict[str, dict[str, list[TaskResult]]] = {}
    for result in results:
        siblings = [other for other in results if _asked(other) == _asked(result)]
        examples = result.dataset.examples_sha256[:8]
        if len({other.dataset.responses_sha256 for other in siblings} - {None}) > 1:
            examples += f"-{(result.dataset.responses_sha256 or 'unknown')[:8]}"
        parts = {other.dataset.part for other in siblings if all(one.is_part for one in siblings)}
        part = f"({parts.pop()})" if len(parts) == 1 and any(parts) else ""
        title = " ".join(filter(None, [f"v{result.task.version}", result.task.orders, examples, part]))
        tasks.setdefault(result.task.name, {}).setdefault(title, []).append(result)
    return tasks


def check_comparable(one: tuple[Path, TaskResult], other: tuple[Path, TaskResult], *, again: bool = False) -> None:
    """Raises ResultError with the first reason why two results of a task say nothing of each other.

    One is no copy of the other; with `again` it may be the same evaluation, made once more.
    """
    (path, ours), (other_path, theirs) = one, other
    reason = why_not(ours, theirs)
    if reason is not None:
        raise ResultError(f"{path} and {other_path} have {reason} ({_data(ours)}; {_data(theirs)})")
    same = files.result_folder(ours) == files.result_folder(theirs)
    if same and ours.records.equals(theirs.records) and not (again and ours.model_dump() != theirs.model_dump()):
        raise ResultError(f"the same result twice: {path} and {other_path}")


def why_not(ours: TaskResult, theirs: TaskResult) -> str | None:
    """Why two results of a task may not be compared, as in "different examples: ..."; None where they may."""
    for what, a, b in (
        ("task versions", ours.task.version, theirs.task.version),
        ("orders", ours.task.orders, theirs.task.orders),
        ("examples", ours.dataset.examples_sha256, theirs.dataset.examples_sha256),
        ("responses", ours.dataset.responses_sha256, theirs.dataset.responses_sha256),
    ):
        unknown = what == "responses" and None in (a, b)
        if a != b and not unknown:
            return f"different {what}: {_short(a)} and {_short(b)}"
    return _other_text(ours, theirs)


def _other_text(ours: TaskResult, theirs: TaskResult) -> str | None:
    """Of results that do not know all of their texts: the first candidate whose text both know, and is another."""
    if ours.records is None or theirs.records is None:
        return None
    if None not in (ours.dataset.responses_sha256, theirs.dataset.responses_sha256):
        return None
    texts = [_texts(result) for result in (ours, theirs)]
    for place, text in texts[0].items():
        if texts[1].get(place, text) != text:
            return f"different responses: candidate {place[1]} of example {place[0]} is another text"
    return None


def _texts(result: TaskResult) -> dict[tuple[str, int], tuple[str, int]]:
    """Hash and length of each candidate's text, where they are known."""
    names = ("example_id", "candidate", "text_hash", "characters")
    rows = zip(*(result.records[name].to_pylist() for name in names), strict=True)
    return {(example, candidate): (text, length) for example, candidate, text, length in rows if text is not None}


def _asked(result: TaskResult) -> tuple[Any, ...]:
    return result.task.name, result.task.version, result.task.orders, result.dataset.examples_sha256


def _data(result: TaskResult) -> str:
    chosen = {
        name: value for name in ("limit", "drawn", "subset", "deduplicate") if (value := result.config.data.get(name))
    }
    return ", ".join(
        [f"{result.dataset.source}: {result.dataset.examples:,} examples", *(f"{n}={v}" for n, v in chosen.items())]
    )


def _short(value: object) -> str:
    return str(value)[:12]
