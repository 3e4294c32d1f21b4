"""A causal language model of transformers as a policy: what prompts share is computed once, rows that end make room,
and the text is the same whatever the batch (in float32; in 16 bit the shape of a batch moves rounding, and with it a
near-tie).

Each token is drawn with one number that depends on the seed, the prompt, the sample and the position alone, so neither
the batch nor the order moves what is written, and a longer cap goes on from what a shorter one cut. Of the checkpoint's
generation_config only the tokens that end a response are used: temperature and top_p are stated, and nothing else moves
the probabilities.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmbench.device import out_of_memory, release
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Options as ModelOptions
from rmbench.models.base import Subject
from rmbench.models.checkpoint import (
    check_code,
    listed,
    named_dtype,
    own_dtype,
    pick_device,
    positions,
    quiet,
    read_config,
    read_tokenizer,
    read_weights,
    unsteady_ropes,
)
from rmbench.models.fingerprint import Checkpoint, class_name, digest, first_line, locate, sources, tokenizer_hash
from rmbench.models.rendering import FROZEN_DATE, Limits, Rendering, Template, compiled, plain
from rmbench.policies.base import Options
from rmbench.policies.decoding import Budget, Row, TooLargeError, shares, write
from rmbench.policies.drawing import Draw, sample_key, sampling
from rmbench.types import GenerationRequest, Message, Response

if TYPE_CHECKING:
    import torch

VERSION = 1  # of how this module writes; a change of any text raises it

_DEFAULT_BUDGET = {"cpu": 16384, "cuda": 65536, "mps": 16384}  # tokens a batch, prompt and cap together
_NO_CAUSAL = ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", "ForQuestionAnswering")


@dataclass(slots=True, eq=False)
class Local:
    """`ends` are the tokens that end a response; they are no part of it and are not counted in its `tokens`.

    `shares`: rows of a batch share what they can, and leave it when they end. Else `model.generate` runs every batch.
    """

    subject: Subject
    fingerprint: str
    unit: str
    model: Any
    asking: Asking
    ends: frozenset[int]
    token_budget: int
    shares: bool

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
        """The longest first. Raises ModelError before the first where one does not fit."""
        ids = [self.asking.ids(generation.prompt) for generation in requests]
        self._check_room(requests, ids)
        for alike in _alike(requests):
            budget = Budget(self.token_budget)
            if self.shares:
                yield from self._rolled(alike, requests, ids, budget)
            else:
                yield from self._batched(alike, requests, ids, budget)

    def _rolled(
        self, alike: Sequence[int], requests: Sequence[GenerationRequest], ids: Sequence[list[int]], budget: Budget
    ) -> Iterator[tuple[int, Response]]:
        """Rows that enter and leave one batch, each delivered as it ends."""
        draw = Draw(*sampling(requests[alike[0]]), self.subject.id)
        rows = [Row(index, ids[index], sample_key(requests[index]), requests[index].cap or 0) for index in alike]
        try:
            for row in write(self.model, rows, draw, self.ends, budget):
                yield row.index, self._response(row.new, requests[row.index])
        except TooLargeError as error:
            raise self._too_large(len(error.row.prompt), error.row.cap) from None

    def _batched(
        self, alike: Sequence[int], requests: Sequence[GenerationRequest], ids: Sequence[list[int]], budget: Budget
    ) -> Iterator[tuple[int, Response]]:
        """Batch after batch, padded, each until its last row ends: for whatever keeps a cache of another kind."""
        steady = not unsteady_ropes(self.model.config)  # else the longest row of a batch would move the others
        needed = {index: len(ids[index]) + (requests[index].cap or 0) for index in alike}
        waiting = sorted(needed, key=lambda index: (-needed[index], index))
        while waiting:
            batch = waiting[: budget.holds(needed[waiting[0]]) if steady else 1]
            tokens = self._written([ids[index] for index in batch], [requests[index] for index in batch])
            if tokens is None and len(batch) == 1:
                raise self._too_large(len(ids[batch[0]]), requests[batch[0]].cap or 0)
            if tokens is None:
                budget.halve(needed[batch[0]], len(batch))
                continue
            waiting = waiting[len(batch) :]
            for index, some in zip(batch, tokens, strict=True):
                budget.ended(needed[index])
                yield index, self._response(some, requests[index])

    def _too_large(self, prompt: int, cap: int) -> ModelError:
        return ModelError(
            f"{self.subject.id}: out of memory on a single prompt of {prompt:,} tokens with a cap of {cap:,}"
        )

    def _check_room(self, requests: Sequence[GenerationRequest], ids: Sequence[Sequence[int]]) -> None:
        """Raises UsageError without a cap, and ModelError where a prompt and its cap need more positions than exist."""
        if any(not generation.cap for generation in requests):
            raise UsageError(f"{self.subject.id} needs a cap on new tokens; --max-new-tokens gives one")
        most = self.asking.limits.positions
        if most is None:
            return
        needed = [len(some) + (generation.cap or 0) for some, generation in zip(ids, requests, strict=True)]
        over = sum(length > most for length in needed)
        if over:
            longest = max(map(len, ids))
            fits = f"--max-new-tokens {most - longest} fits them all" if longest < most else "no cap fits the longest"
            raise ModelError(
                f"{self.subject.id}: {over:,} of {len(ids):,} requests need up to {max(needed):,} positions, prompt "
                f"and cap together, and the model has {most:,}; the longest prompt has {longest:,} tokens, so {fits}"
            )

    def _written(self, ids: Sequence[list[int]], requests: Sequence[GenerationRequest]) -> list[list[int]] | None:
        """The new tokens of one batch, None where memory ran out. The exception and its tensors are gone on return."""
        try:
            return self._new_tokens(ids, requests)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        release()
        return None

    def _new_tokens(self, ids: Sequence[list[int]], requests: Sequence[GenerationRequest]) -> list[list[int]]:
        """Prompts padded on the left, so that every row goes on at the same column; the mask keeps padding unseen."""
        import torch
        from transformers import LogitsProcessorList

        width, device = max(map(len, ids)), self.model.get_input_embeddings().weight.device
        padded = torch.full((len(ids), width), _pad(self.ends))
        mask = torch.zeros((len(ids), width), dtype=torch.long)
        for row, some in enumerate(ids):
            padded[row, width - len(some) :] = torch.tensor(some)
            mask[row, width - len(some) :] = 1
        with torch.inference_mode():
            written = self.model.generate(
                input_ids=padded.to(device),
                attention_mask=mask.to(device),
                generation_config=_greedy(self.ends, requests[0].cap),
                logits_processor=LogitsProcessorList([_Draw(requests, width, self.subject.id)]),
            )
        tokens: list[list[int]] = written[:, width:].tolist()
        return tokens

    def _response(self, tokens: Sequence[int], generation: GenerationRequest) -> Response:
        end = next((place for place, token in enumerate(tokens) if token in self.ends), None)
        text = self.asking.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        finish, count = ("length", len(tokens)) if end is None else ("stop", end)
        return Response(text, tokens=count, finish=finish, cap=generation.cap)


@dataclass(frozen=True)
class Asking:
    """How a prompt becomes the tokens after which the response is due: the chat template, or `Role: content` turns."""

    tokenizer: Any
    limits: Limits
    name: str
    source: str | None
    template: Template | None = field(init=False)
    before: list[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "before", Rendering(self.tokenizer, "plain", self.limits).specials[0])
        # `compiled` renders finished conversations; set here, the variable is what the template sees
        due = None if self.source is None else "{% set add_generation_prompt = true %}" + self.source
        template = None if due is None else compiled(due, self.tokenizer.special_tokens_map)
        object.__setattr__(self, "template", template)

    @property
    def identity(self) -> dict[str, Any]:
        """What of it changes the ids, JSON-able."""
        source = None if self.source is None else hashlib.sha256(self.source.encode()).hexdigest()
        return {"template": source or "plain", "date": FROZEN_DATE.isoformat(), "before": self.before}

    def ids(self, prompt: tuple[Message, ...]) -> list[int]:
        """Exactly one BOS where the tokenizer has one. Raises ModelError where the template fails."""
        ids: list[int] = self.tokenizer(self._text(prompt), add_special_tokens=False, verbose=False)["input_ids"]
        if ids[: len(self.before)] != self.before:
            ids = [*self.before, *ids]
        if not ids or max(ids) >= self.limits.rows:
            found = f"token {max(ids)} beyond the {self.limits.rows:,} rows of its embedding" if ids else "no token"
            raise ModelError(f"{self.name}: a prompt renders to {found}: {prompt[0].text[:40]!r}")
        return ids

    def _text(self, prompt: tuple[Message, ...]) -> str:
        if self.template is None:
            return f"{plain(prompt)}\n\nAssistant:"
        try:
            return self.template(prompt)
        except Exception as error:  # a template is a program: it may raise anything
            raise ModelError(f"{self.name}: the chat template fails on {prompt[0].text[:40]!r}: "
                             f"{first_line(error)}") from None  # fmt: skip


def load(source: str, options: Options) -> Local:
    """Loads a hub id or a local folder. dtype and device are chosen as for reward models.

    The prompt is rendered by `options.template` (`plain` or a Jinja file), else by the tokenizer's own chat template,
    else plain. Raises ModelError where the checkpoint is no causal language model with all of its weights in
    safetensors, or needs code and `options.trust_remote_code` is not set.
    """
    if options.count_with is not None:
        raise UsageError(f"--count-with {options.count_with}: local:{source} counts with its own tokenizer")
    checkpoint = locate(source, options.revision)
    if checkpoint.file("config.json") is None:
        raise ModelError(f"{checkpoint.id}: no config.json; a PEFT adapter has to be merged into its base to write")
    device = pick_device(options.device)
    asked = ModelOptions(device=device, dtype=options.dtype, trust_remote_code=options.trust_remote_code)
    if options.trust_remote_code:
        check_code(checkpoint, "config.json", "AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
        check_code(checkpoint, "tokenizer_config.json", "AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
    with quiet():
        config = read_config(checkpoint, trust_remote_code=options.trust_remote_code)
        dtype = named_dtype("dtype", options.dtype or own_dtype(config))
        model = _model(checkpoint, config, asked, dtype)
        tokenizer = read_tokenizer(checkpoint, trust_remote_code=options.trust_remote_code)
    limits = Limits(positions(model), model.get_input_embeddings().weight.shape[0])
    asking = Asking(tokenizer, limits, checkpoint.id, _template(tokenizer, options.template))
    ends = _ends(model, tokenizer, checkpoint.id)
    model.generation_config = _greedy(ends, None)
    unit = f"tokens of {checkpoint.id}"
    settings = {
        "dtype": str(dtype).removeprefix("torch."),
        "attention": str(model.config._attn_implementation),
        "prompt": asking.identity,
        "ends": sorted(ends),
        "unit": unit,
    }
    fingerprint = digest(
        {
            "kind": "local",
            "version": VERSION,
            "weights": checkpoint.content(),
            "tokenizer": tokenizer_hash(tokenizer),
            "class": class_name(type(model)),
            "code": sources(type(config), type(tokenizer), *map(type, model.modules())),
            **settings,
        }
    )
    kind = next(iter(model.parameters())).device.type
    return Local(
        subject=Subject(checkpoint.id, "local", checkpoint.commit, settings),
        fingerprint=fingerprint,
        unit=unit,
        model=model,
        asking=asking,
        ends=ends,
        token_budget=options.token_budget or _DEFAULT_BUDGET.get(kind, _DEFAULT_BUDGET["cpu"]),
        shares=shares(model),
    )


def _model(checkpoint: Checkpoint, config: Any, options: ModelOptions, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    for architecture in config.architectures or ():
        if architecture.endswith(_NO_CAUSAL):
            raise ModelError(f"{checkpoint.id} is a {architecture}, which writes no text; give a ...ForCausalLM")
    model, found = read_weights(
        AutoModelForCausalLM,
        checkpoint,
        config,
        dtype,
        device=options.device,
        trust_remote_code=options.trust_remote_code,
    )
    if found["missing_keys"]:
        missing = listed(sorted(found["missing_keys"]))
        raise ModelError(f"{checkpoint.id}: {missing} not in the checkpoint; what it writes would be random")
    if options.device != "auto":
        model.to(options.device)
    return model.eval().requires_grad_(False)


def _template(tokenizer: Any, asked: str | None) -> str | None:
    """The text of the template, None for plain."""
    if asked == "plain":
        return None
    if asked is not None:
        try:
            return Path(asked).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"template {asked!r}: not a readable file; give plain or a Jinja file") from None
    try:
        source: str = tokenizer.get_chat_template()
    except ValueError:
        return None
    return source


def _ends(model: Any, tokenizer: Any, name: str) -> frozenset[int]:
    """The tokens that end a response by generation_config, config or tokenizer: each may know one of several."""
    found: set[int] = set()
    for holder in (model.generation_config, model.config.get_text_config(), tokenizer):
        ids = getattr(holder, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or ())
    if not found:
        warnings.warn(f"{name}: no token ends a response, so every one runs to its cap", stacklevel=3)
    own = model.generation_config
    changed = [n for n in ("repetition_penalty", "no_repeat_ngram_size", "min_new_tokens") if getattr(own, n, None)]
    changed = [n for n in changed if n != "repetition_penalty" or own.repetition_penalty != 1]
    if changed:
        warnings.warn(f"{name}: its generation_config sets {', '.join(changed)}, which is not applied", stacklevel=3)
    return frozenset(found)


def _greedy(ends: frozenset[int], cap: int | None) -> Any:
    """The most likely token after `_Draw` has left one of them: its own settings would come before and after that."""
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False, max_new_tokens=cap, eos_token_id=sorted(ends) or None, pad_token_id=_pad(ends)
    )


def _pad(ends: frozenset[int]) -> int:
    """Any token would do: prompts are masked, and behind the end of a response nothing is read."""
    return min(ends, default=0)


def _alike(requests: Sequence[GenerationRequest]) -> list[list[int]]:
    """Indices of requests that can share a batch: of one cap and one way of sampling."""
    groups: dict[tuple[int | None, float, float], list[int]] = defaultdict(list)
    for index, generation in enumerate(requests):
        groups[generation.cap, *sampling(generation)].append(index)
    return list(groups.values())


class _Draw:
    """Leaves one token of each row, the one that is drawn: how `model.generate` is told."""

    def __init__(self, requests: Sequence[GenerationRequest], width: int, name: str) -> None:
        self.keys = [sample_key(generation) for generation in requests]
        self.draw = Draw(*sampling(requests[0]), name)
        self.width = width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores` [b, v] are the logits of the next token after `input_ids` [b, t]."""
        import torch

        token = self.draw(scores, self.keys, [input_ids.shape[1] - self.width] * len(self.keys))
        return torch.full_like(scores, float("-inf")).scatter_(1, token[:, None], 0.0)
