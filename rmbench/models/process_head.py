"""What a process reward model makes of a hidden state: whether the step that it ends is right, as log-odds."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rmbench.errors import ModelError
from rmbench.models.reader import Layout, Loaded
from rmbench.types import Array

if TYPE_CHECKING:
    import torch

_ROWS = 8192  # of a vocabulary's head that are multiplied at once
_PROBE = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Said:
    """Of n steps the log-odds of being right, [n], and other probabilities of theirs by name, [n] each."""

    logits: Array
    named: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """`rows` maps hidden states [n, h] to logits [n, k], of which those at `good` are of a right step.

    `named` are the probabilities of other classes among the k. `cap` bounds the logits as a language model bounds its
    own. `vocabulary` is the head of the whole vocabulary, among which the right token has the probability `whole`.
    """

    rows: Any
    good: tuple[int, ...] = (0,)
    named: Mapping[str, int] = field(default_factory=dict)
    cap: float | None = None
    vocabulary: Any = None
    whole: str = ""

    def said(self, states: torch.Tensor) -> Said:
        """What is said at the steps whose hidden states [n, h] these are."""
        weight = next(self.rows.parameters())
        given = states.to(weight.device, weight.dtype)
        logits = self.logits(given).double()
        count = logits.shape[-1]
        if count == 1:
            odds = logits[:, 0]
        else:
            rest = [at for at in range(count) if at not in self.good]
            odds = logits[:, list(self.good)].logsumexp(-1) - logits[:, rest].logsumexp(-1)
        shares = logits.softmax(-1)
        named = {name: shares[:, at].cpu().numpy() for name, at in self.named.items()}
        if self.vocabulary is not None:
            named[self.whole] = (logits[:, self.good[0]] - self._total(given)).exp().cpu().numpy()
        return Said(odds.cpu().numpy(), named)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """[n, k] of hidden states [n, h]."""
        return self._capped(self.rows(states))

    def _total(self, states: torch.Tensor) -> torch.Tensor:
        """The log of the sum of the exponents of all logits of the vocabulary, [n]."""
        import torch

        weight, bias = self.vocabulary.weight, getattr(self.vocabulary, "bias", None)
        total = torch.full((len(states),), -torch.inf, dtype=torch.float64, device=states.device)
        for start in range(0, len(weight), _ROWS):
            logits = states @ weight[start : start + _ROWS].to(states).T
            if bias is not None:
                logits += bias[start : start + _ROWS].to(states)
            total = torch.logaddexp(total, self._capped(logits).double().logsumexp(-1))
        return total

    def _capped(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self.cap is None else (logits / self.cap).tanh() * self.cap


def of_tokens(loaded: Loaded, tokens: Sequence[int], whole: str = "") -> tuple[Head, Layout]:
    """Rows of the vocabulary's head: the first token stands for a right step, the second for a wrong one."""
    vocabulary = _vocabulary(loaded)
    rows, bias = list(tokens), getattr(vocabulary, "bias", None)
    linear = _linear(vocabulary.weight[rows], None if bias is None else bias[rows], loaded.head_dtype)
    cap = getattr(loaded.model.config.get_text_config(), "final_logit_softcapping", None)
    head = Head(linear, cap=cap, vocabulary=vocabulary if whole else None, whole=whole)
    return head, _checked(loaded, head, lambda logits: logits[..., rows])


def of_mean(loaded: Loaded) -> tuple[Head, Layout]:
    """The mean of all logits of the vocabulary, which is one row: the mean of all rows."""
    vocabulary = _vocabulary(loaded)
    parts = vocabulary.weight.split(_ROWS)
    weight = sum(part.to(loaded.head_dtype).sum(0) for part in parts) / len(vocabulary.weight)
    bias = getattr(vocabulary, "bias", None)
    head = Head(_linear(weight[None], None if bias is None else bias.mean()[None], loaded.head_dtype))
    return head, _checked(loaded, head, lambda logits: logits.to(loaded.head_dtype).mean(-1, keepdim=True))


def of_classifier(loaded: Loaded, good: tuple[int, ...]) -> tuple[Head, Layout]:
    """The head of a token classifier of transformers."""
    head = getattr(loaded.model, "score", None) or getattr(loaded.model, "classifier", None)
    if head is None:
        raise ModelError(f"{loaded.name}: {type(loaded.model).__name__} has no head called score or classifier")
    own = Head(copy.deepcopy(head).to(loaded.head_dtype), good)
    return own, _checked(loaded, own, lambda logits: logits)


def of_layers(
    loaded: Loaded, layers: Sequence[str], good: tuple[int, ...], named: Mapping[str, int]
) -> tuple[Head, Layout]:
    """A head of the authors' own: linear layers by the names of their tensors, with a ReLU between two."""
    import torch

    made: list[Any] = []
    width = loaded.width
    for name in layers:
        weight = loaded.tensor(f"{name}.weight", None, width)
        bias = loaded.tensors.get(f"{name}.bias")
        made += [*([torch.nn.ReLU()] if made else []), _linear(weight, bias, loaded.head_dtype)]
        width = len(weight)
    if any(at >= width for at in (*good, *named.values())):
        raise ModelError(f"{loaded.name}: {layers[-1]}.weight has {width} rows; expected one more than {max(good)}")
    return Head(torch.nn.Sequential(*made), good, named), "causal"


def _linear(weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> Any:
    import torch

    rows, width = weight.shape
    linear = torch.nn.Linear(width, rows, bias=bias is not None, device=weight.device, dtype=dtype)
    linear.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return linear.requires_grad_(False).eval()


def _vocabulary(loaded: Loaded) -> Any:
    vocabulary = loaded.model.get_output_embeddings()
    if vocabulary is None:
        raise ModelError(f"{loaded.name}: {type(loaded.model).__name__} has no head of the vocabulary")
    return vocabulary


def _checked(loaded: Loaded, head: Head, own: Any) -> Layout:
    """The layout of a model whose own logits are those of the head. Raises ModelError where they are not."""
    import torch

    with torch.inference_mode():
        ids, other = (torch.tensor([[*_PROBE[:-1], last]], device=loaded.model.device) for last in (_PROBE[-1], 0))
        states, others = (loaded.backbone(input_ids=some).last_hidden_state[0] for some in (ids, other))
        weight = next(head.rows.parameters())
        made = head.logits(states.to(weight.device, weight.dtype)).float()
        expected = own(loaded.model(input_ids=ids).logits[0]).to(made)
        if not _alike(made, expected, states.dtype):
            raise ModelError(
                f"{loaded.name}: {type(loaded.model).__name__} makes its logits of hidden states by a rule of its own,"
                " which this family does not know"
            )
        return "causal" if _alike(states[0].float(), others[0].float(), states.dtype) else "encoder"


def _alike(made: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    """Within rounding; what is no number proves nothing, and weights that give none have rewards that say so."""
    import torch

    if not bool(expected.isfinite().all()):
        return made.shape == expected.shape
    tolerance = 1e-4 if dtype in (torch.float32, torch.float64) else 3e-2
    scale = max(float(expected.abs().max()), 1e-6)
    return made.shape == expected.shape and torch.allclose(made, expected, rtol=0, atol=tolerance * scale)
