"""The product of hidden states and the vocabulary, of which a value or two per position are wanted and never all.

A language model's logits are [positions, vocabulary]: of a thousand tokens and 128,256 words half a gigabyte. Here they
exist a tile at a time, whatever the number of positions, and only their logarithm of the sum of exponentials is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmbench.errors import ModelError

if TYPE_CHECKING:
    import torch

# Rows and columns of a tile of logits: what stays in a cache of a CPU, and what keeps a GPU busy
_TILE = (512, 4096)
_TILE_OF_GPU = (4096, 16384)
_PROBE = "Is 17 a prime number? Yes, no smaller prime divides it."


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """From hidden states [n, h] to logits: `states @ weight.T + bias`, times `scale`, and bounded to +-`cap`.

    `weight` is [v, h], `bias` [v] or None; products are made in `dtype`, whatever the weights are held in, and the
    softmax in float32 at least.
    """

    weight: torch.Tensor
    dtype: torch.dtype
    bias: torch.Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def logits_of(self, states: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The logits [n, len(rows)] of these words alone; no other row is multiplied."""
        import torch

        chosen = torch.as_tensor(rows, device=self.weight.device)
        bias = None if self.bias is None else self.bias[chosen]
        return self._logits(states.to(self.weight.device), self.weight[chosen], bias)

    def log_probabilities(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The log-probability [n] of the word `targets` [n] names at each position, among all of them.

        What is held besides its arguments is a tile of logits, the rows of the vocabulary that made it, and some
        numbers a position. A logit that is nan or +inf makes nan, as a softmax of all of them would.
        """
        import torch

        states, targets = states.to(self.weight.device), targets.to(self.weight.device)
        tall, wide = _TILE_OF_GPU if states.is_cuda else _TILE
        fine = torch.promote_types(self.dtype, torch.float32)
        sums = torch.full((len(states),), -torch.inf, dtype=fine, device=states.device)
        own = torch.empty_like(sums)
        for left in range(0, len(self.weight), wide):
            weight = self.weight[left : left + wide]
            bias = None if self.bias is None else self.bias[left : left + wide]
            if not _multiplies_in(states, weight, self.dtype):
                weight = weight.to(self.dtype)  # once for all positions
            for top in range(0, len(states), tall):
                at = slice(top, top + tall)
                logits = self._logits(states[at], weight, bias).to(fine)
                columns = targets[at] - left
                here = (columns >= 0) & (columns < len(weight))
                picked = logits.gather(1, columns.clamp(0, len(weight) - 1)[:, None])[:, 0]
                own[at] = torch.where(here, picked, own[at])
                sums[at] = torch.logaddexp(sums[at], _log_sum_exp(logits))
        return own - sums

    def _logits(self, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        logits = _product(states, weight, self.dtype)
        if bias is not None:
            logits += bias
        if self.scale != 1.0:
            logits *= self.scale
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)


def _log_sum_exp(logits: torch.Tensor) -> torch.Tensor:
    """The logarithm of the sum of exponentials of each row, in the room that the logits had."""
    import torch

    top = logits.amax(1).clamp_(min=torch.finfo(logits.dtype).min)  # of a row of -inf alone
    return logits.sub_(top[:, None]).exp_().sum(1).log_().add_(top)


def _multiplies_in(states: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether the device multiplies these as they are and sums in `dtype`: GPUs do of halves in float32."""
    import torch

    halves = (torch.float16, torch.bfloat16)
    return states.is_cuda and dtype == torch.float32 and weight.dtype in halves and states.dtype == weight.dtype


def _product(states: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`states @ weight.T` in `dtype`. Products of halves are exact in float32: both ways only sum in another order."""
    import torch

    if _multiplies_in(states, weight, dtype):
        return torch.mm(states, weight.T, out_dtype=dtype)
    return states.to(dtype) @ weight.to(dtype).T


def vocabulary_of(model: Any, dtype: torch.dtype, tokenizer: Any, name: str) -> Vocabulary:
    """The vocabulary of a causal language model, measured against the logits that its own forward makes of a text.

    Raises ModelError where it has none, or makes other logits of it.
    """
    import torch

    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if weight is None or weight.ndim != 2 or not weight.is_floating_point():
        raise ModelError(f"{name}: {type(model).__name__} has no output embedding that can be multiplied by")
    config = model.config.get_text_config()
    divided = getattr(config, "logits_scaling", None) or 1.0  # Granite's; Cohere multiplies
    vocabulary = Vocabulary(
        weight.detach(),
        dtype,
        None if getattr(head, "bias", None) is None else head.bias.detach(),
        (getattr(config, "logit_scale", None) or 1.0) / divided,
        getattr(config, "final_logit_softcapping", None),
    )
    ids = [token % len(weight) for token in tokenizer(_PROBE)["input_ids"]]
    with torch.inference_mode():
        batch = torch.tensor([ids], device=model.device)
        states = model.base_model(input_ids=batch).last_hidden_state[0]
        own = model(input_ids=batch).logits[0].float().log_softmax(-1)
        targets = batch[0].roll(-1)
        there = own.gather(1, targets.to(own.device)[:, None])[:, 0]
        here = vocabulary.log_probabilities(states, targets).to(there)
    told = there.isfinite()  # of weights that are nan there is nothing to compare, and their rewards say so
    off = float((here - there)[told].abs().max() / there[told].abs().max().clamp(min=1e-6)) if told.any() else 0.0
    if not off <= (1e-4 if model.dtype in (torch.float32, torch.float64) else 5e-2):
        raise ModelError(
            f"{name}: {type(model).__name__} makes other logits than its output embedding does, off by {off:.1e} of the"
            " scale; a likelihood cannot be read from it"
        )
    return vocabulary
