"""IF-RewardBench: which of several responses follow an instruction better (Wen et al., arXiv 2603.04738)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from rmbench.data.conversation import attempt, check_asked
from rmbench.data.dataset import LeftOut
from rmbench.data.messages import read_messages
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import summary
from rmbench.metrics.interval import Statistic, mean
from rmbench.metrics.measure import Make, Unfitted, macro
from rmbench.metrics.named_pairs import verdicts
from rmbench.types import Array, Candidate, Example, Json, Message, Outcome

TYPES = ("Single_Turn", "Multi_Turn", "System_Prompt")
MODELS = {
    "Small": ("MiniCPM4.1-8B", "Qwen3-8B", "GLM-4-9B-0414", "Llama-3.1-Tulu-3.1-8B"),
    "Middle": ("GLM-4.5-Air", "LLama-3.3-70B-Instruct", "GPT-OSS-20B", "Qwen3-32B"),
    "Large": ("Qwen-3-235B-A22B-Instruct-2507", "Kimi-K2", "GLM-4.5", "DeepSeek-R1"),
    "API": ("Gemini-2.5-Pro", "Doubao-1.6-Seed", "GPT-5", "Claude-4.5-Sonnet"),
}
PREFERRED_TO = "preferred_to"  # the tag that holds which others of its example a response is preferred to
_MOST_TURNS, _CONSTRAINTS = 5, (3, 7)
_EXPECTED = (
    "a row of IF-RewardBench has `id`, `instruction_type`, `messages`, `checklist`, `responses` and `preference_graph`"
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """A row: an instruction with its constraints and responses; `met` says of each response which constraints it meets,
    `tags` to which others it is preferred."""

    id: str
    prompt: tuple[Message, ...]
    constraints: tuple[str, ...]
    responses: tuple[str, ...]
    met: tuple[tuple[bool, ...], ...]
    tags: tuple[Mapping[str, Any], ...]
    facets: Mapping[str, str]


def instructions(rows: Iterable[Row]) -> Iterator[Instruction | LeftOut]:
    """What each row says. Ids tell them apart."""
    ids: set[str] = set()
    for row in rows:
        instruction = attempt(row, _instruction)
        if isinstance(instruction, Instruction):
            if instruction.id in ids:
                raise row.error(f"expected an id of its own, got {shown(row.value['id'])} a second time", "id")
            ids.add(instruction.id)
        yield instruction


def _instruction(row: Row) -> Instruction:
    for field in ("id", "instruction_type", "messages", "checklist", "responses", "preference_graph"):
        row.need((field,), _EXPECTED)
    sort = row.text("instruction_type")
    if sort not in TYPES:
        raise row.error(f"expected {', '.join(TYPES)}, got {shown(sort)}", "instruction_type")
    prompt = read_messages(row, "messages", row.value["messages"])
    check_asked(row, prompt)
    constraints, given = tuple(row.texts("checklist")), row.objects("responses", _EXPECTED)
    if len(given) < 2:
        raise row.no_example("fewer than two responses")
    told = [_response(row, one, len(constraints)) for one in given]
    graph = _graph(row, [one.get("response_id") for one in given])
    model = row.name(("response_generation_model",))
    wrote = {} if model is None else {"policy": model}
    facets = {"instruction_type": sort, "turn": _turn(prompt), "constraint_count": _bucket(len(constraints))} | (
        {} if model is None else {"model_type": _size(model)}
    )
    return Instruction(
        row.name(("id",)) or "",
        prompt,
        constraints,
        tuple(text for text, _ in told),
        tuple(met for _, met in told),
        tuple({**wrote, PREFERRED_TO: others} for others in graph),
        facets,
    )


def _response(row: Row, given: Mapping[str, Any], constraints: int) -> tuple[str, tuple[bool, ...]]:
    text, labels = given.get("response"), given.get("labels")
    if not isinstance(text, str):
        raise row.error(f"expected objects with a text `response`, got {shown(text)}", "responses")
    if not isinstance(labels, list) or len(labels) != constraints or any(label not in (0, 1) for label in labels):
        expected = f"expected `labels` of 1 or 0, one for each of {constraints} constraints"
        raise row.error(f"{expected}, got {shown(labels)}", "responses")
    return text, tuple(label == 1 for label in labels)


def _graph(row: Row, ids: Sequence[object]) -> list[list[int]]:
    """Of each response the places of those that it is preferred to, as often as the data say so."""
    places = {str(name): place for place, name in enumerate(ids) if name is not None}
    if len(places) < len(ids):
        raise row.error(f"expected a `response_id` of its own for each response, got {shown(ids)}", "responses")
    preferred: list[list[int]] = [[] for _ in ids]
    for pair in row.objects("preference_graph", _EXPECTED):
        better, worse = (_place(places, pair.get(side)) for side in ("chosen", "rejected"))
        if better is None or worse is None or better == worse:
            expected = "expected `chosen` and `rejected`, the `response_id` of two of the responses in each"
            raise row.error(f"{expected}, got {shown(pair)}", "preference_graph")
        preferred[better].append(worse)
    return preferred


def _place(places: Mapping[str, int], side: object) -> int | None:
    return places.get(str(side.get("response_id"))) if isinstance(side, dict) else None


def _turn(prompt: Sequence[Message]) -> str:
    """How many turns of the user there are, 5 for more."""
    asked = len(prompt) - (prompt[0].role == "system")
    return str(min((asked + 1) // 2, _MOST_TURNS))


def _bucket(constraints: int) -> str:
    few, many = _CONSTRAINTS
    return f"up to {few}" if constraints <= few else f"{many} or more" if constraints >= many else str(constraints)


def _size(model: str) -> str:
    return next((size for size, models in MODELS.items() if model in models), "Unknown")


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row; a response is labelled by the share of constraints that it meets, which need not tell which of
    two is preferred: that stands in its tag."""
    for one in instructions(rows):
        if isinstance(one, LeftOut):
            yield one
            continue
        candidates = tuple(
            Candidate(response, fmean(met), tags=tags)
            for response, met, tags in zip(one.responses, one.met, one.tags, strict=True)
        )
        yield Example(one.id, one.prompt, candidates, facets=one.facets)


def agreement(said: Array) -> tuple[float, float]:
    """Accuracy and tau-b of what is said of preferred pairs: 1, .5 for a tie, or 0; nan where something is not known.

    A tie is a loss in the one; in the other it is in no more than the denominator, which is 1 at least.
    """
    if np.isnan(said).any():
        return math.nan, math.nan
    agreeing, apart = int((said == 1).sum()), int((said == 0).sum())
    pairs = math.sqrt((agreeing + apart) * len(said))
    return agreeing / max(len(said), 1), (agreeing - apart) / max(1.0, pairs)


def ranks(outcomes: Sequence[Outcome], view: str) -> Array:
    """Accuracy and tau-b of each example [n, 2]; nan without an answer to one of its pairs."""
    each = [agreement(verdicts(outcome, view, PREFERRED_TO)) for outcome in outcomes]
    return np.array(each, float).reshape(len(outcomes), 2)


def over_types(name: str, part: Make, title: str, caveat: str) -> Make:
    """How to make the mean of the three types of instructions."""
    parts = [(1.0, {"instruction_type": sort}, part) for sort in TYPES]
    return macro(name, parts, title=f"{title}, mean of three types of instructions",
                 caveat=f"only where all three types are there; {caveat}")  # fmt: skip


def _tau_b(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
    return mean("example_tau_b", ranks(outcomes, view)[:, 1], title="Kendall's tau-b by example", unit="correlation",
                better="higher", bounds=(-1.0, 1.0), caveat="of preferred pairs alone; responses that neither is "
                "preferred to the other ask nothing")  # fmt: skip


def _pair_accuracy(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
    return mean("example_pair_accuracy", ranks(outcomes, view)[:, 0], "fraction", title="Pair accuracy by example",
                unit="share of preferred pairs, ties lost", better="higher", caveat="an example counts alike, whatever "
                "the number of its pairs")  # fmt: skip


_OVERALL = (
    over_types("tau_b", _tau_b, "Kendall's tau-b by example", "0 for a reward that is drawn"),
    over_types("pair_accuracy", _pair_accuracy, "Pair accuracy by example", "1/2 for a reward that is drawn"),
)


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Tau-b and accuracy of preferred pairs, the mean of three types and over examples, then what a comparison has."""
    makes = (*_OVERALL, _tau_b, _pair_accuracy)
    return [*(make(outcomes, view, None) for make in makes), *summary.statistics(outcomes, view)]


def left_out(outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
    """How many examples lack an answer to one of their pairs."""
    unknown = int(np.count_nonzero(np.isnan(ranks(outcomes, view)[:, 0])))
    return {"no answer": unknown} if unknown else {}


def ties(outcomes: Sequence[Outcome], view: str) -> int:
    """How many examples have a tie between responses of which one is preferred."""
    return sum(0.5 in verdicts(outcome, view, PREFERRED_TO) for outcome in outcomes)


TASK = Comparison(
    name="if_rewardbench",
    version=1,
    summary="IF-RewardBench: which responses follow an instruction better: --data if_rewardbench=if_rewardbench.json",
    card="if_rewardbench",
    read=read,
    orders="round_robin",
    measure=Unfitted("preference graph", "tau_b", statistics, left_out, ties),
)
