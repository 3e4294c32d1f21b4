"""What every family of checkpoints shares: a checkpoint that is opened and known, and a model that reads it by a rule.

A family brings its options and a `Rule`: what a request looks like, where it is read, and what rewards are made of
what stands there. `begin` settles the options, those of the table of known models among them, `opened` gives a model at
rest, and `OpenedReader.start` loads it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from rmbench.checkpoints.fingerprint import Checkpoint, digest, in_one_line, locate, told_of
from rmbench.checkpoints.forms import Form
from rmbench.checkpoints.opened import OPTIONS as CHECKPOINT_OPTIONS
from rmbench.checkpoints.opened import OpenedCheckpoint, chosen, open_checkpoint
from rmbench.checkpoints.rebuilt import warn_if_rebuilt
from rmbench.checkpoints.rendering import OPTIONS as RENDERING_OPTIONS
from rmbench.checkpoints.rendering import Limits, Rendering, choose
from rmbench.checkpoints.shown import Shown, shown
from rmbench.checkpoints.weights import named_dtype, positions
from rmbench.device import release
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Encoded, Identity, Option, Subject
from rmbench.models.known import Entry, entry_of
from rmbench.models.options import given, read_options
from rmbench.types import Ask, Json, Request, Reward, Status, Use

if TYPE_CHECKING:
    import torch

Layout = Literal["causal", "encoder"]

# How the table of known models is asked
KNOWN_OPTIONS: Mapping[str, Option] = {
    "entry": Option("the known model it is read as, by its name in the table; none: as if it were unknown"),
    "allow_unverified": Option("read a known model by an entry that was not verified", bool, False),
}
OPTIONS: Mapping[str, Option] = {
    **CHECKPOINT_OPTIONS,
    "head_dtype": Option("in which the head runs", default="float32"),
    "max_length": Option("tokens that longer sequences are cut to, and counted", int),
    "truncation_side": Option("where they are cut", default="left", choices=("left", "right")),
    "template": Option("plain, a Jinja file or a name of the tokenizer's (default: its own template)"),
    **RENDERING_OPTIONS,
    **KNOWN_OPTIONS,
}
# Hashed by what they name, never by how it is named
_UNHASHED = frozenset({"average", "weight", "adapter", "base", "template", *KNOWN_OPTIONS})


class Rule(Protocol):
    """How a family reads: forms and a head."""

    def form(self, request: Request) -> Form | None:
        """What is shown of a request; None where nobody knows its text."""
        ...

    def placed(self, one: Encoded, request: Request) -> Encoded:
        """The same with its `reads`, and as `note` whatever `read` needs again. `unread` where it cannot be read."""
        ...

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """One reward for each sequence's hidden states [reads, h]; a nan or infinite value gives its status."""
        ...


@runtime_checkable
class OwnTokens(Protocol):
    """A rule whose requests are not one form each: it gives them encoded and placed. It has `read` as any."""

    def encode(self, requests: Sequence[Request]) -> list[Encoded]: ...

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a family makes its rule of. `tensors` are the checkpoint's that are no part of `model`, in `head_dtype`."""

    name: str
    model: Any
    tensors: Mapping[str, torch.Tensor]
    rendering: Rendering
    head_dtype: torch.dtype

    @property
    def backbone(self) -> Any:
        return self.model.base_model

    @property
    def width(self) -> int:
        """Of a hidden state."""
        width: int = self.model.get_input_embeddings().weight.shape[1]
        return width

    def tensor(self, name: str, *shape: int | None) -> torch.Tensor:
        """A tensor of the head. Raises ModelError where it is not there, or not of that shape (None: any size)."""
        if name not in self.tensors:
            spare = ", ".join(sorted(self.tensors)[:3])
            raise ModelError(f"{self.name}: no {name} in the checkpoint{f', which has {spare}' if spare else ''}")
        tensor = self.tensors[name]
        fits = len(shape) == tensor.ndim and all(
            one in (None, size) for one, size in zip(shape, tensor.shape, strict=True)
        )
        if shape and not fits:
            expected = ["any" if one is None else one for one in shape]
            raise ModelError(f"{self.name}: {name} has the shape {list(tensor.shape)}; expected {expected}")
        return tensor


@dataclass(frozen=True, slots=True)
class Built:
    """A rule over loaded weights. `backbone` is what the engine runs, where that is not the model's own."""

    rule: Rule | OwnTokens
    backbone: Any = None
    layout: Layout = "causal"
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """A source with all its options settled: the user's, else those of its entry, else the family's."""

    family: str
    declared: Mapping[str, Option]
    source: str
    revision: str | None
    asked: Mapping[str, Any]
    checkpoint: Checkpoint
    entry: Entry | None

    @property
    def name(self) -> str:
        return self.checkpoint.id

    @property
    def hashed(self) -> dict[str, Any]:
        """The options that the fingerprint takes by their values."""
        return {
            name: value
            for name, value in self.asked.items()
            if name not in _UNHASHED and not self.declared[name].of_run
        }

    @property
    def known(self) -> dict[str, Any]:
        """What a result says of the entry, and which of its options the user changed."""
        if self.entry is None:
            return {}
        own = read_options(self.entry.options, self.declared, self.family)
        changed = sorted(name for name, value in own.items() if self.asked[name] != value)
        stated = {"entry": self.entry.name, "verified": self.entry.verified}
        return {"known": {**stated, **({"changed": changed} if changed else {})}}


def begin(
    family: str, declared: Mapping[str, Option], source: str, options: Mapping[str, Any], revision: str | None
) -> Begun:
    """Finds a checkpoint and what is known of it. Raises UsageError for options that cannot be, and ModelError.

    An option of the entry holds where the user gave none: where it has the family's default, in `options` that do not
    tell what was given.
    """
    asked = chosen(declared, options, family)
    if asked["max_length"] is not None and (not isinstance(asked["max_length"], int) or asked["max_length"] < 1):
        raise UsageError(f"max_length={asked['max_length']!r}: expected a number of tokens")
    named_dtype("head dtype", asked["head_dtype"])
    checkpoint = locate(source, revision)
    entry = entry_of(checkpoint, asked["entry"], asked["base"])
    if entry is not None:
        _check_entry(entry, family, source, checkpoint.id, allowed=asked["allow_unverified"])
        own = read_options(entry.options, declared, f"the entry {entry.name}, of family {family}")
        stated = given(options, declared)
        asked |= {name: own[name] for name in entry.options if name not in stated}
    return Begun(family, declared, source, revision, asked, checkpoint, entry)


def _check_entry(entry: Entry, family: str, source: str, name: str, *, allowed: bool) -> None:
    if entry.refused is not None:
        raise ModelError(f"{name} is {entry.name}, which cannot be read: {entry.refused}")
    if entry.family != family:
        raise UsageError(
            f"{name} is {entry.name}, which the family {entry.family} reads: write {entry.family}:{source};"
            f" ?entry=none reads it as if it were unknown"
        )
    if entry.verified:
        return
    if not allowed:
        raise UsageError(
            f"{name} is {entry.name}, and how the table reads that was not verified against its authors' code:"
            " --allow-unverified, or ?allow_unverified=true, reads it so, and the result says it"
        )
    warnings.warn(f"{name}: read as {entry.name}, an entry that was not verified", stacklevel=4)


def rendering_of(begun: Begun, tokenizer: Any, words: Checkpoint) -> Rendering:
    """How requests become tokens. Raises UsageError and ModelError where a template cannot be."""
    asked, entry = begun.asked, begun.entry
    warn_if_rebuilt(tokenizer, words.file("tokenizer.json"), words.id)
    limits = Limits(max_length=asked["max_length"], side=asked["truncation_side"])
    manner: dict[str, Any] = {option: asked[option] for option in RENDERING_OPTIONS}
    if entry is not None:
        manner |= {"system": entry.system, "no_system": entry.no_system}
    own = None if entry is None else entry.template
    return choose(tokenizer, asked["template"], limits, begun.name, own=own, **manner)


def fitted(rendering: Rendering, model: Any, name: str, spare: int = 0) -> Rendering:
    """The rendering within the model's positions and rows of its table of embeddings. Raises UsageError, ModelError.

    `spare` tokens of any limit are kept free, for a family that adds some.
    """
    try:
        rows = model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError):
        raise ModelError(
            f"{name}: {type(model).__name__} has no table of token embeddings; it cannot be read"
        ) from None
    limits = replace(rendering.limits, positions=positions(model), rows=rows)
    most, least = limits.positions, rendering.least + spare
    if limits.max_length is not None and (limits.max_length < least or (most is not None and limits.max_length > most)):
        told = "" if most is None else f" and at most {most}, the model's positions"
        raise UsageError(f"max length {limits.max_length}: this model takes at least {least}{told}")
    if spare:
        longest, most = (None if limit is None else limit - spare for limit in (limits.max_length, most))
        limits = replace(limits, max_length=longest, positions=most)
    return replace(rendering, limits=limits)


def unread(one: Encoded, reason: str, *, refused: bool = False) -> Encoded:
    """A request that cannot be read, and why."""
    return replace(one, ids=(), reads=(), error=reason, refused=refused)


def status_of(reward: Reward, ask: Ask) -> Status:
    """What the numbers of a reward say, where nothing else was said: `nan`, `inf` or `ok`.

    Of steps and tokens it is ok where one of them has a number, and of vectors, which have no value, always.
    """
    if reward.status != "ok" or ask == "embedding":
        return reward.status
    several = reward.steps if ask == "steps" else reward.tokens if ask == "tokens" else ()
    if any(map(math.isfinite, several or reward.values)):
        return "ok" if several or all(map(math.isfinite, reward.values)) else _lacking(reward.values)
    return _lacking(several or reward.values)


def _lacking(values: Sequence[float]) -> Status:
    return "nan" if any(map(math.isnan, values)) else "inf"


@dataclass(slots=True, eq=False)
class Reader:
    """A TokenModel whose `rule` says what it is shown, where it is read and what that makes."""

    subject: Subject
    fingerprint: str
    answers: frozenset[Ask]
    backbone: Any
    layout: Layout
    rendering: Rendering
    rule: Any
    facts: Json = field(default_factory=dict)
    uses: frozenset[Use] = frozenset()
    most: int | None = None

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        """Renders, tokenises and says what is read."""
        if isinstance(self.rule, OwnTokens):
            encoded = self.rule.encode(requests)
            return [replace(one, ask=request.ask) for one, request in zip(encoded, requests, strict=True)]
        encoded = self.rendering.encode(requests, [self.rule.form(request) for request in requests])
        return [
            one if one.error is not None else self.rule.placed(replace(one, ask=request.ask), request)
            for one, request in zip(encoded, requests, strict=True)
        ]

    def shown(self, request: Request) -> Shown:
        """A request as this model gets it, for people to look at."""
        return shown(self.rendering.tokenizer, self.encode([request])[0])

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """One reward for each sequence's hidden states [reads, h]."""
        import torch

        if not encoded:
            return []
        with torch.inference_mode():
            rewards = self.rule.read(hidden, encoded)
        return [
            replace(reward, status=status_of(reward, one.ask), n_tokens=len(one.ids), truncated=one.cut)
            for reward, one in zip(rewards, encoded, strict=True)
        ]


@dataclass(frozen=True)
class OpenedReader:
    """A model with a rule before its weights are read."""

    subject: Subject
    fingerprint: str
    answers: frozenset[Ask]
    uses: frozenset[Use]
    checkpoint: OpenedCheckpoint
    rendering: Rendering
    heads: tuple[str, ...]
    build: Callable[[Loaded], Built]
    prepared: Callable[[Any, Mapping[str, int]], None]
    spare: int = 0
    identity: Identity = "content"
    device: str | None = None
    most: int | None = None
    orders: str | None = None

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[Reader]:
        """The model on `device`, else on its own, else on the best that is there; freed when the block ends."""
        model = self.start(device)
        try:
            yield model
        finally:
            model.backbone = model.rule = None
            release()

    @in_one_line
    def start(self, device: str | None = None) -> Reader:
        """The same without an end. Raises ModelError where the weights are not those of such a model."""
        opened, name = self.checkpoint, self.subject.id
        head_dtype = named_dtype("head dtype", opened.asked["head_dtype"])
        place, harm = device or self.device, "its rewards would be random"
        model = opened.load(place, self.prepared, harm, self.heads)
        model.config.use_cache = False  # nothing follows a forward
        rendering = fitted(self.rendering, model, name, self.spare)
        tensors = opened.tensors(self.heads) if self.heads else {}
        tensors = {key: tensor.to(model.device, head_dtype) for key, tensor in tensors.items()}
        built = self.build(Loaded(name, model, tensors, rendering, head_dtype))
        facts = {
            "layout": built.layout,
            "attention": str(model.config._attn_implementation),
            "dtype": str(opened.dtype).removeprefix("torch."),
            "head_dtype": opened.asked["head_dtype"],
            **built.facts,
        }
        stated = {key: value for key, value in facts.items() if key != "layout"}
        backbone = model.base_model if built.backbone is None else built.backbone
        _check_runs(backbone, built.layout, model.device)
        return Reader(
            subject=replace(self.subject, settings={**self.subject.settings, **stated}),
            fingerprint=self.fingerprint,
            answers=self.answers,
            backbone=backbone,
            layout=built.layout,
            rendering=rendering,
            rule=built.rule,
            facts=facts,
            uses=self.uses,
            most=self.most,
        )


def opened(
    begun: Begun,
    auto: str,
    *,
    version: int,
    answers: frozenset[Ask],
    rule: Json,
    build: Callable[[Loaded], Built],
    heads: Sequence[str] = (),
    uses: frozenset[Use] | None = None,
    most: int | None = None,
    orders: str | None = None,
    prepared: Callable[[Any, Mapping[str, int]], None] | None = None,
    spare: int = 0,
) -> OpenedReader:
    """A model at rest, of the class that `auto` of transformers finds. No weights are read.

    `version` is of the family's code, `rule` all that it reads by, JSON-able, both part of the fingerprint; `heads` are
    patterns of names of tensors that are no part of the class; `uses` are tools where the template takes them, if it
    is None; `most` is how many responses it compares at most, `orders` in which its authors compare;
    `prepared` may change a config before its weights are read, by the rows of these; `spare` tokens of any limit are
    the family's to add.
    """
    import transformers

    checkpoint = open_checkpoint(
        getattr(transformers, auto), begun.source, begun.asked, begun.revision, is_known=begun.entry is not None
    )
    with told_of(begun.name):
        rendering = rendering_of(begun, checkpoint.tokenizer, checkpoint.words)
        fingerprint = digest(
            {
                "family": begun.family,
                "version": version,
                **checkpoint.content,
                "rendering": rendering.identity,
                "rule": rule,
                "options": begun.hashed,
            }
        )
    settings = {**checkpoint.settings, **begun.known, "rendering": rendering.identity, "rule": rule}
    subject = Subject(checkpoint.checkpoint.id, begun.family, checkpoint.checkpoint.commit, settings)
    tools: frozenset[Use] = frozenset({"tools"}) if rendering.takes_tools else frozenset()
    return OpenedReader(
        subject=subject,
        fingerprint=fingerprint,
        answers=answers,
        uses=tools if uses is None else uses,
        checkpoint=checkpoint,
        rendering=rendering,
        heads=tuple(heads),
        build=build,
        prepared=prepared or _unchanged,
        spare=spare,
        device=begun.asked["device"],
        most=most,
        orders=orders,
    )


def _check_runs(backbone: Any, layout: Layout, device: Any) -> None:
    """A backbone that cannot be run is told before a task begins."""
    import torch

    with torch.inference_mode():
        ids = torch.tensor([[0, 1]], device=device)
        inputs = {"use_cache": False} if layout == "causal" else {}
        backbone(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).last_hidden_state[0, -1]


def _unchanged(config: Any, rows: Mapping[str, int]) -> None:
    """The config is the checkpoint's own."""
