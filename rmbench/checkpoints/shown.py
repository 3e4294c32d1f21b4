"""A request as a model gets it, to be looked at: the whole text, its last tokens, and where the reward is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.models.base import Encoded

_LAST = 8  # tokens
_HEAD, _TAIL = 700, 300  # characters of a long text
_FEW = 3  # tokens that are each named


@dataclass(frozen=True, slots=True)
class Shown:
    """`text` is what the ids say, special tokens and whatever the template added among it; `last` are the last tokens.

    `reads` are the tokens that the reward is read at, counted from the end: 0 is the last; none where the model reads
    by a rule of its own. `error` is why there is no text.
    """

    text: str
    n_tokens: int
    last: tuple[str, ...]
    reads: tuple[int, ...]
    noted: tuple[str, ...] = ()
    error: str | None = None

    def lines(self) -> list[str]:
        """For a terminal; of a long text its beginning and its end."""
        if self.error is not None:
            return [f"the first request cannot be read: {self.error}"]
        text, left = self.text, len(self.text) - _HEAD - _TAIL
        if left > 0:
            text = f"{text[:_HEAD]} ... {left:,} characters ... {text[-_TAIL:]}"
        ends = " ".join(map(repr, self.last))
        return [
            f"the first request as the model gets it, {self.n_tokens:,} tokens: {text!r}",
            f"its last tokens are {ends}; the reward is read {self._place() or 'by a rule of the model itself'}",
            *(f"noted: {reason}" for reason in self.noted),
        ]

    def _place(self) -> str:
        if len(self.reads) == self.n_tokens > 1:
            return "as a mean over all tokens"
        if len(self.reads) > _FEW:
            return f"at {len(self.reads)} tokens, the first {self._token(self.reads[0])}"
        return ", and beside it ".join(self._token(read) for read in self.reads)

    def _token(self, read: int) -> str:
        if read == self.n_tokens - 1:
            return "at the first token"
        token = repr(self.last[-1 - read]) if read < len(self.last) else "a token"
        return f"at {token}, the last token" if read == 0 else f"at {token}, {read} before the last token"


def shown(tokenizer: Any, encoded: Encoded) -> Shown:
    """What a model is shown of an encoded request."""
    if encoded.error is not None:
        return Shown("", 0, (), (), encoded.noted, encoded.error)
    ids: Sequence[int] = [int(token) for token in encoded.ids]
    last = tuple(tokenizer.decode([token]) for token in ids[-_LAST:])
    reads = tuple(len(ids) - 1 - int(read) for read in encoded.reads)
    return Shown(tokenizer.decode(ids), len(ids), last, reads, encoded.noted)
