"""Decoding with what rows share computed once, and rows that leave when they end and make room for those that wait.

The rows of a batch stand right-aligned in one cache, each at positions of its own, so that a row can leave or enter
between any two tokens. A prompt is prefilled once for all of its samples, and the tokens that prompts begin with alike
once for all of them where that pays.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.weights import unsteady_ropes
from rmbench.device import out_of_memory, release

if TYPE_CHECKING:
    import torch

    Draws = Callable[[torch.Tensor, Sequence[str], Sequence[int]], torch.Tensor]

# To drop or add rows copies the cache, as every step does once: below an eighth of the batch that is not won back soon
_PART = 8
# Tokens that a forward of few tokens costs at least: it reads all weights, and that takes an accelerator as long as
# to compute with them on about 200 tokens (arithmetic over bandwidth, in 16 bit); a core breaks even far below
_FORWARD = 256


@dataclass(slots=True, eq=False)
class Draft:
    """A response in the making: `cap` and `new` count tokens, `key` decides its luck."""

    index: int
    prompt: list[int]
    key: str
    cap: int
    new: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.new

    @property
    def needed(self) -> int:
        return len(self.prompt) + self.cap


class TooLargeError(Exception):
    """Memory runs out on `row` alone."""

    def __init__(self, row: Draft) -> None:
        self.row = row


@dataclass(slots=True)
class RowBudget:
    """Tokens that a batch may hold, prompts and caps together: halved where memory runs out, doubled in calm times."""

    most: int
    tokens: int = field(init=False)
    calm: int = 0  # tokens of the responses since the last change
    patience: int = 4  # batches of them before the next

    def __post_init__(self) -> None:
        self.tokens = self.most

    def holds(self, needed: int) -> int:
        """How many rows that need `needed` tokens fit: at least one, which may be larger than the budget."""
        return max(self.tokens // needed, 1)

    def halve(self, needed: int, count: int) -> None:
        """After `count` rows of `needed` tokens were too many. Each time, the way back takes twice as long."""
        self.tokens, self.calm, self.patience = max(needed * (count // 2), 1), 0, 2 * self.patience

    def ended(self, needed: int) -> None:
        """A response that needed so many tokens is there."""
        self.calm += needed
        if self.tokens < self.most and self.calm >= self.patience * self.tokens:
            self.tokens, self.calm = min(2 * self.tokens, self.most), 0


def write(model: Any, rows: Sequence[Draft], draw: Draws, ends: frozenset[int], budget: RowBudget) -> Iterator[Draft]:
    """Writes `rows`, the longest first, and yields each as soon as it ends. Raises TooLargeError.

    Where memory runs out, the rows of the batch wait again and go on later from what they have.
    """
    waiting = deque(_ordered(rows))
    batch = _Batch(model, draw, ends)
    while waiting or batch.rows:
        entering = _admitted(batch.rows, waiting, budget)
        fits = _tried(batch, entering)
        ended, batch.ended = batch.ended, []
        for row in ended:
            budget.ended(row.needed)
            yield row
        if not fits:
            running = [row for row in (*batch.rows, *entering) if row is not None]
            alone = len(batch.rows) + len(entering) == 1 and batch.prefilled is None
            stopped = [row for row in running if not batch.over(row)]
            if alone:
                raise TooLargeError(running[0])
            budget.halve(max(row.needed for row in running), len(batch.rows) + len(entering))
            waiting = deque(_ordered([*stopped, *waiting]))
            batch = _Batch(model, draw, ends)
            release()


def _ordered(rows: Sequence[Draft]) -> list[Draft]:
    """Longest first, so that memory runs out at once or never; samples of a prompt side by side."""
    first: dict[tuple[int, ...], int] = {}
    for row in rows:
        first.setdefault(tuple(row.prompt), row.index)
    return sorted(rows, key=lambda row: (-row.needed, first[tuple(row.prompt)], row.index))


def _admitted(running: Sequence[Draft | None], waiting: deque[Draft], budget: RowBudget) -> list[Draft]:
    """The rows that enter now, taken off `waiting`: none before there is room for enough of them."""
    if not waiting:
        return []
    limit = budget.holds(max(row.needed for row in (waiting[0], *running) if row is not None))
    room = min(limit - len(running), len(waiting))
    if running and room < min(max(limit // _PART, 1), len(waiting)):
        return []
    return [waiting.popleft() for _ in range(room)]


def _tried(batch: _Batch, entering: list[Draft]) -> bool:
    """One token for those that enter, or else for all. False where memory ran out; the exception is gone then."""
    try:
        if entering:
            batch.enter(entering)
        elif batch.block is not None:
            batch.step(batch.block)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return False
    return True


@dataclass(slots=True, eq=False)
class _Block:
    """Rows of a cache: `mask` [b, w] is 1 where a column holds a token of the row; the last column ends every row."""

    cache: Any
    mask: torch.Tensor

    def row(self, index: int, tokens: int, times: int = 1) -> _Block:
        """A copy of the first tokens of one row, so many times."""
        from transformers import DynamicCache

        columns = self.mask[index].nonzero()[:tokens, 0]
        mask = self.mask[index, columns].expand(times, -1)
        pairs = ((layer.keys, layer.values) for layer in self.cache.layers)
        copies = [
            tuple(states[index, :, columns.to(states.device)].expand(times, -1, -1, -1) for states in pair)
            for pair in pairs
        ]
        return _Block(DynamicCache(copies), mask)

    def keep(self, rows: Sequence[int]) -> None:
        """Leaves these rows, each as often as it is named, and the columns that they use."""
        import torch

        index = torch.tensor(rows, device=self.mask.device)
        mask = self.mask[index]
        first = int(mask.any(0).int().argmax())
        self.mask = mask[:, first:]
        for layer in self.cache.layers:
            own = index.to(layer.keys.device)
            layer.keys, layer.values = layer.keys[own, :, first:], layer.values[own, :, first:]

    def join(self, other: _Block) -> None:
        """Puts the rows of `other`, which is used up, behind its own."""
        import torch
        from torch.nn.functional import pad

        width = max(self.mask.shape[1], other.mask.shape[1])
        self.mask = torch.cat([pad(mask, (width - mask.shape[1], 0)) for mask in (self.mask, other.mask)])
        for ours, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            for name in ("keys", "values"):
                both = [getattr(layer, name) for layer in (ours, theirs)]
                setattr(theirs, name, None)
                setattr(ours, name, torch.cat([pad(states, (0, 0, width - states.shape[2], 0)) for states in both]))


class _Batch:
    """Rows that are written together. A row that ended goes to `ended`; None holds its place until enough have."""

    def __init__(self, model: Any, draw: Draws, ends: frozenset[int]) -> None:
        self.model, self.draw, self.ends = model, draw, ends
        self.rows: list[Draft | None] = []
        self.ended: list[Draft] = []
        self.block: _Block | None = None
        self.prefilled: tuple[list[int], _Block, torch.Tensor] | None = (
            None  # the last prompt, and the logits behind it
        )

    def over(self, row: Draft) -> bool:
        """Whether nothing follows what the row has."""
        return len(row.new) == row.cap or (bool(row.new) and row.new[-1] in self.ends)

    def enter(self, rows: Sequence[Draft]) -> None:
        """Prefills each different prompt once and draws the first token of each row."""
        import torch

        ready: list[tuple[_Block, list[Draft]]] = []
        alone = not self.rows and len(rows) == 1  # has to fit beside nothing
        with torch.inference_mode():
            if self.prefilled is not None:
                ids, block, logits = self.prefilled
                again = [row for row in rows if row.ids == ids]
                rows = [row for row in rows if row.ids != ids]
                if again:
                    ready.append(self._started(again, [0] * len(again), block.row(0, len(ids)), logits))
            if rows:
                different: dict[tuple[int, ...], int] = {}
                at = [different.setdefault(tuple(row.ids), len(different)) for row in rows]
                prompts = [list(ids) for ids in different]
                block, logits = self._prefilled(prompts)
                if not alone:
                    last = prompts[-1]
                    self.prefilled = last, block.row(len(prompts) - 1, len(last)), logits[-1:].clone()
                ready.append(self._started(rows, at, block, logits))
            for block, started in ready:
                if not started:
                    continue
                if self.block is None:
                    self.block = block
                else:
                    self.block.join(block)
            # At last: where memory runs out before, the rows are those that enter and not also the batch's
            self.rows += [row for _, started in ready for row in started]

    def step(self, block: _Block) -> None:
        """One more token for every row; `block` is the batch's."""
        import torch

        device = block.mask.device
        with torch.inference_mode():
            last = torch.tensor([[0 if row is None else row.new[-1]] for row in self.rows], device=device)
            # A row that ended gains no column: its position, which nobody reads, stays one that the model has
            positions = block.mask.sum(1, keepdim=True)
            gained = torch.tensor([[int(row is not None)] for row in self.rows], device=device)
            block.mask = torch.cat([block.mask, gained], 1)
            logits = self._forward(last, positions, block)
            live = [place for place, row in enumerate(self.rows) if row is not None]
            if len(live) < len(self.rows):
                logits = logits[live]
            self._take([row for row in self.rows if row is not None], logits)
            self.rows = [None if row is None or self.over(row) else row for row in self.rows]
            live = [place for place, row in enumerate(self.rows) if row is not None]
            if not live:
                self.rows, self.block = [], None
            elif (len(self.rows) - len(live)) * _PART >= len(self.rows):
                block.keep(live)
                self.rows = [self.rows[place] for place in live]

    def _take(self, rows: Sequence[Draft], logits: torch.Tensor) -> None:
        tokens = self.draw(logits, [row.key for row in rows], [len(row.new) for row in rows])
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.new.append(token)
            if self.over(row):
                self.ended.append(row)

    def _started(
        self, rows: Sequence[Draft], at: Sequence[int], block: _Block, logits: torch.Tensor
    ) -> tuple[_Block, list[Draft]]:
        """The rows that go on after their first token, with a cache of their own each. `at` is a row's place."""
        self._take(rows, logits[list(at)])
        left = [number for number, row in enumerate(rows) if not self.over(row)]
        places = [at[number] for number in left]
        if places and places != list(range(block.mask.shape[0])):
            block.keep(places)
        return block, [rows[number] for number in left]

    def _prefilled(self, prompts: Sequence[list[int]]) -> tuple[_Block, torch.Tensor]:
        """The cache of each prompt and the logits [b, v] of what follows it."""
        import torch

        device = self.model.get_input_embeddings().weight.device
        block = self._begun(prompts)
        before = block.mask.shape[1]
        width = max(map(len, prompts)) - before
        padded, mask = torch.zeros((2, len(prompts), width), dtype=torch.long)
        for row, ids in enumerate(prompts):
            start = width - (len(ids) - before)
            padded[row, start:] = torch.tensor(ids[before:])
            mask[row, start:] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0) + before
        block.mask = torch.cat([block.mask, mask.to(device)], 1)
        return block, self._forward(padded.to(device), positions.to(device), block)

    def _begun(self, prompts: Sequence[list[int]]) -> _Block:
        """What these prompts begin with: of the last one, or computed where that saves more than a forward costs."""
        import torch
        from transformers import DynamicCache

        device = self.model.get_input_embeddings().weight.device
        # The last token of each prompt gives its logits
        alike = min(_alike(min(prompts), max(prompts)), min(map(len, prompts)) - 1)
        shared = 0 if self.prefilled is None else min(alike, _alike(self.prefilled[0], prompts[0]))
        if alike * (len(prompts) - 1) - _FORWARD > shared * len(prompts):
            head = _Block(DynamicCache(), torch.ones((1, alike), dtype=torch.long, device=device))
            ids = torch.tensor([prompts[0][:alike]], device=device)
            self._forward(ids, torch.arange(alike, device=device)[None], head)
            return head.row(0, alike, len(prompts))
        if self.prefilled is not None and shared:
            return self.prefilled[1].row(0, shared, len(prompts))
        return _Block(DynamicCache(), torch.ones((len(prompts), 0), dtype=torch.long, device=device))

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, block: _Block) -> torch.Tensor:
        """Logits [b, v] after the last of `ids` [b, q], in float32; the cache of `block` gains q columns."""
        import torch

        output = self.model(
            input_ids=ids,
            attention_mask=block.mask,
            position_ids=positions,
            past_key_values=block.cache,
            use_cache=True,
            logits_to_keep=1,
            return_dict=True,
        )
        logits: torch.Tensor = output.logits[:, -1].to(torch.float32)
        return logits


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
                min(len(one), len(other)))  # fmt: skip


def shares(model: Any) -> bool:
    """Whether rows of the model can share, leave and enter: code of transformers, full attention in every layer."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    if not type(model).__module__.startswith("transformers.") or model.config.is_encoder_decoder:
        return False
    if unsteady_ropes(model.config):  # a row's rotation would depend on the longest row, and change as that grows
        return False
    if not {"position_ids", "past_key_values", "logits_to_keep"} <= set(inspect.signature(model.forward).parameters):
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
