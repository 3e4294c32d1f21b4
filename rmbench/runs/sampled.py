"""Reward models asked about samples of one policy: results of the task `samples`, or of a pool that comes along."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rmbench.data.files import rows_of
from rmbench.errors import UsageError
from rmbench.results import files
from rmbench.runs.evaluate import evaluations
from rmbench.runs.loading import Data, Failed, TaskData, load_tasks
from rmbench.scoring import Progress

SAMPLES, BUNDLED = "samples", "one_sentence"


@dataclass(frozen=True)
class Asked:
    """A model as `evaluate` takes it, with the options that are its own and, where it has one, its name in results."""

    model: Any
    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is called while it runs."""
        return self.name or str(self.model)


def evaluate_samples(
    asked: Sequence[Asked],
    samples: Data | None,
    out: Path,
    *,
    gold: str | None = None,
    check: Callable[[TaskData], None] | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    fresh: bool = False,
    progress: Callable[[str], Progress] | None = None,
    **choice: Any,
) -> list[Path]:
    """The result files, under `out`, of each model on `samples`: a file, rows, or None for the pool that comes along.

    `gold` is the column that says what a sample is worth; `choice` and `columns` are those of `load_tasks`. What
    `check` finds wrong with the samples is raised before a model is asked. The first model that fails raises its error;
    what was scored is kept, so that the same call goes on from there.
    """
    if samples is None and (gold or columns):
        raise UsageError(
            f"{'gold' if gold else 'columns'}: the pool that comes along has its own; give a file of samples"
        )
    if samples is None:
        (item,) = load_tasks([BUNDLED], seed=seed, **choice)
    else:
        renamed = {**(columns or {}), **({} if gold is None else {"gold": gold})} or None
        (item,) = load_tasks([SAMPLES], data={SAMPLES: samples}, columns=renamed, seed=seed, **choice)
    if check is not None:
        check(item)
    return [_evaluated(one, item, out, seed, fresh, progress) for one in asked]


def _evaluated(
    asked: Asked, item: TaskData, out: Path, seed: int, fresh: bool, progress: Callable[[str], Progress] | None
) -> Path:
    shown = None if progress is None else progress(asked.label)
    options = dict(asked.options)
    (evaluation,) = evaluations(
        asked.model, [item], out=out, name=asked.name, seed=seed, fresh=fresh, progress=shown, **options
    )
    if isinstance(evaluation, Failed):
        raise evaluation.error
    return out / files.result_path(evaluation)


def column_names(samples: Data) -> list[str]:
    """The columns of the first rows of samples."""
    return list(dict.fromkeys(name for row in islice(rows_of(samples), 8) for name in row.given))
