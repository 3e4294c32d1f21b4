"""What the tasks of a run share, and all tasks at one glance on a terminal and on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_models import MeanOf
from given import example, given, pair
from rich.console import Console

from rmbench.cli._overview import print_overview
from rmbench.kinds.comparison import Comparison
from rmbench.report import frame, page
from rmbench.results.overview import efforts, headlines
from rmbench.results.schema import TaskResult
from rmbench.runs.evaluate import evaluate
from rmbench.scoring.sharing import Sharing
from rmbench.types import Ask, Candidate, Request, Reward

TEXTS = {"own": "abcdefgh", "other": "efghijkl", "third": "ghmn"}  # a response each to one prompt
TASKS = [
    given(Comparison, [pair(letter, f"right {letter}", f"wrong {letter}") for letter in letters], name)
    for name, letters in TEXTS.items()
]


class Counting:
    """Rewards the longer response, and keeps what it was asked."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint: str | None = None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            self.asked.append(f"{request.prompt[0].text} {request.responses[0].text}")
            yield index, Reward((float(len(request.responses[0].text or "")),))


def test_what_tasks_share_is_asked_once_and_counted_with_the_later_task() -> None:
    model = Counting()
    results = evaluate(model, TASKS)
    letters = ["".join(TEXTS.values()), "".join({*"".join(TEXTS.values())})]
    assert len(model.asked) == len({*model.asked}) == 2 * len(letters[1])
    assert [result.timing.shared for result in results] == [0, 8, 4]
    (effort,) = efforts(results)
    assert (effort.requests, effort.distinct) == (2 * len(letters[0]), 2 * len(letters[1]))
    assert effort.shared == {"other": 8, "third": 4}
    assert effort.scored == len(model.asked)
    again = evaluate(model, TASKS[:1])
    assert again[0].timing.shared == 0
    assert efforts(again) == []


def test_members_that_answer_all_tasks_at_once_are_counted_once() -> None:
    members = Counting(), Counting()
    (effort,) = efforts(evaluate(MeanOf(*members), TASKS))
    (alone,) = efforts(evaluate(Counting(), TASKS))
    assert [len(member.asked) for member in members] == [alone.scored] * 2
    counts = effort.requests, effort.distinct, sum(effort.shared.values()), effort.scored
    assert counts == (2 * alone.requests, 2 * alone.distinct, 2 * sum(alone.shared.values()), 2 * alone.scored)


def test_keys_are_counted_as_sets_count_them() -> None:
    rng, sharing, before = np.random.default_rng(0), Sharing(), dict[str, set[bytes]]()
    for turn in range(40):
        task = f"task {turn % 4}"
        keys = {b"prompt  " * 3 + int(number).to_bytes(8, "big") for number in rng.integers(300, size=50)}
        others = {key for name, asked in before.items() if name != task for key in asked}
        assert sharing.before(task, keys) == len(keys & others)
        before.setdefault(task, set()).update(keys)
    assert sharing.before(None, keys) == sharing.before("task 0", []) == 0


def results_of(*names: str) -> list[TaskResult]:
    every = given(
        Comparison, [example("many", *(Candidate("a" * n, n == 3) for n in range(4)))], "school_of_many_hacks"
    )
    model = Counting()
    return [result for name in names for result in evaluate(model, [*TASKS, every], name=name)]


def printed(results: Sequence[TaskResult], width: int) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as caught:
        print_overview(results, console)
    return caught.get()


@pytest.mark.parametrize(("width", "tables"), [(80, 2), (100, 1), (160, 1)])
def test_a_terminal_holds_every_task_and_model(width: int, tables: int) -> None:
    results = results_of("org/one", "org/another", "org/third-model")
    text = printed(results, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("school_of_many_hacks ") == tables, "one table where three models have room"
    for result in results:
        assert result.subject.id in text
    numbers = r"org/one: tasks 4, requests 44, distinct 32, shared 12, scored 32"
    assert re.search(numbers if width < 100 else r"org/one +│ +4 │ +44 │ +32 │ +12 │ +32", " ".join(text.split()))
    assert "org/one: shared with a task before: other 8, third 4" in text
    assert len(re.findall(r"\b50\.0\b|\b0\.0\b", text)) >= 12


def test_what_is_not_there_says_so_and_one_task_needs_no_overview() -> None:
    results = results_of("org/one", "org/two")
    lacking = [one for one in results if (one.subject.id, one.label) != ("org/two", "other")]
    assert printed(lacking, 120).count("no result") == 1
    assert printed(results[:1], 120) == ""


def test_models_of_one_name_are_told_by_their_folder() -> None:
    results = results_of("org/one")
    config = results[0].config.model_copy(update={"model": {"max_length": 7}})
    twice = [*results, *(one.model_copy(update={"config": config}) for one in results)]
    (line, *_), names = headlines(twice), [one.model for one in efforts(twice)]
    assert [*line.figures] == names
    assert len({*names}) == 2
    assert all(name.startswith("org/one (") for name in names)


def test_the_page_has_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "library", str)  # seconds, and no part of this
    results = results_of("org/one")[1:3]
    page.write(results, {}, tmp_path / "report.html")
    text = re.sub(r"<[^>]*>", " ", (tmp_path / "report.html").read_text(encoding="utf-8"))
    shown = " ".join(text.split())
    assert "org/one 2 24 12 12 " in shown
    assert "other 8, third 4" in shown
    assert "[50, 50]" not in shown, "what is of the data alone has no interval"
