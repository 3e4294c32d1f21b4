"""Cases of rules, worked out: what goes into the frames of sentences where there is no table of facts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

Slots = dict[str, Any]  # what is put into the frames of a sentence
Step = Literal["plus", "minus", "from"]


def worked(step: Step, x: int, a: int, b: int) -> Slots:
    """A problem in two steps: x * a = p, and then b is added, taken from p, or what p is taken from."""
    p = x * a
    y, total, back = {
        "plus": (p + b, f"{p} + {b} = {p + b}", f"{p + b} - {b} = {p}"),
        "minus": (p - b, f"{p} - {b} = {p - b}", f"{p - b} + {b} = {p}"),
        "from": (b - p, f"{b} - {p} = {b - p}", f"{b} - {b - p} = {p}"),
    }[step]
    more = {"fewer": x - 1, "p_fewer": p - a, "twice": 2 * y, "above": y + 1}
    return {"x": x, "a": a, "b": b, "p": p, "y": y, "total": total, "back": back, **more}


def mistaken(step: Step, x: int, a: int, b: int) -> Slots:
    """The same problem with its second step done first, s, and what comes of it, t."""
    s = {"plus": a + b, "minus": a - b, "from": b - a}[step]
    return {"s": s, "t": s - x if step == "from" else x * s}


def _times(x: int, factor: int) -> Slots:
    product = f"{x} * {factor} = {x * factor}"
    return {"x": x, "y": x * factor, "done": product, "sum": product}


def _celsius(x: int) -> Slots:
    c = 5 * x
    done = f"{c} * 9 = {9 * c}, {9 * c} / 5 = {9 * x} and {9 * x} + 32 = {9 * x + 32}"
    return {"x": c, "y": 9 * x + 32, "done": done}


def _rectangle(x: int) -> Slots:
    return {"given": f"sides of {x} and {x + 2} metres", "done": f"{x} * {x + 2} = {x * (x + 2)}"}


def _square(x: int) -> Slots:
    return {"given": f"a side of {x} metres", "done": f"4 * {x} = {4 * x}"}


def _average(x: int) -> Slots:
    total = 2 * x + 6
    return {"given": f"the numbers {x} and {x + 6}", "done": f"{x} + {x + 6} = {total} and {total} / 2 = {x + 3}"}


def _discount(x: int) -> Slots:
    price = 10 * x
    return {"given": f"a price of {price} euros", "done": f"{price} / 10 = {x} and {price} - {x} = {9 * x}"}


def _roman(x: int) -> Slots:
    ones = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]
    return {"x": x, "y": "X" * (x // 10) + ones[x % 10], "why": f"{x} is {x // 10 * 10} + {x % 10}"}


def _binary(x: int) -> Slots:
    why = f"{x} leaves {x % 2} when it is halved, and {x // 2} in binary is {x // 2:b}"
    return {"x": x, "y": f"{x:b}", "why": why}


def _rounding(x: int) -> Slots:
    low = "below 5" if x % 10 < 5 else "not below 5"
    return {"x": x, "y": (x + 5) // 10 * 10, "why": f"its last digit {x % 10} is {low}"}


def _clock(x: int) -> Slots:
    hour, minute = 13 + x % 11, 20 + 7 * (x // 11)
    return {"x": f"{hour}:{minute}", "y": f"{hour - 12}:{minute}", "why": f"{hour} - 12 = {hour - 12}"}


RULES: dict[str, Callable[[int], Slots]] = {
    "polygon": lambda n: {"n": n, "m": n - 2, "degrees": 180 * (n - 2), "d": n - 3},
    "sevens": lambda x: _times(x, 7),
    "squares": lambda x: _times(x, x),
    "twelves": lambda x: {"y": 12 * x, "sum": f"{12 * x} / 12 = {x}"},
    "neighbours": lambda x: _times(x, x + 1),
    "feet": lambda x: _times(x, 12),
    "celsius": _celsius,
    "hours": lambda x: _times(x, 60),
    "weeks": lambda x: _times(x, 7),
    "rectangle": _rectangle,
    "square": _square,
    "average": _average,
    "discount": _discount,
    "roman": _roman,
    "binary": _binary,
    "rounding": _rounding,
    "clock": _clock,
}
