"""Where a sequence classifier reads its reward: backbone, head and position, each measured against the model itself.

The position is the one that the checkpoint's own class reads of a sequence alone, at batch 1 without padding. For the
decoders of transformers that is the rightmost token that is not the model config's pad token, so that pads which end
the sequence itself are passed over; without a pad token it is the last. Encoders read by a rule of their own, and what
is not known by its class (encoder-decoders, code that a checkpoint brings) is run whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from rmbench.checkpoints.fingerprint import first_line
from rmbench.checkpoints.rendering import Rendering
from rmbench.errors import ModelError
from rmbench.types import Message, Request, Response

if TYPE_CHECKING:
    import torch

_PROBE = "Is 17 a prime number? Yes, no smaller prime divides it."

# `hf`: the rightmost token that is no pad; `whole`: all of the model runs, and reads wherever it does
Pool = Literal["last", "hf", "first", "mean", "whole"]


@dataclass(frozen=True, slots=True)
class Split:
    """A classifier taken apart: `head` maps hidden states of `backbone` at the position `pool` to logits."""

    backbone: Any
    head: Any
    pool: Pool
    layout: Literal["causal", "encoder"]


def chosen_position(own: Pool, asked: str, pad_id: int | None) -> tuple[Pool, bool]:
    """Where the reward is read, and whether the very last token is read beside it: whoever decides, decides here.

    `own` is where the checkpoint's class reads, `asked` the option `pooling`: `last` and `hf` are of decoders and read
    one position. Of a decoder that passes over pads, `auto` reads both, since its head may have been trained at either.
    """
    if own not in ("last", "hf"):
        return own, False
    if asked == "auto":
        return own, own == "hf"
    return ("hf" if asked == "hf" and pad_id is not None else "last"), False


def pad_of(model: Any) -> int | None:
    """The model's own pad token, never the tokenizer's."""
    pad: int | None = model.config.get_text_config().pad_token_id
    return pad


def last_unpadded(ids: Sequence[int], pad_id: int | None) -> int:
    """The rightmost token that is no pad; of pads alone the first."""
    return next((at for at in range(len(ids) - 1, -1, -1) if ids[at] != pad_id), 0)


def split(model: Any, rendering: Rendering, name: str) -> Split:
    """The model taken apart, or whole where its parts do not give what it gives.

    Raises ModelError where not even the whole model reads what `rendering` makes of a short text.
    """
    import torch

    with suppress(Exception):  # an architecture of any making may raise anything; the whole model has the last word
        if (parts := _parts(model, _probe_ids(rendering))) is not None:
            return parts
    try:
        whole = _whole(model, alone=False)
        _check_labels(whole, rendering)
        whole.alone = not _bears_padding(whole, rendering)
    except Exception as error:
        raise ModelError(f"{name}: {type(model).__name__} cannot read a short text: {first_line(error)}") from None
    return Split(whole, torch.nn.Identity(), "whole", "encoder")


def _parts(model: Any, ids: list[int]) -> Split | None:
    """Backbone, head, where it reads, and layout; None where the known parts do not give the model's own logits."""
    import torch

    head_and_pool = _known_head(model)
    if head_and_pool is None or not type(model).forward.__module__.startswith("transformers."):
        return None  # whoever writes a forward of their own may read at whatever token they like
    modules, pool = head_and_pool
    head = torch.nn.Sequential(*modules)
    with torch.inference_mode():
        if pool == "last":
            measured = _decoders_pool(model, head, ids)
        else:
            measured = pool if _reads_at(model, head, ids, pool) else None
        if measured is None:
            return None
        other = [*ids[:-1], ids[0]]
        firsts = [_hidden(model, text)[:, 0] for text in (ids, other)]
    causal = pool == "last" and _alike(*firsts)
    return Split(model.base_model, head, measured, "causal" if causal else "encoder")


def _decoders_pool(model: Any, head: Any, ids: list[int]) -> Pool | None:
    """What a decoder does about its pad token, by texts that hold some; None where it is neither of what is known."""
    pad, rows = pad_of(model), model.get_input_embeddings().weight.shape[0]
    if pad is None or not 0 <= pad < rows:
        return "last" if _reads_at(model, head, ids, "last") else None
    texts = ([*ids[:3], pad, *ids[3:], pad, pad], [pad, pad])
    pools: tuple[Pool, ...] = ("hf", "last")
    return next((pool for pool in pools if all(_reads_at(model, head, text, pool) for text in texts)), None)


def _reads_at(model: Any, head: Any, ids: list[int], pool: Pool) -> bool:
    """Whether the model's own logits of a text are those of its head at that position."""
    import torch

    hidden = _hidden(model, ids)
    match pool:
        case "hf":
            at = last_unpadded(ids, pad_of(model))
            pooled = hidden[:, at : at + 1]
        case "mean":
            pooled = hidden.mean(1, keepdim=True)
        case _:
            pooled = hidden[:, -1:] if pool == "last" else hidden[:, :1]
    return _alike(head(pooled).flatten(1), model(input_ids=torch.tensor([ids], device=model.device)).logits)


def _hidden(model: Any, ids: list[int]) -> torch.Tensor:
    import torch

    states: torch.Tensor = model.base_model(input_ids=torch.tensor([ids], device=model.device)).last_hidden_state
    return states


def _known_head(model: Any) -> tuple[list[Any], Pool] | None:
    """The modules between the hidden state and the logits, and where they read it; None if that is not known."""
    import torch

    pool: Pool = "first"
    try:
        match model.config.model_type:
            case "bert":
                modules = [model.bert.pooler, model.classifier]
            case "roberta" | "xlm-roberta" | "camembert" | "electra":
                modules = [model.classifier]
            case "deberta" | "deberta-v2":
                modules = [model.pooler, model.classifier]
            case "modernbert":
                modules = [model.head, model.classifier]
                pool = "mean" if model.config.classifier_pooling == "mean" else "first"
            case "distilbert":
                modules = [model.pre_classifier, torch.nn.ReLU(), model.classifier]
            case _:
                modules, pool = [model.score], "last"
    except AttributeError:  # a class of another making under a known name
        return None
    return modules, pool


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    import torch

    tolerance = 1e-4 if a.dtype in (torch.float32, torch.float64) else 2e-2
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=tolerance * _scale(b), equal_nan=True)


def _scale(logits: torch.Tensor) -> float:
    return max(float(logits.nan_to_num(0, 0, 0).abs().max()), 1e-6)


def _whole(model: Any, *, alone: bool) -> Any:
    """A module that runs all of `model` and gives its logits as the hidden state of one position, [b, 1, labels].

    `alone`: each sequence by itself, for models that padding moves.
    """
    import torch

    pad = pad_of(model)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.config = model.config
            self.alone = alone

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **inputs: torch.Tensor
        ) -> SimpleNamespace:
            if attention_mask is not None and pad is not None:
                # models that pool by pad id have to see their own
                input_ids = input_ids.masked_fill(attention_mask == 0, pad)
            if self.alone and len(input_ids) > 1:
                logits = torch.cat([self._alone(i, input_ids, attention_mask, inputs) for i in range(len(input_ids))])
            else:
                logits = self.logits(input_ids, attention_mask, **inputs)
            return SimpleNamespace(last_hidden_state=logits[:, None])

        def logits(self, ids: torch.Tensor, mask: torch.Tensor | None = None, **inputs: torch.Tensor) -> torch.Tensor:
            """[b, labels]. Who has one label, or is given one sequence, may leave an axis out."""
            mask = torch.ones_like(ids) if mask is None else mask  # as a tokenizer gives it: some code counts on it
            made: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, **inputs).logits
            labels, rows = self.config.num_labels, len(ids)
            fits = made.numel() == rows * labels and (made.ndim < 2 or len(made) == rows)
            return made.reshape(rows, labels) if fits else made

        def _alone(
            self, i: int, ids: torch.Tensor, mask: torch.Tensor | None, inputs: dict[str, torch.Tensor]
        ) -> torch.Tensor:
            kept = slice(None) if mask is None else mask[i].bool()
            return self.logits(ids[i, kept][None], **{name: value[i, kept][None] for name, value in inputs.items()})

    return Whole().eval()


def _bears_padding(whole: Any, rendering: Rendering) -> bool:
    """Whether the whole model gives sequences of several lengths in one padded batch the logits they have alone.

    Raises what the model raises, and ValueError where its logits are not one row of labels a sequence.
    """
    import torch

    words, config = _PROBE.split(), whole.model.config
    requests = [
        Request("reward", (Message("user", "Hi"),), (Response(" ".join(words[:count])),))
        for count in (len(words), 1, 4, 6)  # the longest first: it also shows whether the model runs at all
    ]
    rows = [list(one.ids) for one in rendering.encode(requests) if one.error is None] or [_probe_ids(rendering)]
    with torch.inference_mode():
        alone = [_alone(whole, row) for row in rows]
        pad = pad_of(whole.model)
        # encoder-decoders read at an EOS and want as many of them in each sequence of a batch
        if pad is None or getattr(config, "is_encoder_decoder", False) or len(set(map(len, rows))) == 1:
            return False
        ids = _probe_ids(rendering)
        try:  # what pools by pad id, or by another special one, has to show it where they are missing or stand inside
            for row in (ids, ids[:3], [*ids[:3], pad, *ids[3:7]], [*ids[:5], pad]):
                alone.append(_alone(whole, row))
                rows.append(row)
            batch = whole(**_padded(rows, whole.model.device)).last_hidden_state[:, 0]
        except Exception:  # what runs alone runs alone
            return False
    return unmoved(batch, torch.cat(alone))


def unmoved(padded: torch.Tensor, single: torch.Tensor) -> bool:
    """Whether padding leaves the logits [texts, labels] what they are of each text alone, but for rounding.

    A bias makes logits large and tells no texts apart, and so may another label: what padding moves of a label is held
    against what the texts move of it.
    """
    import torch

    tolerance, rounding = (1e-4, 1e-6) if single.dtype in (torch.float32, torch.float64) else (2e-2, 8e-3)
    for moved, own in zip(padded.T, single.T, strict=True):
        finite = own.nan_to_num(0, 0, 0)
        allowed = max(tolerance * float(finite.max() - finite.min()), rounding * _scale(own))
        if not torch.allclose(moved, own, rtol=0, atol=allowed, equal_nan=True):
            return False
    return True


def _check_labels(whole: Any, rendering: Rendering) -> None:
    """Two labels that nobody named are what a config says that says nothing: a model that gives one number has one."""
    import torch

    config = whole.config
    if [config.id2label.get(i) for i in range(config.num_labels)] != ["LABEL_0", "LABEL_1"]:
        return
    (one,) = rendering.encode([Request("reward", (Message("user", "Hi"),), (Response(_PROBE),))])
    with torch.inference_mode():
        ids = torch.tensor([list(one.ids) or _probe_ids(rendering)], device=whole.model.device)
        if whole.logits(ids).numel() == 1:
            config.num_labels = 1


def _alone(whole: Any, row: list[int]) -> torch.Tensor:
    import torch

    logits: torch.Tensor = whole.logits(torch.tensor([row], device=whole.model.device))
    if logits.shape != (1, whole.config.num_labels):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} for one text; expected (1, {whole.config.num_labels}), one a label"
        )
    return logits


def _padded(rows: Sequence[Sequence[int]], device: Any) -> dict[str, torch.Tensor]:
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask}


def _probe_ids(rendering: Rendering) -> list[int]:
    """A few different ids that mean nothing special."""
    tokenizer, rows = rendering.tokenizer, rendering.limits.rows or 0
    special = set(tokenizer.all_special_ids)
    ids = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    ordinary = list(dict.fromkeys(token for token in ids if token not in special and token < rows))
    return ordinary[:12] if len(ordinary) > 2 else [token for token in range(rows) if token not in special][:12]
