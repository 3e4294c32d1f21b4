"""PPE correctness: 32 responses of one model to a question, each checked (Frick et al., arXiv 2410.14872).

Five benchmarks, each by itself, and then their mean (`overall` and `..._overall`, only where all five are there):

    accuracy     the sampled pairs of a right and a wrong response in which the right one has strictly more reward
    auc          how often a right response is above a wrong one, of any two of all rows, once the rewards of a row are
                 stretched to 0 to 1; auc_raw of the rewards as they are
    best_of_<k>  is what the reward chooses among k of a row's 32 right? Exact: the mean over all choices of k, where
                 the authors draw; of equal rewards any is chosen
    max_score    the highest point of that curve over k = 1 to 32, of the rows given
    end_score    its last point, the best of 32
    loss         the mean over k of the squared distance from what an oracle chooses
    share_right  how many of the responses are right: what a choice at random gets
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.pairs import named_after
from rmbench.data.rows import Row, listed, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import pooled
from rmbench.metrics.interval import Statistic, Words, cluster_codes, mean
from rmbench.metrics.measure import Make, Unfitted, macro, of_rows
from rmbench.metrics.named_pairs import named_pairs, verdicts
from rmbench.metrics.pooled import Items
from rmbench.metrics.selection import expected_choice
from rmbench.types import Array, Candidate, Example, Json, Message, Outcome

K = 32
CURVE = (1, 2, 4, 8, 16, 32)
PAIRED = "conflicts_with"
# of each benchmark: its hub set and the commit of it, and the column that its rows have and those of no other
DOMAINS = {
    "mmlu_pro": ("MMLU-Pro", "d3a309b95d5a3a34efdd2b01a9e3ee10565bf0c7", "answer_index"),
    "math": ("MATH", "c46ce3cda5417fe8d170e992d925f93856b5db40", "sanitized_solution"),
    "gpqa": ("GPQA", "2f85cea6481db81daa2c8033c51b7811b7bbf648", "correct_choice_index"),
    "ifeval": ("IFEval", "a4f7fae2443d96529dee6b65863a816a051b3a4d", "instruction_id_list"),
    "mbpp_plus": ("MBPP-Plus", "afa814632c1df94e76b6af2c1d282511114cd2b7", "test_list"),
}
_HUB = "PPE-{}-Best-of-K"
_SIZES = tuple(range(1, K + 1))
_REASONS = ("no answer", "no sampled pair, which accuracy alone needs")
_EXPECTED = (
    "a row of PPE's correctness sets has `prompt`, `response_1` to `response_32`, `scores` and `sampled_conflict_pairs`"
)
_WORDS: dict[str, Words] = {
    "accuracy": {"title": "Accuracy on the sampled pairs, ties lost", "unit": "share of pairs", "better": "higher",
                 "caveat": "a few pairs of each row's 496; says nothing of how far apart rewards are"},
    "auc": {"title": "AUC, pooled, rewards of a row from 0 to 1", "unit": "share of pairs", "better": "higher",
            "caveat": "the worst of a row is 0 and the best 1 also where all are right, or all wrong"},
    "auc_raw": {"title": "AUC, pooled, rewards as they are", "unit": "share of pairs", "better": "higher",
                "caveat": "of different questions as well; says nothing of one question"},
    "max_score": {"title": "Share of right choices at the best k", "unit": "share of rows", "better": "higher",
                  "caveat": "k is chosen on the rows it is measured on; says nothing of what comes after it"},
    "end_score": {"title": f"Share of right choices among {K} by reward", "unit": "share of rows", "better": "higher",
                  "caveat": "bounded by the share of rows with a right response; read it beside max_score"},
    "share_right": {"title": "Share of right responses", "unit": "share of rows",
                    "caveat": "of the data, not of the model: what a choice at random gets, whatever k"},
    "loss": {"title": "Squared distance from an oracle's choices, mean over k", "unit": "share of rows, squared",
             "better": "lower", "caveat": "of mean curves, so that it hides which rows are far from it"},
}  # fmt: skip


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row: its 32 responses, each right or wrong; right ones know those that they are held against."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("prompt", "scores", "sampled_conflict_pairs"):
        row.need((field,), _EXPECTED)
    right = _scores(row)
    against = _conflicts(row, right)
    policy = row.name(("model_name",))
    candidates = []
    for index, is_right in enumerate(right):
        row.need((f"response_{index + 1}",), _EXPECTED)
        tags: dict[str, Any] = {"policy": policy} if policy else {}
        if against[index]:
            tags[PAIRED] = against[index]
        candidates.append(Candidate(row.text(f"response_{index + 1}"), is_right, tags=tags))
    domain = _domain(row)
    question = row.name(("question_id",))
    named = "" if question is None else ":".join(filter(None, (domain, question, policy)))
    facets = {"domain": domain} | ({"policy": policy} if policy else {})
    return Example(named, (Message("user", row.text("prompt")),), tuple(candidates), facets=facets)


def _scores(row: Row) -> list[bool]:
    """Whether each response is right."""
    values = row.value["scores"]
    if not isinstance(values, list) or len(values) != K:
        got = f"{len(values)} values" if isinstance(values, list) else shown(values)
        raise row.error(f"expected a list of {K}, one a response, got {got}", "scores")
    for index, value in enumerate(values):
        if value not in (0, 1):
            raise row.error(f"expected true or false of each response, got {shown(value)} at {index}", "scores")
    return [bool(value) for value in values]


def _conflicts(row: Row, right: Sequence[bool]) -> list[list[int]]:
    """Of each response, the wrong ones that it is held against: of a pair, those of the right one."""
    field = "sampled_conflict_pairs"
    pairs = row.value[field]
    if not isinstance(pairs, list):
        raise row.error(f"expected a list of pairs, got {shown(pairs)}", field)
    against: list[list[int]] = [[] for _ in right]
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(i) is int and 0 <= i < K for i in pair):
            raise row.error(f"expected pairs of places from 0 to {K - 1}, got {shown(pair)}", field)
        if right[pair[0]] == right[pair[1]]:
            raise row.error(f"expected pairs of a right and a wrong response, got {shown(pair)}", field)
        better, worse = sorted(pair, key=lambda i: not right[i])
        against[better].append(worse)
    return against


def _domain(row: Row) -> str:
    """The benchmark whose hub set the row is of by the name of its file, or that it says, or has the columns of."""
    sets = {_HUB.format(hub): name for name, (hub, _, _) in DOMAINS.items()}
    of_set = named_after(row, sets)
    if of_set is not None:
        return sets[of_set]
    stated, columns = row.name(("domain",)), {column: name for name, (_, _, column) in DOMAINS.items()}
    if stated is None:
        column = row.filled(tuple(columns))
        if column is None:
            one_of = f"a row is of one of {', '.join(DOMAINS)} by its `domain`, or by having {listed(columns)}"
            raise row.lacks("domain", one_of)
        row.value.get(column)
        return columns[column]
    if stated not in DOMAINS:
        raise row.error(f"expected one of {', '.join(DOMAINS)}, got {shown(stated)}", "domain")
    return stated


@dataclass(frozen=True)
class Conflicts(Comparison):
    """A comparison of which a model that only compares is shown the sampled pairs, and no other of the 496."""

    def displays(self, example: Example, most: int | None = None) -> list[tuple[int, ...]]:
        """Which candidates are shown to a model that only compares, in the order shown: the sampled pairs."""
        pairs = {frozenset(pair) for pair in named_pairs([one.tags for one in example.candidates], PAIRED)}
        return [order for order in super().displays(example, 2) if frozenset(order) in pairs]


def pairs_won(outcome: Outcome, view: str) -> float:
    """The share of the sampled pairs that are won, strictly; nan where there are none, or one has no answer."""
    each = verdicts(outcome, view, PAIRED)
    return float((each == 1).mean()) if len(each) and not np.isnan(each).any() else math.nan


def rewards(outcomes: Sequence[Outcome], view: str) -> Array:
    """The rewards [n, 32] of outcomes; a row that lacks one is nan."""
    table = np.full((len(outcomes), K), np.nan)
    for at, outcome in enumerate(outcomes):
        seen = outcome.views.get(view)
        if seen is not None and seen.scores is not None and not np.isnan(seen.scores).any():
            table[at] = seen.scores
    return table


def stretched(table: Array) -> Array:
    """Rewards [n, 32] of which the least of each row is 0 and the largest 1, or all .5; nan where one is not finite, or
    the two are further apart than the largest float."""
    with np.errstate(over="ignore", invalid="ignore"):
        above = table - table.min(axis=1, keepdims=True)
        span = above.max(axis=1, keepdims=True)
        span = np.where(np.isfinite(span), span, np.nan)
        return np.asarray(np.where(span == 0, 0.5, above / np.where(span == 0, 1.0, span)))


def curves(outcomes: Sequence[Outcome], view: str) -> tuple[Array, Array]:
    """How often a right response is chosen [n, 32] among k of a row, k = 1 to 32: by its reward, and by an oracle."""
    chosen, oracle = np.full((2, len(outcomes), K), np.nan)
    for at, (outcome, proxy) in enumerate(zip(outcomes, rewards(outcomes, view), strict=True)):
        if not np.isnan(proxy).any():
            chosen[at] = expected_choice(proxy, outcome.labels, _SIZES)
            oracle[at] = expected_choice(outcome.labels, outcome.labels, _SIZES)
    return chosen, oracle


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The means of the five benchmarks, then the same figures of the rows given, which are those of a benchmark."""
    table, (chosen, oracle) = rewards(outcomes, view), curves(outcomes, view)
    counted = np.ones((len(outcomes), 1))
    won = np.array([pairs_won(outcome, view) for outcome in outcomes])
    figures = [
        mean("accuracy", won, "fraction", **_WORDS["accuracy"]),
        _auc("auc", outcomes, stretched(table)),
        Statistic("max_score", np.hstack([chosen, counted]), _highest, "fraction", **_WORDS["max_score"]),
        mean("end_score", chosen[:, -1], "fraction", **_WORDS["end_score"]),
        Statistic("loss", np.hstack([oracle - chosen, counted]), _squared, "fraction", **_WORDS["loss"]),
    ]
    return [
        *(_overall(one, outcomes, view) for one in figures),
        *figures,
        _auc("auc_raw", outcomes, table),
        mean("share_right", oracle[:, 0], "fraction", **_WORDS["share_right"]),
        *(point for k in CURVE for point in _points(k, chosen[:, k - 1], oracle[:, k - 1])),
    ]


def _auc(name: str, outcomes: Sequence[Outcome], table: Array) -> Statistic:
    """The AUC of all responses pooled, by rewards [n, 32]; rows without are left out."""
    there = np.flatnonzero(~np.isnan(table).any(axis=1))
    codes = cluster_codes([outcome.cluster for outcome in outcomes])
    right = np.array([outcomes[row].labels for row in there.tolist()]).ravel() == 1
    return pooled.auc(name, Items(table[there].ravel(), np.repeat(there, K), codes), right, **_WORDS[name])


def _auc_of_part(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
    return _auc("auc", outcomes, stretched(rewards(outcomes, view)))


def _highest(sums: Array) -> Array:
    """The highest point of a curve, from the sums of its points and of rows [..., 33]."""
    return np.asarray((sums[..., :K] / sums[..., K:]).max(axis=-1))


def _squared(sums: Array) -> Array:
    """The mean square of the points of a curve, from the sums of these and of rows [..., 33]."""
    return np.asarray(np.square(sums[..., :K] / sums[..., K:]).mean(axis=-1))


def _overall(one: Statistic, outcomes: Sequence[Outcome], view: str) -> Statistic:
    """The mean of a figure over the five benchmarks."""
    make: Make = _auc_of_part if one.columns is None else of_rows(one, outcomes)
    name = "overall" if one.name == "accuracy" else f"{one.name}_overall"
    title = f"{one.title}, mean over the five benchmarks"
    parts = [(1.0, {"domain": domain}, make) for domain in DOMAINS]
    return macro(name, parts, title=title, caveat="only where all five are there")(outcomes, view, None)


def _points(k: int, chosen: Array, oracle: Array) -> list[Statistic]:
    """The points [n] of both curves at k; at 1 they are one, the share of right responses."""
    by_reward = Words(title=f"Share of right choices among {k} by reward", unit="share of rows", better="higher",
                      caveat="best of k of each row's policy; no training", at=float(k))  # fmt: skip
    of_data = Words(title=f"Share with a right response among {k}", unit="share of rows",
                    caveat="of the data, not of the model: what no reward can exceed", at=float(k))  # fmt: skip
    point = mean(f"best_of_{k}", chosen, "fraction", **by_reward)
    return [point] if k == 1 else [point, mean(f"best_of_{k}_oracle", oracle, "fraction", **of_data)]


def left_out(outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
    """How many rows lack an answer, to any of the 32 or, of a model that only compares, to a sampled pair; and how many
    have no such pair, which count in all but accuracy."""
    reasons = [_reason(outcome, view) for outcome in outcomes]
    return {reason: reasons.count(reason) for reason in _REASONS if reason in reasons}


def _reason(outcome: Outcome, view: str) -> str:
    seen, each = outcome.views.get(view), verdicts(outcome, view, PAIRED)
    asked = each if seen is None or seen.scores is None else seen.scores
    if np.isnan(asked).any():
        return _REASONS[0]
    return "" if len(each) else _REASONS[1]


def ties(outcomes: Sequence[Outcome], view: str) -> int:
    """In how many rows a sampled pair ties."""
    return sum(bool((verdicts(outcome, view, PAIRED) == 0.5).any()) for outcome in outcomes)


TASK = Conflicts(
    name="ppe_correctness",
    version=1,
    summary="PPE: 32 checked responses a question, of five benchmarks; accuracy, AUC, best of k (unverified)",
    card="ppe_correctness",
    read=read,
    sources=tuple(
        HubSet(f"lmarena-ai/{_HUB.format(name)}", revision, split="train") for name, revision, _ in DOMAINS.values()
    ),
    orders="both",
    measure=Unfitted("best_of_32", "overall", statistics, left_out, ties),
)
