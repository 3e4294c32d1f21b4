"""Ensembles equal numpy, fit nothing that they are used on, and say in one line what they cannot be made of."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import Scripted
from given import given, judged, pair

from rmbench.errors import ModelError, RmbenchError, UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import ensembles, pick
from rmbench.models.spec import load_model, open_model
from rmbench.runs.evaluate import evaluate, explain
from rmbench.scoring import Asking, Session
from rmbench.scoring.combining import FOLDS, fold_of
from rmbench.types import Message, Place, Question, Request, Response, Reward

RNG = np.random.default_rng(5)
REWARDS = RNG.normal(size=(3, 40)) * [[1.0], [2.0], [0.5]] + [[0.0], [1.0], [-1.0]]


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def by_loop(rewards: Any, thresholds: Sequence[float]) -> list[float]:
    """Gated accumulation, response by response."""
    made = []
    for one in rewards.T:
        total = one[0]
        for at, threshold in enumerate(thresholds):
            if one[at] < threshold:
                break
            total += one[at + 1]
        made.append(total)
    return made


# what is made of rewards, against numpy


EXPECTED: dict[str, Any] = {
    "how=mean": REWARDS.sum(0) / 3,
    "how=median": np.sort(REWARDS, axis=0)[1],
    "how=min": np.sort(REWARDS, axis=0)[0],
    "how=uwo": REWARDS.mean(0) - 0.5 * ((REWARDS - REWARDS.mean(0)) ** 2).sum(0) / 3,
    "how=uwo&lambda=2": REWARDS.mean(0) - 2 * ((REWARDS - REWARDS.mean(0)) ** 2).sum(0) / 3,
    "how=lower": REWARDS.mean(0) - REWARDS.std(0),
    "how=lower&k=.5": REWARDS.mean(0) - 0.5 * REWARDS.std(0),
    "how=and": np.log(logistic(REWARDS)).sum(0),
    "how=sum": REWARDS.sum(0),
    "how=sum&weights=1,-2,.5": REWARDS[0] - 2 * REWARDS[1] + 0.5 * REWARDS[2],
    "how=constrained&low=-1,-inf,-1&high=1,2,0": (
        np.minimum(np.maximum(REWARDS[0], -1), 1) + np.minimum(REWARDS[1], 2) + np.clip(REWARDS[2], -1, 0)
    ),
    "how=constrained&high=0,0,0": np.minimum(REWARDS, 0).sum(0),
    "how=gated&thresholds=0,1": by_loop(REWARDS, [0, 1]),
}


def members(rewards: Any) -> list[Any]:
    """A model a row, which finds its rewards by the number that a response is."""
    return [
        Scripted(lambda request, row=row: float(row[int(request.responses[0].text or 0)]), fingerprint=f"m{at}")
        for at, row in enumerate(rewards)
    ]


def named(rewards: Any, names: str = "abc") -> list[Any]:
    from rmbench.models.base import Subject

    made = members(rewards)
    for one, name in zip(made, names, strict=True):
        one.subject = Subject(f"tests/{name}", "scripted")
    return made


def placed(count: int, each: int = 2) -> list[Question]:
    """So many prompts of `each` responses, which are numbered through."""
    return [
        Question(
            Request("reward", (Message("user", f"prompt {at // each}"),), (Response(str(at)),)),
            Place("d", str(at // each), (at % each,), str(at // each)),
        )
        for at in range(count * each)
    ]


def options_of(word: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in word.split("&"))


def ask(model: Any, questions: Sequence[Question], **asking: Any) -> tuple[list[Reward], Any]:
    with Session(model, Asking(**asking)) as session:
        answered = session.ask(questions)
    return answered.rewards, answered.fitted


@pytest.mark.filterwarnings("ignore:.*on different scales")
@pytest.mark.parametrize("word", EXPECTED)
def test_an_ensemble_equals_numpy(word: str) -> None:
    model = open_model("ensemble", members=named(REWARDS), **options_of(word))
    rewards, fitted = ask(model, placed(20))
    assert fitted is None
    np.testing.assert_allclose([reward.value for reward in rewards], EXPECTED[word], atol=1e-12)
    np.testing.assert_allclose([reward.spread for reward in rewards], REWARDS.std(0)[:, None], atol=1e-12)
    for name, row in zip("abc", REWARDS, strict=True):
        assert [reward.heads[name] for reward in rewards] == [(value,) for value in row]


def test_z_scores_are_fitted_without_the_fold_that_they_are_used_on() -> None:
    questions = placed(20)
    model: Any = open_model("ensemble", members=named(REWARDS), how="uwo", scale="z")
    rewards, fitted = ask(model, questions)
    folds = np.array([fold_of(question, 0) for question in questions])
    assert len(set(folds)) == FOLDS
    scaled = np.empty_like(REWARDS)
    for fold in range(FOLDS):
        rest = REWARDS[:, folds != fold]
        scaled[:, folds == fold] = (REWARDS[:, folds == fold] - rest.mean(1)[:, None]) / rest.std(1)[:, None]
    np.testing.assert_allclose([one.value for one in rewards], scaled.mean(0) - 0.5 * scaled.var(0), atol=1e-12)
    np.testing.assert_allclose([one.spread for one in rewards], scaled.std(0)[:, None], atol=1e-12)
    assert [one.heads["b"][0] for one in rewards] == REWARDS[1].tolist(), "a view of a member is the member's own"
    due = {"member": "b", "mean": pytest.approx(REWARDS[1].mean()), "sd": pytest.approx(REWARDS[1].std())}
    assert fitted["fit"]["whole"][1] == due
    json.dumps(fitted)


def test_what_a_fold_holds_moves_nothing_of_its_own_fit() -> None:
    """Fails where the fit sees its own fold: then one moved reward moves those beside it."""
    questions = placed(20)
    moved = REWARDS.copy()
    moved[0, 11] += 100.0
    model: Any = {"how": "mean", "scale": "z"}
    plain, other = (
        [one.value for one in ask(open_model("ensemble", members=named(rewards), **model), questions)[0]]
        for rewards in (REWARDS, moved)
    )
    folds = [fold_of(question, 0) for question in questions]
    beside = [at for at in range(40) if folds[at] == folds[11] and at != 11]
    assert len(beside) > 3
    assert [plain[at] for at in beside] == [other[at] for at in beside]
    assert all(plain[at] != other[at] for at in range(40) if folds[at] != folds[11])


@pytest.mark.parametrize("scale", ["raw", "z"])
def test_neither_the_order_of_questions_nor_what_is_asked_beside_decides(scale: str) -> None:
    questions = placed(20)
    shuffled = [questions[at] for at in RNG.permutation(40)]
    first, second = (
        ask(open_model("ensemble", members=named(REWARDS), scale=scale), asked)[0] for asked in (questions, shuffled)
    )
    by_text = {question.request.responses[0].text: reward for question, reward in zip(shuffled, second, strict=True)}
    assert [by_text[question.request.responses[0].text] for question in questions] == first


def test_scales_are_the_same_to_the_bit_in_any_order() -> None:
    values = RNG.normal(size=1000) * 1e6
    assert ensembles.scale_of(values) == ensembles.scale_of(values[RNG.permutation(1000)])
    assert ensembles.scale_of(values) == pytest.approx((values.mean(), values.std()))


def test_a_gate_that_is_reached_exactly_is_open_and_a_closed_one_stays_closed() -> None:
    rewards = np.array([[1.0, 0.9, 1.0], [5.0, 5.0, -1.0], [7.0, 7.0, 7.0]])
    assert ensembles.gated(rewards, [1.0, 0.0]).tolist() == [13.0, 0.9, 0.0]


# names


def test_two_members_of_one_name_are_told_apart() -> None:
    same: Any = open_model("ensemble:random?seed=1,random?seed=2,r=random?seed=3?how=min")
    assert [member.name for member in same.looked] == ["rmbench/random", "rmbench/random-2", "r"]
    apart: Any = open_model("ensemble:a=random?seed=1,b=random?seed=2?how=mean")
    assert ([member.name for member in apart.looked], apart.subject.id) == (["a", "b"], "ensemble/mean-a-b")
    with pytest.raises(UsageError, match="a member is called verdict, which means something else"):
        open_model("ensemble:verdict=length,random")


def test_long_ids_are_hashed_and_nothing_of_a_path_is_in_what_is_stated(tmp_path: Path) -> None:
    files = []
    for at in range(6):
        files.append(tmp_path / f"a_rather_long_name_of_scores_{at}.json")
        files[-1].write_text(json.dumps([{"example_id": "1", "candidate": 0, "reward": 1.0 + at}]))
    model: Any = open_model("ensemble:" + ",".join(f"scores:{file}" for file in files))
    assert model.subject.id.startswith("ensemble/mean-of-6-")
    assert str(tmp_path) not in repr(model.subject) + model.fingerprint


def test_every_setting_and_every_member_is_in_the_fingerprint() -> None:
    words = ("ensemble:length,random", "ensemble:random,length", "ensemble:length,random?scale=z",
             "ensemble:length,random?how=uwo", "ensemble:length,random?how=uwo&lambda=1")  # fmt: skip
    prints = set()
    for word in (*words, "ensemble:length,random?seed=2"):
        with Session(open_model(word), Asking()) as session:
            prints.add(session.fingerprint)
    assert len(prints) == len(words) + 1
    named_ = [open_model(word).fingerprint for word in ("ensemble:a=length,random", "mine=ensemble:length,random")]
    assert named_ == [open_model("ensemble:length,random").fingerprint] * 2, "what it is called is not what it is"


# what has no number


def test_what_a_member_has_no_finite_number_for_has_none_and_says_whose_it_is() -> None:
    rewards = REWARDS.copy()
    rewards[1, 3], rewards[2, 5], rewards[0, 7] = math.nan, math.inf, -math.inf
    questions = placed(20)
    for options in ({"how": "mean"}, {"how": "mean", "scale": "z"}):
        made, fitted = ask(open_model("ensemble", members=named(rewards), **options), questions)
        assert [(at, one.status) for at, one in enumerate(made) if one.status != "ok"] == [
            (3, "nan"), (5, "inf"), (7, "inf"),
        ]  # fmt: skip
        assert made[3].detail == "no number, by tests/b"
        assert (made[5].value, made[5].detail) == (math.inf, "no finite number, by tests/c")
        assert made[7].value == -math.inf
    kept = np.isfinite(rewards[1])
    kept[[3]] = False
    assert fitted["fit"]["whole"][1]["mean"] == pytest.approx(rewards[1][kept].mean())


def test_a_constant_member_has_no_z_score() -> None:
    rewards = REWARDS.copy()
    rewards[1] = 0.5
    model = open_model("ensemble", members=named(rewards), scale="z")
    with pytest.raises(ModelError, match="tests/b: all 40 rewards that a z-score is fitted to are 0.5; expected some"):
        ask(model, placed(20))


@pytest.mark.parametrize("how", ["min", "median", "uwo", "lower"])
def test_members_on_different_scales_are_told_of_once_with_the_figures(how: str) -> None:
    model = open_model("ensemble", members=named(REWARDS * [[1.0], [100.0], [1.0]]), how=how)
    said = r"from an SD of 0\.\d+ \(c\) to \d+ \(b\), and how=.* takes them as they are; scale=z makes"
    with pytest.warns(UserWarning, match=said):
        ask(model, placed(20))
    ask(model, placed(20))  # where a warning is an error


@pytest.mark.parametrize("options", [{"how": "mean"}, {"how": "min", "scale": "z"}, {"how": "sum"}])
def test_where_scales_do_not_decide_nothing_is_told(options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(open_model("ensemble", members=named(REWARDS * [[1.0], [100.0], [1.0]]), **options), placed(20))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("ensemble:length", "ensemble: one member; expected two or more, as ensemble:A,B?how=mean"),
        ("ensemble", "ensemble: no members; expected two or more"),
        ("ensemble:(length,random", "member '(length,random' has a bracket open; expected one ) for each ("),
        ("ensemble:length,length", "ensemble: member length stands twice; expected each once"),
        ("ensemble:length,random?how=most", "how='most' of family 'ensemble': expected one of mean, median, min"),
        ("ensemble:length,random?how=gated", "gated: no thresholds; expected 1 number, one for each member but the"),
        ("ensemble:length,random?how=gated&thresholds=1,2", "thresholds=1,2: 2 numbers; expected 1, one for each"),
        ("ensemble:length,random?how=gated&thresholds=x", "thresholds='x' of family 'ensemble': expected numbers"),
        ("ensemble:length,random?how=gated&thresholds=nan", "thresholds='nan' of family 'ensemble': expected numbers"),
        ("ensemble:length,random?how=sum&weights=1", "weights=1: 1 number; expected 2, one for each member"),
        ("ensemble:length,random?weights=1,2", "weights=(1.0, 2.0): it is of how=sum, and how is mean"),
        ("ensemble:length,random?how=uwo&k=1", "k=1.0: it is of how=lower, and how is uwo"),
        ("ensemble:length,random?how=uwo&lambda=-1", "lambda=-1.0: expected a number from 0"),
        ("ensemble:length,random?how=constrained", "constrained: neither low nor high; expected 2 numbers"),
        ("ensemble:length,random?how=constrained&low=0,1&high=1,0", "low=1.0 is above high=0.0, of member 2"),
        ("ensemble:length,random?howw=min", "unknown option 'howw' of family 'ensemble' (did you mean 'how'?)"),
    ],
)
def test_what_cannot_be_is_one_line(word: str, message: str) -> None:
    with pytest.raises(RmbenchError) as error:
        load_model(word)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_members_that_answer_other_things_are_refused_or_asked_for_their_steps(tmp_path: Path) -> None:
    compares = Scripted(lambda request: 0.5, answers=("compare",))
    told = "tests/scripted compares responses; expected a member that gives each response a reward"
    with pytest.raises(ModelError, match=told):
        open_model("ensemble", members=["length", compares])
    embeds = Scripted(lambda request: 0.5, answers=("embedding",))
    with pytest.raises(ModelError, match="tests/scripted answers embedding; expected a member that gives each"):
        open_model("ensemble", members=["length", embeds])


def test_a_file_of_steps_gives_its_own_aggregate_or_is_told_to(tmp_path: Path) -> None:
    file = tmp_path / "steps.jsonl"
    rows = [{"example_id": str(at // 2), "candidate": at % 2, "steps": [0.5, 0.1 + at / 20]} for at in range(16)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions = [question._replace(request=Request("reward", (), (Response(None),))) for question in placed(8)]
    other = Scripted(lambda request: 1.0)
    made, _ = ask(open_model("ensemble", members=[f"scores:{file}?aggregate=prod", f"b=scores:{file}?aggregate=min"]),
                  questions)  # fmt: skip
    steps = np.array([row["steps"] for row in rows])
    np.testing.assert_allclose([one.value for one in made], (steps.prod(1) + steps.min(1)) / 2)
    told = "scores/steps rates steps and makes no reward of them; expected a member that does, as scores:FILE"
    with pytest.raises(ModelError, match=told):
        ask(open_model("ensemble", members=[f"scores:{file}", f"b=scores:{file}?aggregate=min"]), questions)
    assert other.seen == []


def test_what_rates_steps_alone_is_asked_for_those_of_the_text() -> None:
    def rate(request: Request) -> Reward:
        count = request.responses[0].step_count or 0
        return Reward((float(count),), steps=(1.0,) * count)

    steps = Scripted(rate, answers=("steps",))
    texts = ["one\n\ntwo", "one\ntwo\nthree", "one"]
    questions = [
        Question(Request("reward", (Message("user", "?"),), (Response(text),)), Place("d", f"{at}", (0,), f"{at}"))
        for at, text in enumerate(texts)
    ]
    rewards, _ = ask(open_model("ensemble", members=["length", steps], how="sum"), questions)
    due = [len(text) + count for text, count in zip(texts, (2, 3, 1), strict=True)]
    assert [reward.value for reward in rewards] == due
    given_steps = [Question(Request("reward", (), (Response("ab", ("a", "b", "", "")),)))]
    assert ask(open_model("ensemble", members=["length", steps], how="sum"), given_steps)[0][0].value == 6
    assert {request.ask for request in steps.seen} == {"steps"}


# in a run


def test_an_ensemble_alone_is_the_one_beside_other_tasks_and_its_views_are_its_members() -> None:
    first, second = (
        given(Comparison, [pair(f"{name}{at}", "right " * (at % 5 + 1), "wrong " * (at % 3 + 1)) for at in range(12)],
              name, measure=pick.PICK)
        for name in ("first", "second")
    )  # fmt: skip
    word = "ensemble:length,random?how=lower&scale=z"
    alone = judged(word, second)
    _, beside = evaluate(word, [first, second])
    assert alone.records.equals(beside.records)
    assert alone.metrics == beside.metrics
    assert alone.fitted == beside.fitted
    (member,) = evaluate("length", [second])
    heads = [dict(heads)["length"] for heads in beside.records.column("heads").to_pylist()]
    assert heads == member.records.column("reward").to_pylist()
    assert {metric.view for metric in beside.metrics} == {"default", "length", "random"}
    assert [one["id"] for one in beside.config.model["members"]] == ["rmbench/length", "rmbench/random"]


def test_a_plan_is_that_of_the_members() -> None:
    plans = explain(
        "ensemble:length,(transform:ensemble:random,length?how=mean?how=clip&low=-1)", ["best_of_n"], limit=4
    )
    assert [plan.model for plan in plans] == ["rmbench/length", "rmbench/random", "rmbench/length"]
    assert [plan.requests for plan in plans] == [16, 16, 16]


def test_a_file_says_what_does_not_fit_in_a_word(tmp_path: Path) -> None:
    file = tmp_path / "both.toml"
    file.write_text(
        'family = "ensemble"\nname = "mine/both"\n'
        'members = [{family = "ensemble", name = "inner", members = ["length", "random"], '
        'options = {how = "sum", weights = [1, 100]}}, "random?seed=3"]\n[options]\nhow = "gated"\nthresholds = [4]\n'
    )
    model: Any = open_model(str(file))
    assert (model.subject.id, [member.name for member in model.looked]) == ("mine/both", ["inner", "random"])
    assert model.settings == {"thresholds": (4.0,)}


def test_the_same_file_twice_by_two_ways_is_two_members(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="member random\\?seed=1 stands twice"):
        open_model("ensemble:random?seed=1,random?seed=1?how=mean")
