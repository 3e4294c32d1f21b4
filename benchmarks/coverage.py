"""How often the 95 % intervals of `rmbench.metrics` contain the truth, in simulation, where clusters are alike and not.

    python benchmarks/coverage.py [--full] [--only mrr] [--clusters 500 [--chance .9]] [--seed 0]

A cluster has a chance of its own, beta distributed about p, so that its rows correlate (.3); of `copies` rows copy a
common answer. Clusters have one row or five, sizes of a Pareto distribution (shape 1.1, at most 1,000), or two rows
but for one that has 83 % of them all (`giant`).

- accuracy: a proportion; mrr and rank: of a first place with that chance, else one of the nine others, each half as
  likely as the one before;
- quantile: the length that a share p does not exceed, logs of lengths correlate (.3) within a prompt;
- paired: the difference of two models in accuracy, both with the cluster's chance;
- macro: the mean over two tasks of which every prompt is in both.

From 93 to 97 % is promised of accuracy where clusters are alike, from 100 on, for p = .5 and .95, and at least 93 %
wherever a `+` stands. `--full` has 2,000 repetitions of everything and holds promises to the letter; the short run,
of 20 and 100 clusters, allows for chance: a cell is out where its count is one that happens in one of 100,000 runs if
the promise holds. Exits with 1 where one is out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binom

from rmbench.metrics import tails
from rmbench.metrics.interval import Statistic, estimate, mean, wilson_interval
from rmbench.metrics.paired import difference
from rmbench.types import Array

CORRELATION = 0.3
CLUSTERS, CHANCES = (20, 100, 500), (0.5, 0.9, 0.95, 0.995)
SIZES = ("1", "5", "5 copies", "pareto", "giant")
PROMISED = 0.93, 0.97
RARE, SHORT = 1e-5, 24
RANKS = np.arange(2, 11)
LATER = 0.5 ** np.arange(9) / (0.5 ** np.arange(9)).sum()


Covers = Callable[[np.random.Generator, str, int, float], bool]
Codes = NDArray[np.integer]


@dataclass(frozen=True)
class Sample:
    """Rows of one repetition: their cluster, and whether each of two models is right."""

    codes: Codes
    right: Array
    other: Array


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", choices=list(FIGURES))
    parser.add_argument("--clusters", type=int, choices=CLUSTERS, help="these alone, with draws of their own")
    parser.add_argument("--chance", type=float, choices=CHANCES, help="p of these alone, with draws of its own too")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.chance is not None and options.clusters is None:
        parser.error("--chance needs --clusters")
    out = 0
    for at, (name, (covers, most)) in enumerate(FIGURES.items()):
        if options.only in (None, name):
            own = [] if options.clusters is None else [options.clusters]
            chances = CHANCES if options.chance is None else (options.chance,)
            drawn = own if options.chance is None else [*own, round(1000 * options.chance)]
            rng, repeats = np.random.default_rng([options.seed, at, *drawn]), most if options.full else SHORT
            print(f"{name}, {repeats:,} repeats: coverage in % (* promised: 93-97 %, + at least 93 %)\n")
            print(f"{'clusters':>8} {'p':>6}" + "".join(f"{sizes:>11}" for sizes in SIZES))
            for clusters in own or (CLUSTERS if options.full else CLUSTERS[:2]):
                out += sum(line(rng, name, covers, clusters, p, repeats, exact=options.full) for p in chances)
            print(flush=True)
    print(f"{out} promised cells are out." if out else "Every promised cell holds.")
    return 1 if out else 0


def line(
    rng: np.random.Generator,
    name: str,
    covers: Covers,
    clusters: int,
    p: float,
    repeats: int,
    *,
    exact: bool,
) -> int:
    """Prints one line; how many of its promised cells are out."""
    text, out = f"{clusters:>8} {p:>6}", 0
    for sizes in SIZES:
        held = sum(bool(covers(rng, sizes, clusters, p)) for _ in range(repeats))
        mark = promise(name, sizes, clusters, p)
        missed = bool(mark) and is_out(held, repeats, mark, exact=exact)
        out += missed
        text += f"{100 * held / repeats:>10.1f}{'!' if missed else mark or ' '}"
    print(text, flush=True)
    return out


def is_out(held: int, repeats: int, mark: str, *, exact: bool) -> bool:
    """Whether a count breaks its promise: by itself, or by more than chance."""
    low, high = PROMISED
    if exact:
        return held / repeats < low or (mark == "*" and held / repeats > high)
    return bool(binom.cdf(held, repeats, low) < RARE or (mark == "*" and binom.sf(held - 1, repeats, high) < RARE))


def promise(name: str, sizes: str, clusters: int, p: float) -> str:
    """`*` where 93 to 97 % is promised, `+` where at least 93 % is."""
    if name == "accuracy":
        if sizes in ("pareto", "giant"):
            return "+"
        return "*" if clusters >= 100 and p in (0.5, 0.95) else ""
    return ""


def sizes_of(rng: np.random.Generator, sizes: str, clusters: int) -> Codes:
    """The rows of each cluster."""
    if sizes == "pareto":
        return np.floor(1 + rng.pareto(1.1, clusters)).clip(max=1000).astype(int)
    rows = np.full(clusters, {"1": 1, "giant": 2}.get(sizes, 5))
    if sizes == "giant":
        rows[0] = round(0.83 / 0.17 * 2 * (clusters - 1))
    return rows


def sample(rng: np.random.Generator, sizes: str, clusters: int, p: float) -> Sample:
    codes = np.repeat(np.arange(clusters), sizes_of(rng, sizes, clusters))
    if sizes == "5 copies":  # two rows agree through their cluster where both copy: CORRELATION
        copies = rng.random((2, len(codes))) < np.sqrt(CORRELATION)
        common = (rng.random((2, clusters)) < p)[:, codes]
        both = np.where(copies, common, rng.random((2, len(codes))) < p)
        return Sample(codes, both[0].astype(float), both[1].astype(float))
    strength = 1 / CORRELATION - 1
    chance = rng.beta(p * strength, (1 - p) * strength, clusters)[codes] if sizes != "1" else np.full(len(codes), p)
    both = rng.random((2, len(codes))) < chance
    return Sample(codes, both[0].astype(float), both[1].astype(float))


def accuracy(rng: np.random.Generator, sizes: str, clusters: int, p: float) -> bool:
    drawn = sample(rng, sizes, clusters, p)
    rows = np.bincount(drawn.codes, minlength=clusters).astype(float)
    low, high = wilson_interval(np.bincount(drawn.codes, drawn.right, clusters).astype(float), rows)
    return bool(low <= p <= high)


def ranks(rng: np.random.Generator, right: Array) -> Array:
    return np.where(right == 1, 1, rng.choice(RANKS, len(right), p=LATER)).astype(float)


def mrr(rng: np.random.Generator, sizes: str, clusters: int, p: float) -> bool:
    drawn = sample(rng, sizes, clusters, p)
    return holds(mean("mrr", 1 / ranks(rng, drawn.right), "fraction"), drawn, p + (1 - p) * float(LATER @ (1 / RANKS)))


def rank(rng: np.random.Generator, sizes: str, clusters: int, p: float) -> bool:
    """Where every rank is 1 there is no interval, which leaves all open."""
    drawn = sample(rng, sizes, clusters, p)
    statistic = mean("mean_rank", ranks(rng, drawn.right), bounds=(1.0, None))
    return holds(statistic, drawn, p + (1 - p) * float(LATER @ RANKS))


def quantile(rng: np.random.Generator, sizes: str, clusters: int, p: float) -> bool:
    """An end that is open holds everything on its side."""
    codes = np.repeat(np.arange(clusters), sizes_of(rng, sizes, clusters))
    shared, own = rng.normal(size=clusters)[codes], rng.normal(size=len(codes))
    logs = 6 + np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own
    tokens, n = np.exp(np.maximum(logs, 0)), len(codes)  # a response has a token at least
    lengths = tails.Lengths(tokens, np.full(n, np.inf), ["stop"] * n, ["ok"] * n, codes)
    bounded, truth = tails.quantile(lengths, p), float(np.exp(6 + ndtri(p)))
    return not bounded.ci_low > truth and not bounded.ci_high < truth


def paired(rng: np.random.Generator, sizes: str, clusters: int, p: float) -> bool:
    drawn = sample(rng, sizes, clusters, p)
    change = difference(drawn.right[:, None], drawn.other[:, None], drawn.codes, kind="proportion")
    return not change.ci_low > 0 and not change.ci_high < 0


def macro(rng: np.random.Generator, sizes: str, clusters: int, p: float) -> bool:
    """Rows of the one task and of the other, each prompt in both: its sums, as `measure.macro` takes them."""
    drawn = sample(rng, sizes, clusters, p)
    n = len(drawn.codes)
    columns = np.zeros((2 * n, 4))
    columns[:n, 0], columns[:n, 1], columns[n:, 2], columns[n:, 3] = drawn.right, 1, drawn.other, 1

    def value(sums: Array) -> Array:
        return np.asarray((sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3]) / 2)

    statistic = Statistic("macro", columns, value, "fraction")
    return holds(statistic, Sample(np.tile(drawn.codes, 2), drawn.right, drawn.other), p)


def holds(statistic: Statistic, drawn: Sample, truth: float) -> bool:
    [found] = estimate([statistic], drawn.codes, draws=500, seed=len(drawn.codes))
    return not found.ci_low > truth and not found.ci_high < truth


FIGURES: dict[str, tuple[Covers, int]] = {
    "accuracy": (accuracy, 2000),
    "mrr": (mrr, 2000),
    "rank": (rank, 2000),
    "quantile": (quantile, 2000),
    "paired": (paired, 2000),
    "macro": (macro, 2000),
}

if __name__ == "__main__":
    sys.exit(main())
