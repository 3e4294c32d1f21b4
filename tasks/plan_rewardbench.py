"""Plan-RewardBench: trajectories of agents that plan and use tools (arXiv 2604.08178)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from rmbench.data.conversation import attempt, read_answers, to_example
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison, summary
from rmbench.metrics.interval import Statistic, mean
from rmbench.metrics.measure import Unfitted, macro
from rmbench.types import Answer, Example, Json, Outcome

SPLITS = (
    "planning_multi_easy",
    "planning_multi_hard",
    "planning_single_easy",
    "planning_single_hard",
    "robust_recovery",
    "safety_refusal",
    "tool_irrelevance",
)
TIE = 1e-4
_SPLIT_OF = {"refusal": "safety_refusal", "irrelevance_unavailable": "tool_irrelevance"}  # of `_lcp_bucket`
_EXPECTED = "a row of Plan-RewardBench has `query`, `tools`, `chosen` and `reject`, each with `messages`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, the chosen trajectory first. Pairs of one query are one cluster."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for fields in (("query",), ("chosen",), ("reject", "rejected")):
        row.need(fields, _EXPECTED)
    subset, answers = _split(row), read_answers(row)
    if answers.chosen != 1 or len(answers.replies) != 2:
        raise row.error(f"expected one chosen and one rejected trajectory, got {len(answers.replies)}; {_EXPECTED}")
    example = to_example(row, answers.replies, (True, False), ids=("uuid",))
    return replace(example, id=f"{subset}-{example.id}" if example.id else "", facets={"subset": subset})


def _split(row: Row) -> str:
    """The split of a row: that of its file, as its authors have them, else what the row itself says."""
    named = row.value.get("_lcp_bucket")
    file = row.file.rpartition("/")[2].partition(".")[0].removesuffix("_unified")
    if file in SPLITS:
        return file
    if not isinstance(named, str) or not named:
        expected = f"a file named {', '.join(SPLITS)}, or a column `_lcp_bucket`"
        raise row.error(f"expected {expected}, got {shown(named)}", "_lcp_bucket")
    return _SPLIT_OF.get(named, named)


def pair_score(outcome: Outcome, view: str) -> float:
    """1 where the chosen trajectory is preferred, .5 where rewards differ by 1e-4 at most, else 0; of comparisons the
    mean over the orders, in which a verdict that could not be read is worth 0. nan without an answer."""
    seen = outcome.views.get(view)
    if seen is None:
        return np.nan
    if seen.scores is not None:
        chosen, rejected = (float(score) for score in seen.scores)
        return _worth(chosen, rejected, TIE)
    if view != "default":
        return np.nan if seen.beats is None else float(seen.beats[0, 1])
    return fmean(map(_of_order, outcome.answers)) if outcome.answers else np.nan


def _of_order(answer: Answer) -> float:
    if answer.status != "ok":
        return 0.0 if answer.status == "refused" else np.nan
    masses = dict(zip(answer.candidates, answer.values, strict=True))
    return _worth(masses[0], masses[1], 0.0)


def _worth(chosen: float, rejected: float, tie: float) -> float:
    if np.isnan(chosen) or np.isnan(rejected):
        return np.nan
    return 0.5 if chosen == rejected or abs(chosen - rejected) <= tie else float(chosen > rejected)


def pair_accuracy(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
    """The mean score of pairs."""
    scores = np.array([pair_score(outcome, view) for outcome in outcomes], float)
    return mean("pair_accuracy", scores, "proportion", title="Accuracy, ties half", unit="share of pairs",
                better="higher", caveat="rewards within 1e-4 tie, whatever the scale of the reward")  # fmt: skip


_SCORE = macro(
    "score",
    [(1.0, {"subset": split}, pair_accuracy) for split in SPLITS],
    title="Accuracy, ties half, mean of 7 splits",
)


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The score, accuracy of all pairs alike, then what any comparison has."""
    return [_SCORE(outcomes, view, None), pair_accuracy(outcomes, view, None), *summary.statistics(outcomes, view)]


def ties(outcomes: Sequence[Outcome], view: str) -> int:
    """How many pairs are worth one half."""
    return sum(pair_score(outcome, view) == 0.5 for outcome in outcomes)


TASK = Comparison(
    name="plan_rewardbench",
    version=1,
    summary="Trajectories of agents that plan and use tools, in seven splits",
    card="plan_rewardbench",
    read=read,
    sources=(HubSet("wyy1112/Plan-RewardBench", split="train"),),
    orders="both",
    null_verdict="loss",
    measure=Unfitted("splits", "score", statistics, comparison.left_out, ties),
)
