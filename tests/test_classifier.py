"""Classifiers: rewards are transformers' own, read at known lengths; checkpoints that would lie are refused."""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from ask_models import score
from checkpoints import ARCHITECTURES, SENTENCES, bert_wordpiece, bytes_bpe, make
from safetensors.torch import load_file, save_file
from started import start_classifier
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.modeling_outputs import SequenceClassifierOutput

import rmbench
from rmbench.checkpoints.fingerprint import sources
from rmbench.checkpoints.heads import unmoved
from rmbench.checkpoints.notes import CONTROLS, CONTROLS_AS_TEXT, LEFT_OUT
from rmbench.errors import ModelError, ResultError, UsageError
from rmbench.models.base import Encoded, TokenModel
from rmbench.models.classifier import Classifier
from rmbench.plugins import load_task
from rmbench.results import files
from rmbench.results.verify import verify
from rmbench.runs.score import score_file
from rmbench.types import Message, Request, Response, Reward

ENCODERS = {"bert", "roberta", "xlm-roberta", "electra", "deberta-v2", "modernbert"}
DECODERS = [name for name in ARCHITECTURES if name not in ENCODERS]
REQUESTS = [
    Request("reward", (Message("user", prompt),), (Response(response),)) for prompt, response in pairwise(SENTENCES)
]
ENDS_WITH_EOS = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}{{ eos_token }}{% endfor %}"
)


def one_at_a_time(model: Classifier, requests: Sequence[Request] = REQUESTS) -> list[Reward]:
    rewards = []
    for encoded in model.encode(requests):
        assert encoded.error is None
        inputs: dict[str, Any] = {"use_cache": False} if model.layout == "causal" else {}
        if encoded.type_ids is not None:
            inputs["token_type_ids"] = torch.tensor([encoded.type_ids])
        with torch.inference_mode():
            states = model.backbone(input_ids=torch.tensor([encoded.ids]), **inputs).last_hidden_state[0]
        rewards += model.read([states[list(encoded.reads)]], [encoded])
    return rewards


def values(model: Classifier) -> list[float]:
    return [reward.value for reward in one_at_a_time(model)]


def transformers_own(folder: Path, model: Any = None) -> torch.Tensor:
    """Logits [request, label] of transformers' own tokenizer, template and forward."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = model or AutoModelForSequenceClassification.from_pretrained(folder)
    logits = []
    for request in REQUESTS:
        turns = [
            {"role": "user", "content": request.prompt[0].text},
            {"role": "assistant", "content": request.responses[0].text},
        ]
        inputs = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            logits.append(model.eval()(**inputs).logits[0])
    return torch.stack(logits)


def approx(expected: Any) -> Any:
    return pytest.approx([float(value) for value in expected], abs=1e-5)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return make(tmp_path / "llama", "llama")


@pytest.fixture
def causal_lm(tmp_path: Path) -> Path:
    """A language model of llama's shape, with llama's tokenizer."""
    folder = make(tmp_path / "lm", "llama")
    config = transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rewards_are_transformers_own(tmp_path: Path, architecture: str) -> None:
    folder = make(tmp_path / "rm", architecture)
    model = start_classifier(folder)
    assert isinstance(model, TokenModel)
    assert values(model) == approx(transformers_own(folder)[:, 0])
    assert model.layout == ("causal" if architecture in DECODERS else "encoder")
    assert model.pool == ("hf" if architecture in DECODERS else "first")


def test_modernbert_that_pools_by_mean(tmp_path: Path) -> None:
    folder = make(tmp_path / "rm", "modernbert", classifier_pooling="mean")
    model = start_classifier(folder)
    assert values(model) == approx(transformers_own(folder)[:, 0])
    assert model.pool == "mean"


def test_pair_reads_prompt_and_response_as_two_texts(tmp_path: Path) -> None:
    folder = make(tmp_path / "rm", "bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    own = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = own(**tokenizer(SENTENCES[0], SENTENCES[1], return_tensors="pt")).logits.item()
    assert values(start_classifier(folder, template="pair"))[0] == pytest.approx(expected, abs=1e-5)


def save_with(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def gpt2(folder: Path) -> Path:
    config = transformers.GPT2Config(vocab_size=500, n_embd=32, n_layer=2, n_head=2, num_labels=1, pad_token_id=0)
    config.initializer_range = 0.2
    return save_with(folder, transformers.GPT2ForSequenceClassification(config), bytes_bpe())


def distilbert(folder: Path) -> Path:
    config = transformers.DistilBertConfig(vocab_size=300, dim=32, n_layers=2, n_heads=2, hidden_dim=64, num_labels=1)
    return save_with(folder, transformers.DistilBertForSequenceClassification(config), bert_wordpiece())


def albert(folder: Path) -> Path:
    config = transformers.AlbertConfig(
        vocab_size=300, embedding_size=16, hidden_size=32, num_attention_heads=2, intermediate_size=64, num_labels=1
    )
    return save_with(folder, transformers.AlbertForSequenceClassification(config), bert_wordpiece())


@pytest.mark.parametrize(
    ("build", "pool", "layout"),
    [(gpt2, "hf", "causal"), (distilbert, "first", "encoder"), (albert, "whole", "encoder")],
)
def test_other_architectures(tmp_path: Path, build: Callable[[Path], Path], pool: str, layout: str) -> None:
    folder = build(tmp_path / "rm")
    model = start_classifier(folder)
    assert (model.pool, model.layout) == (pool, layout)
    assert values(model) == approx(transformers_own(folder)[:, 0])


def xlnet(folder: Path) -> Path:
    config = transformers.XLNetConfig(vocab_size=500, d_model=32, n_layer=2, n_head=2, d_inner=64, num_labels=1)
    config.pad_token_id = 0
    return save_with(folder, transformers.XLNetForSequenceClassification(config), bytes_bpe())


def reformer(folder: Path) -> Path:
    config = transformers.ReformerConfig(
        vocab_size=500,
        hidden_size=32,
        num_attention_heads=2,
        attention_head_size=16,
        feed_forward_size=64,
        attn_layers=["local"],
        axial_pos_shape=(16, 32),
        axial_pos_embds_dim=(16, 16),
        max_position_embeddings=512,
        local_attn_chunk_length=8,
        is_decoder=False,
        num_labels=1,
        pad_token_id=0,
    )
    return save_with(folder, transformers.ReformerForSequenceClassification(config), bytes_bpe())


def bart(folder: Path) -> Path:
    config = transformers.BartConfig(
        vocab_size=500,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_labels=1,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=3,
        forced_eos_token_id=None,
    )
    return save_with(folder, transformers.BartForSequenceClassification(config), bytes_bpe())


@pytest.mark.parametrize("build", [xlnet, reformer, bart])
def test_models_that_padding_moves_read_each_sequence_alone(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    folder = build(tmp_path / "rm")
    model = start_classifier(folder)
    assert [reward.value for reward in score(model, REQUESTS)] == approx(transformers_own(folder)[:, 0])


def test_what_padding_moves_is_seen_beside_a_large_bias(tmp_path: Path) -> None:
    folder = reformer(tmp_path / "rm")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.out_proj.weight"] *= 30
    weights["classifier.out_proj.bias"].fill_(30)  # a batch moves rewards by some hundred thousandths of it
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = start_classifier(folder)
    assert [reward.value for reward in score(model, REQUESTS)] == approx(transformers_own(folder)[:, 0])


@pytest.mark.parametrize(
    ("moved", "bears"),
    [([0.0, 0.0], True), ([2e-4, 0.0], True), ([0.0, 2e-4], False), ([2e-2, 0.0], False), ([0.0, 1e-7], True)],
)
def test_what_padding_moves_of_a_label_is_held_against_what_texts_move_of_it(moved: list[float], bears: bool) -> None:
    single = torch.tensor([[-5.0, 0.010], [5.0, 0.020], [float("nan"), 0.015]])
    assert unmoved(single + torch.tensor(moved), single) == bears
    assert unmoved(single[:, 1:] + torch.tensor(moved[1:]), single[:, 1:]) == (moved[1] < 1e-5)


def test_turns_of_another_number_in_one_batch(tmp_path: Path) -> None:
    model = start_classifier(bart(tmp_path / "rm"))  # it wants as many EOS in each sequence of a batch
    system = Request("reward", (Message("system", "Be brief"), Message("user", "Hi")), (Response("Hello"),))
    assert {reward.status for reward in score(model, [system, REQUESTS[0]])} == {"ok"}


def test_an_architecture_that_cannot_be_run_is_one_line(tmp_path: Path) -> None:
    folder = bart(tmp_path / "rm")
    (tmp_path / "no_eos.jinja").write_text("{{ messages[-1].content }}")
    with pytest.raises(ModelError, match="local/rm: BartForSequenceClassification cannot read a short text: "):
        start_classifier(folder, template=str(tmp_path / "no_eos.jinja"))


def test_an_architecture_without_token_embeddings_is_one_line(tmp_path: Path) -> None:
    config = transformers.PerceiverConfig(
        num_latents=4,
        d_latents=32,
        d_model=32,
        num_blocks=1,
        num_self_attends_per_block=1,
        num_self_attention_heads=2,
        num_cross_attention_heads=2,
        vocab_size=500,
        num_labels=1,
    )
    folder = save_with(tmp_path / "rm", transformers.PerceiverForSequenceClassification(config), bytes_bpe())
    with pytest.raises(ModelError, match="local/rm: PerceiverForSequenceClassification has no table of token embed"):
        start_classifier(folder)


@pytest.mark.parametrize("pad", [0, None])
def test_a_whole_model_is_unmoved_by_padding(tmp_path: Path, pad: int | None) -> None:
    folder = albert(tmp_path / "rm")
    change_config(folder, pad_token_id=pad)
    model = start_classifier(folder)
    short, long = (encoded.ids for encoded in model.encode(REQUESTS[:2]))
    width = max(len(short), len(long))
    ids = torch.tensor([[*row, *[7] * (width - len(row))] for row in (short, long)])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in (short, long)])
    with torch.inference_mode():
        states = model.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    assert states.flatten().tolist() == approx(values(model)[:2])


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def change_weight(folder: Path, name: str, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name].fill_(value)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def ends_with_eos(tmp_path: Path) -> str:
    file = tmp_path / "rm.jinja"
    file.write_text(ENDS_WITH_EOS)
    return str(file)


def test_pooling_last_reads_the_last_token_whatever_is_pad(llama: Path, ends_with_eos: str) -> None:
    with_pad = values(start_classifier(llama, template=ends_with_eos, pooling="last"))
    for pad in (3, None):
        change_config(llama, pad_token_id=pad)
        assert values(start_classifier(llama, template=ends_with_eos, pooling="last")) == with_pad


def test_a_choice_of_position_reads_one_and_auto_both(llama: Path) -> None:
    change_config(llama, pad_token_id=3)
    (llama / "chat_template.jinja").write_text(ENDS_WITH_EOS)
    auto, hf, last = (start_classifier(llama, pooling=pooling) for pooling in ("auto", "hf", "last"))
    rewards = one_at_a_time(auto)
    assert [reward.value for reward in rewards] == values(hf) == approx(transformers_own(llama)[:, 0])
    assert [reward.heads["last"][0] for reward in rewards] == approx(values(last))
    assert values(hf) != approx(values(last))
    assert not any(reward.heads for model in (hf, last) for reward in one_at_a_time(model))
    assert len({model.fingerprint for model in (auto, hf, last)}) == 3
    assert (auto.facts["pooling"], auto.facts["beside"], last.facts["pooling"]) == ("hf", "last", "last")


def test_an_encoder_has_no_choice_of_position(tmp_path: Path) -> None:
    folder = make(tmp_path / "rm", "bert")
    with pytest.warns(UserWarning, match="pooling=last changes nothing: BertForSequenceClassification reads"):
        model = start_classifier(folder, pooling="last")
    assert values(model) == approx(transformers_own(folder)[:, 0])


def test_every_label_is_a_head(tmp_path: Path) -> None:
    names = {0: "helpful", 1: "reward", 2: "harmless"}
    folder = make(tmp_path / "rm", "qwen2", num_labels=3, id2label=names)
    own = transformers_own(folder)
    rewards = one_at_a_time(start_classifier(folder))
    assert [reward.value for reward in rewards] == approx(own[:, 1])
    for i, name in names.items():
        assert [reward.heads[name][0] for reward in rewards] == approx(own[:, i])


def test_several_labels_are_no_reward_until_one_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "rm", "bert", num_labels=2)
    with pytest.raises(UsageError, match=r"2 labels \(LABEL_0, LABEL_1\), and none is called reward: \?head=NAME"):
        start_classifier(folder)
    with pytest.raises(UsageError, match=r"head='helpful': local/rm has the labels LABEL_0, LABEL_1"):
        start_classifier(folder, head="helpful")
    reward = one_at_a_time(start_classifier(folder, head="1"))[0]
    assert reward.heads == {"LABEL_0": reward.heads["LABEL_0"], "LABEL_1": (reward.value,)}
    reward = one_at_a_time(start_classifier(folder, head="LABEL_0"))[0]
    assert reward.heads == {"LABEL_0": (reward.value,), "LABEL_1": reward.heads["LABEL_1"]}


@pytest.mark.parametrize(
    ("labels", "told"),
    [({"num_labels": None}, "num_labels None; expected a number"), ({"num_labels": "1"}, "num_labels '1'; expected a"),
     ({"id2label": ["reward"]}, r"id2label \['reward'\]; expected an object")],
)  # fmt: skip
def test_labels_of_another_type_are_named(llama: Path, labels: dict[str, Any], told: str) -> None:
    change_config(llama, **labels)
    with pytest.raises(ModelError, match=f"local/.*: config.json has {told}.*, and then the head says how many"):
        start_classifier(llama)


@pytest.mark.parametrize("pad", [100_000, -100_000])
def test_a_pad_token_that_the_table_has_no_row_for_is_named_or_never_met(tmp_path: Path, llama: Path, pad: int) -> None:
    change_config(llama, pad_token_id=pad)
    with pytest.raises(ModelError, match=f"local/llama: .*; config.json has pad_token_id {pad}"):
        start_classifier(llama)
    folder = gpt2(tmp_path / "gpt2")  # whose table has no row for padding
    change_config(folder, pad_token_id=pad)
    model = start_classifier(folder)
    assert model.pool == "last"
    assert values(model) == approx(transformers_own(folder)[:, 0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_single_positions_and_means_of_one_position_are_read_alike(llama: Path, dtype: str) -> None:
    model = start_classifier(llama, dtype=dtype)
    encoded = model.encode(REQUESTS[:3])
    states = list(torch.randn(3, 1, 64, dtype=getattr(torch, dtype)))
    single = [one.value for one in model.read(states, encoded)]
    model.pool = "mean"
    twice = [states[0], states[1], states[2].repeat(2, 1)]
    assert [one.value for one in model.read(twice, encoded)] == single


def test_one_label_is_no_head(llama: Path) -> None:
    assert one_at_a_time(start_classifier(llama))[0].heads == {}


@pytest.mark.parametrize(("weight", "status"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_rewards_that_are_no_numbers_say_so(tmp_path: Path, weight: float, status: str) -> None:
    folder = make(tmp_path / "rm", "roberta")
    change_weight(folder, "classifier.out_proj.bias", weight)
    assert {reward.status for reward in one_at_a_time(start_classifier(folder))} == {status}


def test_cuts_are_counted(llama: Path) -> None:
    whole = one_at_a_time(start_classifier(llama))
    cut = one_at_a_time(start_classifier(llama, max_length=40))
    assert all(reward.n_tokens == 40 for reward in cut)
    assert [reward.n_tokens + reward.truncated for reward in cut] == [reward.n_tokens for reward in whole]


def test_over_long_sequences_are_errors(tmp_path: Path) -> None:
    model = start_classifier(make(tmp_path / "rm", "roberta", max_position_embeddings=34))
    encoded = model.encode(REQUESTS[:1])[0]
    assert encoded.error is not None
    # two of RoBERTa's positions lie before the first token
    assert "the model has 32 positions; --max-length 32 cuts and counts" in encoded.error


def test_a_max_length_has_room_for_the_separators_of_a_pair(tmp_path: Path) -> None:
    folder = make(tmp_path / "rm", "bert")
    with pytest.raises(UsageError, match="max length 3: this model takes at least 4"):
        start_classifier(folder, template="pair", max_length=3)


@pytest.mark.parametrize("asked", [1, 513])
def test_a_max_length_that_the_model_cannot_take(llama: Path, asked: int) -> None:
    with pytest.raises(UsageError, match=f"max length {asked}: this model takes at least 2 and at most 512"):
        start_classifier(llama, max_length=asked)


def test_the_dtype_is_the_checkpoints_own_with_a_float32_head(tmp_path: Path) -> None:
    model = start_classifier(make(tmp_path / "rm", "llama", dtype="bfloat16"))
    assert model.backbone.dtype == torch.bfloat16
    assert {weight.dtype for weight in model.head.parameters()} == {torch.float32}
    assert model.subject.settings["dtype"] == "bfloat16"


def test_the_dtype_as_asked(llama: Path) -> None:
    model = start_classifier(llama, dtype="bfloat16", head_dtype="bfloat16")
    assert {weight.dtype for part in (model.backbone, model.head) for weight in part.parameters()} == {torch.bfloat16}
    assert all(reward.status == "ok" for reward in one_at_a_time(model))


def test_an_unknown_dtype(llama: Path) -> None:
    with pytest.raises(UsageError, match="dtype 'fp16': one of float32, bfloat16"):
        start_classifier(llama, dtype="fp16")


@pytest.mark.parametrize(
    ("device", "message"),
    [("tpu", "one of cpu, cuda"), ("cpu:1", "one of cpu, cuda"), ("cuda:99", "not there; here are .*cpu")],
)
def test_devices_that_are_not_there(llama: Path, device: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"device '{device}'.*{message}"):
        start_classifier(llama, device=device)


def test_device_auto_places_the_model_by_itself(llama: Path) -> None:
    pytest.importorskip("accelerate")
    assert values(start_classifier(llama, device="auto")) == approx(transformers_own(llama)[:, 0])


def test_device_auto_without_accelerate(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install accelerate"):
        start_classifier(llama, device="auto")


def test_a_causal_lm_is_refused(causal_lm: Path) -> None:
    with pytest.raises(ModelError, match=r"local/lm is a LlamaForCausalLM, which has no reward head; give a \.\.\.For"):
        start_classifier(causal_lm)


def test_missing_head_weights_are_refused(causal_lm: Path) -> None:
    change_config(causal_lm, architectures=None)
    with pytest.raises(
        ModelError, match=r"local/lm: score\.weight is not in the checkpoint; its rewards would be rand"
    ):
        start_classifier(causal_lm)


def test_weights_that_are_no_part_of_the_model_warn(llama: Path) -> None:
    weights = load_file(llama / "model.safetensors")
    save_file({**weights, "v_head.weight": torch.ones(1, 64)}, llama / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match=r"v_head\.weight is in the checkpoint but no part of the model"):
        start_classifier(llama)


def test_only_safetensors_are_read(llama: Path) -> None:
    torch.save(load_file(llama / "model.safetensors"), llama / "pytorch_model.bin")
    (llama / "model.safetensors").unlink()
    with pytest.raises(
        ModelError,
        match=r"local/llama: no model\.safetensors, only pytorch_model.bin; weights are read from safetensors only",
    ):
        start_classifier(llama)


def test_damaged_weights_are_one_line(llama: Path) -> None:
    (llama / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="local/llama: ") as error:
        start_classifier(llama)
    assert "\n" not in str(error.value)


def test_remote_code_only_by_flag(llama: Path) -> None:
    (llama / "configuration_own.py").write_text("raise SystemExit('it ran')")
    change_config(llama, model_type="own", auto_map={"AutoConfig": "configuration_own.OwnConfig"})
    with pytest.raises(ModelError, match=r"contains custom code.*; --trust-remote-code runs it"):
        start_classifier(llama)


# Each reads at a place of its own, which is known to nobody but its forward
OWN_FORWARDS = {
    "the last of the mask, without a label axis": "hidden[rows, mask.sum(-1) - 1, :], (len(ids),)",
    "the very last column": "hidden[:, -1], (len(ids), 1)",
    "the first eos": "hidden[rows, (ids == 3).int().argmax(-1)], (len(ids), 1)",
    "the last assistant turn's begin": "hidden[rows, ids.shape[1] - 1 - (ids == 6).flip(1).int().argmax(-1)], (-1, 1)",
    "a mean over the mask": "(hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), (len(ids), 1)",
    "the last, without any axis": "hidden[rows, mask.sum(-1) - 1], () if len(ids) == 1 else (len(ids),)",
}
OWN_FORWARD = """
import torch
from transformers import LlamaForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput


class OwnForward(LlamaForSequenceClassification):
    def __init__(self, config):
        super().__init__(config)
        self.score = torch.nn.Linear(config.hidden_size, 1, bias=False)

    def forward(self, input_ids=None, attention_mask=None, **others):
        ids, mask, rows = input_ids, attention_mask, torch.arange(len(input_ids))
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        states, shape = PLACE
        return SequenceClassifierOutput(logits=self.score(states).reshape(shape))
"""


@pytest.mark.parametrize("place", OWN_FORWARDS)
def test_a_forward_that_a_checkpoint_brings_reads_where_it_does(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    code, renamed = OWN_FORWARD.replace("PLACE", OWN_FORWARDS[place]), place == "the last, without any axis"
    if renamed:
        code = code.replace("self.score", "self.own_head").replace(
            "(config)\n        self", "(config)\n        del self.score\n        self"
        )
        weights = load_file(llama / "model.safetensors")
        weights["own_head.weight"] = weights.pop("score.weight")
        save_file(weights, llama / "model.safetensors", metadata={"format": "pt"})
    if renamed or place == "the very last column":  # to transformers such a config has two labels
        config = json.loads((llama / "config.json").read_text())
        config = {name: value for name, value in config.items() if name not in ("num_labels", "id2label", "label2id")}
        (llama / "config.json").write_text(json.dumps(config))
    (llama / "modeling_own.py").write_text(code)
    change_config(llama, pad_token_id=3, auto_map={"AutoModelForSequenceClassification": "modeling_own.OwnForward"})
    (llama / "chat_template.jinja").write_text(
        "{{ bos_token }}{% for turn in messages %}<|{{ turn.role }}|>{{ turn.content }}{{ eos_token }}{% endfor %}"
    )
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)
    model = start_classifier(llama, trust_remote_code=True)
    own = AutoModelForSequenceClassification.from_pretrained(llama, trust_remote_code=True)
    assert (model.pool, model.beside) == ("whole", False)
    assert [reward.value for reward in score(model, REQUESTS)] == approx(
        [logits.flatten()[0] for logits in transformers_own(llama, OneText(own))]
    )


class OneText:
    """A model whose logits of a text are one row, whatever axes it leaves out."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    def eval(self) -> Any:
        return lambda **inputs: SequenceClassifierOutput(logits=self.model(**inputs).logits.reshape(1, -1))


OWN_CODE = """
from torch import nn
from transformers import LlamaForSequenceClassification

from .sign import SIGN


class OwnHead(nn.Linear):
    def forward(self, states):
        return SIGN * super().forward(states)


class OwnClassifier(LlamaForSequenceClassification):
    def __init__(self, config):
        super().__init__(config)
        self.score = OwnHead(config.hidden_size, config.num_labels, bias=False)
"""


@pytest.fixture
def own_code(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A llama that a class of its own reads with the other sign where its code may run."""
    (llama / "modeling_own.py").write_text(OWN_CODE)
    (llama / "sign.py").write_text("SIGN = -1")
    change_config(llama, auto_map={"AutoModelForSequenceClassification": "modeling_own.OwnClassifier"})
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)
    return llama


def test_remote_code_is_in_the_fingerprint(own_code: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"LlamaForSequenceClassification of transformers is read; config\.json names"):
        without = start_classifier(own_code)
    trusted = start_classifier(own_code, trust_remote_code=True)
    assert values(trusted) == approx([-value for value in values(without)])
    assert trusted.subject.settings == without.subject.settings
    assert trusted.fingerprint != without.fingerprint
    elsewhere = shutil.copytree(own_code, tmp_path / "another-name")
    assert start_classifier(elsewhere, trust_remote_code=True).fingerprint == trusted.fingerprint


def test_the_sources_of_a_class_are_its_file_and_what_that_imports(own_code: Path) -> None:
    model = start_classifier(own_code, trust_remote_code=True)
    found = sources(type(model.head[0]), transformers.LlamaForSequenceClassification)
    assert found == [
        [name, sha256((own_code / name).read_bytes()).hexdigest()] for name in ("modeling_own.py", "sign.py")
    ]


def test_code_of_another_repository_is_refused(llama: Path) -> None:
    change_config(llama, auto_map={"AutoModelForSequenceClassification": "other/repo--modeling.Own"})
    with pytest.warns(UserWarning, match=r"names other/repo--modeling\.Own, code .*: --trust-remote-code runs it"):
        assert start_classifier(llama).pool == "hf"
    with pytest.raises(
        ModelError, match=r"local/llama: auto_map names other/repo--modeling\.Own.* no revision pins it"
    ):
        start_classifier(llama, trust_remote_code=True)


def test_a_tokenizers_code_of_another_repository_is_refused(llama: Path) -> None:
    file = llama / "tokenizer_config.json"
    words = {**json.loads(file.read_text()), "auto_map": {"AutoTokenizer": [None, "other/repo--words.Own"]}}
    file.write_text(json.dumps(words))
    with pytest.raises(ModelError, match=r"auto_map names other/repo--words\.Own"):
        start_classifier(llama, trust_remote_code=True)


peft_with_transformers_5 = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def adapter(base: Path, folder: Path, **config: Any) -> Any:
    """A LoRA adapter on `base`, with weights that do something, saved to `folder`; the unmerged model."""
    peft = pytest.importorskip("peft")
    own = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    torch.manual_seed(1)
    model = peft.get_peft_model(own, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], **config))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    model.save_pretrained(folder)
    return model


@peft_with_transformers_5
def test_a_peft_adapter_that_brings_the_head(causal_lm: Path, tmp_path: Path) -> None:
    unmerged = adapter(causal_lm, tmp_path / "adapter", task_type="SEQ_CLS")
    model = start_classifier(tmp_path / "adapter")
    assert values(model) == pytest.approx(transformers_own(causal_lm, unmerged)[:, 0].tolist(), abs=1e-4)
    assert (model.subject.id, model.subject.settings["base"]) == ("local/adapter", "local/lm")


@peft_with_transformers_5
def test_a_peft_adapter_on_a_classifier(llama: Path, tmp_path: Path) -> None:
    unmerged = adapter(llama, tmp_path / "adapter")
    model = start_classifier(tmp_path / "adapter")
    assert values(model) == pytest.approx(transformers_own(llama, unmerged)[:, 0].tolist(), abs=1e-4)
    assert model.fingerprint != start_classifier(llama).fingerprint


@peft_with_transformers_5
@pytest.mark.filterwarnings("ignore:.lora_bias=True. was passed", "ignore:.*LoRA tensor")
@pytest.mark.parametrize(
    "config",
    [{"use_dora": True}, {"lora_bias": True}, {"layer_replication": [[0, 2], [1, 2]]}, {"use_rslora": True}],
    ids=lambda config: next(iter(config)),
)
def test_a_lora_of_any_kind_gives_what_peft_gives_without_a_warning(
    llama: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    """Weights that several layers share, and layers without a bias, cannot take what is added to them."""
    unmerged = adapter(llama, tmp_path / "adapter", task_type="SEQ_CLS", **config)
    model = start_classifier(tmp_path / "adapter")
    assert values(model) == pytest.approx(transformers_own(llama, unmerged)[:, 0].tolist(), abs=1e-4)


@peft_with_transformers_5
@pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers.:UserWarning")
@pytest.mark.parametrize("targets", [["q_proj"], ["q_proj", "embed_tokens"]])
def test_an_adapter_of_a_grown_table_gives_what_peft_gives(llama: Path, tmp_path: Path, targets: list[str]) -> None:
    peft = pytest.importorskip("peft")
    own = AutoModelForSequenceClassification.from_pretrained(llama)
    own.resize_token_embeddings(own.config.vocab_size + 3, mean_resizing=False)
    unmerged = peft.get_peft_model(own, peft.LoraConfig(r=4, target_modules=targets, task_type="SEQ_CLS"))
    for name, weight in unmerged.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    unmerged.save_pretrained(tmp_path / "adapter")
    model = start_classifier(tmp_path / "adapter")
    assert values(model) == pytest.approx(transformers_own(llama, unmerged)[:, 0].tolist(), abs=1e-4)


@peft_with_transformers_5
@pytest.mark.parametrize(
    ("changed", "lacks"),
    [
        (
            lambda name: None if "score" in name else name,
            r"score\.weight not in adapter_model\.safetensors; they would",
        ),
        (lambda name: name.removeprefix("base_model.model."), r"score\.weight not in .*, which has model\.layers.* to"),
        (lambda name: None if "lora_A" in name else name, r"lora_A\.weight and \d+ more not in adapter_model"),
    ],
)
def test_an_adapter_that_lost_some_of_its_weights_is_told_by_their_names(
    llama: Path, tmp_path: Path, changed: Callable[[str], str | None], lacks: str
) -> None:
    adapter(llama, tmp_path / "adapter", task_type="SEQ_CLS")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = {changed(name): weight.clone() for name, weight in load_file(file).items()}
    save_file({name: weight for name, weight in weights.items() if name is not None}, file)
    with pytest.raises(ModelError, match=f"local/adapter: .*{lacks}"):
        start_classifier(tmp_path / "adapter")


@pytest.mark.parametrize("build", [gpt2, xlnet, reformer, bart])
def test_a_head_says_how_many_labels_there_are_where_the_config_does_not(
    tmp_path: Path, build: Callable[[Path], Path]
) -> None:
    folder = build(tmp_path / "model")
    stated = values(start_classifier(folder))
    config = json.loads((folder / "config.json").read_text())
    for field in ("id2label", "label2id", "num_labels"):
        config.pop(field, None)
    (folder / "config.json").write_text(json.dumps(config))
    assert values(start_classifier(folder)) == stated


@peft_with_transformers_5
def test_a_peft_adapter_without_the_head_is_refused(causal_lm: Path, tmp_path: Path) -> None:
    adapter(causal_lm, tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"local/adapter: score\.weight is not in the checkpoint"):
        start_classifier(tmp_path / "adapter")


def test_a_peft_adapter_without_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"is a PEFT adapter: pip install 'rmbench\[peft\]'"):
        start_classifier(tmp_path)


def test_a_source_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"no/where: there is no such folder, and on the hub no config\.json"):
        start_classifier("no/where")
    with pytest.raises(
        ModelError, match=r"\./checkpoints/rm: there is no such folder, and a hub id has the form org/nam"
    ):
        start_classifier("./checkpoints/rm")


def test_a_folder_has_no_revisions(llama: Path) -> None:
    with pytest.raises(UsageError, match="revision 'main': .*llama is a folder, and only models on the hub have rev"):
        start_classifier(llama, revision="main")


@peft_with_transformers_5
def test_an_adapter_that_pins_a_base_in_a_folder(llama: Path, tmp_path: Path) -> None:
    adapter(llama, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "revision": "v2"}))
    with pytest.raises(ModelError, match="local/adapter: adapter_config.json asks for revision 'v2' of its base"):
        start_classifier(tmp_path / "adapter")


def test_a_hub_checkpoint_is_pinned_to_its_commit(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--org--rm"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(llama, repository / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = start_classifier("org/rm")
    assert (model.subject.id, model.subject.revision) == ("org/rm", commit)
    assert values(model) == values(start_classifier(llama))
    assert model.fingerprint == start_classifier("org/rm", revision=commit).fingerprint


def test_the_fingerprint_is_of_what_rewards_depend_on(llama: Path, tmp_path: Path) -> None:
    def fingerprint(folder: Path = llama, **options: Any) -> str:
        return start_classifier(folder, **options).fingerprint

    elsewhere = shutil.copytree(llama, tmp_path / "copy")
    assert fingerprint(elsewhere) == fingerprint(device="cpu") == fingerprint()
    changed = [
        fingerprint(max_length=100),
        fingerprint(max_length=100, truncation_side="right"),
        fingerprint(template="plain"),
        fingerprint(dtype="bfloat16"),
        fingerprint(head_dtype="float64"),
        fingerprint(pooling="hf"),
    ]
    change_weight(elsewhere, "score.weight", 1.0)
    changed.append(fingerprint(elsewhere))
    assert len({fingerprint(), *changed}) == 8


def test_the_subject_has_no_paths(llama: Path) -> None:
    subject = start_classifier(llama).subject
    assert (subject.id, subject.revision) == ("local/llama", None)
    assert str(llama) not in json.dumps(subject.settings)


def test_requests_that_cannot_be_read_keep_their_place(llama: Path) -> None:
    textless = Request("reward", (), (Response(None),))
    encoded = start_classifier(llama).encode([textless, REQUESTS[0]])
    assert encoded[0] == Encoded(ids=(), reads=encoded[0].reads, error="the response has no text")
    assert encoded[1].reads == (len(encoded[1].ids) - 1,)


def test_a_checkpoint_with_missing_or_broken_files_is_one_line_or_a_warning(llama: Path, tmp_path: Path) -> None:
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    with pytest.raises(
        ModelError, match=r"weight has the shape \[500, 64\], and config.json describes \[500, 32\]; 20 more"
    ):
        start_classifier(llama)
    (llama / "config.json").write_text(json.dumps(config))
    (llama / "tokenizer_config.json").unlink()
    with pytest.warns(UserWarning, match="no tokenizer_config.json, so its special tokens are the library's guess"):
        start_classifier(llama)
    (llama / "tokenizer.json").write_text("{}")
    with pytest.warns(UserWarning, match="guess"), pytest.raises(ModelError, match="no tokenizer can be loaded"):
        start_classifier(llama)
    (tmp_path / "template.jinja").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8, so no Jinja template"):
        start_classifier(make(tmp_path / "whole", "llama"), template=str(tmp_path / "template.jinja"))


@pytest.mark.parametrize(
    ("architecture", "config", "options", "place"),
    [
        ("llama", {"pad_token_id": 3}, {}, "at 'o', 1 before the last token, and beside it at '</s>', the last token"),
        ("llama", {"pad_token_id": 3}, {"pooling": "hf"}, "at 'o', 1 before the last token"),
        ("llama", {}, {}, "at '</s>', the last token"),
        ("bert", {}, {}, "at the first token"),
        ("modernbert", {"classifier_pooling": "mean"}, {}, "as a mean over all tokens"),
    ],
)
def test_a_request_is_shown_as_the_model_gets_it(
    tmp_path: Path, architecture: str, config: dict[str, Any], options: dict[str, Any], place: str
) -> None:
    folder = make(tmp_path / "rm", architecture, **config)
    template = (
        "System: be brief\n{{ bos_token or '' }}{% for m in messages %}{{ m.content }}{{ eos_token or '' }}{% endfor %}"
    )
    (tmp_path / "own.jinja").write_text(template)
    model = start_classifier(folder, template=str(tmp_path / "own.jinja"), **options)
    found = model.shown(Request("reward", (Message("user", "Hi"),), (Response("Hello"),)))
    assert "ystem" in found.text
    first, second, *_ = found.lines()
    assert f"{found.n_tokens} tokens: " in first
    assert second.endswith(f"the reward is read {place}")
    assert (
        "cannot be read: the response has no text" in model.shown(Request("reward", (), (Response(None),))).lines()[0]
    )


NOTED = {
    "keep": ({}, CONTROLS),
    "text": ({"control_tokens": "text"}, CONTROLS_AS_TEXT),
    "left out": ({"template": "cut.jinja"}, LEFT_OUT),
}


@pytest.mark.parametrize("case", NOTED)
def test_what_is_noted_of_requests_is_counted_kept_and_checked(tmp_path: Path, case: str) -> None:
    folder = make(tmp_path / "rm", "llama")
    (tmp_path / "cut.jinja").write_text("{% for m in messages %}{{ m.content[:4] }};{% endfor %}")
    rows = [
        {"prompt": "Hi", "chosen": "Long.", "rejected": "No."},
        {"prompt": "Ho", "chosen": "So.</s>", "rejected": "Y"},
    ]
    if case == "left out":
        rows[1]["chosen"] = "So."
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options, reason = NOTED[case]
    options = {name: str(tmp_path / value) if name == "template" else value for name, value in options.items()}
    data = {"preference": str(file)}
    for scored in (4, 0):
        (result,) = rmbench.evaluate(str(folder), ["preference"], data=data, out=tmp_path / "out", **options)
        assert (result.noted, result.timing.scored) == ({reason: 1}, scored)
    read = files.read(next((tmp_path / "out").rglob("preference*.json")), tables=True)
    assert read.noted == {reason: 1}
    verify(read, load_task("preference"))
    with pytest.raises(ResultError, match="noted"):
        verify(_claimed(read, {reason: 2}), load_task("preference"))
    scored_file = score_file(str(folder), file, **options)
    assert any(line.startswith(f"1 of 4 requests: {reason}") for line in scored_file.notes)


def _claimed(result: Any, noted: dict[str, int]) -> Any:
    claimed = result.model_copy(update={"noted": noted})
    claimed._records, claimed._requests = result.records, result.requests
    return claimed


def test_options_of_the_rendering_are_in_the_fingerprint(llama: Path) -> None:
    given: list[dict[str, Any]] = [
        {},
        {"bos": "none"},
        {"bos": "one"},
        {"fold_system": True},
        {"control_tokens": "text"},
    ]
    assert len({start_classifier(llama, **options).fingerprint for options in given}) == len(given)
