"""The figures of what a policy wrote, from the rows of its records: an evaluation and a check see nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmbench.metrics import tails
from rmbench.metrics.interval import Estimate, estimate, mean
from rmbench.results import provenance
from rmbench.results.figures import metric, subsets_of
from rmbench.results.schema import Bootstrap, Definition, Metric, TaskResult
from rmbench.types import Array

SATURATION = (1000, 3000, 5000)  # the k of CSR@k
LEVELS = (0.5, 0.9, 0.99)

Row = Mapping[str, Any]
Contrast = tuple[str, str, str]

_WORDS: tuple[tuple[str, str, str, tuple[float | None, float | None], str], ...] = (
    # how a name begins, title with what else is in it, unit, bounds, caveat; the first that fits
    ("csr_", "CSR@{}", "share of responses", (0.0, 1.0),
     "the cap-saturation rate, of responses of at least so many tokens; one that a cap cut below that is left open"),
    ("quantile_", "length, quantile {}", "tokens", (0.0, None),
     "beyond the smallest cap nothing is known"),
    ("restricted_mean", "mean length, cut at the smallest cap", "tokens", (0.0, None),
     "it says nothing of what is longer than the cap"),
    ("tokens", "mean length of a response", "tokens", (0.0, None),
     "where a cap cut responses it is only bounded from below"),
    ("characters", "mean length of a response", "characters", (0.0, None),
     "where a cap cut responses it is only bounded from below"),
    ("refused", "share of responses that look like a refusal", "share of responses", (0.0, 1.0),
     "it goes by how a short response begins"),
    ("empty", "share of responses without a visible character", "share of responses", (0.0, 1.0),
     "it does not say why nothing was written"),
)  # fmt: skip


@dataclass(frozen=True)
class LengthMeasure:
    """What a policy's responses are measured by, as results name it, and what to look at first."""

    name: str = "lengths"
    headline: str = "csr_1000"


LENGTHS = LengthMeasure()


def recomputed(result: TaskResult, contrasts: Sequence[Contrast]) -> dict[str, Any]:
    """Every field of a policy's result that its records give."""
    rows = rows_of(result)
    return {"dataset": dataset_of(rows), **fields_of(rows, contrasts, result.bootstrap)}


def fields_of(rows: Sequence[Row], contrasts: Sequence[Contrast], drawn: Bootstrap) -> dict[str, Any]:
    """The fields of a result that its records give; `rows` are those of `records.generation_table`."""
    views = _by(rows, lambda row: row["condition"])
    metrics, left_out = _metrics(views, contrasts, any(row["tokens"] is not None for row in rows), drawn.seed)
    statuses = Counter(row["status"] for row in rows)
    return {
        "primary_view": next(iter(views)),
        "fitted": {"measure": {}},
        "statistics": {measured.name: _definition(measured, contrasts) for measured in metrics},
        "metrics": metrics,
        "left_out": left_out,
        "statuses": dict(sorted(statuses.items(), key=lambda status: status[0] != "ok")),
        "reasons": {"missing": {"no response": statuses["missing"]}} if statuses["missing"] else {},
        "noted": {},
        "truncated": sum(row["finish"] == "length" for row in rows),
        "ties": {},
        "same_tokens": 0,
        "scale": None,
        "calibration": None,
        "calibration_reason": "a policy gives no rewards",
    }


def dataset_of(rows: Sequence[Row]) -> dict[str, Any]:
    """What the records give of `dataset`: its prompts are what is to be the same in two results."""
    prompts = {row["example_id"]: (row["cluster"], row["prompt"]) for row in rows}
    return {
        "examples_sha256": provenance.examples_sha256((name, cluster, []) for name, (cluster, _) in prompts.items()),
        "responses_sha256": provenance.responses_sha256((name, [text or ""]) for name, (_, text) in prompts.items()),
        "examples": len(prompts),
        "candidates": 0,
    }


def rows_of(result: TaskResult) -> list[Row]:
    """The rows of a policy's records, as they were when they were made."""
    rows: list[Row] = [{**row, "facets": dict(row["facets"] or ())} for row in result.records.to_pylist()]
    return rows


def _metrics(
    views: Mapping[str, Sequence[Row]], contrasts: Sequence[Contrast], counted: bool, seed: int
) -> tuple[list[Metric], dict[str, dict[str, int]]]:
    """The figures of each condition, over all prompts and over each subset, and what they leave open by reason."""
    metrics: list[Metric] = []
    left_out: dict[str, dict[str, int]] = {}
    for view, rows in views.items():
        for subset, part in _subsets(rows).items():
            estimates, reasons = _figures(part, counted, seed)
            metrics += [metric(one, view, subset) for one in estimates]
            if subset == "all" and reasons:
                left_out[view] = reasons
    for name, condition, against in contrasts if counted else ():
        ours, theirs = (_subsets(views.get(view, ())) for view in (condition, against))
        for subset in ours:
            if subset in theirs:
                effects = _effects(name, ours[subset], theirs[subset], seed)
                metrics += [metric(one, condition, subset) for one in effects]
    return metrics, left_out


def _figures(rows: Sequence[Row], counted: bool, seed: int) -> tuple[list[Estimate], dict[str, int]]:
    """Every figure of one condition and subset, and how many responses leave a figure open, by figure and reason."""
    lengths = _lengths(rows, _numbers([rows])) if counted else None
    shares = [_share(rows, name) for name in ("refused", "empty")]
    means = estimate(
        [
            mean("tokens", _column(row["tokens"] if _state(row) == "ok" else None for row in rows)),
            mean("characters", _column(row["characters"] for row in rows)),
        ],
        [row["cluster"] for row in rows],
        seed=seed,
    )
    cut = sum(row["finish"] == "length" for row in rows) if lengths is None else lengths.open
    if cut:  # what was not written is in no mean: it is at least as large as the low end
        means = [replace(one, value=np.nan, ci_high=np.nan) for one in means]
    reasons = {"mean length: cut, or not known to be whole": cut} if cut else {}
    ks = _ks(rows)
    if lengths is None:
        unknown = [Estimate(f"csr_{k}", np.nan, np.nan, np.nan, 0, 0, kind="proportion") for k in ks]
        return [*unknown, *means[1:], *shares], {"CSR: no token counts": len(rows), **reasons}
    saturations = [tails.saturation(lengths, k) for k in ks]
    estimates = [
        replace(s.share, ci_low=s.lowest.ci_low, ci_high=s.highest.ci_high) if s.unidentified else s.share
        for s in saturations
    ]
    estimates += [tails.quantile(lengths, level) for level in LEVELS]
    estimates += [tails.restricted_mean(lengths), *means, *shares]
    if any(row["candidate"] for row in rows):
        estimates += tails.spread(lengths)
    unidentified = {f"CSR@{s.k}: {why}": count for s in saturations for why, count in s.unidentified.items()}
    return estimates, unidentified | reasons


def _effects(name: str, ours: Sequence[Row], theirs: Sequence[Row], seed: int) -> list[Estimate]:
    """What a condition does within clusters: how many times as long, and the change in CSR@k."""
    numbers = _numbers([ours, theirs])
    first, second = (_lengths(side, numbers) for side in (ours, theirs))
    changes = [tails.saturation_difference(first, second, k, seed=seed) for k in _ks([*ours, *theirs])]
    changes_of = [tails.length_ratio(first, second, seed=seed), *changes]
    return [replace(one, name=f"{name}_{one.name}", kind="number") for one in changes_of]


def _ks(rows: Sequence[Row]) -> list[int]:
    """The k of CSR@k; where one cap holds for all, that too, the share of responses that run into it."""
    caps = {row["cap"] for row in rows if row["status"] != "missing"}
    common = caps.pop() if len(caps) == 1 else None
    return sorted({*SATURATION, *([common] if common else [])})


def _state(row: Row) -> str:
    """As `rmbench.metrics.tails` has it: `ok` where a response has a length."""
    if row["status"] == "missing":
        return "missing"
    return "empty" if row["empty"] else "refused" if row["refused"] else "ok"


def _share(rows: Sequence[Row], state: str) -> Estimate:
    values = _column(None if row["status"] == "missing" else float(_state(row) == state) for row in rows)
    there = [row for row in rows if row["status"] != "missing"]
    return estimate([mean(state, values[np.isfinite(values)], "proportion")], [row["cluster"] for row in there])[0]


def _lengths(rows: Sequence[Row], numbers: Mapping[str, int]) -> tails.Lengths:
    return tails.Lengths(
        _column(row["tokens"] for row in rows),
        _column(row["cap"] for row in rows),
        [row["finish"] for row in rows],
        [_state(row) for row in rows],
        np.array([numbers[str(row["cluster"])] for row in rows], dtype=int),
    )


def _column(values: Iterable[float | None]) -> Array:
    return np.array([np.nan if value is None else float(value) for value in values])


def _numbers(groups: Sequence[Sequence[Row]]) -> dict[str, int]:
    """The clusters of all rows, numbered from 0."""
    clusters = dict.fromkeys(str(row["cluster"]) for rows in groups for row in rows)
    return {cluster: number for number, cluster in enumerate(clusters)}


def _subsets(rows: Sequence[Row]) -> dict[str, list[Row]]:
    if not rows:
        return {}
    return {name: [rows[i] for i in places] for name, places in subsets_of([row["facets"] for row in rows]).items()}


def _by(rows: Sequence[Row], key: Any) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _definition(measured: Metric, contrasts: Sequence[Contrast]) -> Definition:
    for name, condition, against in contrasts:
        if measured.name.startswith(f"{name}_"):
            ratio = measured.name.endswith("length_ratio")
            bounded = "; where a cap cut responses it is bounded from one side at most" if ratio else ""
            return Definition(
                title=f"{condition} against {against}: {measured.name.removeprefix(f'{name}_').replace('_', ' ')}",
                unit="times" if ratio else "difference of shares",
                better=None,
                bounds=(0.0, None) if ratio else (-1.0, 1.0),
                caveat="of prompts that were answered in both conditions" + bounded,
                kind=measured.kind,
            )
    for start, title, unit, bounds, caveat in _WORDS:
        if measured.name.startswith(start):
            named = title.format(measured.name.removeprefix(start))
            return Definition(title=named, unit=unit, better=None, bounds=bounds, caveat=caveat, kind=measured.kind)
    return Definition(
        title=measured.name.replace("_", " "),
        unit="",
        better=None,
        bounds=(None, None),
        caveat="of the lengths of several responses to a prompt",
        kind=measured.kind,
    )
