"""What selecting among n by a reward is worth, from result files alone: `selection_at_n` of several rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rmbench.compare.entrants import unknown
from rmbench.errors import ResultError
from rmbench.metrics import best_of, selection
from rmbench.metrics.interval import Estimate, estimate
from rmbench.results import collection, files
from rmbench.results.collection import check_comparable, read_checked, result_files, why_not
from rmbench.results.document import as_json
from rmbench.results.replay import outcomes_of
from rmbench.results.schema import TaskResult
from rmbench.types import Outcome

_EACH_UP_TO = 16


@dataclass(frozen=True)
class AtN:
    """What the choice among `n` gives: by each model's reward, how far that is above chance, and without a reward.

    `majority` is None where no response has an answer, `kl` where it was not asked for.
    """

    n: int
    selected: Mapping[str, Estimate]
    gain: Mapping[str, Estimate]
    reward: Mapping[str, Estimate]
    oracle: Estimate
    majority: Estimate | None
    kl: float | None


@dataclass(frozen=True)
class TaskSelection:
    """One task: the `examples` that count for every model, those left out by reason, and what each n gives."""

    task: str
    version: int
    models: Sequence[str]
    examples: int
    left_out: Mapping[str, int]
    random: Estimate
    rows: Sequence[AtN]

    def json(self) -> str:
        """Everything in it; what is no number is null."""
        return as_json(self)


def select(
    paths: Sequence[Path],
    *,
    up_to: int | None = None,
    view: str | None = None,
    kl: bool = False,
    gold: Path | None = None,
    seed: int = 0,
) -> list[TaskSelection]:
    """`selection_at_n` of the results in `paths`, result files or folders of them; one entry a task.

    Every n is over the same examples. n goes to the smallest number of candidates of an example, or to `up_to`, and
    then examples with fewer candidates are left out. An example without a reward by one of the models is left out for
    all. `view` is each model's primary one unless told. With `kl` each n has the KL divergence of best-of-n from its
    policy. What a response is worth is its label, or its reward in the result `gold` of the same examples. Raises
    ResultError where results did not judge the same examples, where a model only compared, where no example counts,
    and, with `kl`, where the responses are not all by one policy.
    """
    tasks: dict[str, list[tuple[Path, TaskResult]]] = {}
    for path in _result_files(paths):
        result = read_checked(path)
        tasks.setdefault(result.task.name, []).append((path, result))
    truths = {result.task.name: (path, result) for path, result in map(_read, _result_files([gold]) if gold else ())}
    if gold and not truths.keys() >= tasks.keys():
        lacking = ", ".join(tasks.keys() - truths.keys())
        raise ResultError(f"{gold}: no result of {lacking}; gold is a result of the same examples")
    return [_select(task, results, truths.get(task), up_to, view, kl, seed) for task, results in tasks.items()]


def judged(
    name: str, model: str, outcomes: Sequence[Outcome], *, up_to: int | None = None, kl: bool = False, seed: int = 0
) -> TaskSelection:
    """The same of outcomes that no result is of: what `model` chooses by their view `default`, by their labels, which
    are no shares, whatever their range.

    `name` stands for the task, which has no version (0). Raises ResultError as `select` does.
    """
    figured = _figured(name, 0, [model], ["default"], [outcomes], name, up_to=up_to, kl=kl, seed=seed)
    rows = [
        replace(
            row,
            selected={one: _number(figure) for one, figure in row.selected.items()},
            oracle=_number(row.oracle),
            majority=row.majority and _number(row.majority),
        )
        for row in figured.rows
    ]
    return replace(figured, random=_number(figured.random), rows=rows)


def _number(figure: Estimate) -> Estimate:
    return replace(figure, kind="number")


def _read(path: Path) -> tuple[Path, TaskResult]:
    return path, read_checked(path)


def _select(
    task: str,
    results: Sequence[tuple[Path, TaskResult]],
    gold: tuple[Path, TaskResult] | None,
    up_to: int | None,
    view: str | None,
    kl: bool,
    seed: int,
) -> TaskSelection:
    (first_path, first), *others = results
    for other in others:
        check_comparable(results[0], other)
    names = collection.names([result for _, result in results])
    views = [_view(path, result, view) for path, result in results]
    seen: Sequence[Sequence[Outcome]] = [outcomes_of(result) for _, result in results]
    if gold is not None:
        seen = [_with_gold(outcomes, path, gold) for outcomes, (path, _) in zip(seen, results, strict=True)]
    return _figured(task, first.task.version, names, views, seen, str(first_path), up_to=up_to, kl=kl, seed=seed)


def _with_gold(outcomes: Sequence[Outcome], path: Path, gold: tuple[Path, TaskResult]) -> list[Outcome]:
    """The outcomes with the rewards of another result for their labels."""
    where, result = gold
    reason = why_not(result, files.read(path, tables=True))
    if reason is not None and not reason.startswith("different orders"):
        raise ResultError(f"{path} and {where} have {reason}; gold is a result of the same examples")
    view = _view(where, result, None)
    scores = {one.example_id: one.views[view].scores for one in outcomes_of(result) if view in one.views}
    unknown = [np.full(len(outcome.labels), np.nan) for outcome in outcomes]
    return [
        replace(outcome, labels=nans if (labels := scores.get(outcome.example_id)) is None else labels)
        for outcome, nans in zip(outcomes, unknown, strict=True)
    ]


def _figured(
    task: str,
    version: int,
    names: Sequence[str],
    views: Sequence[str],
    seen: Sequence[Sequence[Outcome]],
    where: str,
    *,
    up_to: int | None,
    kl: bool,
    seed: int,
) -> TaskSelection:
    counted, left_out = _counted(seen, views, up_to)
    if not counted[0]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in left_out.items())
        raise ResultError(f"{task}: no example of {where} says anything of a selection: {reasons or 'it has none'}")
    if kl:
        _check_one_policy(task, where, counted[0])
    sizes = _sizes(up_to or min(len(outcome.labels) for outcome in counted[0]))
    by_name = {
        name: _figures(outcomes, one, sizes, seed) for name, outcomes, one in zip(names, counted, views, strict=True)
    }
    rows = [_at(n, by_name, kl) for n in sizes]
    random = by_name[names[0]]["selection_random"]
    return TaskSelection(task, version, names, len(counted[0]), left_out, random, rows)


def _result_files(paths: Sequence[Path]) -> list[Path]:
    result_paths = result_files(paths)
    if not result_paths:
        raise ResultError(f"{paths[0]}: no results of reward models under it")
    return result_paths


def _view(path: Path, result: TaskResult, view: str | None) -> str:
    if result.scale is None:
        raise ResultError(
            f"{path}: {result.subject.id} only compared pairs; a selection needs a reward of each response"
        )
    views = result.views
    if view is not None and view not in views:
        raise ResultError(f"{path}: {unknown('view', view, views)}")
    return view or result.primary_view


def _counted(
    seen: Sequence[Sequence[Outcome]], views: Sequence[str], up_to: int | None
) -> tuple[list[list[Outcome]], dict[str, int]]:
    """The outcomes of the examples that count for every model, in one order, and how many do not, by reason."""
    by_id = [{outcome.example_id: outcome for outcome in outcomes} for outcomes in seen]
    kept, left_out = list[str](), Counter[str]()
    for name in by_id[0]:
        reasons = [
            selection.reason_left_out(side[name], view, up_to or 1) for side, view in zip(by_id, views, strict=True)
        ]
        reason = next(filter(None, reasons), "")
        if reason:
            left_out[reason] += 1
        else:
            kept.append(name)
    return [[side[name] for name in kept] for side in by_id], dict(left_out)


def _check_one_policy(task: str, where: str, outcomes: Sequence[Outcome]) -> None:
    wrote = selection.policies(outcomes)
    if len(wrote) == 1 and None not in wrote:
        return
    told = ", ".join(f"{policy or 'not said'} {count:,}" for policy, count in wrote.most_common(4))
    more = ", ..." if len(wrote) > 4 else ""
    raise ResultError(
        f"{task}: {where}: --kl is of best-of-n from one policy, tag `policy`; these responses are by {told}{more}"
    )


def _sizes(most: int) -> list[int]:
    """Every n to 16, then doubling, and the last."""
    doubled = [_EACH_UP_TO << step for step in range(1, most.bit_length()) if _EACH_UP_TO << step < most]
    last = [most] if most > _EACH_UP_TO else []
    return [*range(1, min(most, _EACH_UP_TO) + 1), *doubled, *last]


def _figures(outcomes: Sequence[Outcome], view: str, sizes: Sequence[int], seed: int) -> dict[str, Estimate]:
    statistics = selection.statistics(selection.choices(outcomes, view, sizes, seed=seed))
    return {one.name: one for one in estimate(statistics, [outcome.cluster for outcome in outcomes], seed=seed)}


def _at(n: int, estimates: Mapping[str, Mapping[str, Estimate]], kl: bool) -> AtN:
    name = f"selection_at_{n}"
    first = next(iter(estimates.values()))
    return AtN(
        n,
        selected={model: figures[name] for model, figures in estimates.items()},
        gain={model: figures[f"{name}_gain"] for model, figures in estimates.items()},
        reward={model: figures[f"{name}_reward"] for model, figures in estimates.items()},
        oracle=first[f"{name}_oracle"],
        majority=first[f"{name}_majority"] if first[f"{name}_majority"].n else None,
        kl=float(best_of.kl([n])[0]) if kl else None,
    )
