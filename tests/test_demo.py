"""The demo model: it has learnt something, it reads the problem, and the script beside it makes it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from statistics import mean

import pytest

import rmbench
from rmbench.models import demo as family
from rmbench.models.classifier import Classifier
from rmbench.models.spec import parse
from rmbench.types import Example, Request, Response

MEGABYTE = 1_000_000
FOLDER = Path(str(resources.files("rmbench.demo")))


@cache
def bundled() -> Sequence[Example]:
    return rmbench.load_task("rewardmath_mini").load().examples


@cache
def demo() -> Classifier:
    return family.open("", {}).start("cpu")


def test_the_demo_needs_no_source_and_is_named_for_what_it_is() -> None:
    assert parse("demo") == parse("demo")
    assert (demo().subject.id, demo().subject.family, demo().subject.revision) == ("rmbench/demo", "demo", None)
    assert str(FOLDER) not in json.dumps(dict(demo().subject.settings))


def test_the_checkpoint_is_small_and_of_stock_parts() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir() if file.is_file()) < 6 * MEGABYTE
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert "auto_map" not in config


def test_the_demo_picks_the_right_solution_of_ten_far_above_chance_and_every_shortcut() -> None:
    (result,) = rmbench.evaluate(demo(), ["rewardmath_mini"])
    found = result.metric("accuracy")
    print(found)
    assert result.statuses == {"ok": 3600}
    assert found.value is not None
    assert found.value > 0.4
    assert found.ci_low is not None
    assert found.ci_low > 0.2
    stated = f"| 0, the one that is shipped | {100 * found.value:.1f} % | {100 * found.ci_low:.1f}"
    assert stated in (FOLDER / "README.md").read_text()


def test_given_another_problem_s_text_the_demo_is_near_chance() -> None:
    # every other problem, for time; in place of its text that of the next problem of its topic
    followed = [
        (e, after)
        for e, after in zip(bundled(), bundled()[9:], strict=False)
        if e.facets["subset"] == after.facets["subset"]
    ][::2]
    assert len(followed) > 150
    asked = [(after.prompt[0].text, c.text or "") for e, after in followed for c in e.candidates]
    rewards = iter(rmbench.score(demo(), asked))
    found = mean(right_is_highest(e, [next(rewards).value for _ in e.candidates]) for e, _ in followed)
    print(f"{found:.3f}")
    assert found < 0.2


def right_is_highest(example: Example, rewards: Sequence[float]) -> bool:
    (right,) = (reward for reward, c in zip(rewards, example.candidates, strict=True) if c.label)
    return sum(reward >= right for reward in rewards) == 1


def test_training_and_evaluation_give_the_model_the_same_tokens() -> None:
    from transformers import AutoTokenizer

    from rmbench.demo.train import encode

    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    example = bundled()[0]
    texts = [c.text or "" for c in example.candidates]
    (request, *_) = requests = [Request("reward", example.prompt, (Response(text),)) for text in texts]
    assert [list(one.ids) for one in demo().encode(requests)] == encode(tokenizer, request.prompt[0].text, texts)


def test_no_bundled_problem_has_a_word_that_the_demo_does_not_know() -> None:
    unknown = demo().rendering.tokenizer.unk_token_id
    requests = [Request("reward", e.prompt, (Response(c.text),)) for e in bundled() for c in e.candidates]
    assert not any(unknown in one.ids for one in demo().encode(requests))


def test_packed_solutions_get_the_rewards_that_they_get_by_themselves() -> None:
    import torch

    from rmbench.demo import train
    from rmbench.tasks.rewardmath_mini.generate import problems

    stream = problems(1, held_out=False)
    batch = [next(stream) for _ in range(3)]
    tokenizer = train.make_tokenizer(1)
    torch.manual_seed(1)
    model = train.make_model(tokenizer).eval()
    packed = train.pack(tokenizer, batch, train.Random(1))
    with torch.no_grad():
        together, _ = train.rewards(model, packed)
        for row, problem in enumerate(batch):
            ids = train.encode(tokenizer, problem.text, [problem.solutions[0].text])
            alone = float(model(input_ids=torch.tensor(ids)).logits[0, 0])
            assert float(together[row, 0]) == pytest.approx(alone, abs=1e-5)
