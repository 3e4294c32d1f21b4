"""The table of known models: how a checkpoint is known, what an entry changes, and what a result says of it."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import causal
import pytest
import torch
from ask_models import score
from gated_checkpoints import armorm
from safetensors.torch import load_file, save_file

from rmbench.checkpoints.fingerprint import Checkpoint
from rmbench.checkpoints.notes import NOT_TRAINED_WITH_SYSTEM
from rmbench.errors import ModelError, UsageError
from rmbench.models import known
from rmbench.models.spec import open_model
from rmbench.plugins import MODELS, load
from rmbench.types import Message, Request, Response

ASKED = Request("reward", (Message("user", "Hi"),), (Response("Yes, so it is."),))
TABLE = """
[mine]
family = "value_head"
ids = ["me/mine-*"]
weights = ["reward_line.weight"]
verified = true
[mine.options]
bos = "one"
[mine.rule]
head = "linear"
weights = ["reward_line"]
sign = -1
[mine.sources]
head = "me/mine@0:train.py"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A causal model with a head that no family would look for."""
    made = causal.make(tmp_path / "rm")
    weights = load_file(made / "model.safetensors")
    head = {"reward_line.weight": torch.linspace(-1, 1, 64)[None]}
    save_file({**weights, **head}, made / "model.safetensors", metadata={"format": "pt"})
    return made


def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str = TABLE) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    monkeypatch.setenv("RMBENCH_KNOWN", str(file))


def test_an_own_table_says_how_an_own_model_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"reward_line.weight \[1, 64\], which no family reads"):
        open_model(str(folder))
    table(tmp_path, monkeypatch)
    opened = open_model(str(folder))
    assert (opened.subject.family, opened.subject.settings["known"]) == (
        "value_head",
        {"entry": "mine", "verified": True},
    )
    assert opened.subject.settings["rendering"]["bos"] == "one"
    with opened.started("cpu") as model:
        (reward,) = score(model, [ASKED])
        (encoded,) = model.encode([ASKED])
        with torch.inference_mode():
            state = model.backbone(input_ids=torch.tensor([list(encoded.ids)])).last_hidden_state[0, -1]
    assert reward.value == pytest.approx(-float(state @ torch.linspace(-1, 1, 64)), abs=1e-5)


@pytest.mark.parametrize("bos", ["auto", "none"])
def test_what_the_user_asks_for_stands_before_the_entry_even_where_it_is_the_default(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bos: str
) -> None:
    table(tmp_path, monkeypatch)
    own, asked = open_model(str(folder)), open_model(f"{folder}?bos={bos}")
    assert asked.subject.settings["rendering"].get("bos", "auto") == bos
    assert asked.subject.settings["known"] == {"entry": "mine", "verified": True, "changed": ["bos"]}
    assert asked.fingerprint != own.fingerprint
    assert open_model(f"{folder}?bos=one").fingerprint == own.fingerprint


def test_an_entry_is_left_by_name_and_chosen_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path, monkeypatch, TABLE.replace('weights = ["reward_line.weight"]', "", 1))
    chosen = open_model(f"{folder}?entry=mine")
    assert chosen.subject.family == "value_head"
    with pytest.raises(UsageError, match="does not say what family it is"):
        open_model(f"{folder}?entry=none")
    with pytest.raises(UsageError, match=r"entry='mime': no known model is called so; did you mean|entry='mime'"):
        open_model(f"{folder}?entry=mime")


def test_the_family_of_another_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path, monkeypatch)
    with pytest.raises(UsageError, match=r"is mine, which the family value_head reads: write value_head:.*entry=none"):
        open_model(f"classifier:{folder}")


def test_what_is_not_verified_is_read_where_that_is_allowed_and_stamped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path, monkeypatch, TABLE.replace("verified = true", "verified = false"))
    with pytest.raises(UsageError, match="was not verified against its authors' code: --allow-unverified"):
        open_model(str(folder))
    with pytest.warns(UserWarning, match="read as mine, an entry that was not verified"):
        opened = open_model(str(folder), allow_unverified=True)
    assert opened.subject.settings["known"] == {"entry": "mine", "verified": False}


def test_what_cannot_be_read_is_refused_with_its_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path, monkeypatch, TABLE.replace("verified = true", 'refused = "its head is pickled"'))
    with pytest.raises(ModelError, match=r"local/rm is mine, which cannot be read: its head is pickled"):
        open_model(str(folder))


def test_a_system_turn_that_its_authors_give_is_put_and_one_they_do_not_is_noted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path, monkeypatch, TABLE.replace("verified = true", 'verified = true\nsystem = "Reason."'))
    with open_model(str(folder)).started("cpu") as model:
        assert "Reason." in model.shown(ASKED).text
    table(tmp_path, monkeypatch, TABLE.replace("verified = true", "verified = true\nno_system = true"))
    with_system = Request("reward", (Message("system", "Be brief."), *ASKED.prompt), ASKED.responses)
    with open_model(str(folder)).started("cpu") as model:
        plain, noted = model.encode([ASKED, with_system])
    assert (plain.noted, noted.noted) == ((), (NOT_TRAINED_WITH_SYSTEM,))


@pytest.mark.filterwarnings("ignore:local/rm. reward_line.weight is in the checkpoint but no part of the model")
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            'family = "value_head"',
            'family = "dpo"',
            r"own.toml, mine: family = 'dpo'; expected 'likelihood', which reads the checkpoint itself",
        ),
        ("family =", "famly =", r"own.toml, mine: unknown key 'famly'.*family"),
        ('ids = ["me/mine-*"]', 'ids = "me/mine-*"', r"own.toml, mine: ids = 'me/mine-\*'; expected a list of texts"),
        ("verified = true", 'verified = "yes"', r"verified = 'yes'; expected true or false"),
        ('bos = "one"', 'boss = "one"', r"unknown option 'boss' of the entry mine, of family value_head"),
        ('head = "linear"', 'head = "lines"', r"a head 'lines' in the rule of its entry; expected one of linear, mlp"),
        ('["reward_line"]', '["reward_lime"]', r"no reward_lime.weight in the checkpoint"),
        ('["reward_line"]', "[]", r"weights = \[\] in the rule of its entry; expected a list of texts"),
        (
            '["reward_line"]',
            '"reward_line"',
            r"weights = 'reward_line' in the rule of its entry; expected a list",
        ),
        ("sign = -1", 'sign = "minus"', r"sign = 'minus' in the rule of its entry; expected a number"),
        ("sign = -1", "sign = inf", r"sign = inf in the rule of its entry; expected a number"),
        ("sign = -1", 'read = "before"', r"no 'token' in the rule of its entry, before which it is read"),
        ("sign = -1", 'normalizer = "yes"', r"normalizer = 'yes' in the rule of its entry; expected true or false"),
        ('head = "linear"', "", r"a head None in the rule of its entry; expected one of linear"),
        ('head = "linear"', 'head = ["linear"]', r"a head \['linear'\] in the rule of its entry; expected one of"),
        (
            'bos = "one"',
            'max_length = "long"',
            r"max_length='long' of the entry mine, of family value_head: expected",
        ),
        (
            'bos = "one"',
            'fold_system = "yes"',
            r"fold_system='yes' of the entry mine, of family value_head: ",
        ),
        ('bos = "one"', "trust_remote_code = true", r"own.toml, mine: options.trust_remote_code is no fact of a model"),
        ('bos = "one"', 'entry = "armorm"', r"own.toml, mine: options.entry is no fact of a model"),
        (
            '"value_head"',
            '"valuehead"',
            r"mine: family = 'valuehead', which there is not .did you mean",
        ),
        ('"value_head"', '"length"', r"own.toml, mine: family = 'length'; expected one that reads checkpoints"),
        ("[mine", "[none", r"own.toml, none: \?entry=none leaves the table aside; give the entry another name"),
        (
            "verified = true",
            'system = ""\nno_system = true',
            r"mine: system and no_system; expected one of them",
        ),
        (
            'head = "me/mine@0:train.py"',
            "head = 3",
            r"mine: sources = {'head': 3}; expected a table of texts",
        ),
        ("[mine.rule]", "[mine", r"own.toml cannot be read as TOML"),
    ],
)
def test_a_table_that_cannot_be_is_told_in_a_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, told: str
) -> None:
    table(tmp_path, monkeypatch, TABLE.replace(old, new))
    with pytest.raises((UsageError, ModelError), match=told) as raised:
        open_model(str(folder)).start("cpu")
    assert "\n" not in str(raised.value)


def test_ids_are_patterns_in_any_case() -> None:
    entry = known.Entry("mine", "value_head", ids=("Me/Mine-*",))
    assert entry.is_of(Checkpoint("me/mine-8b", "c0ffee"))
    assert not entry.is_of(Checkpoint("me/other-8b", "c0ffee"))
    assert not entry.is_of(Checkpoint("me/mine-8b", None)), "a folder may be called anything"


@pytest.mark.parametrize("entry", known.entries().values(), ids=lambda entry: entry.name)
def test_every_entry_of_the_table_has_a_family_options_and_sources(entry: known.Entry) -> None:
    family = load(MODELS, entry.family)
    assert entry.options.keys() <= family.OPTIONS.keys()
    assert entry.refused or entry.sources
    for fact, source in entry.sources.items():
        if entry.verified:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{7,40}:\S.*", source), (fact, source)


@pytest.mark.parametrize(
    "rule",
    [
        "layers = 'score'", "fall = 'much'", "named = {good = -1}", "read = 'end'", "strip = 'yes'", "single = 1",
        "tag = ';'",
    ],
)  # fmt: skip
def test_a_rule_of_steps_is_checked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    text = TABLE[: TABLE.index("[mine.options]")].replace("value_head", "process")
    table(tmp_path, monkeypatch, f"{text}[mine.options]\nstep_tag = ';'\n[mine.rule]\n{rule}\n")
    with pytest.raises(UsageError, match=rule.split(maxsplit=1)[0]) as raised:
        open_model(str(folder))
    assert "\n" not in str(raised.value)
    assert "expected" in str(raised.value)


def test_weights_tell_where_the_config_says_no_architecture(tmp_path: Path) -> None:
    folder = armorm(tmp_path / "rm")
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    assert open_model(str(folder)).subject.settings["known"] == {"entry": "armorm", "verified": True}


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks for it
@pytest.mark.parametrize(("auto", "task"), [("AutoModel", None), ("AutoModelForCausalLM", "CAUSAL_LM")])
def test_an_adapter_is_what_its_base_is_and_may_bring_the_head(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto: str, task: str | None
) -> None:
    import transformers

    peft = pytest.importorskip("peft")
    table(tmp_path, monkeypatch)
    adapter = tmp_path / "adapter"
    with warnings.catch_warnings(action="ignore"):
        model = getattr(transformers, auto).from_pretrained(folder)
        wanted = peft.LoraConfig(task_type=task, r=2, target_modules=["q_proj"], init_lora_weights=False)
        peft.get_peft_model(model, wanted).save_pretrained(adapter)
    opened = open_model(str(adapter))
    assert (opened.subject.family, opened.subject.settings["known"]["entry"]) == ("value_head", "mine")
    (plain,), (adapted,) = (score(open_model(str(one)), [ASKED]) for one in (folder, adapter))
    assert adapted.value != pytest.approx(plain.value, abs=1e-3)
    weights = load_file(adapter / "adapter_model.safetensors")
    head = {"base_model.model.reward_line.weight": 2 * torch.linspace(-1, 1, 64)[None]}
    save_file(weights | head, adapter / "adapter_model.safetensors")
    for spec in (f"{adapter}", f"{folder}?adapter={adapter}"):
        with warnings.catch_warnings(action="error", category=UserWarning):
            (twice,) = score(open_model(spec), [ASKED])
        assert twice.value == pytest.approx(2 * adapted.value, rel=1e-5)
    save_file(weights | {"base_model.model.reward_line.lora_A.weight": torch.ones(2, 64)},
              adapter / "adapter_model.safetensors")  # fmt: skip
    with pytest.raises(ModelError, match=r"it adapts a head, by reward_line.lora_A.weight; expected one that is saved"):
        open_model(f"value_head:{folder}?adapter={adapter}").start("cpu")
