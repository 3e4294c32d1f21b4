"""Every task that RMBENCH_DATA has rows for, in one `rmbench run`: its time, its headlines, and what tasks share.

    python benchmarks/everything.py FOLDER [--limit 20]

The tasks and their files are those that the cards name under `reads`; files that hold scores without texts are left
out. The models are the demo (cut at its 256 tokens, tools as text), `length`, and a random process model of two layers
and two labels, so its figures mean nothing. FOLDER, which has to be new, gets the process model, the results with their
page, and `run.txt` and `run.err`, which are what the run printed at 100 columns. The store is new too, so everything is
scored.
Columns: rows, requests and tokens of all three models, the seconds of scoring alone, and each model's headline (in %
where it is a share) or `-`; below the table stands why. The exit code is 1 where a task has neither a headline nor a
reason.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rmbench.data.cards import card_names, read_card
from rmbench.data.files import stem
from rmbench.plugins import load_task
from rmbench.results import collection
from rmbench.results.digest import digest, figure
from rmbench.results.judged import headless
from rmbench.results.overview import SHARED, efforts
from rmbench.results.schema import TaskResult

COLUMNS = 100
POSITIONS = 65_536
LOST = re.compile(r"rmbench: no result of (?P<task>\S+)(?: by (?P<model>\S+))?: (?P<why>.*)")


def main() -> int:
    """Reads the command line, runs everything, prints both tables and the reasons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--limit", type=int, metavar="N", help="of each task, as rmbench run has it")
    given = parser.parse_args()
    if "RMBENCH_DATA" not in os.environ:
        raise SystemExit("RMBENCH_DATA is not set; expected the folder of the data")
    if given.folder.exists():
        raise SystemExit(f"{given.folder} is there already; expected a folder to make")
    data = Path(os.environ["RMBENCH_DATA"]).resolve()
    fed = sources(data, given.folder / "data")
    models = {"demo": "demo?max_length=256&tools_as_text=true", "length": "length"}
    models["process"] = f"process:{process_model(given.folder / 'process')}"
    wall, processor, told = run(given.folder, fed, models, given.limit)
    results = [collection.read_whole(path) for path in collection.files_in([given.folder / "results"])]
    reasons = {(one["task"], one["model"]): one["why"] for one in map(LOST.match, told.splitlines()) if one}
    lacking = print_tasks(fed, models, results, reasons)
    print_efforts(results)
    print(f"\n{len(fed)} tasks and sets, {len(results)} results: {wall:,.0f} s, {processor:,.0f} s of processors")
    for name in lacking:
        print(f"{name}: NEITHER A HEADLINE NOR A REASON")
    return 1 if lacking or not results else 0


def sources(data: Path, folder: Path) -> dict[str, tuple[str, Path]]:
    """Of each name in the results its task and what it is run on.

    The name is the task's own where its own card names one set, the card's where that is of a set by itself, and the
    file's where a card names several. Folders that a card names apart, as both halves of RMB, are linked beside each
    other into `folder`, since a measure may need all of them.
    """
    fed: dict[str, tuple[str, Path]] = {}
    for card in map(read_card, card_names()):
        stated = card.front.get("rmbench", {})
        parts: dict[str, list[Path]] = {}
        for reads in stated.get("reads", ()):
            if (data / reads["data"]).exists() and load_task(reads["task"]).subject == "reward_model":
                parts.setdefault(reads["task"], []).append(data / reads["data"])
        for task, paths in parts.items():
            folders = [path for path in paths if path.is_dir()]
            files = [path for path in paths if path.is_file() and (len(paths) == 1 or has_texts(task, path))]
            sets = [*([joined(folders, data, folder / task)] if folders else []), *files]
            name = task if stated.get("task") == task else card.name
            fed |= {name if len(sets) == 1 else stem(path): (task, path) for path in sets}
    return dict(sorted(fed.items()))


def has_texts(task: str, path: Path) -> bool:
    """Whether there are texts to score; a file of scores, which stands beside the others of its set, has none."""
    return any(one.text for example in load_task(task).load(path).examples for one in example.candidates)


def joined(folders: Sequence[Path], data: Path, target: Path) -> Path:
    """The one folder, or a folder with links to the files of several."""
    if len(folders) == 1:
        return folders[0]
    for file in (file for one in folders for file in one.rglob("*") if file.is_file()):
        link = target / file.relative_to(data)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return target


def process_model(folder: Path) -> Path:
    """A random token classifier of two labels, as TRL's PRMTrainer writes one."""
    import torch
    import transformers
    from checkpoints import make

    transformers.logging.disable_progress_bar()
    make(folder, "llama", num_labels=2, max_position_embeddings=POSITIONS)
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    return folder


def run(
    folder: Path, fed: Mapping[str, tuple[str, Path]], models: Mapping[str, str], limit: int | None
) -> tuple[float, float, str]:
    """Wall seconds, seconds of processors, and what the run told on standard error."""
    command = [sys.executable, "-m", "rmbench", "run", "--out", str(folder / "results")]
    for name, spec in models.items():
        command += ["-m", spec, "--name", name]
    for task in dict.fromkeys(task for task, _ in fed.values()):
        command += ["-t", task]
    for name, (task, path) in fed.items():
        command += ["--data", f"{task}={path}" if name == task else f"{name}={task}:{path}"]
    command += [] if limit is None else ["--limit", str(limit)]
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "RMBENCH_CACHE": str((folder / "cache").resolve())}
    started, before = time.perf_counter(), os.times()
    with (folder / "run.txt").open("w") as printed:
        done = subprocess.run(command, env=environment, stdout=printed, stderr=subprocess.PIPE, text=True, check=False)
    wall, after = time.perf_counter() - started, os.times()
    (folder / "run.err").write_text(done.stderr)
    if not (folder / "results").exists():
        raise SystemExit(f"the run gave no result:\n{done.stderr}")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, spent, done.stderr


def print_tasks(
    fed: Iterable[str],
    models: Mapping[str, str],
    results: Sequence[TaskResult],
    reasons: Mapping[tuple[str, str | None], str],
) -> list[str]:
    """The names of tasks that have neither a headline nor a reason, after the table and the reasons were printed."""
    table = [["task", "rows", "requests", "tokens", "s", "tokens/s", *models]]
    why: dict[str, list[str]] = {}
    lacking = []
    for name in fed:
        own = {one.subject.id: one for one in results if one.label == name}
        timings = [one.timing for one in own.values()]
        tokens, seconds = (sum(getattr(one, field) for one in timings) for field in ("tokens", "scoring_seconds"))
        counts = [max((one.dataset.examples for one in own.values()), default=0)]
        counts += [sum(one.requests for one in timings), tokens]
        cells = [headline(own[model]) if model in own else "-" for model in models]
        rate = f"{tokens / seconds:,.0f}" if tokens else "-"
        table.append([name, *(f"{count:,}" for count in counts), f"{seconds:,.1f}", rate, *cells])
        for model, spec in models.items():
            if model in own and headline(own[model]) != "-":
                continue
            said = reasons.get((name, spec), reasons.get((name, None), ""))
            if reason := missing(own[model]) if model in own else said:
                why.setdefault(f"{name}: {reason.removeprefix(f'{name}: ')}", []).append(model)
            else:
                lacking.append(f"{name}, {model}")
    print_table(table)
    print()
    for reason, of in why.items():
        print(textwrap.fill(f"- {reason} ({', '.join(of)})", COLUMNS, subsequent_indent="  "))
    return lacking


def headline(result: TaskResult) -> str:
    """The headline of the primary view, in percent where it is a share."""
    metric = figure(result, result.task.headline, result.primary_view)
    if metric is None or metric.value is None:
        return "-"
    return f"{100 * metric.value:.1f}" if digest([result]).is_share(metric.name) else f"{metric.value:.3f}"


def missing(result: TaskResult) -> str:
    """Why a result has no headline, as the run says it, and first why its first requests have no answer."""
    lost = [f"{count:,} {status}, {reason}" for status, of in result.reasons.items() for reason, count in of.items()]
    return "; ".join([*lost[:1], *headless(result)])


def print_efforts(results: Sequence[TaskResult]) -> None:
    """A row a model: what all of its tasks took, and what they share."""
    table = [["model", "tasks", "requests", "distinct", "shared", "tokens", "s", "tokens/s"]]
    spent = efforts(results)
    for one in spent:
        counts = (one.tasks, one.requests, one.distinct, sum(one.shared.values()), one.tokens)
        rate = "-" if one.rate is None else f"{one.rate:,.0f}"
        table.append([one.model, *(f"{count:,}" for count in counts), f"{one.seconds:,.1f}", rate])
    print()
    print_table(table)
    print()
    print(textwrap.fill(SHARED, COLUMNS))
    for one in spent:
        if one.shared:
            shared = ", ".join(f"{task} {count:,}" for task, count in one.shared.items())
            print(textwrap.fill(f"- {one.model}: {shared}", COLUMNS, subsequent_indent="  "))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table under its first row, names to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = [f":{'-' * (widths[0] + 1)}", *(f"{'-' * (width + 1)}:" for width in widths[1:])]
    for at, row in enumerate(rows):
        numbers = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
        print(f"| {' | '.join([row[0].ljust(widths[0]), *numbers])} |")
        if at == 0:
            print(f"|{'|'.join(rule)}|")


if __name__ == "__main__":
    sys.exit(main())
