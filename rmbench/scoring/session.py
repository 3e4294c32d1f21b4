"""A session: one model in one run, whatever it is asked, task after task. The only place that decides how a model runs.

What is known already is never asked again, and a model is started only for what nobody knows. Members of a Derived are
sessions of their own: `fill` has them answer one after the other, each started once, however many tasks there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from typing import Any, TypeVar, cast, overload
from uuid import uuid4

from rmbench.device import device_of, ran_on, without_autocast
from rmbench.errors import ModelError, RmbenchError, UsageError
from rmbench.forwards.loop import Hosts, Workers
from rmbench.models.base import (
    Derived,
    Identity,
    Judge,
    Model,
    Opened,
    RewardModel,
    ScoreFile,
    TokenModel,
    identity_of,
    subject_of,
    told,
    uses_of,
)
from rmbench.models.spec import Spec, elsewhere, open_model
from rmbench.policies.base import OpenedPolicy, Policy
from rmbench.policies.spec import open_policy
from rmbench.scoring.answers import checked, from_json, lasts, nans, to_json, with_last
from rmbench.scoring.combining import FOLDS, Answers, Combination, Plain, fold_of, lacks_fit, needed
from rmbench.scoring.explain import Explanation, TaskPlan, explain_forwards
from rmbench.scoring.keys import delivered, lacking, request_keys
from rmbench.scoring.ledger import REPLIES, Codec, Ledger
from rmbench.scoring.sharing import Sharing
from rmbench.scoring.store import Store
from rmbench.scoring.usage import Progress, Usage, busy
from rmbench.scoring.verdicts import StoredVerdicts
from rmbench.scoring.windows import forwards
from rmbench.scoring.writing import Writing
from rmbench.types import GenerationRequest, Json, Question, Request, Response, Reward, Use

_IDENTITIES: tuple[Identity, ...] = ("none", "named", "content")  # the weakest first
_REWARDS = Codec(to_json, from_json, lasts)
_Said = TypeVar("_Said")
_Answers = Generator[list[tuple[bytes, Reward]]]


@dataclass
class Asking:
    """How a run asks, the same for a model and all of its members.

    `device` is the one that models are started on, each family's choice where it is None; `processes` are those of
    other devices, which share the forwards. `fresh` asks again what an earlier run kept. `fitted` is what an earlier
    result fitted, for questions that have no task around them. `seed` deals the folds. `task` is the one whose turn it
    is, None where no run of tasks asks.
    """

    store: Store | None = None
    device: str | None = None
    processes: Hosts | None = None
    token_budget: int | None = None
    progress: Progress | None = None
    usage: Usage = field(default_factory=Usage)
    fresh: bool = False
    seed: int = 0
    fitted: Json | None = None
    task: str | None = None
    _members: list[tuple[object, Session]] = field(default_factory=list, repr=False)

    def session_of(self, member: Any) -> Session:
        """The session of what a Derived stands on, one for all that stand on the same: nobody is asked twice."""
        for opened, session in self._members:
            if opened is member or (isinstance(member, str | Spec) and opened == member):
                return session
        session = Session(open_model(member), self, elsewhere(member))
        self._members.append((member, session))
        return session


@dataclass(frozen=True)
class Answered:
    """One reward per question, in order, and what was fitted for them, JSON-able: None where nothing was."""

    rewards: list[Reward]
    fitted: Json | None = None


class Session:
    """A model, or one at rest, and all that it is asked in one run.

    `spec` and `options` are what other processes open the model by.
    """

    def __init__(
        self,
        model: Model | Opened,
        asking: Asking,
        spec: str | Spec | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.asking = model, asking
        self._spec, self._options = spec, options or {}
        kept = asking.store if identity_of(model) != "none" else None
        self._id = uuid4().hex[:12]
        self._ledger = Ledger(_REWARDS, kept, fresh=asking.fresh)
        self._sharing = Sharing()
        self._running: TokenModel | None = model if isinstance(model, TokenModel) else None
        self._workers: Workers | None = None
        self._ran_on: str | None = None
        self._open = ExitStack()
        members = model.members if isinstance(model, Derived) else ()
        self.members = [asking.session_of(member) for member in members]
        self._verdicts = StoredVerdicts(
            kept if identity_of(model) == "content" else None,
            self._identity,
            lambda: device_of(self._started().backbone),
        )
        self._writing = Writing(open_policy(model.policy), asking) if isinstance(model, Judge) else None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.rest()
        for member in self.members:
            member.rest()

    def rest(self) -> None:
        """Gives back what a started model holds; what it answered stays known."""
        self._open.close()
        self._running = self.model if isinstance(self.model, TokenModel) else None
        self._workers = None
        if self._writing is not None:
            self._writing.rest()

    @property
    def fingerprint(self) -> str | None:
        """A Derived's with its members', a judge's with its policy's: another of them is another result."""
        if not isinstance(self.model, Derived | Judge):
            return self.model.fingerprint
        below = [member.fingerprint for member in self.members]
        parts = [self.model.fingerprint, *below, *([] if self._writing is None else [self._writing.policy.fingerprint])]
        return None if None in parts else sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def identity(self) -> Identity:
        """The weakest of the model's own and those of its members or its policy."""
        below = [member.identity for member in self.members]
        policy = [] if self._writing is None else [identity_of(self._writing.policy)]
        return min(identity_of(self.model), *below, *policy, _IDENTITIES[-1], key=_IDENTITIES.index)

    @property
    def uses(self) -> frozenset[Use]:
        """What the model or one of its members looks at besides prompt and responses."""
        return uses_of(self.model).union(*(member.uses for member in self.members))

    @property
    def policy(self) -> Policy | OpenedPolicy | None:
        """The policy that a judge stands on."""
        return None if self._writing is None else self._writing.policy

    @property
    def devices(self) -> list[str]:
        """What forwards of the model, or of those below it, ran on; nothing where all was known or none are needed."""
        below = [device for member in self.members for device in member.devices]
        return sorted({*below, *([] if self._ran_on is None else [self._ran_on])})

    @property
    def id(self) -> str:
        """12 hex digits that no other session has."""
        return self._id

    @property
    def facts(self) -> Json:
        """What only a forward of the model told, now or when it first ran; {} where none ever ran."""
        if self._running is not None:
            return getattr(self._running, "facts", {})
        store = self.asking.store
        if store is None or not isinstance(self.model, Opened) or self.model.fingerprint is None:
            return {}
        key = self._facts_key()
        return store.get([key]).get(key, {})

    def fill(self, parts: Sequence[Sequence[Question]]) -> None:
        """Has everything answered that `ask` will need for each part, one member after the other, each loaded once.

        A part that fails loses nothing of the others: whoever asks for it is told why.
        """
        needs: list[Sequence[Sequence[Question]]] = []
        for part in parts:
            with suppress(Exception):
                if isinstance(self.model, Derived):
                    needs.append(self._needs(part))
                elif not isinstance(self.model, ScoreFile):  # which is looked up again as fast
                    self.ask(part)
        for place, member in enumerate(self.members):
            member.fill([needed[place] for needed in needs])
            member.rest()

    def ask(self, questions: Sequence[Question]) -> Answered:
        """One reward per question. Raises ModelError where the model cannot answer what is asked."""
        model = self.model
        self._check(questions)
        if isinstance(model, Derived):
            if questions and all(question.place is None for question in questions):
                self.check_fits(self.asking.fitted)
            combination = self._combination(model, questions, self.asking.fitted)
            return Answered(combination.held_out(), combination.fitted())
        if isinstance(model, ScoreFile):
            self.asking.usage.requests += len(questions)
            self.asking.usage.unique += len(questions)
            rewards = model.lookup(questions)
        elif isinstance(model, Judge):
            rewards = self._judged(model, questions)
        else:
            return Answered(with_last(self._known_or_run(questions)))
        return Answered([checked(reward, request) for reward, (request, _) in zip(rewards, questions, strict=True)])

    def explain(self, tasks: Mapping[str, Sequence[Question]]) -> list[Explanation]:
        """What `ask` would run for the questions of each task, by its name, one explanation for each model that
        forwards are run for or that runs its own work.
        """
        model = self.model
        for questions in tasks.values():
            self._check(questions)
        if isinstance(model, Derived):
            needs = {task: self._needs(questions) for task, questions in tasks.items()}
            return [
                explained
                for place, member in enumerate(self.members)
                for explained in member.explain({task: needed[place] for task, needed in needs.items()})
            ]
        runs = isinstance(model, TokenModel | Opened)
        plan = Explanation(subject_of(model).id, reason="it runs its own work", runs_forwards=runs)
        if isinstance(model, ScoreFile | Judge):
            plan.reason = "its scores are looked up" if isinstance(model, ScoreFile) else "its policy writes"
            for task, questions in tasks.items():
                plan.add(task, TaskPlan(_rows(questions), len(questions), 0, 0), 0)
            return [plan]
        parts, before = {}, set[bytes]()
        for task, questions in tasks.items():
            asked = self._asked(questions)
            todo = [(key, place) for place, key in enumerate(asked.todo) if key not in before]
            covered = len(asked.known) + len(asked.todo) - len(todo)
            plan.add(task, TaskPlan(_rows(questions), len(questions), covered, len(todo)), len(asked.known))
            before.update(asked.todo)
            parts[task] = _placed(todo, asked.requests)
        if isinstance(model, TokenModel) or (isinstance(model, Opened) and plan.left):
            explain_forwards(self._started(), parts, self.asking.token_budget, plan, self._verdicts)
            self._verdicts.keep()
        return [plan]

    def _check(self, questions: Sequence[Question]) -> None:
        model = self.model
        for ask in {question.request.ask for question in questions} - model.answers:
            told = ""
            if model.answers == {"compare"}:  # as where one asks for the reward of each response
                told = "; what compares responses is run on tasks of pairs and groups, as rmbench run -t preference"
            raise ModelError(f"{subject_of(model).id} answers {', '.join(sorted(model.answers))}, not {ask}{told}")
        if isinstance(model, ScoreFile | Derived):
            return
        textless = next((q for q in questions for response in q.request.responses if response.messages is None), None)
        if textless:
            example = textless.place.example if textless.place else "?"
            raise ModelError(
                f"{subject_of(model).id} needs the responses' texts, and example {example} comes from a score file "
                "without; give data with texts, or the scores as the model (scores:FILE)"
            )

    def _combination(self, model: Derived, questions: Sequence[Question], given: Json | None) -> Combination:
        """What a Derived makes of its members' answers, each asked once, all that it is asked at once."""
        folds = [fold_of(question, self.asking.seed) for question in questions]
        parts = [[i for i, at in enumerate(folds) if at == fold] for fold in range(FOLDS)]
        needs = [self._needs([questions[i] for i in part]) for part in parts]
        asked = needed(questions, parts, needs, len(self.members))
        answers = [
            member._answers(asked.asked_of(place), None if given is None else given["members"][place])
            for place, member in enumerate(self.members)
        ]
        return Combination(model, asked, answers, given)

    def _answers(self, questions: Sequence[Question], given: Json | None) -> Answers:
        """The answers to all that a member is asked; `given` is what an earlier result fitted for it."""
        if isinstance(self.model, Derived):
            self._check(questions)
            return self._combination(self.model, questions, given)
        return Plain(subject_of(self.model).id, self.ask(questions).rewards)

    def _needs(self, questions: Sequence[Question]) -> Sequence[Sequence[Question]]:
        """What a Derived asks each of its members. Raises ModelError where that is not one list for each."""
        needs = cast(Derived, self.model).needs(questions)
        if len(needs) != len(self.members):
            name, members = subject_of(self.model).id, len(self.members)
            raise ModelError(
                f"{name}: needs gave {len(needs)} lists of questions; expected one for each of {members} members"
            )
        return needs

    def check_fits(self, given: Json | None) -> None:
        """Raises UsageError where it, or a member, says that it `fits`, and an earlier result has not `given` that."""
        if isinstance(self.model, Derived):
            if getattr(self.model, "fits", False) and (given is None or given["fit"] is None):
                raise lacks_fit(self.model)
            for place, member in enumerate(self.members):
                member.check_fits(None if given is None else given["members"][place])

    def _judged(self, judge: Judge, questions: Sequence[Question]) -> list[Reward]:
        """A judge asks its policy until it asks nothing; all requests of a round are written together."""
        assert self._writing is not None  # noqa: S101
        uses = uses_of(judge)
        requests = [delivered(question.request, uses) for question in questions]
        written: list[list[Response]] = [[] for _ in requests]
        lost: dict[int, Reward] = _refused(questions, uses)
        waiting = [i for i in range(len(requests)) if i not in lost]
        while waiting:
            wanted: list[tuple[int, GenerationRequest]] = []
            for i in waiting:
                asked = _said(judge.ask, requests[i], written[i])
                if isinstance(asked, Reward):
                    lost[i] = asked
                else:
                    wanted += [(i, one) for one in asked]
            for (i, _), response in zip(wanted, self._writing.write([one for _, one in wanted]), strict=True):
                if response is None:
                    lost[i] = Reward(nans(requests[i]), status="missing", detail="the policy left it out")
                else:
                    written[i].append(response)
            waiting = [i for i in dict(wanted) if i not in lost]
        return [lost[i] if i in lost else _said(judge.verdict, request, written[i])
                for i, request in enumerate(requests)]  # fmt: skip

    def _known_or_run(self, questions: Sequence[Question]) -> list[Reward]:
        """Runs the distinct requests that nobody has answered, and keeps each answer while the next is made."""
        asked, usage = self._asked(questions), self.asking.usage
        usage.requests += len(questions)
        usage.unique += len(asked.known) + len(asked.todo)
        usage.shared += self._sharing.before(self.asking.task, [*asked.known, *asked.todo])
        usage.stored += len(asked.known)
        usage.scored += len(asked.todo)
        if asked.todo:
            run, window = self._run(asked)
            new = self._ledger.run(run, len(asked.todo), len(asked.known), usage, self.asking.progress, window=window)
            asked.known.update(new)
            self._verdicts.keep()
        return [asked.refused.get(at) or asked.known[key] for at, key in enumerate(asked.keys)]

    def _asked(self, questions: Sequence[Question]) -> _Asked:
        uses, requests = uses_of(self.model), (question.request for question in questions)
        keys = list(request_keys(self._identity(), requests, uses))
        refused = _refused(questions, uses)
        first: dict[bytes, int] = {}
        for at, key in enumerate(keys):
            if at not in refused:
                first.setdefault(key, at)
        # By keys, since the order of a task's requests gives labels away to a model that counts
        ordered = sorted(first)
        answered = self._ledger.known(ordered)
        todo = [key for key in ordered if key not in answered]
        return _Asked(keys, answered, todo, _Delivered(questions, [first[key] for key in todo], uses), refused)

    def _run(self, asked: _Asked) -> tuple[_Answers, float | None]:
        """What answers that are left come from, and the seconds in which they are committed together."""
        if isinstance(self.model, RewardModel):
            # What own code answered is committed before it is asked for more, so that no kill has it asked again
            window = None if identity_of(self.model) == "named" else REPLIES
            return _replies(self.model, asked.todo, asked.requests), window
        model = self._started()
        self._ran_on = ran_on(model.backbone)
        todo = zip(asked.todo, asked.requests, strict=True)
        return forwards(model, todo, self.asking.token_budget, self.asking.usage, self._workers, self._verdicts), 0.0

    def _started(self) -> TokenModel:
        """The model with its weights, loaded the first time they are needed, and its like on the other devices."""
        if self._running is None:
            opened = cast(Opened, self.model)
            self._open.enter_context(without_autocast())
            with busy(self.asking.progress, "loading"):
                self._running = self._open.enter_context(opened.started(self.asking.device))
            facts = getattr(self._running, "facts", None)
            if self.asking.store is not None and facts and opened.fingerprint is not None:
                self.asking.store.put([(self._facts_key(), facts)])
        processes = self.asking.processes
        if processes is not None and self._workers is None:
            if self._spec is None:
                name = subject_of(self.model).id
                raise UsageError(f"devices: each process loads {name} itself; expected it as a spec, not as an object")
            holding = processes.holding(self._spec, self._options, self._running.fingerprint)
            self._workers = self._open.enter_context(holding)
        return self._running

    def _facts_key(self) -> bytes:
        return sha256(f"facts {self._identity()}".encode()).digest()

    def _identity(self) -> str:
        """What a stored answer belongs to. Another transformers may run the same weights in another way."""
        fingerprint = self.model.fingerprint
        if fingerprint is None:
            return json.dumps(asdict(subject_of(self.model)), sort_keys=True)
        runs = isinstance(self.model, TokenModel | Opened)
        return f"{fingerprint} transformers {version('transformers')}" if runs else fingerprint


@dataclass(frozen=True, slots=True)
class _Asked:
    """Questions taken apart: the key of each, what is known, what is left, and what the model cannot be asked."""

    keys: list[bytes]
    known: dict[bytes, Reward]
    todo: list[bytes]
    requests: _Delivered
    refused: dict[int, Reward]


class _Delivered(Sequence[Request]):
    """What reaches a model of the questions at `places`, made when it is looked at, so that nothing is held twice."""

    def __init__(self, questions: Sequence[Question], places: Sequence[int], uses: frozenset[Use]) -> None:
        self._questions, self._places, self._uses = questions, places, uses

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Request: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Request]: ...

    def __getitem__(self, index: int | slice) -> Request | Sequence[Request]:
        if isinstance(index, slice):
            return _Delivered(self._questions, self._places[index], self._uses)
        return delivered(self._questions[self._places[index]].request, self._uses)

    def __iter__(self) -> Iterator[Request]:
        return (delivered(self._questions[place].request, self._uses) for place in self._places)


def _rows(questions: Sequence[Question]) -> int:
    """How many examples questions are about; without a place each is one."""
    return len({at if question.place is None else question.place.example for at, question in enumerate(questions)})


def _placed(todo: Sequence[tuple[bytes, int]], requests: Sequence[Request]) -> Iterator[tuple[bytes, Request]]:
    return ((key, requests[place]) for key, place in todo)


def _said(
    of: Callable[[Request, Sequence[Response]], _Said], request: Request, written: Sequence[Response]
) -> _Said | Reward:
    """What a judge's `ask` or `verdict` gives; an error of this request where it raises."""
    try:
        return of(request, tuple(written))
    except RmbenchError:
        raise
    except Exception as error:
        return Reward(nans(request), status="error", detail=f"the judge failed with {told(error)}")


def _replies(model: RewardModel, keys: Sequence[bytes], asked: Sequence[Request]) -> _Answers:
    """The answers of a model that runs its own work, as it gives them; what it leaves out is missing."""
    name = subject_of(model).id
    answered = bytearray(len(keys))
    batches = getattr(model, "batches", None)
    try:
        for batch in batches(asked) if batches else ([one] for one in model.rewards(asked)):
            for index, _ in batch:
                if not 0 <= index < len(keys) or answered[index]:
                    raise ModelError(f"{name} answered request {index} of {len(keys)} twice or unasked")
                answered[index] = 1
            yield [(keys[index], checked(reward, asked[index])) for index, reward in batch]
    except RmbenchError:
        raise
    except Exception as error:
        raise ModelError(f"{name} failed with {told(error)}; what it scored is kept") from error
    for index, key in enumerate(keys):
        if not answered[index]:
            yield [(key, Reward(nans(asked[index]), status="missing", detail="the model gave no answer"))]


def _refused(questions: Sequence[Question], uses: frozenset[Use]) -> dict[int, Reward]:
    """The places of what a model that `uses` so much cannot be asked, and why."""
    return {
        at: Reward(nans(request), status="refused", detail=f"the example needs {use}, which this model does not take")
        for at, (request, _) in enumerate(questions)
        if (use := lacking(request, uses))
    }
