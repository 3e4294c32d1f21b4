"""From requests to the answers of a TokenModel: tokens, one forward for those with the same, rewards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256

import numpy as np

from rmbench.models.base import Encoded, TokenModel
from rmbench.scoring.answers import checked, nans
from rmbench.scoring.loop import forward
from rmbench.scoring.plan import distinct
from rmbench.scoring.tally import Tally
from rmbench.types import Request, Reward

_DEFAULT_BUDGET = {"cpu": 4096, "cuda": 32768, "mps": 8192}  # padded tokens a batch


def forwards(
    model: TokenModel, todo: Mapping[bytes, Request], token_budget: int | None, tally: Tally
) -> Iterator[list[tuple[bytes, Reward]]]:
    """The answers of each forward batch; requests with the same tokens share a forward."""
    keys, asked = list(todo), list(todo.values())
    encoded = model.encode(asked)
    unreadable = [i for i, item in enumerate(encoded) if item.error is not None]
    if unreadable:
        yield [(keys[i], _failed(asked[i], encoded[i], encoded[i].error)) for i in unreadable]
    read = {i: _tokens_hash(item) for i, item in enumerate(encoded) if item.error is None}
    readable = list(read)
    same = distinct(_forward_identity(encoded[i], read[i], i) for i in readable)
    groups = [[readable[place] for place in places] for places in same.values()]
    budget = token_budget or _DEFAULT_BUDGET.get(_device_type(model), _DEFAULT_BUDGET["cpu"])
    tally.token_budget = budget
    for batch, rewards in forward(model, [encoded[group[0]] for group in groups], budget):
        tally.batches += 1
        tally.tokens += sum(len(encoded[groups[place][0]].ids) for place in batch)
        answers = []
        for at, place in enumerate(batch):
            for i in groups[place]:
                if rewards is None:
                    detail = f"out of memory on a sequence of {len(encoded[i].ids):,} tokens by itself"
                    reward = _failed(asked[i], encoded[i], detail)
                else:
                    reward = replace(rewards[at], truncated=encoded[i].cut, read=read[i])
                answers.append((keys[i], checked(reward, asked[i])))
        yield answers


def _failed(request: Request, item: Encoded, detail: str | None) -> Reward:
    return Reward(nans(request), status="error", detail=detail, n_tokens=len(item.ids), truncated=item.cut)


def _tokens_hash(item: Encoded) -> str:
    """16 hex digits that tell apart what two sequences make a model read."""
    types = () if item.type_ids is None else item.type_ids
    return sha256(np.array([len(item.ids), *item.ids, *types], dtype=np.int64).tobytes()).hexdigest()[:16]


def _forward_identity(item: Encoded, read: str, index: int) -> tuple[object, ...]:
    """What has to agree for two sequences to share a forward; a family's own note is not looked into."""
    return read, item.ask, tuple(item.reads), index if item.note is not None else None


def _device_type(model: TokenModel) -> str:
    return str(next(iter(model.backbone.parameters())).device.type)
