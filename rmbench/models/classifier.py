"""Sequence classifiers as reward models: any AutoModelForSequenceClassification, decoder or encoder, with any labels.

The reward is the raw logit of the only label, of the one called `reward`, or of the one that the option `head` names;
with more than one label each is kept as a head. It is read where the checkpoint's own class reads it
(`checkpoints.heads`), known from the architecture and measured at the start against the model's own forward; where the
two differ, the whole model runs instead of its backbone. Where a decoder passes over pads that end a sequence, as
where its pad token is its eos, the very last token is read in the same forward: the head `last`, of several labels
`NAME@last`.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from rmbench.checkpoints.fingerprint import digest, in_one_line
from rmbench.checkpoints.heads import Pool, chosen_position, last_unpadded, pad_of, split
from rmbench.checkpoints.notes import BEFORE_PADS, LAST
from rmbench.checkpoints.opened import OpenedCheckpoint, open_checkpoint
from rmbench.checkpoints.rendering import Rendering
from rmbench.checkpoints.shown import Shown, shown
from rmbench.checkpoints.weights import named_dtype
from rmbench.device import release
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Encoded, Identity, Option, Subject
from rmbench.models.reader import OPTIONS as READER_OPTIONS
from rmbench.models.reader import begin, fitted, rendering_of
from rmbench.models.value_head import head_of, unread_heads
from rmbench.types import Ask, Json, Request, Reward, Status, Use

if TYPE_CHECKING:
    import torch

VERSION = 3  # of how this module reads a model; a change of any reward raises it

_NO_CLASSIFIER = ("ForCausalLM", "ForConditionalGeneration", "ForMaskedLM", "LMHeadModel")
# Of the heads that transformers has for texts, the weights with a row a label
_HEADS = (
    "score.weight",
    "score.out_proj.weight",
    "classifier.weight",
    "classifier.out_proj.weight",
    "classifier.linear_out.weight",
    "classification_head.out_proj.weight",
    "logits_proj.weight",
)
_UNNAMED = ("LABEL_0", "LABEL_1")  # what a config has that says nothing of labels

SOURCE = "required"

OPTIONS: Mapping[str, Option] = {
    **READER_OPTIONS,
    "head": Option("the label that is the reward, by name or number, where there are several"),
    "pooling": Option("auto: as the checkpoint's own class; hf: the last token that is no pad; last: the last token",
                      default="auto", choices=("auto", "last", "hf")),
    "template": Option("plain, pair, a Jinja file or a name of the tokenizer's (default: its own template)"),
}  # fmt: skip


@dataclass(slots=True, eq=False)
class Classifier:
    """A TokenModel whose `head` maps pooled hidden states [n, 1, h] in `head_dtype` to logits [n, 1, labels].

    `beside`: where the last token is not the one at `pool`, it is read as well. `facts` are what only the loaded model
    could tell, JSON-able. `whole` is the model that these are parts of, where a class of transformers has all of it.
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
    beside: bool = False
    facts: Json = field(default_factory=dict)
    uses: frozenset[Use] = frozenset()
    answers: frozenset[Ask] = frozenset({"reward"})
    whole: Any = None

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        """Renders and tokenises; the reads are where the reward is read, and the last token where that is read too."""
        return [self._placed(one) for one in self.rendering.encode(requests)]

    def shown(self, request: Request) -> Shown:
        """A request as this model gets it, for people to look at."""
        place = shown(self.rendering.tokenizer, self.encode([request])[0])
        return replace(place, reads=()) if self.pool == "whole" else place

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """One reward for each sequence's hidden states [reads, h]."""
        import torch

        if not encoded:
            return []
        with torch.inference_mode():
            if self.pool == "mean":
                pooled = torch.stack([states.to(self.head_dtype).mean(0, keepdim=True) for states in hidden])
            else:
                pooled = torch.cat(list(hidden)).to(self.head_dtype)[:, None]
            rows = iter(self.head(pooled.to(next(self.head.parameters(), pooled).device)).flatten(1).tolist())
        return [self._reward(next(rows), next(rows) if self._doubly(one) else None, one) for one in encoded]

    def own(self, encoded: Encoded) -> Reward | None:
        """What the checkpoint's own class gives for this sequence alone; None where no class has all of the model."""
        import torch

        if self.whole is None:
            return None
        with torch.inference_mode():
            ids = torch.tensor([[int(token) for token in encoded.ids]], device=self.whole.device)
            types = encoded.type_ids
            typed = {} if types is None else {"token_type_ids": torch.tensor([list(types)], device=ids.device)}
            logits = self.whole(input_ids=ids, attention_mask=torch.ones_like(ids), **typed).logits
            return self._reward(logits.flatten().float().tolist(), None, encoded)

    def _placed(self, one: Encoded) -> Encoded:
        if one.error is not None:
            return one
        reads = self._reads(one.ids)
        noted = (*one.noted, BEFORE_PADS) if self.beside and len(reads) > 1 else one.noted
        return replace(one, reads=reads, noted=noted)

    def _reads(self, ids: Sequence[int]) -> tuple[int, ...]:
        last = len(ids) - 1
        match self.pool:
            case "first" | "whole":
                return (0,)
            case "mean":
                return tuple(range(len(ids)))
            case "hf":
                place = last_unpadded(ids, self.pad_id)
                return (place, last) if self.beside and place != last else (place,)
            case "last":
                return (last,)

    def _doubly(self, encoded: Encoded) -> bool:
        return self.beside and len(encoded.reads) > 1

    def _reward(self, logits: list[float], at_end: list[float] | None, encoded: Encoded) -> Reward:
        value, several = logits[self.reward], len(self.labels) > 1
        heads = {label: (logit,) for label, logit in zip(self.labels, logits, strict=True)} if several else {}
        if at_end is not None:
            names = [f"{label}@{LAST}" for label in self.labels] if several else [LAST]
            heads |= {name: (logit,) for name, logit in zip(names, at_end, strict=True)}
        status: Status = "nan" if math.isnan(value) else "inf" if math.isinf(value) else "ok"
        return Reward((value,), heads=heads, status=status, n_tokens=len(encoded.ids), truncated=encoded.cut)


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
            model.backbone = model.head = model.whole = None
            release()

    @in_one_line
    def start(self, device: str | None = None) -> Classifier:
        """The same without an end."""
        opened, asked = self.checkpoint, self.checkpoint.asked
        device = device or self.device
        name = self.subject.id

        def prepared(config: Any, rows: Mapping[str, int]) -> None:
            _prepared(config, rows)
            labels = _labels(config)
            if labels != _UNNAMED:  # a model that gives one number may be of a config that says nothing
                reward_label(labels, asked["head"], name)  # which costs nothing before the weights are read

        model = opened.load(device, prepared, "its rewards would be random")
        model.config.use_cache = False  # nothing follows a forward, and a model that is run whole is not told so
        rendering = fitted(self.rendering, model, name)
        parts, pad_id = split(model, rendering, name), pad_of(model)
        pool, beside = chosen_position(parts.pool, asked["pooling"], pad_id)
        if asked["pooling"] != "auto" and pool not in ("last", "hf"):
            reads = f"{type(model).__name__} reads the reward by a rule of its own"
            warnings.warn(f"{name}: pooling={asked['pooling']} changes nothing: {reads}", stacklevel=3)
        head_dtype = opened.dtype if pool == "whole" else named_dtype("head dtype", asked["head_dtype"])
        labels = _labels(model.config)
        reward = reward_label(labels, asked["head"], name)
        facts = {
            "layout": parts.layout,
            "pooling": pool,
            **({"beside": LAST} if beside else {}),
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
            backbone=parts.backbone,
            layout=parts.layout,
            rendering=rendering,
            head=_own_head(parts.head, head_dtype, hooked=device == "auto"),
            pool=pool,
            labels=labels,
            pad_id=pad_id,
            head_dtype=head_dtype,
            reward=reward,
            beside=beside,
            facts=facts,
            uses=self.uses,
            whole=model,
        )


@in_one_line
def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> OpenedClassifier:
    """Opens a hub id or a local folder: a classifier checkpoint, or a PEFT adapter of one with its head.

    The dtype is the one asked for, else the one that the checkpoint's config states, else float32, on every device
    alike. No weights are read. Raises ModelError where the checkpoint is none of a classifier, and UsageError for
    options that cannot be.
    """
    from transformers import AutoModelForSequenceClassification

    begun = begin("classifier", OPTIONS, source, options, revision)
    opened = open_checkpoint(
        AutoModelForSequenceClassification, source, begun.asked, revision, is_known=begun.entry is not None
    )
    first = opened.parts[0]
    for architecture in opened.config.architectures or ():
        if architecture.endswith("ForTokenClassification"):
            raise ModelError(
                f"{first.base.id} is a {architecture}, which has a value at every token and no reward of a response;"
                " read as a sequence classifier it would give the first label's at the last token; write"
                f" process:{source} for rewards of its steps"
            )
        if architecture.endswith(_NO_CLASSIFIER) and first.adapter is None and opened.adapter is None:
            if head_of(first.base) is not None:
                raise ModelError(f"{first.base.id} is a {architecture} with a value head: write value_head:{source}")
            raise ModelError(
                f"{first.base.id} is a {architecture}, which has no reward head; give a ...ForSequenceClassification"
                " checkpoint, a PEFT adapter that brings the head, or a callable as python:module:attribute"
                + unread_heads(first.base)
            )
    name = opened.checkpoint.id
    rendering = rendering_of(begun, opened.tokenizer, opened.words)
    fingerprint = digest(
        {
            "family": "classifier",
            "version": VERSION,
            **opened.content,
            "rendering": rendering.identity,
            "options": begun.hashed,
        }
    )
    settings = {
        **opened.settings,
        **begun.known,
        "head_dtype": begun.asked["head_dtype"],
        "pooling": begun.asked["pooling"],
        "rendering": rendering.identity,
    }
    subject = Subject(name, "classifier", opened.checkpoint.commit, settings)
    uses: frozenset[Use] = frozenset({"tools"}) if rendering.takes_tools else frozenset()
    return OpenedClassifier(subject, fingerprint, uses, opened, rendering, device=begun.asked["device"])


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


def _own_head(head: Any, dtype: torch.dtype, *, hooked: bool) -> Any:
    """A copy of the head in its dtype, without the hooks by which accelerate moves inputs and weights."""
    own = copy.deepcopy(head)
    if hooked:
        from accelerate.hooks import remove_hook_from_module

        remove_hook_from_module(own, recurse=True)
    return own.to(dtype)


def _labels(config: Any) -> tuple[str, ...]:
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return labels if len(set(labels)) == len(labels) else tuple(f"LABEL_{i}" for i in range(len(labels)))
