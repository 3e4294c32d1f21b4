"""A checkpoint that is opened: what it is made of, and one hash of that, before any weight is read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.adapters import base_of, brought, check_adapter, heads_of, revision_of, with_adapter
from rmbench.checkpoints.averages import averaged
from rmbench.checkpoints.files import (
    check_opened,
    code_files,
    config_files,
    has_weights,
    noted,
    shapes_of,
    tokenizer_files,
    weight_files,
    weight_paths,
)
from rmbench.checkpoints.fingerprint import Checkpoint, class_name, locate, name_of, sources, told_of
from rmbench.checkpoints.quantise import LIBRARIES, check_quantise, is_quantised, quantisers
from rmbench.checkpoints.tensors import is_apart, tensors_of
from rmbench.checkpoints.weights import (
    check_code,
    code_not_run,
    listed,
    named_dtype,
    own_dtype,
    pick_device,
    quiet,
    read_config,
    read_tokenizer,
    read_weights,
)
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Option

if TYPE_CHECKING:
    import torch


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


# What every family of checkpoints takes
OPTIONS: Mapping[str, Option] = {
    "device": Option(
        "cpu, cuda, cuda:N, mps, or auto to spread over all GPUs (default: the best one here)", of_run=True
    ),
    "dtype": Option("in which the weights are held (default: the checkpoint's own)"),
    "average": Option("ID@REV of a checkpoint whose weights are averaged with these; several by commas", _names, ()),
    "weight": Option("the share of each averaged checkpoint (default: all alike, the first included)", _numbers, ()),
    "adapter": Option("ID@REV or folder of a PEFT adapter that is put on the weights"),
    "base": Option("ID@REV or folder of an adapter's base (default: the one that its adapter_config.json names)"),
    "quantise": Option("bits of the weights, by bitsandbytes or torchao", choices=tuple(LIBRARIES)),
    "trust_remote_code": Option("run code that comes with the checkpoint", bool, False),
}


def chosen(declared: Mapping[str, Option], given: Mapping[str, Any], family: str) -> dict[str, Any]:
    """The value of every declared option. Raises UsageError for another, and for one that is no choice."""
    from rmbench.plugins import did_you_mean

    for name, value in given.items():
        if name not in declared:
            close = did_you_mean(name, declared)
            raise UsageError(f"{family} has no option {name!r}{close}; its options: {', '.join(declared)}")
        choices = declared[name].choices
        if choices and value is not None and value not in choices:
            raise UsageError(f"{name}={value!r}: expected one of {', '.join(choices)}")
    return {name: given.get(name, option.default) for name, option in declared.items()}


@dataclass(frozen=True, slots=True)
class Part:
    """Weights of one checkpoint, with the adapter that it is."""

    base: Checkpoint
    adapter: Checkpoint | None
    share: float = 1.0

    @property
    def named(self) -> Checkpoint:
        return self.adapter or self.base


@dataclass(frozen=True)
class OpenedCheckpoint:
    """`parts` are averaged, the first being what the source names, and `adapter` is put on what comes out.

    `auto` is the class of transformers that finds the model's. `is_known` says that the table of known models has it,
    so that its own code need not be run.
    """

    parts: tuple[Part, ...]
    adapter: Checkpoint | None
    auto: Any
    config: Any
    tokenizer: Any
    words: Checkpoint
    asked: Mapping[str, Any]
    is_known: bool = False

    @property
    def checkpoint(self) -> Checkpoint:
        """What the source names: the id of results."""
        return self.parts[0].named

    @property
    def trusted(self) -> bool:
        return bool(self.asked["trust_remote_code"])

    @property
    def dtype(self) -> torch.dtype:
        return named_dtype("dtype", self.asked["dtype"] or own_dtype(self.config))

    @property
    def settings(self) -> dict[str, Any]:
        """What results say of it, by names: never a path."""
        first, *others = self.parts
        made: dict[str, Any] = {"dtype": str(self.dtype).removeprefix("torch.")}
        if first.adapter is not None:
            made["base"] = first.base.id
        if others:
            made["average"] = {_at(part.named): part.share for part in self.parts}
        if self.adapter is not None:
            made["adapter"] = _at(self.adapter)
        if self.asked["quantise"] is not None:
            made["quantise"] = self.asked["quantise"]
        return made

    @cached_property
    def files(self) -> dict[Checkpoint, frozenset[str]]:
        """Of each local checkpoint the files that loading reads; nothing of those on the hub, which a commit pins."""
        made: dict[Checkpoint, set[str]] = {}
        for checkpoint in self._checkpoints:
            if checkpoint.commit is None:
                names = made.setdefault(checkpoint, config_files(checkpoint))
                if self.trusted:
                    names |= code_files(checkpoint)
        for part in self.parts:
            if part.base in made:
                made[part.base] |= weight_files(part.base)
        if self.words in made:
            made[self.words] |= tokenizer_files(self.words, self.tokenizer)
        return {checkpoint: frozenset(names) for checkpoint, names in made.items()}

    @cached_property
    def content(self) -> dict[str, Any]:
        """What pins all of it, JSON-able: contents, classes and code that is installed beside transformers."""

        # each once: shards are gigabytes
        pins = {one: one.content(sorted(self.files.get(one, ()))) for one in self._checkpoints}

        def pinned(checkpoint: Checkpoint | None) -> str | None:
            return None if checkpoint is None else pins[checkpoint]

        classes = [type(self.config), type(self.tokenizer), *self._model_classes()]
        libraries = ["transformers", "tokenizers"]
        libraries += ["peft"] if self.adapter or any(part.adapter for part in self.parts) else []
        libraries += quantisers(self.asked["quantise"], self.config)
        return {
            "weights": [[part.share, pinned(part.base), pinned(part.adapter)] for part in self.parts],
            "adapter": pinned(self.adapter),
            "tokenizer": pinned(self.words),
            "classes": [class_name(one) for one in classes],
            "code": sources(*classes),
            "libraries": {name: _version(name) for name in libraries},
        }

    def load(
        self,
        device: str | None,
        prepared: Callable[[Any, Mapping[str, int]], None],
        harm: str,
        apart: Sequence[str] = (),
    ) -> Any:
        """The model with all of its weights from files, on its device, ready for inference.

        `apart` are patterns of the names of weights in its files that the family reads by itself, as `tensors` does;
        `prepared` is given the config of each part and, by name, the rows of weights that decide what the config leaves
        open, and may change the config; `harm` says in an error what missing weights would do. Raises ModelError.
        """
        place = pick_device(device)
        with quiet(), told_of(self.checkpoint.id), noted(self.files) as opened:
            model = self._part(self.parts[0], place, prepared, harm, apart)
            whole = self.parts[0].share
            for part in self.parts[1:]:
                whole += part.share
                other = self._part(part, place, prepared, harm, apart)
                averaged(model, other, part.share / whole, (self.checkpoint.id, part.named.id))
            if self.adapter is not None:
                model = with_adapter(model, self.adapter, apart)
            check_opened(opened, self.files)
            model.config.return_dict = True  # a checkpoint may ask for tuples
            if place != "auto" and not is_quantised(model):
                model.to(place)
            return model.eval().requires_grad_(False)

    def tensors(self, patterns: Sequence[str]) -> dict[str, torch.Tensor]:
        """The weights in its files that are no part of the model, by name, averaged as the model is."""
        with told_of(self.checkpoint.id), noted(self.files) as opened:
            tensors = tensors_of(self.parts, patterns)
            tensors |= {} if self.adapter is None else heads_of(self.adapter, patterns)
            check_opened(opened, self.files)
        return tensors

    def _part(
        self,
        part: Part,
        device: str,
        prepared: Callable[[Any, Mapping[str, int]], None],
        harm: str,
        apart: Sequence[str],
    ) -> Any:
        config = read_config(part.base, trust_remote_code=self.trusted)
        shapes = shapes_of(part.base, weight_paths(part.base))
        own: dict[str, tuple[int, ...]] = {}
        for adapter in (part.adapter, self.adapter):
            own |= {} if adapter is None else brought(adapter)
        labelled = {"num_labels", "id2label"} & (part.base.json("config.json") or {}).keys()
        deciding = own if labelled else {**shapes, **own}
        prepared(config, {name: shape[0] for name, shape in deciding.items() if shape})
        model, loaded = read_weights(
            self.auto,
            part.base,
            config,
            self.dtype,
            shapes,
            device=device,
            trust_remote_code=self.trusted,
            quantise=self.asked["quantise"],
        )
        missing = sorted(set(loaded["missing_keys"]) - set(own))
        spare = set(loaded["unexpected_keys"]) - {"lm_head.weight"}
        unused = sorted(name for name in spare if not is_apart(name, apart))
        passed = None if self.trusted or self.is_known else code_not_run(part.base, self.auto.__name__)
        if missing:
            extra = f", which has {listed(unused).rpartition(' ')[0]} to spare" if unused else ""
            raise ModelError(f"{part.named.id}: {listed(missing)} not in the checkpoint{extra}; {passed or harm}")
        if passed:
            warnings.warn(f"{part.base.id}: {type(model).__name__} of transformers is read; {passed}", stacklevel=5)
        if unused:
            warnings.warn(f"{part.base.id}: {listed(unused)} in the checkpoint but no part of the model", stacklevel=5)
        return model if part.adapter is None else with_adapter(model, part.adapter, apart)

    @property
    def _checkpoints(self) -> list[Checkpoint]:
        named = [one for part in self.parts for one in (part.base, part.adapter)]
        return list(dict.fromkeys(one for one in (*named, self.adapter, self.words) if one is not None))

    def _model_classes(self) -> list[type]:
        """The class that loading would find among those that are installed; a checkpoint's own is among its files."""
        if self.trusted and self.auto.__name__ in (getattr(self.config, "auto_map", None) or {}):
            return []
        try:
            classes = self.auto._model_mapping[type(self.config)]
        except KeyError:  # for loading to tell
            return []
        return list(classes) if isinstance(classes, tuple | list) else [classes]


def open_checkpoint(
    auto: Any, source: str, asked: Mapping[str, Any], revision: str | None, *, is_known: bool = False
) -> OpenedCheckpoint:
    """Finds and reads everything about a checkpoint but its weights; `asked` has all of `OPTIONS`.

    Raises ModelError where it cannot be what `auto` loads, and UsageError for options that cannot be.
    """
    with told_of(name_of(source)):
        return replace(_open(auto, source, asked, revision), is_known=is_known)


def _open(auto: Any, source: str, asked: Mapping[str, Any], revision: str | None) -> OpenedCheckpoint:
    task = _TASKS.get(auto.__name__)
    first = _part_of(source, revision, task, asked["base"])
    if asked["base"] is not None and first.adapter is None:
        raise UsageError(f"base={asked['base']}: {first.base.id} is no adapter, and has no base")
    others = [_part_of(*revision_of(one), task, None) for one in asked["average"]]
    parts = _shared([first, *others], asked)
    adapter = None if asked["adapter"] is None else locate(*revision_of(asked["adapter"]))
    if adapter is not None:
        check_adapter(adapter, adapter.json("adapter_config.json"), task)
    first = parts[0]
    worded = [one for one in (adapter, first.adapter) if one is not None and one.file("tokenizer_config.json")]
    words = worded[0] if worded else first.base
    trusted = bool(asked["trust_remote_code"])
    if trusted:
        for part in parts:
            check_code(part.base, "config.json", "AutoConfig", auto.__name__, "AutoTokenizer")
        check_code(words, "tokenizer_config.json", "AutoConfig", auto.__name__, "AutoTokenizer")
    with quiet(), noted({first.base, words}) as read:
        config = read_config(first.base, trust_remote_code=trusted)
        named_dtype("dtype", asked["dtype"] or own_dtype(config))
        tokenizer = read_tokenizer(words, trust_remote_code=trusted)
    check_quantise(asked["quantise"], first.base, config, len(parts))
    opened = OpenedCheckpoint(parts, adapter, auto, config, tokenizer, words, asked)
    check_opened(read, opened.files)
    return opened


# PEFT's names for what the classes of transformers are made for
_TASKS = {"AutoModelForSequenceClassification": "SEQ_CLS", "AutoModelForTokenClassification": "TOKEN_CLS"}


def _part_of(source: str, revision: str | None, task: str | None, base: str | None) -> Part:
    """A checkpoint, or an adapter with its base: the folder itself where that holds a whole model as well."""
    checkpoint = locate(source, revision)
    config = checkpoint.json("adapter_config.json")
    if config is None:
        return Part(checkpoint, None)
    check_adapter(checkpoint, config, task)
    if base is None and checkpoint.commit is None and checkpoint.file("config.json") and has_weights(checkpoint):
        return Part(checkpoint, checkpoint)
    return Part(base_of(checkpoint, config, base), checkpoint)


def _shared(parts: Sequence[Part], asked: Mapping[str, Any]) -> tuple[Part, ...]:
    """The parts with their shares, which sum to 1. Raises UsageError."""
    others, given = len(parts) - 1, tuple(asked["weight"])
    if not given:
        return tuple(Part(part.base, part.adapter, 1 / len(parts)) for part in parts)
    if len(given) != others:
        raise UsageError(f"weight={','.join(map(str, given))}: {len(given)} shares for {others} averaged checkpoints")
    first = 1 - sum(given)
    if min(*given, first) <= 0:
        raise UsageError(f"weight={','.join(map(str, given))}: shares lie above 0, and together below 1")
    shares = (first, *given)
    return tuple(Part(part.base, part.adapter, share) for part, share in zip(parts, shares, strict=True))


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:  # for loading to tell
        return None


def _at(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.id}@{checkpoint.commit}" if checkpoint.commit else checkpoint.id
