"""What is true on a GPU only, on a CPU: a card that is not there tells of its memory, and has no more than that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from ask_models import score
from cards import Card
from checkpoints import bytes_bpe, make
from real_models import FREE, RealTokenModel, backbone, requests_of, watched

from rmbench.cli import main
from rmbench.device import Cpu, device_of, devices, picked, release, standing_in
from rmbench.errors import UsageError
from rmbench.forwards.budget import USUAL
from rmbench.forwards.estimate import budget_of
from rmbench.forwards.loop import run
from rmbench.forwards.plan import Way, plan
from rmbench.models.base import Encoded
from rmbench.models.spec import load_model
from rmbench.scoring import Asking, Explanation, Session, Usage
from rmbench.types import Message, Question, Request, Response

pytestmark = pytest.mark.usefixtures("one_thread")

GIB = 2**30
CHATS = [
    Request("reward", (Message("user", f"What is {a} + {b}?"),), (Response("It is " + "so " * b + str(a + b)),))
    for a in range(8)
    for b in range(5)
]
NUMBERS = [one for n in range(3, 40) for one in requests_of([5] * n, [6 + n % 30] * (n // 2 + 1), ("reward",))]
QUESTIONS = [Question(one) for one in NUMBERS]


def causal() -> Any:
    return RealTokenModel(backbone("llama"))


def encoder() -> Any:
    return RealTokenModel(backbone("bert"))


class OwnCode(torch.nn.Module):
    """What nobody knows anything of: no config, no layers by name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(40, 32)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        return SimpleNamespace(last_hidden_state=self.table(input_ids).cumsum(1).tanh())


def own_code() -> Any:
    return RealTokenModel(OwnCode().eval().requires_grad_(False), layout="encoder")


def bart(folder: Path) -> Any:
    """An encoder-decoder, which is run whole, and which reads at an EOS that each sequence has to have."""
    config = transformers.BartConfig(
        vocab_size=500,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
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
    torch.manual_seed(0)
    transformers.BartForSequenceClassification(config).save_pretrained(folder)
    bytes_bpe().save_pretrained(folder)
    return load_model(str(folder), device="cpu")


def values_of(model: Any, requests: Sequence[Request], **given: Any) -> list[float]:
    rewards = score(model, requests, **given)
    assert {reward.status for reward in rewards} == {"ok"}
    return [reward.value for reward in rewards]


@pytest.mark.parametrize("make_model", [causal, encoder, own_code])
def test_a_budget_is_what_the_free_memory_holds(make_model: Callable[[], Any]) -> None:
    model = make_model()
    encoded = model.encode(NUMBERS)
    card = Card(total=10**8, taken=9 * 10**7)
    with standing_in({"cuda:0": card}):
        small = budget_of(model, None, encoded).limit
        each = card.peak / 512
        card.taken -= 10**7
        assert budget_of(model, None, encoded).limit == pytest.approx(2 * small, rel=1e-3)
        card.total = 10**12
        assert budget_of(model, None, encoded).limit == 4 * USUAL["cuda"]
        assert budget_of(model, 300, encoded).limit == 300
    assert small == pytest.approx(0.7 * 10**7 / each, rel=0.1)
    assert card.held == 0
    assert budget_of(model, None, encoded).limit == USUAL["cpu"]


def test_an_estimate_runs_what_the_engine_runs_without_a_cache() -> None:
    model, card = causal(), Card(GIB)
    item = Encoded([5] * 512, [511])
    with standing_in({"cuda:0": card}):
        budget_of(model, None, [item])
        estimated = card.peak
        for cached in (False, True):

            def forward(cached: bool = cached) -> object:
                with card.running(), torch.inference_mode():
                    return model.backbone(input_ids=torch.tensor([item.ids]), use_cache=cached)

            taken = card.taken_by(forward)
            assert (taken > estimated) == cached


def test_a_model_that_is_run_whole_has_a_budget_and_no_cache(tmp_path: Path) -> None:
    model, card = bart(tmp_path), Card(GIB)
    assert model.pool == "whole"
    alone = values_of(model, CHATS)
    kept: list[Any] = []
    model.backbone.model.model.register_forward_hook(lambda _, __, output: kept.append(output.past_key_values))
    usage = Usage()
    with standing_in({"cuda:0": card}):
        assert values_of(model, CHATS, usage=usage) == pytest.approx(alone, abs=1e-5)
    assert 0 < (usage.token_budget or 0) <= 4 * USUAL["cuda"]
    assert 0 < card.peak < GIB
    assert kept
    assert all(cache is None for cache in kept)


@pytest.mark.parametrize("make_model", [causal, encoder, own_code])
def test_memory_that_is_gone_before_the_first_forward_still_gives_a_budget(make_model: Callable[[], Any]) -> None:
    """A neighbour left room for a sequence, but not for what an estimate takes."""
    model, card = make_model(), Card(GIB)
    expected = values_of(model, NUMBERS, token_budget=60)
    usage = Usage()
    with standing_in({"cuda:0": card}), watched(None):
        budget_of(model, None, model.encode(NUMBERS))
        card.total = card.peak // 3
        assert budget_of(model, None, model.encode(NUMBERS)).limit <= 512
        assert card.released == 1
        assert values_of(model, NUMBERS, usage=usage) == pytest.approx(expected, rel=1e-5)
    assert card.peak <= card.total
    assert card.released > 1  # the estimate's and those of forwards that were halved
    assert card.held == 0


def test_a_budget_that_was_too_large_is_halved_and_comes_back() -> None:
    """In the middle of a run a neighbour takes nine tenths of the memory, and later leaves again."""
    model, card = causal(), Card(10**6)
    encoded = [Encoded([4 + i % 30] * 10, [9], note=1) for i in range(1000)]
    padded: frozenset[Way] = frozenset({"padded"})
    with standing_in({"cuda:0": card}):
        budget = budget_of(model, None, encoded)
        sizes = []
        for planned, rewards in run(model, encoded, lambda some, tokens: plan(some, FREE, tokens, padded), budget):
            assert rewards is not None
            sizes.append(planned.tokens)
            card.taken = 9 * 10**5 if 3 <= len(sizes) < 8 else 0
    assert 400 < sizes[0] <= budget.limit < 600
    assert sizes[3] < budget.limit / 4
    assert budget.now == budget.limit
    assert card.released >= 3


def test_one_sequence_that_fits_into_no_memory_is_an_error_of_its_own() -> None:
    model, card = causal(), Card(10**5)
    long = requests_of([4] * 200, [5] * 100, ("reward",))
    with standing_in({"cuda:0": card}), watched(None):
        rewards = score(model, [*NUMBERS[:10], *long])
    assert [reward.status for reward in rewards] == ["ok"] * 10 + ["error"]
    assert rewards[-1].detail == "out of memory on a sequence of 300 tokens by itself"


def test_a_plan_is_explained_by_the_memory_there_is() -> None:
    model = causal()
    with standing_in({"cuda:0": Card(10**6)}):
        (explained,) = Session(model, Asking()).explain({"t": QUESTIONS})
        assert isinstance(explained, Explanation)
        assert 0 < explained.token_budget < 1000
        assert Session(model, Asking()).explain({})[0].token_budget == USUAL["cuda"]
    assert Session(model, Asking()).explain({"t": QUESTIONS})[0].token_budget == USUAL["cpu"]


def test_devices_have_names_and_the_best_is_first() -> None:
    assert list(devices())[-1] == "cpu"
    network = torch.nn.Linear(2, 2)
    cards = {"cuda:0": Card(GIB), "cuda:1": Card(GIB)}
    with standing_in(cards):
        assert list(devices()) == ["cuda:0", "cuda:1"]
        assert device_of(network) is cards["cuda:0"]
        assert [picked(name) for name in (None, "cuda", "cuda:1", "1")] == ["cpu"] * 4
        with pytest.raises(UsageError, match="'cuda:2' is not there; here are cuda:0, cuda:1"):
            picked("cuda:2")
        with pytest.raises(UsageError, match="one of cpu, cuda"):
            picked("tpu")
        release()
    assert [card.released for card in cards.values()] == [1, 1]
    assert isinstance(device_of(network), Cpu)


def fail() -> None:
    with standing_in({}):
        raise KeyError


def test_the_machine_s_own_devices_are_back_after_an_error() -> None:
    with pytest.raises(KeyError):
        fail()
    assert "cpu" in devices()


def test_doctor_lists_the_devices(capsys: pytest.CaptureFixture[str]) -> None:
    with standing_in({"cuda:0": Card(80 * GIB)}):
        main(["doctor"])
    assert "stand-in, 80 GiB" in capsys.readouterr().out


@pytest.mark.prove
def test_devices_by_number_share_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "llama", "llama")
    with standing_in({"cuda:0": Card(GIB), "cuda:1": Card(GIB)}):
        arguments = ["run", "-m", str(folder), "-t", "best_of_n", "--limit", "20", "--max-length", "300"]
        assert main([*arguments, "--devices", "0,1", "--out", str(tmp_path / "out")]) == 0
