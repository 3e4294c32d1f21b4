"""Responses written before: AlpacaEval's model_outputs as they are, and JSON, JSON lines, CSV or Parquet like them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.bounded import MOST_COUNT
from rmbench.checkpoints.fingerprint import digest, first_line, locate, tokenizer_hash
from rmbench.data.conversation import POLICY, RESPONSE, read_asked
from rmbench.data.files import Row, file_sha256, read_rows, shown, stem
from rmbench.errors import DataError, UsageError
from rmbench.models.base import Option, Subject
from rmbench.policies.base import refuse_top
from rmbench.types import GenerationRequest, Message, Response

OPTIONS: Mapping[str, Option] = {
    "count_with": Option("The tokenizer, a hub id or a folder, that counts the tokens of every text."),
}

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_SAMPLE = ("sample", "sample_index", "sample_id")
_TOKENS = ("tokens", "n_tokens", "completion_tokens", "output_tokens")
_FINISH = ("finish", "finish_reason", "stop_reason")
_CAP = ("cap", "max_new_tokens", "max_tokens")
_DIGITS = 1000  # of a number that is written as text: Python reads no more than some thousand
_SAME_FINISH = {"eos": "stop", "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}

Turns = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Answers by looking up: `written` maps a prompt to its responses by sample.

    `unit` says what `tokens` and `cap` of a response count, None where nothing counts tokens.
    """

    subject: Subject
    fingerprint: str
    unit: str | None
    written: Mapping[Turns, Mapping[int, Response]]

    def samples(self, prompt: Turns) -> int:
        """How many samples of a prompt there are, at least 1: one is missing where there is none."""
        return max(self.written.get(prompt, {0: None})) + 1

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
        """What the file has of what is asked, joined by the text of the prompt; the rest is left out.

        Raises UsageError where `top` is asked for.
        """
        refuse_top(self.subject.id, requests)
        for index, generation in enumerate(requests):
            response = self.written.get(generation.prompt, {}).get(generation.sample)
            if response is not None:
                yield index, response


def open(source: str, options: Mapping[str, Any], revision: str | None) -> Outputs:
    """Reads a file or folder: one row a response, several of one prompt are its samples, numbered where a row says so.

    A row has its prompt in one of `rmbench.data.conversation.PROMPT`, its text in one of `RESPONSE`, and may have
    `tokens`, `finish` and `cap`. With the option `count_with` every text is counted by that tokenizer, and a cap, which
    counts another's tokens, is unknown. Raises DataError for rows that cannot be read so, for two responses that are
    the same sample, for responses of two policies, and where only some of them have `tokens`.
    """
    path = Path(
        source if revision is None else f"{source}@{revision}"
    )  # a file has no revision, its name may have an @
    written, names = _read(read_rows(path))
    if len(names) > 1:
        raise DataError(f"{path.name}: responses of {len(names)} policies ({', '.join(sorted(names)[:3])}); one a file")
    counted, tokenizer = file_sha256(path), options["count_with"]
    if tokenizer is None:
        unit = _unit(written, path.name)
    else:
        written, unit, name = _counted(written, tokenizer)
        counted = digest({"file": counted, "tokenizer": name})
    subject = Subject(_id(next(iter(names), stem(path))), "outputs", settings={"unit": unit or "characters"})
    return Outputs(subject, counted, unit, written)


def _id(name: str) -> str:
    """A name for results, never a path: a checkpoint's folder may stand where its name belongs."""
    return name if _NAME.fullmatch(name) else f"outputs/{Path(name).name}"


def _read(rows: Iterable[Row]) -> tuple[dict[Turns, dict[int, Response]], set[str]]:
    """Responses by prompt and sample, and the names of the policies that wrote them."""
    written: dict[Turns, dict[int, Response]] = {}
    names: set[str] = set()
    for row in rows:
        prompt = read_asked(row)
        if not prompt:
            row.need(("prompt",), "an output has `prompt` or `instruction`, and `output` or `response`")
            raise row.error("an empty prompt joins nothing", "prompt")
        samples = written.setdefault(prompt, {})
        sample = _count(row, _SAMPLE)
        sample = len(samples) if sample is None else sample
        if sample in samples:
            raise row.error(f"sample {sample} of this prompt stood before; each has one row")
        samples[sample] = _response(row)
        names.update(filter(None, [row.name(POLICY)]))
    # numbers only order the samples of a prompt: some files count from 1, some leave a few out
    return {p: dict(enumerate(samples[n] for n in sorted(samples))) for p, samples in written.items()}, names


def _response(row: Row) -> Response:
    field = row.need(RESPONSE, "an output has its text in `output` or `response`")
    finish = row.name(_FINISH)
    tokens, cap = _count(row, _TOKENS, MOST_COUNT), _count(row, _CAP, MOST_COUNT)
    if tokens is not None and cap is not None and tokens > cap:
        raise row.error(f"{tokens:,} tokens under a cap of {cap:,}", row.first(_TOKENS))
    if tokens == 0 and row.text(field).strip():
        raise row.error("0 tokens beside a text that has some", row.first(_TOKENS))
    return Response(row.text(field), tokens=tokens, finish=finish and _SAME_FINISH.get(finish, finish), cap=cap)


def _count(row: Row, fields: tuple[str, ...], most: float = math.inf) -> int | None:
    field = row.filled(fields)
    if field is None:
        return None
    value = row.value[field]
    if isinstance(value, float) and (math.isnan(value) or value.is_integer()):  # a column with a gap is one of floats
        return None if math.isnan(value) else _natural(row, field, int(value), most)
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) <= _DIGITS else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise row.error(f"{shown(value)} is no whole number from 0", field)
    return _natural(row, field, number, most)


def _natural(row: Row, field: str, number: int, most: float) -> int:
    if not 0 <= number <= most:
        raise row.error(f"{shown(number)} is no whole number from 0{'' if number < 0 else f' to {most:,}'}", field)
    return number


def _unit(written: Mapping[Turns, Mapping[int, Response]], name: str) -> str | None:
    responses = [response for samples in written.values() for response in samples.values()]
    counted = sum(response.tokens is not None for response in responses)
    if 0 < counted < len(responses):
        raise DataError(
            f"{name}: {counted:,} of {len(responses):,} responses have `tokens`, and lengths of different units do not"
            " mix; --count-with TOKENIZER counts all of them alike"
        )
    return "tokens as the file counts them" if counted else None


def _counted(
    written: Mapping[Turns, Mapping[int, Response]], source: str
) -> tuple[dict[Turns, dict[int, Response]], str, str]:
    """The responses with `tokens` by one tokenizer, the unit that this makes, and the tokenizer's hash."""
    tokenizer, name = _tokenizer(source)

    def recounted(response: Response) -> Response:
        ids = tokenizer(response.text, add_special_tokens=False, verbose=False)["input_ids"]
        return Response(response.messages, response.steps, len(ids), response.finish, top=response.top)

    counted = {p: {sample: recounted(r) for sample, r in samples.items()} for p, samples in written.items()}
    return counted, f"tokens of {name}", tokenizer_hash(tokenizer)


def _tokenizer(source: str) -> tuple[Any, str]:
    from transformers import AutoTokenizer

    checkpoint = locate(source)
    try:
        return AutoTokenizer.from_pretrained(checkpoint.source, revision=checkpoint.commit), checkpoint.id
    except Exception as error:  # the tokenizers library raises bare Exceptions for broken files
        raise UsageError(f"--count-with {source}: no tokenizer can be loaded: {first_line(error)}") from None
