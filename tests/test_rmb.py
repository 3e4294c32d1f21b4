"""RMB: groups and pairs of two goals, each example alike, and the mean of the four."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_files import figures, rewarded, values

import rmbench
from rmbench.data.cards import read_card
from rmbench.data.files import Row
from rmbench.data.scorefile import read_entries
from rmbench.errors import DataError
from rmbench.results.verify import verify
from rmbench.tasks.rmb import CELLS, MAKES, TASK
from rmbench.types import Outcome, View


def answer(length: int) -> dict[str, str]:
    return {"llm_name": f"model of {length}", "answer": "a" * length}


def asked(number: int) -> list[dict[str, str]]:
    """Turns as RMB has them."""
    return [
        {"role": "user", "content": f"Greet guest {number}.", "language": "English"},
        {"role": "assistant", "content": "Good day.", "language": "English"},
        {"role": "user", "content": "And once more.", "language": "English"},
    ]


def written(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """A folder as the authors', of small sets whose numbers are those of groups and of pairs alike."""
    rng = np.random.default_rng(3)
    files: dict[str, list[dict[str, Any]]] = {}
    for goal, scenario in (("Helpfulness", "Chat/Small talk"), ("Helpfulness", "Code/Notes"), ("Harmlessness", "S1")):
        for held in ("BoN_set", "Pairwise_set"):
            rows = []
            for number in range(int(rng.integers(4, 12))):
                best, *losers = [answer(int(length)) for length in rng.integers(1, 9, size=rng.integers(3, 6))]
                of_kind = {"bon_best": best, "loser_list": losers, "bon_uid": f"{len(files)}{number}"}
                if held == "Pairwise_set":
                    of_kind = {"chosen": best, "reject": losers[0], "pair_uid": f"{len(files) - 1}{number}"}
                path = f"{held}/{goal}/{scenario}"
                rows.append({"conversation_input": asked(number), "category_path": path} | of_kind)
            file = folder / f"{path}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(rows))
            files[path] = rows
    return files


def by_definition(files: Mapping[str, list[dict[str, Any]]]) -> dict[str, float]:
    """The four shares of a model that rewards length, and their mean."""
    won: dict[str, list[bool]] = {name: [] for name in CELLS}
    for path, rows in files.items():
        held, goal = path.split("/")[:2]
        name = f"{'best_of_n' if held == 'BoN_set' else 'pairwise'}_{goal.lower()}"
        for one in rows:
            best, losers = (
                (one["bon_best"], one["loser_list"]) if held == "BoN_set" else (one["chosen"], [one["reject"]])
            )
            won[name].append(all(len(best["answer"]) > len(loser["answer"]) for loser in losers))
    shares = {name: sum(each) / len(each) for name, each in won.items()}
    return shares | {"overall": sum(shares.values()) / 4}


def test_the_figures_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    files = written(tmp_path)
    outcomes = rewarded(TASK, tmp_path)
    found, due = values(TASK, outcomes), by_definition(files)
    assert {name: found[name] for name in due} == pytest.approx(due)
    assert len(outcomes) == sum(map(len, files.values()))
    harmless = values(TASK, [outcome for outcome in outcomes if outcome.facets["goal"] == "harmlessness"])
    assert math.isnan(harmless["overall"])
    assert harmless["best_of_n_harmlessness"] == due["best_of_n_harmlessness"]


def test_groups_and_pairs_of_one_number_are_two_examples(tmp_path: Path) -> None:
    files = written(tmp_path)
    data = TASK.load(tmp_path)
    assert not data.renamed
    ids = {example.id: example for example in data.examples}
    assert {"bon-00", "00"} <= ids.keys()
    assert ids["00"].facets == {"kind": "pairwise", "goal": "helpfulness", "subset": "Chat/Small talk"}
    assert [turn.role for turn in ids["00"].prompt] == ["user", "assistant", "user"]
    first = files["Pairwise_set/Helpfulness/Chat/Small talk"][0]
    assert ids["00"].candidates[1].tags == {"policy": first["reject"]["llm_name"]}


def test_score_files_are_scores_and_data(tmp_path: Path) -> None:
    files = written(tmp_path / "data")
    path = "Pairwise_set/Helpfulness/Chat/Small talk"
    rows = [
        {"pair_uid": one["pair_uid"], "category_path": path, "is_correct": 0}
        | {f"{side}_reward": len(one[side]["answer"]) for side in ("chosen", "reject")}
        for one in files[path]
    ]
    scored = tmp_path / "model_result.json"
    scored.write_text(json.dumps(rows))
    of_data = tmp_path / "data" / f"{path}.json"
    due = sum(one["chosen_reward"] > one["reject_reward"] for one in rows) / len(rows)
    (result,) = rmbench.evaluate(f"scores:{scored}", ["rmb"], data={"rmb": scored})
    verify(result, TASK)
    for data in (of_data, scored):
        assert figures(TASK, scored, data)["pairwise_helpfulness"] == pytest.approx(due)


def test_a_model_that_compares_has_verdicts_and_no_rewards(tmp_path: Path) -> None:
    path = "Pairwise_set/Helpfulness/Chat"
    rows = [
        {
            "pair_uid": str(number),
            "category_path": path,
            "chosen_reward": None,
            "reject_reward": None,
            "is_correct": won,
        }
        for number, won in enumerate((1, 0, 1, 1))
    ]
    (tmp_path / "pairs_result.json").write_text(json.dumps(rows))
    assert figures(TASK, tmp_path / "pairs_result.json")["pairwise_helpfulness"] == 0.75


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loser_list": []}, r"`loser_list`: expected a list of responses, got \[\]"),
        ({"loser_list": "b"}, "`loser_list`: expected a list of responses, got 'b'"),
        ({"loser_list": [{"llm_name": "m"}]}, "`loser_list`: expected an object with the text `answer`, got"),
        ({"bon_best": None}, "`bon_best`: expected an object with the text `answer`, got None"),
        ({"category_path": "Chat"}, "`category_path`: expected BoN_set/, Helpfulness or Harmlessness, and a scenario"),
        ({"category_path": "Pairwise_set/Helpfulness/Chat"}, "`category_path`: expected BoN_set/, "),
        ({"conversation_input": 3}, "`conversation_input`: expected a text or a list of messages, got 3"),
    ],
)
def test_a_broken_row_is_one_line(change: dict[str, Any], message: str) -> None:
    broken = {"conversation_input": asked(1), "bon_best": answer(3), "loser_list": [answer(2)], "bon_uid": "1"}
    broken |= {"category_path": "BoN_set/Helpfulness/Chat"} | change
    with pytest.raises(DataError, match=r"x\.json, row 7(: |, )" + message) as error:
        list(TASK.read([Row(broken, "x.json", 7)]))
    assert len(str(error.value).splitlines()) == 1


def test_a_score_may_stand_in_a_list_and_beside_the_texts(tmp_path: Path) -> None:
    """Models of RMB's code whose rewards have two dimensions write lists of one."""
    rows = [{"pair_uid": str(n), "category_path": "Pairwise_set/Helpfulness/Chat", "chosen_reward": [n / 4],
             "reject_reward": [0.5]} for n in range(6)]  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps(rows))
    assert figures(TASK, tmp_path / "result.json")["pairwise_helpfulness"] == 3 / 6
    texts = {"conversation_input": asked(1), "chosen": answer(3), "reject": answer(2)}
    (example,) = TASK.read([Row(rows[0] | texts, "x.json", 1)])
    assert [candidate.text for candidate in example.candidates] == ["aaa", "aa"]


def test_a_row_of_a_score_file_says_which_reward_it_lacks() -> None:
    scored = {"pair_uid": "7", "category_path": "Pairwise_set/Helpfulness/Chat", "chosen_reward": 0.3}
    for read in (TASK.read, read_entries):
        with pytest.raises(DataError, match=r"x\.json, row 7: no `reject(ed)?_reward`; found `pair_uid`, "):
            list(read([Row(scored, "x.json", 7)]))


def test_a_file_of_another_benchmark_is_refused_in_one_line(rmbench_data: Path) -> None:
    with pytest.raises(DataError, match="no `conversation_input`; found `id`, .*; an RMB row has"):
        TASK.load(rmbench_data / "rm_bench")


def test_rm_r1_has_its_published_figures(rmbench_data: Path) -> None:
    """From as many examples as it won of each goal and kind."""
    file = rmbench_data / "rm_r1_results" / "RM-R1-Qwen2.5-Instruct-32B" / "RMB" / "META_RESULT.json"
    published = json.loads(file.read_text())
    counts = {"BoN Helpfulness": (1372, 2109), "BoN Harmlessness": (1111, 1677),
              "Pairwise Helpfulness": (8071, 10067), "Pairwise Harmlessness": (5692, 7064)}  # fmt: skip
    won, lost = View(np.array([1.0, 0.0]), None, ["ok", "ok"]), View(np.array([0.0, 1.0]), None, ["ok", "ok"])
    labels, outcomes = np.array([1.0, 0.0]), []
    for name, (wins, all_of_them) in counts.items():
        assert wins / all_of_them == published[name]
        kind, goal = name.lower().split()
        facets = {"kind": {"bon": "best_of_n", "pairwise": kind}[kind], "goal": goal}
        outcomes += [
            Outcome(f"{name} {n}", facets, f"{name} {n}", labels, {"default": won if n < wins else lost})
            for n in range(all_of_them)
        ]
    found = {one.name: one for one in (make(outcomes, "default", None) for make in MAKES)}
    due = {"overall": 0.7301, "pairwise_helpfulness": 0.8017, "pairwise_harmlessness": 0.8058}
    due |= {"best_of_n_helpfulness": 0.6505, "best_of_n_harmlessness": 0.6625}
    for name, figure in due.items():
        assert found[name].value is not None
        assert round(float(found[name].value(np.nansum(found[name].columns, axis=0))), 4) == figure


def test_armorm_by_its_own_verdicts(rmbench_data: Path) -> None:
    file = rmbench_data / "rmb" / "ArmoRM-Llama3-8B-v0.1_result.json"
    rows = json.loads(file.read_text())
    assert figures(TASK, file)["pairwise_helpfulness"] == sum(one["is_correct"] for one in rows) / len(rows)
    assert len(rows) == 849
    rewards = {one["pair_uid"]: (one["chosen_reward"], one["reject_reward"]) for one in rows}
    assert [one["is_correct"] for one in rows] == [int(a > b) for a, b in rewards.values()]


def test_the_real_files(rmbench_data: Path) -> None:
    for reads in read_card("rmb").front["rmbench"]["reads"]:
        data = TASK.load(rmbench_data / reads["data"])
        assert (len(data.examples), data.excluded) == (reads["examples"], {})
        assert sum(len(example.candidates) for example in data.examples) == reads["candidates"]
        assert Counter(example.facets["goal"] for example in data.examples) == reads["goal"]
        assert len({example.cluster for example in data.examples}) == reads["clusters"]
