"""What is the response worth that a reward chooses among n? `selection_at_n`, with what chance and an oracle would get.

A prompt has N candidates, each with a reward (the proxy) and a label (the gold: 1 right, 0 wrong, or how good it is).
Of a random n of them the one with the largest reward is taken. With the candidates sorted by reward, its expected label
is

    sum_{i=n..N} C(i-1, n-1) / C(N, n) gold_(i)

the mean over all subsets of size n, without drawing one (as for best-of-n in Nakano et al., WebGPT, 2021). Candidates
of one reward are in any order alike, so each counts with the mean label of its tie. A prompt whose candidates are all
right or all wrong counts like any other.

- `selection_at_<n>`: the label of what the reward takes; `..._reward`: the reward of it; `..._gain`: the label above
  that of a random candidate, with a sign-flip p.
- `..._oracle`: the best label among the n; for right and wrong 1 - C(wrong, n) / C(N, n).
- `..._majority`: the answer that most of the n have (tag `answer`), ties at random. A candidate without an answer does
  not vote; where none of the n votes, one of them is taken at random. Exact up to N = 12, above that a mean over seeded
  subsets.
- `selection_random`: the mean label of the candidates, whatever n.

Candidates of one prompt may come from different systems; only where one policy wrote them all is this best-of-n, and
only then `best_of.kl` says how far it is from that policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Unpack

import numpy as np

from rmbench.metrics.best_of import by_proxy, chances_of_ranks
from rmbench.metrics.interval import Statistic, Words, mean
from rmbench.types import Array, Outcome

_ENUMERATED = 12  # 4,095 subsets
_SUBSETS = 2_000
_FEW = 10  # with fewer prompts than this off an end, a bootstrap covers too little
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Choices:
    """What p prompts get at each of m `sizes`; arrays are [p, m], nan for a prompt left out.

    `selected` and `reward` are label and reward of what the reward takes, `oracle` the best label, `majority` the label
    of the majority's answer, nan also for a prompt without answers; `random` [p] is the mean label.
    """

    sizes: tuple[int, ...]
    selected: Array
    reward: Array
    oracle: Array
    majority: Array
    random: Array


def choices(outcomes: Sequence[Outcome], view: str, sizes: Sequence[int], *, seed: int = 0) -> Choices:
    """What each of `outcomes` [p] gets by its scores in `view` when n of its candidates are there, n in `sizes`."""
    wanted = tuple(sizes)
    selected, reward, oracle, majority = (np.full((len(outcomes), len(wanted)), np.nan) for _ in range(4))
    random = np.full(len(outcomes), np.nan)
    rng = np.random.default_rng(seed)
    for at, outcome in enumerate(outcomes):
        if reason_left_out(outcome, view, max(wanted, default=1)):
            continue
        gold, proxy = outcome.labels, _scores(outcome, view)
        selected[at] = expected_choice(proxy, gold, wanted)
        reward[at] = expected_choice(proxy, proxy, wanted)
        oracle[at] = expected_choice(gold, gold, wanted)
        random[at] = gold.mean()
        answers = answers_of(outcome)
        if any(answer is not None for answer in answers):
            majority[at] = expected_majority(answers, gold, wanted, rng)
    return Choices(wanted, selected, reward, oracle, majority, random)


def statistics(chosen: Choices) -> list[Statistic]:
    """Every figure of the module's text, `selection_random` first, then size by size."""
    figures = [
        _share(
            "selection_random",
            chosen.random,
            title="Label of a random candidate",
            caveat="of the data, not of the model",
        )
    ]
    for at, n in enumerate(chosen.sizes):
        name, gain = f"selection_at_{n}", chosen.selected[:, at] - chosen.random
        gain = np.where(np.abs(gain) < _ROUNDING, 0.0, gain)  # or a test would take rounding for an effect
        figures += [
            _share(
                name,
                chosen.selected[:, at],
                title=f"Label of the best of {n} by reward",
                better="higher",
                caveat="best-of-n of a policy only where one wrote all candidates; no training",
                at=float(n),
            ),
            _share(
                f"{name}_oracle",
                chosen.oracle[:, at],
                title=f"Best label among {n}",
                caveat="of the data, not of the model: what no reward can exceed",
                at=float(n),
            ),
            _share(
                f"{name}_majority",
                chosen.majority[:, at],
                title=f"Label of the majority's answer among {n}",
                caveat="of the data, not of the model: what a vote gets",
                at=float(n),
            ),
            mean(
                f"{name}_reward",
                chosen.reward[:, at],
                title=f"Reward of the best of {n} by reward",
                unit="reward units",
                caveat="rises with n whatever the reward is worth; reward units differ between models",
                at=float(n),
            ),
            replace(
                mean(
                    f"{name}_gain",
                    gain,
                    title=f"Label of the best of {n} above that of a random candidate",
                    unit="label",
                    better="higher",
                    caveat="bounded by how much the candidates differ",
                    at=float(n),
                ),
                effects=gain,
            ),
        ]
    return figures


def reason_left_out(outcome: Outcome, view: str, least: int) -> str:
    """Why an example says nothing of the choice among `least` candidates, "" where it does.

    An infinite reward is one: larger, or smaller, than every number.
    """
    scores = _scores(outcome, view)
    if np.isnan(outcome.labels).any():
        return "unlabelled candidate"
    if np.isnan(scores).any():
        return "no reward"
    return f"fewer than {least} candidates" if len(scores) < least else ""


def answers_of(outcome: Outcome) -> list[str | None]:
    """The tag `answer` of each candidate."""
    given = [tags.get("answer") for tags in outcome.tags] or [None] * len(outcome.labels)
    return [None if answer is None else str(answer) for answer in given]


def policies(outcomes: Sequence[Outcome]) -> Counter[str | None]:
    """How many candidates each policy wrote, going by the tag `policy`; None is not said."""
    return Counter(
        None if policy is None else str(policy)
        for outcome in outcomes
        for policy in ([tags.get("policy") for tags in outcome.tags] or [None] * len(outcome.labels))
    )


def expected_choice(proxy: Array, values: Array, sizes: Sequence[int]) -> Array:
    """The expected value [m] of the candidate with the largest proxy [N] among a random n of them, n in `sizes` [m].

    No proxy may be nan. A size is 1 to N.
    """
    averaged = by_proxy(proxy[None], values[None])[0]
    if not np.isfinite(averaged).all():  # 0 chances of an infinity are none of it
        with np.errstate(invalid="ignore"):  # of both infinities the mean is nan
            return np.array([(averaged[c > 0] * c[c > 0]).sum() for c in chances_of_ranks(len(proxy), tuple(sizes)).T])
    result: Array = averaged @ chances_of_ranks(len(proxy), tuple(sizes))
    return np.clip(result, averaged.min(), averaged.max())


def expected_majority(
    answers: Sequence[str | None], values: Array, sizes: Sequence[int], rng: np.random.Generator
) -> Array:
    """The expected value [m] of a candidate with the answer that most of a random n have, n in `sizes` [m].

    Given how many of the n have an answer, which of its candidates they are is a draw, so that an answer is worth the
    mean of its `values` [N].
    """
    named = list(dict.fromkeys(answer for answer in answers if answer is not None))
    code = np.array([len(named) if answer is None else named.index(answer) for answer in answers])
    counts = np.bincount(code, minlength=len(named) + 1)
    worth = np.bincount(code, weights=values, minlength=len(named) + 1) / np.maximum(counts, 1)
    shares = []
    for n in sizes:
        if len(answers) <= _ENUMERATED:
            votes = _subsets(len(answers), n) @ (code[:, None] == np.arange(len(counts)))
        else:
            votes = rng.multivariate_hypergeometric(counts, n, size=_SUBSETS, method="marginals")
        shares.append(float(_majority_worth(votes, worth).mean()))
    return np.array(shares)


def _majority_worth(votes: Array, worth: Array) -> Array:
    """Mean worth [s] of the answers with the most votes [s, a + 1]; the last column did not vote."""
    cast = votes[:, :-1]
    most = cast.max(axis=1, initial=0)[:, None]
    winners = np.column_stack([(cast == most) & (most > 0), most[:, 0] == 0])
    return np.asarray((winners @ worth) / winners.sum(axis=1))


@lru_cache(maxsize=64)
def _subsets(total: int, size: int) -> Array:
    """Every subset of `size` of `total` things as a row of zeros and ones."""
    every = (np.arange(1 << total)[:, None] >> np.arange(total)) & 1
    chosen: Array = every[every.sum(axis=1) == size].astype(float)
    return chosen


def _share(name: str, values: Array, **words: Unpack[Words]) -> Statistic:
    """The mean of `values` [p]; Wilson's interval where they are zeros and ones, or few are off one end."""
    finite, said = values[np.isfinite(values)], Words(unit="label", **words)
    if not ((finite >= 0) & (finite <= 1)).all():
        return mean(name, values, **said)
    few = min(finite.sum(), (1 - finite).sum()) < _FEW
    return mean(name, values, "proportion" if few or np.isin(finite, (0, 1)).all() else "fraction", **said)


def _scores(outcome: Outcome, view: str) -> Array:
    seen = outcome.views.get(view)
    return np.full(len(outcome.labels), np.nan) if seen is None or seen.scores is None else seen.scores
