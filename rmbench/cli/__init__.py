"""The command line: one module a command, found by name; what is heavy is imported inside the commands."""

from __future__ import annotations

import io
import os
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TextIO, TypeVar

import click

from rmbench.errors import RmbenchError

_Command = TypeVar("_Command", bound=Callable[..., Any])

EXIT_FAILED, EXIT_USAGE, EXIT_INCOMPLETE, EXIT_INTERRUPTED = 1, 2, 3, 130
_LONGEST = 1500  # characters of a message: it may quote what it is about
EXIT_UNREAD = 141  # as of any command that writes into a pipe which nobody reads any more
_COMPLETE = "_RMBENCH_COMPLETE"


class Commands(click.Group):
    """Commands with whole summaries, of which the near one is named where there is none of a name."""

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if name.startswith("-") or self.get_command(context, name) is not None:
            return super().resolve_command(context, arguments)
        from rmbench.plugins import did_you_mean

        names = self.list_commands(context)
        choices = f"{did_you_mean(name, names)}; there is {', '.join(names)}"
        raise click.UsageError(f"unknown command {name!r}{choices}", context)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Every command with its whole first sentence, which click would cut."""
        commands = ((name, self.get_command(context, name)) for name in self.list_commands(context))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(command)) for name, command in commands if command is not None])


class _Modules(Commands):
    """Commands are the modules beside this one that have a `command`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(context):
            return None
        command: click.Command = import_module(f"{__name__}.{name}").command
        return command


class _Output(io.FileIO):
    """Standard output, which remembers why it could not be written: who wrote may not have told."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def _summary(command: click.Command) -> str:
    text = " ".join((command.help or "").partition("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".")


@click.group(cls=_Modules, context_settings={"help_option_names": ["-h", "--help"]})
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
    """Runs the command line and returns its exit code: 0, 1 failed, 2 usage, 3 incomplete, 130 interrupted, 141 where
    nobody reads what it prints."""
    warnings.showwarning = _one_line_warning
    _open_streams()
    if instruction := os.environ.get(_COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "rmbench", _COMPLETE, instruction)
    code = _run(arguments)
    error = _unwritten()
    if error is None:
        return code
    _drop(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return EXIT_UNREAD
    _say(f"error: standard output cannot be written ({error.strerror or error})")
    return EXIT_FAILED


def _run(arguments: Sequence[str] | None) -> int:
    context: click.Context | None = None
    try:
        # Not list(...): once the command of that name is imported it is what `list` means in this package
        context = cli.make_context("rmbench", [*(sys.argv[1:] if arguments is None else arguments)])
        with context:
            return int(cli.invoke(context) or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
        else:
            _say(f"error: {_usage(error)}")
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        _say("stopped; what was scored is kept, the same command continues")
        return EXIT_INTERRUPTED
    except Exception as error:
        if _unwritten() is not None:  # `main` tells
            return EXIT_FAILED
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
    _say(f"{what}: {text}")


def _usage(error: click.ClickException) -> str:
    """What is wrong with the command line, after the command that it is wrong for."""
    context = getattr(error, "ctx", None)
    command = f"{context.info_name}: " if context is not None and context.parent is not None else ""
    message = error.format_message().rstrip(".")
    return f"{command}{message[:1].lower()}{message[1:]}"


def _say(text: str) -> None:
    try:
        tell(f"rmbench: {_line(text)}", err=True)
    except OSError:  # the exit code tells
        _drop(sys.stderr)


def _line(text: str) -> str:
    """A message as one line, without the middle of what is too long to be read."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"


def tell(text: str, *, err: bool = False) -> None:
    """A line, which a terminal is given in as many as it takes without a word being broken."""
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        text = "\n".join(_wrapped(line, os.get_terminal_size(stream.fileno()).columns) for line in text.split("\n"))
    click.echo(text, err=err)


def _wrapped(line: str, width: int) -> str:
    return "\n".join(textwrap.wrap(line, max(width, 20), break_long_words=False, break_on_hyphens=False))


def _drop(stream: TextIO) -> None:
    """Nothing more is written: what is left in a buffer would be tried, and complained of, as the process ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_streams() -> None:
    """A closed stream is as one that nobody reads; a terminal that cannot show a name still shows the numbers."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the life of the process
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    stream = sys.stdout
    if stream is sys.__stdout__ and isinstance(stream, io.TextIOWrapper) and isinstance(_raw(), io.FileIO):
        output = io.BufferedWriter(_Output(stream.fileno(), "wb", closefd=False))
        lines = stream.line_buffering or stream.write_through
        sys.stdout = io.TextIOWrapper(output, stream.encoding, "backslashreplace", line_buffering=lines)


def _raw() -> object:
    """What standard output is written to, of a stream with a buffer and of one without."""
    buffer = getattr(sys.stdout, "buffer", None)
    return getattr(buffer, "raw", buffer)


def _unwritten() -> OSError | None:
    """Why standard output could not take all that was printed; None where it could."""
    raw = _raw()
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    return raw.error if isinstance(raw, _Output) else None


def _one_line_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        _say(f"warning: {message}")
