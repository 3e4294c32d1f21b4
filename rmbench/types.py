"""The words everything else is written in: what is asked of a reward model, what it answers, what metrics see.

Nothing here imports torch, and nothing that reaches a model (`Request`, `Response`) carries a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ask = Literal["reward", "steps", "tokens", "compare"]
Status = Literal["ok", "nan", "inf", "refused", "error", "missing"]
Array = NDArray[np.float64]

STATUSES: tuple[Status, ...] = ("ok", "nan", "inf", "refused", "error", "missing")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response of an example, with what is known of it. `text` is None where only a score file knows it.

    `label` is whether it is right (bool) or how good it is (float, higher is better); None is unlabelled.
    `step_labels` holds one of 1 (right), 0 (neutral) or -1 (wrong) per step.
    """

    text: str | None
    label: bool | float | None = None
    steps: tuple[str, ...] | None = None
    step_labels: tuple[int, ...] | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with its candidates. `cluster` joins examples that are not independent of one another."""

    id: str
    prompt: tuple[Message, ...]
    candidates: tuple[Candidate, ...]
    subset: str | None = None
    cluster: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What a policy wrote. `tokens` and `cap` count the policy's tokens; `finish` says why it stopped."""

    text: str | None
    steps: tuple[str, ...] | None = None
    tokens: int | None = None
    finish: str | None = None
    cap: int | None = None


class Where(NamedTuple):
    """Where a request comes from: sha256 of the data set, example id, candidate indices in the order shown."""

    dataset: str
    example: str
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """The unit of dedup, planning, store and resume.

    `shown` holds one response, or k >= 2 in display order for `compare`. `where` is no part of the identity of a
    request with text, and no model but a score file ever sees it: in RewardMATH index 0 gives the label away.
    """

    ask: Ask
    prompt: tuple[Message, ...]
    shown: tuple[Response, ...]
    reference: str | None = None
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Reward:
    """What a model answered to one request.

    `values` has one entry per shown response; for `compare` it is win mass, where a tie is .5/.5, and for `tokens`
    the sum over the response. `heads` maps a head's name to one value per shown response, `steps` and `tokens` hold
    the raw reward of each step or token of the (only) shown response; `step_heads` is like `steps` for a model that
    rates a step in several ways. `spread` is a standard deviation in reward units. `n_tokens` is the length the model
    read, `truncated` how many tokens were cut before that, and `read` tells apart what it read (a hash of the tokens,
    "" where the model takes text).
    """

    values: tuple[float, ...]
    heads: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    steps: tuple[float, ...] = ()
    step_heads: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    tokens: tuple[float, ...] = ()
    spread: float | None = None
    status: Status = "ok"
    detail: str | None = None
    n_tokens: int = 0
    truncated: int = 0
    read: str = ""

    @property
    def value(self) -> float:
        """The default scalar: the value of the first shown response."""
        return self.values[0]


@dataclass(frozen=True, slots=True)
class View:
    """One way of turning a model's answers into scores of the k candidates of an example.

    `scores` is [k], or None where only comparisons were asked. Then `beats` is [k, k]: 1 where the row's candidate is
    preferred to the column's, 0 where it is not, .5 for a tie, nan where it was not asked or has no answer; it is None
    where the scores say who is preferred. `status` has one entry per candidate.
    """

    scores: Array | None
    beats: Array | None
    status: Sequence[Status]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that metrics see of an example.

    `labels` is [k], nan where unlabelled; `views` are by head or step aggregator (`default` otherwise); `columns` are
    numbers known of each candidate, [k] each: `characters` (nan without text), `n_tokens`, `truncated`; `tags` has one
    mapping per candidate; `step_scores` and `step_labels` have one array per candidate, as long as it has steps.
    """

    example_id: str
    subset: str | None
    cluster: str
    labels: Array
    views: Mapping[str, View]
    columns: Mapping[str, Array] = field(default_factory=dict)
    tags: Sequence[Mapping[str, Any]] = ()
    step_scores: Sequence[Array] = ()
    step_labels: Sequence[Array] = ()
