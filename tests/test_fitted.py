"""What an ensemble or transform fitted to a task is used on responses of any file; its lack is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import Scripted, TinyTokenModel
from given import given, pair

from rmbench import score
from rmbench.cli import main
from rmbench.errors import UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import pick
from rmbench.models.base import Subject
from rmbench.models.spec import open_model
from rmbench.results import files
from rmbench.runs.evaluate import evaluate
from rmbench.runs.select import select_file

TEXTS = ["right " * (at % 5 + 1) if even else "wrong " * (at % 3 + 1) for at in range(12) for even in (True, False)]
LENGTHS = np.array([float(len(text)) for text in TEXTS])
TASK = given(Comparison, [pair(f"{at}", TEXTS[2 * at], TEXTS[2 * at + 1]) for at in range(12)], "task",
             measure=pick.PICK)  # fmt: skip
WORDS = ["b" * 3, "b" * 50, "b" * 7]
Z = (np.array([3.0, 50.0, 7.0]) - LENGTHS.mean()) / LENGTHS.std()
ZSCORE = "transform:length?how=zscore"


def result_of(model: Any, folder: Path) -> Path:
    (result,) = evaluate(model, [TASK], out=folder)
    (path,) = folder.rglob("*.json")
    assert files.read(path).subject.fingerprint == result.subject.fingerprint
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return result_of(ZSCORE, tmp_path_factory.mktemp("fitted"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps({"prompt": "a", "response": word}) + "\n" for word in WORDS))
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_whole_fit_of_a_result_is_used(fitted: Path, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run("score", file, "-m", ZSCORE, "--fitted", fitted, "-o", out) == 0
    np.testing.assert_allclose([row["reward"] for row in lines(out)], Z)
    assert [dict(row["heads"]) for row in lines(out)] == [{"length": len(word)} for word in WORDS]
    rewards = score(ZSCORE, [("a", word) for word in WORDS], fitted=fitted)
    np.testing.assert_allclose([reward.value for reward in rewards], Z)
    assert score(ZSCORE, [("a", WORDS[0])], fitted=files.read(fitted))[0].value == pytest.approx(Z[0])


def test_a_lack_is_told_before_anybody_is_asked(file: Path, tmp_path: Path, capsys: Any) -> None:
    assert run("score", file, "-m", ZSCORE, "-o", tmp_path / "out.jsonl") == 2
    told = (
        "rmbench: error: transform/zscore-length fits to the data of a task; expected --fitted, a result of this model"
    )
    assert told in capsys.readouterr().err
    member = Scripted(lambda request: 1.0)
    with pytest.raises(UsageError, match="expected --fitted, a result of this model"):
        score(open_model("ensemble", members=["length", member], scale="z"), [("a", "b")])
    assert member.seen == []


def test_fits_of_another_model_and_none_are_one_line(fitted: Path, file: Path, tmp_path: Path, capsys: Any) -> None:
    def told(*models: object) -> str:
        assert run("score", file, *models, "-o", tmp_path / "out.jsonl") == 2
        return str(capsys.readouterr().err.splitlines()[-1])

    other = told("-m", "transform:random?how=zscore", "--fitted", fitted)
    assert "it was fitted to transform/zscore-length, as it was loaded then, not to transform/zscore-random" in other
    nothing = result_of("ensemble:length,random", tmp_path / "raw")
    assert "ensemble/mean-length-random fits nothing; expected a result of a model that does" in told(
        "-m", "ensemble:length,random", "--fitted", nothing
    )
    assert "another result has fits of transform/zscore-length" in told(
        "-m", ZSCORE, "--fitted", fitted, "--fitted", fitted
    )


def test_of_several_models_each_gets_its_own(fitted: Path, file: Path, tmp_path: Path) -> None:
    word = "ensemble:length,random?scale=z"
    other = result_of(word, tmp_path / "other")
    out = tmp_path / "out.jsonl"
    models = ["-m", f"e={word}", "-m", f"t={ZSCORE}", "-m", "length", "--fitted", fitted, "--fitted", other]
    assert run("score", file, *models, "-o", out) == 0
    np.testing.assert_allclose([row["reward:t"] for row in lines(out)], Z)
    assert [row["reward:length"] for row in lines(out)] == [3.0, 50.0, 7.0]
    assert all(row["spread:e"] > 0 for row in lines(out))
    whole = files.read(other).fitted.model.fit["whole"]
    drawn = np.array([reward.value for reward in score("random", [("a", text) for text in WORDS])])
    scaled = [Z, (drawn - whole[1]["mean"]) / whole[1]["sd"]]
    np.testing.assert_allclose([row["reward:e"] for row in lines(out)], np.mean(scaled, axis=0))


def test_fits_go_down_to_whom_they_are_of(file: Path, tmp_path: Path) -> None:
    word = f"transform:(ensemble:({ZSCORE}),(transform:random?how=zscore)?how=min)?how=zscore"
    path = result_of(word, tmp_path / "nested")
    drawn, asked = (
        np.array([reward.value for reward in score("random", [(prompt, text) for prompt, text in pairs])])
        for pairs in ([(f"{at // 2}?", text) for at, text in enumerate(TEXTS)], [("a", text) for text in WORDS])
    )
    least = np.minimum((LENGTHS - LENGTHS.mean()) / LENGTHS.std(), (drawn - drawn.mean()) / drawn.std())
    here = np.minimum(Z, (asked - drawn.mean()) / drawn.std())
    out = tmp_path / "out.jsonl"
    assert run("score", file, "-m", word, "--fitted", path, "-o", out) == 0
    np.testing.assert_allclose([row["reward"] for row in lines(out)], (here - least.mean()) / least.std())


def test_select_takes_them_too(fitted: Path, file: Path, tmp_path: Path) -> None:
    selected = select_file(ZSCORE, file, 1, fitted=[fitted])
    assert selected.columns["response"] == ["b" * 50]
    assert run("select", file, "-m", ZSCORE, "--fitted", fitted, "-o", tmp_path / "best.jsonl") == 0
    assert [row["response"] for row in lines(tmp_path / "best.jsonl")] == ["b" * 50]
    assert run("select", file, "-m", ZSCORE, "-o", tmp_path / "none.jsonl") == 2


def test_a_member_that_looks_rewards_up_cannot_score_a_file(file: Path, tmp_path: Path, capsys: Any) -> None:
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps([{"example_id": "1", "candidate": 0, "reward": 1.0}]))
    assert run("score", file, "-m", f"ensemble:length,scores:{scores}", "-o", tmp_path / "out.jsonl") == 2
    assert "looks rewards up by example; rmbench run -t TASK takes it" in capsys.readouterr().err


def test_an_output_cannot_be_what_is_read(fitted: Path, file: Path, tmp_path: Path, capsys: Any) -> None:
    assert run("score", file, "-m", ZSCORE, "--fitted", fitted, "-o", fitted, "--format", "jsonl") == 2
    member = tmp_path / "scores.json"
    member.write_text(json.dumps([{"example_id": "1", "candidate": 0, "reward": 1.0}]))
    assert run("score", file, "-m", f"ensemble:length,scores:{member}", "-o", member, "--format", "jsonl") == 2
    assert json.loads(member.read_text())


def test_the_command_of_a_result_names_the_members_without_their_paths(tmp_path: Path) -> None:
    (result,) = evaluate("ensemble:length,(transform:random?seed=3&how=sigmoid)", [TASK])
    first, second = result.config.command["model"]["members"]
    assert (first["family"], second["family"], second["members"][0]["options"]) == ("length", "transform", {"seed": 3})


class AtRest:
    """A model that counts how many of its kind are in memory at once."""

    answers = frozenset({"reward"})
    at_once = most = 0

    def __init__(self, name: str) -> None:
        self.fingerprint, self.subject = f"at-rest:{name}", Subject(f"tests/{name}", "tiny")

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[Any]:
        AtRest.at_once += 1
        AtRest.most = max(AtRest.most, AtRest.at_once)
        yield TinyTokenModel(["reward"], self.fingerprint)
        AtRest.at_once -= 1


def test_members_that_score_a_file_are_in_memory_one_at_a_time() -> None:
    model = open_model("ensemble", members=[AtRest(name) for name in "abc"])
    (reward,) = score(model, [("a", "b")])
    assert (AtRest.most, AtRest.at_once) == (1, 0)
    assert list(reward.heads) == ["a", "b", "c"]
