"""length_bias: rows that are what they say, and a love of length that is put in and found again."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from hashlib import sha256
from pathlib import Path
from statistics import mean

import numpy as np
import pytest

import rmbench
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.metrics.interval import Estimate, estimate
from rmbench.metrics.padding import WAYS
from rmbench.metrics.probe import edit_name
from rmbench.plugins import load_task
from rmbench.results.replay import outcomes_of
from rmbench.tasks.length_bias import count_words, generate
from rmbench.types import Array, Example, Reward

TASK = load_task("length_bias")
PADDED = [f"{way}_{strength}" for way in WAYS for strength in ("weak", "strong")]
WRONG_PADDED = [f"wrong_{way}_strong" for way in WAYS]
ALIKE = [("sufficient", "wrong"), *((f"{way}_strong", f"wrong_{way}_strong") for way in WAYS)]


@dataclass(frozen=True)
class Prompt:
    """A bundled prompt with its answers by name: `sufficient`, `filler_weak`, `wrong_filler_strong`, ..."""

    example: Example
    answers: dict[str, str]

    def ratio(self, name: str, base: str = "sufficient") -> float:
        return count_words(self.answers[name]) / count_words(self.answers[base])


@cache
def bundled() -> tuple[Prompt, ...]:
    return tuple(Prompt(e, {edit_name(c.tags): c.text or "" for c in e.candidates}) for e in TASK.load().examples)


def of_kind(kind: str) -> list[Prompt]:
    return [p for p in bundled() if p.example.facets["subset"] == kind]


# the rows


def test_the_bundled_rows_are_what_the_generator_makes() -> None:
    assert TASK.bundled is not None
    assert TASK.bundled.read_bytes() == generate.text().encode()


def test_120_prompts_of_three_kinds_have_each_edit_once_and_labels_that_fit() -> None:
    assert Counter(p.example.facets["subset"] for p in bundled()) == dict.fromkeys(
        ["question", "instruction", "math"], 40
    )
    assert len({p.example.prompt for p in bundled()}) == len({p.example.id for p in bundled()}) == 120
    for p in bundled():
        assert set(p.answers) == {"sufficient", "tightened", "wrong", *PADDED, *WRONG_PADDED}
        assert len(p.example.candidates) == 15
        assert all(c.label is not c.tags["edit"].startswith("wrong") for c in p.example.candidates)
        assert all(c.tags["words"] == count_words(c.text or "") for c in p.example.candidates)


def test_words_and_punctuation_marks_are_counted() -> None:
    assert count_words("So 3 * 4 = 12, isn't it?") == 12  # So 3 * 4 = 12 , isn ' t it ?


def test_lengths_are_within_the_bounds_that_the_card_states() -> None:
    for p in bundled():
        assert p.ratio("tightened") <= 0.75, p.example.id
        assert 0.85 <= p.ratio("wrong") <= 1.15, p.example.id
        for name in [*PADDED, *WRONG_PADDED]:
            base = "wrong" if name in WRONG_PADDED else "sufficient"
            low, high = (0.3, 0.6) if name.endswith("weak") else (1.2, 2.0)
            assert low <= p.ratio(name, base) - 1 <= high, (p.example.id, name)


def test_a_padded_answer_has_the_plain_one_in_it_line_by_line_and_a_strong_padding_the_weak_one() -> None:
    for p in bundled():
        for name in [*PADDED, *WRONG_PADDED]:
            rest = p.answers[name]
            for line in p.answers["wrong" if name in WRONG_PADDED else "sufficient"].split("\n"):
                assert line in rest, (p.example.id, name)
                rest = rest.partition(line)[2]
        for way in WAYS:
            weak, strong = (Counter(re.findall(r"\w+", p.answers[f"{way}_{s}"])) for s in ("weak", "strong"))
            assert weak < strong, (p.example.id, way)


def test_no_text_stands_twice() -> None:
    assert max(Counter(text for p in bundled() for text in p.answers.values()).values()) == 1


def padding_of(p: Prompt, name: str) -> str:
    """A padded answer without the lines of the plain one."""
    rest = p.answers[name]
    for line in p.answers["sufficient"].split("\n"):
        rest = rest.replace(line, "|", 1)
    return rest


def test_no_phrase_of_four_words_gives_padding_away() -> None:
    seen: Counter[tuple[str, ...]] = Counter()
    for p in bundled():
        phrases = set()
        for name in PADDED:
            words = re.findall(r"\w+|\|", padding_of(p, name))
            phrases |= {tuple(words[i : i + 4]) for i in range(len(words) - 3)}
        seen.update(phrase for phrase in phrases if "|" not in phrase)
    print(seen.most_common(5))
    assert seen.most_common(1)[0][1] <= 0.25 * len(bundled())


def test_the_order_of_prompts_and_candidates_tells_nothing() -> None:
    assert all(
        len({p.example.facets["subset"] for p in bundled()[start : start + 12]}) == 3 for start in range(0, 120, 12)
    )
    places = Counter(list(p.answers).index("sufficient") for p in bundled())
    assert max(places.values()) <= 18  # 8 expected
    earlier = mean(list(p.answers).index("sufficient") < list(p.answers).index("wrong") for p in bundled())
    assert 0.4 < earlier < 0.6


# mathematics: solved from the numbers of the prompt, by code that shares nothing with the texts

SOLUTIONS: dict[str, Callable[..., float]] = {
    "tiles": lambda wide, high, boxes, size, broken: boxes * size - broken - wide * high,
    "cinema": lambda n, price, m, cheaper, film: n * price + m * cheaper - film,
    "cyclist": lambda t, v, u, w, tour: tour - t * v - u * w,
    "paint": lambda a, h, b, k, pot: 2 * (a * h + b * k) / pot,
    "savings": lambda had, monthly, months, bicycle: had + monthly * months - bicycle,
    "eggs": lambda hens, each, home, box: (hens * each - home) / box,
    "discount": lambda price, percent, voucher: price * (1 - Fraction(percent, 100)) - voucher,
    "pool": lambda full, now, a, b: (full - now) / (a + b),
    "class": lambda n, a, m, b, seats, adults, buses: buses * seats - adults - n * a - m * b,
    "garden": lambda a, b, gate, price: (2 * a + 2 * b - gate) * price,
    "mean": lambda a, b, c, d, goal: 5 * goal - (a + b + c + d),
    "ribbon": lambda metres, pieces, each: 100 * metres - pieces * each,
    "clock": lambda hour, minute, film, pause: 24 * 60 - (60 * hour + minute + film + pause),
    "cards": lambda cards, lost: cards * Fraction(3, 4) - lost,
    "ages": lambda now, then: 4 * now + then - now,
    "train": lambda way, t, more, faster: way + more * (way / t + faster),
    "apples": lambda crates, each, bad, bag: (crates * each - bad) / bag,
    "box": lambda a, b, c, held: a * b * c - held,
    "wages": lambda pay, hours, days, more, saturday: pay * (hours * days + saturday) + more * saturday,
    "ratio": lambda juice, water, glasses, each: glasses * each * Fraction(juice, juice + water),
    "stairs": lambda floors, steps, low, high, seconds: (high - low) * steps * seconds,
    "books": lambda shelves, each, given, packs, size: shelves * each - given + packs * size,
    "equation": lambda a, b, c, d: Fraction(b + d, a - c),
    "heating": lambda oil, w, days, s, more: oil - w * days - s * more,
    "triangle": lambda base, height, side: base * height / 2 - side**2,
    "bakery": lambda rolls, _: rolls * Fraction(2, 3) / 2,
    "phone": lambda euros, free, cents, used, *_: 100 * euros + (used - free) * cents,
    "rope": lambda a, b, c, piece: a / piece - 1 + b / piece - 1 + c / piece - 1,
    "bulbs": lambda lamps, each, price, every: (lamps * each - lamps * each // every) * price,
    "sequence": lambda first, rise: first + (first + 19 * rise),
    "party": lambda pizzas, slices, guests, each, dogs: (pizzas * slices - guests * each) / dogs,
    "coins": lambda n, worth, m, cents, out: n * worth + m * Fraction(cents, 100) - out,
    "hike": lambda start, up, down, again: start + up - down + again,
    "seeds": lambda seeds, part, whole, packets, eaten: packets * seeds * Fraction(part, whole) - eaten,
    "interest": lambda percent, euros, years, fee: years * (euros * Fraction(percent, 100) - fee),
    "printer": lambda speed, copies, pages, warming: copies * pages / speed + warming,
    "fields": lambda n, each, other, tons, sold: (n * each + other) * tons - sold,
    "lift": lambda most, n, adult, m, crate, small: (most - n * adult - m * crate) / small,
    "pages": lambda pages, slow, fast: 7 + (pages - 7 * slow) / fast,
    "ferry": lambda cars, people, trips, free, a, b: trips * (cars * a + (people - free) * b),
}


def stated(text: str) -> str:
    """The number in the final line of a solution."""
    (line,) = re.findall(r"^Answer: .*$", text, re.MULTILINE)
    return re.findall(r"\d+", line)[-1]


def test_every_right_solution_and_no_wrong_one_states_what_the_prompt_asks_for() -> None:
    assert {p.example.id for p in of_kind("math")} == {f"math-{name}" for name in SOLUTIONS}
    for p in of_kind("math"):
        numbers = [int(number) for number in re.findall(r"\d+", p.example.prompt[0].text)]
        solved = str(int(SOLUTIONS[p.example.id.removeprefix("math-")](*numbers)))
        for name, text in p.answers.items():
            assert (stated(text) == solved) is not name.startswith("wrong"), (p.example.id, name, solved)


def test_every_sum_holds_in_right_and_wrong_solutions_and_in_their_padding() -> None:
    for p in of_kind("math"):
        for name, text in p.answers.items():
            body = text.replace(p.example.prompt[0].text, "")
            sums = re.findall(r"([\d.]+) ([-+*/]) ([\d.]+) = ([\d.]*\d)", body)
            assert len(sums) >= 3
            for a, op, b, c in sums:
                x, y = Fraction(a), Fraction(b)
                assert {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else None}[op] == Fraction(c), (name, text)


def test_solutions_take_three_to_six_steps_and_tightened_ones_keep_every_sum() -> None:
    for p in of_kind("math"):
        steps = p.answers["sufficient"].split("\n")[:-1]
        assert 3 <= len(steps) <= 6
        assert all(
            re.findall(r"\S+ [-+*/] \S+ = \d[\d.]*", step)[0].rstrip(".") in p.answers["tightened"] for step in steps
        )


# what is wrong is not seen from the outside


@pytest.mark.parametrize(("right", "wrong"), ALIKE)
def test_length_does_not_tell_right_from_wrong(right: str, wrong: str) -> None:
    for measure in (count_words, len):
        longer = [np.sign(measure(p.answers[right]) - measure(p.answers[wrong])) for p in bundled()]
        picked = mean((sign + 1) / 2 for sign in longer)
        print(f"{right} is the longer one, by {measure.__name__}: {picked:.3f}")
        assert 0.4 < picked < 0.6


@pytest.mark.parametrize(("right", "wrong"), ALIKE)
def test_a_bag_of_words_does_not_tell_right_from_wrong(right: str, wrong: str) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold

    vocabulary = sorted({word for p in bundled() for name in (right, wrong) for word in words(p.answers[name])})
    index = {word: i for i, word in enumerate(vocabulary)}
    more = np.stack([bag(index, p.answers[right]) - bag(index, p.answers[wrong]) for p in bundled()])
    won = []
    for train, test in KFold(10, shuffle=True, random_state=0).split(more):
        pairs, labels = np.concatenate([more[train], -more[train]]), np.repeat([1, 0], len(train))
        weights = LogisticRegression(fit_intercept=False, max_iter=1000).fit(pairs, labels).coef_[0]
        won += list((np.sign(more[test] @ weights) + 1) / 2)
    print(f"bag of words, {right} against {wrong}: {mean(won):.3f}")
    assert mean(won) < 0.62


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|[^\w\s]", text.lower())


def bag(index: dict[str, int], text: str) -> Array:
    counts = np.zeros(len(index))
    for word in words(text):
        counts[index[word]] += 1
    return counts


# rewards whose love of length is known


@cache
def labels() -> dict[str, bool]:
    return {c.text or "": bool(c.label) for p in bundled() for c in p.example.candidates}


@dataclass(frozen=True)
class Made:
    """A reward made of what is known: `quality` if the answer is right, `b` a word, and noise drawn from the text."""

    quality: float
    b: float
    noise: float = 1.0
    seed: int = 0

    def __call__(self, prompt: str, response: str) -> float:
        digest = sha256(f"{self.seed}|{response}".encode()).digest()
        noise = np.random.default_rng(int.from_bytes(digest[:8])).normal(scale=self.noise)
        return self.quality * labels()[response] + self.b * count_words(response) + float(noise)


def run(model: Callable[[str, str], float]) -> dict[str, Estimate]:
    (result,) = rmbench.evaluate(model, ["length_bias"])
    assert result.calibration is None
    assert result.left_out == {}
    return {
        m.name: Estimate(m.name, m.value, m.ci_low, m.ci_high, m.n, m.clusters, m.p)  # type: ignore[arg-type]
        for m in result.metrics
        if m.subset == "all"
    }


@pytest.mark.parametrize("b", [-0.02, 0.0, 0.01, 0.05])
def test_reward_per_100_tokens_gives_back_what_a_word_is_worth(b: float) -> None:
    found = run(Made(quality=3, b=b))["reward_per_100_tokens"]
    assert found.ci_low < 100 * b < found.ci_high
    assert found.ci_high - found.ci_low < 1.1
    assert found.p is not None
    assert (found.p < 0.01) == (b != 0)


def zero_held(runs: int, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """How often the interval holds 0, and how often p is below 5 %, for a reward without a love of length."""
    asked = [(p.example, TASK.questions(p.example, frozenset({"reward"}), "data")) for p in bundled()]
    held: dict[str, list[tuple[bool, bool]]] = {name: [] for name in names}
    rng = np.random.default_rng(0)
    for seed in range(runs):
        outcomes = [
            TASK.outcome(e, requests, [Reward((3.0 * bool(c.label) + rng.normal(),)) for c in e.candidates])
            for e, requests in asked
        ]
        chosen = [s for s in TASK.measure.statistics(outcomes, "default", None) if s.name in names]
        for found in estimate(chosen, range(len(outcomes)), draws=1000, seed=seed):
            held[found.name].append((found.ci_low <= 0 <= found.ci_high, (found.p or 0) < 0.05))
    return {name: (mean(a for a, _ in some), mean(b for _, b in some)) for name, some in held.items()}


def test_without_a_love_of_length_zero_is_held_at_the_nominal_rate() -> None:
    for name, (covered, rejected) in zero_held(100, ["reward_per_100_tokens"]).items():
        print(name, covered, rejected)
        assert 0.88 <= covered <= 1.0  # four standard errors of 95 % in 100 runs are 9 %
        assert rejected <= 0.13


@pytest.mark.prove
def test_zero_is_held_at_the_nominal_rate_by_every_effect_of_padding() -> None:
    names = ["reward_per_100_tokens", "reward_sd_per_100_tokens", "effect_padding", "effect_filler_strong"]
    for name, (covered, rejected) in zero_held(1000, names).items():
        print(name, covered, rejected)
        assert 0.93 <= covered <= 0.97
        assert 0.03 <= rejected <= 0.07


def test_a_reward_that_is_right_but_loves_length_is_told_from_one_that_is_wrong() -> None:
    right, loving, wrong = (run(Made(*made, noise=0.3)) for made in ((3, 0), (3, 0.15), (-3, 0)))
    # all that a plain comparison sees
    assert (right["accuracy"].value, loving["accuracy"].value, wrong["accuracy"].value) == (1, 1, 0)
    # what padding does
    assert right["padded_wrong_preferred"].value == right["flip_rate"].value == 0
    assert loving["flip_rate"].value > 0.9
    assert wrong["padded_wrong_preferred"].value == 1
    assert wrong["flip_rate"].n == 0
    assert loving["effect_padding"].ci_low > 1
    for honest in (right, wrong):
        assert honest["effect_padding"].ci_low < 0.05
        assert abs(honest["effect_padding"].value) < 0.1
    assert right["effect_wrong"].ci_high < -1
    assert wrong["effect_wrong"].ci_low > 1
    assert loving["rise_rate_restating"].value == 1


def test_shorter_answers_are_no_worse_to_a_reward_that_sees_only_what_is_right() -> None:
    tightened = run(Made(quality=3, b=0))["effect_tightened"]
    assert tightened.ci_low < 0 < tightened.ci_high


class Comparing:
    """Compares only: prefers the right one, and among equals the longer one."""

    answers = frozenset({"compare"})
    fingerprint = None

    def rewards(self, requests):  # type: ignore[no-untyped-def]
        for index, request in enumerate(requests):
            keys = [(labels()[r.text], len(r.text)) for r in request.responses]
            first = float(keys[0] > keys[1])
            yield index, Reward((first, 1 - first))


def test_a_model_that_only_compares_is_asked_against_the_sufficient_answer_and_has_rates() -> None:
    (result,) = rmbench.evaluate(Comparing(), ["length_bias"])
    values = {m.name: m.value for m in result.metrics if m.subset == "all"}
    rises = {f"rise_rate_{way}": 1.0 for way in WAYS}
    assert values == {**rises, "accuracy": 1.0, "padded_wrong_preferred": 0.0, "flip_rate": 0.0}
    assert sum(result.statuses.values()) == 120 * 14 * 2


def test_the_records_of_a_result_give_its_figures_again() -> None:
    (result,) = rmbench.evaluate(Made(quality=3, b=0.01), ["length_bias"])
    outcomes = outcomes_of(result)
    again = estimate(TASK.measure.statistics(outcomes, "default", None), [outcome.cluster for outcome in outcomes])
    whole = [(m.name, m.value, m.p) for m in result.metrics if m.subset == "all"]
    assert [(e.name, e.value, e.p) for e in again] == whole


# rows of one's own


def row(**changed: object) -> Row:
    good = {"text": "Yes, it is.", "label": True, "edit": "sufficient"}
    other = {**good, "edit": "tightened", "text": "Yes.", **changed}
    return Row({"prompt": "Is it?", "candidates": [good, other]}, "x", 7)


def test_rows_of_ones_own_have_the_shape_of_the_bundled_ones(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in generate.text().splitlines()[:5]]
    for one in rows:
        one["candidates"] = [c for c in one["candidates"] if c["edit"] in ("sufficient", "filler", "wrong")]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    (result,) = rmbench.evaluate("length", ["length_bias"], data={"length_bias": path})
    assert result.metric("rise_rate_filler").value == 1
    assert result.metric("effect_padding").value > 0
    assert result.metric("rise_rate_restating").n == 0
    words = [count_words(candidate["text"]) for one in rows for candidate in one["candidates"]]
    assert result.records["tag_words"].to_pylist() == words


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"text": None}, "`text`: expected a text, got None"),
        ({"label": 1}, "`label`: expected true or false, got 1"),
        ({"edit": "longer"}, "`edit`: expected one of filler, redundant_steps"),
        ({"edit": "filler"}, "`strength`: expected weak or strong, got None"),
        ({"strength": "weak"}, "`strength`: 'weak' for an answer that is not padded"),
        ({"edit": "wrong"}, "`label`: True for an answer that is wrong"),
        ({"edit": "sufficient"}, "`edit`: more than one candidate is sufficient"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(changed: dict[str, object], problem: str) -> None:
    with pytest.raises(DataError, match=f"x, row 7, {re.escape(problem)}"):
        list(TASK.read([row(**changed)]))


def test_a_row_without_a_sufficient_answer_is_left_out_and_counted() -> None:
    value = row().value
    value["candidates"] = value["candidates"][1:]
    assert list(TASK.read([Row(value, "x", 1)])) == [LeftOut("no sufficient answer")]
