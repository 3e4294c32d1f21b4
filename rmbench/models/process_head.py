"""What a process reward model makes of a hidden state: whether the step that it ends is right, as log-odds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.vocabulary import vocabulary_of
from rmbench.errors import ModelError
from rmbench.models.reader import Layout, Loaded
from rmbench.types import Array

if TYPE_CHECKING:
    import torch

    Map = Callable[[torch.Tensor], torch.Tensor]

_ROWS = 8192  # of a vocabulary's head that are added up at once
_PROBE = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Said:
    """Of n steps the log-odds of being right, [n], and other probabilities of theirs by name, [n] each."""

    logits: Array
    named: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """`logits` maps hidden states [n, h] to [n, k], of which those at `good` are of a right step; one is the odds.

    `named` are the probabilities of single classes among the k; `whole` maps hidden states to the logarithm of a
    probability of another making, [n].
    """

    logits: Map
    good: tuple[int, ...] = (0,)
    named: Mapping[str, int] = field(default_factory=dict)
    whole: Mapping[str, Map] = field(default_factory=dict)

    def said(self, states: torch.Tensor) -> Said:
        """What is said at the steps whose hidden states [n, h] these are."""
        logits = self.logits(states).double()
        rest = [at for at in range(logits.shape[-1]) if at not in self.good]
        odds = logits[:, list(self.good)].logsumexp(-1)
        if rest:
            odds = odds - logits[:, rest].logsumexp(-1)
        shares = logits.softmax(-1)
        named = {name: shares[:, at].cpu().numpy() for name, at in self.named.items()}
        others = {name: log_p(states).double().exp().cpu().numpy() for name, log_p in self.whole.items()}
        return Said(odds.cpu().numpy(), named | others)


def of_tokens(loaded: Loaded, tokens: Sequence[int], whole: str = "") -> tuple[Head, Layout]:
    """Two rows of the vocabulary: the first token stands for a right step, the second for a wrong one.

    `whole` names the right token's probability among all of the vocabulary, where that is wanted.
    """
    vocabulary = vocabulary_of(loaded.model, loaded.head_dtype, loaded.rendering.tokenizer, loaded.name)

    def among_all(states: torch.Tensor) -> torch.Tensor:
        import torch

        return vocabulary.log_probabilities(states, torch.full((len(states),), tokens[0]))

    return Head(
        lambda states: vocabulary.logits_of(states, tokens), whole={whole: among_all} if whole else {}
    ), "causal"


def of_mean(loaded: Loaded) -> tuple[Head, Layout]:
    """The mean of all logits of the vocabulary, which is one row: the mean of all rows."""
    import torch

    vocabulary = vocabulary_of(loaded.model, loaded.head_dtype, loaded.rendering.tokenizer, loaded.name)
    if vocabulary.cap is not None:
        raise ModelError(f"{loaded.name}: {type(loaded.model).__name__} bounds its logits, and no row is their mean")
    every, share = vocabulary.weight, vocabulary.scale / len(vocabulary.weight)
    weight = torch.zeros(every.shape[1], dtype=loaded.head_dtype, device=every.device)
    for start in range(0, len(every), _ROWS):
        weight += every[start : start + _ROWS].to(weight).sum(0)
    bias = None if vocabulary.bias is None else vocabulary.bias.to(weight).sum()[None] * share
    return Head(_map(_linear(weight[None] * share, bias, loaded.head_dtype))), "causal"


def of_classifier(loaded: Loaded, good: tuple[int, ...]) -> tuple[Head, Layout]:
    """The head of a token classifier of transformers, measured against the model's own forward."""
    head = getattr(loaded.model, "score", None) or getattr(loaded.model, "classifier", None)
    if head is None:
        raise ModelError(f"{loaded.name}: {type(loaded.model).__name__} has no head called score or classifier")
    own = Head(_map(copy.deepcopy(head).to(loaded.head_dtype)), good)
    return own, _layout(loaded, own)


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
    return Head(_map(torch.nn.Sequential(*made)), good, named), "causal"


def _linear(weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> Any:
    import torch

    rows, width = weight.shape
    linear = torch.nn.Linear(width, rows, bias=bias is not None, device=weight.device, dtype=dtype)
    linear.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return linear.requires_grad_(False).eval()


def _map(module: Any) -> Map:
    """The module as a function of hidden states wherever they lie, in its own dtype."""
    weight = next(module.parameters())

    def mapped(states: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = module(states.to(weight.device, weight.dtype))
        return made

    return mapped


def _layout(loaded: Loaded, head: Head) -> Layout:
    """The layout of a model whose own logits are those of the head. Raises ModelError where they are not."""
    import torch

    with torch.inference_mode():
        ids, other = (torch.tensor([[*_PROBE[:-1], last]], device=loaded.model.device) for last in (_PROBE[-1], 0))
        states, others = (loaded.backbone(input_ids=text).last_hidden_state[0] for text in (ids, other))
        made = head.logits(states).float()
        expected = loaded.model(input_ids=ids).logits[0].to(made)
        if bool(expected.isfinite().all()) and not _alike(made, expected, states.dtype):
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
    scale = max(float(expected.nan_to_num(0, 0, 0).abs().max()), 1e-6)
    return made.shape == expected.shape and torch.allclose(
        made, expected, rtol=0, atol=tolerance * scale, equal_nan=True
    )
