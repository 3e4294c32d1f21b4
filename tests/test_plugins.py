"""The registry: what is installed is found, a name twice is nobody's, and who forgot something is told what."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench import evaluate, load_task, plugins
from rmbench.cli import main
from rmbench.data.cards import read_card
from rmbench.errors import DataError, UsageError
from rmbench.models.spec import declared, open_model, parse
from rmbench.policies import spec as policies

CARD = "---\npretty_name: Ours\nlicense: apache-2.0\n---\n# Ours\n\nWhat a score does not say.\n"
TASK = """
from rmbench.kinds.comparison import Comparison
from rmbench.types import Candidate, Example, Message

def read(rows):
    for row in rows:
        yield Example("", (Message("user", "q"),), (Candidate(row.text("a"), True), Candidate(row.text("b"), False)))

TASK = Comparison(name="ours", version=1, summary="Ours", card="ours", read=read)
"""
FAMILY = '''
"""Words, from elsewhere."""
from rmbench.models.base import Option, Subject
from rmbench.types import Reward

SOURCE = "none"
OPTIONS = {"stem": Option("count words by their stem", bool, False)}

class Words:
    answers = frozenset({"reward"})
    fingerprint = "words:1"
    subject = Subject("elsewhere/words", "words")

    def rewards(self, requests):
        for index, request in enumerate(requests):
            yield index, Reward((float(len(request.responses[0].text.split())),))

def open(source, options, revision):
    return Words()
'''
POLICY = '''
"""Says nothing."""
OPTIONS = {}
SOURCE = "none"

class Silent:
    fingerprint = "silent:1"

    def generate(self, requests):
        return iter(())

def open(source, options, revision):
    return Silent()
'''
SUITE = """
from rmbench.kinds.suite import Suite
SUITE = Suite("pair", "Two tasks", {"best_of_n": ("accuracy", 1), "ours": ("accuracy", 2)})
"""

GROUPS = (plugins.TASKS, plugins.MODELS, plugins.POLICIES, plugins.SUITES)
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package with the modules and entry points given, as pip leaves it behind."""

    def install(package: str, modules: dict[str, str], **groups: str) -> Path:
        home = tmp_path / package
        folder = home / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        for name, code in modules.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(code)
        info = home / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        points = (f"[rmbench.{group}]\n{lines}\n" for group, lines in groups.items())
        (info / "entry_points.txt").write_text("\n".join(points))
        monkeypatch.syspath_prepend(str(home))
        return folder

    return install


def test_whatever_a_package_brings_is_found(install: Install, tmp_path: Path, capsys: Any) -> None:
    install(
        "plug_whole",
        {"task.py": TASK, "family.py": FAMILY, "policy.py": POLICY, "suite.py": SUITE, "data_cards/ours.md": CARD},
        tasks="ours = plug_whole.task:TASK",
        models="words = plug_whole.family",
        policies="silent = plug_whole.policy",
        suites="pair = plug_whole.suite:SUITE",
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"a": "one two", "b": "one"}) + "\n")
    [result] = evaluate("words?stem=true", ["ours"], data={"ours": rows})
    assert (result.metric("accuracy").value, result.subject.id) == (1.0, "elsewhere/words")
    assert set(declared("words")) == {"stem"}
    assert policies.open_policy("silent").fingerprint == "silent:1"
    assert [task.name for task in plugins.load_tasks("suite:pair")] == ["best_of_n", "ours"]
    for what, expected in (
        ("tasks", "Ours"),
        ("models", "Words, from elsewhere."),
        ("policies", "Says nothing."),
        ("suites", "Two tasks"),
    ):
        assert main(["list", what]) == 0
        assert expected in capsys.readouterr().out
    assert main(["show", "ours"]) == 0
    assert "What a score does not say." in capsys.readouterr().out


def test_a_suite_is_run_task_by_task_and_a_task_of_two_once(tmp_path: Path) -> None:
    assert main(["run", "-m", "length", "-t", "suite:bundled", "-t", "best_of_n", "--limit", "5", "--out",
                 str(tmp_path)]) == 0  # fmt: skip
    names = sorted(path.stem for path in tmp_path.rglob("*.json"))
    assert names == ["appetite", "best_of_n", "length_bias", "rewardmath_mini"]


def test_a_task_that_is_being_written_runs_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spelled_here.py").write_text(TASK)
    (tmp_path / "data_cards").mkdir()
    (tmp_path / "data_cards" / "ours.md").write_text(CARD)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"a": "right", "b": "no"}) + "\n")
    assert main(["run", "-m", "length", "-t", "python:spelled_here:TASK", "--data", "ours=rows.jsonl"]) == 0
    assert main(["show", "python:spelled_here:TASK"]) == 0
    assert "What a score does not say." in capsys.readouterr().out


def test_a_task_of_ones_own_under_a_name_that_is_taken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken_here.py").write_text(TASK.replace('name="ours"', 'name="preference"'))
    with pytest.raises(
        UsageError, match="task 'preference' exists twice: in python:taken_here:TASK and in rmbench itself; rename one"
    ):
        load_task("python:taken_here:TASK")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("python:json", "python:json does not name anything in a module; write python:module:attribute"),
        ("python:json:loads", "task 'python:json:loads' has no name; a task has name, version, summary, card, load"),
        ("suite:bundled", "suite:bundled is a suite of several tasks; expected the name of one task"),
    ],
)
def test_what_is_no_task_says_what_is_missing(name: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_task(name)
    assert message in str(error.value)


def test_a_suite_that_is_not_there_has_a_close_one() -> None:
    with pytest.raises(UsageError, match="unknown suite 'bundeld' .did you mean 'bundled'?"):
        plugins.load_tasks("suite:bundeld")


def test_a_name_that_exists_twice_is_an_error_that_names_both(install: Install, capsys: Any) -> None:
    install(
        "plug_clash", {"task.py": TASK}, tasks="preference = plug_clash.task:TASK", models="random = plug_clash.task"
    )
    with pytest.raises(
        UsageError,
        match="task 'preference' exists twice: in rmbench itself and in plug_clash.task:TASK of the package plug_clash",
    ):
        load_task("preference")
    with pytest.raises(UsageError, match="model family 'random' exists twice"):
        parse("random")
    assert main(["list", "tasks"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "cannot be loaded: task 'preference' exists twice" in printed
    assert "RewardMATH" in printed


def test_two_packages_of_one_name_are_named_both(install: Install) -> None:
    for package in ("plug_one", "plug_two"):
        install(package, {"family.py": FAMILY}, models=f"words = {package}.family")
    with pytest.raises(UsageError, match="exists twice: in plug_t?w?on?e?.family of the package plug_.* and in plug_"):
        open_model("words")


def test_a_broken_plugin_raises_its_own_error_under_its_name_and_breaks_no_other(install: Install, capsys: Any) -> None:
    install("plug_broken", {"family.py": "import no_such_module"}, models="broken = plug_broken.family")
    assert open_model("length").fingerprint == "length:1"
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        open_model("broken:x")
    assert main(["run", "-m", "broken:x", "-t", "best_of_n"]) == 1
    told = "model family 'broken' (plug_broken.family of the package plug_broken): ModuleNotFoundError: No module named"
    assert told in capsys.readouterr().err
    assert main(["run", "-m", "lenght", "-t", "best_of_n"]) == 2
    assert "did you mean 'length'" in capsys.readouterr().err
    assert main(["list", "models"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "cannot be loaded: model family 'broken'" in printed
    assert "Baseline: the number of characters" in printed


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit('no licence')", "ends the program where it is imported: no licence"),
        ("def open(", "SyntaxError: '(' was never closed"),
        ("print('hello'); 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_whatever_a_plugin_does_when_it_is_imported_the_rest_goes_on(
    code: str, reason: str, install: Install, capsys: Any
) -> None:
    install("plug_rude", {"family.py": code}, models="rude = plug_rude.family")
    plugins._loaded.cache_clear()
    for module in ("plug_rude.family", "plug_rude"):
        sys.modules.pop(module, None)
    assert main(["list", "models"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "cannot be loaded: model family 'rude' (plug_rude.family of the package plug_rude)" in printed
    assert reason in printed
    assert "hello" not in printed
    assert "Baseline: the number of characters" in printed
    assert main(["run", "-m", "rude:x", "-t", "best_of_n"]) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if line != "hello"]
    assert reason in line


@pytest.mark.parametrize(
    ("group", "code", "message"),
    [
        ("models", "OPTIONS = {}", "model family 'odd' (plug_odd.it of the package plug_odd) has no open; a model"),
        ("models", "def open(*_): ...", "has no OPTIONS; a model family has OPTIONS, open"),
        ("policies", "OPTIONS = {}", "policy 'odd' (plug_odd.it of the package plug_odd) has no open"),
        ("tasks", "TASK = 3", "task 'odd' (plug_odd.it:TASK of the package plug_odd) has no name"),
        (
            "tasks",
            "class TASK:\n    name, version, summary, card = 'odd', 1, '', ''\n    load = questions = outcome = None\n",
            "has no measure; a task has name, version, summary, card, load, questions, outcome, measure",
        ),
        ("suites", "", "suite 'odd' (plug_odd.it:SUITE of the package plug_odd): plug_odd.it has no SUITE"),
        ("suites", SUITE, "calls itself 'pair'; expected the name that it is registered under"),
    ],
)
def test_what_a_plugin_lacks_is_named(group: str, code: str, message: str, install: Install) -> None:
    install("plug_odd", {"it.py": code}, **{group: "odd = plug_odd.it"})
    plugins._loaded.cache_clear()
    for module in ("plug_odd.it", "plug_odd"):
        sys.modules.pop(module, None)
    sort = {one.name: one for one in GROUPS}[f"rmbench.{group}"]
    with pytest.raises(UsageError) as error:
        plugins.load(sort, "odd")
    assert message in str(error.value)


def test_an_attribute_that_an_entry_point_names_and_is_not_there(install: Install) -> None:
    install("plug_absent", {"it.py": ""}, tasks="absent = plug_absent.it:TASK")
    with pytest.raises(UsageError, match="task 'absent' .*: plug_absent.it has no TASK"):
        load_task("absent")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("raise SystemExit('no GPU')", "ends the program where it is imported: no GPU"),
        ("def f(:", "SyntaxError: "),
        ("TASK = 1", "has no name"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_broken_plugin_is_named_and_the_list_goes_on(
    install: Install, capsys: Any, code: str, reason: str, as_json: bool
) -> None:
    package = f"plug_broken_{abs(hash((code, as_json)))}"
    install(package, {"broken.py": f"print('loud')\n{code}"}, tasks=f"broken = {package}.broken:TASK")
    assert main(["list", "tasks", *(["--json"] if as_json else [])]) == 0
    printed = capsys.readouterr()
    assert "loud" not in printed.out
    rows = json.loads(printed.out) if as_json else []
    said = next((row["error"] for row in rows if row["name"] == "broken"), " ".join(printed.out.split()))
    assert f"task 'broken' ({package}.broken:TASK of the package {package})" in said
    assert reason in said
    assert "best_of_n" in printed.out


def test_a_card_may_be_the_text_itself_and_one_that_is_nowhere_says_where_it_was_looked_for() -> None:
    assert read_card(CARD).front["pretty_name"] == "Ours"
    assert read_card("preference", "rmbench.tasks.preference").name == "preference"
    with pytest.raises(
        DataError, match="no data card 'nothing' in data_cards/ beside json.decoder; rmbench has agent_reward_bench, "
    ):
        read_card("nothing", "json.decoder")
    with pytest.raises(DataError, match="expected YAML between two lines of ---, then Markdown"):
        read_card("# No front matter\n\nText.\n")


EVERY = [pytest.param(group, name, id=f"{group.noun} {name}") for group in GROUPS for name in plugins.names(group)]


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_every_plugin_can_be_loaded_and_says_what_it_is(group: plugins.PluginGroup, name: str) -> None:
    plugin = plugins.load(group, name)
    assert plugin.summary if group.attribute else plugins.summary(plugin)


@pytest.mark.parametrize(
    ("group", "name"), [one for one in EVERY if one.values[0] in (plugins.MODELS, plugins.POLICIES)]
)
def test_every_family_declares_options_that_read_their_own_defaults(group: plugins.PluginGroup, name: str) -> None:
    family = plugins.load(group, name)
    assert getattr(family, "SOURCE", "required") in ("required", "none", "url", "members", "member")
    for option in family.OPTIONS.values():
        assert option.help
        if option.choices:
            assert option.default is None or option.default in option.choices


@pytest.mark.parametrize("name", plugins.names(plugins.SUITES))
def test_every_suite_names_tasks_that_exist(name: str) -> None:
    assert [task.name for task in plugins.load_tasks(f"suite:{name}")] == list(plugins.load_suite(name).tasks)
