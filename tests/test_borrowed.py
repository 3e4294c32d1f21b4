"""Models in memory: the rewards of their folder, whatever they are wrapped in, and nothing of them moved."""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import make

import rmbench
from rmbench.errors import ModelError, UsageError
from rmbench.models.borrowed import writes_results
from rmbench.types import Reward

TEXTS = ("The journey takes 165 minutes.", "I am sorry, but I cannot say.", "95", "")
CONVERSATIONS = [("What is 37 + 58? Let us add.", text) for text in TEXTS] + [("How long is the journey?", TEXTS[0])]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("llama") / "tiny-llama", "llama")


@pytest.fixture
def lent(folder: Path) -> tuple[Any, Any]:
    return loaded(folder)


def loaded(folder: Path, **options: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    return model, AutoTokenizer.from_pretrained(folder)


def values(model: Any, **options: Any) -> list[float]:
    rewards: list[Reward] = rmbench.score(model, CONVERSATIONS, **options)
    assert {reward.status for reward in rewards} == {"ok"}
    return [reward.value for reward in rewards]


def assert_alike(some: list[float], others: list[float]) -> None:
    assert some == pytest.approx(others, rel=0, abs=1e-5 * max(map(abs, others)))


def pipelined(model: Any, tokenizer: Any) -> Any:
    from transformers import pipeline

    return pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")


def with_processor(model: Any, tokenizer: Any) -> Any:
    return model, types.SimpleNamespace(tokenizer=tokenizer)


@pytest.mark.parametrize("architecture", ["llama", "bert"])
@pytest.mark.parametrize("given", [lambda *pair: pair, pipelined, with_processor])
def test_every_way_in_gives_the_rewards_of_the_folder(
    given: Callable[..., Any], architecture: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / f"tiny-{architecture}", architecture)
    assert_alike(values(given(*loaded(folder))), values(folder, dtype="float32"))


class Headed(torch.nn.Module):
    """A reward model of somebody's own: a backbone, a head, and whatever `given` makes of its number."""

    def __init__(self, model: Any, given: Callable[[torch.Tensor], Any], masked: bool) -> None:
        super().__init__()
        self.backbone, self.v_head, self.given = model.model, model.score, given
        self.drop = torch.nn.Dropout(0.5)
        if masked:
            self.forward = self.masked  # type: ignore[method-assign]

    def forward(self, input_ids: torch.Tensor) -> Any:
        return self.given(self.v_head(self.drop(self.backbone(input_ids).last_hidden_state[:, -1])))

    def masked(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        assert bool(attention_mask.all())
        return Headed.forward(self, input_ids)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "given",
    [
        lambda number: number,
        lambda number: number[:, 0],
        lambda number: {"logits": number},
        lambda number: types.SimpleNamespace(logits=number),
    ],
)
def test_a_module_of_any_making_gives_its_one_number(
    given: Callable[[torch.Tensor], Any], masked: bool, folder: Path, lent: tuple[Any, Any]
) -> None:
    module = Headed(lent[0], given, masked).train()
    before = state_of(module)
    assert_alike(values((module, lent[1])), values(folder, dtype="float32"))
    assert state_of(module) == before


def test_a_module_that_takes_anything_is_given_what_it_may_need(folder: Path, lent: tuple[Any, Any]) -> None:
    class Passing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = lent[0]

        def forward(self, **inputs: torch.Tensor) -> Any:
            return self.inner(**inputs)

    assert_alike(values((Passing(), lent[1])), values(folder, dtype="float32"))


def test_a_module_that_gives_a_mapping_without_logits_is_told_so(lent: tuple[Any, Any]) -> None:
    with pytest.raises(ModelError, match="memory/Headed gives a dict for a text; expected one number"):
        values((Headed(lent[0], lambda number: {"scores": number}, masked=False), lent[1]))


def test_a_module_that_gives_several_numbers_is_told_so(lent: tuple[Any, Any]) -> None:
    module = Headed(lent[0], lambda number: number.repeat(1, 2), masked=False)
    with pytest.raises(ModelError, match=r"memory/Headed gives a Tensor of shape \(1, 2\) for a text; expected one"):
        values((module, lent[1]))


def test_options_of_reading_hold_and_those_of_loading_are_refused(folder: Path, lent: tuple[Any, Any]) -> None:
    assert_alike(values(lent, max_length=20), values(folder, max_length=20))
    assert values(lent, max_length=20) != values(lent)
    forged = [("Why?", "So.</s>")]
    for manner in ({"bos": "none"}, {"bos": "one"}, {"control_tokens": "text"}, {"template": "plain"}):
        own, others = (rmbench.score(model, forged, **manner)[0] for model in (lent, folder))
        assert_alike([own.value], [others.value])
        assert (own.n_tokens, own.noted) == (others.n_tokens, others.noted)
    with pytest.raises(UsageError, match="dtype='bfloat16' cannot change a model that is loaded already"):
        values(lent, dtype="bfloat16")


def wrapped_by_accelerate(model: Any) -> Any:
    """What `Accelerator.prepare` leaves with mixed precision: a forward of its own, under autocast."""
    model._original_forward = model.forward

    def forward(self: Any, *args: Any, **inputs: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self._original_forward(*args, **inputs)

    model.forward = types.MethodType(forward, model)
    return model


def in_data_parallel(model: Any) -> Any:
    return torch.nn.DataParallel(model)


def compiled(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def checkpoint_activations(model: Any) -> None:
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()


def checkpointed(model: Any) -> Any:
    checkpoint_activations(model)
    model.enable_input_require_grads()
    return model


@pytest.mark.parametrize(
    "wrapped", [in_data_parallel, pytest.param(compiled, marks=pytest.mark.prove), wrapped_by_accelerate, checkpointed]
)
def test_what_training_wraps_a_model_in_is_taken_off(
    wrapped: Callable[[Any], Any], folder: Path, lent: tuple[Any, Any]
) -> None:
    model = wrapped(lent[0]).train()
    before = state_of(model)
    assert_alike(values((model, lent[1])), values(folder, dtype="float32"))
    assert state_of(model) == before


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("trained", [False, True])
def test_an_adapter_in_training_gives_the_rewards_of_its_checkpoint(
    trained: bool, folder: Path, lent: tuple[Any, Any], tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, lora_dropout=0.5, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(lent[0], config)
    if trained:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))))
    model.train()
    model.save_pretrained(tmp_path / "adapter")
    lent[1].save_pretrained(tmp_path / "adapter")
    before = state_of(model)
    in_memory = values((model, lent[1]))
    assert state_of(model) == before
    assert_alike(in_memory, values(tmp_path / "adapter", dtype="float32"))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_that_writes_a_prompt_is_refused_by_name(lent: tuple[Any, Any]) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(lent[0], peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2))
    with pytest.raises(UsageError, match="PROMPT_TUNING adapter in memory writes a prompt of its own; save it"):
        values((model, lent[1]))


class FullyShardedDataParallel(torch.nn.Module):
    """Stands for torch's, which wants several processes."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module


def zero(model: Any) -> Any:
    next(model.parameters()).ds_id = 0
    return model


@pytest.mark.parametrize(
    ("wrapped", "name"), [(FullyShardedDataParallel, "FullyShardedDataParallel"), (zero, "ZeRO-3")]
)
def test_what_has_a_part_of_the_weights_is_refused_by_name(
    wrapped: Callable[[Any], Any], name: str, lent: tuple[Any, Any]
) -> None:
    with pytest.raises(UsageError, match=f"{name} has a part of the weights in each process; save a checkpoint"):
        values((wrapped(lent[0]), lent[1]))


def state_of(model: Any) -> Any:
    """All of a module, and of what is around it, that somebody would miss."""
    parts = [*model.modules()]
    configs = [part.config for part in parts if hasattr(part, "config")]
    return (
        [part.training for part in parts],
        [(name, id(weight), weight.requires_grad, weight.grad) for name, weight in model.named_parameters()],
        [(name, id(buffer), buffer.is_inference()) for name, buffer in model.named_buffers()],
        [sorted((name, repr(value)) for name, value in vars(config).items()) for config in configs],
        [(len(part._forward_hooks), len(part._forward_pre_hooks), "forward" in vars(part)) for part in parts],
        [getattr(part, "gradient_checkpointing", None) for part in parts],
        [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()],  # type: ignore[index]
        [torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")],
    )


def raised(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no reward today")


@pytest.mark.parametrize("fails", [None, "model", "head", "tokenizer"])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_model_is_left_as_it_was_found_also_after_an_error(
    fails: str | None, autocast: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded(folder, attention_dropout=0.5)
    model.train()
    model.model.layers[0].eval()  # a part that somebody froze
    model.model.embed_tokens.weight.requires_grad_(False)
    checkpoint_activations(model)
    heard: list[Any] = []
    model.model.register_forward_hook(lambda *_: heard.append(1))
    loss = model(**tokenizer("The journey", return_tensors="pt")).logits.sum()
    loss.backward()
    if fails == "model":
        monkeypatch.setattr(type(model.model), "forward", raised)
    elif fails == "head":
        monkeypatch.setattr("rmbench.models.classifier.Classifier.read", raised)
    elif fails == "tokenizer":
        monkeypatch.setattr("rmbench.models.classifier.Classifier.encode", raised)
    before = state_of(model)
    with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext():
        around = state_of(model)
        if fails is None:
            assert_alike(values((model, tokenizer)), values(folder, dtype="float32"))
            assert heard
        else:
            with pytest.raises((ModelError, RuntimeError), match="no reward today"):
                values((model, tokenizer))
        assert state_of(model) == around
    assert state_of(model) == before


def test_training_goes_on_as_if_nobody_had_looked(folder: Path) -> None:
    def trained(looks: bool) -> list[float]:
        torch.manual_seed(0)
        model, tokenizer = loaded(folder, attention_dropout=0.5)
        model.train()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        for _ in range(3):
            loss = model(**tokenizer("The journey takes 165 minutes", return_tensors="pt")).logits.pow(2).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            if looks:
                values((model, tokenizer))
        return losses

    assert trained(looks=True) == trained(looks=False)


def test_weights_that_move_are_never_taken_for_those_of_before(lent: tuple[Any, Any], tmp_path: Path) -> None:
    before = values(lent)
    with torch.no_grad():
        lent[0].score.weight.mul_(2)
    assert values(lent) == pytest.approx([2 * value for value in before], rel=1e-5)
    [result] = rmbench.evaluate(lent, ["best_of_n"], limit=3, out=tmp_path)
    assert (result.subject.id, result.subject.identity) == ("memory/LlamaForSequenceClassification", "none")
    assert (result.config.run["device"], result.config.run["threads"]) == ("cpu", 1)
    [named] = rmbench.evaluate(lent, ["best_of_n"], limit=3, name="mine/step-10")
    assert named.subject.id == "mine/step-10"


def test_of_several_processes_that_train_the_first_writes(
    lent: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writes_results()
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    [result] = rmbench.evaluate(lent, ["best_of_n"], limit=3, out=tmp_path)
    assert result.metric("accuracy").n == 3
    assert not [*tmp_path.rglob("*.json")]
    rmbench.evaluate("length", ["best_of_n"], limit=3, out=tmp_path)
    assert [*tmp_path.rglob("*.json")]


def things() -> Iterator[tuple[str, Callable[[Any, Any], Any], str]]:
    expected = r"expected \(model, tokenizer\) with a sequence classifier of transformers or a module that gives"
    yield "module", lambda model, _: model, f"a LlamaForSequenceClassification alone has no tokenizer; {expected}"
    yield "backwards", lambda model, tokenizer: (tokenizer, model), rf"\(\w+, LlamaFor\w+\) is no model; {expected}"
    yield "three", lambda model, tokenizer: (model, tokenizer, 1), f"is no model; {expected}"
    yield (
        "text",
        lambda model, _: (model, "tokenizer"),
        f"has no tokenizer of transformers behind its model; {expected}",
    )
    yield (
        "backbone",
        lambda model, tokenizer: (model.model, tokenizer),
        f"a LlamaModel is no reward model.*; {expected}",
    )
    yield "layer", lambda model, tokenizer: (model.score, tokenizer), f"a Linear is no reward model.*; {expected}"
    yield "path", lambda *_: Path("no/such/folder"), "no/such/folder: no such file or folder"
    yield "number", lambda *_: 3, "a model is a spec, a Path, a function, .*; got int"
    yield "nothing", lambda *_: None, "a model is a spec, a Path, a function, .*; got None"
    yield "class", lambda model, _: type(model), "a model is an instance, not the class LlamaForSequenceClassification"
    yield "mapping", lambda *_: {"model": 1}, "; got dict"


@pytest.mark.parametrize(("make_thing", "message"), [pytest.param(*rest, id=name) for name, *rest in things()])
def test_what_is_not_understood_raises_with_what_is(
    make_thing: Callable[[Any, Any], Any], message: str, lent: tuple[Any, Any]
) -> None:
    with pytest.raises(UsageError, match=message):
        rmbench.evaluate(make_thing(*lent), ["best_of_n"], limit=2)


def test_a_path_is_a_path_and_a_module_is_not_loaded_twice(folder: Path, lent: tuple[Any, Any]) -> None:
    assert values(folder) == values(str(folder))
    with pytest.raises(UsageError, match="no such file or folder"):
        rmbench.open_model(Path("length"))
    with pytest.raises(UsageError, match="is loaded already; give it to evaluate or score as it is"):
        rmbench.load_model(lent)


def test_a_pipeline_of_another_kind_gives_no_rewards(lent: tuple[Any, Any]) -> None:
    from transformers import pipeline

    given = pipeline("zero-shot-classification", model=lent[0], tokenizer=lent[1], device="cpu")
    with pytest.raises(UsageError, match="a ZeroShotClassificationPipeline gives no rewards; expected"):
        values(given)
