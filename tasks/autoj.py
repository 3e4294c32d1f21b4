"""Auto-J's pairs: which of two responses people prefer, or neither, in 58 scenarios (Li et al., arXiv 2310.05470)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import summary, verdicts
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import Unfitted
from rmbench.types import Candidate, Example, Message, Outcome

# scenario_group of GAIR-NLP/auto-j@2ae17a3:codes/leaderboard/utils_constants.py
GROUPS = {
    "Summarization": ("post_summarization", "text_summarization", "note_summarization"),
    "Exam Questions": ("math_reasoning", "solving_exam_question_with_math", "solving_exam_question_without_math"),
    "Code": (
        "code_simplification",
        "code_generation",
        "explaining_code",
        "code_correction_rewriting",
        "code_to_code_translation",
    ),
    "Rewriting": (
        "text_simplification",
        "language_polishing",
        "instructional_rewriting",
        "text_correction",
        "paraphrasing",
    ),
    "Creative Writing": (
        "writing_song_lyrics",
        "writing_social_media_post",
        "writing_blog_post",
        "writing_personal_essay",
        "creative_writing",
        "writing_advertisement",
        "writing_marketing_materials",
        "writing_presentation_script",
        "counterfactual",
    ),
    "Functional Writing": (
        "writing_product_description",
        "writing_job_application",
        "writing_news_article",
        "writing_biography",
        "writing_email",
        "writing_legal_document",
        "writing_technical_document",
        "writing_scientific_paper",
        "functional_writing",
        "writing_cooking_recipe",
    ),
    "General Communication": (
        "asking_how_to_question",
        "open_question",
        "analyzing_general",
        "explaining_general",
        "seeking_advice",
        "recommendation",
        "value_judgement",
        "verifying_fact",
        "chitchat",
        "roleplay",
        "planning",
        "brainstorming",
    ),
    "NLP Tasks": (
        "ranking",
        "text_to_text_translation",
        "data_analysis",
        "classification_identification",
        "title_generation",
        "question_generation",
        "reading_comprehension",
        "keywords_extraction",
        "information_extraction",
        "topic_modeling",
        "others",
    ),
}
_GROUP_OF = {scenario: group for group, scenarios in GROUPS.items() for scenario in scenarios}
_FIRST = {0: 1.0, 1: 0.0, 2: 0.5}  # what the label says of the first response
_FIELDS = ("prompt", "response 1", "response 2", "label", "scenario")
_EXPECTED = "an Auto-J row has `scenario`, `label`, `prompt`, `response 1` and `response 2`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, its responses in the order of the data; `label` is 0, 1 or, for a tie, 2."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in _FIELDS:
        row.need((field,), _EXPECTED)
    first, scenario = row.one_of("label", _FIRST), row.text("scenario")
    if scenario not in _GROUP_OF:
        raise row.error(f"expected one of {len(_GROUP_OF)} scenarios, got {shown(scenario)}", "scenario")
    sides = Candidate(row.text("response 1"), first), Candidate(row.text("response 2"), 1 - first)
    facets = {"subset": _GROUP_OF[scenario], "scenario": scenario}
    return Example("", (Message("user", row.text("prompt")),), sides, facets=facets)


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Agreement, in both orders of a model that compares, then by class and every metric of the pairs decided.

    Auto-J's consistency is the `consistency` of any comparison in both orders.
    """
    judged = verdicts.verdicts(outcomes, view)
    official = [verdicts.pair_accuracy(judged, "agreement"), verdicts.single_accuracy(judged)]
    return [*official, *verdicts.by_class(judged), *summary.statistics(outcomes, view)]


TASK = Comparison(
    name="autoj",
    version=1,
    summary="Auto-J's pairs: first, second or tie, in 58 scenarios: --data autoj=testdata_pairwise.jsonl",
    card="autoj",
    read=read,
    orders="both",
    measure=Unfitted("three classes, both orders", "agreement", statistics, verdicts.left_out, verdicts.ties),
)
