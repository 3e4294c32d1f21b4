"""Policies: outputs are joined by their prompts, and a checkpoint writes the same text whatever the batch."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import causal
import pytest
from started import start_policy

from rmbench.errors import DataError, ModelError, RmbenchError, UsageError
from rmbench.policies import local
from rmbench.policies.base import Policy
from rmbench.policies.drawing import Draw
from rmbench.policies.outputs import Outputs
from rmbench.policies.spec import load_policy
from rmbench.runs.respond import evaluate_policy
from rmbench.types import GenerationRequest, Message, Response

GREEDY = {"temperature": 0.0, "top_p": 1.0, "seed": 0}
DRAWN = {"temperature": 1.0, "top_p": 1.0, "seed": 0}
TEXTS = [
    "Hi",
    "What is 37 + 58?",
    "Sort these words: apple, banana, cherry and plum, by their last letter.",
    "?",
    "A b c",
]


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def write(folder: Path, rows: list[dict[str, Any]], name: str = "outputs.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"outputs:{folder / name}"


def outputs(folder: Path, *rows: dict[str, Any], **options: Any) -> Outputs:
    policy = load_policy(write(folder, list(rows)), **options)
    assert isinstance(policy, Outputs)
    return policy


def written(policy: Policy, generations: list[GenerationRequest]) -> list[Response]:
    found = dict(policy.generate(generations))
    return [found[index] for index in range(len(generations))]


def test_a_policy_without_log_probabilities_refuses_them_by_name(tmp_path: Path, checkpoint: Path) -> None:
    asked = [GenerationRequest(user("Hi"), cap=4, sampling=GREEDY, top=5)]
    file = outputs(tmp_path, {"prompt": "Hi", "output": "Hello"})
    for policy in (file, start_policy(checkpoint)):
        refused = f"{policy.subject.id} tells no log-probabilities of tokens, and top=5 asks for them"
        with pytest.raises(UsageError, match=f"^{refused}$"):
            written(policy, asked)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return causal.make(tmp_path_factory.mktemp("gpt2") / "tiny-gpt2", "gpt2")


@pytest.fixture(scope="module")
def policy(checkpoint: Path) -> local.Local:
    loaded = load_policy(f"local:{checkpoint}", device="cpu")
    assert isinstance(loaded, local.Local)
    return loaded


# outputs


@pytest.mark.parametrize(
    "name",
    [
        "alpaca-7b",
        "gpt4_1106_preview",
        "gpt4_gamed",
        "pairrm-zephyr-7b-beta",
        "vicuna-7b",
        "zephyr-7b-beta",
        "NullModel",
    ],
)
def test_average_characters_are_those_of_alpacaevals_leaderboard(name: str, rmbench_data: Path) -> None:
    folder = rmbench_data / "alpaca_eval"
    with (folder / "leaderboards/data_AlpacaEval_2/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv").open() as file:
        published = {row[""]: row["avg_length"] for row in csv.DictReader(file)}
    file_path = folder / "model_outputs" / f"{name}.json"
    [result] = evaluate_policy(f"outputs:{file_path}", ["lengths"], data={"lengths": file_path})
    characters = result.metric("characters")
    assert (characters.n, result.statuses) == (805, {"ok": 805})
    assert characters.value is not None
    assert math.floor(characters.value) == int(published[name])


def test_several_outputs_of_a_prompt_are_its_samples(tmp_path: Path) -> None:
    policy = outputs(
        tmp_path,
        {"instruction": "a", "output": "first", "generator": "them"},
        {"instruction": "b", "output": "", "generator": "them"},
        {"instruction": "a", "output": "second", "generator": "them"},
    )
    assert policy.subject.id == "them"
    assert (policy.samples(user("a")), policy.samples(user("b")), policy.samples(user("c"))) == (2, 1, 1)
    places = [("a", 1), ("a", 0), ("b", 0), ("c", 0), ("a ", 0)]
    asked = [GenerationRequest(user(text), sample) for text, sample in places]
    assert {i: response.text for i, response in policy.generate(asked)} == {0: "second", 1: "first", 2: ""}


def test_what_wrote_the_outputs_is_a_name_and_never_a_path(tmp_path: Path) -> None:
    row = {"prompt": "a", "output": "x"}
    named = [
        outputs(tmp_path, row | {"model": name}).subject.id for name in ("org/model", "/home/me/run 7", "../ckpt/")
    ]
    assert named == ["org/model", "outputs/run 7", "outputs/ckpt"]
    assert outputs(tmp_path, row).subject.id == "outputs"


def test_stated_samples_tokens_cap_and_finish_are_used(tmp_path: Path) -> None:
    row = {"prompt": "a", "sample": 3, "response": "x", "tokens": 7, "cap": 9, "finish_reason": "max_tokens"}
    policy = outputs(tmp_path, row)
    assert policy.written[user("a")] == {0: Response("x", tokens=7, finish="length", cap=9)}
    assert policy.unit == "tokens as the file counts them"


def test_sample_numbers_only_order_the_samples(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "sample": n, "response": str(n)} for n in (3_000_000, 1, 7)]
    policy = outputs(tmp_path, *rows)
    assert [policy.written[user("a")][i].text for i in range(policy.samples(user("a")))] == ["1", "7", "3000000"]


def test_counts_may_be_whole_floats_as_a_column_with_gaps_has_them(tmp_path: Path) -> None:
    policy = outputs(tmp_path, {"prompt": "a", "response": "x", "tokens": 7.0, "cap": float("nan")})
    assert policy.written[user("a")][0] == Response("x", tokens=7, cap=None)


def test_a_tokenizer_counts_outputs_and_their_cap_is_then_unknown(tmp_path: Path, checkpoint: Path) -> None:
    policy = outputs(
        tmp_path, {"prompt": "a", "response": "hello", "tokens": 99, "cap": 100}, count_with=str(checkpoint)
    )
    ids = start_policy(checkpoint).rendering.tokenizer("hello", add_special_tokens=False)
    assert policy.written[user("a")][0] == Response("hello", tokens=len(ids["input_ids"]), cap=None)
    assert policy.unit == "tokens of local/tiny-gpt2"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [{"prompt": "a", "output": "x", "tokens": 1}, {"prompt": "b", "output": "y"}],
            "1 of 2 responses have `tokens`",
        ),
        ([{"prompt": "a", "output": "x", "generator": g} for g in "pq"], "responses of 2 policies (p, q); one a file"),
        ([{"prompt": "a", "output": "x", "sample": 0}] * 2, "row 2: sample 0 of this prompt stood before"),
        ([{"prompt": "a"}], "row 1: no `response`; found `prompt`; an output has its text in `output`"),
        ([{"output": "a"}], "row 1: no `prompt`; found `output`; an output has `prompt` or `instruction`"),
        ([{"prompt": "", "output": "a"}], "row 1, `prompt`: an empty prompt joins nothing"),
        ([{"prompt": "a", "output": None}], "row 1, `output`: expected a text, got None"),
        ([{"prompt": "a", "output": "x", "tokens": -1}], "`tokens`: -1 is no whole number from 0"),
        ([{"prompt": "a", "output": "x", "tokens": 1.5}], "`tokens`: 1.5 is no whole number from 0"),
        ([{"prompt": "a", "output": "x", "tokens": 2**31}], "`tokens`: 2147483648 is no whole number from 0 to 2,147"),
        ([{"prompt": "a", "output": "x", "tokens": 5, "cap": 10**30}], "`cap`: 1000000000000000000000000000000 is no"),
        ([{"prompt": "a", "output": "x", "tokens": 1e300}], "`tokens`: 1000"),
        ([{"prompt": "a", "output": "x", "tokens": "9" * 5000}], "is no whole number from 0"),
        ([{"prompt": "a", "output": "x", "tokens": 6, "cap": 5}], "`tokens`: 6 tokens under a cap of 5"),
    ],
)
def test_outputs_that_cannot_be_read_say_where(tmp_path: Path, rows: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(DataError) as error:
        load_policy(write(tmp_path, rows))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("spec", "options", "told"),
    [
        ("gpt2", {}, "unknown policy 'gpt2'; write outputs:FILE"),
        ("locl:x", {}, "did you mean 'local'"),
        ("local:", {}, "names no source"),
        ("local:x", {"temprature": 1}, "unknown option 'temprature' of family 'local' (did you mean 'template'?)"),
        (
            "outputs:x.json",
            {"dtype": "float32"},
            "unknown option 'dtype' of family 'outputs'; expected one of count_with",
        ),
        ("local:x", {"count_with": "gpt2"}, "unknown option 'count_with' of family 'local'"),
        (3, {}, "the policy: expected a spec or an object with generate and fingerprint, got int"),
    ],
)
def test_specs_that_name_no_policy_say_what_would(spec: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as error:
        load_policy(spec, **options)
    assert told in str(error.value)


# local


def test_greedy_text_is_that_of_the_model_alone_whatever_the_batch(policy: local.Local) -> None:
    import torch

    asked = [GenerationRequest(user(text), cap=24, sampling=GREEDY) for text in TEXTS]
    together = written(policy, asked)
    assert together == [written(policy, [one])[0] for one in asked]
    assert together == written(policy, asked[::-1])[::-1]
    for one, response in zip(asked, together, strict=True):  # against a loop without cache, padding or `generate`
        ids = policy.prompt_ids([one])[0]
        new: list[int] = []
        while len(new) < 24 and (not new or new[-1] not in policy.ends):
            new.append(int(policy.model(torch.tensor([[*ids, *new]])).logits[0, -1].argmax()))
        kept = [token for token in new if token not in policy.ends]
        assert response.text == policy.rendering.tokenizer.decode(kept, skip_special_tokens=True)
        assert (response.tokens, response.finish) == (len(kept), "stop" if len(kept) < len(new) else "length")


def test_samples_depend_on_their_own_key_alone(policy: local.Local) -> None:
    asked = [GenerationRequest(user(text), sample, 16, DRAWN) for text in TEXTS for sample in range(3)]
    together = written(policy, asked)
    assert together == [written(policy, [one])[0] for one in asked]
    assert len({response.text for response in together}) == len(asked)
    other_seed = written(policy, [GenerationRequest(one.prompt, one.sample, 16, {**DRAWN, "seed": 1}) for one in asked])
    assert all(a.text != b.text for a, b in zip(together, other_seed, strict=True))
    policy.token_budget, before = 1, policy.token_budget
    try:
        assert written(policy, asked) == together
    finally:
        policy.token_budget = before


def test_a_longer_cap_goes_on_from_a_shorter_one(policy: local.Local) -> None:
    short, long = (written(policy, [GenerationRequest(user("Hi"), s, cap, DRAWN) for s in range(6)]) for cap in (8, 24))
    cut = [(a, b) for a, b in zip(short, long, strict=True) if a.finish == "length"]
    assert cut
    for a, b in cut:
        assert (b.text or "").startswith((a.text or "").rstrip("\ufffd"))
        assert a.tokens == 8
        assert b.finish == "stop" or b.tokens == 24


def test_draws_follow_the_probabilities_and_top_p_cuts_their_tail() -> None:
    import torch

    mass = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    scores = mass.log().float()

    def drawn(top_p: float, temperature: float) -> Counter[int]:
        keys = [str(number) for number in range(4000)]
        return Counter(Draw(temperature, top_p, "x")(scores.expand(4000, -1), keys, [0] * 4000).tolist())

    for top_p, temperature, expected in (
        (1.0, 1.0, mass),
        (1.0, 2.0, mass.sqrt() / mass.sqrt().sum()),
        (0.7, 1.0, torch.tensor([0.625, 0.375, 0, 0])),
        (0.5, 1.0, torch.tensor([1.0, 0, 0, 0])),
    ):
        counts = drawn(top_p, temperature)
        for token, share in enumerate(expected.tolist()):
            assert abs(counts[token] / 4000 - share) <= 4 * math.sqrt(share * (1 - share) / 4000)


def test_every_end_that_config_generation_config_or_tokenizer_know_ends_a_response(tmp_path: Path) -> None:
    folder = causal.make(tmp_path / "ends")
    plain = load_policy(f"local:{folder}", device="cpu")
    assert isinstance(plain, local.Local)
    asked = [GenerationRequest(user(text), 0, 24, GREEDY) for text in TEXTS]
    first = plain.rendering.tokenizer.encode(written(plain, asked)[0].text, add_special_tokens=False)[0]
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [3, first]}))
    ended = load_policy(f"local:{folder}", device="cpu")
    assert isinstance(ended, local.Local)
    assert ended.ends == {3, first}
    assert written(ended, asked)[0] == Response("", tokens=0, finish="stop", cap=24)
    assert ended.fingerprint != plain.fingerprint


def shown(policy: local.Local, text: str) -> str:
    (ids,) = policy.prompt_ids([GenerationRequest(user(text))])
    decoded: str = policy.rendering.tokenizer.decode(ids)
    return decoded


def test_the_prompt_ends_where_the_response_is_due_and_starts_with_one_bos(tmp_path: Path) -> None:
    folder = causal.make(tmp_path / "chat", chat=False)
    plain = start_policy(folder)
    assert shown(plain, "Hi") == "<s>User: Hi\n\nAssistant:"
    template = tmp_path / "chat.jinja"
    template.write_text(
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    chat = start_policy(folder, template=str(template))
    assert shown(chat, "Hi") == "<s>[user]Hi[assistant]"
    assert chat.fingerprint != plain.fingerprint


def test_a_cap_that_does_not_fit_is_told_with_its_numbers(policy: local.Local) -> None:
    longest = len(policy.prompt_ids([GenerationRequest(user("Hi"))])[0])
    with pytest.raises(ModelError) as error:
        written(policy, [GenerationRequest(user("Hi"), 0, 600, GREEDY)])
    assert f"need up to {600 + longest} positions" in str(error.value)
    assert f"the model has 512; the longest prompt has {longest} tokens" in str(error.value)
    assert f"--max-new-tokens {512 - longest} fits them all" in str(error.value)
    with pytest.raises(UsageError, match="needs a cap"):
        written(policy, [GenerationRequest(user("Hi"))])


def test_a_batch_that_runs_out_of_memory_is_halved_until_it_fits(
    policy: local.Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = replace(policy, shares=False)
    asked = [GenerationRequest(user(text), sample, 8, DRAWN) for text in TEXTS for sample in range(3)]
    expected, sizes, whole = written(policy, asked), [], policy.model.generate

    def generate(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 4:
            raise RuntimeError("CUDA out of memory")
        return whole(**inputs)

    monkeypatch.setattr(policy.model, "generate", generate)
    assert written(policy, asked) == expected
    assert sizes[:3] == [15, 7, 3]
    assert sum(size for size in sizes if size <= 4) == len(asked)

    def fail(**_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(policy.model, "generate", fail)
    with pytest.raises(ModelError, match="out of memory on a single prompt of"):
        written(policy, asked)


def test_logits_that_are_no_numbers_are_an_error(policy: local.Local, tmp_path: Path) -> None:
    import torch

    broken = start_policy(causal.make(tmp_path / "nan"))
    with torch.no_grad():
        broken.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="logits that are no numbers"):
        written(broken, [GenerationRequest(user("Hi"), 0, 4, GREEDY)])


def test_what_is_no_causal_checkpoint_is_refused(tmp_path: Path) -> None:
    from checkpoints import make

    def told(folder: Path) -> str:
        with pytest.raises(RmbenchError) as error:
            load_policy(f"local:{folder}", device="cpu")
        return str(error.value)

    assert "LlamaForSequenceClassification, which writes no text" in told(make(tmp_path / "rm", "llama"))
    pickled = causal.make(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "safetensors only" in told(pickled)
    torn = causal.make(tmp_path / "torn")
    remote = json.loads((torn / "config.json").read_text())
    (torn / "config.json").write_text(json.dumps({**remote, "num_hidden_layers": 3}))
    assert "not in the checkpoint; what it writes would be random" in told(torn)
    (torn / "config.json").write_text(json.dumps({**remote, "auto_map": {"AutoModelForCausalLM": "other/code--m.M"}}))
    with pytest.raises(ModelError, match="auto_map names other/code--m.M, code of another repository"):
        load_policy(f"local:{torn}", device="cpu", trust_remote_code=True)


@pytest.mark.parametrize("logits", [[0.0, math.inf, 0.0], [-math.inf] * 3])
def test_infinite_logits_are_an_error_and_no_token(logits: list[float]) -> None:
    import torch

    from rmbench.policies.drawing import Draw

    with pytest.raises(ModelError, match="org/model gives logits that are infinite"):
        Draw(1.0, 0.9, "org/model")(torch.tensor([logits]), ["key"], [0])
    assert Draw(1.0, 1.0, "org/model")(torch.tensor([[-math.inf, 0.0, -math.inf]]), ["key"], [0]).tolist() == [1]


def test_a_policy_s_prompts_are_rendered_as_a_reward_model_s_are(checkpoint: Path) -> None:
    def ids(prompt: tuple[Message, ...], **options: Any) -> list[int]:
        return start_policy(checkpoint, **options).prompt_ids([GenerationRequest(prompt, cap=4, sampling=GREEDY)])[0]

    plain, system = user("Hi"), (Message("system", "Be brief"), *user("Hi"))
    assert ids(plain, bos="none") == ids(plain)[1:] == ids(plain, bos="one")[1:]
    assert ids(system, fold_system=True) == ids(user("Be brief\n\nHi"))
    forged = user("Hi</s>")
    with pytest.warns(
        UserWarning, match="1 of 1 requests: control tokens of the tokenizer in the text; the option cont"
    ):
        assert ids(forged).count(3) == ids(plain).count(3) + 1
    with pytest.warns(UserWarning, match="control tokens of the tokenizer in the text, read as text"):
        assert ids(forged, control_tokens="text").count(3) == ids(plain).count(3)
    given: list[dict[str, Any]] = [{}, {"bos": "none"}, {"fold_system": True}, {"control_tokens": "text"}]
    assert len({start_policy(checkpoint, **options).fingerprint for options in given}) == len(given)
