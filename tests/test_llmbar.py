"""LLMBar: both orders, agreement and the kappas, as its own code counts them and as they should be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_files import figures

import rmbench
from rmbench.data.cards import read_card
from rmbench.data.files import Row
from rmbench.data.scorefile import read_entries
from rmbench.errors import DataError
from rmbench.results.verify import verify
from rmbench.tasks.llmbar import TASK
from rmbench.types import Outcome, View


def row(number: int, label: int = 1) -> dict[str, Any]:
    return {"input": f"Name {number} trees.", "output_1": "oak " * number, "output_2": "a rose", "label": label}


def judged_rows() -> list[dict[str, Any]]:
    """Every two verdicts that a judge can give, some more often than others, after a stage that gives none."""
    rng = np.random.default_rng(6)
    rows: list[dict[str, Any]] = []
    for label, one, other in product((1, 2), ("1", "2", None), ("1", "2", None)):
        for _ in range(int(rng.integers(1, 9))):
            verdicts = {"swap = False": {"winner": one}, "swap = True": {"winner": other}}
            rows.append(row(len(rows) + 1, label) | {"results": [["a list of metrics", "stop"], verdicts]})
    return rows


def kappa(one: Sequence[Any], other: Sequence[Any]) -> float:
    """Cohen's, from its definition."""
    n, classes = len(one), {*one, *other}
    observed = sum(a == b for a, b in zip(one, other, strict=True)) / n
    chance = sum(one.count(name) / n * other.count(name) / n for name in classes)
    return (observed - chance) / (1 - chance)


def by_definition(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The authors' figures by rmbench's names, and the plain kappas."""
    labels = [str(one["label"]) for one in rows]
    as_given, exchanged = ([one["results"][-1][f"swap = {swap}"]["winner"] for one in rows] for swap in (False, True))
    right = [
        [verdict == label for verdict, label in zip(order, labels, strict=True)] for order in (as_given, exchanged)
    ]
    coded = [[int(verdict == "1") for verdict in order] for order in (as_given, exchanged)]
    plain, official = (
        [kappa(order, labels) for order in (as_given, exchanged)],
        [kappa(order, list(map(int, labels))) for order in coded],
    )
    return {
        "accuracy_as_given": float(np.mean(right[0])), "accuracy_exchanged": float(np.mean(right[1])),
        "accuracy_average": float(np.mean(right)), "accuracy_both": float(np.mean(np.all(right, axis=0))),
        "agreement": float(np.mean([a == b for a, b in zip(as_given, exchanged, strict=True)])),
        "kappa_agreement": kappa(*coded), "kappa_as_given": plain[0], "kappa_exchanged": plain[1],
        "kappa": sum(plain) / 2, "kappa_False": official[0], "kappa_True": official[1],
        "kappa_average": sum(official) / 2,
    }  # fmt: skip


def test_the_figures_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    rows = judged_rows()
    (tmp_path / "result.json").write_text(json.dumps(rows))
    (tmp_path / "dataset.json").write_text(json.dumps([{**one, "results": []} for one in rows]))
    scores, data = tmp_path / "result.json", tmp_path / "dataset.json"
    (result,) = rmbench.evaluate(f"scores:{scores}", ["llmbar"], data={"llmbar": data})
    verify(result, TASK)
    found = {metric.name: metric.value for metric in result.metrics if metric.subset == "all"}
    due = by_definition(rows)
    assert {name: found[name] for name in due} == pytest.approx(due)
    assert len(set(due.values())) == len(due)


def test_a_reward_is_a_verdict_in_both_orders_and_a_tie_is_for_the_second() -> None:
    def seen(name: str, scores: list[float], label: list[float]) -> Outcome:
        return Outcome(name, {}, name, np.array(label), {"default": View(np.array(scores), None, ["ok", "ok"])})

    outcomes = [
        seen("right", [2, 1], [1, 0]), seen("wrong", [2, 1], [0, 1]), seen("tie", [1, 1], [1, 0]),
        seen("other tie", [1, 1], [0, 1]), seen("none", [np.nan, 1], [0, 1]),
    ]  # fmt: skip
    found = {one.name: one for one in TASK.measure.statistics(outcomes, "default", None)}
    counted = found["accuracy_average"].columns
    assert counted is not None
    assert counted[:, 0].tolist()[:4] == [1, 0, 0.5, 0.5]
    assert np.isnan(counted[4, 0])
    agreement = found["agreement"].columns
    assert agreement is not None
    assert agreement[:4, 0].tolist() == [1, 1, 0, 0]


def test_subsets_are_named_by_files_and_folders(tmp_path: Path) -> None:
    for name in ("LLMBar_Natural.json", "Adversarial/GPTOut/dataset.json", "mine.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps([row(len(name))]))
    facets = [dict(example.facets) for example in TASK.load(tmp_path).examples]
    assert facets == [
        {"section": "Adversarial", "subset": "GPTOut"}, {"section": "Natural", "subset": "Natural"}, {}
    ]  # fmt: skip


def test_what_judges_wrote_beside_the_rows_is_left_out_and_counted(tmp_path: Path) -> None:
    """As a clone of the authors' repository has it: statistics and results, one object or a list of them."""
    judged = tmp_path / "Natural" / "evaluators" / "GPT-4"
    judged.mkdir(parents=True)
    (tmp_path / "Natural" / "dataset.json").write_text(json.dumps([row(1), row(2)]))
    (judged / "statistics.json").write_text(json.dumps({"correct_average": 0.9}))
    (judged / "result.json").write_text(json.dumps([{**row(1), "evaluator": "A"}]))
    data = TASK.load(tmp_path)
    assert len(data.examples) == 2
    assert sum(data.excluded.values()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 3}, "`label`: expected 1 or 2, got 3"),
        ({"label": True}, "`label`: expected 1 or 2, got True"),
        ({"label": None}, "`label`: expected 1 or 2, got None"),
        ({"output_2": None}, "`output_2`: expected a text, got None"),
    ],
)
def test_a_broken_row_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"x\.json, row 7, " + message) as error:
        list(TASK.read([Row(row(1) | change, "x.json", 7)]))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("results", [[], None, [["a list of metrics"]], [{"swap = False": {"winner": "1"}}]])
def test_a_broken_result_is_one_line(results: Any) -> None:
    with pytest.raises(DataError, match=r"x\.json, row 7, `results`: expected a last object with a `winner`") as error:
        list(read_entries([Row(row(1) | {"results": results}, "x.json", 7)]))
    assert len(str(error.value).splitlines()) == 1


def test_official_statistics(rmbench_data: Path) -> None:
    names = {"accuracy_as_given": "correct_False", "accuracy_exchanged": "correct_True",
             "accuracy_average": "correct_average", "accuracy_both": "correct_both", "agreement": "equal"}  # fmt: skip
    names |= {name: name for name in ("kappa_False", "kappa_True", "kappa_average", "kappa_agreement")}
    headlines = {}
    files = sorted((rmbench_data / "llmbar_evaluators").rglob("result.json"))
    assert len(files) == 24
    for file in files:
        found = figures(TASK, file)
        official = json.loads(file.with_name("statistics.json").read_text())
        for name, theirs in names.items():
            stated = official[theirs]
            if isinstance(stated, str):
                stated = float(stated.rpartition("= ")[2].removesuffix("%")) / 100
            assert found[name] == pytest.approx(stated, abs=1e-12), (file, name)
        due = by_definition(json.loads(file.read_text()))
        assert {name: found[name] for name in due} == pytest.approx(due)
        headlines["/".join(file.parts[-4:-1])] = round(100 * found["accuracy_average"], 1)
    judges = [headlines[f"{subset}/{judge}/Vanilla"] for judge in ("GPT-4", "ChatGPT")
              for subset in ("Natural", "Neighbor", "GPTInst")]  # fmt: skip
    assert judges == [95.5, 78.7, 86.4, 81.5, 19.4, 26.6]
    plain = figures(TASK, rmbench_data / "llmbar_evaluators" / "Natural" / "GPT-4" / "Vanilla" / "result.json")
    assert (round(plain["kappa_False"], 3), round(plain["kappa_as_given"], 3)) == (0.268, 0.898)


def test_the_real_files(rmbench_data: Path) -> None:
    (reads,) = read_card("llmbar").front["rmbench"]["reads"]
    data = TASK.load(rmbench_data / reads["data"])
    assert (len(data.examples), data.excluded, data.noted) == (reads["examples"], {}, {})
    assert sum(len(example.candidates) for example in data.examples) == reads["candidates"]
    assert Counter(example.facets["subset"] for example in data.examples) == reads["subset"]
    assert len({example.cluster for example in data.examples}) == len(data.examples) - 1
