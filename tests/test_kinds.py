"""Kinds of task: in which order candidates are shown, which view comes first, and several sources of one task."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from math import factorial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_models import Scripted

import rmbench
from rmbench.data.files import Row
from rmbench.data.hub import HubSet
from rmbench.errors import ModelError, UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.plugins import load_task
from rmbench.types import Ask, Candidate, Example, Message, Response, Reward

PROMPT = (Message("user", "?"),)
COMPARE: frozenset[Ask] = frozenset({"compare"})


def read(rows: Iterable[Row]) -> Iterator[Example]:
    for row in rows:
        candidates = Candidate(row.text("right"), True), Candidate(row.text("wrong"), False)
        yield Example("", PROMPT, candidates, facets={"subset": "own", "of": row.name(("of",)) or ""})


def task(orders: str = "official", **settings: Any) -> Comparison:
    return Comparison("t", 1, "", "t", read, orders=orders, **settings)


def example(*labels: Any, texts: Sequence[str] | None = None, name: str = "e") -> Example:
    texts = texts or [f"text {i}" for i in range(len(labels))]
    return Example(name, PROMPT, tuple(Candidate(text, label) for text, label in zip(texts, labels, strict=True)))


def shown(orders: str, asked: Example) -> list[tuple[int, ...]]:
    questions = task(orders).questions(asked, COMPARE, "data")
    return [question.place.candidates for question in questions if question.place]


# orders


def test_official_pairs_are_of_different_labels_unless_all_are_alike() -> None:
    assert {frozenset(pair) for pair in shown("official", example(1, 0, 0))} == {frozenset({0, 1}), frozenset({0, 2})}
    assert len(shown("official", example(0.5, 0.5))) == 1
    assert len(shown("official", example(2, 1, 0))) == 3
    assert len(shown("official", example("a", "b"))) == 1


def test_every_pair_once_or_in_both_orders() -> None:
    assert len(shown("round_robin", example(1, 0, 0))) == 3
    assert Counter(map(frozenset, shown("both", example(1, 0, 0)))) == dict.fromkeys(
        map(frozenset, [{0, 1}, {0, 2}, {1, 2}]), 2
    )
    assert len(set(shown("both", example(1, 0, 0)))) == 6


@pytest.mark.parametrize(("k", "n"), [(2, 1), (2, 5), (3, 3), (3, 6), (4, 8), (4, 30), (1, 2)])
def test_permutations_differ_and_give_each_place_to_each_as_often(k: int, n: int) -> None:
    asked = example(1, *[0] * (k - 1))
    orders = shown(f"permutations:{n}", asked)
    assert len(set(orders)) == len(orders) == (min(n, factorial(k)) if k > 1 else 0)
    assert set(orders) <= set(permutations(range(k)))
    if len(orders) % k == 0:
        for place in range(k):
            assert set(Counter(order[place] for order in orders).values()) <= {len(orders) // k}


@pytest.mark.parametrize("orders", ["official", "round_robin", "permutations:2", "permutations:1"])
def test_an_order_is_of_what_a_model_sees_and_tells_neither_place_nor_label(orders: str) -> None:
    asked = example(True, False)
    turned = replace(asked, id="other", candidates=asked.candidates[::-1])
    relabelled = example(False, True)
    texts = [
        [
            [response.text for response in question.request.responses]
            for question in task(orders).questions(one, COMPARE, "")
        ]
        for one in (asked, turned, relabelled)
    ]
    assert texts[0] == texts[1] == texts[2]
    first = Counter(
        shown(orders, example(True, False, texts=[f"good {i}", f"bad {i}"], name=str(i)))[0][0] for i in range(200)
    )
    assert 70 < first[0] < 130


def test_candidates_that_nobody_can_read_are_drawn_by_their_place() -> None:
    unknown = [replace(example(1, 0, name=str(i)), id=str(i)) for i in range(100)]
    unknown = [replace(e, candidates=tuple(replace(c, response=Response(None)) for c in e.candidates)) for e in unknown]
    assert 30 < Counter(shown("official", one)[0][0] for one in unknown)[0] < 70


def test_other_orders_are_an_error_that_says_which_there_are() -> None:
    for orders in ("both_orders", "permutations", "permutations:0", ""):
        with pytest.raises(UsageError, match="expected official, both, round_robin or permutations:N"):
            task(orders)


def test_pairs_that_annotators_call_a_tie_are_asked_like_any_other(rmbench_data: Path) -> None:
    def autoj(rows: Iterable[Row]) -> Iterator[Example]:
        for row in rows:
            first = {0: 1.0, 1: 0.0, 2: 0.5}[row.value["label"]]
            sides = Candidate(row.text("response 1"), first), Candidate(row.text("response 2"), 1 - first)
            yield Example("", (Message("user", row.text("prompt")),), sides)

    path = rmbench_data / "autoj" / "testdata_pairwise.jsonl"
    made = Comparison("autoj", 1, "", "autoj", autoj)
    data = made.load(path)
    ties = [one for one in data.examples if one.candidates[0].label == 0.5]
    assert (len(data.examples), len(ties)) == (1392, 373)
    assert all(len(made.questions(one, COMPARE, "")) == 1 for one in data.examples)


def test_a_judge_that_takes_whoever_stands_first_ties_over_the_permutations(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "candidates": [f"{i} a", f"{i} b", f"{i} c"], "labels": [1, 0, 0]} for i in range(12)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first = Scripted(lambda request: Reward((1.0, 0.0, 0.0), pick=0), answers=["compare"])
    best = replace(load_task("best_of_n"), orders="permutations:3")
    (result,) = rmbench.evaluate(first, [best], data={"best_of_n": tmp_path / "x.jsonl"})
    found = {metric.name: metric.value for metric in result.metrics if metric.subset == "all"}
    assert (len(first.seen), result.ties) == (36, {"default": 12})
    assert (found["accuracy"], found["accuracy_expected"]) == (0.0, pytest.approx(1 / 3))


# what is asked, and what comes first


def test_a_model_that_answers_nothing_of_it_is_told_what_the_task_asks() -> None:
    with pytest.raises(ModelError, match="t: the model answers embedding; this task asks reward, steps or compare"):
        task().questions(example(1, 0), frozenset({"embedding"}), "")


def test_the_view_to_look_at_first() -> None:
    assert task().primary_view(["default", "prod"]) == "default"
    assert task().primary_view(["min", "prod"]) == "prod"
    assert task(primary="min").primary_view(["default", "min"]) == "min"
    assert task(primary="min").primary_view(["default", "quality"]) == "default"
    assert load_task("rewardmath").primary_view(["default", "prod", "min"]) == "prod"


def test_what_measures_see_of_an_example() -> None:
    turns = [Message("assistant", "a"), Message("user", "go on"), Message("assistant", "b")]
    candidate = Candidate(Response(turns), "good", annotations=(1.0, 0.5), tags={"policy": "m"})
    asked = Example("e", PROMPT, (candidate, Candidate("c", "bad")), facets={"language": "de"})
    (first, *_) = task().questions(asked, frozenset({"steps"}), "data")
    assert first.request.responses[0].steps == "turns"
    outcome = task().outcome(asked, [], [])
    assert (outcome.classes, outcome.facets) == (["good", "bad"], {"language": "de"})
    assert outcome.annotations is not None
    assert outcome.annotations[0].tolist() == [1.0, 0.5]


# several sources


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A local folder with two configs, the first of which has two splits."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    front = """---
configs:
- config_name: easy
  data_files: [{split: train, path: easy_train.jsonl}, {split: test, path: easy_test.jsonl}]
- config_name: hard
  data_files: [{split: test, path: hard.jsonl}]
---
"""
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "README.md").write_text(front)
    for name, count in (("easy_train", 1), ("easy_test", 2), ("hard", 3)):
        rows = [{"right": f"{name} {i}", "wrong": "no", "of": name} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder)


def test_configs_and_splits_of_one_task_with_the_facets_of_each(hub: str) -> None:
    easy = HubSet(hub, config="easy", split="test", facets={"subset": "easy"})
    hard = HubSet(hub, config="hard", facets={"subset": "hard", "section": "S"})
    data = task(sources=(easy, hard)).load()
    assert [(e.facets["of"], e.facets["subset"], e.facets.get("section")) for e in data.examples] == [
        *[("easy_test", "easy", None)] * 2,
        *[("hard", "hard", "S")] * 3,
    ]
    assert [(s.id, s.revision, s.config, s.split, s.rows, dict(s.facets)) for s in data.sources] == [
        ("rows", "local", "easy", "test", 2, {"subset": "easy"}),
        ("rows", "local", "hard", None, 3, {"subset": "hard", "section": "S"}),
    ]
    assert (data.source, data.revision) == ("rows", "local")


def test_the_hash_of_several_sources_is_of_their_rows_and_facets(hub: str) -> None:
    easy, hard = HubSet(hub, config="easy", split="test"), HubSet(hub, config="hard")
    hashes = [
        task(sources=sources).load().sha256
        for sources in ((easy,), (hard,), (easy, hard), (easy, replace(hard, facets={"section": "S"})))
    ]
    assert len(set(hashes)) == 4
    assert task(sources=(easy,)).load().sha256 == task(sources=(easy,)).load().sources[0].sha256


def test_a_file_of_the_user_s_is_read_instead_and_without_their_facets(hub: str, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"right": "a", "wrong": "b"}')
    data = task(sources=(HubSet(hub, config="hard", facets={"section": "S"}),)).load(tmp_path / "own.jsonl")
    assert [(s.id, s.revision, s.rows) for s in data.sources] == [("own.jsonl", "local", 1)]
    assert "section" not in data.examples[0].facets


def test_images_of_a_hub_set_stay_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "rows").mkdir()
    features = datasets.Features({"image": datasets.Image(), "more": datasets.Sequence(datasets.Image())})
    png = b"\x89PNG\r\n\x1a\n"
    rows = {"image": [{"bytes": png, "path": None}], "more": [[{"bytes": png, "path": None}]]}
    pq.write_table(pa.table(rows, schema=features.arrow_schema), tmp_path / "rows" / "train.parquet")
    (row,) = HubSet(str(tmp_path / "rows")).load("t").rows
    assert (row.value["image"]["bytes"], row.value["more"][0]["bytes"]) == (png, png)
