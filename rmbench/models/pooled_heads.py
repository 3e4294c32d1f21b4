"""Heads of one number: a line or a network over one token's hidden state, or over the mean of all.

The keys of a rule in the table of known models, for the heads `linear` and `mlp`:

- `weights` names the layers in their order, each without its `.weight`; between two of them stands a ReLU.
- `read` is `last` (also where it is left out), `first`, `mean` of all tokens, or `before`: the token before the first
  one whose id is `token`, the last where there is none. `{config = NAME}` has config.json say which.
- `append` puts a token behind what does not end with it: `{special = "cls"}` of the tokenizer, `{config = NAME}`.
- `sign` multiplies what it gives; `negative` has a field of config.json and the value with which less is better.
- `normalizer` is as safe-rlhf has it: where config.json has `do_normalize`, a reward is less its mean and over its
  standard deviation in training, a cost only over it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.forms import Form
from rmbench.checkpoints.rendering import form_of
from rmbench.errors import ModelError, UsageError
from rmbench.models import known
from rmbench.models.base import Encoded
from rmbench.models.reader import Built, Loaded
from rmbench.types import Request, Reward

if TYPE_CHECKING:
    import torch

_KEYS: Mapping[str, str] = {
    "head": "a text",
    "weights": "a list of texts",
    "sign": "a number",
    "read": "",
    "token": "a whole number",
    "append": "",
    "negative": "a table",
    "normalizer": "true or false",
}
READS = ("last", "first", "mean", "before")
_NORMALIZER = ("normalizer.mean", "normalizer.var", "normalizer.count")


@dataclass(frozen=True, slots=True)
class Pooled:
    """The reward is what `head` makes of a state [n, h], in its own dtype, less `shift` and times `scale`.

    `read`, `token` and `append` are as in a rule, the last two ids.
    """

    head: torch.nn.Module
    read_at: str = "last"
    token: int | None = None
    append: int | None = None
    shift: float = 0.0
    scale: float = 1.0

    def form(self, request: Request) -> Form | None:
        return form_of(request)

    def placed(self, one: Encoded, request: Request) -> Encoded:
        ids = one.ids
        if self.append is not None and ids[-1] != self.append:
            ids = [*ids, self.append]
        match self.read_at:
            case "mean":
                reads: Sequence[int] = range(len(ids))
            case "first":
                reads = (0,)
            case "before":
                first = next((at for at, token in enumerate(ids) if token == self.token), len(ids))
                reads = ((first or len(ids)) - 1,)  # before the very first stands the last, as an index of -1 has it
            case _:
                reads = (len(ids) - 1,)
        return replace(one, ids=ids, reads=reads)

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        import torch

        weight = next(self.head.parameters())
        states = torch.stack([one.to(weight.device, weight.dtype).mean(dim=0) for one in hidden])
        values = self.head(states).flatten().tolist()
        return [Reward((self.scale * (value - self.shift),)) for value in values]


def check_rule(rule: Mapping[str, Any], name: str) -> None:
    """Raises UsageError for a rule of the table that says what no head here has."""
    known.check_rule(rule, _KEYS, name, ("weights",))
    if rule["head"] == "linear" and len(rule["weights"]) > 1:
        raise UsageError(f"{name}: weights {rule['weights']} in the rule of its entry; expected the name of one layer")
    read_at = rule.get("read", "last")
    named = _names(read_at, "config")
    if not named and read_at not in READS:
        raise UsageError(
            f"{name}: read = {read_at!r} in the rule of its entry; expected {', '.join(READS)} or {{config = NAME}}"
        )
    append = rule.get("append")
    if read_at == "before" and "token" not in rule:
        raise UsageError(f"{name}: no 'token' in the rule of its entry, before which it is read")
    if append is not None and not (_names(append, "special") or _names(append, "config")):
        raise UsageError(
            f"{name}: append = {append!r} in the rule of its entry; expected {{special = NAME}} or {{config = NAME}}"
        )


def _names(value: Any, key: str) -> bool:
    """Whether it is a table of this key alone, with a name."""
    return isinstance(value, Mapping) and value.keys() == {key} and isinstance(value[key], str)


def tensors_of(rule: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the tensors that a rule needs beside the backbone's, as patterns."""
    return (*(f"{name}.*" for name in rule.get("weights", ())), *(_NORMALIZER if rule.get("normalizer") else ()))


def pooled(rule: Mapping[str, Any], loaded: Loaded) -> Built:
    """The head that a rule describes. Raises ModelError for weights of other shapes, and for what is not there."""
    config, name = loaded.model.config, loaded.name
    read_at = rule.get("read", "last")
    if isinstance(read_at, Mapping):
        field = read_at["config"]
        read_at = getattr(config, field, None)
        if read_at not in READS:
            raise ModelError(f"{name}: config.json has {field} {read_at!r}; expected one of {', '.join(READS)}")
    less = [value == getattr(config, field, None) for field, value in rule.get("negative", {}).items()]
    sign = float(rule.get("sign", 1)) * (-1 if any(less) else 1)
    shift, scale = _normalizer(loaded) if rule.get("normalizer") else (0.0, 1.0)
    head = network(rule["weights"], loaded).eval().requires_grad_(False)
    append = _appended(rule["append"], loaded) if "append" in rule else None
    built = Pooled(head, read_at, rule.get("token"), append, shift, sign * scale)
    facts = {"pooling": read_at, **({"appended": append} if append is not None else {})}
    return Built(built, facts=facts | ({"sign": sign} if sign != 1 else {}))


def network(names: Sequence[str], loaded: Loaded) -> torch.nn.Sequential:
    """Linear layers of these names with ReLU between them, the last of one row. Raises ModelError for other shapes."""
    import torch

    width = loaded.width
    layers: list[torch.nn.Module] = []
    for name in names:
        last = name == names[-1]
        weight = loaded.tensor(f"{name}.weight", 1 if last else None, width)
        bias = loaded.tensors.get(f"{name}.bias")
        layer = torch.nn.Linear(width, len(weight), bias=bias is not None, dtype=weight.dtype, device=weight.device)
        layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
        layers += [layer] if last else [layer, torch.nn.ReLU()]
        width = len(weight)
    return torch.nn.Sequential(*layers)


def _appended(given: Mapping[str, str], loaded: Loaded) -> int:
    """The id of the token that is put behind. Raises ModelError where there is none."""
    if "special" in given:
        field, place, owner = f"{given['special']}_token_id", "tokenizer", loaded.rendering.tokenizer
    else:
        field, place, owner = given["config"], "config.json", loaded.model.config
    token = getattr(owner, field, None)
    rows = loaded.rendering.limits.rows
    if not isinstance(token, int) or (rows is not None and not 0 <= token < rows):
        raise ModelError(
            f"{loaded.name}: the {place} has {field} {token!r}; expected a token of the model's {rows:,} rows"
        )
    return token


def _normalizer(loaded: Loaded) -> tuple[float, float]:
    """What is taken off and by what the rest is multiplied.

    shuoli90/safe-rlhf@00d1098688987dc277e08d281a0953bc22501e97:safe_rlhf/models/normalizer.py
    """
    config = loaded.model.config
    if not getattr(config, "do_normalize", False):
        return 0.0, 1.0
    mean, var = (float(loaded.tensor(name, 1)) for name in _NORMALIZER[:2])
    scale = 1 / (math.sqrt(var) + 1e-8)
    match getattr(config, "score_type", "reward"):
        case "reward":
            return mean, scale
        case "cost":
            return 0.0, scale
        case _:
            return 0.0, 1.0
