"""How often the 95 % intervals of `rmbench.metrics.reliability` contain the truth, in simulation.

    python benchmarks/calibration.py [--repeats 2000] [--seed 0]

Pairs with margins d are won with probability sigmoid(|d|); p = sigmoid(|d| / T) is calibrated at T = 1, too timid at
T = 2 and too sure at T = 1/2. Clusters have one pair, or nine whose margins and luck correlate (0.3). From 93 to 97 %
is promised at 100 and 500 clusters with T = 1 and 2; everything else, and margins so large that 94 % of pairs are won,
is stated as it is. Truths are those of two million pairs in as many bins.
Exits with 1 where a promised cell is out.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

from rmbench.metrics.reliability import bins, figures, log_loss
from rmbench.types import Array

CORRELATION = 0.3
CLUSTERS, DESIGNS, TEMPERATURES, SHIFTS = (20, 100, 500), (1, 9), (1.0, 2.0, 0.5), (0.0, 3.0)
SHOWN = "ece", "brier", "log_loss", "uncertainty"
PROMISED = 0.93, 0.97
POPULATION = 2_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, out = np.random.default_rng(options.seed), 0
    print(
        f"Calibration figures, {options.repeats:,} repeats: coverage in % (* promised: 93-97 %), "
        "bias / truth of ece^2\n"
    )
    print(
        f"{'shift':>5} {'T':>4} {'clusters':>8} {'pairs':>5}"
        + "".join(f"{name:>13}" for name in SHOWN)
        + f"{'ece^2':>20}"
    )
    for shift in SHIFTS:
        for temperature in TEMPERATURES:
            for clusters in CLUSTERS:
                for size in DESIGNS:
                    out += cell(rng, options.repeats, clusters, size, temperature, shift)
    print(f"\n{out} promised cells are out." if out else "\nEvery promised cell holds.")
    return 1 if out else 0


def cell(rng: np.random.Generator, repeats: int, clusters: int, size: int, temperature: float, shift: float) -> int:
    """Prints one line; how many of its promised cells are out."""
    expected = truth(temperature, clusters, shift)
    held, errors = dict.fromkeys(SHOWN, 0), 0.0
    for _ in range(repeats):
        rows = simulated(rng, clusters, size, temperature, shift)
        found = {e.name: e for e in [*figures(*rows), log_loss(logit(rows[0]), *rows[1:])]}
        errors += found["reliability"].value / repeats
        for name in SHOWN:
            held[name] += found[name].ci_low <= expected[name] <= found[name].ci_high
    line, out = f"{shift:>5g} {temperature:>4g} {clusters:>8} {size:>5}", 0
    for name in SHOWN:
        promised = clusters >= 100 and temperature >= 1 and shift == 0
        missed = promised and not PROMISED[0] <= held[name] / repeats <= PROMISED[1]
        out += missed
        line += f"{100 * held[name] / repeats:>12.1f}" + ("!" if missed else "*" if promised else " ")
    print(f"{line}{errors - expected['reliability']:>10.5f}/{expected['reliability']:.5f}", flush=True)
    return out


def simulated(
    rng: np.random.Generator, clusters: int, size: int, temperature: float, shift: float = 0.0
) -> tuple[Array, Array, Array, NDArray[np.intp]]:
    """p, y, weights and clusters of pairs, as `figures` takes them."""
    margin = np.abs(1.5 * correlated(rng, clusters, size) + shift)
    won = ndtr(correlated(rng, clusters, size)) < expit(margin)
    n = clusters * size
    return expit(margin / temperature), won.astype(float), np.ones(n), np.repeat(np.arange(clusters), size)


def correlated(rng: np.random.Generator, clusters: int, size: int) -> Array:
    """Standard normal numbers [clusters * size] that correlate within clusters."""
    shared, own = rng.normal(size=(clusters, 1)), rng.normal(size=(clusters, size))
    result: Array = (np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own).ravel()
    return result


@cache
def truth(temperature: float, clusters: int, shift: float = 0.0) -> dict[str, float]:
    """The figures of endless data, binned as for `clusters` clusters."""
    margin = np.abs(1.5 * np.random.default_rng(0).normal(size=POPULATION) + shift)
    p, chance = expit(margin / temperature), expit(margin)
    bin_of = bins(p, np.ones(POPULATION), clusters)
    gaps = np.bincount(bin_of, weights=chance - p) / np.bincount(bin_of)
    error = float(np.average(np.square(gaps), weights=np.bincount(bin_of)))
    wins = float(chance.mean())
    return {
        "reliability": error,
        "ece": float(np.sqrt(error)),
        "brier": float(np.mean(chance * np.square(1 - p) + (1 - chance) * np.square(p))),
        "log_loss": float(-np.mean(chance * np.log(p) + (1 - chance) * np.log1p(-p))),
        "uncertainty": wins * (1 - wins),
    }


if __name__ == "__main__":
    sys.exit(main())
