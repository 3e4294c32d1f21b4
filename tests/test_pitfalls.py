"""Ways in which scoring goes wrong without an error: for each, rewards are right, and would not be without its guard.

Where a guard can be taken out inside of a test, the test does so and shows that the rewards move.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from ask_models import score
from checkpoints import make
from real_models import VOCABULARY, RealTokenModel, backbone, requests_of, watched
from started import start_classifier
from transformers import AutoTokenizer

import rmbench
from rmbench.checkpoints.notes import BEFORE_PADS
from rmbench.forwards import attention, fastpath, loop
from rmbench.forwards.fastpath import Route
from rmbench.forwards.plan import Bin, plan
from rmbench.models.base import Encoded
from rmbench.plugins import load_task
from rmbench.results.verify import verify
from rmbench.types import Message, Request, Response

pytestmark = pytest.mark.usefixtures("one_thread")

RIGHT, WRONG = 1e-5, 1e-3  # of the largest hidden state
PADDED: Any = Route(frozenset({"padded"}))


def sequences(prompt: int = 30) -> list[list[int]]:
    some = random.Random(0)
    shared = some.choices(range(4, VOCABULARY), k=prompt)
    return [shared + some.choices(range(4, VOCABULARY), k=n) for n in (20, 35, 50)]


def off(model: RealTokenModel, ways: set[Any], trees: Sequence[list[int]] | None = None) -> float:
    """How far every position of one bin of all sequences is from what it is alone."""
    encoded = [Encoded(ids, range(len(ids)), note=1) for ids in trees or sequences()]
    (planned,) = plan(encoded, fastpath._FREE, 10**4, frozenset(ways))
    model.states.clear()
    members = [encoded[i] for i in planned.members]
    found = loop.hidden_states(model, members, planned)
    worst, scale = 0.0, 0.0
    for one, states in zip(members, found, strict=True):
        inputs: dict[str, Any] = {"use_cache": False} if model.layout == "causal" else {}
        with torch.inference_mode():
            alone = model.backbone(input_ids=torch.tensor([list(one.ids)]), **inputs).last_hidden_state[0]
        worst = max(worst, float((states - alone).abs().max()))
        scale = max(scale, float(alone.abs().max()))
    return worst / scale


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_padding_stands_right_where_a_causal_model_never_sees_it(architecture: str) -> None:
    """Guard: padding is on the right. On the left, without mask, all that follows sees it and stands too far on."""
    model = RealTokenModel(backbone(architecture))
    assert off(model, {"padded"}) <= RIGHT

    def left(rows: Any, width: int) -> torch.Tensor:
        return torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])

    own = RealTokenModel(model.backbone)
    encoded = [Encoded(ids, [len(ids) - 1]) for ids in sequences()]
    width = max(len(one.ids) for one in encoded)
    moved = [Encoded(one.ids, [width - 1]) for one in encoded]
    planned = Bin("padded", [0, 1, 2], 3 * width, 0.0)
    with patch.object(loop, "_filled", left):
        shifted = loop.hidden_states(own, moved, planned)
    alone = [loop.hidden_states(own, [one], Bin("padded", [0], 0, 0.0))[0] for one in encoded]
    assert max(float((a - b).abs().max()) for a, b in zip(shifted, alone, strict=True)) > WRONG


@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert", "deberta-v2"])
def test_an_encoder_s_padding_is_masked(architecture: str) -> None:
    """Guard: `_padded` gives an encoder a mask where anything is padded."""
    model = RealTokenModel(backbone(architecture), layout="encoder")
    assert off(model, {"padded"}) <= RIGHT
    inner = model.backbone.forward
    with patch.object(model.backbone, "forward", lambda attention_mask=None, **inputs: inner(**inputs)):
        assert off(model, {"padded"}) > WRONG


ENDS_IN_EOS = "{% for turn in messages %}{{ turn.content }}{{ eos_token }}{% endfor %}"
PADS = {"eos": 3, "unk": 1, "its own": 0, "none": None}
# of which texts pad tokens are at the end, at several places, inside, or everything there is
TEXTS = (
    ("Why?", "So."),
    ("Why?", "So.</s></s>"),
    ("Why?", "So <unk> so"),
    ("Why? Why?", "<unk></s>So <pad>"),
    ("", "</s>"),
)


def asked(texts: Sequence[tuple[str, str]]) -> list[Request]:
    return [Request("reward", (Message("user", prompt),), (Response(response),)) for prompt, response in texts]


def classifier(folder: Path, architecture: str, **config: Any) -> tuple[Path, Any]:
    """A checkpoint whose template ends in eos, as many do, and what transformers loads of it."""
    import transformers

    make(folder, architecture, **config)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template, tokenizer.padding_side = ENDS_IN_EOS, "left"  # the side is a batch's, never a reward's
    tokenizer.save_pretrained(folder)
    return folder, transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()


@pytest.mark.parametrize("pad", PADS)
@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gpt2", "gemma2"])
def test_a_reward_is_read_where_the_checkpoint_s_own_class_reads_that_text_alone(
    tmp_path: Path, architecture: str, pad: str
) -> None:
    """Guard: `heads.split` measures what a class does about its pad token, and `Classifier._reads` does the same.

    Neither batch nor way, padding side nor neighbours move it; the view `last` has the very last token.
    """
    folder, own = classifier(tmp_path / "rm", architecture, pad_token_id=PADS[pad])
    model, requests = start_classifier(folder), asked(TEXTS)
    rows = [torch.tensor([list(one.ids)]) for one in model.encode(requests)]
    with torch.inference_mode():
        expected = [own(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.item() for ids in rows]
        at_end = [own.score(own.base_model(input_ids=ids).last_hidden_state[0, -1]).item() for ids in rows]
    ways = {
        "alone": [score(model, [one])[0] for one in requests],
        "one a forward": score(model, requests, token_budget=1),
        "backwards": score(model, requests[::-1])[::-1],
    }
    with watched() as taken:
        ways["shared or packed"] = score(model, requests)
    assert "shared" in taken
    with patch("rmbench.scoring.windows.route", lambda *_: PADDED):
        ways["padded"] = score(model, requests)
    for rewards in ways.values():
        assert [reward.value for reward in rewards] == pytest.approx(expected, abs=1e-5)
    passed_over = [own.config.pad_token_id is not None and ids[0, -1] == own.config.pad_token_id for ids in rows]
    for rewards in [ways["backwards"], ways["shared or packed"], ways["padded"]]:
        found = [reward.heads["last"][0] if reward.heads else reward.value for reward in rewards]
        assert found == pytest.approx(at_end, abs=1e-5)
        assert [BEFORE_PADS in reward.noted for reward in rewards] == passed_over
    if pad == "eos":  # and without the guard it would not be
        assert min(abs(one - other) for one, other in zip(at_end[:4], expected, strict=False)) > WRONG
        end = [reward.value for reward in score(start_classifier(folder, pooling="last"), requests)]
        assert end == pytest.approx(at_end, abs=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
def test_peers_that_pad_a_batch_with_eos_read_the_same(tmp_path: Path, side: str) -> None:
    """What TRL, sentence-transformers and the incumbent do: a padded batch through the checkpoint's own forward."""
    folder, own = classifier(tmp_path / "rm", "llama", pad_token_id=3)
    tokenizer = AutoTokenizer.from_pretrained(folder, pad_token="</s>", padding_side=side)
    requests = asked(TEXTS)
    turns = [[{"role": "user", "content": p}, {"role": "assistant", "content": r}] for p, r in TEXTS]
    texts = [tokenizer.bos_token + text for text in tokenizer.apply_chat_template(turns, tokenize=False)]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.inference_mode():
        expected = own(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0].tolist()
    assert [reward.value for reward in score(start_classifier(folder), requests)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("config", "views", "counted"),
    [
        ({"pad_token_id": 3}, {"default", "last"}, 12),
        (
            {"pad_token_id": 3, "num_labels": 2, "id2label": {0: "last", 1: "reward"}},
            {"default", "last", "reward", "last@last", "reward@last"},
            12,
        ),
        ({"pad_token_id": 0}, {"default"}, None),
        ({"pad_token_id": None}, {"default"}, None),
    ],
)
def test_a_result_has_the_view_of_the_last_token_where_it_differs(
    tmp_path: Path, config: dict[str, Any], views: set[str], counted: int | None
) -> None:
    folder, _ = classifier(tmp_path / "rm", "llama", **config)
    (result,) = rmbench.evaluate(str(folder), ["best_of_n"], limit=3)
    assert set(result.views) == views
    assert result.noted == ({} if counted is None else {BEFORE_PADS: counted})
    if counted is not None:
        verify(result, load_task("best_of_n"))
        head = "last@last" if "reward" in views else "last"
        base = "last" if "reward" in views else "default"
        assert result.metric("margin_sd", view=head).value != result.metric("margin_sd", view=base).value
    (again,) = rmbench.evaluate(str(folder), ["best_of_n"], limit=3)
    assert (again.noted, again.timing.scored) == (result.noted, 0)


def test_a_model_without_pad_id_is_batched(tmp_path: Path) -> None:
    """Guard: backbone and head run apart. transformers' own forward refuses more than one sequence without a pad id."""
    import transformers

    folder = make(tmp_path / "rm", "llama", pad_token_id=None)
    model = start_classifier(folder)
    requests = [Request("reward", (Message("user", "Why? " * n),), (Response("So " * n),)) for n in range(1, 6)]
    with patch.object(fastpath, "tabled", lambda _: PADDED), watched() as taken:
        found = [reward.value for reward in score(model, requests)]
        assert taken == {"padded": 1}
    alone = [score(start_classifier(folder), [request])[0].value for request in requests]
    assert found == pytest.approx(alone, abs=1e-5)
    own = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with pytest.raises(ValueError, match="no padding token"):
        own(input_ids=torch.tensor([[5, 6], [7, 8]]))


@pytest.mark.parametrize(("architecture", "way"), [("llama", "shared"), ("llama", "packed"), ("bert", "packed")])
def test_sequences_in_one_row_do_not_see_each_other(architecture: str, way: Any) -> None:
    """Guard: `attending` swaps the attention. Transformers' own, with a mask of ones, sees the whole row before it."""
    model = RealTokenModel(backbone(architecture))
    trees = sequences(prompt=0) if way == "packed" else sequences()
    trees = [[4 + i, *ids] for i, ids in enumerate(trees)] if way == "packed" else trees
    assert off(model, {way, "packed"}, trees) <= RIGHT
    ones = patch.object(loop, "inputs_of", lambda tree, *_, **__: {"attention_mask": torch.ones(1, len(tree.ids))})
    with ones, patch.object(attention, "NAME", "sdpa"), patch("transformers.AttentionInterface.register"):
        assert off(model, {way, "packed"}, trees) > WRONG


def test_no_cache_is_filled() -> None:
    """Guard: `use_cache=False`, in every way of running a decoder."""
    model = RealTokenModel(backbone("llama"))
    assert model.backbone.config.use_cache
    seen: list[Any] = []

    def cached(_: Any, given: Any, inputs: Any, output: Any) -> None:
        seen.append((inputs.get("use_cache"), output.past_key_values))

    handle = model.backbone.register_forward_hook(cached, with_kwargs=True)
    for ways in ({"padded"}, {"shared", "packed"}):
        off(model, ways)
    handle.remove()
    assert len(seen) == 8
    assert set(seen) == {(False, None)}


def test_the_engine_gives_ids_and_not_embeddings() -> None:
    """Guard: inputs are `input_ids`; with embeddings transformers pools at -1, the padding of a shorter sequence."""
    model = RealTokenModel(backbone("llama"))
    given: list[set[str]] = []
    handle = model.backbone.register_forward_pre_hook(lambda _, __, inputs: given.append(set(inputs)), with_kwargs=True)
    for ways in ({"padded"}, {"shared", "packed"}):
        off(model, ways)
    handle.remove()
    assert all("input_ids" in names and "inputs_embeds" not in names for names in given)
    # each is read where it ends: reading the last column instead would read what is padded
    encoded = [Encoded(ids, [len(ids) - 1]) for ids in sequences()]
    width = max(len(one.ids) for one in encoded)
    planned = Bin("padded", [0, 1, 2], 3 * width, 0.0)
    ends = loop.hidden_states(model, encoded, planned)
    last = loop.hidden_states(model, [Encoded(one.ids, [width - 1]) for one in encoded], planned)
    assert float((ends[0] - last[0]).abs().max()) > WRONG
    assert torch.equal(ends[2], last[2])


def test_a_sliding_window_is_not_ignored() -> None:
    """Guards: attention takes a layer's window, and behind it the self-check, each on its own."""
    model = RealTokenModel(backbone("mistral", sliding_window=16))
    requests = [one for ids in sequences() for one in requests_of(ids[:30], ids[30:])]
    with watched() as taken:
        score(model, requests)
    assert set(taken) == {"shared"}
    assert model.worst(requests) <= RIGHT
    own = attention.packed_attention

    def endless(*given: Any, **more: Any) -> Any:
        return own(*given, **{**more, "sliding_window": None})

    with patch.object(attention, "packed_attention", endless):
        fastpath._routes.clear()
        with watched() as taken, pytest.warns(UserWarning, match="hidden states are off by"):
            score(RealTokenModel(model.backbone), requests)
        assert set(taken) == {"padded"}
        fastpath._routes.clear()
        with patch.object(fastpath, "_disagreement", lambda *_: (None, 1.0)), watched() as taken:
            unguarded = RealTokenModel(model.backbone)
            score(unguarded, requests)
        assert taken["shared"]
    assert unguarded.worst(requests) > WRONG
    fastpath._routes.clear()


def test_positions_start_anew_in_each_sequence_of_a_row() -> None:
    """Guard: `position_ids`. gpt2 learns its positions, so that counting on through the row shows."""
    model = RealTokenModel(backbone("gpt2"))
    assert off(model, {"shared", "packed"}) <= RIGHT
    with patch.object(loop, "positions", lambda tree, _: np.arange(len(tree.ids))):
        assert off(model, {"shared", "packed"}) > WRONG


def test_a_pad_id_inside_a_packed_text_has_roberta_s_position() -> None:
    """Guard: `positions` counts as RoBERTa does, where a pad id stands still."""
    model = RealTokenModel(backbone("roberta"))
    trees = [[5, 6, 1, 7, 8], [9, 1, 1, 4], [4, 5, 6]]
    assert off(model, {"packed"}, trees) <= RIGHT
    with patch.object(loop, "positions", lambda tree, _: tree.positions + 2):
        assert off(model, {"packed"}, trees) > WRONG


def test_bf16_stays_what_was_asked_for_and_the_head_is_float32(tmp_path: Path) -> None:
    """Guard: `head_dtype` float32. In bf16 a batch's shape moves last bits, and a bf16 head makes ties of them."""
    folder = make(tmp_path / "rm", "llama", dtype="bfloat16")
    requests = [
        Request("reward", (Message("user", "Why? " * 3),), (Response(f"So {n} is {n * n}."),)) for n in range(40)
    ]
    fine = [reward.value for reward in score(start_classifier(folder), requests)]
    coarse = [reward.value for reward in score(start_classifier(folder, head_dtype="bfloat16"), requests)]
    assert all(value == torch.tensor(value).bfloat16().item() for value in coarse)
    assert any(value != torch.tensor(value).bfloat16().item() for value in fine)
    assert len(set(fine)) > len(set(coarse))
    alone = [score(start_classifier(folder), [one], token_budget=1)[0].value for one in requests[:8]]
    scale = max(map(abs, fine))
    assert fine[:8] == pytest.approx(alone, abs=0.02 * scale)
