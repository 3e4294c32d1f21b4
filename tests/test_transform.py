"""Transforms equal numpy, pass doubt on, fit nothing that they are used on, and nest in ensembles and one another."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import Scripted
from given import given, pair

from rmbench.doctor.examine import diagnose
from rmbench.errors import DataError, ModelError, RmbenchError, UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import ensembles, pick
from rmbench.metrics.length_curve import LengthCurve, length_curve
from rmbench.models.base import Subject
from rmbench.models.spec import load_model, open_model
from rmbench.runs.evaluate import evaluate
from rmbench.scoring import Asking, Session
from rmbench.scoring.combining import FOLDS, fold_of
from rmbench.types import Message, Place, Question, Request, Response, Reward

RNG = np.random.default_rng(8)
PROMPTS, EACH = 20, 3
REWARDS = RNG.normal(size=PROMPTS * EACH) * 2 + 1
SPREAD = 0.25


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x)))


def placed(texts: Sequence[str | None], each: int = EACH) -> list[Question]:
    return [
        Question(
            Request("reward", (Message("user", f"prompt {at // each}"),), (Response(text),)),
            Place("d", str(at // each), (at % each,), str(at // each)),
        )
        for at, text in enumerate(texts)
    ]


QUESTIONS = placed([str(at) for at in range(PROMPTS * EACH)])


def model(rewards: Any = REWARDS, *, name: str = "m", spread: float | None = SPREAD) -> Any:
    """A model that finds its rewards by the number that a response is, and by `r` and a number 0.5 times that."""

    def rate(request: Request) -> Reward:
        text = request.responses[0].text or "0"
        value = 0.5 * float(text[1:]) if text.startswith("r") else float(rewards[int(text)])
        return Reward((value,), heads={"half": (value / 2,)}, spread=None if spread is None else (spread,))

    scripted = Scripted(rate, fingerprint=f"model {name}")
    scripted.subject = Subject(f"tests/{name}", "scripted")
    return scripted


def ask(asked: Any, questions: Sequence[Question] = QUESTIONS, **asking: Any) -> tuple[list[Reward], Any]:
    with Session(asked, Asking(**asking)) as session:
        answered = session.ask(questions)
    return answered.rewards, answered.fitted


def transform(member: Any = None, **options: Any) -> Any:
    return open_model("transform", members=[model() if member is None else member], **options)


def values(rewards: Sequence[Reward]) -> Any:
    return np.array([reward.value for reward in rewards])


def references_of(folder: Path, prompts: int = PROMPTS) -> Path:
    """Two references to each prompt, one of them in a row of its own: `r0`, `r2`, `r4`, ..."""
    rows: list[Any] = [{"prompt": f"prompt {at}", "responses": [f"r{at}", "r2"]} for at in range(prompts)]
    rows += [{"prompt": "prompt 0", "response": "r7"}, {"prompt": "no such", "response": "r9"}]
    file = folder / "references.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


# what is made of rewards, against numpy


OWN = REWARDS.reshape(PROMPTS, EACH)
HIGH = np.repeat(np.quantile(OWN, 0.85, axis=1), EACH)
EXPECTED: dict[str, tuple[Any, Any]] = {
    "clip low=-1 high=2": (np.minimum(np.maximum(REWARDS, -1), 2), (REWARDS > -1) & (REWARDS < 2)),
    "clip high=0": (np.minimum(REWARDS, 0), REWARDS < 0),
    "sigmoid": (logistic(REWARDS), logistic(REWARDS) * logistic(-REWARDS)),
    "sigmoid centre=2": (logistic(REWARDS - 2), logistic(REWARDS - 2) * logistic(2 - REWARDS)),
    "logsigmoid centre=-1": (np.log(logistic(REWARDS + 1)), logistic(-REWARDS - 1)),
    "logsigmoid quantile=.85": (np.log(logistic(REWARDS - HIGH)), logistic(HIGH - REWARDS)),
    "sigmoid quantile=.85": (logistic(REWARDS - HIGH), logistic(REWARDS - HIGH) * logistic(HIGH - REWARDS)),
    "par centre=1": (logistic(REWARDS - 1), logistic(REWARDS - 1) * logistic(1 - REWARDS)),
}


@pytest.mark.parametrize("word", EXPECTED)
def test_a_transform_equals_numpy_and_passes_doubt_on_by_its_slope(word: str) -> None:
    how, *options = word.split()
    rewards, fitted = ask(transform(how=how, **dict(option.split("=") for option in options)))
    assert fitted is None
    due, slope = EXPECTED[word]
    np.testing.assert_allclose(values(rewards), due, atol=1e-12)
    np.testing.assert_allclose([reward.spread[0] for reward in rewards], SPREAD * slope, atol=1e-12)
    assert rewards[4].heads == {"m": (REWARDS[4],), "half": (REWARDS[4] / 2,)}


def test_what_tells_no_doubt_has_none_transformed() -> None:
    assert {reward.spread for reward in ask(transform(model(spread=None), how="sigmoid"))[0]} == {None}


def test_references_are_asked_about_too(tmp_path: Path) -> None:
    file = references_of(tmp_path)
    asked = {at: np.array([0.5 * at, 1.0, *([3.5] if at == 0 else [])]) for at in range(PROMPTS)}
    by_prompt = [asked[at // EACH] for at in range(PROMPTS * EACH)]
    due = {
        "par": [logistic(one - refs).mean() for one, refs in zip(REWARDS, by_prompt, strict=True)],
        "logsigmoid": [np.log(logistic(one - refs.mean())) for one, refs in zip(REWARDS, by_prompt, strict=True)],
        "sigmoid": [logistic(one - np.quantile(refs, 0.9)) for one, refs in zip(REWARDS, by_prompt, strict=True)],
    }
    for how, expected in due.items():
        options = {"quantile": "0.9"} if how == "sigmoid" else {}
        member = model()
        rewards, _ = ask(transform(member, how=how, references=file, **options))
        np.testing.assert_allclose(values(rewards), expected, atol=1e-12)
        assert sum((request.responses[0].text or "").startswith("r") for request in member.seen) == 2 * PROMPTS
    slopes = [
        (logistic(one - refs) * logistic(refs - one)).mean() for one, refs in zip(REWARDS, by_prompt, strict=True)
    ]
    rewards, _ = ask(transform(how="par", references=file))
    np.testing.assert_allclose([reward.spread[0] for reward in rewards], SPREAD * np.array(slopes), atol=1e-12)


def test_without_a_task_the_responses_to_a_prompt_are_its_own_and_references_join_by_it(tmp_path: Path) -> None:
    placeless = [Question(question.request) for question in QUESTIONS]
    shuffled = RNG.permutation(len(placeless))
    for options in ({"how": "logsigmoid", "quantile": 0.85}, {"how": "par", "references": references_of(tmp_path)}):
        due = values(ask(transform(**options))[0])
        found = values(ask(transform(**options), [placeless[at] for at in shuffled])[0])
        np.testing.assert_array_equal(found, due[shuffled])


def test_a_prompt_without_a_reference_has_no_reward_and_a_file_without_any_is_one_line(tmp_path: Path) -> None:
    rewards, _ = ask(transform(how="par", references=references_of(tmp_path, 4)))
    assert [reward.status for reward in rewards] == ["ok"] * 12 + ["error"] * 48
    assert rewards[-1].detail == "no reference with a number in references.jsonl"
    told = "references.jsonl: no reference to a prompt of the data; expected rows with the prompts of the data"
    elsewhere = [
        question._replace(request=replace(question.request, prompt=(Message("user", "x"),))) for question in QUESTIONS
    ]
    with pytest.raises(DataError, match=told):
        ask(transform(how="par", references=references_of(tmp_path)), elsewhere)


def test_other_references_are_another_model(tmp_path: Path) -> None:
    first = transform(how="par", references=references_of(tmp_path)).fingerprint
    second = transform(how="par", references=references_of(tmp_path, 4)).fingerprint
    assert first != second
    assert str(tmp_path) not in first


def test_a_prompt_with_one_response_is_its_own_centre_and_that_is_told() -> None:
    alone = placed([str(at) for at in range(10)], each=1)
    with pytest.warns(UserWarning, match="10 of 10 prompts have one response, which is its own quantile"):
        rewards, _ = ask(transform(how="sigmoid", quantile=0.5), alone)
    assert set(values(rewards)) == {0.5}


def test_extremes_neither_overflow_nor_vanish() -> None:
    far = np.array([-1e5, -800.0, 0.0, 800.0, 1e5])
    with np.errstate(all="raise", under="ignore"):
        assert ensembles.sigmoid(far)[0].tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
        assert ensembles.log_sigmoid(far)[0].tolist() == [-1e5, -800.0, -math.log(2), 0.0, 0.0]


# what is fitted


def test_z_scores_are_those_of_the_other_folds() -> None:
    rewards, fitted = ask(transform(how="zscore"))
    folds = np.array([fold_of(question, 0) for question in QUESTIONS])
    for fold in range(FOLDS):
        rest, here = REWARDS[folds != fold], folds == fold
        np.testing.assert_allclose(values(rewards)[here], (REWARDS[here] - rest.mean()) / rest.std())
        np.testing.assert_allclose([rewards[at].spread[0] for at in np.flatnonzero(here)], SPREAD / rest.std())
    assert fitted["fit"]["whole"] == pytest.approx({"mean": REWARDS.mean(), "sd": REWARDS.std()})
    json.dumps(fitted)


TEXTS = ["x" * int(length) for length in RNG.integers(5, 400, size=PROMPTS * EACH)]
LENGTHS = np.array([float(len(text)) for text in TEXTS])
BY_TEXT = dict(zip(TEXTS, REWARDS, strict=True))


def by_text(moved: str = "", by: float = 0.0) -> Any:
    return Scripted(lambda request: BY_TEXT[text := request.responses[0].text or ""] + (by if text == moved else 0.0))


@pytest.mark.parametrize("how", ["zscore", "length"])
def test_what_a_fold_holds_moves_nothing_of_its_own_fit(how: str) -> None:
    """Fails where the fit sees its own fold: then one moved reward moves those beside it."""
    questions = placed(TEXTS)
    plain, other = (values(ask(transform(by_text(TEXTS[11], by), how=how), questions)[0]) for by in (0.0, 100.0))
    folds = np.array([fold_of(question, 0) for question in questions])
    beside = (folds == folds[11]) & np.array([text != TEXTS[11] for text in TEXTS])
    assert beside.sum() > 3
    assert plain[beside].tolist() == other[beside].tolist()
    assert (plain[folds != folds[11]] != other[folds != folds[11]]).all()


def test_length_is_taken_off_by_a_curve_fitted_to_the_other_folds() -> None:
    rewards, fitted = ask(transform(by_text(), how="length"), placed(TEXTS))
    made = np.array([BY_TEXT[text] for text in TEXTS])
    folds = np.array([fold_of(question, 0) for question in placed(TEXTS)])
    prompts = np.repeat(np.arange(PROMPTS), EACH)
    for fold in range(FOLDS):
        rest, here = folds != fold, folds == fold
        curve = length_curve(made[rest], LENGTHS[rest], prompts[rest])
        assert curve is not None
        np.testing.assert_allclose(values(rewards)[here], made[here] - curve.at(LENGTHS[here]))
    assert LengthCurve(**{name: tuple(of) for name, of in fitted["fit"]["whole"].items()}).at(LENGTHS).mean() == (
        pytest.approx(0, abs=1e-9)
    )


@pytest.mark.parametrize("worth", [lambda x: 0.01 * x, np.log1p, lambda x: np.sin(np.log1p(x)),
                                   lambda x: -np.abs(np.log1p(x) - 5)])  # fmt: skip
def test_a_curve_of_length_that_was_planted_is_found_whatever_prompts_are_worth(worth: Any) -> None:
    lengths = np.exp(RNG.uniform(3, 7, size=4000)).round()
    prompts = np.repeat(np.arange(500), 8)
    of_prompt = RNG.normal(size=500) * 50 + 30 * np.array([lengths[prompts == at].mean() for at in range(500)])
    rewards = worth(lengths) + of_prompt[prompts] + RNG.normal(size=4000) * 0.2
    curve = length_curve(rewards, lengths, prompts)
    assert curve is not None
    at = np.exp(np.linspace(3.2, 6.8, 30))
    due = worth(at) - worth(lengths).mean()
    assert np.abs(curve.at(at) - due).max() < 0.06 * np.ptp(due) + 0.05


def test_lengths_that_differ_between_prompts_alone_tell_nothing() -> None:
    prompts = np.repeat(np.arange(30), 2)
    assert length_curve(RNG.normal(size=60), np.repeat(RNG.integers(5, 99, 30), 2).astype(float), prompts) is None
    alone = placed([TEXTS[0]] * 20, each=2)
    with pytest.raises(ModelError, match="no prompt has two responses of different lengths; expected some"):
        ask(transform(by_text(), how="length"), alone)


def test_few_responses_give_nearly_a_line() -> None:
    curve = length_curve(np.array([0.0, 1.0, 0.0, 1.0]), np.array([9.0, 99.0, 9.0, 99.0]), np.array([0, 0, 1, 1]))
    assert curve is not None
    assert np.diff(curve.at(np.array([9.0, 99.0]))) == pytest.approx(1.0, abs=0.02)
    assert curve.at(np.array([1.0, 1e6])).tolist() == [curve.worth[0], curve.worth[-1]], "level beyond the ends"


# of any depth


def test_an_ensemble_of_transforms_transformed_is_a_pipeline_fitted_without_the_fold() -> None:
    first, second = REWARDS, REWARDS[::-1] ** 2
    inner = [open_model("transform", members=[model(rows, name=name)], how="zscore")
             for rows, name in ((first, "a"), (second, "b"))]  # fmt: skip
    outer = transform(open_model("ensemble", members=inner, how="min"), how="zscore")
    rewards, fitted = ask(outer)
    folds = np.array([fold_of(question, 0) for question in QUESTIONS])
    for fold in range(FOLDS):
        rest, here = folds != fold, folds == fold
        least = np.min([(rows - rows[rest].mean()) / rows[rest].std() for rows in (first, second)], axis=0)
        np.testing.assert_allclose(values(rewards)[here], (least[here] - least[rest].mean()) / least[rest].std())
    assert set(rewards[0].heads) == {"min-zscore-a-zscore-b", "zscore-a", "zscore-b"}
    assert fitted["members"][0]["members"][1]["fit"]["whole"]["mean"] == pytest.approx(second.mean())
    whole = [(rows - rows.mean()) / rows.std() for rows in (first, second)]
    least = np.min(whole, axis=0)
    found, none = ask(outer, [Question(question.request) for question in QUESTIONS], fitted=fitted)
    np.testing.assert_allclose(values(found), (least - least.mean()) / least.std())
    assert none is None


def test_references_go_down_to_the_members_of_a_member_and_stay_in_their_fold(tmp_path: Path) -> None:
    scaled = open_model("transform", members=[model()], how="zscore")
    rewards, fitted = ask(transform(scaled, how="par", references=references_of(tmp_path)))
    folds = np.array([fold_of(question, 0) for question in QUESTIONS])
    refs = {at: [0.5 * at, 1.0, *([3.5] if at == 0 else [])] for at in range(PROMPTS)}
    of_fold = {at: folds[at * EACH] for at in range(PROMPTS)}
    for fold in range(FOLDS):
        rest = [*REWARDS[folds != fold], *(one for at, some in refs.items() if of_fold[at] != fold for one in some)]
        centre, sd = np.mean(rest), np.std(rest)
        for at in np.flatnonzero(folds == fold):
            by_ref = logistic((REWARDS[at] - np.array(refs[at // EACH])) / sd).mean()
            assert rewards[at].value == pytest.approx(by_ref)
        assert fitted["members"][0]["fit"]["folds"][fold]["mean"] == pytest.approx(centre)


def test_one_alone_is_the_one_beside_other_tasks() -> None:
    first, second = (
        given(Comparison, [pair(f"{name}{at}", "right " * (at % 5 + 1), "wrong " * (at % 3 + 1)) for at in range(12)],
              name, measure=pick.PICK)
        for name in ("first", "second")
    )  # fmt: skip
    word = "transform:(ensemble:(transform:length?how=zscore),(transform:random?how=length)?how=mean)?how=zscore"
    (alone,) = evaluate(word, [second])
    _, beside = evaluate(word, [first, second])
    assert alone.records.equals(beside.records)
    assert (alone.metrics, alone.fitted) == (beside.metrics, beside.fitted)
    assert len(alone.fitted.model.members[0]["members"]) == 2


@pytest.mark.filterwarnings("ignore:.*prompts have one response")
@pytest.mark.parametrize("how", ["zscore", "sigmoid&quantile=.5"])
def test_the_doctor_examines_them(how: str) -> None:
    found = diagnose(f"transform:length?how={how}")
    assert found.failed == []
    assert [member.model for member in found.members] == ["rmbench/length"]


def test_the_doctor_cannot_ask_what_looks_rewards_up() -> None:
    with pytest.raises(UsageError, match="looks rewards up by example; expected a model that can be asked"):
        diagnose(transform(Looked(), how="sigmoid"))


# what cannot be


def test_what_has_no_finite_number_stays_without() -> None:
    rewards = REWARDS.copy()
    rewards[3], rewards[5] = math.nan, -math.inf
    for options in ({"how": "clip", "low": 0.0}, {"how": "zscore"}, {"how": "sigmoid", "quantile": 0.5}):
        made, _ = ask(transform(model(rewards), **options))
        assert [(at, one.status) for at, one in enumerate(made) if one.status != "ok"] == [(3, "nan"), (5, "inf")]
        assert (made[5].value, made[5].detail) == (-math.inf, "no finite number, by tests/m")
    assert made[4].value == pytest.approx(0.5), "of two that have a number, the quantile lies between"  # fmt: skip


def test_a_constant_member_has_no_z_score() -> None:
    with pytest.raises(ModelError, match="tests/m: all 60 rewards that a z-score is fitted to are 2; expected some"):
        ask(transform(model(np.full(60, 2.0)), how="zscore"))


def test_length_needs_texts() -> None:  # which a score file without texts has not
    told = "transform/length-scripted needs the responses' texts, and example . comes from a score file without"
    with pytest.raises(ModelError, match=told), Session(transform(Looked(), how="length"), Asking()) as session:
        session.ask(placed([None] * 12))


class Looked:
    """A score file that knows everything."""

    answers = frozenset({"reward"})
    fingerprint = "looked:1"
    subject = Subject("tests/scripted", "scores")

    def lookup(self, questions: Sequence[Question]) -> list[Reward]:
        return [Reward((float(at),)) for at, _ in enumerate(questions)]


def test_a_score_file_cannot_be_asked_about_references(tmp_path: Path) -> None:
    told = "references=references.jsonl: .* knows rewards of its own data only; expected a model that can be asked"
    for member in (Looked(), open_model("ensemble", members=["length", Looked()])):
        with pytest.raises(UsageError, match=told):
            transform(member, how="par", references=references_of(tmp_path))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("transform:length", "transform: no how; expected one of zscore, clip, sigmoid, logsigmoid, par, length"),
        ("transform?how=clip", "transform: 0 members; expected one, as transform:MODEL?how=clip"),
        ("transform:length?how=cube", "how='cube' of family 'transform': expected one of zscore, clip"),
        ("transform:length?how=clip", "clip: neither low nor high; expected one of them or both"),
        ("transform:length?how=clip&low=1&high=1", "low=1.0 is not below high=1.0; expected a range"),
        ("transform:length?how=clip&low=nan", "low=nan: expected a finite number"),
        ("transform:length?how=sigmoid&low=1", "low=1.0: it is of how=clip, and how is sigmoid"),
        ("transform:length?how=sigmoid&centre=1&quantile=.5", "centre=1.0 beside quantile or references"),
        ("transform:length?how=logsigmoid&quantile=85", "quantile=85.0: expected a number from 0 to 1"),
        ("transform:length?how=par", "par: nothing to prefer to; expected references, a file"),
        ("transform:length?how=par&references=nowhere.jsonl", "nowhere.jsonl"),
        ("transform:length?how=zscore&centre=1", "centre=1.0: it is of how=sigmoid and logsigmoid and par, and how"),
        ("transform:nowhere?how=zscore", "unknown model 'nowhere'"),
    ],
)
def test_what_cannot_be_is_one_line(word: str, message: str) -> None:
    with pytest.raises(RmbenchError) as error:
        load_model(word)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
