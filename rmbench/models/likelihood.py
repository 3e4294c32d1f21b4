"""How likely a causal language model finds a response: the logarithms that implicit rewards are made of.

The response is what stands behind the text that the template writes while the answer is still due, as it is where TRL's
DPOTrainer tokenises (huggingface/trl@f2cd577:trl/trainer/dpo_trainer.py, `_prepare_dataset`: of the whole
conversation's ids those behind the prompt's, which has the generation prompt). So what the template writes behind an
answer counts too, its end of turn and the line break after it; `end=none` leaves that out. reward-bench renders its
prompt without the generation prompt and appends an EOS (allenai/reward-bench@05a9005:rewardbench/dpo.py,
`tokenize_row`): the header of an answer counts there, and an end more. Where tokens of prompt and response are merged
over the seam, the response begins with the merged one, as `build_tokenized_answer` there has it.

Logits are made in `head_dtype` and never all at once (`checkpoints.vocabulary`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rmbench.checkpoints.fingerprint import in_one_line
from rmbench.checkpoints.forms import Form, Mark, Turn
from rmbench.checkpoints.opened import open_checkpoint
from rmbench.checkpoints.rendering import Limits, Rendering, form_of
from rmbench.checkpoints.vocabulary import Vocabulary, vocabulary_of
from rmbench.errors import UsageError
from rmbench.models import reader
from rmbench.models.base import Encoded, Option
from rmbench.models.options import Options
from rmbench.models.reader import Begun, Built, Loaded, OpenedReader, unread
from rmbench.types import Message, Request, Reward

if TYPE_CHECKING:
    import torch

    from rmbench.models.spec import Spec

VERSION = 1  # of how this module reads a model; a change of any value raises it
SOURCE = "required"
OPTIONS: Mapping[str, Option] = {
    **reader.OPTIONS,
    "end": Option("what counts of what the template writes behind a response, its end of turn and what follows",
                  default="all", choices=("all", "none")),
}  # fmt: skip

_AUTO = "AutoModelForCausalLM"
_END = Mark("end")
# Tokens of a generation prompt that the answer's own turn may begin otherwise: a merged one, a `<think>` that is opened
_MOST_OTHERWISE = 8


@dataclass(slots=True, eq=False)
class Likelihood:
    """Reads the log-probability of each token of a response behind those before it. `rendering` has no limits."""

    vocabulary: Vocabulary
    rendering: Rendering
    side: str
    counts_end: bool
    _last: tuple[Any, Any, Encoded] | None = None

    def form(self, request: Request) -> Form | None:
        """Prompt and response, with a mark behind the response's text where what follows does not count."""
        form = form_of(request)
        if form is None or self.counts_end:
            return form
        *others, last = form.messages
        if not isinstance(last, Message) or not last.is_plain:
            return form
        return replace(form, messages=(*others, Turn(last.role, (last.text, _END))))

    def placed(self, one: Encoded, request: Request) -> Encoded:
        """Reads the token before each of the response; of a response without any the last token, for nothing."""
        messages = request.responses[0].messages or ()
        if (other := next((turn.role for turn in messages if turn.role != "assistant"), None)) is not None:
            return unread(one, f"the response has a turn of {other}, which the model did not write", refused=True)
        due = self._due(request)
        if due.error is not None:
            return unread(one, due.error, refused=due.refused)
        try:
            start, stop = self._begins(due.ids, one), self._ends(one)
        except _LostError as error:
            return unread(one, str(error))
        return replace(one, reads=range(start - 1, stop - 1) if start < stop else range(len(one.ids) - 1, len(one.ids)))

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """The sum of each response, how many tokens it has and their squares; each token's where they are asked for."""
        import torch

        targets = [_targets(one) for one in encoded]
        counts = [len(words) for words in targets]
        states = torch.cat([one[:count] for one, count in zip(hidden, counts, strict=True)])
        words = torch.from_numpy(np.concatenate(targets))
        log_p = self.vocabulary.log_probabilities(states, words).double().cpu()
        each = torch.split(log_p, counts)
        return [_reward(values, one.ask == "tokens") for values, one in zip(each, encoded, strict=True)]

    def _due(self, request: Request) -> Encoded:
        """The prompt as it is while the answer is due, whole. Requests of one prompt stand together."""
        if self._last is None or self._last[0] != request.prompt or self._last[1] != request.tools:
            (due,) = self.rendering.encode_forms([Form(request.prompt, tools=request.tools, due=True)])
            self._last = (request.prompt, request.tools, due)
        return self._last[2]

    def _begins(self, due: Sequence[int], one: Encoded) -> int:
        """Where in the ids the response begins. Raises _LostError where that was cut, or nothing stands before it."""
        if one.cut and self.side == "left":
            before = self.rendering.specials.before
            first = len(before) if list(due[: len(before)]) == before else 0
            if one.cut > len(due) - first:
                raise _LostError("the beginning of the response was cut")
            due = [*due[:first], *due[first + one.cut :]]
        pairs = zip(due, one.ids, strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(due), len(one.ids)))
        if one.cut and self.side == "right" and same == len(one.ids):
            raise _LostError("the response was cut away")
        if len(due) - same > _MOST_OTHERWISE:
            raise _LostError("the template writes another prompt once an answer stands behind it")
        if same == 0:
            raise _LostError("nothing stands before the response, and its first token has no probability")
        return same

    def _ends(self, one: Encoded) -> int:
        """Behind which of the ids nothing counts any more."""
        if self.counts_end:
            return len(one.ids)
        if not one.marks:
            raise _LostError("a response that ends with a call has no text behind which its end could be left out")
        (last,) = one.marks[_END.name]
        if last is None:
            raise _LostError("the end of the response was cut")
        return last + 1


class _LostError(Exception):
    """Where the response stands cannot be told."""


def _targets(one: Encoded) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The token behind each that is read: those of the response."""
    return np.asarray(one.ids[one.reads[0] + 1 : one.reads[-1] + 2], np.int64)


def _reward(log_p: torch.Tensor, each: bool) -> Reward:
    heads = {"tokens": (float(len(log_p)),), "squares": (float(log_p.square().sum()),)}
    return Reward((float(log_p.sum()),), heads=heads, tokens=tuple(log_p.tolist()) if each else ())


@in_one_line
def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> OpenedReader:
    """Opens a causal language model, or an adapter of one.

    No weights are read. Raises ModelError where it is none, UsageError for options that cannot be.
    """
    begun = _begun(source, options, revision)
    counts_end = begun.asked["end"] == "all"

    def build(loaded: Loaded) -> Built:
        vocabulary = vocabulary_of(loaded.model, loaded.head_dtype, loaded.rendering.tokenizer, loaded.name)
        rendering = replace(loaded.rendering, limits=Limits())
        side = loaded.rendering.limits.side
        return Built(Likelihood(vocabulary, rendering, side, counts_end), facts={"words": len(vocabulary.weight)})

    return reader.opened(
        begun,
        _AUTO,
        version=VERSION,
        answers=frozenset({"likelihood", "tokens"}),
        rule={"response": "behind the generation prompt", "end": begun.asked["end"]},
        build=build,
    )


@dataclass(frozen=True, slots=True)
class Look:
    """What of a model is known without its weights and their hash. `settings` are those that results state."""

    id: str
    settings: Mapping[str, Any]
    rendering: Rendering


def look(spec: Spec) -> Look:
    """Looks at a model of this family without opening it. Raises what `open` does."""
    import transformers

    begun = _begun(spec.source, Options(spec.options, OPTIONS), spec.revision)
    opened = open_checkpoint(getattr(transformers, _AUTO), begun.source, begun.asked, begun.revision)
    with warnings.catch_warnings(action="ignore"):  # opening it warns
        rendering = reader.rendering_of(begun, opened.tokenizer, opened.words)
    stated = {name: begun.asked[name] for name in ("head_dtype", "end")}
    settings = {**opened.settings, **begun.known, **stated, "revision": opened.checkpoint.commit}
    return Look(opened.checkpoint.id, settings, rendering)


def _begun(source: str, options: Mapping[str, Any], revision: str | None) -> Begun:
    begun = reader.begin("likelihood", OPTIONS, source, options, revision)
    if begun.asked["template"] == "pair":
        raise UsageError("template='pair': expected plain or a Jinja file; a causal language model reads no pairs")
    return begun
