"""overflow: the rows are what their sources give, four prompts a subject, and effects are found where there are any."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import causal
import pytest
import yaml

from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.kinds.generation import Prompt
from rmbench.plugins import load_task
from rmbench.runs.respond import Sampling, evaluate_policy
from rmbench.tasks.overflow import REMINDER, STRATEGIES, generate, read
from rmbench.types import GenerationRequest, Response

TASK = load_task("overflow")
EXAMPLES: Sequence[Prompt] = TASK.load().examples  # type: ignore[assignment]
VIEWS = ["overflow", "overflow reminded", "control", "control reminded"]
FOLDER = Path(generate.__file__).parent


def text(example: Prompt) -> str:
    return example.prompt[-1].text


class Talker:
    """Writes 1,200 to 4,000 tokens where it is provoked, 20 to 40 else, and a fifth of it when reminded."""

    fingerprint = "talker:1"

    def generate(self, generations: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
        provoked = {text(example) for example in EXAMPLES if example.tags["condition"] == "overflow"}
        for index, one in enumerate(generations):
            asked = one.prompt[-1].text
            plain = asked.removesuffix(f"\n\n{REMINDER}")
            tokens = 1200 + 28 * (len(plain) % 101) if asked in provoked else 20 + len(plain) % 21
            tokens = tokens // 5 if plain != asked else tokens
            yield index, Response("x" * tokens, tokens=tokens, finish="stop", cap=one.cap)


def test_the_rows_are_made_of_their_sources_byte_for_byte() -> None:
    assert (FOLDER / "rows.jsonl").read_text(encoding="utf-8") == generate.text()


def test_each_of_nine_strategies_has_25_subjects_in_four_conditions() -> None:
    counts = Counter((example.facets["subset"], example.condition) for example in EXAMPLES)
    assert counts == {(strategy, view): 25 for strategy in STRATEGIES for view in VIEWS}
    clusters = Counter(example.cluster for example in EXAMPLES)
    assert (len(clusters), set(clusters.values())) == (225, {4})
    assert len({text(example) for example in EXAMPLES}) == 900


def test_the_reminder_is_all_that_a_reminded_prompt_has_more() -> None:
    plain = {(e.cluster, e.tags["condition"]): text(e) for e in EXAMPLES if not e.tags["reminder"]}
    reminded = {(e.cluster, e.tags["condition"]): text(e) for e in EXAMPLES if e.tags["reminder"]}
    assert reminded == {key: f"{prompt}\n\n{REMINDER}" for key, prompt in plain.items()}


def test_sources_use_every_field_and_no_question_or_subject_twice() -> None:
    written = yaml.safe_load((FOLDER / "prompts.yaml").read_text(encoding="utf-8"))
    assert tuple(written["strategies"]) == STRATEGIES
    for name, part in written["strategies"].items():
        for frame in part["frames"]:
            assert set(re.findall(r"{(\w+)}", frame)) == set(part["fields"]), (name, frame)
        assert all(len(entry) == len(part["fields"]) + 2 for entry in part["entries"])
        firsts = [entry[1:-1] for entry in part["entries"]]
        assert all(firsts.count(first) == 1 for first in firsts)
        asks = [entry[-1] for entry in part["entries"]]
        assert len(set(asks)) == 25
        assert all(ask.endswith(("?", ".")) for ask in asks)
    assert all(re.search(r"[.!?`]$", text(e)) for e in EXAMPLES)
    assert not any("{" in text(e) or "  " in text(e) for e in EXAMPLES)


def test_frames_are_used_alike_and_do_not_go_with_a_control() -> None:
    met: Counter[tuple[str, int, str]] = Counter()
    written = yaml.safe_load((FOLDER / "prompts.yaml").read_text(encoding="utf-8"))
    controls = [c.replace("{ask}", "") for c in written["control"]]
    for name, part in written["strategies"].items():
        for number, (_, control) in enumerate(generate._pairs(name, part, written["control"])):
            frame = next(c for c in controls if c.strip() in control["prompt"])
            met[name, number % 5, frame] += 1
    assert set(met.values()) == {1}
    assert len(met) == 9 * 25


def test_the_first_rows_are_of_all_strategies() -> None:
    for limit in (36, 72, 360):
        counts = Counter((example.facets["subset"], example.condition) for example in EXAMPLES[:limit])
        assert set(counts.values()) == {limit // 36}
    assert EXAMPLES[0].condition == "overflow"


def test_prompts_are_no_longer_than_people_write_them() -> None:
    assert max(len(text(e).split()) for e in EXAMPLES) <= 70


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"strategy": "shouting"}, "row 1, `strategy`: expected one of forced_length"),
        ({"condition": "calm"}, "row 1, `condition`: expected one of overflow, control"),
        ({"prompt": ""}, "row 1, `prompt`: the last turn has to be the user's"),
    ],
)
def test_rows_that_are_no_overflow_rows_say_where(change: dict[str, str], told: str) -> None:
    row = {"id": "a", "strategy": "all_variants", "subject": "a", "condition": "control", "prompt": "x", **change}
    with pytest.raises(DataError) as error:
        list(read([Row(row, "x.jsonl", 1)]))
    assert told in str(error.value)


def test_the_effects_of_provocation_and_reminder_are_found() -> None:
    [result] = evaluate_policy(Talker(), ["overflow"])
    assert result.primary_view == "overflow"
    assert result.metric("csr_1000").value == 1.0
    assert result.metric("csr_1000", view="control").value == 0.0
    assert [result.metric("csr_1000", subset=f"subset={name}").n for name in STRATEGIES] == [25] * 9
    ratio = result.metric("reminder_length_ratio", view="overflow reminded")
    assert ratio.value == pytest.approx(0.2, abs=0.001)
    assert ratio.p is not None
    assert ratio.p < 0.001
    texts = {(e.cluster, e.condition): text(e) for e in EXAMPLES}
    logs = [
        math.log(1200 + 28 * (len(texts[c, "overflow"]) % 101)) - math.log(20 + len(texts[c, "control"]) % 21)
        for c in {e.cluster for e in EXAMPLES}
    ]
    found = result.metric("provocation_length_ratio")
    assert found.value == pytest.approx(math.exp(sum(logs) / len(logs)))
    assert result.metric("provocation_csr_3000_difference").value == result.metric("csr_3000").value
    difference = result.metric("reminder_csr_1000_difference", view="overflow reminded")
    assert (difference.value, difference.n) == (-1.0, 225)


def test_a_tiny_checkpoint_answers_all_strategies_with_and_without_the_reminder(tmp_path: Path) -> None:
    folder = causal.make(tmp_path / "tiny")
    [result] = evaluate_policy(
        f"local:{folder}", ["overflow"], Sampling(samples=2, cap=8), limit=36, device="cpu", out=tmp_path / "results"
    )
    rows = result.records.to_pylist()
    assert len(rows) == 72
    assert {(row["tag_strategy"], row["condition"]) for row in rows} == {(s, v) for s in STRATEGIES for v in VIEWS}
    assert all(row["tokens"] <= row["cap"] == 8 for row in rows)
    assert all((row["tokens"] == 8) == (row["finish"] == "length") for row in rows)
    assert result.metric("csr_8").value is not None
    assert result.metric("csr_1000").value is None
    assert result.config.model["unit"] == "tokens of local/tiny"
