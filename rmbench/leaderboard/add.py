"""`add`: puts results that agree with their records into a board's folder, and never takes one away unasked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rmbench.errors import ResultError
from rmbench.leaderboard.build import tables_of
from rmbench.leaderboard.entries import Find, read_result
from rmbench.results import files
from rmbench.results.schema import TaskResult


def add(paths: Sequence[Path], results_folder: Path, find: Find, *, replace: bool = False) -> list[Path]:
    """Copies each result with its records, and returns where it then is; nothing is copied unless all can be.

    Raises ResultError for a result that its records do not give, or of which no table can be made, for two of `paths`
    that belong in one place, and, unless `replace`, where another result stands in the place of one.
    """
    targets: dict[Path, tuple[Path, TaskResult]] = {}
    for path in paths:
        result = read_result(path, find)
        tables_of([result], find)
        target = results_folder / files.result_path(result)
        if target in targets:
            raise ResultError(f"{path} and {targets[target][0]} both belong at {target}; add one of them")
        _check_place(path, result, target, replace=replace)
        targets[target] = path, result
    return [files.write(result, results_folder) for _, result in targets.values()]


def _check_place(path: Path, result: TaskResult, target: Path, *, replace: bool) -> None:
    if not target.exists() or replace:
        return
    there = files.read(target)
    if there.model_dump() != result.model_dump():
        raise ResultError(
            f"{target}: holds another result, made {there.created}; {path} was made {result.created}; "
            "--replace puts it in the place of the other"
        )
