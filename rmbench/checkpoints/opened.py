"""A checkpoint that is opened: what it is made of, and one hash of that, before any weight is read."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.files import check_opened, code_files, config_files, noted, tokenizer_files, weight_files
from rmbench.checkpoints.fingerprint import Checkpoint, class_name, locate, sources
from rmbench.checkpoints.weights import (
    averaged,
    brought,
    check_code,
    is_quantised,
    listed,
    named_dtype,
    own_dtype,
    pick_device,
    quiet,
    read_config,
    read_tokenizer,
    read_weights,
    with_adapter,
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
    "quantise": Option("bits of the weights, by bitsandbytes", choices=("nf4", "int8")),
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

    `auto` is the class of transformers that finds the model's.
    """

    parts: tuple[Part, ...]
    adapter: Checkpoint | None
    auto: Any
    config: Any
    tokenizer: Any
    words: Checkpoint
    asked: Mapping[str, Any]

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
        libraries += ["bitsandbytes"] if self.asked["quantise"] or _is_quantised(self.config) else []
        return {
            "weights": [[part.share, pinned(part.base), pinned(part.adapter)] for part in self.parts],
            "adapter": pinned(self.adapter),
            "tokenizer": pinned(self.words),
            "classes": [class_name(one) for one in classes],
            "code": sources(*classes),
            "libraries": {name: _version(name) for name in libraries},
        }

    def load(self, device: str | None, prepared: Callable[[Any, Mapping[str, int]], None], harm: str) -> Any:
        """The model with all of its weights from files, on its device, ready for inference.

        `prepared` is given the config of each part and the weights that adapters bring, and may change the config;
        `harm` says in an error what missing weights would do. Raises ModelError.
        """
        place = pick_device(device)
        with quiet(), noted(self.files) as opened:
            model = self._part(self.parts[0], place, prepared, harm)
            whole = self.parts[0].share
            for part in self.parts[1:]:
                whole += part.share
                other = self._part(part, place, prepared, harm)
                averaged(model, other, part.share / whole, (self.checkpoint.id, part.named.id))
            if self.adapter is not None:
                model = with_adapter(model, self.adapter)
        check_opened(opened, self.files)
        model.config.return_dict = True  # a checkpoint may ask for tuples
        if place != "auto" and not is_quantised(model):
            model.to(place)
        return model.eval().requires_grad_(False)

    def _part(self, part: Part, device: str, prepared: Callable[[Any, Mapping[str, int]], None], harm: str) -> Any:
        config = read_config(part.base, trust_remote_code=self.trusted)
        own: dict[str, int] = {}
        for adapter in (part.adapter, self.adapter):
            own |= {} if adapter is None else brought(adapter)
        prepared(config, own)
        model, found = read_weights(
            self.auto,
            part.base,
            config,
            self.dtype,
            device=device,
            trust_remote_code=self.trusted,
            quantise=self.asked["quantise"],
        )
        missing = sorted(set(found["missing_keys"]) - set(own))
        if missing:
            raise ModelError(f"{part.named.id}: {listed(missing)} not in the checkpoint; {harm}")
        unused = sorted(set(found["unexpected_keys"]) - {"lm_head.weight"})
        if unused:
            warnings.warn(f"{part.base.id}: {listed(unused)} in the checkpoint but no part of the model", stacklevel=5)
        return model if part.adapter is None else with_adapter(model, part.adapter)

    @property
    def _checkpoints(self) -> list[Checkpoint]:
        named = [one for part in self.parts for one in (part.base, part.adapter)]
        return list(dict.fromkeys(one for one in (*named, self.adapter, self.words) if one is not None))

    def _model_classes(self) -> list[type]:
        """The class that loading would find among those that are installed; a checkpoint's own is among its files."""
        if self.trusted and self.auto.__name__ in (getattr(self.config, "auto_map", None) or {}):
            return []
        try:
            found = self.auto._model_mapping[type(self.config)]
        except KeyError:  # for loading to tell
            return []
        return list(found) if isinstance(found, tuple | list) else [found]


def open_checkpoint(auto: Any, source: str, asked: Mapping[str, Any], revision: str | None) -> OpenedCheckpoint:
    """Finds and reads everything about a checkpoint but its weights; `asked` has all of `OPTIONS`.

    Raises ModelError where it cannot be what `auto` loads, and UsageError for options that cannot be.
    """
    parts = _shared([_part_of(source, revision), *(_part_of(*_revision(one)) for one in asked["average"])], asked)
    adapter = None if asked["adapter"] is None else locate(*_revision(asked["adapter"]))
    if adapter is not None:
        _check_adapter(adapter, adapter.json("adapter_config.json"))
    first = parts[0]
    worded = [one for one in (adapter, first.adapter) if one is not None and one.file("tokenizer_config.json")]
    words = worded[0] if worded else first.base
    if asked["trust_remote_code"]:
        for part in parts:
            check_code(part.base, "config.json", "AutoConfig", auto.__name__, "AutoTokenizer")
        check_code(words, "tokenizer_config.json", "AutoConfig", auto.__name__, "AutoTokenizer")
    trusted = bool(asked["trust_remote_code"])
    with quiet(), noted({first.base, words}) as read:
        config = read_config(first.base, trust_remote_code=trusted)
        named_dtype("dtype", asked["dtype"] or own_dtype(config))
        tokenizer = read_tokenizer(words, trust_remote_code=trusted)
    _check_quantise(asked["quantise"], first.base, config, len(parts))
    opened = OpenedCheckpoint(parts, adapter, auto, config, tokenizer, words, asked)
    check_opened(read, opened.files)
    return opened


def _part_of(source: str, revision: str | None) -> Part:
    checkpoint = locate(source, revision)
    config = checkpoint.json("adapter_config.json")
    return Part(checkpoint, None) if config is None else Part(_base_of(checkpoint, config), checkpoint)


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


def _check_quantise(asked: str | None, base: Checkpoint, config: Any, parts: int) -> None:
    quantised = _is_quantised(config)
    if asked is not None and quantised:
        raise UsageError(f"quantise={asked}: the weights of {base.id} are quantised already")
    if asked is not None and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"quantise={asked} needs bitsandbytes: pip install bitsandbytes")
    if parts > 1 and (asked is not None or quantised):
        raise UsageError(f"average: weights that are quantised, as those of {base.id}, cannot be averaged")


def _is_quantised(config: Any) -> bool:
    return getattr(config, "quantization_config", None) is not None


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:  # for loading to tell
        return None


def _base_of(adapter: Checkpoint, config: dict[str, Any]) -> Checkpoint:
    _check_adapter(adapter, config)
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


def _check_adapter(adapter: Checkpoint, config: dict[str, Any] | None) -> None:
    if config is None:
        raise ModelError(f"{adapter.id}: no adapter_config.json, so it is no PEFT adapter")
    if importlib.util.find_spec("peft") is None:
        raise ModelError(f"{adapter.id} is a PEFT adapter: pip install 'rmbench[peft]' to load it")
    if adapter.file("adapter_model.safetensors") is None:
        raise ModelError(f"{adapter.id}: adapter_model.safetensors is missing; no other format is read")


def _revision(text: str) -> tuple[str, str | None]:
    if "@" not in text or Path(text).exists():
        return text, None
    source, _, revision = text.rpartition("@")
    return source, revision or None


def _at(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.id}@{checkpoint.commit}" if checkpoint.commit else checkpoint.id
