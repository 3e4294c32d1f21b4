"""What every family of reward models keeps, whichever it is: `tests/families.py` has a tiny checkpoint of each.

A family that is not there fails `test_every_family_is_held_to_this`; one that a package brings is held to it as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import families
import pytest
import torch
from ask_models import generate, score
from families import ANSWERS, CASES, ODD, OF_THE_USER, READY, Case, asked, changed, copied
from real_models import watched

from rmbench.data.cards import read_card
from rmbench.data.part import Part
from rmbench.errors import RmbenchError
from rmbench.models import reader
from rmbench.models.base import Derived, Opened, TokenModel
from rmbench.models.reader import KNOWN_OPTIONS
from rmbench.models.spec import declared, load_model, open_model
from rmbench.plugins import MODELS, POLICIES, load_task, module_of, names, task_names
from rmbench.policies.spec import open_policy
from rmbench.scoring import Store, Usage
from rmbench.types import STATUSES, Ask, GenerationRequest, Message, Request, Reward

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
TOLERANCE = 1e-5  # of the scale of what is compared
LONG = "These words go on and on. " * 400

each = pytest.mark.parametrize("case", READY, ids=str)
# what the families of one reader share is held to on two of them on every run of the tests, on all where it is proved
each_proved = pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case.family in ("value_head", "dpo") else pytest.mark.prove) for case in READY],
    ids=str,
)
each_plain = pytest.mark.parametrize("family", families.without_source())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture
def folder(case: Case, home: Path) -> Path:
    """The checkpoint of a case, which no test changes."""
    place = home / str(case).replace(" ", "_")
    return place if place.exists() else case.written(place, 0)


@pytest.fixture
def rewards(case: Case, folder: Path) -> list[Reward]:
    """What it says of `asked`, found once."""
    if str(case) not in _SAID:
        _SAID[str(case)] = score(open_model(case.spec(folder)), asked(case.ask))
    return _SAID[str(case)]


_SAID: dict[str, list[Reward]] = {}
_FINGERPRINTS: dict[str, Any] = {}


def numbers(rewards: list[Reward]) -> list[float]:
    """All that was said, in order."""
    return [
        number
        for reward in rewards
        for number in (*reward.values, *reward.steps, *(one for head in reward.heads.values() for one in head))
    ]


def alike(some: list[Reward], others: list[Reward]) -> None:
    """The same rewards, but for rounding."""
    assert [one.status for one in some] == [one.status for one in others]
    assert [(one.n_tokens, one.truncated) for one in some] == [(one.n_tokens, one.truncated) for one in others]
    left, right = (torch.tensor(numbers(ones), dtype=torch.float64) for ones in (some, others))
    assert left.isnan().equal(right.isnan())
    known = ~right.isnan()
    scale = float(right[known].abs().max()) if known.any() else 0.0
    assert float((left - right)[known].abs().max()) <= TOLERANCE * max(scale, 1e-6)


def test_every_family_is_held_to_this() -> None:
    held = {case.family for case in CASES} | {*families.without_source()} | OF_THE_USER
    assert [name for name in names(MODELS) if name not in held] == []
    assert {*families.of_checkpoints()} <= {case.family for case in CASES} | {*families.without_source()}


# what a model without a source keeps


@each_plain
def test_a_model_that_is_a_name_says_the_same_whoever_is_beside(family: str) -> None:
    model = load_model(family)
    ask = asks_of(model)
    plain, odd = asked(ask), asked(ask, ODD)
    rewards = score(model, plain)
    shaped(plain, rewards, counted=isinstance(model, TokenModel))
    alike(score(load_model(family), [*odd, *plain[::-1]])[len(odd) :][::-1], rewards)
    for reward in score(model, odd):
        of_some_kind(reward)


@each_plain
def test_a_model_that_is_a_name_is_known_again_and_every_option_counts(family: str) -> None:
    assert open_model(family).fingerprint == open_model(family).fingerprint
    for name, option in declared(family).items():
        if option.kind is int and not option.of_run:
            assert (
                open_model(family, **{name: (option.default or 0) + 64}).fingerprint != open_model(family).fingerprint
            )


@pytest.mark.parametrize("name", families.without_source(POLICIES))
def test_a_policy_that_is_a_name_answers_each_request_once_and_alike(name: str) -> None:
    requests = [GenerationRequest((Message("user", prompt),), cap=8) for prompt in families.PROMPTS]
    written, again = (generate(open_policy(name), requests) for _ in range(2))
    assert all(response is not None and response.text is not None for response in written)
    assert written == again
    assert open_policy(name).fingerprint == open_policy(name).fingerprint


@pytest.mark.parametrize("name", task_names())
def test_a_task_has_a_card_and_what_it_asks_becomes_what_it_measures(name: str) -> None:
    task: Any = load_task(name)
    assert read_card(task.card, module_of(name)).front["rmbench"]["task"] == task.name == name
    if task.subject == "policy" or task.bundled is None:
        return
    data = task.load(part=Part(limit=8))
    outcomes = []
    for example in data.examples:
        questions = task.questions(example, frozenset({"reward"}), data.sha256)
        rewards = [Reward((float(len(question.request.responses[0].text)),)) for question in questions]
        outcomes.append(task.outcome(example, questions, rewards))
    made = task.measure.statistics(outcomes, "default", task.measure.fit(outcomes, "default"))
    assert task.measure.headline in [statistic.name for statistic in made]


# what a checkpoint keeps


@each
def test_there_is_a_number_for_everything_that_was_asked(case: Case, folder: Path, rewards: list[Reward]) -> None:
    opened = open_model(case.spec(folder))
    assert case.ask in opened.answers
    requests = asked(case.ask)
    shaped(requests, rewards, counted=not isinstance(opened, Derived))
    assert len({*numbers(rewards)}) > 1
    assert repr(score(opened, requests)) == repr(rewards), "a second start says the same to the bit"


@each
def test_neighbours_never_decide(case: Case, folder: Path, rewards: list[Reward]) -> None:
    requests, odd = asked(case.ask), asked(case.ask, ODD, families.PROMPTS[:1])
    model = load_model(case.spec(folder))
    alike([score(model, [request])[0] for request in requests], rewards)
    for reward in (among := score(model, [*odd, *requests[::-1]]))[: len(odd)]:
        of_some_kind(reward)
    alike(among[len(odd) :][::-1], rewards)


@each_proved
def test_what_is_cut_is_counted(case: Case, folder: Path) -> None:
    short, long = asked(case.ask)[0], asked(case.ask, [LONG])[0]
    whole, cut = score(open_model(case.spec(folder)), [short, long])
    assert whole.truncated == 0
    assert cut.truncated > 0 or cut.status in ("error", "refused"), "the model has 512 positions"
    model = open_model(case.spec(folder, max_length=60))
    limited = score(model, [long])[0]
    if limited.status == cut.status == "ok":
        assert limited.n_tokens <= 60 * (len(long.responses) if isinstance(model, Derived) else 1)
        assert limited.n_tokens + limited.truncated == cut.n_tokens + cut.truncated


@each_proved
def test_weights_that_are_no_numbers_give_no_reward(case: Case, folder: Path, tmp_path: Path) -> None:
    spoilt = copied(folder, tmp_path / "spoilt")
    for number in (math.inf, math.nan):
        changed(spoilt, lambda name, weight, times=number: weight * times if "norm" in name.lower() else weight)
        said = score(open_model(case.spec(spoilt)), asked(case.ask)[:2])
        assert {reward.status for reward in said} <= {"nan", "inf"}
        assert not any(math.isfinite(value) for reward in said for value in (*reward.values, *reward.steps))


def weights(folder: Path) -> None:
    changed(folder, lambda name, weight: weight * 1.001)


def template(folder: Path) -> None:
    for file in folder.rglob("chat_template.jinja"):
        file.write_text(file.read_text().replace("message.role }}", "message.role }}, "))


def words(folder: Path) -> None:
    """Another normalizer."""
    for file in folder.rglob("tokenizer.json"):
        tokenizer = json.loads(file.read_text())
        tokenizer["normalizer"] = {"type": "Lowercase"}
        file.write_text(json.dumps(tokenizer))


def config(folder: Path) -> None:
    file = folder / "config.json"
    stated = json.loads(file.read_text())
    for name in ("rms_norm_eps", "layer_norm_eps"):
        if name in stated:
            stated[name] *= 100
    file.write_text(json.dumps(stated))


@each_proved
@pytest.mark.parametrize("change", [weights, template, words, config], ids=lambda change: change.__name__)
def test_what_a_checkpoint_holds_is_in_its_fingerprint(
    case: Case, folder: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    other = copied(folder, tmp_path / "other")
    change(other)
    assert fingerprint(case, other) != plain_fingerprint(case, folder)


@each_proved
def test_where_it_lies_and_what_is_not_read_is_not_in_its_fingerprint(case: Case, folder: Path, tmp_path: Path) -> None:
    moved = copied(folder, tmp_path / "moved to")
    (moved / "README.md").write_text("New words.")
    (moved / "training_args.bin").write_bytes(b"pickled")
    assert fingerprint(case, moved) == plain_fingerprint(case, folder)
    assert fingerprint(case, folder, device="cpu") == plain_fingerprint(case, folder)


@each_proved
def test_every_option_that_changes_a_reward_is_in_its_fingerprint(
    case: Case, folder: Path, rewards: list[Reward]
) -> None:
    plain, requests = plain_fingerprint(case, folder), asked(case.ask)
    shared = reader.OPTIONS.keys() if case.family not in ALL_OPTIONS else ()
    for name, option in declared(case.spec(folder)).items():
        for value in OTHER.get(name, option.choices):
            if option.of_run or name in {*UNTRIED, *shared, *case.options} or value in (option.default, ""):
                continue
            with suppress(RmbenchError):  # an option that this checkpoint cannot have
                if fingerprint(case, folder, **{name: value}) == plain:
                    changed_nothing = score(open_model(case.spec(folder, **{name: value})), requests)
                    assert repr(changed_nothing) == repr(rewards), f"{name}={value} is in no fingerprint"


# Values of options whose declaration names none; and those of weights and files, which have tests of their own
OTHER: dict[str, tuple[Any, ...]] = {
    "dtype": ("bfloat16",), "head_dtype": ("bfloat16",), "max_length": (100,), "template": ("plain",), "beta": (0.5,),
    "label": ("LABEL_1",),
}  # fmt: skip
ALL_OPTIONS = ("classifier", "value_head")  # whose options the others share, and how they are hashed
UNTRIED = frozenset({"average", "weight", "adapter", "base", "quantise", "trust_remote_code", "device", *KNOWN_OPTIONS})


@each_proved
def test_a_run_goes_on_where_another_ended(case: Case, folder: Path, tmp_path: Path) -> None:
    requests = asked(case.ask)
    with Store(tmp_path / "kept.sqlite") as store:
        first, later = Usage(), Usage()
        before = score(open_model(case.spec(folder)), requests[:2], store=store, usage=first)
        assert first.scored > 0
        every = score(open_model(case.spec(folder)), requests, store=store, usage=later)
        assert repr(every[:2]) == repr(before)
        assert later.stored >= first.unique
        again = Usage()
        resting = open_model(case.spec(folder))
        assert repr(score(unstartable(resting), requests, store=store, usage=again)) == repr(every)
        assert again.scored == 0


def unstartable(model: Any) -> Any:
    """A model at rest that has to stay so."""
    if not isinstance(model, Opened):
        return model

    def started(self: Any, device: str | None = None) -> Any:
        raise AssertionError(f"{self.subject.id} was started")

    kind = type(model)
    given = {name: getattr(model, name) for name in kind.__dataclass_fields__}
    return type(kind.__name__, (kind,), {"started": started})(**given)


@each
def test_the_fast_path_is_the_slow_one(case: Case, folder: Path) -> None:
    requests = asked(case.ask, [*ANSWERS, "Yes. " * 20])
    model = load_model(case.spec(folder))
    if isinstance(model, Derived):
        return  # its members have cases of their own
    assert isinstance(model, TokenModel)
    with watched() as taken:
        fast = score(model, requests)
    assert (set(taken) != {"padded"}) == case.packed
    alike(fast, one_at_a_time(model, requests))


def one_at_a_time(model: TokenModel, requests: list[Request]) -> list[Reward]:
    """What the backbone gives each sequence alone, read by the model."""
    rewards = []
    for one in model.encode(requests):
        inputs: dict[str, Any] = {"use_cache": False} if model.layout == "causal" else {}
        if one.type_ids is not None:
            inputs["token_type_ids"] = torch.tensor([list(one.type_ids)])
        ids = torch.tensor([list(one.ids)])
        with torch.inference_mode():
            states = model.backbone(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).last_hidden_state[0]
        rewards += model.read([states[list(one.reads)]], [one])
    return rewards


@each_proved
def test_an_average_is_the_model_of_the_mean_weights(case: Case, folder: Path, tmp_path: Path) -> None:
    other, mean = (copied(folder, tmp_path / name) for name in ("other", "mean"))
    case.written(other, 1)
    files = [file.name for file in folder.glob("*.safetensors")]
    for file in files:
        one, two = (families.load_file(place / file) for place in (folder, other))
        halves = {name: one[name].lerp(two[name], 0.25).contiguous() for name in one}
        families.save_file(halves, mean / file, metadata={"format": "pt"})
    requests = asked(case.ask)
    averaged = score(open_model(case.spec(folder, average=other, weight=0.25)), requests)
    alike(averaged, score(open_model(case.spec(mean)), requests))
    shares = [fingerprint(case, folder, average=other, weight=share) for share in (0.25, 0.5)]
    assert len({plain_fingerprint(case, folder), *shares}) == 3


@each_proved
def test_an_adapter_is_the_model_that_it_was_merged_into(
    case: Case, folder: Path, tmp_path: Path, rewards: list[Reward]
) -> None:
    peft = pytest.importorskip("peft")
    import transformers

    if not case.auto:
        pytest.skip("no class of transformers has its weights by their names")
    whole = getattr(transformers, case.auto).from_pretrained(folder)
    tuned = peft.get_peft_model(whole, peft.LoraConfig(r=2, target_modules=r".*\.(q_proj|query)"))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data = 0.1 * families.drawn(name, weight, 3)
    tuned.save_pretrained(tmp_path / "adapter")
    merged = copied(folder, tmp_path / "merged")
    tuned.merge_and_unload().save_pretrained(merged)
    requests = asked(case.ask)
    tuned_rewards = score(open_model(case.spec(folder, adapter=tmp_path / "adapter")), requests)
    alike(tuned_rewards, score(open_model(case.spec(merged)), requests))
    assert numbers(tuned_rewards) != numbers(rewards)
    assert fingerprint(case, folder, adapter=tmp_path / "adapter") != plain_fingerprint(case, folder)


@each
def test_an_option_that_it_does_not_have_is_one_line(case: Case, folder: Path) -> None:
    with pytest.raises(Exception, match="unknown option 'max_lenght' of family .* .did you mean 'max_length'") as error:
        open_model(case.spec(folder, max_lenght=4))
    assert "\n" not in str(error.value)


def fingerprint(case: Case, folder: Path, **options: Any) -> Any:
    """Of a model, and of what it stands on."""
    model = open_model(case.spec(folder, **options))
    members = [open_model(member).fingerprint for member in model.members] if isinstance(model, Derived) else []
    return model.fingerprint, *members


def plain_fingerprint(case: Case, folder: Path) -> Any:
    """The same without options, found once."""
    if str(case) not in _FINGERPRINTS:
        _FINGERPRINTS[str(case)] = fingerprint(case, folder)
    return _FINGERPRINTS[str(case)]


def asks_of(model: Any) -> Ask:
    return next(ask for ask in ("reward", "steps", "compare", "likelihood", "embedding") if ask in model.answers)


def shaped(requests: list[Request], rewards: list[Reward], *, counted: bool) -> None:
    """Each request has an answer with a number for everything that it is about."""
    for request, reward in zip(requests, rewards, strict=True):
        assert (reward.status, reward.detail) == ("ok", None)
        assert len(reward.values) == len(request.responses)
        assert all(len(head) == len(request.responses) for head in reward.heads.values())
        steps = request.responses[0].steps or () if request.ask == "steps" else ()
        assert len(reward.steps) == len(steps)
        assert all(len(head) == len(steps) for head in reward.step_heads.values())
        assert all(map(math.isfinite, reward.steps or reward.values))
        if request.ask == "compare":
            assert sum(reward.values) == pytest.approx(1)
        if counted:
            assert (reward.n_tokens > 0, reward.truncated) == (True, 0)


def of_some_kind(reward: Reward) -> None:
    """A number, or a reason why there is none."""
    assert reward.status in STATUSES
    if reward.status == "ok":
        assert any(map(math.isfinite, reward.steps or reward.values))
    else:
        assert reward.detail or not any(map(math.isfinite, reward.values))
