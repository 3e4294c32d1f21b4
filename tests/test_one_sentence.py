"""one_sentence: other code than the task's decides what each sample keeps to, and what best-of-n by length does."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import one_sentence
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rmbench
from rmbench.data.cards import read_card
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.optimise.report import Figure, OptimisationReport
from rmbench.plugins import load_task
from rmbench.tasks.one_sentence import constraints, read
from rmbench.tasks.one_sentence import prompts as asked_for
from rmbench.tasks.one_sentence.prompts import prompts
from rmbench.types import Example, Response

TASK, CARD = load_task("one_sentence"), read_card("one_sentence").body
ROW = {
    "prompt": "One sentence, please.", "words": ["anchor", "oven"], "limit": 6, "policy": "some-policy",
    "responses": [{"text": "The anchor.", "finish": "stop", "logprob": -3.5}, {"text": "An oven"}],
}  # fmt: skip


@cache
def bundled() -> tuple[Example, ...]:
    return tuple(TASK.load().examples)


def examples(**changed: Any) -> list[Example | LeftOut]:
    return list(read([Row(ROW | changed, "rows.jsonl", 1)]))


# the same rules, character by character


def words(text: str) -> list[str]:
    found, word = [], ""
    for at, sign in enumerate(text):
        is_within = bool(word) and sign in "'\u2019-" and text[at + 1 : at + 2].isalnum()
        if sign.isalnum() or is_within:
            word += sign
        elif word:
            found.append(word)
            word = ""
    return [one.lower() for one in [*found, word] if one]


def ends(text: str) -> list[int]:
    """Where a sentence ends, closing marks counted in."""
    found, at = [], 0
    while at < len(text):
        if text[at] in ".!?…":
            while at < len(text) and text[at] in ".!?…":
                at += 1
            while at < len(text) and text[at] in "\"'\u201d\u2019»)]*_":
                at += 1
            rest = text[at:]
            if not rest or (rest[0].isspace() and not rest.strip()[:1].islower()):
                found.append(at)
        else:
            at += 1
    return found


def kept(text: str, given_words: list[str], limit: int) -> list[bool]:
    written, bare = words(text), text.strip()
    is_whole = ends(bare) == [len(bare)] and bool(written) and len(bare.splitlines()) == 1
    return [0 < len(written) <= limit, *(word in written for word in given_words), is_whole]


@given(st.text(st.sampled_from("aB1 .!?'\u2019-\"*)\n_"), max_size=14), st.integers(1, 4))
def test_what_is_kept_to_is_what_a_loop_over_characters_finds(text: str, limit: int) -> None:
    assert list(constraints.met(text, ["a", "b"], limit).values()) == kept(text, ["a", "b"], limit)


def test_the_gold_of_every_bundled_sample_is_what_the_loop_finds() -> None:
    for asked, example in zip(asked_for.bundled(), bundled(), strict=True):
        for sample in example.candidates:
            found = kept(sample.text or "", list(asked.words), asked.limit)
            assert sample.label == sum(found) / 4
            assert str(sample.tags.get("unmet", "")).count(", ") == max(3 - sum(found), 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The anchor is in the oven.", [True, True, True, True]),
        ("THE ANCHOR is in the Oven!", [True, True, True, True]),
        ("  'An anchor, an oven?'  ", [True, True, True, True]),
        ("An anchor... an oven.", [True, True, True, True]),
        ("An anchor and an oven", [True, True, True, False]),  # no end
        ("An anchor. An oven.", [True, True, True, False]),
        ("An anchor is in\nan oven.", [True, True, True, False]),
        ("1. An anchor, an oven.", [True, True, True, False]),  # the number ends a sentence
        ("Anchors and ovens.", [True, False, False, True]),  # a word inside a word
        ("The anchor's oven-door.", [True, False, False, True]),
        ("The anchor is now in the oven.", [False, True, True, True]),  # seven words
        ("The 3.5 m anchor, an oven.", [False, True, True, True]),  # 3 and 5 are two words, and no end
        ("*An anchor, an oven.*", [True, True, True, True]),
        ("", [False, False, False, False]),
        (" \n ", [False, False, False, False]),
        ("...", [False, False, False, False]),
    ],
)
def test_edges_of_the_rules(text: str, expected: list[bool]) -> None:
    found = constraints.met(text, ["anchor", "oven"], 6)
    assert list(found) == ["limit", "anchor", "oven", "one sentence"]
    assert list(found.values()) == kept(text, ["anchor", "oven"], 6) == expected


def test_prompts_state_their_constraints_and_no_pair_of_words_twice() -> None:
    series = list(islice(prompts(), 600))
    assert len({frozenset(one.words) for one in series}) == len({one.prompt for one in series}) == 600
    assert Counter(one.subset for one in series) == {"tight": 200, "middle": 200, "loose": 200}
    assert {one.limit for one in series} == set(range(8, 21))
    for one in series:
        assert re.findall(r"\d+", one.prompt) == [str(one.limit)]
        assert all(word in words(one.prompt) for word in one.words)


def test_the_bundled_rows_answer_the_first_prompts_of_the_series() -> None:
    first = asked_for.bundled()
    assert [(one.id, one.prompt[0].text, one.facets["subset"]) for one in bundled()] == [
        (one.id, one.prompt, one.subset) for one in first
    ]
    assert {len(one.candidates) for one in bundled()} == {32}
    samples = [sample for example in bundled() for sample in example.candidates]
    assert {sample.tags["policy"] for sample in samples} == {"SmolLM2-135M-Instruct"}
    assert all(float(sample.tags["logprob"]) < 0 for sample in samples)
    assert Path(str(TASK.bundled)).stat().st_size < 1_500_000


def test_a_row_of_ones_own() -> None:
    (example,) = examples()
    assert isinstance(example, Example)
    first, second = example.candidates
    assert (first.label, second.label) == (0.75, 0.5)
    assert first.tags == {"policy": "some-policy", "unmet": "oven", "logprob": -3.5}
    assert second.tags == {"policy": "some-policy", "unmet": "anchor, one sentence"}
    assert isinstance(first.response, Response)
    assert first.response.finish == "stop"
    assert examples(responses=[]) == [LeftOut("no responses")]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"limit": 0}, "`limit`: expected a whole number from 1, got 0"),
        ({"limit": True}, "`limit`: expected a whole number from 1, got True"),
        ({"words": []}, "`words`: expected a list of texts, got []"),
        ({"policy": None}, "`policy`: expected a text, got None"),
        ({"responses": ["text"]}, "`responses`: expected a list of objects, got ['text']"),
        ({"responses": [{"text": 1}]}, "`text`: expected a text, got 1"),
        ({"responses": [{"text": "a", "finish": "eos"}]}, "`finish`: expected stop or length, got 'eos'"),
        ({"responses": [{"text": "a", "logprob": "-1"}]}, "`logprob`: expected a finite number, got '-1'"),
        ({"responses": [{"text": "a", "logprob": float("-inf")}]}, "`logprob`: expected a finite number, got -inf"),
    ],
)
def test_a_row_that_is_none_says_where(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError) as error:
        examples(**changed)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@cache
def optimised() -> OptimisationReport:
    """What the command finds on the pool that it has without a file."""
    return rmbench.overoptimize(models=["length", "shortest", "random"])


def test_length_makes_the_policy_worse_than_chance_and_shortness_better() -> None:
    length, shortest, drawn = optimised().entrants
    assert (optimised().policy, optimised().prompts, optimised().samples) == ("SmolLM2-135M-Instruct", 60, (32, 32))
    assert (length.verdict, length.best_n.value) == ("turns over", 1)
    assert length.gain_at_end.high < 0 < shortest.gain_at_end.low
    assert drawn.gain_at_end.low < 0 < drawn.gain_at_end.high
    assert 1 < shortest.best_n.value < 32
    assert optimised().oracle.value[-1] > 0.9


def test_what_best_of_n_does_is_what_selection_says() -> None:
    (selected,) = rmbench.selection_at_n(*rmbench.evaluate("length", ["one_sentence"]))
    (length, *_) = optimised().entrants
    found = dict(zip(length.gold.at, length.gold.value, strict=True))
    for row in selected.rows:
        assert row.selected["rmbench/length"].value == pytest.approx(found[row.n])


def test_the_card_says_what_the_samples_are() -> None:
    samples = [sample for example in bundled() for sample in example.candidates]
    texts = [sample.text or "" for sample in samples]
    labels = np.array([sample.number or 0.0 for sample in samples])
    unmet = Counter(name for sample in samples for name in str(sample.tags.get("unmet", "")).split(", ") if name)
    none, limit, one = len(samples), unmet.pop("limit"), unmet.pop("one sentence")
    cut = sum(isinstance(one.response, Response) and one.response.finish == "length" for one in samples)
    figures = [f"{none:,}", f"{labels.mean():.3f}"[1:], f"{100 * (1 - limit / none):.1f} %",
               f"{100 * (1 - unmet.total() / none / 2):.1f} %", f"{100 * (1 - one / none):.1f} %", str(cut),
               f"{np.mean([len(words(text)) for text in texts]):.1f}"]  # fmt: skip
    assert f"| {' | '.join(figures)} |" in CARD
    assert f"{(labels == 1).sum()} samples meet all four constraints, {(labels == 0).sum()} none" in CARD


def test_the_card_says_what_optimising_does() -> None:
    for entrant in optimised().entrants:
        best, end = (stated(one) for one in (entrant.gold_at_best, entrant.gold_at_end))
        name = entrant.name.removeprefix("rmbench/")
        assert f"| `{name}` | {entrant.best_n.value:.0f} | {best} | {end} |" in CARD
    oracle, size = optimised().oracle, optimised().oracle.at[-1]
    figure = Figure(oracle.value[-1], oracle.low[-1], oracle.high[-1])
    assert f"| oracle | {size:.0f} | | {stated(figure)} |" in CARD
    assert f"| random sample | | | {stated(optimised().random)} |" in CARD


def stated(figure: Figure) -> str:
    value, low, high = (f"{number:.3f}"[1:] for number in (figure.value, figure.low, figure.high))
    return f"{value} [{low}, {high}]"


def test_pairs_to_train_on_are_a_better_and_a_worse_sample_of_one_prompt() -> None:
    texts = ["The anchor, an oven.", "An anchor.", "An oven.", "", "Nothing", "An anchor."]
    rows = [ROW | {"prompt": f"{at}", "responses": [{"text": text} for text in texts]} for at in range(3)]
    found = list(one_sentence.pairs(rows))
    assert [pair["prompt"][0]["content"] for pair in found] == [f"{at}" for at in range(3) for _ in range(4)]
    for pair in found:
        better, worse = (sum(kept(pair[side][0]["content"], ["anchor", "oven"], 6)) for side in ("chosen", "rejected"))
        assert better > worse
        assert pair["rejected"][0]["content"]
    alike = ROW | {"responses": [{"text": "An anchor."}, {"text": "An oven."}]}
    assert not list(one_sentence.pairs([alike]))


def test_the_shortest_is_minus_length() -> None:
    asked = [("Say.", text) for text in ("", "a", "four", "ünï", "two\nlines")]
    lengths, shortest = (
        np.array([reward.value for reward in rmbench.score(model, asked)]) for model in ("length", "shortest")
    )
    assert lengths.tolist() == [0, 1, 4, 3, 9]
    assert (shortest == -lengths).all()
