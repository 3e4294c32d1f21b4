"""The special tokens around a text: the tokenizer's own, and a BOS as it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rmbench.models.base import Option

BOS = Option(
    "auto: one BOS where the tokenizer adds one or the template writes one; tokenizer: only where the"
    " tokenizer adds one; own: one where it has one; none: without; one: exactly one; both: the"
    " tokenizer's special tokens beside those that the template writes; template: these alone",
    default="auto",
    choices=("auto", "tokenizer", "own", "none", "one", "both", "template"),
)
_SETTLED = frozenset({"none", "one", "tokenizer"})  # which say whether there is a BOS, whoever would write it


@dataclass(frozen=True)
class Specials:
    """`asked` is a choice of `BOS` but own; `writes` is whether a template writes what stands before, and after."""

    tokenizer: Any
    asked: str
    writes: tuple[bool, bool]

    @property
    def is_settled(self) -> bool:
        """Whether there is a BOS, or none, whoever would write it."""
        return self.asked in _SETTLED

    @property
    def before(self) -> list[int]:
        """The ids that stand before a text."""
        return self.around[0]

    @property
    def after(self) -> list[int]:
        """The ids that stand after a text."""
        return self.around[1]

    @cached_property
    def around(self) -> tuple[list[int], list[int]]:
        """The ids that stand before and after a text."""
        before, after = self._added
        if self.is_settled:
            before = [*self.bos, *(token for token in before if token != self.tokenizer.bos_token_id)]
        return before, after

    @cached_property
    def _added(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts before and after a text."""
        bare = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        full = self.tokenizer("a", add_special_tokens=True)["input_ids"]
        start = place_of(bare, full)
        return ([], []) if start is None else (full[:start], full[start + len(bare) :])

    @property
    def bos(self) -> list[int]:
        """The BOS that was asked for, where that is settled."""
        bos = self.tokenizer.bos_token_id
        return [bos] if self.asked == "one" or (self.asked == "tokenizer" and bos in self._added[0]) else []

    def count_bos(self, ids: Sequence[int]) -> int:
        """How many BOS the ids begin with."""
        return next((at for at, token in enumerate(ids) if token != self.tokenizer.bos_token_id), len(ids))

    def put(self, ids: list[int], due: bool) -> list[int]:
        """The ids of a template's text with what belongs around it, with nothing behind where an answer is `due`."""
        before, after = self.around
        if self.asked == "template":
            return ids
        if self.asked == "both":
            return [*before, *ids, *([] if due else after)]
        start, end = self._places(ids)
        closing = [] if due or end is not None else after
        if self.asked == "auto":
            return [*([] if start is not None else before), *ids, *closing]
        rest, others = self._without_bos(ids), before[len(self.bos) :]
        return [*self.bos, *([] if rest[: len(others)] == others else others), *rest, *closing]

    def _without_bos(self, ids: list[int]) -> list[int]:
        """The ids of a template's text without any BOS that it begins with, be it behind white space."""
        bos = self.tokenizer.bos_token_id
        at = next((at for at, token in enumerate(ids) if token == bos), len(ids))
        if at == len(ids) or self.tokenizer.decode(ids[:at]).strip():
            return ids
        return self._without_bos([*ids[:at], *ids[at + 1 :]])

    def _places(self, ids: list[int]) -> tuple[int | None, int | None]:
        """Where in the ids of a template's text stands what the tokenizer puts before and after one, if it does.

        A template that writes it may do so behind or before white space; elsewhere it only counts at the very ends.
        """
        before, after = self.around
        last = len(ids) - len(after)
        starts = range(len(ids) - len(before) + 1) if self.writes[0] else (0,)
        ends = range(last, -1, -1) if self.writes[1] else (last,)
        start = next((i for i in starts if ids[i : i + len(before)] == before), None)
        return start, next((i for i in ends if i >= 0 and ids[i : i + len(after)] == after), None)

    def mask(self, ids: list[int]) -> list[int]:
        """1 where one of the special tokens stands that belong around the ids of a template's text, else 0."""
        mask = [0] * len(ids)
        for first, special in zip(self._places(ids), self.around, strict=True):
            at = len(ids) if first is None else first
            # twice, where the template and the tokenizer write it
            while special and ids[at : at + len(special)] == special:
                mask[at : at + len(special)] = [1] * len(special)
                at += len(special)
        return mask


def place_of(few: Sequence[int], many: Sequence[int], likely: int = 0) -> int | None:
    """Where `few` stand among `many`: where it is likely, or else the first place."""
    starts = range(len(many) - len(few) + 1)
    return next((i for i in (likely, *starts) if i in starts and many[i : i + len(few)] == few), None)
