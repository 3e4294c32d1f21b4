"""RewardBench: pairs of chat, hard chat, safety and reasoning (Lambert et al., arXiv 2403.13787)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.messages import read_messages
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison, summary
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import Make, Part, Unfitted, macro
from rmbench.types import Candidate, Example, Message, Outcome

# of each section the subsets, and how much each counts: as many as it has rows, but for math-prm (447 rows), which
# counts as much as the code of its section
SECTIONS = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
PRIOR, PRIOR_SETS = "Prior Sets", ("anthropic_helpful", "anthropic_hhh", "shp", "summarize")
# what else lies beside these, and no score counts
_OTHER_SETS = ("anthropic_harmless", "mtbench_gpt4", "mtbench_human", "pku_better", "pku_safer")
_SECTION_OF = {subset: section for section, subsets in SECTIONS.items() for subset in subsets}
_SECTION_OF |= dict.fromkeys(PRIOR_SETS, PRIOR)
_EXPECTED = "a row of RewardBench has `prompt`, `chosen`, `rejected` and `subset`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, the chosen response first. Rows of the prior sets lie in files that begin with their names."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("prompt", "chosen", "rejected"):
        row.need((field,), _EXPECTED)
    given = row.value["prompt"]
    prompt = (Message("user", given),) if isinstance(given, str) else read_messages(row, "prompt", given)
    subset = _subset(row)
    tags = [{"policy": policy} if (policy := row.name((f"{side}_model",))) else {} for side in ("chosen", "rejected")]
    candidates = (
        Candidate(row.text("chosen"), True, tags=tags[0]),
        Candidate(row.text("rejected"), False, tags=tags[1]),
    )
    facets = {"section": _SECTION_OF[subset], "subset": subset}
    return Example(row.name(("id",)) or "", prompt, candidates, facets=facets)


def _subset(row: Row) -> str:
    """The subset of a row: its own, but of a prior set, whose rows have others or none, the name of its file."""
    file = row.file.rpartition("/")[2]
    prior = next((name for name in PRIOR_SETS if file.startswith(name)), None)
    if prior is not None:
        row.value.get("subset")
        return prior
    if file.startswith(_OTHER_SETS):
        raise row.no_example("of a prior set that no score counts")
    row.need(("subset",), _EXPECTED)
    subset = row.text("subset")
    if subset not in _SECTION_OF:
        raise row.error(f"expected one of {', '.join(_SECTION_OF)}, got {shown(subset)}", "subset")
    return subset


def _name(section: str) -> str:
    return section.lower().replace(" ", "_")


def _section(section: str, weights: dict[str, int]) -> Make:
    part = comparison.alone(comparison.accuracy)
    parts = [(float(weight), {"subset": subset}, part) for subset, weight in weights.items()]
    return macro(_name(section), parts, title=f"{section}, mean over its subsets by their counts")


_MAKES = {name: _section(name, weights) for name, weights in SECTIONS.items()}
_PRIOR = _section(PRIOR, dict.fromkeys(PRIOR_SETS, 1))
_FOUR: list[Part] = [(1.0, {}, make) for make in _MAKES.values()]
_SCORE = macro("score", _FOUR, title="Score, mean of the four sections")
_WITH_PRIOR = macro(
    "score_with_prior_sets", [*_FOUR, (0.5, {}, _PRIOR)], title="Score, with the prior sets as half a section"
)


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The score, that with the prior sets, the sections, then what any comparison has."""
    own = [make(outcomes, view, None) for make in (_SCORE, _WITH_PRIOR, *_MAKES.values(), _PRIOR)]
    return [*own, *summary.statistics(outcomes, view)]


TASK = Comparison(
    name="rewardbench",
    version=1,
    summary="Pairs of chat, hard chat, safety and reasoning, of 23 subsets",
    card="rewardbench",
    read=read,
    sources=(HubSet("allenai/reward-bench", split="filtered"),),
    measure=Unfitted("sections", "score", statistics, comparison.left_out, comparison.ties),
)
