"""What the order of two responses does to a model that compares them, against a plain loop over what it was shown."""

from __future__ import annotations

import json
import math
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from fake_models import Scripted

from rmbench.cli._report import print_results
from rmbench.kinds.comparison import Comparison
from rmbench.plugins import load_task
from rmbench.results import files
from rmbench.runs.evaluate import evaluate
from rmbench.types import Candidate, Example, Message, Request, Response, Reward

NAMES = ("consistency", "position_bias", "refused")


def task(sizes: list[int], orders: str) -> Comparison:
    def read(_: Any) -> Any:
        for number, size in enumerate(sizes):
            some = tuple(Candidate(f"{number} {place}", place == 0) for place in range(size))
            yield Example(f"e{number}", (Message("user", f"q{number}"),), some)

    return Comparison("drawn", 1, "drawn", "drawn", read, orders=orders)


def verdict(request: Request) -> Reward:
    """Some of every kind, by the texts in the order shown."""
    shown = [response.text for response in request.responses]
    said = random.Random(" ".join(map(str, shown))).random()
    if said < 0.15:
        return Reward((math.nan,) * 2, status="refused", detail="no verdict")
    if said < 0.3:
        return Reward((0.5, 0.5))
    return Reward((1.0, 0.0) if said < 0.75 else (0.1, 0.9))


def judged(model: Scripted, drawn: Comparison, tmp_path: Path) -> Any:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    [result] = evaluate(model, [drawn], data={"drawn": tmp_path / "rows.jsonl"}, out=tmp_path / "r")
    return result


@pytest.mark.parametrize("orders", ["both", "permutations:2"])
@pytest.mark.parametrize("sizes", [[2] * 40, [4, 2, 3] * 10])
def test_they_are_what_a_plain_loop_counts(sizes: list[int], orders: str, tmp_path: Path) -> None:
    model = Scripted(verdict, answers=("compare",))
    model.most = 2  # type: ignore[attr-defined]
    result = judged(model, task(sizes, orders), tmp_path)
    alike, first, refused = [], [], []
    for number, size in enumerate(sizes):
        same, ahead, without = [], [], []
        for i, j in combinations(range(size), 2):
            said = []
            for shown in ((i, j), (j, i)):
                texts = tuple(Response(f"{number} {at}") for at in shown)
                given = verdict(Request("compare", (), texts))
                without.append(given.status == "refused")
                said.append(None if given.status == "refused" else (given.values[0] > given.values[1])
                            - (given.values[0] < given.values[1]))  # fmt: skip
            if None not in said:
                same.append(said[0] == -said[1])
                ahead += said
        refused.append(sum(without) / len(without))
        if same:
            alike.append(sum(same) / len(same))
            first.append(sum(ahead) / len(ahead))
    for name, due in zip(NAMES, (alike, first, refused), strict=True):
        found = result.metric(name)
        assert (found.value, found.n) == (pytest.approx(sum(due) / len(due)), len(due))


@pytest.mark.parametrize(
    ("says", "due"),
    [
        (lambda shown: (1.0, 0.0), (0.0, 1.0)),
        (lambda shown: (0.0, 1.0), (0.0, -1.0)),
        (lambda shown: (0.5, 0.5), (1.0, 0.0)),
        (lambda shown: (float(shown[0] < shown[1]), float(shown[0] > shown[1])), (1.0, 0.0)),
    ],
)
def test_what_always_names_the_first_has_all_bias_and_what_reads_has_none(says: Any, due: Any, tmp_path: Path) -> None:
    model = Scripted(lambda request: Reward(says([one.text for one in request.responses])), answers=("compare",))
    result = judged(model, task([3] * 12, "both"), tmp_path)
    assert tuple(result.metric(name).value for name in NAMES[:2]) == due
    assert result.metric("refused").value == 0


def test_one_order_says_nothing_and_a_model_that_rates_has_none_of_them(tmp_path: Path) -> None:
    one_way = judged(Scripted(verdict, answers=("compare",)), task([2] * 30, "round_robin"), tmp_path)
    assert [one_way.metric(name).value for name in NAMES[:2]] == [None, None]
    assert one_way.metric("refused").value > 0
    rates = judged(Scripted(lambda request: 1.0), task([2] * 3, "both"), tmp_path)
    assert not {metric.name for metric in rates.metrics} & set(NAMES)


def test_best_of_n_shows_both_orders_and_reports_what_they_do(tmp_path: Path, capsys: Any) -> None:
    assert load_task("best_of_n").orders == "both"
    rows = [{"prompt": f"q{n}", "responses": ["a", f"b{n}", "c"], "labels": [1, 0, 0]} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = []

    def first(request: Request) -> Reward:
        shown.append(tuple(response.text for response in request.responses))
        return Reward((1.0, 0.0))

    data = {"best_of_n": tmp_path / "rows.jsonl"}
    [result] = evaluate(Scripted(first, answers=("compare",)), ["best_of_n"], data=data, out=tmp_path / "r")
    assert len(shown) == 8 * 6
    assert all(pair[::-1] in shown for pair in shown)
    print_results([result])
    told = capsys.readouterr().out
    assert all(word in told for word in ("consistency", "position", "bias", "refused"))
    read = files.read(next((tmp_path / "r").rglob("*.json")))
    assert read.metric("position_bias").value == 1.0
