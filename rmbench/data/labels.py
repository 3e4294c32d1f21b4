"""What a response is worth, as data say it."""

from __future__ import annotations

from typing import Any

from rmbench.data.rows import Row, shown


def read_label(row: Row, field: str, value: Any) -> bool | float | None:
    """True or false, or how good a response is, in `field`; CSV has them as text. None where it is not said.

    Raises DataError for anything else.
    """
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        try:
            return float(value)
        except OverflowError as error:
            raise row.error(f"{shown(value)} is beyond the largest float", field) from error
    if isinstance(value, str):
        named = {"true": True, "false": False, "": None}
        try:
            return named[value.lower()] if value.lower() in named else float(value)
        except ValueError:
            pass
    raise row.error(f"expected true, false or a number, got {shown(value)}", field)
