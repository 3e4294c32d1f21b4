"""Verifiers that say yes or no: the probability of yes where a language model is about to answer a question.

The question is a Jinja text of `prompt`, `response`, `reference`, `yes` and `no`, ours or the user's. It is the turn of
a user, behind which the template writes its generation prompt (`due=false` leaves that out); with `template=plain` it
is all that the model reads. Of the vocabulary only the rows of yes and no are multiplied, and what else the model might
say is left aside: P(yes) = exp(yes) / (exp(yes) + exp(no)), where several forms of a word are added up.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmbench.checkpoints.fingerprint import first_line, in_one_line
from rmbench.checkpoints.forms import Form
from rmbench.checkpoints.sandbox import bounded
from rmbench.checkpoints.template import plain
from rmbench.checkpoints.vocabulary import Vocabulary, vocabulary_of
from rmbench.errors import ModelError, UsageError
from rmbench.models import reader
from rmbench.models.base import Encoded, Option
from rmbench.models.reader import Built, Loaded, OpenedReader, unread
from rmbench.types import Message, Request, Reward, Use

if TYPE_CHECKING:
    import torch

VERSION = 1  # of how this module reads a model; a change of any reward raises it
SOURCE = "required"

# Ours, by name. What is asked stands last, where a limit of tokens does not cut it
_QUESTIONS = {
    "correct": (
        "A user wrote:\n{{ prompt }}\n\nThe response was:\n{{ response }}\n\n"
        "Is the response correct? Say {{ yes }} or {{ no }} and nothing else."
    ),
    "reference": (
        "A user wrote:\n{{ prompt }}\n\nA correct answer is:\n{{ reference }}\n\nThe response was:\n{{ response }}\n\n"
        "Does the response come to the same answer? Say {{ yes }} or {{ no }} and nothing else."
    ),
}
_VARIABLES = ("prompt", "response", "reference", "yes", "no")


def _forms(text: str) -> tuple[str, ...]:
    """The forms of a word, with the spaces that are part of them."""
    forms = tuple(text.split(","))
    if not all(forms):
        raise ValueError("expected a word, or forms of it between commas")
    return forms


OPTIONS: Mapping[str, Option] = {
    **reader.OPTIONS,
    "question": Option(f"what is asked: {', '.join(_QUESTIONS)}, a Jinja file or text", default="correct"),
    "yes": Option("the word for yes, one token; several forms by commas, a space being part of one", _forms, ("Yes",)),
    "no": Option("the word for no", _forms, ("No",)),
    "due": Option("have the template write that the answer is due", bool, True),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A text that asks about a response; `takes` are the variables that stand in it."""

    source: str
    takes: frozenset[str]
    render: Callable[..., str]

    def text(self, request: Request, yes: str, no: str) -> str:
        """Raises what the template raises. A prompt of one user turn is its text, another its turns as plain text."""
        prompt = request.prompt[0].text if _is_single(request.prompt) else plain(request.prompt)
        response = request.responses[0].text or ""
        return self.render(prompt=prompt, response=response, reference=request.reference or "", yes=yes, no=no)


@dataclass(frozen=True, slots=True, eq=False)
class Verifier:
    """Reads yes and no at the last token, from their rows of the vocabulary."""

    vocabulary: Vocabulary
    question: Question
    words: tuple[str, str]
    rows: tuple[tuple[int, ...], tuple[int, ...]]
    is_plain: bool
    due: bool

    def form(self, request: Request) -> Form | None:
        """The question as a turn of the user, or as it is where no template is used."""
        if request.responses[0].messages is None:
            return None
        try:
            text = self.question.text(request, *self.words)
        except Exception:  # a template is a program: it may raise anything, which `placed` says
            text = "?"
        return Form(texts=(text,), due=self.due) if self.is_plain else Form((Message("user", text),), due=self.due)

    def placed(self, one: Encoded, request: Request) -> Encoded:
        """The last token is read."""
        if "reference" in self.question.takes and request.reference is None:
            return unread(one, "the example has no reference, which the question takes", refused=True)
        try:
            self.question.text(request, *self.words)
        except Exception as error:
            return unread(one, f"the question fails: {first_line(error)}")
        return replace(one, reads=(len(one.ids) - 1,))

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """P(yes), with the difference of the logits that it is made of as `margin`, and whether it is above a half."""
        import torch

        yes, no = self.rows
        states = torch.stack([one[-1] for one in hidden])
        logits = self.vocabulary.logits_of(states, (*yes, *no)).double().cpu()
        margins = logits[:, : len(yes)].logsumexp(1) - logits[:, len(yes) :].logsumexp(1)
        return [_reward(margin) for margin in margins.tolist()]


def _reward(margin: float) -> Reward:
    verdict = math.nan if math.isnan(margin) else float(margin > 0)
    return Reward((_sigmoid(margin),), heads={"margin": (margin,), "verdict": (verdict,)})


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if not value < 0 else math.exp(value) / (1 + math.exp(value))


def _is_single(prompt: Sequence[Message]) -> bool:
    return len(prompt) == 1 and prompt[0].role == "user"


@in_one_line
def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> OpenedReader:
    """Opens a causal language model that says yes or no, or an adapter of one.

    No weights are read. Raises ModelError where it is no language model, UsageError for options that cannot be, a
    question that leaves the response out, and a word that is not one token.
    """
    begun = reader.begin("yesno", OPTIONS, source, options, revision)
    asked = begun.asked
    if asked["template"] == "pair":
        raise UsageError("template='pair': expected plain or a Jinja file; a causal language model reads no pairs")
    question, due = _question(asked["question"]), asked["due"]
    words = asked["yes"][0].strip(), asked["no"][0].strip()
    told = hashlib.sha256(question.source.encode()).hexdigest()

    def build(loaded: Loaded) -> Built:
        tokenizer, name = loaded.rendering.tokenizer, loaded.name
        yes, no = _rows(tokenizer, asked, name)
        vocabulary = vocabulary_of(loaded.model, loaded.head_dtype, tokenizer, name)
        if (top := max(*yes, *no)) >= len(vocabulary.weight):
            raise ModelError(
                f"{name}: token id {top} lies beyond the {len(vocabulary.weight):,} rows of its vocabulary"
            )
        verifier = Verifier(vocabulary, question, words, (yes, no), loaded.rendering.kind == "plain", due)
        return Built(verifier, facts={"yes": list(yes), "no": list(no)})

    uses: frozenset[Use] = frozenset({"reference"}) if "reference" in question.takes else frozenset()
    opened = reader.opened(
        replace(begun, asked={**asked, "question": told}),  # known by its text, not by where that stands
        "AutoModelForCausalLM",
        version=VERSION,
        answers=frozenset({"reward"}),
        rule={"question": told, "yes": list(asked["yes"]), "no": list(asked["no"]), "due": due, "read": "last"},
        build=build,
        uses=uses,
    )
    _rows(opened.rendering.tokenizer, asked, begun.name)
    return opened


def _question(asked: str) -> Question:
    """One of ours, a file's, or a text that says what it asks. Raises UsageError."""
    from jinja2 import TemplateError, meta

    ours = f"{', '.join(_QUESTIONS)}, a Jinja file or a text with {{{{ response }}}}"
    if asked in _QUESTIONS:
        source = _QUESTIONS[asked]
    elif "{{" in asked:
        source = asked
    else:
        try:
            source = Path(asked).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = "a folder" if isinstance(error, IsADirectoryError) else "no such file"
            reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else reason
            raise UsageError(f"question={asked!r}: {reason}; expected {ours}") from None
    environment, made = bounded(["jinja2.ext.loopcontrols"])
    try:
        named = meta.find_undeclared_variables(environment.parse(source)) - environment.globals.keys()
        render = made(source)
    except TemplateError as error:
        raise UsageError(f"question: no Jinja template: {first_line(error)}") from None
    unknown = sorted(named - set(_VARIABLES))
    if unknown:
        raise UsageError(f"question: the variable {unknown[0]!r}; expected {', '.join(_VARIABLES)}")
    if "response" not in named:
        raise UsageError("question: it leaves the response out; expected {{ response }} in it")
    return Question(source, frozenset(named), render)


def _rows(tokenizer: Any, asked: Mapping[str, Any], name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The token of each form of yes and of no. Raises UsageError for one that is split, or that both have."""
    yes, no = (tuple(_token(tokenizer, option, form, name) for form in asked[option]) for option in ("yes", "no"))
    both = sorted({*yes} & {*no})
    if both:
        token = tokenizer.convert_ids_to_tokens(both[0])
        raise UsageError(f"yes={','.join(asked['yes'])}, no={','.join(asked['no'])}: both are the token {token!r}")
    return tuple(dict.fromkeys(yes)), tuple(dict.fromkeys(no))


def _token(tokenizer: Any, option: str, form: str, name: str) -> int:
    ids = tokenizer(form, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        pieces = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(ids)))
        raise UsageError(
            f"{option}={form!r}: the tokenizer of {name} makes {pieces} of it; expected a word of one token"
        )
    return int(ids[0])
