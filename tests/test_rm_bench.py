"""RM-Bench: three styles against three, by domain, as its own code counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import score_files

import rmbench
from rmbench.data.cards import read_card
from rmbench.data.files import Row
from rmbench.data.scorefile import read_entries
from rmbench.errors import DataError
from rmbench.results.verify import verify
from rmbench.tasks.rm_bench import DOMAINS, TASK
from rmbench.types import Outcome, Reward, View

FILES = ("chat", "math", "code", "safety-refuse", "safety-response")


def row(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """A prompt with three right and three wrong answers of random lengths, some of them equal."""
    sides = {side: ["a" * int(rng.integers(1, 6)) for _ in range(3)] for side in ("chosen", "rejected")}
    return {"id": number, "prompt": f"Which of these is fit for {rng.integers(10**9)}?", **sides}


def written(folder: Path, counts: Sequence[int] = (5, 9, 4, 3, 6)) -> dict[str, list[dict[str, Any]]]:
    """The authors' five files, whose ids repeat."""
    rng = np.random.default_rng(1)
    files = {name: [row(i, rng) for i in range(count)] for name, count in zip(FILES, counts, strict=True)}
    for name, rows in files.items():
        (folder / f"{name}_filtered.json").write_text(json.dumps(rows))
    return files


def by_definition(files: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """The figures of a model that rewards length, cell by cell."""
    means: dict[str, list[float]] = {"hard": [], "normal": [], "easy": []}
    for domain in DOMAINS:
        rows = [one for name, of_file in files.items() if name.startswith(domain) for one in of_file]
        won: Counter[str] = Counter()
        for one in rows:
            for i in range(3):
                for j in range(3):
                    kind = "normal" if i == j else "hard" if i < j else "easy"
                    won[kind] += len(one["chosen"][i]) > len(one["rejected"][j])
        for kind, of_domains in means.items():
            of_domains.append(won[kind] / 3 / len(rows))
    of_kind = {kind: sum(each) / 4 for kind, each in means.items()}
    overall = sum(sum(of_domain) / 3 for of_domain in zip(*means.values(), strict=True)) / 4
    return of_kind | {"overall": overall}


def figures(result: Any, subset: str = "all") -> dict[str, float]:
    return {metric.name: metric.value for metric in result.metrics if metric.subset == subset}


def test_the_figures_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    files = written(tmp_path)
    (result,) = rmbench.evaluate("length", ["rm_bench"], data={"rm_bench": tmp_path})
    verify(result, TASK)
    assert result.dataset.examples == 27
    found = figures(result)
    due = by_definition(files)
    assert {name: found[name] for name in due} == pytest.approx(due)
    assert found["overall"] == pytest.approx((found["hard"] + found["normal"] + found["easy"]) / 3)
    of_domains = [figures(result, f"domain={domain}")["accuracy"] for domain in DOMAINS]
    assert found["overall"] == pytest.approx(np.mean(of_domains))
    assert figures(result, "domain=chat")["overall"] is None


def test_a_row_of_two_files_is_read_once(tmp_path: Path) -> None:
    files = written(tmp_path)
    every = [{**one, "domain": name} for name, rows in files.items() for one in rows]
    (tmp_path / "total_dataset.json").write_text(json.dumps(every))
    data = TASK.load(tmp_path)
    assert (len(data.examples), data.excluded) == (27, {"a row that stands in another file as well": 27})
    alone = TASK.load(tmp_path / "total_dataset.json")
    assert {example.id: example.facets for example in alone.examples} == {
        example.id: example.facets for example in data.examples
    }
    assert alone.examples[-1].facets == {"domain": "safety", "subset": "safety-response"}


def test_the_authors_result_files_are_scores(tmp_path: Path) -> None:
    files = written(tmp_path)
    scored = tmp_path / "results"
    scored.mkdir()
    for name, rows in files.items():
        sides = [
            {f"score_{side}": [len(text) for text in one[side]] for side in ("chosen", "rejected")} for one in rows
        ]
        (scored / f"{name}_filtered.json").write_text(
            json.dumps([one | scores for one, scores in zip(rows, sides, strict=True)])
        )
    found, due = score_files.figures(TASK, scored, tmp_path), by_definition(files)
    assert {name: found[name] for name in due} == pytest.approx(due)


class Shorter:
    """Compares, and prefers the shorter; equal ones tie."""

    answers, uses, fingerprint = frozenset({"compare"}), frozenset[str](), "shorter"

    def rewards(self, requests: Sequence[Any]) -> Any:
        for index, request in enumerate(requests):
            first, second = (len(response.text) for response in request.responses)
            yield index, Reward((0.5, 0.5) if first == second else (float(first < second), float(second < first)))


def test_a_model_that_compares_is_asked_nine_pairs(tmp_path: Path) -> None:
    files = written(tmp_path)
    example = TASK.load(tmp_path).examples[0]
    asked = TASK.questions(example, frozenset({"compare"}), "")
    pairs = {tuple(sorted(place.candidates)) for _, place in asked if place}
    assert pairs == {(i, 3 + j) for i in range(3) for j in range(3)}
    assert len(asked) == 9
    (result,) = rmbench.evaluate(Shorter(), ["rm_bench"], data={"rm_bench": tmp_path})
    wins = [
        len(one["chosen"][i]) < len(one["rejected"][j])
        for one in files["chat"] for i in range(3) for j in range(3)
    ]  # fmt: skip
    assert figures(result, "domain=chat")["accuracy"] == pytest.approx(np.mean(wins))


def test_a_prompt_without_an_answer_is_left_out() -> None:
    def seen(scores: list[float], name: str) -> Outcome:
        view = View(np.array(scores), None, ["ok"] * 6)
        return Outcome(name, {"domain": "chat"}, name, np.array([1.0] * 3 + [0.0] * 3), {"default": view})

    outcomes = [seen([2, 2, 2, 1, 1, 1], "a"), seen([2, 2, np.nan, 1, 1, 1], "b"), seen([1, 1, 1, 1, 1, 1], "c")]
    statistic = next(one for one in TASK.measure.statistics(outcomes, "default", None) if one.name == "accuracy")
    assert statistic.counts(3).tolist() == [True, False, True]
    assert statistic.columns is not None
    assert statistic.columns[2, 0] == 0
    assert TASK.measure.left_out(outcomes, "default") == {"no answer": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": ["a", "b"]}, r"`chosen`: expected three texts, concise, detailed, markdown, got \['a', 'b'\]"),
        ({"rejected": ["a", "b", 3]}, "`rejected`: expected three texts"),
        ({"prompt": None}, "`prompt`: expected a text, got None"),
        ({"domain": "poetry"}, "`domain`: expected one that begins with chat, math, code, safety, got 'poetry'"),
        ({"domain": None}, "`domain`: expected one that begins with chat, math, code, safety, got None"),
    ],
)
def test_a_broken_row_is_one_line(change: dict[str, Any], message: str) -> None:
    broken = row(0, np.random.default_rng(0)) | {"domain": "chat"} | change
    with pytest.raises(DataError, match=r"x\.json, row 7(: |, )" + message) as error:
        list(TASK.read([Row(broken, "x.json", 7)]))
    assert len(str(error.value).splitlines()) == 1


def test_scores_that_are_not_one_a_response_are_refused() -> None:
    scored = row(0, np.random.default_rng(0)) | {"score_chosen": [1.0, 2.0], "score_rejected": [1.0, 2.0, 3.0, 4.0]}
    with pytest.raises(DataError, match=r"x\.json, row 7, `score_chosen`: expected as many as responses, 3, got "):
        list(read_entries([Row(scored, "x.json", 7)]))


def test_rm_r1_has_its_published_figure(rmbench_data: Path) -> None:
    """From prompts that win as many cells in each domain as RM-R1 does; its parts by difficulty are means as well."""
    file = rmbench_data / "rm_r1_results" / "RM-R1-Qwen2.5-Instruct-32B" / "RM-Bench" / "final_result.json"
    published = json.loads(file.read_text())
    outcomes = []
    for domain, prompts in (("chat", 129), ("math", 529), ("code", 228), ("safety", 441)):
        won = round(published[domain] * 9 * prompts)
        assert won / 9 / prompts == pytest.approx(published[domain], abs=1e-12)
        for prompt in range(prompts):
            beats = np.full((6, 6), np.nan)
            cells = np.zeros(9)
            cells[: max(0, min(9, won - 9 * prompt))] = 1
            beats[:3, 3:] = cells.reshape(3, 3)
            view = View(None, beats, ["ok"] * 6)
            labels, name = np.array([1.0] * 3 + [0.0] * 3), f"{domain} {prompt}"
            outcomes.append(Outcome(name, {"domain": domain}, name, labels, {"default": view}))
    overall = next(one for one in TASK.measure.statistics(outcomes, "default", None) if one.name == "overall")
    assert overall.value is not None
    assert overall.columns is not None
    assert overall.value(overall.columns.sum(axis=0)) == pytest.approx(published["total_avg_acc"])
    difficulty = np.mean([published[f"{name}_acc"] for name in ("hard", "normal", "easy")])
    assert difficulty == pytest.approx(published["total_avg_acc"])
    assert round(published["total_avg_acc"], 4) == 0.7924


def test_the_real_files(rmbench_data: Path) -> None:
    (reads,) = read_card("rm_bench").front["rmbench"]["reads"]
    data = TASK.load(rmbench_data / reads["data"])
    assert len(data.examples) == reads["examples"]
    assert sum(len(example.candidates) for example in data.examples) == reads["candidates"]
    assert Counter(example.facets["domain"] for example in data.examples) == reads["domain"]
    rows = json.loads((rmbench_data / "rm_bench" / "code_filtered.json").read_text())
    code = [example for example in data.examples if example.facets["domain"] == "code"]
    assert [[one.text for one in example.candidates] for example in code] == [
        one["chosen"] + one["rejected"] for one in rows
    ]
    doubled = Counter(
        example.facets["domain"] for example in data.examples
        if min(len({one.text for one in example.candidates[side]}) for side in (slice(3), slice(3, 6))) < 3
    )  # fmt: skip
    assert doubled == {"code": 16, "chat": 12}
