"""What the commands `compare`, `select` and `view` do, for programs: of results in memory, their files, or folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rmbench.errors import ResultError, UsageError
from rmbench.results.schema import TaskResult

if TYPE_CHECKING:
    from rmbench.compare.report import ComparisonReport
    from rmbench.compare.selection import TaskSelection
    from rmbench.runs.select import Selected
    from rmbench.types import Example

Given = TaskResult | str | Path


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
