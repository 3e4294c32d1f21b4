"""What loading any transformers checkpoint takes: config, weights, tokenizer, dtype, device, positions."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.bounds import bounded, check_normalizer, check_numbers
from rmbench.checkpoints.files import weight_paths
from rmbench.checkpoints.fingerprint import PANIC, Checkpoint, first_line
from rmbench.checkpoints.kin import check_words, config_of, converted, kin_of
from rmbench.checkpoints.quantise import quantisation
from rmbench.device import picked
from rmbench.errors import ModelError, UsageError

if TYPE_CHECKING:
    import torch

_STEADY_ROPES = frozenset({"default", "linear", "llama3", "yarn"})
# What reads a tokenizer's file, by the names to install and to import
_READERS = {
    "tokenizer.model": {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"},
    "spiece.model": {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"},
    "sentencepiece.bpe.model": {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"},
    "spm.model": {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"},
    "tiktoken.model": {"tiktoken": "tiktoken"},
    "qwen.tiktoken": {"tiktoken": "tiktoken"},
}
_DTYPES = ("float32", "bfloat16", "float16", "float64")


def read_config(checkpoint: Checkpoint, *, trust_remote_code: bool) -> Any:
    """The config of a checkpoint. Raises ModelError."""
    from transformers import AutoConfig

    check_numbers(checkpoint)
    _check_labels(checkpoint)
    kin = kin_of(checkpoint)
    try:
        if kin is not None:
            return config_of(checkpoint, kin)
        return AutoConfig.from_pretrained(
            checkpoint.source, revision=checkpoint.commit, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"{checkpoint.id}: {first_line(error)}{about_code(error)}") from None


def _check_labels(checkpoint: Checkpoint) -> None:
    """Raises ModelError for labels of another type than transformers takes, which it does not name."""
    config = checkpoint.json("config.json") or {}
    for field, kinds, expected in (("num_labels", int, "a number"), ("id2label", dict | None, "an object")):
        if field in config and not isinstance(config[field], kinds):
            raise ModelError(
                f"{checkpoint.id}: config.json has {field} {config[field]!r:.40}; expected {expected}, or to be left"
                " out, and then the head says how many labels there are"
            )


def check_code(checkpoint: Checkpoint, file: str, *classes: str) -> None:
    """Raises ModelError for code of `classes` that its name leaves in another repository.

    transformers would run whatever is there today.
    """
    named = (checkpoint.json(file) or {}).get("auto_map") or {}
    for auto in classes:
        named_code = named.get(auto) if isinstance(named, dict) else named
        for reference in named_code if isinstance(named_code, list) else [named_code]:
            repository, dashes, _ = str(reference).partition("--")
            if dashes and not (checkpoint.commit and repository == checkpoint.source):
                raise ModelError(
                    f"{checkpoint.id}: auto_map names {reference}, code of another repository, and no revision pins it;"
                    " put the code into the checkpoint"
                )


def code_not_run(checkpoint: Checkpoint, auto: str) -> str | None:
    """What to say of a class that the checkpoint brings for its model, where transformers has one of that type."""
    named = (checkpoint.json("config.json") or {}).get("auto_map")
    reference = named.get(auto) if isinstance(named, dict) else None
    if reference is None:
        return None
    return f"config.json names {reference}, code that comes with the checkpoint: --trust-remote-code runs it"


def read_weights(
    auto: Any,
    checkpoint: Checkpoint,
    config: Any,
    dtype: torch.dtype,
    shapes: Mapping[str, Sequence[int]],
    *,
    device: str,
    trust_remote_code: bool,
    quantise: str | None = None,
) -> tuple[Any, dict[str, Any]]:
    """A model of the class that `auto` finds, and what its files lacked or had to spare. Raises ModelError.

    `shapes` are those of the tensors in its files. With `device` auto the model is spread over the devices there are.
    Quantised weights are put on their device here, since nothing may move them later.
    """
    placed: Any = "auto" if device == "auto" else None
    if quantise is not None:
        placed = placed or {"": device}
    quantised = {} if quantise is None else {"quantization_config": quantisation(quantise, dtype)}
    size = sum(path.stat().st_size for path in weight_paths(checkpoint))
    try:
        with bounded(checkpoint, "config.json", shapes, size), no_adapter_of_its_own(), converted(checkpoint, shapes):
            model, loaded = auto.from_pretrained(
                checkpoint.source,
                config=config,
                revision=checkpoint.commit,
                dtype=dtype,
                device_map=placed,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below, with their shapes
                trust_remote_code=trust_remote_code,
                **quantised,
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ModelError(f"{checkpoint.id}: {first_line(error)}{about_code(error)}") from None
    except AssertionError as error:  # torch's, of a row of the table of embeddings that is not there
        pad = config.get_text_config().pad_token_id
        raise ModelError(f"{checkpoint.id}: {first_line(error)}; config.json has pad_token_id {pad}") from None
    for name, held, described in sorted(loaded["mismatched_keys"])[:1]:
        raise ModelError(
            f"{checkpoint.id}: {name} has the shape {list(held)}, and config.json describes {list(described)}"
            + (f"; {len(loaded['mismatched_keys']) - 1} more differ" if len(loaded["mismatched_keys"]) > 1 else "")
        )
    return model, loaded


@contextmanager
def no_adapter_of_its_own() -> Iterator[None]:
    """transformers puts an adapter that lies beside the weights on the model by itself; here one rule puts them on."""
    from transformers.integrations import peft
    from transformers.models.auto import auto_factory

    places = (auto_factory, peft)
    finding = peft.find_adapter_config_file
    for place in places:
        place.find_adapter_config_file = lambda *args, **options: None
    try:
        yield
    finally:
        for place in places:
            place.find_adapter_config_file = finding


def read_tokenizer(words: Checkpoint, *, trust_remote_code: bool) -> Any:
    """The tokenizer of a checkpoint. Raises ModelError."""
    from transformers import AutoTokenizer

    if words.file("tokenizer_config.json") is None:
        warnings.warn(
            f"{words.id}: no tokenizer_config.json, so its special tokens are the library's guess and rewards may"
            " differ from those of the complete checkpoint",
            stacklevel=3,
        )
    check_normalizer(words)
    try:
        with without_panics():
            tokenizer = AutoTokenizer.from_pretrained(
                words.source, revision=words.commit, trust_remote_code=trust_remote_code
            )
    except BaseException as error:  # the tokenizers library raises bare Exceptions for broken files, and panics
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        cause = _lacking(words) or f"{type(error).__name__}: {first_line(error)}{about_code(error)}"
        raise ModelError(f"{words.id}: no tokenizer can be loaded: {cause}") from None
    if not trust_remote_code:
        check_words(words, tokenizer)
    return tokenizer


def _lacking(words: Checkpoint) -> str | None:
    """What has to be installed for a tokenizer that is not in tokenizer.json; transformers names another library."""
    if words.file("tokenizer.json") is not None:
        return None
    for file, libraries in _READERS.items():
        missing = [name for name, module in libraries.items() if not _installed(module)]
        if words.file(file) is not None and missing:
            return f"{file} is read with {' and '.join(libraries)}: pip install {' '.join(missing)}"
    return None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not there
        return False


@contextmanager
def without_panics() -> Iterator[None]:
    """Without what Rust writes to standard error before it raises."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def positions(model: Any) -> int | None:
    """How many tokens a model takes, without those that an adapter puts before them; None: any number."""
    most = _positions(model)
    adapter = getattr(model, "active_peft_config", None)
    return most if most is None else most - (getattr(adapter, "num_virtual_tokens", None) or 0)


def _positions(model: Any) -> int | None:
    import torch

    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa and its kin count positions from behind the pad id
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - first
    # XLNet says -1 for no limit
    return positions if positions is not None and positions > 0 else None


def unsteady_ropes(config: Any) -> set[str]:
    """The types of rotary embedding in a config whose frequencies depend on the longest sequence of a batch."""
    rope = getattr(config, "rope_parameters", None) or {}
    several = [one for one in rope.values() if isinstance(one, dict)] or [rope]
    return {str(one.get("rope_type", "default")) for one in several} - _STEADY_ROPES


def own_dtype(config: Any) -> str:
    own = config.dtype or config.get_text_config().dtype or "float32"
    return str(own).removeprefix("torch.")


def named_dtype(what: str, name: str) -> torch.dtype:
    import torch

    if name not in _DTYPES:
        raise UsageError(f"{what} {name!r}: one of {', '.join(_DTYPES)}")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def pick_device(asked: str | None) -> str:
    if asked != "auto":
        return picked(asked)
    if importlib.util.find_spec("accelerate") is None:
        raise ModelError("device auto spreads a model over devices with accelerate: pip install accelerate")
    return asked


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' report on what it loaded, which is an error here where it matters, and without what the
    libraries tell one another about coming versions.
    """
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{rest} {'is' if len(names) == 1 else 'are'}"


def about_code(error: BaseException) -> str:
    return "; --trust-remote-code runs it" if "trust_remote_code" in str(error) else ""
