"""PEFT adapters: where their base lies, what they bring, and how they are put on a model's weights."""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rmbench.checkpoints.bounds import bounded, check_adapter_numbers, check_patterns
from rmbench.checkpoints.files import shapes_of
from rmbench.checkpoints.fingerprint import Checkpoint, locate, told_of
from rmbench.checkpoints.quantise import is_quantised
from rmbench.errors import ModelError

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
# The model that they make reads more than its input: tasks, invocations, other adapters, layers that come and go
_UNREAD = frozenset({"ADAPTION_PROMPT", "POLY", "XLORA", "SHADOW", "CPT", "MULTITASK_PROMPT_TUNING", "CARTRIDGE"})
_PROMPTS = frozenset({"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"})
_FLOOR = (0, 20)  # PEFT before it imports a module that an adapter's config names


def base_of(adapter: Checkpoint, config: Mapping[str, Any], given: str | None) -> Checkpoint:
    """The checkpoint that an adapter was trained on: the one that is given, else what its config names.

    A relative folder lies beside the adapter, else where this process runs. Raises ModelError and UsageError.
    """
    if given is not None:
        return _whole(adapter, locate(*revision_of(given)))
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str) or not name:
        raise ModelError(
            f"{adapter.id}: adapter_config.json has base_model_name_or_path {name!r}, not a model's name;"
            " ?base=FOLDER or ?base=ID gives its base"
        )
    if revision is not None and not isinstance(revision, str):
        raise ModelError(f"{adapter.id}: adapter_config.json has revision {revision!r}; expected a text")
    place = _beside(adapter, name) or name
    if revision is not None and Path(place).is_dir():
        raise ModelError(
            f"{adapter.id}: adapter_config.json asks for revision {revision!r} of its base, which is a folder here;"
            " only models on the hub have revisions"
        )
    try:
        base = locate(place, revision)
    except ModelError as error:
        raise ModelError(f"{adapter.id}: its base {error}; ?base=FOLDER or ?base=ID says where it is") from None
    return _whole(adapter, base)


def _beside(adapter: Checkpoint, name: str) -> str | None:
    """A folder of that name beside the adapter, or in it."""
    if adapter.commit is not None or os.path.isabs(name):
        return None
    folder = Path(adapter.source).resolve()
    return next((str(home / name) for home in (folder.parent, folder) if (home / name).is_dir()), None)


def _whole(adapter: Checkpoint, base: Checkpoint) -> Checkpoint:
    if base.file("config.json") is None and base.file("adapter_config.json") is not None:
        raise ModelError(f"{adapter.id}: its base {base.id} is an adapter itself; merge that into its own base first")
    return base


def revision_of(text: str) -> tuple[str, str | None]:
    """Source and revision of `ID@REV`, or of what exists as it stands."""
    if "@" not in text or Path(text).exists():
        return text, None
    source, _, revision = text.rpartition("@")
    return source, revision or None


def check_adapter(adapter: Checkpoint, config: Mapping[str, Any] | None, task: str | None) -> None:
    """Raises ModelError where it is no adapter that can be read, as one for `task` where that is given."""
    if config is None:
        raise ModelError(f"{adapter.id}: no adapter_config.json, so it is no PEFT adapter")
    if importlib.util.find_spec("peft") is None:
        raise ModelError(f"{adapter.id} is a PEFT adapter: pip install 'rmbench[peft]' to load it")
    _check_peft(adapter)
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind in _UNREAD or kind not in _kinds():
        raise ModelError(
            f"{adapter.id}: a {kind} adapter cannot be read; of those that change what the model reads only"
            f" {', '.join(sorted(_PROMPTS))} can"
            if kind in _UNREAD
            else f"{adapter.id}: adapter_config.json has peft_type {kind!r}, no kind that this PEFT knows"
        )
    if config.get("alora_invocation_tokens"):
        raise ModelError(f"{adapter.id}: an activated LoRA begins at its invocation tokens, and cannot be read")
    if kind in _PROMPTS and config.get("task_type") != task:
        raise ModelError(
            f"{adapter.id}: a {kind} adapter of task_type {config.get('task_type')!r} cannot be read; expected {task!r}"
        )
    if config.get("task_type") == "TOKEN_CLS" != task:
        raise ModelError(
            f"{adapter.id}: an adapter of a token classifier, as TRL's PRMTrainer makes: it has a value at every token,"
            " and no reward of a whole response; write process:FOLDER for rewards of its steps"
        )
    if adapter.file(_WEIGHTS) is None:
        others = " (adapter_model.bin is)" if adapter.file("adapter_model.bin") is not None else ""
        raise ModelError(
            f"{adapter.id}: {_WEIGHTS} is missing{others}; no other format is read, because .bin files can execute"
            " code: load it where you trust it and convert it with save_pretrained"
        )


def _check_peft(adapter: Checkpoint) -> None:
    import peft

    version = tuple(int(part) for part in re.findall(r"\d+", peft.__version__)[:2])
    if version < _FLOOR:
        raise ModelError(
            f"{adapter.id} is a PEFT adapter, and peft {peft.__version__} runs code that one names:"
            f" expected peft >= {'.'.join(map(str, _FLOOR))}"
        )


def _kinds() -> frozenset[str]:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return frozenset(kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING)


def brought(adapter: Checkpoint) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights that an adapter brings, by the names that the model has for them."""
    path = adapter.file(_WEIGHTS)
    shapes = {} if path is None else shapes_of(adapter, [path])
    return {_plain(name): shape for name, shape in shapes.items()}


def heads_of(adapter: Checkpoint, apart: Sequence[str]) -> dict[str, Any]:
    """The tensors of a head that an adapter brings whole, by the names that a checkpoint has for them.

    `apart` are patterns of their names. Raises ModelError where it adapts such a tensor, which nothing here adds up.
    """
    from safetensors import safe_open

    path = adapter.file(_WEIGHTS)
    if path is None:
        return {}
    with safe_open(str(path), framework="pt") as file:
        names = {name: _plain(name) for name in file.keys()}  # noqa: SIM118
        heads = {name: bare for name, bare in names.items() if any(fnmatchcase(bare, one) for one in apart)}
        if adapted := sorted(bare for bare in heads.values() if ".lora_" in bare):
            raise ModelError(f"{adapter.id}: it adapts a head, by {adapted[0]}; expected one that is saved whole")
        return {bare: file.get_tensor(name) for name, bare in heads.items()}


def with_adapter(model: Any, adapter: Checkpoint, apart: Sequence[str] = ()) -> Any:
    """The model with the adapter merged into its weights, or beside them. `apart` are patterns of what is read apart.

    Only a LoRA is merged, and never into weights that are quantised, since that rounds the sum to 4 or 8 bit again and
    moves rewards by half of their spread. Raises ModelError where weights of the adapter are missing.
    """
    from peft import PeftModel

    config, own = adapter.json("adapter_config.json") or {}, brought(adapter)
    check_adapter_numbers(adapter, config, own.values())
    with told_of(adapter.id):
        _check_saved(model, adapter, config, own)
        _grow(model, adapter, own)
        modules = [name for name, _ in model.named_modules()]
        check_patterns(adapter, config, modules)
        place, names = model.device, set(model.state_dict())
        with (
            bounded(adapter, "adapter_config.json", own, _size(adapter, model)),
            warnings.catch_warnings(record=True) as said,
        ):
            warnings.simplefilter("always")
            try:
                put = PeftModel.from_pretrained(model, adapter.source, revision=adapter.commit, torch_device=str(place))
            except KeyError as error:  # a module that is saved whole is not in its files
                raise _lacking(adapter, [_plain(str(error.args[0]))], sorted(set(own) - names)) from None
    inner = {name: shape for name, shape in own.items() if not any(fnmatchcase(name, one) for one in apart)}
    _check_complete(put, adapter, inner, names, [str(one.message) for one in said])
    if merges(model, config):
        return put.merge_and_unload()
    if config.get("peft_type") in _PROMPTS:
        if is_quantised(model):
            raise ModelError(f"{adapter.id}: a {config['peft_type']} adapter cannot stand on quantised weights")
        return put
    return put.base_model.model


def merges(model: Any, config: Mapping[str, Any]) -> bool:
    """Whether an adapter of that config becomes part of a model's weights."""
    if config.get("peft_type") != "LORA" or is_quantised(model):
        return False
    # Layers that stand in a model several times share the weights that several adapters would be added to; and where a
    # layer has no bias, PEFT cannot add one to it
    return not config.get("layer_replication") and not config.get("lora_bias")


def _size(adapter: Checkpoint, model: Any) -> int:
    """Bytes of the adapter's weights, and of those of a module of the model that it may copy."""
    path = adapter.file(_WEIGHTS)
    largest = max((weight.numel() for weight in model.parameters()), default=0)
    return (0 if path is None else path.stat().st_size) + largest


def _grow(model: Any, adapter: Checkpoint, own: Mapping[str, Sequence[int]]) -> None:
    """Gives the model's table of token embeddings, and what is tied to it, the rows of the one that an adapter brings.

    Raises ModelError where the adapter was trained on a table of another size that it does not bring.
    """
    table = model.get_input_embeddings()
    name = next((name for name, module in model.named_modules() if module is table), "")
    rows, bring = table.weight.shape[0], own.get(f"{name}.weight")
    beside = own.get(f"{name}.lora_embedding_A")
    if bring is None and beside is not None and beside[-1] != rows:
        raise ModelError(
            f"{adapter.id}: its adapter of {name} is one of {beside[-1]} rows, and that of the base has {rows};"
            f" the rows themselves are not in {_WEIGHTS}"
        )
    if bring is None or bring[0] == rows:
        return
    output = model.get_output_embeddings()
    head = next((name for name, module in model.named_modules() if module is output), "")
    if output is not None and output.weight is not table.weight and f"{head}.weight" not in own:
        raise ModelError(
            f"{adapter.id}: it brings {name} with {bring[0]} rows, and {head} of the base has {rows} rows of its own;"
            f" those of the new tokens are not in {_WEIGHTS}"
        )
    model.resize_token_embeddings(bring[0], mean_resizing=False)


def _check_saved(model: Any, adapter: Checkpoint, config: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raises ModelError where a module that the adapter has trained whole, as a head, is not in its files."""
    whole = tuple(str(name) for name in config.get("modules_to_save") or ())
    for name, module in model.named_modules():
        missing = [part for part, _ in module.named_parameters() if f"{name}.{part}" not in own]
        if name.endswith(whole) and whole and missing:
            others = [held for held in own if ".lora_" not in held]
            raise ModelError(
                f"{adapter.id}: {name}.{missing[0]} not in {_WEIGHTS}"
                + (f", which has {', '.join(others[:3])} to spare" if others else "")
                + "; they would be random"
            )


def _check_complete(
    put: Any, adapter: Checkpoint, own: Mapping[str, Any], names: set[str], warned: Sequence[str]
) -> None:
    """Raises ModelError where weights of the adapter are not in its files, and warns of those that fit nowhere."""
    missing = [name for text in warned if "missing adapter keys" in text for name in re.findall(r"'([^']+)'", text)]
    state = put.state_dict()
    fits = names | {_plain(name) for name in state}
    spare = sorted(name for name in own if not {name, f"{name}.weight"} & fits and name.split(".")[-1] not in _ALONE)
    if missing:
        raise _lacking(adapter, [_plain(name) for name in missing], spare)
    if spare:
        warnings.warn(f"{adapter.id}: {_told(spare)} in {_WEIGHTS} but no part of the model", stacklevel=5)


def _lacking(adapter: Checkpoint, missing: Sequence[str], spare: Sequence[str]) -> ModelError:
    return ModelError(
        f"{adapter.id}: {missing[0]}{f' and {len(missing) - 1} more' if len(missing) > 1 else ''} not in {_WEIGHTS}"
        + (f", which has {_told(spare)} to spare" if spare else "")
        + "; they would be random"
    )


def _told(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


_ALONE = frozenset({"prompt_embeddings"})  # PEFT's own name for a table that it calls otherwise in the model


def _plain(name: str) -> str:
    """A weight's name without what PEFT puts between its parts."""
    bare = re.sub(r"\.(default|modules_to_save|base_layer|original_module)(?=\.|$)", "", name)
    return bare.removeprefix(_PREFIX).removeprefix("base_model.")  # adapters of prompts have the shorter one
