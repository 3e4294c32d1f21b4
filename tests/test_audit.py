"""What cannot be right: published rows held to their definitions, and examples of tasks held to one another."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given import example, given, pair
from scipy import special

from rmbench.audit import definitions, separation, table
from rmbench.audit.examples import TaskAudit, audit_across, audit_examples
from rmbench.audit.findings import Finding
from rmbench.audit.near import near_duplicates
from rmbench.audit.published import TableAudit, audit_table
from rmbench.cli import main
from rmbench.errors import DataError, UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.kinds.grading import Grading
from rmbench.kinds.steps import Steps
from rmbench.types import Candidate, Message, Response

DATA = Path(os.environ.get("RMBENCH_DATA", "/nowhere"))
MATRICES = DATA / "benchmark_matrices"
needs_tables = pytest.mark.skipif(not MATRICES.is_dir(), reason="needs RMBENCH_DATA")
RM_BENCH = "Model,Chat,Math,Code,Safety,Easy,Normal,Hard,Domain Avg,Difficulty Avg,Overall"
REWARDBENCH = "model,Score,Chat,Chat Hard,Safety,Reasoning,Prior Sets (0.5 weight)"


def written(folder: Path, *lines: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def audited(folder: Path, *lines: str, **options: Any) -> TableAudit:
    (audit,) = audit_table(written(folder, *lines), **options)
    return audit


def kinds(findings: Sequence[Finding]) -> dict[str, list[str]]:
    by_kind: dict[str, list[str]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding.where)
    return by_kind


# Published tables


@needs_tables
def test_the_rows_of_rm_bench_that_contradict_it() -> None:
    (audit,) = audit_table(MATRICES / "rm_bench_leaderboard.csv")
    with (MATRICES / "rm_bench_leaderboard.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    apart = [
        row["Model Name"]
        for row in rows
        if row["Domain Avg"] and row["Difficulty Avg"]
        and abs(float(row["Domain Avg"]) - float(row["Difficulty Avg"])) > 0.15
    ]  # fmt: skip
    assert len(rows) == audit.rows == 51
    assert len(apart) == 9
    told = {finding.where: finding for finding in audit.findings}
    assert set(told) == {*apart, "RM-R1-Qwen-Instruct-14B"}
    assert told["RM-R1-Qwen-Instruct-14B"].told.startswith("Domain Avg 76.3 and Overall 76.1 are 0.2 apart")
    assert told["DeepSeek R1"].kind == "incomplete"
    assert "Easy, Normal missing: Difficulty Avg 80.2 is the mean of the rest, 5.1 from" in told["DeepSeek R1"].told
    assert {finding.kind for name, finding in told.items() if name != "DeepSeek R1"} == {"contradicts"}
    assert list(audit.unstated) == ["J1-Llama-70B", "EvalPlanner-Llama-8B"]
    assert audit.contradicts


@needs_tables
def test_the_zeros_of_rewardbench_that_stand_for_missing() -> None:
    (audit,) = audit_table(MATRICES / "rewardbench_v1.csv")
    with (MATRICES / "rewardbench_v1.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    zeros = [row["model"] for row in rows if row["Prior Sets (0.5 weight)"] == "0.0"]
    lacking = [row["model"] for row in rows if not row["Reasoning"]]
    found = kinds(audit.findings)
    assert found.pop("zero") == zeros
    assert len(zeros) == 7
    assert found.pop("incomplete") == lacking
    assert set(found) == {"mixed"}


@needs_tables
@pytest.mark.parametrize(
    "file", ["rewardbench_v2.csv", "rm_matrix_7benchmarks.csv", "grm_ppe.csv", "grm_rewardbench.csv"]
)
def test_tables_that_hold(file: str) -> None:
    audits = audit_table(MATRICES / file)
    assert len(audits) == 1
    assert set(kinds(audits[0].findings)) <= {"incomplete"}
    assert audits[0].checked > 9


@needs_tables
def test_a_table_with_semicolons_is_the_same(tmp_path: Path) -> None:
    lines = "Model;Score;Chat;Chat Hard;Safety;Reasoning\na;70.9;60.0;70.0;80.0;70.0\n"
    for separator in ";,\t":
        (tmp_path / "table.csv").write_text(lines.replace(";", separator))
        (found,) = audit_table(tmp_path / "table.csv")
        assert [(one.kind, one.where) for one in found.findings] == [("contradicts", "a")]


def test_a_table_that_is_turned_round_with_groups_of_benchmarks() -> None:
    audits = audit_table(MATRICES / "qwen25_report_table15.csv")
    assert [(audit.part, audit.definition.name, audit.rows, audit.checked) for audit in audits] == [
        ("Reward Bench", "rewardbench_v1", 4, 4), ("RMB", "rmb", 4, 4), ("PPE", "ppe", 4, 4)
    ]  # fmt: skip
    assert [len(audit.findings) for audit in audits] == [2, 0, 0]


def test_every_part_moved_beyond_rounding_is_found_and_within_it_is_not(tmp_path: Path) -> None:
    """Against a plain loop over all that rounds to what is printed."""
    rng = np.random.default_rng(0)
    lines, expected = [], []
    for i in range(200):
        parts = rng.uniform(30, 99, 4).round(1)
        stated = round(float(parts.mean()) + rng.choice([0, 0, 0.1, -0.1, 0.2, 0.6]), 1)
        lines.append(f"m{i},{stated:.1f}," + ",".join(f"{part:.1f}" for part in parts) + ",")
        sides = [sum(Fraction(f"{part:.1f}") + Fraction(end, 20) for part in parts) / 4 for end in (-1, 1)]
        inside = sides[0] <= Fraction(f"{stated:.1f}") + Fraction(1, 20)
        if not (inside and Fraction(f"{stated:.1f}") - Fraction(1, 20) <= sides[1]):
            expected.append(f"m{i}")
    found = kinds(audited(tmp_path, REWARDBENCH, *lines).findings)
    assert found == {"contradicts": expected}
    assert 10 < len(expected) < 150


def test_decimals_of_a_row_and_its_column_say_what_rounding_explains(tmp_path: Path) -> None:
    rows = [
        "four,0.8,0.8,0.8,0.8,0.8004,",  # zeros at the end dropped: .80 would be .80010
        "copied,0.83,0.80,0.81,0.82,0.86,",  # .8225 at two decimals is .82, and may be .83
        "apart,0.8210,0.80,0.81,0.82,0.81,",
    ]
    assert kinds(audited(tmp_path, REWARDBENCH, *rows).findings) == {"contradicts": ["apart"]}
    strict = [
        "one,0.9001,0.9,0.9,0.9,0.9003,",
        "two,0.9003,0.9,0.9,0.9,0.9003,",
        "x,0.9123,0.9123,0.9123,0.9123,0.9123,",
    ]
    assert kinds(audited(tmp_path, REWARDBENCH, *strict).findings) == {"contradicts": ["two"]}


def test_averages_that_are_one_by_definition_without_their_parts(tmp_path: Path) -> None:
    rows = [
        "right,,,,,90.0,80.0,70.0,,80.0,80",
        "wrong,,,,,90.0,80.0,70.0,,80.0,80.3",
        "parts alone,80.0,80.0,80.0,80.0,90.0,80.0,72.0,,,",
        "nothing,,,,,,,,,,80.0",
        "some,80.0,80.0,,80.0,90.0,80.0,70.0,,80.0,80.0",
        "apart,80.0,80.0,80.0,80.0,90.0,80.0,70.0,80.0,80.0,80.0",
        "by chance,,,,,,,,80.0,80.4,80.0",
    ]
    audit = audited(tmp_path, RM_BENCH, *rows)
    assert kinds(audit.findings) == {
        "contradicts": ["wrong", "parts alone", "by chance"],
        "incomplete": ["some"],
    }
    assert list(audit.unstated) == ["nothing"]
    assert audit.checked == 6


def test_zeros_missing_counted_and_of_an_average(tmp_path: Path) -> None:
    rows = [
        "missing,0.8000,0.8,0.8,0.8,0.8,0.0",
        "required,0.8000,0.8,0.8,0.8,0,0.8001",
        "counted,0.6667,0.75,0.75,0.75,0.75,0",
        "average,0.0,0.8,0.8,0.8,0.8001,",
        "neither,0.1,0.8,0.8,0.8,0.8,0.0",
        "no average,,0.8,0.8,0.8,0.8001,0",
    ]
    found = kinds(audited(tmp_path, REWARDBENCH, *rows).findings)
    assert found == {
        "zero": ["missing", "required", "average"],
        "incomplete": ["required"],
        "counted zero": ["counted", "no average"],
        "contradicts": ["neither"],
        "mixed": ["Score"],
    }


def test_zeros_of_whole_averages(tmp_path: Path) -> None:
    rows = [
        "domains,0.0,0.0,0.0,0.0,90.0,80.0,70.0,0.0,80.0,80.0",
        "average,,,,,90.0,80.0,70.0,0.0,80.0,80.0",
        "difficulties,80.0,80.0,80.0,80.0,0,0,75.0,80.0,75.0,80.0",
    ]
    found = kinds(audited(tmp_path, RM_BENCH, *rows).findings)
    assert found == {"zero": ["domains", "average", "difficulties"], "incomplete": ["difficulties"]}


def test_what_is_printed_around_numbers(tmp_path: Path) -> None:
    rows = ["a,**80.0**,80.0%,80.0*,80.0 ± 0.4,80.0 (2),-", "b,80.0,n/a,80.0,80.0,80.0,—"]
    assert kinds(audited(tmp_path, REWARDBENCH, *rows).findings) == {"incomplete": ["b"]}
    with pytest.raises(DataError, match=r"^rows.csv, row 1 \(a\), `Chat`: expected a number or nothing, got 'high'$"):
        audited(tmp_path, REWARDBENCH, "a,80.0,high,80.0,80.0,80.0,")
    with pytest.raises(DataError, match=r"^rows.csv, row 1: expected 7 cells, one a column, got 2$"):
        audited(tmp_path, REWARDBENCH, "a,1")
    with pytest.raises(DataError, match="expected a heading and a row or more, got 1 lines"):
        audited(tmp_path, REWARDBENCH)
    assert table.number("1,5") is None
    assert table.number("-.5") is not None


def test_a_definition_of_the_users_own(tmp_path: Path) -> None:
    own = written(
        tmp_path,
        "[mine]", 'equal = [["All", "Other"]]', "[mine.columns]", 'All = ["Everything"]',
        "[mine.averages.All]", "parts = { Left = 3, Right = 1 }", "[mine.n]", "Left = 30", "Right = 10",
        name="own.toml",
    )  # fmt: skip
    lines = ["model,everything,LEFT,right,Other", "a,75.0,100.0,0.0,75.0", "b,50.0,100.0,0.1,50.0"]
    audit = audited(tmp_path, *lines, own=own)
    assert (audit.definition.name, kinds(audit.findings)) == (
        "mine", {"counted zero": ["a"], "contradicts": ["b"]}
    )  # fmt: skip
    with pytest.raises(UsageError, match="no definition of averages fits the columns model, everything"):
        audited(tmp_path, *lines)
    with pytest.raises(UsageError, match="unknown benchmark 'none'; expected one of mine, rewardbench_v1"):
        audited(tmp_path, *lines, own=own, benchmark="none")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a]", r"own.toml, \[a\]: expected a table averages.COLUMN, or equal, got neither"),
        ("[a.averages.B]", r"own.toml, \[a\], averages.B, parts: expected a table, got None"),
        ("[a.averages.B]\nparts = []", "expected parts, the columns that it is the mean of"),
        ("[a.averages.B]\nparts = {c = 0}", "parts.c = 0; expected a weight above 0"),
        ("[a]\nequals = 1", r"unknown key 'equals'; expected averages, columns"),
        ("[a]\nequal = [['x']]", "expected lists of two columns or more"),
        ("[a.averages.B]\nparts = ['c']\n[a.n]\nc = 1.5", r"n.c = 1.5; expected a whole number from 1"),
        ("[a.averages.B]\nparts = ['c']\n[a.columns]\nB = 'c'", "expected a list of names, got 'c'"),
        ("a = ", "own.toml: invalid TOML"),
    ],
)
def test_a_broken_definition_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        definitions.read(written(tmp_path, text, name="own.toml"))


def test_shipped_definitions_name_their_source_and_reach_their_columns() -> None:
    for one in definitions.read().values():
        assert one.source
        assert one.fits(one.columns)
        assert {*one.n, *one.comparisons, *one.names.values()} <= set(one.columns)
        assert set(one.comparisons) <= set(one.n)


# What n can support


def least_by_loop(n: int, gain: int) -> float:
    """The least variance of a mean difference of `gain` / n over all pairings of n wins and losses."""
    variances = []
    for won in range(gain, n + 1):
        lost = won - gain
        if won + lost <= n:
            differences = np.array([1.0] * won + [-1.0] * lost + [0.0] * (n - won - lost))
            variances.append(differences.var() / n)
    return min(variances)


def figures(**values: float) -> dict[str, table.Figure]:
    return {name: table.Figure(Fraction(value), Fraction(0)) for name, value in values.items()}


def test_the_least_of_any_pairing_and_errors_that_are_unrelated() -> None:
    n = 40
    column = separation.Column({"a": (Fraction(1), n, 1)}, {})
    for wins, other in ((30, 28), (30, 26), (30, 20), (30, 10)):
        rows = [figures(a=wins / n), figures(a=other / n)]
        found = separation.separate(["x", "y"], rows, {"a": column}, "a")
        assert found is not None
        (apart,) = found.neighbours
        gap = (wins - other) / n
        p, q = wins / n, other / n
        unrelated = gap / math.sqrt((p * (1 - p) + q * (1 - q)) / n)
        assert apart.p == pytest.approx(math.erfc(unrelated / math.sqrt(2)))
        assert apart.p_least == pytest.approx(math.erfc(gap / math.sqrt(least_by_loop(n, wins - other)) / math.sqrt(2)))
        expected = "none" if wins - other == 2 else "open" if wins - other == 4 else "told"
        assert apart.verdict == expected
    # several comparisons an example: a loop over what three examples of two comparisons each can differ by
    mean, least = 1 / 6, []
    for differences in product((-1.0, -0.5, 0.0, 0.5, 1.0), repeat=3):
        if math.isclose(np.mean(differences), mean):
            least.append(np.var(differences) / 3)
    double = separation.Column({"a": (Fraction(1), 3, 2)}, {})
    found = separation.separate(["x", "y"], [figures(a=4 / 6), figures(a=3 / 6)], {"a": double}, "a")
    assert found is not None
    assert found.neighbours[0].p_least == pytest.approx(math.erfc(mean / math.sqrt(min(least)) / math.sqrt(2)))


def test_holm_over_subsets_and_n_by_option(tmp_path: Path) -> None:
    rows = ["a,80.0,90.0,70.0,80.0,80.0,", "b,70.0,60.0,70.0,80.0,70.0,", "c,69.9,60.0,70.0,79.6,70.0,"]
    found = audited(tmp_path, REWARDBENCH, *rows, pairs=[("a", "b")]).separation
    assert found is not None
    assert [pair.verdict for pair in found.neighbours] == ["told", "none"]
    assert (found.first, found.percent) == (0, True)
    p = [pair.p for pair in found.subsets]
    order = sorted(range(4), key=p.__getitem__)
    plain = np.maximum.accumulate([min(1.0, (4 - place) * p[i]) for place, i in enumerate(order)])
    assert [found.subsets[i].p_holm for i in order] == pytest.approx(list(plain))
    assert [pair.verdict for pair in found.subsets] == ["told", "none", "none", "told"]
    known = audited(tmp_path, REWARDBENCH, *rows, n={"": 10}).separation
    assert known is not None
    assert [pair.verdict for pair in known.neighbours] == ["none", "none"]
    with pytest.raises(UsageError, match="n of 'Chatt': expected one of the columns Score, Chat"):
        audited(tmp_path, REWARDBENCH, *rows, n={"Chatt": 1})
    with pytest.raises(UsageError, match="model 'd' stands in 0 rows of the table; expected one"):
        audited(tmp_path, REWARDBENCH, *rows, pairs=[("a", "d")])


# Examples of tasks


def of(*examples: Any, kind: Any = Comparison) -> TaskAudit:
    task = given(kind, examples)
    return audit_examples("given", task, task.load())


def test_copies_opposite_labels_and_equal_candidates() -> None:
    examples = [
        pair("a", "yes", "no", prompt="p"),
        pair("copy", "yes", "no", prompt="p"),
        pair("turned", "no", "yes", prompt="p"),
        pair("other", "maybe", "no", prompt="p"),
        pair("elsewhere", "no", "yes", prompt="q"),
        example("twice", Candidate("x", True), Candidate("x", False), Candidate("y", False)),
        example("same", Candidate("x", True), Candidate("y", False), Candidate("y", False)),
    ]
    audit = of(*examples)
    found = {finding.told: finding for finding in audit.findings}
    (copies,) = (finding for finding in audit.findings if finding.kind == "duplicates")
    assert (copies.values["copies"], "of 1 the labels differ" in copies.told) == (2, True)
    opposite = [finding for finding in audit.findings if finding.kind == "opposite labels"]
    assert [finding.examples for finding in opposite] == [("turned",), ("twice",)]
    assert [finding.examples for finding in audit.findings if finding.kind == "equal candidates"] == [("twice", "same")]
    assert "1 example more on a prompt that stood before, with other responses" in found
    assert audit.contradicts
    assert not of(pair("a"), pair("b")).contradicts


def test_opposite_pairs_within_longer_lists_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    examples = [
        example(
            f"e{i}",
            *(Candidate(str(text), float(rng.integers(3))) for text in rng.permutation(5)[:3]),
            prompt=f"p{i % 3}",
        )
        for i in range(30)
    ]
    expected = []
    for i, one in enumerate(examples):
        before = [(x, y) for other in examples[:i] if other.prompt == one.prompt for x, y in ordered(other)]
        if any((y, x) in before for x, y in ordered(one)):
            expected.append(one.id)
    (found,) = (finding for finding in of(*examples).findings if "otherwise" in finding.told)
    exact = [
        one.id
        for i, one in enumerate(examples)
        for other in examples[:i]
        if one.prompt == other.prompt
        and sorted(c.text or "" for c in one.candidates) == sorted(c.text or "" for c in other.candidates)
        and {(c.text, c.label) for c in one.candidates} != {(c.text, c.label) for c in other.candidates}
    ]
    assert found.values["examples"] == len({*expected, *exact}) > len(expected) > 5
    assert set(found.examples) <= {*expected, *exact}


def ordered(one: Any) -> list[tuple[str, str]]:
    return [
        (x.text, y.text) for x in one.candidates for y in one.candidates if x.number > y.number and x.text != y.text
    ]


def test_empty_and_cut() -> None:
    sentence = "This goes on for a while and says so in many words, "
    cut, whole = sentence * 5 + "and then it does not come to", sentence * 5 + "and then it comes to an end."
    examples = [
        pair("a", cut, whole),
        pair("b", "   ", whole),
        pair("c", whole, f"{whole} ```python\nx = 1\n"),
        example("d", Candidate(Response("short", finish="length"), True), Candidate("n", False)),
        example("e", Candidate(Response("short", tokens=5, cap=5), True), Candidate("n", False)),
        pair("f", f"{sentence * 5}\n\nYours, Ann", whole),
    ]
    found = [finding for finding in of(*examples).findings if finding.kind != "rule"]
    assert [(finding.kind, finding.examples) for finding in found] == [
        ("empty", ("b",)), ("cut", ("d", "e")), ("cut", ("a", "c"))
    ]  # fmt: skip
    assert "16.7 % of the best, 16.7 % of the others" in found[-1].told


def test_rules_score_by_the_tasks_own_headline_subset_by_subset() -> None:
    long, short = "a long answer with many words", "short"
    examples = [pair(f"l{i}", f"{long} {i}", short, facets={"subset": "long"}) for i in range(30)]
    examples += [pair(f"s{i}", short, f"{long} {i}", facets={"subset": "short"}) for i in range(10)]
    audit = of(*examples)
    by_name = {one.subset: one for one in audit.subsets}
    assert by_name["all"].rules == {"longer": 0.75, "shorter": 0.25, "first": 1.0}
    assert by_name["subset=long"].rules["longer"] == by_name["subset=short"].rules["shorter"] == 1.0
    assert list(by_name["all"].beaten) == ["longer"]
    assert list(by_name["subset=short"].beaten) == ["shorter"]
    assert any("stands first in every example" in note for note in audit.notes)
    # where the data say how a pair was shown, that is what first means
    stated = [
        example(f"e{i}", Candidate(f"x{i}", True), Candidate("y", False, tags={"chosen_position": "AB"[i % 4 == 0]}))
        for i in range(8)
    ]
    assert of(*stated).subsets[0].rules["first"] == 0.75


def test_responses_without_texts_are_left_out_of_rules() -> None:
    known = [pair(f"e{i}", f"a longer one {i}", "short") for i in range(5)]
    unknown = example("x", Candidate(Response(None), True), Candidate(Response(None), False), facets={"subset": "x"})
    audit = of(*known, unknown)
    assert [one.rules for one in audit.subsets] == [{"longer": 1.0, "shorter": 0.0, "first": 1.0}, {}]
    assert "rules by length and place leave out 1 example whose responses have no texts" in audit.notes
    assert of(unknown).subsets[0].rules == {}


def test_what_n_can_show_of_models_that_differ_on_a_tenth() -> None:
    examples = [pair(f"e{i}", f"right {i}", "wrong") for i in range(120)]
    (whole,) = (one for one in of(*examples).subsets if one.subset == "all")
    apart = np.zeros(120)
    apart[:12] = [-1.0, 1.0] * 6
    quantiles = special.stdtrit(119, 0.975) + special.stdtrit(119, 0.8)
    assert whole.detectable["90%"] == pytest.approx(quantiles * apart.std(ddof=1) / math.sqrt(120), rel=0.01)
    # examples of one cluster count once
    joined = [pair(f"e{i}", f"right {i}", "wrong", cluster=f"c{i // 4}") for i in range(120)]
    fewer = [pair(f"e{i}", f"right {i}", "wrong") for i in range(30)]
    assert of(*joined).subsets[0].detectable == of(*fewer).subsets[0].detectable
    assert of(*joined).subsets[0].clusters == 30


def test_other_kinds() -> None:
    steps = [
        example("a", Candidate(Response("x y", ["x", "y"]), step_labels=(1, -1)), prompt="p"),
        example("b", Candidate(Response("x y", ["x", "y"]), step_labels=(1, 1)), prompt="p"),
    ]
    audit = of(*steps, kind=Steps)
    assert kinds(audit.findings)["opposite labels"] == ["all"]
    assert any("not for the kind steps" in note for note in audit.notes)
    graded = [example("a", Candidate("4", True), prompt="p"), example("b", Candidate("4", False), prompt="p")]
    assert of(*graded, kind=Grading).contradicts
    referred = [
        example("a", Candidate("4", True), prompt="p", reference="4"),
        example("b", Candidate("4", False), prompt="p", reference="5"),
    ]
    assert not of(*referred, kind=Grading).contradicts


def test_what_tasks_share() -> None:
    ours = given(Comparison, [pair("a", "x", "y", prompt="p"), pair("b", "v", "w", prompt="q")]).load()
    theirs = given(Comparison, [pair("c", "y", "x", prompt="p"), pair("d", "v", "u", prompt="q")]).load()
    shared, opposite = audit_across({"one": ours, "other": theirs})
    assert shared.values == {"examples": 1, "prompts": 2, "responses to a prompt": 3}
    assert (opposite.kind, opposite.where, opposite.examples) == ("opposite labels", "one and other", ("c",))
    apart = given(Comparison, [pair("z", prompt="elsewhere")]).load()
    assert audit_across({"one": ours, "other": apart}) == []


def test_near_duplicates_against_every_pair() -> None:
    pytest.importorskip("datasketch")
    rng = np.random.default_rng(3)
    words = [f"w{i}" for i in range(300)]
    bases = [list(rng.choice(words, 40)) for _ in range(15)]
    texts = [" ".join(base) for base in bases]
    for base in bases:
        for count in (1, 2, 4, 12):
            changed = list(base)
            for place in rng.choice(40, count, replace=False):
                changed[place] = "other"
            texts.append(" ".join(changed))
    texts += [texts[0], f"{texts[1]}!", "too short"]  # copies are no near duplicates, and case and marks do not count
    expected = set()
    runs = [set(zip(t.split(), t.split()[1:], t.split()[2:], strict=False)) for t in (x.rstrip("!") for x in texts)]
    for i in range(len(texts) - 1):
        for j in range(i):
            if i != 75 and texts[i] != texts[j] and len(runs[i] & runs[j]) >= 0.8 * len(runs[i] | runs[j]):
                expected.add((j, i))
    ours = [pair(f"e{i}", prompt=text) for i, text in enumerate(texts)]
    (found,) = near_duplicates({"one": given(Comparison, ours).load()})
    assert found.where == "one"
    assert found.values["pairs"] == len({(j, i) for j, i in expected if i != 76 or j == 1})
    assert len(expected) > 15
    (across,) = near_duplicates(
        {"one": given(Comparison, ours[:1]).load(), "two": given(Comparison, ours[15:16]).load()}
    )
    assert (across.where, across.examples) == ("one and two", ("e0 ~ e15",))


def test_near_duplicates_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(UsageError, match=r"near duplicates need datasketch: pip install 'rmbench\[audit\]'"):
        near_duplicates({"one": given(Comparison, [pair("a")]).load()})


# The command


def test_the_command_prints_json_and_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "pairs.jsonl"
    rows.write_text(
        "\n".join(
            json.dumps({"prompt": "p", "chosen": good, "rejected": bad}) for good, bad in (("x", "y"), ("y", "x"))
        )
    )
    wrong = written(tmp_path, REWARDBENCH, "a,82.0,80.0,80.0,80.0,80.0,", "b,80.0,80.0,80.0,80.0,80.0,")
    assert main(["audit", str(wrong), "preference", "--data", f"preference={rows}", "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert [finding["kind"] for finding in printed["tables"][0]["findings"]] == ["contradicts"]
    assert printed["tasks"][0]["findings"][1]["contradicts"] is True
    assert set(printed) == {"tables", "tasks", "across"}
    right = written(tmp_path, REWARDBENCH, "b,80.0,80.0,80.0,80.0,80.0,", name="right.csv")
    assert main(["audit", str(right)]) == 0
    assert "nothing contradicts" in capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 100])
def test_the_tables_are_readable_at_a_width(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    name = "an-organisation/a-model-with-a-rather-long-name-8B-v0.2"
    wrong = written(tmp_path, REWARDBENCH, f"{name},82.0,80.0,80.0,80.0,80.0,", "b,80.0,80.0,80.0,80.0,80.0,0")
    assert main(["audit", str(wrong), "best_of_n"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).replace("│", " ").split())
    for words in ("contradicts", "always", "detectable", "Holm"):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing.csv"], "missing.csv: no such file"),
        (["best_of_n", "--n", "5"], "--definitions, --benchmark, --n and --pair are for CSV files"),
        (["{table}", "--skip-bad-rows"], "--data, --columns, --skip-bad-rows, --near and --card are for tasks"),
        (["{table}", "best_of_n", "--card"], "--near and --card are for tasks"),
        (["best_of_n", "--card", "--json"], "--card prints Markdown and --json JSON; give one of them"),
        (["{table}", "--n", "Chat=x"], "is neither N nor COLUMN=N"),
        (["no_such_task"], "unknown task"),
    ],
)
def test_a_wrong_call_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], told: str
) -> None:
    path = written(tmp_path, REWARDBENCH, "b,80.0,80.0,80.0,80.0,80.0,")
    assert main(["audit", *(argument.format(table=path) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.skipif(not (DATA / "rmb").is_dir(), reason="needs RMBENCH_DATA")
def test_what_is_found_in_real_pairs_is_what_a_loop_finds() -> None:
    from rmbench.runs.loading import load_tasks

    files = DATA / "rmb" / "Pairwise_set" / "Harmlessness" / "S1.json"
    (loaded,) = load_tasks(["preference"], data={"preference": str(files)})
    audit = audit_examples(loaded.name, loaded.task, loaded.data)
    examples = loaded.data.examples
    seen: dict[tuple[tuple[Message, ...], str, str], bool] = {}
    contrary = []
    for one in examples:
        (good, bad) = (candidate.text or "" for candidate in one.candidates)
        if good != bad and (one.prompt, bad, good) in seen:
            contrary.append(one.id)
        seen[one.prompt, good, bad] = True
    told = [finding for finding in audit.findings if "otherwise" in finding.told]
    assert [finding.values["examples"] for finding in told] == ([len(contrary)] if contrary else [])
    longer = np.mean([len(good.text or "") > len(bad.text or "") for good, bad in (one.candidates for one in examples)])
    assert audit.subsets[0].rules["longer"] == pytest.approx(longer)
