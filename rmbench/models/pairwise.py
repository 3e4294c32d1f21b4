"""Pairwise models: both responses in one text, and how likely each is the better one.

Three readings are known. An entry of the table of known models says which is a checkpoint's, and all that it takes:

- `pieces`, as PairRM: prompt and responses are texts of their own, each behind a tag, with special tokens around it and
  a limit. A head over the hidden states of the tags scores each response.
- `letters`, of any language model: a template writes prompt and responses, and the model goes on with the token `a` or
  `b`. Their logits at the next position are compared, those of an encoder-decoder at the first of its decoder. What has
  no entry is read so, by a template of the user's.
- `embedding`, as General Preference Models: each response is embedded by itself (`general_preference`). Their
  preferences may go round in circles; the result says so.

A request is answered as it stands, with the win masses of its two responses in the order shown. Which orders are shown
is the task's: `--orders both` shows each pair in both, and their masses are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.fingerprint import Checkpoint, digest, first_line
from rmbench.checkpoints.forms import Form
from rmbench.checkpoints.notes import COMPARISON_CUT, NOT_TRAINED_WITH_SYSTEM, PROMPT_CUT, RESPONSE_CUT
from rmbench.checkpoints.rendering import Rendering, source_of
from rmbench.checkpoints.template import Comparing, as_text, comparing, turns_of, without_system
from rmbench.checkpoints.vocabulary import vocabulary_of
from rmbench.errors import ModelError, UsageError
from rmbench.models import general_preference
from rmbench.models.base import Encoded, Option, Subject
from rmbench.models.general_preference import INTRANSITIVE, GeneralPreference, won
from rmbench.models.known import check_rule, entries
from rmbench.models.options import given
from rmbench.models.reader import OPTIONS as READER_OPTIONS
from rmbench.models.reader import Begun, Built, Loaded, OpenedReader, begin, opened, unread
from rmbench.models.spec import Spec
from rmbench.types import Message, Request, Response, Reward, Use

if TYPE_CHECKING:
    import torch

VERSION = 1  # of how this module reads a model; a change of any reward raises it

SOURCE = "required"

OPTIONS: Mapping[str, Option] = {
    **READER_OPTIONS,
    "template": Option("a Jinja file that writes the prompt's `messages` and both `responses`"),
    "a": Option("the token by which a language model names the first response", default="A"),
    "b": Option("the token by which it names the second", default="B"),
    "as_text": Option("the template writes all that is read, and not a turn of the user", bool, False),
    "source_length": Option("tokens of a prompt that is a text of its own", int),
    "candidate_length": Option("tokens of a response that is a text of its own", int),
    "ask": Option("of a model that embeds: compare, or the embeddings alone", default="compare",
                  choices=("compare", "embedding")),
}  # fmt: skip

# What the rule of an entry has to say besides how it reads and in which orders, by its reading
_KEYS: Mapping[str, Mapping[str, str]] = {
    "pieces": {
        **dict.fromkeys(("prompt", "response", "cut"), "a text"),
        **dict.fromkeys(("tag_apart", "decoded"), "true or false"),
    },
    "letters": {"text": "a text", "due": "true or false"},
    "embedding": {"tau": "a number above 0"},
}
# Options of one reading alone, and what the others say to them
_OF = {"a": "letters", "b": "letters", "as_text": "letters", "source_length": "pieces", "candidate_length": "pieces",
       "ask": "embedding"}  # fmt: skip
_READINGS: Mapping[str, str] = {
    "pieces": "{} compares by a head over three texts; source_length, candidate_length and max_length cut them",
    "letters": "{} compares by two tokens behind one text, which max_length cuts",
    "embedding": "{} compares embeddings of conversations, which max_length cuts",
}
_TAGS = ("<|source|>", "<|candidate1|>", "<|candidate2|>")
_LEAST = 8  # tokens of a text that is cut: special ones, its tag, and some of its own
_HEAD = ("head_layer.1.weight", "head_layer.1.bias", "head_layer.4.weight", "head_layer.4.bias")


def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> OpenedReader | GeneralPreference:
    """Opens a hub id or a local folder. No weights are read.

    Raises UsageError for options that cannot be, and where nobody says how the checkpoint compares; ModelError where it
    is no such model.
    """
    begun = begin("pairwise", OPTIONS, source, options, revision)
    rule = _rule_of(begun)
    reads, stated = rule["reads"], given(options, OPTIONS)
    for option, reading in _OF.items():
        if reading != reads and (option in stated or begun.asked[option] != OPTIONS[option].default):
            raise UsageError(f"{option}={begun.asked[option]!r}: {_READINGS[reads].format(begun.name)}")
    if reads == "pieces":
        return _pieces(begun, rule)
    if reads == "letters":
        return _letters(begun, rule)
    if begun.asked["ask"] == "embedding":
        return _embedding(begun, rule)
    return _general_preference(begun, rule, options)


def _rule_of(begun: Begun) -> dict[str, Any]:
    """How a checkpoint compares: as its entry says, or by the template of the user. Raises UsageError."""
    asked, entry = begun.asked, begun.entry
    if entry is None or asked["template"] is not None:
        if asked["template"] is None:
            names = ", ".join(name for name, one in entries().items() if one.family == "pairwise" and not one.refused)
            raise UsageError(
                f"{begun.name}: nobody says how it compares; expected template=FILE, a Jinja file that writes"
                f" `messages` and `responses`, or entry=NAME, one of {names}"
            )
        return {"reads": "letters", "text": None, "due": True}
    rule = dict(entry.rule)
    keys = _KEYS.get(str(rule.get("reads")))
    if keys is None:
        raise UsageError(f"{entry.name}: rule.reads = {rule.get('reads')!r}; expected {', '.join(_KEYS)}")
    check_rule(rule, {"reads": "a text", "orders": "a text", **keys}, entry.name, tuple(keys))
    return rule


def _without_template(begun: Begun) -> Begun:
    """The same whose turns are written by the tokenizer's own template: the one that was given writes a comparison."""
    return replace(begun, asked={**begun.asked, "template": None})


def _as_plain(begun: Begun) -> Begun:
    return replace(begun, asked={**begun.asked, "template": "plain"})


def _uses(begun: Begun) -> frozenset[Use]:
    return frozenset({"tools"}) if begun.asked["tools_as_text"] else frozenset()


# What a template writes


@dataclass(frozen=True, slots=True)
class Written:
    """A comparison as texts: `templates` are given the prompt's `messages` and both `responses`."""

    templates: tuple[Comparing, ...]
    tools_as_text: bool
    fold_system: bool

    def __call__(self, request: Request) -> list[str]:
        """One text a template. Raises ValueError where there is none of such a request."""
        responses = [response.text for response in request.responses if response.text is not None]
        if not len(responses) == len(request.responses) == 2:
            raise ValueError(f"{len(request.responses)} responses; expected two with texts")
        messages: Sequence[Message] = request.prompt
        if self.tools_as_text:
            messages = as_text(messages, request.tools)
        if self.fold_system:
            messages = without_system(messages)
        turns = turns_of(messages)
        return [template(turns, responses) for template in self.templates]


def _written(begun: Begun, tokenizer: Any, *sources: str) -> Written:
    """Raises ModelError where a template is none."""
    manner = begun.asked["tools_as_text"], begun.asked["fold_system"]
    try:
        return Written(tuple(comparing(source, tokenizer.special_tokens_map) for source in sources), *manner)
    except Exception as error:  # jinja2's errors, of which a template can have any
        raise ModelError(f"{begun.name}: what writes the comparison is no template: {first_line(error)}") from None


def _texts(written: Written, requests: Sequence[Request]) -> list[list[str] | Encoded]:
    """The texts of each request, or why there are none."""
    texts: list[list[str] | Encoded] = []
    for request in requests:
        try:
            texts.append(written(request))
        except Exception as error:  # a template is a program: it may raise anything
            texts.append(Encoded((), (), error=f"the comparison cannot be written: {first_line(error)}", refused=True))
    return texts


# A language model that goes on with one of two tokens


def _letters(begun: Begun, rule: Mapping[str, Any]) -> OpenedReader:
    config = begun.checkpoint.json("config.json") or {}
    whole = bool(config.get("is_encoder_decoder"))
    source = rule["text"]
    if source is None:
        source = source_of(_Unnamed, begun.asked["template"], begun.name, "a Jinja file")
    as_turn = not (whole or begun.asked["as_text"])
    if as_turn and not _has_template(begun.checkpoint):
        raise UsageError(
            f"{begun.name}: its tokenizer has no chat template to make a turn of the comparison; as_text=true reads"
            " what the template writes as it is"
        )
    rule = {**rule, "text": sha256(source.encode()).hexdigest(), "as": "a turn of the user" if as_turn else "text"}
    at_rest = opened(
        _without_template(begun) if as_turn else _as_plain(begun),
        "AutoModelForSeq2SeqLM" if whole else "AutoModelForCausalLM",
        version=VERSION,
        answers=frozenset({"compare"}),
        rule=rule,
        build=partial(_letters_built, begun=begun, source=source, rule=rule, whole=whole),
        uses=_uses(begun),
        most=2,
        orders=rule.get("orders"),
    )
    _tokens(begun, at_rest.rendering.tokenizer)
    _check_written(_written(begun, at_rest.rendering.tokenizer, source), begun.name)
    return at_rest


def _has_template(checkpoint: Checkpoint) -> bool:
    """Whether there is a chat template beside the weights; an adapter may have one elsewhere."""
    stated = checkpoint.json("tokenizer_config.json") or {}
    files = ("adapter_config.json", "chat_template.jinja", "chat_template.json")
    return bool(stated.get("chat_template")) or any(checkpoint.file(file) is not None for file in files)


def _check_written(written: Written, name: str) -> None:
    """Raises ModelError where a template fails on a plain comparison, or leaves a part of it out."""
    parts = [("Hi", "A", "B"), ("Ho", "A", "B"), ("Hi", "B", "B"), ("Hi", "A", "A")]
    try:
        plain, *others = (
            written(Request("compare", (Message("user", prompt),), (Response(first), Response(second))))
            for prompt, first, second in parts
        )
    except Exception as error:  # a template is a program: it may raise anything
        raise ModelError(f"{name}: what writes the comparison fails on a plain one: {first_line(error)}") from None
    for part, other in zip(("the prompt", "the first response", "the second response"), others, strict=True):
        if plain == other:
            raise ModelError(f"{name}: what writes the comparison leaves {part} out; it is given messages, responses")


class _Unnamed:
    """A tokenizer that names no templates, since those of a tokenizer write conversations and no comparisons."""

    chat_template = None


def _tokens(begun: Begun, tokenizer: Any) -> list[int]:
    """The tokens that name the two responses. Raises UsageError where a text is not one token, or both are alike."""
    tokens = []
    for option in ("a", "b"):
        text = begun.asked[option]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            parts = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(ids)))
            raise UsageError(f"{option}={text!r}: {begun.name} has {len(ids)} tokens for it ({parts}); expected one")
        tokens += ids
    if tokens[0] == tokens[1]:
        raise UsageError(f"a={begun.asked['a']!r}, b={begun.asked['b']!r}: {begun.name} has one token for both")
    return tokens


def _letters_built(loaded: Loaded, *, begun: Begun, source: str, rule: Mapping[str, Any], whole: bool) -> Built:
    rendering = loaded.rendering
    tokens = _tokens(begun, rendering.tokenizer)
    written = _written(begun, rendering.tokenizer, source)
    as_turn, due = rule["as"] != "text", bool(rule["due"]) and not whole
    facts, no_system = {"tokens": tokens}, begun.entry is not None and begun.entry.no_system
    if whole:
        backbone = _of_decoder(loaded.model, tokens, loaded.name)
        return Built(Letters(rendering, written, as_turn, due, True, None, no_system), backbone, "encoder", facts)
    vocabulary = vocabulary_of(loaded.model, loaded.head_dtype, rendering.tokenizer, loaded.name)
    head = partial(vocabulary.logits_of, rows=tokens)
    return Built(Letters(rendering, written, as_turn, due, False, head, no_system), facts=facts)


@dataclass(frozen=True, slots=True)
class Letters:
    """Rule of a language model: the logits of its two tokens, at the last position, or as a `whole` model gives them.

    `head` maps hidden states [n, h] to these logits [n, 2]. With `no_system` a system turn is noted.
    """

    rendering: Rendering
    written: Written
    as_turn: bool
    due: bool
    whole: bool
    head: Any
    no_system: bool

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        """The comparison as a turn of the user, or as text, read at its last token."""
        texts = _texts(self.written, requests)
        forms = [self._form(*one) for one in texts if not isinstance(one, Encoded)]
        read = iter(self.rendering.encode_forms(forms))
        encoded = [one if isinstance(one, Encoded) else next(read) for one in texts]
        return [
            one if one.error is not None else self._placed(one, request)
            for one, request in zip(encoded, requests, strict=True)
        ]

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """Win masses: the softmax over the two logits."""
        import torch

        states = torch.cat(list(hidden))
        logits = (states if self.head is None else self.head(states)).double()
        return [_reward(first - second) for first, second in logits.tolist()]

    def _placed(self, one: Encoded, request: Request) -> Encoded:
        noted = [*one.noted, *[COMPARISON_CUT] * (one.cut > 0)]
        begins = not self.written.fold_system and any(turn.role == "system" for turn in request.prompt[:1])
        if self.no_system and begins:
            noted.append(NOT_TRAINED_WITH_SYSTEM)
        return replace(one, reads=(0 if self.whole else len(one.ids) - 1,), noted=tuple(noted))

    def _form(self, text: str) -> Form:
        return Form((Message("user", text),), due=self.due) if self.as_turn else Form(texts=(text,), due=self.due)


def _reward(lead: float) -> Reward:
    return Reward((won(lead), won(-lead)))


def _of_decoder(model: Any, tokens: Sequence[int], name: str) -> Any:
    """A module that runs all of an encoder-decoder and gives the logits of the tokens at the decoder's first position
    as the hidden state of one position, [b, 1, 2]. Raises ModelError where its decoder has no token to start with.
    """
    from types import SimpleNamespace

    import torch

    start = model.config.decoder_start_token_id
    if start is None:
        raise ModelError(f"{name}: config.json has no decoder_start_token_id")

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.config = model.config

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **inputs: Any
        ) -> SimpleNamespace:
            begins = input_ids.new_full((len(input_ids), 1), start)
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            logits = self.model(
                input_ids=input_ids, attention_mask=mask, decoder_input_ids=begins, use_cache=False
            ).logits
            return SimpleNamespace(last_hidden_state=logits[:, :, list(tokens)])

    return First().eval()


# Pieces behind tags


def _pieces(begun: Begun, rule: Mapping[str, Any]) -> OpenedReader:
    lengths = _lengths(begun)
    hashed = {key: sha256(value.encode()).hexdigest() if key in ("prompt", "response") else value
              for key, value in {**rule, "lengths": lengths}.items()}  # fmt: skip
    at_rest = opened(
        replace(begun, asked={**begun.asked, "template": "plain", "max_length": None}),  # each text has its own limit
        "AutoModel",
        version=VERSION,
        answers=frozenset({"compare"}),
        rule=hashed,
        build=partial(_pieces_built, begun=begun, rule=rule, lengths=lengths),
        heads=_HEAD,
        uses=_uses(begun),
        most=2,
        orders=rule.get("orders"),
    )
    _tags(begun.name, at_rest.rendering.tokenizer)
    return at_rest


def _lengths(begun: Begun) -> tuple[int, int]:
    """Tokens of a prompt and of each response, fewer where all are to fit into `max_length`. Raises UsageError."""
    source, candidate = begun.asked["source_length"], begun.asked["candidate_length"]
    if not source or not candidate:
        raise UsageError(f"{begun.name}: expected source_length and candidate_length, numbers of tokens")
    whole = source + 2 * candidate
    most = min(begun.asked["max_length"] or whole, whole)
    lengths = source * most // whole, candidate * most // whole
    if min(lengths) < _LEAST:
        told = f"{lengths[0]} tokens of a prompt and {lengths[1]} of each response"
        raise UsageError(f"{begun.name}: {told}; expected {_LEAST} or more")
    return lengths


def _tags(name: str, tokenizer: Any) -> list[int]:
    """The token of each tag. Raises ModelError where the tokenizer has none."""
    tags = []
    for tag in _TAGS:
        ids = tokenizer(tag, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise ModelError(f"{name}: the tokenizer has {len(ids)} tokens for {tag}; expected one, as pairs are read")
        tags += ids
    return tags


def _pieces_built(loaded: Loaded, *, begun: Begun, rule: Mapping[str, Any], lengths: tuple[int, int]) -> Built:
    width = loaded.width
    inner, inner_bias, outer, outer_bias = (loaded.tensor(name) for name in _HEAD)
    loaded.tensor(_HEAD[0], width, 2 * width)
    loaded.tensor(_HEAD[2], None, width)

    def head(states: torch.Tensor) -> torch.Tensor:
        import torch

        within = torch.tanh(torch.nn.functional.linear(states.to(inner.device, inner.dtype), inner, inner_bias))
        return torch.nn.functional.linear(within, outer, outer_bias).mean(-1)

    written = _written(begun, loaded.rendering.tokenizer, rule["prompt"], *_two_of(rule["response"]))
    manner = rule["cut"], rule["tag_apart"], rule["decoded"]
    rendering = loaded.rendering
    if not getattr(loaded.model.config, "position_biased_input", True):  # relative positions alone: any number
        rendering = replace(rendering, limits=replace(rendering.limits, positions=None))
    built = Pieces(rendering, written, lengths, *manner, _tags(loaded.name, loaded.rendering.tokenizer), head)
    return Built(built, layout="encoder")


def _two_of(response: str) -> tuple[str, str]:
    """The template of each of two responses, made of that of `response`."""
    first, second = ("{% set response = responses[" + str(at) + "] %}" + response for at in range(2))
    return first, second


@dataclass(frozen=True, slots=True)
class Pieces:
    """Rule of PairRM. `lengths` are tokens of the prompt and of each response; a response may have what the prompt
    leaves of its own. `cut` is the side from which the prompt loses tokens, a response loses its last.

    `tag_apart`: the prompt's tag is a text by itself. `decoded`: texts are cut, decoded, and encoded once more.
    `head` maps hidden states of a prompt's and a response's tag [n, 2h] to scores [n].
    """

    rendering: Rendering
    written: Written
    lengths: tuple[int, int]
    cut: str
    tag_apart: bool
    decoded: bool
    tags: Sequence[int]
    head: Any

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        """Three texts in a row, each with special tokens around it, read at the tags."""
        written = _texts(self.written, requests)
        cut = [self._cut(texts) for texts in written if not isinstance(texts, Encoded)]
        forms = [Form(texts=(text,)) for texts, _ in cut for text in texts]
        pieces = iter(self.rendering.encode_forms(forms))
        joined = iter([self._joined([next(pieces) for _ in texts], lost) for texts, lost in cut])
        return [one if isinstance(one, Encoded) else next(joined) for one in written]

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """Win masses: the sigmoid of what the first response's score is above the second's."""
        import torch

        states = torch.stack(list(hidden))
        scores = [self.head(torch.cat([states[:, 0], states[:, at]], -1)).double() for at in (1, 2)]
        return [_reward(lead) for lead in (scores[0] - scores[1]).tolist()]

    def _cut(self, texts: Sequence[str]) -> tuple[list[str], list[int]]:
        """The texts with their tags, and how many tokens prompt and responses have lost where they are decoded."""
        limits = ((self.lengths[0], self.cut), (self.lengths[1], "right"), (self.lengths[1], "right"))
        lost = [0, 0, 0]
        if self.decoded:
            again = [self._again(text, *limit) for text, limit in zip(texts, limits, strict=True)]
            texts, lost = [text for text, _ in again], [count for _, count in again]
        source, first, second = texts
        opening = [_TAGS[0], source] if self.tag_apart else [_TAGS[0] + source]
        return [*opening, _TAGS[1] + first, _TAGS[2] + second], lost

    def _again(self, text: str, most: int, side: str) -> tuple[str, int]:
        """A text cut, as the tokenizer decodes it without special tokens, and how many tokens it lost."""
        tokenizer = self.rendering.tokenizer
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        left = ids[max(0, len(ids) - most) :] if side == "left" else ids[:most]
        return tokenizer.decode(left, skip_special_tokens=True), len(ids) - len(left)

    def _joined(self, pieces: Sequence[Encoded], lost: Sequence[int]) -> Encoded:
        """The pieces one after the other, each within its limit. `lost` are tokens that the three texts have lost."""
        if (broken := next((one for one in pieces if one.error is not None), None)) is not None:
            return broken
        *opening, prompt, first, second = (list(one.ids) for one in pieces)
        most = sum(self.lengths) + self.lengths[1]
        source = [token for piece in opening for token in piece]
        source += self._kept(prompt, self.lengths[0] - len(source), self.cut)
        room = (most - len(source)) // 2
        responses = [self._kept(piece, room, "right") for piece in (first, second)]
        ids = [*source, *responses[0], *responses[1]]
        had = sum(map(len, opening)) + len(prompt), len(first), len(second)
        left = map(len, (source, *responses))
        gone = [before + one - other for before, one, other in zip(lost, had, left, strict=True)]
        noted = dict.fromkeys(reason for one in pieces for reason in one.noted)
        noted |= dict.fromkeys([PROMPT_CUT] * bool(gone[0]) + [RESPONSE_CUT] * any(gone[1:]))
        at = len(self.rendering.specials.before)
        reads = (at, len(source) + at, len(source) + len(responses[0]) + at)
        one = Encoded(ids, reads, cut=sum(gone), noted=tuple(noted))
        if [ids[place] for place in reads] != list(self.tags):
            return unread(one, "the tokenizer does not keep the tags of a pair")
        positions = self.rendering.limits.positions
        if positions is not None and len(ids) > positions:
            return unread(one, f"{len(ids):,} tokens, the model has {positions:,} positions; source_length and"
                               " candidate_length cut, and are counted")  # fmt: skip
        return one

    def _kept(self, ids: list[int], most: int, side: str) -> list[int]:
        """A piece within a limit: special tokens around it stay, and so does its tag."""
        over = len(ids) - most
        if over <= 0:
            return ids
        if side == "right":
            end = len(ids) - len(self.rendering.specials.after)
            return ids[: end - over] + ids[end:]
        start = len(self.rendering.specials.before) + (not self.tag_apart)
        return ids[:start] + ids[start + over :]


# Embeddings that are compared


def _embedding(begun: Begun, rule: Mapping[str, Any]) -> OpenedReader:
    return opened(
        begun,
        "AutoModelForCausalLM",
        version=VERSION,
        answers=frozenset({"embedding"}),
        rule=rule,
        build=general_preference.built,
        heads=general_preference.HEADS,
    )


def _general_preference(begun: Begun, rule: Mapping[str, Any], options: Mapping[str, Any]) -> GeneralPreference:
    """The Derived that compares what `?ask=embedding` of the same source gives."""
    member = Spec("pairwise", begun.source, begun.revision, {**given(options, OPTIONS), "ask": "embedding"})
    fingerprint = digest({"family": "pairwise", "version": VERSION, "rule": rule})
    settings = {**begun.known, "rule": rule, "intransitive": INTRANSITIVE, "options": begun.hashed}
    subject = Subject(begun.name, "pairwise", begun.checkpoint.commit, settings)
    return GeneralPreference(subject, fingerprint, (member,), rule["tau"])
