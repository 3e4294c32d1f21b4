"""The ways from rewards to probabilities: each is fitted to rows, and is nothing but its parameters afterwards.

What a row is depends on the scope, see `Rows`. Bradley-Terry rewards are known only up to an offset per prompt, so that
`pairs` and `softmax` see differences within a prompt alone, and `pooled` believes that prompts share their zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.reliability import SAME, alike
from rmbench.results.schema import Calibration
from rmbench.types import Array

Scope = Literal["pairs", "softmax", "pooled"]
Kind = Literal["softmax", "pooled"]
How = Literal["raw", "temperature", "isotonic", "platt"]
Parameters = Mapping[str, float | list[float]]

HOWS: Mapping[Scope, tuple[How, ...]] = {
    "pairs": ("raw", "temperature", "isotonic"),
    "softmax": ("raw", "temperature"),
    "pooled": ("raw", "isotonic", "platt"),
}
LARGEST = 1e150  # rewards beyond it cannot be squared, and are taken as not finite
BOUND = 100.0  # a temperature stays within this factor of the root mean square of what it divides
_NEWTON = 100
_CLOSE = 1e-12
_SAME = 1e-6  # of each parameter
_SAME_LOSS = 1e-12
_SAME_BOUND = 1e-9
_SAME_TEMPERATURE = 1e-3  # however flat its loss


@dataclass(frozen=True, slots=True)
class Rows:
    """What maps are fitted to; arrays are [n].

    - `pairs`: one row a (right, wrong) pair, x the absolute difference of their rewards, y 1 where the right one has
      the larger, .5 where they are equal. The same pair in the other orientation is (-x, 1 - y) and says nothing new,
      as long as maps are held to f(-x) = 1 - f(x).
    - `softmax`: one row a candidate, x its reward, y 1 for the one that is right; all candidates of a prompt.
    - `pooled`: one row a candidate, x its reward, y whether it is right.

    `prompt` numbers prompts; rows of a prompt stand together.
    """

    x: Array
    y: Array
    weight: Array
    prompt: NDArray[np.intp]

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        return Rows(self.x[chosen], self.y[chosen], self.weight[chosen], self.prompt[chosen])


class Fit(NamedTuple):
    """What `apply` needs, what should be known about how it came about, and its loss on what it was fitted to."""

    parameters: Parameters
    note: str | None = None
    loss: float = 0.0


def fit(scope: Scope, how: How, rows: Rows) -> Fit:
    """Fits one map of `HOWS[scope]` to at least one row."""
    parameters = _fitted(scope, how, rows)
    return parameters._replace(loss=loss(scope, how, parameters.parameters, rows))


def accepted(scope: Scope, how: How, stated: Parameters | None, rows: Rows) -> Fit:
    """The fit to `rows`, with the parameters `stated` for it where they are that fit but for what rounds it."""
    made = fit(scope, how, rows)
    if stated is None or not _may_be(how, stated, made.parameters, rows):
        return made
    theirs = loss(scope, how, stated, rows)
    return made._replace(parameters=stated, loss=theirs) if _is_same(how, stated, theirs, made) else made


def _is_same(how: How, stated: Parameters, theirs: float, made: Fit) -> bool:
    """Whether parameters are those of a fit, or lose as little: where the loss is flat, rounding moves them further.

    A temperature at a bound is a number like any other, and not what makes a loss small.
    """
    if how == "temperature" and made.note is not None and "bound" in made.note:
        return _are_close(stated, made.parameters, _SAME_BOUND)
    if _note(how, stated) != _note(how, made.parameters):
        return False
    near = how != "temperature" or _are_close(stated, made.parameters, _SAME_TEMPERATURE)
    return _are_close(stated, made.parameters, _SAME) or (near and abs(theirs - made.loss) <= _SAME_LOSS)


def _are_close(stated: Parameters, due: Parameters, tolerance: float) -> bool:
    pairs = [(np.asarray(stated[name], float), np.asarray(due[name], float)) for name in due]
    return all(a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=0) for a, b in pairs)


def _note(how: How, parameters: Parameters) -> str | None:
    """What should be known of a fit that its parameters tell."""
    if how == "isotonic" and np.ptp(np.asarray(parameters["probability"], float)) == 0:
        return "larger rewards are no better: the map is flat"
    if how == "platt" and _number(parameters["slope"]) < 0:
        return "the slope is negative: larger rewards are more often wrong"
    return None


def loss(scope: Scope, how: How, parameters: Parameters, rows: Rows) -> float:
    """What a fit makes as small as it can be: the mean squared error of `isotonic`, the mean log loss of the others.

    The example that a temperature is held by is not in it.

    Of `softmax` the log loss is that of the right candidate, of `platt` it is against Platt's smoothed y.
    """
    share = rows.weight / rows.weight.sum()
    if how == "isotonic":
        return float(share @ np.square(apply(scope, how, parameters, rows.x) - rows.y))
    scaled = logits(scope, how, parameters, rows.x)
    if scope == "softmax":
        starts = _starts(rows.prompt)
        total = np.logaddexp.reduceat(scaled, starts)
        return float((share * rows.y) @ (np.repeat(total, np.diff(starts, append=len(scaled))) - scaled))
    y = _smoothed(rows) if how == "platt" else rows.y
    return float(share @ (np.logaddexp(0, scaled) - y * scaled))


def _may_be(how: How, stated: Parameters, due: Parameters, rows: Rows) -> bool:
    """Whether parameters are of the form that a fit has: the same names, and numbers that can be used."""
    if {name: type(value) for name, value in stated.items()} != {name: type(value) for name, value in due.items()}:
        return False
    if not all(np.isfinite(value).all() and np.size(value) for value in stated.values()):
        return False
    if how == "temperature":
        return _number(stated["temperature"]) > 0
    if how == "isotonic":
        x, p = (np.asarray(stated[name], float) for name in ("x", "probability"))
        rising = len(x) == len(p) and bool((np.diff(x) > 0).all() and (np.diff(p) >= 0).all())
        return rising and p[0] > 0 and p[-1] < 1 and bool(np.isin(x, np.append(rows.x, 0.0)).all())
    return True


def _fitted(scope: Scope, how: How, rows: Rows) -> Fit:
    match scope, how:
        case _, "raw":
            return Fit({})
        case "softmax", "temperature":
            starts = _starts(rows.prompt)
            x = _behind(rows, starts)
            return _temperature(x, rows, lambda scaled: _softmax(scaled, starts), 1 / len(x))
        case _, "temperature":
            return _temperature(rows.x, rows, _sigmoid, 1 / float(rows.weight.sum()))
        case "pairs", "isotonic":
            return _isotonic(rows, least=0.5)
        case _, "isotonic":
            return _isotonic(rows, least=_smallest(rows))
        case _:
            return _platt(rows)


def apply(scope: Scope, how: How, parameters: Parameters, x: Array, prompt: NDArray[np.intp] | None = None) -> Array:
    """Probabilities [n] of `x` [n]: differences of rewards of any sign for `pairs`, else rewards.

    `prompt` [n] as in `Rows` says over what a softmax is taken: over all of `x` without it.
    """
    if how == "isotonic":
        p = np.interp(np.abs(x) if scope == "pairs" else x, parameters["x"], parameters["probability"])
        return np.where(x < 0, 1 - p, p) if scope == "pairs" else p
    scaled = logits(scope, how, parameters, x)
    if scope != "softmax":
        return _sigmoid(scaled)
    return _softmax(scaled, _starts(np.zeros(len(x), np.intp) if prompt is None else prompt))


def logits(scope: Scope, how: How, parameters: Parameters, x: Array) -> Array:
    """What `apply` takes the sigmoid of, or the softmax [n]: precise where probabilities are all but 0 or 1."""
    match how:
        case "raw":
            return x
        case "temperature":
            return x / _number(parameters["temperature"])
        case "platt":
            return _number(parameters["slope"]) * x + _number(parameters["intercept"])
        case "isotonic":
            p = apply(scope, how, parameters, x)
            return np.log(p) - np.log1p(-p)


def probabilities(calibration: Calibration, rewards: Sequence[Array], *, kind: Kind | None = None) -> list[Array]:
    """The probability of each response to be right, for `rewards` [k] of the responses to each prompt.

    `kind` is the calibration's own unless told: `pooled` is there whatever that is, `softmax` only where it is that.
    nan where the reward is not finite, and for `softmax` throughout a prompt with a reward that is not, or with a
    single response.
    """
    kind = calibration.kind if kind is None else kind
    used = calibration.of(kind, "temperature" if kind == "softmax" else "isotonic")
    sizes = [len(own) for own in rewards]
    x = np.concatenate([np.zeros(0), *rewards])
    prompt = np.repeat(np.arange(len(sizes)), sizes)
    moderate = np.abs(x) < LARGEST
    if used.scope == "softmax":
        moderate = complete(moderate, prompt)
    result = np.full(len(x), np.nan)
    result[moderate] = apply(used.scope, used.map, used.parameters, x[moderate], prompt[moderate])
    return np.split(result, np.cumsum(sizes)[:-1]) if sizes else []


def unlike_fit(calibration: Calibration, sizes: Sequence[int]) -> str | None:
    """A note where a softmax is taken over other numbers of responses, `sizes` a prompt, than it was fitted to.

    One fitted to pairs says how a difference of two rewards turns out; among eight it supposes that exactly one is
    right, and that the seven differences are independent of one another, which no pair has shown.
    """
    if calibration.kind != "softmax" or calibration.responses is None:
        return None
    least, most = calibration.responses
    others = sorted({size for size in sizes if size > 1 and not least <= size <= most})
    if not others:
        return None
    count = sum(size in others for size in sizes)
    fitted = f"{least}" if least == most else f"{least} to {most}"
    shown = f"{others[0]}" if len(others) == 1 else f"{others[0]} to {others[-1]}"
    return (
        f"`probability` was fitted to prompts with {fitted} responses and is applied to {count:,} with {shown}, where "
        "nothing was measured of it"
    )


def complete(present: NDArray[np.bool_], prompt: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which rows [n] are of a prompt with at least two rows, all of which are `known` [n]."""
    rows = np.bincount(prompt)
    whole: NDArray[np.bool_] = (rows > 1) & (np.bincount(prompt, weights=present) == rows)
    return whole[prompt]


def _temperature(x: Array, rows: Rows, predict: Callable[[Array], Array], prior: float) -> Fit:
    """The T of `predict(x / T)` with the least log loss, which is convex in 1 / T.

    Where hardly any pair is in the wrong order a few decide, and T would jump with each of them. So one more example is
    added, of the share `prior`: a pair whose margin is the root mean square of x, and that is won half. It has no say
    where many pairs do, and moves with the scale of the rewards.
    """
    from scipy.optimize import brentq

    largest = float(np.abs(x).max())
    if largest == 0:
        return Fit({"temperature": 1.0}, "all rewards of a prompt are equal: the temperature means nothing")
    weight = rows.weight / rows.weight.sum()
    scale = largest * float(np.sqrt(weight @ np.square(x / largest)))
    x = x / scale

    weighted = weight * x

    def slope(log_inverse: float) -> float:
        """Of the log loss, at scale / T."""
        return float(weighted @ (predict(np.exp(log_inverse) * x) - rows.y))

    def held(log_inverse: float) -> float:
        """The same with the example that is added."""
        return slope(log_inverse) + prior * float(_sigmoid(np.exp(np.array(log_inverse))) - 0.5)

    bound = float(np.log(BOUND))
    note: str | None
    if held(-bound) >= 0:
        note = f"the temperature is at its upper bound, {BOUND:g} times the spread: larger rewards are no better"
        return Fit({"temperature": scale * BOUND}, note)
    if held(bound) <= 0:
        note = f"the temperature is at its lower bound, 1/{BOUND:g} of the spread: no pair is in the wrong order"
        return Fit({"temperature": scale / BOUND}, note)
    note = "the temperature is at its prior: hardly any pair is in the wrong order" if slope(bound) <= 0 else None
    return Fit({"temperature": scale / float(np.exp(brentq(held, -bound, bound, xtol=1e-12)))}, note)


def _isotonic(rows: Rows, least: float) -> Fit:
    """The rising function with the least squared error that stays between `least` and 1 - 1 / (2 n).

    Without those bounds the mean of its values is that of y: what AutoCal-R (Landesberg, 2025) calls mean preserving.
    They keep a log loss finite, and move the mean by less than half a row. Equal x have one value (Zadrozny and Elkan,
    KDD 2002), and so have those that only the rounding of a difference tells apart. Steps are kept by their ends, and
    joined by straight lines.
    """
    from scipy.optimize import isotonic_regression

    of = alike(rows.x, SAME * float(np.abs(rows.x).max()))
    at = np.full(int(of.max()) + 1, np.inf)
    np.minimum.at(at, of, rows.x)
    weight = np.bincount(of, weights=rows.weight)
    shares = np.bincount(of, weights=rows.weight * rows.y) / weight
    fitted = isotonic_regression(shares, weights=weight)
    values = np.clip(fitted.x, least, 1 - _smallest(rows))
    changes = np.flatnonzero(np.diff(values)) + 1
    ends = np.unique(np.concatenate([[0], changes - 1, changes, [len(values) - 1]]))
    at, values = at[ends], values[ends]
    if least == 0.5 and at[0] > 0:  # f(0) = 1/2 whatever the data, by symmetry
        at, values = np.append(0.0, at), np.append(0.5, values)
    parameters: Parameters = {"x": at.tolist(), "probability": values.tolist()}
    return Fit(parameters, _note("isotonic", parameters))


def _platt(rows: Rows) -> Fit:
    """The sigmoid of slope * x + intercept with the least log loss against Platt's smoothed y, by Newton's method.

    Platt (1999) replaces 1 by (n1 + 1) / (n1 + 2) and 0 by 1 / (n0 + 2), so that separable data stay finite. Steps that
    do not lower the loss are halved (Lin, Lin and Weng, Machine Learning 68, 2007).
    """
    largest = max(float(np.abs(rows.x).max()), np.finfo(float).tiny)
    centre = float(np.average(rows.x / largest, weights=rows.weight))
    spread = float(np.sqrt(np.average(np.square(rows.x / largest - centre), weights=rows.weight))) or 1.0
    inputs = np.column_stack([(rows.x / largest - centre) / spread, np.ones(len(rows.x))])
    right, wrong = float(rows.weight @ rows.y), float(rows.weight @ (1 - rows.y))
    target = _smoothed(rows)

    def loss(given: Array) -> float:
        logits = inputs @ given
        return float(rows.weight @ (np.logaddexp(0, logits) - target * logits))

    beta = np.array([0.0, np.log((right + 1) / (wrong + 1))])
    now = loss(beta)
    for _ in range(_NEWTON):
        p = _sigmoid(inputs @ beta)
        gradient = inputs.T @ (rows.weight * (p - target))
        hessian = (inputs * (rows.weight * p * (1 - p))[:, None]).T @ inputs
        step = np.linalg.lstsq(hessian, gradient)[0]  # singular where x is constant: the slope then stays 0
        while (lower := loss(beta - step)) > now and np.abs(step).max() > _CLOSE:
            step = step / 2
        beta, now = beta - step, lower
        if np.abs(step).max() <= _CLOSE * (1 + np.abs(beta).max()):
            break
    slope = float(beta[0] / spread / largest)
    parameters: Parameters = {"slope": slope, "intercept": float(beta[1] - beta[0] * centre / spread)}
    return Fit(parameters, _note("platt", parameters))


def _smoothed(rows: Rows) -> Array:
    """Platt's y [n]."""
    right, wrong = float(rows.weight @ rows.y), float(rows.weight @ (1 - rows.y))
    result: Array = rows.y * (right + 1) / (right + 2) + (1 - rows.y) / (wrong + 2)
    return result


def _smallest(rows: Rows) -> float:
    """The least probability that n rows let a step function claim."""
    return 1 / (2 * len(rows.x))


def _number(value: float | list[float]) -> float:
    return float(value) if not isinstance(value, list) else value[0]


def _sigmoid(logits: Array) -> Array:
    from scipy.special import expit

    result: Array = expit(logits)
    return result


def _softmax(logits: Array, starts: NDArray[np.intp]) -> Array:
    sizes = np.diff(starts, append=len(logits))
    powers = np.exp(logits - np.repeat(np.maximum.reduceat(logits, starts), sizes))
    result: Array = powers / np.repeat(np.add.reduceat(powers, starts), sizes)
    return result


def _behind(rows: Rows, starts: NDArray[np.intp]) -> Array:
    """How far each reward is above the right one of its prompt, which itself is exactly 0."""
    right = np.add.reduceat(rows.x * rows.y, starts)
    result: Array = rows.x - np.repeat(right, np.diff(starts, append=len(rows.x)))
    return result


def _starts(prompt: NDArray[np.intp]) -> NDArray[np.intp]:
    """Where each prompt's rows begin."""
    return np.flatnonzero(np.diff(prompt, prepend=-1))
