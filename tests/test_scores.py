"""Score files: each documented format answers what it recorded, by example and candidate, and nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.data.files import Row
from rmbench.data.scorefile import read_entries
from rmbench.errors import DataError, UsageError
from rmbench.models.base import ScoreFile
from rmbench.models.scores import Scores
from rmbench.models.spec import load_model
from rmbench.results import judged
from rmbench.types import Ask, Place, Question, Request, Response

PROBLEM = "a54f3d"  # stands for the text of a problem
PROBLEM_ID = "a909ba80a19e"


def score_file(folder: Path, *rows: dict[str, Any], **options: Any) -> Scores:
    path = folder / "judge.v2.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    model = load_model(f"scores:{path}", **options)
    assert isinstance(model, Scores)
    return model


def ask_steps(example: str, candidate: int, n_steps: int) -> Question:
    shown = (Response("text", ("step",) * n_steps),)
    return Question(Request("steps", (), shown), Place("data", example, (candidate,)))


def ask(kind: Ask, example: str, *candidates: int) -> Question:
    return Question(Request(kind, (), (Response(None),) * len(candidates)), Place("data", example, candidates))


def test_direct_scores_of_an_official_file(tmp_path: Path) -> None:
    model = score_file(tmp_path, {"problem": PROBLEM, "solution_reference": ["human", "m"], "score": [3, -1.5]})
    assert isinstance(model, ScoreFile)
    assert model.answers == {"reward"}
    assert [r.values for r in model.lookup([ask("reward", PROBLEM_ID, 1), ask("reward", PROBLEM_ID, 0)])] == [
        (-1.5,),
        (3.0,),
    ]


def test_a_problem_that_comes_again_is_an_example_of_its_own(tmp_path: Path) -> None:
    model = score_file(tmp_path, {"problem": PROBLEM, "score": [1, 2]}, {"problem": PROBLEM, "score": [3, 4]})
    first, second = model.lookup([ask("reward", PROBLEM_ID, 1), ask("reward", f"{PROBLEM_ID}#2", 1)])
    assert (first.value, second.value) == (2, 4)


def test_step_rewards_of_an_official_file(tmp_path: Path) -> None:
    model = score_file(tmp_path, {"problem": PROBLEM, "score": [[0.9, 0.5], []]})
    assert model.answers == {"steps"}
    right, wrong = model.lookup([ask("steps", PROBLEM_ID, 0), ask("steps", PROBLEM_ID, 1)])
    assert (right.steps, right.status) == ((0.9, 0.5), "ok")
    assert math.isnan(right.value), "nobody says what one number they make"
    assert (wrong.steps, wrong.status) == ((), "missing")


def test_a_verdict_is_about_the_order_shown(tmp_path: Path) -> None:
    official = {"problem": PROBLEM, "score": ["A", "A", None], "chosen_position": ["A", "B", "A"]}
    model = score_file(tmp_path, official)
    assert model.answers == {"compare"}
    asked = [ask("compare", PROBLEM_ID, *pair) for pair in ((0, 1), (2, 0), (0, 3), (1, 0))]
    won, lost, unread, other_order = model.lookup(asked)
    assert won.values == (1, 0)  # the chosen one stood first and won
    assert lost.values == (1, 0)  # the rejected one stood first and won
    assert (unread.status, other_order.status) == ("refused", "missing")
    assert all(math.isnan(value) for value in (*unread.values, *other_order.values))


def test_a_verdict_recorded_in_one_order_answers_the_other_unless_both_are_asked(tmp_path: Path) -> None:
    model = score_file(tmp_path, {"example_id": "x", "first": 0, "second": 1, "win_first": 1})
    (turned,) = model.lookup([ask("compare", "x", 1, 0)])
    assert turned.values == (0, 1)
    both = model.lookup([ask("compare", "x", 1, 0), ask("compare", "x", 0, 1)])
    assert [reward.status for reward in both] == ["missing", "ok"]


def test_one_row_a_candidate(tmp_path: Path) -> None:
    model = score_file(
        tmp_path,
        {"example_id": "x", "candidate": 0, "reward": 0.5, "heads": {"help": 1, "safe": 2.5}, "n_tokens": 7},
        {"example_id": "x", "candidate": 1, "reward": None},
        {"example_id": "x", "candidate": 2, "reward": None, "status": "refused"},
    )
    good, missing, refused, unknown = model.lookup([ask("reward", "x", index) for index in range(4)])
    assert (good.values, good.heads, good.n_tokens) == ((0.5,), {"help": (1.0,), "safe": (2.5,)}, 7)
    assert [r.status for r in (missing, refused, unknown)] == ["missing", "refused", "missing"]
    assert unknown.detail == "judge.v2.jsonl does not score example x, candidate 3"
    other = replace(unknown, detail="judge.v2.jsonl does not score example a hash, candidate 0")
    assert judged.reason_of(other) == judged.reason_of(unknown), "a file of one subset is one line, not one an example"


def test_step_rewards_one_row_a_candidate(tmp_path: Path) -> None:
    model = score_file(
        tmp_path,
        {"example_id": "x", "candidate": 0, "steps": [0.5, 0.25]},
        {"example_id": "x", "candidate": 1, "steps": None, "status": "error"},
    )
    assert model.answers == {"steps"}
    assert [(r.steps, r.status) for r in model.lookup([ask("steps", "x", 0), ask("steps", "x", 1)])] == [
        ((0.5, 0.25), "ok"),
        ((), "error"),
    ]


def test_a_step_may_be_rated_in_several_ways(tmp_path: Path) -> None:
    row = {"example_id": "x", "candidate": 0, "steps": [0.9, 0.1], "step_heads": {"verdict": [1, 0]}}
    (reward,) = score_file(tmp_path, row).lookup([ask_steps("x", 0, 2)])
    assert (reward.steps, reward.step_heads) == ((0.9, 0.1), {"verdict": (1.0, 0.0)})


def test_one_row_a_comparison(tmp_path: Path) -> None:
    model = score_file(
        tmp_path,
        {"example_id": 7, "first": 1, "second": 0, "win_first": 0.75},
        {"example_id": 7, "first": 0, "second": 1, "win_first": None},
    )
    asked, unread = model.lookup([ask("compare", "7", 1, 0), ask("compare", "7", 0, 1)])
    assert (asked.values, unread.status) == ((0.75, 0.25), "refused")


def test_result_records_can_be_looked_up_again(tmp_path: Path) -> None:
    heads = pa.array([[("help", 1.0)], []], pa.map_(pa.string(), pa.float64()))
    table = {
        "example_id": ["x", "x"],
        "candidate": [0, 1],
        "reward": [0.5, math.nan],
        "heads": heads,
        "status": ["ok", "nan"],
    }
    pq.write_table(pa.table(table), tmp_path / "records.parquet")
    model = load_model(f"scores:{tmp_path / 'records.parquet'}")
    good, bad = model.lookup([ask("reward", "x", 0), ask("reward", "x", 1)])
    assert (good.values, good.heads) == ((0.5,), {"help": (1.0,)})
    assert (bad.status, math.isnan(bad.value)) == ("nan", True)


def test_the_same_file_has_the_same_identity_under_any_path(tmp_path: Path) -> None:
    row = {"example_id": "x", "candidate": 0, "reward": 1}
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    one, two = (score_file(folder, row) for folder in folders)
    other = score_file(tmp_path, {**row, "reward": 2})
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert (one.subject.id, one.subject.family, one.subject.revision) == ("scores/judge.v2", "scores", None)


@given(rewards=st.lists(st.floats(), min_size=1))
def test_every_number_comes_back_as_it_is(rewards: list[float]) -> None:
    rows = [
        Row({"example_id": "x", "candidate": index, "reward": reward}, "x", index)
        for index, reward in enumerate(rewards)
    ]
    model = Scores(list(read_entries(rows)), name="x", sha256="")
    answers = model.lookup([ask("reward", "x", index) for index in range(len(rewards))])
    assert all(a.value == r or (math.isnan(a.value) and math.isnan(r)) for a, r in zip(answers, rewards, strict=True))


REWARD = {"example_id": "x", "candidate": 0, "reward": 1}
PAIR = {"example_id": "x", "first": 0, "second": 1, "win_first": 1}
OFFICIAL = {"problem": PROBLEM, "score": [1, 2]}
VERDICTS = {"problem": PROBLEM, "score": ["A"], "chosen_position": ["A"]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "reward": 2}], r"row 1: no `example_id`; found `id`, `reward`; a score file has `example_id`"),
        ([{"example_id": "x", "candidate": 0}], r"row 1: no `reward`; found `example_id`, `candidate`; a score"),
        ([REWARD | {"candidate": "0"}], r"row 1, `candidate`: expected a whole number from 0, got '0'"),
        ([REWARD | {"example_id": None}], r"row 1, `example_id`: no example is named"),
        ([REWARD | {"n_tokens": 1.5}], r"row 1, `n_tokens`: expected a whole number from 0, got 1.5"),
        ([REWARD | {"n_tokens": 2**31}], r"row 1, `n_tokens`: expected a whole number up to 2,147,483,647"),
        ([REWARD | {"truncated": 10**30}], r"row 1, `truncated`: expected a whole number up to 2,147,483,647"),
        ([REWARD | {"candidate": 2**63}], r"row 1, `candidate`: expected a whole number up to 2,147,483,647"),
        ([REWARD | {"reward": "1"}], r"row 1, `reward`: expected a number, got '1'"),
        ([REWARD | {"reward": True}], r"row 1, `reward`: expected a number, got True"),
        ([REWARD | {"reward": 10**400}], r"row 1, `reward`: 1000.* is beyond the largest float"),
        ([REWARD | {"steps": 3}], r"row 1, `steps`: expected a list of step rewards, got 3"),
        ([REWARD | {"steps": [None, "a"]}], r"row 1, `steps`: expected a number, got 'a'"),
        ([REWARD | {"status": "fine"}], r"row 1, `status`: expected one of ok, nan"),
        ([REWARD | {"heads": 3}], r"row 1, `heads`: expected a mapping of names to numbers, got 3"),
        ([REWARD, REWARD], r"row 2: scores example x, candidate 0 as row 1 does"),
        ([REWARD, PAIR], r"row 2: holds compare answers, row 1 reward ones; one kind a file"),
        ([PAIR | {"second": 0}], r"row 1, `second`: expected another candidate than `first`, got 0 twice"),
        ([PAIR | {"win_first": 2}], r"row 1, `win_first`: expected a share of a win, from 0 to 1, got 2.0"),
        ([OFFICIAL | {"problem": 3}], r"row 1, `problem`: expected a text, got 3"),
        ([OFFICIAL | {"score": []}], r"row 1, `score`: expected a list of scores, got \[\]"),
        ([OFFICIAL | {"score": [1, "x"]}], r"row 1, `score`: expected a number, got 'x'"),
        ([OFFICIAL | {"score": [[1], 2]}], r"row 1, `score`: expected a list of step rewards, got 2"),
        (
            [OFFICIAL | {"score": ["A"]}],
            r"row 1, `score`: expected a number, got 'A'; verdicts go with `chosen_position`",
        ),
        ([OFFICIAL | {"solution_reference": ["a"]}], r"row 1, `solution_reference`: .*as long as `score`, 2"),
        ([VERDICTS | {"chosen_position": ["C"]}], r"row 1, `chosen_position`: expected 'A' \(shown first\) or"),
        ([VERDICTS | {"score": ["C"]}], r"row 1, `score`: expected a verdict, 'A', 'B' or null, got 'C'"),
    ],
)
def test_what_is_no_score_says_where_and_why(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=r"judge\.v2\.jsonl, " + message):
        score_file(tmp_path, *rows)


def test_scores_of_other_data_are_refused(tmp_path: Path) -> None:
    model = score_file(tmp_path, {"example_id": "x", "candidate": 0, "reward": 1})
    with pytest.raises(
        DataError, match=r"judge\.v2\.jsonl: scores none of the data's examples; it has 'x', the data 'y'"
    ):
        model.lookup([ask("reward", "y", 0)])


def test_a_row_with_another_number_of_candidates_is_refused(tmp_path: Path) -> None:
    direct = score_file(tmp_path, {"problem": PROBLEM, "score": [1, 2]})
    with pytest.raises(DataError, match=rf"row 1, `score`: scores for 2 candidates; example {PROBLEM_ID} has 3"):
        direct.lookup([ask("reward", PROBLEM_ID, index) for index in range(3)])
    pairwise = score_file(tmp_path, {"problem": PROBLEM, "score": ["A"], "chosen_position": ["A"]})
    with pytest.raises(DataError, match="scores for 2 candidates; example .* has 3"):
        pairwise.lookup([ask("compare", PROBLEM_ID, 0, 1), ask("compare", PROBLEM_ID, 2, 0)])


def test_a_candidate_that_the_data_do_not_have_is_refused(tmp_path: Path) -> None:
    rewards = [{"example_id": "x", "candidate": index, "reward": index} for index in (2, 1, 0)]
    model = score_file(tmp_path, *rewards)
    assert [r.value for r in model.lookup([ask("reward", "x", index) for index in range(3)])] == [0, 1, 2]
    with pytest.raises(DataError, match=r"v2\.jsonl, row 1, `candidate`: 2; example x has 2 candidates, 0 to 1$"):
        model.lookup([ask("reward", "x", index) for index in range(2)])


def test_another_number_of_steps_than_the_data_have_is_refused(tmp_path: Path) -> None:
    official = score_file(tmp_path, {"problem": PROBLEM, "score": [[0.9, 0.5], [0.1]]})
    assert official.lookup([ask_steps(PROBLEM_ID, 0, 2), ask_steps(PROBLEM_ID, 1, 1)])[0].steps == (0.9, 0.5)
    place = rf"row 1, `score`: 2 step rewards; candidate 0 of example {PROBLEM_ID} has 3 steps$"
    with pytest.raises(DataError, match=place):
        official.lookup([ask_steps(PROBLEM_ID, 0, 3), ask_steps(PROBLEM_ID, 1, 1)])
    own = score_file(
        tmp_path,
        {"example_id": "x", "candidate": 0, "steps": [0.5, 0.25]},
        {"example_id": "x", "candidate": 1, "steps": None, "status": "error"},
    )
    assert [r.status for r in own.lookup([ask_steps("x", 0, 2), ask_steps("x", 1, 3)])] == ["ok", "error"]
    with pytest.raises(DataError, match=r"row 1, `steps`: 2 step rewards; candidate 0 of example x has 1 step$"):
        own.lookup([ask_steps("x", 0, 1), ask_steps("x", 1, 3)])


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file or folder"):
        load_model("scores:nowhere.jsonl")


def test_an_aggregate_of_the_steps_is_the_reward_of_a_response(tmp_path: Path) -> None:
    row = {"example_id": "e", "candidate": 0, "steps": [0.5, 0.25, 1.0]}
    whole, smallest = (score_file(tmp_path, row, aggregate=name) for name in ("prod", "min"))
    assert [model.lookup([ask_steps("e", 0, 3)])[0].values for model in (whole, smallest)] == [(0.125,), (0.25,)]
    assert len({model.fingerprint for model in (whole, smallest, score_file(tmp_path, row))}) == 3
    with pytest.raises(DataError, match="aggregate=min of a file without step rewards"):
        score_file(tmp_path, {"example_id": "e", "candidate": 0, "reward": 1.0}, aggregate="min")
    with pytest.raises(UsageError, match="aggregate='median' of family 'scores': expected one of prod, geometric_mean"):
        score_file(tmp_path, row, aggregate="median")


def test_an_address_is_no_score_file() -> None:
    with pytest.raises(UsageError, match="scores:https://a.b/c.jsonl: expected a file of this machine; download it"):
        load_model("scores:https://a.b/c.jsonl")


def test_a_file_is_read_once_while_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_text(json.dumps({"example_id": "x", "candidate": 0, "steps": [0.5, 0.2]}) + "\n")
    first = load_model(f"scores:{path}?aggregate=min")
    assert load_model(f"scores:{path}?aggregate=min") is first
    assert load_model(f"scores:{path}?aggregate=max") is not first
    path.write_text(path.read_text().replace("0.2", "0.3"))
    assert load_model(f"scores:{path}?aggregate=min").fingerprint != first.fingerprint
