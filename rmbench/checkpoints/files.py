"""Which files of a local checkpoint loading reads: found with the code that loading uses, and checked as it loads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rmbench.checkpoints.fingerprint import Checkpoint, first_line
from rmbench.errors import ModelError

# Taken by whatever tokenizer finds no file of its own names
_VOCABULARIES = ("tekken.json", "tokenizer.model", "tokenizer.model.v3", "tiktoken.model")
SAFE_INDEX = "model.safetensors.index.json"
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth", "model.pt", "model.ckpt")
_CONVERT = (
    "weights are read from safetensors only, because .bin, .pt and .pkl files can execute code: load it where you trust"
    " it and convert it with save_pretrained"
)
_CONFIGS = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "value_head.safetensors",
)

_watches: list[Callable[[str], None]] = []
_hooked = False


def config_files(checkpoint: Checkpoint) -> set[str]:
    """Names of config, generation config and adapter, as far as they are there."""
    from transformers.configuration_utils import get_configuration_file

    names = set(_CONFIGS)
    named = (checkpoint.json("config.json") or {}).get("configuration_files")
    if isinstance(named, list):
        names.add(get_configuration_file(named))
    return _present(checkpoint, names)


def weight_files(checkpoint: Checkpoint) -> set[str]:
    """Names of the safetensors files with the model's weights, wherever the index says they lie, and of the index."""
    names = {os.path.relpath(path, checkpoint.source) for path in weight_paths(checkpoint)}
    return names | _present(checkpoint, {_named_weights(checkpoint) or "", SAFE_INDEX})


def weight_paths(checkpoint: Checkpoint) -> list[Path]:
    """The files with the model's weights. Raises ModelError where there are none, or one is no safetensors file."""
    from transformers.modeling_utils import _get_resolved_checkpoint_files

    named = _named_weights(checkpoint)
    index = named if named and named.endswith(".index.json") else None
    for file in ([named] if named and not index else []) + _shards(checkpoint, index or SAFE_INDEX):
        _check_format(checkpoint, file)
    try:
        paths, _ = _get_resolved_checkpoint_files(
            pretrained_model_name_or_path=checkpoint.source,
            variant=None,
            gguf_file=None,
            use_safetensors=True,
            user_agent=None,
            is_remote_code=True,  # which asks nobody to convert the files of the hub
            transformers_explicit_filename=named,
            download_kwargs=None if checkpoint.commit is None else {"revision": checkpoint.commit},
        )
    except (OSError, ValueError) as error:
        if named is not None:
            raise ModelError(f"{checkpoint.id}: transformers_weights {named!r}: {first_line(error)}") from None
        others = [name for name in _PICKLED if checkpoint.file(name) is not None]
        raise ModelError(
            f"{checkpoint.id}: no model.safetensors{f', only {others[0]}' if others else ''}; {_CONVERT}"
        ) from None
    for path in map(Path, paths or ()):
        if not path.is_file():
            what = "no file" if path.exists() else "not there"
            raise ModelError(f"{checkpoint.id}: {_relative(path, checkpoint)}, which holds weights, is {what}")
    return [Path(path) for path in paths or ()]


def has_weights(checkpoint: Checkpoint) -> bool:
    """Whether a local folder has weights of a whole model."""
    return bool(_present(checkpoint, {"model.safetensors", SAFE_INDEX, _named_weights(checkpoint) or ""}))


def shapes_of(checkpoint: Checkpoint, paths: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in safetensors files by name. Raises ModelError, which names a broken one."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        try:
            with safe_open(str(path), framework="pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{checkpoint.id}: {_relative(path, checkpoint)}: {first_line(error)}") from None
    return shapes


def _named_weights(checkpoint: Checkpoint) -> str | None:
    named = (checkpoint.json("config.json") or {}).get("transformers_weights")
    if named is not None and not isinstance(named, str):
        raise ModelError(f"{checkpoint.id}: config.json has transformers_weights {named!r}; expected a file's name")
    return named


def _shards(checkpoint: Checkpoint, index: str) -> list[str]:
    """The files that an index of shards names. Raises ModelError where it is none."""
    content = checkpoint.json(index)
    if content is None or (index == SAFE_INDEX and checkpoint.file("model.safetensors") is not None):
        return []
    named = content.get("weight_map")
    if not named or not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
        raise ModelError(f"{checkpoint.id}: {index} has no weight_map from names of tensors to names of files")
    if not isinstance(content.get("metadata"), dict):
        raise ModelError(f"{checkpoint.id}: {index} has metadata {content.get('metadata')!r}; expected an object")
    return sorted(set(named.values()))


def _check_format(checkpoint: Checkpoint, file: str) -> None:
    if not file.endswith((".safetensors", ".safetensors.index.json")):
        raise ModelError(f"{checkpoint.id}: {file} is named as a file of weights; {_CONVERT}")


def _relative(path: Path, checkpoint: Checkpoint) -> str:
    return path.name if checkpoint.commit else os.path.relpath(path, checkpoint.source)


def tokenizer_files(checkpoint: Checkpoint, tokenizer: Any) -> set[str]:
    """Names of the files that a tokenizer of this class is made of, as far as they are there."""
    from transformers import tokenization_utils_base as base
    from transformers.utils import CHAT_TEMPLATE_DIR, CHAT_TEMPLATE_FILE

    names = {
        base.TOKENIZER_CONFIG_FILE,
        base.FULL_TOKENIZER_FILE,
        base.SPECIAL_TOKENS_MAP_FILE,
        base.ADDED_TOKENS_FILE,
        CHAT_TEMPLATE_FILE,
        "config.json",  # says of which class it is
        *(name for name in getattr(type(tokenizer), "vocab_files_names", {}).values() if name),
        *_VOCABULARIES,
    }
    versions = (checkpoint.json(base.TOKENIZER_CONFIG_FILE) or {}).get("fast_tokenizer_files")
    if isinstance(versions, list):
        names.add(base.get_fast_tokenizer_file(versions))
    for option in ("vocab_file", "spm_file", "tokenizer_file"):  # one that was found under another name
        file = getattr(tokenizer, "init_kwargs", {}).get(option)
        if isinstance(file, str):
            names.add(os.path.relpath(file, checkpoint.source))
    templates = Path(checkpoint.source, CHAT_TEMPLATE_DIR).glob("*.jinja")
    return _present(checkpoint, names | {f"{CHAT_TEMPLATE_DIR}/{file.name}" for file in templates})


def code_files(checkpoint: Checkpoint) -> set[str]:
    """Names of the modules that config and tokenizer config name, and of those that these import from beside them."""
    from transformers.dynamic_module_utils import get_relative_import_files

    names: set[str] = set()
    for file in ("config.json", "tokenizer_config.json"):
        named = (checkpoint.json(file) or {}).get("auto_map") or {}
        for named_code in named.values() if isinstance(named, dict) else [named]:
            for reference in named_code if isinstance(named_code, list) else [named_code]:
                module = f"{str(reference).partition('--')[2] or reference}".rpartition(".")[0]
                path = Path(checkpoint.source, *module.split(".")).with_suffix(".py")
                if path.is_file():
                    with suppress(OSError):
                        beside = map(str, get_relative_import_files(str(path)))
                        names.update(os.path.relpath(one, checkpoint.source) for one in (str(path), *beside))
    return _present(checkpoint, {*names, "custom_generate/generate.py"})


@contextmanager
def noted(checkpoints: Iterable[Checkpoint]) -> Iterator[dict[Checkpoint, set[str]]]:
    """The names of the files that are opened meanwhile in each local checkpoint."""
    folders = {one: os.path.abspath(one.source) for one in checkpoints if one.commit is None}
    opened: dict[Checkpoint, set[str]] = {one: set() for one in folders}

    def watch(path: str) -> None:
        for checkpoint, folder in folders.items():
            if (name := _inside(path, folder)) is not None:
                opened[checkpoint].add(name)

    with _watching(watch) if folders else nullcontext():
        yield opened


def check_opened(opened: Mapping[Checkpoint, set[str]], listed: Mapping[Checkpoint, Collection[str]]) -> None:
    """Raises ModelError where a file was opened that is not listed."""
    for checkpoint, names in opened.items():
        others = sorted(names - set(listed.get(checkpoint, ())))
        if others:
            raise ModelError(f"{checkpoint.id}: loading opens {others[0]}, which its fingerprint does not cover")


def _inside(path: str, folder: str) -> str | None:
    """The name of a file in a folder, None for one elsewhere. Either may be reached through links."""
    for file, home in (
        (os.path.abspath(path), folder),
        (os.path.realpath(path), os.path.realpath(folder)),
    ):
        if file.startswith(home + os.sep) and os.path.isfile(file):
            return os.path.relpath(file, home)
    return None


@contextmanager
def _watching(watch: Callable[[str], None]) -> Iterator[None]:
    """Tells `watch` of each file that is opened, by Python (audit events) or by safetensors."""
    global _hooked  # noqa: PLW0603
    import safetensors.torch
    import transformers.modeling_utils

    if not _hooked:
        sys.addaudithook(_heard)
        _hooked = True
    opening = safetensors.torch.safe_open

    def noted(file: Any, *args: Any, **options: Any) -> Any:
        watch(os.fspath(file))
        return opening(file, *args, **options)

    places = (safetensors.torch, transformers.modeling_utils)
    _watches.append(watch)
    for place in places:
        place.safe_open = noted
    try:
        yield
    finally:
        for place in places:
            place.safe_open = opening
        _watches.remove(watch)


def _heard(event: str, args: Any) -> None:
    if event == "open" and _watches and isinstance(args[0], str | bytes | os.PathLike):
        for watch in tuple(_watches):
            watch(os.fsdecode(args[0]))


def _present(checkpoint: Checkpoint, names: set[str]) -> set[str]:
    return {name for name in names if Path(checkpoint.source, name).is_file()}
