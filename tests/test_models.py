"""Specs, and the families that need no weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rmbench import score
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import RewardModel, ScoreFile, TokenModel
from rmbench.models.spec import Spec, load_model, parse
from rmbench.policies.base import Policy
from rmbench.types import GenerationRequest, Message, Response


def checkpoint(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_specs() -> None:
    assert parse("length") == Spec("length", "")
    assert parse("classifier:org/name@abc") == Spec("classifier", "org/name", "abc")
    assert parse("python:a.b:c") == Spec("python", "a.b:c")
    assert parse("scores:some/file.json") == Spec("scores", "some/file.json")


def test_a_folder_is_resolved_from_its_config(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "rm@2", architectures=["LlamaForSequenceClassification"])
    assert parse(str(folder)) == Spec("classifier", str(folder))
    (folder / "adapter_config.json").write_text('{"task_type": "SEQ_CLS"}')
    assert parse(str(folder)).family == "classifier"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lenght", "unknown model 'lenght' .did you mean 'length'"),
        ("clasifier:x/y", "unknown model family 'clasifier' .did you mean 'classifier'"),
        ("scores", "model 'scores' names no source; write scores:SOURCE"),
        ("classifier:", "model 'classifier:' names no source"),
        ("python:module", "write python:module:attribute"),
        ("python:no_such_module:f", "no module 'no_such_module' here"),
        ("python:json:no_such", "module 'json' has no 'no_such'"),
    ],
)
def test_a_spec_that_cannot_be_right_is_a_usage_error(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_model(spec)


def test_a_config_that_does_not_settle_the_family_names_the_choices(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "lm", architectures=["LlamaForCausalLM"])
    with pytest.raises(UsageError, match="LlamaForCausalLM in its config.*write FAMILY:.*classifier"):
        parse(str(folder))


def test_a_bare_file_is_not_guessed_to_be_scores(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(UsageError, match=r"to look its scores up write scores:.*x\.json"):
        parse(str(tmp_path / "x.json"))


def test_a_folder_without_or_with_broken_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no config.json or adapter_config.json"):
        parse(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="config.json is not JSON"):
        parse(str(tmp_path))


def test_a_hub_that_nobody_answers_for_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The hub's client would try each file six times, with a line and a pause of seconds each."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "localhost")  # which names no proxy
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("the client waits to try again"))
    with pytest.raises(ModelError, match="org/name: there is no such folder, and on the hub no config.json is found"):
        parse("org/name")
    assert capfd.readouterr().err == ""


def test_a_hub_that_cannot_be_reached_is_one_clear_error() -> None:
    with pytest.raises(ModelError, match="org/name: there is no such folder, and on the hub no config.json is found"):
        parse("org/name")


def test_an_unknown_option_has_a_close_one() -> None:
    with pytest.raises(
        UsageError, match="unknown option 'max_lenght' of family 'classifier' .did you mean 'max_length'"
    ):
        load_model("classifier:org/name", max_lenght=5)


def test_two_revisions_clash() -> None:
    with pytest.raises(UsageError, match="asks for revision 'a', the option for 'b'"):
        load_model("classifier:org/name@a", revision="b")


def test_each_family_has_exactly_one_protocol() -> None:
    model = load_model("length")
    assert [isinstance(model, kind) for kind in (RewardModel, TokenModel, ScoreFile)] == [True, False, False]


def test_length_counts_characters_and_random_is_a_function_of_text_and_seed() -> None:
    assert score("length", [("p", "naïve")])[0].value == 5
    draws = [reward.value for reward in score("random", [("p", str(i)) for i in range(1000)])]
    assert abs(sum(draws) / 1000 - 0.5) < 0.05
    assert all(0 <= draw < 1 for draw in draws)
    assert draws[::-1] == [reward.value for reward in score("random", [("p", str(i)) for i in reversed(range(1000))])]
    assert draws[0] != score("random", [("p", "0")], seed=1)[0].value


def test_python_finds_a_module_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text(
        "def vowels(prompt, response):\n    return sum(c in 'aeiou' for c in response)\n"
        "class Object:\n    def method(self, prompt, response):\n        return len(prompt)\n"
        "made = Object()\nNUMBER = 3\n"
        "class Factory:\n    def __call__(self, prompt, response):\n        return 7\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert score("python:my_rewards:vowels", [("p", "audio")])[0].value == 4
    assert score("python:my_rewards:made.method", [("four", "x")])[0].value == 4
    assert score("python:my_rewards:Factory", [("four", "x")])[0].value == 7
    with pytest.raises(ModelError, match="is a int; expected .prompt, response. -> float"):
        load_model("python:my_rewards:NUMBER")
    assert load_model("python:my_rewards:vowels").subject.id == "python/my_rewards.vowels"  # type: ignore[union-attr]


def test_a_callable_gets_a_conversation_as_messages() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    (reward,) = score(lambda prompt, response: len(prompt), [turns])
    assert reward.value == 2


def test_a_callable_that_returns_no_number_is_an_error_with_its_reason() -> None:
    (reward,) = score(lambda prompt, response: "high", [("p", "r")])
    assert reward.status == "error"
    assert reward.detail == "the function returned a str, expected a number or None: 'high'"


def test_a_policy_has_a_protocol() -> None:
    class Echo:
        fingerprint = "echo:1"

        def generate(self, generations: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
            for index, generation in enumerate(generations):
                text = generation.prompt[-1].text[: generation.cap]
                yield index, Response(text, tokens=len(text), finish="stop", cap=generation.cap)

    policy = Echo()
    assert isinstance(policy, Policy)
    ((_, response),) = policy.generate([GenerationRequest((Message("user", "Hello"),), cap=2)])
    assert (response.text, response.cap) == ("He", 2)
