"""Makes `rows.jsonl`: questions whose answer a few lines of Python know, each with one right and three wrong responses.

    python -m rmbench.tasks.best_of_n.generate

The wrong responses make a mistake that people make (an operation left out, the wrong column, a month too long) and
state it with the same confidence. Wording is drawn apart from correctness, so that length says nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, TypeVar

_T = TypeVar("_T")

_SEED = 20250
_PER_KIND = 12
_WORDINGS = (
    "{Reason}. The answer is {answer}.",
    "The answer is {answer}: {reason}.",
    "Let me work it out step by step. {Reason}. So the answer is {answer}.",
    "The answer is {answer}. Here is why: {reason}.",
    "{Reason}, and therefore the answer is {answer}.",
)
_NAMES = ("Ada", "Ben", "Chi", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivo", "June", "Kofi", "Lena")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WORDS = (
    "lantern", "pebble", "harbour", "saddle", "orchard", "thimble", "cabinet", "meadow", "blanket", "rudder",
    "candle", "ribbon", "marble", "kettle", "puzzle", "bottle", "garden", "pillow", "ladder", "basket",
    "mitten", "copper", "window", "summit", "cotton", "tunnel", "yellow", "rabbit", "hammer", "button",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A prompt and four solutions, the right one first: (reason, answer)."""

    prompt: str
    solutions: tuple[tuple[str, str], ...]


def boxes(rng: Random) -> Question:
    count, size, loose = rng.randrange(3, 13), rng.randrange(6, 25), rng.randrange(2, 10)
    item = rng.choice(("pencils", "marbles", "tiles", "candles"))
    return Question(
        f"A shelf holds {count} boxes with {size} {item} each, and {loose} loose {item} beside them. "
        f"How many {item} are on the shelf?",
        (
            (f"{count} * {size} = {count * size} in boxes, and {count * size} + {loose} = {count * size + loose}",
             str(count * size + loose)),
            (f"each box has {size} + {loose} = {size + loose}, and {count} * {size + loose} = {count * (size + loose)}",
             str(count * (size + loose))),
            (f"{count} * {size} = {count * size} in boxes, and {count * size} - {loose} = {count * size - loose}",
             str(count * size - loose)),
            (f"{count} + {size} = {count + size} in boxes, and {count + size} + {loose} = {count + size + loose}",
             str(count + size + loose)),
        ),
    )  # fmt: skip


def change(rng: Random) -> Question:
    price, count, tax = rng.randrange(3, 15), rng.randrange(2, 9), rng.randrange(2, 6)
    total = price * count + tax
    paid = (total // 50 + 1) * 50
    name, item = rng.choice(_NAMES), rng.choice(("notebooks", "tickets", "mugs", "plants"))

    def pay(cost: int, sum_: str) -> tuple[str, str]:
        return f"the cost is {sum_} = {cost} euros, and {paid} - {cost} = {paid - cost}", str(paid - cost)

    return Question(
        f"{name} buys {count} {item} at {price} euros each and pays a delivery fee of {tax} euros once. {name} hands "
        f"over {paid} euros. How many euros does {name} get back?",
        (
            pay(total, f"{count} * {price} + {tax}"),
            pay(price * count - tax, f"{count} * {price} - {tax}"),
            pay(price + count + tax, f"{count} + {price} + {tax}"),
            pay(price + tax, f"{price} + {tax}"),
        ),
    )


def units(rng: Random) -> Question:
    whole, rest = rng.randrange(2, 12), rng.randrange(5, 60)
    big, small, factor, wrong = rng.choice(
        (
            ("hours", "minutes", 60, 100),
            ("feet", "inches", 12, 10),
            ("pounds", "ounces", 16, 12),
            ("weeks", "days", 7, 5),
        )
    )
    rest = rest % (factor - 1) + 1

    def convert(per: int, sign: int) -> tuple[str, str]:
        product, result = whole * per, whole * per + sign * rest
        sum_ = f"{product} {'+' if sign > 0 else '-'} {rest} = {result}"
        return f"{whole} {big} are {whole} * {per} = {product} {small}, and {sum_}", str(result)

    return Question(
        f"How many {small} are {whole} {big} and {rest} {small}?",
        (convert(factor, 1), convert(wrong, 1), convert(factor, -1), convert(factor + 2, 1)),
    )


def dates(rng: Random) -> Question:
    start = date(rng.randrange(2021, 2030), rng.randrange(1, 13), rng.randrange(12, 19))
    days = rng.randrange(26, 35)
    after = start.replace(day=28) + timedelta(days=4)
    length = (after.replace(day=1) - timedelta(days=1)).day
    month = _MONTHS[start.month - 1]

    def due(length: int) -> tuple[str, str]:
        left = days - (length - start.day)
        reason = f"{month} has {length} days, so {length - start.day} of the {days} days are over by its end"
        return f"{reason} and {left} remain", _written(after.replace(day=left))

    return Question(
        f"A library book is borrowed on {_written(start)} and is due {days} days later. On which date is it due?",
        tuple(due(assumed) for assumed in (length, *(other for other in (28, 29, 30, 31) if other != length))),
    )


def clock(rng: Random) -> Question:
    start = rng.randrange(6, 16) * 60 + rng.randrange(21, 60)
    hours, minutes = rng.randrange(1, 6), rng.randrange(40, 60)
    halfway = start + hours * 60

    def arrive(slip: int) -> tuple[str, str]:
        end = _clock(halfway + minutes + slip)
        return f"{hours} hours after {_clock(start)} is {_clock(halfway)}, and {minutes} minutes later is {end}", end

    return Question(
        f"A train leaves at {_clock(start)} and travels for {hours} hours and {minutes} minutes without crossing "
        "midnight. At what time does it arrive?",
        tuple(arrive(slip) for slip in (0, -60, 60, 10)),
    )


def table(rng: Random) -> Question:
    shops, months = _sample(rng, _NAMES, 4), _sample(rng, _MONTHS, 3)
    columns = [_sample(rng, range(10, 100), len(shops)) for _ in months]
    sales = dict(zip(shops, zip(*columns, strict=True), strict=True))
    month = rng.randrange(len(months))
    lines = [f"| shop | {' | '.join(months)} |"]
    lines += [f"| {shop} | {' | '.join(str(number) for number in row)} |" for shop, row in sales.items()]
    by_sales = sorted(shops, key=lambda shop: -sales[shop][month])
    return Question(
        "\n".join(
            [*lines, "", f"Each number is what a shop sold in that month. Which shop sold most in {months[month]}?"]
        ),
        tuple(
            (f"going down the column {months[month]}, {sales[shop][month]} for {shop} is the largest number", shop)
            for shop in by_sales
        ),
    )


def order(rng: Random) -> Question:
    words = _sample(rng, _WORDS, 5)
    place = rng.randrange(1, 4)
    ranked = sorted(words)
    name = {1: "second", 2: "third", 3: "fourth"}[place]
    others = _sample(rng, [word for word in ranked if word != ranked[place]], 3)
    return Question(
        f"Put these words in alphabetical order: {', '.join(words)}. Which word comes {name}?",
        tuple(
            (f"sorting all five words by their letters puts {word} in place {place + 1}", word)
            for word in (ranked[place], *others)
        ),
    )


def letters(rng: Random) -> Question:
    word = rng.choice(_WORDS)
    backwards = word[::-1]
    at = rng.randrange(1, len(word) - 2)
    swapped = backwards[:at] + backwards[at + 1] + backwards[at] + backwards[at + 2 :]
    rotated = word[-1] + word[:-1]
    dropped = backwards[:at] + backwards[at] + backwards[at:]
    return Question(
        f"Write the word {word!r} backwards.",
        tuple(
            (f"its letters from the last to the first are {' '.join(spelt)}", spelt)
            for spelt in (backwards, swapped, rotated, dropped)
        ),
    )


def chain(rng: Random) -> Question:
    people = _sample(rng, _NAMES, 4)
    older = [f"{a} is older than {b}." for a, b in pairwise(people)]
    rng.shuffle(older)
    place = rng.randrange(4)
    name = ("oldest", "second oldest", "second youngest", "youngest")[place]
    return Question(
        f"{' '.join(older)} Who is the {name} of the four?",
        tuple(
            (f"following the comparisons from the top down, the {name} must be {person}", person)
            for person in (people[place], *(person for person in people if person != people[place]))
        ),
    )


KINDS: tuple[Callable[[Random], Question], ...] = (boxes, change, units, dates, clock, table, order, letters, chain)


def rows(seed: int = _SEED) -> Iterator[dict[str, Any]]:
    """The bundled rows, `_PER_KIND` of each kind; the right response stands as often in each of the four places."""
    rng = Random(seed)  # noqa: S311 - no secret: the same rows are to come again
    for kind in KINDS:
        prompts: set[str] = set()
        places = _sample(rng, [index % 4 for index in range(_PER_KIND)], _PER_KIND)
        while len(prompts) < _PER_KIND:
            question = kind(rng)
            if question.prompt in prompts or len({answer for _, answer in question.solutions}) < 4:
                continue
            place = places[len(prompts)]
            prompts.add(question.prompt)
            yield _row(f"{kind.__name__}-{len(prompts):02}", kind.__name__, question, place, rng)


def text() -> str:
    """What `rows.jsonl` holds."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows())


def _row(name: str, kind: str, question: Question, place: int, rng: Random) -> dict[str, Any]:
    right, *wrong = (_worded(rng, reason, answer) for reason, answer in question.solutions)
    rng.shuffle(wrong)
    texts = [*wrong[:place], right, *wrong[place:]]
    candidates = [{"text": text, "label": index == place} for index, text in enumerate(texts)]
    return {"id": name, "subset": kind, "prompt": question.prompt, "candidates": candidates}


def _worded(rng: Random, reason: str, answer: str) -> str:
    return rng.choice(_WORDINGS).format(reason=reason, Reason=reason[0].upper() + reason[1:], answer=answer)


def _sample(rng: Random, items: Sequence[_T], count: int) -> tuple[_T, ...]:
    left = list(items)
    rng.shuffle(left)
    return tuple(left[:count])


def _written(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


if __name__ == "__main__":
    Path(__file__).with_name("rows.jsonl").write_text(text(), encoding="utf-8")
