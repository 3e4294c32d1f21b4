"""Weights in few bits: asked for, or those of the checkpoint itself."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.fingerprint import Checkpoint
from rmbench.errors import ModelError, UsageError

if TYPE_CHECKING:
    import torch

_HEADS = ["score", "classifier", "lm_head", "v_head"]


# What each choice asks of transformers, and the library that does it
LIBRARIES = {"nf4": "bitsandbytes", "int8": "bitsandbytes", "torchao-int8": "torchao"}


def check_quantise(asked: str | None, base: Checkpoint, config: Any, parts: int) -> None:
    """Raises UsageError where weights cannot be quantised, or averaged, and ModelError without the library for it."""
    quantised = describes_quantised(config)
    if asked is not None and quantised:
        raise UsageError(f"quantise={asked}: the weights of {base.id} are quantised already")
    library = LIBRARIES.get(asked or "")
    if library is not None and importlib.util.find_spec(library) is None:
        raise ModelError(f"quantise={asked} needs {library}: pip install {library}")
    if parts > 1 and (asked is not None or quantised):
        raise UsageError(f"average: weights that are quantised, as those of {base.id}, cannot be averaged")


def quantisation(quantise: str, dtype: torch.dtype) -> Any:
    """The config by which transformers quantises as it loads."""
    if LIBRARIES[quantise] == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        return TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=_HEADS)
    from transformers import BitsAndBytesConfig

    if quantise == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=_HEADS)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=_HEADS
    )


def quantisers(asked: str | None, config: Any) -> list[str]:
    """The libraries whose versions decide what quantised weights give."""
    if asked is not None:
        return [LIBRARIES[asked]]
    if not describes_quantised(config):
        return []
    described = config.quantization_config
    method = described.get("quant_method") if isinstance(described, dict) else described.quant_method
    return ["torchao"] if str(method).lower().endswith("torchao") else ["bitsandbytes"]


def describes_quantised(config: Any) -> bool:
    return getattr(config, "quantization_config", None) is not None


def is_quantised(model: Any) -> bool:
    """Whether a model's weights are quantised, by its config or by what it holds."""
    return describes_quantised(model.config) or any(
        weight.ndim > 1 and not weight.is_floating_point() for weight in model.parameters()
    )
