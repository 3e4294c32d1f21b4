"""Process reward models: a reward for each step of a solution, all of them read in one forward.

Each step ends in a tag and is read there: as two tokens of a language model's vocabulary (Math-Shepherd, RLHFlow), as
labels of a token classifier (TRL's PRMTrainer), by a head of the authors' own (Qwen2.5-Math-PRM, Skywork-o1-PRM,
ReasonEval) or as the mean of all logits (Easy-to-Hard). Each gives log-odds of the step being right; `scale` says what
is made of them. A step whose tag was cut is nan alone. The reward of the whole is the `aggregate` of its steps, where
one is known; every other aggregate is a view.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from rmbench.checkpoints.fingerprint import in_one_line
from rmbench.checkpoints.forms import Form
from rmbench.checkpoints.rendering import Rendering
from rmbench.errors import ModelError, UsageError
from rmbench.metrics.aggregate import VIEWS, aggregate
from rmbench.models import process_head, reader
from rmbench.models.base import Encoded, Option
from rmbench.models.known import check_rule
from rmbench.models.process_forms import BEFORE, FIELDS, STEP, Place, Shape, steps_of, unknown_field
from rmbench.models.process_head import Head, Said
from rmbench.models.reader import Begun, Built, Layout, Loaded, OpenedReader, unread
from rmbench.types import Array, Json, Message, Request, Response, Reward

if TYPE_CHECKING:
    import torch

VERSION = 1  # of how this module reads a model; a change of any reward raises it
SOURCE = "required"

_HEADS = ("v_head.summary", "v_head", "value_head.summary", "value_head")
_SOFT = 0.1  # the temperature of PURE's minimum


def _escaped(text: str) -> str:
    """A text in which line breaks and tabs may be written as \\n and \\t, as on a command line."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


OPTIONS: Mapping[str, Option] = {
    **reader.OPTIONS,
    "reading": Option("what a step is read by. tokens: two of the vocabulary; labels: of a token classifier; value: a"
                      " value head; mean: all logits (default: as the checkpoint's head)",
                      choices=("tokens", "labels", "value", "mean")),
    "step_tag": Option("the text behind each step that it is read at, \\n a line break", _escaped),
    "good": Option("the token, or the labels, of a right step (default: +, of two labels the second)", _escaped),
    "bad": Option("the token of a wrong step (default: -)", _escaped),
    "form": Option("text: question and steps as one; chat: the steps are the template's answer; turns: a step a turn",
                   choices=("text", "chat", "turns")),
    "prompt": Option("what stands before the steps, with {question}", _escaped),
    "step": Option("what each step is, with {step}, {number} and {tag}", _escaped),
    "apart": Option("tokenise question, steps and tags each by itself", bool),
    "scale": Option("of a step's reward. difference: how likely it is right minus how likely wrong (default:"
                    " probability)", choices=("probability", "difference", "logit")),
    "aggregate": Option("what makes the reward of a response of its steps; softmin: by weights softmax(-reward / .1)",
                        choices=(*VIEWS, "softmin")),
    "threshold": Option("a step whose reward is above it is said to be right (default: nothing is said)", float),
}  # fmt: skip

# What a checkpoint is shown that nobody says more of: of a token classifier as TRL's PRMTrainer does, of a value head
# as Skywork does, of a language model as Math-Shepherd does
_USUAL: Mapping[str, Mapping[str, Any]] = {
    "tokens": {"prompt": "{question} ", "step": "{step} {tag}\n", "apart": False},
    "mean": {"prompt": "{question} ", "step": "{step} {tag}\n", "apart": False},
    "labels": {"prompt": "{question}", "step": "{step}{tag}", "step_tag": "\n", "apart": True, "bos": "own"},
    "value": {"prompt": "{question}\n", "step": "{step}{tag}", "step_tag": "\n", "apart": True, "bos": "own"},
}
_FORMS: Mapping[str, Mapping[str, Any]] = {
    "text": {},
    "chat": {"step": "{step}{tag}", "apart": False, "bos": "auto"},
    "turns": {"step": "{step}", "step_tag": "", "apart": False, "bos": "auto"},
}
_UNUSED: Mapping[str, Sequence[str]] = {
    "text": ("template", "tools_as_text", "fold_system"),
    "chat": ("prompt",),
    "turns": ("step_tag", "apart"),
}


@dataclass(frozen=True, slots=True)
class Own:
    """What an entry's rule says besides its options.

    `read`, `label`, `strip` and `lines` are those of a `Shape`. A tag that is not `single` may be several tokens.
    `removed` is the tokenizer's name of the token that is the tag, taken out again once it has been found. `layers`
    are the linear layers of the head, `named` the classes whose probabilities are step heads, `whole` the name of the
    step head of the right token's probability in the whole vocabulary. A step is right that does not `fall` so much
    below the one before it.
    """

    read: Place = "tag"
    label: str = ""
    strip: bool = False
    lines: bool = False
    single: bool = False
    removed: str = ""
    layers: tuple[str, ...] = ()
    named: Mapping[str, int] = field(default_factory=dict)
    whole: str = ""
    fall: float | None = None


# What the keys of a rule take
_OF_RULE: Mapping[str, str] = {
    **dict.fromkeys(("read", "label", "removed", "whole"), "a text"),
    **dict.fromkeys(("strip", "lines", "single"), "true or false"),
    "layers": "a list of texts",
    "named": "a table of whole numbers",
    "fall": "a number",
}


@dataclass(frozen=True, slots=True)
class Judging:
    """What is made of log-odds z [n] of steps being right: rewards, one of all of them, and which are said to be right.

    `threshold` is on the scale of the rewards.
    """

    scale: str
    aggregate: str | None
    threshold: float | None
    fall: float | None = None

    def steps(self, z: Array) -> Array:
        """The rewards of the steps."""
        with np.errstate(invalid="ignore"):  # a step that was cut is nan
            made: Array = {"logit": z, "difference": np.tanh(z / 2)}.get(self.scale, np.exp(-np.logaddexp(0, -z)))
        return made

    def whole(self, z: Array) -> float:
        """The reward of the response; nan where none is known, there is no step, or one was cut that it needs."""
        steps = self.steps(z)
        if self.aggregate is None or not len(z):
            return math.nan
        if self.aggregate == "softmin":
            weights = np.exp(-(steps - steps.min()) / _SOFT)
            return float(weights @ steps / weights.sum())
        return float(aggregate([steps])[self.aggregate][0])

    def verdicts(self, z: Array) -> Array | None:
        """1 where a step is said to be right, 0 where not, nan where it was cut; None where nothing is said."""
        if self.fall is not None:
            drops = np.diff(self.steps(z), prepend=self.steps(z[:1]))
            return np.where(np.isnan(z) | np.isnan(drops), np.nan, drops > -self.fall)
        if self.threshold is None:
            return None
        return np.where(np.isnan(z), np.nan, z > self.cut)

    @property
    def cut(self) -> float:
        """The threshold in log-odds. Raises UsageError for one that the scale does not have."""
        given = math.nan if self.threshold is None else self.threshold
        share = {"probability": given, "difference": (1 + given) / 2}.get(self.scale)
        if share is None:
            return given
        if not 0 < share < 1:
            least = 0 if self.scale == "probability" else -1
            raise UsageError(f"threshold={given!r}: expected a number between {least} and 1, as a {self.scale} is")
        return math.log(share / (1 - share))


@dataclass(frozen=True, slots=True)
class Stepwise:
    """The rule: where the steps of a solution are read, and what its rewards are.

    `due` is the token at, or behind, the mark of each step; `removed` tokens are taken out of what is read, but for
    those before `kept`, and `early` says that the reads then lie one token before that (ReasonEval-7B).
    """

    shape: Shape
    head: Head
    judging: Judging
    due: int
    removed: bool = False
    kept: int = 0
    early: bool = False

    def form(self, request: Request) -> Form | None:
        """What is shown of a request; None where nobody knows its text."""
        return None if request.responses[0].messages is None else self.shape.shown(request)

    def placed(self, one: Encoded, request: Request) -> Encoded:
        """With a read for each step whose tag was not cut."""
        response = request.responses[0]
        steps = steps_of(response)
        if steps is None:
            return unread(one, "the response is not taken apart into steps")
        if any(message.role != "assistant" for message in response.messages or ()):
            return unread(one, "a process model reads turns of the assistant alone", refused=True)
        if not steps:
            return unread(one, "the response has no steps", refused=True)
        tags = one.marks[self.shape.mark]
        behind = self.shape.mark == BEFORE.name
        for at in tags:
            # what is behind a mark may have been cut, and is not read
            if at is not None and not (behind and one.cut) and one.ids[at + behind] != self.due:
                return unread(one, f"the tokenizer joins the step tag {self.shape.tag!r} to the text beside it")
        places = list(tags)
        if self.shape.read == "first":
            before = one.marks[BEFORE.name]
            places = [None if a is None or b is None else min(b + 1, a) for a, b in zip(tags, before, strict=True)]
        if self.removed:
            one, places = self._without(one, places)
        reads = tuple(sorted({at for at in places if at is not None}))
        noted = (*one.noted, *self.shape.noted(request))
        return replace(one, reads=reads, marks={STEP.name: tuple(places)}, noted=noted)

    def _without(self, one: Encoded, places: Sequence[int | None]) -> tuple[Encoded, list[int | None]]:
        kept = [at for at, token in enumerate(one.ids) if token != self.due or at < self.kept]
        moved = [None if at is None else max(bisect_right(kept, at) - 1 - self.early, 0) for at in places]
        return replace(one, ids=[one.ids[at] for at in kept]), moved

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """The rewards of each solution's steps from its hidden states [reads, h]."""
        return [self._reward(self.head.said(states), one) for states, one in zip(hidden, encoded, strict=True)]

    def _reward(self, said: Said, one: Encoded) -> Reward:
        row: dict[int | None, int] = {at: number for number, at in enumerate(one.reads)}
        rows = [row.get(at, -1) for at in one.marks[STEP.name]]  # of a step that was cut the nan behind the others

        def of_steps(values: Array) -> Array:
            return np.append(values, np.nan)[rows]

        z = of_steps(said.logits)
        heads = {name: of_steps(values) for name, values in said.named.items()}
        if (verdicts := self.judging.verdicts(z)) is not None:
            heads["verdict"] = verdicts
        return Reward(
            (self.judging.whole(z),),
            steps=tuple(self.judging.steps(z).tolist()),
            step_heads={name: tuple(values.tolist()) for name, values in heads.items()},
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a model is read by, settled before its weights are."""

    reading: str
    shape: Shape
    judging: Judging
    own: Own
    good: str | None
    bad: str
    bos: str

    @property
    def identity(self) -> Json:
        """As results state it, and fingerprints hold it."""
        judged_by = {"reading": self.reading, "good": self.good, "bad": self.bad}
        return {**judged_by, **asdict(self.own), **asdict(self.shape), **asdict(self.judging)}

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the authors' own head, of which one of several names is there."""
        return self.own.layers or (_HEADS if self.reading == "value" else ())

    def built(self, loaded: Loaded) -> Built:
        """The rule over loaded weights. Raises ModelError and UsageError for a head or a tag that cannot be."""
        head, layout = self._head(loaded)
        tokenizer = loaded.rendering.tokenizer
        shape = self.shape
        if self.own.removed:
            shape = replace(shape, tag=str(getattr(tokenizer, self.own.removed) or ""))
            if not shape.tag:
                raise ModelError(f"{loaded.name}: the tokenizer has no {self.own.removed}, which stands behind a step")
        due, tokens = _tag_of(loaded, shape, single=self.own.single)
        rule = Stepwise(
            shape, head, self.judging, due, removed=bool(self.own.removed), kept=len(loaded.rendering.specials.before),
            early=bool(self.own.removed) and due == tokenizer.bos_token_id,
        )  # fmt: skip
        return Built(rule, layout=layout, facts={"reading": self.reading, "tag_tokens": tokens})

    def _head(self, loaded: Loaded) -> tuple[Head, Layout]:
        match self.reading:
            case "tokens":
                texts = (self.good or "+", self.bad)
                tokens = [_token(loaded, name, text) for name, text in zip(("good", "bad"), texts, strict=True)]
                if tokens[0] == tokens[1]:
                    raise UsageError(f"good={texts[0]!r}, bad={texts[1]!r}: {loaded.name} has one token for both")
                return process_head.of_tokens(loaded, tokens, self.own.whole)
            case "mean":
                return process_head.of_mean(loaded)
            case "value":
                layers = [name for name in self.layers if f"{name}.weight" in loaded.tensors][:1] or self.layers[:1]
                return process_head.of_layers(loaded, layers, (0,), {})
        if self.layers:
            return process_head.of_layers(loaded, self.layers, _numbers(self.good or "1"), self.own.named)
        return process_head.of_classifier(loaded, _labels(loaded, self.good))


@in_one_line
def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> OpenedReader:
    """Opens a process reward model: a known one, a token classifier, or another with its tag and what judges there.

    No weights are read. Raises UsageError for options that cannot be, and ModelError for a checkpoint without a head
    of steps.
    """
    begun = reader.begin("process", OPTIONS, source, options, revision)
    plan = _settled(begun)
    in_texts = plan.shape.form == "text"
    asked = {**begun.asked, "bos": plan.bos, **({"template": "plain"} if in_texts else {})}
    return reader.opened(
        replace(begun, asked=asked),
        _auto(begun, plan),
        version=VERSION,
        answers=frozenset({"steps"}),
        rule=plan.identity,
        build=plan.built,
        heads=[f"{layer}.*" for layer in plan.layers],
        uses=frozenset() if in_texts else None,
    )


def _settled(begun: Begun) -> Plan:
    asked, own = begun.asked, _own(begun)
    reading = asked["reading"] or _reading_of(begun)
    form: Any = asked["form"] or "text"
    for name in _UNUSED[form]:
        if asked[name] not in (None, False):
            raise UsageError(f"{name}={asked[name]!r} has no effect where form={form}")
    usual = {**_USUAL[reading], **_FORMS[form]}
    chosen: dict[str, Any] = {key: usual.get(key) if asked[key] is None else asked[key] for key in
                              ("prompt", "step", "step_tag", "apart")}  # fmt: skip
    if chosen["step_tag"] is None and not own.removed:
        raise UsageError(
            f"{begun.name}: where its steps are read nobody says: ?step_tag=TEXT is the text behind each step, and"
            " ?good= and ?bad= are the tokens that judge it, where they are not + and -"
        )
    for name, needed in (("prompt", ("question",)), ("step", ("step",) if form == "turns" else ("step", "tag"))):
        _check_pattern(name, chosen[name], needed)
    shape = Shape(
        form,
        chosen["prompt"],
        chosen["step"],
        tag=chosen["step_tag"] or "",
        answer=(asked["good"] or "+") if form == "turns" else "",
        read="before" if form == "turns" or own.removed else own.read,
        apart=chosen["apart"],
        lines=own.lines,
        label=own.label,
        strip=own.strip,
    )
    judging = Judging(asked["scale"] or "probability", asked["aggregate"], asked["threshold"], own.fall)
    if judging.threshold is not None:
        _ = judging.cut
    bos = usual.get("bos", "auto") if asked["bos"] == "auto" else asked["bos"]
    return Plan(reading, shape, judging, own, asked["good"], asked["bad"] or "-", bos)


def _check_pattern(name: str, pattern: str, needed: Sequence[str]) -> None:
    fields = ", ".join(f"{{{one}}}" for one in sorted(FIELDS[name]))
    if (unknown := unknown_field(name, pattern)) is not None:
        raise UsageError(f"{name}={pattern!r}: unknown field {unknown}; expected {fields}")
    for one in needed:
        if f"{{{one}}}" not in pattern:
            raise UsageError(f"{name}={pattern!r}: no {{{one}}} in it; expected {fields}")


def _own(begun: Begun) -> Own:
    """What the entry's rule says. Raises UsageError for a key that no rule has."""
    entry = begun.entry
    if entry is None:
        return Own()
    check_rule(entry.rule, _OF_RULE, f"entry {entry.name}")
    if (read := entry.rule.get("read", "tag")) not in get_args(Place):
        raise UsageError(f"entry {entry.name}: read = {read!r} in its rule; expected {', '.join(get_args(Place))}")
    rule: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in entry.rule.items()}
    return Own(**rule)


def _reading_of(begun: Begun) -> str:
    """What a checkpoint's head is, by its config. Raises ModelError where it has none of steps."""
    adapter = begun.checkpoint.json("adapter_config.json")
    config = begun.checkpoint.json("config.json") or {}
    if adapter is not None:
        kind = {"TOKEN_CLS": "labels", "CAUSAL_LM": "tokens"}.get(str(adapter.get("task_type")))
        stated = f"an adapter with task_type {adapter.get('task_type')!r}"
    else:
        names = [str(name) for name in config.get("architectures") or ()]
        stated = f"a {', '.join(names)}" if names else "of no architecture"
        ends = {"ForTokenClassification": "labels", "ForCausalLM": "tokens", "LMHeadModel": "tokens"}
        kind = next((kind for end, kind in ends.items() for name in names if name.endswith(end)), None)
    if kind is None:
        raise ModelError(
            f"{begun.name} is {stated}, which has no head of steps; expected a token classifier, a language model with"
            " ?step_tag=, or a value head with ?reading=value"
        )
    return kind


def _auto(begun: Begun, plan: Plan) -> str:
    if plan.reading in ("tokens", "mean"):
        return "AutoModelForCausalLM"
    if not plan.layers:
        return "AutoModelForTokenClassification"
    adapted = begun.asked["adapter"] is not None or begun.checkpoint.file("adapter_config.json") is not None
    return "AutoModelForCausalLM" if adapted else "AutoModel"


def _token(loaded: Loaded, option: str, text: str) -> int:
    """The one token that a text is. Raises UsageError."""
    tokenizer = loaded.rendering.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        pieces = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(ids)))
        raise UsageError(f"{option}={text!r}: {len(ids)} tokens of {loaded.name}'s tokenizer ({pieces}); expected one")
    return int(ids[0])


def _labels(loaded: Loaded, good: str | None) -> tuple[int, ...]:
    """The labels of a right step, by name or number: of two the second. Raises UsageError."""
    config = loaded.model.config
    names = [str(config.id2label.get(at, at)) for at in range(config.num_labels)]
    told = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    if good is None:
        if len(names) > 2:
            raise UsageError(
                f"{loaded.name} has {len(names)} labels ({told}): ?good=NAME says which are of a right step"
            )
        return (len(names) - 1,)
    chosen = [names.index(one) if one in names else int(one) if one.isdecimal() else -1 for one in good.split(",")]
    if not all(0 <= at < len(names) for at in chosen) or 1 < len(names) == len(set(chosen)):
        raise UsageError(f"good={good!r}: {loaded.name} has the labels {told}, and some are of a wrong step")
    return tuple(sorted(set(chosen)))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise UsageError(f"good={text!r}: the head's rows have no names; expected their numbers") from None


_SAMPLE = Request(
    "steps",
    (Message("user", "What is 7 + 8?"),),
    (Response("7 + 8 = 15.\nSo it is 15", ("7 + 8 = 15.", "So it is 15")),),
)


def _tag_of(loaded: Loaded, shape: Shape, *, single: bool) -> tuple[int, int]:
    """The token that is due at each step's mark, or behind it, and how many tokens a tag is, as a sample shows them.

    Raises UsageError for a tag that is joined to the text beside it, and where it has to be a single token and is not.
    """
    rendering: Rendering = replace(loaded.rendering, limits=replace(loaded.rendering.limits, max_length=None))
    (one,) = rendering.encode_forms([shape.shown(_SAMPLE)])
    if one.error is not None:
        raise ModelError(f"{loaded.name}: a sample of two steps cannot be read: {one.error}")
    behind = shape.mark == BEFORE.name
    places = [-1 if at is None else at for at in one.marks[shape.mark]]
    due = [one.ids[at + behind] for at in places]
    if len(set(due)) > 1:
        pieces = " and ".join(map(repr, rendering.tokenizer.convert_ids_to_tokens(due)))
        raise UsageError(
            f"step_tag={shape.tag!r}: the tokenizer of {loaded.name} joins it to the text beside it ({pieces});"
            " ?apart=true tokenises it by itself"
        )
    tokens = 1
    if not behind:
        tokens = max(at - (0 if before is None else before) for at, before in
                     zip(places, one.marks[BEFORE.name], strict=True))  # fmt: skip
        if single and tokens > 1:
            pieces = ", ".join(
                map(repr, rendering.tokenizer.convert_ids_to_tokens(one.ids[places[0] - tokens + 1 : places[0] + 1]))
            )
            raise UsageError(
                f"step_tag={shape.tag!r}: {tokens} tokens of {loaded.name}'s tokenizer ({pieces}); expected one"
            )
    return due[0], max(tokens, 1)
