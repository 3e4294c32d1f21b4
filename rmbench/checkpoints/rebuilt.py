"""Tokenizers that transformers rebuilds from the model's type, against what their own tokenizer.json does."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# digits, runs of spaces, case, contractions, accents and a superscript: where pre-tokenizers and normalisers differ
_PROBE = "Total:  1,234.50 + 20% \n\n\tdon't say «naïve» x² AGAIN"


def warn_if_rebuilt(tokenizer: Any, file: Path | None, name: str) -> None:
    """Warns where the loaded tokenizer splits a text otherwise than its own tokenizer.json does.

    transformers rebuilds some tokenizers from the model type. The loaded one is used, as everybody's is, but who
    trained with the file's should know.
    """
    for where in split_otherwise(tokenizer, file, [_PROBE]):
        warnings.warn(
            f"{name}: {type(tokenizer).__name__}, which transformers builds for this model, splits text otherwise than"
            f" the checkpoint's tokenizer.json ({where}); the loaded tokenizer is used",
            stacklevel=2,
        )


def split_otherwise(tokenizer: Any, file: Path | None, texts: Sequence[str]) -> list[str]:
    """Of each text that a loaded tokenizer and its tokenizer.json split differently, where that begins.

    Nothing of a tokenizer that has no such file, or is not read from one.
    """
    if file is None or getattr(tokenizer, "backend_tokenizer", None) is None:
        return []
    from tokenizers import Tokenizer

    written_tokenizer = Tokenizer.from_file(str(file))
    written_tokenizer.no_truncation()
    written_tokenizer.no_padding()
    places = []
    for text in texts:
        written, loaded = written_tokenizer.encode(text, add_special_tokens=False).tokens, tokenizer.tokenize(text)
        if written != loaded:
            at = next((i for i, (a, b) in enumerate(zip(written, loaded, strict=False)) if a != b), None)
            places.append("in length" if at is None else f"first at {loaded[at]!r} against {written[at]!r}")
    return places
