"""From forms of requests to the tokens a model reads: chat template, plain text or a text pair.

Plain text is one `Role: content` per turn, joined by an empty line. A pair is the prompt as the tokenizer's first text
(the content of a single user turn, several turns as plain text) and the response as its second. Prompt and response
are otherwise tokenised as one text, never apart unless a form says so, because tokens may span the seam.

Special tokens: what the tokenizer puts around a text by its own rule (a BOS or CLS in front, an EOS or SEP behind) is
there whether the template writes it or not, and is never put there a second time: `choose` sees on a short conversation
whether the template writes it, be it behind or before white space. The option `bos` has exactly one BOS, or none. With
`both` and `template` the tokenizer's own are there beside what a template writes, or are left out, as code has it that
tokenises a template's text like any other, with or without special tokens.

What a template leaves out and which texts hold control tokens of the tokenizer is noted, request by request.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rmbench.checkpoints.controls import Controls, PrivateCharacterError
from rmbench.checkpoints.fingerprint import PANIC, first_line
from rmbench.checkpoints.forms import Form, MisplacedError, Turn, marked, places, signs_for, without_marks
from rmbench.checkpoints.notes import (
    CONTROLS,
    CONTROLS_AS_TEXT,
    LEFT_OUT,
    NOT_TRAINED_WITH_SYSTEM,
    PROMPT_CUT,
    RESPONSE_CUT,
    SYSTEM_LEFT_OUT,
)
from rmbench.checkpoints.specials import BOS, Specials, place_of
from rmbench.checkpoints.template import (
    FROZEN_DATE,
    PLAIN_ROLES,
    Template,
    as_text,
    compiled,
    plain,
    takes_calls,
    takes_results,
    takes_system,
    takes_tools,
    turns_of,
    without_system,
)
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Encoded, Option
from rmbench.types import Json, Message, Request

Kind = Literal["template", "plain", "pair"]

# What every family that renders takes, beside its template
OPTIONS: Mapping[str, Option] = {
    "tools_as_text": Option("put tools into the system turn as text", bool, False),
    "fold_system": Option("put the system turn into the first user turn", bool, False),
    "bos": BOS,
    "control_tokens": Option("of the tokenizer in texts. keep: as such; text: read as text", default="keep",
                             choices=("keep", "text")),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sequence has to fit in: the model's positions (None: any) and rows of its embedding (None: any)."""

    positions: int | None = None
    rows: int | None = None
    max_length: int | None = None
    side: Literal["left", "right"] = "left"


class _Shown(NamedTuple):
    """One text or two. `sealed`: for the tokenizer that reads control tokens as text. `responses` are the texts of the
    response's turns."""

    texts: tuple[str, str]
    sealed: bool = False
    noted: tuple[str, ...] = ()
    responses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Written:
    """A form as text. `marks` are a name, which of the texts, and a character in it."""

    shown: _Shown
    kind: Kind
    form: Form
    marks: tuple[tuple[str, int, int], ...] = ()

    @property
    def texts(self) -> tuple[str, str]:
        return self.shown.texts


class _Tokens(NamedTuple):
    """`spans` are the tokens of each text, `marks` a name, the text and the last token before it (-1: none)."""

    ids: list[int]
    type_ids: list[int] | None = None
    mask: list[int] | None = None
    spans: tuple[tuple[int, int], ...] = ()
    marks: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Rendering:
    """How requests become ids for one tokenizer.

    `source` is the text of the template where there is one; `writes` is whether it writes what the tokenizer puts
    before and after a text itself. `tools_as_text` puts tools into the system turn, calls and results into turns;
    `fold_system`, `bos` and `control_tokens` are as in `OPTIONS`. `system` is the text of a turn that is put before a
    conversation which has none; with `no_system` one that it has is noted, since the model was trained without.
    """

    tokenizer: Any
    kind: Kind
    limits: Limits
    source: str | None = None
    writes: tuple[bool, bool] = (False, False)
    tools_as_text: bool = False
    fold_system: bool = False
    bos: str = "auto"
    control_tokens: str = "keep"
    system: str | None = None
    no_system: bool = False

    def encode(self, requests: Sequence[Request], forms: Sequence[Form | None] | None = None) -> list[Encoded]:
        """One `Encoded` per request, without reads, of its form or else of its prompt and response as they are.

        What cannot be read has `error` instead of ids, and is `refused` where it has turns or tools that the template
        does not take. Over-long sequences are cut to `limits.max_length` where that is set, from `limits.side` on but
        without the special tokens around and between the texts, and are an error otherwise.
        """
        if forms is not None:
            return self.encode_forms(forms)
        # most requests are turns of plain text, and there are many: they go without forms
        shown: dict[int, _Shown] = {}
        others: dict[int, Form | None] = {}
        encoded: dict[int, Encoded] = {}
        for i, request in enumerate(requests):
            response = request.responses[0].messages
            if not response or request.tools or not _is_usual(request.prompt) or not _is_usual(response):
                others[i] = form_of(request)
                continue
            try:
                shown[i] = self._shown((*request.prompt, *response), len(response))
            except _UnreadableError as error:
                encoded[i] = error.encoded
        tokens = self._tokenize_all(list(shown.values()), self.kind, False)
        encoded.update((i, self._fitted(one, shown[i], self.kind, False)) for i, one in zip(shown, tokens, strict=True))
        encoded.update(zip(others, self.encode_forms(list(others.values())), strict=True))
        return [encoded[i] for i in range(len(requests))]

    def encode_forms(self, forms: Sequence[Form | None]) -> list[Encoded]:
        """One `Encoded` per form, as `encode` gives it; None stands for a response without text."""
        encoded: dict[int, Encoded] = {}
        written: dict[int, _Written] = {}
        for i, form in enumerate(forms):
            try:
                written[i] = self._written(form)
            except _UnreadableError as error:
                encoded[i] = error.encoded
        alike: dict[tuple[Kind, bool], list[int]] = {}
        for i, one in written.items():
            if one.form.is_whole:
                alike.setdefault((one.kind, one.form.due), []).append(i)
                continue
            try:
                encoded[i] = self._cut_pieces(one, self._located(one))
            except (_UnreadableError, MisplacedError) as error:
                encoded[i] = Encoded(ids=(), reads=(), error=str(error))
        for (kind, due), members in alike.items():
            tokens = self._tokenize_all([written[i].shown for i in members], kind, due)
            encoded.update(
                (i, self._fitted(one, written[i].shown, kind, due)) for i, one in zip(members, tokens, strict=True)
            )
        return [encoded[i] for i in range(len(forms))]

    def text(self, messages: Sequence[Message], tools: Sequence[Json] = (), answered: int = 1) -> str:
        """What is tokenised of a conversation whose last `answered` turns are the response; of a pair both texts.

        Raises ValueError, which says why it cannot be written.
        """
        try:
            return "".join(self._texts(Form(messages, tools=tools, answered=answered), iter(())).texts)
        except _UnreadableError as error:
            raise ValueError(str(error)) from None

    @cached_property
    def specials(self) -> Specials:
        """The special tokens around a text."""
        return Specials(self.tokenizer, self.bos, self.writes)

    @property
    def least(self) -> int:
        """The fewest tokens a sequence can be cut to: the special ones and one more."""
        if self.kind == "pair":
            return int(self.tokenizer.num_special_tokens_to_add(pair=True)) + 1
        return sum(map(len, self.specials.around)) + 1

    @property
    def identity(self) -> dict[str, Any]:
        """What of the rendering changes the ids, JSON-able."""
        return {
            "kind": self.kind,
            "template": None if self.source is None else hashlib.sha256(self.source.encode()).hexdigest(),
            "date": FROZEN_DATE.isoformat(),
            "specials": list(self.specials.around),
            "max_length": self.limits.max_length,
            "truncation_side": self.limits.side,
            **({"tools": "as text"} if self.tools_as_text else {}),
            **({"system": "in the first user turn"} if self.fold_system else {}),
            **({"bos": self.bos} if self.bos != "auto" else {}),
            **({"control_tokens": self.control_tokens} if self.control_tokens != "keep" else {}),
            **({"system_turn": self.system} if self.system is not None else {}),
            **({"no_system": True} if self.no_system else {}),
        }

    @cached_property
    def takes_tools(self) -> bool:
        """Whether a request's tools get into what is read."""
        return self.tools_as_text or (self.kind == "template" and takes_tools(self._template))

    @cached_property
    def _takes_calls(self) -> bool:
        return self.kind != "template" or takes_calls(self._template)

    @cached_property
    def _takes_results(self) -> bool:
        return self.kind != "template" or takes_results(self._template)

    @cached_property
    def _takes_system(self) -> bool:
        return self.kind != "template" or takes_system(self._template)

    @cached_property
    def controls(self) -> Controls:
        """The control tokens of the tokenizer."""
        written = ""
        if self.kind == "template":
            with suppress(Exception):  # what a template refuses it does not write
                written = self._template(turns_of((*_ASKED, Message("assistant", "A"))), None, True)
        return Controls(self.tokenizer, written)

    @cached_property
    def _template(self) -> Template:
        return compiled(self.source or "", self.tokenizer.special_tokens_map)

    @cached_property
    def _has_type_ids(self) -> bool:
        return "token_type_ids" in self.tokenizer.model_input_names

    @cached_property
    def _space(self) -> str:
        """The character for a space in front of a token, where the tokenizer's offsets leave it out; else nothing."""
        tokens = self.tokenizer("a a", add_special_tokens=False, return_offsets_mapping=True)
        placed = zip(tokens.tokens(0), tokens["offset_mapping"], strict=True)
        return next((token[0] for token, (start, _) in placed if token[0] in "Ġ▁" and start == 2), "")

    def _written(self, form: Form | None) -> _Written:
        if form is None:
            raise _UnreadableError("the response has no text")
        kind: Kind = self.kind if form.messages else "pair" if len(form.texts) == 2 else "plain"
        marks = form.marks
        shown = self._texts(without_marks(form) if marks else form, iter(()))
        if not marks:
            return _Written(shown, kind, form)
        read = shown.texts
        signs = signs_for(marks, "".join(read))
        signed = self._texts(form, iter(signs)).texts
        writer = "the chat template" if kind == "template" else "the text"
        try:
            placed = places("".join(read), "".join(signed), signs, marks, writer)
        except MisplacedError as error:
            raise _UnreadableError(str(error)) from None
        second = [sign in signed[1] for sign in signs]
        at = tuple(
            (mark.name, int(in_second), place - in_second * len(read[0]))
            for mark, in_second, place in zip(marks, second, placed, strict=True)
        )
        return _Written(shown, kind, form, at)

    def _texts(self, form: Form, signs: Iterator[str]) -> _Shown:
        """What is tokenised: one text or two, with the next of `signs` in place of each mark."""
        if form.texts:
            texts = [Message("user", marked(text, signs)) for text in form.texts]
            turns, _, sealed, noted = self._watched(texts, own=form.own)
            first, *second = (self.controls.sealed(turn.text) if sealed else turn.text for turn in turns)
            return _Shown((first, "".join(second)), sealed, noted)
        messages = [
            Message(message.role, marked(message.text, signs)) if isinstance(message, Turn) else message
            for message in form.messages
        ]
        if not form.tools and _is_usual(messages):
            return self._shown(messages, form.answered, (), form.due, form.own)
        try:
            return self._shown(messages, form.answered, form.tools, form.due, form.own)
        except (ValueError, _UnreadableError) as error:  # a ValueError is of an image
            raise _UnreadableError(str(error), refused=True) from None

    def _shown(
        self,
        messages: Sequence[Message],
        answered: int,
        tools: Sequence[Json] = (),
        due: bool = False,
        own: Sequence[str] = (),
    ) -> _Shown:
        """The text or texts of messages, the last `answered` of which are the response, and what is noted of them."""
        begins = bool(messages) and messages[0].role == "system"
        if self.system is not None and not begins:
            messages = (Message("system", self.system), *messages)
        if self.fold_system:
            messages = without_system(messages)
        messages, tools, sealed, noted = self._watched(messages, tools, own)
        if self.no_system and begins:
            noted = (*noted, NOT_TRAINED_WITH_SYSTEM)
        taken = messages
        if tools or not _is_usual(messages):
            taken, tools = self._taken(list(messages), tools)
        texts = self._rendered(taken, tools, due)
        responses = [turn.text.strip() for turn in messages[len(messages) - answered :] if turn.role == "assistant"]
        if self.kind == "template":
            if not all(_stands_in(response, texts[0]) for response in responses):
                noted = (*noted, LEFT_OUT)
            if messages[0].role == "system" and not _stands_in(messages[0].text, texts[0]):
                noted = (*noted, SYSTEM_LEFT_OUT)
        if sealed:
            texts = self.controls.sealed(texts[0]), self.controls.sealed(texts[1])
            responses = [self.controls.sealed(response) for response in responses]
        return _Shown(texts, sealed, noted, tuple(responses))

    def _watched(
        self, messages: Sequence[Message], tools: Sequence[Json] = (), own: Sequence[str] = ()
    ) -> tuple[Sequence[Message], Sequence[Json], bool, tuple[str, ...]]:
        """The messages, with signs in their control tokens where these are to be read as text, and whether they are.

        Those of a family's `own` are no text of somebody, and stay as they are.
        """
        controls = self.controls.without(own) if own else self.controls
        if not controls.are_among(messages, tools):
            return messages, tools, False, ()
        if self.control_tokens == "keep":
            return messages, tools, False, (CONTROLS,)
        try:
            return controls.signed_turns(messages), [*map(controls.signed_tool, tools)], True, (CONTROLS_AS_TEXT,)
        except PrivateCharacterError as error:
            raise _UnreadableError(str(error)) from None

    def _rendered(self, messages: Sequence[Message], tools: Sequence[Json] = (), due: bool = False) -> tuple[str, str]:
        """The text or texts of messages that the template takes. Raises ValueError at an image."""
        if self.kind == "template":
            turns = turns_of(messages)
            try:
                return self._template(turns, list(tools) or None, due), ""
            except Exception as error:  # a template is a program: it may raise anything
                if any(message.role == "system" for message in messages) and not self._takes_system:
                    raise _UnreadableError(
                        f"the chat template takes no system turn ({first_line(error)}); the option fold_system puts it"
                        " into the first user turn",
                        refused=True,
                    ) from None
                raise _UnreadableError(f"the chat template fails: {first_line(error)}") from None
        if self.kind == "plain" or due:
            return plain(messages) + ("\n\nAssistant:" if due else ""), ""
        *prompt, response = messages
        single = len(prompt) == 1 and prompt[0].role == "user"
        return prompt[0].text if single else plain(prompt), response.text

    def _taken(self, messages: list[Message], tools: Sequence[Json]) -> tuple[list[Message], Sequence[Json]]:
        """Turns and tools as the template takes them. Nothing that it would leave out is given to it."""
        if self.tools_as_text:
            return as_text(messages, tools), ()
        reader = "the chat template" if self.kind == "template" else "plain text"
        if tools and not self.takes_tools:
            raise _UnreadableError(
                f"{reader} takes no tools; the option tools_as_text puts them into the system turn", refused=True
            )
        if any(message.tool_calls for message in messages) and not self._takes_calls:
            raise _UnreadableError(
                f"{reader} leaves tool calls out; the option tools_as_text puts them into turns", refused=True
            )
        if any(message.role == "tool" for message in messages) and not self._takes_results:
            raise _UnreadableError(
                f"{reader} takes no turns of role tool; the option tools_as_text makes them the user's", refused=True
            )
        return messages, tools

    def _tokenize_all(self, shown: Sequence[_Shown], kind: Kind, due: bool) -> list[_Tokens | _UnreadableError]:
        """The tokens of each, read by the tokenizer that it is for; why not, where that fails on one of them."""
        tokens: dict[int, _Tokens | _UnreadableError] = {}
        for sealed in (False, True):
            places = [at for at, one in enumerate(shown) if one.sealed == sealed]
            try:
                made: list[Any] = self._tokenize([shown[at].texts for at in places], kind, due, sealed)
            except _UnreadableError:  # which of them it was no tokenizer says
                made = [self._tokenize_one(shown[at].texts, kind, due, sealed) for at in places]
            tokens.update(zip(places, made, strict=True))
        return [tokens[at] for at in range(len(shown))]

    def _tokenize_one(self, texts: tuple[str, str], kind: Kind, due: bool, sealed: bool) -> _Tokens | _UnreadableError:
        try:
            return self._tokenize([texts], kind, due, sealed)[0]
        except _UnreadableError as error:
            return error

    def _reader(self, sealed: bool) -> Any:
        return self.controls.reader if sealed else self.tokenizer

    def _tokenize(self, texts: Sequence[tuple[str, str]], kind: Kind, due: bool, sealed: bool = False) -> list[_Tokens]:
        """Ids, type ids and a mask of the special tokens that the tokenizer added, where they are wanted."""
        if not texts:
            return []
        firsts, seconds = ([pair[side] for pair in texts] for side in (0, 1))
        bare = kind == "template" or due
        typed = kind == "pair" and self._has_type_ids
        masked = not bare and self.limits.max_length is not None
        with _of_one_text():
            tokens = self._reader(sealed)(
                firsts,
                seconds if kind == "pair" else None,
                add_special_tokens=not bare,
                padding=False,
                truncation=False,
                return_attention_mask=False,
                return_token_type_ids=typed,
                return_special_tokens_mask=masked,
                verbose=False,
            )
        type_ids = tokens["token_type_ids"] if typed else [None] * len(texts)
        masks = tokens["special_tokens_mask"] if masked else [None] * len(texts)
        ids = tokens["input_ids"]
        if bare:
            ids = [self.specials.put(one, due) for one in ids]
        made = [_Tokens(*one) for one in zip(ids, type_ids, masks, strict=True)]
        return made if bare or not self.specials.is_settled else [self._with_bos(one) for one in made]

    def _with_bos(self, tokens: _Tokens) -> _Tokens:
        """A text to which the tokenizer added special tokens, with the BOS that was asked for instead of its own."""
        bos, own = self.specials.bos, self.specials.count_bos(tokens.ids)
        type_ids = tokens.type_ids and [*[0] * len(bos), *tokens.type_ids[own:]]
        mask = tokens.mask and [*[1] * len(bos), *tokens.mask[own:]]
        return tokens._replace(ids=[*bos, *tokens.ids[own:]], type_ids=type_ids, mask=mask)

    def _located(self, written: _Written) -> _Tokens:
        """The tokens of a form with marks or pieces, and where in them the marks are."""
        kind, due, apart = written.kind, written.form.due, written.form.apart
        sealed = written.shown.sealed
        if kind == "pair" and not due:
            return self._located_pair(written)
        text, at = written.texts[0], [place for _, _, place in written.marks]
        if apart:
            pieces = [text[start:stop] for start, stop in pairwise([0, *at, len(text)])]
            tokenised = [self._bare(piece, sealed) for piece in pieces]
            bare = [token for piece in tokenised for token in piece]
            lasts = [count - 1 for count in accumulate(map(len, tokenised[:-1]))]
            ids = self.specials.put(bare, due)
            tokens = _Tokens(ids)
        else:
            bare, lasts = self._lasts(text, at, sealed)
            (tokens,) = self._tokenize([written.texts], kind, due, sealed)
        first = place_of(bare, tokens.ids, len(self.specials.before))
        if first is None:
            raise _UnreadableError("the tokenizer gives other tokens where special ones stand around them")
        names = [name for name, _, _ in written.marks]
        marks = tuple((name, 0, first + last) for name, last in zip(names, lasts, strict=True))
        return tokens._replace(spans=((first, first + len(bare)),), marks=marks)

    def _bare(self, text: str, sealed: bool = False) -> list[int]:
        with _of_one_text():
            ids: list[int] = self._reader(sealed)(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _lasts(self, text: str, at: Sequence[int], sealed: bool) -> tuple[list[int], list[int]]:
        """The tokens of a text by itself, and the last that begins before each of the characters `at` (-1: none)."""
        if not self.tokenizer.is_fast:
            bare = self._bare(text)
            return bare, [self._last_by_prefix(bare, text[:place]) for place in at]
        reader = self._reader(sealed)
        with _of_one_text():
            tokens = reader(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        starts = self._starts(tokens.tokens(0), tokens["offset_mapping"])
        return tokens["input_ids"], [bisect_left(starts, place) - 1 for place in at]

    def _last_by_prefix(self, bare: list[int], before: str) -> int:
        """The same by the tokens of the text before the place: where they part is the token over the seam."""
        prefix = self._bare(before)
        same = next((i for i, (a, b) in enumerate(zip(prefix, bare, strict=False)) if a != b), None)
        return len(prefix) - 1 if same is None else same

    def _starts(self, tokens: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int]:
        """The first character of each token, with the spaces in front of it that it stands for."""
        if not self._space:
            return [start for start, _ in offsets]
        spaces = [len(token) - len(token.lstrip(self._space)) for token in tokens]
        return [max(start - count, 0) for (start, _), count in zip(offsets, spaces, strict=True)]

    def _located_pair(self, written: _Written) -> _Tokens:
        if not self.tokenizer.is_fast:
            raise _UnreadableError("marks in a pair of texts need a fast tokenizer")
        sealed = written.shown.sealed
        (tokens,) = self._tokenize([written.texts], "pair", False, sealed)
        one = self._reader(sealed)(*written.texts, return_offsets_mapping=True, verbose=False)
        starts = self._starts(one.tokens(0), one["offset_mapping"])
        members: list[list[int]] = [[], []]
        moved = len(tokens.ids) - len(one["input_ids"])  # by a BOS that was asked for
        for i, side in enumerate(one.sequence_ids(0)):
            if side is not None:
                members[side].append(i + moved)
        # an empty text has no tokens: it lies behind what opens the first, or before what closes the second
        empty = (len(self.specials.before), len(tokens.ids) - len(self.specials.after))
        spans = tuple((m[0], m[-1] + 1) if m else (e, e) for m, e in zip(members, empty, strict=True))
        marks = tuple(
            (name, side, spans[side][0] + bisect_left([starts[i - moved] for i in members[side]], place) - 1)
            for name, side, place in written.marks
        )
        return tokens._replace(spans=spans, marks=marks)

    def _cut_pieces(self, written: _Written, tokens: _Tokens) -> Encoded:
        """With each piece cut to its limit, and then the whole to `limits.max_length`."""
        gone: set[int] = set()
        piece = 0
        for side, (first, end) in enumerate(tokens.spans):
            bounds = [first, *(last + 1 for _, of, last in tokens.marks if of == side), end]
            for start, stop in pairwise(bounds):
                limit = written.form.limit(piece)
                gone.update(range(stop if limit is None else min(start + limit, stop), stop))
                piece += 1
        return self._fitted(tokens, written.shown, written.kind, written.form.due, gone)

    def _response_of(self, shown: _Shown, tokens: _Tokens, kind: Kind) -> range | None:
        """The tokens of the response, from its first turn to its last; None where they cannot be told."""
        text = shown.texts[0]
        if kind == "pair" and self.tokenizer.is_fast:
            sides = self._reader(shown.sealed)(*shown.texts, verbose=False).sequence_ids(0)
            moved, seconds = len(tokens.ids) - len(sides), [i for i, side in enumerate(sides) if side == 1]
            return range(seconds[0] + moved, seconds[-1] + moved + 1) if seconds else None
        if kind == "pair" or not shown.responses:
            return None
        stop, start = len(text), len(text)
        for number, response in enumerate(reversed(shown.responses)):
            start = text.rfind(response, 0, start)
            if start < 0:
                return None
            stop = stop if number else start + len(response)
        bare, (before, last) = self._lasts(text, [start, stop], shown.sealed)
        first = place_of(bare, tokens.ids, len(self.specials.before))
        return None if first is None else range(first + before + 1, first + last + 1)

    def _cut_notes(self, shown: _Shown, tokens: _Tokens, kind: Kind, gone: Collection[int]) -> tuple[str, ...]:
        """Of which of prompt and response tokens are gone."""
        response = self._response_of(shown, tokens, kind)
        if response is None:
            return ()
        prompt_cut, response_cut = min(gone) < response.start, any(i in response for i in gone)
        return (*([PROMPT_CUT] if prompt_cut else []), *([RESPONSE_CUT] if response_cut else []))

    def _fitted(
        self,
        tokens: _Tokens | _UnreadableError,
        shown: _Shown,
        kind: Kind,
        due: bool,
        gone: set[int] | frozenset[int] = frozenset(),
    ) -> Encoded:
        if isinstance(tokens, _UnreadableError):
            return tokens.encoded
        limits, ids, type_ids, mask = self.limits, tokens.ids, tokens.type_ids, tokens.mask
        cut = max(0, len(ids) - len(gone) - limits.max_length) if limits.max_length else 0
        if cut:
            if kind == "template" or due:
                mask = self.specials.mask(ids)
            elif mask is None or len(mask) != len(ids):  # a tokenizer in Python whose own mask forgets its tokens
                mask = [int(token in self.tokenizer.all_special_ids) for token in ids]
            movable = [i for i, special in enumerate(mask) if not special and i not in gone]
            gone = {*gone, *(movable[:cut] if limits.side == "left" else movable[-cut:])}
        if gone:
            kept = [i for i in range(len(ids)) if i not in gone]
            ids = [ids[i] for i in kept]
            type_ids = type_ids and [type_ids[i] for i in kept]
        error = None
        if not ids:
            error = "renders to no token"
        elif limits.max_length is not None and len(ids) > limits.max_length:
            error = f"{len(ids):,} special tokens, which cannot be cut to {limits.max_length:,}"
        elif limits.positions is not None and len(ids) > limits.positions:
            most = limits.positions
            error = f"{len(ids):,} tokens, the model has {most:,} positions; --max-length {most} cuts and counts"
        elif limits.rows is not None and (top := max(ids)) >= limits.rows:
            token = self.tokenizer.convert_ids_to_tokens(top)
            error = f"token id {top} ({token!r}) lies beyond the {limits.rows:,} rows of the model's embedding"
        return Encoded(
            ids=() if error else ids,
            reads=(),
            type_ids=None if error else type_ids,
            cut=len(gone),
            error=error,
            marks=_marks(tokens.marks, gone) if tokens.marks else _NO_MARKS,
            noted=() if error else (*shown.noted, *(self._cut_notes(shown, tokens, kind, gone) if gone else ())),
        )


def _stands_in(text: str, written: str) -> bool:
    """Whether a template wrote all of a text, with white space as it likes."""
    return text.strip() in written or "".join(text.split()) in "".join(written.split())


_NO_MARKS: Mapping[str, tuple[int | None, ...]] = {}  # one for all that have none


def _marks(placed: Iterable[tuple[str, int, int]], gone: Collection[int]) -> dict[str, tuple[int | None, ...]]:
    """By name the last token before each mark, counted without the tokens that are gone."""
    cut = sorted(gone)
    marks: dict[str, list[int | None]] = {}
    for name, _, last in placed:
        there = last >= 0 and last not in gone
        marks.setdefault(name, []).append(last - bisect_left(cut, last) if there else None)
    return {name: tuple(lasts) for name, lasts in marks.items()}


class _UnreadableError(Exception):
    """Why a form has no ids; `refused` where no other text of such a form would have any."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused

    @property
    def encoded(self) -> Encoded:
        return Encoded(ids=(), reads=(), error=str(self), refused=self.refused)


@contextmanager
def _of_one_text() -> Iterator[None]:
    """Whatever a tokenizer raises at a text is the reason why that text has no ids: its libraries panic as well."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        raise _UnreadableError(f"the tokenizer fails on its text: {first_line(error)}") from error


def form_of(request: Request) -> Form | None:
    """Prompt and response as they are; None where nobody knows the response's text."""
    response = request.responses[0].messages
    return Form((*request.prompt, *response), tools=request.tools, answered=len(response)) if response else None


def _is_usual(messages: Iterable[Message]) -> bool:
    """Whether every template takes them."""
    return all(message.role in PLAIN_ROLES and message.is_plain for message in messages)


def choose(
    tokenizer: Any, template: str | None, limits: Limits, name: str, *, own: str | None = None, **manner: Any
) -> Rendering:
    """The rendering that `template` asks for: "plain", "pair", a Jinja file, one of several that the tokenizer has by
    name, or None: `own`, a template as text, else the tokenizer's own. `manner` has other fields of the rendering.

    Raises UsageError for a file that is not there and a BOS that the tokenizer has not, and ModelError where the
    tokenizer has no template, or the template fails on a conversation of two turns or leaves the response out, or a
    pair would have two BOS tokens.
    """
    if template == "plain":
        return _checked(Rendering(tokenizer, "plain", limits, **manner), name)
    if template == "pair":
        rendering = _checked(Rendering(tokenizer, "pair", limits, **manner), name)
        before = Rendering(tokenizer, "pair", limits).specials.before
        if before and tokenizer("a", "b")["input_ids"].count(before[0]) > 1:
            raise ModelError(
                f"{name}: the tokenizer's text pair has two BOS tokens; choose another --template than pair"
            )
        return rendering
    source = own if template is None and own is not None else None
    if source is None:
        source = source_of(tokenizer, template, name, "plain, pair or a Jinja file")
    if source is None:
        raise ModelError(
            f"{name}: the tokenizer has no chat template; choose --template plain, pair (prompt and response as"
            " a text pair) or a Jinja file"
        )
    rendering = templated(tokenizer, source, limits, name, **manner)
    one, other = (rendering._template(turns_of((*_ASKED, Message("assistant", text))), None, False) for text in "AB")
    if one == other:
        raise ModelError(f"{name}: the chat template leaves the response out; choose another with --template")
    return rendering


_ASKED = (Message("user", "Hi"),)


def templated(tokenizer: Any, source: str, limits: Limits, name: str, **manner: Any) -> Rendering:
    """A rendering by the template `source`. Raises ModelError where it fails on a conversation of two turns."""
    rendering = _checked(Rendering(tokenizer, "template", limits, source, **manner), name)
    try:
        text = rendering._template(turns_of((*_ASKED, Message("assistant", "A"))), None, False)
    except Exception as error:  # a template is a program: it may raise anything
        raise ModelError(f"{name}: the chat template fails on a plain conversation: {first_line(error)}") from None
    before, after = rendering.specials.around
    first, last = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text.lstrip(), text.rstrip()))
    writes = (first[: len(before)] == before, last[len(last) - len(after) :] == after)
    return replace(rendering, writes=writes)


def _checked(rendering: Rendering, name: str) -> Rendering:
    """The rendering with its BOS settled. Raises UsageError for what this tokenizer cannot do."""
    tokenizer = rendering.tokenizer
    if rendering.bos == "own":
        rendering = replace(rendering, bos="auto" if tokenizer.bos_token_id is None else "one")
    if rendering.bos in ("none", "one") and tokenizer.bos_token_id is None:
        raise UsageError(f"bos={rendering.bos}: the tokenizer of {name} has no BOS token")
    if rendering.control_tokens == "text" and getattr(tokenizer, "backend_tokenizer", None) is None:
        raise UsageError(f"control_tokens=text: {type(tokenizer).__name__} of {name} is no fast tokenizer")
    return rendering


def source_of(tokenizer: Any, asked: str | None, name: str, choices: str) -> str | None:
    """The text of the template that was asked for: a Jinja file, one of those that the tokenizer names, or, for None,
    its own, None where it has none. Raises UsageError for one that is not there.
    """
    own = tokenizer.chat_template
    named: Mapping[str, str] = own if isinstance(own, Mapping) else {}
    if asked is None:
        if named and "default" not in named:
            raise UsageError(f"{name}: the tokenizer has several chat templates; choose --template {_or(named)}")
        return named["default"] if named else own
    path = Path(asked)
    if asked in named and not path.is_file():
        return named[asked]
    if not path.is_file():
        ours = f"; the tokenizer of {name} has the templates {', '.join(named)}" if named else ""
        raise UsageError(f"template {asked!r}: no such file; give {choices}{ours}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"template {asked!r}: not UTF-8, so no Jinja template") from error


def _or(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
