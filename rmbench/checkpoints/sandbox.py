"""The box in which a chat template runs: bounded steps and texts, and nothing that chance or a clock decides.

Jinja's own sandbox keeps templates from the interpreter, not from its time and memory. Steps are counted and not timed,
so that what is refused on one machine is refused on each.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

_MOST_STEPS = 200_000  # turns of loops, calls and filters of one rendering; a thousand turns take some ten thousand
_MOST_TEXT = 2**26  # characters that one rendering makes, those in between included
_MOST_NUMBER = 2**20  # that a filter or a method takes: they are widths and counts
_MOST_BITS = 10_000  # of a number
_WIDE = re.compile(r"\d{5}|\*")  # a width in a format, or one that is an argument
# What makes a text of all that a value holds, and what makes one as long as its text times what it is given
_SHOWING = frozenset({"tojson", "string", "pprint", "join", "title", "urlize", "xmlattr", "format", "sum"})
_TIMES = frozenset({"indent", "wordwrap", "expandtabs", "translate", "format_map", "center", "ljust", "rjust", "zfill"})


class _Meter(threading.local):
    """What the rendering of this thread has used up. Methods raise jinja2.TemplateError beyond what one may."""

    steps = 0
    text = 0

    def spend(self, steps: int, text: int = 0) -> None:
        self.steps += steps
        self.text += text
        if self.steps > _MOST_STEPS:
            raise _refused(f"takes more than {_MOST_STEPS:,} steps")
        if self.text > _MOST_TEXT:
            raise _refused(f"makes more than {_MOST_TEXT:,} characters")

    def show(self, value: Any) -> None:
        """Spends what a value is as text, each of its members as often as it is shown."""
        if isinstance(value, str):
            return self.spend(0, len(value))
        waiting = [value]
        while waiting:
            one = waiting.pop()
            self.spend(1, len(one) if isinstance(one, str) else 0)
            waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list | tuple) else ()
        return None

    def give(self, name: str, values: Sequence[Any]) -> None:
        """Checks what a filter or method is given, before it makes a text of it."""
        self.spend(1)
        for value in values:
            if isinstance(value, int) and abs(value) > _MOST_NUMBER:
                raise _refused(f"gives {name} the number {value if abs(value) < 10**18 else f'{value:.3g}'}")
        first: Any = values[0] if values else None
        if name in _SHOWING:
            for value in values:
                self.show(value)
        if name in _TIMES:
            self.spend(0, _size(first) * max([1, *map(_longest, values[1:])]))
        if name in ("format", "strftime") and isinstance(first, str) and _WIDE.search(first):
            raise _refused(f"formats with a width of its own: {first[:40]!r}")
        if name == "replace" and len(values) > 2 and all(isinstance(value, str) for value in values[:3]):
            self.spend(0, max(0, first.count(values[1]) * (len(values[2]) - len(values[1]))))

    def get(self, value: Any) -> Any:
        """Spends what a filter, method or sum has made."""
        if isinstance(value, str):
            self.spend(0, len(value))
        elif isinstance(value, list | tuple):
            self.spend(0, 8 * len(value))
        return value

    def compute(self, operator: str, left: Any, right: Any) -> None:
        """Checks a sum, product, power or format."""
        self.spend(1)
        numbers = isinstance(left, int) and isinstance(right, int)
        if operator == "%" and isinstance(left, str):
            self.give("format", [left, *(right if isinstance(right, tuple) else [right])])
        elif operator == "*" and not numbers:
            self.spend(0, 8 * _size(left) * _size(right))
        elif numbers and operator in ("*", "**"):
            bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _MOST_BITS:
                raise _refused(f"makes a number of more than {_MOST_BITS:,} bits")


def bounded(extensions: Sequence[Any], **filters: Callable[..., Any]) -> tuple[Any, Callable[[str], Any]]:
    """An environment of Jinja in which templates are bounded, and what compiles a source in it.

    What that gives renders by names, and raises jinja2.TemplateError where a template does more than it may.
    """
    from jinja2 import Undefined, nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    meter = _Meter()

    class Metering(Extension):
        identifier = "rmbench.metering"  # no name of a template reaches it

        def tick(self, text: int) -> str:
            meter.spend(1, text)
            return ""

        def joined(self, *parts: Any) -> str:
            for part in parts:
                meter.show(part)
            return "".join(map(str, parts))

    class Box(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "+" and isinstance(left, str):
                meter.spend(1, len(left) + _size(right))
                return super().call_binop(context, operator, left, right)
            meter.compute(operator, left, right)
            return meter.get(super().call_binop(context, operator, left, right))

        def call(self, context: Any, function: Any, /, *values: Any, **named: Any) -> Any:
            if getattr(function, "__func__", None) in (Metering.tick, Metering.joined):
                return function(*values)
            bound = getattr(function, "__wrapped__", function)  # as Jinja wraps str.format
            owner, name = getattr(bound, "__self__", None), str(getattr(bound, "__name__", "it"))
            if name == "join" and isinstance(owner, str) and values:
                values = ([*values[0]],)
                meter.spend(0, len(owner) * len(values[0]))
            if name == "strftime":
                meter.give(name, values)
            if isinstance(owner, str | bytes | list | tuple | dict | int):
                meter.give(name, [owner, *values, *named.values()])
            meter.spend(5)  # a macro takes as long
            return meter.get(super().call(context, function, *values, **named))

    def shown(value: Any) -> Any:
        if isinstance(value, str):
            meter.spend(0, len(value))
            return value
        # what would be shown with its place in memory
        if not isinstance(value, Undefined) and (callable(value) or hasattr(value, "__next__")):
            raise _refused(f"shows a {type(value).__name__}")
        meter.show(value)
        return value

    def metered(tree: Any) -> Any:
        """The tree with each turn of its loops counted, and each text that is put together of others."""
        for loop in tree.find_all(nodes.For):
            text = sum(len(data.data) for data in loop.find_all(nodes.TemplateData))
            tick = nodes.ExtensionAttribute(Metering.identifier, "tick")
            loop.body.insert(0, nodes.ExprStmt(nodes.Call(tick, [nodes.Const(text)], [], None, None)))
        joined = nodes.ExtensionAttribute(Metering.identifier, "joined")

        def counted(node: Any) -> Any:
            return nodes.Call(joined, node.nodes, [], None, None) if isinstance(node, nodes.Concat) else node

        for parent in [tree, *tree.find_all(nodes.Node)]:
            for field, value in parent.iter_fields():
                setattr(parent, field, [*map(counted, value)] if isinstance(value, list) else counted(value))
        return tree

    box = Box(trim_blocks=True, lstrip_blocks=True, extensions=[*extensions, Metering], finalize=shown)
    box.filters["random"] = box.filters["first"]
    box.filters.update(filters)
    box.filters.update({name: _told(function, name, meter) for name, function in box.filters.items()})
    del box.globals["lipsum"]  # words by chance

    def compiled(source: str) -> Callable[..., str]:
        template = box.from_string(metered(box.parse(source)))

        def render(**names: Any) -> str:
            meter.steps = meter.text = 0
            parts: list[str] = []
            for part in template.generate(**names):
                meter.spend(0, len(part))
                parts.append(part)
            return "".join(parts)

        return render

    return box, compiled


def _told(function: Callable[..., Any], name: str, meter: _Meter) -> Callable[..., Any]:
    """A filter that tells the meter what it is given and what it makes."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)  # which keeps how Jinja wants to call it
    def counted(*values: Any, **named: Any) -> Any:
        if len(values) == first + 1 and not named and isinstance(values[first], str) and name not in _SHOWING:
            meter.spend(1, len(values[first]))  # the usual case, and quick
            return function(*values)
        given = [*values]
        if name in ("join", "sum") and len(given) > first and not hasattr(given[first], "__len__"):
            given[first] = [*given[first]]
        if name == "join" and len(given) > first + 1:
            meter.spend(0, len(given[first]) * _longest(given[first + 1]))
        meter.give(name, [*given[first:], *named.values()])
        return meter.get(function(*given, **named))

    return counted


def _refused(what: str) -> Exception:
    import jinja2

    return jinja2.TemplateError(f"the template {what}")


def _size(value: Any) -> int:
    return max(0, value) if isinstance(value, int) else len(value) if hasattr(value, "__len__") else 1


def _longest(value: Any) -> int:
    return max([1, *map(_size, value.values())]) if isinstance(value, dict) else _size(value)
