"""M-RewardBench: its rows in each language, its scores and kappas against plain loops, and a kappa's interval."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

import rmbench
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.metrics.interval import estimate
from rmbench.metrics.verdicts import kappa
from rmbench.results.verify import verify
from rmbench.tasks import m_rewardbench, rewardbench
from rmbench.tasks.m_rewardbench import ENGLISH, LANGUAGES, SECTIONS, TASK
from rmbench.types import Outcome, Request, Reward, View

SUBSETS = [subset for subsets in SECTIONS.values() for subset in subsets]
Verdicts = dict[str, dict[tuple[str, int], float]]  # by language, then by subset and number


def drawn(seed: int, values: Sequence[float] = (0.0, 1.0)) -> Verdicts:
    """Verdicts of each language on two to four pairs of each subset; English has one more, which nobody translated."""
    rng = np.random.default_rng(seed)
    pairs = [(subset, number) for at, subset in enumerate(SUBSETS) for number in range(2 + at % 3)]
    said: Verdicts = {code: {pair: float(rng.choice(values)) for pair in pairs} for code in [*LANGUAGES, ENGLISH]}
    return said | {ENGLISH: said[ENGLISH] | {("math-prm", 99): 1.0}}


def outcomes_of(said: Verdicts) -> list[Outcome]:
    """Verdicts as a model that compares gives them."""
    return [
        Outcome(f"{code}{subset}{number}", {"language": code, "section": "", "subset": subset}, f"{subset}-{number}",
                np.array([1.0, 0.0]),
                {"default": View(None, np.array([[np.nan, one], [1 - one, np.nan]]), ["ok"] * 2)})
        for code, pairs in said.items()
        for (subset, number), one in pairs.items()
    ]  # fmt: skip


def figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    statistics = TASK.measure.statistics(outcomes, "default", None)
    return {one.name: one.value for one in estimate(statistics, [one.cluster for one in outcomes], draws=2)}


def plain_score(pairs: dict[tuple[str, int], float], counts: dict[str, dict[str, int]]) -> dict[str, float]:
    """The weighted averages of the authors' plot_utils.get_scores."""
    sections = {}
    for section, weights in counts.items():
        total = weight = 0.0
        for subset, count in weights.items():
            of = [one for (name, _), one in pairs.items() if name == subset]
            total, weight = total + count * sum(of) / len(of), weight + count
        sections[section] = total / weight
    return {"Score": sum(sections.values()) / 4, **sections}


def plain_kappa(one: Sequence[float], other: Sequence[float]) -> float:
    n = len(one)
    agreed = sum(a == b for a, b in zip(one, other, strict=True)) / n
    chance = sum(one.count(c) / n * other.count(c) / n for c in {*one, *other})
    return (agreed - chance) / (1 - chance)


@pytest.mark.parametrize(("seed", "values"), [(0, (0.0, 1.0)), (1, (0.0, 0.5, 1.0))], ids=["rewards", "judge"])
def test_scores_and_kappas_are_those_of_plain_loops(seed: int, values: Sequence[float]) -> None:
    said = drawn(seed, values)
    found = figures(outcomes_of(said))
    by_language = {code: plain_score(said[code], SECTIONS) for code in LANGUAGES}
    for name, due in {"score": "Score", "chat": "Chat", "chat_hard": "Chat Hard", "safety": "Safety"}.items():
        assert found[name] == pytest.approx(sum(of[due] for of in by_language.values()) / 23)
    original = [plain_score(said[code], rewardbench.SECTIONS)["Score"] for code in LANGUAGES]
    assert found["score_rewardbench_counts"] == pytest.approx(sum(original) / 23)
    kappas = []
    for code in LANGUAGES:
        pairs = [pair for pair in said[code] if pair in said[ENGLISH]]
        kappas.append(plain_kappa([said[code][pair] for pair in pairs], [said[ENGLISH][pair] for pair in pairs]))
        assert found[f"kappa_{code}"] == pytest.approx(kappas[-1])
    assert found["kappa"] == pytest.approx(sum(kappas) / 23)
    for code in ("deu_Latn", ENGLISH):
        alone = figures([one for one in outcomes_of(said) if one.facets["language"] == code])
        due_of = plain_score(said[code], SECTIONS)
        names = ("language_score", "language_chat", "language_chat_hard", "language_safety", "language_reasoning")
        assert [alone[name] for name in names] == pytest.approx([*due_of.values()])
        assert math.isnan(alone["score"])
        assert "kappa" not in alone


def test_a_mean_over_languages_and_subsets_is_there_only_where_all_of_them_are() -> None:
    """What lacks is Korean in all of Safety's `donotanswer`, and in all languages `hep-go`."""
    outcomes = [
        one
        for one in outcomes_of(drawn(2))
        if one.facets["subset"] != "hep-go"
        and (one.facets["subset"], one.facets["language"]) != ("donotanswer", "kor_Hang")
    ]
    found = figures(outcomes)
    there = {name for name in ("score", "chat", "chat_hard", "safety", "reasoning") if not math.isnan(found[name])}
    assert there == {"chat", "chat_hard"}
    others = [one for one in outcomes if one.facets["language"] != "kor_Hang"]
    kappas = estimate(m_rewardbench.kappas(others, "default"), [one.cluster for one in others], draws=2)
    assert {one.name for one in kappas if math.isnan(one.value)} == {"kappa", "kappa_kor_Hang"}
    unanswered = replace(outcomes[0], views={})
    assert math.isnan(m_rewardbench.won([unanswered], "default")[0])


def test_the_counts_are_the_rows_of_a_language_and_983_for_math_prm() -> None:
    weights = {subset: weight for of in SECTIONS.values() for subset, weight in of.items()}
    code = sum(weight for subset, weight in weights.items() if subset.startswith("hep-"))
    assert weights["math-prm"] == code == 983
    assert sum((weights | {"math-prm": 447}).values()) == 2869
    assert {section: [*of] for section, of in SECTIONS.items()} == {
        section: [*of] for section, of in rewardbench.SECTIONS.items()
    }
    assert len(LANGUAGES) == 23


# rows


def row(at: int, **more: Any) -> dict[str, Any]:
    return {"id": at, "prompt": f"{at}?", "chosen": "a" * (at % 3 + 1), "rejected": "bb"} | more


def test_rows_of_the_hub_get_the_language_of_their_config_and_those_of_rewardbench_are_english(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    codes = ("deu_Latn", "zho_Hant")
    for name, configs in (("multilingual-reward-bench", codes), ("reward-bench", ("default",))):
        folder, split = tmp_path / name, "test" if len(configs) > 1 else "filtered"
        folder.mkdir()
        listed = [f"{{config_name: {one}, data_files: [{{split: {split}, path: {one}.jsonl}}]}}" for one in configs]
        (folder / "README.md").write_text(f"---\nconfigs: [{', '.join(listed)}]\n---\n")
        for config in configs:
            more = {"subset": "donotanswer"} if name == "reward-bench" else {"source": "donotanswer", "language": "?"}
            (folder / f"{config}.jsonl").write_text("\n".join(json.dumps(row(at, **more)) for at in (7, 8)))
    sources = [source for source in TASK.sources if source.config in (*codes, None)]
    data = replace(TASK, sources=tuple(
        replace(source, id=str(tmp_path / source.id.rpartition("/")[2])) for source in sources
    )).load()  # fmt: skip
    assert Counter(one.facets["language"] for one in data.examples) == {"deu_Latn": 2, "zho_Hant": 2, ENGLISH: 2}
    assert Counter(one.cluster for one in data.examples) == {"donotanswer-7": 3, "donotanswer-8": 3}


def test_files_are_of_the_language_that_they_or_their_folder_or_their_rows_name(tmp_path: Path) -> None:
    for file, more in {
        "arb_Arab/filtered.jsonl": {"subset": "hep-go"},
        "vie_Latn.jsonl": {"source": "hep-go", "language": "Vietnamese"},
        "rest.jsonl": {"source": "hep-go", "language": "ita_Latn", "chosen_model": "strong"},
        "eng_Latn/rewardbench.jsonl": {"subset": "hep-go"},
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps(row(3, **more)))
    data = TASK.load(tmp_path)
    assert [one.id for one in data.examples] == [
        f"{code}-hep-go-3" for code in ("arb_Arab", ENGLISH, "ita_Latn", "vie_Latn")
    ]
    assert {one.cluster for one in data.examples} == {"hep-go-3"}
    assert data.examples[2].candidates[0].tags == {"policy": "strong"}
    assert data.examples[0].facets == {"language": "arb_Arab", "section": "Reasoning", "subset": "hep-go"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "chat"}, "`source`: expected one of alpacaeval-easy, .*, got 'chat'"),
        ({"source": ...}, "no `source`; found .*; a row of M-RewardBench has"),
        ({"id": ...}, "no `id`; found"),
        ({"id": None}, "`id`: expected what its row of RewardBench is called, got None"),
        ({"chosen": None}, "`chosen`: expected a text, got None"),
        ({"prompt": 3}, "`prompt`: expected a text or a list of messages, got 3"),
        ({"language": None}, "no `language`; found .*; expected one, or a file or folder named after one"),
    ],
)
def test_a_broken_row_is_one_line(change: dict[str, Any], message: str) -> None:
    rows = {**row(1, source="hep-go", language="deu_Latn"), **change}
    rows = {name: value for name, value in rows.items() if value is not ...}
    with pytest.raises(DataError, match=rf"^rows\.jsonl, row 7(, |: ){message}"):
        list(TASK.read([Row(rows, "rows.jsonl", 7)]))


class Told:
    """Rewards by a rule, in the order asked."""

    answers, fingerprint = frozenset({"reward"}), "told"

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        for index in range(len(requests)):
            yield index, Reward((float(index * 7 % 5),))


def test_a_run_whose_records_give_every_figure_again(tmp_path: Path) -> None:
    for code in ("deu_Latn", "fra_Latn", ENGLISH):
        rows = [row(at, source="hep-go", prompt=f"{code} {at}?") for at in range(4)]
        (tmp_path / f"{code}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (result,) = rmbench.evaluate(Told(), [TASK], data={"m_rewardbench": tmp_path})
    verify(result, TASK)
    assert result.statuses == {"ok": 24}
    assert result.metric("kappa_deu_Latn").n == 4
    assert result.metric("kappa_deu_Latn").clusters == 4


# a kappa's interval


def simulated(rng: np.random.Generator, prompts: int, languages: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Verdicts that take English's over with .6 and else are drawn, for most prompts alike in all languages."""
    english = (rng.random(prompts) < 0.75).astype(float)
    alike = rng.random(prompts) < 0.8
    takes, luck = (np.where(alike, rng.random(prompts)[None], rng.random((languages, prompts))) for _ in range(2))
    others = np.where(takes < 0.6, english, luck < 0.7)
    tables = [np.zeros((languages, prompts, 6)) for _ in range(languages)]
    for at, table in enumerate(tables):
        table[at] = m_rewardbench.agreement(others[at], english)
    return [table.reshape(-1, 6) for table in tables], np.tile(np.arange(prompts), languages)


def test_the_interval_of_a_mean_kappa_covers_it_over_prompts_and_would_not_over_pairs() -> None:
    """Of 400 such samples 95 % over prompts, 94 % of one language, 55 % over pairs; the same at 40 and 400 prompts."""
    won, agreed = 0.6 * 0.75 + 0.4 * 0.7, 0.6 + 0.4 * (0.75 * 0.7 + 0.25 * 0.3)
    chance = 0.75 * won + 0.25 * (1 - won)
    due = (agreed - chance) / (1 - chance)
    rng, inside = np.random.default_rng(5), Counter[str]()
    for _ in range(60):
        tables, clusters = simulated(rng, 100, 8)
        for how, some, codes in (
            ("prompts", tables, clusters),
            ("pairs", tables, np.arange(800)),
            ("one", [tables[0][:100]], clusters[:100]),
        ):
            (found,) = estimate([kappa("kappa", some, "", "")], codes, draws=200)
            inside[how] += found.ci_low <= due <= found.ci_high
    assert inside["prompts"] >= 53
    assert inside["one"] >= 53
    assert inside["pairs"] < 45
