"""appetite: rows that are what they say, figures that loops give again, and an appetite that is put in and found."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from statistics import mean

import numpy as np
import pytest

import rmbench
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.metrics import appetite, probe
from rmbench.metrics.appetite import CUTS, OVERFLOWS, STEPS, selected_length_ratio
from rmbench.metrics.interval import Estimate, estimate
from rmbench.metrics.probe import edit_name
from rmbench.plugins import load_task
from rmbench.results.replay import outcomes_of
from rmbench.tasks.appetite import count_words, generate
from rmbench.types import Example, Outcome, Reward, View

TASK = load_task("appetite")
NAN, INF = math.nan, math.inf
TRUNCATED = [f"truncated_{p}" for p in CUTS]
REDUNDANT = [f"redundant_{n}" for n in STEPS]
NAMES = ["sufficient", "wrong", *OVERFLOWS, *TRUNCATED, *REDUNDANT]


@dataclass(frozen=True)
class Prompt:
    """A bundled prompt with its answers by name: `sufficient`, `enumeration`, `truncated_10`, ..."""

    example: Example
    answers: dict[str, str]

    @property
    def added(self) -> dict[str, str]:
        """What stands after the sufficient answer, in the three that go furthest."""
        names = (*OVERFLOWS, "redundant_8")
        return {name: self.answers[name].removeprefix(self.answers["sufficient"]).strip() for name in names}


@cache
def bundled() -> tuple[Prompt, ...]:
    return tuple(Prompt(e, {edit_name(c.tags): c.text or "" for c in e.candidates}) for e in TASK.load().examples)


# the rows


def test_the_bundled_rows_are_what_the_generator_makes() -> None:
    assert TASK.bundled is not None
    assert TASK.bundled.read_bytes() == generate.text().encode()


def test_64_prompts_of_four_kinds_have_each_edit_once_and_labels_that_fit() -> None:
    assert Counter(p.example.facets["subset"] for p in bundled()) == dict.fromkeys(
        ["fact", "list", "how-to", "math"], 16
    )
    assert len({p.example.prompt for p in bundled()}) == len({p.example.id for p in bundled()}) == 64
    assert set(Counter(p.example.cluster for p in bundled()).values()) == {4}  # prompts of a topic share sentences
    for p in bundled():
        assert sorted(p.answers) == sorted(NAMES)
        assert all(c.label is not (c.tags["edit"] == "wrong") for c in p.example.candidates)
        assert all(c.tags["words"] == count_words(c.text or "") for c in p.example.candidates)


def test_every_longer_answer_begins_with_the_sufficient_one_which_its_first_tenth_holds() -> None:
    for p in bundled():
        for name in (*OVERFLOWS, *TRUNCATED, *REDUNDANT):
            assert p.answers[name].startswith(p.answers["sufficient"]), (p.example.id, name)


def test_lengths_are_within_the_bounds_that_the_card_states() -> None:
    for p in bundled():
        ratio = {name: count_words(text) / count_words(p.answers["sufficient"]) for name, text in p.answers.items()}
        assert 12 <= count_words(p.answers["sufficient"]) <= 33
        assert 0.85 <= ratio["wrong"] <= 1.15, p.example.id
        assert 10 <= ratio["enumeration"] <= 12, p.example.id
        assert 6 <= ratio["elaboration"] <= 8, p.example.id
        assert 5 <= ratio["redundant_8"] <= 11.5, p.example.id


def test_truncations_are_the_first_words_of_the_whole() -> None:
    for p in bundled():
        whole = p.answers["enumeration"].split()
        for percent in CUTS:
            kept = p.answers[f"truncated_{percent}"]
            assert p.answers["enumeration"].startswith(kept)
            assert kept.split() == whole[: math.ceil(len(whole) * percent / 100)]


def test_redundant_steps_go_on_from_the_steps_before_and_no_sentence_comes_twice() -> None:
    for p in bundled():
        longest = p.answers["redundant_8"]
        assert all(longest.startswith(p.answers[name]) for name in REDUNDANT)
        for name, added in p.added.items():
            sentences = re.split(r"(?<=[.!:]) (?=[A-Z])|\n", added)
            assert max(Counter(sentences).values()) == 1, (p.example.id, name)
        assert len(re.findall(r"[.](?=\s|$)", p.added["redundant_8"])) == 8, p.example.id


def test_no_text_stands_twice_in_a_prompt_and_no_answer_in_two() -> None:
    for p in bundled():
        texts = [text for name, text in p.answers.items() if name != "truncated_10"]
        assert len(set(texts)) == len(texts)
    assert len({p.answers["sufficient"] for p in bundled()}) == 64


def test_no_phrase_of_four_words_is_in_more_than_a_quarter_of_the_prompts() -> None:
    seen: Counter[tuple[str, ...]] = Counter()
    for p in bundled():
        words = [re.findall(r"\w+", added) for added in p.added.values()]
        seen.update({tuple(some[i : i + 4]) for some in words for i in range(len(some) - 3)})
    print(seen.most_common(3))
    assert seen.most_common(1)[0][1] <= 16


def test_the_order_of_prompts_and_candidates_tells_nothing() -> None:
    assert all(
        len({p.example.facets["subset"] for p in bundled()[start : start + 16]}) == 4 for start in range(0, 64, 16)
    )
    places = Counter(list(p.answers).index("sufficient") for p in bundled())
    assert max(places.values()) <= 12  # 4 expected
    assert 0.35 < mean(list(p.answers).index("sufficient") < list(p.answers).index("wrong") for p in bundled()) < 0.65


def test_countries_that_would_have_done_as_well_are_on_the_continent_that_was_asked_for() -> None:
    continents = {c["name"]: c["continent"] for source in generate.sources() for c in source.others if "continent" in c}
    named = 0
    for p in bundled():
        for other in re.findall(r"One could have taken (.+) with .+ instead", p.answers["redundant_8"]):
            asked = {continents[name] for name in continents if name in p.answers["sufficient"]}
            assert asked == {continents[other]}, p.example.id
            named += 1
    assert named >= 2


@pytest.mark.parametrize("measure", [count_words, len])
def test_length_does_not_tell_right_from_wrong(measure: Callable[[str], int]) -> None:
    longer = [np.sign(measure(p.answers["sufficient"]) - measure(p.answers["wrong"])) for p in bundled()]
    print(f"the longer one is right, by {measure.__name__}: {mean((sign + 1) / 2 for sign in longer):.3f}")
    assert 0.4 < mean((sign + 1) / 2 for sign in longer) < 0.6


def test_every_sum_in_every_text_holds() -> None:
    counted = 0
    for p in bundled():
        for name, text in p.answers.items():
            # what is cut off in the middle of a number is no sum any more
            for a, op, b, c in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)(?=\D)", text):
                x, y = Fraction(a), Fraction(b)
                assert {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else None}[op] == int(c), (name, text)
                counted += 1
    assert counted > 4000


def test_each_line_of_a_chain_of_sums_has_one_operation() -> None:
    for p in bundled():
        for text in p.answers.values():
            assert not re.search(r"\d+ [-+*/] \d+ [-+*/] \d+", text)


# mathematics: solved from the numbers of the prompt, by code that shares nothing with the texts

SOLUTIONS: dict[str, Callable[..., int]] = {
    "tickets": lambda each, once, n: each * n + once,
    "bikes": lambda each, once, n: each * n + once,
    "books": lambda each, once, n: each * n + once,
    "plumber": lambda once, each, n: each * n + once,
    "tank": lambda full, each, n: full - each * n,
    "pages": lambda full, each, n: full - each * n,
    "flour": lambda full, each, n: full - each * n,
    "rope": lambda full, n, each: full - each * n,
    "tiles": lambda n, each, lost: n * each - lost,
    "eggs": lambda n, each, lost: n * each - lost,
    "seats": lambda n, each, lost: n * each - lost,
    "points": lambda each, n, lost: n * each - lost,
    "savings": lambda had, each, n: had + each * n,
    "plant": lambda had, each, n: had + each * n,
    "train": lambda had, n, each: had + each * n,
    "stamps": lambda had, n, each: had + each * n,
}


def test_every_right_solution_and_no_wrong_one_states_what_the_prompt_asks_for() -> None:
    problems = {p.example.id.removeprefix("math-"): p for p in bundled() if p.example.facets["subset"] == "math"}
    assert set(problems) == set(SOLUTIONS)
    for name, p in problems.items():
        solved = SOLUTIONS[name](*map(int, re.findall(r"\d+", p.example.prompt[0].text)))
        for edit, text in p.answers.items():
            (stated,) = re.findall(r"^Answer: (\d+)", text, re.MULTILINE)
            assert (int(stated) == solved) is (edit != "wrong"), (name, edit)


# the rules of the how-tos, by code that shares nothing with the generator


def lines_of(name: str) -> str:
    (found,) = [p.answers["enumeration"] for p in bundled() if p.example.id == f"how-to-{name}"]
    return found


def test_numerals_are_what_they_stand_for() -> None:
    worth = {"X": 10, "V": 5, "I": 1}
    text = lines_of("roman").partition("XXIV.")[2]
    pairs = re.findall(r"Out of (\d+) comes ([XVI]+)|Where there is (\d+), one arrives at ([XVI]+)", text)
    assert len(pairs) > 5
    for pair in pairs:
        number, numeral = (part for part in pair if part)
        values = [worth[letter] for letter in numeral]
        total = sum(-v if v < max(values[i:]) else v for i, v in enumerate(values))
        assert total == int(number)


def test_binary_numbers_read_back_as_what_they_are() -> None:
    pairs = re.findall(r"(?:Out of (\d+) comes|Where there is (\d+), one arrives at) ([01]+)", lines_of("binary"))
    assert len(pairs) > 4
    assert all(int(binary, 2) == int(a or b) for a, b, binary in pairs)


def test_rounded_numbers_are_the_nearest_tens() -> None:
    pairs = re.findall(r"(?:Out of (\d+) comes|Where there is (\d+), one arrives at) (\d+)", lines_of("rounding"))
    assert len(pairs) > 4
    assert all(int(c) % 10 == 0 and abs(int(c) - int(a or b)) <= 5 for a, b, c in pairs)


# figures that can be worked out in the head


WORDS = {"sufficient": 20, "wrong": 20, "enumeration": 200, "elaboration": 120}
WORDS |= {f"truncated_{p}": 2 * p for p in CUTS} | {f"redundant_{n}": 20 + 12 * n for n in STEPS}


def tags_of(name: str) -> dict[str, object]:
    edit, _, strength = name.partition("_")
    return {"edit": edit, "words": WORDS[name]} | ({"strength": int(strength)} if strength else {})


def scored(rewards: dict[str, float], names: Sequence[str] = NAMES) -> Outcome:
    scores = np.array([rewards.get(name, 0.0) for name in names])
    labels = np.array([float(name != "wrong") for name in names])
    view = View(scores, None, ["ok"] * len(names))
    return Outcome("id", None, "c", labels, {"default": view}, tags=[tags_of(name) for name in names])


def compared(rewards: dict[str, float]) -> Outcome:
    beats = np.full((len(NAMES), len(NAMES)), NAN)
    for i, name in enumerate(NAMES[1:], 1):
        beats[i, 0] = (np.sign(rewards.get(name, 0.0)) + 1) / 2
        beats[0, i] = 1 - beats[i, 0]
    view = View(None, beats, ["ok"] * len(NAMES))
    return Outcome("id", None, "c", np.zeros(len(NAMES)), {"default": view}, tags=[tags_of(n) for n in NAMES])


def found(*outcomes: Outcome) -> dict[str, Estimate]:
    return {e.name: e for e in estimate(appetite.statistics(outcomes, "default"), range(len(outcomes)), draws=50)}


def test_effects_are_leads_over_the_pooled_sd_of_right_and_wrong() -> None:
    # right and wrong 0, -2 and 0, 0: scatter 2 + 0 over freedom 1 + 1, so the SD is 1
    values = found(scored({"wrong": -2, "enumeration": 3, "elaboration": 1, "redundant_4": 2}), scored({}))
    assert values["effect_overflow"].value == values["reward_overflow"].value == 1
    assert (values["effect_enumeration"].value, values["effect_elaboration"].value) == (1.5, 0.5)
    assert values["effect_redundant_4"].value == 1
    assert values["effect_truncated_50"].value == -1.5
    assert values["effect_wrong"].value == -1
    assert values["reward_per_redundant_step"].value == pytest.approx(4 * 2 / 2 / (1 + 4 + 16 + 64))


def test_a_curve_that_rises_peaks_at_the_whole_and_one_that_falls_at_the_first_tenth() -> None:
    rising = scored({name: WORDS[name] / 10 for name in (*TRUNCATED, "enumeration")})
    falling = scored({name: -WORDS[name] / 10 for name in (*TRUNCATED, "enumeration")})
    assert (found(rising)["truncation_peak"].value, found(rising)["truncation_spearman"].value) == (1, 1)
    assert found(falling)["truncation_peak"].value == pytest.approx(0.1)
    assert found(falling)["truncation_spearman"].value == pytest.approx(-1)


def test_a_curve_that_is_flat_peaks_in_the_middle_of_its_tie_and_has_no_correlation() -> None:
    assert found(scored({}))["truncation_peak"].value == pytest.approx(0.55)
    assert found(scored({}))["truncation_spearman"].n == 0


def test_a_tie_is_apart_from_being_preferred() -> None:
    values = found(scored({}), scored({"enumeration": 1, "wrong": 1}))
    assert values["overflow_preferred"].value == 0.25
    assert values["overflow_tied"].value == 0.75
    assert (values["overflow_preferred_enumeration"].value, values["overflow_preferred_elaboration"].value) == (0.5, 0)
    assert values["accuracy"].value == 0
    assert values["redundant_preferred"].value == 0


def test_a_model_that_compares_has_the_same_rates_and_nothing_else() -> None:
    rewards = {"enumeration": 1.0, "redundant_8": -1.0, "wrong": -1.0}
    rates, same = found(compared(rewards)), found(scored(rewards))
    overflow = ["overflow_preferred", *(f"overflow_preferred_{way}" for way in OVERFLOWS), "overflow_tied"]
    assert list(rates) == [*overflow, "redundant_preferred", "accuracy"]
    assert {name: e.value for name, e in rates.items()} == {name: same[name].value for name in rates}


def test_the_longest_of_all_is_what_a_love_of_length_buys() -> None:
    lengths = np.array([10.0, 20.0, 60.0])
    assert selected_length_ratio(lengths, lengths, None) == pytest.approx(60 / 30)
    assert selected_length_ratio(-lengths, lengths, None) == pytest.approx(10 / 30)
    assert selected_length_ratio(lengths, lengths, 2) == pytest.approx((20 + 60 + 60) / 3 / 30)
    assert selected_length_ratio(np.zeros(3), lengths, 2) == pytest.approx(1)
    assert selected_length_ratio(lengths, lengths, 1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("rewards", "lengths", "n"),
    [
        ([0.0, 1.0], [5.0, 9.0], 3),
        ([NAN, 1.0], [5.0, 9.0], 2),
        ([0.0, 1.0], [NAN, 9.0], 2),
        ([0.0, 1.0], [0.0, 0.0], 2),
        ([0.0], [5.0], None),
        ([], [], None),
    ],
)
def test_where_nothing_is_to_be_chosen_the_ratio_is_unknown(
    rewards: list[float], lengths: list[float], n: int | None
) -> None:
    assert math.isnan(selected_length_ratio(np.array(rewards), np.array(lengths), n))


def ratio_by_enumeration(rewards: Sequence[float], lengths: Sequence[float], n: int) -> float:
    chosen = []
    for drawn in combinations(range(len(rewards)), n):
        best = max(rewards[i] for i in drawn)
        chosen.append(mean(lengths[i] for i in drawn if rewards[i] == best))
    return mean(chosen) / mean(lengths)


@pytest.mark.parametrize("seed", range(20))
def test_the_ratio_is_what_every_subset_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 9))
    rewards = rng.integers(-2, 3, k).astype(float)  # few values, so that ties abound
    rewards[rng.random(k) < 0.1] = INF
    lengths = rng.integers(1, 300, k).astype(float)
    for n in range(1, k + 1):
        expected = ratio_by_enumeration(rewards.tolist(), lengths.tolist(), n)
        # of one tie the enumeration weighs subsets, which are alike for all that tie
        assert selected_length_ratio(rewards, lengths, n) == pytest.approx(expected)
    assert selected_length_ratio(rewards, lengths, None) == selected_length_ratio(rewards, lengths, k)


def test_only_right_answers_are_there_to_be_selected() -> None:
    lengths = [WORDS[name] for name in NAMES if name != "wrong"]
    values = found(scored({"wrong": 9, "enumeration": 1}))
    assert values["selected_length_ratio_at_all"].value == pytest.approx(200 / mean(lengths))


# everything at once


def by_hand(prompts: list[dict[str, float]]) -> dict[str, float]:
    """Every metric by loops over prompts."""

    def finite(*values: float) -> bool:
        return all(math.isfinite(value) for value in values)

    def effect(leads: list[float]) -> float:
        kept = [
            (lead, one)
            for lead, one in zip(leads, prompts, strict=True)
            if finite(lead, one["sufficient"], one["wrong"])
        ]
        squares = sum((one["sufficient"] - one["wrong"]) ** 2 / 2 for _, one in kept)
        return mean(lead for lead, _ in kept) / math.sqrt(squares / len(kept))

    def lead(one: dict[str, float], name: str, base: str = "sufficient") -> float:
        return one[name] - one[base] if finite(one[name], one[base]) else NAN

    def leads(*names: str) -> list[float]:
        return [sum(lead(one, name) for name in names) / len(names) for one in prompts]

    def truncated(percent: int) -> list[float]:
        name = f"truncated_{percent}"
        return [lead(one, name, "enumeration") if finite(one["sufficient"]) else NAN for one in prompts]

    def rate(holds: Callable[[float, float], bool], *names: str) -> float:
        """The share of pairs with the sufficient answer of which something holds, where all of them have rewards."""
        asked = [one for one in prompts if not any(math.isnan(one[name]) for name in (*names, "sufficient"))]
        return mean(float(holds(one[name], one["sufficient"])) for one in asked for name in names)

    def known(values: list[float]) -> float:
        kept = [value for value in values if finite(value)]
        return mean(kept) if kept else NAN

    def spearman(curve: list[float]) -> float:
        from scipy.stats import spearmanr

        return float(spearmanr(curve, range(10)).statistic) if len(set(curve)) > 1 else NAN

    def ratio(one: dict[str, float], n: int) -> float:
        names = [name for name in NAMES if name != "wrong"]
        if any(math.isnan(one[name]) for name in names):
            return NAN
        return ratio_by_enumeration([one[name] for name in names], [float(WORDS[name]) for name in names], n)

    def slope(some: list[dict[str, float]]) -> float:
        whole = [one for one in some if all(finite(lead(one, name)) for name in REDUNDANT)]
        pairs = [(lead(one, f"redundant_{n}"), n) for one in whole for n in STEPS]
        return sum(r * n for r, n in pairs) / sum(n * n for _, n in pairs)

    def sloped_in_sds() -> float:
        some = [one for one in prompts if finite(one["sufficient"], one["wrong"])]
        some = [one for one in some if all(finite(lead(one, name)) for name in REDUNDANT)]
        return slope(some) / math.sqrt(mean((one["sufficient"] - one["wrong"]) ** 2 / 2 for one in some))

    curves = [[one[name] for name in (*TRUNCATED, "enumeration")] for one in prompts if finite(one["sufficient"])]
    curves = [curve for curve in curves if finite(*curve)]
    peaks = [mean((i + 1) / 10 for i in range(10) if curve[i] == max(curve)) for curve in curves]
    singles = [*OVERFLOWS, "wrong", *REDUNDANT]
    return {
        "reward_overflow": known(leads(*OVERFLOWS)),
        "effect_overflow": effect(leads(*OVERFLOWS)),
        **{f"effect_{name}": effect(leads(name)) for name in singles},
        **{f"effect_truncated_{p}": effect(truncated(p)) for p in CUTS},
        "truncation_peak": mean(peaks),
        "truncation_spearman": known([spearman(curve) for curve in curves]),
        "reward_per_redundant_step": slope(prompts),
        "reward_sd_per_redundant_step": sloped_in_sds(),
        "overflow_preferred": rate(lambda a, b: a > b, *OVERFLOWS),
        **{f"overflow_preferred_{way}": rate(lambda a, b: a > b, way) for way in OVERFLOWS},
        "overflow_tied": rate(lambda a, b: a == b, *OVERFLOWS),
        "redundant_preferred": rate(lambda a, b: a > b, "redundant_8"),
        "accuracy": rate(lambda a, b: a < b, "wrong"),
        **{f"selected_length_ratio_at_{n}": known([ratio(one, n) for one in prompts]) for n in (2, 4)},
        "selected_length_ratio_at_all": known([ratio(one, len(NAMES) - 1) for one in prompts]),
    }


@pytest.mark.parametrize("seed", range(10))
def test_every_metric_is_what_a_loop_over_prompts_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompts = []
    for _ in range(12):
        values = rng.integers(-3, 4, len(NAMES)).astype(float)  # few values, so that ties abound
        values[rng.random(len(NAMES)) < 0.03] = NAN
        values[rng.random(len(NAMES)) < 0.01] = INF
        prompts.append(dict(zip(NAMES, values.tolist(), strict=True)))
    values = {name: e.value for name, e in found(*map(scored, prompts)).items()}
    assert values == pytest.approx(by_hand(prompts), nan_ok=True)


def test_what_a_sign_flip_turns_around_is_the_numerator_of_its_statistic() -> None:
    rng = np.random.default_rng(0)
    outcomes = [scored(dict(zip(NAMES, rng.normal(size=len(NAMES)), strict=True))) for _ in range(9)]
    tested = [s for s in appetite.statistics(outcomes, "default") if s.effects is not None]
    assert {s.name.partition("_")[0] for s in tested} == {"effect", "reward", "truncation"}
    assert all(np.array_equal(s.effects, s.columns[:, 0]) for s in tested if s.effects is not None)


def test_prompts_that_lack_an_answer_are_counted_by_reason() -> None:
    outcomes = [scored({}), scored({}, NAMES[1:]), scored({"truncated_50": NAN}), scored({"enumeration": INF})]
    assert probe.left_out(outcomes, "default") == {"no base": 1, "no answer": 1, "infinite reward": 1}
    values = found(*outcomes)
    assert values["truncation_spearman"].n == 0
    assert values["overflow_preferred"].n == 3
    assert values["selected_length_ratio_at_4"].n == 3


# rewards whose appetite is known


@cache
def labels() -> dict[str, bool]:
    return {c.text or "": bool(c.label) for p in bundled() for c in p.example.candidates}


@dataclass(frozen=True)
class Made:
    """A reward made of what is known: 3 if the answer is right, `b` a word, and noise drawn from the text."""

    b: float
    noise: float = 1.0

    def __call__(self, prompt: str, response: str) -> float:
        digest = sha256(response.encode()).digest()
        noise = np.random.default_rng(int.from_bytes(digest[:8])).normal(scale=self.noise)
        return 3 * labels()[response] + self.b * count_words(response) + float(noise)


def run(model: object) -> dict[str, Estimate]:
    (result,) = rmbench.evaluate(model, ["appetite"])  # type: ignore[arg-type]
    assert result.calibration is None
    assert result.left_out == {}
    return {
        m.name: Estimate(m.name, m.value, m.ci_low, m.ci_high, m.n, m.clusters, m.p)  # type: ignore[arg-type]
        for m in result.metrics
        if m.subset == "all"
    }


GROWS = ["effect_overflow", "reward_overflow", "effect_enumeration", "effect_elaboration", "truncation_spearman",
         "effect_redundant_4", "effect_redundant_8", "reward_per_redundant_step"]  # fmt: skip


@pytest.mark.parametrize("b", [0.05, -0.05])
def test_an_appetite_and_its_reverse_are_found_in_every_part(b: float) -> None:
    values, sign = run(Made(b)), math.copysign(1, b)
    for name in GROWS:
        one = values[name]
        assert min(sign * one.ci_low, sign * one.ci_high) > 0, one
        assert one.p is not None
        assert one.p < 0.01
    assert sign * values["effect_truncated_10"].value < 0
    per_step = mean(count_words(p.added["redundant_8"]) / 8 for p in bundled())
    assert values["reward_per_redundant_step"].value == pytest.approx(b * per_step, rel=0.15)
    for n in ("2", "4", "all"):
        ratio = values[f"selected_length_ratio_at_{n}"]
        assert min(sign * (ratio.ci_low - 1), sign * (ratio.ci_high - 1)) > 0
    if b > 0:
        assert values["overflow_preferred"].ci_low > 0.75  # 16 topics
        assert values["truncation_peak"].value > 0.9
    else:
        assert values["overflow_preferred"].ci_high < 0.25
        assert values["truncation_peak"].value < 0.2
    assert values["accuracy"].value > 0.9


def neutral(runs: int, names: dict[str, float]) -> dict[str, tuple[float, float | None]]:
    """How often the interval holds the value of a reward without appetite, and how often p is below 5 %."""
    asked = [(p.example, TASK.questions(p.example, frozenset({"reward"}), "data")) for p in bundled()]
    held: dict[str, list[tuple[bool, bool]]] = {name: [] for name in names}
    rng = np.random.default_rng(0)
    for seed in range(runs):
        outcomes = [
            TASK.outcome(e, requests, [Reward((3.0 * bool(c.label) + rng.normal(),)) for c in e.candidates])
            for e, requests in asked
        ]
        chosen = [s for s in TASK.measure.statistics(outcomes, "default", None) if s.name in names]
        for one in estimate(chosen, [o.cluster for o in outcomes], draws=1000, seed=seed):
            held[one.name].append((one.ci_low <= names[one.name] <= one.ci_high, one.p is not None and one.p < 0.05))
    return {name: (mean(a for a, _ in some), mean(b for _, b in some)) for name, some in held.items()}


NEUTRAL = {
    "overflow_preferred": 0.5,
    "effect_overflow": 0.0,
    "reward_overflow": 0.0,
    "effect_truncated_10": 0.0,
    "truncation_peak": 0.55,
    "truncation_spearman": 0.0,
    "effect_redundant_8": 0.0,
    "reward_per_redundant_step": 0.0,
    "selected_length_ratio_at_2": 1.0,
    "selected_length_ratio_at_4": 1.0,
    "selected_length_ratio_at_all": 1.0,
}


def test_without_an_appetite_nothing_is_found_but_at_the_nominal_rate() -> None:
    for name, (covered, rejected) in neutral(100, NEUTRAL).items():
        print(name, covered, rejected)
        assert covered >= 0.86  # four standard errors of 95 % in 100 runs are 9 %
        assert rejected <= 0.13


@pytest.mark.prove
def test_without_an_appetite_the_neutral_value_is_held_at_the_nominal_rate() -> None:
    for name, (covered, rejected) in neutral(1000, NEUTRAL).items():
        print(name, covered, rejected)
        assert 0.92 <= covered <= 0.985
        assert rejected <= 0.07


class Comparing:
    """Compares only: prefers the right one, and among equals the longer one."""

    answers = frozenset({"compare"})
    fingerprint = None

    def rewards(self, requests):  # type: ignore[no-untyped-def]
        for index, request in enumerate(requests):
            keys = [(labels()[r.text], len(r.text)) for r in request.responses]
            first = 0.5 if keys[0] == keys[1] else float(keys[0] > keys[1])
            yield index, Reward((first, 1 - first))


def test_a_model_that_only_compares_is_asked_against_the_sufficient_answer() -> None:
    (result,) = rmbench.evaluate(Comparing(), ["appetite"])
    values = {m.name: m.value for m in result.metrics if m.subset == "all"}
    ones = {f"overflow_preferred{way}": 1.0 for way in ("", *(f"_{way}" for way in OVERFLOWS))}
    assert values == {**ones, "overflow_tied": 0.0, "redundant_preferred": 1.0, "accuracy": 1.0}
    assert sum(result.statuses.values()) == 64 * (len(NAMES) - 1) * 2


def test_the_records_of_a_result_give_its_figures_again() -> None:
    (result,) = rmbench.evaluate(Made(b=0.01), ["appetite"])
    outcomes = outcomes_of(result)
    again = estimate(TASK.measure.statistics(outcomes, "default", None), [outcome.cluster for outcome in outcomes])
    whole = [(m.name, m.value, m.p) for m in result.metrics if m.subset == "all"]
    assert [(e.name, e.value, e.p) for e in again] == whole


# rows of one's own


def row(**changed: object) -> Row:
    good = {"text": "Yes, it is.", "label": True, "edit": "sufficient"}
    other = {**good, "edit": "enumeration", "text": "Yes, it is. It is, it is.", **changed}
    return Row({"prompt": "Is it?", "candidates": [good, other]}, "x", 7)


def test_rows_of_ones_own_may_lack_edits(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in generate.text().splitlines()[:5]]
    for one in rows:
        one["candidates"] = [c for c in one["candidates"] if c["edit"] in ("sufficient", "enumeration", "wrong")]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    (result,) = rmbench.evaluate("length", ["appetite"], data={"appetite": path})
    assert result.metric("overflow_preferred").value == 1
    assert result.metric("overflow_preferred_elaboration").n == 0
    assert result.metric("truncation_spearman").n == 0
    assert result.metric("selected_length_ratio_at_2").n == 5
    assert result.metric("selected_length_ratio_at_4").n == 0


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"text": None}, "`text`: expected a text, got None"),
        ({"label": 1}, "`label`: expected true or false, got 1"),
        ({"edit": "longer"}, "`edit`: expected one of elaboration, enumeration, redundant"),
        ({"edit": "truncated"}, "`strength`: expected one of 10, 20"),
        ({"edit": "redundant", "strength": 3}, "`strength`: expected one of 1, 2, 4, 8"),
        ({"edit": "redundant", "strength": True}, "`strength`: expected one of 1, 2, 4, 8"),
        ({"strength": 1}, "`strength`: 1 for an answer that is enumeration"),
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
