"""`rmbench doctor`: is this machine ready, and does a model answer as it should?"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli import EXIT_FAILED, debug_option, tell
from rmbench.cli._options import MODEL_HELP, MODELS, allotted, model_options

if TYPE_CHECKING:
    from rmbench.doctor import Diagnosis, Finding

_MANY = 3  # checks that do not apply for one reason


@click.command()
@click.option(
    "-m", "--model", "models", multiple=True, metavar="MODEL", shell_complete=MODELS, help=f"{MODEL_HELP} (repeatable)."
)
@click.option(
    "--accept",
    multiple=True,
    metavar="CHECK",
    help="A check that may fail without exit code 1, as system-added of a template that is meant so (repeatable).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings about models as JSON and nothing else.")
@model_options
@debug_option
def command(models: tuple[str, ...], accept: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Check this machine or, with -m, a model; exit 1 where something is broken.

    Of the machine: versions, devices, the cache folder and what is optional. Of a model of any family: whether its
    answers are the same twice, in a batch, whichever side is padded, in its own class, where forwards are shared and in
    16 bit, and what its template and tokenizer add, leave out or trim. Each line is pass, fail or - (does not apply),
    with the number that it rests on.
    """
    if models:
        return _examined(models, accept, options, as_json=as_json)
    if accept or as_json or any(value is not None for value in options.values()):
        raise click.UsageError("options are about a model; expected -m MODEL")
    return _machine()


def _examined(models: tuple[str, ...], accept: tuple[str, ...], options: dict[str, Any], *, as_json: bool) -> int:
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.doctor import CHECKS
    from rmbench.doctor.examine import diagnose
    from rmbench.errors import UsageError
    from rmbench.models.spec import declared
    from rmbench.plugins import did_you_mean

    for check in accept:
        if check not in CHECKS:
            raise UsageError(f"unknown check {check!r}{did_you_mean(check, CHECKS)}; expected {', '.join(CHECKS)}")
    given = allotted(options, [(model, declared(model)) for model in models])
    diagnoses = []
    for model, own in zip(models, given, strict=True):
        with redirect_stdout(sys.stderr), ConsoleProgress(model).busy("asking it"):  # a user's code may print
            diagnoses.append(diagnose(model, **own))
        if not as_json:
            _print(diagnoses[-1], accept)
    if as_json:
        click.echo(json.dumps([one.to_json() for one in diagnoses], indent=2, ensure_ascii=False))
    return EXIT_FAILED if {check for one in diagnoses for check in one.failed} - {*accept} else 0


def _print(diagnosis: Diagnosis, accept: tuple[str, ...]) -> None:
    """One table a model, and one for each that it stands on. Checks that one reason keeps away are told together."""
    from rich.table import Table

    from rmbench.cli._console import terminal

    tell(f"{diagnosis.model}  {diagnosis.family}")
    table = Table()
    for column in ("check", "", "number"):
        table.add_column(column, no_wrap=True, justify="right" if column == "number" else "left")
    table.add_column("what was found")
    reasons = Counter(finding.told for finding in diagnosis.findings if finding.verdict == "does not apply")
    for finding in diagnosis.findings:
        if reasons[finding.told] < _MANY:
            table.add_row(finding.check, _mark(finding), finding.figure, _told(finding, accept))
    terminal().print(table)
    for reason in (reason for reason, count in reasons.items() if count >= _MANY):
        checks = [finding.check for finding in diagnosis.findings if finding.told == reason]
        tell(f"does not apply: {', '.join(checks)}: {reason}")
    tell("1.0e-06: how far apart, of the rewards' scale; whole numbers are counts")
    tell(str(diagnosis))
    for member in diagnosis.members:
        click.echo()
        _print(member, accept)


def _mark(finding: Finding) -> str:
    return {"pass": "[green]pass[/]", "fail": "[bold red]fail[/]"}.get(finding.verdict, "-")


def _told(finding: Finding, accept: tuple[str, ...]) -> str:
    from rich.markup import escape

    reason = f"does not apply: {finding.told}" if finding.verdict == "does not apply" else finding.told
    accepted = "accepted: " if finding.verdict == "fail" and finding.check in accept else ""
    return escape(accepted + reason)


def _machine() -> int:
    problems = [*_versions(), *_devices(), *_cache(), *_extras()]
    click.echo("\nready" if not problems else f"\nnot ready: {'; '.join(problems)}")
    return EXIT_FAILED if problems else 0


def _versions() -> list[str]:
    from rmbench.results.provenance import environment

    for name, version in environment().items():
        _line(name, version)
    return []


def _devices() -> list[str]:
    try:
        import torch
    except ImportError as error:
        return [f"torch cannot be imported ({error})"]
    from rmbench.device import devices

    _line("threads", str(torch.get_num_threads()))
    for name, device in devices().items():
        if name != "cpu":
            _line(name, device.described())
    if list(devices()) == ["cpu"]:
        _line("devices", "cpu only")
    return []


def _cache() -> list[str]:
    from rmbench.cache import cache_folder
    from rmbench.errors import ResultError
    from rmbench.scoring import Store

    folder = cache_folder()
    try:
        with Store(folder / "rewards.sqlite") as store:
            _line("store", f"{store.count():,} rewards in {folder}")
    except ResultError as error:
        _line("store", "broken")
        return [str(error)]
    free = shutil.disk_usage(folder).free / 2**30
    _line("free disk", f"{free:,.1f} GiB")
    return [f"under 0.1 GiB free in {folder}"] if free < 0.1 else []


def _extras() -> list[str]:
    from importlib.util import find_spec

    for package, use in (("peft", "LoRA and other adapters"), ("accelerate", "models larger than one GPU")):
        _line(package, "installed" if find_spec(package) else f"not installed ({use})")
    return []


def _line(name: str, value: str) -> None:
    click.echo(f"{name:>14}  {value}")
