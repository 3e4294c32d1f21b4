"""The examination of any model: what it answers twice and alone, what its forwards give, what its texts become."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any, cast

from rmbench.checkpoints.fingerprint import first_line
from rmbench.device import out_of_memory, without_autocast
from rmbench.doctor import forwards, texts
from rmbench.doctor.conversations import CONVERSATIONS, ODD, asked_of, odd_requests, requests_of
from rmbench.doctor.findings import CHECKS, Diagnosis, Finding, absent, apart, counted, equal
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Derived, Encoded, Judge, Model, Opened, RewardModel, ScoreFile, TokenModel, subject_of
from rmbench.models.spec import Spec, declared, open_model, spec_of
from rmbench.scoring import Asking, Session
from rmbench.types import Ask, Place, Question, Request, Reward

_DATASET = "doctor"
# What is no fault of a known model whose entry in the table was held to its authors' code
_OF_AUTHORS = ("bos-eos", "thinking", "system-added", "system-kept", "white-space")
_LOOKED_UP = "its scores are looked up"


def diagnose(model: str | Spec | Model | Opened | Callable[..., float], **options: Any) -> Diagnosis:
    """Asks a model, and those that it stands on, what `rmbench doctor -m MODEL` asks: one finding for each check.

    `model` and `options` are those of `evaluate`. Nothing is stored. Raises UsageError for a file of scores, and what
    opening and starting the model raise.

    >>> import rmbench
    >>> diagnosis = rmbench.diagnose("length")
    >>> diagnosis["batch"].verdict, diagnosis["batch"].number, diagnosis.failed
    ('pass', 0.0, [])
    """
    spec = spec_of(model)
    opened = open_model(spec, **options)
    if isinstance(opened, ScoreFile):
        raise UsageError(f"{subject_of(opened).id} looks rewards up by example; expected a model that can be asked")
    return _diagnosis(opened, spec, options)


def _diagnosis(opened: Model | Opened, spec: Spec, options: dict[str, Any]) -> Diagnosis:
    members: tuple[Diagnosis, ...] = ()
    if isinstance(opened, Opened | TokenModel):
        made = {one.check: one for one in _of_tokens(opened, spec, options)}
    else:
        made = {one.check: one for one in _of_answers(opened, spec, options)}
        if isinstance(opened, Derived):
            members = tuple(_diagnosis(open_model(one), spec_of(one), {}) for one in opened.members)
        reason = _without_forwards(opened)
        made |= {check: absent(check, reason) for check in CHECKS if check not in made}
    subject = subject_of(opened)
    return Diagnosis(subject.id, subject.family, tuple(made[check] for check in CHECKS), members)


def _without_forwards(model: Model | Opened) -> str:
    if isinstance(model, ScoreFile):
        return _LOOKED_UP
    if isinstance(model, Derived):
        return "it combines what its members answer"
    return "its policy writes" if isinstance(model, Judge) else "it runs its own work, on texts"


# models that rmbench does not run


def _of_answers(
    model: RewardModel | ScoreFile | Derived | Judge, spec: Spec, options: dict[str, Any]
) -> Iterator[Finding]:
    """`finite`, `deterministic`, `batch` and `dtype`, of what a session gives."""
    if isinstance(model, ScoreFile):
        return
    ask = asked_of(model.answers)
    requests, odd = requests_of(ask), odd_requests(ask)
    questions = [_placed(request, at) for at, request in enumerate([*requests, *odd])]
    count = len(requests)
    with Session(model, Asking()) as session:
        given = session.ask(questions)
    rewards, odds = given.rewards[:count], given.rewards[count:]
    yield _finite(rewards, odds)
    if not any(reward.status == "ok" for reward in rewards):
        yield from (absent(check, "it gave no number") for check in ("deterministic", "batch"))
        return
    with Session(model, Asking()) as session:
        again = session.ask(questions).rewards[:count]
    limit = forwards.PRECISE
    steady = equal("deterministic", again, rewards, limit, f"{count} questions asked twice")
    yield steady
    if given.fitted is not None:
        yield absent("batch", "it fits to all that it is asked")
    elif steady.verdict == "fail":
        yield absent("batch", "it answers otherwise when it is asked again")
    else:
        with Session(model, Asking()) as session:
            singly = [session.ask([question]).rewards[0] for question in questions[:count]]
        yield equal("batch", rewards, singly, limit, f"{count} questions at once against one at a time")
    dtype = str(subject_of(model).settings.get("dtype", "float32"))
    if given.fitted is None:
        yield _drift(spec, options, dtype, rewards, requests)


def _placed(request: Request, at: int) -> Question:
    """With a place, as of a task: what fits to data does so fold by fold."""
    return Question(request, Place(_DATASET, str(at), tuple(range(len(request.responses))), str(at)))


# models whose forwards rmbench runs


def _of_tokens(opened: Model | Opened, spec: Spec, options: dict[str, Any]) -> Iterator[Finding]:
    ask = asked_of(opened.answers)
    requests = requests_of(ask)
    with without_autocast(), _started(opened) as model:
        one, rewards = _answers(model, requests)
        yield _finite(rewards, _answers(model, odd_requests(ask))[1])
        finite = forwards.Alone(model, *_numbers_of(one))
        if finite.encoded:
            yield from forwards.findings(finite)
        else:
            checks = ("deterministic", "batch", "padding", "own-forward", "shared-prefix")
            yield from (absent(check, "it gave no number") for check in checks)
        yield from _of_texts(model, opened, one.encoded)
        dtype = one.dtype
    yield _drift(spec, options, dtype, rewards, requests)


def _answers(model: TokenModel, requests: Sequence[Request]) -> tuple[forwards.Alone, list[Reward]]:
    """What is read by itself, and a reward for each request, that of one that cannot be read without a number."""
    encoded = texts.encoded_of(model, requests)
    one = forwards.alone(model, [item for item in encoded if item.error is None])
    read = iter(one.rewards)
    return one, [next(read) if item.error is None else _unread(item, request)
                 for item, request in zip(encoded, requests, strict=True)]  # fmt: skip


def _unread(one: Encoded, request: Request) -> Reward:
    values = (math.nan,) * len(request.responses)
    return Reward(values, status="refused" if one.refused else "error", detail=one.error)


def _of_texts(model: TokenModel, opened: Model | Opened, readable: Sequence[Any]) -> Iterator[Finding]:
    rendering = getattr(model, "rendering", None)
    if rendering is None or not readable:
        reason = "none of the conversations can be read" if rendering else "it does not say how it writes texts"
        yield from (absent(check, reason) for check in (*texts.CHECKS, "positions", "tokenizer"))
        return
    entry = subject_of(opened).settings.get("known", {})
    for finding in texts.findings(model, rendering):
        meant = entry.get("verified") and finding.check in _OF_AUTHORS and finding.verdict == "fail"
        told = f"as its authors read it ({entry.get('entry')}): {finding.told}"
        yield replace(finding, verdict="pass", told=told) if meant else finding
    yield texts.of_positions(model, rendering, readable[0])
    words = getattr(getattr(opened, "checkpoint", None), "words", None)
    if words is None:
        yield absent("tokenizer", "its tokenizer is in memory")
    else:
        yield texts.of_tokenizer(rendering.tokenizer, words)


def _numbers_of(one: forwards.Alone) -> tuple[list[Any], list[Reward]]:
    kept = [at for at, reward in enumerate(one.rewards) if reward.status == "ok" or reward.vectors]
    return [one.encoded[at] for at in kept], [one.rewards[at] for at in kept]


def _started(opened: Model | Opened) -> AbstractContextManager[TokenModel]:
    return opened.started() if isinstance(opened, Opened) else nullcontext(cast(TokenModel, opened))


def _finite(rewards: Sequence[Reward], odd: Sequence[Reward]) -> Finding:
    lost = [one for one in rewards if one.status != "ok" and not one.vectors]
    wrong = [one for one in lost if one.status != "refused"] if len(lost) < len(rewards) else lost
    odds = [one for one in odd if one.status in ("nan", "inf") and not one.vectors]
    told = f"{len(rewards) - len(lost)} of {len(rewards)} answers are numbers"
    if lost:
        worst = max({one.status for one in lost}, key=[one.status for one in lost].count)
        detail = next((one.detail for one in lost if one.detail), None)
        told += f"; {len(lost)} {worst}" + (f": {detail}" if detail else "")
    told += f"; {len(odds)} of {len(odd)} odd texts ({', '.join(ODD)}) give nan or inf" if odds else ""
    return counted("finite", len(wrong) + len(odds), told if lost or odds else f"{told}, and of odd texts too")


# dtype


def _drift(
    spec: Spec, options: dict[str, Any], dtype: str, rewards: Sequence[Reward], requests: Sequence[Request]
) -> Finding:
    """The model once more in the other dtype: how many pairs it puts in the other order."""
    if spec.members:
        return absent("dtype", "it combines what its members answer, each examined in its own")
    if spec.model is not None or "dtype" not in declared(spec):
        return absent("dtype", f"it is in memory, in {dtype}" if spec.model is not None else "it has no option dtype")
    if not any(one.status == "ok" and not one.vectors for one in rewards):
        return absent("dtype", "it puts no pair in order")
    other = "bfloat16" if dtype in ("float32", "float64") else "float32"
    again = replace(spec, options={**spec.options, **options, "dtype": other})
    try:
        theirs = _asked_again(open_model(again), requests)
    except (ModelError, RuntimeError, MemoryError) as error:
        if not isinstance(error, ModelError) and not out_of_memory(error):
            raise
        return absent("dtype", f"it cannot be run in {other}: {first_line(error)}")
    orders = [_orders(given, requests[0].ask) for given in (rewards, theirs)]
    flips = sum(one != two for one, two in zip(*orders, strict=True))
    off = apart(rewards, theirs)
    told = f"{flips} of {len(CONVERSATIONS)} pairs change their order in {other}; rewards move by up to {off:.1e}"
    return counted("dtype", flips, f"{told} of their scale")


def _asked_again(opened: Model | Opened, requests: Sequence[Request]) -> Sequence[Reward]:
    if isinstance(opened, Opened | TokenModel):
        with without_autocast(), _started(opened) as model:
            return _answers(model, requests)[1]
    with Session(opened, Asking()) as session:
        return session.ask([_placed(request, at) for at, request in enumerate(requests)]).rewards


def _orders(rewards: Sequence[Reward], ask: Ask) -> list[int]:
    """For each pair 1 where the first is better, -1 where the second is, 0 for a tie."""
    values = [*chain.from_iterable(one.values for one in rewards)] if ask == "compare" else [r.value for r in rewards]
    return [(a > b) - (a < b) for a, b in zip(values[::2], values[1::2], strict=True)]
