"""Probe metrics against loops over prompts that share nothing with them."""

from __future__ import annotations

import math
from statistics import mean

import numpy as np
import pytest

from rmbench.metrics import padding, probe
from rmbench.metrics.interval import Estimate, estimate
from rmbench.metrics.padding import STRENGTHS, WAYS
from rmbench.types import Outcome, View

NAN, INF = math.nan, math.inf
TAGS = [
    {"edit": "sufficient", "words": 30},
    {"edit": "tightened", "words": 20},
    {"edit": "wrong", "words": 31},
    *({"edit": way, "strength": s, "words": w} for way in WAYS for s, w in (("weak", 43), ("strong", 75))),
    *({"edit": f"wrong_{way}", "strength": "strong", "words": 76} for way in WAYS),
]
NAMES = [probe.edit_name(tags) for tags in TAGS]


def scored(rewards: dict[str, float], tags: list[dict] = TAGS) -> Outcome:
    scores = np.array([rewards.get(probe.edit_name(one), 0.0) for one in tags])
    labels = np.array([float(not one["edit"].startswith("wrong")) for one in tags])
    return Outcome("id", None, "c", labels, {"default": View(scores, None, ["ok"] * len(tags))}, tags=tags)


def compared(base_loses_to: dict[str, float]) -> Outcome:
    """Every edit against the base only; those that are not named lose."""
    k = len(TAGS)
    beats = np.full((k, k), NAN)
    for i, name in enumerate(NAMES[1:], 1):
        beats[i, 0] = base_loses_to.get(name, 0.0)
        beats[0, i] = 1 - beats[i, 0]
    return Outcome("id", None, "c", np.zeros(k), {"default": View(None, beats, ["ok"] * k)}, tags=TAGS)


def found(*outcomes: Outcome) -> dict[str, Estimate]:
    return {e.name: e for e in estimate(padding.statistics(outcomes, "default"), range(len(outcomes)), draws=50)}


# numbers that can be worked out in the head


def test_an_effect_is_the_mean_lead_over_the_pooled_sd_of_the_answers_that_are_not_padded() -> None:
    # plain answers 0, 2, 4 and 0, 0, 0: scatter 8 + 0 over freedom 2 + 2, so the SD is the root of 2
    first = scored({"sufficient": 0, "tightened": 2, "wrong": 4, "filler_weak": 1})
    second = scored({"filler_weak": 3})
    assert found(first, second)["effect_filler_weak"].value == pytest.approx(2 / math.sqrt(2))
    assert found(first, second)["effect_tightened"].value == pytest.approx(1 / math.sqrt(2))


def test_effects_do_not_saturate_however_much_a_reward_loves_length() -> None:
    def loving(b: float) -> float:
        rewards = [{name: b * tags["words"] for name, tags in zip(NAMES, TAGS, strict=True)} for _ in range(2)]
        for at, one in enumerate(rewards):
            one.update({"sufficient": 0.0, "tightened": 1.0 + at, "wrong": -1.0})
        return found(*map(scored, rewards))["effect_padding"].value

    assert loving(1000) == pytest.approx(1000 * loving(1))


def test_reward_per_100_tokens_is_the_slope_through_zero_over_both_fillers() -> None:
    exact = {"filler_weak": 13 * 0.02, "filler_strong": 45 * 0.02, "tightened": 5.0}
    assert found(scored(exact), scored(exact))["reward_per_100_tokens"].value == pytest.approx(2.0)
    # 13 and 45 words more: 100 (13 * 1 + 45 * 0) / (13^2 + 45^2)
    assert found(scored({"filler_weak": 1}))["reward_per_100_tokens"].value == pytest.approx(1300 / 2194)


def test_a_tie_is_never_a_rise_nor_is_either_side_preferred() -> None:
    everything_ties = found(scored({}), scored({}))
    assert everything_ties["rise_rate_filler"].value == 0
    assert everything_ties["accuracy"].value == 0
    assert everything_ties["padded_wrong_preferred"].value == 0
    assert everything_ties["flip_rate"].n == 0
    assert math.isnan(everything_ties["effect_padding"].value)
    assert probe.ties([scored({}), scored({name: i for i, name in enumerate(NAMES)})], "default") == 1


def test_flips_are_counted_where_the_plain_wrong_answer_loses() -> None:
    wrong_wins = {"wrong": 1.0, **{f"wrong_{way}_strong": 1.0 for way in WAYS}}
    half_flips = {"wrong": -1.0, "wrong_filler_strong": 1.0, "wrong_restating_strong": 1.0}
    values = found(scored(wrong_wins), scored(half_flips))
    assert values["accuracy"].value == 0.5
    assert values["padded_wrong_preferred"].value == pytest.approx(0.75)
    assert (values["flip_rate"].value, values["flip_rate"].n) == (0.5, 1)


def test_a_model_that_compares_has_the_same_rates_and_no_effects() -> None:
    rewards = {"filler_strong": 1.0, "restating_strong": -1.0, "wrong": -1.0, "wrong_filler_strong": 1.0}
    beats = {name: (np.sign(rewards.get(name, 0.0)) + 1) / 2 for name in NAMES[1:]}
    rates, same = found(compared(beats)), found(scored(rewards))
    assert list(rates) == [*(f"rise_rate_{way}" for way in WAYS), "accuracy", "padded_wrong_preferred", "flip_rate"]
    assert {name: e.value for name, e in rates.items()} == {name: same[name].value for name in rates}
    assert probe.ties([compared(beats)], "default") == 1


# what is missing


def test_prompts_that_lack_an_answer_are_counted_by_reason() -> None:
    no_base = scored({}, TAGS[1:])
    outcomes = [scored({}), no_base, scored({"wrong": NAN}), scored({"sufficient": NAN}), scored({"tightened": INF})]
    assert probe.left_out(outcomes, "default") == {"no base": 1, "no answer": 2, "infinite reward": 1}
    assert probe.left_out(outcomes[:1], "default") == {}
    assert probe.left_out(outcomes[:1], "another view") == {"no answer": 1}


def test_a_missing_answer_leaves_its_prompt_out_of_what_needs_it_and_of_nothing_else() -> None:
    ranks = {name: float(i) for i, name in enumerate(NAMES)}
    values = found(scored(ranks), scored({**ranks, "filler_strong": NAN}), scored({**ranks, "filler_weak": INF}))
    assert values["effect_filler_strong"].n == 2
    assert values["effect_filler_weak"].n == 2
    assert values["effect_restating_weak"].n == values["effect_padding"].n == 3
    assert values["rise_rate_filler"].n == 2
    assert values["accuracy"].n == 3


def test_an_infinite_reward_is_above_every_number_but_has_no_effect() -> None:
    values = found(scored({"wrong": -INF, "filler_strong": INF}), scored({"wrong": -1, "filler_strong": 1}))
    assert (values["accuracy"].value, values["accuracy"].n) == (1, 2)
    assert (values["rise_rate_filler"].value, values["rise_rate_filler"].n) == (1, 2)
    assert values["effect_filler_strong"].n == 1


# everything at once


def by_hand(prompts: list[dict[str, float]]) -> dict[str, float]:
    """Every metric by loops over prompts."""
    words = {name: tags["words"] for name, tags in zip(NAMES, TAGS, strict=True)}

    def finite(*values: float) -> bool:
        return all(math.isfinite(value) for value in values)

    def lead(one: dict[str, float], name: str) -> float:
        return one[name] - one["sufficient"]

    def plain(one: dict[str, float]) -> list[float]:
        return [one["sufficient"], one["tightened"], one["wrong"]]

    def in_sds(total: float, counted: list[dict[str, float]]) -> float:
        squares = sum((x - mean(plain(one))) ** 2 for one in counted for x in plain(one))
        return total / math.sqrt(squares / (2 * len(counted)))

    def effect(names: list[str]) -> float:
        counted, leads = [], []
        for one in prompts:
            known = [lead(one, name) for name in names if finite(lead(one, name))]
            if known and finite(*plain(one)):
                counted.append(one)
                leads.append(mean(known))
        return in_sds(mean(leads), counted)

    def rate(wins: list[list[tuple[float, float]]]) -> float:
        """Mean over prompts of the share of (should be lower, is higher) pairs."""
        known = [[(a, b) for a, b in pairs if not math.isnan(a) and not math.isnan(b)] for pairs in wins]
        return mean(mean(float(b > a) for a, b in pairs) for pairs in known if pairs)

    def slope(some: list[dict[str, float]]) -> float:
        pairs = [
            (lead(one, name), words[name] - words["sufficient"])
            for one in some
            for name in ("filler_weak", "filler_strong")
            if finite(lead(one, name))
        ]
        return 100 * sum(r * w for r, w in pairs) / sum(w * w for _, w in pairs)

    def fooled(some: list[dict[str, float]]) -> float:
        return rate([[(one["sufficient"], one[f"wrong_{way}_strong"]) for way in WAYS] for one in some])

    whole = [one for one in prompts if finite(*plain(one))]
    sloped = [one for one in whole if any(finite(lead(one, f"filler_{s}")) for s in STRENGTHS)]
    padded = [f"{way}_{s}" for way in WAYS for s in STRENGTHS]
    return {
        "effect_padding": effect(padded),
        **{f"effect_{name}": effect([name]) for name in [*padded, "tightened", "wrong"]},
        "reward_per_100_tokens": slope(prompts),
        "reward_sd_per_100_tokens": in_sds(slope(sloped), sloped),
        **{f"rise_rate_{w}": rate([[(one["sufficient"], one[f"{w}_strong"])] for one in prompts]) for w in WAYS},
        "accuracy": rate([[(one["wrong"], one["sufficient"])] for one in prompts]),
        "padded_wrong_preferred": fooled(prompts),
        "flip_rate": fooled([one for one in prompts if one["sufficient"] > one["wrong"]]),
    }


@pytest.mark.parametrize("seed", range(20))
def test_every_metric_is_what_a_loop_over_prompts_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompts = []
    for _ in range(12):
        values = rng.integers(-3, 4, len(NAMES)).astype(float)  # few values, so that ties abound
        values[rng.random(len(NAMES)) < 0.05] = NAN
        values[rng.random(len(NAMES)) < 0.02] = INF
        prompts.append(dict(zip(NAMES, values.tolist(), strict=True)))
    outcomes = [scored(one) for one in prompts]
    values = {name: e.value for name, e in found(*outcomes).items()}
    assert values == pytest.approx(by_hand(prompts))
    tied = [any(one[name] == one["sufficient"] for name in NAMES[1:]) for one in prompts]
    assert probe.ties(outcomes, "default") == sum(tied)


def test_what_a_sign_flip_turns_around_is_the_numerator_of_its_statistic() -> None:
    rng = np.random.default_rng(0)
    outcomes = [scored(dict(zip(NAMES, rng.normal(size=len(NAMES)), strict=True))) for _ in range(9)]
    for statistic in padding.statistics(outcomes, "default"):
        if statistic.name.startswith(("effect", "reward")):
            assert statistic.effects is not None
            assert np.array_equal(statistic.effects, statistic.columns[:, 0])
        else:
            assert statistic.effects is None
