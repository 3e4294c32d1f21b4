"""Models in memory, as a training run or a notebook has them: `(model, tokenizer)`, or a text-classification pipeline.

They are read as their checkpoint would be, at the dtype that their weights have, and left as they were found: modes,
gradients, configs, buffers and random state, also after an error. A session runs every model without autocast.
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rmbench.checkpoints.opened import OPTIONS as CHECKPOINT_OPTIONS
from rmbench.checkpoints.opened import OpenedCheckpoint, chosen
from rmbench.checkpoints.rendering import OPTIONS as RENDERING_OPTIONS
from rmbench.checkpoints.rendering import Limits, Rendering, choose
from rmbench.errors import ModelError, UsageError
from rmbench.models import classifier
from rmbench.models.base import Identity, Option, Subject
from rmbench.models.reader import KNOWN_OPTIONS
from rmbench.types import Ask, Use

if TYPE_CHECKING:
    import torch

# What loading decides is decided already
READING: Mapping[str, Option] = {
    name: option for name, option in classifier.OPTIONS.items() if name not in {*CHECKPOINT_OPTIONS, *KNOWN_OPTIONS}
}

UNDERSTOOD = (
    "(model, tokenizer) with a sequence classifier of transformers or a module that gives one number for input_ids, or"
    " a text-classification pipeline"
)

_WRAPPERS = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod",
             "DeepSpeedEngine": "module"}  # fmt: skip
_SHARDED = ("FullyShardedDataParallel", "FSDPModule")


@dataclass(frozen=True)
class _Lent:
    """Stands where a checkpoint stands: its module is loaded already."""

    module: Any
    asked: Mapping[str, Any]

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.module.dtype
        return dtype

    def load(self, device: str | None, prepared: Callable[..., None], harm: str) -> Any:
        return self.module


@dataclass(frozen=True)
class _Whole:
    """A module of any making: `forward(input_ids)` gives one number a text, and it is given one text at a time."""

    subject: Subject
    module: Any
    rendering: Rendering

    @contextmanager
    def started(self) -> Iterator[classifier.Classifier]:
        import torch

        yield classifier.Classifier(
            subject=self.subject,
            fingerprint=cast(str, None),
            backbone=_one_by_one(self.module, self.subject.id),
            layout="encoder",
            rendering=self.rendering,
            head=torch.nn.Identity(),
            pool="whole",
            labels=("reward",),
            pad_id=None,
            head_dtype=torch.float32,
            facts={"layout": "encoder", "pooling": "whole", "labels": ["reward"], "reward": "reward"},
        )


@dataclass(frozen=True)
class Borrowed:
    """A model at rest that is somebody's: `module` is the classifier inside of the `whole` that was given."""

    subject: Subject
    whole: Any
    module: Any
    opened: classifier.OpenedClassifier | _Whole
    uses: frozenset[Use]
    fingerprint: None = None
    answers: frozenset[Ask] = frozenset({"reward"})
    identity: Identity = "none"

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[classifier.Classifier]:
        """The model as it is and where it is. Raises UsageError for another device."""
        if device is not None:
            raise UsageError(f"device={device!r}: {self.subject.id} is loaded already, on {_device(self.module)}")
        with left_as_found(self.whole, self.module), self.opened.started() as model:
            yield replace(model, subject=replace(model.subject, id=self.subject.id))


def is_lent(model: object) -> bool:
    """Whether an object is a module, alone or with others, or has one: known without importing what it is made with."""
    return isinstance(model, tuple) or bool(_ancestors(model) & {"torch.Module", "transformers.Pipeline"})


def lend(model: Any, options: Mapping[str, Any]) -> Borrowed:
    """A module with its tokenizer as a model at rest; `options` are those of `READING`.

    Raises UsageError for what is neither, and for wrappers that hold a part of the weights each.
    """
    whole, tokenizer = _taken_apart(model)
    module = _unwrapped(whole)
    name = type(module).__name__
    is_model = "transformers.PreTrainedModel" in _ancestors(module)
    if is_model:
        understood = module.base_model is not module and not name.endswith(classifier._NO_CLASSIFIER)
    else:
        understood = _takes(module, "input_ids")
    if not understood:
        raise UsageError(f"a {name} is no reward model that can be read; expected {UNDERSTOOD}")
    asked = chosen(classifier.OPTIONS, options, "a model in memory")
    limits = Limits(max_length=asked["max_length"], side=asked["truncation_side"])
    subject = Subject(f"memory/{name}", "classifier")
    manner = {option: asked[option] for option in RENDERING_OPTIONS}
    rendering = choose(tokenizer, asked["template"], limits, subject.id, **manner)
    settings = {"head_dtype": asked["head_dtype"], "pooling": asked["pooling"], "rendering": rendering.identity}
    subject = replace(subject, settings=settings)
    uses: frozenset[Use] = frozenset({"tools"}) if rendering.takes_tools else frozenset()
    opened: classifier.OpenedClassifier | _Whole = _Whole(subject, module, rendering)
    if is_model:
        lent = cast(OpenedCheckpoint, _Lent(module, asked))
        opened = classifier.OpenedClassifier(subject, cast(str, None), uses, lent, rendering, identity="none")
    return Borrowed(subject, whole, module, opened, uses)


def writes_results() -> bool:
    """Whether this process is the one, of several that train together, that writes what all of them compute."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return True
    return bool(distributed.get_rank() == 0)


@contextmanager
def left_as_found(whole: Any, module: Any) -> Iterator[None]:
    """Puts a module into order for inference, and back into the state that it was in."""
    import torch

    device = _device(module)
    modes = {part: part.training for part in whole.modules()}
    buffers = {part: dict(part._buffers) for part in whole.modules()}
    configs = {id(one): (one, dict(vars(one))) for one in _configs(whole)}
    own_forward = vars(module).get("forward")
    randoms = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([] if device.type == "cpu" else [device]):
        try:
            whole.eval()
            if "_original_forward" in vars(module):  # accelerate's, which puts autocast around it
                module.forward = module._original_forward
            yield
        finally:
            if own_forward is not None:
                module.forward = own_forward
            for part, training in modes.items():
                part.training = training
                part._buffers.update(buffers[part])
            for config, fields in configs.values():
                vars(config).clear()
                vars(config).update(fields)
            random.setstate(randoms[0])
            np.random.set_state(randoms[1])


def _device(module: Any) -> torch.device:
    device: torch.device = next(iter(module.parameters())).device
    return device


def _one_by_one(module: Any, name: str) -> Any:
    """A module that gives the number of each text as the hidden state of one position, [b, 1, 1]."""
    import torch

    masked = _takes(module, "attention_mask")

    class OneByOne(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
        ) -> SimpleNamespace:
            masks = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            rows = [self._number(ids[mask.bool()][None]) for ids, mask in zip(input_ids, masks, strict=True)]
            return SimpleNamespace(last_hidden_state=torch.stack(rows)[:, None])

        def _number(self, ids: torch.Tensor) -> torch.Tensor:
            given = module(input_ids=ids, **({"attention_mask": torch.ones_like(ids)} if masked else {}))
            given = given.get("logits", given) if isinstance(given, Mapping) else getattr(given, "logits", given)
            if not isinstance(given, torch.Tensor) or given.numel() != 1:
                shape = f" of shape {tuple(given.shape)}" if isinstance(given, torch.Tensor) else ""
                raise ModelError(f"{name} gives a {type(given).__name__}{shape} for a text; expected one number")
            return given.reshape(1)

    return OneByOne().eval()


def _takes(module: Any, name: str) -> bool:
    """Whether the forward of a module has a parameter of that name, or takes any."""
    parameters = inspect.signature(module.forward).parameters
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _configs(whole: Any) -> Iterator[Any]:
    for part in whole.modules():
        config = getattr(part, "config", None)
        if config is not None and hasattr(config, "get_text_config"):
            yield from (config, config.get_text_config())


def _taken_apart(model: Any) -> tuple[Any, Any]:
    """The module and the tokenizer of what was given. Raises UsageError."""
    kinds = _ancestors(model)
    if "transformers.Pipeline" in kinds:
        if "transformers.TextClassificationPipeline" not in kinds:
            raise UsageError(f"a {type(model).__name__} gives no rewards; expected {UNDERSTOOD}")
        return model.model, model.tokenizer
    if not isinstance(model, tuple):
        raise UsageError(f"a {type(model).__name__} alone has no tokenizer; expected {UNDERSTOOD}")
    given = ", ".join(type(part).__name__ for part in model)
    if len(model) != 2 or "torch.Module" not in _ancestors(model[0]):
        raise UsageError(f"({given}) is no model; expected {UNDERSTOOD}")
    module, tokenizer = model
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor has one
    if "transformers.PreTrainedTokenizerBase" not in _ancestors(tokenizer):
        raise UsageError(f"({given}) has no tokenizer of transformers behind its model; expected {UNDERSTOOD}")
    return module, tokenizer


def _unwrapped(module: Any) -> Any:
    """The model inside of what trains it. Raises UsageError where no process has all of its weights."""
    while True:
        names = {kind.__name__ for kind in type(module).__mro__}
        sharded = next((name for name in _SHARDED if name in names), None)
        if sharded is None and any(hasattr(weight, "ds_id") for weight in module.parameters()):
            sharded = "ZeRO-3"
        if sharded is not None:
            raise UsageError(
                f"{sharded} has a part of the weights in each process; save a checkpoint and give its folder"
            )
        wrapper = next((attribute for name, attribute in _WRAPPERS.items() if name in names), None)
        if wrapper is not None:
            module = getattr(module, wrapper)
        elif "PeftModel" in names:
            if module.active_peft_config.is_prompt_learning:
                kind = module.active_peft_config.peft_type
                raise UsageError(f"a {kind} adapter in memory writes a prompt of its own; save it and give its folder")
            module = module.base_model.model
        else:
            return module


def _ancestors(model: object) -> set[str]:
    """The classes that an object is of, as `package.Class`."""
    return {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(model).__mro__}
