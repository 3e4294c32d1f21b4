"""A value head beside a causal language model: LLaMA-Factory's `value_head.safetensors`, TRL's `v_head` in the weights.

The reward is the head of the last token's hidden state, behind the model's last norm, as both read it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rmbench.checkpoints.files import has_weights, shapes_of, weight_paths
from rmbench.checkpoints.fingerprint import Checkpoint, digest, told_of
from rmbench.checkpoints.opened import OPTIONS as CHECKPOINT_OPTIONS
from rmbench.checkpoints.opened import OpenedCheckpoint, chosen, open_checkpoint
from rmbench.checkpoints.rendering import OPTIONS as RENDERING_OPTIONS
from rmbench.checkpoints.rendering import Limits, Rendering, choose, warn_if_rebuilt
from rmbench.checkpoints.weights import named_dtype, positions
from rmbench.device import release
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Encoded, Identity, Option, Subject
from rmbench.types import Ask, Json, Request, Reward, Status, Use

if TYPE_CHECKING:
    import torch

VERSION = 1  # of how this module reads a model; a change of any reward raises it
SOURCE = "required"
OPTIONS: Mapping[str, Option] = {
    **CHECKPOINT_OPTIONS,
    "head_dtype": Option("in which the head runs", default="float32"),
    "max_length": Option("tokens that longer sequences are cut to, and counted", int),
    "truncation_side": Option("where they are cut", default="left", choices=("left", "right")),
    "template": Option("plain, a Jinja file or a name of the tokenizer's (default: its own template)"),
    **RENDERING_OPTIONS,
}

_FILE = "value_head.safetensors"
_NAMES = ("v_head.summary", "v_head", "value_head.summary", "value_head")
_HEADLIKE = re.compile(r"(^|\.)(?!lm_head)\w*(head|score|classifier|reward|value|regress|rank)\w*\.")
_LAYER = re.compile(r"(layers?|blocks?|h)\.\d")  # whose projections and gates may be called so too
_PATHS = frozenset({"average", "weight", "adapter", "base", "template"})  # their contents are hashed, not their places


@dataclass(slots=True, eq=False)
class ValueHead:
    """A TokenModel whose `head` maps the last hidden state [n, h] in its own dtype to rewards [n, 1]."""

    subject: Subject
    fingerprint: str
    backbone: Any
    rendering: Rendering
    head: Any
    facts: Json = field(default_factory=dict)
    uses: frozenset[Use] = frozenset()
    answers: frozenset[Ask] = frozenset({"reward"})
    layout: Literal["causal", "encoder"] = "causal"

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        """Renders and tokenises; the reward is read at the last token."""
        return [replace(one, reads=(len(one.ids) - 1,)) for one in self.rendering.encode(requests)]

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """One reward for each sequence's hidden state [1, h]."""
        import torch

        if not encoded:
            return []
        with torch.inference_mode():
            states = torch.stack([one[-1] for one in hidden])
            values = self.head(states.to(self.head.weight.device, self.head.weight.dtype)).flatten().tolist()
        return [_reward(value, one) for value, one in zip(values, encoded, strict=True)]


def _reward(value: float, encoded: Encoded) -> Reward:
    status: Status = "nan" if math.isnan(value) else "inf" if math.isinf(value) else "ok"
    return Reward((value,), status=status, n_tokens=len(encoded.ids), truncated=encoded.cut)


@dataclass(frozen=True)
class OpenedValueHead:
    """A model with a value head before its weights are read. `place` is the checkpoint and file that hold the head."""

    subject: Subject
    fingerprint: str
    uses: frozenset[Use]
    checkpoint: OpenedCheckpoint
    rendering: Rendering
    place: tuple[Checkpoint, Path, str]
    answers: frozenset[Ask] = frozenset({"reward"})
    identity: Identity = "content"
    device: str | None = None

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[ValueHead]:
        """The model on `device`, else on its own, else on the best that is there; freed when the block ends."""
        model = self.start(device)
        try:
            yield model
        finally:
            model.backbone = model.head = None
            release()

    def start(self, device: str | None = None) -> ValueHead:
        """The same without an end. Raises ModelError where the weights are not those of such a model."""
        import torch

        with told_of(self.subject.id):
            asked = self.checkpoint.asked
            names = frozenset(f"{name}.{part}" for name in _NAMES for part in ("weight", "bias"))
            model = self.checkpoint.load(device or self.device, _unchanged, "its rewards would be random", names)
            model.config.use_cache = False
            table = model.get_input_embeddings().weight
            limits = replace(self.rendering.limits, positions=positions(model), rows=table.shape[0])
            head = _head(*self.place, table.shape[1])
            head = head.to(model.device, named_dtype("head dtype", asked["head_dtype"]))
            facts = {
                "layout": "causal",
                "pooling": "last",
                "attention": str(model.config._attn_implementation),
                "dtype": str(self.checkpoint.dtype).removeprefix("torch."),
                "head_dtype": str(head.weight.dtype).removeprefix("torch."),
            }
            stated = {name: value for name, value in facts.items() if name != "layout"}
            with torch.inference_mode():  # a backbone that cannot be run is told before a task begins
                model.base_model(input_ids=torch.tensor([[0, 1]], device=model.device)).last_hidden_state[0, -1]
            return ValueHead(
                subject=replace(self.subject, settings={**self.subject.settings, **stated}),
                fingerprint=self.fingerprint,
                backbone=model.base_model,
                rendering=replace(self.rendering, limits=limits),
                head=head.eval().requires_grad_(False),
                facts=facts,
                uses=self.uses,
            )


def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> OpenedValueHead:
    """Opens a causal language model with a value head, or an adapter of one with the head beside it.

    No weights are read. Raises ModelError where there is no head of one row, UsageError for options that cannot be.
    """
    from transformers import AutoModelForCausalLM

    asked = chosen(OPTIONS, options, "value_head")
    if asked["max_length"] is not None and asked["max_length"] < 2:
        raise UsageError(f"max_length={asked['max_length']!r}: expected a number of tokens")
    if asked["template"] == "pair":
        raise UsageError("template='pair': expected plain or a Jinja file; a causal language model reads no pairs")
    named_dtype("head dtype", asked["head_dtype"])
    opened = open_checkpoint(AutoModelForCausalLM, source, asked, revision)
    name, (first, *others) = opened.checkpoint.id, opened.parts
    if others:
        raise UsageError("average: models with value heads cannot be averaged")
    with told_of(name):
        place = head_of(first.named) or (head_of(first.base) if first.adapter else None)
        if place is None:
            raise ModelError(f"{name}: no {_FILE}, and no {_NAMES[0]}.weight among its weights{_pickled(first.named)}")
        warn_if_rebuilt(opened.tokenizer, opened.words.file("tokenizer.json"), opened.words.id)
        limits = Limits(max_length=asked["max_length"], side=asked["truncation_side"])
        manner = {option: asked[option] for option in RENDERING_OPTIONS}
        rendering = choose(opened.tokenizer, asked["template"], limits, name, **manner)
        fingerprint = digest(
            {
                "family": "value_head",
                "version": VERSION,
                **opened.content,
                "rendering": rendering.identity,
                "options": {
                    name: value for name, value in asked.items() if name not in _PATHS and not OPTIONS[name].of_run
                },
            }
        )
    settings = {**opened.settings, "head_dtype": asked["head_dtype"], "rendering": rendering.identity}
    subject = Subject(name, "value_head", opened.checkpoint.commit, settings)
    uses: frozenset[Use] = frozenset({"tools"}) if rendering.takes_tools else frozenset()
    return OpenedValueHead(subject, fingerprint, uses, opened, rendering, place, device=asked["device"])


def head_of(checkpoint: Checkpoint) -> tuple[Checkpoint, Path, str] | None:
    """The checkpoint, its file and the name of the value head in it; None where there is none.

    Weights of the hub are not looked into before they are read, so there the file beside them has to be its own.
    """
    beside = checkpoint.file(_FILE)
    paths = [] if beside is None else [beside]
    if beside is None and checkpoint.commit is None and has_weights(checkpoint):
        paths = weight_paths(checkpoint)
    for path in paths:
        held = shapes_of(checkpoint, [path])
        for name in _NAMES:
            if f"{name}.weight" in held:
                return checkpoint, path, name
    return None


def unread_heads(checkpoint: Checkpoint) -> str:
    """What beside a language model's weights may be a head that no family reads, as the end of a message; or nothing.

    Weights of the hub are not looked into.
    """
    shapes = {}
    if checkpoint.commit is None and checkpoint.file("adapter_config.json") is None and has_weights(checkpoint):
        shapes = shapes_of(checkpoint, weight_paths(checkpoint))
    named = [name for name in sorted(shapes) if _HEADLIKE.search(name) and not _LAYER.search(name)]
    told = ", ".join(f"{name} {list(shapes[name])}" for name in named[:3])
    among = f"; among its weights {told}, which no family reads" if named else ""
    return among + _pickled(checkpoint)


def _head(checkpoint: Checkpoint, path: Path, name: str, width: int) -> Any:
    """The head as a linear layer. Raises ModelError where it is not one row over the hidden state."""
    import torch
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        weight = file.get_tensor(f"{name}.weight")
        bias = file.get_tensor(f"{name}.bias") if f"{name}.bias" in file.keys() else None  # noqa: SIM118
    if tuple(weight.shape) != (1, width):
        raise ModelError(f"{checkpoint.id}: {name}.weight has the shape {list(weight.shape)}; expected {[1, width]}")
    head = torch.nn.Linear(width, 1, bias=bias is not None, dtype=weight.dtype)
    head.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return head


def _pickled(checkpoint: Checkpoint) -> str:
    if checkpoint.file("value_head.bin") is None:
        return ""
    return f"; value_head.bin is not read, because it can execute code: load it where you trust it and save {_FILE}"


def _unchanged(config: Any, rows: Mapping[str, int]) -> None:
    """A language model's config is its own."""
