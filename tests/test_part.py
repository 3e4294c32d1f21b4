"""Parts of a task: which examples are drawn, that a result says so, and that it is never taken for the whole."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from given import example, given, pair
from hypothesis import given as drawn_by
from hypothesis import strategies as st

import rmbench
from rmbench.cli import main
from rmbench.data.dataset import Source, collect
from rmbench.data.part import Part
from rmbench.errors import UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.results import files
from rmbench.types import Candidate, Example

SIZES = {("chat", "easy"): 60, ("chat", "hard"): 30, ("math", "algebra"): 9, ("code", "python"): 1}
EXAMPLES = [
    pair(f"{section}-{subset}-{i}", facets={"section": section, "subset": subset})
    for (section, subset), size in SIZES.items()
    for i in range(size)
]


def drawn(limit: int, examples: Sequence[Example] = EXAMPLES, **part: Any) -> list[Example]:
    return list(collect(examples, [Source("x", None, "0" * 64, 1)], part=Part(limit, **part)).examples)


def sizes(examples: Sequence[Example]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(one.facets.values()) for one in examples)


def test_a_draw_is_spread_as_the_whole_is_and_leaves_no_subset_out() -> None:
    assert sizes(drawn(10)) == {("chat", "easy"): 5, ("chat", "hard"): 3, ("math", "algebra"): 1, ("code", "python"): 1}
    assert sizes(drawn(50)) == {("chat", "easy"): 30, ("chat", "hard"): 15, ("math", "algebra"): 4,
                                ("code", "python"): 1}  # fmt: skip


def test_of_more_subsets_than_are_drawn_every_section_has_one_first() -> None:
    assert {section for section, _ in sizes(drawn(3))} == {"chat", "math", "code"}
    assert sizes(drawn(1)) == {("chat", "easy"): 1}


def test_a_draw_is_the_same_in_any_order_of_rows_and_another_by_another_seed() -> None:
    one, same, other = (
        {e.id for e in drawn(10, some, seed=seed)} for some, seed in ((EXAMPLES, 0), (EXAMPLES[::-1], 0), (EXAMPLES, 1))
    )
    assert one == same != other
    assert [e.id for e in drawn(10)] == [e.id for e in EXAMPLES if e.id in one]  # as the data have them
    assert {e.id for e in drawn(10)} <= {e.id for e in drawn(11)} <= {e.id for e in drawn(47)}
    assert len(drawn(100)) == len(drawn(1000)) == 100


@drawn_by(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=40),
          st.integers(1, 45), st.integers(0, 3))  # fmt: skip
def test_a_draw_has_so_many_each_once_and_one_of_every_value_it_has_room_for(
    facets: list[tuple[str, str]], limit: int, seed: int
) -> None:
    examples = [
        pair(str(i), facets={"one": a, "two": b} if b != "z" else {"one": a}) for i, (a, b) in enumerate(facets)
    ]
    ids = [e.id for e in drawn(limit, examples, seed=seed)]
    assert len(ids) == len(set(ids)) == min(limit, len(examples))
    strata = {tuple(sorted(e.facets.items())) for e in examples}
    if limit >= len(strata) * len(strata):
        assert {tuple(sorted(e.facets.items())) for e in drawn(limit, examples, seed=seed)} == strata


def test_the_same_clusters_are_drawn_in_every_language_and_whole_ones_within_a_stratum() -> None:
    spoken = [example(f"{i}-{language}", Candidate("a", True), Candidate("b", False), cluster=str(i),
                      facets={"language": language}) for i in range(30) for language in ("de", "en", "zh")]  # fmt: skip
    clusters = Counter(e.cluster for e in drawn(12, spoken))
    assert set(clusters.values()) == {3}
    contrasts = [pair(f"{i} {condition}", cluster=str(i)) for condition in "ab" for i in range(20)]
    assert set(Counter(e.cluster for e in drawn(8, contrasts)).values()) == {2}


def test_a_draw_holds_no_more_of_a_stream_than_it_needs() -> None:
    def stream(rows: Any) -> Iterator[Example]:
        for i in range(1000):
            yield pair(str(i), right=f"{i}" * 1000, facets={"subset": "ab"[i % 2]})

    task = Comparison("streamed", 1, "a stream", "none", read=stream)
    peaks = []
    for part in (Part(), Part(limit=20)):
        tracemalloc.start()
        assert len(task.load([{"x": 1}], part).examples if part.limit else task.load([{"x": 1}]).examples) > 0  # type: ignore[arg-type]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] / 5


def shared_out(folder: Path, **sizes: int) -> Path:
    for name, size in sizes.items():
        rows = [{"prompt": f"{name}{i}", "chosen": "good", "rejected": "bad"} for i in range(size)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_files_of_a_folder_and_sets_of_the_hub_share_a_limit(tmp_path: Path) -> None:
    from rmbench.data.hub import HubSet
    from rmbench.runs.loading import load_tasks

    (item,) = load_tasks(["preference"], data={"preference": shared_out(tmp_path, a=60, b=30, c=2)}, limit=10)
    assert Counter(e.prompt[0].text[0] for e in item.data.examples) == {"a": 6, "b": 3, "c": 1}
    assert item.data.part == "10 of 92 examples drawn within file, seed 0"

    def read(rows: Any) -> Iterator[Example]:
        for row in rows:
            yield pair("", f"good {row.value['prompt']}", facets={})

    (tmp_path / "more").mkdir()
    folders = [shared_out(tmp_path / "more", train=20), shared_out(tmp_path, test=0)]
    for split in ("a", "b"):
        (tmp_path / f"{split}s").mkdir()
        folders.append(shared_out(tmp_path / f"{split}s", train=20))
    sources = tuple(HubSet(str(folder)) for folder in (folders[0], *folders[2:]))
    task = Comparison("several", 1, "several sets", "none", read=read, sources=sources)
    drawn = load_tasks([task], limit=6)[0].data
    assert len(drawn.examples) == 6
    assert len(drawn.sources) == 3
    assert "6 of 60 examples drawn within file" in drawn.part


@pytest.fixture(scope="module")
def whole_and_parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    task = given(Comparison, EXAMPLES)
    made = {}
    for name, part in (("whole", {}), ("drawn", {"limit": 10}), ("chat", {"subset": {"section": "chat"}})):
        for model in ("length", "random"):
            folder = tmp_path_factory.mktemp("out")
            (made[name, model],) = rmbench.evaluate(model, [task], out=folder, name=model, **part)  # type: ignore[arg-type]
            made[name, model, "file"] = folder / files.result_path(made[name, model])
    return made


def test_a_result_says_which_part_it_is_of(whole_and_parts: Any) -> None:
    whole, limited, chat = (whole_and_parts[name, "length"] for name in ("whole", "drawn", "chat"))
    assert (whole.dataset.part, whole.is_part) == ("", False)
    assert limited.dataset.part == "10 of 100 examples drawn within section, subset, seed 0"
    assert chat.dataset.part == "section=chat (90 of 100 examples)"
    assert limited.is_part
    assert chat.is_part
    assert limited.config.data["drawn"] == "within facets and files, seed 0"
    assert chat.config.data["subset"] == {"section": ["chat"]}
    assert str(chat).endswith("90 examples (section=chat (90 of 100 examples))")
    assert len({files.result_folder(one) for one in (whole, limited, chat)}) == 3


def test_a_part_decides_nothing_beside_whole_runs(whole_and_parts: Any) -> None:
    paths = [path for key, path in whole_and_parts.items() if len(key) == 3]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rmbench.plugins.load_task", lambda name: given(Comparison, EXAMPLES))
        report = rmbench.compare_results(*paths)
    assert [task.examples for task in report.tasks] == [100]
    assert sum("of a part, section=chat (90 of 100 examples), where there are whole runs" in line
               for line in report.refused) == 2  # fmt: skip
    assert sum("(--limit 10), where there are whole runs" in line for line in report.refused) == 2


def test_a_subset_alone_is_compared_and_named(whole_and_parts: Any) -> None:
    paths = [whole_and_parts["chat", model, "file"] for model in ("length", "random")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rmbench.plugins.load_task", lambda name: given(Comparison, EXAMPLES))
        (task,) = rmbench.compare_results(*paths).tasks
    assert (task.examples, task.is_try) == (90, False)
    assert "no whole task: section=chat (90 of 100 examples)" in task.notes


def test_a_part_stands_behind_the_whole_on_a_board_and_has_no_place_in_its_mean(whole_and_parts: Any) -> None:
    from rmbench.leaderboard.build import tables_of

    task = given(Comparison, EXAMPLES)
    parts = [whole_and_parts[name, model] for name in ("drawn", "chat") for model in ("length", "random")]
    made = tables_of([*parts, whole_and_parts["whole", "length"]], lambda name: task)
    headings = [unescape(line) for line in made["given.md"].splitlines() if line.startswith("## ")]
    assert [": 100 examples" in line for line in headings] == [True, False, False]
    assert ["(section=chat (90" in line for line in headings] == [False, True, False]
    assert "(10 of 100 examples drawn" in headings[2]
    alone = tables_of(parts, lambda name: task)["summary.csv"]
    assert [row.split(",")[3] for row in alone.splitlines()[1:]] != []
    mean = alone.splitlines()[0].split(",").index("mean")
    assert [row.split(",")[mean] for row in alone.splitlines()[1:]] == ["", ""]


@pytest.mark.parametrize(
    ("subset", "told"),
    [
        ({"sections": "chat"}, "--subset sections=chat: no facet 'sections' (did you mean 'section'?); there is "
                               "section (chat, math, code); subset (easy, hard, algebra, python)"),
        ({"section": ["chat", "maths"]}, "--subset section=maths: no section 'maths' (did you mean 'math'?); there is "
                                         "chat, math, code"),
        ({"section": "code", "subset": "easy"}, "--subset section=code, subset=easy: no example has all of these"),
        ({"section": []}, "subset section: expected a value or several, got []"),
        ("section", "subset='section': expected facets and their values"),
    ],
)  # fmt: skip
def test_a_subset_that_is_none_is_one_line_that_lists_what_there_is(subset: Any, told: str) -> None:
    with pytest.raises(UsageError) as error:
        rmbench.evaluate("length", [given(Comparison, EXAMPLES)], subset=subset)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


def test_the_command_takes_values_of_a_facet_and_a_limit_of_them(tmp_path: Path, capsys: Any) -> None:
    command = ["run", "-m", "length", "-t", "best_of_n", "--subset", "subset=units", "--subset", "subset=dates"]
    assert main([*command, "--limit", "6", "--seed", "3", "--json", "--out", str(tmp_path)]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["dataset"]["part"] == "subset=dates|units (24 of 108 examples); 6 of them drawn within subset, seed 3"
    assert {metric["subset"] for metric in result["metrics"]} == {"all", "subset=units", "subset=dates"}
    assert main(["list", str(tmp_path)]) == 0
    assert "drawn within subset, seed 3" in " ".join(capsys.readouterr().out.split())
    assert main(["run", "-m", "length", "-t", "best_of_n", "--subset", "units", "--out", str(tmp_path)]) == 2
    assert "'units' is not FACET=VALUE" in capsys.readouterr().err


def test_a_task_without_the_facet_fails_and_loses_nothing_of_the_others() -> None:
    from rmbench.runs.loading import Failed, read_tasks

    other = given(Comparison, EXAMPLES[:90], "other")
    first, second = read_tasks([given(Comparison, EXAMPLES), other], subset={"section": "math"})
    assert isinstance(second, Failed)
    assert "no section 'math'" in str(second.error)
    assert not isinstance(first, Failed)


def test_a_row_is_of_the_file_that_it_stands_in(tmp_path: Path) -> None:
    from rmbench.data.files import Rows

    rows = Rows(shared_out(tmp_path, a=2, b=1))
    assert [(rows.file, row.file) for row in rows] == [("a.jsonl",) * 2] * 2 + [("b.jsonl",) * 2]
