"""From requests to rewards: every kind of model and every ask through the one session."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from ask_models import score
from checkpoints import make
from fake_models import ASKS, MeanOf, Scripted, TinyTokenModel
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.errors import ModelError, ResultError, UsageError
from rmbench.models.base import Encoded, Subject
from rmbench.models.spec import load_model
from rmbench.scoring import Asking, Session, Store, Usage
from rmbench.types import Ask, Criterion, Message, Place, Question, Request, Response, Reward

WORDS = st.lists(st.sampled_from(["one", "two", "three", "four", "+", "="]), max_size=12).map(" ".join)


def ask(ask: Ask, text: str, *more: str) -> Request:
    steps = tuple(text.split("|")) if ask == "steps" else None
    shown = (Response(text, steps), *(Response(other) for other in more))
    return Request(ask, (Message("user", "Why?"),), shown)


def of_one_cluster(*texts: str) -> list[Question]:
    return [Question(ask("reward", text), Place("x", text, (0,), "cluster")) for text in texts]


def requests_of(texts: list[str]) -> list[Request]:
    """Every ask on every text."""
    made = []
    for kind in ASKS:
        for i, text in enumerate(texts):
            words = text or "-"
            other = (texts[i - 1] + "!",) if kind == "compare" else ()
            made.append(ask(kind, words.replace(" ", "|") if kind == "steps" else words, *other))
    return made


def assert_same(found: list[Reward], expected: list[Reward]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.status, one.n_tokens, list(one.heads)) == (other.status, other.n_tokens, list(other.heads))
        for name in ("values", "steps", "tokens"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-5)


@given(st.lists(WORDS, min_size=1, max_size=8), st.integers(1, 200), st.randoms())
@settings(deadline=None, max_examples=40)
def test_batch_size_order_and_neighbours_move_no_reward(texts: list[str], budget: int, random: Any) -> None:
    requests = requests_of(texts)
    alone = [score(TinyTokenModel(), [request])[0] for request in requests]
    order = list(range(len(requests)))
    random.shuffle(order)
    together = score(TinyTokenModel(), [requests[i] for i in order], token_budget=budget)
    assert_same(together, [alone[i] for i in order])


@pytest.mark.parametrize("kind", ASKS)
def test_every_ask_is_stored_and_comes_back_without_a_forward(kind: Ask, tmp_path: Path) -> None:
    requests = [ask(kind, "a|b", *(["c"] if kind == "compare" else [])), ask(kind, "d", *("ef" * (kind == "compare")))]
    with Store(tmp_path / "s.sqlite") as store:
        first = score(TinyTokenModel(), requests, store=store)
        model = TinyTokenModel()
        usage = Usage()
        again = score(model, requests, store=store, usage=usage)
    assert repr(again) == repr(first)
    assert (model.encoded, usage.scored, usage.stored) == (0, 0, 2)


def test_equal_requests_are_run_once_over_the_whole_run() -> None:
    model, usage = Scripted(lambda request: len(request.responses[0].text)), Usage()
    places = [Place("x", "1", (0,)), Place("y", "9", (3,)), Place("x", "2", (1,))]
    requests = [Question(ask("reward", text), place) for text, place in zip(["aa", "aa", "b"], places, strict=True)]
    assert [reward.value for reward in score(model, requests, usage=usage)] == [2, 2, 1]
    assert (len(model.seen), usage.requests, usage.unique, usage.scored) == (2, 3, 2, 2)


def test_no_model_sees_the_place_nor_the_order_of_the_data() -> None:
    """In RewardMATH index 0 is right: a model that reads its place, or counts to ten, would score 100 %."""
    model = Scripted(lambda request: 0.0)
    for attempt in range(20):
        requests = [Question(ask("reward", f"{attempt} {i}"), Place("x", "e", (i,))) for i in range(10)]
        score(model, requests)
    assert all(type(request) is Request for request in model.seen)
    firsts = [int(model.seen[10 * attempt].responses[0].text.split()[1]) for attempt in range(20)]
    assert len(set(firsts)) > 3


def test_requests_of_a_prompt_reach_forwards_together_and_in_no_order_of_the_data() -> None:
    seen: list[tuple[str, str]] = []

    class Listening(TinyTokenModel):
        def encode(self, requests: Sequence[Request]) -> list[Encoded]:
            seen.extend((request.prompt[0].text, request.responses[0].text or "") for request in requests)
            return super().encode(requests)

    requests = [
        Request("reward", (Message("user", f"{prompt}"),), (Response(f"{prompt} {i}"),))
        for i in range(10)
        for prompt in range(20)
    ]
    rewards = score(Listening(), requests)
    prompts = [prompt for prompt, _ in seen]
    assert len(list(groupby(prompts))) == 20
    assert prompts != sorted(prompts, key=int)
    firsts = [next(text for _, text in group) for _, group in groupby(seen, key=lambda each: each[0])]
    assert len({text.split()[1] for text in firsts}) > 3
    backwards = score(TinyTokenModel(), requests[::-1])
    assert_same(backwards[::-1], rewards)


def test_a_model_may_look_at_its_requests_as_it_likes() -> None:
    class Looks(Scripted):
        def rewards(self, requests: Any) -> Any:
            assert list(requests) == [requests[i] for i in range(len(requests))] == [*requests[:2], requests[-1]]
            assert requests[0] in requests
            return super().rewards(requests)

    asked = [Question(ask("reward", text), Place("x", "e", (0,))) for text in "abc"]
    assert [r.value for r in score(Looks(lambda r: ord(r.responses[0].text)), asked)] == [97, 98, 99]


def test_steps_reach_only_a_model_that_is_asked_about_them() -> None:
    model = Scripted(lambda request: 0.0, answers=("reward", "steps"))
    with_steps = Response("a b", ("a", "b"), tokens=5, finish="length", cap=5)
    score(model, [Request("reward", (), (with_steps,))])
    assert model.seen[0].responses == (Response("a b"),)


def test_a_derived_model_fits_to_all_of_one_cluster_and_stores_only_its_members(tmp_path: Path) -> None:
    short, long = (
        Scripted(lambda r: -len(r.responses[0].text)),
        Scripted(lambda r: 3 * len(r.responses[0].text), ("reward",), "f2"),
    )
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.warns(UserWarning, match="all 3 questions fall into one of 5 folds"):
            rewards = score(MeanOf(short, long), of_one_cluster("a", "aa", "aaa"), store=store)
        assert store.count() == 6
    assert [reward.value for reward in rewards] == [-1, 0, 1]


def test_a_shared_forward_keeps_each_request_s_own_cut() -> None:
    class Cuts(TinyTokenModel):
        def _encode(self, request: Request) -> Encoded:
            one = super()._encode(request)
            return replace(one, ids=one.ids[:8], reads=[7], cut=len(one.ids) - 8)

    rewards = score(Cuts(), [ask("reward", "abcd"), ask("reward", "abcdefgh")])
    assert rewards[0].values == rewards[1].values
    assert [reward.truncated for reward in rewards] == [1, 5]


@pytest.mark.parametrize("status", ["refused", "error", "missing"])
def test_a_failed_answer_brings_no_number(status: Any) -> None:
    failed = Reward((0.0,), heads={"a": (1.0,)}, status=status)
    (reward,) = score(Scripted(lambda r: failed), [ask("reward", "a")])
    assert math.isnan(reward.value)
    assert (reward.heads, reward.status) == ({}, status)


class LogRatio:
    """A Derived as an implicit reward is: the log-probability of one model minus that of another."""

    fingerprint = "log-ratio:1"
    answers: frozenset[Ask] = frozenset({"reward"})

    def __init__(self, policy: TinyTokenModel, reference: TinyTokenModel) -> None:
        self.members = (policy, reference)

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        asked = [Question(replace(request, ask="tokens"), place) for request, place in questions]
        return [asked for _ in self.members]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> None:
        return None

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: None) -> list[Reward]:
        return [Reward((math.fsum(a.tokens) - math.fsum(b.tokens),)) for a, b in zip(*answers, strict=True)]


def test_a_derived_model_asks_its_members_for_tokens() -> None:
    policy, reference = TinyTokenModel(), TinyTokenModel(fingerprint="tiny:2")
    reference.backbone.table.data *= 0.5
    requests = [ask("reward", text) for text in ("a", "bc")]
    single = score(policy, [replace(request, ask="tokens") for request in requests])
    rewards = score(LogRatio(policy, reference), requests)
    assert [reward.value for reward in rewards] == pytest.approx([one.value / 2 for one in single], abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*is fitted to the data that it is used on")
def test_members_without_fingerprint_do_not_answer_for_each_other(tmp_path: Path) -> None:
    members = (Scripted(lambda r: 1.0, fingerprint=None), Scripted(lambda r: -1.0, fingerprint=None))
    with Store(tmp_path / "s.sqlite") as store:
        rewards = score(MeanOf(*members), of_one_cluster("a", "b"), store=store)
    assert [reward.value for reward in rewards] == [0, 0]


class Recorded:
    """A ScoreFile: the reward is the candidate's index."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = "recorded:1"
    subject = Subject("tests/recorded", "scores")

    def lookup(self, questions: list[Question]) -> list[Reward]:
        return [Reward((float(place.candidates[0]),)) for _, place in questions if place]


@pytest.mark.filterwarnings("ignore:.*is fitted to the data that it is used on")
def test_score_files_answer_by_place_also_inside_a_derived_model() -> None:
    requests = [Question(Request("reward", (), (Response(None),)), Place("x", "e", (i,))) for i in range(3)]
    assert [reward.value for reward in score(Recorded(), requests)] == [0, 1, 2]
    assert [reward.value for reward in score(MeanOf(Recorded(), Recorded()), requests)] == [-1, 0, 1]


def test_a_model_that_needs_texts_is_refused_data_without() -> None:
    request = Question(Request("reward", (), (Response(None),)), Place("x", "e7", (0,)))
    with pytest.raises(ModelError, match="needs the responses' texts, and example e7 comes from a score file"):
        score(Scripted(lambda r: 0.0), [request])


def test_a_model_is_not_asked_what_it_does_not_answer() -> None:
    with pytest.raises(ModelError, match="tests/tiny answers reward, not compare"):
        score(TinyTokenModel(answers=["reward"]), [ask("compare", "a", "b")])


@pytest.mark.parametrize(
    ("value", "status"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "inf"), (1e308, "ok"), (0.0, "ok")]
)
def test_a_status_follows_from_the_numbers(value: float, status: str) -> None:
    (reward,) = score(Scripted(lambda r: value), [ask("reward", "a")])
    assert reward.status == status


def test_a_skipped_request_is_missing_and_is_asked_again(tmp_path: Path) -> None:
    class Skips(Scripted):
        def rewards(self, requests: Any) -> Any:
            return ((i, reward) for i, reward in super().rewards(requests) if requests[i].responses[0].text != "b")

    with Store(tmp_path / "s.sqlite") as store:
        requests = [ask("reward", text) for text in "abc"]
        rewards = score(Skips(lambda r: 1.0), requests, store=store)
        assert [reward.status for reward in rewards] == ["ok", "missing", "ok"]
        again = score(Scripted(lambda r: 2.0), requests, store=store)
    assert [reward.value for reward in again] == [1, 2, 1]


@pytest.mark.parametrize("indices", [[0, 0], [5], [-1]])
def test_an_index_that_was_not_asked_or_twice_is_an_error(indices: list[int]) -> None:
    class Confused(Scripted):
        def rewards(self, requests: Any) -> Any:
            return ((i, Reward((0.0,))) for i in indices)

    with pytest.raises(ModelError, match="of 2 twice or unasked"):
        score(Confused(None), [ask("reward", "a"), ask("reward", "b")])


@pytest.mark.parametrize(
    ("request_", "reward", "message"),
    [
        (ask("compare", "a", "b"), Reward((1.0,)), "a compare of 2 responses came back with 1 values"),
        (ask("steps", "a|b"), Reward((1.0,), steps=(1.0,)), "2 steps came back with 1 rewards"),
    ],
)
def test_an_answer_of_the_wrong_shape_is_an_error(request_: Request, reward: Reward, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        score(Scripted(lambda r: reward, answers=ASKS), [request_])


def test_what_was_scored_before_a_crash_is_kept(tmp_path: Path) -> None:
    def answer(request: Request) -> float:
        if len(model.seen) > 2:
            raise RuntimeError("the endpoint went away")
        return 1.0

    model = Scripted(answer)
    requests = [ask("reward", text) for text in "abcd"]
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(
            ModelError, match="failed with RuntimeError: the endpoint went away; what it scored is kept"
        ):
            score(model, requests, store=store)
        assert store.count() == 2
        usage = Usage()
        score(Scripted(lambda r: 1.0), requests, store=store, usage=usage)
    assert (usage.stored, usage.scored) == (2, 2)


def test_a_model_without_identity_is_remembered_as_long_as_its_session_and_no_longer(tmp_path: Path) -> None:
    model, questions = Scripted(lambda r: 1.0, fingerprint=None), [Question(ask("reward", "a"))]
    with Store(tmp_path / "s.sqlite") as store:
        with Session(model, Asking(store)) as session:
            session.ask(questions)
            session.ask(questions)
        assert (store.count(), len(model.seen)) == (0, 1)
        score(model, [ask("reward", "a")], store=store)
        assert len(model.seen) == 2


def test_an_error_is_not_kept_and_not_asked_about_twice_in_one_session(tmp_path: Path) -> None:
    model = Scripted(lambda r: Reward((math.nan,), status="error"))
    with Store(tmp_path / "s.sqlite") as store:
        with Session(model, Asking(store)) as session:
            assert {session.ask([Question(ask("reward", "a"))]).rewards[0].status for _ in range(2)} == {"error"}
        assert (store.count(), len(model.seen)) == (0, 1)


def test_fresh_asks_again_once_what_is_kept(tmp_path: Path) -> None:
    model, questions = Scripted(lambda r: 1.0), [Question(ask("reward", "a"))]
    with Store(tmp_path / "s.sqlite") as store:
        score(model, [ask("reward", "a")], store=store)
        with Session(model, Asking(store, fresh=True)) as session:
            session.ask(questions)
            session.ask(questions)
    assert len(model.seen) == 2


def test_an_example_with_tools_is_refused_by_a_model_that_takes_none_and_asked_of_one_that_does() -> None:
    tools = replace(ask("reward", "a"), tools=({"name": "add"},))
    blind, seeing = Scripted(lambda r: 1.0), Scripted(lambda r: 1.0)
    seeing.uses = frozenset({"tools"})
    (refused,), (reward,) = score(blind, [tools]), score(seeing, [tools])
    assert (refused.status, refused.detail) == ("refused", "the example needs tools, which this model does not take")
    assert (blind.seen, reward.value, seeing.seen[0].tools) == ([], 1.0, tools.tools)


def test_a_reference_reaches_only_a_model_that_uses_it_and_is_part_of_its_key_alone(tmp_path: Path) -> None:
    plain = ask("reward", "a")
    requests = [plain, replace(plain, reference="gold"), replace(plain, criteria=(Criterion("is right"),))]
    blind, seeing = Scripted(lambda r: 1.0), Scripted(lambda r: 1.0, fingerprint="seeing:1")
    seeing.uses = frozenset({"reference", "criteria"})
    with Store(tmp_path / "s.sqlite") as store:
        score(blind, requests, store=store)
        assert (store.count(), blind.seen) == (1, [plain])
        score(seeing, requests, store=store)
        assert (store.count(), len(seeing.seen)) == (4, 3)
        assert {request.reference for request in seeing.seen} == {None, "gold"}


class OutOfMemory(TinyTokenModel):
    """Runs out of memory above `most` padded tokens, as torch's CPU allocator says it."""

    def __init__(self, most: int) -> None:
        super().__init__()
        forward = self.backbone.forward

        def limited(input_ids: torch.Tensor, **kwargs: Any) -> Any:
            if input_ids.numel() > most:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
            return forward(input_ids, **kwargs)

        self.backbone.forward = limited


def test_out_of_memory_halves_the_batch_and_changes_nothing() -> None:
    requests = [ask("reward", "x" * n) for n in range(1, 60)]
    expected = score(TinyTokenModel(), requests)
    model = OutOfMemory(most=200)
    assert_same(score(model, requests, token_budget=4000), expected)
    assert all(rows * width <= 200 for rows, width in model.backbone.shapes)


@pytest.mark.parametrize("kind", ASKS)
def test_one_sequence_that_cannot_fit_is_an_error_and_the_rest_goes_on(kind: Ask) -> None:
    more = ("y",) if kind == "compare" else ()
    rewards = score(OutOfMemory(most=200), [ask(kind, "x" * n, *more) for n in (10, 500, 20)])
    assert [reward.status for reward in rewards] == ["ok", "error", "ok"]
    assert (rewards[1].detail or "").startswith("out of memory on a sequence of 5")


def test_another_runtime_error_is_not_taken_for_memory() -> None:
    model = TinyTokenModel()
    model.backbone.forward = None
    with pytest.raises(TypeError):
        score(model, [ask("reward", "a")])


def test_texts_with_the_same_tokens_share_a_forward_and_are_counted() -> None:
    class Lowercase(TinyTokenModel):
        def _encode(self, request: Request) -> Encoded:
            return super()._encode(ask("reward", (request.responses[0].text or "").lower()))

    usage = Usage()
    rewards = score(Lowercase(), [ask("reward", "Yes"), ask("reward", "yes"), ask("reward", "no")], usage=usage)
    assert rewards[0] == rewards[1]
    assert (usage.scored, usage.batches) == (3, 1)
    assert rewards[0].read == rewards[1].read != rewards[2].read


def test_a_request_that_cannot_be_read_is_an_error_with_its_reason() -> None:
    class Short(TinyTokenModel):
        def _encode(self, request: Request) -> Encoded:
            one = super()._encode(request)
            return one if len(one.ids) < 20 else Encoded(one.ids, (), error=f"{len(one.ids)} tokens, 20 positions")

    good, bad = score(Short(), [ask("reward", "a"), ask("reward", "b" * 30)])
    assert (good.status, bad.status, bad.detail) == ("ok", "error", "35 tokens, 20 positions")


def test_at_most_one_batch_is_not_yet_safe_when_the_next_one_starts(tmp_path: Path) -> None:
    sizes: list[int] = []
    model = TinyTokenModel()
    with Store(tmp_path / "s.sqlite") as store, Store(tmp_path / "s.sqlite") as other:
        forward = model.backbone.forward

        def counting(**inputs: Any) -> Any:
            sizes.append(other.count())
            return forward(**inputs)

        model.backbone.forward = counting
        requests = [ask("reward", "x" * n) for n in range(1, 30)]
        score(model, requests, store=store, token_budget=64)
        assert other.count() == len(requests)
    done = [sum(rows for rows, _ in model.backbone.shapes[:batch]) for batch in range(len(sizes))]
    assert all(safe >= before for safe, before in zip(sizes, [0, *done], strict=False))


def test_progress_hears_of_every_sequence() -> None:
    heard: list[Any] = []

    class Ear:
        def begin(self, total: int, known: int) -> None:
            heard.append(total)

        def advance(self, sequences: int) -> None:
            heard.append(sequences)

        def end(self) -> None:
            heard.append("end")

    score(TinyTokenModel(), [ask("reward", "x" * n) for n in range(1, 30)], token_budget=64, progress=Ear())
    assert (heard[0], sum(heard[1:-1]), heard[-1]) == (29, 29, "end")


def test_a_store_that_cannot_be_written_stops_the_run_with_one_line(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store._connection.execute("PRAGMA query_only=1")
        with pytest.raises(ResultError, match="cannot keep rewards"):
            score(TinyTokenModel(), [ask("reward", "a")], store=store)


def test_a_budget_is_at_least_one_token() -> None:
    with pytest.raises(UsageError, match="token_budget=0"):
        score(TinyTokenModel(), [ask("reward", "a")], token_budget=0)


def test_threads_of_one_model_take_turns(tmp_path: Path) -> None:
    model = load_model(str(make(tmp_path / "llama", "llama")), device="cpu")
    requests = [ask("reward", "so " * n) for n in range(1, 13)]
    alone = [reward.value for reward in score(model, requests)]
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda seed: score(model, requests, token_budget=40 + seed), range(24)))
    for rewards in runs:
        assert [reward.value for reward in rewards] == pytest.approx(alone, abs=1e-5)
    assert model.backbone.config._attn_implementation == "sdpa"  # type: ignore[union-attr]


def test_what_scoring_opened_is_closed_when_progress_fails() -> None:
    class Failing:
        def begin(self, total: int, known: int) -> None: ...

        def advance(self, sequences: int) -> None:
            raise KeyboardInterrupt

        def end(self) -> None: ...

    before = set(threading.enumerate())
    try:
        score(TinyTokenModel(), [ask("reward", str(i)) for i in range(9)], token_budget=1, progress=Failing())
    except KeyboardInterrupt as error:
        kept = error  # as an interactive shell keeps it, and with it the frames
    assert kept.__traceback__ is not None
    opened = set(threading.enumerate()) - before
    assert not [thread.name for thread in opened if thread.name.startswith("rmbench-")]
