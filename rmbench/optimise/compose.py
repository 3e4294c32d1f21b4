"""What optimising several rewards does to one policy, from results alone: the numbers of `rmbench overoptimize`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from rmbench.errors import UsageError
from rmbench.metrics import best_of, winners
from rmbench.metrics.overoptimisation import Curves, apart
from rmbench.metrics.paired import holm
from rmbench.optimise.entrants import Setting, entrant_of
from rmbench.optimise.pool import OWN_LABELS, Gold, Pool, read_pool
from rmbench.optimise.report import Contrast, Measured, OptimisationReport

_EACH_UP_TO = 32
_FEWEST_DRAWS = 100
_A_DOUBLING = 8  # sizes a doubling beyond that


def report_of(
    paths: Sequence[Path],
    *,
    gold: Gold | None = None,
    gold_name: str = OWN_LABELS,
    views: Sequence[str] = (),
    up_to: int | None = None,
    good: float | None = None,
    label_noise: float = 0.0,
    measured: Sequence[Measured] = (),
    draws: int = 2000,
    seed: int = 0,
) -> OptimisationReport:
    """Best-of-n and all that is made of it by the rewards of results of one task, files or folders of them.

    `gold`, `views` and `up_to` are those of `read_pool`. A sample is good that is worth `good` or more; without it the
    right ones are, and of scores those above the mean of their prompt. `label_noise` is that of an oracle beside the
    rewards, `measured` is of policies beside them. Raises ResultError, DataError and UsageError.
    """
    check_numbers(up_to, good, label_noise, draws)
    pool = read_pool(paths, gold=gold, gold_name=gold_name, views=views, up_to=up_to)
    _check_noise(pool, label_noise)
    setting = _setting(pool, good, draws, seed)
    examined = [entrant_of(setting, proxy) for proxy in pool.proxies]
    pools, sizes, majority_seed = pool.pools, setting.sizes, seed
    by_chance = winners.good_loses(pools, np.zeros(len(pools.gold)), setting.good, sizes)
    has_answers, is_told = bool((pools.answers >= 0).any()), pools.is_binary or good is not None
    return OptimisationReport(
        task=pool.task,
        version=pool.version,
        gold=pool.gold,
        policy=pool.policy,
        prompts=len(pools.counts),
        clusters=len(np.unique(pools.clusters)),
        samples=pool.samples,
        sizes=sizes,
        left_out=pool.left_out,
        random=setting.at_random(),
        oracle=setting.of_gold(best_of.oracle(pools, sizes)),
        majority=setting.of_gold(best_of.majority(pools, sizes, majority_seed)) if has_answers else None,
        pass_at=setting.curve(best_of.pass_at(pools, setting.good, sizes)) if is_told else None,
        noisy_oracle=setting.of_gold(best_of.noisy_oracle(pools, label_noise, sizes, seed)) if label_noise else None,
        label_noise=label_noise,
        entrants=[entrant for entrant, _ in examined],
        contrasts=_contrasts([proxy.title for proxy in pool.proxies], [curves for _, curves in examined]),
        measured=list(measured),
        notes=[*pool.notes, *_unmatched(measured, [proxy.title for proxy in pool.proxies])],
        seed=seed,
        good_loses_by_chance=setting.curve_if_any(by_chance),
        good=_goodness(pool, good),
    )


def sizes_to(most: int) -> tuple[int, ...]:
    """Every n to 32, then eight a doubling, and the last.

    >>> sizes_to(40)[30:]
    (31, 32, 35, 38, 40)
    """
    steps = range(1, _A_DOUBLING * most.bit_length())
    beyond = [round(_EACH_UP_TO * 2 ** (step / _A_DOUBLING)) for step in steps]
    return (*range(1, min(most, _EACH_UP_TO) + 1), *(n for n in beyond if n < most), *([most] * (most > _EACH_UP_TO)))


def _unmatched(measured: Sequence[Measured], names: Sequence[str]) -> list[str]:
    """A line on each reward that policies were measured for and that is not here."""
    unknown = dict.fromkeys(one.reward for one in measured if not any(_is_of(one.reward, name) for name in names))
    return [f"measured policies of {reward} stand in no plot: no reward is called so" for reward in unknown]


def _is_of(reward: str, name: str) -> bool:
    return name == reward or name.startswith(f"{reward} (")


def _goodness(pool: Pool, good: float | None) -> str:
    """Which samples are good, in words."""
    if good is not None:
        return f"worth {good:g} or more"
    return "worth 1" if pool.pools.is_binary else "worth more than the mean of its prompt"


def _setting(pool: Pool, good: float | None, draws: int, seed: int) -> Setting:
    marks = winners.good_ones(pool.pools) if good is None else pool.pools.gold >= good
    if good is not None and (marks.all() or not marks.any()):
        least, most = pool.pools.gold.min(), pool.pools.gold.max()
        which = "every" if marks.all() else "no"
        raise UsageError(f"good={good:g}: {which} sample is good then; they are worth {least:g} to {most:g}")
    return Setting(pool.pools, marks, sizes_to(pool.size), draws, seed)


def check_numbers(up_to: int | None, good: float | None, label_noise: float, draws: int) -> None:
    """Raises UsageError for a number that nothing can be found by, whatever the samples are."""
    whole = {"up_to": (up_to, 2), "draws": (draws, _FEWEST_DRAWS)}
    for name, (number, least) in whole.items():
        if number is not None and (not isinstance(number, int) or number < least):
            raise UsageError(f"{name}={number!r:.40}: expected a whole number from {least}")
    for name, given in {"good": good, "label_noise": label_noise}.items():
        if given is not None and (not isinstance(given, int | float) or math.isnan(given)):
            raise UsageError(f"{name}={given!r:.40}: expected a number")
    if label_noise < 0 or math.isinf(label_noise):
        raise UsageError(f"label_noise={label_noise:g}: expected 0 or more")


def _check_noise(pool: Pool, noise: float) -> None:
    """Raises UsageError for a label noise that is no chance, where samples are right or wrong."""
    if pool.pools.is_binary and noise > 1:
        raise UsageError(f"label_noise={noise:g}: expected a chance from 0 to 1, since gold is right or wrong")


def _contrasts(names: Sequence[str], curves: Sequence[Curves]) -> list[Contrast]:
    """Every two rewards, paired, with Holm's adjustment over all that have a p."""
    contrasts = [
        Contrast(names[first], names[second], one.figure, one.difference, one.p, float("nan"))
        for first, second in combinations(range(len(names)), 2)
        for one in apart(curves[first], curves[second])
    ]
    adjusted = holm([one.p for one in contrasts])
    return [replace(one, p_holm=p) for one, p in zip(contrasts, adjusted, strict=True)]
