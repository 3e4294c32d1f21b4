"""How often two equal models are said to differ on a probe, and how often the interval of their difference holds 0.

    python benchmarks/compare.py [--full] [--seed 0]

An effect is a mean over the SD of rewards within prompts, and that SD varies as the mean does: the more so the larger
the effect is. Two models have the same effect in every cell, in units of their own, and rewards that do or do not go
together. `padding` has three plain answers a prompt, as `length_bias`; `overflow` two, as `appetite`, whose rate
`overflow_preferred` is a share of pairs. A prompt is a cluster. Coverage of 93 to 97 % and at most 5 % false
differences are promised, each give or take two standard errors of so many repeats; exits with 1 where a cell is out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np

from rmbench.metrics import probe
from rmbench.metrics.interval import Statistic, ratio
from rmbench.metrics.paired import difference_of
from rmbench.types import Array

CLUSTERS, EFFECTS, TOGETHER = (20, 100), (0.0, 1.0, 4.0), (0.0, 0.7)
FULL, SMALL = 2_000, 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="2,000 repeats a cell; 60 otherwise.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    repeats = FULL if options.full else SMALL
    print(f"Two equal models on a probe, {repeats:,} repeats a cell: coverage of their difference, p <= .05, in %\n")
    print(f"{'clusters':>8} {'shape':>9} {'effect':>7} {'r':>4} {'covered':>8} {'told':>6}")
    out = sum(_cell(*cell, repeats, options.seed) for cell in cells())
    print(f"\n{out} cells are out.\n" if out else "\nEvery cell holds.\n")
    return 1 if out else 0


def cells() -> list[tuple[int, str, float, float]]:
    """Clusters, shape, effect in SDs and how far the two models' rewards go together."""
    effects = [
        (c, shape, effect, r)
        for c in CLUSTERS
        for shape in ("padding", "overflow")
        for effect in EFFECTS
        for r in TOGETHER
    ]
    return effects + [(c, "rate", effect, r) for c in CLUSTERS for effect in (0.0, 1.0) for r in TOGETHER]


def _cell(clusters: int, shape: str, effect: float, r: float, repeats: int, seed: int) -> bool:
    covered, told = simulated(clusters, shape, effect, r, repeats, seed)
    error = 2 * np.sqrt(0.05 * 0.95 / repeats)
    missed = covered < 0.93 - error or told > 0.05 + error
    mark = "!" if missed else ""
    print(f"{clusters:>8} {shape:>9} {effect:>7} {r:>4} {100 * covered:>8.1f} {100 * told:>6.1f}{mark}", flush=True)
    return bool(missed)


def simulated(clusters: int, shape: str, effect: float, r: float, repeats: int, seed: int) -> tuple[float, float]:
    """The shares of intervals that hold 0, and of p at or below .05."""
    rng, made = np.random.default_rng(seed), SHAPES[shape]
    covered = told = 0
    for repeat in range(repeats):
        shared = rng.normal(size=(clusters, 6))
        ours, theirs = (
            made(np.sqrt(r) * shared + np.sqrt(1 - r) * rng.normal(size=(clusters, 6)), effect) for _ in "ab"
        )
        found = difference_of(ours, theirs, np.arange(clusters), draws=600, seed=repeat)
        covered += found.ci_low <= 0 <= found.ci_high
        told += found.p <= 0.05
    return covered / repeats, told / repeats


def _padding(noise: Array, effect: float) -> Statistic:
    """The effect of padding: rewards of three plain answers, one of them wrong, and the mean of two padded ones."""
    return _effect(noise[:, :3] - np.array([0.0, 0.0, 1.5]), noise[:, 3:5].mean(axis=1), effect)


def _overflow(noise: Array, effect: float) -> Statistic:
    return _effect(noise[:, :2] - np.array([0.0, 1.5]), noise[:, 3:5].mean(axis=1), effect)


def _effect(plain: Array, edited: Array, effect: float) -> Statistic:
    scatter = np.square(plain - plain.mean(axis=1, keepdims=True)).sum(axis=1)
    freedom = np.full(len(plain), plain.shape[1] - 1.0)
    return probe.effect("effect", effect + edited - plain[:, 0], probe.Spread(scatter, freedom))


def _rate(noise: Array, effect: float) -> Statistic:
    """The share of two overflowing answers that are preferred."""
    won = (effect + noise[:, 1:3] > noise[:, :1]).sum(axis=1).astype(float)
    return Statistic("rate", np.column_stack([won, np.full(len(won), 2.0)]), ratio, "fraction")


SHAPES: dict[str, Callable[[Array, float], Statistic]] = {"padding": _padding, "overflow": _overflow, "rate": _rate}

if __name__ == "__main__":
    sys.exit(main())
