"""The command line: one module a command, found by name; what is heavy is imported inside the commands."""

from __future__ import annotations

import io
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

import click

from rmbench.errors import RmbenchError

_Command = TypeVar("_Command", bound=Callable[..., Any])

EXIT_FAILED, EXIT_USAGE, EXIT_INCOMPLETE, EXIT_INTERRUPTED = 1, 2, 3, 130
_LONGEST = 1500  # characters of a message: it may quote what it is about


class _Commands(click.Group):
    """Commands are the modules beside this one that have a `command`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(context):
            return None
        command: click.Command = import_module(f"{__name__}.{name}").command
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rmbench")
def cli() -> None:
    """Score reward models on benchmarks and bias probes, with an interval on every number."""


def debug_option(command: _Command) -> _Command:
    """Adds --debug: a full traceback instead of one line."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.find_root().meta["debug"] = value

    option = click.option("--debug", is_flag=True, expose_value=False, callback=remember, help="Show tracebacks.")
    return option(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 0, 1 failed, 2 usage, 3 incomplete, 130 interrupted."""
    context: click.Context | None = None
    warnings.showwarning = _one_line_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a name still shows the numbers
    try:
        # Not list(...): once the command of that name is imported it is what `list` means in this package
        context = cli.make_context("rmbench", [*(sys.argv[1:] if arguments is None else arguments)])
        with context:
            return int(cli.invoke(context) or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        click.echo("rmbench: stopped; what was scored is kept, the same command continues", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:
        if context is not None and context.meta.get("debug"):
            traceback.print_exc()
        else:
            show_error(error)
        return error.exit_code if isinstance(error, RmbenchError) else EXIT_FAILED


def show_error(error: Exception, what: str = "error") -> None:
    """One line on standard error; an error that nobody foresaw says that it is one."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, RmbenchError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = "not enough memory for what was given"
    elif notes:  # what a plugin raises is nothing to report to rmbench
        text = f"{notes[0]}: {type(error).__name__}: {error}"
    else:
        text = f"unexpected {type(error).__name__}: {error}; --debug shows where (please report it)"
    click.echo(f"rmbench: {what}: {_line(text)}", err=True)


def _one_line_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        click.echo(f"rmbench: warning: {_line(str(message))}", err=True)


def _line(text: str) -> str:
    """A message as one line, without the middle of what is too long to be read."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"
