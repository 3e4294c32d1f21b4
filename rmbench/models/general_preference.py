"""General Preference Models: responses embedded apart, and a form that turns one embedding to the other.

score = u^T R v over embeddings u and v of unit length, R made of 2 x 2 blocks that are skew: the score of the second
against the first is minus that of the first against the second, and of three responses each may beat the next. Each
block has a weight, the softmax of a second head read where the first turn of the prompt ends, or 1 where there is no
such head. Defined in general-preference/general-preference-model@a376d95e:gpm_example_usage.py.

A response is embedded once, whatever it is compared with: the vector of an `embedding` is its own d numbers, then the
d / 2 weights of the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.forms import Form
from rmbench.checkpoints.rendering import Rendering, form_of
from rmbench.errors import ModelError
from rmbench.models.base import Encoded, Subject
from rmbench.models.reader import Built, Loaded
from rmbench.types import Ask, Json, Question, Request, Reward

if TYPE_CHECKING:
    import torch

HEADS = ("value_head.weight", "prompt_head.weight")
INTRANSITIVE = "preferences may go round in circles: who beats whom is no order of responses"


@dataclass(frozen=True, slots=True)
class GeneralPreference:
    """A Derived that compares two embeddings: the first wins with sigmoid(score / `tau`)."""

    subject: Subject
    fingerprint: str
    members: tuple[Any, ...]
    tau: float
    answers: frozenset[Ask] = frozenset({"compare"})
    most: int = 2

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        """Two embeddings a question: of each response, or of what shows no pair its first, for `combine` to tell."""
        return [
            [
                question.alone(at if len(question.request.responses) == 2 else 0, "embedding")
                for question in questions
                for at in range(2)
            ]
        ]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        """Nothing is fitted."""
        return None

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        """The win masses of each pair; what has no embedding has none, and says why."""
        (embedded,) = answers
        return [
            self._compared(*embedded[2 * at : 2 * at + 2]) if shown == 2 else _no_pair(shown)
            for at, shown in enumerate(len(question.request.responses) for question in questions)
        ]

    def _compared(self, first: Reward, second: Reward) -> Reward:
        lost = next((one for one in (first, second) if one.status != "ok"), None)
        if lost is not None:
            made = Reward((math.nan, math.nan), status=lost.status, detail=lost.detail)
        else:
            score = _score(first.vectors[0], second.vectors[0]) / self.tau
            made = Reward((won(score), won(-score)), status="nan" if math.isnan(score) else "ok")
        return replace(
            made,
            n_tokens=first.n_tokens + second.n_tokens,
            truncated=first.truncated + second.truncated,
            noted=tuple(dict.fromkeys((*first.noted, *second.noted))),
        )


def _no_pair(shown: int) -> Reward:
    told = f"{shown} response{'s' if shown > 1 else ''}; expected two, which are compared"
    return Reward((math.nan,) * shown, status="error", detail=told)


def won(lead: float) -> float:
    """The win mass of who leads by so many logits; of a lead and its negative they sum to 1."""
    if math.isnan(lead):
        return lead
    return 1 / (1 + math.exp(-lead)) if lead >= 0 else math.exp(lead) / (1 + math.exp(lead))


def _score(u: Sequence[float], v: Sequence[float]) -> float:
    """u^T R v, R weighted as the first was read: both have the same prompt."""
    dim = 2 * len(u) // 3
    return math.fsum(u[dim + at // 2] * (u[at] * v[at + 1] - u[at + 1] * v[at]) for at in range(0, dim, 2))


@dataclass(frozen=True, slots=True)
class Embedding:
    """The rule of the member: a conversation whose last token is an EOS, read there and where its first turn ends."""

    rendering: Rendering
    value: torch.Tensor
    blocks: torch.Tensor | None

    def form(self, request: Request) -> Form | None:
        """The conversation."""
        return form_of(request)

    def placed(self, one: Encoded, request: Request) -> Encoded:
        """With an EOS for its last token, as the authors have it."""
        last = len(one.ids) - 1
        first = self.rendering.encode_forms([Form(request.prompt[:1])])[0] if request.prompt else one
        ends = last if first.error is not None else min(len(first.ids) - 1, last)
        return replace(one, ids=[*one.ids[:-1], self.rendering.tokenizer.eos_token_id], reads=(ends, last))

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """One vector a response: the embedding, and the weights of the blocks."""
        import torch

        states = torch.stack(list(hidden)).to(self.value.device, self.value.dtype)
        vectors = torch.nn.functional.normalize(states[:, 1] @ self.value.T, dim=-1)
        alike = torch.ones_like(vectors[:, ::2])
        blocks = alike if self.blocks is None else (states[:, 0] @ self.blocks.T).softmax(-1)
        rows = torch.cat([vectors, blocks], -1).tolist()
        return [Reward((math.nan,), vectors=(tuple(row),)) for row in rows]


def built(loaded: Loaded) -> Built:
    """The rule over loaded weights. Raises ModelError for heads of another shape."""
    value = loaded.tensor(HEADS[0], None, loaded.width)
    dim = value.shape[0]
    if dim % 2:
        raise ModelError(f"{loaded.name}: {HEADS[0]} has {dim} rows; expected an even number, two for each block")
    if loaded.rendering.tokenizer.eos_token_id is None:
        raise ModelError(f"{loaded.name}: the tokenizer has no EOS, at which the embedding is read")
    blocks = loaded.tensor(HEADS[1], dim // 2, loaded.width) if HEADS[1] in loaded.tensors else None
    rule = Embedding(loaded.rendering, value, blocks)
    return Built(rule, facts={"dimensions": dim, "blocks": "by the prompt" if blocks is not None else "alike"})
