"""Options of families as values: read from the texts of a command line, a file or the table of known models."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from rmbench.errors import UsageError
from rmbench.models.base import Option
from rmbench.plugins import did_you_mean

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Options(ChainMap[str, Any]):
    """Values of all options of a family: those that were given, before its defaults."""

    def __init__(self, given: Mapping[str, Any], declared: Mapping[str, Option]) -> None:
        super().__init__(dict(given), {name: option.default for name, option in declared.items()})


def given(options: Mapping[str, Any], declared: Mapping[str, Option]) -> dict[str, Any]:
    """The options that were given: as `Options` know it; of another mapping, those that are no default."""
    if isinstance(options, Options):
        return dict(options.maps[0])
    return {name: value for name, value in options.items() if value != declared[name].default}


def read_options(given: Mapping[str, Any], options: Mapping[str, Option], owner: str) -> dict[str, Any]:
    """The values of options that were given as texts or as values. Raises UsageError, which names the `owner`."""
    return {
        name: _value(name, value, option_of(name, options, owner), owner)
        for name, value in given.items()
        if value is not None or name not in options
    }


def option_of(name: str, options: Mapping[str, Option], owner: str) -> Option:
    """The declared option of that name. Raises UsageError for another, which names the `owner`."""
    if name in options:
        return options[name]
    expected = f"expected one of {', '.join(sorted(options))}" if options else "it has no options"
    raise UsageError(f"unknown option {name!r} of {owner}{did_you_mean(name, options)}; {expected}")


def _value(name: str, value: Any, option: Option, owner: str) -> Any:
    """The value that a text, or a value of the right type, stands for."""
    kind: Any = option.kind
    if kind is bool:
        truth = value if isinstance(value, bool) else _TRUTH.get(str(value).lower())
        if truth is None:
            raise UsageError(f"{name}={value!r} of {owner}: expected true or false")
        return truth
    if isinstance(value, bool):
        return _switched(name, value, option, owner)
    if option.choices and str(value) not in option.choices:
        raise UsageError(f"{name}={value!r} of {owner}: expected {_expected(option)}")
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    try:
        return kind(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
    except (ValueError, TypeError) as error:
        reason = f"expected {_expected(option)}" if isinstance(kind, type) or not str(error) else str(error)
        raise UsageError(f"{name}={value!r} of {owner}: {reason}") from None


def _switched(name: str, value: bool, option: Option, owner: str) -> Any:
    """The value of an option that is on or off by its family's own way to read that. Raises UsageError for others."""
    text = str(value).lower()
    try:
        if option.kind is not str:
            return option.kind(text)
    except (ValueError, TypeError):
        pass
    raise UsageError(f"{name}={text} of {owner}: expected {_expected(option)}")


def _expected(option: Option) -> str:
    if option.choices:
        return f"one of {', '.join(option.choices)}"
    return {int: "a whole number", float: "a number", str: "a text"}.get(option.kind, option.help)  # type: ignore[call-overload,no-any-return]
