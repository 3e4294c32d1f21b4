"""The grammar of MODEL and POLICY specs, and options that a family declares or refuses."""

from __future__ import annotations

import gc
import json
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench import plugins
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Opened, Option, RewardModel, Subject, identity_of, subject_of
from rmbench.models.spec import (
    Spec,
    declared,
    elsewhere,
    load_model,
    open_model,
    parse,
    runs_forwards,
    spec_of,
    with_options,
    with_seed,
)
from rmbench.policies import spec as policies
from rmbench.types import Ask, Request, Reward


def yes(text: str) -> bool:
    if text not in ("true", "false", "yes"):
        raise ValueError(f"expected yes or no, got {text!r}")
    return text != "false"


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError("expected a number from 1")
    return number


class Toy:
    """A model that only remembers how it was opened."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = "toy:1"

    def __init__(self, source: str, options: Mapping[str, Any], revision: str | None) -> None:
        self.opened = source, dict(options), revision
        self.subject = Subject("tests/toy", "toy")

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        return iter(())


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Families beside the built-in ones: `toy` with options of each sort, `url`, and `mean` with members."""
    options = {
        "beta": Option("the strength", float, 0.1),
        "norm": Option("divide by length", bool, False),
        "side": Option("a side", choices=("left", "right")),
        "top": Option("how many", positive, 1),
        "file": Option("a file"),
        "tools": Option("tools as text", yes, False),
    }
    families = {
        "toy": {"OPTIONS": options},
        "url": {"OPTIONS": {"timeout": Option("seconds", float, 60.0)}, "SOURCE": "url"},
        "mean": {"OPTIONS": {"members": Option("what is averaged", default=())}, "SOURCE": "none"},
        "least": {"OPTIONS": {"members": Option("of what", default=()), "how": Option("how")}, "SOURCE": "members"},
        "half": {"OPTIONS": {"members": Option("of what", default=()), "how": Option("how")}, "SOURCE": "member"},
    }
    entries = []
    for name, attributes in families.items():
        module = ModuleType(f"tests_family_{name}")
        module.__dict__.update(attributes, open=Toy)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        entries.append(plugins.PluginEntry(plugins.MODELS, name, module.__name__, ""))
    installed = plugins._installed
    monkeypatch.setattr(
        plugins, "_installed", lambda group, path: entries if group is plugins.MODELS else installed(group, path)
    )
    plugins._loaded.cache_clear()


def test_a_word_is_taken_apart() -> None:
    spec = parse("mine/v2=toy:org/name@abc?beta=0.5&norm=true&side=left")
    assert spec == Spec("toy", "org/name", "abc", {"beta": 0.5, "norm": True, "side": "left"}, "mine/v2")
    assert spec.text == "mine/v2=toy:org/name@abc?beta=0.5&norm=true&side=left"
    assert parse("toy:x?norm&tools").options == {"norm": True, "tools": True}
    assert parse("random?seed=7") == Spec("random", options={"seed": 7})
    assert len({parse("random?seed=7"), parse("random?seed=7"), parse("random")}) == 2


def test_what_exists_as_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a@b", "c?beta=1", "lr=0.1", "d=e?beta=2@x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"architectures": ["LlamaForSequenceClassification"]}))
        assert parse(name) == Spec("classifier", name)
        assert parse(f"toy:{name}") == Spec("toy", name)
        assert parse(f"{name}?max_length=9") == Spec("classifier", name, options={"max_length": 9})
        assert parse(f"n=toy:{name}@r?beta=3") == Spec("toy", name, "r", {"beta": 3.0}, "n")


def test_a_built_in_name_comes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "length").mkdir()
    assert parse("length") == Spec("length")


def test_a_url_is_taken_whole() -> None:
    url = "https://me@host:8000/v1?model=a&timeout=3"
    assert parse(f"url:{url}") == Spec("url", url)
    assert parse(f"served=url:{url}") == Spec("url", url, name="served")
    assert open_model(f"url:{url}", timeout=3).opened == (url, {"timeout": 3.0}, None)  # type: ignore[union-attr]


_WORDS = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=8).filter(lambda t: t.strip("."))
_NAMES = st.from_regex(r"[A-Za-z0-9][\w.-]{0,5}(/[A-Za-z0-9][\w.-]{0,5})?", fullmatch=True).filter(str.isascii)
_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "beta": st.floats(allow_nan=False),
        "norm": st.booleans(),
        "side": st.sampled_from(["left", "right"]),
        "top": st.integers(1),
        "file": st.text(string.ascii_letters + "=/:.@ ", min_size=1, max_size=9),
    },
)


@given(
    source=st.lists(_WORDS, min_size=1, max_size=3).map("/".join) | st.text("a:=? /-", min_size=1).filter(str.strip),
    revision=st.none() | _WORDS,
    options=_OPTIONS,
    name=st.none() | _NAMES,
)
def test_a_spec_says_as_a_word_what_it_was_read_from(
    source: str, revision: str | None, options: dict[str, Any], name: str | None
) -> None:
    spec = Spec("toy", source, revision, options, name)
    try:
        read = parse(str(spec))
    except UsageError as error:
        assert "?" in source, "a source that looks like options is refused, never read as another"
        assert "option" in str(error)  # noqa: PT017
    else:
        assert read == spec
        assert parse(str(read)) == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("toy:x?betta=1", "unknown option 'betta' of family 'toy' (did you mean 'beta'?); expected one of beta, file"),
        ("toy:x?beta=1&gamma=2", "unknown option 'gamma' of family 'toy'"),
        ("length?beta=1", "unknown option 'beta' of family 'length'; it has no options"),
        ("python:json:loads?x=1", "unknown option 'x' of family 'python'; expected one of batch, concurrency, give_up"),
        ("toy:x?beta=much", "beta='much' of family 'toy': expected a number"),
        ("toy:x?norm=perhaps", "norm='perhaps' of family 'toy': expected true or false"),
        ("toy:x?side=top", "side='top' of family 'toy': expected one of left, right"),
        ("toy:x?top=0", "top='0' of family 'toy': expected a number from 1"),
        ("toy:x?beta", "beta=true of family 'toy': expected a number"),
        ("toy:x?file", "file=true of family 'toy': expected a text"),
        ("toy:x?tools=maybe", "tools='maybe' of family 'toy': expected yes or no, got 'maybe'"),
        ("toy:x?beta=1&beta=2", "option 'beta' is given twice"),
        ("toy:x?beta=", "option 'beta' has no value"),
        ("toy:x@", "expected a source before the @ and a revision behind it"),
        ("toy", "model 'toy' names no source; write toy:SOURCE"),
        ("mean:x", "mean is a model by itself, without source or revision"),
        ("../up=length", "name '../up': a model's id in results is"),
        ("a=b=length", "unknown model 'b=length'"),
    ],
)
def test_a_spec_that_cannot_be_right_names_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert message in str(error.value)


def test_a_family_is_opened_with_what_it_declares() -> None:
    toy: Any = open_model("toy:org/name@abc?beta=0.5", top="3")
    options = {"beta": 0.5, "norm": False, "side": None, "top": 3, "file": None, "tools": False}
    assert toy.opened == ("org/name", options, "abc")
    assert load_model("toy:x", norm=True).opened[1]["norm"] is True  # type: ignore[union-attr]
    assert set(declared("random")) == {"seed"}
    assert declared(Toy("", {}, None)) == {}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("toy:x", {"betta": 1}, "unknown option 'betta' of family 'toy'"),
        ("toy:x?beta=1", {"beta": 2}, "'toy:x?beta=1' asks for beta=1.0, the option for beta=2.0"),
        ("toy:x@a", {"revision": "b"}, "asks for revision 'a', the option for 'b'"),
        ("length", {"revision": "b"}, "family 'length' has no revisions"),
        ("length", {"device": "cpu"}, "unknown option 'device' of family 'length'"),
        ("toy:x", {"norm": "maybe"}, "norm='maybe' of family 'toy': expected true or false"),
        ("toy:x", {"top": 1.5}, "top=1.5 of family 'toy'"),
        ("toy:x", {"tools": "perhaps"}, "expected yes or no, got 'perhaps'"),
        ("toy:x", {"top": True}, "top=true of family 'toy': expected how many"),
        (len, {"device": "cpu"}, "device='cpu' cannot change a model that is loaded already"),
        (3, {}, "a model is a spec, a Path, a function, an object with a protocol's methods, (model, tokenizer)"),
    ],
)
def test_an_option_that_means_nothing_is_refused_by_name(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        open_model(model, **options)
    assert message in str(error.value)


def test_options_that_agree_are_one() -> None:
    assert with_options(parse("toy:x?beta=1"), beta=1, side=None).options == {"beta": 1.0}


def test_a_name_is_the_models_id_in_results() -> None:
    assert [subject_of(open_model(text)).id for text in ("a/b=length", "length")] == ["a/b", "rmbench/length"]


def test_a_file_says_what_a_word_cannot(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'family = "toy"\nsource = "what?ever=1"\nname = "mine"\n[options]\nbeta = 2\nfile = "a&b?c=d"\nnorm = true\n'
    )
    assert parse(str(path)) == Spec("toy", "what?ever=1", None, {"beta": 2.0, "file": "a&b?c=d", "norm": True}, "mine")
    assert parse(f"mine={path}").name == "mine"
    with pytest.raises(UsageError, match="is named 'other' here and 'mine' in mine.toml"):
        parse(f"other={path}")


def test_members_are_specs_or_tables(tmp_path: Path) -> None:
    path = tmp_path / "both.toml"
    path.write_text('family = "mean"\nmembers = ["length", {family = "random", options = {seed = 3}}]\n')
    spec = parse(str(path))
    assert spec.members == (Spec("length"), Spec("random", options={"seed": 3}))
    opened: Any = open_model(spec)
    assert opened.opened[1]["members"] == spec.members
    in_memory: Any = open_model("mean", members=["length", len])
    assert [member.family for member in in_memory.opened[1]["members"]] == ["length", "object"]
    given: Any = open_model(spec, seed=3)
    assert [dict(member.options) for member in given.opened[1]["members"]] == [{}, {"seed": 3}]
    with pytest.raises(UsageError, match="asks for seed=3, the option for seed=4"):
        open_model(spec, seed=4)
    with pytest.raises(UsageError, match="unknown option 'device' of family 'mean'; expected one of members"):
        open_model(spec, device="cpu")
    path.write_text('family = "length"\nmembers = ["length"]\n')
    with pytest.raises(UsageError, match="unknown option 'members' of family 'length'; it has no options"):
        open_model(str(path))


def test_members_stand_behind_the_colon_apart_by_commas() -> None:
    spec = parse("m=least:toy:org/a@v1?beta=2,b=toy:c, random?how=min")
    assert (spec.family, spec.source, spec.revision, spec.name, spec.options) == (
        "least",
        "",
        None,
        "m",
        {"how": "min"},
    )
    assert spec.members == (Spec("toy", "org/a", "v1", {"beta": 2.0}), Spec("toy", "c", name="b"), Spec("random"))
    assert (str(spec), str(spec.members[1])) == (spec.text, "b=toy:c")
    assert parse("least:length,random") == Spec("least", members=(Spec("length"), Spec("random")))
    assert parse("least?how=x") == Spec("least", options={"how": "x"})


def test_one_that_is_made_of_one_nests_and_the_last_question_mark_is_the_outer_one_s() -> None:
    inner = Spec("least", options={"how": "a"}, members=(Spec("half", options={"how": "b"}, members=(Spec("length"),)),
                                                         Spec("random", options={"seed": 7})))  # fmt: skip
    word = "half:least:half:length?how=b,random?seed=7?how=a?how=c"
    assert parse(word) == Spec("half", options={"how": "c"}, members=(inner,))


def test_a_member_with_commas_or_options_of_its_own_stands_in_brackets() -> None:
    inner = Spec("least", options={"how": "a"}, members=(Spec("length"), Spec("random")))
    spec = parse("least:x=(least:length,random?how=a),toy:b,(random?seed=3)")
    assert spec.members == (replace(inner, name="x"), Spec("toy", "b"), Spec("random", options={"seed": 3}))
    assert parse("half:(least:length,random?how=a)").members == (inner,)
    assert parse("least:(least:length,random?how=a),toy:b?how=c").options == {"how": "c"}


def test_what_a_family_of_others_does_not_declare_goes_to_the_members_that_do() -> None:
    assert parse("least:length,random?seed=7").members[1].options == {"seed": 7}
    found = parse("least:toy:a,half:toy:b?how=x?beta=2&how=y")
    assert [dict(spec.options) for spec in (found, found.members[0], found.members[1].members[0])] == [
        {"how": "y"}, {"beta": 2.0}, {"beta": 2.0},
    ]  # fmt: skip
    with pytest.raises(UsageError, match="unknown option 'betta' of family 'least' .did you mean 'beta'"):
        parse("least:toy:a,length?betta=2")


def test_a_run_s_seed_is_for_what_has_none() -> None:
    assert with_seed("least:length,random", 3, {}) == {"seed": 3}
    assert with_seed("least:half:random?seed=7?how=x,random?seed=8?how=y", 3, {}) == {}


@pytest.mark.parametrize("word", ["least:", "least:length,,random", "half:"])
def test_a_member_that_is_not_named_is_one_line(word: str) -> None:
    with pytest.raises(UsageError, match="names no source; write (least|half):MEMBER|a member without a name"):
        parse(word)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('family = "least"\nsource = "length"', "bad.toml: family 'least' is made of others; expected members"),
        ("family = ", "bad.toml cannot be read as TOML"),
        ("", "bad.toml: neither family nor source"),
        ('famly = "toy"', "bad.toml: unknown key 'famly' (did you mean 'family'?)"),
        ('family = "toy"', "bad.toml: family 'toy' needs a source"),
        ('family = "length"\nsource = "x"', "bad.toml: length is a model by itself"),
        ('family = "tou"\nsource = "x"', "unknown model family 'tou' (did you mean 'toy'"),
        ('family = "toy"\nsource = 3', "bad.toml: source = 3; expected a text"),
        ('family = "toy"\nsource = "x"\noptions = 3', "bad.toml: options = 3; expected a table"),
        ('family = "mean"\nmembers = [3]', "bad.toml, member 1: expected a spec or a table, got 3"),
        ('family = "toy"\nsource = "x"\noptions = {betta = 1}', "unknown option 'betta' of family 'toy'"),
    ],
)
def test_a_file_that_is_no_spec_says_where(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UsageError) as error:
        parse(str(tmp_path / "bad.toml"))
    assert message in str(error.value)


def test_a_file_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UsageError, match="nowhere.toml: no such file"):
        parse("nowhere.toml")


@pytest.mark.parametrize("missing", ["answers", "fingerprint"])
def test_what_a_family_forgot_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful:
        def __init__(self, *_: Any) -> None:
            for name in {"answers", "fingerprint"} - {missing}:
                setattr(self, name, None)

        def rewards(self, requests: Any) -> Any: ...

    monkeypatch.setattr(sys.modules["tests_family_toy"], "open", Forgetful)
    with pytest.raises(
        UsageError, match=f"family 'toy' opened, a Forgetful, has no {missing}; a model with rewards has"
    ):
        open_model("toy:x")
    with pytest.raises(UsageError, match=f"the model, a Forgetful, has no {missing}"):
        open_model(Forgetful())


def test_a_source_that_is_no_sort_of_source_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tests_family_url"], "SOURCE", "maybe")
    with pytest.raises(UsageError, match="family 'url' has SOURCE = 'maybe'; expected one of required, none, url"):
        parse("url:x")


# who a model is


def test_own_code_is_known_again_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def first(prompt, response):\n    return 1\n\ndef second(prompt, response):\n    return 2\n"
    monkeypatch.syspath_prepend(str(tmp_path))

    def opened(text: str, attribute: str = "first") -> Any:
        (tmp_path / "own_rewards.py").write_text(text)
        sys.modules.pop("own_rewards", None)
        return open_model(f"python:own_rewards:{attribute}")

    model = opened(code)
    assert (identity_of(model), model.fingerprint) == ("named", opened(code).fingerprint)
    assert model.fingerprint.startswith("python:1:")
    assert (
        len({opened(text).fingerprint for text in (code, code + "# more\n")} | {opened(code, "second").fingerprint})
        == 3
    )


def test_an_object_of_own_code_keeps_its_own_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_objects.py").write_text(
        "class Model:\n    answers = frozenset({'reward'})\n    uses = frozenset({'reference'})\n"
        "    def __init__(self, fingerprint=None):\n        self.fingerprint = fingerprint\n"
        "    def rewards(self, requests):\n        return iter(())\n"
        "stated = Model('mine:3')\n"
    )
    stated, unstated = (open_model(f"python:own_objects:{name}") for name in ("stated", "Model"))
    assert (stated.fingerprint, identity_of(stated)) == ("mine:3", "content")
    assert str(unstated.fingerprint).startswith("python:1:")
    assert (identity_of(unstated), unstated.uses) == ("named", {"reference"})  # type: ignore[union-attr]


def test_what_is_in_memory_is_nobody() -> None:
    assert identity_of(open_model(lambda prompt, response: 1.0)) == "none"
    assert spec_of(len).model is len


def test_own_code_has_no_revision() -> None:
    with pytest.raises(UsageError, match="python:json:loads@main: own code has no revisions"):
        open_model("python:json:loads@main")


# policies


def test_policies_are_written_as_models_are(tmp_path: Path) -> None:
    assert policies.parse("mine=local:org/name@r?dtype=float32") == Spec(
        "local", "org/name", "r", {"dtype": "float32"}, "mine"
    )
    rows = tmp_path / "rows@2.jsonl"
    rows.write_text('{"prompt": "a", "output": "x"}\n')
    assert subject_of(policies.open_policy(f"mine=outputs:{rows}")).id == "mine"
    with pytest.raises(UsageError, match="unknown option 'dtype' of family 'outputs'"):
        policies.open_policy(f"outputs:{rows}", dtype="float32")
    assert set(policies.declared("outputs:x")) == {"count_with"}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("outputs", "policy 'outputs' names no source"),
        ("org/name", "unknown policy 'org/name'; write outputs:FILE"),
        (object(), "expected a spec or an object with generate and fingerprint, got object"),
    ],
)
def test_what_is_no_policy_is_refused(policy: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        policies.open_policy(policy)
    assert message in str(error.value)


def test_a_policy_without_a_fingerprint_is_told_so() -> None:
    class Nameless:
        def generate(self, requests: Any) -> Any: ...

    with pytest.raises(UsageError, match="the policy, a Nameless, has no fingerprint"):
        policies.open_policy(Nameless())


def test_a_model_that_cannot_be_made_is_a_model_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "unmakeable.py").write_text("class F:\n    def __init__(self, needed): ...\n")
    with pytest.raises(ModelError, match="python:unmakeable:F cannot be made: TypeError"):
        open_model("python:unmakeable:F")


# models at rest


class Resting:
    """A model at rest that remembers how it was started, and ends with its block."""

    answers: frozenset[Ask] = frozenset({"reward"})

    def __init__(self, source: str, options: Mapping[str, Any], revision: str | None) -> None:
        self.options, self.fingerprint, self.subject = options, f"resting:{source}", Subject("tests/resting", "resting")
        self.running = 0

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[Toy]:
        self.running += 1
        try:
            yield Toy("weights", {"device": device or self.options["device"]}, None)
        finally:
            self.running -= 1


@pytest.fixture
def resting(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = sys.modules["tests_family_toy"]
    monkeypatch.setattr(toy, "OPTIONS", {"beta": Option("b", float), "device": Option("a device", of_run=True)})
    monkeypatch.setattr(toy, "open", Resting)


@pytest.mark.usefixtures("resting")
def test_a_model_at_rest_is_started_where_its_options_say_and_another_process_may_say_otherwise() -> None:
    opened: Any = open_model("mine=toy:x?beta=1&device=cuda:1")
    assert isinstance(opened, Opened)
    assert (opened.fingerprint, opened.subject.id) == ("resting:x", "mine")
    with opened.started() as model:
        assert isinstance(model, RewardModel)
        assert model.opened == ("weights", {"device": "cuda:1"}, None)  # type: ignore[attr-defined]
        assert opened.running == 1
    assert opened.running == 0
    assert elsewhere("toy:x?beta=1&device=cuda:1") == Spec("toy", "x", options={"beta": 1.0})
    assert elsewhere(opened) is None


@pytest.mark.usefixtures("resting")
def test_a_loaded_model_stays_loaded() -> None:
    opened: Any = open_model("toy:x", device="cpu")
    model = load_model(opened)
    assert (model.opened, opened.running) == (("weights", {"device": "cpu"}, None), 1)  # type: ignore[union-attr]
    gc.collect()
    assert opened.running == 1


@pytest.mark.usefixtures("resting")
def test_forwards_are_run_for_what_is_started_has_members_or_may_be_anything() -> None:
    assert [runs_forwards(model) for model in ("toy:x", "mean", "python:a:b", len, "length", "random")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip
