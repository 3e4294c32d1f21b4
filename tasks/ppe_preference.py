"""PPE human preference: votes of Chatbot Arena on pairs of responses (Frick et al., arXiv 2410.14872)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.types import Candidate, Example, Message

LANGUAGES = ("English", "Chinese", "Russian")  # those that the authors report apart
CATEGORIES = ("hard_prompt", "easy_prompt", "if_prompt", "is_code", "math_prompt")
_EXPECTED = "a row of PPE's human preferences has `prompt`, `response_1`, `response_2` and `winner`"
_SIDES = (("response_1", "model_a"), ("response_2", "model_b"))
_LABELS: dict[str, tuple[float | bool, float | bool]] = {"model_a": (True, False), "model_b": (False, True)}
_TIES = ("tie", "both")  # Chatbot Arena's words for both good, and for both bad
_TIED = (0.5, 0.5)


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row: the response of `model_a`, then that of `model_b`. Ties are data of equal labels."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("prompt", "response_1", "response_2", "winner"):
        row.need((field,), _EXPECTED)
    winner = row.text("winner")
    if winner not in _LABELS and not winner.startswith(_TIES):
        raise row.error(f"expected 'model_a', 'model_b' or a tie, got {shown(winner)}", "winner")
    candidates = []
    for (response, writer), label in zip(_SIDES, _LABELS.get(winner, _TIED), strict=True):
        policy = row.name((writer,))
        candidates.append(Candidate(row.text(response), label, tags={"policy": policy} if policy else {}))
    prompt = (Message("user", row.text("prompt")),)
    return Example(row.name(("question_id",)) or "", prompt, tuple(candidates), facets=_facets(row))


def _facets(row: Row) -> dict[str, str]:
    """The categories that the authors report apart: of each that a row is in, `yes`."""
    facets = {name: "yes" for name in CATEGORIES if _flag(row, name)}
    language = row.name(("language",))
    if language is None:
        return facets
    other = {} if language == "English" else {"non_english_prompt": "yes"}
    return {"language": language if language in LANGUAGES else "other", **other, **facets}


def _flag(row: Row, field: str) -> bool:
    value = row.value.get(field)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise row.error(f"expected true or false, got {shown(value)}", field)


TASK = Comparison(
    name="ppe_preference",
    version=1,
    summary="PPE: which of two responses voters of Chatbot Arena preferred (unverified)",
    card="ppe_preference",
    read=read,
    sources=(HubSet("lmarena-ai/PPE-Human-Preference-V1", split="test"),),
    orders="both",
)
