"""Makes `rows.jsonl`: problems with one right and nine wrong stepwise solutions, of nine kinds of error.

    python -m rmbench.tasks.rewardmath_mini.generate

Every number is whole and lies between 1 and 200. A problem is a program, a list of steps over the numbers in its text;
a wrong solution is a mutation of such a program, worked through consistently to its own answer.

Nothing but the problem's text should tell the right solution from the others. If all nine were made from the right
one, it would be the one that resembles them all, with the middle answer. So the ten are the nodes of a random tree, the
right one anywhere in it, and along each edge one more error is made: a solution that hangs two edges off the right one
has two errors, its own kind and that of the solution it was made from. For the same reason
problems come as twins, the right solution of one being a common error of the other (area and perimeter, kept and given
away, from 3 to 9 and between 3 and 9).

The demo model trains on problems of other seeds. A hash of templates and operands decides which side a problem is on,
so no seed can bring one of the bundled problems.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

LIMIT = 200
CANDIDATES = 10
# set by trying, until a bag of words found the right solution in 15 % of problems and no longer in 24 %
_LEAN = {"+": -0.5, "-": -0.3, "*": 0.6, "/": 0.3, "small": -0.15, "large": -0.15}
STEPS = range(4, 7)
_SEED = 20260
_PER_TOPIC = 40
_HELD_OUT = 8  # one problem in so many is on the bundled side
_NAMES = ("Ada", "Ben", "Chi", "Dora", "Emil", "Fay", "Gus", "Hana")
_ITEMS = ("apples", "coins", "books", "cards", "shells", "stamps", "pens", "beads")


class UnfitError(Exception):
    """What was drawn does not fit: a result is not whole or out of range, or an error cannot be made here."""


class Arg(NamedTuple):
    """An operand: `number` i of the problem, `result` of step i, or a `constant` that the wording implies."""

    kind: str
    value: int


@dataclass(frozen=True, slots=True)
class Step:
    """`left op right`; `slip` is what the written result is off by."""

    op: str
    left: Arg
    right: Arg
    slip: int = 0


@dataclass(frozen=True, slots=True)
class Solution:
    """Steps over `numbers`, the problem's as they were read. `kinds` are the errors made, the solution's own last."""

    steps: tuple[Step, ...]
    numbers: tuple[int, ...]
    stated: int | None = None  # the answer where it is not the last result
    kinds: tuple[str, ...] = ()

    def operands(self) -> list[tuple[int, int]]:
        """Both operands of each step."""
        return [pair for pair, _ in self._worked()]

    def results(self) -> list[int]:
        """The written result of each step. Raises UnfitError where one is not whole or out of range."""
        return [result for _, result in self._worked()]

    def answer(self) -> int:
        """The answer it states."""
        return self.results()[-1] if self.stated is None else self.stated

    def lines(self) -> list[str]:
        """The solution as it is written, a line a step."""
        worked = zip(self.steps, self._worked(), strict=True)
        lines = [f"Step {i}: {a} {step.op} {b} = {result}." for i, (step, ((a, b), result)) in enumerate(worked, 1)]
        return [*lines, f"The answer is {self.answer()}."]

    @property
    def text(self) -> str:
        """Its lines, one under the other."""
        return "\n".join(self.lines())

    def _worked(self) -> list[tuple[tuple[int, int], int]]:
        worked: list[tuple[tuple[int, int], int]] = []
        for step in self.steps:
            a, b = (
                self.numbers[arg.value]
                if arg.kind == "number"
                else worked[arg.value][1]
                if arg.kind == "result"
                else arg.value
                for arg in (step.left, step.right)
            )
            worked.append(((a, b), calculate(step.op, a, b) + step.slip))
        return worked


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem's text and ten solutions, the right one first."""

    topic: str
    templates: tuple[str, ...]
    text: str
    solutions: tuple[Solution, ...]

    @property
    def signature(self) -> str:
        """Templates and operands. Problems of one signature differ in names, things and phrasing at most."""
        return " ".join([*self.templates, *re.findall(r"\d+", self.text)])

    @property
    def held_out(self) -> bool:
        """Whether it is on the bundled side; problems to train on are not."""
        return sha256(self.signature.encode()).digest()[0] % _HELD_OUT == 0


def calculate(op: str, a: int, b: int) -> int:
    """`a op b`. Raises UnfitError where that is not a whole number from 1 to `LIMIT`."""
    if op == "/":
        if b == 0 or a % b:
            raise UnfitError
        result = a // b
    else:
        result = {"+": a + b, "-": a - b, "*": a * b}[op]
    if not 1 <= result <= LIMIT:
        raise UnfitError
    return result


# problems


class Story:
    """A problem in the making: what is told, the numbers in it, and the steps that solve it."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.name, self.items = rng.choice(_NAMES), rng.choice(_ITEMS)
        self.templates: list[str] = []
        self.sentences: list[str] = []
        self.numbers: list[int] = []
        self.steps: list[Step] = []

    def say(self, *phrasings: str) -> None:
        """Tells one of `phrasings`, which mean the same."""
        self.sentences.append(self.rng.choice(phrasings))

    def number(self, value: int) -> Arg:
        """A number that the text states."""
        if not 1 <= value <= LIMIT:
            raise UnfitError
        self.numbers.append(value)
        return Arg("number", len(self.numbers) - 1)

    def numbers_of(self, *values: int) -> tuple[Arg, ...]:
        """Several of them."""
        return tuple(self.number(value) for value in values)

    def step(self, op: str, left: Arg, right: Arg) -> Arg:
        """A step of the solution."""
        self.steps.append(Step(op, left, right))
        self.solution.results()
        return Arg("result", len(self.steps) - 1)

    @property
    def solution(self) -> Solution:
        """The right solution of what was told so far."""
        return Solution(tuple(self.steps), tuple(self.numbers))

    def value(self, arg: Arg) -> int:
        """What `arg` comes to."""
        return self.solution.results()[arg.value] if arg.kind == "result" else self.numbers[arg.value]


def constant(value: int) -> Arg:
    """A number that the text implies without stating it."""
    return Arg("constant", value)


Opening = Callable[[Story], Arg]
Event = Callable[[Story, Arg], Arg]


def arithmetic_start(s: Story) -> Arg:
    a = s.rng.randint(5, 60)
    s.say(f"Start with the number {a}.", f"Take the number {a}.")
    return s.number(a)


def arithmetic_sum(s: Story) -> Arg:
    a, b = s.rng.randint(3, 50), s.rng.randint(3, 50)
    s.say(f"Take the sum of {a} and {b}.")
    return s.step("+", *s.numbers_of(a, b))


def arithmetic_difference(s: Story) -> Arg:
    b, rest = s.rng.randint(3, 50), s.rng.randint(3, 50)
    s.say(f"Take the difference of {b + rest} and {b}.")
    return s.step("-", *s.numbers_of(b + rest, b))


def fraction_kept(s: Story) -> Arg:
    part, whole, unit = _fraction(s)
    s.say(f"{s.name} has {whole * unit} {s.items} and keeps {part}/{whole} of them.")
    n, p, w = s.numbers_of(whole * unit, part, whole)
    return s.step("*", s.step("/", n, w), p)


def fraction_given(s: Story) -> Arg:
    part, whole, unit = _fraction(s)
    s.say(f"{s.name} has {whole * unit} {s.items} and gives {part}/{whole} of them away.")
    n, p, w = s.numbers_of(whole * unit, part, whole)
    return s.step("-", n, s.step("*", s.step("/", n, w), p))


def fraction_sum(s: Story) -> Arg:
    return _numerator(s, "+", "plus")


def fraction_difference(s: Story) -> Arg:
    return _numerator(s, "-", "minus")


def _fraction(s: Story) -> tuple[int, int, int]:
    whole = s.rng.randint(3, 9)
    return s.rng.randint(2, whole - 1), whole, s.rng.randint(2, 12)


def _numerator(s: Story, op: str, word: str) -> Arg:
    a, b = s.rng.sample(range(2, 8), 2)
    p, q, over = s.rng.randint(1, 9), s.rng.randint(1, 9), a * b
    s.say(f"Write {p}/{a} {word} {q}/{b} over {over}. {s.name} has as many {s.items} as the numerator.")
    np, na, nq, nb, total = s.numbers_of(p, a, q, b, over)
    left = s.step("*", s.step("/", total, na), np)
    right = s.step("*", s.step("/", total, nb), nq)
    return s.step(op, left, right)


_PERCENT = {10: 10, 20: 5, 25: 4, 50: 2}  # percent -> what to divide by
_CONSTANTS = {"+": (1, 2), "-": (1, 2), "*": (2, 3, 4), "/": (2, 3, 4, 5, 10)}


def percent_of(s: Story) -> Arg:
    percent, stock = _percent(s)
    s.say(f"A shop has {stock} {s.items} and {s.name} buys {percent} percent of them.")
    return s.step("/", s.number(stock), constant(_PERCENT[percent]))


def percent_left(s: Story) -> Arg:
    percent, stock = _percent(s)
    s.say(f"{s.name} has {stock} {s.items} and sells {percent} percent of them.")
    n = s.number(stock)
    return s.step("-", n, s.step("/", n, constant(_PERCENT[percent])))


def percent_more(s: Story) -> Arg:
    percent, stock = _percent(s)
    s.say(f"{s.name} has {stock} {s.items} and gets {percent} percent more.")
    n = s.number(stock)
    return s.step("+", n, s.step("/", n, constant(_PERCENT[percent])))


def _percent(s: Story) -> tuple[int, int]:
    percent = s.rng.choice(list(_PERCENT))
    return percent, _PERCENT[percent] * s.rng.randint(3, 30)


def equation_plus(s: Story) -> Arg:
    a, b, x = s.rng.randint(2, 9), s.rng.randint(2, 40), s.rng.randint(3, 20)
    s.say(f"Solve {a} x + {b} = {a * x + b}. {s.name} has x {s.items}.")
    na, nb, nc = s.numbers_of(a, b, a * x + b)
    return s.step("/", s.step("-", nc, nb), na)


def equation_minus(s: Story) -> Arg:
    a, b, x = s.rng.randint(2, 9), s.rng.randint(2, 40), s.rng.randint(3, 20)
    s.say(f"Solve {a} x - {b} = {a * x - b}. {s.name} has x {s.items}.")
    na, nb, nc = s.numbers_of(a, b, a * x - b)
    return s.step("/", s.step("+", nc, nb), na)


def equation_divided(s: Story) -> Arg:
    a, b, c = s.rng.randint(2, 9), s.rng.randint(2, 40), s.rng.randint(2, 15)
    s.say(f"Solve x / {a} + {b} = {c + b}. {s.name} has x {s.items}.")
    na, nb, nc = s.numbers_of(a, b, c + b)
    return s.step("*", s.step("-", nc, nb), na)


def rectangle_perimeter(s: Story) -> Arg:
    a, b = s.rng.randint(3, 20), s.rng.randint(3, 12)
    s.say(f"{s.name} has as many {s.items} as the perimeter of a {a} by {b} rectangle.")
    return s.step("*", s.step("+", *s.numbers_of(a, b)), constant(2))


def rectangle_area(s: Story) -> Arg:
    a, b = s.rng.randint(3, 20), s.rng.randint(3, 12)
    s.say(f"{s.name} has as many {s.items} as the area of a {a} by {b} rectangle.")
    return s.step("*", *s.numbers_of(a, b))


def triangle_area(s: Story) -> Arg:
    a, b = s.rng.randint(3, 20), s.rng.randint(3, 12)
    s.say(f"{s.name} has as many {s.items} as the area of a triangle with base {a} and height {b}.")
    return s.step("/", s.step("*", *s.numbers_of(a, b)), constant(2))


def square_perimeter(s: Story) -> Arg:
    a = s.rng.randint(3, 30)
    s.say(f"{s.name} has as many {s.items} as the perimeter of a square with side {a}.")
    return s.step("*", s.number(a), constant(4))


def rate_two_spells(s: Story) -> Arg:
    a, b, c, d = s.rng.randint(3, 20), s.rng.randint(2, 6), s.rng.randint(3, 20), s.rng.randint(2, 6)
    s.say(f"{s.name} makes {a} {s.items} per hour for {b} hours and {c} {s.items} per hour for {d} hours.")
    first, hours, second, more = s.numbers_of(a, b, c, d)
    return s.step("+", s.step("*", first, hours), s.step("*", second, more))


def rate_together(s: Story) -> Arg:
    a, b, c = s.rng.randint(3, 20), s.rng.randint(3, 20), s.rng.randint(2, 6)
    s.say(f"{s.name} makes {a} {s.items} per hour and a friend {b} per hour, both for {c} hours.")
    first, second, hours = s.numbers_of(a, b, c)
    return s.step("*", s.step("+", first, second), hours)


def rate_time(s: Story) -> Arg:
    a, b = s.rng.randint(2, 12), s.rng.randint(3, 15)
    s.say(f"{s.name} gets one of the {s.items} for each hour of a {a * b} km trip at {a} km per hour.")
    return s.step("/", *s.numbers_of(a * b, a))


def counting_from_to(s: Story) -> Arg:
    a, size = s.rng.randint(2, 60), s.rng.randint(6, 60)
    s.say(f"{s.name} has as many {s.items} as there are whole numbers from {a} to {a + size}.")
    na, nb = s.numbers_of(a, a + size)
    return s.step("+", s.step("-", nb, na), constant(1))


def counting_between(s: Story) -> Arg:
    a, size = s.rng.randint(2, 60), s.rng.randint(6, 60)
    s.say(f"{s.name} has as many {s.items} as there are whole numbers between {a} and {a + size}.")
    na, nb = s.numbers_of(a, a + size)
    return s.step("-", s.step("-", nb, na), constant(1))


def counting_ordered(s: Story) -> Arg:
    n = s.number(s.rng.randint(4, 14))
    s.say(f"{s.name} has one of the {s.items} for each way to pick a captain and a deputy from {s.value(n)} people.")
    return s.step("*", n, s.step("-", n, constant(1)))


def counting_unordered(s: Story) -> Arg:
    n = s.number(s.rng.randint(4, 14))
    s.say(f"{s.name} has one of the {s.items} for each way to pick a pair from {s.value(n)} people.")
    return s.step("/", s.step("*", n, s.step("-", n, constant(1))), constant(2))


def counting_outfits(s: Story) -> Arg:
    a, b, c = s.rng.randint(2, 6), s.rng.randint(2, 6), s.rng.randint(2, 5)
    s.say(f"{s.name} has one of the {s.items} for each outfit of {a} hats, {b} shirts and {c} coats.")
    hats, shirts, coats = s.numbers_of(a, b, c)
    return s.step("*", s.step("*", hats, shirts), coats)


def sequence_term(s: Story) -> Arg:
    a, d, n = s.rng.randint(2, 40), s.rng.randint(2, 9), s.rng.randint(4, 15)
    s.say(f"A sequence starts at {a} and rises by {d}. {s.name} has as many {s.items} as term {n}.")
    start, rise, place = s.numbers_of(a, d, n)
    return s.step("+", s.step("*", s.step("-", place, constant(1)), rise), start)


def sequence_rises(s: Story) -> Arg:
    a, d, n = s.rng.randint(2, 40), s.rng.randint(2, 9), s.rng.randint(4, 15)
    s.say(f"A sequence starts at {a} and rises by {d}. {s.name} has as many {s.items} as it has after {n} rises.")
    start, rise, times = s.numbers_of(a, d, n)
    return s.step("+", s.step("*", times, rise), start)


def sequence_falls(s: Story) -> Arg:
    a, d, n = s.rng.randint(40, 150), s.rng.randint(2, 9), s.rng.randint(4, 15)
    s.say(f"A sequence starts at {a} and falls by {d}. {s.name} has as many {s.items} as term {n}.")
    start, fall, place = s.numbers_of(a, d, n)
    return s.step("-", start, s.step("*", s.step("-", place, constant(1)), fall))


def word_packs(s: Story) -> Arg:
    a, b, c = s.rng.randint(2, 9), s.rng.randint(3, 20), s.rng.randint(2, 30)
    s.say(f"{s.name} buys {a} packs of {b} {s.items} but {c} are broken.")
    packs, size, broken = s.numbers_of(a, b, c)
    return s.step("-", s.step("*", packs, size), broken)


def word_packs_and_loose(s: Story) -> Arg:
    a, b, c = s.rng.randint(2, 9), s.rng.randint(3, 20), s.rng.randint(2, 30)
    s.say(f"{s.name} buys {a} packs of {b} {s.items} and {c} loose ones.")
    packs, size, loose = s.numbers_of(a, b, c)
    return s.step("+", s.step("*", packs, size), loose)


def word_times_as_many(s: Story) -> Arg:
    a, b, c = s.rng.randint(5, 40), s.rng.randint(2, 30), s.rng.randint(2, 5)
    s.say(f"A friend has {a} {s.items} and gets {b} more. {s.name} has {c} times as many as the friend then has.")
    first, more, times = s.numbers_of(a, b, c)
    return s.step("*", s.step("+", first, more), times)


TOPICS: dict[str, tuple[Opening, ...]] = {
    "arithmetic": (arithmetic_start, arithmetic_sum, arithmetic_difference),
    "fractions": (fraction_kept, fraction_given, fraction_sum, fraction_difference),
    "percentages": (percent_of, percent_left, percent_more),
    "linear equations": (equation_plus, equation_minus, equation_divided),
    "geometry": (rectangle_perimeter, rectangle_area, triangle_area, square_perimeter),
    "rates": (rate_two_spells, rate_together, rate_time),
    "counting": (counting_from_to, counting_between, counting_ordered, counting_unordered, counting_outfits),
    "sequences": (sequence_term, sequence_rises, sequence_falls),
    "word problems": (word_packs, word_packs_and_loose, word_times_as_many),
}


def more(s: Story, now: Arg) -> Arg:
    a = s.rng.randint(2, 50)
    s.say(f"Then {a} more {s.items} arrive.", f"Next {a} {s.items} are added.")
    return s.step("+", now, s.number(a))


def fewer(s: Story, now: Arg) -> Arg:
    a = s.rng.randint(2, 50)
    s.say(f"Then {a} {s.items} are given away.", f"Next {a} {s.items} get lost.")
    return s.step("-", now, s.number(a))


def bags_arrive(s: Story, now: Arg) -> Arg:
    a, b = s.rng.randint(2, 8), s.rng.randint(2, 12)
    s.say(f"Then {a} bags of {b} {s.items} arrive.", f"Next {a} boxes of {b} {s.items} are added.")
    return s.step("+", now, s.step("*", *s.numbers_of(a, b)))


def bags_leave(s: Story, now: Arg) -> Arg:
    a, b = s.rng.randint(2, 8), s.rng.randint(2, 12)
    s.say(f"Then {a} bags of {b} {s.items} are given away.", f"Next {a} boxes of {b} {s.items} get lost.")
    return s.step("-", now, s.step("*", *s.numbers_of(a, b)))


def doubles(s: Story, now: Arg) -> Arg:
    word, times = s.rng.choice((("doubles", 2), ("triples", 3)))
    s.templates[-1] += f" {times}"
    s.say(f"Then the number of {s.items} {word}.")
    return s.step("*", now, constant(times))


def halves(s: Story, now: Arg) -> Arg:
    word, parts = s.rng.choice((("half", 2), ("a third", 3)))
    s.templates[-1] += f" {parts}"
    s.say(f"Then only {word} of the {s.items} is left.")
    return s.step("/", now, constant(parts))


def swapped_for(s: Story, now: Arg) -> Arg:
    a = s.rng.randint(2, 6)
    s.say(f"Then each is swapped for {a} new {s.items}.")
    return s.step("*", now, s.number(a))


def shared(s: Story, now: Arg) -> Arg:
    a = s.rng.randint(2, 9)
    s.say(f"Then {a} people share the {s.items} equally and one share is kept.")
    return s.step("/", now, s.number(a))


def percent_up(s: Story, now: Arg) -> Arg:
    percent = s.rng.choice(list(_PERCENT))
    s.say(f"Then the number of {s.items} rises by {percent} percent.")
    return s.step("+", now, s.step("/", now, constant(_PERCENT[percent])))


def percent_down(s: Story, now: Arg) -> Arg:
    percent = s.rng.choice(list(_PERCENT))
    s.say(f"Then the number of {s.items} falls by {percent} percent.")
    return s.step("-", now, s.step("/", now, constant(_PERCENT[percent])))


_EVENTS: tuple[Event, ...] = (
    more, fewer, bags_arrive, bags_leave, doubles, halves, swapped_for, shared, percent_up, percent_down,
)  # fmt: skip


def add(s: Story, now: Arg) -> Arg:
    a = s.rng.randint(2, 50)
    s.say(f"Add {a}.")
    return s.step("+", now, s.number(a))


def subtract(s: Story, now: Arg) -> Arg:
    a = s.rng.randint(2, 50)
    s.say(f"Subtract {a}.")
    return s.step("-", now, s.number(a))


def multiply(s: Story, now: Arg) -> Arg:
    a = s.rng.randint(2, 9)
    s.say(f"Multiply by {a}.")
    return s.step("*", now, s.number(a))


def divide(s: Story, now: Arg) -> Arg:
    a = s.rng.randint(2, 9)
    s.say(f"Divide by {a}.")
    return s.step("/", now, s.number(a))


def add_product(s: Story, now: Arg) -> Arg:
    a, b = s.rng.randint(2, 8), s.rng.randint(2, 12)
    s.say(f"Add the product of {a} and {b}.")
    return s.step("+", now, s.step("*", *s.numbers_of(a, b)))


def subtract_product(s: Story, now: Arg) -> Arg:
    a, b = s.rng.randint(2, 8), s.rng.randint(2, 12)
    s.say(f"Subtract the product of {a} and {b}.")
    return s.step("-", now, s.step("*", *s.numbers_of(a, b)))


def double(s: Story, now: Arg) -> Arg:
    s.say("Double it.")
    return s.step("*", now, constant(2))


def halve(s: Story, now: Arg) -> Arg:
    s.say("Halve it.")
    return s.step("/", now, constant(2))


_OPERATIONS: tuple[Event, ...] = (add, subtract, multiply, divide, add_product, subtract_product, double, halve)


def _story(rng: Random, topic: str) -> Story:
    """An opening of the topic, and events until it takes four to six steps."""
    s = Story(rng)
    opening, steps = rng.choice(TOPICS[topic]), rng.choice(STEPS)
    s.templates.append(opening.__name__)
    now = opening(s)
    while len(s.steps) < steps:
        event = rng.choice(_OPERATIONS if topic == "arithmetic" else _EVENTS)
        s.templates.append(event.__name__)
        now = event(s, now)
    if len(s.steps) > steps:
        raise UnfitError
    s.say("What is the result?" if topic == "arithmetic" else f"How many {s.items} are there now?")
    return s


# errors: each gives the solutions that one more mistake of its kind makes of a solution, also such that do not fit


def slip(rng: Random, made: Solution) -> Iterator[Solution]:
    """A step's result is calculated wrongly, and used."""
    for i, result in enumerate(made.results()):
        yield _with_step(made, i, replace(made.steps[i], slip=_misspelt(rng, result) - result))


def operation(rng: Random, made: Solution) -> Iterator[Solution]:
    """Added or subtracted what is to be multiplied or divided by, or back."""
    yield from _with_other_op(made, {"+": "*/", "-": "*/", "*": "+-", "/": "+-"})


def sign(rng: Random, made: Solution) -> Iterator[Solution]:
    """Added what is to be subtracted, or back."""
    yield from _with_other_op(made, {"+": "-", "-": "+"})


def inverse(rng: Random, made: Solution) -> Iterator[Solution]:
    """Multiplied by what is to be divided by, or back."""
    yield from _with_other_op(made, {"*": "/", "/": "*"})


def dropped(rng: Random, made: Solution) -> Iterator[Solution]:
    """A step is left out, and what it started from is used for its result."""
    for i, gone in enumerate(made.steps):
        instead = gone.right if gone.right.kind == "result" and gone.left.kind != "result" else gone.left
        rest = [_renumbered(step, i, -1, instead) for step in made.steps[i + 1 :]]
        yield replace(made, steps=(*made.steps[:i], *rest))


def repeated(rng: Random, made: Solution) -> Iterator[Solution]:
    """A step is done twice."""
    for i, step in enumerate(made.steps):
        by = step.left if step.right.kind == "result" and step.left.kind != "result" else step.right
        rest = [_renumbered(later, i, 1, Arg("result", i + 1)) for later in made.steps[i + 1 :]]
        yield replace(made, steps=(*made.steps[: i + 1], Step(step.op, Arg("result", i), by), *rest))


def misread(rng: Random, made: Solution) -> Iterator[Solution]:
    """A number of the problem is read with a wrong digit, with two digits in the wrong order, or off by 2 or 10."""
    for i, number in enumerate(made.numbers):
        read = _misspelt(rng, number)
        if abs(read - number) > 1:  # else it is `off_by_one`
            yield from _with_numbers(made, {i: read})


def off_by_one(rng: Random, made: Solution) -> Iterator[Solution]:
    """A number of the problem is taken one too high or too low."""
    for i, number in enumerate(made.numbers):
        yield from _with_numbers(made, {i: number - 1})
        yield from _with_numbers(made, {i: number + 1})


def swapped(rng: Random, made: Solution) -> Iterator[Solution]:
    """Two numbers of the problem are taken for one another."""
    for (i, a), (j, b) in combinations(enumerate(made.numbers), 2):
        yield from _with_numbers(made, {i: b, j: a})


def stale(rng: Random, made: Solution) -> Iterator[Solution]:
    """An earlier result is used for a later one."""
    for i, side, arg in _uses(made, "result"):
        for earlier in range(arg.value):
            yield _with_arg(made, i, side, Arg("result", earlier))


def conversion(rng: Random, made: Solution) -> Iterator[Solution]:
    """A constant that the wording implies is taken for another: a half for a third, 20 percent for 25."""
    for i, side, arg in _uses(made, "constant"):
        for value in _CONSTANTS[made.steps[i].op]:
            if value != arg.value:
                yield _with_arg(made, i, side, constant(value))


def miscopied(rng: Random, made: Solution) -> Iterator[Solution]:
    """The answer states the last result misspelt: with a wrong digit, two in the wrong order, or off by a little."""
    for _ in range(4):
        answer = _misspelt(rng, made.results()[-1])
        if answer not in made.results():
            yield replace(made, stated=answer)


def intermediate(rng: Random, made: Solution) -> Iterator[Solution]:
    """The answer states the result of an earlier step."""
    for result in made.results()[:-1]:
        yield replace(made, stated=result)


Error = Callable[[Random, Solution], Iterator[Solution]]
ERRORS: tuple[Error, ...] = (
    slip, operation, sign, inverse, dropped, repeated, misread, off_by_one, swapped, stale, conversion, miscopied,
    intermediate,
)  # fmt: skip
# Seen without the problem, because the lines contradict one another. No other solution is made from one of these: were
# most of the nine to inherit such an error, the right solution could be told without reading the problem.
INCONSISTENT = frozenset({"slip", "miscopied", "intermediate"})


def _misspelt(rng: Random, value: int) -> int:
    """`value` off by a little, with another digit, or with two digits the other way round."""
    text = str(value)
    i = rng.randrange(len(text))
    wrong = [
        value + rng.choice((-2, -1, 1, 2)),
        value + rng.choice((-10, 10)),
        int(text[:i] + str(rng.randrange(10)) + text[i + 1 :]),
        int(text[:i] + text[i : i + 2][::-1] + text[i + 2 :]),
    ]
    return rng.choice([one for one in wrong if one != value and 1 <= one <= LIMIT] or [value + 1])


def _uses(made: Solution, kind: str) -> Iterator[tuple[int, str, Arg]]:
    """(step, side, operand) for every operand of that kind."""
    for i, step in enumerate(made.steps):
        for side, arg in (("left", step.left), ("right", step.right)):
            if arg.kind == kind:
                yield i, side, arg


def _renumbered(step: Step, at: int, by: int, instead: Arg) -> Step:
    """A later step after the results behind `at` have moved by `by`; the one of step `at` is now `instead`."""

    def moved(arg: Arg) -> Arg:
        if arg.kind != "result" or arg.value < at:
            return arg
        return instead if arg.value == at else Arg("result", arg.value + by)

    return replace(step, left=moved(step.left), right=moved(step.right))


def _with_step(made: Solution, i: int, step: Step) -> Solution:
    return replace(made, steps=(*made.steps[:i], step, *made.steps[i + 1 :]))


def _with_arg(made: Solution, i: int, side: str, arg: Arg) -> Solution:
    step = made.steps[i]
    return _with_step(made, i, replace(step, left=arg) if side == "left" else replace(step, right=arg))


def _with_numbers(made: Solution, read: dict[int, int]) -> Iterator[Solution]:
    numbers = tuple(read.get(i, number) for i, number in enumerate(made.numbers))
    if all(2 <= number <= LIMIT for number in read.values()):
        yield replace(made, numbers=numbers)


def _with_other_op(made: Solution, others: dict[str, str]) -> Iterator[Solution]:
    for i, step in enumerate(made.steps):
        for op in others.get(step.op, ""):
            yield _with_step(made, i, replace(step, op=op))


# the ten solutions


def _tree(rng: Random) -> list[tuple[int, int]]:
    """The edges (parent, child), parents first, of a tree drawn uniformly from all on ten nodes.

    The root is the end of an edge drawn uniformly. It is in the middle of things a little more often than a node drawn
    uniformly, because so are the wrong solutions: three kinds of error stand at the rim and yet resemble their parents.
    """
    code = [rng.randrange(CANDIDATES) for _ in range(CANDIDATES - 2)]  # a Pruefer code: each stands for one tree
    waiting, pairs = set(range(CANDIDATES)), []
    for i, node in enumerate(code):
        leaf = min(waiting - set(code[i:]))
        waiting.remove(leaf)
        pairs.append((leaf, node))
    pairs.append((min(waiting), max(waiting)))
    edges, reached = [], [rng.choice(rng.choice(pairs))]
    for parent in reached:
        for pair in pairs:
            if parent in pair:
                child = pair[pair[0] == parent]
                if child not in reached:
                    edges.append((parent, child))
                    reached.append(child)
    return edges


def _ten(rng: Random, right: Solution) -> tuple[Solution, ...]:
    """`right` and nine wrong solutions, each with an error of another kind and an answer of its own."""
    edges = _tree(rng)
    inner = {parent for parent, _ in edges}
    made, answers = {edges[0][0]: right}, {right.answer()}
    errors = list(ERRORS)
    for parent, child in edges:
        rng.shuffle(errors)
        for error in errors:
            if child in inner and error.__name__ in INCONSISTENT:
                continue
            wrong = _drawn(rng, list(error(rng, made[parent])), answers)
            if wrong:
                made[child] = replace(wrong, kinds=(*made[parent].kinds, error.__name__))
                answers.add(wrong.answer())
                errors.remove(error)
                break
        else:
            raise UnfitError
    return tuple(made.values())


def _drawn(rng: Random, options: list[Solution], answers: set[int]) -> Solution | None:
    """One of `options` that has as many steps as a right solution can and an answer of its own.

    A sum fits nearly anywhere, a product rarely, and whatever divides makes small numbers. `_LEAN` makes up for that:
    without it wrong solutions had more sums and more small numbers, and a count of symbols told the right one.
    """
    lean = {what: weight + rng.uniform(-0.5, 0.5) for what, weight in _LEAN.items()}
    fit: list[tuple[float, float, Solution]] = []
    for option in options:
        try:
            if len(option.steps) in STEPS and option.answer() not in answers:
                weight = sum(lean[step.op] for step in option.steps)
                written = [*option.results(), *(number for pair in option.operands() for number in pair)]
                weight += lean["small"] * sum(number < 5 for number in written)
                weight += lean["large"] * sum(number > 100 for number in written)
                fit.append((weight, rng.random(), option))
        except UnfitError:
            continue
    return max(fit)[2] if fit else None


def problems(seed: int, *, held_out: bool) -> Iterator[Problem]:
    """Problems without end, each topic in turn, on the bundled side or on the side to train on."""
    rng = Random(seed)  # noqa: S311 - no secret: the same problems are to come again
    while True:
        for topic in TOPICS:
            yield _problem(rng, topic, held_out=held_out)


def _problem(rng: Random, topic: str, *, held_out: bool) -> Problem:
    while True:
        try:
            s = _story(rng, topic)
            problem = Problem(topic, tuple(s.templates), " ".join(s.sentences), _ten(rng, s.solution))
        except UnfitError:
            continue
        if problem.held_out == held_out:
            return problem


# the bundled rows


def rows(seed: int = _SEED) -> Iterator[dict[str, Any]]:
    """The bundled rows, `_PER_TOPIC` of each topic; the right solution stands equally often in each place."""
    rng = Random(seed)  # noqa: S311
    count = _PER_TOPIC * len(TOPICS)
    places = [i % CANDIDATES for i in range(count)]
    rng.shuffle(places)
    seen: set[str] = set()
    left = dict.fromkeys(TOPICS, _PER_TOPIC)
    for problem in problems(seed, held_out=True):
        if left[problem.topic] and problem.signature not in seen:
            yield _row(f"mini-{len(seen) + 1:03}", problem, places[len(seen)], rng)
            seen.add(problem.signature)
            left[problem.topic] -= 1
        if len(seen) == count:
            return


def text() -> str:
    """What `rows.jsonl` holds."""
    return "".join(json.dumps(row) + "\n" for row in rows())


def _row(name: str, problem: Problem, place: int, rng: Random) -> dict[str, Any]:
    right, *wrong = problem.solutions
    rng.shuffle(wrong)
    return {
        "id": name,
        "subset": problem.topic,
        "prompt": problem.text,
        "reference": str(right.answer()),
        "candidates": [
            {"steps": made.lines(), "label": made is right, "errors": list(made.kinds)}
            for made in (*wrong[:place], right, *wrong[place:])
        ],
    }


if __name__ == "__main__":
    Path(__file__).with_name("rows.jsonl").write_text(text(), encoding="utf-8")
