"""Rewards recorded in a file, looked up by example and candidate; `rmbench.data.scorefile` says in which form."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from rmbench.data.dataset import content_id
from rmbench.data.files import file_sha256, read_rows, stem
from rmbench.data.scorefile import NUMBERS, ScoreEntry, read_entries
from rmbench.errors import DataError, UsageError
from rmbench.metrics.aggregate import VIEWS, aggregate
from rmbench.models.base import Option, Subject
from rmbench.types import Ask, Candidate, Example, Question, Request, Response, Reward

OPTIONS: Mapping[str, Option] = {
    "aggregate": Option("What the reward of a response is, made of those of its steps.", choices=tuple(VIEWS)),
}

_MOST_KEPT = 250_000  # answers: of steps about 1 KB each


class Scores:
    """What a file holds, by example id and the candidates shown. `answers` is the one kind of answer that it holds.

    `aggregate` is what makes the rewards of steps one of the response; without it the file knows none.
    """

    def __init__(self, entries: Sequence[ScoreEntry], *, name: str, sha256: str, aggregate: str | None = None) -> None:
        self.fingerprint = f"scores:1:{sha256}" + (f":{aggregate}" if aggregate else "")
        self.subject = Subject(f"scores/{name}", "scores", settings={"aggregate": aggregate} if aggregate else {})
        self._file = entries[0].row.file
        self._entries: dict[tuple[str, tuple[int, ...]], ScoreEntry] = {}
        for entry in entries:
            other = self._entries.setdefault((entry.example_id, entry.candidates), entry)
            if other is not entry:
                raise entry.row.error(
                    f"scores {_place(entry.example_id, entry.candidates)} as row {other.row.number} does"
                )
        # the entry with the highest candidate speaks for its example
        self._examples = {e.example_id: e for e in sorted(entries, key=lambda entry: max(entry.candidates))}
        self.answers = frozenset({self._ask(entries)})
        self._nth = len(self._examples) if entries[0].is_nth else None  # rows, where these stand for examples in turn

    @property
    def count(self) -> int:
        """How many answers it holds."""
        return len(self._entries)

    def lookup(self, questions: Sequence[Question]) -> list[Reward]:
        """The recorded answer to each question, `missing` where there is none.

        A comparison that was recorded in one order only, and is asked about in one order only, is answered whichever
        that is: the win belongs to the candidate. Where both orders are asked about each has to be recorded.

        Raises DataError where no example of the file is asked about, and where the file has other candidates of an
        example, or another number of steps of a candidate, than the data.
        """
        if self._nth is not None:
            questions = self._by_place(questions, self._nth)
        asked = _candidates_asked(questions)
        if not asked.keys() & self._examples.keys():
            of_texts = _by_content(questions)
            if (contents := _candidates_asked(of_texts)).keys() & self._examples.keys():
                questions, asked = of_texts, contents
        if asked and not asked.keys() & self._examples.keys():
            raise DataError(
                f"{self._file}: scores none of the data's examples; it has {next(iter(self._examples))!r}, the data "
                f"{next(iter(asked))!r}; a score file goes with the data it was made from"
            )
        for example_id, candidates in asked.items():
            entry = self._examples.get(example_id)
            if entry and entry.group not in (None, candidates):
                raise entry.row.error(
                    f"scores for {entry.group} candidates; example {example_id} has {candidates}", "score"
                )
            # comparisons may leave the last candidates out, so they do not tell how many there are
            if entry and entry.ask != "compare" and entry.candidates[0] >= candidates:
                raise entry.row.error(
                    f"{entry.candidates[0]}; example {example_id} has {candidates} candidates, 0 to {candidates - 1}",
                    "candidate",
                )
        places = {(place.example, place.candidates) for _, place in questions if place}
        return [self._answer(question, places) for question in questions]

    def _by_place(self, questions: Sequence[Question], rows: int) -> list[Question]:
        """The questions with each example called by its place in the data, as the rows are. Raises DataError."""
        names = dict.fromkeys(place.example for _, place in questions if place)
        if names and len(names) != rows:
            raise DataError(
                f"{self._file}: {rows:,} rows without an id, and the data have {len(names):,} examples; expected a row "
                "for each, in their order"
            )
        numbers = {name: str(number) for number, name in enumerate(names)}
        return [Question(request, place and place._replace(example=numbers[place.example]))
                for request, place in questions]  # fmt: skip

    def _answer(self, question: Question, asked: Set[tuple[str, tuple[int, ...]]]) -> Reward:
        request, place = question
        if place:
            example, shown = place.example, place.candidates
            if entry := self._entries.get((example, shown)):
                _check_steps(entry, question)
                return entry.reward
            turned = (example, shown[::-1])
            if len(shown) == 2 and turned not in asked and (entry := self._entries.get(turned)):
                return replace(entry.reward, values=entry.reward.values[::-1])
        what = _place(place.example, place.candidates) if place else "a request of no example"
        unscored = f"{self._file} does not score {what}"
        return Reward((math.nan,) * len(request.responses), status="missing", detail=unscored)

    @staticmethod
    def _ask(entries: Sequence[ScoreEntry]) -> Ask:
        first = entries[0]
        for entry in entries:
            if (entry.ask == "compare") != (first.ask == "compare"):
                raise entry.row.error(
                    f"holds {entry.ask} answers, row {first.row.number} {first.ask} ones; one kind a file"
                )
        # a candidate whose steps could not be scored stands as a plain, failed reward in rmbench's own records
        return "steps" if any(entry.ask == "steps" for entry in entries) else first.ask


_READ: dict[tuple[str, str, str | None], Scores] = {}  # by path, content and aggregator, the one read last at the end


def open(source: str, options: Mapping[str, Any], revision: str | None) -> Scores:
    """The score file at path `source`, which is read once while several models of a run ask it. Raises DataError."""
    if "://" in source:
        raise UsageError(f"scores:{source}: expected a file of this machine; download it first")
    path = Path(
        source if revision is None else f"{source}@{revision}"
    )  # a file has no revision, its name may have an @
    sha256, name = file_sha256(path), options["aggregate"]
    key = f"{path.resolve()}", sha256, name
    if key not in _READ:
        _keep(key, _read(path, sha256, name))
    return _READ[key]


def _read(path: Path, sha256: str, name: str | None) -> Scores:
    rows = read_rows(path)
    if path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
        rows = (replace(row, value={name: _written(name, text) for name, text in row.value.items()}) for row in rows)
    entries = list(read_entries(rows))
    if not entries:
        raise DataError(f"{path.name}: no scores in it")
    if name is not None:
        entries = _aggregated(entries, name)
    return Scores(entries, name=stem(path), sha256=sha256, aggregate=name)


def _keep(key: tuple[str, str, str | None], read: Scores) -> None:
    """Keeps what was read last, of files that are not too large together."""
    _READ[key] = read
    while len(_READ) > 1 and sum(scores.count for scores in _READ.values()) > _MOST_KEPT:
        del _READ[next(iter(_READ))]


def _written(name: str, text: str) -> Any:
    """What a cell of a table says: in a column of numbers nothing, a number or a list of them, else its text."""
    if name not in NUMBERS:
        return text
    try:
        value = json.loads(text) if text else None
    except ValueError:
        return text
    return value


def _aggregated(entries: Sequence[ScoreEntry], name: str) -> list[ScoreEntry]:
    """The entries, each with the reward that `name` makes of its steps. Raises DataError where there are none."""
    if not any(entry.reward.steps for entry in entries):
        raise DataError(f"{entries[0].row.file}: aggregate={name} of a file without step rewards")
    values = aggregate([entry.reward.steps for entry in entries])[name].tolist()
    return [
        replace(entry, reward=replace(entry.reward, values=(value,))) if entry.reward.steps else entry
        for entry, value in zip(entries, values, strict=True)
    ]


def _by_content(questions: Sequence[Question]) -> list[Question]:
    """The questions with each example called by the hash of its texts, as rows are that have these and no id."""
    requests: dict[str, Request] = {}
    responses: dict[str, dict[int, Response]] = {}
    for request, place in questions:
        if place:
            requests[place.example] = request
            responses.setdefault(place.example, {}).update(zip(place.candidates, request.responses, strict=True))
    names = {}
    for name, request in requests.items():
        candidates = tuple([Candidate(response) for _, response in sorted(responses[name].items())])
        names[name] = content_id(Example("", request.prompt, candidates, request.tools))
    return [Question(request, place and place._replace(example=names[place.example])) for request, place in questions]


def _candidates_asked(questions: Sequence[Question]) -> dict[str, int]:
    """How many candidates each example has, going by the highest one asked about."""
    asked: dict[str, int] = {}
    for _, place in questions:
        if place:
            asked[place.example] = max(asked.get(place.example, 0), 1 + max(place.candidates))
    return asked


def _check_steps(entry: ScoreEntry, question: Question) -> None:
    """Raises DataError where the entry has not one reward for each step of the response, if it has an answer at all."""
    request = question.request
    steps, rewards = request.responses[0].step_count, entry.reward.steps
    if request.ask != "steps" or steps is None or entry.reward.status in ("refused", "error", "missing"):
        return
    if steps != len(rewards):
        raise entry.row.error(
            f"{len(rewards)} step rewards; candidate {entry.candidates[0]} of example {entry.example_id} has "
            f"{steps} step{'s' if steps != 1 else ''}",
            entry.steps_field,
        )


def _place(example_id: str, candidates: tuple[int, ...]) -> str:
    return f"example {example_id}, candidate {' against '.join(str(index) for index in candidates)}"
