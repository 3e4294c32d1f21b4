"""How often the 95 % intervals of `rmbench.metrics.interval` contain the truth, in simulation.

    python benchmarks/coverage.py [--repeats 20000] [--seed 0]

Proportions: rows are right with probability p; the rows of a cluster of five correlate (0.3), made in two ways: a beta
distributed chance per cluster, and rows that copy a common answer. From 93 to 97 % is promised at 100 and 500 clusters
and p = .5 and .95; everything else is stated as it is. Exits with 1 where a promised cell is out. The bootstrap is
stated for the mean reciprocal rank of one correct of ten candidates, with fewer repeats.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from rmbench.metrics.interval import estimate, mean, wilson_interval
from rmbench.types import Array

CORRELATION = 0.3
CLUSTERS, CHANCES = (20, 100, 500), (0.5, 0.95, 0.995)
DESIGNS = ((1, "singletons"), (5, "beta"), (5, "copies"))
PROMISED = 0.93, 0.97


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    out = proportions(rng, options.repeats)
    bootstrap(rng, options.repeats // 20)
    return 1 if out else 0


def proportions(rng: np.random.Generator, repeats: int) -> int:
    """Prints the table; how many promised cells are out."""
    print(f"Wilson with effective n, {repeats:,} repeats: coverage in %, mean width (* promised: 93-97 %)\n")
    print(f"{'clusters':>8} {'p':>6}" + "".join(f"{f'{size} x {how}':>20}" for size, how in DESIGNS))
    out = 0
    for clusters in CLUSTERS:
        for p in CHANCES:
            promised, line = clusters >= 100 and p <= 0.95, f"{clusters:>8} {p:>6}"
            for size, how in DESIGNS:
                successes = draw(rng, (repeats, clusters), size, p, how)
                low, high = wilson_interval(successes, np.full(successes.shape, float(size)))
                covered = float(np.mean((low <= p) & (p <= high)))
                missed = promised and not PROMISED[0] <= covered <= PROMISED[1]
                out += missed
                mark = "!" if missed else "*" if promised else " "
                line += f"{100 * covered:>11.2f}{mark}{np.mean(high - low):>8.4f}"
            print(line)
    print(f"\n{out} promised cells are out.\n" if out else "\nEvery promised cell holds.\n")
    return out


def draw(rng: np.random.Generator, shape: tuple[int, int], size: int, p: float, how: str) -> Array:
    """Successes per cluster [repeats, clusters], of `size` rows each."""
    if how == "singletons":
        return rng.binomial(1, p, shape).astype(float)
    if how == "beta":
        strength = 1 / CORRELATION - 1
        return rng.binomial(size, rng.beta(p * strength, (1 - p) * strength, shape)).astype(float)
    # Two rows agree through their cluster where both copy, which has probability CORRELATION.
    copying = rng.binomial(size, np.sqrt(CORRELATION), shape)
    common = rng.random(shape) < p
    return (copying * common + rng.binomial(size - copying, p)).astype(float)


def bootstrap(rng: np.random.Generator, repeats: int) -> None:
    """Prints coverage for reciprocal ranks; a cluster of five shares its ranks with probability CORRELATION."""
    print(f"Cluster bootstrap of a mean reciprocal rank, {repeats:,} repeats of 999 draws: coverage in %\n")
    print(f"{'clusters':>8}{'1 x':>10}{'5 x':>10}")
    truth = float(np.mean(1 / np.arange(1, 11)))
    for clusters in (20, 100):
        line = f"{clusters:>8}"
        for size in (1, 5):
            covered = 0
            for repeat in range(repeats):
                shared = np.repeat(rng.integers(1, 11, (clusters, 1)), size, axis=1)
                own = rng.integers(1, 11, (clusters, size))
                ranks = np.where(rng.random((clusters, size)) < np.sqrt(CORRELATION), shared, own).ravel()
                statistic = mean("mrr", 1 / ranks, "fraction")
                [found] = estimate([statistic], np.repeat(np.arange(clusters), size), draws=999, seed=repeat)
                covered += int(found.ci_low <= truth <= found.ci_high)
            line += f"{100 * covered / repeats:>10.1f}"
        print(line)


if __name__ == "__main__":
    sys.exit(main())
