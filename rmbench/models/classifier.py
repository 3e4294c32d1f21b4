"""Sequence classifiers as reward models: any AutoModelForSequenceClassification, decoder or encoder, with any labels.

The reward is the raw logit of the only label, of the one called `reward`, or of the one that the option `head` names;
with more than one label each is kept as a head. Which hidden state it is read from is known from the architecture and
measured at the start against the model's own forward; where the two differ, the whole model runs instead of its
backbone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from rmbench.checkpoints.fingerprint import digest, first_line, in_one_line
from rmbench.checkpoints.opened import OPTIONS as CHECKPOINT_OPTIONS
from rmbench.checkpoints.opened import OpenedCheckpoint, chosen, open_checkpoint
from rmbench.checkpoints.rendering import Limits, Rendering, choose, warn_if_rebuilt
from rmbench.checkpoints.weights import named_dtype, positions
from rmbench.device import release
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Encoded, Identity, Option, Subject
from rmbench.models.value_head import head_of
from rmbench.types import Ask, Json, Message, Request, Response, Reward, Status, Use

if TYPE_CHECKING:
    import torch

VERSION = 2  # of how this module reads a model; a change of any reward raises it

_NO_CLASSIFIER = ("ForCausalLM", "ForConditionalGeneration", "ForMaskedLM", "LMHeadModel")
_PROBE = "Is 17 a prime number? Yes, no smaller prime divides it."
_HEADS = ("score.weight", "classifier.weight", "classifier.out_proj.weight")
_PATHS = frozenset({"average", "weight", "adapter", "base", "template"})  # hashed by contents, never by place

SOURCE = "required"

Pool = Literal["last", "hf", "first", "mean", "whole"]

OPTIONS: Mapping[str, Option] = {
    **CHECKPOINT_OPTIONS,
    "head": Option("the label that is the reward, by name or number, where there are several"),
    "head_dtype": Option("in which the head runs", default="float32"),
    "max_length": Option("tokens that longer sequences are cut to, and counted", int),
    "truncation_side": Option("where they are cut", default="left", choices=("left", "right")),
    "pooling": Option("last: the last token; hf: the last that is no pad, as transformers", default="last",
                      choices=("last", "hf")),
    "template": Option("plain, pair or a Jinja file (default: the tokenizer's own template)"),
    "tools_as_text": Option("put tools into the system turn as text", bool, False),
}  # fmt: skip


@dataclass(slots=True, eq=False)
class Classifier:
    """A TokenModel whose `head` maps pooled hidden states [n, 1, h] in `head_dtype` to logits [n, 1, labels].

    `facts` are what only the loaded model could tell, JSON-able.
    """

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
    reward: int = 0
    facts: Json = field(default_factory=dict)
    uses: frozenset[Use] = frozenset()
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
        value = logits[self.reward]
        status: Status = "nan" if math.isnan(value) else "inf" if math.isinf(value) else "ok"
        heads = {label: (logit,) for label, logit in zip(self.labels, logits, strict=True)}
        return Reward(
            values=(value,),
            heads=heads if len(heads) > 1 else {},
            status=status,
            n_tokens=len(encoded.ids),
            truncated=encoded.cut,
        )


@dataclass(frozen=True)
class OpenedClassifier:
    """A classifier before its weights are read."""

    subject: Subject
    fingerprint: str
    uses: frozenset[Use]
    checkpoint: OpenedCheckpoint
    rendering: Rendering
    answers: frozenset[Ask] = frozenset({"reward"})
    identity: Identity = "content"
    device: str | None = None

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[Classifier]:
        """The model on `device`, else on its own, else on the best that is there; freed when the block ends.

        `auto` spreads a model that is larger than one GPU over all of them. Raises ModelError where the weights are
        not those of a classifier, and UsageError for a device or length that cannot be.
        """
        model = self.start(device)
        try:
            yield model
        finally:
            model.backbone = model.head = None
            release()

    @in_one_line
    def start(self, device: str | None = None) -> Classifier:
        """The same without an end."""
        opened, asked = self.checkpoint, self.checkpoint.asked
        device = device or self.device
        name = self.subject.id

        def prepared(config: Any, rows: Mapping[str, int]) -> None:
            _prepared(config, rows)
            reward_label(_labels(config), asked["head"], name)  # which costs nothing before the weights are read

        model = opened.load(device, prepared, "its rewards would be random")
        model.config.use_cache = False  # nothing follows a forward, and a model that is run whole is not told so
        rendering = replace(self.rendering, limits=_limits(model, self.rendering.limits, name))
        _check_max_length(rendering)
        backbone, head, pool, layout = _split(model, rendering, name)
        head_dtype = named_dtype("head dtype", asked["head_dtype"])
        if pool == "whole":
            head_dtype = opened.dtype
        elif pool == "last" and asked["pooling"] == "hf":
            pool = "hf"
        labels = _labels(model.config)
        reward = reward_label(labels, asked["head"], name)
        facts = {
            "layout": layout,
            "pooling": pool,
            "labels": list(labels),
            "reward": labels[reward],
            "attention": str(model.config._attn_implementation),
            "dtype": str(opened.dtype).removeprefix("torch."),
            "head_dtype": str(head_dtype).removeprefix("torch."),
        }
        stated = {name: value for name, value in facts.items() if name != "layout"}
        return Classifier(
            subject=replace(self.subject, settings={**self.subject.settings, **stated}),
            fingerprint=self.fingerprint,
            backbone=backbone,
            layout=layout,
            rendering=rendering,
            head=_own_head(head, head_dtype, hooked=device == "auto"),
            pool=pool,
            labels=labels,
            pad_id=model.config.get_text_config().pad_token_id,
            head_dtype=head_dtype,
            reward=reward,
            facts=facts,
            uses=self.uses,
        )


@in_one_line
def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> OpenedClassifier:
    """Opens a hub id or a local folder: a classifier checkpoint, or a PEFT adapter of one with its head.

    The dtype is the one asked for, else the one that the checkpoint's config states, else float32, on every device
    alike. No weights are read. Raises ModelError where the checkpoint is none of a classifier, and UsageError for
    options that cannot be.
    """
    from transformers import AutoModelForSequenceClassification

    asked = chosen(OPTIONS, options, "classifier")
    _check_length(asked["max_length"])
    named_dtype("head dtype", asked["head_dtype"])
    opened = open_checkpoint(AutoModelForSequenceClassification, source, asked, revision)
    first = opened.parts[0]
    for architecture in opened.config.architectures or ():
        if architecture.endswith("ForTokenClassification"):
            raise ModelError(
                f"{first.base.id} is a {architecture}, which has a value at every token and no reward of a response;"
                " read as a sequence classifier it would give the first label's at the last token"
            )
        if architecture.endswith(_NO_CLASSIFIER) and first.adapter is None and opened.adapter is None:
            if head_of(first.base) is not None:
                raise ModelError(f"{first.base.id} is a {architecture} with a value head: write value_head:{source}")
            raise ModelError(
                f"{first.base.id} is a {architecture}, which has no reward head; give a ...ForSequenceClassification"
                " checkpoint, a PEFT adapter that brings the head, or a callable as python:module:attribute"
            )
    name = opened.checkpoint.id
    warn_if_rebuilt(opened.tokenizer, opened.words.file("tokenizer.json"), opened.words.id)
    limits = Limits(max_length=asked["max_length"], side=asked["truncation_side"])
    rendering = choose(opened.tokenizer, asked["template"], limits, name, tools_as_text=asked["tools_as_text"])
    fingerprint = digest(
        {
            "family": "classifier",
            "version": VERSION,
            **opened.content,
            "rendering": rendering.identity,
            "options": {name: value for name, value in asked.items() if not _unhashed(name)},
        }
    )
    settings = {
        **opened.settings,
        "head_dtype": asked["head_dtype"],
        "pooling": asked["pooling"],
        "rendering": rendering.identity,
    }
    subject = Subject(name, "classifier", opened.checkpoint.commit, settings)
    uses: frozenset[Use] = frozenset({"tools"}) if rendering.takes_tools else frozenset()
    return OpenedClassifier(subject, fingerprint, uses, opened, rendering, device=asked["device"])


def _unhashed(option: str) -> bool:
    return option in _PATHS or OPTIONS[option].of_run


def reward_label(labels: Sequence[str], asked: str | None, name: str) -> int:
    """The index of the label that is the reward: asked for by name or number, the only one, or the one called so.

    Raises UsageError where there are several and nobody says which: one may be of length, or the wrong class of two.
    """
    told = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    if asked is not None:
        if asked in labels:
            return labels.index(asked)
        if asked.isdecimal() and int(asked) < len(labels):
            return int(asked)
        raise UsageError(f"head={asked!r}: {name} has the labels {told}")
    if len(labels) == 1:
        return 0
    if "reward" in labels:
        return labels.index("reward")
    raise UsageError(f"{name} has {len(labels)} labels ({told}), and none is called reward: ?head=NAME says which")


def _prepared(config: Any, brought: Mapping[str, int]) -> None:
    """The head of an adapter decides how many labels there are."""
    for name in _HEADS:
        if name in brought:
            config.num_labels = brought[name]


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
            self.config = model.config
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
    tokenizer, rows = rendering.tokenizer, rendering.limits.rows or 0
    special = set(tokenizer.all_special_ids)
    ids = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    ordinary = list(dict.fromkeys(token for token in ids if token not in special and token < rows))
    return ordinary[:12] if len(ordinary) > 2 else [token for token in range(rows) if token not in special][:12]


def _labels(config: Any) -> tuple[str, ...]:
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return labels if len(set(labels)) == len(labels) else tuple(f"LABEL_{i}" for i in range(len(labels)))


def _limits(model: Any, limits: Limits, name: str) -> Limits:
    try:
        rows = model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError):
        raise ModelError(
            f"{name}: {type(model).__name__} has no table of token embeddings; it cannot be read"
        ) from None
    return replace(limits, positions=positions(model), rows=rows)


def _check_length(asked: Any) -> None:
    if asked is not None and (not isinstance(asked, int) or asked < 1):
        raise UsageError(f"max_length={asked!r}: expected a number of tokens")


def _check_max_length(rendering: Rendering) -> None:
    asked, positions = rendering.limits.max_length, rendering.limits.positions
    if asked is None:
        return
    least = rendering.least
    if asked < least or (positions is not None and asked > positions):
        most = "" if positions is None else f" and at most {positions}, the model's positions"
        raise UsageError(f"max length {asked}: this model takes at least {least}{most}")
