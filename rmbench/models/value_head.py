"""A head of rewards on a language model, by the rule of its authors.

Without an entry in the table of known models it is LLaMA-Factory's `value_head.safetensors` or TRL's `v_head` in the
weights: one row over the last token's hidden state, behind the model's last norm, as both read it. An entry's rule says
what else it may be: `head`, one of `HEADS`, and what that takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from rmbench.checkpoints.adapters import revision_of
from rmbench.checkpoints.files import has_weights, shapes_of, weight_paths
from rmbench.checkpoints.fingerprint import Checkpoint, in_one_line, locate
from rmbench.checkpoints.tensors import BESIDE
from rmbench.errors import ModelError, UsageError
from rmbench.models import known, reader
from rmbench.models.base import Option
from rmbench.models.gated import bins, check_objectives, gated, normals
from rmbench.models.pooled_heads import Pooled, check_rule, pooled, tensors_of
from rmbench.models.reader import Built, Loaded, OpenedReader
from rmbench.types import Json

VERSION = 2  # of how this module reads a model; a change of any reward raises it
SOURCE = "required"
OPTIONS: Mapping[str, Option] = reader.OPTIONS

_NAMES = ("v_head.summary", "v_head", "value_head.summary", "value_head")
_HEADLIKE = re.compile(r"(^|\.)(?!lm_head)\w*(head|score|classifier|reward|value|regress|rank)\w*\.")
_LAYER = re.compile(r"(layers?|blocks?|h)\.\d")  # whose projections and gates may be called so too
_LANGUAGE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def vocabulary(rule: Mapping[str, Any], loaded: Loaded) -> Built:
    """The logit of one token behind the last: the row `token` of the language model's own head."""
    import torch

    rows = loaded.model.get_output_embeddings().weight
    token = int(rule["token"])
    if not 0 <= token < len(rows):
        raise ModelError(f"{loaded.name}: the row {token} of a vocabulary of {len(rows):,} is not there")
    head = torch.nn.Linear(rows.shape[1], 1, bias=False, dtype=loaded.head_dtype, device=rows.device)
    head.weight.data.copy_(rows[token : token + 1])
    return Built(Pooled(head.eval().requires_grad_(False)), facts={"pooling": "last"})


# By the name that a rule calls it: what makes a head of it
HEADS: Mapping[str, Callable[[Mapping[str, Any], Loaded], Built]] = {
    "linear": pooled,
    "mlp": pooled,
    "vocabulary": vocabulary,
    "gated": gated,
    "normals": normals,
    "bins": bins,
}


@in_one_line
def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> OpenedReader:
    """Opens a language model with a head of rewards, or an adapter of one with the head beside it.

    No weights are read. Raises ModelError where there is no such head, UsageError for options that cannot be.
    """
    begun = reader.begin("value_head", OPTIONS, source, options, revision)
    if begun.asked["template"] == "pair":
        raise UsageError("template='pair': expected plain or a Jinja file; a causal language model reads no pairs")
    rule = _rule_of(begun)
    kind = rule.get("head")
    if not isinstance(kind, str) or kind not in HEADS:
        raise UsageError(f"{begun.name}: a head {kind!r} in the rule of its entry; expected one of {', '.join(HEADS)}")
    if kind in ("linear", "mlp"):
        check_rule(rule, begun.name)
    if kind == "vocabulary":
        known.check_rule(rule, {"head": "a text", "token": "a whole number"}, begun.name, ("token",))
    if kind in ("gated", "normals", "bins"):
        check_objectives(rule, begun.name)
    return reader.opened(
        begun,
        "AutoModelForCausalLM" if _is_language_model(begun, kind) else "AutoModel",
        version=VERSION,
        answers=frozenset({"reward"}),
        rule=rule,
        heads=[*tensors_of(rule), *rule.get("tensors", ())],
        build=lambda loaded: HEADS[kind](rule, loaded),
        spare=1 if "append" in rule else 0,
    )


def _is_language_model(begun: reader.Begun, kind: str) -> bool:
    """Whether a checkpoint is read with its head for words, which those of known models may lack."""
    if kind == "vocabulary":
        return True
    adapter = begun.checkpoint.json("adapter_config.json")
    if adapter is None and begun.asked["adapter"] is not None:
        adapter = locate(*revision_of(begun.asked["adapter"])).json("adapter_config.json")
    if adapter is not None:
        return begun.entry is None or adapter.get("task_type") == "CAUSAL_LM"  # as it was put on
    named = (begun.checkpoint.json("config.json") or {}).get("architectures") or ()
    return begun.entry is None and any(str(one).endswith(_LANGUAGE) for one in named)


def _rule_of(begun: reader.Begun) -> Json:
    """The rule of the entry, else that of a head by its usual name."""
    if begun.entry is not None:
        return dict(begun.entry.rule)
    name = head_of(begun.checkpoint)
    if name is None and (adapter := begun.checkpoint.json("adapter_config.json")) is not None:
        from rmbench.checkpoints.adapters import base_of

        name = head_of(base_of(begun.checkpoint, adapter, begun.asked["base"]))
    if name is None:
        raise ModelError(
            f"{begun.name}: no {BESIDE}, and no {_NAMES[0]}.weight among its weights{_pickled(begun.checkpoint)}"
        )
    return {"head": "linear", "weights": [name]}


def head_of(checkpoint: Checkpoint) -> str | None:
    """The name of the value head that a checkpoint has, in its weights or in the file beside them; None without one.

    Weights of the hub are not looked into before they are read, so there the file beside them has to be its own.
    """
    beside = checkpoint.file(BESIDE)
    paths = [] if beside is None else [beside]
    if beside is None and checkpoint.commit is None and has_weights(checkpoint):
        paths = weight_paths(checkpoint)
    for path in paths:
        held = shapes_of(checkpoint, [path])
        for name in _NAMES:
            if f"{name}.weight" in held:
                return name
    return None


def unread_heads(checkpoint: Checkpoint) -> str:
    """What beside a language model's weights may be a head that no family reads, as the end of a message; or nothing.

    Weights of the hub are not looked into.
    """
    shapes = {}
    if checkpoint.commit is None and checkpoint.file("adapter_config.json") is None and has_weights(checkpoint):
        shapes = shapes_of(checkpoint, weight_paths(checkpoint))
    named = [name for name in sorted(shapes) if _HEADLIKE.search(name) and not _LAYER.search(name)]
    told = ", ".join(f"{name} {list(shapes[name])}" for name in named[:3])
    among = f"; among its weights {told}, which no family reads" if named else ""
    return among + _pickled(checkpoint)


def _pickled(checkpoint: Checkpoint) -> str:
    if checkpoint.file("value_head.bin") is None:
        return ""
    return f"; value_head.bin is not read, because it can execute code: load it where you trust it and save {BESIDE}"
