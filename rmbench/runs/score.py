"""The rewards of conversations, or of a file of responses as a table, with probabilities by a calibrator."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rmbench.cache import cache_folder
from rmbench.calibration.maps import Kind, probabilities, unlike_fit
from rmbench.data.conversation import Responses, read_responses
from rmbench.data.files import read_rows
from rmbench.errors import UsageError
from rmbench.models.base import Model, Opened, ScoreFile, subject_of
from rmbench.models.spec import Spec, open_model
from rmbench.results import files
from rmbench.results.schema import Calibration
from rmbench.scoring import Asking, Progress, Session, Store
from rmbench.types import Array, Message, Question, Request, Response, Reward

if TYPE_CHECKING:
    import pyarrow as pa


Conversation = tuple[str, str] | Sequence[Mapping[str, str]]


def score(
    model: str | Spec | Model | Opened | Callable[..., float],
    conversations: Sequence[Conversation],
    *,
    token_budget: int | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> list[Reward]:
    """The reward of each conversation, in order: (prompt, response), or messages that end with the assistant's.

    `model` and `options` are those of `evaluate`. Rewards are kept in the store. Raises UsageError for a conversation
    that is neither.

    >>> import rmbench
    >>> [reward.value for reward in rmbench.score("length", [("What is 2 + 2?", "4"), ("What is 2 + 2?", "four")])]
    [1.0, 4.0]
    """
    questions = [Question(_conversation(item, place)) for place, item in enumerate(conversations)]
    asking = Asking(token_budget=token_budget, progress=progress, fresh=fresh, seed=options.get("seed", 0))
    opened = open_model(model, **options)
    with Store(cache_folder() / "rewards.sqlite") as asking.store, Session(opened, asking) as session:
        return session.ask(questions).rewards


@dataclass(frozen=True)
class Scored:
    """`table` has one row a response of `rows`, in their order; `failed` counts those without a finite reward."""

    table: pa.Table
    rows: Sequence[Responses]
    failed: int
    notes: Sequence[str]

    @property
    def prompts(self) -> int:
        """How many different prompts there are."""
        return len({row.prompt for row in self.rows})


def score_file(
    model: str,
    file: Path,
    *,
    calibrator: Path | None = None,
    token_budget: int | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Scored:
    """Scores every response of a data file or folder; `options` are those of `load_model`.

    `calibrator` is a result file of the same model, whose `probability` is the calibration's: a softmax over the
    different responses to a prompt (a row's own, or those of the rows of one prompt that have one response each), as if
    exactly one were right, or what a reward is worth by itself. The latter is `probability_pooled` beside a softmax.
    Raises DataError, ModelError, ResultError, and UsageError for a calibrator of another
    model or without calibration.
    """
    opened = open_model(model, **options)
    if isinstance(opened, ScoreFile):
        raise UsageError(
            f"model {model!r} looks rewards up by example; rmbench run -t TASK takes it, score needs a model"
        )
    rows = _distinct([read_responses(row) for row in read_rows(file)])
    requests = [Request("reward", row.prompt, (one,), row.tools) for row in rows for one in row.responses]
    questions = [Question(request) for request in requests]
    asking = Asking(token_budget=token_budget, progress=progress, fresh=fresh, seed=options.get("seed", 0))
    with Store(cache_folder() / "rewards.sqlite") as asking.store, Session(opened, asking) as session:
        calibration = _calibration(calibrator, session) if calibrator else None
        given = session.ask(questions).rewards
    statuses = Counter(reward.status for reward in given if reward.status != "ok")
    notes = [f"{count:,} rewards are {status}" for status, count in statuses.items()]
    table = _table(rows, given)
    if calibration is not None:
        notes += filter(None, [unlike_fit(calibration, [len(row.responses) for row in rows])])
        for name, kind in _columns(calibration).items():
            known = _probabilities(calibration, kind, rows, given)
            table = table.append_column(name, [[None if math.isnan(p) else p for p in known.tolist()]])
            lost = sum(math.isfinite(reward.value) and math.isnan(p) for reward, p in zip(given, known, strict=True))
            if lost and kind == "softmax":
                notes.append(
                    f"{lost:,} rewards have no softmax, which takes two different responses, all with rewards; "
                    "`probability_pooled` is what a reward is worth by itself"
                )
    return Scored(table, rows, statuses.total(), notes)


def _distinct(rows: Sequence[Responses]) -> list[Responses]:
    """The rows, an id that stood before with `#2`, `#3`, ... behind it."""
    times: Counter[str] = Counter()
    found = []
    for row in rows:
        times[row.id] += 1
        found.append(row if times[row.id] == 1 else replace(row, id=f"{row.id}#{times[row.id]}"))
    return found


def _calibration(path: Path, session: Session) -> Calibration:
    result = files.read(path)
    if session.fingerprint is None or result.subject.fingerprint != session.fingerprint:
        name = subject_of(session.model).id
        raise UsageError(
            f"--calibrator {path}: it was fitted to {result.subject.id}, as it was loaded then, not to {name}"
        )
    if result.calibration is None:
        raise UsageError(f"--calibrator {path}: the result has no calibration: {result.calibration_reason}")
    if result.calibration.view != "default":
        raise UsageError(
            f"--calibrator {path}: it is of the view {result.calibration.view!r}, not of the reward itself"
        )
    return result.calibration


def _table(rows: Sequence[Responses], given: Sequence[Reward]) -> pa.Table:
    import pyarrow as pa

    places = [(row.id, candidate) for row in rows for candidate in range(len(row.texts))]
    heads = pa.map_(pa.string(), pa.float64())
    return pa.table(
        {
            "example_id": pa.array([name for name, _ in places], pa.string()),
            "candidate": pa.array([candidate for _, candidate in places], pa.int32()),
            "reward": pa.array([None if math.isnan(r.value) else r.value for r in given], pa.float64()),
            "heads": pa.array([[(h, v[0]) for h, v in r.heads.items()] for r in given], heads),
            "status": pa.array([reward.status for reward in given], pa.string()),
            "n_tokens": pa.array([reward.n_tokens for reward in given], pa.int32()),
            "truncated": pa.array([reward.truncated for reward in given], pa.int32()),
        }
    )


def _columns(calibration: Calibration) -> dict[str, Kind]:
    """The columns of probabilities that a calibration gives."""
    pooled: dict[str, Kind] = {"probability_pooled": "pooled"} if calibration.kind == "softmax" else {}
    return {"probability": calibration.kind, **pooled}


def _probabilities(calibration: Calibration, kind: Kind, rows: Sequence[Responses], given: Sequence[Reward]) -> Array:
    """One probability a response, nan where there is none; the same response of a prompt counts once."""
    groups: dict[object, dict[str, list[int]]] = {}
    place = 0
    for number, row in enumerate(rows):
        group = groups.setdefault(row.prompt if len(row.texts) == 1 else number, {})
        for text in row.texts:
            group.setdefault(text, []).append(place)
            place += 1
    firsts = [[places[0] for places in group.values()] for group in groups.values()]
    values = np.array([reward.value for reward in given], float)
    known = np.full(len(given), np.nan)
    for group, found in zip(
        groups.values(), probabilities(calibration, [values[f] for f in firsts], kind=kind), strict=True
    ):
        for places, probability in zip(group.values(), found.tolist(), strict=True):
            known[places] = probability
    return known


def _conversation(item: Conversation, place: int) -> Request:
    if isinstance(item, tuple) and len(item) == 2 and all(isinstance(text, str) for text in item):
        item = [{"role": "user", "content": str(item[0])}, {"role": "assistant", "content": str(item[1])}]
    if isinstance(item, str) or not all(isinstance(message, Mapping) for message in item):
        raise UsageError(f"conversation {place}: expected (prompt, response) or messages with role and content")
    messages = [_message(message, f"conversation {place}, message {number}") for number, message in enumerate(item)]
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise UsageError(f"conversation {place}: its last message must be the assistant's, after at least one other")
    return Request("reward", tuple(messages[:-1]), (Response(messages[-1].text),))


def _message(message: Any, place: str) -> Message:
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise UsageError(
            f"{place}: expected content, a text, and role, one of system, user, assistant; got {message!r:.80}"
        )
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{place}: a lone surrogate at character {error.start} is no text") from error
    return Message(role, content)
