"""The cases of docs/cases.md that read a checkpoint: what each family shows, where it reads, and what it makes of it.

Each family here is forms and a head over a tiny backbone, run by a session; what it should answer is computed in the
test from the ids of the whole text, as the official code does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ask_models import score
from checkpoints import CHAT, bytes_bpe

from rmbench.checkpoints.forms import Form, Mark, Turn
from rmbench.checkpoints.rendering import Limits, Rendering, choose, form_of
from rmbench.models.base import Encoded, Subject
from rmbench.scoring import Store
from rmbench.types import Ask, Json, Message, Question, Request, Response, Reward

WIDTH = 6
STEP, SEAM = Mark("step"), Mark("seam")
HEADER = "</s>\n<|assistant|>\n"  # what the template writes between a prompt and its answer
PROBLEM = (Message("user", "What is 37 + 58?"),)
STEPS = ("30 + 50 = 80", "7 + 8 = 15", "so it is 95")


class Mean(torch.nn.Module):
    """A causal network: each hidden state is the mean of what was read up to there, so that places tell."""

    def __init__(self, rows: int = 600) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(rows, WIDTH, generator=generator), requires_grad=False)
        self.calls = 0

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        self.calls += 1
        return SimpleNamespace(last_hidden_state=self.states(input_ids))

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        counts = torch.arange(1, ids.shape[-1] + 1)[:, None]
        return self.table[ids].cumsum(-2) / counts


def matrix(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Family:
    """What families have in common. Each says its `form`, which marks it reads, and what it makes of what is there."""

    layout = "causal"
    answers: frozenset[Ask] = frozenset({"reward"})
    marks: tuple[str, ...] = ()
    template: str | None = None

    def __init__(self, tokenizer: Any = None, **limits: Any) -> None:
        self.fingerprint = type(self).__name__
        self.subject = Subject(f"tests/{type(self).__name__.lower()}", "tests")
        self.rendering = choose(tokenizer or bytes_bpe(), self.template, Limits(**limits), self.subject.id)
        self.backbone: Any = Mean()

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        encoded = self.rendering.encode(requests, [self.form(request) for request in requests])
        return [self.placed(one, request.ask) for one, request in zip(encoded, requests, strict=True)]

    def placed(self, one: Encoded, ask: Ask) -> Encoded:
        lost = [name for name in self.marks if None in one.marks.get(name, ())]
        if lost and ask != "steps":
            return replace(one, ids=(), error=f"what is read at the mark {lost[0]!r} was cut")
        return replace(one, reads=self.reads(one) if one.error is None else (), ask=ask)

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        return [
            replace(self.reward(states.float(), one), n_tokens=len(one.ids))
            for states, one in zip(hidden, encoded, strict=True)
        ]

    def form(self, request: Request) -> Form | None:
        return form_of(request)

    def reads(self, one: Encoded) -> list[int]:
        """The tokens before the marks; a mark that was cut is read nowhere."""
        return [at for name in self.marks for at in one.marks.get(name, ()) if at is not None]

    def reward(self, states: torch.Tensor, one: Encoded) -> Reward:
        raise NotImplementedError


def ids_of(rendering: Rendering, text: str) -> list[int]:
    return rendering.tokenizer(text, add_special_tokens=False)["input_ids"]


def steps_asked(steps: Sequence[str] = STEPS) -> Request:
    return Request("steps", PROBLEM, (Response("\n".join(steps), steps),))


# a gate: two reads


class Gated(Family):
    """As ArmoRM: objectives at the last token, weighted by a gate read where the header of the answer begins."""

    marks = ("gate",)
    template_that_trims = CHAT.replace("message.content", "message.content | trim")
    objectives, gate = matrix(5, WIDTH), matrix(5, WIDTH, seed=2)

    def __init__(self, **limits: Any) -> None:
        tokenizer = bytes_bpe()
        tokenizer.chat_template = self.template_that_trims
        super().__init__(tokenizer, **limits)

    def form(self, request: Request) -> Form:
        return Form((*request.prompt, Turn("assistant", (Mark("gate"), request.responses[0].text or ""))))

    def reads(self, one: Encoded) -> list[int]:
        """The mark finds the end of the header, and the gate is read at its first token."""
        (end,) = super().reads(one)
        return [end - len(ids_of(self.rendering, HEADER)) + 1, len(one.ids) - 1]

    def reward(self, states: torch.Tensor, one: Encoded) -> Reward:
        at_gate, at_end = states
        rewards, weights = self.objectives @ at_end, (self.gate @ at_gate).softmax(0)
        heads = {f"objective {i}": (float(value),) for i, value in enumerate(rewards)}
        return Reward((float(weights @ rewards),), heads=heads)


def test_a_gate_is_read_at_the_header_of_the_answer_in_a_template_that_trims() -> None:
    model = Gated()
    asked = [Request("reward", PROBLEM, (Response(text),)) for text in ("  It is 95.", "It is 95.\n", "No idea.")]
    one, same, other = score(model, asked)

    ids = model.rendering.encode(asked)[0].ids
    header = ids_of(model.rendering, HEADER)
    at = max(i for i in range(len(ids)) if list(ids[i : i + len(header)]) == header)
    states = model.backbone.states(torch.tensor(ids))
    expected = (model.gate @ states[at]).softmax(0) @ (model.objectives @ states[-1])
    assert one.value == pytest.approx(float(expected), rel=1e-5)
    assert one.value == same.value, "what the template trims is not read"
    assert len(one.heads) == 5
    assert other.value != one.value


def test_a_gate_that_was_cut_is_an_error_of_that_request_alone() -> None:
    model = Gated(max_length=16)
    cut, whole = score(model, [Request("reward", PROBLEM, (Response(text),)) for text in ("95 " * 20, "95")])
    assert (cut.status, cut.detail) == ("error", "what is read at the mark 'gate' was cut")
    assert whole.status == "ok"


# process rewards at marks


class TwoLabels(Family):
    """As Qwen2.5-Math-PRM: a tag behind each step, two labels read at it, the second is `right`."""

    answers = frozenset({"steps"})
    marks = ("step",)
    tag = "<|system|>"  # a special token of the tiny tokenizer, as <extra_0> is of Qwen's
    head = matrix(2, WIDTH)

    def form(self, request: Request) -> Form:
        parts = [part for step in request.responses[0].steps or () for part in (step, self.tag, STEP)]
        return Form((*request.prompt, Turn("assistant", parts)))

    def reward(self, states: torch.Tensor, one: Encoded) -> Reward:
        right = iter(self.right(states).tolist())
        steps = tuple(math.nan if at is None else next(right) for at in one.marks["step"])
        return Reward((math.prod(steps),), steps=steps)

    def right(self, states: torch.Tensor) -> torch.Tensor:
        """How likely each step is right, from the states at the tags."""
        return (states @ self.head.T).softmax(-1)[:, 1]


def test_two_labels_are_read_at_the_tag_behind_each_step() -> None:
    model = TwoLabels()
    (reward,) = score(model, [steps_asked()])
    whole = Request("reward", PROBLEM, (Response("".join(step + model.tag for step in STEPS)),))
    ids = torch.tensor(model.rendering.encode([whole])[0].ids)
    (tag,) = ids_of(model.rendering, model.tag)
    right = (model.backbone.states(ids)[ids == tag] @ model.head.T).softmax(-1)[:, 1]
    assert reward.steps == pytest.approx(right.tolist(), rel=1e-5)
    assert reward.value == pytest.approx(float(right.prod()), rel=1e-5)


def test_a_saturated_step_is_a_zero_and_stays_in_its_place() -> None:
    model = TwoLabels()
    model.head = model.head * 1e6
    (reward,) = score(model, [steps_asked()])
    assert len(reward.steps) == 3
    assert 0.0 in reward.steps, "the official code drops exact zeros, which shifts what follows"


def test_a_step_that_was_cut_is_nan_alone() -> None:
    model = TwoLabels(max_length=12)
    (reward,) = score(model, [steps_asked()])
    assert reward.truncated > 0
    assert math.isnan(reward.steps[0])
    assert math.isfinite(reward.steps[-1])
    assert math.isnan(reward.value), "the model's own aggregate lacks a step"
    assert reward.status == "ok", "the steps that were read have their numbers, and a view of the last one its score"


class TwoRows(TwoLabels):
    """As Math-Shepherd: two rows of the vocabulary's head at the tag, of `+` and of `-`."""

    template = "plain"
    tag = "!"
    vocabulary = matrix(600, WIDTH)

    def form(self, request: Request) -> Form:
        lines = [f"Step {i}: {step} " for i, step in enumerate(request.responses[0].steps or (), 1)]
        parts = [part for line in lines for part in (line, self.tag, STEP, "\n")]
        return Form(texts=((f"{request.prompt[-1].text} ", *parts),))

    def right(self, states: torch.Tensor) -> torch.Tensor:
        rows = [ids_of(self.rendering, sign)[0] for sign in "+-"]
        return (states @ self.vocabulary[rows].T).softmax(-1)[:, 0]


def test_two_rows_of_the_vocabulary_are_read_at_the_tag_and_no_other_row_is_computed() -> None:
    model = TwoRows()
    (reward,) = score(model, [steps_asked()])
    text = f"{PROBLEM[0].text} " + "".join(f"Step {i}: {step} !\n" for i, step in enumerate(STEPS, 1))
    ids = torch.tensor(model.rendering.tokenizer(text)["input_ids"])
    (tag,), (plus,), (minus,) = (ids_of(model.rendering, sign) for sign in "!+-")
    logits = model.backbone.states(ids)[ids == tag] @ model.vocabulary.T
    expected = torch.sigmoid(logits[:, plus] - logits[:, minus]).tolist()
    assert reward.steps == pytest.approx(expected, rel=1e-5)


class Apart(TwoLabels):
    """As Skywork-o1-PRM: each step is tokenised by itself, and so is the tag read behind it, there a line break.

    In the tiny vocabulary only letters join over a seam, so here it is a letter.
    """

    template = "plain"
    tag = "s"
    head = matrix(WIDTH)

    def form(self, request: Request) -> Form:
        parts = [part for step in request.responses[0].steps or () for part in (SEAM, step, SEAM, self.tag, STEP)]
        return Form(texts=((f"{request.prompt[-1].text}\n", *parts),), apart=True)

    def right(self, states: torch.Tensor) -> torch.Tensor:
        return (states @ self.head).sigmoid()


def test_steps_that_are_tokenised_apart_have_the_ids_that_they_have_alone() -> None:
    model = Apart()
    steps = ("two hour", " are 120 minute", " and 45 more")
    (reward,) = score(model, [steps_asked(steps)])
    tokenizer = model.rendering.tokenizer
    ids = [tokenizer.bos_token_id, *ids_of(model.rendering, f"{PROBLEM[0].text}\n")]
    ends = []
    for step in steps:
        ids += [*ids_of(model.rendering, step), *ids_of(model.rendering, model.tag)]
        ends.append(len(ids) - 1)
    whole = tokenizer(f"{PROBLEM[0].text}\n" + "".join(step + model.tag for step in steps))["input_ids"]
    assert whole != ids, "together, tokens span the seams"
    expected = (model.backbone.states(torch.tensor(ids))[ends] @ model.head).sigmoid()
    assert reward.steps == pytest.approx(expected.tolist(), rel=1e-5)
    assert reward.n_tokens == len(ids)


# pairs


class ThreeMarks(Family):
    """As PairRM: prompt and two responses in one text, each behind its own token and cut to its own limit."""

    answers = frozenset({"compare"})
    template = "plain"
    marks = ("source", "candidate")
    head = matrix(2 * WIDTH)
    most = (None, 12, None, 5, None, 5)

    def form(self, request: Request) -> Form:
        first, second = (response.text or "" for response in request.responses)
        parts = (
            ("<|system|>", Mark("source"), request.prompt[-1].text, SEAM),
            ("<|user|>", Mark("candidate"), first, SEAM),
            ("<|assistant|>", Mark("candidate"), second),
        )
        return Form(texts=(tuple(part for some in parts for part in some),), at_most=self.most)

    def reward(self, states: torch.Tensor, one: Encoded) -> Reward:
        source, *candidates = states
        first, second = (float(self.head @ torch.cat([source, state])) for state in candidates)
        win = 1 / (1 + math.exp(second - first))
        return Reward((win, 1 - win))


def test_a_pair_is_read_at_three_marks_and_each_piece_is_cut_to_its_own_limit() -> None:
    model = ThreeMarks()
    texts = ("It is 95, because 80 and 15 are 95.", "No.")
    (reward,) = score(model, [Request("compare", PROBLEM, tuple(map(Response, texts)))])

    special = {name: ids_of(model.rendering, f"<|{name}|>") for name in ("system", "user", "assistant")}
    pieces = [ids_of(model.rendering, text) for text in (PROBLEM[0].text, *texts)]
    source, first, second = (piece[:most] for piece, most in zip(pieces, (12, 5, 5), strict=True))
    ids = [model.rendering.tokenizer.bos_token_id, *special["system"], *source, *special["user"], *first]
    ids += [*special["assistant"], *second]
    states = model.backbone.states(torch.tensor(ids))
    places = [1, 2 + len(source), 3 + len(source) + len(first)]
    logits = [float(model.head @ torch.cat([states[places[0]], states[place]])) for place in places[1:]]
    assert reward.values[0] == pytest.approx(1 / (1 + math.exp(logits[1] - logits[0])), rel=1e-5)
    assert reward.truncated == len(pieces[1]) - 5
    assert reward.n_tokens == len(ids)


# implicit rewards


class Likelihood(Family):
    """A policy asked how likely a response is: a value per token of it, no more than their sums is kept."""

    answers = frozenset({"likelihood"})
    marks = ("answer",)
    vocabulary = matrix(600, WIDTH)

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.fingerprint = f"likelihood {sharpness}"
        self.vocabulary = self.vocabulary * sharpness

    def form(self, request: Request) -> Form:
        return Form((*request.prompt, Turn("assistant", (Mark("answer"), request.responses[0].text or ""))))

    def reads(self, one: Encoded) -> list[int]:
        (start,) = super().reads(one) or [len(one.ids)]
        return list(range(start, len(one.ids) - 1))

    def reward(self, states: torch.Tensor, one: Encoded) -> Reward:
        targets = torch.tensor([int(one.ids[at + 1]) for at in one.reads])
        log_p = (states @ self.vocabulary.T).log_softmax(-1)[range(len(targets)), targets]
        heads = {"tokens": (float(len(targets)),), "squares": (float(log_p.square().sum()),)}
        return Reward((float(log_p.sum()),), heads=heads)


class Implicit:
    """As a DPO policy: how much likelier a response is than under the reference. Norm and mean are views of it."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = "implicit:1"
    subject = Subject("tests/implicit", "derived")
    beta = 0.1

    def __init__(self, *members: Any) -> None:
        self.members = members

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        asked = [Question(replace(request, ask="likelihood"), place) for request, place in questions]
        return [asked for _ in self.members]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        return None

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        rewards = []
        for policy, reference in zip(*answers, strict=True):
            free = policy.value
            (tokens,), (squares,) = policy.heads["tokens"], policy.heads["squares"]
            heads = {"free": free, "free_mean": free / tokens, "free_norm": -math.sqrt(squares)}
            value = self.beta * (free - reference.value)
            rewards.append(Reward((value,), heads={name: (head,) for name, head in heads.items()}))
        return rewards


def test_an_implicit_reward_has_its_norm_and_its_reference_free_views(tmp_path: Any) -> None:
    policy, reference = Likelihood(1.0), Likelihood(0.5)
    request = Request("reward", PROBLEM, (Response("It is 95."),))
    with Store(tmp_path / "s.sqlite") as store:
        (reward,) = score(Implicit(policy, reference), [request], store=store)
        assert store.count() == 2, "what is kept is the members', sums and no values of tokens"

    ids = torch.tensor(policy.rendering.encode([request])[0].ids)
    begins = ids_of(policy.rendering, "<|assistant|>\n")
    start = max(i for i in range(len(ids)) if ids[i : i + len(begins)].tolist() == begins) + len(begins)
    sums = []
    for member in (policy, reference):
        logits = member.backbone.states(ids) @ member.vocabulary.T
        log_p = logits.log_softmax(-1)[range(start - 1, len(ids) - 1), ids[start:]]
        sums.append((float(log_p.sum()), float(log_p.norm()), len(log_p)))
    (one, norm, tokens), (other, _, _) = sums
    assert reward.value == pytest.approx(0.1 * (one - other), rel=1e-4)
    found = {name: head[0] for name, head in reward.heads.items()}
    assert found == pytest.approx({"free": one, "free_mean": one / tokens, "free_norm": -norm}, rel=1e-4)


# doubt


class Quantiles(Family):
    """As QRM: quantiles of the reward at the last token, of which the mean is the reward and the SD its spread."""

    head = matrix(9, WIDTH)

    def reads(self, one: Encoded) -> list[int]:
        return [len(one.ids) - 1]

    def reward(self, states: torch.Tensor, one: Encoded) -> Reward:
        quantiles = self.head @ states[0]
        mean, sd = float(quantiles.mean()), float(quantiles.std(correction=0))
        return Reward((mean,), heads={"lowest": (float(quantiles.min()),)}, spread=(sd,))


def test_a_spread_comes_back_from_the_store_as_it_was(tmp_path: Any) -> None:
    request = Request("reward", PROBLEM, (Response("It is 95."),))
    with Store(tmp_path / "s.sqlite") as store:
        (first,) = score(Quantiles(), [request], store=store)
        again = Quantiles()
        (second,) = score(again, [request], store=store)
    assert first == second
    assert again.backbone.calls == 0
    assert first.spread is not None
    assert first.spread[0] > 0
