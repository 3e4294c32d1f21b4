"""The tail of the lengths of a policy's responses, which its cap cuts: shares, curves, quantiles, spread and cost.

A length is in tokens. A response that stopped by itself has its whole length; one that was cut is only known to be at
least as long as it is. One that does not say how it stopped is whole below a known cap and cut at it; without a known
cap nothing is known of it above its length. What that leaves open is nan and says why, with the bounds it lies between.
Responses that are refused, empty or failed have no length: they are counted apart (`share_of_status`).

Responses to one prompt are not independent; every interval is over prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rmbench.errors import DataError
from rmbench.metrics import draws as drawing
from rmbench.metrics.interval import LEVEL, Estimate, Kind, Statistic, corrected, estimate, mean, proportion_n, wilson
from rmbench.metrics.paired import difference
from rmbench.types import Array

Method = Literal["dkw", "cluster bootstrap", "greenwood"]

_Counts = NDArray[np.integer]

_DRAWS = 1_000
_ENTRIES = 1 << 21  # numbers held at once: 16 MiB
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Lengths:
    """n responses: `tokens` [n], nan where there is no text; `cap` [n], the most tokens allowed, nan where unknown;
    `finish` [n], "length" if it was cut, "stop" if it stopped by itself, else not known; `status` [n], "ok" where it
    has a length, else "refused", "empty" or what went wrong; `prompt` [n], which prompt it answers, by number.

    Raises DataError where a response that is ok has no length of 1 or more.
    """

    tokens: Array
    cap: Array
    finish: Sequence[str | None]
    status: Sequence[str]
    prompt: NDArray[np.integer]

    def __post_init__(self) -> None:
        for at, (status, tokens) in enumerate(zip(self.status, self.tokens, strict=True)):
            if status == "ok" and not 1 <= tokens < np.inf:
                raise DataError(f"response {at}, `tokens`: {tokens}; a response with status ok has 1 or more")

    @property
    def limit(self) -> float:
        """Below this every length is known: the smallest cap, or length of a response that may not be whole."""
        return _answers(self).limit

    @property
    def open(self) -> int:
        """How many responses are only known to be at least as long as they are."""
        return int(np.count_nonzero(~_answers(self).whole))


@dataclass(frozen=True, slots=True)
class Saturation:
    """CSR@k, the share of responses of at least `k` tokens.

    `share` is nan where responses leave it open, `unidentified` counts them by reason; it lies between `lowest`, if
    none of them is so long, and `highest`, if all are.
    """

    k: int
    share: Estimate
    lowest: Estimate
    highest: Estimate
    unidentified: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Curve:
    """The `share` [m] of responses of at most `at` [m] tokens, with the ends `low` and `high` [m] of each point.

    The ends of an `ecdf` hold with 95 % for the whole of it, those of a `kaplan_meier` for each point by itself;
    `method` says how they were found. From `limit` tokens on nothing is known.
    """

    at: Array
    share: Array
    low: Array
    high: Array
    limit: float
    n: int
    clusters: int
    method: Method


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens of `input` and of `output` cost, in `currency`."""

    input: float
    output: float
    currency: str


def saturation(lengths: Lengths, k: int) -> Saturation:
    """CSR@k (the cap-saturation rate of BenchOverflow, 2026), with Wilson's interval over prompts.

    It is identified where every response is known to be at least so long, or shorter: a cap below k leaves it open only
    where it cut a response. The interval of what is not identified is from the low end of `lowest` to the high end of
    `highest`.
    """
    answered = _answers(lengths)
    reached = answered.tokens >= k
    unknown = ~reached & ~answered.whole
    shares = [
        mean(f"csr_{k}", reached.astype(float), "proportion"),
        mean(f"csr_{k}", (reached | unknown).astype(float), "proportion"),
    ]
    lowest, highest = estimate(shares, answered.prompt)
    below = unknown & answered.cut & np.isfinite(answered.cap)
    reasons = {"cap below k": int(below.sum()), "cap unknown": int((unknown & ~below).sum())}
    share = replace(lowest, value=np.nan, ci_low=np.nan, ci_high=np.nan) if unknown.any() else lowest
    return Saturation(k, share, lowest, highest, {reason: count for reason, count in reasons.items() if count})


def ecdf(lengths: Lengths, *, draws: int = _DRAWS, seed: int = 0) -> Curve:
    """The empirical distribution at every length below `limit`, with a simultaneous 95 % band of one width.

    With one response a prompt the band is that of Dvoretzky, Kiefer and Wolfowitz with Massart's constant (1990). With
    several it would be too narrow: then it is the 95 % quantile of the largest deviation in a bootstrap over prompts,
    wider by Student's over the normal quantile, because few prompts vary more than their resamples do.
    """
    lasted = _answers(lengths)
    at = np.unique(lasted.tokens[lasted.tokens < lasted.limit])
    share = np.searchsorted(np.sort(lasted.tokens), at, side="right") / max(1, len(lasted.tokens))
    half = _bootstrap_half(lasted, at, share, draws, seed) if lasted.repeated else _massart_half(len(lasted.tokens))
    low, high = np.maximum(share - half, 0.0), np.minimum(share + half, 1.0)
    method: Method = "cluster bootstrap" if lasted.repeated else "dkw"
    return Curve(at, share, low, high, lasted.limit, len(lasted.tokens), lasted.clusters, method)


def kaplan_meier(lengths: Lengths) -> Curve:
    """The product-limit estimate (Kaplan and Meier, 1958) at each whole length: with different caps it goes beyond the
    smallest one, below which it is the `ecdf`. It takes for granted that the cap says nothing of the length.

    Each point has Wilson's interval with the effective n of Greenwood's (1926) variance (Rothman, J. Chronic Dis. 31,
    1978), or, where it is larger, of the variance over prompts, by the delta method (Williams, Biometrics 51, 1995).
    It ends before the shortest response that may be cut at a cap nobody knows.
    """
    answered = _answers(lengths)
    n, clusters = len(answered.tokens), answered.clusters
    known_to = float(answered.tokens[~answered.whole & ~answered.cut].min(initial=np.inf))
    at, deaths = np.unique(answered.tokens[answered.whole & (answered.tokens < known_to)], return_counts=True)
    at_risk = n - np.searchsorted(np.sort(answered.tokens), at, side="left")
    above = np.asarray(np.cumprod(1 - deaths / at_risk), float)
    limit = min(known_to, float(answered.tokens.max())) if n and not (len(at) and above[-1] == 0) else np.inf
    if not len(at) or (clusters == 1 and answered.repeated):  # nothing, or nothing that varies independently
        low, high = np.zeros(len(at)), np.ones(len(at))
    else:
        low, high = wilson(1 - above, _effective_n(answered, at, deaths, at_risk, above), _quantile(answered))
    return Curve(at, 1 - above, low, high, limit, n, clusters, "greenwood")


def quantile(lengths: Lengths, level: float) -> Estimate:
    """The length that a share `level` of responses does not exceed, nan where it is at or above the cap.

    The interval is all lengths at which `kaplan_meier` has `level` in its own (Woodruff, JASA 47, 1952; Brookmeyer and
    Crowley, Biometrics 38, 1982); an end that is at or above the cap, or beyond the longest response, is nan.
    """
    curve = kaplan_meier(lengths)
    value, low, high = (_first(curve.at, line >= level - _ROUNDING) for line in (curve.share, curve.high, curve.low))
    return Estimate(f"quantile_{level:g}", value, low, high, curve.n, curve.clusters)


def restricted_mean(lengths: Lengths, at: float | None = None) -> Estimate:
    """The mean of min(length, `at`), nan where a response leaves it open; `at` is `limit` unless told.

    Means of two policies are of the same thing only at the same `at`.
    """
    answered = _answers(lengths)
    end = answered.limit if at is None else at
    measured = answered.whole | (answered.tokens >= end)
    [estimated] = estimate([mean("restricted_mean", np.minimum(answered.tokens, end))], answered.prompt)
    return estimated if measured.all() else replace(estimated, value=np.nan, ci_low=np.nan, ci_high=np.nan)


def spread(lengths: Lengths) -> list[Estimate]:
    """How much the length of one prompt's responses varies: `within_prompt_variance`, of the natural log of length, and
    `within_prompt_share`, what that is of the sum of the variances within and between prompts.

    Unbiased components of a one-way layout (Searle, Casella and McCulloch, Variance Components, 1992, section 3.6),
    over prompts with two responses or more; the share takes a negative variance between prompts for 0. Cut responses
    count with the length that they have, so that what a cap hides is not in it.
    """
    answered = _answers(lengths)
    logs, size = np.log(answered.tokens), np.bincount(answered.prompt).astype(float)
    total = np.bincount(answered.prompt, weights=logs)
    centred = logs - (total / np.maximum(size, 1))[answered.prompt]
    within = np.bincount(answered.prompt, weights=np.square(centred))
    kept = size > 1
    size, total, within = size[kept], total[kept], within[kept]
    columns = np.column_stack([within, size, np.square(size), total, np.square(total) / size, np.ones(len(size))])
    return estimate(
        [
            Statistic(
                "within_prompt_variance",
                columns,
                lambda sums: _components(sums)[0],
                title="Variance of log length within prompts",
                unit="squared natural log of tokens",
                bounds=(0.0, None),
                caveat="what a cap cuts off is not in it",
            ),
            Statistic(
                "within_prompt_share",
                columns,
                _within_share,
                "fraction",
                title="Share of the variance of log length that is within prompts",
                unit="share of the variance",
                caveat="depends on how much the prompts differ",
            ),
        ],
        range(len(size)),
    )


def spearman(first: Array, second: Array) -> Estimate:
    """Spearman's correlation of two models' mean lengths [c] over the prompts, or strategies, that both have.

    Fisher's z with the standard error of Bonett and Wright (Psychometrika 65, 2000). nan below four in common, and
    where one side never differs.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    both = np.isfinite(first) & np.isfinite(second)
    x, y, n = first[both], second[both], int(both.sum())
    if n < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Estimate("spearman", np.nan, np.nan, np.nan, n, n)
    r = float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
    half = ndtri(0.5 + LEVEL / 2) * np.sqrt((1 + r * r / 2) / (n - 3))
    z = np.arctanh(np.clip(r, -1 + 1 / n**2, 1 - 1 / n**2))  # at 1 its z would be infinite
    return Estimate("spearman", r, min(r, float(np.tanh(z - half))), max(r, float(np.tanh(z + half))), n, n)


def mean_lengths(lengths: Lengths, groups: int) -> Array:
    """The mean length [groups] of the responses to each prompt, by its number; nan where there is none.

    Cut responses count with the length that they have.
    """
    return _prompt_means(lengths, np.asarray, groups)


def share_of_status(lengths: Lengths, status: str) -> Estimate:
    """The share of all responses that are `status`: refused, empty, ..."""
    [estimated] = estimate(
        [mean(status, np.array([float(one == status) for one in lengths.status]), "proportion")], lengths.prompt
    )
    return estimated


def read_prices(table: Mapping[str, Mapping[str, object]]) -> dict[str, Price]:
    """Prices by name from {name: {input: per 1M tokens, output: per 1M tokens, currency: text}}. Raises DataError."""
    prices = {}
    for name, row in table.items():
        unknown = ", ".join(sorted({"input", "output", "currency"} ^ set(row)))
        if unknown:
            raise DataError(f"price of {name!r}, `{unknown}`: missing or not known; it has input, output, currency")
        currency = row["currency"]
        if not isinstance(currency, str) or not currency:
            raise DataError(f"price of {name!r}, `currency`: {currency!r} is no name, as in USD")
        prices[name] = Price(_price(name, "input", row), _price(name, "output", row), currency)
    return prices


def cost_per_1000(price: Price, input_tokens: Array, output_tokens: Array, prompt: NDArray[np.integer]) -> Estimate:
    """What 1,000 requests cost in the price's currency, from the tokens [n] of each; nan tokens are left out.

    Refused and empty responses cost too: give them all.
    """
    each = (input_tokens * price.input + output_tokens * price.output) / 1e6
    [estimated] = estimate([mean("cost_per_1000", 1000 * each)], prompt)
    return estimated


def length_ratio(ours: Lengths, theirs: Lengths, *, seed: int = 0) -> Estimate:
    """How many times as long our responses are as theirs to the same prompts: the ratio of geometric means.

    The mean over prompts of the difference in mean log length, taken back by exp; p is that of the sign-flip test.
    Prompts without a length on one side are left out. Where responses are not known to be whole it is not identified:
    of what is known of them the ratio is at least so large if they are ours, at most if they are theirs, and nan, with
    the end that then remains; p is None.
    """
    logarithm = _paired("length_ratio", ours, theirs, np.log, "number", seed)
    value, low, high = (float(np.exp(end)) for end in (logarithm.value, logarithm.ci_low, logarithm.ci_high))
    if not ours.open and not theirs.open:
        return replace(logarithm, value=value, ci_low=low, ci_high=high)
    low, high = np.nan if theirs.open else low, np.nan if ours.open else high
    return replace(logarithm, value=np.nan, ci_low=low, ci_high=high, p=None)


def saturation_difference(ours: Lengths, theirs: Lengths, k: int, *, seed: int = 0) -> Estimate:
    """Our CSR@k minus theirs, the mean over the prompts that both have, with the p of the sign-flip test.

    nan where either is not identified.
    """
    moved = _paired(f"csr_{k}_difference", ours, theirs, lambda tokens: (tokens >= k).astype(float), "proportion", seed)
    if saturation(ours, k).unidentified or saturation(theirs, k).unidentified:
        return replace(moved, value=np.nan, ci_low=np.nan, ci_high=np.nan, p=None)
    return moved


@dataclass(frozen=True, slots=True)
class _Answers:
    """The responses that have a length: `whole` those that stopped by themselves, `cut` those that were cut."""

    tokens: Array
    cap: Array
    whole: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    prompt: NDArray[np.intp]
    limit: float

    @property
    def clusters(self) -> int:
        return int(self.prompt.max(initial=-1)) + 1

    @property
    def repeated(self) -> bool:
        return len(self.tokens) > self.clusters

    @property
    def sizes(self) -> Array:
        """The responses to each prompt [c]."""
        return np.bincount(self.prompt, minlength=self.clusters).astype(float)

    def reached(self, at: Array) -> Iterator[tuple[int, Array]]:
        """How many responses to each prompt are no longer than each of `at` [m], in blocks [c, some of m], with the
        place of the first.
        """
        before, chunk = np.zeros(self.clusters), max(1, _ENTRIES // max(1, self.clusters, _DRAWS))
        for start in range(0, len(at), chunk):
            points = at[start : start + chunk]
            place = np.searchsorted(points, self.tokens)
            now = (place < len(points)) & (self.tokens > (at[start - 1] if start else -np.inf))
            counts = np.zeros((self.clusters, len(points)))
            np.add.at(counts, (self.prompt[now], place[now]), 1.0)
            reached = before[:, None] + counts.cumsum(axis=1)
            before = reached[:, -1]
            yield start, reached


def _has_length(lengths: Lengths) -> NDArray[np.bool_]:
    return np.array([status == "ok" for status in lengths.status], bool)


def _answers(lengths: Lengths) -> _Answers:
    kept = _has_length(lengths)
    finish = np.array(lengths.finish, object)[kept]
    tokens, cap = lengths.tokens[kept], lengths.cap[kept]
    cut = (finish == "length") | ((finish != "stop") & (tokens >= cap))
    whole = ~cut & ((finish == "stop") | (tokens < cap))
    limit = min(cap[np.isfinite(cap)].min(initial=np.inf), tokens[~whole].min(initial=np.inf))
    prompt = np.unique(lengths.prompt[kept], return_inverse=True)[1]
    return _Answers(tokens, cap, whole, cut, prompt, float(limit))


def _massart_half(n: int) -> float:
    return float(np.sqrt(np.log(2 / (1 - LEVEL)) / (2 * n))) if n else 1.0


def _bootstrap_half(answered: _Answers, at: Array, share: Array, draws: int, seed: int) -> float:
    """Half the width of a band: how far a curve of resampled prompts strays at its farthest, in 95 % of draws."""
    from scipy.special import ndtri, stdtrit

    c = answered.clusters
    if c < 2:
        return 1.0
    times = np.concatenate([block.copy() for block in drawing.times(c, draws, seed)])
    sizes = times @ answered.sizes
    farthest = np.zeros(draws)
    for start, reached in answered.reached(at):
        strays = np.abs(times @ reached / sizes[:, None] - share[start : start + reached.shape[1]])
        farthest = np.maximum(farthest, strays.max(axis=1))
    widening = np.sqrt(c / (c - 1)) * stdtrit(c - 1, 0.5 + LEVEL / 2) / ndtri(0.5 + LEVEL / 2)
    return float(np.quantile(farthest, LEVEL) * widening)


def _effective_n(answered: _Answers, at: Array, deaths: _Counts, at_risk: _Counts, above: Array) -> Array:
    """The number [m] of independent uncut responses that would tell as much of each point of the curve.

    Where the curve ends at 1 neither variance exists: Peto's (1977) number, those at risk over the share before.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.square(above) * np.cumsum(deaths / (at_risk * (at_risk - deaths)))
        if answered.repeated:
            variance = np.fmax(variance, np.square(above) * _cluster_variance(answered, at, deaths, at_risk))
        n = above * (1 - above) / variance
    if answered.repeated and np.ptp(answered.sizes) > 0:
        below = at < answered.limit  # where every length is known the curve is a proportion
        for start, reached in answered.reached(at[below]):
            inside = slice(start, start + reached.shape[1])
            n[inside] = np.fmin(n[inside], proportion_n(reached.T, answered.sizes))
    before = np.r_[1.0, above[:-1]]
    peto = at_risk / before * (answered.clusters / len(answered.tokens))
    return np.asarray(np.where(np.isfinite(n) & (n > 0), n, peto), float)


def _cluster_variance(answered: _Answers, at: Array, deaths: _Counts, at_risk: _Counts) -> Array:
    """The variance [m] of the log of the share above each point, over prompts, by linearising each factor."""
    c, m = answered.clusters, len(at)
    if c < 2:
        return np.full(m, np.inf)
    scale, corrections = 1 / (at_risk - deaths), corrected(np.ones(c), answered.sizes)
    died = answered.whole & (answered.tokens <= at[-1])
    places, ends = np.searchsorted(at, answered.tokens), np.searchsorted(at, answered.tokens, side="right")
    squares, chunk = np.zeros(m), max(1, _ENTRIES // m)
    for start in range(0, c, chunk):
        mine = (answered.prompt >= start) & (answered.prompt < start + chunk)
        rows, size = answered.prompt - start, min(chunk, c - start)
        events, until = np.zeros((size, m)), np.zeros((size, m + 1))
        np.add.at(events, (rows[mine & died], places[mine & died]), 1.0)
        np.add.at(until, (rows[mine], ends[mine]), 1.0)
        risk = until[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        lines = ((events - risk * (deaths / at_risk)) * scale).cumsum(axis=1)
        squares += np.square(lines * corrections[start : start + size, None]).sum(axis=0)
    return squares


def _quantile(answered: _Answers) -> Array:
    from scipy.special import ndtri, stdtrit

    level = 0.5 + LEVEL / 2
    return np.asarray(stdtrit(answered.clusters - 1, level) if answered.repeated else ndtri(level))


def _first(at: Array, there: NDArray[np.bool_]) -> float:
    return float(at[there.argmax()]) if there.any() else np.nan


def _components(sums: Array) -> tuple[Array, Array]:
    """Variances within and between prompts from sums [..., 6] of `spread`'s columns."""
    within, n, squares, total, means, c = np.moveaxis(sums, -1, 0)
    inside = within / (n - c)
    between = (means - np.square(total) / n) / (c - 1)
    return inside, (between - inside) / ((n - squares / n) / (c - 1))


def _within_share(sums: Array) -> Array:
    inside, between = _components(sums)
    result: Array = inside / (inside + np.maximum(between, 0.0))
    return result


def _prompt_means(lengths: Lengths, of: Callable[[Array], Array], prompts: int) -> Array:
    """The mean [prompts] of `of` the tokens of the responses to each prompt that have a length, nan where none has."""
    kept = _has_length(lengths)
    codes, values = lengths.prompt[kept], of(lengths.tokens[kept])
    sums, counts = np.bincount(codes, weights=values, minlength=prompts), np.bincount(codes, minlength=prompts)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _paired(name: str, ours: Lengths, theirs: Lengths, of: Callable[[Array], Array], kind: Kind, seed: int) -> Estimate:
    """The mean of `of` our tokens minus that of theirs, over the prompts that have both."""
    prompts = 1 + int(max(ours.prompt.max(initial=-1), theirs.prompt.max(initial=-1)))
    our, their = (_prompt_means(one, of, prompts) for one in (ours, theirs))
    both = np.isfinite(our) & np.isfinite(their)
    if not both.any():
        return Estimate(name, np.nan, np.nan, np.nan, 0, 0)
    clusters = np.arange(np.count_nonzero(both))
    change = difference(our[both, None], their[both, None], clusters, kind=kind, seed=seed)
    return Estimate(name, change.value, change.ci_low, change.ci_high, change.n, change.clusters, change.p)


def _price(name: str, field: str, row: Mapping[str, object]) -> float:
    value = row[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
        raise DataError(f"price of {name!r}, `{field}`: {value!r} is no price of a million tokens, 0 or more")
    return float(value)
