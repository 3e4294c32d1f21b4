"""The words everything else is written in: what is asked of a model, what it answers, what measures see.

Nothing here imports torch, and what reaches a model (`Request`, `GenerationRequest`) carries no label and no place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ask = Literal["reward", "steps", "likelihood", "tokens", "compare", "embedding"]
Use = Literal["reference", "criteria", "tools", "images"]
NullVerdict = Literal["no answer", "loss", "nought"]
Status = Literal["ok", "nan", "inf", "refused", "error", "missing"]
Role = Literal["system", "user", "assistant", "tool"]
Json = Any  # what `json.loads` gives
Array = NDArray[np.float64]

ASKS: tuple[Ask, ...] = ("reward", "steps", "likelihood", "tokens", "compare", "embedding")
USES: tuple[Use, ...] = ("reference", "criteria", "tools", "images")
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
STATUSES: tuple[Status, ...] = ("ok", "nan", "inf", "refused", "error", "missing")


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a message, known by the hash of its bytes; `open` reads them, when a model wants them."""

    sha256: str
    media_type: str
    open: Callable[[], bytes] = field(compare=False, repr=False)


Part = str | Image


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant makes. `arguments` is JSON text, as it was written."""

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True, slots=True, init=False)
class Message:
    """One turn of a conversation. `parts` are texts and images; a text given for them is the only one.

    `extras` are what else its data say of it and a chat template may write, as `reasoning_content`: the name of each
    field and its value as JSON text, by name.
    """

    role: str
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    extras: tuple[tuple[str, str], ...] = ()

    def __init__(
        self,
        role: str,
        parts: str | Sequence[Part] = (),
        tool_calls: Sequence[ToolCall] = (),
        tool_call_id: str | None = None,
        name: str | None = None,
        extras: Sequence[tuple[str, str]] = (),
    ) -> None:
        put = object.__setattr__
        put(self, "role", role)
        put(self, "parts", (parts,) if isinstance(parts, str) else tuple(parts))
        put(self, "tool_calls", tuple(tool_calls))
        put(self, "tool_call_id", tool_call_id)
        put(self, "name", name)
        put(self, "extras", tuple(sorted(extras)))

    @property
    def text(self) -> str:
        """The whole as text. Raises ValueError where there is an image."""
        if len(self.parts) == 1 and isinstance(self.parts[0], str):
            return self.parts[0]
        if any(isinstance(part, Image) for part in self.parts):
            raise ValueError(f"a turn of role {self.role} holds an image, and no text can stand for it")
        return "".join(str(part) for part in self.parts)

    @property
    def images(self) -> tuple[Image, ...]:
        """The images of the turn, in their order."""
        return tuple(part for part in self.parts if isinstance(part, Image))

    @property
    def says_something(self) -> bool:
        """Whether there is more to it than white space."""
        return bool(self.tool_calls) or any(isinstance(part, Image) or part.strip() for part in self.parts)

    @property
    def is_plain(self) -> bool:
        """Whether it is one text and nothing else."""
        return (
            len(self.parts) == 1
            and isinstance(self.parts[0], str)
            and not self.tool_calls
            and self.tool_call_id is None
            and self.name is None
            and not self.extras
        )


@dataclass(frozen=True, slots=True, init=False)
class Response:
    """What a policy wrote: one message of the assistant, or a trajectory of several; None where only a score file
    knows it.

    `steps` are those of a process reward, or `"turns"`: one step per message of the assistant. `tokens` and `cap`
    count the policy's tokens, `finish` says why it stopped, `top` holds log-probabilities by token, one mapping a
    token, where they were asked for: the first entry of each is the token that was written, whatever its rank.
    """

    messages: tuple[Message, ...] | None
    steps: tuple[str, ...] | Literal["turns"] | None = None
    tokens: int | None = None
    finish: str | None = None
    cap: int | None = None
    top: tuple[Mapping[str, float], ...] = ()

    def __init__(
        self,
        messages: str | Sequence[Message] | None,
        steps: Sequence[str] | Literal["turns"] | None = None,
        tokens: int | None = None,
        finish: str | None = None,
        cap: int | None = None,
        top: Sequence[Mapping[str, float]] = (),
    ) -> None:
        put = object.__setattr__
        if messages is not None:
            messages = (Message("assistant", messages),) if isinstance(messages, str) else tuple(messages)
        put(self, "messages", messages)
        put(self, "steps", steps if steps is None or steps == "turns" else tuple(steps))
        put(self, "tokens", tokens)
        put(self, "finish", finish)
        put(self, "cap", cap)
        put(self, "top", tuple(top))

    @property
    def text(self) -> str | None:
        """The assistant's texts joined by blank lines, tool calls as their JSON; None where nobody knows them."""
        if self.messages is None:
            return None
        if len(self.messages) == 1 and not self.messages[0].tool_calls:
            return self.messages[0].text
        return "\n\n".join(turn_text(message) for message in self.messages if message.role == "assistant")

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages of the assistant: the steps of a response whose `steps` are `"turns"`."""
        return tuple(message for message in self.messages or () if message.role == "assistant")

    @property
    def step_count(self) -> int | None:
        """How many steps it has; None where it has not been taken apart."""
        if self.steps is None:
            return None
        return len(self.turns) if self.steps == "turns" else len(self.steps)


def turn_text(message: Message) -> str:
    """The text of a turn, its tool calls as JSON below it."""
    calls = [f'{{"name": "{call.name}", "arguments": {call.arguments}}}' for call in message.tool_calls]
    return "\n\n".join([*([message.text] if message.text or not calls else []), *calls])


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of a rubric, and what it weighs where the data say so."""

    text: str
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response of an example, with what is known of it.

    `label` is whether it is right (bool), how good it is (float, higher is better), or a class (str); None is
    unlabelled.
    `annotations` has one number per annotator, a tie .5, nan where one is missing. `step_labels` holds one of 1
    (right), 0 (neutral) or -1 (wrong) per step.
    """

    response: str | Response
    label: bool | float | str | None = None
    annotations: tuple[float, ...] = ()
    step_labels: tuple[int, ...] | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str | None:
        """The response's text; None where only a score file knows it."""
        return self.response if isinstance(self.response, str) else self.response.text

    @property
    def number(self) -> float | None:
        """The label as a number; None where there is none, or a class."""
        return None if self.label is None or isinstance(self.label, str) else float(self.label)

    @property
    def steps(self) -> tuple[str, ...] | Literal["turns"] | None:
        """The steps that the data take the response apart into."""
        return None if isinstance(self.response, str) else self.response.steps


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with its candidates. `facets` say what sort of example it is: section, subset, language, ...

    `cluster` joins examples that are not independent of one another. Labels on turns of a prompt, or on criteria, are
    one example each, of one cluster.
    """

    id: str
    prompt: tuple[Message, ...]
    candidates: tuple[Candidate, ...]
    tools: tuple[Json, ...] = ()
    facets: Mapping[str, str] = field(default_factory=dict)
    cluster: str | None = None
    reference: str | None = None
    criteria: tuple[Criterion, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """All that a reward model may see: the unit of dedup, planning, store and resume.

    `responses` holds one response, or k >= 2 in display order for `compare`. There is no label in it and no place.
    """

    ask: Ask
    prompt: tuple[Message, ...]
    responses: tuple[Response, ...]
    tools: tuple[Json, ...] = ()
    reference: str | None = None
    criteria: tuple[Criterion, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a policy is asked: one response. `sample` counts the samples of a prompt from 0, `cap` is the most tokens
    it may have, `top` how many log-probabilities a token should come with.

    `sampling` holds what else decides the text: temperature, top_p, seed, ...
    """

    prompt: tuple[Message, ...]
    sample: int = 0
    cap: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Json, ...] = ()
    top: int = 0


class Place(NamedTuple):
    """Where a request comes from: sha256 of the data set, example id, candidate indices in the order shown, cluster."""

    dataset: str
    example: str
    candidates: tuple[int, ...]
    cluster: str = ""


class Question(NamedTuple):
    """A request and its place in the data, None where it has none.

    No model but a score file sees the place: in RewardMATH index 0 gives the label away.
    """

    request: Request
    place: Place | None = None

    def alone(self, index: int, ask: Ask = "reward") -> Question:
        """The question about one of its responses, by itself, with the place of that one."""
        place = self.place and self.place._replace(candidates=(self.place.candidates[index],))
        return Question(replace(self.request, ask=ask, responses=(self.request.responses[index],)), place)


class Due(NamedTuple):
    """What a task asks of an example: the candidates in the order shown, which is `drawn` where only texts tell it."""

    ask: Ask
    candidates: tuple[int, ...]
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class Reward:
    """What a model answered to one request.

    `values` has one entry per response; for `compare` it is win mass, where a tie is .5/.5, for `tokens` the sum over
    the response, for `steps` the model's own aggregate, for `likelihood` the sum of the log-probabilities of the
    response with the heads `tokens` (how many) and `squares` (their sum of squares); nan for an `embedding`, whose
    `vectors` has one per response. `heads` maps a head's name to one value per response, `steps` and `tokens` hold the
    raw reward of each step or token of the (only) response; `step_heads` is like `steps` for a model that rates a step
    in several ways. The head `verdict` (1 or 0), of a response as of a step, is the family's own decision. `spread` is
    one standard deviation per response, in reward units, of a comparison that of each response's win mass. `pick` is
    the response that a judge named as the best without rating the others: of several samples the one that most named,
    None where these tie, and `values` are the shares of samples that named each. `n_tokens` is the length the model
    read, `truncated` how many tokens were cut before that, and `read` tells apart what it read (a hash of the tokens,
    "" where the model takes text). `noted` are short reasons why what the model was shown is not quite what was asked.
    `status` is of `values`; a nan elsewhere makes only that view or step nan.

    >>> Reward((0.7, 0.3), spread=(0.1, 0.1)).value
    0.7
    """

    values: tuple[float, ...]
    heads: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    steps: tuple[float, ...] = ()
    step_heads: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    tokens: tuple[float, ...] = ()
    spread: tuple[float, ...] | None = None
    status: Status = "ok"
    detail: str | None = None
    n_tokens: int = 0
    truncated: int = 0
    read: str = ""
    vectors: tuple[tuple[float, ...], ...] = ()
    pick: int | None = None
    noted: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        """The default scalar: the value of the first response."""
        return self.values[0]


@dataclass(frozen=True, slots=True)
class View:
    """One way of turning a model's answers into scores of the k candidates of an example.

    `scores` is [k], or None where only comparisons were asked. Then `beats` is [k, k]: 1 where the row's candidate is
    preferred to the column's, 0 where it is not, .5 for a tie, nan where it was not asked or has no answer; it is None
    where the scores say who is preferred. `spread` is [k] where the model tells its doubt, `steps` one array per
    candidate where it rates steps. `status` has one entry per candidate.
    """

    scores: Array | None
    beats: Array | None
    status: Sequence[Status]
    spread: Array | None = None
    steps: Sequence[Array] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back to one request: `values` (win masses) of `candidates` in the order shown, or the one picked."""

    candidates: tuple[int, ...]
    values: tuple[float, ...]
    status: Status = "ok"
    pick: int | None = None
    spread: tuple[float, ...] | None = None
    n_tokens: int = 0
    truncated: int = 0
    read: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that measures see of an example; a result's records give it again.

    `labels` is [k], nan where unlabelled or a class, `classes` [k] the class or None, `annotations` [k, a] one column
    an annotator. `views` are by head or step aggregator (`default` otherwise), `answers` one per request, in the order
    asked. `prompt` is a hash, the same for the same prompt in any task. `columns` are numbers known of each candidate,
    [k] each: `characters` (nan without text), `n_tokens`, `truncated`; `tags` has one mapping per candidate;
    `step_heads` has, by head, and `step_labels` one array per candidate, as long as it has steps.
    """

    example_id: str
    facets: Mapping[str, str]
    cluster: str
    labels: Array
    views: Mapping[str, View]
    columns: Mapping[str, Array] = field(default_factory=dict)
    tags: Sequence[Mapping[str, Any]] = ()
    step_heads: Mapping[str, Sequence[Array]] = field(default_factory=dict)
    step_labels: Sequence[Array] = ()
    prompt: str = ""
    classes: Sequence[str | None] = ()
    annotations: Array | None = None
    answers: Sequence[Answer] = ()
