"""How often equal models get a second tier on a board, in simulation.

    python benchmarks/tiers.py [--full] [--seed 0]

m models answer 483 examples and all are equally good. `independent`: each is right on each example with probability .3;
`shared`: the chance is the example's own, from 0 to 1, the same for all models, .3 on average; `ranks` are reciprocal
ranks, which are drawn and not counted. At most 5 % of boards may show a second tier, two standard errors of so many
repeats aside; exits with 1 where more do. Beside it, how often the rule before this one did: Holm over what the leader
is compared with alone, as if nobody had chosen it by looking.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np

from rmbench.metrics.paired import apart, holm, tiers
from rmbench.metrics.sign_flip import sign_flip_ps
from rmbench.types import Array

EXAMPLES, CHANCE = 483, 0.3
MODELS = (2, 5, 13, 20, 40)
FULL, SMALL = 2_000, 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"{FULL:,} repeats a cell; {SMALL} otherwise.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    repeats = FULL if options.full else SMALL
    print(f"Equal models on {EXAMPLES} examples, {repeats:,} boards a cell: share with a second tier, in %\n")
    print(f"{'models':>6} {'design':>12} {'second tier':>12} {'leader alone':>13}")
    out = 0
    for design in DESIGNS if options.full else ("independent", "shared"):
        for models in MODELS:
            told, before = second_tiers(models, design, repeats, options.seed)
            missed = told > most(repeats)
            out += missed
            print(
                f"{models:>6} {design:>12} {100 * told:>12.2f}{'!' if missed else ' '}{100 * before:>13.2f}", flush=True
            )
    print(f"\n{out} cells are out.\n" if out else "\nEvery cell holds.\n")
    return 1 if out else 0


def most(repeats: int) -> float:
    """5 % and two standard errors of that in so many repeats."""
    return 0.05 + 2 * float(np.sqrt(0.05 * 0.95 / repeats))


def second_tiers(models: int, design: str, repeats: int, seed: int) -> tuple[float, float]:
    """The share of boards with a second tier, by the board's rule and by the one before."""
    rng, made, rows = np.random.default_rng(seed), DESIGNS[design], np.arange(EXAMPLES)
    told = before = 0
    for _ in range(repeats):
        values = made(rng, models)
        means = values.mean(axis=1).tolist()
        placed = tiers(means, apart([one[:, None] for one in values], rows))
        told += any(tier > 1 for tier, _ in placed)
        leader = int(np.argmax(means))
        alone = sign_flip_ps([values[leader] - values[i] for i in range(models) if i != leader])
        before += min(holm(alone)) < 0.05
    return told / repeats, before / repeats


def _independent(rng: np.random.Generator, models: int) -> Array:
    return rng.binomial(1, CHANCE, (models, EXAMPLES)).astype(float)


def _shared(rng: np.random.Generator, models: int) -> Array:
    return rng.binomial(1, rng.beta(0.6, 1.4, EXAMPLES), (models, EXAMPLES)).astype(float)


def _ranks(rng: np.random.Generator, models: int) -> Array:
    return np.asarray(1 / rng.integers(1, 11, (models, EXAMPLES)))


DESIGNS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "independent": _independent,
    "shared": _shared,
    "ranks": _ranks,
}

if __name__ == "__main__":
    sys.exit(main())
