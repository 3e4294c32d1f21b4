"""What rmbench raises: one line each, with the value, the place and what would have been right."""

from collections.abc import Mapping, Sequence
from typing import Any


class RmbenchError(Exception):
    """Base of every error that rmbench raises on purpose. `exit_code` is what the command line exits with."""

    exit_code = 1


class UsageError(RmbenchError):
    """A name or an option that the user can only have mistyped: unknown model, unknown task, clashing options."""

    exit_code = 2


class DataError(RmbenchError):
    """Data that cannot be read as what it was given as. The message names file, row and field.

    `reason` is the same without the place and the value, under which rows are counted that are left out for it.
    """

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message


class WrongFileError(DataError):
    """A file that cannot be what was meant: it is not there, of no format that is read, or has other columns."""

    exit_code = 2


class NoExampleError(DataError):
    """A row that can be read and makes no example all the same; it is left out and counted by `reason`."""


class ModelError(RmbenchError):
    """A reward model that cannot be loaded or run as asked."""


class ResultError(RmbenchError):
    """A result file, store or output folder that cannot be read or written."""


class IncompleteRunError(RmbenchError):
    """Some tasks of a run failed. `failures` has the error of each by its name, `results` is what the others gave."""

    def __init__(self, failures: Mapping[str, Exception], results: Sequence[Any]) -> None:
        total = len(failures) + len(results)
        told = "; ".join(f"{task}: {error}" for task, error in failures.items())
        super().__init__(f"{len(results)} of {total} tasks have results; {told}")
        self.failures, self.results = failures, results
