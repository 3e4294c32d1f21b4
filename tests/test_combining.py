"""What a Derived fits never saw, at whatever depth, what it is used on; members are asked in the order of the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fake_models import Scripted

from rmbench.errors import UsageError
from rmbench.models.base import Subject
from rmbench.models.spec import open_model
from rmbench.scoring import Asking, Session
from rmbench.scoring.combining import FOLDS, fold_of
from rmbench.types import Ask, Json, Message, Place, Question, Request, Response, Reward


@dataclass(frozen=True)
class Centred:
    """A Derived: the reward of its member minus the mean of those that it is fitted to."""

    members: tuple[Any, ...]
    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint: str = "centred:1"
    subject: ClassVar = Subject("tests/centred", "derived")
    fits: bool = True

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        return [questions for _ in self.members]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        return [float(np.mean([reward.value for reward in of_one])) for of_one in answers]

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        return [
            Reward((sum(reward.value - mean for reward, mean in zip(given, fitted, strict=True)),))
            for given in zip(*answers, strict=True)
        ]


def placed(count: int) -> list[Question]:
    return [
        Question(Request("reward", (), (Response("x" * i),)), Place("d", str(i), (0,), str(i // 2)))
        for i in range(1, count + 1)
    ]


def asked(model: Any, questions: Sequence[Question], **asking: Any) -> tuple[list[float], Any]:
    with Session(model, Asking(**asking)) as session:
        answered = session.ask(questions)
    return [reward.value for reward in answered.rewards], answered.fitted


def length(moved: int = -1, by: float = 0.0) -> Callable[[Request], float]:
    """A reward that is a text's length squared, but for one that is moved."""
    return lambda request: (n := len(request.responses[0].text or "")) ** 2 + (by if n == moved else 0.0)


def nested(rate: Callable[[Request], float], depth: int) -> Any:
    model: Any = Scripted(rate)
    for _ in range(depth):
        model = Centred((model,))
    return model


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_fit_sees_what_it_is_used_on_through_the_fit_of_a_member(depth: int) -> None:
    questions = placed(80)
    moved = 37
    plain, other = (asked(nested(length(moved, by), depth), questions)[0] for by in (0.0, 1000.0))
    folds = [fold_of(question, 0) for question in questions]
    beside = [at for at, fold in enumerate(folds) if fold == folds[moved - 1] and at != moved - 1]
    assert len(beside) > 5
    assert [other[at] for at in beside] == [plain[at] for at in beside]
    assert other[moved - 1] - plain[moved - 1] == pytest.approx(1000.0)
    elsewhere = [at for at, fold in enumerate(folds) if fold != folds[moved - 1]]
    assert all(other[at] != plain[at] for at in elsewhere), "other folds are fitted to it"


def test_a_nested_fit_is_a_pipeline_fitted_without_the_fold() -> None:
    questions = placed(60)
    values = np.array([float(i) ** 2 for i in range(1, 61)])
    folds = np.array([fold_of(question, 0) for question in questions])
    plain = Scripted(length(), fingerprint="plain")
    found, fitted = asked(Centred((Centred((plain,)), plain)), questions)
    for fold in range(FOLDS):
        rest = values[folds != fold].mean()
        here = (values[folds == fold] - rest) - 0.0 + (values[folds == fold] - rest)
        np.testing.assert_allclose(np.array(found)[folds == fold], here)
        assert fitted["fit"]["folds"][fold] == pytest.approx([0.0, rest], abs=1e-9)
        assert fitted["members"][0]["fit"]["folds"][fold] == pytest.approx([rest])
    assert fitted["members"][0]["fit"]["whole"] == pytest.approx([values.mean()])


def test_each_member_gets_its_own_part_of_what_a_result_fitted() -> None:
    plain = Scripted(lambda request: 5.0)
    model = Centred((Centred((plain,)), Centred((plain,), fingerprint="another")))
    part = {"fit": {"whole": [3.0], "folds": []}, "members": [None]}
    other = {"fit": {"whole": [4.0], "folds": []}, "members": [None]}
    fitted = {"fit": {"whole": [0.5, 0.25], "folds": []}, "members": [part, other]}
    question = [Question(Request("reward", (), (Response("x"),)))]
    found, stated = asked(model, question, fitted=fitted)
    assert (found, stated) == ([(5 - 3 - 0.5) + (5 - 4 - 0.25)], None)


def test_a_fit_that_is_lacking_anywhere_is_told_before_anybody_is_asked() -> None:
    plain = Scripted(lambda request: 5.0)
    question = [Question(Request("reward", (), (Response("x"),)))]
    told = "tests/centred fits to the data of a task; expected --fitted, a result of this model"
    without = {"fit": {"whole": [0.0, 0.0], "folds": []}, "members": [None, None]}
    for fitted in (None, without):
        with pytest.raises(UsageError, match=told):
            asked(Centred((plain, Centred((plain,)))), question, fitted=fitted)
    assert plain.seen == []


def test_whole_fits_give_again_what_a_task_was_fitted_to() -> None:
    questions = placed(30)
    model = nested(length(), 2)
    _, fitted = asked(model, questions)
    found, _ = asked(model, [Question(question.request) for question in questions], fitted=fitted)
    values = np.array([float(i) ** 2 for i in range(1, 31)])
    np.testing.assert_allclose(found, values - values.mean())


def test_a_score_file_whose_rows_stand_for_examples_in_turn_is_asked_in_their_order(tmp_path: Path) -> None:
    rows = [{"chosen_reward": float(i), "rejected_reward": -1.0 - i} for i in range(40)]
    (tmp_path / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    member = open_model(f"scores:{tmp_path / 'turns.jsonl'}")
    questions = [
        Question(Request("reward", (Message("user", f"{i}"),), (Response(None),)), Place("d", f"e{i}", (at,), f"e{i}"))
        for i in range(40)
        for at in range(2)
    ]
    alone, _ = asked(member, questions)
    centred, fitted = asked(Centred((member,)), questions)
    assert len({fold_of(question, 0) for question in questions}) == FOLDS
    assert alone == [value for i in range(40) for value in (float(i), -1.0 - i)]
    means = [fitted["fit"]["folds"][fold_of(question, 0)][0] for question in questions]
    assert centred == [value - mean for value, mean in zip(alone, means, strict=True)]
