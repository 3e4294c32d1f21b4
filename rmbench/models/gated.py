"""Rewards made of several objectives, read from the weights without the code that comes with them.

`gated`, as ArmoRM and QRM: one linear layer gives a reward for each objective, or several quantiles of each, at the end
of the text; a gate, the softmax of an MLP of the state where the header of the answer begins, weighs them; a matrix
takes some objectives off others. `normals`, as URM: a linear layer gives mean and log standard deviation of each
objective, an MLP of the same state their weights, as they are. `bins`, as LDL: an MLP gives how likely each of equally
spaced rewards is, objective by objective, and another MLP of the same state their weights.

The keys of a rule in the table of known models, besides `tensors`, the patterns of the weights:

- `gate` are the tokens of the header, `temperature` is that of the softmax where config.json has no
  `gating_temperature`, both of `gated`; `transformed` has the matrix applied to the objectives that are its heads.
- `objectives` are their names, of `gated` and `normals`, where there are as many; else the config's labels are.
- `bins` is how many there are, of `bins`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.rendering import form_of
from rmbench.errors import ModelError
from rmbench.models.base import Encoded
from rmbench.models.known import check_rule
from rmbench.models.reader import Built, Loaded, unread
from rmbench.types import Reward

if TYPE_CHECKING:
    import torch

    from rmbench.checkpoints.forms import Form
    from rmbench.types import Request


# Of each head, what the keys of its rule in the table of known models take besides `head`, and which it needs
_KEYS: Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
    "gated": (
        {
            "tensors": "a list of texts",
            "gate": "a list of whole numbers",
            "temperature": "a number above 0",
            "objectives": "a list of texts",
            "transformed": "true or false",
        },
        ("gate", "temperature"),
    ),
    "normals": ({"tensors": "a list of texts", "objectives": "a list of texts"}, ()),
    "bins": ({"tensors": "a list of texts", "bins": "a whole number above 0"}, ("bins",)),
}


@dataclass(frozen=True, slots=True)
class Gated:
    """Objectives at the end of the text, weighed by a gate that is read where `header` stands for the last time.

    `regression` maps a state [n, h] to quantiles [n, objectives * quantiles], `gate` to the logits of weights
    [n, objectives]; `transform` [objectives, objectives] changes rewards from the right. `transformed`: the heads are
    the objectives as changed.
    """

    header: tuple[int, ...]
    regression: torch.Tensor
    gate: torch.nn.Sequential
    transform: torch.Tensor
    temperature: float
    scale: torch.Tensor
    names: tuple[str, ...]
    pad_id: int | None
    transformed: bool = False

    def form(self, request: Request) -> Form | None:
        return form_of(request)

    def placed(self, one: Encoded, request: Request) -> Encoded:
        """The gate is read at the first token of the header, searched in all of the text, as the authors do."""
        at = last_of(one.ids, self.header)
        if at is None:
            return unread(one, f"the gate is read at the tokens {list(self.header)}, which are not in what is read")
        return replace(one, reads=(at, last_before_pads(one.ids, self.pad_id)))

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """The gated mean over the quantiles. The spread is the standard deviation over the quantiles of that reward."""
        import torch

        at_gate, at_end = (_stacked(hidden, read, self.regression) for read in (0, 1))
        weights = (self.gate(at_gate) / self.temperature).softmax(1) * self.scale
        quantiles = (at_end @ self.regression.T).reshape(len(at_end), len(self.names), -1)
        means = quantiles.mean(2)
        changed = means @ self.transform
        values = (weights * changed).sum(1)
        objectives = changed if self.transformed else means
        count = quantiles.shape[2]
        if count == 1:
            return _rewards(values, self.names, objectives)
        levels = tuple(f"quantile {i / (count + 1):g}" for i in range(1, count + 1))
        of_reward = torch.einsum("no,noq->nq", weights @ self.transform.T, quantiles)
        heads = torch.cat([objectives, of_reward], 1)
        return _rewards(values, (*self.names, *levels), heads, of_reward.std(1, correction=0))


@dataclass(frozen=True, slots=True)
class AtEnd:
    """What is read at the end of the text alone."""

    pad_id: int | None

    def form(self, request: Request) -> Form | None:
        return form_of(request)

    def placed(self, one: Encoded, request: Request) -> Encoded:
        return replace(one, reads=(last_before_pads(one.ids, self.pad_id),))


@dataclass(frozen=True, slots=True)
class Normals(AtEnd):
    """Objectives that are normally distributed: `score` [objectives * 2, h] has mean and log standard deviation."""

    score: torch.Tensor
    gate: torch.nn.Sequential
    names: tuple[str, ...]

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """The weighted sum of the means. The spread is the standard deviation of that sum of independent normals."""
        at_end = _stacked(hidden, 0, self.score)
        weights = self.gate(at_end)
        means, deviations = (at_end @ self.score.T).reshape(len(at_end), -1, 2).unbind(2)
        return _rewards((weights * means).sum(1), self.names, means, (weights * deviations.exp()).norm(dim=1))


@dataclass(frozen=True, slots=True)
class Bins(AtEnd):
    """Objectives as distributions over `bins` rewards from 0 to 1: `regression` gives logits [n, objectives * bins]."""

    regression: torch.nn.Sequential
    gate: torch.nn.Sequential
    bins: int
    temperature: float | None = None

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """The weighted sum of the expectations; the weights are a softmax where there is a temperature."""
        import torch

        at_end = _stacked(hidden, 0, next(self.gate.parameters()))
        likely = self.regression(at_end).reshape(len(at_end), -1, self.bins).softmax(2)
        weights = self.gate(at_end)
        if self.temperature is not None:
            weights = (weights / self.temperature).softmax(1)
        expected = likely @ torch.linspace(0, 1, self.bins).to(likely)
        names = tuple(f"objective {i}" for i in range(expected.shape[1]))
        return _rewards((weights * expected).sum(1), names, expected)


def last_of(ids: Sequence[int], tokens: Sequence[int]) -> int | None:
    """Where in `ids` the tokens begin for the last time; None where they do not stand there."""
    text, sought = list(ids), list(tokens)
    starts = range(len(text) - len(sought), -1, -1)
    return next((start for start in starts if text[start : start + len(sought)] == sought), None)


def last_before_pads(ids: Sequence[int], pad_id: int | None) -> int:
    """The token before the first pad, as the code of these models reads a sequence alone; without a pad the last."""
    first = 0 if pad_id is None else next((i for i, token in enumerate(ids) if token == pad_id), 0)
    return (first - 1) % len(ids)


def layers_of(
    loaded: Loaded, prefix: str, activation: Callable[[], torch.nn.Module], inputs: int | None = None
) -> tuple[torch.nn.Sequential, int]:
    """The layers `prefix.N` in the order of their numbers, with the size of what they give.

    An activation stands behind each linear one but the last. Raises ModelError where there are none, or the first does
    not take `inputs` numbers, or the last is no linear one.
    """
    import torch

    parts: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in loaded.tensors.items():
        number, _, part = name.removeprefix(f"{prefix}.").partition(".")
        if name.startswith(f"{prefix}.") and number.isdecimal():
            parts.setdefault(int(number), {})[part] = tensor
    if not parts:
        loaded.tensor(f"{prefix}.0.weight")
    modules: list[torch.nn.Module] = []
    for place, own in sorted(parts.items()):
        where = f"{prefix}.{place}.weight"
        if "running_mean" in own:
            module: torch.nn.Module = torch.nn.BatchNorm1d(len(own["running_mean"]))
        else:
            rows, columns = loaded.tensor(where, None, inputs if place == min(parts) else None).shape
            module = torch.nn.Linear(columns, rows, bias="bias" in own)
        module.to(loaded.tensor(where)).load_state_dict(own)
        modules.append(module)
        if isinstance(module, torch.nn.Linear) and place < max(parts):
            modules.append(activation())
    if not isinstance(modules[-1], torch.nn.Linear):
        raise ModelError(f"{loaded.name}: {prefix}.{max(parts)} is no linear layer; expected the last layer of a gate")
    return torch.nn.Sequential(*modules).eval().requires_grad_(False), modules[-1].out_features


def check_objectives(rule: Mapping[str, Any], name: str) -> None:
    """Raises UsageError for a rule of the table that lacks what its head needs, or says what it has not."""
    takes, needed = _KEYS[rule["head"]]
    check_rule(rule, {"head": "a text", **takes}, name, needed)


def gated(rule: Mapping[str, Any], loaded: Loaded) -> Built:
    """Objectives and a gate: `gate` are the tokens of the header, `temperature` its own where the config has none."""
    import torch

    config, width = loaded.model.config, loaded.width
    regression = loaded.tensor("regression_layer.weight", None, width)
    gate, count = layers_of(loaded, "gating.layers", torch.nn.ReLU, width)
    if len(regression) % count:
        raise ModelError(
            f"{loaded.name}: regression_layer.weight has {len(regression)} rows; expected a multiple of {count}, "
            "the objectives of its gate"
        )
    transform = torch.eye(count).to(regression)
    if "reward_transform_matrix" in loaded.tensors:
        transform = loaded.tensor("reward_transform_matrix", count, count)
    reading = Gated(
        header=tuple(rule["gate"]),
        regression=regression,
        gate=gate,
        transform=transform,
        temperature=float(getattr(config, "gating_temperature", rule["temperature"])),
        scale=loaded.tensors.get("gating.logit_scale", regression.new_ones(1)),
        names=_names(config, rule, count),
        pad_id=config.get_text_config().pad_token_id,
        transformed=rule.get("transformed", False),
    )
    return Built(reading, facts={"pooling": "last"})


def normals(rule: Mapping[str, Any], loaded: Loaded) -> Built:
    """Normally distributed objectives and their weights."""
    import torch

    config, width = loaded.model.config, loaded.width
    gate, count = layers_of(loaded, "weights.fc", torch.nn.SELU, width)
    score = loaded.tensor("score.weight", 2 * count, width)
    reading = Normals(config.get_text_config().pad_token_id, score, gate, _names(config, rule, count))
    return Built(reading, facts={"pooling": "last"})


def bins(rule: Mapping[str, Any], loaded: Loaded) -> Built:
    """Objectives as distributions over `bins` rewards, and their weights."""
    import torch

    config, width, size = loaded.model.config, loaded.width, int(rule["bins"])
    gate, count = layers_of(loaded, "gating_layer.network", torch.nn.LeakyReLU, width)
    regression, rows = layers_of(loaded, "regression_layer.network", torch.nn.LeakyReLU, width)
    if rows != size * count:
        raise ModelError(f"{loaded.name}: {rows} bins of {count} objectives; expected {size} of each")
    temperature = float(getattr(config, "temperature", 1.0)) if getattr(config, "softmax", False) else None
    reading = Bins(config.get_text_config().pad_token_id, regression, gate, size, temperature)
    return Built(reading, facts={"pooling": "last"})


def _names(config: Any, rule: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """What the table calls the objectives, else what the config calls its labels, else their numbers."""
    labels = tuple(str(label) for label in config.id2label.values())
    for names in (tuple(rule.get("objectives", ())), labels):
        if len(set(names)) == count and "LABEL_0" not in names:
            return names
    return tuple(f"objective {i}" for i in range(count))


def _stacked(hidden: Sequence[torch.Tensor], read: int, like: torch.Tensor) -> torch.Tensor:
    """The states [n, h] at one of the reads, in the dtype of the head and where that is."""
    import torch

    return torch.stack([states[read] for states in hidden]).to(like)


def _rewards(
    values: torch.Tensor, names: Sequence[str], heads: torch.Tensor, spreads: torch.Tensor | None = None
) -> list[Reward]:
    """Of values [n], heads [n, names] and spreads [n]."""
    rows = zip(values.tolist(), heads.tolist(), strict=True)
    rewards = [Reward((value,), {name: (one,) for name, one in zip(names, row, strict=True)}) for value, row in rows]
    if spreads is None:
        return rewards
    return [replace(reward, spread=(spread,)) for reward, spread in zip(rewards, spreads.tolist(), strict=True)]
