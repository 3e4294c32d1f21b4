"""`rmbench run`: score models on tasks."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli import EXIT_FAILED, EXIT_INCOMPLETE, debug_option, show_error
from rmbench.cli._options import MODEL_HELP, model_options
from rmbench.cli.generate import POLICY_HELP, sampling_options

if TYPE_CHECKING:
    from rmbench.flow import Loaded
    from rmbench.results.schema import TaskResult
    from rmbench.scoring import Explanation


_OF_REWARD_MODELS = {"max_length": None, "truncation_side": "left", "pooling": "last", "head_dtype": "float32"}


def _files(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in given:
        task, equals, path = value.partition("=")
        if not (task and equals and path):
            raise click.BadParameter(f"{value!r} is not TASK=PATH, as in rewardmath=scores.json")
        if task in found:
            raise click.BadParameter(f"{task} is given twice, {found[task]} and {path}; a run reads one of them")
        found[task] = path
    return found


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help=f"{MODEL_HELP} (repeatable).",
)
@click.option("-p", "--policy", "policies", multiple=True, metavar="POLICY", help=f"{POLICY_HELP} (repeatable).")
@click.option("-t", "--task", "tasks", multiple=True, required=True, metavar="TASK", help="See rmbench list tasks.")
@click.option("--data", multiple=True, metavar="TASK=PATH", callback=_files, help="Run TASK on a file or folder.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N examples of each task.")
@click.option("--deduplicate", is_flag=True, help="Drop repeated examples and count them.")
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True, help="Result folder.")
@click.option("--name", help="The model's id in results; with one model only.")
@sampling_options
@model_options
@click.option("--devices", metavar="0,1", help="Share the forwards among CUDA devices, a process on each.")
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
    limit: int | None,
    deduplicate: bool,
    out: Path,
    name: str | None,
    samples: int | None,
    cap: int | None,
    temperature: float | None,
    top_p: float | None,
    count_with: str | None,
    token_budget: int | None,
    devices: str | None,
    explain_plan: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Score every MODEL on every TASK of responses and have every POLICY answer every TASK of prompts."""
    from rmbench.cli._plan import print_plans
    from rmbench.cli._policies import print_policies
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.cli._report import print_results
    from rmbench.errors import UsageError
    from rmbench.flow import evaluate, load_tasks
    from rmbench.generation import Sampling, evaluate_policy
    from rmbench.kinds.generation import Generation
    from rmbench.models.spec import parse
    from rmbench.policies import spec as policy_spec

    sampling = Sampling(samples, cap, temperature, top_p, options["seed"])
    specs, writers = list(dict.fromkeys(models)), list(dict.fromkeys(policies))
    if name is not None and len(specs) + len(writers) > 1:
        raise UsageError(f"--name {name} would name {len(specs) + len(writers)} models alike; give one, or no name")
    if not specs:
        _check_no_options_of_reward_models(options)
    if not writers and (count_with, sampling) != (None, Sampling(seed=sampling.seed)):
        raise UsageError("--samples, --max-new-tokens, --temperature, --top-p and --count-with are for a policy (-p)")
    _check_plan(devices, explain_plan, writers)
    loaded = load_tasks(list(dict.fromkeys(tasks)), data=data, limit=limit, deduplicate=deduplicate)
    judged = [item for item in loaded if not isinstance(item.task, Generation)]
    answered = [item for item in loaded if isinstance(item.task, Generation)]
    _check_subjects(specs, writers, [item.task.name for item in judged], [item.task.name for item in answered])
    for parsing, some in ((parse, specs), (policy_spec.parse, writers)):
        for spec in some:
            parsing(spec)

    def score(spec: str) -> list[TaskResult]:
        progress = ConsoleProgress(spec)
        return evaluate(
            spec,
            judged,
            out=out,
            name=name,
            token_budget=token_budget,
            devices=devices,
            progress=progress,
            **options,
        )

    def write(spec: str) -> list[TaskResult]:
        loading = {option: options[option] for option in ("device", "dtype", "template", "trust_remote_code")}
        return evaluate_policy(
            spec,
            answered,
            sampling,
            out=out,
            name=name,
            progress=ConsoleProgress(spec),
            token_budget=token_budget,
            count_with=count_with,
            **loading,
        )

    if explain_plan:
        print_plans(_explained(specs, judged, token_budget, options), as_json=as_json)
        return 0
    results, failed = [], False
    for run, spec in [*((score, spec) for spec in specs), *((write, spec) for spec in writers)]:
        try:
            # What a user's code prints must not end up among the results
            with redirect_stdout(sys.stderr):
                results += run(spec)
        except Exception as error:
            if len(specs) + len(writers) == 1 or context.find_root().meta.get("debug"):
                raise
            show_error(error)  # the others still have their turn
            failed = True
    scored = [result for result in results if result.subject.kind == "reward_model"]
    reported = bool(scored) and _write_page(scored, judged, out, debug=bool(context.find_root().meta.get("debug")))
    if as_json:
        click.echo("[" + ",\n".join(result.model_dump_json() for result in results) + "]")
    elif results:
        print_results(scored)
        print_policies([result for result in results if result.subject.kind == "policy"])
        viewed = f"; `rmbench view {out}` shows this run with plots and failures" if reported else ""
        click.echo(f"\nResults and records are in {out}{viewed}")
    return EXIT_FAILED if failed else _exit_code(results)


def _check_plan(devices: str | None, explain_plan: bool, writers: list[str]) -> None:
    from rmbench.errors import UsageError

    if writers and (devices is not None or explain_plan):
        raise UsageError("--devices and --explain-plan are for reward models (-m); run the policies apart")
    if devices is not None and explain_plan:
        raise UsageError("--explain-plan predicts what one device takes; leave --devices out")


def _check_no_options_of_reward_models(options: dict[str, Any]) -> None:
    from rmbench.errors import UsageError

    for option, default in _OF_REWARD_MODELS.items():
        if options[option] != default:
            given = f"--{option.replace('_', '-')} {options[option]}"
            raise UsageError(f"{given} is for a reward model (-m); --max-new-tokens caps a policy")


def _explained(
    specs: list[str], loaded: list[Loaded], token_budget: int | None, options: dict[str, Any]
) -> list[Explanation]:
    from rmbench.flow import explain

    with redirect_stdout(sys.stderr):
        explained = [explain(spec, loaded, token_budget=token_budget, **options) for spec in specs]
    return [found for some in explained for found in some]


def _exit_code(results: list[TaskResult]) -> int:
    return EXIT_INCOMPLETE if any(set(result.statuses) - {"ok"} for result in results) else 0


def _write_page(results: list[TaskResult], loaded: list[Loaded], out: Path, *, debug: bool) -> bool:
    """Whether it could be written."""
    from rmbench.report import page

    texts = {item.task.name: {example.id: example for example in item.data.examples} for item in loaded}
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
        others = "overflow and lengths ask policies"
        raise UsageError(f"{policies[0]} is a policy, and {', '.join(judged)} asks only reward models; {others}")
