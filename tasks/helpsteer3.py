"""HelpSteer3: which of two responses people prefer, and how strongly (Wang et al., arXiv 2505.11475)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from rmbench.data.conversation import attempt, check_asked, read_prompt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison, summary
from rmbench.metrics.interval import Statistic, mean, ratio
from rmbench.metrics.measure import Unfitted
from rmbench.tasks.pandalm import unanimous
from rmbench.types import Candidate, Example, Outcome

DOMAINS = ("general", "stem", "code", "multilingual")
STRONGEST = 3  # of a preference, which is below 0 where the first response is the better one
_ANNOTATORS = 3
_PREFERENCE, _EACH = "overall_preference", "individual_preference"
_EXPECTED = f"a HelpSteer3 row has `domain`, `language`, `context`, `response1`, `response2` and `{_PREFERENCE}`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, its responses in the order of the data; a preference of 0 is a tie."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("domain", "context", "response1", "response2", _PREFERENCE):
        row.need((field,), _EXPECTED)
    domain, language = row.text("domain").lower(), row.name(("language",))
    if domain not in DOMAINS:
        raise row.error(f"expected one of {', '.join(DOMAINS)}, got {shown(domain)}", "domain")
    prompt = read_prompt(row)
    check_asked(row, prompt)
    facets = {"domain": domain} | ({"language": language} if language else {})
    votes = strengths(row, _EACH, "score")
    candidates, strength = preferred(row, ("response1", "response2"), _PREFERENCE, votes)
    return Example("", prompt, candidates, facets=facets | strength)


def strengths(row: Row, field: str, name: str) -> list[int]:
    """The preferences of single annotators that stand as `name` in the objects of `field`; [] without such a list."""
    listed = row.value.get(field)
    if listed is None:
        return []
    given = row.objects(field, f"each with a `{name}`")
    return [_strength(row, one.get(name), field, f" as `{name}`") for one in given[:_ANNOTATORS]]


def preferred(
    row: Row, responses: tuple[str, str], field: str, votes: Sequence[int]
) -> tuple[tuple[Candidate, ...], dict[str, str]]:
    """Both responses, labelled 3 more or less by how strongly they are preferred, and the facet `strength`, which a
    tie has not. Votes are annotations: 1 for the response that an annotator prefers, .5 for neither."""
    preference = _strength(row, row.value[field], field)
    candidates = []
    for name, side in zip(responses, (-1, 1), strict=True):
        if row.value[name] is None:
            raise row.no_example("no response", name)
        annotations = [(1 + side * float(np.sign(vote))) / 2 for vote in votes]
        padding = [math.nan] * (_ANNOTATORS - len(votes) if votes else 0)
        label = float(STRONGEST + side * preference)
        candidates.append(Candidate(row.text(name), label, (*annotations, *padding)))
    return tuple(candidates), {"strength": str(abs(preference))} if preference else {}


def _strength(row: Row, value: object, field: str, where: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > STRONGEST:
        expected = f"expected a whole number from -{STRONGEST} to {STRONGEST}{where}"
        raise row.error(f"{expected}, got {shown(value)}", field)
    return value


def strength_weighted(outcomes: Sequence[Outcome], view: str) -> Statistic:
    """Accuracy in which a pair counts as often as its preference is strong."""
    won = comparison.wins(outcomes, view)
    weights = np.array([np.ptp(outcome.labels) / 2 for outcome in outcomes])
    return Statistic("strength_weighted_accuracy", np.column_stack([won * weights, weights]), ratio, "fraction",
                     title="Accuracy weighted by strength, ties lost", unit="share of strength", better="higher",
                     caveat="takes 3 for three times 1, which annotators were not told")  # fmt: skip


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Accuracy of pairs, weighted by strength, how far annotators agree, and all that a comparison has."""
    accuracy, *others = summary.statistics(outcomes, view)
    ceiling = mean("unanimous", unanimous(outcomes), "proportion", title="Annotators all agree", unit="share of pairs",
                   caveat="of pairs with three annotators, told by which response each prefers, or neither; says "
                   "nothing of the model, but how much of the labels is certain")  # fmt: skip
    return [accuracy, strength_weighted(outcomes, view), ceiling, *others]


TASK = Comparison(
    name="helpsteer3",
    version=1,
    summary="HelpSteer3: preferences of people in four domains and many languages, with their strength",
    card="helpsteer3",
    read=read,
    sources=(HubSet("nvidia/HelpSteer3", config="preference", split="validation"),),
    orders="both",
    measure=Unfitted("strength", "accuracy", statistics, comparison.left_out, comparison.ties),
)
