"""A session: members that answer one after the other, fits that are held out by fold, judges, and tasks that fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ask_models import score
from fake_models import Scripted, TinyTokenModel

from rmbench.data.dataset import Source, collect
from rmbench.errors import DataError, IncompleteRunError, UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.models.base import Subject
from rmbench.runs.evaluate import evaluate
from rmbench.scoring import Asking, Session, Store
from rmbench.scoring.session import FOLDS, fold_of
from rmbench.types import (
    Ask,
    Candidate,
    Example,
    GenerationRequest,
    Json,
    Message,
    Place,
    Question,
    Request,
    Response,
    Reward,
)


class Given(Comparison):
    """A comparison task whose examples are given."""

    def load(self, path: Path | None = None) -> Any:
        if not self.examples:
            raise DataError(f"{self.name}: nothing to read")
        return collect(self.examples, [Source(self.name, None, self.name, len(self.examples))])


def task(name: str, examples: Sequence[Example]) -> Given:
    made = Given(name, 1, "given examples", "none", read=lambda rows: iter(()))
    object.__setattr__(made, "examples", examples)
    return made


def examples(name: str, count: int = 12) -> list[Example]:
    return [
        Example(
            f"{name} {i}",
            (Message("user", f"{name} {i}?"),),
            (Candidate("right " * (i % 5 + 1), True), Candidate("wrong " * (i % 3 + 1), False)),
        )
        for i in range(count)
    ]


@pytest.fixture
def tasks() -> list[Given]:
    return [task(name, examples(name)) for name in ("first", "second", "third")]


class AtRest:
    """A model at rest that counts how often it is loaded, and how many are loaded at once."""

    answers: frozenset[Ask] = frozenset({"reward"})
    loaded: ClassVar[Counter[str]] = Counter()
    at_once = most = 0

    def __init__(self, name: str, factor: float = 1.0) -> None:
        self.fingerprint = name
        self.subject = Subject(f"tests/{name}", "tiny")
        self.factor = factor

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[TinyTokenModel]:
        AtRest.loaded[self.fingerprint] += 1
        AtRest.at_once += 1
        AtRest.most = max(AtRest.most, AtRest.at_once)
        model = TinyTokenModel(["reward"], self.fingerprint)
        model.backbone.table.data *= self.factor
        model.facts = {"layout": "causal"}
        yield model
        AtRest.at_once -= 1


@pytest.fixture(autouse=True)
def _nothing_loaded() -> None:
    AtRest.loaded, AtRest.at_once, AtRest.most = Counter(), 0, 0


class Standardised:
    """A Derived: the mean of its members' rewards, each in SDs about its mean, as far as other folds tell these."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = "standardised:1"
    subject = Subject("tests/standardised", "derived")

    def __init__(self, *members: Any) -> None:
        self.members = members
        self.fitted_to: list[set[str]] = []

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        return [questions for _ in self.members]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        self.fitted_to.append({place.cluster for _, place in questions if place})
        values = [np.array([reward.value for reward in rewards]) for rewards in answers]
        return [[float(some.mean()), float(some.std()) or 1.0] for some in values]

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        scaled = [
            [(reward.value - mean) / sd for reward in rewards]
            for rewards, (mean, sd) in zip(answers, fitted, strict=True)
        ]
        return [Reward((float(np.mean(values)),)) for values in zip(*scaled, strict=True)]


def rewards_of(result: Any) -> list[float]:
    return result.records.column("reward").to_pylist()


# one task at a time


def test_a_task_that_fails_loses_nothing_of_the_others(tmp_path: Path, tasks: list[Given]) -> None:
    broken = task("broken", ())
    with pytest.raises(
        IncompleteRunError, match=r"^2 of 3 tasks have results; broken: broken: nothing to read$"
    ) as told:
        evaluate("length", [tasks[0], broken, tasks[1]], out=tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.json")) == ["first.json", "second.json"]
    assert [result.task.name for result in told.value.results] == ["first", "second"]


def test_results_are_written_as_each_task_ends(tmp_path: Path, tasks: list[Given]) -> None:
    there: list[list[str]] = []

    def slow(prompt: str, response: str) -> float:
        there.append(sorted(path.name for path in tmp_path.rglob("*.json")))
        return float(len(response))

    evaluate(slow, tasks, out=tmp_path)
    assert there[0] == []
    assert there[-1] == ["first.json", "second.json"]


def test_a_task_that_a_model_cannot_answer_fails_alone(tasks: list[Given]) -> None:
    def fails(request: Request) -> float:
        if request.prompt[0].text.startswith("second"):
            raise RuntimeError("no more")
        return 1.0

    with pytest.raises(IncompleteRunError, match="2 of 3 tasks have results; second: .* failed with RuntimeError"):
        evaluate(Scripted(fails), tasks)


def test_a_run_that_is_known_loads_no_model(tasks: list[Given]) -> None:
    first = evaluate(AtRest("a"), tasks)
    again = evaluate(AtRest("a"), tasks)
    assert AtRest.loaded == {"a": 1}
    assert [rewards_of(result) for result in first] == [rewards_of(result) for result in again]
    assert again[0].timing.scored == 0
    facts = [result.subject.facts["layout"] for result in (*first, *again)]
    assert set(facts) == {"causal"}, "what only a forward told is kept beside the rewards"


# Derived


def test_members_are_loaded_once_a_run_and_one_at_a_time(tasks: list[Given]) -> None:
    members = [AtRest(f"m{i}", 1 + i) for i in range(5)]
    evaluate(Standardised(*members), tasks)
    assert AtRest.loaded == {f"m{i}": 1 for i in range(5)}
    assert AtRest.most == 1


def test_a_derived_is_the_same_alone_and_beside_other_tasks(tasks: list[Given]) -> None:
    (alone,) = evaluate(Standardised(AtRest("a"), AtRest("b", 3.0)), tasks[1:2])
    _, beside, _ = evaluate(Standardised(AtRest("a"), AtRest("b", 3.0)), tasks)
    assert rewards_of(alone) == rewards_of(beside)
    assert alone.metric("accuracy") == beside.metric("accuracy")


def placed(count: int, cluster: Any = str) -> list[Question]:
    return [
        Question(Request("reward", (), (Response("x" * i),)), Place("d", str(i), (0,), cluster(i)))
        for i in range(1, count + 1)
    ]


def test_no_fold_is_combined_with_a_fit_that_saw_it() -> None:
    derived, questions = (
        Standardised(Scripted(lambda r: len(r.responses[0].text or ""))),
        placed(120, lambda i: str(i // 2)),
    )
    with Session(derived, Asking(seed=1)) as session:
        answered = session.ask(questions)
    folds = [fold_of(question, 1) for question in questions]
    assert set(folds) == set(range(FOLDS))
    assert all(len({fold for fold, (_, place) in zip(folds, questions, strict=True) if place.cluster == c}) == 1
               for c in {place.cluster for _, place in questions})  # fmt: skip
    whole, *without = derived.fitted_to
    assert whole == {place.cluster for _, place in questions}
    for fold, seen in enumerate(without):
        held = {place.cluster for at, (_, place) in zip(folds, questions, strict=True) if at == fold}
        assert seen == whole - held
    for i, (reward, fold) in enumerate(zip(answered.rewards, folds, strict=True), 1):
        mean, sd = answered.fitted["fit"]["folds"][fold][0]
        assert reward.value == pytest.approx((i - mean) / sd)


def test_a_derived_of_deriveds_is_held_out_by_the_same_folds() -> None:
    inner = Standardised(Scripted(lambda r: len(r.responses[0].text or "")))
    outer = Standardised(inner, Scripted(lambda r: 1.0, fingerprint="one"))
    with Session(outer, Asking()) as session:
        fitted = session.ask(placed(60)).fitted
    assert inner.fitted_to[0] == outer.fitted_to[0]
    assert sorted(map(sorted, inner.fitted_to)) == sorted(map(sorted, outer.fitted_to))
    assert len(fitted["members"][0]["fit"]["folds"]) == FOLDS
    assert fitted["members"][1] is None


def test_without_a_task_the_whole_fit_of_a_result_is_used_and_its_lack_refused() -> None:
    derived, asked = Standardised(Scripted(lambda r: 3.0)), [Question(Request("reward", (), (Response("x"),)))]
    with Session(derived, Asking()) as session, pytest.raises(UsageError, match="expected fitted, a result that did"):
        session.ask(asked)
    fitted = {"fit": {"whole": [[1.0, 2.0]], "folds": []}, "members": [None]}
    with Session(derived, Asking(fitted=fitted)) as session:
        assert session.ask(asked).rewards[0].value == 1.0


class Gated(Standardised):
    """A Derived whose second member is asked about long responses only, and that fits nothing."""

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        return [questions, [one for one in questions if len(one.request.responses[0].text or "") > 3]]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        return None

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        gated = iter(answers[1])
        return [
            next(gated) if len(question.request.responses[0].text or "") > 3 else reward
            for question, reward in zip(questions, answers[0], strict=True)
        ]


def test_a_member_may_be_asked_less_than_its_derived_is() -> None:
    plain, long = Scripted(lambda r: 0.0), Scripted(lambda r: len(r.responses[0].text or ""), fingerprint="long")
    with Session(Gated(plain, long), Asking()) as session:
        answered = session.ask(placed(6))
    assert [reward.value for reward in answered.rewards] == [0, 0, 0, 4, 5, 6]
    assert (len(plain.seen), len(long.seen), answered.fitted) == (6, 3, None)


class Embeds:
    """A RewardModel that answers embeddings: two numbers a response, read apart."""

    answers: frozenset[Ask] = frozenset({"embedding"})
    fingerprint = "embeds:1"
    subject = Subject("tests/embeds", "embeds")

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            vectors = tuple(
                (float(len(one.text or "")), float((one.text or "").count("a"))) for one in request.responses
            )
            yield index, Reward((0.0,) * len(vectors), vectors=vectors)


class GeneralPreference:
    """A Derived as a general preference model is: two embeddings read apart, and a form that turns one to the other."""

    answers: frozenset[Ask] = frozenset({"compare"})
    fingerprint = "general-preference:1"
    subject = Subject("tests/general-preference", "derived")

    def __init__(self, *members: Any) -> None:
        self.members = members

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        return [
            [
                Question(Request("embedding", request.prompt, (response,)), place)
                for request, place in questions
                for response in request.responses
            ]
        ]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        return None

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        vectors = iter(reward.vectors[0] for reward in answers[0])
        rewards = []
        for _ in questions:
            (u0, u1), (v0, v1) = next(vectors), next(vectors)
            win = 1 / (1 + np.exp(-(u0 * v1 - u1 * v0)))
            rewards.append(Reward((float(win), float(1 - win))))
        return rewards


def test_a_comparison_of_two_embeddings_costs_one_of_each(tmp_path: Path, tasks: list[Given]) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        pair = Request("compare", (), (Response("aab"), Response("b")))
        turned = Request("compare", (), (Response("b"), Response("aab")))
        first, second = score(GeneralPreference(Embeds()), [pair, turned], store=store)
        assert store.count() == 2
    assert first.values == pytest.approx(second.values[::-1])
    (result,) = evaluate(GeneralPreference(Embeds()), tasks[:1])
    assert result.metric("accuracy").n == 12


# judges


class Writes:
    """A policy that answers with what a function makes of the request."""

    fingerprint = "writes:1"
    subject = Subject("tests/writes", "writes")

    def __init__(self, text: Any) -> None:
        self.text = text
        self.asked: list[GenerationRequest] = []

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            self.asked.append(request)
            text = self.text(request)
            if text is not None:
                yield index, Response(text)


class CritiqueFirst:
    """A judge that has a critique written, and then the number of the best response."""

    answers: frozenset[Ask] = frozenset({"compare"})
    uses = frozenset({"criteria"})
    fingerprint = "critique-first:1"
    subject = Subject("tests/critique-first", "judge")

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def ask(self, request: Request, written: Sequence[Response]) -> Sequence[GenerationRequest]:
        shown = " | ".join(one.text or "" for one in request.responses)
        rubric = "; ".join(one.text for one in request.criteria)
        match written:
            case ():
                return [GenerationRequest((Message("user", f"{rubric}: criticise {shown}"),))]
            case (critique,):
                return [GenerationRequest((Message("user", f"{critique.text} which of {shown}?"),))]
            case _:
                return []

    def verdict(self, request: Request, written: Sequence[Response]) -> Reward:
        pick = int(written[-1].text or "0")
        return Reward(tuple(float(i == pick) for i in range(len(request.responses))), pick=pick)


def test_a_judge_is_called_until_it_asks_nothing_and_its_policy_s_texts_are_kept(tmp_path: Path) -> None:
    def writes(request: GenerationRequest) -> str:
        text = request.prompt[0].text
        return "a critique" if "criticise" in text else str(max(range(3), key=lambda i: text.split("|")[i].count("x")))

    policy = Writes(writes)
    request = Request("compare", (), tuple(Response(text) for text in ("x", "xxx", "xx")))
    with Store(tmp_path / "s.sqlite") as store:
        (reward,) = score(CritiqueFirst(policy), [request], store=store)
        assert (reward.pick, reward.values) == (1, (0.0, 1.0, 0.0))
        assert (len(policy.asked), store.count()) == (2, 2)
        score(CritiqueFirst(policy), [request], store=store)
        assert len(policy.asked) == 2, "a better parser costs no call"


def test_a_judge_whose_policy_leaves_one_out_has_no_verdict_there() -> None:
    request = Request("compare", (), (Response("a"), Response("b")))
    (reward,) = score(CritiqueFirst(Writes(lambda request: None)), [request])
    assert (reward.status, reward.detail) == ("missing", "the policy left it out")
