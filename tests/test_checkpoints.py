"""What a checkpoint is: opened without weights, hashed by the files that loading reads, made of several."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import causal
import pytest
import torch
import transformers
from ask_models import score
from checkpoints import make
from safetensors.torch import load_file, save_file
from started import start_classifier, start_policy
from transformers import AutoModelForSequenceClassification

from rmbench.checkpoints import opened
from rmbench.errors import ModelError, UsageError
from rmbench.models import classifier, demo
from rmbench.policies import local
from rmbench.scoring import Asking, Session, Store
from rmbench.types import GenerationRequest, Message, Question, Request, Response

REQUESTS = [
    Request("reward", (Message("user", "Why? " * count),), (Response("So. " * count),)) for count in range(1, 4)
]
TOOL_CHAT = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
)
quiet_peft = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return make(tmp_path / "llama", "llama")


def values(model: classifier.Classifier) -> list[float]:
    return [reward.value for reward in score(model, REQUESTS)]


def identity(source: Path, **options: Any) -> str:
    return classifier.open(str(source), options).fingerprint


@pytest.fixture
def no_weights() -> Iterator[None]:
    with patch.object(opened, "read_weights", side_effect=AssertionError("weights are read")):
        yield


@pytest.mark.usefixtures("no_weights")
def test_opening_reads_no_weights(llama: Path, tmp_path: Path) -> None:
    one = classifier.open(str(llama), {})
    assert (one.subject.id, one.identity, one.answers, one.uses) == ("local/llama", "content", {"reward"}, frozenset())
    assert demo.open("", {}).subject.id == "rmbench/demo"
    policy = local.open(str(causal.make(tmp_path / "lm")), {})
    assert policy.subject.id == "local/lm"
    assert len({one.fingerprint, policy.fingerprint, demo.open("", {}).fingerprint}) == 3


def test_a_started_model_is_of_the_fingerprint_that_was_opened_and_is_freed(llama: Path) -> None:
    one = classifier.open(str(llama), {})
    with one.started("cpu") as model:
        assert model.fingerprint == one.fingerprint
        assert model.facts == {
            "layout": "causal",
            "pooling": "hf",
            "beside": "last",
            "labels": ["LABEL_0"],
            "reward": "LABEL_0",
            "attention": "sdpa",
            "dtype": "float32",
            "head_dtype": "float32",
        }
        weights = weakref.ref(next(model.backbone.parameters()))
        expected = values(model)
    gc.collect()
    assert weights() is None
    with one.started("cpu") as again:
        assert values(again) == expected


def test_a_policy_is_started_and_freed_alike(tmp_path: Path) -> None:
    one = local.open(str(causal.make(tmp_path / "lm")), {})
    with one.started("cpu") as policy:
        (written,) = policy.generate([GenerationRequest((Message("user", "Hi"),), cap=4)])
        weights = weakref.ref(next(policy.model.parameters()))
    gc.collect()
    assert weights() is None
    assert written[1].tokens is not None


def test_options_that_a_family_does_not_declare_are_refused(llama: Path) -> None:
    with pytest.raises(UsageError, match="classifier has no option 'max_lenght' .did you mean 'max_length'"):
        classifier.open(str(llama), {"max_lenght": 4})
    with pytest.raises(UsageError, match="pooling='first': expected one of auto, last, hf"):
        classifier.open(str(llama), {"pooling": "first"})


# files


def test_weights_are_hashed_wherever_the_index_says_that_they_lie(llama: Path) -> None:
    weights = load_file(llama / "model.safetensors")
    (llama / "model.safetensors").unlink()
    (llama / "shards").mkdir()
    names = sorted(weights)
    shards = {"shards/a.safetensors": names[::2], "shards/b.safetensors": names[1::2]}
    for file, some in shards.items():
        save_file({name: weights[name] for name in some}, llama / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, some in shards.items() for name in some}}
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    (llama / "other.safetensors").write_bytes(b"of no use")
    one = classifier.open(str(llama), {})
    (listed,) = one.checkpoint.files.values()
    assert {*shards, "model.safetensors.index.json", "config.json", "tokenizer.json"} <= listed
    assert "other.safetensors" not in listed
    start_classifier(llama)
    weights["score.weight"].fill_(1.0)
    changed = next(file for file, some in shards.items() if "score.weight" in some)
    save_file({name: weights[name] for name in shards[changed]}, llama / changed, metadata={"format": "pt"})
    assert identity(llama) != one.fingerprint
    (llama / "other.safetensors").write_bytes(b"still of no use")
    assert identity(llama) == identity(llama)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"])
def test_each_file_counts(llama: Path, tmp_path: Path, name: str) -> None:
    other = shutil.copytree(llama, tmp_path / "other")
    assert identity(other) == identity(llama)
    file = other / name
    if name == "model.safetensors":
        save_file({**load_file(file), "score.weight": torch.ones(1, 64)}, file, metadata={"format": "pt"})
    else:
        file.write_text(file.read_text() + "\n")
    assert identity(other) != identity(llama)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_loading_what_is_not_listed_is_an_error_that_names_it(llama: Path, name: str) -> None:
    one = classifier.open(str(llama), {})
    (checkpoint,) = one.checkpoint.files
    one.checkpoint.__dict__["files"] = {checkpoint: one.checkpoint.files[checkpoint] - {name}}
    with pytest.raises(ModelError, match=f"local/llama: loading opens {name}, which its fingerprint does not cover"):
        one.start("cpu")


def test_a_tokenizers_unlisted_file_is_found_as_it_is_opened(llama: Path) -> None:
    with (
        patch.object(opened, "tokenizer_files", lambda *_: set()),
        pytest.raises(ModelError, match="local/llama: loading opens chat_template.jinja, which"),
    ):
        classifier.open(str(llama), {})


def test_a_versioned_config_is_listed(llama: Path) -> None:
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.4.0.0.json").write_text(json.dumps(config))
    (llama / "config.json").write_text(json.dumps({**config, "configuration_files": ["config.4.0.0.json"]}))
    (listed,) = classifier.open(str(llama), {}).checkpoint.files.values()
    assert "config.4.0.0.json" in listed


# made of several


def test_an_average_is_of_the_weights(tmp_path: Path) -> None:
    folders = [make(tmp_path / str(seed), "llama", seed=seed) for seed in range(3)]
    shares = (0.2, 0.5, 0.3)
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    mean = {name: sum(s * w[name] for s, w in zip(shares, weights, strict=True)) for name in weights[0]}
    by_hand = shutil.copytree(folders[0], tmp_path / "mean")
    save_file(mean, by_hand / "model.safetensors", metadata={"format": "pt"})
    average = {"average": (str(folders[1]), str(folders[2])), "weight": (0.5, 0.3)}
    model = start_classifier(folders[0], **average)
    assert values(model) == pytest.approx(values(start_classifier(by_hand)), abs=1e-5)
    assert model.subject.settings["average"] == {
        "local/0": pytest.approx(0.2),
        "local/1": 0.5,
        "local/2": 0.3,
    }
    alike = start_classifier(folders[0], average=(str(folders[1]),))
    assert alike.subject.settings["average"] == {"local/0": 0.5, "local/1": 0.5}


def test_the_hash_of_an_average_covers_all_parts(tmp_path: Path) -> None:
    one, other = (make(tmp_path / str(seed), "llama", seed=seed) for seed in range(2))
    whole, half = identity(one), identity(one, average=(str(other),))
    tenth = identity(one, average=(str(other),), weight=(0.1,))
    change = load_file(other / "model.safetensors")
    change["score.weight"].fill_(0.5)
    save_file(change, other / "model.safetensors", metadata={"format": "pt"})
    assert len({whole, half, tenth, identity(one, average=(str(other),))}) == 4


def test_averages_that_cannot_be(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one", "llama"), make(tmp_path / "other", "llama", num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"local/other: model\.layers\.2.* not alike in local/one; an average"):
        start_classifier(one, average=(str(other),))
    with pytest.raises(UsageError, match="weight=0.5,0.2: 2 shares for 1 averaged checkpoints"):
        identity(one, average=(str(other),), weight=(0.5, 0.2))
    with pytest.raises(UsageError, match="weight=1.0: shares lie above 0, and together below 1"):
        identity(one, average=(str(other),), weight=(1.0,))


def adapter(base: Path, folder: Path) -> Any:
    peft = pytest.importorskip("peft")
    own = AutoModelForSequenceClassification.from_pretrained(base)
    model = peft.get_peft_model(own, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    model.save_pretrained(folder)
    return model


@quiet_peft
def test_an_adapter_may_be_an_option(llama: Path, tmp_path: Path) -> None:
    adapter(llama, tmp_path / "adapter")
    by_name = start_classifier(tmp_path / "adapter")
    by_option = start_classifier(llama, adapter=str(tmp_path / "adapter"))
    assert values(by_option) == pytest.approx(values(by_name), abs=1e-6)
    assert by_option.subject.settings["adapter"] == "local/adapter"
    assert by_option.fingerprint != identity(llama)
    with pytest.raises(ModelError, match="local/llama: no adapter_config.json, so it is no PEFT adapter"):
        identity(llama, adapter=str(llama))


@quiet_peft
def test_a_policy_takes_an_adapter(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = causal.make(tmp_path / "lm")
    own = transformers.AutoModelForCausalLM.from_pretrained(base)
    model = peft.get_peft_model(own, peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path / "adapter")
    policy = start_policy(base, adapter=str(tmp_path / "adapter"))
    assert policy.subject.settings["adapter"] == "local/adapter"


@quiet_peft
def test_an_adapter_stays_beside_quantised_weights(llama: Path, tmp_path: Path) -> None:
    """bitsandbytes is not here: what the weights are is not changed, only said to be quantised."""
    adapter(llama, tmp_path / "adapter")
    merged = start_classifier(tmp_path / "adapter")
    with patch("rmbench.checkpoints.adapters.is_quantised", lambda _: True):
        beside = start_classifier(tmp_path / "adapter")
    names = [name for name, _ in beside.backbone.named_parameters()]
    assert any("lora_A" in name for name in names)
    assert not any("lora" in name for name, _ in merged.backbone.named_parameters())
    assert values(beside) == pytest.approx(values(merged), abs=1e-4)


@quiet_peft
@pytest.mark.filterwarnings("ignore")  # of bitsandbytes, which has its own
def test_an_adapter_on_nf4_gives_what_peft_gives(llama: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    peft = pytest.importorskip("peft")
    adapter(llama, tmp_path / "adapter")
    model = start_classifier(llama, quantise="nf4", adapter=str(tmp_path / "adapter"))
    nf4 = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=["score"])
    own = AutoModelForSequenceClassification.from_pretrained(llama, quantization_config=nf4)
    own = peft.PeftModel.from_pretrained(own, tmp_path / "adapter").eval()
    with torch.inference_mode():
        expected = [own(input_ids=torch.tensor([list(one.ids)])).logits.item() for one in model.encode(REQUESTS)]
    assert values(model) == pytest.approx(expected, abs=1e-4)
    assert model.subject.settings["quantise"] == "nf4"


@pytest.mark.filterwarnings("ignore")  # of torchao, which has its own
def test_torchao_gives_what_transformers_gives_with_it(llama: Path) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    model = start_classifier(llama, quantise="torchao-int8")
    ao = transformers.TorchAoConfig(quantization.Int8WeightOnlyConfig(), modules_to_not_convert=["score"])
    own = AutoModelForSequenceClassification.from_pretrained(llama, quantization_config=ao)
    with torch.inference_mode():
        expected = [own(input_ids=torch.tensor([list(one.ids)])).logits.item() for one in model.encode(REQUESTS)]
    assert values(model) == pytest.approx(expected, abs=1e-4)
    assert model.fingerprint != identity(llama)


def test_quantising_needs_its_library_and_whole_checkpoints(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match="quantise=nf4 needs bitsandbytes: pip install bitsandbytes"):
        identity(llama, quantise="nf4")
    with pytest.raises(ModelError, match="quantise=torchao-int8 needs torchao: pip install torchao"):
        identity(llama, quantise="torchao-int8")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    with pytest.raises(UsageError, match="average: weights that are quantised, as those of local/llama, cannot be"):
        identity(llama, quantise="nf4", average=(str(llama),))
    with pytest.raises(UsageError, match="quantise='int4': expected one of nf4, int8, torchao-int8"):
        identity(llama, quantise="int4")


# tools


def test_a_classifier_uses_tools_where_its_template_takes_them(llama: Path) -> None:
    assert classifier.open(str(llama), {"tools_as_text": True}).uses == {"tools"}
    (llama / "chat_template.jinja").write_text(TOOL_CHAT)
    assert classifier.open(str(llama), {}).uses == {"tools"}


def test_a_request_with_tools_that_the_template_does_not_take_is_refused(llama: Path) -> None:
    request = Request("reward", (Message("user", "Hi"),), (Response("Hello"),), tools=({"name": "f"},))
    encoded = start_classifier(llama).encode([request, REQUESTS[0]])
    assert encoded[0].refused
    assert encoded[1].error is None


def test_a_model_that_runs_whole_has_its_config(tmp_path: Path) -> None:
    from test_classifier import albert

    model = start_classifier(albert(tmp_path / "rm"))
    assert model.backbone.config.max_position_embeddings == 512


def test_a_run_that_is_kept_already_reads_no_weights(llama: Path, tmp_path: Path) -> None:
    questions = [Question(request) for request in REQUESTS]
    with Store(tmp_path / "store") as store:
        with Session(classifier.open(str(llama), {}), Asking(store)) as session:
            first = session.ask(questions).rewards
        with (
            patch.object(opened, "read_weights", side_effect=AssertionError("weights are read")),
            Session(classifier.open(str(llama), {}), Asking(store)) as session,
        ):
            assert session.ask(questions).rewards == first
            assert session.facts["layout"] == "causal"
