"""`rmbench run`: score models on tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli import EXIT_FAILED, EXIT_INCOMPLETE, debug_option, show_error, tell
from rmbench.cli._options import (
    MODEL_HELP,
    MODELS,
    OF_FORWARDS,
    POLICIES,
    allotted,
    completed,
    data_option,
    model_options,
    model_options_of,
    part_options,
    reading_options,
    revisions_of,
)
from rmbench.cli.generate import POLICY_HELP, sampling_options

if TYPE_CHECKING:
    from rmbench.results.schema import TaskResult
    from rmbench.runs.loading import Failed, TaskData
    from rmbench.scoring import Explanation


_OF_REWARD_MODELS = ("max_length", "truncation_side", "pooling", "head_dtype")


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=MODELS,
    help=f"{MODEL_HELP} (repeatable).",
)
@click.option(
    "-p", "--policy", "policies", multiple=True, metavar="POLICY", shell_complete=POLICIES,
    help=f"{POLICY_HELP} (repeatable).",
)  # fmt: skip
@click.option(
    "-t",
    "--task",
    "tasks",
    multiple=True,
    required=True,
    metavar="TASK",
    shell_complete=completed("tasks", "suites"),
    help="A task, python:module:TASK or suite:NAME; see rmbench list tasks and suites (repeatable).",
)
@data_option
@reading_options
@part_options
@click.option(
    "--revision",
    "revisions",
    multiple=True,
    metavar="TASK=COMMIT",
    callback=revisions_of,
    help="Read the hub set of TASK at COMMIT; of one task COMMIT alone will do (repeatable).",
)
@click.option(
    "--orders",
    metavar="ORDERS",
    help="How a model that compares is shown responses: official, both, round_robin or permutations:N  [default: the"
    " task's own]",
)
@click.option("--deduplicate", is_flag=True, help="Drop repeated examples and count them.")
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True, help="Result folder.")
@click.option("--name", "names", multiple=True, help="The model's id in results; of several models one for each.")
@sampling_options
@model_options
@click.option("--devices", metavar="0,1", help="Share the forwards among CUDA devices, a process on each.")
@click.option("--fresh", is_flag=True, help="Ask again what an earlier run kept, as of code that may have changed.")
@click.option("--explain-plan", is_flag=True, help="Print what would be run and how long it takes; score nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON and nothing else.")
@debug_option
@click.pass_context
def command(
    context: click.Context,
    /,
    models: tuple[str, ...],
    policies: tuple[str, ...],
    tasks: tuple[str, ...],
    data: dict[str, str],
    columns: dict[str, str] | None,
    skip_bad_rows: bool,
    limit: int | None,
    subset: dict[str, list[str]] | None,
    revisions: str | dict[str, str] | None,
    deduplicate: bool,
    orders: str | None,
    out: Path,
    names: tuple[str, ...],
    samples: int | None,
    cap: int | None,
    temperature: float | None,
    top_p: float | None,
    count_with: str | None,
    devices: str | None,
    fresh: bool,
    explain_plan: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Score every MODEL on every TASK of responses and have every POLICY answer every TASK of prompts."""
    from rmbench.cli._plan import print_plans
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.errors import UsageError
    from rmbench.results.schema import TaskResult
    from rmbench.runs.evaluate import evaluations
    from rmbench.runs.respond import Sampling, evaluate_policy

    seed = options["seed"] or 0
    sampling = Sampling(samples, cap, temperature, top_p, seed)
    specs, writers = list(dict.fromkeys(models)), list(dict.fromkeys(policies))
    _check_names(names, specs, writers)
    if not specs:
        _check_no_options_of_reward_models(options)
    if not writers and (count_with, sampling) != (None, Sampling(seed=sampling.seed)):
        raise UsageError("--samples, --max-new-tokens, --temperature, --top-p and --count-with are for a policy (-p)")
    _check_plan(devices, explain_plan, writers)
    part = {"limit": limit, "subset": subset, "deduplicate": deduplicate, "revision": revisions}
    reading = {"columns": columns, "skip_bad_rows": skip_bad_rows, "orders": orders}
    loaded, failures = _read(tasks, data=data, seed=seed, **part, **reading)
    judged = [item for item in loaded if item.task.subject == "reward_model"]
    answered = [item for item in loaded if item.task.subject == "policy"]
    _check_subjects(specs, writers, [item.task.name for item in judged], [item.task.name for item in answered])
    given = _given({**options, "count_with": count_with, "devices": devices}, specs, writers)
    called = _names(names, specs, writers)

    def score(spec: str) -> list[TaskResult]:
        progress, results = ConsoleProgress(spec), []
        options = given["-m", spec]
        name = called["-m", spec]
        for one in evaluations(spec, judged, out=out, name=name, seed=seed, fresh=fresh, progress=progress, **options):
            if isinstance(one, TaskResult):
                results.append(one)
            elif len(judged) == 1 and not failures:
                raise one.error
            else:
                failures.append(one)
                show_error(one.error, f"no result of {one.task}{f' by {spec}' if len(specs) > 1 else ''}")
        return results

    def write(spec: str) -> list[TaskResult]:
        progress, name = ConsoleProgress(spec), called["-p", spec]
        return evaluate_policy(spec, answered, sampling, out=out, name=name, progress=progress, **given["-p", spec])

    if explain_plan:
        print_plans(_explained(specs, judged, seed, given), as_json=as_json)
        return 0
    turns = [*(partial(score, spec) for spec in specs), *(partial(write, spec) for spec in writers)]
    results, failed = _in_turn(turns, debug=bool(context.find_root().meta.get("debug")))
    _show(results, loaded, out, as_json=as_json, debug=bool(context.find_root().meta.get("debug")))
    return EXIT_FAILED if failed or failures else _exit_code(results)


def _read(tasks: Sequence[str], **choice: Any) -> tuple[list[TaskData], list[Failed]]:
    """The tasks that can be read, and the others, each of which is told. Raises what the first raised if none can, the
    others being told before.
    """
    from rmbench.runs.loading import Failed, read_tasks

    read = read_tasks(list(dict.fromkeys(tasks)), **choice)
    failures = [item for item in read if isinstance(item, Failed)]
    none = len(failures) == len(read)
    for one in failures[1:] if none else failures:
        show_error(one.error, f"no result of {one.task}")
    if none:
        raise failures[0].error
    return [item for item in read if not isinstance(item, Failed)], failures


def _in_turn(runs: Sequence[Callable[[], list[TaskResult]]], *, debug: bool) -> tuple[list[TaskResult], bool]:
    """The results of each run, and whether something of one failed, which is told while the others have their turn."""
    from rmbench.errors import IncompleteRunError

    results: list[TaskResult] = []
    failed = False
    for run in runs:
        try:
            with redirect_stdout(sys.stderr):  # what a user's code prints must not end up among the results
                results += run()
        except IncompleteRunError as error:
            results += error.results
            for task, cause in error.failures.items():
                show_error(cause, f"no result of {task}")
            failed = True
        except Exception as error:
            if len(runs) == 1 or debug:
                raise
            show_error(error)
            failed = True
    return results, failed


def _show(results: Sequence[TaskResult], loaded: list[TaskData], out: Path, *, as_json: bool, debug: bool) -> None:
    """Writes the page, and prints the results."""
    from rmbench.cli._console import terminal
    from rmbench.cli._overview import print_overview
    from rmbench.cli._policies import print_policies
    from rmbench.cli._report import print_results

    scored = [result for result in results if result.subject.kind == "reward_model"]
    reported = bool(results) and _write_page(results, loaded, out, debug=debug)
    if as_json:
        click.echo("[" + ",\n".join(result.model_dump_json() for result in results) + "]")
    elif results:
        print_results(scored)
        print_policies([result for result in results if result.subject.kind == "policy"])
        print_overview(scored, terminal())
        viewed = f"; `rmbench view {out}` shows this run with plots and failures" if reported else ""
        tell(f"\nResults and records are in {out}{viewed}")


def _check_plan(devices: str | None, explain_plan: bool, writers: list[str]) -> None:
    from rmbench.errors import UsageError

    if writers and (devices is not None or explain_plan):
        raise UsageError("--devices and --explain-plan are for reward models (-m); run the policies apart")
    if devices is not None and explain_plan:
        raise UsageError("--explain-plan predicts what one device takes; leave --devices out")


def _check_no_options_of_reward_models(options: dict[str, Any]) -> None:
    from rmbench.errors import UsageError

    for option in _OF_REWARD_MODELS:
        if options[option] is not None:
            given = f"--{option.replace('_', '-')} {options[option]}"
            raise UsageError(f"{given} is for a reward model (-m); --max-new-tokens caps a policy")


def _check_names(names: Sequence[str], models: list[str], policies: list[str]) -> None:
    """Raises UsageError where there is not one --name for each subject, where two are alike, and where a spec names its
    model differently."""
    from rmbench.errors import UsageError
    from rmbench.models import spec as model_spec
    from rmbench.policies import spec as policy_spec

    subjects = [*models, *policies]
    if names and len(names) != len(subjects):
        told = f"--name {' --name '.join(names)}"
        problem = f"would name {len(subjects)} models alike" if len(names) == 1 else f"are names of {len(names)} models"
        raise UsageError(f"{told} {problem}; expected one for each of {len(subjects)}, or none")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--name {name} would name {names.count(name)} models alike; give each its own")
    parsed = [*map(model_spec.parse, models), *map(policy_spec.parse, policies)] if names else []
    for name, spec in zip(names, parsed, strict=bool(names)):
        if spec.name not in (None, name):
            raise UsageError(f"{spec.text!r} is named {spec.name!r} there and {name!r} by --name")


def _names(names: Sequence[str], models: list[str], policies: list[str]) -> dict[tuple[str, str], str | None]:
    """What each subject is called in results, None where its own id does."""
    from rmbench.cli._names import named
    from rmbench.models import spec as model_spec
    from rmbench.policies import spec as policy_spec

    of_models = named(models, names[: len(models)], model_spec.parse)
    of_policies = named(policies, names[len(models) :], policy_spec.parse)
    return {**{("-m", spec): name for spec, name in of_models.items()},
            **{("-p", spec): name for spec, name in of_policies.items()}}  # fmt: skip


def _given(flags: dict[str, Any], models: list[str], policies: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """The flags of each model and policy. Raises UsageError for specs that cannot be, and for flags that nobody takes
    or that a spec contradicts."""
    from rmbench.models import spec as model_spec
    from rmbench.models.spec import with_options
    from rmbench.plugins import POLICIES
    from rmbench.policies import spec as policy_spec

    declared = [(spec, model_options_of(spec)) for spec in models]
    declared += [(spec, {*policy_spec.declared(spec)}) for spec in policies]
    options = allotted(flags, declared, of_run=("seed",))
    given = {}
    for spec, own in zip(models, options, strict=False):
        with_options(model_spec.parse(spec), **{name: own[name] for name in own if name not in OF_FORWARDS})
        own.pop("seed", None)  # a run's own, which its models get
        given["-m", spec] = own
    for spec, own in zip(policies, options[len(models) :], strict=True):
        with_options(policy_spec.parse(spec), POLICIES, **own)
        given["-p", spec] = own
    return given


def _explained(
    specs: list[str], loaded: list[TaskData], seed: int, given: dict[tuple[str, str], dict[str, Any]]
) -> list[Explanation]:
    from rmbench.runs.evaluate import explain

    plans = []
    with redirect_stdout(sys.stderr):
        for spec in specs:
            plans += explain(spec, loaded, seed=seed, **given["-m", spec])
    return plans


def _exit_code(results: list[TaskResult]) -> int:
    return EXIT_INCOMPLETE if any(set(result.statuses) - {"ok"} for result in results) else 0


def _write_page(results: Sequence[TaskResult], loaded: list[TaskData], out: Path, *, debug: bool) -> bool:
    """Whether it could be written."""
    from rmbench.report import page

    texts = {item.name: {example.id: example for example in item.data.examples} for item in loaded}
    try:
        page.write(results, texts, out / "report.html")
    except Exception as error:  # the results are safe, and a page can be had later
        if debug:
            raise
        show_error(error, "no report")
        return False
    return True


def _check_subjects(models: list[str], policies: list[str], judged: list[str], answered: list[str]) -> None:
    """Raises UsageError for a task without a subject of its kind, and for a subject without a task."""
    from rmbench.errors import UsageError

    if not models and not policies:
        raise UsageError("nothing to run: give a reward model with -m, or a policy with -p")
    if judged and not models:
        raise UsageError(f"{', '.join(judged)}: judged by a reward model, and none is given; -m names one")
    if answered and not policies:
        raise UsageError(f"{', '.join(answered)}: answered by a policy, and none is given; -p names one")
    if models and not judged:
        raise UsageError(f"{models[0]} is a reward model, and {', '.join(answered)} asks only policies")
    if policies and not answered:
        raise UsageError(f"{policies[0]} is a policy, and {', '.join(judged)} asks only reward models")
