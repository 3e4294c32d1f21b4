"""The doctor: a sound model passes, and a model that is broken in one way fails on the line that is about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checkpoints import CHAT, bytes_bpe, make
from fake_models import MeanOf, Scripted, TinyTokenModel
from families import READY, Case

import rmbench
from rmbench.checkpoints.fingerprint import locate
from rmbench.checkpoints.rendering import Limits, choose
from rmbench.cli import main
from rmbench.doctor import CHECKS, Diagnosis, Finding, texts
from rmbench.doctor.conversations import CONVERSATIONS, requests_of
from rmbench.models.base import Encoded, Subject
from rmbench.types import Ask, GenerationRequest, Message, Request, Response, Reward

pytestmark = pytest.mark.usefixtures("one_thread")


class Means(torch.nn.Module):
    """Hidden states are means over what a mask shows up to there, so that no padding moves them. `ill` is how it is."""

    def __init__(self, ill: str = "") -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(600, 6, generator=generator), requires_grad=False)
        self.ill = ill

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, use_cache: bool = False
    ) -> SimpleNamespace:
        mask = torch.ones_like(input_ids) if attention_mask is None or self.ill == "blind" else attention_mask
        states = (self.table[input_ids] * mask[..., None]).cumsum(1) / mask.cumsum(1).clamp(min=1)[..., None]
        if self.ill == "restless":
            states = states + torch.randn(1) * 0.01
        if self.ill == "crowded":
            states = states * (1 + 0.01 * len(input_ids))
        return SimpleNamespace(last_hidden_state=states)


class Whole(Means):
    """A class that reads by a rule of its own and is given one sequence at a time: the last that the mask shows."""

    alone = True

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> SimpleNamespace:
        masks = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = [self.logits(ids[mask.bool()][None]) for ids, mask in zip(input_ids, masks, strict=True)]
        return SimpleNamespace(last_hidden_state=torch.cat(rows)[:, None])

    def logits(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        states = super().forward(ids, mask).last_hidden_state
        last = states.shape[1] - 1 if mask is None else (mask * torch.arange(mask.shape[1])).argmax(1)
        return states[torch.arange(len(ids)), last]


class Model:
    """A TokenModel over `Means` with a template, in memory."""

    fingerprint = None
    answers: frozenset[Ask] = frozenset({"reward"})
    subject = Subject("tests/means", "tests")

    def __init__(self, ill: str = "", template: str = CHAT, backbone: type[Means] = Means, **limits: Any) -> None:
        self.ill, self.backbone = ill, backbone(ill)
        self.layout = "encoder" if backbone is Whole else "causal"
        tokenizer = bytes_bpe()
        tokenizer.chat_template = template
        self.rendering = choose(tokenizer, None, Limits(**limits), "tests/means")

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        encoded = self.rendering.encode(requests)
        if self.ill == "unbounded":
            encoded = [replace(one, ids=one.ids or [1] * 999, error=None) for one in encoded]
        if self.ill == "silent":
            encoded = [replace(one, noted=()) for one in encoded]
        whole = isinstance(self.backbone, Whole)
        return [replace(one, reads=(0 if whole else len(one.ids) - 1,)) for one in encoded]

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        values = [float(states.double().sum()) for states in hidden]
        lost = [self.ill == "nan" and len(one.ids) % 3 == 0 for one in encoded]
        return [
            Reward((float("nan"),), status="nan") if nan else Reward((value,))
            for value, nan in zip(values, lost, strict=True)
        ]

    def own(self, one: Encoded) -> Reward:
        states = self.backbone(torch.tensor([[int(token) for token in one.ids]])).last_hidden_state[0, -1]
        return Reward((float(states.double().sum()) * (-1 if self.ill == "other head" else 1),))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("doctor") / "llama", "llama", tie_word_embeddings=False)


@pytest.mark.parametrize(
    ("ill", "check"),
    [
        ("", None),
        ("nan", "finite"),
        ("restless", "deterministic"),
        ("crowded", "batch"),
        ("blind", "padding"),
        ("other head", "own-forward"),
        ("silent", "control-tokens"),
        ("unbounded", "positions"),
    ],
)
def test_a_broken_model_fails_on_its_own_line(ill: str, check: str | None) -> None:
    diagnosis = rmbench.diagnose(Model(ill, positions=512))
    assert diagnosis.failed == ([check] if check else [])
    assert [one.check for one in diagnosis.findings] == [*CHECKS]


def test_what_padding_does_to_a_class_that_is_run_alone_is_said() -> None:
    assert rmbench.diagnose(Model(backbone=Whole, positions=512)).failed == []
    diagnosis = rmbench.diagnose(Model("blind", backbone=Whole, positions=512))
    assert diagnosis.failed == ["padding"]
    assert "rmbench runs each sequence alone" in diagnosis["padding"].told
    assert diagnosis["batch"].verdict == "pass"


# What begins the text and what begins a turn end alike
BEGUN = (
    "{{ '<|system|>' }}{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{{ eos_token }}"
    "{% endfor %}"
)
THINK = "message.content.split('</think>')[-1]"


@pytest.mark.parametrize(
    ("template", "check", "number"),
    [
        (CHAT, None, 0),
        ("{{ bos_token }}" + CHAT, "bos-eos", 2),
        (CHAT.replace("{{ eos_token }}\n", "{{ eos_token }}{{ eos_token }}\n"), "bos-eos", 2),
        (CHAT.replace("message.content", THINK), "thinking", 69),
        (CHAT.replace("\n{{", "\n{% if message.role == 'assistant' and '<think>' not in message.content %}"
         "<think>\n\n</think>\n\n{% endif %}{{"), "thinking", 1),
        ("{% if messages[0].role != 'system' %}<|system|>\nBe kind.{{ eos_token }}\n{% endif %}" + CHAT,
         "system-added", None),
        (BEGUN, None, 0),
        (BEGUN.replace("{{ '", "{{ '<|user|>rules<|assistant|>"), "system-added", None),
        ("You talk to a curious user.\n" + CHAT, "system-added", None),
        (CHAT.replace("message.content", "message.content | trim"), "white-space", 15),
        (CHAT.replace("message.content", "(message.content | trim if message.role == 'user' else message.content)"),
         "white-space", 5),
        (CHAT.replace("in messages", "in messages if message.role != 'system'"), "system-kept", 29),
        ("{{ tools | tojson if tools else '' }}" + CHAT, "tools", None),
    ],
)  # fmt: skip
def test_what_a_template_does_to_texts_is_on_its_own_line(template: str, check: str | None, number: int | None) -> None:
    model = Model(template=template)
    made = {one.check: one for one in texts.findings(model, model.rendering)}
    assert [name for name, one in made.items() if one.verdict == "fail"] == ([check] if check else [])
    if check and number is not None:
        assert made[check].number == number


def test_a_template_that_writes_tools_calls_and_results_takes_tools() -> None:
    given = "{% for key in call.function.arguments %} {{ key }}={{ call.function.arguments[key] }}{% endfor %}"
    call = "{% for call in message.tool_calls or [] %}<{{ call.function.name }}" + given + ">{% endfor %}"
    model = Model(template="{{ tools | tojson if tools else '' }}" + CHAT.replace("{{ eos", call + "{{ eos"))
    (tools,) = (one for one in texts.findings(model, model.rendering) if one.check == "tools")
    assert (tools.verdict, tools.number) == ("pass", 0)


def test_what_the_authors_of_a_known_model_do_is_no_fault_of_it() -> None:
    model = Model(template=CHAT.replace("message.content", "message.content | trim"))
    assert rmbench.diagnose(model).failed == ["white-space"]
    model.subject = Subject("tests/means", "tests", None, {"known": {"entry": "trimmer", "verified": True}})
    finding = rmbench.diagnose(model)["white-space"]
    assert (finding.verdict, finding.number) == ("pass", 15)
    assert "as its authors read it (trimmer): the template trims" in finding.told


def test_conversations_that_cannot_be_read_are_counted_and_the_rest_is_examined() -> None:
    short = "{% if messages|length > 2 %}{{ raise_exception('two turns only') }}{% endif %}" + CHAT
    diagnosis = rmbench.diagnose(Model(template=short, positions=512))
    assert (diagnosis.failed, diagnosis["finite"].number) == (["finite"], 4)
    assert "16 of 20 answers are numbers; 4 error: the chat template fails: two turns only" in diagnosis["finite"].told
    assert diagnosis["batch"].verdict == "pass"
    assert rmbench.diagnose(Model(positions=10)).failed == ["finite"]


def test_a_template_that_refuses_is_no_failure() -> None:
    no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHAT
    model = Model(template=no_system)
    (kept,) = (one for one in texts.findings(model, model.rendering) if one.check == "system-kept")
    assert kept.verdict == "does not apply"
    assert "no system here" in kept.told


def test_a_checkpoint_passes_every_line_that_applies(llama: Path) -> None:
    diagnosis = rmbench.diagnose(llama)
    assert diagnosis.failed == []
    assert diagnosis.of("does not apply") == ["tools"]
    assert isinstance(diagnosis["own-forward"].number, float)
    assert diagnosis["own-forward"].number < 1e-5
    assert diagnosis["shared-prefix"].number < 1e-5  # type: ignore[operator]


def test_a_reward_read_elsewhere_than_by_the_class_fails_own_forward(llama: Path, tmp_path: Path) -> None:
    """Read at the last token, a line break, of which the config says that it is the pad token."""
    folder = copied(llama, tmp_path)
    newline = bytes_bpe()("\n", add_special_tokens=False)["input_ids"][-1]
    change_config(folder, pad_token_id=newline)
    assert rmbench.diagnose(folder, pooling="last").failed == ["own-forward"]


def test_packed_forwards_that_are_off_fail_shared_prefix(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmbench.forwards.loop.positions", lambda tree, backbone: tree.positions * 0)
    diagnosis = rmbench.diagnose(llama)
    assert diagnosis.failed == ["shared-prefix"]
    assert "hidden states are off by" in diagnosis["shared-prefix"].told


def test_orders_that_turn_in_16_bit_fail_dtype(tmp_path: Path) -> None:
    """Layers add so little to what the last token is that bfloat16 has no room for it."""
    folder = make(tmp_path / "flat", "llama", initializer_range=1e-3)
    diagnosis = rmbench.diagnose(folder)
    assert diagnosis.failed == ["dtype"]
    assert diagnosis["dtype"].number >= 1  # type: ignore[operator]


def test_a_tokenizer_that_transformers_rebuilds_otherwise_fails_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = make(tmp_path / "rm", "qwen2")
    assert texts.of_tokenizer(AutoTokenizer.from_pretrained(folder), locate(str(folder), None)).verdict == "pass"
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"add_prefix_space": false', '"add_prefix_space": true'))
    finding = texts.of_tokenizer(AutoTokenizer.from_pretrained(folder), locate(str(folder), None))
    assert finding.verdict == "fail"
    assert finding.number


@pytest.mark.parametrize("ask", ["steps", "compare", "tokens"])
def test_models_that_answer_something_else_are_asked_that(ask: Ask) -> None:
    diagnosis = rmbench.diagnose(TinyTokenModel([ask]))
    assert diagnosis.failed == []
    assert {"finite", "deterministic", "batch"} <= set(diagnosis.of("pass"))
    assert diagnosis["thinking"].told == "it does not say how it writes texts"


def test_a_model_that_runs_its_own_work_is_held_to_itself() -> None:
    calls: list[Request] = []

    def forgetful(request: Request) -> float:
        calls.append(request)
        return float(len(calls))

    assert rmbench.diagnose(Scripted(lambda request: len(request.responses[0].text or ""))).failed == []
    assert rmbench.diagnose(Scripted(lambda request: float("nan"))).failed == ["finite"]
    assert rmbench.diagnose(Scripted(forgetful)).failed == ["deterministic"]
    compared = Scripted(lambda request: Reward((0.6, 0.4)), ["compare"])
    assert rmbench.diagnose(compared).failed == []


class Writer:
    """A policy that writes the number of characters it is shown, or of how often it was asked."""

    fingerprint = None
    subject = Subject("tests/writer", "tests")

    def __init__(self, *, counts: bool = False) -> None:
        self.counts, self.calls = counts, 0

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            self.calls += 1
            yield index, Response(str(self.calls if self.counts else len(request.prompt[0].text)))


class Judge:
    """Rates a response by what its policy writes about it."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = "judge:1"
    subject = Subject("tests/judge", "tests")

    def __init__(self, policy: Writer) -> None:
        self.policy = policy

    def ask(self, request: Request, written: Sequence[Response]) -> Sequence[GenerationRequest]:
        return [] if written else [GenerationRequest((Message("user", request.responses[0].text or ""),))]

    def verdict(self, request: Request, written: Sequence[Response]) -> Reward:
        return Reward((float(written[-1].text or "nan"),))


def test_a_judge_is_asked_twice() -> None:
    diagnosis = rmbench.diagnose(Judge(Writer()))  # type: ignore[arg-type]
    assert diagnosis.failed == []
    assert diagnosis["bos-eos"].told == "its policy writes"
    assert rmbench.diagnose(Judge(Writer(counts=True))).failed == ["deterministic"]  # type: ignore[arg-type]


@pytest.mark.prove
@pytest.mark.parametrize("case", READY, ids=str)
def test_a_sound_checkpoint_of_every_family_passes(case: Case, tmp_path: Path) -> None:
    """But for the orders of ten pairs: random weights may rate two answers alike."""
    folder = case.written(tmp_path / "model", 0)
    diagnosis = rmbench.diagnose(case.spec(folder))
    assert set(diagnosis.failed) <= {"dtype"}
    assert diagnosis["batch"].verdict == "pass"
    of_forwards = [one for one in diagnosis.members if one["shared-prefix"].verdict != "does not apply"]
    assert of_forwards or not diagnosis.members
    assert all(member["shared-prefix"].verdict == "pass" for member in of_forwards if case.packed)


def test_members_have_a_table_each() -> None:
    lengths = Scripted(lambda request: len(request.responses[0].text or ""))
    diagnosis = rmbench.diagnose(MeanOf(lengths, Model("blind")))  # type: ignore[arg-type]
    assert [one.model for one in diagnosis.members] == ["tests/scripted", "tests/means"]
    assert diagnosis.failed == ["padding"]
    assert diagnosis["batch"].told == "it fits to all that it is asked"
    assert diagnosis["padding"].told == "it combines what its members answer"


def test_the_conversations_are_ten_pairs() -> None:
    assert len(CONVERSATIONS) == 10
    assert len(requests_of("reward")) == 20
    assert len(requests_of("compare")) == 10
    assert all(one.right != one.wrong for one in CONVERSATIONS)


def test_the_command_prints_a_line_a_check_and_exits_by_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["doctor", "-m", "length"]) == 0
    printed = capsys.readouterr().out
    assert all(check in printed for check in CHECKS)
    assert max(len(line) for line in printed.splitlines() if line[0] in "┏┡│└") == 80
    assert "does not apply: padding, own-forward, shared-prefix, bos-eos" in printed
    assert main(["doctor", "-m", "length", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert [one["check"] for one in row["findings"]] == [*CHECKS]


def test_a_failing_line_is_exit_code_1_unless_it_is_accepted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ill = Diagnosis("a/b", "tests", (Finding("padding", "fail", 0.5, "moved [by] padding"),))
    monkeypatch.setattr("rmbench.doctor.examine.diagnose", lambda model, **options: ill)
    assert main(["doctor", "-m", "length"]) == 1
    assert "moved [by] padding" in capsys.readouterr().out
    assert main(["doctor", "-m", "length", "--accept", "padding"]) == 0
    assert "accepted: moved" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "length", "--accept", "pading"], "unknown check 'pading' (did you mean 'padding'?)"),
        (["--dtype", "bfloat16"], "options are about a model; expected -m MODEL"),
        (["-m", "length", "--dtype", "bfloat16"], "unknown option --dtype of length"),
        (["-m", "scores:{file}"], "looks rewards up by example; expected a model that can be asked"),
    ],
)
def test_what_cannot_be_examined_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scores.jsonl"
    file.write_text('{"example_id": "a", "candidate": 0, "reward": 1.0}\n')
    assert main(["doctor", *(word.format(file=file) for word in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def copied(folder: Path, target: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, target / "copy"))


def change_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
