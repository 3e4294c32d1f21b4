"""The protocols a reward model can have, the options it is loaded with, and what a result says of it.

The session in `rmbench.scoring` tells the kinds apart by their methods:

- `RewardModel` runs its own work (endpoint, callable, rules) and sees requests, never where they come from.
- `TokenModel` says how requests become tokens and how hidden states become rewards; the engine owns the forward.
- `ScoreFile` only looks up what was scored before, by the place of a question, the only kind that sees it.
- `Derived` combines the answers of its members.
- `Judge` says what a policy is to write about a request, and reads the reward off what it wrote.

A family's `open` gives one of them, or, where there are weights to load, what is `Opened`: a model at rest, known
without its weights, that is started only for what nobody has answered.

What a model looks at besides prompt and responses it says in `uses`: a model without the attribute uses nothing else.
How many responses it compares at most, it says in `most`: a model without the attribute compares any number. In which
orders its authors compare, it may say in `orders`; a run that shows others warns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from rmbench.errors import ModelError
from rmbench.types import Ask, GenerationRequest, Json, Question, Request, Response, Reward, Use


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request as one token sequence.

    `ids` is never empty unless `error` says why the request cannot be read; `reads` are the positions in `ids` whose
    hidden states the model wants; `type_ids` are token types where the architecture has them; `cut` is how many
    tokens were truncated away; `ask` is what was asked, and `note` whatever the family needs again in `read`. Of an
    `error`, `refused` says that the request has what this model does not take. `marks` has, by name, the last token
    before each mark, None where it was cut or none stands there. `noted` are short reasons why what the model is shown
    is not quite what was asked, which its reward gets.
    """

    ids: Sequence[int]
    reads: Sequence[int]
    type_ids: Sequence[int] | None = None
    cut: int = 0
    error: str | None = None
    ask: Ask = "reward"
    note: Any = None
    refused: bool = False
    marks: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    noted: tuple[str, ...] = ()


@runtime_checkable
class RewardModel(Protocol):
    """Black box: `rewards` yields (index into `requests`, reward) in any order, each index once.

    One that answers several at once may have `batches(requests)`, which yields lists of these: each list is kept whole.
    """

    answers: frozenset[Ask]

    @property
    def fingerprint(self) -> str | None:
        """None: nothing tells its answers apart from another's, so they are remembered within one call only."""

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]: ...


@runtime_checkable
class TokenModel(Protocol):
    """White box: the engine runs `backbone` and hands back the hidden states that `Encoded.reads` names.

    `backbone` is a torch module that takes `input_ids` [b, t], `attention_mask` [b, t] or None, `token_type_ids`
    where `Encoded` has them, and `use_cache=False` where `layout` is causal; its output has `last_hidden_state`
    [b, t, h]. `read` gets one [len(reads), h] tensor per sequence. Where a class of transformers has all of the model,
    `own(encoded)` may give the reward of a sequence alone by that class, which `rmbench doctor` holds it to.
    """

    answers: frozenset[Ask]
    backbone: Any
    layout: Literal["causal", "encoder"]

    @property
    def fingerprint(self) -> str | None: ...

    def encode(self, requests: Sequence[Request]) -> list[Encoded]: ...

    def read(self, hidden: Sequence[Any], encoded: Sequence[Encoded]) -> list[Reward]: ...


@runtime_checkable
class ScoreFile(Protocol):
    """Rewards that were computed before, joined by place. `lookup` gets all of a task, so it can judge the fit."""

    answers: frozenset[Ask]
    fingerprint: str

    def lookup(self, questions: Sequence[Question]) -> list[Reward]: ...


@runtime_checkable
class Derived(Protocol):
    """A function of other models' answers. Never stored: its members are.

    `members` are specs, or objects in memory. `needs` says what each is asked, question by question. `fit` learns from
    the answers what `combine` needs besides them, JSON-able, or None; it sees no label. It is called on all clusters
    and without each fold of them, every time with answers of members that were fitted alike, and the questions of a
    fold are answered with the fits that did not see them. That it fits, it may say in `fits`: then a lack of fits is
    told before its members are asked, where there are no data of a task. That one of its members knows rewards by their
    place only, it may say in `looks_up`.
    `fingerprint` covers the function and its settings, not the members; it names results.

    Where each member is asked exactly one question for each of the Derived's, about the same place, a question that a
    member has no number for is answered so, and `fit` and `combine` never see it. Else the Derived has to deal with it.
    """

    answers: frozenset[Ask]
    fingerprint: str | None
    members: tuple[Any, ...]

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]: ...

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None: ...

    def combine(
        self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None
    ) -> list[Reward]: ...


@runtime_checkable
class Judge(Protocol):
    """A policy's opinion. Nothing of it is stored but what the policy wrote, so a better parser costs no call.

    `policy` is a spec or an object. `ask` is called with what was written for a request so far, until it asks nothing;
    `verdict` reads the reward off it. What either raises is an error of that request. `fingerprint` covers template and
    parser; a result adds the policy's, as it does a Derived's members'.
    """

    answers: frozenset[Ask]
    fingerprint: str | None
    policy: Any

    def ask(self, request: Request, written: Sequence[Response]) -> Sequence[GenerationRequest]: ...

    def verdict(self, request: Request, written: Sequence[Response]) -> Reward: ...


Model = RewardModel | TokenModel | ScoreFile | Derived | Judge

# What each kind of model has, by the method that tells it
SHAPES: Mapping[str, tuple[str, ...]] = {
    "rewards": ("answers", "fingerprint"),
    "lookup": ("answers", "fingerprint"),
    "combine": ("answers", "fingerprint", "members", "needs", "fit"),
    "encode": ("answers", "fingerprint", "backbone", "layout", "read"),
    "verdict": ("answers", "fingerprint", "policy", "ask"),
    "started": ("answers", "fingerprint", "subject"),
}

Identity = Literal["content", "named", "none"]


@runtime_checkable
class Opened(Protocol):
    """A model at rest. `fingerprint` covers content, options as given, rules and versions, and is known at once.

    It is None where nothing tells its answers from another's: a module that somebody lends. `started` loads the weights
    on `device`, the family's choice where it is None, and gives the model to run, which has `facts`: what only a
    forward tells, JSON-able.
    """

    subject: Subject
    answers: frozenset[Ask]

    @property
    def fingerprint(self) -> str | None: ...

    def started(self, device: str | None = None) -> AbstractContextManager[TokenModel]: ...


def identity_of(model: object) -> Identity:
    """What answers are known again by: content (a checkpoint, a rule), a name whose answers may change, or nothing.

    Answers of the first two are kept in the store, those of an object in memory no longer than one call.
    """
    identity: Identity | None = getattr(model, "identity", None)
    return identity or ("none" if getattr(model, "fingerprint", None) is None else "content")


@dataclass(frozen=True, slots=True)
class Option:
    """An option that a family declares: how its text is read, what it is without one, and what it does.

    `kind` makes the value of a text, and raises ValueError for one that means nothing; `choices` are all there are.
    One that is `of_run` says how a model is run and changes nothing that it answers, so that no fingerprint covers it.
    """

    help: str
    kind: Callable[[str], Any] = str
    default: Any = None
    choices: tuple[str, ...] = ()
    of_run: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """What a result says of a model. `id` is a name (`org/name`), never a path.

    `settings` holds, JSON-able, what the model's rewards depend on besides its weights.
    """

    id: str
    family: str
    revision: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def of_picks(picks: Sequence[int | None], k: int) -> Reward:
    """The reward of k responses of which each sample of a judge named the best, or gave no verdict (None)."""
    counts = [picks.count(place) for place in range(k)]
    most, given = max(counts), sum(counts)
    if not most:
        return Reward((math.nan,) * k, status="refused", detail="no verdict in what was written")
    return Reward(tuple(n / given for n in counts), pick=counts.index(most) if counts.count(most) == 1 else None)


def failed(model: object, error: Exception) -> ModelError:
    """One line for what a model's own code raised: who it is, the exception's class and its first line."""
    return ModelError(f"{subject_of(model).id} failed with {told(error)}")


def told(error: BaseException) -> str:
    """The class of an exception and its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])


def most_of(model: object) -> int | None:
    """How many responses a model compares at most; None: any number."""
    most: int | None = getattr(model, "most", None)
    return most


def uses_of(model: object) -> frozenset[Use]:
    """What a model looks at besides prompt and responses."""
    uses: frozenset[Use] = getattr(model, "uses", frozenset())
    return uses


def subject_of(model: object) -> Subject:
    """The `subject` a model carries, or one made of its type's name for objects that carry none."""
    subject = getattr(model, "subject", None)
    if isinstance(subject, Subject):
        return subject
    kind = type(model)
    return Subject(id=f"{kind.__module__.split('.')[0]}/{kind.__qualname__}", family="object")
