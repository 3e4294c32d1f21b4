"""Is the turn-over of a reward seen where it is, and only there? Simulations of `rmbench.metrics.overoptimisation`.

    python benchmarks/overoptimise.py [--full] [--seed 0]

Gold is normal, or right or wrong; the proxy is gold with noise of 2 degrees of freedom, whose best of n turns over
(gold peaks at .698 near n = 12 and is .467 at 64), gold with normal noise, which does not, or noise alone. The truth is
an integral over the distribution of the proxy. Stated are how often each verdict is given, how often p < .05, and how
often 95 % intervals contain the truth. Promised, within three standard errors of the simulation, are:

- 500 prompts of 64 samples: the verdict is right in 95 % of seeds for noise of either kind;
- noise alone: p < .05 in at most 5 %, whatever gold is, with ties, few prompts or clusters of several prompts;
- intervals of fits to simulated curves contain the a, b and optimum they were made with in 93 to 97 %;
- intervals of the degree, of gold at its best and of the best n contain the truth in 93 % or more: they allow for the n
  that may be the best, so that they are wider than need be where it is plain;
- of two rewards alike in distribution at most 5 % of differences have p < .05, and the intervals of differences of two
  that are not contain the truth in 93 % or more.

Exits with 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rmbench.metrics import gold_fits
from rmbench.metrics import overoptimisation as found_by
from rmbench.metrics.best_of import kl
from rmbench.metrics.curve import Figure, drawn_means
from rmbench.metrics.overoptimisation import Curves
from rmbench.metrics.pools import Codes, pools_of
from rmbench.types import Array

TRUE_A, TRUE_B = 1.2, 0.5  # of simulated curves
FITTED = "a", "b", "optimum", "peak"
CHANCES = {"half": 1 / 2, "rare": 1 / 64, "common": 63 / 64}  # of a sample to be right
SHAPES = "plain", "ties", "fours", "unequal"
THRESHOLD = 1.0  # a sample is right where its normal score is above this


@dataclass(frozen=True)
class World:
    """How pools come about: `gold` is normal, or right or wrong in one of several ways, `noise` t, normal or alone."""

    prompts: int
    samples: int
    gold: str = "normal"
    noise: str = "t"
    shape: str = "plain"

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(sorted({12, *map(round, np.geomspace(1, self.samples, 20).tolist())}))

    def curves(self, rng: np.random.Generator, other: World | None = None) -> list[Curves]:
        """The curves of a proxy of one pool, and of the proxy that the `other` world has of it."""
        of_cluster = self._clusters(rng)
        distinct = int(of_cluster.max()) + 1
        gold, scores = self._gold(rng, distinct)
        pools = pools_of(list(gold[of_cluster]), [str(code) for code in of_cluster])
        rewards = [world.proxy(rng, scores)[of_cluster].ravel() for world in (self, other) if world is not None]
        return [found_by.curves_of(pools, reward, self.sizes, draws=1000) for reward in rewards]

    def _clusters(self, rng: np.random.Generator) -> Codes:
        """The cluster of each prompt; prompts of a cluster are the same again, the worst that a cluster can be."""
        if self.shape == "fours":
            return np.arange(self.prompts) // 4
        if self.shape == "unequal":
            return np.repeat(np.arange(self.prompts), rng.integers(1, 9, self.prompts))[: self.prompts]
        return np.arange(self.prompts)

    def _gold(self, rng: np.random.Generator, distinct: int) -> tuple[Array, Array]:
        """Gold, and what the proxy is made of."""
        shape = distinct, self.samples
        scores = rng.normal(size=shape)
        if self.gold in CHANCES or self.gold == "mixed":
            chances = rng.beta(0.3, 0.5, (distinct, 1)) if self.gold == "mixed" else CHANCES[self.gold]
            return np.less(rng.random(shape), chances).astype(float), scores
        return ((scores > THRESHOLD).astype(float) if self.gold == "right" else scores), scores

    def proxy(self, rng: np.random.Generator, scores: Array) -> Array:
        """Gold's scores with this world's noise, or noise alone."""
        if self.noise == "alone":
            alone = rng.normal(size=scores.shape)
            return np.round(alone) if self.shape == "ties" else alone
        return scores + (rng.standard_t(2, scores.shape) if self.noise == "t" else rng.normal(size=scores.shape))

    def truth(self) -> Array:
        """Gold of best-of-n at each size."""
        worth, share = _by_rank(self.gold == "right", self.noise)
        return np.array([(worth * np.diff(share**n)).sum() for n in self.sizes])


@lru_cache
def _by_rank(right: bool, noise: str) -> tuple[Array, Array]:
    """The mean gold of samples whose proxy lies between two of many values, and the shares below these values."""
    from scipy.stats import norm, t

    scores = np.linspace(-8, 8, 801)
    density = norm.pdf(scores) / norm.pdf(scores).sum()
    values = np.sinh(np.linspace(-12, 12, 1501))
    below = (t(2) if noise == "t" else norm).cdf(values[:, None] - scores)
    share = below @ density
    gold = (scores > THRESHOLD).astype(float) if right else scores
    mass, summed = np.diff(share), np.diff(below @ (density * gold))
    worth = np.divide(summed, mass, out=np.zeros_like(mass), where=mass > 0)
    return worth, np.clip((share - share[0]) / (share[-1] - share[0]), 0.0, 1.0)


@dataclass
class Table:
    """Prints a line a row and counts the promises that are not kept."""

    broken: int = 0

    def row(self, name: str, cells: dict[str, tuple[float, float, float]], repeats: int, seen: str = "") -> None:
        """`cells` are shares with the least and the most that is promised of them."""
        line = f"{name:44}"
        for what, (share, least, most) in cells.items():
            out = not least - _errors(least, repeats) <= share <= most + _errors(most, repeats)
            self.broken += out
            line += f"  {what} {100 * share:5.1f}{'!' if out else '*' if (least, most) != (0, 1) else ' '}"
        print(line + (f"  {seen}" if seen else ""), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="what RESULTS.md states: a quarter of an hour of one core")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    repeats, table = (200, 200, 150, 150, 300) if options.full else (8, 25, 20, 20, 40), Table()
    print("Over-optimisation, so many pools: {} of each verdict, {} of noise alone, {} for coverage".format(*repeats))
    print(f"and {repeats[-1]} curves fitted; shares in %, * promised\n")
    seeds = np.random.SeedSequence(options.seed)
    for part, count in zip((verdicts, nulls, coverage, differences, fits), repeats, strict=True):
        part(table, np.random.default_rng(seeds.spawn(1)[0]), count, options.full)
    print(f"\n{table.broken} promises are not kept." if table.broken else "\nEvery promise is kept.")
    return 1 if table.broken else 0


def verdicts(table: Table, rng: np.random.Generator, repeats: int, full: bool) -> None:
    for noise, right in (("t", "turns over"), ("normal", "still rises")):
        for prompts in (500, 100) if full else (500,):
            world = World(prompts, 64, noise=noise)
            given = _counted([found_by.turn_over(world.curves(rng)[0]) for _ in range(repeats)])
            cells = {right: (given[right] / repeats, 0.95 if prompts == 500 else 0.0, 1.0)}
            table.row(f"{noise} noise, {prompts} x 64", cells, repeats, _said(given))


def nulls(table: Table, rng: np.random.Generator, repeats: int, full: bool) -> None:
    """Noise alone: nothing turns over, and nothing is to be said to."""
    sizes = ((500, 64), (60, 32), (12, 16)) if full else ((60, 32),)
    for prompts, samples in sizes:
        for gold in ("normal", "half", "rare", "common", "mixed"):
            for shape in SHAPES if gold == "mixed" or (full and gold == "normal") else SHAPES[:1]:
                world = World(prompts, samples, gold, "alone", shape)
                count = repeats // 2 if prompts == 500 else repeats
                found = [found_by.turn_over(world.curves(rng)[0]) for _ in range(count)]
                given = _counted(found)
                cells = {
                    "p < .05": (float(np.mean([one.p < 0.05 for one in found])), 0.0, 0.05),
                    "any verdict": ((given["turns over"] + given["still rises"]) / count, 0.0, 0.05),
                }
                table.row(f"noise alone, {gold} gold, {shape}, {prompts} x {samples}", cells, count, _said(given))


def coverage(table: Table, rng: np.random.Generator, repeats: int, full: bool) -> None:
    worlds = [World(200, 64, gold, noise) for gold, noise in (("normal", "t"), ("right", "t"), ("normal", "normal"))]
    if full:
        worlds += [World(60, 32, gold, "t") for gold in ("normal", "right")]
        worlds += [World(240, 32, "normal", "t", shape) for shape in ("fours", "unequal")]
    for world in worlds:
        truth = world.truth()
        best = int(np.argmax(truth))
        held: dict[str, list[bool]] = {"degree": [], "at best": [], "at end": [], "best n": [], "p < .05": []}
        for _ in range(repeats):
            first, second = world.curves(rng, other=world)
            found = found_by.turn_over(first)
            held["degree"].append(_holds(found.degree, truth[best] - truth[-1]))
            held["at best"].append(_holds(found.gold_at_best, truth[best]))
            held["at end"].append(_holds(found.gold_at_end, truth[-1]))
            held["best n"].append(_holds(found.best_n, world.sizes[best]))
            held["p < .05"] += [one.p < 0.05 for one in found_by.apart(first, second)]
        promised = {"at end": (0.93, 0.97), "p < .05": (0.0, 0.05)}
        cells = {name: (float(np.mean(every)), *promised.get(name, (0.93, 1.0))) for name, every in held.items()}
        name = f"{world.noise} noise, {world.gold} gold, {world.shape}, {world.prompts} x {world.samples}"
        table.row(name, cells, repeats)


def differences(table: Table, rng: np.random.Generator, repeats: int, full: bool) -> None:
    """Of a reward whose gold turns over and one whose gold does not, on the same pools."""
    for gold in ("normal", "right") if full else ("normal",):
        heavy, light = World(100, 32, gold), World(100, 32, gold, "normal")
        sizes, one, other = np.array(heavy.sizes), heavy.truth(), light.truth()
        truth = {
            "gold_at_best": one.max() - other.max(),
            "gold_at_end": one[-1] - other[-1],
            "degree": (one.max() - one[-1]) - (other.max() - other[-1]),
            "optimum": np.log2(sizes[np.argmax(one)] / sizes[np.argmax(other)]),
        }
        held: dict[str, list[bool]] = {name: [] for name in truth}
        for _ in range(repeats):
            for found in found_by.apart(*heavy.curves(rng, other=light)):
                held[found.figure].append(_holds(found.difference, float(truth[found.figure])))
        cells = {name: (float(np.mean(every)), 0.93, 1.0) for name, every in held.items()}
        table.row(f"t less normal noise, {gold} gold, 100 x 32", cells, repeats)


def fits(table: Table, rng: np.random.Generator, repeats: int, full: bool) -> None:
    for form in gold_fits.FORMS:
        for prompts in (500, 60) if full else (100,):
            held = np.array([_fit_holds(rng, form, prompts) for _ in range(repeats)]).mean(axis=0)
            cells = {name: (float(share), 0.93, 0.97) for name, share in zip(FITTED, held, strict=True)}
            table.row(f"fit of {form}, {prompts} prompts", cells, repeats)


def _fit_holds(rng: np.random.Generator, form: gold_fits.Form, prompts: int) -> list[bool]:
    """Whether the intervals of a fit hold what the curve was made with; prompts differ in a, b and start."""
    sizes = World(prompts, 64).sizes
    distance = np.sqrt(kl(sizes))
    bend = distance if form == "best of n" else np.log(np.maximum(distance, 1e-12))
    a, b = TRUE_A + rng.normal(size=(prompts, 1)), TRUE_B + 0.5 * rng.normal(size=(prompts, 1))
    rows = rng.normal(size=(prompts, 1)) + distance * (a - b * bend + 0.3 * rng.normal(size=(prompts, len(sizes))))
    drawn = drawn_means(rows, np.arange(prompts), seed=int(rng.integers(1 << 32)))
    found = gold_fits.fit(form, sizes, rows.mean(axis=0), drawn, prompts)
    optimum = TRUE_A / (2 * TRUE_B) if form == "best of n" else math.exp(TRUE_A / TRUE_B - 1)
    height = optimum * (TRUE_A - TRUE_B * (optimum if form == "best of n" else math.log(optimum)))
    return [
        _holds(found.a, TRUE_A),
        _holds(found.b, TRUE_B),
        _holds(found.optimum_kl, optimum**2),
        _holds(found.peak, height),
    ]


def _holds(figure: Figure, truth: float) -> bool:
    return bool(figure.low - 1e-9 <= truth <= figure.high + 1e-9)


def _errors(share: float, repeats: int) -> float:
    return 3 * math.sqrt(share * (1 - share) / repeats)


def _counted(found: Sequence[found_by.TurnOver]) -> Counter[str]:
    return Counter(str(one.verdict) for one in found)


def _said(given: Counter[str]) -> str:
    return ", ".join(f"{verdict} {count}" for verdict, count in given.most_common())


if __name__ == "__main__":
    sys.exit(main())
