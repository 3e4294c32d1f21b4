"""What loading any transformers checkpoint takes: config, tokenizer, dtype, device, positions."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.fingerprint import Checkpoint, first_line
from rmbench.device import picked
from rmbench.errors import ModelError, UsageError

if TYPE_CHECKING:
    import torch

_STEADY_ROPES = frozenset({"default", "linear", "llama3", "yarn"})
_DTYPES = ("float32", "bfloat16", "float16", "float64")


def read_config(checkpoint: Checkpoint, *, trust_remote_code: bool) -> Any:
    """The config of a checkpoint. Raises ModelError."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            checkpoint.source, revision=checkpoint.commit, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"{checkpoint.id}: {first_line(error)}{about_code(error)}") from None


def check_code(checkpoint: Checkpoint, file: str, *classes: str) -> None:
    """Raises ModelError for code of `classes` that its name leaves in another repository.

    transformers would run whatever is there today.
    """
    named = (checkpoint.json(file) or {}).get("auto_map") or {}
    for auto in classes:
        found = named.get(auto) if isinstance(named, dict) else named
        for reference in found if isinstance(found, list) else [found]:
            repository, dashes, _ = str(reference).partition("--")
            if dashes and not (checkpoint.commit and repository == checkpoint.source):
                raise ModelError(
                    f"{checkpoint.id}: auto_map names {reference}, code of another repository, and no revision pins it;"
                    " put the code into the checkpoint"
                )


def read_weights(
    auto: Any,
    checkpoint: Checkpoint,
    config: Any,
    dtype: torch.dtype,
    *,
    device: str,
    trust_remote_code: bool,
    quantise: str | None = None,
) -> tuple[Any, dict[str, Any]]:
    """A model of the class that `auto` finds, and what its files lacked or had to spare. Raises ModelError.

    Only safetensors are read; with `device` auto the model is spread over the devices there are. Quantised weights are
    put on their device here, since nothing may move them later.
    """
    from safetensors import SafetensorError

    placed: Any = "auto" if device == "auto" else None
    if quantise is not None:
        placed = placed or {"": device}
    quantised = {} if quantise is None else {"quantization_config": _quantisation(quantise, dtype)}
    try:
        model, found = auto.from_pretrained(
            checkpoint.source,
            config=config,
            revision=checkpoint.commit,
            dtype=dtype,
            device_map=placed,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
            **quantised,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        if "file named model.safetensors" in str(error):
            raise ModelError(
                f"{checkpoint.id}: no model.safetensors; weights are read from safetensors only, because .bin files can"
                " execute code: convert them with save_pretrained"
            ) from None
        if "ignore_mismatched_sizes" in str(error):
            raise ModelError(
                f"{checkpoint.id}: its tensors do not have the shapes that its config.json describes"
            ) from None
        raise ModelError(f"{checkpoint.id}: {first_line(error)}{about_code(error)}") from None
    return model, found


def _quantisation(quantise: str, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    heads = ["score", "classifier", "lm_head"]
    if quantise == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=heads)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=heads
    )


def is_quantised(model: Any) -> bool:
    return getattr(model.config, "quantization_config", None) is not None


def with_adapter(model: Any, adapter: Checkpoint) -> Any:
    """The model with the adapter merged into its weights, or beside them where they are quantised.

    Merging rounds the sum to 4 or 8 bit again, and moves rewards by half of their spread. Raises ModelError.
    """
    from peft import PeftModel

    put = PeftModel.from_pretrained(model, adapter.source, revision=adapter.commit)
    if not is_quantised(model):
        return put.merge_and_unload()
    if put.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"{adapter.id}: a {put.active_peft_config.peft_type} adapter cannot stand on quantised weights"
        )
    return put.base_model.model


def brought(adapter: Checkpoint) -> dict[str, int]:
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


def averaged(model: Any, other: Any, share: float, names: tuple[str, str]) -> None:
    """Puts `share` of `other` and the rest of `model` in the place of the model's weights, summed in float32 at least.

    Raises ModelError where they do not have the same tensors; `names` are what the two are called.
    """
    import torch

    if is_quantised(other):
        raise ModelError(f"{names[1]}: its weights are quantised, and cannot be averaged")
    own, others = model.state_dict(), other.state_dict()
    differing = sorted(own.keys() ^ others.keys())
    differing = differing or [name for name, tensor in own.items() if tensor.shape != others[name].shape]
    if differing:
        raise ModelError(f"{names[1]}: {listed(differing)} not alike in {names[0]}; an average takes like tensors")
    with torch.no_grad():
        seen: set[int] = set()  # tied weights are one tensor under two names
        for name, tensor in own.items():
            if tensor.is_floating_point() and tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                wide = torch.promote_types(tensor.dtype, torch.float32)
                part = others[name].to(tensor.device, wide)
                tensor.copy_(tensor.to(wide) * (1 - share) + part * share)


def read_tokenizer(words: Checkpoint, *, trust_remote_code: bool) -> Any:
    """The tokenizer of a checkpoint. Raises ModelError."""
    from transformers import AutoTokenizer

    if words.file("tokenizer_config.json") is None:
        warnings.warn(
            f"{words.id}: no tokenizer_config.json, so its special tokens are the library's guess and rewards may"
            " differ from those of the complete checkpoint",
            stacklevel=3,
        )
    try:
        return AutoTokenizer.from_pretrained(words.source, revision=words.commit, trust_remote_code=trust_remote_code)
    except Exception as error:  # the tokenizers library raises bare Exceptions for broken files
        cause = f"{type(error).__name__}: {first_line(error)}{about_code(error)}"
        raise ModelError(f"{words.id}: no tokenizer can be loaded: {cause}") from None


def positions(model: Any) -> int | None:
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


def about_code(error: Exception) -> str:
    return "; --trust-remote-code runs it" if "trust_remote_code" in str(error) else ""
