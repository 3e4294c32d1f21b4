"""Control tokens of a tokenizer inside of texts: which there are, which texts hold some, and how they become text.

A tokenizer reads `<|im_end|>` as the one token that ends a turn, whether a template wrote it or a user. To read a
user's as text, a sign is put into it before the template writes, so that what the template wrote itself is told apart.
That then stands as one character each, which a copy of the tokenizer knows in the place of the token's text.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rmbench.types import Json, Message

_FIRST = 0x100000  # a plane for private use, of which marks do not take theirs
_SIGN = chr(0x10FFFD)
_THINKING = re.compile(r"</?(think|thinking|reasoning)>")  # what responses are made of


class PrivateCharacterError(ValueError):
    """A text holds a character that control tokens would stand as."""


@dataclass(frozen=True)
class Controls:
    """The control tokens of `tokenizer`: its special ones, and those added ones that a template writes in `written`.

    Those that are `passed` are none here.
    """

    tokenizer: Any
    written: str
    passed: frozenset[str] = frozenset()

    def without(self, own: Iterable[str]) -> Controls:
        """The same but for those that whoever writes the texts put there."""
        passed = frozenset(own)
        return self._without.setdefault(passed, replace(self, passed=passed))

    @cached_property
    def tokens(self) -> Mapping[str, int]:
        """Their texts and ids. A single character is no token that a text could be kept from holding."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        tokens = {
            str(token): number
            for number, token in added.items()
            if token.special
            or (str(token).strip() and str(token) in self.written and not _THINKING.fullmatch(str(token)))
        }
        tokens |= dict(zip(self.tokenizer.all_special_tokens, self.tokenizer.all_special_ids, strict=True))
        return {text: number for text, number in tokens.items() if len(text) > 1 and text not in self.passed}

    def are_in(self, text: str) -> bool:
        """Whether the tokenizer finds some in a text."""
        if not any(start in text and any(token in text for token in tokens) for start, tokens in self._by_start):
            return False
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return not self._ids.isdisjoint(ids)

    def signed(self, text: str) -> str:
        """A text of a user with a sign in each of them. Raises PrivateCharacterError."""
        if any(ord(character) >= _FIRST for character in text):
            raise PrivateCharacterError(
                "characters of private use stand in a text with control tokens to be read as text"
            )
        while self._pattern.search(text):
            text = self._pattern.sub(lambda token: token[0][0] + _SIGN + token[0][1:], text)
        return text

    def sealed(self, text: str) -> str:
        """What a template made of signed texts, for `reader`: its own tokens are a character each, the rest is text."""
        return self._pattern.sub(lambda token: self._characters[token[0]], text).replace(_SIGN, "")

    def are_among(self, messages: Iterable[Message], tools: Iterable[Json] = ()) -> bool:
        """Whether they stand in what somebody wrote: the texts of turns, arguments of calls, and tools."""
        texts = (text for message in messages for text in _texts(message))
        return any(map(self.are_in, texts)) or any(self.are_in(text) for tool in tools for text in _strings(tool))

    def signed_turns(self, messages: Iterable[Message]) -> list[Message]:
        """Turns whose texts are signed. Raises PrivateCharacterError."""
        made = []
        for message in messages:
            calls = tuple(replace(call, arguments=self.signed(call.arguments)) for call in message.tool_calls)
            parts = tuple(self.signed(part) if isinstance(part, str) else part for part in message.parts)
            made.append(replace(message, parts=parts, tool_calls=calls))
        return made

    def signed_tool(self, tool: Json) -> Json:
        """A tool whose texts are signed. Raises PrivateCharacterError."""
        if isinstance(tool, str):
            return self.signed(tool)
        if isinstance(tool, Mapping):
            return {name: self.signed_tool(value) for name, value in tool.items()}
        return [self.signed_tool(value) for value in tool] if isinstance(tool, list | tuple) else tool

    @cached_property
    def reader(self) -> Any:
        """A tokenizer that knows control tokens by their characters alone, and is the same in all else."""
        from tokenizers import Tokenizer

        backend = json.loads(self.tokenizer.backend_tokenizer.to_str())
        named = self._characters
        for token in backend["added_tokens"]:
            if token["content"] in named:
                token.update(content=named[token["content"]], normalized=False)
        model = backend["model"]
        vocabulary = model["vocab"]
        if isinstance(vocabulary, dict):
            model["vocab"] = {named.get(piece, piece): number for piece, number in vocabulary.items()}
        else:
            model["vocab"] = [[named.get(piece, piece), score] for piece, score in vocabulary]
        if model.get("unk_token") in named:
            model["unk_token"] = named[model["unk_token"]]
        if "merges" in model:
            model["merges"] = [pair for pair in model["merges"] if _joined(pair) not in named]
        reader = copy.deepcopy(self.tokenizer)
        reader._tokenizer = Tokenizer.from_str(json.dumps(backend))
        return reader

    @cached_property
    def _without(self) -> dict[frozenset[str], Controls]:
        return {}

    @cached_property
    def _ids(self) -> frozenset[int]:
        return frozenset(self.tokens.values())

    @cached_property
    def _by_start(self) -> Sequence[tuple[str, Sequence[str]]]:
        """The tokens by how they begin: few beginnings are looked for in a text that holds none."""
        by_start: dict[str, list[str]] = {}
        for token in self.tokens:
            by_start.setdefault(token[:2], []).append(token)
        return list(by_start.items())

    @cached_property
    def _characters(self) -> Mapping[str, str]:
        return {token: chr(_FIRST + at) for at, token in enumerate(self.tokens)}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)))


def _texts(message: Message) -> Iterator[str]:
    yield from (part for part in message.parts if isinstance(part, str))
    yield from (call.arguments for call in message.tool_calls)


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(item)


def _joined(pair: str | Iterable[str]) -> str:
    return pair.replace(" ", "", 1) if isinstance(pair, str) else "".join(pair)
