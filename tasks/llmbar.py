"""LLMBar: of two outputs one follows the instruction (Zeng et al., arXiv 2310.07641).

A judge names the better output in both orders; its accuracy is the mean of both. Of a judge that rates outputs one by
one, and so of a reward model, the authors take equal ratings as a verdict for the output shown second, in either order.
A verdict that could not be read is wrong. Their kappas against the label code the verdict for output 2 as 0 while the
label stays 2, so that only verdicts for output 1 can agree: these keep their names, and the plain ones have others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

import numpy as np

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison, summary
from rmbench.metrics.interval import Kind, Statistic, mean
from rmbench.metrics.measure import Unfitted
from rmbench.metrics.verdicts import kappa
from rmbench.types import Answer, Array, Candidate, Example, Message, Outcome

ADVERSARIAL = ("Neighbor", "GPTInst", "GPTOut", "Manual")
SPLITS = {"Natural": "Natural"} | {f"Adversarial_{name}": name for name in ADVERSARIAL}
_SUBSET = re.compile(rf"(?<![A-Za-z])({'|'.join(SPLITS.values())})(?![A-Za-z])")
_LABELS = {1: (True, False), 2: (False, True)}
_EXPECTED = "an LLMBar row has `input`, `output_1`, `output_2` and `label`, 1 or 2"
_NONE = -1.0  # no verdict
_OF_JUDGES = "evaluators"  # the folder of what judges wrote, beside the rows that they were asked


def facets_of(subset: str) -> dict[str, str]:
    """What sort of example a subset has."""
    return {"section": "Adversarial" if subset in ADVERSARIAL else subset, "subset": subset}


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row: output 1, then output 2; its subset is in the name of the file, or of its folder."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    if _OF_JUDGES in PurePath(row.file).parts:  # a clone of the authors' repository has both
        raise row.no_example("a judge's, and no pair")
    for field in ("input", "output_1", "output_2", "label"):
        row.need((field,), _EXPECTED)
    labels = row.one_of("label", _LABELS)
    candidates = tuple(
        Candidate(row.text(field), right) for field, right in zip(("output_1", "output_2"), labels, strict=True)
    )
    named = _SUBSET.search(row.file.replace("_", " "))
    prompt = (Message("user", row.text("input")),)
    return Example("", prompt, candidates, facets={} if named is None else facets_of(named[1]))


def verdicts(outcome: Outcome, view: str) -> tuple[float, float]:
    """Which output is named as given and with both exchanged: 0, 1, -1 where none is, nan without an answer."""
    seen = outcome.views.get(view)
    if seen is None:
        return np.nan, np.nan
    if seen.scores is not None:
        one, other = seen.scores
        if np.isnan(one) or np.isnan(other):
            return np.nan, np.nan
        return (1.0, 0.0) if one == other else (float(other > one), float(other > one))
    by_order = {answer.candidates: answer for answer in outcome.answers} if view == "default" else {}
    as_given, exchanged = (_named(by_order.get(order)) for order in ((0, 1), (1, 0)))
    return as_given, exchanged


def _named(answer: Answer | None) -> float:
    if answer is not None and answer.status == "refused":
        return _NONE
    if answer is None or answer.status != "ok":
        return np.nan
    first, second = answer.values
    return _NONE if first == second else float(answer.candidates[int(second > first)])


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """LLMBar's figures, then what every comparison has."""
    named = np.array([verdicts(outcome, view) for outcome in outcomes], float).reshape(len(outcomes), 2)
    label = np.array([float(np.argmax(outcome.labels)) for outcome in outcomes])
    unknown = np.isnan(named)
    right = np.where(unknown, np.nan, named == label[:, None])
    alike = np.where(unknown.any(axis=1), np.nan, named[:, 0] == named[:, 1])
    plain, official = ([table(named[:, order], label) for order in (0, 1)] for table in (_plain, _official))
    half = ".5 for a reward that is the same for everything: an equal pair is half won"
    one_order = "of one order: read it beside the other, and beside agreement"
    chance = "0 for a judge that guesses; does not say what it gets wrong"
    coded = "no kappa of verdict and label, whatever its name: as coded, verdict 2 never agrees with label 2"
    return [
        _share("accuracy_average", right.mean(axis=1), "fraction", "Accuracy, mean of both orders", half),
        _share("accuracy_as_given", right[:, 0], "proportion", "Accuracy in the order of the data", one_order),
        _share("accuracy_exchanged", right[:, 1], "proportion", "Accuracy with both outputs exchanged", one_order),
        _share("accuracy_both", right.prod(axis=1), "proportion", "Pairs that are right in both orders",
               "a fourth for a judge that guesses anew in each order"),
        _share("agreement", alike, "proportion", "Positional agreement: the same verdict in both orders",
               "1 for a judge that is always wrong, too, and for one without any verdict"),
        kappa("kappa_agreement", [_coded(named)], "Cohen's kappa of the verdicts of both orders",
              "as its authors code it no verdict counts as one for output 2; 1 for a judge that is always wrong, too"),
        kappa("kappa", plain, "Cohen's kappa of verdict and label, mean of both orders", chance),
        kappa("kappa_as_given", plain[:1], "Cohen's kappa of verdict and label, in the order of the data", one_order),
        kappa("kappa_exchanged", plain[1:], "Cohen's kappa of verdict and label, outputs exchanged", one_order),
        kappa("kappa_average", official, "LLMBar's own kappa_average, verdict 2 coded as 0", coded),
        kappa("kappa_False", official[:1], "LLMBar's own kappa_False, verdict 2 coded as 0", coded),
        kappa("kappa_True", official[1:], "LLMBar's own kappa_True, verdict 2 coded as 0", coded),
        *summary.statistics(outcomes, view),
    ]  # fmt: skip


def _share(name: str, values: Array, kind: Kind, title: str, caveat: str) -> Statistic:
    return mean(name, values, kind, title=title, unit="share of pairs", better="higher", caveat=caveat)


def _counts(*verdicts: Array) -> Array:
    """1 where all of these have an answer, else nan, which leaves the row out."""
    return np.where(np.isnan(verdicts).any(axis=0), np.nan, 1.0)


def _plain(named: Array, label: Array) -> Array:
    """A verdict is for output 1, for output 2 or for none; a label for one of the two."""
    return np.column_stack([_counts(named), named == label, named == 0, label == 0, named == 1, label == 1])


def _official(named: Array, label: Array) -> Array:
    """Verdicts are 1 or, for all else, 0; labels are 1 or 2: only 1 is a class of both."""
    return np.column_stack([_counts(named), (named == 0) & (label == 0), named == 0, label == 0])


def _coded(named: Array) -> Array:
    """The verdicts of both orders, each 1 or, for all else, 0."""
    one, other = (named == 0).T
    return np.column_stack([_counts(*named.T), one == other, one, other, ~one, ~other])


TASK = Comparison(
    name="llmbar",
    version=1,
    summary="LLMBar: of two outputs one follows the instruction; natural and adversarial pairs, both orders",
    card="llmbar",
    read=read,
    sources=tuple(
        HubSet("princeton-nlp/LLMBar", config="LLMBar", split=split, facets=facets_of(subset))
        for split, subset in SPLITS.items()
    ),
    measure=Unfitted("llmbar", "accuracy_average", statistics, comparison.left_out, comparison.ties),
    orders="both",
    null_verdict="nought",
)
