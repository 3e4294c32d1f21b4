"""Generations are kept as they come, `rmbench generate` writes them, and `rmbench run -p` measures them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import causal
import numpy as np
import pytest
from ask_models import generate

from rmbench.cache import cache_folder
from rmbench.cli import main
from rmbench.errors import ModelError, UsageError
from rmbench.kinds.generation import Prompt
from rmbench.metrics.interval import estimate, mean, wilson_interval
from rmbench.results import files
from rmbench.runs.evaluate import evaluate
from rmbench.runs.respond import Sample, Sampling, evaluate_policy, write_responses
from rmbench.scoring import Store, Usage
from rmbench.scoring.keys import generation_key
from rmbench.types import GenerationRequest, Message, Response

PROMPTS = ["Hi", "What is 37 + 58?", "Sort these words by their last letter: apple, banana."]


class Writer:
    """Writes as many words as the prompt and the sample say; `stop` makes it fail before that generation."""

    fingerprint: str | None = "writer:1"

    def __init__(self, stop: int | None = None) -> None:
        self.stop, self.wrote = stop, 0

    def generate(self, generations: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
        for index, one in enumerate(generations):
            if index == self.stop:
                raise RuntimeError("the machine burns")
            self.wrote += 1
            cap = one.cap or 10**9
            tokens = min(cap, int(one.prompt[0].text) + one.sample)
            finish = "length" if tokens == cap else "stop"
            yield index, Response("word " * tokens, tokens=tokens, finish=finish, cap=one.cap)


def asked(count: int, **changed: Any) -> list[GenerationRequest]:
    prompts = [(Message("user", str(n)),) for n in range(1, count + 1)]
    return [GenerationRequest(**{"prompt": prompt, "cap": 50, **changed}) for prompt in prompts]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return causal.make(tmp_path_factory.mktemp("llama") / "tiny")


# the store


def test_what_was_written_before_a_failure_is_not_written_again() -> None:
    with Store(cache_folder() / "rewards.sqlite") as store:
        first, second, usage = Writer(stop=3), Writer(), Usage()
        with pytest.raises(ModelError, match="failed with RuntimeError: the machine burns; what it wrote is kept"):
            generate(first, asked(7), store=store)
        responses = generate(second, [*asked(7), *asked(2)], store=store, usage=usage)
        assert (first.wrote, second.wrote) == (3, 4)
        assert (usage.requests, usage.unique, usage.stored, usage.scored) == (9, 7, 3, 4)
        assert [r and r.tokens for r in responses] == [1, 2, 3, 4, 5, 6, 7, 1, 2]
        assert generate(Writer(stop=0), asked(7), store=store) == responses[:7]


def test_everything_that_can_change_a_text_is_in_its_key() -> None:
    [one] = asked(1)
    others = [*asked(2)[1:], *asked(1, sample=1), *asked(1, cap=51), *asked(1, sampling={"temperature": 0.5})]
    keys = {generation_key("a", generation) for generation in [one, *others]} | {generation_key("b", one)}
    assert len(keys) == 6
    assert generation_key("a", one) == generation_key("a", asked(1)[0])


def test_a_policy_without_identity_is_not_kept(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as store:
        nameless = Writer()
        nameless.fingerprint = None
        generate(nameless, asked(3), store=store)
        assert store.count() == 0


def test_a_response_that_nobody_asked_for_is_an_error_and_one_left_out_is_missing() -> None:
    class Twice(Writer):
        def generate(self, generations: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
            yield from [(0, Response("a")), (0, Response("b"))]

    class Lazy(Writer):
        def generate(self, generations: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
            yield 1, Response("b")

    with pytest.raises(ModelError, match="wrote response 0 of 2 twice or unasked"):
        generate(Twice(), asked(2))
    assert generate(Lazy(), asked(2)) == [None, Response("b")]


# rmbench generate


def test_generate_writes_what_outputs_and_score_read_again(tmp_path: Path, checkpoint: Path) -> None:
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": text} for text in PROMPTS])
    out, again, rewards = (str(tmp_path / name) for name in ("out.jsonl", "again.jsonl", "rewards.jsonl"))
    command = ["generate", str(prompts), "--samples", "2", "--max-new-tokens", "12", "--device", "cpu"]
    assert main([*command, "-p", f"local:{checkpoint}", "-o", out]) == 0
    rows = [json.loads(line) for line in Path(out).read_text().splitlines()]
    assert [list(row) for row in rows] == [["prompt", "response", "sample", "tokens", "finish", "cap", "policy"]] * 6
    assert [(row["prompt"], row["sample"]) for row in rows] == [(text, n) for text in PROMPTS for n in range(2)]
    assert {(row["cap"], row["policy"]) for row in rows} == {(12, "local/tiny")}
    assert all((row["tokens"] == 12) == (row["finish"] == "length") for row in rows)
    assert main(["generate", str(prompts), "-p", f"outputs:{out}", "-o", again]) == 0
    assert Path(again).read_text() == Path(out).read_text()
    assert main(["score", out, "-m", "length", "-o", rewards]) == 0
    assert len(Path(rewards).read_text().splitlines()) == 6


def test_conversations_are_answered_from_before_their_last_answer(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "3"}, {"role": "assistant", "content": "x"}]
    source = write(tmp_path / "talk.jsonl", [{"messages": turns}, {"messages": [*turns, turns[0]]}, {"prompt": "3"}])
    written = write_responses(Writer(), str(source), Sampling(cap=9))
    assert written.columns["prompt"].to_pylist() == [turns[:1], [*turns, turns[0]]]
    assert written.notes == [
        "1 rows give no prompt to answer: another row of the same prompt, which is asked once",
        "noted: conversations that end with an answer, which is no part of the prompt: 1",
    ]


def test_prompts_that_a_file_of_outputs_lacks_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": text} for text in PROMPTS])
    outputs = write(tmp_path / "outputs.jsonl", [{"prompt": text, "output": "x"} for text in PROMPTS[:2]])
    out = tmp_path / "out.jsonl"
    assert main(["generate", str(prompts), "-p", f"outputs:{outputs}", "-o", str(out)]) == 3
    assert "1 responses are missing" in capsys.readouterr().err
    assert len(out.read_text().splitlines()) == 2
    results = str(tmp_path / "results")
    assert main(["run", "-p", f"outputs:{outputs}", "-t", "lengths", "--data", f"lengths={prompts}",
                 "--out", results]) == 3  # fmt: skip
    assert "1 responses are missing, first sample 0 of example" in capsys.readouterr().out


# results


def evaluated(tmp_path: Path, lengths: Sequence[int], **sampling: Any) -> Any:
    source = write(
        tmp_path / "prompts.jsonl", [{"prompt": str(n), "subset": "even" if n % 2 == 0 else "odd"} for n in lengths]
    )
    [result] = evaluate_policy(
        Writer(), ["lengths"], Sampling(**sampling), data={"lengths": source}, out=tmp_path, name="our/writer"
    )
    return result


def test_shares_quantiles_and_means_are_those_of_the_lengths(tmp_path: Path) -> None:
    lengths = [*range(500, 1500, 10), 2999, 3000, 6000]
    result = evaluated(tmp_path, lengths)
    assert result.subject.kind == "policy"
    assert (result.subject.id, result.statuses, result.truncated) == ("our/writer", {"ok": 103}, 1)
    for k in (1000, 3000, 5000):
        reached = np.array([min(n, 5000) >= k for n in lengths], float)
        low, high = wilson_interval(reached, np.ones(len(lengths)))
        found = result.metric(f"csr_{k}")
        assert (found.value, found.ci_low, found.ci_high) == pytest.approx((reached.mean(), low, high))
    assert result.metric("quantile_0.5").value == sorted(lengths)[51]
    [least] = estimate([mean("tokens", np.minimum(lengths, 5000).astype(float))], range(len(lengths)))
    open_mean = result.metric("tokens")  # one was cut: at least so long
    assert (open_mean.value, open_mean.ci_low, open_mean.ci_high) == (None, pytest.approx(least.ci_low), None)
    assert result.metric("characters").value is None
    assert result.metric("restricted_mean").value == pytest.approx(np.minimum(lengths, 5000).mean())
    assert result.metric("csr_1000", subset="subset=odd").value == 1.0
    assert {metric.view for metric in result.metrics} == {"default"}


def test_a_cap_below_k_leaves_csr_open_within_its_bounds(tmp_path: Path) -> None:
    result = evaluated(tmp_path, [10, 20, 2000, 4000], cap=2000)
    assert result.metric("csr_1000").value == 0.5
    assert result.metric("csr_2000").value == 0.5
    found = result.metric("csr_3000")
    assert found.value is None
    assert (found.ci_low, found.ci_high) == pytest.approx(
        (0.0, float(wilson_interval(np.array([0, 0, 1, 1]), np.ones(4))[1]))
    )
    open_mean = {"mean length: cut, or not known to be whole": 2}
    assert result.left_out == {"default": {"CSR@3000: cap below k": 2, "CSR@5000: cap below k": 2, **open_mean}}


def test_records_hold_a_row_a_sample_and_no_text(tmp_path: Path) -> None:
    result = evaluated(tmp_path, [3, 60], samples=2, cap=50)
    rows = result.records.to_pylist()
    assert [(row["candidate"], row["tokens"], row["characters"], row["finish"], row["cap"]) for row in rows] == [
        (0, 3, 15, "stop", 50),
        (1, 4, 20, "stop", 50),
        (0, 50, 250, "length", 50),
        (1, 50, 250, "length", 50),
    ]
    assert not {"word", "response", "text"} & set(result.records.column_names)
    assert result.metric("within_prompt_variance").clusters == 2
    [path] = tmp_path.rglob("lengths-*.json")
    again = files.read(path, tables=True)
    assert again.model_dump() == result.model_dump()  # the texts are in memory alone
    assert again.records.equals(result.records)


def test_without_token_counts_there_are_characters_and_no_csr(tmp_path: Path) -> None:
    outputs = write(tmp_path / "outputs.jsonl", [{"prompt": "a", "output": "four"}, {"prompt": "b", "output": ""}])
    [result] = evaluate_policy(f"outputs:{outputs}", ["lengths"], data={"lengths": outputs})
    assert result.config.model["unit"] == "characters"
    assert (result.metric("characters").value, result.metric("empty").value) == (2.0, 0.5)
    assert result.metric("csr_1000").value is None
    assert result.left_out == {"default": {"CSR: no token counts": 2}}


@pytest.mark.parametrize(
    ("text", "finish", "status"),
    [
        ("I'm sorry, but I can't do that.", "stop", "refused"),
        ("I can\u2019t list all of them.", None, "refused"),
        ("Unfortunately, I am unable to.", "stop", "refused"),
        ("I cannot " + "x" * 1000, "stop", "ok"),
        ("I'm sorry, but I can't do that.", "length", "ok"),
        ("I can do that: one, two.", "stop", "ok"),
        ("The word sorry, in Greek.", "stop", "ok"),
        ("Sorry state of affairs.", "stop", "ok"),
        (" \n", "stop", "empty"),
    ],
)
def test_refusals_and_empty_responses_are_told_apart(text: str, finish: str | None, status: str) -> None:
    assert Sample(Prompt("", (), ()), 0, Response(text, finish=finish)).status == status


# usage


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give a reward model with -m, or a policy with -p"),
        (["-m", "length"], "overflow: answered by a policy, and none is given; -p names one"),
        (["-p", "outputs:x.jsonl", "-t", "best_of_n"], "best_of_n: judged by a reward model, and none is given"),
        (["-p", "x", "-m", "length"], "length is a reward model, and overflow asks only policies"),
        (["-p", "locall:x"], "unknown policy 'locall' (did you mean 'local'?)"),
        (["-p", "local:x", "--samples", "2", "--temperature", "0"], "would be the same text 2 times"),
        (
            ["-m", "length", "--samples", "2"],
            "--samples, --max-new-tokens, --temperature, --top-p and --count-with",
        ),
    ],
)
def test_a_task_without_a_subject_of_its_kind_is_a_usage_error(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "-t", "overflow", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_models_and_policies_run_side_by_side(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "-t", "best_of_n", "-t", "overflow", "-m", "length", "-p", f"local:{checkpoint}",
               "--device", "cpu", "--limit", "4", "--max-new-tokens", "6", "--samples", "2",
               "--out", str(tmp_path)]  # fmt: skip
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert {path.name for path in tmp_path.rglob("*.json")} == {"best_of_n.json", "overflow.json"}
    assert "lengths in tokens of local/tiny" in printed
    assert "csr 6 %" in printed
    assert "not identified: CSR@1000: cap below k" in printed
    [path] = tmp_path.rglob("overflow.json")
    assert main(["show", str(path)]) == 0
    assert "reminder_length_ratio" in capsys.readouterr().out


def test_only_what_fits_its_kind_is_evaluated(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="best_of_n is judged by a reward model, not answered by a policy"):
        evaluate_policy(Writer(), ["best_of_n"])
    with pytest.raises(UsageError, match="overflow is answered by a policy, not judged by a reward model"):
        evaluate("length", ["overflow"])
    outputs = write(tmp_path / "outputs.jsonl", [{"prompt": "a", "output": "x"}])
    with pytest.raises(UsageError, match="--max-new-tokens 5 cannot change outputs that are written already"):
        evaluate_policy(f"outputs:{outputs}", ["lengths"], Sampling(cap=5), data={"lengths": outputs})


@pytest.mark.parametrize(
    "wrong", [{"samples": 0}, {"cap": 0}, {"seed": -1}, {"temperature": -1}, {"top_p": 0.0}, {"top_p": 1.1}]
)
def test_sampling_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_blanks_up_to_the_cap_are_the_worst_overflow_and_not_an_empty_answer(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"p{i}", "response": "\n" * 50 if i % 2 else "fine", "tokens": 5000 if i % 2 else 1,
         "finish": "length" if i % 2 else "stop", "cap": 5000}
        for i in range(20)
    ]  # fmt: skip
    outputs = write(tmp_path / "blank.jsonl", rows)
    [result] = evaluate_policy(f"outputs:{outputs}", ["lengths"], data={"lengths": outputs})
    assert [result.metric(f"csr_{k}").value for k in (1000, 5000)] == [0.5, 0.5]
    assert result.metric("empty").value == 0


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I\u2019m really sorry. I cannot write this.", True),
        ("As an AI, I have no opinions.", True),
        ("I can't do that.", True),
        ("I am unable to continue.", True),
        ("Unfortunately, I won't be able to write 5,000 words.", True),
        ("I'm sorry for your loss. Here is the poem you asked for.", False),
        ("As an aircraft engineer I wrote this.", False),
        ("I cantered home.", False),
        ("Sorry, Sorry, Sorry, the song goes.", False),
        ("I can't wait to tell you about Rome!", False),
    ],
)
def test_a_refusal_is_told_by_how_it_opens(text: str, refused: bool) -> None:
    example = Prompt("x", (Message("user", "q"),), ())
    assert Sample(example, 0, Response(text)).refused is refused


@pytest.mark.parametrize("option", [("--pooling", "hf"), ("--max-length", "9"), ("--head-dtype", "bfloat16")])
def test_an_option_of_reward_models_says_nothing_to_a_policy(
    option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = write(tmp_path / "o.jsonl", [{"prompt": "a", "output": "x"}])
    arguments = ["run", "-p", f"outputs:{outputs}", "-t", "lengths", "--data", f"lengths={outputs}", *option]
    assert main(arguments) == 2
    assert f"{option[0]} {option[1]} is for a reward model (-m)" in capsys.readouterr().err
