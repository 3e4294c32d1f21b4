"""LongJudgeBench: which of two long texts people prefer, its sets of pairs (arXiv 2606.01629).

Every verdict of both orders counts by itself: first, second or, where people tie, neither. One that cannot be read
counts nowhere, as in the authors' code. Its sets of scores and of rankings are no pairs, and left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import summary, verdicts
from rmbench.metrics.interval import Kind, Statistic, ratio
from rmbench.metrics.measure import Unfitted
from rmbench.types import Array, Candidate, Example, Message, Outcome

PAIRS = ("wp_bench", "ma")
NO_PAIRS = "a set of scores or of rankings, which is no pairs"
AID = "a reference text or criteria, which stand in files of their own"
_OTHERS = ("deepresearch_bench", "realdr", "verify_bench_hard", "surge")
_EXPECTED = "a LongJudgeBench row has `dataset`, `id`, `instruction`, `responses`, `ground_truth` and `meta`"
_RESPONSE = ("model", "content")
_FIRST = {"A": 1.0, "B": 0.0, "TIE": 0.5}  # what `preferred` says of the first response


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row of a set of pairs, its responses in the order of the data."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    if row.first(("dataset",)) is None and row.first(("reference", "criteria_text")):
        raise row.no_example(AID)
    for field in ("dataset", "id", "instruction", "responses", "ground_truth"):
        row.need((field,), _EXPECTED)
    subset = row.value["dataset"]
    if subset in _OTHERS:
        raise row.no_example(NO_PAIRS, "dataset")
    if subset not in PAIRS:
        raise row.error(f"expected one of {', '.join(PAIRS + _OTHERS)}, got {shown(subset)}", "dataset")
    responses = row.objects("responses", _EXPECTED)
    if len(responses) != 2 or not all(isinstance(one.get(name), str) for one in responses for name in _RESPONSE):
        raise row.error(
            f"expected two objects with the texts `model` and `content`, got {shown(responses)}", "responses"
        )
    models = [one["model"] for one in responses]
    first = _of_models(row, models) if subset == "wp_bench" else _of_place(row)
    candidates = tuple(
        Candidate(one["content"], label, tags={"policy": one["model"]})
        for one, label in zip(responses, (first, 1 - first), strict=True)
    )
    facets = {"subset": subset} | _language(row)
    name = " ".join([row.name(("id",)) or "", *models])  # ids are of prompts, of which several have more pairs than one
    return Example(name, (Message("user", row.text("instruction")),), candidates, facets=facets)


def _of_models(row: Row, models: Sequence[str]) -> float:
    """What the label says of the first response, where it names the models of the better and of the worse one."""
    truth: Any = row.value["ground_truth"]
    sides = [truth.get(side) if isinstance(truth, Mapping) else None for side in ("chosen", "rejected")]
    named = [side.get("model") if isinstance(side, Mapping) else None for side in sides]
    if sorted(map(str, named)) != sorted(models) or len(set(models)) < 2:
        expected = f"expected `chosen` and `rejected` of the models {', '.join(models)}"
        raise row.error(f"{expected}, got {shown(truth)}", "ground_truth")
    return float(named[0] == models[0])


def _of_place(row: Row) -> float:
    """What the label says of the first response, where it names the place of the better one."""
    truth: Any = row.value["ground_truth"]
    preferred = truth.get("preferred") if isinstance(truth, Mapping) else None
    if str(preferred).strip().upper() not in _FIRST:
        raise row.error(f"expected `preferred`, A, B or tie, got {shown(truth)}", "ground_truth")
    return _FIRST[str(preferred).strip().upper()]


def _language(row: Row) -> dict[str, str]:
    meta: Any = row.value.get("meta")
    language = meta.get("language") if isinstance(meta, Mapping) else None
    return {"language": language} if isinstance(language, str) and language else {}


def _counts(judged: verdicts.Verdicts) -> Array:
    """How many verdicts of each outcome are the label and how many can be read [n, 2]; nan where none can."""
    hits = (judged.said == judged.gold[:, None]).sum(axis=1)
    readable = (judged.said > verdicts.NO_VERDICT).sum(axis=1)
    counted = (judged.counts & (readable > 0))[:, None]
    return np.where(counted, np.column_stack([hits, readable]).astype(float), np.nan)


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The share of readable verdicts that are right, how many pairs are right in both orders, then any comparison's."""
    judged = verdicts.verdicts(outcomes, view, null_is_wrong=True)
    counts = _counts(judged)
    kind: Kind = "proportion" if np.nanmax(counts[:, 1], initial=0) <= 1 else "fraction"
    right = Statistic("readable_accuracy", counts, ratio, kind, title="Readable verdicts that are right",
                      unit="share of verdicts", better="higher",
                      caveat="of one set it is the authors' figure; `refused` says how many cannot")  # fmt: skip
    of_orders = [verdicts.pair_accuracy(judged), verdicts.pair_agreement(judged)]
    return [right, *of_orders, *summary.statistics(outcomes, view)]


def left_out(outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
    """How many pairs have no verdict that can be read."""
    counts = _counts(verdicts.verdicts(outcomes, view, null_is_wrong=True))
    count = int(np.isnan(counts[:, 0]).sum())
    return {"no readable verdict": count} if count else {}


TASK = Comparison(
    name="longjudgebench",
    version=1,
    summary="LongJudgeBench: pairs of long texts by preference: --data longjudgebench=data_standardized",
    card="longjudgebench",
    read=read,
    orders="both",
    null_verdict="nought",
    measure=Unfitted("readable verdicts", "readable_accuracy", statistics, left_out, verdicts.ties),
)
