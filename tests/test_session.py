"""A session: members that answer one after the other, fits that are held out by fold, judges, and tasks that fail."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ask_models import score
from cards import Card
from checkpoints import make
from fake_models import Scripted, TinyTokenModel

from rmbench import plugins
from rmbench.checkpoints import opened
from rmbench.cli import show_error
from rmbench.data.dataset import Source, collect
from rmbench.data.part import Part
from rmbench.device import standing_in
from rmbench.errors import DataError, IncompleteRunError, ModelError, UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.models.base import Option, Subject
from rmbench.models.spec import Spec
from rmbench.runs.evaluate import evaluate
from rmbench.scoring import Asking, Session, Store
from rmbench.scoring.combining import FOLDS, fold_of
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

    def load(self, path: Path | None = None, part: Part | None = None) -> Any:
        if not self.examples:
            raise DataError(f"{self.name}: nothing to read")
        return collect(self.examples, [Source(self.name, None, self.name, len(self.examples))], part=part)


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


def test_an_error_of_a_task_of_somebody_s_own_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    class Wrong(Given):
        def outcome(self, *given: Any) -> Any:
            raise KeyError("text")

    made = Wrong("mine", 1, "given examples", "none", read=lambda rows: iter(()))
    object.__setattr__(made, "examples", examples("mine"))
    with pytest.raises(KeyError) as raised:
        evaluate("length", [made])
    show_error(raised.value)
    assert capsys.readouterr().err == "rmbench: error: the task mine: KeyError: 'text'\n"


def test_a_run_that_is_known_loads_no_model(tasks: list[Given]) -> None:
    first = evaluate(AtRest("a"), tasks)
    again = evaluate(AtRest("a"), tasks)
    assert AtRest.loaded == {"a": 1}
    assert [rewards_of(result) for result in first] == [rewards_of(result) for result in again]
    assert again[0].timing.scored == 0
    facts = [result.subject.facts["layout"] for result in (*first, *again)]
    assert set(facts) == {"causal"}, "what only a forward told is kept beside the rewards"
    assert {result.config.run["device"] for result in first} == {"cpu"}
    assert {result.config.run["device"] for result in again} == {None}, "nothing ran"
    assert {result.config.run["threads"] for result in first} == {torch.get_num_threads()}


def test_what_a_lent_module_tells_of_itself_is_not_kept_for_the_next_one(tmp_path: Path) -> None:
    lent = AtRest("a")
    lent.fingerprint = None
    with Store(tmp_path / "s.sqlite") as store:
        with Session(lent, Asking(store)) as session:
            session.ask(placed(1))
            assert session.facts == {"layout": "causal"}
        with Session(lent, Asking(store)) as session:
            assert session.facts == {}
        assert store.count() == 0


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
    with (
        Session(derived, Asking()) as session,
        pytest.raises(UsageError, match="expected --fitted, a result of this model"),
    ):
        session.ask(asked)
    fitted = {"fit": {"whole": [[1.0, 2.0]], "folds": []}, "members": [None]}
    with Session(derived, Asking(fitted=fitted)) as session:
        assert session.ask(asked).rewards[0].value == 1.0


def test_members_that_fail_on_one_task_lose_nothing_of_the_others(tasks: list[Given], tmp_path: Path) -> None:
    def fails(request: Request) -> float:
        if request.prompt[0].text.startswith("second"):
            raise RuntimeError("no more")
        return len(request.responses[0].text or "")

    failing = Standardised(AtRest("a"), Scripted(fails))
    with pytest.raises(IncompleteRunError, match="2 of 3 tasks have results; second: .* failed with RuntimeError"):
        evaluate(failing, tasks, out=tmp_path / "member")

    class Needy(Standardised):
        def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
            if any(question.request.prompt[0].text.startswith("second") for question in questions):
                raise ValueError("cannot be asked")
            return super().needs(questions)

    with pytest.raises(IncompleteRunError, match="2 of 3 tasks have results; second: cannot be asked"):
        evaluate(Needy(AtRest("a"), AtRest("b")), tasks, out=tmp_path / "needs")
    for folder in ("member", "needs"):
        names = sorted(path.name for path in (tmp_path / folder).rglob("*.json"))
        assert names == ["first.json", "third.json"]
    assert AtRest.loaded == {"a": 1, "b": 1}, "filling goes on with the tasks that can be asked"


def test_a_derived_that_asks_too_few_members_is_told_so() -> None:
    class Short(Standardised):
        def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
            return [questions]

    told = pytest.raises(ModelError, match="needs gave 1 lists of questions; expected one for each of 2 members")
    with Session(Short(AtRest("a"), AtRest("b")), Asking()) as session, told:
        session.ask(placed(6))


def test_a_fit_that_cannot_be_held_out_says_so() -> None:
    told = pytest.warns(UserWarning, match="fitted to the data that it is used on: all 4 questions fall into one of 5")
    with Session(Standardised(Scripted(lambda r: 1.0)), Asking()) as session, told:
        fitted = session.ask(placed(4, lambda i: "one")).fitted
    assert (len(fitted["fit"]["whole"]), fitted["fit"]["folds"]) == (1, [])


def test_a_member_that_stands_twice_is_asked_once() -> None:
    asked: list[str | None] = []

    def rate(request: Request) -> float:
        asked.append(request.responses[0].text)
        return float(len(asked))

    member = Scripted(rate)
    with Session(Standardised(member, Standardised(member), member), Asking()) as session:
        session.ask(placed(20))
    assert sorted(asked) == sorted("x" * i for i in range(1, 21))


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
                question.alone(index, "embedding")
                for question in questions
                for index in range(len(question.request.responses))
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


def test_a_comparison_that_is_taken_apart_has_the_place_of_each_response() -> None:
    asked = Question(Request("compare", (), (Response("a"), Response("b"))), Place("d", "e", (3, 1), "c"))
    assert asked.alone(1) == Question(Request("reward", (), (Response("b"),)), Place("d", "e", (1,), "c"))
    assert Question(asked.request).alone(0).place is None


def test_what_a_member_has_no_number_for_is_left_out_of_fit_and_combine() -> None:
    def rate(request: Request) -> Reward | float:
        length = len(request.responses[0].text or "")
        if length % 3 == 0:
            return Reward((math.nan,), status=("refused", "error")[length % 2], detail="too odd")
        return math.nan if length % 5 == 0 else length

    derived = Standardised(Scripted(lambda request: 1.0), Scripted(rate, fingerprint="odd"))
    with Session(derived, Asking()) as session:
        rewards = session.ask(placed(30)).rewards
    due = ["refused" if i % 6 == 0 else "error" if i % 3 == 0 else "nan" if i % 5 == 0 else "ok" for i in range(1, 31)]
    assert [reward.status for reward in rewards] == due
    assert rewards[2].detail == "too odd, by tests/scripted"
    assert derived.fitted_to[0] == {str(i) for i in range(1, 31) if i % 3 and i % 5}
    assert all(math.isnan(reward.value) == (reward.status != "ok") for reward in rewards)


def test_a_derived_that_no_member_has_a_number_for_fits_nothing() -> None:
    derived = Standardised(Scripted(lambda request: math.nan))
    with Session(derived, Asking()) as session:
        answered = session.ask(placed(6))
    assert ([reward.status for reward in answered.rewards], answered.fitted) == (["nan"] * 6, None)
    assert derived.fitted_to == []


def test_a_derived_with_another_number_of_questions_deals_with_it_itself() -> None:
    plain = Scripted(lambda request: math.nan)
    long = Scripted(lambda request: len(request.responses[0].text or ""), fingerprint="long")
    with Session(Gated(plain, long), Asking()) as session:
        assert [reward.status for reward in session.ask(placed(6)).rewards] == ["nan"] * 3 + ["ok"] * 3


def test_a_derived_is_known_no_better_than_its_members_and_uses_what_they_use(tasks: list[Given]) -> None:
    server, verifier = Scripted(lambda request: 1.0, fingerprint="s"), Scripted(lambda request: 2.0, fingerprint="v")
    server.identity, verifier.uses = "named", frozenset({"reference"})
    (result,) = evaluate(Standardised(Standardised(server, verifier)), tasks[:1])
    assert (result.subject.identity, result.subject.may_change) == ("named", True)
    assert result.subject.uses == ["reference"]
    (lent,) = evaluate(Standardised(server, Scripted(lambda request: 1.0, fingerprint=None)), tasks[:1])
    assert (lent.subject.identity, lent.subject.fingerprint) == ("none", None)


def test_what_a_family_raises_is_one_line_with_the_model_s_name() -> None:
    model = TinyTokenModel()
    model.encode = lambda requests: 1 / 0  # type: ignore[method-assign,return-value]
    with pytest.raises(ModelError, match=r"^tests/tiny failed with ZeroDivisionError: division by zero$"):
        score(model, [Request("reward", (), (Response("x"),))])


@pytest.mark.parametrize("fixed", [False, True])
def test_the_first_of_several_devices_reaches_the_members_of_a_derived(
    fixed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: list[Given]
) -> None:
    """`fixed` members are those that a family brings itself, which nobody can hand options to."""
    folder = make(tmp_path / "llama", "llama")
    family = ModuleType("tests_family_standardised")
    family.SOURCE, family.OPTIONS = "none", {"members": Option("what is averaged", default=())}
    family.open = lambda source, options, revision: Standardised(*(options["members"] or [str(folder)]))
    monkeypatch.setitem(sys.modules, family.__name__, family)
    entry, installed = plugins.PluginEntry(plugins.MODELS, "standardised", family.__name__, ""), plugins._installed
    monkeypatch.setattr(plugins, "_installed", lambda group, path: [entry] if group is plugins.MODELS else
                        installed(group, path))  # fmt: skip
    plugins._loaded.cache_clear()
    spec = Spec("standardised", members=() if fixed else (Spec("classifier", str(folder)),))
    asked, pick = list[str | None](), opened.pick_device
    monkeypatch.setattr(opened, "pick_device", lambda device: asked.append(device) or pick(device))
    with standing_in({"cuda:0": Card(2**30), "cuda:1": Card(2**30)}):
        (result,) = evaluate(spec, tasks[:1], devices="1,0")
    assert asked == ["cuda:1"], "the best one is another process's"
    assert result.statuses == {"ok": 24}
    plugins._loaded.cache_clear()


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


def test_two_policies_under_one_template_are_two_judges(tasks: list[Given], tmp_path: Path) -> None:
    first, other = Writes(lambda request: "0"), Writes(lambda request: "0")
    other.fingerprint, other.subject = "other:1", Subject("tests/other", "writes")
    ours, theirs = (evaluate(CritiqueFirst(policy), tasks[:1], out=tmp_path)[0] for policy in (first, other))
    assert (ours.subject.id, theirs.subject.id) == ("tests/critique-first-writes", "tests/critique-first-other")
    assert ours.subject.fingerprint != theirs.subject.fingerprint
    assert theirs.config.model["policy"] == {"id": "tests/other", "fingerprint": "other:1"}
    assert len(list(tmp_path.rglob("first.json"))) == 2
    (named,) = evaluate(CritiqueFirst(other), tasks[:1], name="mine")
    assert named.subject.id == "mine"


@pytest.mark.parametrize(("identity", "fingerprint"), [("named", "api:1"), ("none", None)])
def test_a_judge_is_known_no_better_than_its_policy(identity: str, fingerprint: str | None, tasks: list[Given]) -> None:
    policy = Writes(lambda request: "0")
    policy.identity, policy.fingerprint = identity, fingerprint
    (result,) = evaluate(CritiqueFirst(policy), tasks[:1])
    assert (result.subject.identity, result.subject.may_change) == (identity, True)
    assert (result.subject.fingerprint is None) == (fingerprint is None)


def test_a_verdict_that_cannot_be_parsed_is_an_error_of_its_request_alone() -> None:
    pairs = [Request("compare", (), (Response(text), Response("b"))) for text in ("a", "aa", "aaa")]
    said = {"a": "0", "aa": "the\nfirst", "aaa": "1"}

    def parsed(request: GenerationRequest) -> str:
        text = request.prompt[0].text
        return "a critique" if "criticise" in text else said[text.partition("which of ")[2].partition(" ")[0]]

    rewards = score(CritiqueFirst(Writes(parsed)), pairs)
    assert [reward.status for reward in rewards] == ["ok", "error", "ok"]
    assert (
        rewards[1].detail == "the judge failed with ValueError: invalid literal for int() with base 10: 'the\\nfirst'"
    )


def test_a_template_that_fails_is_an_error_of_its_request_alone() -> None:
    class Fussy(CritiqueFirst):
        def ask(self, request: Request, written: Sequence[Response]) -> Sequence[GenerationRequest]:
            if request.responses[0].text == "":
                raise KeyError("nothing to show")
            return super().ask(request, written)

    pairs = [Request("compare", (), (Response(text), Response("b"))) for text in ("a", "")]
    ok, failed = score(Fussy(Writes(lambda request: "0")), pairs)
    assert (ok.status, failed.status, failed.detail) == (
        "ok", "error", "the judge failed with KeyError: 'nothing to show'"
    )  # fmt: skip
