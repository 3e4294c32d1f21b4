"""RewardBench 2: the best of four, and questions of several right answers (Malik et al., arXiv 2506.01937)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison, summary
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import Unfitted, macro
from rmbench.types import Array, Candidate, Example, Json, Message, Outcome

BEST_OF = ("Factuality", "Precise IF", "Math", "Safety", "Focus")
TIES = "Ties"
_WEIGHTS = np.array([0.30, 0.30, 0.20, 0.20, 0.01])  # of the five terms of the score of Ties
_EXPECTED = "a row of RewardBench 2 has `prompt`, `chosen` and `rejected`, both lists, `num_correct`, `subset` and `id`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, the right responses first. Both prompts of Ties with one number are one cluster."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("prompt", "chosen", "rejected", "subset", "id"):
        row.need((field,), _EXPECTED)
    right, wrong, subset, name = row.texts("chosen"), row.texts("rejected"), row.text("subset"), row.name(("id",))
    if subset not in (*BEST_OF, TIES):
        raise row.error(f"expected one of {', '.join((*BEST_OF, TIES))}, got {shown(subset)}", "subset")
    counted = row.value.get("num_correct", len(right))
    if counted != len(right):
        raise row.error(f"expected {len(right)}, as many as `chosen` has, got {shown(counted)}", "num_correct")
    candidates = (*(Candidate(text, True) for text in right), *(Candidate(text, False) for text in wrong))
    facets, cluster = {"subset": subset}, None
    if subset == TIES:
        match = re.fullmatch(r"(ref|tied):(\d+)", name or "")
        if match is None:
            raise row.error(f"expected ref:NUMBER or tied:NUMBER, got {shown(name)}", "id")
        if match[1] == "tied" and len(right) < 2:
            raise row.error(f"expected two texts or more of a tied prompt, got {shown(right)}", "chosen")
        facets, cluster = facets | {"kind": match[1]}, f"ties {match[2]}"
    elif len(right) != 1:
        raise row.error(f"expected one text, got {shown(right)}", "chosen")
    return Example(name or "", (Message("user", row.text("prompt")),), candidates, facets=facets, cluster=cluster)


def terms(outcomes: Sequence[Outcome], view: str) -> Array:
    """Of each of `outcomes` of Ties five terms and, behind them, how often each counts [n, 10]; nan without rewards.

    The terms are accuracy of tied and of reference prompts and, of each tied prompt that has a reference one, whether
    the gap G between right and wrong is above the spread D of the right ones, whether the smaller G of both prompts
    is, and tanh(that G / D - 1), where 0 / 0 counts as 0.
    """
    columns = np.full((len(outcomes), 10), np.nan)
    gaps, spreads = np.full((2, len(outcomes)), np.nan)
    for row, outcome in enumerate(outcomes):
        scores = _scores(outcome, view)
        if scores is None:
            continue
        right, wrong = scores[outcome.labels == 1], scores[outcome.labels == 0]
        gaps[row], spreads[row] = right.min() - wrong.max(), right.max() - right.min()
        at = 0 if outcome.facets["kind"] == "tied" else 1
        columns[row] = 0
        columns[row, [at, 5 + at]] = gaps[row] > 0, 1
    reference = {one.cluster: row for row, one in enumerate(outcomes) if one.facets.get("kind") == "ref"}
    for row, outcome in enumerate(outcomes):
        other = reference.get(outcome.cluster)
        if outcome.facets.get("kind") != "tied" or other is None or np.isnan(gaps[[row, other]]).any():
            continue
        least, spread = min(gaps[row], gaps[other]), spreads[row]
        with np.errstate(divide="ignore", invalid="ignore"):
            beyond = np.nan_to_num(np.tanh(np.float64(least) / spread - 1), nan=0.0)
        columns[row, 2:5] = gaps[row] > spread, least > spread, beyond
        columns[row, 7:10] = 1
    return columns


def _scores(outcome: Outcome, view: str) -> Array | None:
    """The rewards of an outcome of Ties, None where one is missing or is no number."""
    seen = outcome.views.get(view)
    if outcome.facets.get("subset") != TIES or seen is None or seen.scores is None:
        return None
    return np.asarray(seen.scores) if np.isfinite(seen.scores).all() else None


def ties_score(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
    """The score of Ties: accuracy of both kinds of prompt, and margins. It can reach 1.01."""

    def value(sums: Array) -> Array:
        return np.asarray(sums[..., :5] / sums[..., 5:] @ _WEIGHTS)

    return Statistic("ties", terms(outcomes, view), value, title="Ties", unit="weighted accuracy and margins",
                     better="higher", bounds=(-0.01, 1.01),
                     caveat="needs rewards of single responses; comparisons have none")  # fmt: skip


_PART = comparison.alone(comparison.accuracy_expected)
_SCORE = macro(
    "score",
    [*((1.0, {"subset": subset}, _PART) for subset in BEST_OF), (1.0, {"subset": TIES}, ties_score)],
    title="Score, mean of the six subsets",
    unit="mean of five accuracies and the score of Ties",
)
_FOURS = macro(
    "score_without_ties",
    [(1.0, {"subset": subset}, _PART) for subset in BEST_OF],
    title="Mean of the five best of four",
)


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The score, that without Ties, that of Ties, then what any comparison has, as `accuracy_expected`."""
    own = [make(outcomes, view, None) for make in (_SCORE, _FOURS, ties_score)]
    return [*own, *summary.statistics(outcomes, view)]


TASK = Comparison(
    name="rewardbench2",
    version=1,
    summary="The best of four in five subsets, and questions of several right answers",
    card="rewardbench2",
    read=read,
    sources=(HubSet("allenai/reward-bench-2", split="test"),),
    orders="permutations:1",
    measure=Unfitted("subsets", "score", statistics, comparison.left_out, comparison.ties),
)
