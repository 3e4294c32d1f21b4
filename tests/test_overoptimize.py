"""`rmbench overoptimize`: from results or samples to one pool, what is found of it, and one line for what cannot be."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_models import Scripted
from test_published_steps import PASSES, passes

import rmbench
from rmbench.cli import main
from rmbench.errors import DataError, ResultError, UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.metrics.selection import expected_choice
from rmbench.optimise import tables
from rmbench.optimise.columns import columns_of
from rmbench.optimise.compose import sizes_to
from rmbench.optimise.entrants import in_order
from rmbench.optimise.measured import read_measured
from rmbench.optimise.pool import read_pool
from rmbench.plugins import load_task
from rmbench.results import files
from rmbench.results.replay import outcomes_of
from rmbench.types import Candidate, Example, Message, Request, Reward

DRAWS = 200  # as many as tests of anything but intervals need
Rows = list[dict[str, Any]]


def samples(golds: Sequence[Sequence[Any]], **more: Any) -> Rows:
    """A row a sample; its text is its number, and the prompt that of its row of `golds`."""
    return [
        {"prompt": f"{p}", "response": f"{n}", "gold": gold, **more}
        for p, of_prompt in enumerate(golds)
        for n, gold in enumerate(of_prompt)
    ]


def table(rewards: Sequence[Sequence[float]]) -> Callable[[str, str], float]:
    """A model that gives a sample the reward at its place."""

    def reward(prompt: str, response: str) -> float:
        return rewards[int(prompt)][int(response)]

    return reward


def drawn(prompts: int, each: int, seed: int = 0) -> tuple[list[list[float]], list[list[float]]]:
    """Gold, right or wrong, and a reward that knows something of it."""
    rng = np.random.default_rng(seed)
    gold = (rng.random((prompts, each)) < 0.5).astype(float)
    return gold.tolist(), (gold + rng.normal(size=gold.shape)).tolist()


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: object) -> int:
    return main(["overoptimize", *map(str, arguments)])


# From records to flat arrays.


def heads(request: Request) -> Reward:
    length = float(len(request.responses[0].text or ""))
    return Reward((length,), heads={"default": (-length,), "other": (length**2,)}, spread=(length / 2,))


def steps(request: Request) -> Reward:
    text = request.responses[0].text or ""
    numbers = tuple(1 / (1 + len(step)) for step in request.responses[0].steps or ())
    if text == "none":
        return Reward((math.nan,), status="refused")
    return Reward((math.nan,), steps=numbers, step_heads={"odd": tuple(1 - number for number in numbers)})


@pytest.mark.parametrize(("answer", "asks"), [(heads, "reward"), (steps, "steps")])
def test_flat_columns_hold_what_outcomes_do(answer: Callable[[Request], Reward], asks: Any) -> None:
    texts = [["a", "bcd\n\nef", "ghij"], ["k\n\nl\n\nm", "none"], ["op", "q\n\nrstuv", "w", "xyz"]]
    rows = [
        {"prompt": f"{p}", "response": text, "gold": n % 2}
        for p, some in enumerate(texts)
        for n, text in enumerate(some)
    ]
    (result,) = rmbench.evaluate(Scripted(answer, (asks,)), ["samples"], data={"samples": rows})
    outcomes, columns = outcomes_of(result), columns_of(result)
    assert columns.examples == [outcome.example_id for outcome in outcomes]
    for view in result.views:
        scores = np.concatenate([outcome.views[view].scores for outcome in outcomes])
        np.testing.assert_array_equal(columns.view(view), scores)
    turned = columns.ordered(columns.examples[::-1])
    labels = np.concatenate([outcome.labels for outcome in outcomes[::-1]])
    np.testing.assert_array_equal(turned.number("label"), labels)


def test_what_the_data_know_of_samples_stands_in_the_pool(tmp_path: Path) -> None:
    rows = samples([[1, 0, 1], [0, 1, 1]], policy="p", problem_id="")
    for row, answer, text in zip(rows, ["7", "8", "7", "1", None, "2"], ["x", "x", "y", "a", "b", "c"], strict=True):
        row |= {"answer": answer, "logprob": -len(text), "response": text, "cluster": "both"}
    rmbench.evaluate("random", ["samples"], data={"samples": rows}, out=tmp_path)
    pool = read_pool([tmp_path])
    assert (pool.policy, pool.size, pool.samples, pool.left_out) == ("p", 3, (3, 3), {})
    assert pool.pools.gold.tolist() == [1, 0, 1, 0, 1, 1]
    assert pool.pools.answers.tolist() == [0, 1, 0, 0, -1, 1]
    assert [len(set(texts.tolist())) for texts in np.split(pool.pools.texts, 2)] == [2, 3]
    assert pool.pools.likelihood.tolist() == [-1] * 6


# Which prompts count.


def test_a_prompt_without_a_reward_or_gold_is_left_out_for_all_and_counted() -> None:
    gold: list[list[Any]] = [[1, 0], [0, 1], [1, 0], [0, None]]
    report = rmbench.overoptimize(
        models={"a": table([[1, 0], [math.nan, 0], [1, 2], [1, 2]]), "b": table([[0, 1]] * 4)},
        samples=samples(gold),
        draws=DRAWS,
    )
    assert report.prompts == 2
    assert report.left_out == {"no gold": 1, "no reward by a": 1}
    assert [entrant.gold_at_end.value for entrant in report.entrants] == [0.5, 0.0]


def test_infinite_rewards_order_and_have_no_mean() -> None:
    gold, rewards = drawn(20, 6)
    at_the_top = [[math.inf if reward == max(some) else reward for reward in some] for some in rewards]
    finite, infinite = (
        rmbench.overoptimize(models={"m": table(of)}, samples=samples(gold), draws=DRAWS)
        for of in (rewards, at_the_top)
    )
    assert infinite.entrants[0].gold == finite.entrants[0].gold
    assert np.isnan(infinite.entrants[0].proxy.value).all()
    assert [note.partition(",")[0] for note in infinite.notes] == ["m: 20 infinite rewards"]
    assert in_order(np.array([-np.inf, 3.0, 4.0, np.inf])).tolist() == [2, 3, 4, 5]


def test_curves_go_to_the_fewest_samples_or_to_the_n_that_is_asked_for() -> None:
    gold, rewards = [[1, 0], [0, 1, 0], [1, 0, 0]], [[1, 0], [0, 1, 2], [1, 2, 0]]
    short = rmbench.overoptimize(models={"m": table(rewards)}, samples=samples(gold), draws=DRAWS)
    assert (short.sizes, short.samples, short.prompts) == ((1, 2), (2, 3), 3)
    assert short.notes[0].startswith(
        "prompts have 2 to 3 samples, and curves go to n = 2, which 1 of 3 have; --up-to N"
    )
    long = rmbench.overoptimize(models={"m": table(rewards)}, samples=samples(gold), up_to=3, draws=DRAWS)
    assert (long.sizes, long.prompts, long.left_out) == ((1, 2, 3), 2, {"fewer than 3 samples": 1})
    assert sizes_to(5) == (1, 2, 3, 4, 5)
    assert sizes_to(64)[31:] == (32, 35, 38, 41, 45, 49, 54, 59, 64)


def test_a_reward_that_tells_nothing_apart_is_left_out_beside_others() -> None:
    gold, rewards = drawn(8, 4)
    models = {"flat": table([[float(p)] * 4 for p in range(8)]), "m": table(rewards)}
    report = rmbench.overoptimize(models=models, samples=samples(gold), draws=DRAWS)
    assert [entrant.name for entrant in report.entrants] == ["m"]
    assert report.notes[0].startswith("flat gives all samples of every prompt the same reward")


# What is worth what.


def test_gold_may_be_a_column_a_model_a_result_or_a_file_of_rewards(tmp_path: Path) -> None:
    gold, rewards = drawn(10, 4)
    rows = [{**row, "gold": None, "worth": row["gold"]} for row in samples(gold)]
    models = {"m": table(rewards)}
    by_column = rmbench.overoptimize(models=models, samples=rows, gold="worth", draws=DRAWS)
    by_model = rmbench.overoptimize(models=models, samples=rows, gold=table(gold), draws=DRAWS)
    asked: dict[str, Any] = {"data": {"samples": rows}, "out": tmp_path}
    (truth,) = rmbench.evaluate(table(gold), ["samples"], name="judge", **asked)
    (result,) = rmbench.evaluate(table(rewards), ["samples"], name="m", **asked)
    by_result = rmbench.overoptimize(result, gold=truth, draws=DRAWS)
    in_folder = rmbench.overoptimize(tmp_path, gold=tmp_path / files.result_path(truth), draws=DRAWS)
    places = truth.records.select(["example_id", "candidate", "reward"]).to_pylist()
    by_file = rmbench.overoptimize(result, gold=write(tmp_path / "gold.jsonl", places), draws=DRAWS)
    reports = [by_column, by_model, by_result, in_folder, by_file]
    assert [report.gold for report in reports] == [
        "the column worth",
        "the reward of python/table.locals.reward",
        "the reward of judge",
        "the reward of judge",
        "the rewards of gold.jsonl",
    ]
    assert {tuple(report.entrants[0].gold.value) for report in reports} == {tuple(by_column.entrants[0].gold.value)}
    expected = [expected_choice(np.array(r), np.array(g), (1, 2, 3, 4)) for r, g in zip(rewards, gold, strict=True)]
    np.testing.assert_allclose(by_column.entrants[0].gold.value, np.mean(expected, axis=0))


def test_gold_of_results_may_be_a_tag_of_the_samples(tmp_path: Path) -> None:
    rows = [{**row, "logprob": -row["gold"]} for row in samples([[1, 0, 1], [0, 0, 1]])]
    rmbench.evaluate("random", ["samples"], data={"samples": rows}, out=tmp_path)
    assert rmbench.overoptimize(tmp_path, gold="logprob", draws=DRAWS).oracle.value[-1] == 0
    with pytest.raises(UsageError, match="gold 'worth' is no tag of the samples that is a number; there is logprob"):
        rmbench.overoptimize(tmp_path, gold="worth")


# What is written.


def test_results_of_a_run_can_be_read_again_and_tables_hold_the_report(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "s.jsonl", samples(drawn(12, 6)[0]))
    given = ["-m", "length", "-m", "random", "--draws", DRAWS, "--json"]
    assert run(path, *given, "--out", tmp_path / "out") == 0
    first = json.loads(capsys.readouterr().out)
    assert run(tmp_path / "out", "--draws", DRAWS, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    by_name = [sorted(report.pop("entrants"), key=lambda one: one["name"]) for report in (first, again)]
    assert by_name[0] == by_name[1]
    assert [entrant["name"] for entrant in by_name[0]] == ["rmbench/random"]
    written = tmp_path / "out" / "overoptimize-figures"
    rows = list(csv.DictReader(written.with_suffix(".csv").read_text().splitlines()))
    assert [row["what"] for row in rows] == pq.read_table(written.with_suffix(".parquet"))["what"].to_pylist()
    curve = [float(row["value"]) for row in rows if (row["reward"], row["what"]) == ("rmbench/random", "gold")]
    assert curve == by_name[0][0]["gold"]["value"]
    assert json.loads((tmp_path / "out" / "overoptimize.json").read_text())["oracle"] == first["oracle"]


def test_a_difference_stands_in_the_table_with_its_p_and_what_holm_makes_of_it() -> None:
    gold, rewards = drawn(30, 6)
    report = rmbench.overoptimize(models={"m": table(rewards), "g": table(gold)}, samples=samples(gold), draws=DRAWS)
    contrast = next(one for one in report.contrasts if one.figure == "gold_at_end")
    (row,) = [row for row in tables.rows(report) if (row["reward"], row["what"]) == ("m - g", "gold_at_end")]
    assert (row["value"], row["p"], row["p_holm"]) == (contrast.difference.value, contrast.p, contrast.p_holm)
    assert row["p"] < row["p_holm"] < 1


def test_a_part_of_the_samples_is_asked_about_from_python_too() -> None:
    gold, rewards = drawn(12, 6)
    rows = [{**row, "subset": "ab"[int(row["prompt"]) % 2]} for row in samples(gold)]
    given: dict[str, Any] = {"models": {"m": table(rewards)}, "samples": rows, "draws": DRAWS}
    assert rmbench.overoptimize(**given, limit=5, fresh=True).prompts == 5
    assert rmbench.overoptimize(**given, subset={"subset": "a"}).prompts == 6
    with pytest.raises(UsageError, match="limit is for models that are asked about samples"):
        rmbench.overoptimize("results", limit=5)


def test_views_of_a_result_stand_beside_each_other_paired(tmp_path: Path) -> None:
    gold, rewards = drawn(30, 6)
    scores = [
        {"example_id": f"{p}", "candidate": n, "steps": [1.0, 1 / (1 + math.exp(-reward))]}
        for p, some in enumerate(rewards)
        for n, reward in enumerate(some)
    ]
    rows = [
        {"problem_id": row["prompt"], "candidate_index": int(row["response"]), "gold": row["gold"]}
        for row in samples(gold)
    ]
    spec = f"scores:{write(tmp_path / 'scores.jsonl', scores)}"
    report = rmbench.overoptimize(models={"m": spec}, samples=rows, views=["prod", "max", "mean"], draws=DRAWS)
    assert [entrant.title for entrant in report.entrants] == ["m (prod)", "m (mean)"]
    same = [one for one in report.contrasts if one.figure == "gold_at_end"]
    assert [(one.first, one.second, one.difference.value) for one in same] == [("m (prod)", "m (mean)", 0.0)]


# Bad input, one line each.

GOLD, REWARDS = drawn(3, 4, seed=5)
BAD: dict[str, tuple[Rows, list[str], str]] = {
    "too few samples": (samples(GOLD), ["-m", "random", "--up-to", "64"],
        "too few samples: no prompt counts (fewer than 64 samples: 3); the most of a prompt are 4"),
    "one sample a prompt": (samples([[1], [0]]), ["-m", "random"], "no usable example (fewer than two responses: 2)"),
    "no gold": ([{"prompt": "?", "response": f"{n}"} for n in range(3)], ["-m", "random"],
        "no gold: no sample has a label; --gold names a column or tag, a model, a result of the same samples"),
    "gold column that is not there": (samples(GOLD), ["-m", "random", "--columns", "gold=worth"],
        "no column 'worth' to be the gold; found `prompt`, `response`, `gold`"),
    "gold of no choice": (samples([[1, 1], [0, 0]]), ["-m", "random"],
        "all samples of every prompt are worth the same by the labels of the data; there is no choice"),
    "several policies": ([*samples([[1, 0]] * 2, policy="a"), *samples([[1, 0]], policy="b")[:1]], ["-m", "random"],
        "best-of-n is of one policy (tag `policy`), and these samples are by a 4, b 1; give the samples of one of "),
    "constant rewards": (samples(GOLD), ["-m", "length"],
        "rmbench/length gives all samples of every prompt the same reward, so that nothing is chosen by it"),
    "missing columns": ([{"text": "a", "gold": 1}], ["-m", "random"],
        "no `prompt`; found `text`, `gold`; a row of samples"),
    "good that all are": (samples(GOLD), ["-m", "random", "--good", "-1"],
        "good=-1: every sample is good then; they are worth 0 to 1"),
    "label noise": (samples(GOLD), ["-m", "random", "--label-noise", "2"],
        "label_noise=2: expected a chance from 0 to 1"),
    "a view that is not there": (samples(GOLD), ["-m", "random", "--view", "prod"],
        "unknown view 'prod'; there is default"),
    "no model": (samples(GOLD), [], "s.jsonl is no result; -m MODEL asks a model about the samples in it"),
    "a gold that is no model": (samples(GOLD), ["-m", "random", "--gold", "worth"],
        "gold 'worth': no column of the samples (prompt, response, gold), and unknown model 'worth'; a model is"),
    "members that answer other things": (samples(GOLD), ["-m", "ensemble:random,scores:other.jsonl?how=mean"],
        "other.jsonl: scores none of the data's examples; it has 'elsewhere', the data "),
    "a member that only compares": (samples(GOLD), ["-m", "ensemble:random,scores:compared.jsonl?how=mean"],
        "expected a member that gives each response a reward"),
    "a gate without a threshold": (samples(GOLD), ["-m", "ensemble:random,length?how=gated"],
        "gated: no thresholds; expected 1 number, one for each member but the last"),
    "an option of samples": ([], ["--limit", "3"], "--limit is for models that are asked about samples (-m)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    rows, arguments, line = BAD[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "other.jsonl", [{"example_id": "elsewhere", "candidate": 0, "reward": 1.0}])
    write(tmp_path / "compared.jsonl", [{"example_id": "a", "first": 0, "second": 1, "win_first": 1.0}])
    path = write(tmp_path / "s.jsonl", rows) if rows else tmp_path
    assert run(path, *arguments, "--draws", DRAWS) in (1, 2)
    told = capsys.readouterr().err
    assert line in told
    assert sum("error" in one for one in told.splitlines()) == 1
    assert "unexpected" not in told


def test_rewards_that_are_no_numbers_are_one_line() -> None:
    nothing = table([[math.nan] * 4] * 3)
    with pytest.raises(ResultError, match=r"samples of rows: no prompt counts \(no reward by m: 3\)"):
        rmbench.overoptimize(models={"m": nothing}, samples=samples(GOLD))


def test_results_that_are_not_of_the_same_samples_are_one_line(tmp_path: Path) -> None:
    one, other = (
        rmbench.evaluate("random", ["samples"], data={"samples": samples(gold)}, name=name)[0]
        for gold, name in ((GOLD, "a"), (GOLD[::-1], "b"))
    )
    with pytest.raises(ResultError, match="have different examples: "):
        rmbench.overoptimize(one, other)
    with pytest.raises(ResultError, match="the same result twice: a/"):
        rmbench.overoptimize(one, one)
    (another,) = rmbench.evaluate("random", ["best_of_n"], limit=5)
    with pytest.raises(
        ResultError, match="are of different tasks: samples and best_of_n; expected results of one task"
    ):
        rmbench.overoptimize(one, another)
    with pytest.raises(UsageError, match="got nothing; expected results, or models"):
        rmbench.overoptimize()
    with pytest.raises(UsageError, match="got results and models; expected"):
        rmbench.overoptimize(one, models=["length"])


def test_a_model_that_only_compares_is_one_line(tmp_path: Path) -> None:
    def first(request: Request) -> Reward:
        return Reward((1.0, 0.0))

    with pytest.raises(rmbench.ModelError, match="samples: the model answers compare; this task asks reward or steps"):
        rmbench.overoptimize(models=[Scripted(first, ("compare",))], samples=samples(GOLD))
    (compared,) = rmbench.evaluate(Scripted(first, ("compare",)), ["best_of_n"], limit=5)
    with pytest.raises(ResultError, match="tests/scripted only compared pairs; what optimising does needs a reward of"):
        rmbench.overoptimize(compared)


def test_labels_that_are_classes_are_one_line() -> None:
    def read(rows: Any) -> Any:
        for at, _ in enumerate(rows):
            yield Example(f"{at}", (Message("user", "?"),), tuple(Candidate(word, word) for word in ("good", "bad")))

    task = Comparison(name="worded", version=1, summary="", card="", read=read, measure=load_task("samples").measure)
    (result,) = rmbench.evaluate("random", [task], data={"worded": [{"a": 1}] * 3})
    with pytest.raises(ResultError, match="labels that are classes, which are worth no number; --gold names"):
        rmbench.overoptimize(result)


# Policies that were measured.


def test_measured_policies_are_read_and_stand_in_the_report(tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    path.write_text("reward,method,kl,gold,low,high,source\nm,PPO,12.5,.6,.55,.65,a paper\nm,DPO,3,.5,,,\n")
    report = rmbench.overoptimize(models=["random"], samples=samples(GOLD), measured=path, draws=DRAWS)
    assert [(one.method, one.kl, one.gold.value, one.source) for one in report.measured] == [
        ("PPO", 12.5, 0.6, "a paper"),
        ("DPO", 3.0, 0.5, ""),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reward,kl,gold\nm,1,1\n", "no column 'method'; expected reward, method, kl, gold, low, high, source, got"),
        ("reward,method,kl,gold\nm,PPO,far,1\n", "row 1, `kl`: expected a number, got 'far'"),
        ("reward,method,kl,gold\nm,PPO,nan,1\n", "row 1, `kl`: expected a number, got 'nan'"),
        ("reward,method,kl,gold\nm,PPO,-1,1\n", "row 1, `kl`: expected nats from 0, got -1"),
        ("reward,method,kl,gold\n,PPO,1,1\n", "row 1, `reward`: expected a name, got nothing"),
        ("reward,method,kl,gold,low,high\nm,PPO,1,1,2,3\n", "row 1, `low`: expected an interval around 1, got 2 to 3"),
        ("reward,method,kl,gold\n", "no rows in it"),
    ],
)
def test_a_table_of_policies_that_cannot_be_read_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_measured(path)


# A simulation of which the answer is known.


@pytest.mark.prove
def test_heavy_noise_is_said_to_turn_over_and_normal_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(500, 64))
    heavy, normal = gold + rng.standard_t(2, size=gold.shape), gold + rng.normal(size=gold.shape)
    models = {"heavy": table(heavy.tolist()), "normal": table(normal.tolist())}
    report = rmbench.overoptimize(models=models, samples=samples(gold.tolist()))
    turning, rising = report.entrants
    assert (turning.verdict, rising.verdict) == ("turns over", "still rises")
    assert turning.gold_at_best.value == pytest.approx(0.7, abs=0.1)
    assert 6 <= turning.best_n.value <= 24
    assert turning.gold_at_end.low < 0.5 < turning.gold_at_best.low
    assert turning.degree.low > 0
    assert rising.best_n.value == 64


# Pools by others.

needs_data = pytest.mark.skipif("RMBENCH_DATA" not in os.environ, reason="needs RMBENCH_DATA")
SCORES = {
    "shepherd": "math_shepherd_gsm8k.jsonl.gz?aggregate=min",
    "qwen": "qwen_prm_gsm8k.jsonl.gz?aggregate=prod",
    "rlhflow": "rlhflow_prm_gsm8k.jsonl.gz?aggregate=mean",
    "intern-7b": "internlm2_7b_reward_gsm8k.jsonl.gz?aggregate=last",
    "intern-1.8b": "internlm2_1_8b_reward_gsm8k.jsonl.gz?aggregate=last",
}
# the published passes take the first maximum, these the mean of equal ones
ENDS = {
    "shepherd": 0.849,
    "qwen": 0.896,
    "rlhflow": 0.857,
    "intern-7b": 0.884,
    "intern-1.8b": 0.844,
    "mean": 0.874,
    "min": 0.864,
    "uwo": 0.870,
    "and": 0.872,
}


def strict(*names: str) -> dict[str, str]:
    """The models of StrictPRMBench's step scores of GSM8K, by name."""
    folder = Path(os.environ["RMBENCH_DATA"], "strictprmbench", "step_scores")
    return {name: f"scores:{folder / SCORES[name]}" for name in names}


@needs_data
def test_aggregators_of_a_process_model_stand_side_by_side_paired(tmp_path: Path) -> None:
    models = strict("shepherd")
    path = Path(models["shepherd"].removeprefix("scores:").partition("?")[0])
    views = ["default", "prod", "geometric_mean"]
    report = rmbench.overoptimize(models=models, samples=path, views=views, out=tmp_path)
    assert (report.prompts, report.sizes, report.policy) == (500, tuple(range(1, 33)), "")
    (result,) = (files.read(one) for one in tmp_path.rglob("samples*.json"))
    for entrant in report.entrants:
        assert entrant.gold.value[0] == pytest.approx(result.metric("picked_chance").value)
        assert entrant.gold.value[-1] == pytest.approx(result.metric("picked", view=entrant.view).value)
        assert report.oracle.value[-1] == pytest.approx(result.metric("picked_oracle").value)
    (paired,) = (
        one.difference
        for one in report.contrasts
        if (one.first, one.second, one.figure) == ("shepherd (prod)", "shepherd (geometric_mean)", "gold_at_end")
    )
    _, product, mean = (entrant.gold_at_end.value for entrant in report.entrants)
    assert paired.value == pytest.approx(product - mean)
    assert paired.low < 0 < paired.high < 0.02


@needs_data
@pytest.mark.prove
def test_ensembles_of_five_process_models_stand_beside_their_members(tmp_path: Path, capsys: Any) -> None:
    models = strict(*SCORES)
    members = ",".join(f"{name}=({spec})" for name, spec in models.items())
    for how in ("mean", "min", "uwo", "and"):
        models[how] = f"ensemble:{members}?how={how}&scale=z"
    path = models["shepherd"].removeprefix("scores:").partition("?")[0]
    asked = [part for name, spec in models.items() for part in ("-m", f"{name}={spec}")]
    before = time.process_time()
    assert run(path, *asked, "--out", str(tmp_path), "--json") == 0
    assert time.process_time() - before < 60
    report = json.loads(capsys.readouterr().out)
    assert report["sizes"] == [*range(1, 33)]
    gold = {entrant["name"]: entrant["gold"]["value"] for entrant in report["entrants"]}
    assert [*gold] == [*SCORES, "mean", "min", "uwo", "and"]
    assert {len(curve) for curve in gold.values()} == {32}
    assert {name: round(curve[-1], 3) for name, curve in gold.items()} == ENDS
    for name, stem in SCORES.items():
        [result] = [files.read(file) for file in tmp_path.rglob("samples*.json") if f"/{name}/" in file.as_posix()]
        assert passes(result) == PASSES[stem.partition(".")[0]]
    of_ensembles = [one for one in report["contrasts"] if one["second"] in ("mean", "min", "uwo", "and")]
    of_members = [one for one in of_ensembles if one["first"] in SCORES]
    assert len(of_members) == 4 * 5 * 4
    for one in of_members:
        change = one["difference"]
        assert change["low"] is None or change["low"] <= change["value"] <= change["high"]
        if one["figure"] == "gold_at_end":
            assert change["value"] == pytest.approx(gold[one["first"]][-1] - gold[one["second"]][-1])
    later = [one for one in of_members if one["figure"] == "optimum"]
    assert all(
        one["p_holm"] is None or one["p_holm"] > 0.05 for one in later
    )  # 500 prompts do not say that it is later


# The tutorial.

TUTORIAL = "## Is my reward model hackable by best-of-n?"


def test_a_folder_with_a_checkpoint_is_a_gold_that_is_a_model() -> None:
    folder = Path(__file__).parents[1] / "demo"
    report = rmbench.overoptimize(models=["random"], samples=samples(GOLD), gold=str(folder), draws=DRAWS)
    assert report.gold == "the reward of local/demo"


def test_measured_policies_of_no_reward_are_named(tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    path.write_text("reward,method,kl,gold\nnew,PPO,1,0.5\nrmbench/random,PPO,1,0.5\n")
    report = rmbench.overoptimize(models=["random"], samples=samples(GOLD), measured=path, draws=DRAWS)
    assert report.notes == ["measured policies of new stand in no plot: no reward is called so"]


STANDING_IN = {"./new": "shortest", "./old": "random", "./judge": "length"}


def commands() -> list[list[str]]:
    """The arguments of each `rmbench overoptimize` of the tutorial."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    section = readme.partition(TUTORIAL)[2].partition("\n## ")[0]
    lines = [line.removeprefix("$ rmbench ") for line in section.splitlines() if line.startswith("$ rmbench overopt")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture
def tutorial(tmp_path: Path, monkeypatch: Any) -> Path:
    """A folder with what the tutorial's commands read, and its models stood in for."""
    gold, rewards = drawn(10, 18)
    rows = [{**row, "passes_tests": row["gold"], "response": row["response"] * 2} for row in samples(gold)]
    for row in rows:
        del row["gold"]
    write(tmp_path / "samples.jsonl", rows)
    steps = [
        {
            "problem_id": f"{p}",
            "candidate_index": n,
            "is_correct": bool(gold[p][n]),
            "step_scores": [0.5, 1 / (1 + reward**2)],
        }
        for p, some in enumerate(rewards)
        for n, reward in enumerate(some)
    ]
    write(tmp_path / "steps.jsonl", steps)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stood_in(arguments: Sequence[str]) -> list[str]:
    for model, other in STANDING_IN.items():
        arguments = [argument.replace(model, other) for argument in arguments]
    return [*arguments]


@pytest.mark.parametrize("place", range(1, 5))
def test_the_commands_of_the_tutorial_run(place: int, tutorial: Path, capsys: Any) -> None:
    every = commands()
    assert len(every) == 5
    if every[place][0] == "hackable":  # which a command before it writes
        assert run(*stood_in(every[1]), "--draws", DRAWS) == 0
    assert run(*stood_in(every[place]), "--draws", DRAWS) == 0
    assert "gold: " in capsys.readouterr().out
    assert (tutorial / "hackable" / "overoptimize.html").exists() == ("hackable" in every[place])


@pytest.mark.prove
def test_the_first_command_of_the_tutorial_shows_a_reward_that_is_hacked(tutorial: Path, capsys: Any) -> None:
    assert run(*commands()[0], "--json") == 0
    report = json.loads(capsys.readouterr().out)
    entrants = {one["name"]: one for one in report["entrants"]}
    length, shortest, both = (entrants[name] for name in ("rmbench/length", "rmbench/shortest", "both"))
    assert (length["verdict"], length["best_n"]["value"]) == ("turns over", 1)
    assert length["gold_at_end"]["high"] < report["random"]["low"]
    assert both["best_n"]["value"] > shortest["best_n"]["value"]
    ends = [100 * one["gold_at_end"]["value"] for one in (length, shortest, both)]
    told = (Path(__file__).parents[1] / "README.md").read_text()
    assert all(f"{end:.1f}" in told for end in ends)
