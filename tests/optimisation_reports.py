"""A report of what optimising rewards does, made of a simulated pool, for tests of what shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rmbench.metrics import advantages, best_of, diversity, rank_bias, winners
from rmbench.metrics.curve import Curve, Figure, curve, figure
from rmbench.metrics.gold_fits import Fit
from rmbench.metrics.pools import Pools
from rmbench.optimise.report import (
    Contrast,
    Coverage,
    Entrant,
    Measured,
    OptimisationReport,
    SignFlip,
    UsefulRange,
)
from rmbench.types import Array

PROMPTS, SAMPLES = 60, 32
SIZES = tuple(range(1, SAMPLES + 1))
NAMES = (
    "length",
    "org/reward-model-8b",
    "ensemble:a,b,c?how=uwo",
    "org/process-model (geometric_mean)",
    "transform:ensemble:a,b?how=mean?how=clip&low=-3&high=3",
    "shortest",
    "random",
    "demo",
)


def simulated(names: Sequence[str] = NAMES, *, seed: int = 0) -> OptimisationReport:
    """Rewards that are gold and noise of different tails on right and wrong answers, everything known of them."""
    rng = np.random.default_rng(seed)
    right = rng.random(PROMPTS * SAMPLES) < np.repeat(rng.beta(1, 1, PROMPTS), SAMPLES)
    answers = np.where(right, 0, rng.integers(1, 6, len(right)))
    pools = Pools(
        right.astype(float),
        np.full(PROMPTS, SAMPLES),
        np.arange(PROMPTS),
        answers,
        np.tile(np.arange(SAMPLES), PROMPTS),
        rng.normal(size=len(right)),
    )
    entrants = [entrant(pools, name, reward(pools, number, rng)) for number, name in enumerate(names)]
    pairs = [(one, other) for at, one in enumerate(entrants) for other in entrants[at + 1 :]]
    return OptimisationReport(
        task="gsm8k_samples",
        version=1,
        gold="labels of the data",
        policy="org/policy-1b",
        prompts=PROMPTS,
        clusters=PROMPTS,
        samples=(SAMPLES, SAMPLES + 3),
        sizes=SIZES,
        left_out={"no gold": 3},
        random=figure(pools.gold.reshape(PROMPTS, SAMPLES).mean(axis=1), pools.clusters, draws=50),
        oracle=of_rows(pools, best_of.oracle(pools, SIZES)),
        majority=of_rows(pools, best_of.oracle(pools, SIZES) * 0.9),
        pass_at=of_rows(pools, best_of.pass_at(pools, right, SIZES)),
        noisy_oracle=of_rows(pools, best_of.oracle(pools, SIZES) * 0.85),
        label_noise=0.1,
        entrants=entrants,
        contrasts=[contrast(one, other) for one, other in pairs],
        measured=[
            Measured(
                names[0], "PPO", kl, Figure(0.55 - 0.02 * kl, 0.5 - 0.02 * kl, 0.6 - 0.02 * kl), "a paper, table 3"
            )
            for kl in (1.0, 4.0, 9.0)
        ]
        + [Measured(names[0], "DPO", 2.0, Figure(0.6), "a paper, table 4")]
        + [Measured("another", "PPO", 3.0, Figure(0.6, 0.5, 0.7), "a paper, table 5")],
        notes=["3 samples beyond the 32nd of their prompt are not used"],
        seed=0,
        good_loses_by_chance=of_rows(pools, winners.good_loses(pools, np.zeros(len(right)), right, SIZES)),
    )


def reward(pools: Pools, number: int, rng: np.random.Generator) -> Array:
    """Gold in part, and noise, of heavy tails for odd numbers."""
    weight = (-0.5, 0.5, 1.0, 2.0, 1.5, 0.2, 0.0, 0.8)[number % 8]
    noise = rng.standard_t(2, len(pools.gold)) if number % 2 else rng.normal(size=len(pools.gold))
    return np.asarray(weight * pools.gold + noise)


def of_rows(pools: Pools, rows: Array, sizes: Sequence[int] = SIZES) -> Curve:
    return curve(sizes, best_of.kl(sizes).tolist(), rows, pools.clusters, draws=50)


def entrant(pools: Pools, name: str, proxy: Array) -> Entrant:
    good, spread = winners.good_ones(pools), np.full(len(proxy), 0.3)
    gold, rewards = (of_rows(pools, best_of.best_of(pools, proxy, values, SIZES)) for values in (pools.gold, proxy))
    best = int(np.argmax(gold.value))
    wins, loses = (of(pools, proxy, good, SIZES) for of in (winners.poor_wins, winners.good_loses))
    bins = winners.coverage_bins(winners.coverage(pools, good))
    halves = [n for n in SIZES if 2 * n <= SAMPLES]
    same = of_rows(pools, diversity.same_chosen(pools, proxy, pools.answers, halves), halves)
    bias = rank_bias.rank_bias(pools, proxy, good)
    assert bias is not None
    degree = gold.value[best] - gold.value[-1]
    share = advantages.variance_within(advantages.variance_columns(pools, proxy).sum(axis=0))
    distinct = (diversity.effective(np.array(one)).tolist() for one in (same.value, same.high, same.low))
    return Entrant(
        name=name,
        view="default",
        result=f"results/{name}.json",
        gold=gold,
        proxy=rewards,
        tilted=Curve(
            [0.1 * n for n in SIZES], gold.kl, [x - 0.02 for x in gold.value], gold.low, gold.high
        ),
        tilted_gap=Figure(-0.02, -0.03, -0.01),
        fits=[
            Fit(
                "best of n", gold.value[0], Figure(0.4, 0.3, 0.5), Figure(0.14, 0.1, 0.2), Figure(2.0, 1.5, math.inf),
                Figure(20.0, 12.0, math.inf), Figure(0.7, 0.6, 0.8), False, 0.004,
            ),
            Fit(
                "reinforcement learning", gold.value[0], Figure(0.2, 0.1, 0.3), Figure(-0.01, -0.1, 0.1),
                Figure(math.inf, 3.0, math.inf), Figure(math.inf, 50.0, math.inf), Figure(math.nan), True, 0.006,
            ),
        ],
        best_n=Figure(SIZES[best], max(1, SIZES[best] - 6), min(SAMPLES, SIZES[best] + 9)),
        gold_at_best=Figure(gold.value[best], gold.low[best], gold.high[best]),
        gold_at_end=Figure(gold.value[-1], gold.low[-1], gold.high[-1]),
        gain_at_end=Figure(gold.value[-1] - gold.value[0], -0.1, 0.2),
        degree=Figure(degree, max(0.0, degree - 0.03), degree + 0.04),
        proxy_rise=Figure(1.2, 1.1, 1.3),
        turns_over_p=0.0004 if degree > 0.05 else 0.4,
        verdict="turns over" if degree > 0.05 else "still rises" if best == SAMPLES - 1 else "open",
        poor_wins=of_rows(pools, wins),
        good_loses=of_rows(pools, loses),
        by_coverage=[
            Coverage(
                winners.COVERAGE_EDGES[at],
                winners.COVERAGE_EDGES[at + 1],
                int((bins == at).sum()),
                *(figure(rows[bins == at, -1], pools.clusters[bins == at], draws=50) for rows in (wins, loses)),
            )
            for at in range(5)
        ],
        weighted_majority=of_rows(pools, best_of.best_of(pools, proxy, pools.gold, SIZES) * 0.97),
        rank_bias=Figure(float(bias.value(bias.columns.sum(axis=0))), -0.1, 0.1),
        likelihood=bias.likelihood,
        variance_within=Figure(float(share)),
        sign_flips=flips(pools, proxy, spread),
        distinct=Curve(same.at, same.kl, *distinct),
        useful=[
            UsefulRange("helpfulness", 0.1, Figure(1.2, 1.0, 1.5), 8, Figure(0.7, 0.6, 0.8), False),
            UsefulRange("verbosity", 0.0, Figure(0.0, 0.0, 0.4), 1, Figure(0.5, 0.4, 0.6), False),
        ],
        statuses={"ok": len(proxy)},
    )  # fmt: skip


def flips(pools: Pools, proxy: Array, spread: Array) -> list[SignFlip]:
    sizes, found = (2, 4, 8, 16), []
    baselines: Mapping[advantages.Baseline, advantages.Flips] = {
        baseline: advantages.sign_flips(pools, proxy, spread, sizes, baseline) for baseline in ("mean", "median")
    }
    for baseline, rows in baselines.items():
        for at, size in enumerate(sizes):
            shares = (figure(one[:, at], pools.clusters, draws=50) for one in (rows.by_noise, rows.against_gold))
            found.append(SignFlip(size, baseline, *shares))
    return found


def contrast(one: Entrant, other: Entrant) -> Contrast:
    difference = one.gold_at_end.value - other.gold_at_end.value
    p = 0.001 if abs(difference) > 0.1 else 0.3
    return Contrast(
        one.title,
        other.title,
        "gold_at_end",
        Figure(difference, difference - 0.1, difference + 0.1),
        p,
        min(1.0, 20 * p),
    )
