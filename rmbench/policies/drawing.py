"""Which token comes next: one number draws it, so that neither the batch nor the order moves what is written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rmbench.checkpoints.fingerprint import digest
from rmbench.errors import ModelError
from rmbench.types import GenerationRequest, turn_text

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Draw:
    """The token that a row's number falls on, or the most likely one at temperature 0."""

    temperature: float
    top_p: float
    name: str

    def __call__(self, scores: torch.Tensor, keys: Sequence[str], positions: Sequence[int]) -> torch.Tensor:
        """Tokens [b] for logits `scores` [b, v]; token `positions[row]` of the sample with that key is due.

        Raises ModelError where a logit is NaN, or one that a sample is drawn by is infinite.
        """
        import torch

        if bool(scores.isnan().any()):
            raise ModelError(f"{self.name} gives logits that are no numbers")
        if self.temperature == 0:
            return scores.argmax(-1)
        drawn = [uniform(key, position) for key, position in zip(keys, positions, strict=True)]
        # float64, which not every accelerator has: rounding would lose the rare tokens of a large vocabulary
        wide = scores.cpu() if scores.device.type == "mps" else scores
        mass = torch.softmax(wide.double() / self.temperature, -1)
        if self.top_p < 1:
            mass = nucleus(mass, self.top_p)
        sums = mass.cumsum(-1)
        if not bool((sums[:, -1] > 0).all()):  # nor is a nan, which infinite logits give
            raise ModelError(f"{self.name} gives logits that are infinite, or leave no token to draw")
        at = torch.tensor(drawn, dtype=torch.float64, device=sums.device)[:, None] * sums[:, -1:]
        token = torch.searchsorted(sums, at, right=True).clamp(max=scores.shape[1] - 1)
        return token[:, 0].to(scores.device)


def nucleus(mass: torch.Tensor, top_p: float) -> torch.Tensor:
    """`mass` [b, v] without what is beyond the fewest most likely tokens that together have at least `top_p`.

    Holtzman et al., The Curious Case of Neural Text Degeneration, 2020.
    """
    import torch

    descending, order = mass.sort(stable=True, dim=-1, descending=True)
    beyond = descending.cumsum(-1) - descending >= top_p
    return mass.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), 0.0)


def sampling(generation: GenerationRequest) -> tuple[float, float]:
    """Temperature and top_p, both 1 where they are not given."""
    return float(generation.sampling.get("temperature", 1.0)), float(generation.sampling.get("top_p", 1.0))


def sample_key(generation: GenerationRequest) -> str:
    """What the numbers of a sample depend on: neither temperature nor cap, so that these change no luck."""
    prompt = [[turn.role, turn_text(turn) if turn.tool_calls else turn.text] for turn in generation.prompt]
    return digest({"prompt": prompt, "sample": generation.sample, "seed": generation.sampling.get("seed", 0)})


def uniform(key: str, position: int) -> float:
    """A number in [0, 1) with 53 random bits."""
    return (int.from_bytes(hashlib.sha256(f"{key}|{position}".encode()).digest()[:8]) >> 11) / 2**53
