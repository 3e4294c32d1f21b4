"""Hub sets, with a local folder in the place of the hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest
from fake_hub import FakeHub, serving

from rmbench.cli import main
from rmbench.data import hub
from rmbench.data.hub import HubSet
from rmbench.errors import DataError, UsageError
from rmbench.kinds.comparison import Comparison
from rmbench.runs.loading import load_tasks


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))


def folder(parent: Path, **splits: list[object]) -> str:
    for split, rows in splits.items():
        (parent / f"{split}.jsonl").write_text("\n".join(json.dumps({"problem": row}) for row in rows))
    return str(parent)


def test_rows_of_the_only_split_with_the_hash_of_their_contents(tmp_path: Path) -> None:
    loaded = HubSet(folder(tmp_path, train=["one", "two"])).load("rewardmath")
    rows = list(loaded.rows)
    assert [row.value for row in rows] == [{"problem": "one"}, {"problem": "two"}]
    assert (rows[1].file, rows[1].number, loaded.source.revision) == (tmp_path.name, 2, "local")
    (tmp_path / "more").mkdir()
    other = HubSet(folder(tmp_path / "more", train=["one", "three"])).load("rewardmath")
    assert other.source.sha256 != loaded.source.sha256
    assert (loaded.source.rows, other.source.id) == (2, "more")


def test_a_named_split(tmp_path: Path) -> None:
    path = folder(tmp_path, train=["one"], test=["two"])
    assert [row.value for row in HubSet(path, split="test").load("rewardmath").rows] == [{"problem": "two"}]
    with pytest.raises(DataError, match="has the splits train, test; the task names none of them"):
        HubSet(path).load("rewardmath")


def test_the_newest_commit_is_asked_for_once_and_a_stated_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def dataset_info(self: object, name: str, *, revision: str | None, timeout: float) -> SimpleNamespace:
        asked.append((name, revision))
        return SimpleNamespace(sha=revision or f"{len(asked)}" * 40)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    newest = [hub.commit_of("org/asked-once", None) for _ in range(3)]
    assert newest == ["1" * 40] * 3
    assert hub.commit_of("org/asked-once", "b" * 40) == "b" * 40
    assert asked == [("org/asked-once", None), ("org/asked-once", "b" * 40)]


def test_without_the_hub_one_line_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"hub set no/where cannot be loaded .*give --data rewardmath=FILE") as error:
        HubSet("no/where").load("rewardmath")
    assert len(str(error.value).splitlines()) == 1


OLD, NEW, NEWEST = (letter * 40 for letter in "abc")
SCRIPT = """
import json, os, urllib.request, warnings
from rmbench.data import hub
from rmbench.runs.loading import load_tasks
from rmbench.kinds.comparison import Comparison
from rmbench.tasks import preference

def say(*told):
    urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/set/" + "/".join(told)).read()

def load(**more):
    task = Comparison("ours", 1, "?", "none", read=preference.TASK.read, sources=(hub.HubSet("org/MySet-x"),))
    hub.commit_of.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            (item,) = load_tasks([task], **more)
            said = [item.data.examples[0].prompt[0].text, item.data.revision, dict(item.own)]
        except Exception as error:
            said = [str(error)]
    print(json.dumps([*said, [str(one.message) for one in caught]]), flush=True)

say("429", "all"); load()
say("403", "files"); load()
say("0", "all"); load(revision="aaaaaaa"); load(revision={"ours": "bbbbbbb"}); load(revision="bbbbbbb")
say("501", "files"); load()
say("503", "all"); load(); load(revision={"org/MySet-x": "a" * 40}); load(revision="d" * 40)
say("0", "all"); load(revision="nosuch")
say("401", "missing"); load()
"""


def test_a_hub_that_gives_no_answer_never_fails_what_was_read_before(tmp_path: Path) -> None:
    def rows(word: str) -> dict[str, str]:
        return {"train.jsonl": json.dumps({"prompt": word, "chosen": "x", "rejected": "y"})}

    fake = FakeHub("org/MySet-x", {OLD: rows("old"), NEW: rows("new"), NEWEST: rows("newest")})
    with serving(fake):
        env = {"HF_ENDPOINT": fake.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_ours",
               "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}  # fmt: skip
        done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True,
                              env={**os.environ, **env})  # fmt: skip
    cold, gated, old, new, again, late, down, pinned, unknown, nosuch, missing = map(
        json.loads, done.stdout.splitlines()
    )
    way = "with its rows in a file, give --data ours=FILE"
    set_ = "hub set org/MySet-x"
    assert cold == [f"{set_} cannot be loaded ({fake.url} answers 429, and it is not in the cache); {way}", []]
    assert gated == [f"{set_} cannot be loaded (it is gated): accept its terms at https://huggingface.co/datasets/"
                     f"org/MySet-x, then log in with `hf auth login`, or set HF_TOKEN; {way}", []]  # fmt: skip
    assert old == ["old", OLD, {"revision": {"org/MySet-x": "aaaaaaa"}}, []]
    assert new == again == ["new", NEW, {"revision": {"org/MySet-x": "bbbbbbb"}}, []]
    no_files = f"{fake.url} gives no files of {NEWEST[:12]}"
    assert late == ["new", NEW, {}, [f"{set_}: {no_files}; read from the cache, at commit bbbbbbbbbbbb"]]
    assert down == ["new", NEW, {}, [f"{set_}: {fake.url} answers 503; read from the cache, at commit bbbbbbbbbbbb"]]
    assert pinned[:2] == ["old", OLD]
    assert len(pinned[-1]) == 1
    assert "cannot be loaded" in unknown[0]
    assert "answers 503, and it is not in the cache" in unknown[0]
    assert f"{set_} at nosuch cannot be loaded (it has no such revision)" in nosuch[0]
    assert f"{set_} cannot be loaded (there is none, or it is private)" in missing[0]
    assert fake.files_asked(NEW) == 1  # the second time nothing but its commit
    assert {token for token in fake.tokens if token} == {"Bearer hf_ours"}


def test_offline_what_is_here_is_read_without_a_word_and_what_is_not_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError) as error:
        HubSet("org/MySet").load("ours")
    assert str(error.value) == (
        "hub set org/MySet cannot be loaded (HF_HUB_OFFLINE is set, and it is not in the cache): fetch it once where "
        "the hub can be reached, by `HF_HUB_OFFLINE=0 rmbench run -m length -t ours --limit 1`; with its rows in a "
        "file, give --data ours=FILE"
    )
    with pytest.raises(DataError, match="-t ours --revision ours=v2 --limit 1`"):
        HubSet("org/MySet", revision="v2").load("ours")
    for letter in "ab":  # as `datasets` lays it down
        (tmp_path / letter).mkdir()
        datasets.load_dataset("json", data_files=f"{folder(tmp_path / letter, train=[letter])}/train.jsonl")
        (made,) = (tmp_path / "cache" / "json").glob("*/*/*/dataset_info.json")
        info = {**json.loads(made.read_text()), "config_name": "default", "dataset_name": "my_set"}
        into = tmp_path / "cache" / "org___my_set" / "default" / "0.0.0" / (letter * 40)
        into.mkdir(parents=True)
        (into / "dataset_info.json").write_text(json.dumps(info))
        (made.parent / "json-train.arrow").rename(into / "my_set-train.arrow")
        shutil.rmtree(tmp_path / "cache" / "json")
    os.utime(into, (time.time() + 9,) * 2)
    loaded = HubSet("org/MySet", split="train").load("ours")
    assert ([row.value for row in loaded.rows], loaded.source.revision) == ([{"problem": "b"}], "b" * 40)
    pinned = HubSet("org/MySet", revision="a" * 40, split="train").load("ours")
    assert ([row.value for row in pinned.rows], pinned.source.revision) == ([{"problem": "a"}], "a" * 40)
    with pytest.raises(DataError, match=r"org/MySet at c+ cannot be loaded \(HF_HUB_OFFLINE is set"):
        HubSet("org/MySet", revision="c" * 40).load("ours")


def two_sets(**more: Any) -> Any:
    sets = (HubSet("org/one"), HubSet("org/two", split="x"))
    return Comparison("several", 1, "?", "none", read=lambda rows: iter(()), sources=sets, **more)


@pytest.mark.parametrize(
    ("revision", "told"),
    [
        ("abc", "--revision abc: there are 2 tasks; expected TASK=abc for one of them"),
        ({"several": "abc"}, "--revision several=abc: several reads org/one and org/two; expected org/one=abc"),
        ({"severel": "abc"}, "--revision severel=abc: no task of this run and no hub set (did you mean 'several'?); "
                             "there is several, best_of_n, org/one, org/two"),
        ({"best_of_n": "abc"}, "--revision best_of_n=abc: best_of_n is of no hub set, which has no revisions"),
        ({"org/one": ""}, "--revision org/one=: expected a commit, a branch or a tag"),
    ],
)  # fmt: skip
def test_a_revision_of_what_has_none_is_one_line(revision: Any, told: str) -> None:
    with pytest.raises(UsageError) as error:
        load_tasks([two_sets(), "best_of_n"], revision=revision)
    assert str(error.value) == told


def test_the_command_takes_a_commit_of_a_task(tmp_path: Path, capsys: Any) -> None:
    command = ["run", "-m", "length", "-t", "rewardmath", "--out", str(tmp_path)]
    assert main([*command, "--revision", "cde06ab"]) == 1
    assert "hub set RewardMATH/RewardMATH at cde06ab cannot be loaded (HF_HUB_OFFLINE" in capsys.readouterr().err
    assert main([*command, "--revision", "rewardmath=a", "--revision", "rewardmath=b"]) == 2
    assert "rewardmath is given twice, a and b" in capsys.readouterr().err
    file = tmp_path / "x.jsonl"
    file.write_text("{}")
    assert main([*command, "--revision", "a", "--data", f"rewardmath={file}"]) == 2
    assert "--revision rewardmath=a: rewardmath is read from --data, which has no revisions" in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_is_one_line_within_seconds(tmp_path: Path) -> None:
    nobody_listens = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "rmbench", "run", "-m", "length", "-t", "rewardmath", "--out", str(tmp_path / "out")],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **nobody_listens},
    )
    assert time.monotonic() - started < 30
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "hub set RewardMATH/RewardMATH cannot be loaded" in line
    assert "give --data rewardmath=FILE" in line
