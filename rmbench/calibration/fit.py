"""Fits every map that the labels allow, each judged on clusters it was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from rmbench.calibration import maps
from rmbench.calibration.maps import Fit, How, Parameters, Rows, Scope
from rmbench.metrics import reliability
from rmbench.metrics.grading import labels_of
from rmbench.metrics.interval import Estimate
from rmbench.results.schema import WORSE, Calibration, CalibrationMap, Figure, MapFit, ReliabilityBin
from rmbench.types import Array, Outcome

FOLDS = 5
LEAST_CLUSTERS = 10
_SMALL = 1e-100
_NO_WORSE = 1e-9

Codes = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """`report`, and `probabilities`, [k] per outcome, nan where there is none; or the `reason` why not."""

    report: Calibration | None = None
    probabilities: Sequence[Array] | None = None
    reason: str | None = None


def calibrate(
    outcomes: Sequence[Outcome],
    view: str,
    *,
    seed: int = 0,
    positive: str | None = None,
    stated: Calibration | None = None,
) -> Calibrated:
    """Calibrates one view of `outcomes` [n], folds and intervals over their clusters.

    Right is the highest label of an example, where another has a lower one; if all labels of the data are 0 or 1, it is
    1, whatever the others are. Where labels are classes, right are those of the class `positive`. Candidates count
    whose reward is finite and whose label is known. The order of the outcomes does not matter.

    The parameters of `stated` are taken for those of a fit where they are those of the fit made here but for rounding,
    so that figures can be computed again from them to the last digits, whatever rounds the fit itself.
    """
    order = sorted(range(len(outcomes)), key=lambda i: outcomes[i].example_id)
    data = _read([outcomes[i] for i in order], view, positive)
    reason = next(_reasons(data), None)
    if reason is not None:
        return Calibrated(reason=reason)
    crossed = [
        _cross(scope, how, part, data.names, seed, stated)
        for scope, part in _parts(data).items()
        for how in maps.HOWS[scope]
    ]
    used = next((c for c in crossed if (c.scope, c.how) == ("softmax", "temperature")), None)
    used = used or next(c for c in crossed if (c.scope, c.how) == ("pooled", "isotonic"))
    described = [_described(one) for one in crossed]
    as_it_is = {one.scope: one.figure("log_loss").value for one in described if one.map == "raw"}
    report = Calibration(
        kind="softmax" if used.scope == "softmax" else "pooled",
        map="temperature" if used.how == "temperature" else "isotonic",
        view=view,
        folds=FOLDS,
        clusters=len(np.unique(used.part.clusters)),
        maps=[_compared(one, as_it_is[one.scope]) for one in described],
        responses=_responses(used),
    )
    per_prompt: list[Array] = [np.zeros(0)] * len(outcomes)
    for i, chances in zip(order, _probabilities(used, data), strict=True):
        per_prompt[i] = chances
    return Calibrated(report, per_prompt)


@dataclass(frozen=True, slots=True)
class _Data:
    """Candidates of all examples one after the other, [n] each; `names` [clusters] in order.

    `right` is 1, 0, or nan where it is not known; `rewards` are nan where there are none. `prompt` numbers examples.
    """

    rewards: Array
    labels: Array
    right: Array
    prompt: Codes
    clusters: Codes
    names: Sequence[str]
    sizes: Sequence[int]
    compared: bool

    @property
    def counted(self) -> NDArray[np.bool_]:
        return np.isfinite(self.rewards) & np.isfinite(self.right)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one scope is fitted to and judged on, and the cluster of each row."""

    rows: Rows
    clusters: Codes


@dataclass(frozen=True, slots=True)
class _Crossed:
    """One map: a fit without each fold and, last, one to everything; `fold` [clusters] says which judges whom."""

    scope: Scope
    how: How
    part: _Part
    fits: Sequence[Fit]
    fold: Codes

    def applied(self, x: Array, prompt: Codes, clusters: Codes) -> Array:
        """Probabilities [n] by the fits that did not see the cluster of each row."""
        result, fold = np.full(len(x), np.nan), self.fold[clusters]
        for at, fit in enumerate(self.fits):
            mine = fold == at
            if mine.any():
                result[mine] = maps.apply(self.scope, self.how, fit.parameters, x[mine], prompt[mine])
        return result

    def log_loss(self) -> Estimate:
        """Of a softmax, which gives one distribution a prompt, that of its right candidate."""
        rows, clusters = self.part.rows, self.part.clusters
        logits, fold = np.empty(len(rows.x)), self.fold[clusters]
        for at, fit in enumerate(self.fits):
            mine = fold == at
            logits[mine] = maps.logits(self.scope, self.how, fit.parameters, rows.x[mine])
        if self.scope != "softmax":
            return reliability.log_loss(logits, rows.y, rows.weight, clusters)
        right = rows.y == 1
        starts = np.flatnonzero(np.diff(rows.prompt[~right], prepend=-1))
        ahead = logits[right] - np.logaddexp.reduceat(logits[~right], starts)
        return reliability.log_loss(ahead, np.ones(len(ahead)), np.ones(len(ahead)), clusters[right])


def _read(outcomes: Sequence[Outcome], view: str, positive: str | None = None) -> _Data:
    sizes = [len(outcome.labels) for outcome in outcomes]
    scores, compared = [np.zeros(0)], False
    for outcome, size in zip(outcomes, sizes, strict=True):
        seen = outcome.views.get(view)
        compared |= seen is not None and seen.beats is not None
        scores.append(np.full(size, np.nan) if seen is None or seen.scores is None else seen.scores)
    rewards = np.concatenate(scores)
    rewards = np.where(np.abs(rewards) < maps.LARGEST, rewards, np.nan)
    labels = np.concatenate([np.zeros(0), *(labels_of(outcome, positive) for outcome in outcomes)]).astype(float)
    names, codes = np.unique([outcome.cluster for outcome in outcomes], return_inverse=True)
    prompt = np.repeat(np.arange(len(sizes)), sizes)
    right = _right(labels, prompt)
    return _Data(rewards, labels, right, prompt, np.repeat(codes, sizes), names.tolist(), sizes, compared)


def _right(labels: Array, prompt: Codes) -> Array:
    """1 for the right ones, 0 for the others, nan where that is not known [n]."""
    labelled = labels[np.isfinite(labels)]
    if not len(labels) or np.isin(labelled, (0, 1)).all():
        return labels
    starts = np.flatnonzero(np.diff(prompt, prepend=-1))
    sizes = np.diff(starts, append=len(labels))
    top, bottom = (np.repeat(extreme.reduceat(labels, starts), sizes) for extreme in (np.maximum, np.minimum))
    return np.where(top > bottom, labels == top, np.nan)


def _reasons(data: _Data) -> Iterator[str]:
    """Why nothing can be calibrated, the first thing first."""
    counted = data.counted
    right, rewards = data.right[counted], data.rewards[counted]
    if not np.isfinite(data.labels).any():
        yield "no candidate is labelled"
    if not np.isfinite(data.right).any():
        yield "no example has candidates that are all labelled, some higher than others"
    if data.compared and not np.isfinite(data.rewards).any():
        yield "only comparisons were asked, and they give no rewards"
    if not counted.any():
        yield "no labelled candidate has a finite reward"
    if right.min() == right.max():
        yield f"every candidate with a label and a reward is {'right' if right[0] else 'wrong'}"
    if rewards.min() == rewards.max():
        yield f"every reward is the same, {rewards[0]:g}"
    largest = float(np.abs(rewards).max())
    if largest < _SMALL:
        yield f"the largest reward is {largest:g}, and below {_SMALL:g} squares are 0"
    clusters = len(np.unique(data.clusters[counted]))
    if clusters < LEAST_CLUSTERS:
        yield f"{clusters} independent clusters are too few: at least {LEAST_CLUSTERS} are needed"


def _parts(data: _Data) -> dict[Scope, _Part]:
    """Rows of every scope that has enough of them, and differences among them where it sees nothing else."""
    parts: dict[Scope, _Part] = {"pairs": _pairs(data)}
    if _one_right_each(data):
        parts["softmax"] = _groups(data)
    parts = {
        scope: part
        for scope, part in parts.items()
        if len(np.unique(part.clusters)) >= LEAST_CLUSTERS and _varies(part.rows, scope)
    }
    counted = data.counted
    rows = Rows(data.rewards, data.right, np.ones(len(data.rewards)), data.prompt).where(counted)
    return parts | {"pooled": _Part(rows, data.clusters[counted])}


def _pairs(data: _Data) -> _Part:
    """Every (right, wrong) pair of an example, the pairs of an example weighing 1 together."""
    counted = np.flatnonzero(data.counted)
    ordered = counted[np.lexsort((-data.right[counted], data.prompt[counted]))]  # the right ones of a prompt first
    prompts = len(data.sizes)
    right = np.bincount(data.prompt[counted], weights=data.right[counted], minlength=prompts).astype(np.intp)
    total = np.bincount(data.prompt[counted], minlength=prompts)
    wrong, first = total - right, np.cumsum(total) - total
    pairs = right * wrong
    prompt = np.repeat(np.arange(prompts), pairs)
    nth = np.arange(len(prompt)) - (np.cumsum(pairs) - pairs)[prompt]
    better = ordered[first[prompt] + nth // wrong[prompt]]
    worse = ordered[(first + right)[prompt] + nth % wrong[prompt]]
    difference = data.rewards[better] - data.rewards[worse]
    rows = Rows(np.abs(difference), (np.sign(difference) + 1) / 2, 1 / pairs[prompt], prompt)
    return _Part(rows, data.clusters[better])


def _groups(data: _Data) -> _Part:
    """The candidates of every example that has all its rewards, those of an example weighing 1 together."""
    counted = maps.complete(data.counted, data.prompt)
    prompt = data.prompt[counted]
    rows = Rows(data.rewards[counted], data.right[counted], 1 / np.bincount(prompt)[prompt], prompt)
    return _Part(rows, data.clusters[counted])


def _one_right_each(data: _Data) -> bool:
    """Whether every example with a label has all of them, and exactly one right among two candidates or more."""
    labelled = np.isfinite(data.labels)
    rows = np.bincount(data.prompt)
    has_right = np.bincount(data.prompt, weights=labelled) > 0
    right = np.bincount(data.prompt, weights=data.right)  # nan where one is not known
    return bool((right[has_right] == 1).all() and (rows[has_right] > 1).all())


def _varies(rows: Rows, scope: Scope) -> bool:
    """Whether any two rewards of a prompt differ."""
    if scope == "pairs":
        return bool(rows.x.any())
    return bool((np.diff(rows.x)[np.diff(rows.prompt) == 0] != 0).any())


def _cross(
    scope: Scope, how: How, part: _Part, names: Sequence[str], seed: int, stated: Calibration | None
) -> _Crossed:
    fold = _folds(part.clusters, names, seed)
    mine = fold[part.clusters]
    given = _stated(scope, how, stated)
    fits = [
        maps.accepted(scope, how, given[at] if given else None, part.rows.where(mine != at)) for at in range(FOLDS + 1)
    ]
    return _Crossed(scope, how, part, fits, fold)


def _stated(scope: Scope, how: How, stated: Calibration | None) -> list[Parameters] | None:
    """The parameters stated for one map, without each fold and, last, on everything; None where they are not there."""
    for fitted_map in () if stated is None else stated.maps:
        if (fitted_map.scope, fitted_map.map) == (scope, how) and len(fitted_map.folds) == FOLDS:
            return [*(fold.parameters for fold in fitted_map.folds), fitted_map.parameters]
    return None


def _folds(clusters: Codes, names: Sequence[str], seed: int) -> Codes:
    """The fold [clusters] that each cluster is judged in; `FOLDS`, whose fit is to everything, for one without rows."""
    present = np.unique(clusters)
    dealt = sorted(present.tolist(), key=lambda code: sha256(f"{seed}|{names[code]}".encode()).digest())
    fold = np.full(len(names), FOLDS)
    fold[dealt] = np.arange(len(dealt)) % FOLDS
    return fold


def _probabilities(used: _Crossed, data: _Data) -> list[Array]:
    finite = np.isfinite(data.rewards)
    if used.scope == "softmax":
        finite = maps.complete(finite, data.prompt)
    result = np.full(len(finite), np.nan)
    result[finite] = used.applied(data.rewards[finite], data.prompt[finite], data.clusters[finite])
    return np.split(result, np.cumsum(data.sizes)[:-1])


def _described(crossed: _Crossed) -> CalibrationMap:
    rows, clusters = crossed.part.rows, crossed.part.clusters
    p = crossed.applied(rows.x, rows.prompt, clusters)
    judged = (p, rows.y, rows.weight, clusters)
    folds = None if crossed.how == "raw" else crossed.fold[clusters]
    estimates = [*reliability.figures(*judged, folds), crossed.log_loss()]
    *apart, whole = crossed.fits
    return CalibrationMap(
        scope=crossed.scope,
        map=crossed.how,
        parameters=dict(whole.parameters),
        loss=whole.loss,
        folds=[] if crossed.how == "raw" else [MapFit(parameters=dict(f.parameters), loss=f.loss) for f in apart],
        figures=[_figure(estimate) for estimate in estimates],
        reliability=[
            ReliabilityBin(predicted=b.predicted, observed=b.observed, ci_low=b.ci_low, ci_high=b.ci_high, n=b.n)
            for b in reliability.table(*judged)
        ],
        note=whole.note or next((f"in a fold, {fit.note}" for fit in apart if fit.note), None),
    )


def _compared(fitted_map: CalibrationMap, as_it_is: float | None) -> CalibrationMap:
    """The map, with a note where its log loss out of fold is no gain."""
    loss = fitted_map.figure("log_loss").value
    if fitted_map.map == "raw" or loss is None or as_it_is is None or loss <= as_it_is + _NO_WORSE:
        return fitted_map
    return fitted_map.model_copy(update={"note": "; ".join(filter(None, [fitted_map.note, WORSE]))})


def _responses(used: _Crossed) -> tuple[int, int] | None:
    """The least and the most responses to a prompt of a softmax."""
    if used.scope != "softmax":
        return None
    counts = np.bincount(used.part.rows.prompt)
    return int(counts[counts > 0].min()), int(counts.max())


def _figure(metric: Estimate) -> Figure:
    value, low, high = (None if math.isnan(x) else float(x) for x in (metric.value, metric.ci_low, metric.ci_high))
    return Figure(name=metric.name, value=value, ci_low=low, ci_high=high, n=metric.n, clusters=metric.clusters)
