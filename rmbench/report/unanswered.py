"""The examples to which a model left something unanswered, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rmbench.results.schema import TaskResult
from rmbench.types import Example, Message

MOST = 10


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An example, where in the data it is, its prompt as far as it is known, and how it was left open."""

    example_id: str
    part: str
    prompt: Sequence[Message]
    said: Sequence[str]


@dataclass(frozen=True, slots=True)
class AllUnanswered:
    """How many examples have an answer that is not `ok`, and the first of them."""

    count: int
    first: Sequence[Unanswered]


def unanswered(result: TaskResult, texts: Mapping[str, Example]) -> AllUnanswered:
    """Those with a request that no reward answers, in the order of the records; `texts` has the examples known."""
    opened: dict[str, dict[str, list[str]]] = {}
    for name, place, status, reason in _rows(result):
        if status not in ("ok", "inf", None):  # an infinity is an answer
            said = f"{status}: {reason}" if reason else status
            opened.setdefault(name, {}).setdefault(said, []).append(place)
    columns = (result.records[name].to_pylist() for name in ("example_id", "facets"))
    facets = dict(zip(*columns, strict=True))
    first = []
    for name, reasons in [*opened.items()][:MOST]:
        part = ", ".join(f"{facet}={value}" for facet, value in facets.get(name) or ())
        example = texts.get(name)
        lines = [f"{why} ({_listed(places)})" for why, places in reasons.items()]
        first.append(Unanswered(name, part, example.prompt if example else (), lines))
    return AllUnanswered(len(opened), first)


def _rows(result: TaskResult) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Example, what was asked, status and reason: of comparisons, and of responses asked about by themselves."""
    if result.requests is not None:
        columns = (result.requests[name].to_pylist() for name in ("example_id", "candidates", "status", "reason"))
        for name, candidates, status, reason in zip(*columns, strict=True):
            if len(candidates) > 1:
                yield name, f"candidates {' and '.join(map(str, candidates))}", status, reason
    columns = (result.records[name].to_pylist() for name in ("example_id", "candidate", "status", "reason"))
    for name, candidate, status, reason in zip(*columns, strict=True):
        yield name, f"candidate {candidate}", status, reason


def _listed(places: Sequence[str]) -> str:
    return f"{'; '.join(places[:MOST])}{'; ...' * (len(places) > MOST)}"
