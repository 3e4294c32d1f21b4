"""The forward passes of a TokenModel: one bin after the other, hidden states read at known positions, and what to do
when memory runs out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmbench.models.base import Encoded, TokenModel
from rmbench.scoring.attention import attending, inputs_of, positions
from rmbench.scoring.plan import Bin
from rmbench.scoring.prefixes import Tree
from rmbench.types import Reward

if TYPE_CHECKING:
    import torch

_PATIENCE = 8  # bins that fit before a budget that was halved is tried larger


@dataclass(slots=True)
class Budget:
    """Tokens a forward: halved when memory runs out, doubled after some that fit, but never beyond `limit`.

    A size that fails again as soon as it is tried once more has to wait twice as long before the next time.
    """

    limit: int
    now: int = 0
    patience: int = _PATIENCE
    fitted: int = 0
    grown: bool = False  # the last change was to a larger one

    def __post_init__(self) -> None:
        self.now = self.now or self.limit

    def failed(self, tokens: int) -> None:
        """A forward of `tokens` did not fit."""
        if self.grown and self.fitted < self.patience:
            self.patience *= 2
        self.now, self.fitted, self.grown = max(1, min(self.now, tokens) // 2), 0, False

    def worked(self) -> bool:
        """A forward did fit. Whether the budget is larger now."""
        self.fitted += 1
        if self.now == self.limit or self.fitted < self.patience:
            return False
        self.now, self.fitted, self.grown = min(self.limit, self.now * 2), 0, True
        return True


def run(
    model: TokenModel,
    encoded: Sequence[Encoded],
    plan: Callable[[Sequence[Encoded], int], list[Bin]],
    budget: Budget,
) -> Iterator[tuple[Bin, list[Reward] | None]]:
    """Scores every sequence, a bin at a time: yields bins of indices into `encoded` with their rewards.

    Rewards are None for a single sequence that does not fit into memory by itself. What is left is planned anew
    whenever the budget changes.
    """
    waiting = deque(plan(encoded, budget.now))
    while waiting:
        planned = waiting.popleft()
        rewards = _read(model, [encoded[i] for i in planned.members], planned)
        if rewards is None and len(planned.members) > 1:
            budget.failed(planned.tokens)
            waiting.appendleft(planned)
            changed = True
        else:
            yield planned, rewards
            changed = rewards is not None and budget.worked()
        if changed:
            left = [i for some in waiting for i in some.members]
            again = plan([encoded[i] for i in left], budget.now)
            waiting = deque(some.renamed(left) for some in again)


def hidden_states(model: TokenModel, encoded: Sequence[Encoded], planned: Bin) -> list[torch.Tensor]:
    """Hidden states at the read positions, one [len(reads), h] tensor for each of the bin's sequences."""
    import torch

    with torch.inference_mode():
        return _padded(model, encoded) if planned.tree is None else _packed(model, encoded, planned.tree)


def _read(model: TokenModel, encoded: Sequence[Encoded], planned: Bin) -> list[Reward] | None:
    """Rewards of one bin, or None where memory ran out. The exception is gone on return, and so are its tensors."""
    try:
        return model.read(hidden_states(model, encoded, planned), encoded)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _packed(model: TokenModel, encoded: Sequence[Encoded], tree: Tree) -> list[torch.Tensor]:
    """One row of tokens, each with the position that it has in its own sequence."""
    import torch

    backbone = model.backbone
    device = next(iter(backbone.parameters())).device
    inputs: dict[str, Any] = {
        "input_ids": torch.from_numpy(tree.ids).long()[None].to(device),
        "position_ids": torch.from_numpy(positions(tree, backbone))[None].to(device),
    }
    if model.layout == "causal":
        inputs["use_cache"] = False
    types = [kind for item in encoded for kind in item.type_ids or ()]
    if types:
        inputs["token_type_ids"] = torch.tensor([types], device=device)
    with attending(backbone):
        made = inputs_of(tree, backbone, causal=model.layout == "causal")
        states = backbone(**inputs, **made).last_hidden_state[0]
    return [states[torch.from_numpy(reads).to(device)] for reads in tree.reads]


def _padded(model: TokenModel, encoded: Sequence[Encoded]) -> list[torch.Tensor]:
    """Right padding: a causal model's real tokens never see what stands behind them, so it needs no mask; others get
    one unless nothing is padded. Which id fills the padding can therefore not matter.
    """
    width = max(len(item.ids) for item in encoded)
    device = next(iter(model.backbone.parameters())).device
    inputs: dict[str, Any] = {"input_ids": _filled([item.ids for item in encoded], width).to(device)}
    if model.layout == "causal":
        inputs["use_cache"] = False
    elif any(len(item.ids) < width for item in encoded):
        inputs["attention_mask"] = _filled([[1] * len(item.ids) for item in encoded], width).to(device)
    types = [item.type_ids for item in encoded if item.type_ids is not None]
    if types:
        inputs["token_type_ids"] = _filled(types, width).to(device)
    states = model.backbone(**inputs).last_hidden_state
    return [states[row, list(item.reads)] for row, item in enumerate(encoded)]


def _filled(rows: Sequence[Sequence[int]], width: int) -> torch.Tensor:
    import torch

    filled = torch.zeros(len(rows), width, dtype=torch.long)
    for row, values in enumerate(rows):
        filled[row, : len(values)] = torch.as_tensor(values)
    return filled


def _is_out_of_memory(error: Exception) -> bool:
    # torch raises its own type on an accelerator and a bare RuntimeError from the CPU allocator
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
