"""The rewards of conversations, or of a file of responses as a table, with probabilities by a calibrator."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rmbench.cache import cache_folder
from rmbench.calibration.maps import Kind, probabilities, unlike_fit
from rmbench.checkpoints import notes as noting
from rmbench.data.conversation import Responses
from rmbench.data.steps import in_steps
from rmbench.errors import UsageError
from rmbench.models.base import Derived, Model, Opened, ScoreFile, subject_of
from rmbench.models.spec import Spec, open_model
from rmbench.results import files
from rmbench.results.judged import reason_of
from rmbench.results.schema import Calibration, TaskResult
from rmbench.runs.rows import ResponseRows, joined, rows_of
from rmbench.scoring import Asking, Progress, Session, Store
from rmbench.scoring.usage import busy
from rmbench.types import Array, Json, Message, Question, Request, Response, Reward

PerResponse = Literal["reward", "tokens"]  # what can be asked about one response of which nothing else is known
Conversation = tuple[str, str] | Sequence[Mapping[str, str]]


def score(
    model: str | Spec | Model | Opened | Callable[..., float],
    conversations: Sequence[Conversation],
    *,
    ask: PerResponse = "reward",
    fitted: str | Path | TaskResult | None = None,
    token_budget: int | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> list[Reward]:
    """The reward of each conversation, in order: (prompt, response), or messages that end with the assistant's.

    `model` and `options` are those of `evaluate`; asked for `tokens`, a model that knows them gives a value a token of
    the response as well. What an ensemble or transform fits to data of a task is taken from `fitted`, a result of the
    same model. Rewards are kept in the store. Raises UsageError for a conversation that is neither, for a fit that is
    lacking or of another model, and ModelError for a model that does not answer what is asked.

    >>> import rmbench
    >>> [reward.value for reward in rmbench.score("length", [("What is 2 + 2?", "4"), ("What is 2 + 2?", "four")])]
    [1.0, 4.0]
    """
    questions = [Question(replace(_conversation(item, i), ask=ask)) for i, item in enumerate(conversations)]
    asking = Asking(token_budget=token_budget, progress=progress, fresh=fresh, seed=options.get("seed", 0))
    opened = open_model(model, **options)
    with Store(cache_folder() / "rewards.sqlite") as asking.store, Session(opened, asking) as session:
        if fitted is not None:
            result = fitted if isinstance(fitted, TaskResult) else files.read(Path(fitted))
            _check_owner(result, session, "fitted")
            asking.fitted = _fit_of(result, "fitted")
        return _asked(session, _as_answered(questions, opened))


@dataclass(frozen=True)
class Scored:
    """What one model or several said of the responses of `rows`, in their order: `rewards` by the model's name.

    `columns` are the user's and what was found, one value a response; `failed` counts the rewards that are no finite
    number.
    """

    columns: Mapping[str, Any]
    rows: ResponseRows
    rewards: Mapping[str, Sequence[Reward]]
    failed: int
    notes: Sequence[str]


def score_file(
    models: str | Mapping[str, tuple[str, Mapping[str, Any]]],
    file: Path,
    *,
    ask: PerResponse = "reward",
    calibrator: Path | None = None,
    fitted: Sequence[Path] = (),
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    token_budget: int | None = None,
    fresh: bool = False,
    progress: Callable[[str], Progress] | None = None,
    **options: Any,
) -> Scored:
    """Scores every response of a data file or folder, or of standard input (`-`), which is read before any model is.

    `models` is a spec, whose `options` are those of `load_model`, or several by the name that their columns get, each
    a spec and its own options. Columns are called `reward`, of several models `reward:NAME`. `progress` makes what
    tells how a model of that spec goes. Asked for `tokens`, each has a column of that name too, a list a response.

    `calibrator` is a result file of the same model, whose `probability` is the calibration's: a softmax over the
    different responses to a prompt (a row's own, or those of the rows of one prompt that have one response each), as if
    exactly one were right, or what a reward is worth by itself. The latter is `probability_pooled` beside a softmax.
    `fitted` are result files, each of the one of the models whose fits it has: those of an ensemble or transform.
    Raises DataError, ModelError, ResultError, and UsageError for a calibrator or fits of another model and for those
    that are lacking.
    """
    rows = rows_of(file, columns=columns, skip_bad_rows=skip_bad_rows)
    several = {"": (models, options)} if isinstance(models, str) else models
    if calibrator is not None and len(several) > 1:
        raise UsageError(f"--calibrator {calibrator} is of one model; got {len(several)} of them")
    run = {"token_budget": token_budget, "fresh": fresh}
    fits = _fits(fitted, several, run)
    made: dict[str, Any] = {"example_id": [name for name, _ in rows.places],
                            "candidate": [candidate for _, candidate in rows.places]}  # fmt: skip
    rewards, notes = dict[str, Sequence[Reward]](), _notes_of(rows)
    for name, (spec, own) in several.items():
        of_run = {**run, **{key: own[key] for key in run if key in own}}
        given = {key: value for key, value in own.items() if key not in run}
        said = progress(spec) if progress else None
        with _session(spec, said, given, **of_run) as session:
            calibration = _calibration(calibrator, session) if calibrator else None
            session.asking.fitted = fits.get(name)
            rewards[name] = _asked(session, _as_answered(_questions(rows.read, ask), session.model))
        behind = f":{name}" if len(several) > 1 else ""
        made |= {f"{column}{behind}": values for column, values in _found(rewards[name]).items()}
        notes += [f"{name}: {line}" if behind else line for line in lines_of(rows, rewards[name])]
        if calibration is not None:
            probable, lines = _calibrated(calibration, rows.read, rewards[name])
            made, notes = {**made, **probable}, [*notes, *lines]
    written, moved = joined(rows.own, made)
    failed = sum(reward.status != "ok" for given in rewards.values() for reward in given)
    return Scored(written, rows, rewards, failed, [*notes, *moved])


@contextmanager
def _session(
    spec: str, progress: Progress | None, options: Mapping[str, Any], *, token_budget: int | None, fresh: bool
) -> Iterator[Session]:
    asking = Asking(token_budget=token_budget, progress=progress, fresh=fresh, seed=options.get("seed", 0))
    with busy(progress, "opening"):
        opened = open_model(spec, **options)
    if isinstance(opened, ScoreFile) or getattr(opened, "looks_up", False):
        raise UsageError(
            f"model {spec!r} looks rewards up by example; rmbench run -t TASK takes it, score needs a model"
        )
    with Store(cache_folder() / "rewards.sqlite") as asking.store, Session(opened, asking) as session:
        yield session


def _asked(session: Session, questions: Sequence[Question]) -> list[Reward]:
    """The rewards of questions that no task asks; members of a Derived answer first, each in memory by itself."""
    if isinstance(session.model, Derived):
        session.check_fits(session.asking.fitted)
        session.fill([questions])
    return session.ask(questions).rewards


def _fits(
    given: Sequence[Path], models: Mapping[str, tuple[str, Mapping[str, Any]]], run: Mapping[str, Any]
) -> dict[str, Json]:
    """What results fitted, by the name of the model that each is of. Raises UsageError for one that is of none."""
    prints: dict[str, Session] = {}
    for name, (spec, own) in models.items() if given else ():
        prints[name] = Session(open_model(spec, **{key: own[key] for key in own if key not in run}), Asking())
    fits: dict[str, Json] = {}
    for path in given:
        result = files.read(path)
        owner = next((name for name, one in prints.items() if _is_of(result, one)), None)
        if owner is None:
            _check_owner(result, next(iter(prints.values())), f"--fitted {path}")
        if owner in fits:
            raise UsageError(f"--fitted {path}: another result has fits of {result.subject.id}; expected one a model")
        fits[str(owner)] = _fit_of(result, f"--fitted {path}")
    return fits


def _fit_of(result: TaskResult, told: str) -> Json:
    if result.fitted.model is None:
        raise UsageError(f"{told}: {result.subject.id} fits nothing; expected a result of a model that does")
    return result.fitted.model.model_dump()


def _is_of(result: TaskResult, session: Session) -> bool:
    return session.fingerprint is not None and result.subject.fingerprint == session.fingerprint


def _check_owner(result: TaskResult, session: Session, told: str) -> None:
    """Raises UsageError where what a result fitted is another model's."""
    if not _is_of(result, session):
        name = subject_of(session.model).id
        raise UsageError(f"{told}: it was fitted to {result.subject.id}, as it was loaded then, not to {name}")


def _questions(rows: Sequence[Responses], ask: PerResponse) -> list[Question]:
    return [Question(Request(ask, row.prompt, (one,), row.tools)) for row in rows for one in row.responses]


def _as_answered(questions: Sequence[Question], model: Model | Opened) -> Sequence[Question]:
    """The questions as a model answers them: one that rates steps alone is asked for those, and has its own aggregate.

    A response without steps is taken apart as `split_steps` does.
    """
    if (
        "reward" in model.answers
        or "steps" not in model.answers
        or any(one.request.ask != "reward" for one in questions)
    ):
        return questions
    return [
        Question(replace(request, ask="steps", responses=tuple(map(in_steps, request.responses))))
        for request, _ in questions
    ]


def _notes_of(rows: ResponseRows) -> list[str]:
    """What is odd about the data, whatever a model says of it."""
    empty = [f"{rows.empty:,} of {len(rows.own):,} responses are empty"] if rows.empty else []
    return [*rows.notes, *empty]


def lines_of(rows: ResponseRows, rewards: Sequence[Reward]) -> list[str]:
    """What a run says of its rewards too: which are none and why, how many were cut, what else was noted, and where
    first."""
    lines: dict[tuple[str, str], str] = {}
    times: Counter[tuple[str, str]] = Counter()
    for (name, candidate), reward in zip(rows.places, rewards, strict=True):
        if reward.status == "ok":
            continue
        kind = reason_of(reward)
        times[kind] += 1
        where = f"first at example {name}, candidate {candidate}"
        lines.setdefault(kind, where + (f": {reward.detail}" if reward.detail else ""))
    counted = [f"{times[kind]:,} rewards are {kind[0]}, {line}" for kind, line in lines.items()]
    cut = sum(reward.truncated > 0 for reward in rewards)
    unmade = sum(reward.status == "ok" and math.isnan(reward.value) for reward in rewards)
    return [
        *counted,
        *(
            [f"{unmade:,} of {len(rewards):,} rewards are of steps alone; the option aggregate makes one"]
            if unmade
            else []
        ),
        *([f"{cut:,} of {len(rewards):,} sequences were cut"] if cut else []),
        *noting.lines(noting.counted(rewards), len(rewards)),
    ]


def _found(given: Sequence[Reward]) -> dict[str, Any]:
    """The columns that a model's rewards are; `spread`, `heads`, `tokens` and `noted` only where one has some."""
    import pyarrow as pa

    heads = pa.map_(pa.string(), pa.float64())
    noted = ["; ".join(reward.noted) or None for reward in given]
    heads_of = {"heads": pa.array([[(h, v[0]) for h, v in r.heads.items()] for r in given], heads)}
    tokens = {"tokens": pa.array([list(reward.tokens) for reward in given], pa.list_(pa.float64()))}
    spreads = [None if reward.spread is None else reward.spread[0] for reward in given]
    spread = {"spread": pa.array(spreads, pa.float64())}
    columns = {
        "reward": pa.array([None if math.isnan(r.value) else r.value for r in given], pa.float64()),
        **(spread if any(reward.spread for reward in given) else {}),
        **(heads_of if any(reward.heads for reward in given) else {}),
        **(tokens if any(reward.tokens for reward in given) else {}),
        "status": pa.array([reward.status for reward in given], pa.string()),
        "detail": pa.array([reward.detail for reward in given], pa.string()),
        "n_tokens": pa.array([reward.n_tokens for reward in given], pa.int32()),
        "truncated": pa.array([reward.truncated for reward in given], pa.int32()),
    }
    return columns | ({"noted": pa.array(noted, pa.string())} if any(noted) else {})


def _calibration(path: Path, session: Session) -> Calibration:
    result = files.read(path)
    _check_owner(result, session, f"--calibrator {path}")
    if result.calibration is None:
        raise UsageError(f"--calibrator {path}: the result has no calibration: {result.calibration_reason}")
    if result.calibration.view != "default":
        raise UsageError(
            f"--calibrator {path}: it is of the view {result.calibration.view!r}, not of the reward itself"
        )
    return result.calibration


def _calibrated(
    calibration: Calibration, rows: Sequence[Responses], given: Sequence[Reward]
) -> tuple[dict[str, Any], list[str]]:
    """The columns of probabilities that a calibration gives, and what is to be known of them."""
    pooled: dict[str, Kind] = {"probability_pooled": "pooled"} if calibration.kind == "softmax" else {}
    kinds: dict[str, Kind] = {"probability": calibration.kind, **pooled}
    unlike = unlike_fit(calibration, [len(row.responses) for row in rows])
    columns, notes = dict[str, Any](), [unlike] if unlike else []
    for name, kind in kinds.items():
        chances = _probabilities(calibration, kind, rows, given)
        columns[name] = [None if math.isnan(p) else p for p in chances.tolist()]
        lost = sum(math.isfinite(reward.value) and math.isnan(p) for reward, p in zip(given, chances, strict=True))
        if lost and kind == "softmax":
            notes.append(
                f"{lost:,} rewards have no softmax, which takes two different responses, all with rewards; "
                "`probability_pooled` is what a reward is worth by itself"
            )
    return columns, notes


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
    chances = np.full(len(given), np.nan)
    for group, own in zip(
        groups.values(), probabilities(calibration, [values[f] for f in firsts], kind=kind), strict=True
    ):
        for places, probability in zip(group.values(), own.tolist(), strict=True):
            chances[places] = probability
    return chances


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
