"""Tiny models with the attention of real architectures that answer every ask, and what one forward at a time gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal
from unittest.mock import patch

import torch
from checkpoints import ARCHITECTURES

from rmbench.forwards import loop
from rmbench.forwards.cost import Cost
from rmbench.forwards.fastpath import DECODERS
from rmbench.models.base import Encoded, Subject
from rmbench.types import Ask, Message, Request, Response, Reward

ASKS: tuple[Ask, ...] = ("reward", "steps", "tokens", "compare")
FREE = Cost(token=1.0, pair=0.0, call=0.0, merge=0.0)  # whatever can be shared is
VOCABULARY = 40


def backbone(architecture: str, dtype: torch.dtype = torch.float32, **values: Any) -> Any:
    """Two layers of 32 units without a head; no weight is so small, and no bias or norm so regular, that it hides."""
    import transformers

    kind = ARCHITECTURES[architecture]
    config = getattr(transformers, kind.config)(
        **{
            **kind.values,
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 514,
            "pad_token_id": 1,
            "bos_token_id": 2,
            "eos_token_id": 3,
            **({"word_embed_proj_dim": 32, "ffn_dim": 64} if architecture == "opt" else {}),
            **values,
        }
    )
    return drawn(transformers.AutoModel, config, dtype)


def drawn(kind: Any, config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """A model of `config` with random weights, those of one dimension as well."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind.from_config(config)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim == 1:
                    weight.normal_(0.5, 0.3)
                else:
                    weight.normal_(0.0, 0.15)
    return model.to(dtype).eval().requires_grad_(False)


class RealTokenModel:
    """A TokenModel on numbers: a text is ids with spaces between them, and what it reads is kept in `states`.

    `compare` is two responses in one sequence, `steps` reads behind each step, `tokens` before each response token.
    """

    answers: frozenset[Ask] = frozenset(ASKS)
    fingerprint = "real:1"
    subject = Subject("tests/real", "real")

    def __init__(self, network: Any, *, layout: Literal["causal", "encoder"] | None = None, mean: bool = False) -> None:
        self.backbone: Any = network
        kind = getattr(getattr(network, "config", None), "model_type", "")
        self.layout = layout or ("causal" if kind in DECODERS else "encoder")
        self.mean = mean
        self.typed = False
        self.states: dict[tuple[tuple[int, ...], tuple[int, ...]], torch.Tensor] = {}

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        return [self._encode(request) for request in requests]

    def _encode(self, request: Request) -> Encoded:
        prompt = [int(token) for message in request.prompt for token in message.text.split()]
        steps = request.responses[0].steps if request.ask == "steps" else None
        texts = [response.text or "" for response in request.responses] if steps is None else list(steps)
        parts = [[int(token) for token in text.split()] for text in texts]
        ids = prompt + [token for part in parts for token in part]
        ends = [len(prompt) + sum(map(len, parts[: i + 1])) - 1 for i in range(len(parts))]
        if request.ask == "tokens":
            ends = list(range(max(len(prompt) - 1, 0), len(ids) - 1))
        elif self.mean and request.ask == "reward":
            ends = list(range(len(ids)))
        types = [int(i >= len(prompt)) for i in range(len(ids))] if self.typed else None
        return Encoded(ids, ends, type_ids=types, ask=request.ask, note=len(request.responses))

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        rewards = []
        for states, one in zip(hidden, encoded, strict=True):
            reads = tuple(one.reads)
            assert states.shape[0] == len(reads)
            key = (tuple(map(int, one.ids)), reads)
            if key in self.states:
                assert torch.allclose(self.states[key], states, atol=1e-5 * float(states.abs().max()))
            self.states[key] = states.clone()
            numbers = tuple(states.double().sum(-1).tolist())
            values = numbers if one.ask == "compare" else (sum(numbers),) * one.note
            rewards.append(
                Reward(
                    values,
                    steps=numbers if one.ask == "steps" else (),
                    tokens=numbers if one.ask == "tokens" else (),
                    n_tokens=len(one.ids),
                )
            )
        return rewards

    def worst(self, requests: Sequence[Request]) -> float:
        """How far what was read is from what one forward at a time gives, in units of the largest hidden state."""
        off, scale = 0.0, 1e-6
        for one in self.encode(requests):
            inputs: dict[str, Any] = {"use_cache": False} if self.layout == "causal" else {}
            if one.type_ids is not None:
                inputs["token_type_ids"] = torch.tensor([one.type_ids])
            with torch.inference_mode():
                alone = self.backbone(input_ids=torch.tensor([one.ids]), **inputs).last_hidden_state[0, list(one.reads)]
            found = self.states[tuple(one.ids), tuple(one.reads)]
            assert not found.isnan().any()
            if len(one.reads):
                off = max(off, float((found.double() - alone.double()).abs().max()))
                scale = max(scale, float(alone.abs().max()))
        return off / scale


def requests_of(prompt: Sequence[int], response: Sequence[int], asks: Sequence[Ask] = ASKS) -> list[Request]:
    """Each ask of one prompt and response; nothing is empty but what is given so."""
    made = []
    for ask in asks:
        text = " ".join(map(str, response))
        shown = [Response(text)]
        if ask == "compare":
            shown.append(Response(" ".join(map(str, reversed(response)))))
        elif ask == "steps":
            half = max(1, len(response) // 2)
            parts = [some for some in (response[:half], response[half:]) if len(some)]
            shown = [Response(text, tuple(" ".join(map(str, some)) for some in parts))]
        made.append(Request(ask, (Message("user", " ".join(map(str, prompt))),), tuple(shown)))
    return made


@contextmanager
def watched(cost: Cost | None = FREE) -> Iterator[Counter[str]]:
    """How many forwards take which way as long as this lasts, planned at `cost`; the self-check not counted."""
    taken: Counter[str] = Counter()
    own = loop.hidden_states

    def counting(model: Any, encoded: Any, planned: Any) -> Any:
        taken[planned.way] += 1
        return own(model, encoded, planned)

    with patch.object(loop, "hidden_states", counting):
        if cost is None:
            yield taken
        else:
            with patch("rmbench.scoring.windows.cost_of", lambda network: cost):
                yield taken
