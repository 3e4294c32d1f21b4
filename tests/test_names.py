"""Several models in one command: no two share a name, and no name says where a folder lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import make

from rmbench.cli import main
from rmbench.cli._names import columns_of, named
from rmbench.errors import UsageError
from rmbench.models.spec import Spec, parse
from rmbench.results import files


def spec_of(text: str) -> Spec:
    """A spec of a folder that is no checkpoint."""
    name, _, source = text.rpartition("=") if "?" not in text else ("", "", text)
    source, _, options = source.partition("?")
    given = dict(part.split("=") for part in options.split("&")) if options else {}
    source, _, revision = source.partition("@")
    return Spec("classifier", source, revision or None, given, name or None, text)


@pytest.mark.parametrize(
    ("specs", "due"),
    [
        (["runA/checkpoint-500", "runB/checkpoint-500"], ["local/runA-checkpoint-500", "local/runB-checkpoint-500"]),
        (["runA/out/last", "runB/out/last"], ["local/runA-last", "local/runB-last"]),
        (["x/a/last", "y/a/last", "x/b/last"], ["local/x-a-last", "local/y-a-last", "local/x-b-last"]),
        (["last", "deep/last"], ["local/up-last", "local/deep-last"]),
        (["a/m", "b/m", "c/other"], ["local/a-m", "local/b-m", None]),
        (["a/m?max_length=9", "a/m?max_length=8"], ["local/m-max_length-9", "local/m-max_length-8"]),
        (["a/m", "a/m?head=safe"], [None, "local/m-head-safe"]),
        (["org/m@v1", "org/m@v2"], ["org/m-v1", "org/m-v2"]),
        (["local/m=a/m", "b/m"], [None, "local/b-m"]),
        (["a b/m", "(c)/m"], ["local/a-b-m", "local/c-m"]),
        (["a/m?template=x/y.jinja", "a/m?template=z/y.jinja"], None),
        (["org/one", "org/two"], [None, None]),
    ],
)
def test_models_of_one_name_get_what_differs(
    specs: list[str], due: list[str | None] | None, tmp_path: Path, monkeypatch: Any
) -> None:
    base = tmp_path / "up"
    base.mkdir()
    monkeypatch.chdir(base)
    for one in map(spec_of, specs):
        if not one.source.startswith("org/"):
            Path(one.source).mkdir(parents=True, exist_ok=True)
    found = [*named(specs, (), spec_of).values()]
    if due is not None:
        assert found == due
    names = [name or spec.name or spec.source for name, spec in zip(found, map(spec_of, specs), strict=True)]
    assert len(set(names)) == len(names)
    assert len(columns_of(specs, spec_of)) == len(specs)
    assert not any(part in str(name) for name in names for part in base.parts[1:-1])


def test_two_checkpoints_of_one_name_are_two_rows_results_and_columns(tmp_path: Path, capsys: Any) -> None:
    for run in ("first", "second"):
        make(tmp_path / run / "checkpoint-500", "llama")
    models = [word for run in ("first", "second") for word in ("-m", str(tmp_path / run / "checkpoint-500"))]
    rows = [{"prompt": f"q{n}", "chosen": "a b", "rejected": "c"} for n in range(4)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["run", *models, "-t", "preference", "--data", f"preference={tmp_path / 'in.jsonl'}", "--out",
               str(tmp_path / "r")]  # fmt: skip
    assert main(command) == 0
    told = capsys.readouterr().out
    assert all(f"local/{name}-checkpoint-500" in told for name in ("first", "second"))
    ids = {files.read(path).subject.id for path in (tmp_path / "r").rglob("*.json")}
    assert ids == {"local/first-checkpoint-500", "local/second-checkpoint-500"}
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "r").rglob("*.json"))
    assert main([*command, "--name", "old", "--name", "new"]) == 0
    assert {"old", "new"} <= {files.read(path).subject.id for path in (tmp_path / "r").rglob("*.json")}
    assert main(["score", str(tmp_path / "in.jsonl"), *models, "-o", str(tmp_path / "o.jsonl")]) == 0
    first = json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])
    assert {"reward:first-checkpoint-500", "reward:second-checkpoint-500"} < set(first)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["x"], "--name x would name 2 models alike; expected one for each of 2, or none"),
        (["x", "x"], "--name x would name 2 models alike; give each its own"),
        (["x", "y", "z"], "are names of 3 models; expected one for each of 2"),
        (["a/b/c", "y"], "a model's id in results is"),
    ],
)
def test_names_that_are_not_one_for_each_are_refused(names: list[str], words: str, tmp_path: Path, capsys: Any) -> None:
    given = [word for name in names for word in ("--name", name)]
    assert main(["run", "-m", "length", "-m", "random", *given, "-t", "best_of_n", "--limit", "5", "--out",
                 str(tmp_path)]) != 0  # fmt: skip
    assert words in capsys.readouterr().err


def test_two_that_are_named_alike_are_refused() -> None:
    with pytest.raises(UsageError, match="2 models are called x; give each a name of its own, as in x-2=MODEL"):
        named(["x=length", "x=random"], (), parse)


def test_what_is_made_of_others_is_told_apart_by_them_and_by_how() -> None:
    specs = ["ensemble:length,random", "ensemble:length,random?how=uwo", "ensemble:length,x=demo",
             "ensemble:length,random?how=uwo&lambda=1", "transform:(ensemble:length,random)?how=zscore"]  # fmt: skip
    assert list(named(specs, [], parse).values()) == [
        None, None, None, "ensemble/uwo-length-random-lambda-1.0", None,
    ]  # fmt: skip
    assert [*columns_of(specs, parse)] == [
        "mean-length-random", "uwo-length-random", "mean-length-x", "uwo-length-random-lambda-1.0",
        "zscore-mean-length-random",
    ]  # fmt: skip
