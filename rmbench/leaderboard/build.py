"""`build`: from a folder of results to tables, one a task and a summary. The same results give the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rmbench.errors import ResultError
from rmbench.leaderboard.columns import COLUMNS, NOTHING, Column, count, figure, inert, text, with_own
from rmbench.leaderboard.entries import BoardRow, Find, Section, read_results, sections
from rmbench.metrics.interval import mean_interval
from rmbench.plugins import load_task
from rmbench.results import provenance
from rmbench.results.digest import digest
from rmbench.results.files import put
from rmbench.results.schema import Metric, TaskResult

_NOTE = """\
[ ] is the 95 % interval. The best model leads tier 1, with every model that a cluster sign-flip test on the
same examples cannot tell from it at 5 %; the best of the rest leads tier 2, and so on. p is that of the difference from
the leader of the tier, by Holm over all pairs of models, so that of equal ones a second tier is seen in at most 5 % of
tables. Models are ranked by their primary view; other views stand below, without a tier. A model that left examples
unanswered has no tier and stands behind the others, by name; its figures are over what it answered, `n`. Accuracy is
strict: a tie is no win. `n` examples count in the headline (as many independent ones tell as much);
`unanswered` counts requests without a reward. ECE is the debiased calibration error of reward differences, taken as
log odds and after a temperature fitted out of fold. AUC is the share of pairs of a right and a wrong response that are
won, at equal length the same with the effect of length taken out: of pairs, where accuracy is of examples.
Predicted Arena is the score of a policy trained on the reward, by a line through the models here that
`policy_results/` knows (several rows of one count as their mean), with a prediction interval; a dash where they are
fewer than 6. Other columns without a value are not shown.
"""
_MADE = (
    "Made by `rmbench leaderboard build` from the files in `results/`; `rmbench leaderboard check` finds what differs."
)
_TITLE = """\
# Summary

The headline of each task in %, with its 95 % interval, where it is a share of which more is better; the mean over
every task that some model here was run whole on and answered whole, for models that did so on all of them. Of a process
reward model, its primary view.
"""
_COUNTED = """\
A figure is of the section with the most answers, models that answered everything times examples:

"""


@dataclass(frozen=True)
class Entrant:
    """A row of the summary: a model, and its row on each task that it was run on."""

    model: str
    revision: str
    fingerprint: str
    rows: Mapping[str, BoardRow]
    mean: Metric | None

    @property
    def name(self) -> tuple[str, str, str]:
        """What no other row has."""
        return self.model, self.revision, self.fingerprint

    @property
    def unanswered(self) -> str:
        """The tasks with examples that it left unanswered, how many of them, and what its figure is at least."""
        return "; ".join(
            f"{task}: {row.standing.lost:,} of {row.result.dataset.examples:,}"
            + ("" if row.standing.at_least is None else f", at least {100 * row.standing.at_least:.1f}")
            for task, row in self.rows.items()
            if row.standing.lost
        )


class ScoredModel(NamedTuple):
    """What was scored, whatever the task; `fingerprint` takes in the run of code that has none."""

    model: str
    revision: str | None
    fingerprint: str


def build(results_folder: Path, out_folder: Path, find: Find = load_task) -> list[Path]:
    """Writes the tables and returns their paths; `find` gives the task of a name. Raises ResultError."""
    written = []
    for name, content in tables(results_folder, find).items():
        try:
            out_folder.mkdir(parents=True, exist_ok=True)
            put(out_folder / name, content.encode())
        except OSError as error:
            raise ResultError(f"{out_folder / name}: cannot be written ({error.strerror})") from error
        written.append(out_folder / name)
    return written


def tables(results_folder: Path, find: Find = load_task) -> dict[str, str]:
    """File name -> content of every table that the results in a folder give. Raises ResultError."""
    return tables_of(read_results(results_folder, find), find)


def tables_of(results: Sequence[TaskResult], find: Find) -> dict[str, str]:
    """The same of results that have been read and verified."""
    tasks = sections(results, find)
    made = {}
    for task, parts in tasks.items():
        made[f"{task}.md"] = "\n".join([f"# {inert(task)}\n", f"{_MADE}\n", _NOTE, *map(_section_markdown, parts)])
        made[f"{task}.csv"] = _csv(parts)
    # what is no share of which more is better has no place in a mean of such
    shares = {task: parts for task, parts in tasks.items() if _is_share(parts[0])}
    entrants = _entrants({task: parts[0] for task, parts in shares.items()})
    columns = _summary_columns(list(shares))
    counted = [f"- {inert(task)}: {_size(part)}\n" for task, (part, *_) in shares.items()]
    others = [f"{task}: {len(parts) - 1}" for task, parts in shares.items() if len(parts) > 1]
    note = f"{_COUNTED}{''.join(counted)}" if counted else ""
    note += f"\nSections of other examples that are not counted here: {', '.join(others)}.\n" if others else ""
    shown = [column for column in columns if column.always or any(column.markdown(one) for one in entrants)]
    made["summary.md"] = f"{_TITLE}\n{note}\n{_MADE}\n\n{_markdown(shown, entrants)}"
    made["summary.csv"] = _frame_csv(_frame(columns, entrants))
    return made


def _is_share(section: Section) -> bool:
    definition = section.definition
    return definition is not None and definition.kind != "number" and definition.better == "higher"


def _size(section: Section) -> str:
    models = f"{section.models:,} model{'' if section.models == 1 else 's'}"
    return f"{inert(section.name)}, {section.examples:,} examples, {models}"


def _section_markdown(section: Section) -> str:
    data = section.results[0].dataset
    size = f"{data.examples:,} examples, {data.candidates:,} candidates"
    columns = _columns(section)
    parts = [f"## {inert(section.name)}: {size}", _shown(columns, section.rows)]
    if section.others:
        parts += ["Other views, not ranked:", _shown([c for c in columns if not c.always], section.others)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _shown(columns: Sequence[Column], rows: Sequence[BoardRow]) -> str:
    filled = [column for column in columns if column.always or any(column.markdown(row) != NOTHING for row in rows)]
    return _markdown(filled, rows)


def _columns(section: Section) -> list[Column]:
    return with_own(COLUMNS, digest(section.results))


def _csv(parts: Sequence[Section]) -> str:
    """One table with a column that names the section; other views behind the models that are ranked."""
    import pandas as pd

    frames = [_frame([_name_column(part), *_columns(part)], [*part.rows, *part.others]) for part in parts]
    return _frame_csv(pd.concat(frames, ignore_index=True))


def _name_column(section: Section) -> Column:
    return text("section", lambda _: section.name)


def _frame(columns: Sequence[Column], rows: Sequence[Any]) -> Any:
    import pandas as pd

    return pd.DataFrame([{name: cell for c in columns for name, cell in c.csv(row).items()} for row in rows], dtype=str)


def _frame_csv(frame: Any) -> str:
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _markdown(columns: Sequence[Column], rows: Sequence[Any]) -> str:
    from tabulate import tabulate

    cells = [[column.markdown(row) for column in columns] for row in rows]
    headings = [column.heading for column in columns]
    aligned = tabulate(
        cells, headings, tablefmt="pipe", disable_numparse=True, colalign=[column.align for column in columns]
    )
    return f"{aligned}\n"


def _summary_columns(tasks: Sequence[str]) -> list[Column]:
    return [
        replace(text("model", lambda entrant: entrant.model), always=True),
        replace(text("revision", lambda entrant: entrant.revision), always=True),
        replace(text("fingerprint", lambda entrant: entrant.fingerprint), always=True),
        *(_task_column(task) for task in tasks),
        replace(figure("mean", lambda entrant: entrant.mean), always=True),
        replace(count("tasks", lambda entrant: len(entrant.rows)), always=True),
        text("unanswered", lambda entrant: entrant.unanswered),
    ]


def _task_column(task: str) -> Column:
    def first(entrant: Entrant) -> Metric | None:
        return entrant.rows[task].first if task in entrant.rows else None

    return replace(figure(inert(task), first, name=task), always=True)


def _entrants(parts: Mapping[str, Section]) -> list[Entrant]:
    """Models by their mean, then by how they did; those that were not run everywhere after those that were."""
    primary = [(task, row) for task, part in parts.items() for row in part.rows]
    runs = Counter((task, _scored(row)) for task, row in primary)
    repeated = {scored for (_, scored), count in runs.items() if count > 1}
    models: dict[tuple[str, str, str], dict[str, BoardRow]] = {}
    for task, row in primary:
        scored = _scored(row)
        # run twice on one task: each configuration is a row of its own
        revision = row.revision if scored in repeated else row.revision.rpartition("-")[0]
        models.setdefault((scored.model, revision, scored.fingerprint), {})[task] = row
    tasks = [task for task, part in parts.items() if any(_is_whole(row) for row in part.rows)]
    entrants = [Entrant(*name, rows, _mean(tasks, rows)) for name, rows in models.items()]
    return sorted(entrants, key=lambda e: (-_rank(e.mean), *(-_standing(e.rows.get(task)) for task in parts), *e.name))


def _is_whole(row: BoardRow) -> bool:
    return not row.standing.lost and not row.is_part


def _standing(row: BoardRow | None) -> float:
    """What a row is ordered by: not by a figure over some of the examples."""
    return -1.0 if row is None or row.standing.lost else _rank(row.first)


def _rank(metric: Metric | None) -> float:
    return -1.0 if metric is None or metric.value is None else metric.value


def _scored(row: BoardRow) -> ScoredModel:
    subject = row.result.subject
    code = {"fingerprint": subject.fingerprint, "run": row.result.config.model.get("run")}
    return ScoredModel(subject.id, subject.revision, provenance.short_hash(code))


def _mean(tasks: Sequence[str], rows: Mapping[str, BoardRow]) -> Metric | None:
    """Over `tasks`, each counting alike; None where one was not run, not run or answered whole, or has no number."""
    whole = {task: row.first for task, row in rows.items() if _is_whole(row)}
    headlines = [m for task in tasks if (m := whole.get(task)) and m.value is not None]
    if not headlines or len(headlines) < len(tasks):
        return None
    ends = [[m.value, m.ci_low, m.ci_high] for m in headlines]
    mean, low, high = mean_interval(*np.array(ends, float).T)
    bounded = not np.isnan(low + high)
    return Metric(
        name="mean", view="default", subset="all", kind="fraction", value=mean, ci_low=low if bounded else None,
        ci_high=high if bounded else None, n=sum(m.n for m in headlines), clusters=sum(m.clusters for m in headlines),
    )  # fmt: skip
