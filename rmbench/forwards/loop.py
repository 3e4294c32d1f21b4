"""The forward passes of a TokenModel: one bin after the other, hidden states read at known positions, and what to do
when memory runs out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from rmbench.device import device_of, out_of_memory
from rmbench.errors import RmbenchError
from rmbench.forwards.attention import attending, inputs_of, positions
from rmbench.forwards.budget import TokenBudget
from rmbench.forwards.plan import Bin
from rmbench.forwards.prefixes import Tree
from rmbench.forwards.tail import only_at
from rmbench.models.base import Encoded, TokenModel, failed
from rmbench.types import Reward

if TYPE_CHECKING:
    import torch

Job = tuple[Bin, list[Encoded]]

# What makes a forward packed is set on the backbone itself, so threads that share one take turns
_turns: WeakKeyDictionary[Any, Lock] = WeakKeyDictionary()


class Workers(Protocol):
    """Other processes with the same model, on devices of their own."""

    def work(self, model: TokenModel, bins: Iterator[Job]) -> Iterator[tuple[Bin, list[Reward] | None]]:
        """The rewards of each bin, in any order, None where memory ran out; `bins` is asked when somebody is free."""


class Hosts(Protocol):
    """What has a model run elsewhere, on other devices of this machine or of a cluster.

    The hosts only compute: the process that asks them plans, and alone opens the store.
    """

    def holding(
        self, spec: Any, options: Mapping[str, Any], fingerprint: str | None
    ) -> AbstractContextManager[Workers]:
        """Workers for the model that `spec` names, opened by each host with `options`; it is the one of `fingerprint`,
        or a ModelError is raised."""


def run(
    model: TokenModel,
    encoded: Sequence[Encoded],
    plan: Callable[[Sequence[Encoded], int], list[Bin]],
    budget: TokenBudget,
    workers: Workers | None = None,
) -> Iterator[tuple[Bin, list[Reward] | None]]:
    """Scores every sequence, a bin at a time: yields bins of indices into `encoded` with their rewards.

    Rewards are None for a single sequence that does not fit into memory by itself. What is left is planned anew
    whenever the budget changes, and where it has a pace whenever that does. With `workers` the bins are shared out.
    """
    waiting = deque(plan(encoded, budget.now))
    begun: dict[int, float] = {}  # when each bin was handed out, by its first sequence

    def jobs() -> Iterator[Job]:
        while waiting:
            planned = waiting.popleft()
            begun[planned.members[0]] = time.perf_counter()
            yield planned, [encoded[i] for i in planned.members]

    while waiting:  # a worker may hand back what does not fit when the others have nothing left
        for planned, rewards in _here(model, jobs()) if workers is None else workers.work(model, jobs()):
            seconds = time.perf_counter() - begun.pop(planned.members[0])
            if rewards is None and len(planned.members) > 1:
                budget.failed(planned.tokens)
                waiting.appendleft(planned)
                changed = True
            else:
                yield planned, rewards
                changed = rewards is not None and budget.worked()
                if rewards is not None and budget.pace is not None:
                    changed |= budget.pace.ran(planned.tokens, planned.cost, seconds)
            if changed:
                left = [i for later in waiting for i in later.members]
                again = plan([encoded[i] for i in left], budget.now)
                waiting = deque(later.renamed(left) for later in again)


def share_turns(one: Any, other: Any) -> None:
    """Has forwards of two backbones with the same settings take turns, as those of one do."""
    _turns[one] = _turns.setdefault(other, Lock())


def _here(model: TokenModel, bins: Iterator[Job]) -> Iterator[tuple[Bin, list[Reward] | None]]:
    for planned, encoded in bins:
        yield planned, rewards_of(model, encoded, planned)


def rewards_of(model: TokenModel, encoded: Sequence[Encoded], planned: Bin) -> list[Reward] | None:
    """Rewards of one bin, or None where memory ran out. The exception is gone on return, and so are its tensors."""
    try:
        return _read(model, hidden_states(model, encoded, planned), encoded)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    device_of(model.backbone).release()
    return None


def _read(model: TokenModel, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
    try:
        return model.read(hidden, encoded)
    except RmbenchError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise failed(model, error) from error


def hidden_states(model: TokenModel, encoded: Sequence[Encoded], planned: Bin) -> list[torch.Tensor]:
    """Hidden states at the read positions, one [len(reads), h] tensor for each of the bin's sequences."""
    import torch

    with _turns.setdefault(model.backbone, Lock()), device_of(model.backbone).running(), torch.inference_mode():
        return _padded(model, encoded) if planned.tree is None else _packed(model, encoded, planned.tree)


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
    places = [torch.from_numpy(reads).to(device) for reads in tree.reads]
    with attending(backbone), only_at(backbone, torch.unique(torch.cat(places))):
        made = inputs_of(tree, backbone, causal=model.layout == "causal")
        states = backbone(**inputs, **made).last_hidden_state[0]
    return [states[place] for place in places]


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
