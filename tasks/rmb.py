"""RMB: best-of-n groups and pairs over helpfulness and harmlessness (Zhou et al., arXiv 2410.09893)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rmbench.data.conversation import attempt, read_reply, to_example
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison, summary
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import Unfitted, macro
from rmbench.types import Candidate, Example, Outcome, Response

KINDS = {"best_of_n": "BoN_set", "pairwise": "Pairwise_set"}
GOALS = {"helpfulness": "Helpfulness", "harmlessness": "Harmlessness"}
_SCORED = ("chosen_reward", "reject_reward")
_EXPECTED = (
    "an RMB row has `conversation_input` and `category_path`, with `bon_best` and `loser_list`, or with `chosen` and "
    "`reject`; a row of its score files `chosen_reward` and `reject_reward`"
)
_IDS = {"best_of_n": "bon_uid", "pairwise": "pair_uid"}


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, the better response first: a best-of-n group, a pair, or one that only a score file knows."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    if row.first(_SCORED) is not None and row.first(("conversation_input",)) is None:
        for side in _SCORED:
            row.need((side,), _EXPECTED)
        name = row.name((_IDS["pairwise"],)) or ""
        return Example(name, (), tuple(Candidate(Response(None), right) for right in (True, False)),
                       facets=_facets(row, "pairwise"))  # fmt: skip
    kind = "pairwise" if row.first(("bon_best", "loser_list")) is None else "best_of_n"
    better, worse = ("chosen", "reject") if kind == "pairwise" else ("bon_best", "loser_list")
    row.need(("conversation_input",), _EXPECTED)
    row.need((better,), _EXPECTED)
    row.need((worse,), _EXPECTED)
    losers = [row.value[worse]] if kind == "pairwise" else row.value[worse]
    if not isinstance(losers, list) or not losers:
        raise row.error(f"expected a list of responses, got {shown(losers)}", worse)
    answers = [(better, row.value[better]), *((worse, loser) for loser in losers)]
    for field, answer in answers:
        if not isinstance(answer, dict) or not isinstance(answer.get("answer"), str):
            raise row.error(f"expected an object with the text `answer`, got {shown(answer)}", field)
    replies = [read_reply(row, field, answer) for field, answer in answers]
    example = to_example(row, replies, [True] + [False] * len(losers), (_IDS[kind],))
    # the groups and the pairs are numbered alike, and the authors' score files are of pairs
    name = f"bon-{example.id}" if kind == "best_of_n" and example.id else example.id
    return replace(example, id=name, facets=_facets(row, kind))


def _facets(row: Row, kind: str) -> dict[str, str]:
    """The kind of set, the goal and the scenario, which `category_path` names one after the other."""
    path = row.name(("category_path",)) or ""
    held, goal, *scenario = [*path.split("/"), ""][:2] + path.split("/")[2:]
    goals = [name for name, written in GOALS.items() if written == goal]
    if held != KINDS[kind] or not goals:
        raise row.error(
            f"expected {KINDS[kind]}/, {' or '.join(GOALS.values())}, and a scenario, got {shown(path)}",
            "category_path",
        )
    return {"kind": kind, "goal": goals[0]} | ({"subset": "/".join(scenario)} if scenario else {})


_WON = comparison.alone(comparison.accuracy)
CELLS = {f"{kind}_{goal}": {"kind": kind, "goal": goal} for kind in KINDS for goal in GOALS}
MAKES = (
    macro(
        "overall",
        [(1.0, facets, _WON) for facets in CELLS.values()],
        title="Accuracy, mean of best of n and pairs, helpful and harmless",
        caveat="only where all four sets are there; a group needs the best above every loser, a pair above one",
    ),
    *(
        macro(
            name,
            [(1.0, facets, _WON)],
            title=f"Accuracy, {facets['kind'].replace('_', ' ')}, {facets['goal']}",
            caveat="every example counts alike, whatever the size of its scenario; says nothing of the other three",
        )
        for name, facets in CELLS.items()
    ),
)


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """RMB's mean and its four cells, then what every comparison has."""
    return [*(make(outcomes, view, None) for make in MAKES), *summary.statistics(outcomes, view)]


TASK = Comparison(
    name="rmb",
    version=1,
    summary="RMB: best-of-n groups and pairs, helpful and harmless: --data rmb=RMB_dataset",
    card="rmb",
    read=read,
    measure=Unfitted("rmb", "overall", statistics, comparison.left_out, comparison.ties),
)
