"""Sequence classifiers as reward models: any AutoModelForSequenceClassification, decoder or encoder, with any labels.

The reward is the raw logit of the label called `reward` where there is one and of the first label otherwise; with more
than one label each is kept as a head. Which hidden state it is read from is known from the architecture and measured at
load against the model's own forward; where the two differ, the whole model runs instead of its backbone.
"""

from __future__ import annotations

import copy
import importlib.util
import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Encoded, Options, Subject
from rmbench.models.checkpoint import (
    check_code,
    listed,
    named_dtype,
    own_dtype,
    pick_device,
    positions,
    quiet,
    read_config,
    read_tokenizer,
    read_weights,
)
from rmbench.models.fingerprint import Checkpoint, class_name, digest, first_line, locate, sources, tokenizer_hash
from rmbench.models.rendering import Limits, Rendering, choose, warn_if_rebuilt
from rmbench.types import Ask, Message, Request, Response, Reward, Status

if TYPE_CHECKING:
    import torch

VERSION = 2  # of how this module reads a model; a change of any reward raises it

_NO_CLASSIFIER = ("ForCausalLM", "ForConditionalGeneration", "ForMaskedLM", "LMHeadModel")
_PROBE = "Is 17 a prime number? Yes, no smaller prime divides it."

Pool = Literal["last", "hf", "first", "mean", "whole"]


@dataclass(slots=True, eq=False)
class Classifier:
    """A TokenModel whose `head` maps pooled hidden states [n, 1, h] in `head_dtype` to logits [n, 1, labels]."""

    subject: Subject
    fingerprint: str
    backbone: Any
    layout: Literal["causal", "encoder"]
    rendering: Rendering
    head: Any
    pool: Pool
    labels: tuple[str, ...]
    pad_id: int | None
    head_dtype: torch.dtype
    answers: frozenset[Ask] = frozenset({"reward"})

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        """Renders and tokenises; the reads are where the reward is read from."""
        return [replace(one, reads=self._reads(one.ids)) for one in self.rendering.encode(requests)]

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """One reward for each sequence's hidden states [reads, h]."""
        import torch

        if not encoded:
            return []
        with torch.inference_mode():
            if all(len(states) == 1 for states in hidden):
                pooled = torch.stack(list(hidden)).to(self.head_dtype)
            else:
                pooled = torch.stack([states.to(self.head_dtype).mean(0, keepdim=True) for states in hidden])
            logits = self.head(pooled.to(next(self.head.parameters(), pooled).device)).flatten(1).tolist()
        return [self._reward(values, one) for values, one in zip(logits, encoded, strict=True)]

    def _reads(self, ids: Sequence[int]) -> tuple[int, ...]:
        match self.pool:
            case "first" | "whole":
                return (0,)
            case "mean":
                return tuple(range(len(ids)))
            case "hf":  # the rightmost token that is no pad, wherever that is
                return (max((i for i, token in enumerate(ids) if token != self.pad_id), default=0),)
            case "last":
                return (len(ids) - 1,)

    def _reward(self, logits: list[float], encoded: Encoded) -> Reward:
        value = logits[default_label(self.labels)]
        status: Status = "nan" if math.isnan(value) else "inf" if math.isinf(value) else "ok"
        heads = {label: (logit,) for label, logit in zip(self.labels, logits, strict=True)}
        return Reward(
            values=(value,),
            heads=heads if len(heads) > 1 else {},
            status=status,
            n_tokens=len(encoded.ids),
            truncated=encoded.cut,
        )


def load(source: str, options: Options) -> Classifier:
    """Loads a hub id or a local folder: a classifier checkpoint, or a PEFT adapter of one with its head.

    The dtype is `options.dtype`, else the one that the checkpoint's config states, else float32, on every device alike.
    The device is `options.device`, else the first of cuda, mps and cpu that is there; `auto` spreads a model that is
    larger than one GPU over all of them. Raises ModelError where the checkpoint cannot be read as a classifier with the
    weights it has, and UsageError for options that cannot be.
    """
    checkpoint = locate(source, options.revision)
    adapter = checkpoint.json("adapter_config.json")
    base = checkpoint if adapter is None else _base_of(checkpoint, adapter)
    options = replace(options, device=pick_device(options.device))
    words = checkpoint if checkpoint.file("tokenizer_config.json") else base
    if options.trust_remote_code:
        check_code(base, "config.json", "AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer")
        check_code(words, "tokenizer_config.json", "AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer")
    with quiet():
        config = _config(base, options, is_base=adapter is not None)
        dtype = named_dtype("dtype", options.dtype or own_dtype(config))
        head_dtype = named_dtype("head dtype", options.head_dtype)
        model = _model(base, None if adapter is None else checkpoint, config, options, dtype)
        tokenizer = read_tokenizer(words, trust_remote_code=options.trust_remote_code)
    warn_if_rebuilt(tokenizer, words.file("tokenizer.json"), words.id)
    rendering = choose(tokenizer, options, _limits(model, options, checkpoint.id), checkpoint.id)
    _check_max_length(rendering)

    backbone, head, pool, layout = _split(model, rendering, checkpoint.id)
    if pool == "whole":
        head_dtype = dtype
    elif pool == "last" and options.pooling == "hf":
        pool = "hf"
    labels = _labels(model.config)
    settings = {
        "dtype": str(dtype).removeprefix("torch."),
        "head_dtype": str(head_dtype).removeprefix("torch."),
        "attention": str(model.config._attn_implementation),
        "pooling": pool,
        "labels": list(labels),
        "reward": labels[default_label(labels)],
        "rendering": rendering.identity,
    }
    fingerprint = digest(
        {
            "family": "classifier",
            "version": VERSION,
            "weights": base.content(),
            "adapter": None if adapter is None else checkpoint.content(),
            "tokenizer": tokenizer_hash(tokenizer),
            "class": class_name(type(model)),
            "code": sources(type(config), type(tokenizer), *map(type, model.modules())),
            **settings,
        }
    )
    named = settings if adapter is None else {**settings, "base": base.id}
    return Classifier(
        subject=Subject(checkpoint.id, "classifier", checkpoint.commit, named),
        fingerprint=fingerprint,
        backbone=backbone,
        layout=layout,
        rendering=rendering,
        head=_own_head(head, head_dtype, hooked=options.device == "auto"),
        pool=pool,
        labels=labels,
        pad_id=model.config.get_text_config().pad_token_id,
        head_dtype=head_dtype,
    )


def default_label(labels: Sequence[str]) -> int:
    """The index of the label that is the reward: the one called so, or the first."""
    return labels.index("reward") if "reward" in labels else 0


def _config(base: Checkpoint, options: Options, *, is_base: bool) -> Any:
    config = read_config(base, trust_remote_code=options.trust_remote_code)
    for architecture in config.architectures or ():
        if architecture.endswith(_NO_CLASSIFIER) and not is_base:
            raise ModelError(
                f"{base.id} is a {architecture}, which has no reward head; give a ...ForSequenceClassification"
                " checkpoint, a PEFT adapter that brings the head, or a callable as python:module:attribute"
            )
    return config


def _base_of(adapter: Checkpoint, config: dict[str, Any]) -> Checkpoint:
    if importlib.util.find_spec("peft") is None:
        raise ModelError(f"{adapter.id} is a PEFT adapter: pip install 'rmbench[peft]' to load it")
    if adapter.file("adapter_model.safetensors") is None:
        raise ModelError(f"{adapter.id}: adapter_model.safetensors is missing; no other format is read")
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str):
        raise ModelError(f"{adapter.id}: adapter_config.json has base_model_name_or_path {name!r}, not a model's name")
    revision = config.get("revision")
    if revision is not None and Path(name).is_dir():
        raise ModelError(
            f"{adapter.id}: adapter_config.json asks for revision {revision!r} of its base, which is a folder here;"
            " only models on the hub have revisions"
        )
    return locate(name, revision)


def _model(base: Checkpoint, adapter: Checkpoint | None, config: Any, options: Options, dtype: torch.dtype) -> Any:
    """The model with all of its weights from files, the adapter merged, on its device, ready for inference."""
    from transformers import AutoModelForSequenceClassification

    brought = {} if adapter is None else _brought(adapter)
    for name in ("score.weight", "classifier.weight", "classifier.out_proj.weight"):
        if name in brought:
            config.num_labels = brought[name]
    model, found = read_weights(
        AutoModelForSequenceClassification,
        base,
        config,
        dtype,
        device=options.device,
        trust_remote_code=options.trust_remote_code,
    )
    missing = sorted(set(found["missing_keys"]) - set(brought))
    if missing:
        raise ModelError(
            f"{(adapter or base).id}: {listed(missing)} not in the checkpoint; its rewards would be random"
        )
    unused = sorted(set(found["unexpected_keys"]) - {"lm_head.weight"})
    if unused:
        warnings.warn(f"{base.id}: {listed(unused)} in the checkpoint but no part of the model", stacklevel=3)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter.source, revision=adapter.commit).merge_and_unload()
    model.config.return_dict = True  # a checkpoint may ask for tuples
    model.config.use_cache = False  # nothing follows a forward, and a model that is run whole is not told so
    if options.device != "auto":
        model.to(options.device)
    return model.eval().requires_grad_(False)


def _brought(adapter: Checkpoint) -> dict[str, int]:
    """The names of the weights that an adapter brings whole, as the model calls them, with their number of rows."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(adapter.file("adapter_model.safetensors")), framework="pt") as file:
            return {
                name.removeprefix("base_model.model."): file.get_slice(name).get_shape()[0]
                for name in file.keys()  # noqa: SIM118
            }
    except SafetensorError as error:
        raise ModelError(f"{adapter.id}: adapter_model.safetensors: {first_line(error)}") from None


def _split(model: Any, rendering: Rendering, name: str) -> tuple[Any, Any, Pool, Literal["causal", "encoder"]]:
    """Backbone, head, where the head reads, and layout, each measured on a short text against the model itself.

    Raises ModelError where not even the whole model reads what `rendering` makes of one.
    """
    import torch

    with suppress(Exception):  # an architecture of any making may raise anything; the whole model has the last word
        if (parts := _parts(model, _probe_ids(rendering))) is not None:
            return parts
    try:
        whole = _whole(model, alone=False)
        whole.alone = not _bears_padding(whole, rendering)
    except Exception as error:
        raise ModelError(f"{name}: {type(model).__name__} cannot read a short text: {first_line(error)}") from None
    return whole, torch.nn.Identity(), "whole", "encoder"


def _parts(model: Any, ids: list[int]) -> tuple[Any, Any, Pool, Literal["causal", "encoder"]] | None:
    """Backbone, head, where it reads, and layout; None where the known parts do not give the model's own logits."""
    import torch

    known = _known_head(model)
    if known is None:
        return None
    modules, pool = known
    tokens = torch.tensor([ids], device=model.device)
    other = torch.tensor([[*ids[:-1], ids[0]]], device=model.device)
    head = torch.nn.Sequential(*modules)
    with torch.inference_mode():
        hidden = model.base_model(input_ids=tokens).last_hidden_state
        pooled = {"last": hidden[:, -1:], "first": hidden[:, :1], "mean": hidden.mean(1, keepdim=True)}[pool]
        if not _alike(head(pooled).flatten(1), model(input_ids=tokens).logits):
            return None
        moved = model.base_model(input_ids=other).last_hidden_state
        causal = pool == "last" and _alike(hidden[:, 0], moved[:, 0])
    return model.base_model, head, pool, "causal" if causal else "encoder"


def _bears_padding(whole: Any, rendering: Rendering) -> bool:
    """Whether the whole model gives sequences of several lengths in one padded batch the logits they have alone.

    Raises what the model raises, and ValueError where its logits are not one row of labels a sequence.
    """
    import torch

    words = _PROBE.split()
    requests = [
        Request("reward", (Message("user", "Hi"),), (Response(" ".join(words[:count])),))
        for count in (len(words), 1, 4, 6)  # the longest first: it also shows whether the model runs at all
    ]
    rows = [list(one.ids) for one in rendering.encode(requests) if one.error is None] or [_probe_ids(rendering)]
    width, config = max(map(len, rows)), whole.model.config
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=whole.model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=whole.model.device)
    with torch.inference_mode():
        alone = torch.cat([whole.model(input_ids=ids[i, : len(row)][None]).logits for i, row in enumerate(rows)])
        if alone.shape != (len(rows), config.num_labels):
            raise ValueError(f"logits of shape {tuple(alone.shape)} for {len(rows)} texts, {config.num_labels} labels")
        # encoder-decoders read at an EOS and want as many of them in each sequence of a batch
        if (
            config.get_text_config().pad_token_id is None
            or getattr(config, "is_encoder_decoder", False)
            or len(set(map(len, rows))) == 1
        ):
            return False
        try:
            batch = whole(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        except Exception:  # what runs alone runs alone
            return False
    return _alike(batch, alone)


def _own_head(head: Any, dtype: torch.dtype, *, hooked: bool) -> Any:
    """A copy of the head in its dtype, without the hooks by which accelerate moves inputs and weights."""
    own = copy.deepcopy(head)
    if hooked:
        from accelerate.hooks import remove_hook_from_module

        remove_hook_from_module(own, recurse=True)
    return own.to(dtype)


def _known_head(model: Any) -> tuple[list[Any], Pool] | None:
    """The modules between the hidden state and the logits, and where they read it; None if that is not known."""
    import torch

    pool: Pool = "first"
    try:
        match model.config.model_type:
            case "bert":
                modules = [model.bert.pooler, model.classifier]
            case "roberta" | "xlm-roberta" | "camembert" | "electra":
                modules = [model.classifier]
            case "deberta" | "deberta-v2":
                modules = [model.pooler, model.classifier]
            case "modernbert":
                modules = [model.head, model.classifier]
                pool = "mean" if model.config.classifier_pooling == "mean" else "first"
            case "distilbert":
                modules = [model.pre_classifier, torch.nn.ReLU(), model.classifier]
            case _:
                modules, pool = [model.score], "last"
    except AttributeError:  # a class of another making under a known name
        return None
    return modules, pool


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    import torch

    tolerance = 1e-4 if a.dtype in (torch.float32, torch.float64) else 2e-2
    scale = max(float(b.nan_to_num(0, 0, 0).abs().max()), 1e-6)
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True)


def _whole(model: Any, *, alone: bool) -> Any:
    """A module that runs all of `model` and gives its logits as the hidden state of one position, [b, 1, labels].

    `alone`: each sequence by itself, for models that padding moves.
    """
    import torch

    pad = model.config.get_text_config().pad_token_id

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.alone = alone

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **inputs: torch.Tensor
        ) -> SimpleNamespace:
            if attention_mask is not None and pad is not None:
                # models that pool by pad id have to see their own
                input_ids = input_ids.masked_fill(attention_mask == 0, pad)
            if self.alone and len(input_ids) > 1:
                logits = torch.cat([self._alone(i, input_ids, attention_mask, inputs) for i in range(len(input_ids))])
            else:
                logits = self.model(input_ids=input_ids, attention_mask=attention_mask, **inputs).logits
            return SimpleNamespace(last_hidden_state=logits[:, None])

        def _alone(
            self, i: int, ids: torch.Tensor, mask: torch.Tensor | None, inputs: dict[str, torch.Tensor]
        ) -> torch.Tensor:
            kept = slice(None) if mask is None else mask[i].bool()
            row = {name: value[i, kept][None] for name, value in inputs.items()}
            logits: torch.Tensor = self.model(input_ids=ids[i, kept][None], **row).logits
            return logits

    return Whole().eval()


def _probe_ids(rendering: Rendering) -> list[int]:
    """A few different ids that mean nothing special, so that pooling by pad id and by length agree on them."""
    tokenizer, rows = rendering.tokenizer, rendering.limits.rows
    special = set(tokenizer.all_special_ids)
    ids = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    ordinary = list(dict.fromkeys(token for token in ids if token not in special and token < rows))
    return ordinary[:12] if len(ordinary) > 2 else [token for token in range(rows) if token not in special][:12]


def _labels(config: Any) -> tuple[str, ...]:
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return labels if len(set(labels)) == len(labels) else tuple(f"LABEL_{i}" for i in range(len(labels)))


def _limits(model: Any, options: Options, name: str) -> Limits:
    try:
        rows = model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError):
        raise ModelError(
            f"{name}: {type(model).__name__} has no table of token embeddings; it cannot be read"
        ) from None
    return Limits(positions(model), rows, options.max_length, options.truncation_side)


def _check_max_length(rendering: Rendering) -> None:
    asked, positions = rendering.limits.max_length, rendering.limits.positions
    if asked is None:
        return
    least = rendering.least
    if asked < least or (positions is not None and asked > positions):
        most = "" if positions is None else f" and at most {positions}, the model's positions"
        raise UsageError(f"max length {asked}: this model takes at least {least}{most}")
