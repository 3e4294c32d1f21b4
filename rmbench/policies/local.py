"""Causal language models of transformers as policies, which write the same text whatever the batch.

That is so in float32; in 16 bit the shape of a batch moves rounding, and with it a near-tie. What prompts share is
computed once, and rows that end make room. Each token is drawn with one number that depends on the seed, the prompt,
the sample and the position alone, so neither the batch nor the order moves what is written, and a longer cap goes on
from what a shorter one cut. Of the checkpoint's generation_config only the tokens that end a response are used:
temperature and top_p are stated, and nothing else moves the probabilities.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.fingerprint import digest, in_one_line
from rmbench.checkpoints.forms import Form
from rmbench.checkpoints.notes import counted, lines
from rmbench.checkpoints.opened import OPTIONS as CHECKPOINT_OPTIONS
from rmbench.checkpoints.opened import OpenedCheckpoint, chosen, open_checkpoint
from rmbench.checkpoints.rendering import OPTIONS as RENDERING_OPTIONS
from rmbench.checkpoints.rendering import Limits, Rendering, choose, source_of, templated
from rmbench.checkpoints.weights import positions, unsteady_ropes
from rmbench.device import device_of, out_of_memory, release
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Identity, Option, Subject
from rmbench.policies.base import refuse_top
from rmbench.policies.decoding import Draft, RowBudget, TooLargeError, shares, write
from rmbench.policies.drawing import Draw, sample_key, sampling
from rmbench.types import GenerationRequest, Json, Response, Use

if TYPE_CHECKING:
    import torch

VERSION = 1  # of how this module writes; a change of any text raises it

_DEFAULT_BUDGET = {"cpu": 16384, "cuda": 65536, "mps": 16384}  # tokens a batch, prompt and cap together
_PATHS = frozenset({"average", "weight", "adapter", "base", "template"})  # hashed by contents, never by place
_NO_CAUSAL = ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", "ForQuestionAnswering")

SOURCE = "required"

OPTIONS: Mapping[str, Option] = {
    **CHECKPOINT_OPTIONS,
    "template": Option("plain, a Jinja file or a name of the tokenizer's (default: its own template, else plain)"),
    **RENDERING_OPTIONS,
    "token_budget": Option("tokens in a batch, prompt and cap together", int, of_run=True),
}


@dataclass(slots=True, eq=False)
class Local:
    """`ends` are the tokens that end a response; they are no part of it and are not counted in its `tokens`.

    `shares`: rows of a batch share what they can, and leave it when they end. Else `model.generate` runs every batch.
    """

    subject: Subject
    fingerprint: str
    unit: str
    model: Any
    rendering: Rendering
    ends: frozenset[int]
    token_budget: int
    shares: bool
    positions: int | None = None
    facts: Json = field(default_factory=dict)
    uses: frozenset[Use] = frozenset()

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
        """The longest first. Raises before the first: ModelError where one does not fit, UsageError for `top`."""
        refuse_top(self.subject.id, requests)
        ids = self.prompt_ids(requests)
        self._check_room(requests, ids)
        for alike in _alike(requests):
            budget = RowBudget(self.token_budget)
            if self.shares:
                yield from self._rolled(alike, requests, ids, budget)
            else:
                yield from self._batched(alike, requests, ids, budget)

    def prompt_ids(self, requests: Sequence[GenerationRequest]) -> list[list[int]]:
        """The tokens after which each response is due. Raises ModelError for a prompt that cannot be rendered."""
        forms = [Form(messages=request.prompt, tools=request.tools, due=True) for request in requests]
        encoded = self.rendering.encode_forms(forms)
        for one, request in zip(encoded, requests, strict=True):
            if one.error is not None:
                shown = next((part for part in request.prompt[0].parts if isinstance(part, str)), "")
                raise ModelError(f"{self.subject.id}: {one.error}: a prompt that begins {shown[:40]!r}")
        for line in lines(counted(encoded), len(encoded)):
            warnings.warn(f"{self.subject.id}: {line}", stacklevel=3)
        return [list(one.ids) for one in encoded]

    def _rolled(
        self, alike: Sequence[int], requests: Sequence[GenerationRequest], ids: Sequence[list[int]], budget: RowBudget
    ) -> Iterator[tuple[int, Response]]:
        """Rows that enter and leave one batch, each delivered as it ends."""
        draw = Draw(*sampling(requests[alike[0]]), self.subject.id)
        rows = [Draft(index, ids[index], sample_key(requests[index]), requests[index].cap or 0) for index in alike]
        try:
            for row in write(self.model, rows, draw, self.ends, budget):
                yield row.index, self._response(row.new, requests[row.index])
        except TooLargeError as error:
            raise self._too_large(len(error.row.prompt), error.row.cap) from None

    def _batched(
        self, alike: Sequence[int], requests: Sequence[GenerationRequest], ids: Sequence[list[int]], budget: RowBudget
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
            for index, new in zip(batch, tokens, strict=True):
                budget.ended(needed[index])
                yield index, self._response(new, requests[index])

    def _too_large(self, prompt: int, cap: int) -> ModelError:
        return ModelError(
            f"{self.subject.id}: out of memory on a single prompt of {prompt:,} tokens with a cap of {cap:,}"
        )

    def _check_room(self, requests: Sequence[GenerationRequest], ids: Sequence[Sequence[int]]) -> None:
        """Raises UsageError without a cap, and ModelError where a prompt and its cap need more positions than exist."""
        if any(not generation.cap for generation in requests):
            raise UsageError(f"{self.subject.id} needs a cap on new tokens; --max-new-tokens gives one")
        most = self.positions
        if most is None:
            return
        needed = [len(prompt) + (generation.cap or 0) for prompt, generation in zip(ids, requests, strict=True)]
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
        for row, prompt in enumerate(ids):
            padded[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
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
        text = self.rendering.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        finish, count = ("length", len(tokens)) if end is None else ("stop", end)
        return Response(text, tokens=count, finish=finish, cap=generation.cap)


@dataclass(frozen=True)
class OpenedLocal:
    """A policy before its weights are read. `token_budget` is tokens in a batch, prompt and cap together."""

    subject: Subject
    fingerprint: str
    unit: str
    uses: frozenset[Use]
    checkpoint: OpenedCheckpoint
    rendering: Rendering
    identity: Identity = "content"
    device: str | None = None
    token_budget: int | None = None

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[Local]:
        """The policy on `device`, else on its own, else on the best that is there; freed when the block ends.

        Raises ModelError where the weights are not all there.
        """
        policy = self.start(device)
        try:
            yield policy
        finally:
            policy.model = None
            release()

    @in_one_line
    def start(self, device: str | None = None) -> Local:
        """The same without an end."""
        model = self.checkpoint.load(device or self.device, _unchanged, "what it writes would be random")
        rows = model.get_input_embeddings().weight.shape[0]
        limits = replace(self.rendering.limits, positions=positions(model), rows=rows)
        ends = _ends(model, self.checkpoint.tokenizer, self.subject.id)
        model.generation_config = _greedy(ends, None)
        facts = {"attention": str(model.config._attn_implementation), "ends": sorted(ends)}
        kind = device_of(model).kind
        return Local(
            subject=replace(self.subject, settings={**self.subject.settings, **facts}),
            fingerprint=self.fingerprint,
            unit=self.unit,
            model=model,
            # a prompt that leaves no room is told with its cap
            rendering=replace(self.rendering, limits=replace(limits, positions=None)),
            positions=limits.positions,
            ends=ends,
            token_budget=self.token_budget or _DEFAULT_BUDGET.get(kind, _DEFAULT_BUDGET["cpu"]),
            shares=shares(model),
            facts=facts,
            uses=self.uses,
        )


@in_one_line
def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> OpenedLocal:
    """Opens a hub id or a local folder. dtype and device are chosen as for reward models; no weights are read.

    The prompt is rendered by the option `template` (`plain` or a Jinja file), else by the tokenizer's own chat
    template, else plain. Raises ModelError where the checkpoint is no causal language model, or needs code and the
    option `trust_remote_code` is not set, and UsageError for options that cannot be.
    """
    from transformers import AutoModelForCausalLM

    asked = chosen(OPTIONS, options, "local")
    opened = open_checkpoint(AutoModelForCausalLM, source, asked, revision)
    name = opened.checkpoint.id
    for architecture in opened.config.architectures or ():
        if architecture.endswith(_NO_CAUSAL):
            raise ModelError(f"{name} is a {architecture}, which writes no text; give a ...ForCausalLM")
    manner = {option: asked[option] for option in RENDERING_OPTIONS}
    rendering = _rendering(opened.tokenizer, asked["template"], name, **manner)
    unit = f"tokens of {name}"
    fingerprint = digest(
        {
            "kind": "local",
            "version": VERSION,
            **opened.content,
            "prompt": rendering.identity,
            "options": {option: value for option, value in asked.items() if not _unhashed(option)},
        }
    )
    settings = {**opened.settings, "prompt": rendering.identity, "unit": unit}
    subject = Subject(name, "local", opened.checkpoint.commit, settings)
    uses: frozenset[Use] = frozenset({"tools"}) if rendering.takes_tools else frozenset()
    budget = asked["token_budget"]
    return OpenedLocal(subject, fingerprint, unit, uses, opened, rendering, device=asked["device"], token_budget=budget)


def _unhashed(option: str) -> bool:
    return option in _PATHS or OPTIONS[option].of_run


def _unchanged(config: Any, brought: Mapping[str, int]) -> None:
    """A language model's config is its own."""


def _rendering(tokenizer: Any, asked: str | None, name: str, **manner: Any) -> Rendering:
    """By the template that was asked for, else by the tokenizer's own, else plain."""
    source = None if asked == "plain" else source_of(tokenizer, asked, name, "plain or a Jinja file")
    if source is None:
        return choose(tokenizer, "plain", Limits(), name, **manner)
    return templated(tokenizer, source, Limits(), name, **manner)


def _ends(model: Any, tokenizer: Any, name: str) -> frozenset[int]:
    """The tokens that end a response by generation_config, config or tokenizer: each may know one of several."""
    ends: set[int] = set()
    for holder in (model.generation_config, model.config.get_text_config(), tokenizer):
        ids = getattr(holder, "eos_token_id", None)
        ends.update([ids] if isinstance(ids, int) else ids or ())
    if not ends:
        warnings.warn(f"{name}: no token ends a response, so every one runs to its cap", stacklevel=3)
    own = model.generation_config
    changed = [n for n in ("repetition_penalty", "no_repeat_ngram_size", "min_new_tokens") if getattr(own, n, None)]
    changed = [n for n in changed if n != "repetition_penalty" or own.repetition_penalty != 1]
    if changed:
        warnings.warn(f"{name}: its generation_config sets {', '.join(changed)}, which is not applied", stacklevel=3)
    return frozenset(ends)


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
