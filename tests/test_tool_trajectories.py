"""Plan-RewardBench through a local classifier: tools reach a template that takes them, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import make

from rmbench.results.schema import TaskResult
from rmbench.runs.evaluate import evaluate

TURNS = "{% for m in messages %}<{{ m.role }}> {{ m.content or '' }}{% endfor %}"
CALLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}> {{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}({{ call.function.arguments | tojson }}){% endfor %}"
    "{% endfor %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("tools") / "llama", "llama", max_position_embeddings=2048)


def judged(folder: Path, data: Path, template: str, **options: object) -> TaskResult:
    (folder / "asked.jinja").write_text(template)
    (result,) = evaluate(
        str(folder),
        ["plan_rewardbench"],
        data={"plan_rewardbench": data / "plan_rewardbench" / "planning_single_easy.jsonl"},
        limit=4,
        template=str(folder / "asked.jinja"),
        max_length=1024,
        **options,
    )
    return result


def test_tools_and_calls_reach_a_template_that_takes_them(folder: Path, rmbench_data: Path) -> None:
    result = judged(folder, rmbench_data, CALLS)
    assert result.statuses == {"ok": 8}
    assert result.subject.uses == ["tools"]
    assert len(set(result.records.column("reward").to_pylist())) == 8


def test_a_template_without_tools_refuses_each_with_the_reason_and_counts_it(folder: Path, rmbench_data: Path) -> None:
    result = judged(folder, rmbench_data, TURNS)
    assert result.statuses == {"refused": 8}
    assert list(result.reasons["refused"].values()) == [8]
    assert "tools" in next(iter(result.reasons["refused"]))
    assert result.left_out == {"default": {"no answer": 4}}


def test_an_option_puts_tools_into_the_system_turn_as_text(folder: Path, rmbench_data: Path) -> None:
    result = judged(folder, rmbench_data, TURNS, tools_as_text=True)
    assert result.statuses == {"ok": 8}
