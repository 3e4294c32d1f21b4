"""The cases of docs/cases.md that need no checkpoint: each a fake model or task, run from end to end.

What a checkpoint reads is in test_cases_checkpoints.py; members that are loaded once, embeddings that are compared and
folds are in test_session.py; averages of checkpoints in test_checkpoints.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from ask_models import score
from fake_models import Scripted, TinyTokenModel
from given import example, given, judged, pair
from test_session import AtRest, CritiqueFirst, Writes

from rmbench.errors import ModelError, UsageError
from rmbench.forwards.loop import rewards_of
from rmbench.kinds.comparison import Comparison
from rmbench.kinds.grading import Grading
from rmbench.kinds.steps import Steps, until_first_error
from rmbench.metrics import comparison, steps
from rmbench.metrics.grading import GRADES, Grades
from rmbench.metrics.interval import Statistic, cluster_codes, mean
from rmbench.metrics.measure import Unfitted, macro, named
from rmbench.metrics.paired import difference_of
from rmbench.models.base import Subject, of_picks
from rmbench.models.length import Length
from rmbench.results.provenance import reason_of
from rmbench.results.replay import outcomes_of
from rmbench.runs.evaluate import evaluate
from rmbench.scoring import Asking, Session, Store
from rmbench.types import (
    Ask,
    Candidate,
    Criterion,
    Example,
    GenerationRequest,
    Json,
    Message,
    Outcome,
    Question,
    Request,
    Response,
    Reward,
    ToolCall,
)

ACCURACY = comparison.alone(comparison.accuracy)
EXPECTED = comparison.alone(comparison.accuracy_expected)


def measure(headline: str, *makes: Callable[..., Statistic]) -> Unfitted:
    """A measure of statistics that are made one by one."""
    return Unfitted(
        headline, headline, lambda o, v: [make(o, v, None) for make in makes], lambda o, v: {}, lambda o, v: 0, "a test"
    )


def responses(rate: Callable[[str], float], **fields: Any) -> Scripted:
    """A reward model that rates a response by its text."""
    return Scripted(lambda request: rate(request.responses[0].text or ""), **fields)


def scores(outcome: Outcome, view: str) -> np.ndarray:
    seen = outcome.views.get(view)
    return np.full(len(outcome.labels), np.nan) if seen is None or seen.scores is None else seen.scores


# judges


class Policy(Writes):
    """A policy that answers with what a function makes of the request: a text, or a whole response."""

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            self.asked.append(request)
            written = self.text(request)
            yield index, written if isinstance(written, Response) else Response(written)


class BestOfK:
    """A judge that names the best of k responses under a rubric, three times."""

    answers: frozenset[Ask] = frozenset({"compare"})
    uses = frozenset({"criteria"})
    fingerprint = "best-of-k:1"
    subject = Subject("tests/best-of-k", "judge")

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def ask(self, request: Request, written: Sequence[Response]) -> Sequence[GenerationRequest]:
        shown = [f"[{place}] {response.text}" for place, response in enumerate(request.responses)]
        lines = [request.prompt[-1].text, *(criterion.text for criterion in request.criteria), *shown]
        prompt = (Message("user", "\n".join(lines)),)
        return [] if written else [GenerationRequest(prompt, sample) for sample in range(3)]

    def verdict(self, request: Request, written: Sequence[Response]) -> Reward:
        return of_picks([int(one.text or "") for one in written], len(request.responses))


def under_a_rubric(count: int) -> list[Example]:
    """Four responses each, of which the one that says the word of the criterion is right."""
    words = ("apple", "pear", "plum", "fig")
    return [
        example(
            f"{i}",
            *(Candidate(f"{i} says {word}", word == words[i % 4]) for word in words),
            criteria=(Criterion(f"must say {words[i % 4]}"),),
        )
        for i in range(count)
    ]


def follows_the_rubric(request: GenerationRequest) -> str:
    """Names the response with the criterion's word, but for every fifth and second prompt, and in the first sample."""
    question, criterion, *shown = request.prompt[0].text.split("\n")
    best = next(place for place, line in enumerate(shown) if line.endswith(criterion.split()[-1]))
    fooled = int(question.rstrip("?")) % 5 in (1, 3)
    return str((best + 1) % 4 if fooled or request.sample == 0 else best)


def test_sixty_right_picks_of_a_hundred_are_sixty_per_cent() -> None:
    policy = Policy(follows_the_rubric)
    task = given(Comparison, under_a_rubric(100), orders="permutations:2")
    result = judged(BestOfK(policy), task)
    accuracy = result.metric("accuracy")
    assert (accuracy.value, accuracy.n) == (0.6, 100)
    assert result.metric("mrr").value is None, "of the three that were not named nobody said anything"
    assert len(policy.asked) == 100 * 2 * 3


def test_samples_that_disagree_are_shares_and_orders_add_them_up() -> None:
    """An order's two of three is not three of three, and a tie of samples is no verdict for anybody."""
    said = {
        ("one", 0): (0, 0, 1),  # two thirds for the one shown first
        ("one", 1): (0, 0, 0),
        ("tie", 0): (0, 1, 2),
        ("tie", 1): (2, 0, 1),
    }
    shown: dict[str, list[tuple[str, ...]]] = {"one": [], "tie": []}

    def writes(request: GenerationRequest) -> str:
        question, *texts = request.prompt[0].text.split("\n")
        orders = shown[question.rstrip("?")]
        order = tuple(text.partition(" ")[2] for text in texts)
        if order not in orders:
            orders.append(order)
        return str(said[question.rstrip("?"), orders.index(order)][request.sample])

    rows = [example(name, *(Candidate(f"{name} {i}", i == 0) for i in range(3))) for name in shown]
    result = judged(BestOfK(Policy(writes)), given(Comparison, rows, orders="permutations:2"))
    first, second, *ties = result.requests.to_pylist()
    assert (first["values"], first["pick"]) == ([pytest.approx(2 / 3), pytest.approx(1 / 3), 0], 0)
    assert (second["values"], second["pick"]) == ([1, 0, 0], 0)
    assert [(one["values"], one["pick"]) for one in ties] == [([pytest.approx(1 / 3)] * 3, None)] * 2
    one, tie = (outcome.views["default"].beats for outcome in outcomes_of(result))
    winner = second["candidates"][0]
    assert np.nansum(one[winner]) == 2, "a whole order outweighs two thirds of another, whoever that was"
    assert np.nanmax(tie) == np.nanmin(tie) == 0.5
    assert result.metric("accuracy_expected").n == 2
    assert result.metric("mrr").n == 0, "nobody was rated, where samples agree as where they do not"


def test_a_judge_of_which_no_sample_gives_a_verdict_refuses() -> None:
    assert of_picks([1, None, 1], 2).values == (0, 1)
    assert (of_picks([None, None], 2).status, of_picks([0, 1], 2).pick) == ("refused", None)


def test_a_pick_that_its_values_contradict_is_refused() -> None:
    judge = Scripted(lambda request: Reward((0.2, 0.8, 0.0), pick=0), ["compare"], fingerprint="contradicts itself")
    with pytest.raises(ModelError, match="came back with response 0 picked, and values that name another"):
        score(judge, [Request("compare", (), tuple(Response(text) for text in "abc"))])


def test_a_model_that_compares_two_is_asked_for_pairs_of_four() -> None:
    pairwise = Scripted(lambda request: Reward((1.0, 0.0)), ["compare"])
    kwise = Scripted(lambda request: Reward((1.0, 0.0, 0.0, 0.0)), ["compare"])
    pairwise.most, kwise.most = 2, 4
    tasks = {n: given(Comparison, under_a_rubric(5), orders=f"permutations:{n}") for n in (1, 2, 3)}
    for n, orders in ((1, 1), (2, 2), (3, 2)):
        assert judged(pairwise, tasks[n]).statuses == {"ok": 5 * 6 * orders}
        assert judged(kwise, tasks[n]).statuses == {"ok": 5 * n}
    assert {len(request.responses) for request in pairwise.seen} == {2}
    assert judged(pairwise, tasks[2]).ties["default"] == 5, "whoever stands first wins one order of two"


def test_scores_by_criterion_of_a_k_wise_judge_are_views_of_their_own() -> None:
    def rated(request: Request) -> Reward:
        lengths = tuple(float(len(response.text or "")) for response in request.responses)
        dots = tuple(float((response.text or "").count(".")) for response in request.responses)
        return Reward(lengths, heads={"dots": dots, "default": tuple(-one for one in lengths)})

    rows = [example(f"{i}", *(Candidate("." * i + "x" * n, n == 3) for n in (3, 1, 2))) for i in range(4)]
    result = judged(Scripted(rated, ["compare"]), given(Comparison, rows, orders="permutations:2"))
    assert result.views == ["default", "dots", "default head"]
    values = {view: result.metric("accuracy_expected", view=view).value for view in result.views}
    assert values == {"default": 1, "dots": pytest.approx(1 / 3), "default head": 0}
    assert dict(result.requests["heads"].to_pylist()[0])["dots"] == [0, 0, 0]
    plain = Scripted(lambda request: Reward((1.0, 0.0, 0.0)), ["compare"], fingerprint="no heads")
    assert "heads" not in judged(plain, given(Comparison, rows, orders="permutations:2")).requests.column_names


def test_a_task_says_what_is_asked_first() -> None:
    both = Scripted(lambda request: 1.0 if request.ask == "reward" else Reward((1.0, 0.0)), ["reward", "compare"])
    assert judged(both, given(Comparison, [pair("a")])).statuses == {"ok": 2}
    assert judged(both, given(Comparison, [pair("a")], asks=("compare", "reward"))).statuses == {"ok": 1}
    with pytest.raises(ModelError, match="the model answers compare, reward; this task asks steps"):
        judged(both, given(Comparison, [pair("a")], asks=("steps",)))


def test_a_judge_that_always_names_the_first_has_only_ties_over_all_places() -> None:
    task = given(Comparison, under_a_rubric(20), orders="permutations:4")
    result = judged(BestOfK(Policy(lambda request: "0")), task)
    assert result.metric("accuracy").value == 0
    assert result.metric("accuracy_expected").value == 0.25
    assert result.ties["default"] == 20


def test_a_critique_is_written_first_and_then_the_verdict() -> None:
    def writes(request: GenerationRequest) -> str:
        text = request.prompt[0].text
        if "criticise" in text:
            return f"only one {text.partition(':')[0].removeprefix('must ')}"
        word = text.removeprefix("only one say ").partition(" ")[0]
        shown = text.partition("which of ")[2].rstrip("?").split(" | ")
        return str(next(place for place, line in enumerate(shown) if line.endswith(word)))

    task = given(Comparison, under_a_rubric(8), orders="permutations:1")
    assert judged(CritiqueFirst(Policy(writes)), task).metric("accuracy").value == 1


class ExpectedScore:
    """A judge whose reward is the mean over the digits that its policy could have written, as LMUnit's."""

    answers: frozenset[Ask] = frozenset({"reward"})
    uses = frozenset({"criteria"})
    fingerprint = "expected-score:1"
    subject = Subject("tests/expected-score", "judge")

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def ask(self, request: Request, written: Sequence[Response]) -> Sequence[GenerationRequest]:
        text = f"{request.criteria[0].text}: {request.responses[0].text}"
        return [] if written else [GenerationRequest((Message("user", text),), cap=1, top=20)]

    def verdict(self, request: Request, written: Sequence[Response]) -> Reward:
        digits = {int(token): math.exp(log_p) for token, log_p in written[0].top[0].items() if token.isdigit()}
        value = sum(digit * p for digit, p in digits.items()) / sum(digits.values())
        return Reward((value,), heads={"said": (float(written[0].text or "nan"),)})


def test_an_expected_score_comes_from_the_log_probabilities_of_the_digits() -> None:
    def writes(request: GenerationRequest) -> Response:
        level = len(request.prompt[0].text.partition(": ")[2])
        top = {"3": math.log(0.7 - level / 100), "4": math.log(0.2 + level / 100), "x": math.log(0.1)}
        return Response("3", tokens=1, top=(top,))

    graded = [
        example(f"{i}", Candidate("x" * i, float(i)), criteria=(Criterion("is long"),), cluster=f"{i // 2}")
        for i in range(1, 9)
    ]
    policy = Policy(writes)
    result = judged(ExpectedScore(policy), given(Grading, graded, measure=Grades(positive=None)))
    assert result.records["reward"].to_pylist()[0] == pytest.approx((3 * 0.69 + 4 * 0.21) / 0.9)
    assert result.metric("spearman").value == pytest.approx(1)
    assert result.metric("spearman", view="said").value is None, "a digit says the same of all"
    assert {request.top for request in policy.asked} == {20}


class WrittenScore(ExpectedScore):
    """A judge that writes before it rates, and is believed as far as the digit was likely: where that stands its
    tokens say, the one that was written first."""

    def verdict(self, request: Request, written: Sequence[Response]) -> Reward:
        taken = [next(iter(one.items())) for one in written[0].top]
        digit, log_p = next((token, log_p) for token, log_p in taken if token.strip().isdigit())
        return Reward((float(digit),), spread=(1 - math.exp(log_p),))


def test_the_token_that_was_written_is_found_again_after_sampling(tmp_path: Path) -> None:
    top = ({"score": -0.1, "4": -2.0}, {" 4": math.log(0.2), " 5": math.log(0.7)}, {".": -0.1})
    policy = Policy(lambda request: Response("score 4.", tokens=3, top=top))
    asked = Request("reward", (), (Response("x"),), criteria=(Criterion("is long"),))
    with Store(tmp_path / "s.sqlite") as store:
        for _ in range(2):
            (reward,) = score(WrittenScore(policy), [asked], store=store)
            assert (reward.value, reward.spread) == (4, (pytest.approx(0.8),))
    assert len(policy.asked) == 1, "the second time it came from the store, in the same order"


class Verifier:
    """A judge that holds a response against the reference, with three verdicts."""

    answers: frozenset[Ask] = frozenset({"reward"})
    uses = frozenset({"reference"})
    fingerprint = "verifier:1"
    subject = Subject("tests/verifier", "judge")
    verdicts = {"A": "correct", "B": "incorrect", "C": "invalid"}  # noqa: RUF012

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def ask(self, request: Request, written: Sequence[Response]) -> Sequence[GenerationRequest]:
        text = f"{request.reference}|{request.responses[0].text}"
        return [] if written else [GenerationRequest((Message("user", text),))]

    def verdict(self, request: Request, written: Sequence[Response]) -> Reward:
        said = self.verdicts.get((written[0].text or "")[-1:])
        if said is None:
            return Reward((math.nan,), status="refused", detail="no verdict in what was written")
        heads = {name: (float(name == said),) for name in self.verdicts.values()}
        return Reward(heads["correct"], heads=heads)


def test_a_verifier_sees_the_reference_and_gives_one_of_three_verdicts() -> None:
    def writes(request: GenerationRequest) -> str:
        reference, response = request.prompt[0].text.split("|")
        return "?" if response == "mumble" else "A" if response == reference else "C" if "..." in response else "B"

    labels = [("4", "correct"), ("5", "incorrect"), ("2 + ...", "invalid"), ("four", "correct"), ("mumble", "invalid")]
    rows = [example(f"{i}", Candidate(text, label), reference="4") for i, (text, label) in enumerate(labels)]
    task = given(Grading, rows, measure=Grades(positive="correct"))
    result = judged(Verifier(Policy(writes)), task)
    assert result.primary_view == "correct"
    assert (result.metric("accuracy").value, result.metric("accuracy").n) == (0.75, 4)
    assert result.metric("f1").value == pytest.approx(2 / 3)
    assert (result.statuses, result.left_out["correct"]) == ({"ok": 4, "refused": 1}, {"no answer": 1})
    assert result.subject.uses == ["reference"]

    strict = given(Grading, rows, measure=Grades(positive="correct"), null_verdict="loss")
    found = judged(Verifier(Policy(writes)), strict)
    assert (found.metric("accuracy").value, found.metric("accuracy").n) == (0.6, 5), "VerifyBench: wrong, not left out"
    assert found.metric("f1").value == pytest.approx(2 / 3), "nobody said that it was correct"
    assert found.metric("auc") == result.metric("auc")
    assert (found.left_out, found.statuses) == ({}, result.statuses)
    with pytest.raises(UsageError, match="null_verdict='nought'; expected 'no answer' or 'loss'"):
        given(Grading, rows, null_verdict="nought")


def test_a_model_without_use_for_a_reference_never_sees_it_and_is_asked_once() -> None:
    rows = [
        replace(pair(f"{i}", prompt="2 + 2?"), reference=f"{i}", criteria=(Criterion("is a number"),)) for i in range(5)
    ]
    model = responses(len)
    result = judged(model, given(Comparison, rows))
    assert {(request.reference, request.criteria) for request in model.seen} == {(None, ())}
    assert (result.timing.requests, result.timing.unique) == (10, 2)


# doubt


def test_a_spread_tells_which_verdicts_to_trust() -> None:
    def sure(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        doubts = np.array([outcome.views[view].spread.sum() for outcome in outcomes])
        wins = np.array([float(scores(outcome, view)[0] > scores(outcome, view)[1]) for outcome in outcomes])
        return mean("accuracy_sure", np.where(doubts <= np.median(doubts), wins, np.nan), "proportion")

    def rated(request: Request) -> Reward:
        number = int(request.prompt[0].text.rstrip("?"))
        right = request.responses[0].text == "right"
        return Reward((float(right != (number % 4 == 0)),), spread=(1.0 if number % 4 == 0 else 0.1,))

    task = given(Comparison, [pair(f"{i}") for i in range(40)], measure=measure("accuracy_sure", sure, ACCURACY))
    result = judged(Scripted(rated), task)
    assert result.metric("accuracy").value == 0.75
    assert (result.metric("accuracy_sure").value, result.metric("accuracy_sure").n) == (1, 30)


# steps


def solution(name: str, rewards: Sequence[float], first: int | None, subset: str) -> Example:
    """A solution whose steps are their own rewards, and whose first wrong step is known."""
    response = Response("\n".join(map(str, rewards)), [str(reward) for reward in rewards])
    labels = until_first_error(len(rewards), first)
    return example(name, Candidate(response, step_labels=labels), facets={"subset": subset})


def rates_steps(request: Request) -> Reward:
    rewards = tuple(float(step) for step in request.responses[0].steps or ())
    return Reward((math.prod(rewards),), steps=rewards)


def test_a_threshold_is_chosen_on_one_subset_and_holds_for_all() -> None:
    rows = [
        *(solution(f"g{i}", (0.9, 0.4, 0.8), 1, "gsm8k") for i in range(4)),
        *(solution(f"h{i}", (0.9, 0.6), None, "gsm8k") for i in range(4)),
        *(solution(f"m{i}", (0.9, 0.45 + i / 10), 1, "math") for i in range(2)),
        *(solution(f"n{i}", (0.9, 0.7), None, "math") for i in range(2)),
    ]
    task = given(Steps, rows, measure=steps.Errors(on={"subset": "gsm8k"}))
    result = judged(Scripted(rates_steps, ["steps"]), task)
    assert result.fitted.measure["prod"] == {"threshold": pytest.approx(0.5)}
    assert result.metric("first_error_f1", subset="subset=gsm8k").value == 1
    assert result.metric("first_error_f1", subset="subset=math").value == pytest.approx(2 / 3)


def test_a_score_file_of_steps_has_a_view_of_its_own_where_it_says_how_they_make_one(tmp_path: Path) -> None:
    rows = [solution(f"{i}", rewards, first, "math") for i, (rewards, first) in
            enumerate((((0.9, 0.4, 0.8), 1), ((0.9, 0.6), None), ((0.2, 0.7), 0), ((0.8,), None)))]  # fmt: skip
    recorded = judged(Scripted(rates_steps, ["steps"]), given(Steps, rows, measure=steps.Errors(at=0.5)))
    path = tmp_path / "steps.parquet"
    pq.write_table(recorded.records, path)
    task = given(Steps, rows, measure=steps.Errors(at=0.5))
    plain, least = judged(f"scores:{path}", task), judged(f"scores:{path}", task, aggregate="min")
    assert (plain.primary_view, plain.statuses, "default" in plain.views) == ("prod", {"ok": 4}, False)
    assert (least.primary_view, least.statuses) == ("default", {"ok": 4})
    default, smallest = ([outcome.views[view].scores.item() for outcome in outcomes_of(least)]
                         for view in ("default", "min"))  # fmt: skip
    assert default == smallest == [0.4, 0.6, 0.2, 0.8]
    assert least.metric("first_error_f1").value == plain.metric("first_error_f1").value == 1


def test_a_family_s_own_verdicts_stand_for_a_threshold() -> None:
    def rated(request: Request) -> Reward:
        """As Skywork's on PRMBench: a step is right unless it falls below the one before."""
        rewards = rates_steps(request).steps
        falls = [False, *(later - earlier <= -0.05 for earlier, later in pairwise(rewards))]
        return Reward((min(rewards),), steps=rewards, step_heads={"verdict": tuple(float(not fall) for fall in falls)})

    def labelled(name: str, rewards: Sequence[float], labels: Sequence[int], scored: str) -> Example:
        response = Response("\n".join(map(str, rewards)), [str(reward) for reward in rewards])
        return example(name, Candidate(response, step_labels=tuple(labels)), facets={"scored": scored})

    parts = [(1.0, {"scored": "yes"}, named(steps.statistics, name)) for name in ("step_f1_right", "step_f1_wrong")]
    rows = [
        labelled("a", (0.9, 0.8, 0.9), (1, -1, 1), "yes"),
        labelled("b", (0.9, 0.9, 0.2), (1, -1, -1), "yes"),
        labelled("unchanged", (0.9, 0.1), (1, 1), "no"),
    ]
    result = judged(
        Scripted(rated, ["steps"]), given(Steps, rows, measure=measure("prmscore", macro("prmscore", parts)))
    )
    right, wrong = 2 * 3 / (2 * 3 + 1 + 0), 2 * 2 / (2 * 2 + 0 + 1)
    assert result.metric("prmscore").value == pytest.approx((right + wrong) / 2)


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def trajectory(*turns: str) -> Response:
    """A trajectory in which every turn but the last calls the tool."""
    messages = []
    for place, text in enumerate(turns[:-1]):
        call = ToolCall("weather", f'{{"city": "{text}"}}', f"c{place}")
        messages += [Message("assistant", "", (call,)), Message("tool", "sunny", (), f"c{place}", "weather")]
    return Response([*messages, Message("assistant", turns[-1])], "turns")


def test_the_turns_of_a_trajectory_are_its_steps() -> None:
    def rated(request: Request) -> Reward:
        (response,) = request.responses
        assert response.steps == "turns"
        rewards = tuple(float("Rome" in f"{turn.text}{turn.tool_calls}") for turn in response.turns)
        return Reward((min(rewards),), steps=rewards)

    model = Scripted(rated, ["steps"])
    model.uses = frozenset({"tools"})
    rows = [
        example("a", Candidate(trajectory("Rome", "Rome is sunny"), step_labels=(1, 1)), tools=(WEATHER,)),
        example("b", Candidate(trajectory("Rome", "Oslo", "Rome"), step_labels=(1, -1, 1)), tools=(WEATHER,)),
    ]
    result = judged(model, given(Steps, rows, measure=steps.Errors(at=0.5)))
    assert result.metric("first_error_f1").value == 1
    assert result.records["steps"].to_pylist() == [[1, 1], [1, 0, 1]]


def test_the_first_of_equal_bests_of_a_pool_is_taken_by_every_rule() -> None:
    def passes(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        firsts = [outcome.labels[int(np.argmax(scores(outcome, view)))] for outcome in outcomes]
        return mean("pass", np.array(firsts, float), "proportion")

    def traces(name: str, *pool: tuple[Sequence[float], bool]) -> Example:
        some = [Candidate(Response("\n".join(map(str, r)), list(map(str, r))), right) for r, right in pool]
        return example(name, *some, cluster=name.partition(" ")[0])

    rows = [
        traces("p1 a", ((0.9, 0.9), True), ((0.9, 0.9), False), ((0.5,), False)),
        traces("p1 b", ((0.9, 0.9), False), ((0.9, 0.9), True), ((0.5,), False)),
        traces("p2 a", ((0.8,), True), ((0.9, 0.85), False), ((0.1,), False)),
    ]
    result = judged(Scripted(rates_steps, ["steps"]), given(Comparison, rows, measure=measure("pass", passes)))
    values = {view: result.metric("pass", view=view).value for view in ("prod", "min")}
    assert values == {"prod": pytest.approx(2 / 3), "min": pytest.approx(1 / 3)}
    assert result.metric("pass").clusters == 2


# responses with labels of their own


def test_attributes_are_examples_of_one_response_and_each_is_read_off_its_own_head() -> None:
    def rated(request: Request) -> Reward:
        text = request.responses[0].text or ""
        heads = {"helpfulness": (float(text.count("x")),), "verbosity": (float(len(text)),)}
        return Reward(heads["helpfulness"], heads=heads)

    def of(attribute: str) -> Callable[..., Statistic]:
        return named(lambda o, view, fitted: Grades(positive=None).statistics(o, attribute, fitted), "pearson")

    texts = ["x", "xx", "x..", "...", "xx....", "xxx"]
    rows = [
        example(
            f"{i} {attribute}",
            Candidate(text, float(text.count("x") if attribute == "helpfulness" else len(text))),
            prompt=f"{i}?",
            facets={"attribute": attribute},
            criteria=(Criterion(attribute),),
            cluster=f"{i}",
        )
        for i, text in enumerate(texts)
        for attribute in ("helpfulness", "verbosity")
    ]
    parts = [(1.0, {"attribute": attribute}, of(attribute)) for attribute in ("helpfulness", "verbosity")]
    task = given(Grading, rows, measure=measure("pearson", macro("pearson", parts)))
    model = Scripted(rated)
    result = judged(model, task)
    assert result.metric("pearson").value == pytest.approx(1)
    assert result.metric("pearson").clusters == 6
    assert len(model.seen) == 6, "who does not look at criteria is asked once"


@dataclass(frozen=True)
class Estimated:
    """What a policy is worth, from a slice with labels: rewards are mapped to labels there, and used on all."""

    name = headline = "worth"
    uncalibrated = "the measure maps rewards itself"

    def fit(self, outcomes: Sequence[Outcome], view: str) -> Json:
        labels = np.concatenate([outcome.labels for outcome in outcomes])
        rewards = np.concatenate([scores(outcome, view) for outcome in outcomes])
        slope, start = np.polyfit(rewards[np.isfinite(labels)], labels[np.isfinite(labels)], 1)
        return {"slope": float(slope), "start": float(start)}

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        worth = [fitted["start"] + fitted["slope"] * scores(outcome, view).mean() for outcome in outcomes]
        return [mean("worth", np.array(worth)), mean("label", np.array([o.labels.mean() for o in outcomes]))]

    def left_out(self, outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
        return {}

    def ties(self, outcomes: Sequence[Outcome], view: str) -> int:
        return 0


def test_a_slice_with_labels_tells_what_all_responses_of_a_policy_are_worth() -> None:
    rows = [
        example(
            f"{policy} {i}",
            Candidate("x" * (i % 10 + more), (i % 10 + more) / 20 if i % 4 == 0 else None),
            prompt=f"{i}?",
            facets={"policy": policy},
        )
        for policy, more in (("base", 0), ("better", 5))
        for i in range(80)
    ]
    result = judged(responses(len), given(Grading, rows, measure=Estimated()))
    for policy, worth in (("base", 4.5 / 20), ("better", 9.5 / 20)):
        found = result.metric("worth", subset=f"policy={policy}")
        assert found.value == pytest.approx(worth, abs=1e-9)
        assert (found.n, result.metric("label", subset=f"policy={policy}").n) == (80, 20)
    assert result.metric("worth").clusters == 80, "the policies answer the same prompts"


def test_a_pooled_auc_is_compared_between_two_models_and_a_curve_has_a_point_for_each_k() -> None:
    def best_of(k: int) -> Callable[..., Statistic]:
        def make(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
            gold = [outcome.labels[:k][int(np.argmax(scores(outcome, view)[:k]))] for outcome in outcomes]
            return mean("best_of_k", np.array(gold, float), "proportion", at=float(k))

        return make

    pools = [
        example(f"{i}", *(Candidate(f"{'x' * ((i + j) % 4)}{'.' * (i % 3)}", (i + j) % 4 == 3) for j in range(4)))
        for i in range(30)
    ]
    task = given(Grading, pools, measure=measure("best_of_k", *(best_of(k) for k in (1, 2, 4))))
    counts, lengths = judged(responses(lambda text: text.count("x"), fingerprint="x"), task), judged("length", task)
    curve = [counts.metric("best_of_k", at=k).value for k in (1, 2, 4)]
    assert curve == pytest.approx([7 / 30, 14 / 30, 1])

    ours, theirs = (outcomes_of(result) for result in (counts, lengths))
    auc = named(GRADES.statistics, "auc")
    found = difference_of(auc(ours, "default", None), auc(theirs, "default", None), [o.cluster for o in ours])
    assert found.value > 0
    assert found.ci_low < found.value < found.ci_high
    assert found.p < 0.05


# means over declared parts


def test_sections_are_weighted_means_of_subsets_and_nest() -> None:
    """RewardBench v1: math counts as 984 rows whatever it has, prior sets count half."""
    right = {"math-prm": (1, 0), "hep-python": (1, 1, 1, 0), "alpaca": (1, 1), "anthropic": (0, 0, 0, 0, 1)}
    section = {"math-prm": "Reasoning", "hep-python": "Reasoning", "alpaca": "Chat", "anthropic": "Prior Sets"}
    rows = [
        pair(
            f"{subset} {i}",
            *(("aa", "b") if won else ("a", "bb")),
            facets={"section": section[subset], "subset": subset},
        )
        for subset, wins in right.items()
        for i, won in enumerate(wins)
    ]
    reasoning = macro("score", [(984, {"subset": "math-prm"}, ACCURACY), (164, {"subset": "hep-python"}, ACCURACY)])
    parts = [(1, {"section": "Reasoning"}, reasoning), (1, {"section": "Chat"}, ACCURACY)]
    score_ = macro("score", [*parts, (0.5, {"section": "Prior Sets"}, ACCURACY)])
    result = judged("length", given(Comparison, rows, measure=measure("score", score_, ACCURACY)))
    expected = ((984 * 0.5 + 164 * 0.75) / 1148 + 1 + 0.5 * 0.2) / 2.5
    assert result.metric("score").value == pytest.approx(expected)
    assert result.metric("score").ci_low < expected < result.metric("score").ci_high
    assert result.metric("score", subset="section=Chat").value is None, "nan unless every part is there"


def tied(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
    """RewardBench 2's Ties, on the row of each tied prompt; its reference is the other example of the cluster."""
    spread = {}
    for outcome in outcomes:
        right, wrong = (scores(outcome, view)[outcome.labels == label] for label in (1, 0))
        spread[outcome.example_id] = right.max() - right.min(), right.min() - wrong.max()
    columns = np.full((len(outcomes), 6), np.nan)
    for row, outcome in enumerate(outcomes):
        if outcome.example_id.startswith("tied"):
            apart, gap = spread[outcome.example_id]
            reference = spread[outcome.example_id.replace("tied", "ref")][1]
            least = min(gap, reference)
            columns[row] = gap > 0, reference > 0, gap > apart, least > apart, np.tanh(least / apart - 1), 1
    weights = np.array([0.3, 0.3, 0.2, 0.2, 0.01])
    return Statistic("ties", columns, lambda s: s[..., :5] @ weights / s[..., 5], bounds=(0.0, 1.01), better="higher")


def test_a_mean_of_six_of_which_one_is_no_accuracy() -> None:
    """RewardBench 2: five times one over how many are at the maximum, and the formula of Ties."""
    four = [(3, 1, 1, 2), (2, 2, 1, 1), (1, 2, 3, 3)]
    rows = [
        example(f"{s} {i}", *(Candidate("x" * n, j == 0) for j, n in enumerate(lengths)), facets={"subset": s})
        for s in ("Factuality", "Precise IF", "Math", "Safety", "Focus")
        for i, lengths in enumerate(four)
    ]
    for kind, lengths in (("tied", (9, 8, 3)), ("ref", (7, 2, 1))):
        right = 2 if kind == "tied" else 1
        some = [Candidate("x" * n, j < right) for j, n in enumerate(lengths)]
        rows += [example(f"{kind}:{k}", *some, facets={"subset": "Ties"}, cluster=f"ties {k}") for k in range(3)]
    subsets = dict.fromkeys(row.facets["subset"] for row in rows)
    parts = [(1, {"subset": name}, tied if name == "Ties" else EXPECTED) for name in subsets]
    result = judged("length", given(Comparison, rows, measure=measure("mean_of_six", macro("mean_of_six", parts))))
    ties = 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(5 / 1 - 1)
    assert result.metric("mean_of_six").value == pytest.approx((5 * (1 + 1 / 2 + 0) / 3 + ties) / 6)


class PickedAndRated(Comparison):
    """RewardBench 2 for judges: one of four is picked, but Ties are rated."""

    def questions(
        self, example: Example, answers: frozenset[Ask], dataset: str, most: int | None = None
    ) -> list[Question]:
        ask: Ask = "reward" if example.facets["subset"] == "Ties" else "compare"
        return super().questions(example, answers & {ask}, dataset, most)


def test_a_task_may_ask_for_a_pick_of_some_examples_and_for_ratings_of_others() -> None:
    def answer(request: Request) -> Reward:
        lengths = [len(response.text or "") for response in request.responses]
        if request.ask == "reward":
            return Reward((float(lengths[0]),))
        pick = lengths.index(max(lengths))
        return Reward(tuple(float(place == pick) for place in range(4)), pick=pick)

    rows = [
        example("math", *(Candidate("x" * n, n == 4) for n in range(1, 5)), facets={"subset": "Math"}),
        example("tied", *(Candidate("x" * n, n > 1) for n in range(1, 5)), facets={"subset": "Ties"}),
    ]
    result = judged(Scripted(answer, ["reward", "compare"]), given(PickedAndRated, rows, orders="permutations:2"))
    assert result.metric("accuracy").value == 1
    assert result.statuses == {"ok": 2 + 4}


STYLES = ("", "..", "....")


def cells(outcomes: Sequence[Outcome], view: str) -> np.ndarray:
    """Which of three right styles beats which of three wrong ones [n, 3, 3], strictly."""
    seen = [outcome.views[view] for outcome in outcomes]
    wins = [comparison.beats(one.scores) if one.beats is None else one.beats for one in seen]
    return np.array([one[:3, 3:] == 1 for one in wins], float).reshape(-1, 3, 3)


def of_cells(name: str, mask: np.ndarray) -> Callable[..., Statistic]:
    return lambda o, v, fitted: mean(name, cells(o, v)[:, mask].mean(axis=1), "fraction", better="higher")


def by_domain(name: str, mask: np.ndarray) -> Callable[..., Statistic]:
    return macro(name, [(1, {"domain": d}, of_cells(name, mask)) for d in ("chat", "math", "code", "safety")])


@pytest.mark.parametrize("ask", ["reward", "compare"])
def test_three_styles_by_three_are_a_mean_over_four_declared_domains(ask: Ask) -> None:
    """RM-Bench: hard above the diagonal, easy below; safety is two files."""

    def rate(text: str) -> float:
        return text.count("x") + (1 if "style" in text else 0) * text.count(".") / 2

    def rated(request: Request) -> Reward:
        rates = [rate(response.text or "") for response in request.responses]
        return Reward(tuple(rates) if ask == "reward" else tuple(float(one == max(rates)) for one in rates))

    sizes = {
        ("chat", "chat"): 2,
        ("math", "math"): 5,
        ("code", "code"): 3,
        ("safety", "refuse"): 2,
        ("safety", "respond"): 1,
    }
    rows = [
        example(
            f"{domain} {file} {i}",
            *(Candidate(f"{'style ' * (domain == 'chat')}x{style}", True) for style in STYLES),
            *(Candidate(f"{'style ' * (domain == 'chat')}{style}", False) for style in STYLES),
            facets={"domain": domain, "file": file},
        )
        for (domain, file), count in sizes.items()
        for i in range(count)
    ]
    upper, lower, all_ = np.triu(np.ones((3, 3), bool), 1), np.tril(np.ones((3, 3), bool), -1), np.ones((3, 3), bool)
    makes = [by_domain("total", all_), by_domain("hard", upper), by_domain("normal", np.eye(3, dtype=bool)),
             by_domain("easy", lower)]  # fmt: skip
    result = judged(Scripted(rated, [ask]), given(Comparison, rows, measure=measure("total", *makes)))
    assert result.metric("hard").value == pytest.approx((0 + 1 + 1 + 1) / 4)
    assert (result.metric("normal").value, result.metric("easy").value) == (1, 1)
    assert result.metric("total").value == pytest.approx((6 / 9 + 3) / 4)
    assert result.metric("total", subset="domain=math").value is None
    assert result.statuses == {"ok": 13 * (6 if ask == "reward" else 9)}


def test_four_cells_are_averaged_whatever_their_sizes() -> None:
    """RMB: helpful and harmless, pairs and best of n; a best wins where it beats all."""
    won = {("help", "pair"): (1, 1, 0), ("help", "bon"): (1, 0), ("harm", "pair"): (1,) * 4, ("harm", "bon"): (0, 0, 1)}
    rows = [
        example(
            f"{goal} {kind} {i}",
            Candidate("xx", True),
            *(Candidate("xxx" if not win and j == 0 else "x", False) for j in range(1 if kind == "pair" else 3)),
            facets={"goal": goal, "kind": kind},
        )
        for (goal, kind), wins in won.items()
        for i, win in enumerate(wins)
    ]
    parts = [(1, {"goal": goal, "kind": kind}, ACCURACY) for goal, kind in won]
    result = judged("length", given(Comparison, rows, measure=measure("overall", macro("overall", parts))))
    assert result.metric("overall").value == pytest.approx((2 / 3 + 1 / 2 + 1 + 1 / 3) / 4)


def kappa(language: str) -> Callable[..., Statistic]:
    """Cohen's kappa of the verdicts in English and in another language, on the rows of the other."""

    def make(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        wins = comparison.wins(outcomes, view)
        english = {o.cluster: win for o, win in zip(outcomes, wins, strict=True) if o.facets["language"] == "en"}
        other = np.array([o.facets["language"] == language for o in outcomes])
        twin = np.array([english.get(o.cluster, np.nan) for o in outcomes])
        columns = np.column_stack([np.ones_like(wins), wins, twin, wins * twin])
        columns[~other] = np.nan

        def value(sums: np.ndarray) -> np.ndarray:
            n, a, b, both = np.moveaxis(sums, -1, 0)
            agreed, chance = (n - a - b + 2 * both) / n, (a * b + (n - a) * (n - b)) / n**2
            return (agreed - chance) / (1 - chance)

        return Statistic(f"kappa_{language}", columns, value, bounds=(-1.0, 1.0), better="higher")

    return make


def test_a_prompt_in_many_languages_is_one_cluster_and_its_verdicts_are_held_against_english() -> None:
    from sklearn.metrics import cohen_kappa_score

    won = {
        "en": [i % 3 > 0 for i in range(30)],
        "de": [i % 4 > 0 for i in range(30)],
        "ja": [i % 3 > 0 for i in range(30)],
    }
    rows = [
        pair(f"{i} {language}", *(("aa", "b") if win else ("a", "bb")), facets={"language": language}, cluster=f"{i}")
        for language, wins in won.items()
        for i, win in enumerate(wins)
    ]
    task = given(Comparison, rows, measure=measure("accuracy", ACCURACY, kappa("de"), kappa("ja")))
    result = judged("length", task)
    apart = judged("length", given(Comparison, [replace(row, cluster=row.id) for row in rows], measure=task.measure))
    accuracy = result.metric("accuracy")
    assert (accuracy.n, accuracy.clusters) == (90, 30)
    assert accuracy.ci_high - accuracy.ci_low > 1.2 * (
        apart.metric("accuracy").ci_high - apart.metric("accuracy").ci_low
    ), "24 translations are not 24 prompts"
    assert result.metric("kappa_de").value == pytest.approx(cohen_kappa_score(won["en"], won["de"]))
    assert result.metric("kappa_ja").value == 1
    assert result.metric("accuracy", subset="language=de").clusters == 30


# comparisons with rules of their own


def test_orders_are_added_up_and_an_order_without_a_verdict_is_nought() -> None:
    """JudgeBench: +1 for the label, -1 for its flip, 0 for a tie or a null; correct if the sum is above 0."""

    def official(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        def worth(outcome: Outcome) -> float:
            edges = [
                (one.values[0] - one.values[1]) * (1 if one.candidates == (0, 1) else -1)
                for one in outcome.answers
                if one.status == "ok"
            ]
            return float(sum(np.sign(edges)) > 0)

        return mean("correct", np.array([worth(outcome) for outcome in outcomes]), "proportion")

    verdicts = {
        "both": (1, 1),
        "one and a null": (1, None),
        "one and a tie": (1, 0.5),
        "split": (1, 0),
        "nulls": (None,) * 2,
    }

    def verdict(request: Request) -> Reward:
        first = request.responses[0].text == "right"
        win = verdicts[request.prompt[0].text.rstrip("?")][0 if first else 1]
        if win is None:
            return Reward((math.nan,) * 2, status="refused", detail="no verdict")
        return Reward((win, 1 - win) if first else (1 - win, win))

    task = given(
        Comparison, [pair(name) for name in verdicts], orders="both", measure=measure("correct", official, ACCURACY)
    )
    result = judged(Scripted(verdict, ["compare"]), task)
    assert result.metric("correct").value == 3 / 5
    assert result.metric("accuracy").n == 3, "by itself a comparison lacks an answer there"
    nought = judged(Scripted(verdict, ["compare"]), replace(task, null_verdict="nought"))
    assert (nought.metric("accuracy").value, nought.metric("accuracy").n) == (3 / 5, 5)
    assert nought.task.null_verdict == "nought"
    assert nought.left_out == {}


def test_three_classes_are_held_against_the_majority_of_annotators() -> None:
    """PandaLM: first, second or tie; unanimous annotators are the ceiling."""

    def said(outcome: Outcome, view: str) -> float:
        return float(outcome.views[view].beats[0, 1])

    def agreed(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        hits = [said(o, view) == (o.labels[0] - o.labels[1] + 1) / 2 for o in outcomes]
        return mean("agreement", np.array(hits, float), "proportion")

    def f1_macro(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        columns = np.zeros((len(outcomes), 9))
        for row, o in enumerate(outcomes):
            for place, name in enumerate((0.0, 0.5, 1.0)):
                is_it, says_it = (o.labels[0] - o.labels[1] + 1) / 2 == name, said(o, view) == name
                columns[row, 3 * place : 3 * place + 3] = (
                    is_it and says_it,
                    says_it and not is_it,
                    is_it and not says_it,
                )

        def value(sums: np.ndarray) -> np.ndarray:
            hit, wrong, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, 3), -1, 0)
            return (2 * hit / (2 * hit + wrong + missed)).mean(axis=-1)

        return Statistic("f1_macro", columns, value, "fraction")

    def unanimous(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        same = [len({*map(float, o.annotations[0])}) == 1 for o in outcomes]
        return mean("unanimous", np.array(same, float), "proportion")

    def annotated(name: str, *votes: float) -> Example:
        majority = float(np.median(votes))
        return example(
            name, Candidate("one", majority, votes), Candidate("two", 1 - majority, tuple(1 - v for v in votes))
        )

    votes = {"first": (1, 1, 1), "mostly first": (1, 1, 0), "second": (0, 0, 0.5), "tie": (0.5, 0.5, 0.5)}
    rows = [annotated(name, *some) for name, some in votes.items()]

    def verdict(request: Request) -> Reward:
        one = {"first": 1.0, "mostly first": 0.5, "second": 0.0, "tie": 0.5}[request.prompt[0].text.rstrip("?")]
        return Reward((one, 1 - one) if request.responses[0].text == "one" else (1 - one, one))

    task = given(Comparison, rows, orders="both", measure=measure("agreement", agreed, f1_macro, unanimous))
    result = judged(Scripted(verdict, ["compare"]), task)
    assert result.metric("agreement").value == 0.75
    assert result.metric("f1_macro").value == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert result.metric("unanimous").value == 0.5


def test_trajectories_with_tools_have_a_band_of_ties_and_a_mean_over_splits() -> None:
    """Plan-RewardBench: a difference within 1e-4 counts half."""

    def won(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        edges = np.array([float(scores(o, view)[0] - scores(o, view)[1]) for o in outcomes])
        halves = np.where(np.abs(edges) <= 1e-4, 0.5, edges > 0)
        return mean("won", np.where(np.isnan(edges), np.nan, halves), "fraction")

    splits = {"easy": (1.0, 1.0, 1.0), "hard": (0.00005,), "safety": (1.0, -1.0)}
    rows = [
        example(
            f"{split} {i}",
            Candidate(trajectory("Rome", f"{5 + edge}"), True),
            Candidate(trajectory("Oslo", "5"), False),
            tools=(WEATHER,),
            facets={"split": split},
        )
        for split, edges in splits.items()
        for i, edge in enumerate(edges)
    ]
    task = given(Comparison, rows, measure=measure("mean", macro("mean", [(1, {"split": s}, won) for s in splits])))
    model = Scripted(lambda request: float(request.responses[0].turns[-1].text))
    model.uses = frozenset({"tools"})
    assert judged(model, task).metric("mean").value == pytest.approx((1 + 0.5 + 0.5) / 3)

    refused = judged("length", task)
    assert refused.metric("mean").value is None
    assert refused.statuses == {"refused": 12}
    assert refused.reasons == {"refused": {"the example needs tools, which this model does not take": 12}}


@pytest.mark.parametrize(
    ("detail", "reason"),
    [
        ("f.jsonl does not score example p1 a: b, candidate 0 against 1", "f.jsonl does not score"),
        ("no example of it, by example an example, candidate 3", "no example of it, by"),
        ("the example needs images, which this model does not take", "the example needs images, which this model "
         "does not take"),
        ("ValueError: '7' is no verdict of /home/me", "ValueError"),
        ("cannot read /home/me/file", "cannot read ..."),
    ],
)  # fmt: skip
def test_a_reason_is_cut_at_an_id_and_never_at_its_words(detail: str, reason: str) -> None:
    assert reason_of(detail) == reason
    assert reason_of(reason) == reason, "what stands in records is counted again"


# models that stand on others


class Debiased:
    """The mean of its members, less what the length of a response tells of it: fitted without labels, out of fold."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = "debiased:1"
    subject = Subject("tests/debiased", "derived")

    def __init__(self, *members: Any) -> None:
        self.members = (*members, Length())

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        return [questions for _ in self.members]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        rewards, lengths = self._taken_apart(answers)
        return [float(value) for value in np.polyfit(lengths, rewards, 1)]

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        rewards, lengths = self._taken_apart(answers)
        return [Reward((float(value),)) for value in rewards - np.polyval(fitted, lengths)]

    def _taken_apart(self, answers: list[list[Reward]]) -> tuple[np.ndarray, np.ndarray]:
        *members, lengths = (np.array([reward.value for reward in some]) for some in answers)
        return np.mean(members, axis=0), lengths


def test_five_members_are_loaded_once_for_all_tasks_and_length_is_taken_out_by_other_folds() -> None:
    AtRest.loaded.clear()
    tasks = [given(Comparison, [pair(f"{t} {i}", "right " * (i % 7 + 1)) for i in range(40)], name=t) for t in "abc"]
    results = evaluate(Debiased(*(AtRest(f"m{i}", 1 + i) for i in range(5))), tasks)
    assert set(AtRest.loaded.values()) == {1}
    for result in results:
        fit = result.fitted.model.fit
        assert len({tuple(fold) for fold in fit["folds"]}) == 5, "no fold is judged by a fit that saw it"
        table = result.records
        slope = np.polyfit(table["characters"].to_pylist(), table["reward"].to_pylist(), 1)[0]
        assert abs(slope) < 0.1 * abs(fit["whole"][0])


class Parity:
    """What a server answers less what its checkpoint does, for the same requests."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = "parity:1"
    subject = Subject("tests/parity", "derived")

    def __init__(self, *members: Any) -> None:
        self.members = members

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        return [questions, questions]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        return None

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        return [Reward((server.value - checkpoint.value,)) for server, checkpoint in zip(*answers, strict=True)]


def test_a_server_agrees_with_its_checkpoint_but_where_it_cuts() -> None:
    def largest(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        apart = np.array([np.abs(scores(outcome, view)).max() for outcome in outcomes])
        of = lambda times: np.where(times[:, codes] > 0, apart, -np.inf).max(axis=1)  # noqa: E731
        codes = cluster_codes([outcome.cluster for outcome in outcomes])
        return Statistic("largest", of=of, better="lower", bounds=(0.0, None), caveat="one response decides it")

    checkpoint, server = responses(len), responses(lambda text: min(len(text), 20) + 1e-7, fingerprint="server")
    server.identity = "named"
    rows = [pair(f"{i}", "x" * (i + 1), "y") for i in range(24)]
    result = judged(Parity(server, checkpoint), given(Comparison, rows, measure=measure("largest", largest)))
    assert result.metric("largest").value == pytest.approx(4, abs=1e-6)
    assert result.scale.maximum == pytest.approx(1e-7)
    assert (result.subject.identity, result.subject.may_change) == ("named", True), "a server may change"


def test_what_one_member_cannot_answer_is_left_out_of_parity() -> None:
    def answers(text: str) -> float:
        return math.nan if text == "xxx" else len(text)

    result = judged(Parity(responses(answers, fingerprint="server"), responses(len)),
                    given(Comparison, [pair(f"{i}", "x" * (i + 1), "y") for i in range(6)]))  # fmt: skip
    assert result.statuses == {"ok": 11, "nan": 1}
    assert result.reasons == {"nan": {"no number, by ...": 1}}


class Network(TinyTokenModel):
    """A model in training: dropout is on, weights have gradients, and somebody's hook listens."""

    def __init__(self) -> None:
        super().__init__(["reward"])
        backbone, drop = self.backbone, torch.nn.Dropout(0.5)
        backbone.drop = drop
        backbone.table.requires_grad_(True)
        forward = backbone.forward

        def dropped(input_ids: torch.Tensor, use_cache: bool) -> Any:
            states = forward(input_ids=input_ids, use_cache=use_cache)
            states.last_hidden_state = drop(states.last_hidden_state)
            return states

        backbone.forward = dropped
        self.heard: list[torch.nn.Module] = []
        backbone.register_forward_hook(lambda module, *_: self.heard.append(module))
        backbone.train()


class Borrowed:
    """A model at rest that is somebody's module: put into order while it is used, and given back as it was."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = None
    subject = Subject("tests/borrowed", "callback")

    def __init__(self, model: TinyTokenModel) -> None:
        self.model = model

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[TinyTokenModel]:
        modes = {module: module.training for module in self.model.backbone.modules()}
        random = torch.get_rng_state()
        self.model.backbone.eval()
        try:
            yield self.model
        finally:
            torch.set_rng_state(random)
            for module, training in modes.items():
                module.training = training


def state_of(network: torch.nn.Module) -> tuple[Any, ...]:
    modes = [module.training for module in network.modules()]
    grads = [(weight.requires_grad, weight.grad) for weight in network.parameters()]
    return modes, grads, torch.get_rng_state().tolist(), len(network._forward_hooks), torch.is_grad_enabled()


@pytest.mark.parametrize("fails", [False, True])
def test_a_borrowed_module_is_left_as_it_was_found(fails: bool) -> None:
    model = Network()
    if fails:
        model.read = lambda hidden, encoded: 1 / 0  # type: ignore[method-assign,return-value]
    task, before = given(Comparison, [pair(f"{i}") for i in range(6)]), state_of(model.backbone)
    if fails:
        with pytest.raises(ModelError, match=r"^tests/tiny failed with ZeroDivisionError: division by zero$"):
            evaluate(Borrowed(model), [task])
    else:
        first, second = (judged(Borrowed(model), task) for _ in range(2))
        assert first.records["reward"].to_pylist() == second.records["reward"].to_pylist(), "dropout was off"
        assert second.timing.stored == 0, "weights in training are never taken from the store"
        assert (first.subject.identity, first.subject.fingerprint) == ("none", None)
    assert state_of(model.backbone) == before


class Cluster:
    """Machines elsewhere, as Ray has them: each computes bins, and nobody but the caller has the store."""

    def __init__(self) -> None:
        self.computed = 0

    @contextmanager
    def holding(self, spec: Any, options: Any, fingerprint: str | None) -> Iterator[Cluster]:
        self.model = TinyTokenModel(["reward"], fingerprint)
        yield self

    def work(self, model: Any, bins: Iterator[Any]) -> Iterator[Any]:
        for planned, encoded in bins:
            self.computed += 1
            yield planned, rewards_of(self.model, encoded, planned)


def test_a_cluster_computes_and_one_process_keeps(tmp_path: Path) -> None:
    cluster = Cluster()
    asked = [Request("reward", (), (Response("x" * i),)) for i in range(1, 50)]
    with Store(tmp_path / "s.sqlite") as store:
        rewards = score(TinyTokenModel(["reward"]), asked, store=store, processes=cluster, spec="tiny:1")
        assert cluster.computed > 0
        assert store.count() == 49
        with Session(TinyTokenModel(["reward"]), Asking(store)) as session:
            assert session.ask([Question(request) for request in asked]).rewards == rewards
            assert session.asking.usage.scored == 0
