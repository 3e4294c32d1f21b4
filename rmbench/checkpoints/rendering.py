"""From a prompt and a response to the tokens a model reads: chat template, plain text or a text pair.

Plain text is one `Role: content` per turn, joined by an empty line. A pair is the prompt as the tokenizer's first text
(the content of a single user turn, several turns as plain text) and the response as its second. Prompt and response
are otherwise tokenised as one text, never apart, because tokens may span the seam.

Special tokens: what the tokenizer puts around a text by its own rule (a BOS or CLS in front, an EOS or SEP behind) is
there whether the template writes it or not, and is never put there a second time: `choose` sees on a short conversation
whether the template writes it, be it behind or before white space.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rmbench.checkpoints.fingerprint import first_line
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Encoded, Options
from rmbench.types import Message, Request

# Templates that ask for today get this day, the one that Llama 3.1's own template falls back to.
FROZEN_DATE = date(2024, 7, 26)

# digits, runs of spaces, case, contractions, accents and a superscript: where pre-tokenizers and normalisers differ
_PROBE = "Total:  1,234.50 + 20% \n\n\tdon't say «naïve» x² AGAIN"

Template = Callable[[Sequence[Message]], str]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sequence has to fit in: the model's positions (None: any) and rows of its embedding."""

    positions: int | None
    rows: int
    max_length: int | None = None
    side: Literal["left", "right"] = "left"


@dataclass(frozen=True)
class Rendering:
    """How requests become ids for one tokenizer.

    `source` is the text of the template where there is one; `writes` is whether it writes what the tokenizer puts
    before and after a text itself.
    """

    tokenizer: Any
    kind: Literal["template", "plain", "pair"]
    limits: Limits
    source: str | None = None
    writes: tuple[bool, bool] = (False, False)

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        """One `Encoded` per request, without reads. What cannot be read has `error` instead of ids.

        Over-long sequences are cut to `limits.max_length` where that is set, from `limits.side` on but without the
        special tokens around and between the texts, and are an error otherwise.
        """
        encoded: dict[int, Encoded] = {}
        texts: dict[int, tuple[str, str]] = {}
        for i, request in enumerate(requests):
            try:
                texts[i] = self._texts(request)
            except _UnreadableError as error:
                encoded[i] = Encoded(ids=(), reads=(), error=str(error))
        for i, tokens in zip(texts, self._tokenize(list(texts.values())), strict=True):
            encoded[i] = self._fitted(*tokens)
        return [encoded[i] for i in range(len(requests))]

    @cached_property
    def specials(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts before and after a text by its own rule."""
        bare = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        full = self.tokenizer("a", add_special_tokens=True)["input_ids"]
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
        return [], []

    @property
    def least(self) -> int:
        """The fewest tokens a sequence can be cut to: the special ones and one more."""
        if self.kind == "pair":
            return int(self.tokenizer.num_special_tokens_to_add(pair=True)) + 1
        return sum(map(len, self.specials)) + 1

    @property
    def identity(self) -> dict[str, Any]:
        """What of the rendering changes the ids, JSON-able."""
        return {
            "kind": self.kind,
            "template": None if self.source is None else hashlib.sha256(self.source.encode()).hexdigest(),
            "date": FROZEN_DATE.isoformat(),
            "specials": list(self.specials),
            "max_length": self.limits.max_length,
            "truncation_side": self.limits.side,
        }

    @cached_property
    def _template(self) -> Template:
        return compiled(self.source or "", self.tokenizer.special_tokens_map)

    @cached_property
    def _has_type_ids(self) -> bool:
        return "token_type_ids" in self.tokenizer.model_input_names

    def _texts(self, request: Request) -> tuple[str, str]:
        response = request.responses[0].text
        if response is None:
            raise _UnreadableError("the response has no text")
        if self.kind == "pair":
            single = len(request.prompt) == 1 and request.prompt[0].role == "user"
            return request.prompt[0].text if single else plain(request.prompt), response
        messages = (*request.prompt, Message("assistant", response))
        if self.kind == "plain":
            return plain(messages), ""
        try:
            return self._template(messages), ""
        except Exception as error:  # a template is a program: it may raise anything
            raise _UnreadableError(f"the chat template fails: {first_line(error)}") from None

    def _tokenize(self, texts: list[tuple[str, str]]) -> list[tuple[list[int], list[int] | None, list[int] | None]]:
        """Ids, type ids and a mask of the special tokens that the tokenizer added, where they are wanted."""
        if not texts:
            return []
        firsts, seconds = ([pair[side] for pair in texts] for side in (0, 1))
        typed = self.kind == "pair" and self._has_type_ids
        masked = self.kind != "template" and self.limits.max_length is not None
        tokens = self.tokenizer(
            firsts,
            seconds if self.kind == "pair" else None,
            add_special_tokens=self.kind != "template",
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
        if self.kind == "template":
            ids = [self._with_specials(one) for one in ids]
        return list(zip(ids, type_ids, masks, strict=True))

    def _with_specials(self, ids: list[int]) -> list[int]:
        before, after = self.specials
        start, end = self._around(ids)
        return [*([] if start is not None else before), *ids, *([] if end is not None else after)]

    def _around(self, ids: list[int]) -> tuple[int | None, int | None]:
        """Where in the ids of a template's text stands what the tokenizer puts before and after one, if it does.

        A template that writes it may do so behind or before white space; elsewhere it only counts at the very ends.
        """
        before, after = self.specials
        last = len(ids) - len(after)
        starts = range(len(ids) - len(before) + 1) if self.writes[0] else (0,)
        ends = range(last, -1, -1) if self.writes[1] else (last,)
        start = next((i for i in starts if ids[i : i + len(before)] == before), None)
        return start, next((i for i in ends if i >= 0 and ids[i : i + len(after)] == after), None)

    def _mask(self, ids: list[int]) -> list[int]:
        """1 where one of the special tokens stands that belong around the ids of a template's text, else 0."""
        mask = [0] * len(ids)
        for at, special in zip(self._around(ids), self.specials, strict=True):
            if at is not None:
                mask[at : at + len(special)] = [1] * len(special)
        return mask

    def _fitted(self, ids: list[int], type_ids: list[int] | None, mask: list[int] | None) -> Encoded:
        limits = self.limits
        cut = max(0, len(ids) - limits.max_length) if limits.max_length else 0
        if cut:
            if self.kind == "template":
                mask = self._mask(ids)
            elif mask is None or len(mask) != len(ids):  # a tokenizer in Python whose own mask forgets its tokens
                mask = [int(token in self.tokenizer.all_special_ids) for token in ids]
            movable = [i for i, special in enumerate(mask) if not special]
            gone = set(movable[:cut] if limits.side == "left" else movable[-cut:])
            ids = [token for i, token in enumerate(ids) if i not in gone]
            type_ids = type_ids and [kind for i, kind in enumerate(type_ids) if i not in gone]
        error = None
        if not ids:
            error = "renders to no token"
        elif limits.max_length is not None and len(ids) > limits.max_length:
            error = f"{len(ids):,} special tokens, which cannot be cut to {limits.max_length:,}"
        elif limits.positions is not None and len(ids) > limits.positions:
            most = limits.positions
            error = f"{len(ids):,} tokens, the model has {most:,} positions; --max-length {most} cuts and counts"
        elif (top := max(ids)) >= limits.rows:
            token = self.tokenizer.convert_ids_to_tokens(top)
            error = f"token id {top} ({token!r}) lies beyond the {limits.rows:,} rows of the model's embedding"
        return Encoded(ids=() if error else ids, reads=(), type_ids=None if error else type_ids, cut=cut, error=error)


class _UnreadableError(Exception):
    """Why a request has no ids."""


def plain(messages: Sequence[Message]) -> str:
    """One `Role: content` per turn, joined by an empty line."""
    return "\n\n".join(f"{message.role.capitalize()}: {message.text}" for message in messages)


def compiled(source: str, specials: Mapping[str, Any]) -> Template:
    """Compiles a chat template in a sandbox that offers what transformers offers, but with a frozen date.

    `specials` are the names and texts of the tokenizer's special tokens. Raises jinja2.TemplateError where `source` is
    no template; so does the result where the template breaks out, raises, or cannot be rendered.
    """
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what the assistant wrote, for training; here it only shows its body."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    class Namespace(jinja2.utils.Namespace):
        """`namespace()` without underscored attributes, by which templates would reach into the interpreter."""

        def __init__(*args: Any, **values: Any) -> None:
            self, *rest = args
            super(Namespace, self).__init__()
            for key, value in dict(*rest, **values).items():
                self[key] = value

        def __setitem__(self, key: str, value: Any) -> None:
            if key.startswith("_"):
                raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {key!r}")
            super().__setitem__(key, value)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        # the filter of Jinja itself would escape for HTML
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, strftime_now=FROZEN_DATE.strftime, namespace=Namespace)
    template = environment.from_string(source)

    def render(messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": message.text} for message in messages]
        return template.render(messages=turns, tools=None, documents=None, add_generation_prompt=False, **specials)

    return render


def choose(tokenizer: Any, options: Options, limits: Limits, name: str) -> Rendering:
    """The rendering that `options.template` asks for: "plain", "pair", a Jinja file, or the tokenizer's own template.

    Raises UsageError for a file that is not there, and ModelError where the tokenizer has no template, or the template
    fails on a conversation of two turns or leaves the response out, or a pair would have two BOS tokens.
    """
    if options.template == "plain":
        return Rendering(tokenizer, "plain", limits)
    if options.template == "pair":
        rendering = Rendering(tokenizer, "pair", limits)
        before, _ = rendering.specials
        if before and tokenizer("a", "b")["input_ids"].count(before[0]) > 1:
            raise ModelError(
                f"{name}: the tokenizer's text pair has two BOS tokens; choose another --template than pair"
            )
        return rendering
    if options.template is not None:
        path = Path(options.template)
        if not path.is_file():
            raise UsageError(f"template {options.template!r}: no such file; give plain, pair or a Jinja file")
        try:
            source = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"template {options.template!r}: not UTF-8, so no Jinja template") from error
    else:
        try:
            source = tokenizer.get_chat_template()
        except ValueError:
            raise ModelError(
                f"{name}: the tokenizer has no chat template; choose --template plain, pair (prompt and response as"
                " a text pair) or a Jinja file"
            ) from None
    rendering = Rendering(tokenizer, "template", limits, source)
    try:
        one, other = (rendering._template((Message("user", "Hi"), Message("assistant", text))) for text in "AB")
    except Exception as error:  # a template is a program: it may raise anything
        raise ModelError(f"{name}: the chat template fails on a plain conversation: {first_line(error)}") from None
    if one == other:
        raise ModelError(f"{name}: the chat template leaves the response out; choose another with --template")
    before, after = rendering.specials
    first, last = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (one.lstrip(), one.rstrip()))
    writes = (first[: len(before)] == before, last[len(last) - len(after) :] == after)
    return replace(rendering, writes=writes)


def warn_if_rebuilt(tokenizer: Any, file: Path | None, name: str) -> None:
    """Warns where the loaded tokenizer splits a text otherwise than its own tokenizer.json does.

    transformers rebuilds some tokenizers from the model type. The loaded one is used, as everybody's is, but who
    trained with the file's should know.
    """
    if file is None or getattr(tokenizer, "backend_tokenizer", None) is None:
        return
    from tokenizers import Tokenizer

    written_tokenizer = Tokenizer.from_file(str(file))
    written_tokenizer.no_truncation()
    written_tokenizer.no_padding()
    written = written_tokenizer.encode(_PROBE, add_special_tokens=False).tokens
    loaded = tokenizer.tokenize(_PROBE)
    if written != loaded:
        at = next((i for i, (a, b) in enumerate(zip(written, loaded, strict=False)) if a != b), None)
        where = "in length" if at is None else f"first at {loaded[at]!r} against {written[at]!r}"
        warnings.warn(
            f"{name}: {type(tokenizer).__name__}, which transformers builds for this model, splits text otherwise than"
            f" the checkpoint's tokenizer.json ({where}); the loaded tokenizer is used",
            stacklevel=2,
        )
