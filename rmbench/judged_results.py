"""What the commands `compare`, `distances`, `correlate --mismatch`, `select`, `overoptimize` and `view` do, for
programs: of results in memory, their files, or folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rmbench.errors import ResultError, UsageError
from rmbench.results.schema import TaskResult

if TYPE_CHECKING:
    from rmbench.compare.distance_report import DistanceReport
    from rmbench.compare.report import ComparisonReport
    from rmbench.compare.selection import TaskSelection
    from rmbench.correlate.mismatch import MismatchReport
    from rmbench.optimise.report import OptimisationReport
    from rmbench.runs.loading import Data, TaskData
    from rmbench.runs.sampled import Asked
    from rmbench.runs.select import Selected
    from rmbench.scoring import Progress
    from rmbench.types import Example

Given = TaskResult | str | Path
_TABLES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")  # of rewards


def compare_results(
    *results: Given,
    groups: Mapping[str, Sequence[Given]] | None = None,
    tasks: Sequence[str] = (),
    metric: str | None = None,
    view: str | None = None,
    seed: int = 0,
) -> ComparisonReport:
    """The first model against every other, on the same examples of the tasks that they share, as `rmbench compare`.

    `groups` are seeds or checkpoints of one model, by the name that it is to have. Raises ResultError for results that
    did not judge the same, and UsageError for a metric, view or task that there is none of, with the close ones.

    >>> import rmbench
    >>> (longer,), (drawn,) = (rmbench.evaluate(model, ["best_of_n"], limit=20) for model in ("length", "random"))
    >>> [contrast.n for contrast in rmbench.compare_results(longer, drawn).tasks[0].contrasts if contrast.headline]
    [20]
    """
    from rmbench.compare.entrants import read_models
    from rmbench.compare.report import compare
    from rmbench.plugins import load_task

    with _as_files([results, *(groups or {}).values()]) as (paths, *grouped):
        models = read_models(paths, dict(zip(groups or {}, grouped, strict=True)))
        return compare(models, load_task, metric=metric, tasks=tasks, view=view, seed=seed)


def reward_distances(
    *results: Given, tasks: Sequence[str] = (), metric: str | None = None, view: str | None = None, seed: int = 0
) -> DistanceReport:
    """How far the rewards of several models are apart, and what they would choose and err in, as `rmbench distances`.

    Raises ResultError where no two models rewarded the same responses, UsageError for a metric, view or task that there
    is none of, with the close ones.

    >>> import rmbench
    >>> results = [rmbench.evaluate(model, ["best_of_n"], limit=20)[0] for model in ("length", "random")]
    >>> rmbench.reward_distances(*results).tasks[0].prompts
    20
    """
    from rmbench.compare.distances import distances
    from rmbench.compare.entrants import read_models
    from rmbench.plugins import load_task

    with _as_files([results]) as (paths,):
        return distances(read_models(paths, {}), load_task, tasks=tasks, metric=metric, view=view, seed=seed)


def objective_mismatch(*results: Given, benchmark: str, at_least: int = 6, seed: int = 0) -> MismatchReport:
    """What `benchmark` ranks against what selection ranks on the other tasks, as `rmbench correlate --mismatch`.

    `at_least` is how many models a correlation needs. Raises ResultError where there is nothing to hold against.

    >>> import rmbench
    >>> models, tasks = ("length", "random"), ["best_of_n", "rewardmath_mini"]
    >>> results = [result for model in models for result in rmbench.evaluate(model, tasks, limit=20)]
    >>> rmbench.objective_mismatch(*results, benchmark="best_of_n").benchmark
    'best_of_n'
    """
    from rmbench.correlate.mismatch import mismatch
    from rmbench.correlate.tables import read_aliases
    from rmbench.plugins import load_task
    from rmbench.results import collection

    with _as_files([results]) as (paths,):
        read = [collection.read_checked(path) for path in collection.result_files(paths)]
        return mismatch(read, benchmark, load_task, read_aliases(), at_least=at_least, seed=seed)


def selection_at_n(
    *results: Given,
    up_to: int | None = None,
    view: str | None = None,
    kl: bool = False,
    gold: Given | None = None,
    seed: int = 0,
) -> list[TaskSelection]:
    """What choosing among n by the rewards of `results` is worth, one entry a task, as `rmbench select --result`.

    Raises ResultError where they did not judge the same, and where a model gave no rewards.

    >>> import rmbench
    >>> (result,) = rmbench.evaluate("length", ["best_of_n"], limit=20)
    >>> [selection.task for selection in rmbench.selection_at_n(result)]
    ['best_of_n']
    """
    from rmbench.compare.selection import select

    with _as_files([results, [] if gold is None else [gold]]) as (paths, golden):
        return select(paths, up_to=up_to, view=view, kl=kl, gold=next(iter(golden), None), seed=seed)


def select_responses(file: str | Path, model: str, k: int = 1, **options: Any) -> Selected:
    """The `k` responses of a data file that `model` rewards most, for each prompt, best first, as `rmbench select`.

    `options` are those of the model, and `gold`, `columns` and `skip_bad_rows` of the command; `columns` of what comes
    back hold one value a response.

    >>> import json, pathlib, tempfile, rmbench
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "answers.jsonl"
    >>> _ = path.write_text(json.dumps({"prompt": "What is 2 + 2?", "responses": ["4", "It is 4."]}))
    >>> rmbench.select_responses(path, "length").columns["response"]
    ['It is 4.']
    """
    from rmbench.runs.select import select_file

    return select_file(model, Path(file), k, **options)


def overoptimize(
    *results: Given,
    models: Sequence[Any] | Mapping[str, Any] = (),
    samples: Data | None = None,
    gold: Any = None,
    views: Sequence[str] = (),
    up_to: int | None = None,
    good: float | None = None,
    label_noise: float = 0.0,
    measured: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    draws: int = 2000,
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    subset: Mapping[str, str | Sequence[str]] | None = None,
    fresh: bool = False,
    **options: Any,
) -> OptimisationReport:
    """What choosing the best of n of one policy's samples by each of several rewards does, as `rmbench overoptimize`.

    The rewards are those of `results` of one task, or of `models` (as `evaluate` takes them, or by the name that each
    is to have) on `samples`, a file or rows as the task `samples` reads; without these on the pool that comes along.
    `gold` is what a sample is worth, in place of its label: a column of `samples` (with results a tag), a model, a
    result of the same examples, or a file that `rmbench score` wrote. Each of `views` of each result takes part, else
    the primary one. Curves go to the fewest samples of a prompt, or to `up_to`, and prompts that have fewer are left
    out. A sample worth `good` or more is good; an oracle errs by `label_noise`; `measured` is a table of trained
    policies. The results of `models` are kept in `out`, with `overoptimize.json` and `overoptimize-figures.csv` and
    `.parquet`. `limit`, `subset` and `fresh` are those of `evaluate`, `options` those of the models; `results` take
    none of them. Raises UsageError, DataError, ModelError and ResultError.

    >>> import rmbench
    >>> rows = [{"prompt": f"{p}", "response": "x" * n, "gold": n == 4} for p in range(9) for n in range(1, 6)]
    >>> report = rmbench.overoptimize(models=["length"], samples=rows)
    >>> [entrant.best_n.value for entrant in report.entrants], report.entrants[0].gold_at_end.value
    ([2.0], 0.0)
    """
    from rmbench.runs.sampled import Asked

    named = dict(models) if isinstance(models, Mapping) else {}
    asked = [Asked(model, name, options) for name, model in named.items()]
    asked += [Asked(model, None, options) for model in models] if not named else []
    reading = {"columns": columns, "skip_bad_rows": skip_bad_rows, "limit": limit, "subset": subset, "fresh": fresh}
    if results and (idle := [name for name, value in {**reading, **options}.items() if value]):
        raise UsageError(f"{idle[0]} is for models that are asked about samples, and there are results")
    finding: dict[str, Any] = {"views": views, "up_to": up_to, "good": good, "label_noise": label_noise, "seed": seed}
    finding |= {"draws": draws, "measured": None if measured is None else Path(measured)}
    with _as_files([results]) as (paths,):
        return optimised(paths, asked, samples, gold, None if out is None else Path(out), reading, finding)


def optimised(
    results: Sequence[Path],
    asked: Sequence[Asked],
    samples: Data | None,
    gold: Any,
    out: Path | None,
    reading: Mapping[str, Any],
    finding: Mapping[str, Any],
    progress: Callable[[str], Progress] | None = None,
) -> OptimisationReport:
    """The report of result files, or of models that are `asked` about `samples` first; see `overoptimize`.

    `reading` is how samples are read, `finding` what `rmbench.optimise.compose.report_of` takes besides.
    """
    from rmbench.optimise.compose import check_numbers, report_of
    from rmbench.optimise.measured import read_measured
    from rmbench.optimise.pool import check_samples
    from rmbench.optimise.tables import write_tables
    from rmbench.results import files
    from rmbench.runs.sampled import Asked, column_names, evaluate_samples

    if bool(results) == bool(asked):
        given = "results and models" if results else "nothing"
        raise UsageError(f"got {given}; expected results, or models (-m) and a file of samples for them")
    if results and samples is not None:
        raise UsageError("samples are for models that are asked about them; results know theirs")
    check_numbers(*(finding[name] for name in ("up_to", "good", "label_noise", "draws")))
    policies = [] if finding["measured"] is None else read_measured(finding["measured"])  # before anything is scored
    if out is not None:
        files.check_writable(out)
    with TemporaryDirectory(prefix="rmbench-") as folder, _as_files([[gold] if _is_result(gold) else []]) as (truths,):
        kept, seed = Path(folder) if out is None else out, finding["seed"]
        columns = column_names(samples) if samples is not None and isinstance(gold, str) else []
        column = gold if gold in columns else None
        truth, named = (truths[0], str(gold)) if truths else _gold_of(gold, columns, results)
        if isinstance(truth, Asked) and truth.model in [one.model for one in asked]:
            raise UsageError(
                f"gold {gold!r:.80} is a model that is asked too; expected others, whose choices it judges"
            )

        def check(item: TaskData) -> None:
            where = f"{item.name} of {item.data.source}"
            check_samples(where, item.data.examples, is_judged=truth is not None)

        if asked:
            run = {**reading, "seed": seed, "progress": progress, "check": check}
            results = evaluate_samples(asked, samples, kept, gold=column, **run)
            if isinstance(truth, Asked):
                (truth,) = evaluate_samples([truth], samples, kept, gold=column, **run)
        report = report_of(results, gold=truth, gold_name=named, **{**finding, "measured": policies})
    if out is not None:
        write_tables(report, out)
    return report


def _is_result(gold: Any) -> bool:
    """Whether a gold is a result, in memory or on disk; a folder with a checkpoint in it is a model."""
    if not isinstance(gold, str | Path):
        return isinstance(gold, TaskResult)
    path = Path(gold)
    if any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        return False
    return (path.is_dir() and gold != "") or (path.suffix == ".json" and path.with_suffix(".parquet").is_file())


def _gold_of(gold: Any, columns: Sequence[str], results: Sequence[Path]) -> tuple[Any, str]:
    """What else a gold is, and what it is called: a column, a file of rewards, a tag of results, or a model."""
    from rmbench.models.spec import declared
    from rmbench.optimise.pool import OWN_LABELS
    from rmbench.runs.sampled import Asked
    from rmbench.runs.select import gold_rewards

    if gold is None:
        return None, OWN_LABELS
    if gold == "":
        raise UsageError("gold: no name; expected a column, a model, a result or a file of rewards")
    if gold in columns:
        return None, f"the column {gold}"
    if isinstance(gold, str | Path) and Path(gold).is_file() and Path(gold).suffix in _TABLES:
        return gold_rewards(Path(gold)), f"the rewards of {Path(gold).name}"
    if results:
        if not isinstance(gold, str):
            expected = "expected a result, a file of rewards or a tag of the samples"
            raise UsageError(f"gold {gold!r:.80}: results hold no texts for a model to read; {expected}")
        return gold, f"the tag {gold}"
    try:
        declared(gold)
    except UsageError as error:
        there = f"no column of the samples ({', '.join(columns)}), and " if columns else ""
        raise UsageError(f"gold {gold!r:.80}: {there}{error}") from None
    return Asked(gold), ""


def write_report(
    results: TaskResult | Sequence[Given], path: str | Path, texts: Mapping[str, Mapping[str, Example]] | None = None
) -> Path:
    """Writes one page about `results` to `path`, which it returns, as `rmbench run` does beside what it writes.

    `texts` are the examples of each task, by its name in the results and their ids; without them the page has those of
    rows that come with rmbench. Raises ResultError, as where the extra `site` is not installed.

    >>> import pathlib, tempfile, rmbench
    >>> (result,) = rmbench.evaluate("length", ["best_of_n"], limit=20)
    >>> rmbench.write_report(result, pathlib.Path(tempfile.mkdtemp()) / "report.html").name
    'report.html'
    """
    from rmbench.report import page
    from rmbench.results import collection, files

    read: list[TaskResult] = []
    for one in [results] if isinstance(results, TaskResult) else results:
        if isinstance(one, TaskResult):
            read.append(one)
        else:
            read += [files.read(file, tables=True) for file in collection.files_in([Path(one)])]
    page.write(read, bundled_texts(read) if texts is None else texts, Path(path))
    return Path(path)


def bundled_texts(results: Sequence[TaskResult]) -> Mapping[str, Mapping[str, Example]]:
    """The examples by id of each task whose own bundled rows are what was judged."""
    from rmbench.plugins import load_task, task_names
    from rmbench.runs.loading import load_tasks

    texts: dict[str, Mapping[str, Example]] = {}
    installed = task_names()
    for result in results:
        name, data, config = result.task.name, result.dataset, result.config.data
        if (
            name in texts
            or data.source != "bundled"
            or name not in installed
            or load_task(name).version != result.task.version
        ):
            continue
        choice = {option: config.get(option) for option in ("limit", "subset")}
        choice |= {"seed": config.get("seed", 0), "deduplicate": bool(config.get("deduplicate"))}
        (loaded,) = load_tasks([name], **choice)
        if loaded.data.sha256 == data.sha256:
            texts[name] = {example.id: example for example in loaded.data.examples}
    return texts


@contextmanager
def _as_files(many: Sequence[Sequence[Given]]) -> Iterator[list[list[Path]]]:
    """The same as paths; what is in memory is written meanwhile, each into a folder of its own."""
    from rmbench.results import files

    with TemporaryDirectory(prefix="rmbench-") as folder:
        paths: list[list[Path]] = []
        for place, given in enumerate(many):
            paths.append([])
            for number, one in enumerate(given):
                if isinstance(one, str | Path):
                    paths[-1].append(Path(one))
                elif not isinstance(one, TaskResult):
                    raise UsageError(f"expected a result, its file or a folder of results, got {one!r:.80}")
                elif one.records is None:
                    raise ResultError(f"{one}: read without its records; expected files.read(path, tables=True)")
                else:
                    paths[-1].append(files.write(one, Path(folder) / f"{place}-{number}"))
        yield paths
