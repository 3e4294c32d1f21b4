"""Checkpoints that are damaged, absurd or hostile: one line, soon, and never the old rewards or random ones."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fingerprints
import pytest
import torch
from checkpoints import make
from fingerprints import LAYOUTS, edit, rows
from safetensors.torch import load_file, save_file

from rmbench.checkpoints import fingerprint, opened
from rmbench.checkpoints.adapters import merges
from rmbench.errors import ModelError, RmbenchError
from rmbench.models import classifier
from rmbench.models.spec import open_model

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and an adapter on it."""
    home = tmp_path_factory.mktemp("plain")
    LAYOUTS["adapted"](home / "rm")
    return home / "rm"


@pytest.fixture
def adapter(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "rm")) / "adapter"


@pytest.fixture
def llama(adapter: Path) -> Path:
    return adapter.parent / "base"


def refusal(folder: Path) -> str:
    """The line that refuses a checkpoint, within seconds; nothing where it is read."""
    begun, told = time.perf_counter(), ""
    try:
        with open_model(str(folder)).started("cpu"):
            pass
    except RmbenchError as error:
        told = str(error)
    assert time.perf_counter() - begun < 20
    assert "\n" not in told
    return told


# damaged files

BROKEN = {
    "empty": b"",
    "half": None,
    "zeros": bytes(100),
    "a list": b"[]",
    "nothing": b"{}",
    "deep": b"[" * 100_000,
    "no UTF-8": b'{"a": "\xff"}',
    "long digits": b'{"a": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("damage", BROKEN)
@pytest.mark.parametrize(
    "name", ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_damaged_file_is_one_line(adapter: Path, name: str, damage: str) -> None:
    file = adapter / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if BROKEN[damage] is None else BROKEN[damage])
    told = refusal(adapter)
    assert told or name == "tokenizer_config.json"
    assert "unexpected" not in told


WRONG = {
    "config.json": {"architectures": 3, "hidden_size": "x", "num_hidden_layers": -1, "rope_parameters": [None],
                    "vocab_size": None, "pad_token_id": 10**6, "id2label": 7, "auto_map": 3, "dtype": "int3"},
    "tokenizer_config.json": {"model_max_length": [], "tokenizer_class": 7, "bos_token": {"a": 1}},
    "tokenizer.json": {"normalizer": 3, "model": None, "added_tokens": [None], "post_processor": {"type": "x"}},
}  # fmt: skip


@pytest.mark.parametrize(("file", "field"), [(file, field) for file, fields in WRONG.items() for field in fields])
def test_a_field_of_another_kind_is_one_line(llama: Path, file: str, field: str) -> None:
    edit(llama / file, **{field: WRONG[file][field]})
    assert "unexpected" not in refusal(llama)


@pytest.mark.parametrize("field", ["peft_type", "r", "target_modules", "base_model_name_or_path", "revision"])
@pytest.mark.parametrize("value", [7, None, [None]])
def test_an_adapters_field_of_another_kind_is_one_line(adapter: Path, field: str, value: Any) -> None:
    edit(adapter / "adapter_config.json", **{field: value})
    assert "unexpected" not in refusal(adapter)


# absurd and hostile ones


@pytest.mark.parametrize(
    "field",
    ["num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads", "head_dim"],
)
@pytest.mark.parametrize("number", [2**40, 60_000])
def test_absurd_numbers_of_a_config_are_one_line(llama: Path, field: str, number: int) -> None:
    edit(llama / "config.json", **{field: number})
    assert refusal(llama)


@pytest.mark.parametrize("fields", [{"r": 2**40}, {"r": 10**9}, {"rank_pattern": {"q_proj": 10**8}}, {"r": 60_000}])
def test_absurd_ranks_of_an_adapter_are_one_line(adapter: Path, fields: dict[str, Any]) -> None:
    edit(adapter / "adapter_config.json", **fields)
    assert refusal(adapter)


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": r"((\w|\.)+)+(\.|\w)+!"},
        {"rank_pattern": {r"(.*.*.*.*.*.*.*.*.*)*!": 4}},
        {"exclude_modules": r"(a|b|c|\w|\.|.)*!"},
    ],
)
def test_patterns_of_an_adapter_that_do_not_end_are_one_line(adapter: Path, fields: dict[str, Any]) -> None:
    edit(adapter / "adapter_config.json", **fields)
    with patch("rmbench.checkpoints.bounds._SECONDS", 0.5):
        assert "takes more than 0.5 s to match the names of the model's modules" in refusal(adapter)


def growing(times: int, pattern: dict[str, str], content: str) -> dict[str, Any]:
    one = {"type": "Replace", "pattern": pattern, "content": content}
    return {"type": "Sequence", "normalizers": [one] * times}


@pytest.mark.parametrize(
    "normalizer",
    [growing(40, {"String": "a"}, "aa"), growing(1, {"String": "e"}, "e" * 5000), growing(30, {"Regex": "b*"}, "b")],
)
def test_normalizers_that_explode_are_one_line(llama: Path, normalizer: dict[str, Any]) -> None:
    edit(llama / "tokenizer.json", normalizer=normalizer)
    assert "has a normalizer that makes a text up to" in refusal(llama)


def test_normalizers_of_real_tokenizers_are_read(llama: Path) -> None:
    edit(llama / "tokenizer.json", normalizer=growing(3, {"String": " "}, "▁"))
    assert not refusal(llama)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "anything"])
def test_a_pipe_or_device_among_files_is_one_line(llama: Path, name: str) -> None:
    (llama / name).unlink(missing_ok=True)
    os.mkfifo(llama / name)
    assert refusal(llama) == f"local/base: {name} is a pipe, device or socket; expected files"
    (llama / name).unlink()
    (llama / name).symlink_to("/dev/zero")
    assert "is a pipe, device or socket" in refusal(llama)


def test_a_pipe_among_further_templates_is_not_waited_for(llama: Path) -> None:
    (llama / "additional_chat_templates").mkdir()
    os.mkfifo(llama / "additional_chat_templates" / "more.jinja")  # which transformers passes over
    hashing = fingerprint._file_sha256

    def hashed(path: Path) -> str:
        assert path.is_file()
        return hashing(path)

    with patch.object(fingerprint, "_file_sha256", hashed):
        assert not refusal(llama)


# weights


def test_weights_are_safetensors_wherever_they_are_named(tmp_path: Path) -> None:
    folder = LAYOUTS["sharded"](tmp_path / "rm")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shard = min(index["weight_map"].values())
    for ending in ("bin", "pt", "pkl"):
        other = f"one.{ending}"
        torch.save(load_file(folder / shard), folder / other)
        moved = {name: other if file == shard else file for name, file in index["weight_map"].items()}
        edit(folder / "model.safetensors.index.json", weight_map=moved)
        assert f"local/rm: {other} is named as a file of weights; weights are read from" in refusal(folder)
    edit(folder / "config.json", transformers_weights="one.bin")
    assert "one.bin is named as a file of weights" in refusal(folder)


def test_the_broken_shard_is_named(tmp_path: Path) -> None:
    folder = LAYOUTS["in_subfolder"](tmp_path / "rm")
    shard = folder / "shards" / "two.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert refusal(folder).startswith("local/rm: shards/two.safetensors: ")
    shard.unlink()
    assert refusal(folder) == "local/rm: shards/two.safetensors, which holds weights, is not there"


def test_an_adapter_of_another_format_is_refused(adapter: Path) -> None:
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors is missing (adapter_model.bin is); no other format" in refusal(adapter)


@pytest.mark.parametrize("lacking", ["lora_B", "layers.1.", "score", "q_proj.lora_A"])
def test_an_adapter_without_all_of_its_weights_is_refused(adapter: Path, lacking: str) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({n: w for n, w in weights.items() if lacking not in n}, adapter / "adapter_model.safetensors")
    assert "not in adapter_model.safetensors; they would be random" in refusal(adapter)


def test_what_is_left_over_is_told_beside_what_is_missing(llama: Path, adapter: Path) -> None:
    weights = load_file(llama / "model.safetensors")
    save_file({n.replace("score", "v_head"): w for n, w in weights.items()}, llama / "model.safetensors")
    edit(llama / "config.json", architectures=["LlamaForSequenceClassification"])
    told = "score.weight is not in the checkpoint, which has v_head.weight to spare; its rewards would be random"
    assert refusal(llama) == f"local/base: {told}"
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({n.replace(".score.", ".rm_head."): w for n, w in weights.items()}, adapter / "adapter_model.safetensors")
    assert "rm_head" in refusal(adapter) or "v_head" in refusal(adapter)


def test_code_that_is_not_run_is_said_where_weights_do_not_fit(llama: Path) -> None:
    weights = load_file(llama / "model.safetensors")
    save_file({n.replace("score", "v_head"): w for n, w in weights.items()}, llama / "model.safetensors")
    edit(llama / "config.json", auto_map={"AutoModelForSequenceClassification": "modeling_rm.Rm"})
    assert "config.json names modeling_rm.Rm, code that comes with the checkpoint: --trust-remote-code" in refusal(
        llama
    )


@pytest.mark.parametrize(
    ("file", "missing", "told"),
    [
        ("tokenizer.model", "sentencepiece", "pip install sentencepiece"),
        ("spiece.model", "google.protobuf", "pip install protobuf"),
        ("tiktoken.model", "tiktoken", "pip install tiktoken"),
    ],
)
def test_what_a_tokenizer_needs_is_asked_for_by_its_name(llama: Path, file: str, missing: str, told: str) -> None:
    (llama / "tokenizer.json").unlink()
    (llama / file).write_bytes(b"of no use")
    with patch("rmbench.checkpoints.weights._installed", lambda module: module != missing):
        assert refusal(llama).endswith(told)


@pytest.mark.parametrize("name", ["LlamaForTokenClassification", "BertForTokenClassification"])
def test_a_token_classifier_is_no_sequence_classifier(llama: Path, name: str) -> None:
    edit(llama / "config.json", architectures=[name])
    with pytest.raises(ModelError, match=f"{name}, which has a value at every token"):
        classifier.open(str(llama), {})


def test_an_adapter_of_a_token_classifier_is_none_of_a_sequence_classifier(adapter: Path) -> None:
    edit(adapter / "adapter_config.json", task_type="TOKEN_CLS")
    with pytest.raises(ModelError, match="an adapter of a token classifier, as TRL's PRMTrainer makes"):
        classifier.open(str(adapter), {})


@pytest.mark.parametrize("kind", ["XLORA", "POLY", "CPT", "NEW"])
def test_an_adapter_that_cannot_be_read_is_named(adapter: Path, kind: str) -> None:
    edit(adapter / "adapter_config.json", peft_type=kind)
    assert kind in refusal(adapter)


def test_an_old_peft_is_refused(adapter: Path) -> None:
    with patch("peft.__version__", "0.19.1"):
        assert "peft 0.19.1 runs code that one names: expected peft >= 0.20" in refusal(adapter)


def test_an_adapter_becomes_part_of_whole_weights_only() -> None:
    whole, packed = torch.nn.Linear(4, 4), torch.nn.Module()
    packed.weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.uint8), requires_grad=False)
    described = torch.nn.Linear(4, 4)
    for model, config in ((whole, {}), (packed, {}), (described, {"quantization_config": {"quant_method": "hqq"}})):
        model.config = type("Config", (), config)()
    assert merges(whole, {"peft_type": "LORA"})
    assert not merges(whole, {"peft_type": "OFT"})
    assert not merges(packed, {"peft_type": "LORA"})
    assert not merges(described, {"peft_type": "LORA"})


# a changed checkpoint

TOLD = ("a tensor", "another shard", "split_special_tokens", "rms_norm_eps")


@pytest.mark.parametrize("layout", ["outside", "adapter_inside"])
def test_no_reward_moves_under_an_old_fingerprint(layout: str) -> None:
    table = list(rows({layout: LAYOUTS[layout]}, lambda change: change.endswith(TOLD)))
    assert not [row for row in table if row.kept and row.moved]
    assert sum(row.moved for row in table) >= 3


@pytest.mark.prove
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_reward_moves_under_an_old_fingerprint_of_any_layout(layout: str) -> None:
    table = list(rows({layout: LAYOUTS[layout]}, lambda change: change.endswith((*TOLD, "model_input_names", ": r"))))
    assert not [row for row in table if row.kept and row.moved]
    assert sum(row.moved for row in table) >= 2


def test_a_change_that_no_fingerprint_covers_is_seen_by_the_table() -> None:
    with patch.object(opened, "weight_files", lambda _: set()), patch.object(opened, "check_opened", lambda *_: None):
        table = rows({"sharded": fingerprints.sharded}, lambda change: "two.safetensors: a tensor" in change)
        assert any(row.kept and row.moved for row in table)


@pytest.mark.parametrize("name", ["model.safetensors", "generation_config.json", "adapter_model.safetensors"])
def test_the_files_of_a_policy_are_in_its_fingerprint(tmp_path: Path, name: str) -> None:
    import causal
    import peft
    from transformers import AutoModelForCausalLM

    from rmbench.policies import local

    folder = causal.make(tmp_path / "lm")
    own = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    )
    own.save_pretrained(folder)
    edit(folder / "adapter_config.json", base_model_name_or_path=str(folder))
    before = local.open(str(folder), {}).fingerprint
    if name.endswith(".json"):
        edit(folder / name, eos_token_id=[5, 6])
    else:
        save_file({n: w + 0.1 for n, w in load_file(folder / name).items()}, folder / name, metadata={"format": "pt"})
    assert local.open(str(folder), {}).fingerprint != before
    assert local.open(str(folder), {}).start("cpu").ends


# the base of an adapter


def test_a_relative_base_lies_beside_the_adapter_and_another_may_be_given(
    adapter: Path, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not refusal(adapter)
    moved = llama.rename(tmp_path / "elsewhere")
    assert "its base base: " in refusal(adapter)
    assert "?base=FOLDER or ?base=ID says where it is" in refusal(adapter)
    given: Any = open_model(f"{adapter}?base={moved}")
    assert given.subject.settings["base"] == "local/elsewhere"
    with given.started("cpu"):
        pass
    with pytest.raises(RmbenchError, match="is no adapter, and has no base"):
        open_model(f"{moved}?base={moved}")
    with pytest.raises(ModelError, match="its base local/adapter is an adapter itself"):
        open_model(f"{adapter}?base={adapter}")


def test_an_adapter_grows_the_table_of_its_base(tmp_path: Path) -> None:
    import peft
    from ask_models import score
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from rmbench.types import Message, Request, Response

    base = make(tmp_path / "base", "llama")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<think>", "</think>"])
    own = AutoModelForSequenceClassification.from_pretrained(base)
    own.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS", modules_to_save=["score"])
    put = peft.get_peft_model(own, config).eval()
    put.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    asked = Request("reward", (Message("user", "Hi"),), (Response("<think>So</think> Hello"),))
    with classifier.open(str(tmp_path / "adapter"), {}).started("cpu") as model:
        (encoded,) = model.encode([asked])
        with torch.inference_mode():
            expected = put(input_ids=torch.tensor([list(encoded.ids)])).logits.item()
        assert max(encoded.ids) >= 500
        assert score(model, [asked])[0].value == pytest.approx(expected, abs=1e-5)
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    weights["base_model.model.model.embed_tokens.lora_embedding_A"] = torch.zeros(2, 502)
    del weights["base_model.model.model.embed_tokens.weight"]
    save_file(weights, tmp_path / "adapter" / "adapter_model.safetensors")
    assert "is one of 502 rows, and that of the base has 500" in refusal(tmp_path / "adapter")


@pytest.mark.parametrize("kind", ["ia3", "vera", "oft", "prompt", "prefix"])
def test_other_kinds_of_adapters_give_what_peft_gives(plain: Path, tmp_path: Path, kind: str) -> None:
    import peft
    from ask_models import score
    from transformers import AutoModelForSequenceClassification

    from rmbench.types import Message, Request, Response

    named = {"task_type": "SEQ_CLS"}
    configs = {
        "ia3": lambda: peft.IA3Config(
            target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], **named
        ),
        "vera": lambda: peft.VeraConfig(r=4, target_modules=["q_proj"], save_projection=False, **named),
        "oft": lambda: peft.OFTConfig(oft_block_size=4, target_modules=["q_proj"], **named),
        "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=3, **named),
        "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, **named),
    }
    own = AutoModelForSequenceClassification.from_pretrained(plain / "base")
    put = peft.get_peft_model(own, configs[kind]())
    with torch.no_grad():
        for weight in put.parameters():
            weight.add_(torch.randn_like(weight) * 0.2 if weight.requires_grad else 0)
    put.eval().save_pretrained(tmp_path / "adapter")
    asked = [Request("reward", (Message("user", "Hi"),), (Response(text),)) for text in ("No.", "It is 95, so yes.")]
    with classifier.open(str(tmp_path / "adapter"), {}).started("cpu") as model, torch.inference_mode():
        ids = [list(one.ids) for one in model.encode(asked)]
        mask = [torch.ones(1, len(one), dtype=torch.long) for one in ids]
        expected = [put(torch.tensor([one]), attention_mask=m).logits.item() for one, m in zip(ids, mask, strict=True)]
        assert [reward.value for reward in score(model, asked)] == pytest.approx(expected, abs=1e-4)


def test_the_head_has_the_rows_that_it_has(llama: Path) -> None:
    config = json.loads((llama / "config.json").read_text())
    for name in ("id2label", "label2id", "num_labels"):
        config.pop(name, None)
    (llama / "config.json").write_text(json.dumps(config))
    assert not refusal(llama)
    edit(llama / "config.json", id2label={"0": "reward", "1": "other"}, label2id={"reward": 0, "other": 1})
    assert "score.weight has the shape [1, 64], and config.json describes [2, 64]" in refusal(llama)
