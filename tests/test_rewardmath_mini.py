"""rewardmath_mini: other code than made it checks every step, and nothing but the problem tells the right solution."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import islice
from statistics import mean, median
from typing import Any

import numpy as np
import pytest

from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.plugins import load_task
from rmbench.tasks.rewardmath_mini import generate
from rmbench.types import Array, Candidate, Example, Message

TASK = load_task("rewardmath_mini")
OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
Equation = tuple[int, str, int, int]


@cache
def bundled() -> tuple[Example, ...]:
    return tuple(TASK.load().examples)


@cache
def training(count: int) -> list[generate.Problem]:
    """Problems as the demo model trains on."""
    return list(islice(generate.problems(0, held_out=False), count))


def right_of(example: Example) -> Candidate:
    (right,) = (c for c in example.candidates if c.label)
    return right


def equations(solution: Candidate) -> list[Equation]:
    *lines, _ = solution.steps or ()
    found = [re.fullmatch(r"Step (\d+): (\d+) ([-+*/]) (\d+) = (\d+)\.", line) for line in lines]
    assert [match and int(match[1]) for match in found] == list(range(1, len(lines) + 1))
    return [(int(match[2]), match[3], int(match[4]), int(match[5])) for match in found if match]


def answer(solution: Candidate) -> int:
    (stated,) = re.findall(r"The answer is (\d+)\.$", solution.text or "")
    return int(stated)


def is_true(equation: Equation) -> bool:
    a, op, b, result = equation
    return OPERATIONS[op](Fraction(a), Fraction(b)) == result


# the rows


def test_the_bundled_rows_are_what_the_generator_makes() -> None:
    assert TASK.bundled is not None
    assert TASK.bundled.read_bytes() == generate.text().encode()


def test_360_problems_of_nine_topics_with_one_right_and_nine_wrong_solutions_of_nine_kinds() -> None:
    assert Counter(e.facets["subset"] for e in bundled()) == dict.fromkeys(generate.TOPICS, 40)
    assert all(Counter(c.label for c in e.candidates) == {True: 1, False: 9} for e in bundled())
    assert all(len({c.tags["kind"] for c in e.candidates if not c.label}) == 9 for e in bundled())
    assert all(len({answer(c) for c in e.candidates}) == 10 for e in bundled())
    kinds = Counter(c.tags["kind"] for e in bundled() for c in e.candidates if not c.label)
    assert set(kinds) == {error.__name__ for error in generate.ERRORS}
    assert min(kinds.values()) > 100


def test_the_right_solution_stands_equally_often_in_each_place() -> None:
    places = Counter([c.label for c in e.candidates].index(True) for e in bundled())
    assert places == dict.fromkeys(range(10), 36)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"candidates": []}, "no `prompt`; found `candidates`; a rewardmath_mini row has"),
        ({"prompt": "?"}, "no `candidates`; found `prompt`; a rewardmath_mini row has"),
        ({"prompt": "?", "candidates": ["a"]}, r"`candidates`: expected a list of objects, got \['a'\]"),
        ({"prompt": "?", "candidates": [{"label": True}]}, "`steps`: expected a list of steps, got None"),
        ({"prompt": "?", "candidates": [{"steps": ["a"], "label": 1}]}, "`label`: expected true or false, got 1"),
        (
            {"prompt": "?", "candidates": [{"steps": ["a"], "label": True}]},
            "`errors`: expected a list of names, got None",
        ),
    ],
)
def test_a_row_of_another_shape_is_an_error(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(TASK.read([Row(row, "x.jsonl", 1)]))


def test_a_row_without_one_right_solution_is_left_out() -> None:
    wrong = {"steps": ["a"], "label": False, "errors": ["slip"]}
    assert list(TASK.read([Row({"prompt": "?", "candidates": [wrong, wrong]}, "x.jsonl", 1)])) == [
        LeftOut("not one right solution")
    ]


# the exact program: it reads the problem's text, and shares no code with the generator

SENTENCES: dict[str, Callable[..., Fraction]] = {
    r"(?:Start with|Take) the number #\.": lambda _, a: a,
    r"Take the sum of # and #\.": lambda _, a, b: a + b,
    r"Take the difference of # and #\.": lambda _, a, b: a - b,
    r"Add #\.": lambda now, a: now + a,
    r"Subtract #\.": lambda now, a: now - a,
    r"Multiply by #\.": lambda now, a: now * a,
    r"Divide by #\.": lambda now, a: now / a,
    r"Add the product of # and #\.": lambda now, a, b: now + a * b,
    r"Subtract the product of # and #\.": lambda now, a, b: now - a * b,
    r"Double it\.": lambda now: now * 2,
    r"Halve it\.": lambda now: now / 2,
    r"\w+ has # \w+ and keeps #/# of them\.": lambda _, n, p, q: n * p / q,
    r"\w+ has # \w+ and gives #/# of them away\.": lambda _, n, p, q: n * (1 - p / q),
    r"Write #/# plus #/# over #\. \w+ has as many \w+ as the numerator\.": lambda _, p, a, q, b, n: (p / a + q / b) * n,
    r"Write #/# minus #/# over #\. \w+ has as many \w+ as the numerator\.": lambda _, p, a, q, b, n: (
        (p / a - q / b) * n
    ),
    r"A shop has # \w+ and \w+ buys # percent of them\.": lambda _, n, p: n * p / 100,
    r"\w+ has # \w+ and sells # percent of them\.": lambda _, n, p: n * (100 - p) / 100,
    r"\w+ has # \w+ and gets # percent more\.": lambda _, n, p: n * (100 + p) / 100,
    r"Solve # x \+ # = #\. \w+ has x \w+\.": lambda _, a, b, c: (c - b) / a,
    r"Solve # x - # = #\. \w+ has x \w+\.": lambda _, a, b, c: (c + b) / a,
    r"Solve x / # \+ # = #\. \w+ has x \w+\.": lambda _, a, b, c: (c - b) * a,
    r"\w+ has as many \w+ as the perimeter of a # by # rectangle\.": lambda _, a, b: a + b + a + b,
    r"\w+ has as many \w+ as the area of a # by # rectangle\.": lambda _, a, b: a * b,
    r"\w+ has as many \w+ as the area of a triangle with base # and height #\.": lambda _, a, b: a * b / 2,
    r"\w+ has as many \w+ as the perimeter of a square with side #\.": lambda _, a: a + a + a + a,
    r"\w+ makes # \w+ per hour for # hours and # \w+ per hour for # hours\.": lambda _, a, b, c, d: a * b + c * d,
    r"\w+ makes # \w+ per hour and a friend # per hour, both for # hours\.": lambda _, a, b, c: a * c + b * c,
    r"\w+ gets one of the \w+ for each hour of a # km trip at # km per hour\.": lambda _, a, b: a / b,
    r"\w+ has as many \w+ as there are whole numbers from # to #\.": lambda _, a, b: Fraction(len(range(a, b + 1))),
    r"\w+ has as many \w+ as there are whole numbers between # and #\.": lambda _, a, b: Fraction(len(range(a + 1, b))),
    r"\w+ has one of the \w+ for each way to pick a captain and a deputy from # people\.": lambda _, n: n * n - n,
    r"\w+ has one of the \w+ for each way to pick a pair from # people\.": lambda _, n: Fraction(sum(range(n))),
    r"\w+ has one of the \w+ for each outfit of # hats, # shirts and # coats\.": lambda _, a, b, c: a * b * c,
    r"A sequence starts at # and rises by #\. \w+ has as many \w+ as term #\.": lambda _, a, d, n: a + d * n - d,
    r"A sequence starts at # and rises by #\. \w+ has as many \w+ as it has after # rises\.": lambda _, a, d, n: (
        a + d * n
    ),
    r"A sequence starts at # and falls by #\. \w+ has as many \w+ as term #\.": lambda _, a, d, n: a - d * n + d,
    r"\w+ buys # packs of # \w+ but # are broken\.": lambda _, a, b, c: a * b - c,
    r"\w+ buys # packs of # \w+ and # loose ones\.": lambda _, a, b, c: a * b + c,
    r"A friend has # \w+ and gets # more\. \w+ has # times as many as the friend then has\.": lambda _, a, b, c: (
        a * c + b * c
    ),
    r"Then # more \w+ arrive\.|Next # \w+ are added\.": lambda now, a: now + a,
    r"Then # \w+ are given away\.|Next # \w+ get lost\.": lambda now, a: now - a,
    r"Then # bags of # \w+ arrive\.|Next # boxes of # \w+ are added\.": lambda now, a, b: now + a * b,
    r"Then # bags of # \w+ are given away\.|Next # boxes of # \w+ get lost\.": lambda now, a, b: now - a * b,
    r"Then the number of \w+ doubles\.": lambda now: now + now,
    r"Then the number of \w+ triples\.": lambda now: now + now + now,
    r"Then only half of the \w+ is left\.": lambda now: now / 2,
    r"Then only a third of the \w+ is left\.": lambda now: now / 3,
    r"Then each is swapped for # new \w+\.": lambda now, a: now * a,
    r"Then # people share the \w+ equally and one share is kept\.": lambda now, a: now / a,
    r"Then the number of \w+ rises by # percent\.": lambda now, p: now * (100 + p) / 100,
    r"Then the number of \w+ falls by # percent\.": lambda now, p: now * (100 - p) / 100,
}
PATTERNS = [(re.compile(pattern.replace("#", r"(\d+)")), does) for pattern, does in SENTENCES.items()]


def solve(text: str) -> Fraction:
    now = Fraction(0)
    while not re.fullmatch(r"What is the result\?|How many \w+ are there now\?", text):
        ((match, does),) = ((m, does) for pattern, does in PATTERNS if (m := pattern.match(text)))
        numbers = [group for group in match.groups() if group is not None]
        exact = int if "whole numbers" in match[0] or "a pair" in match[0] else Fraction  # ranges take no fractions
        now = does(now, *map(exact, numbers))
        text = text[match.end() :].strip()
    return now


def test_the_right_solution_and_no_other_states_the_solved_answer() -> None:
    for e in bundled():
        solved = solve(e.prompt[0].text)
        assert [answer(c) == solved for c in e.candidates] == [bool(c.label) for c in e.candidates], e.prompt
        assert e.reference == str(solved)


def test_every_step_of_a_right_solution_is_true_and_the_last_one_is_its_answer() -> None:
    for e in bundled():
        worked = equations(right_of(e))
        assert all(is_true(equation) for equation in worked), e.prompt
        assert answer(right_of(e)) == worked[-1][3]


def test_a_wrong_solution_contradicts_itself_only_where_that_is_its_kind_of_error() -> None:
    for e in bundled():
        for c in e.candidates:
            worked = equations(c)
            results = [result for *_, result in worked]
            kind = c.tags.get("kind")
            assert [is_true(equation) for equation in worked].count(False) == (kind == "slip"), c.text
            assert (answer(c) not in results) == (kind == "miscopied"), c.text
            assert (answer(c) in results[:-1] and answer(c) != results[-1]) == (kind == "intermediate"), c.text


SAME_SORT = ({"+", "-"}, {"*", "/"})
NUMBERS_IN_WORDS = {1, 2, 3, 4, 5, 10}


def made_error(prompt: str, right: list[Equation], wrong: list[Equation]) -> set[str]:
    """The kinds of error that explain where two solutions first differ."""
    if len(wrong) != len(right):
        return {"dropped" if len(wrong) < len(right) else "repeated"}
    place, ours, theirs = next((i, a, b) for i, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b)
    if ours[:3] == theirs[:3]:
        return {"slip"}
    if ours[1] != theirs[1]:
        assert (ours[0], ours[2]) == (theirs[0], theirs[2])
        if {ours[1], theirs[1]} in SAME_SORT:
            return {"sign" if theirs[1] in "+-" else "inverse"}
        return {"operation"}
    told = {int(number) for number in re.findall(r"\d+", prompt)}
    kinds = set()
    for was, now in ((ours[0], theirs[0]), (ours[2], theirs[2])):
        if was != now:
            kinds |= {"off_by_one"} if was in told and abs(was - now) == 1 else set()
            kinds |= {"misread"} if was in told and abs(was - now) > 1 else set()
            kinds |= {"swapped"} if was in told and now in told else set()
            kinds |= {"conversion"} if was in NUMBERS_IN_WORDS and now in NUMBERS_IN_WORDS else set()
            kinds |= {"stale"} if now in {result for *_, result in right[:place]} else set()
    return kinds


def test_a_solution_with_one_error_has_the_error_that_its_kind_names() -> None:
    checked: Counter[str] = Counter()
    for e in bundled():
        right = equations(right_of(e))
        for c in e.candidates:
            if c.tags.get("errors") == "1":
                kind = c.tags["kind"]
                checked[kind] += 1
                if kind in ("miscopied", "intermediate"):
                    assert equations(c) == right
                else:
                    assert kind in made_error(e.prompt[0].text, right, equations(c)), (kind, e.prompt, c.text)
    assert min(checked.values()) > 10
    assert len(checked) == 13


# shortcuts: chance is 0.1


def accuracy(scores: Sequence[Sequence[float]]) -> float:
    """How often the highest score is the right solution's, with ties broken at random."""
    picks = []
    for e, values in zip(bundled(), scores, strict=True):
        best = max(values)
        picks.append(mean(bool(c.label) for c, value in zip(e.candidates, values, strict=True) if value == best))
    return mean(picks)


def per_solution(feature: Callable[[Candidate], float]) -> list[list[float]]:
    return [[feature(c) for c in e.candidates] for e in bundled()]


def nearest(values: list[list[float]], middle: Callable[[list[float]], float]) -> list[list[float]]:
    return [[-abs(value - middle(row)) for value in row] for row in values]


def length(solution: Candidate) -> float:
    return len(solution.text or "")


def step_count(solution: Candidate) -> float:
    return len(solution.steps or ())


def most_common(values: list[float]) -> float:
    return Counter(values).most_common()[0][0]


def frequency(values: list[list[float]]) -> list[list[float]]:
    return [[row.count(value) for value in row] for row in values]


@pytest.mark.parametrize("feature", [length, step_count])
def test_right_and_wrong_solutions_have_the_same_mean(feature: Callable[[Candidate], float]) -> None:
    means = {
        right: mean(feature(c) for e in bundled() for c in e.candidates if c.label is right) for right in (True, False)
    }
    print(feature.__name__, means)
    assert means[True] == pytest.approx(means[False], rel=0.03)


SHORTCUTS: dict[str, Callable[[], list[list[float]]]] = {
    "longest": lambda: per_solution(length),
    "shortest": lambda: per_solution(lambda c: -length(c)),
    "median length": lambda: nearest(per_solution(length), median),
    "most steps": lambda: per_solution(step_count),
    "fewest steps": lambda: per_solution(lambda c: -step_count(c)),
    "median step count": lambda: nearest(per_solution(step_count), median),
    "most frequent step count": lambda: frequency(per_solution(step_count)),
    "most frequent answer": lambda: frequency(per_solution(answer)),
    "rarest answer": lambda: [[-value for value in row] for row in frequency(per_solution(answer))],
    "median answer": lambda: nearest(per_solution(answer), median),
    "mean answer": lambda: nearest(per_solution(answer), mean),
    "answer nearest to the most of the others": lambda: [
        [-sum(abs(value - other) for other in row) for value in row] for row in per_solution(answer)
    ],
    "most like the others": lambda: [
        [sum(shared(a, b) for b in e.candidates) for a in e.candidates] for e in bundled()
    ],
    "least like the others": lambda: [
        [-sum(shared(a, b) for b in e.candidates) for a in e.candidates] for e in bundled()
    ],
    **{
        f"answer number {i + 1} in order": lambda i=i: [  # type: ignore[misc]
            [float(sorted(row).index(value) == i) for value in row] for row in per_solution(answer)
        ]
        for i in range(10)
    },
    **{
        f"place {i + 1}": lambda i=i: [[float(j == i) for j in range(10)] for _ in bundled()]  # type: ignore[misc]
        for i in range(10)
    },
}


def shared(a: Candidate, b: Candidate) -> float:
    """The part of the words of two solutions that is in both."""
    ours, theirs = Counter(words(a.text or "")), Counter(words(b.text or ""))
    return (ours & theirs).total() / (ours | theirs).total()


def words(text: str) -> list[str]:
    return re.findall(r"Step \d+|\w+|[-+*/]", text)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_no_shortcut_finds_the_right_solution(shortcut: str) -> None:
    found = accuracy(SHORTCUTS[shortcut]())
    print(f"{shortcut}: {found:.3f}")
    assert found < 0.2


@pytest.mark.parametrize("loss", ["each solution by itself", "the ten against one another"])
def test_a_bag_of_words_does_not_find_the_right_solution(loss: str) -> None:
    texts = [[solution.text for solution in problem.solutions] for problem in training(3000)]
    vocabulary = {word: i for i, word in enumerate(sorted({w for ten in texts for text in ten for w in words(text)}))}
    weights = logistic_regression(np.stack([[bag(vocabulary, text) for text in ten] for ten in texts]), loss)
    found = accuracy([[float(bag(vocabulary, c.text or "") @ weights) for c in e.candidates] for e in bundled()])
    print(f"bag of words, {loss}: {found:.3f}")
    assert found < 0.2


def bag(vocabulary: dict[str, int], text: str) -> Array:
    counts = np.zeros(len(vocabulary), dtype=np.float32)
    for word in words(text):
        if word in vocabulary:
            counts[vocabulary[word]] += 1
    return counts  # type: ignore[return-value]


def logistic_regression(counts: Array, loss: str) -> Array:
    """Weights of words from [problems, 10, words], where solution 0 is the right one."""
    import torch

    x = torch.tensor(counts)
    right = torch.zeros(x.shape[:2])
    right[:, 0] = 1
    weights, bias = torch.zeros(x.shape[2], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        scores = x @ weights
        if loss == "each solution by itself":
            fit = torch.nn.functional.binary_cross_entropy_with_logits(scores + bias, right)
        else:
            fit = torch.nn.functional.cross_entropy(scores, right)
        fit = fit + 1e-4 * weights.square().sum()
        fit.backward()
        return fit

    optimizer.step(closure)
    return weights.detach().numpy()  # type: ignore[return-value]


# the bundled problems are no training problems


def test_no_training_problem_is_bundled() -> None:
    bundled_texts = {normalised(e.prompt) for e in bundled()}
    bundled_signatures = {signature(e.prompt) for e in bundled()}
    assert len(bundled_texts) == 360
    assert not any(problem.held_out for problem in training(3000))
    assert not bundled_texts & {normalised((Message("user", problem.text),)) for problem in training(3000)}
    assert not bundled_signatures & {signature((Message("user", problem.text),)) for problem in training(3000)}


def normalised(prompt: Sequence[Message]) -> str:
    """The text in lower case, without names and things."""
    things = "|".join(("Ada", "Ben", "Chi", "Dora", "Emil", "Fay", "Gus", "Hana", "apples", "coins", "books", "cards",
                       "shells", "stamps", "pens", "beads"))  # fmt: skip
    return " ".join(re.sub(rf"\b({things})\b", "_", prompt[0].text).lower().split())


def signature(prompt: Sequence[Message]) -> tuple[Any, ...]:
    """The templates, as the exact program tells them apart, and the operands."""
    templates, text = [], prompt[0].text
    while match := next((m for pattern, _ in PATTERNS if (m := pattern.match(text))), None):
        templates.append(match.re.pattern)
        text = text[match.end() :].strip()
    return (*templates, *re.findall(r"\d+", prompt[0].text))
