"""What the terminal says of the spread of rewards: which figures stand in which table, and what they mean in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rmbench.results.digest import figure
from rmbench.results.schema import Metric, TaskResult

# The columns of each table: the figure, and whether its interval stands beside it
TABLES: Sequence[Mapping[str, tuple[str, bool]]] = (
    {
        "auc % of spread": ("doubt_auc", True),
        "of margin": ("doubt_margin_auc", False),
        "of both": ("doubt_flip_auc", False),
        "area % by spread": ("doubt_area", True),
        "at random": ("doubt_area_random", False),
        "by an oracle": ("doubt_area_oracle", False),
    },
    {
        "right % of all": ("doubt_accuracy", False),
        "of the surest 80 %": ("doubt_accuracy_80", True),
        "sure %": ("doubt_sure", False),
        "right % where sure": ("doubt_sure_right", True),
    },
)
_WORDS = (
    "does spread say where a model is wrong? auc: how often a wrong {unit} has more spread than a right one (50: it "
    "does not), a smaller margin, more spread for its margin (both); area: errors among those kept, the surest first, "
    "over all shares kept; right of all, and of the 80 % with the least spread; sure: the stated 95 % interval of the "
    "margin leaves out 0, right then in 97.5 % or more of a spread that is what it says"
)
_ERRORS = {
    1: "its spread is larger where it is wrong",
    0: "whether its spread is larger where it is wrong is not told from chance",
    -1: "its spread is larger where it is right, so that a small one is no reason to trust it",
}
_ADDED = {
    1: "more of errors than the margin alone",
    0: "as much of errors as the margin alone, as far as can be told",
    -1: "less of errors than the margin alone",
}
NOT_TOLD = "its rewards have spread, and nothing says whether it is where they are wrong: no decision has a label"


def doubted(result: TaskResult) -> list[str]:
    """The views whose spread was held against errors."""
    return [view for view in result.views if figure(result, "doubt_auc", view) is not None]


def has_spread(result: TaskResult) -> bool:
    """Whether the records hold a spread."""
    tables = [table for table in (result.records, result.requests) if table is not None]
    return any("spread" in table.column_names and table["spread"].null_count < table.num_rows for table in tables)


def words(result: TaskResult) -> str:
    """What the columns are."""
    return _WORDS.format(unit="response" if "responses" in result.statistics["doubt_auc"].unit else "pair")


def verdicts(result: TaskResult, view: str) -> Iterator[str]:
    """What the figures of a view come to, as far as their intervals say."""
    errors = _side(figure(result, "doubt_auc", view), 0.5)
    yield f"{_ERRORS[errors]}; for its margin it says {_ADDED[_side(figure(result, 'doubt_added', view), 0.0)]}"
    share_known = figure(result, "doubt_known", view)
    if share_known is not None and share_known.value is not None and share_known.value < 1:
        yield f"the spread of {100 * share_known.value:.1f} % is known; doubt is of these alone"


def _side(metric: Metric | None, nothing: float) -> int:
    """1 or -1 where the whole interval is above or below what says nothing, else 0."""
    if metric is None or metric.ci_low is None or metric.ci_high is None:
        return 0
    return int(metric.ci_low > nothing) - int(metric.ci_high < nothing)
