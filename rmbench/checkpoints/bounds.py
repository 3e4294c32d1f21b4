"""What a checkpoint may ask for: sizes that its weights bear out, texts that do not explode, and patterns that end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rmbench.checkpoints.fingerprint import Checkpoint
from rmbench.errors import ModelError

_MOST = 2**31  # of any number in a config; some state it where they mean no limit
_MOST_ADAPTED = 2**16  # of a rank or size in an adapter's config, unless its weights are larger
_COUNTS = re.compile(r"layers?|blocks?|labels|experts|stages|n_head|num_heads|attention_heads")
_MOST_COUNTED = 2**16
_ANY = re.compile(r"theta|seed|base")  # no list and no loop is as long as these
_SIZES = re.compile(r"(^|_)(r|rank|dim|size|tokens|layers|heads|frequency|submodules|blocks?)($|_)")
_MOST_GROWTH = 1000  # times that a normalizer may lengthen a text
_SECONDS = 5  # for all patterns of an adapter on all modules of a model
_REPEATED = re.compile(r"[*+{]")
_MATCH = "import json, re, sys; p, n = json.load(sys.stdin); [re.match(a, b) for a in p for b in n]"


def check_numbers(checkpoint: Checkpoint) -> None:
    """Raises ModelError for a number in config.json that no model has: a library would make lists or loops of it."""
    for name, number in _numbers(checkpoint.json("config.json") or {}):
        most = _MOST_COUNTED if _COUNTS.search(name) else _MOST
        if abs(number) > most and not _ANY.search(name):
            raise ModelError(f"{checkpoint.id}: config.json has {name} {_short(number)}; expected at most {most:,}")


def check_adapter_numbers(adapter: Checkpoint, config: Mapping[str, Any], shapes: Iterable[Sequence[int]]) -> None:
    """Raises ModelError for a rank or size in adapter_config.json that its weights do not have."""
    most = max([_MOST_ADAPTED, *(side for shape in shapes for side in shape)])
    for name, number in _numbers(config):
        if _SIZES.search(name) and abs(number) > most:
            raise ModelError(
                f"{adapter.id}: adapter_config.json has {name} {_short(number)}; its weights have at most {most:,}"
            )


def check_normalizer(words: Checkpoint) -> None:
    """Raises ModelError for a tokenizer.json whose normalizer makes a text very much longer."""
    path = words.file("tokenizer.json")
    raw = b"" if path is None else path.read_bytes()
    if not re.search(rb"Replace|Prepend|\\u00[4-7]", raw):  # tokenizers are large, and most have neither
        return
    growth = _growth((words.json("tokenizer.json") or {}).get("normalizer"))
    if growth > _MOST_GROWTH:
        raise ModelError(
            f"{words.id}: tokenizer.json has a normalizer that makes a text up to {growth:.3g} times as long;"
            f" expected at most {_MOST_GROWTH:,}"
        )


def check_patterns(adapter: Checkpoint, config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises ModelError where the patterns of adapter_config.json do not end on the names of a model's modules.

    Nothing stops a pattern in this process, so those that repeat something are tried in another.
    """
    patterns = [pattern for pattern in _patterns(config) if _REPEATED.search(pattern)]
    if not patterns:
        return
    try:
        subprocess.run(  # noqa: S603  this interpreter, with a program of its own
            [sys.executable, "-I", "-S", "-c", _MATCH],
            input=json.dumps([patterns, list(names)]).encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,  # a pattern that is none is for loading to tell
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{adapter.id}: adapter_config.json: {_short(max(patterns, key=len))} takes more than {_SECONDS} s to match"
            " the names of the model's modules"
        ) from None


@contextmanager
def bounded(checkpoint: Checkpoint, what: str, shapes: Mapping[str, Sequence[int]], size: int) -> Iterator[None]:
    """Raises ModelError where a model is made with many more tensors, or much larger ones, than files hold.

    `what` is the file that describes it; `shapes` are those of the weights there are, `size` their bytes.
    """
    from torch.nn.modules.module import (
        register_module_buffer_registration_hook,
        register_module_parameter_registration_hook,
    )

    most_tensors, most_numbers = 4 * len(shapes) + 2000, 16 * size + 2**24  # packed weights hold many in a byte
    here, tensors, numbers = threading.get_ident(), 0, 0

    def count(module: Any, name: str, tensor: Any) -> None:
        nonlocal tensors, numbers
        if tensor is None or threading.get_ident() != here:
            return
        tensors, numbers = tensors + 1, numbers + tensor.numel()
        if tensors > most_tensors or numbers > most_numbers:
            raise ModelError(
                f"{checkpoint.id}: {what} describes more than {min(tensors, most_tensors):,} tensors with"
                f" {_short(numbers)} numbers; its files hold {len(shapes):,} tensors in {size:,} bytes"
            )

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _numbers(value: Any) -> Iterator[tuple[str, int]]:
    """Every whole number of a config with the names of the fields that it stands in."""
    waiting = [("", value)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}" if name else key, one) for key, one in value.items()]
        elif isinstance(value, list):
            waiting += [(name, one) for one in value]
        elif isinstance(value, int):
            yield name, value


def _short(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) and abs(value) < 10**18 else str(value)[:40]
    return text if len(text) < 40 else f"{text}..."


def _growth(normalizer: Any) -> float:
    """How many times as long as before a text may be after a normalizer of the tokenizers library."""
    if not isinstance(normalizer, dict):
        return 1.0
    if normalizer.get("type") == "Sequence":
        growth = 1.0
        for one in normalizer.get("normalizers") or ():
            growth *= _growth(one)
        return growth
    if normalizer.get("type") != "Replace":
        return 1.0
    pattern, content = normalizer.get("pattern"), normalizer.get("content")
    if not isinstance(pattern, dict) or not isinstance(content, str):
        return 1.0
    if isinstance(pattern.get("String"), str):
        return max(1.0, len(content) / max(1, len(pattern["String"])))
    return max(1.0, len(content) + (1 if _matches_nothing(str(pattern.get("Regex"))) else 0))


def _matches_nothing(pattern: str) -> bool:
    try:
        return re.match(re.sub(r"\\[pP]\{[^}]*\}", r"\\w", pattern), "") is not None
    except re.error:  # of the dialect that only the tokenizers library knows
        return True


def _patterns(config: Mapping[str, Any]) -> list[str]:
    """What PEFT matches against names of modules."""
    patterns: list[str] = []
    for field in ("target_modules", "exclude_modules", "layers_pattern", "target_parameters", "modules_to_save",
                  "rank_pattern", "alpha_pattern"):  # fmt: skip
        value = config.get(field) or ()
        patterns += [value] if isinstance(value, str) else [str(one) for one in value if isinstance(one, str)]
    return [part for pattern in patterns for part in (pattern + r"\Z", rf"(.*\.)?({pattern})$")]
