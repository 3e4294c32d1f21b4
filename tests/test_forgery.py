"""Nothing in a result can be changed, left out or made up: every field of the JSON and every column of the records."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_models import Scripted
from test_flow import Task

from rmbench.calibration import maps
from rmbench.errors import ResultError
from rmbench.kinds.comparison import Comparison
from rmbench.kinds.grading import Grading
from rmbench.kinds.steps import Steps
from rmbench.leaderboard.entries import read_result
from rmbench.metrics.grading import Grades
from rmbench.metrics.steps import Errors
from rmbench.plugins import load_task
from rmbench.results import collection, figures, files, provenance, written
from rmbench.results import verify as verification
from rmbench.results.replay import outcomes_of, replayed
from rmbench.results.schema import TaskResult
from rmbench.results.verify import ATTESTED, verify
from rmbench.runs.evaluate import evaluate
from rmbench.runs.respond import Sampling, evaluate_policy
from rmbench.types import Candidate, Example, Message, Request, Response, Reward

Path_ = tuple[str | int, ...]


def examples(count: int = 24, *, steps: bool = False) -> list[Example]:
    """Prompts of one right and two wrong responses, in two facets and clusters of two."""
    drawn = random.Random(0)
    made = []
    for i in range(count):
        texts = ["".join(drawn.choices("ab c", k=drawn.randint(3, 12))) + str(j) for j in range(3)]
        responses = [Response(text, tuple(text[:3]) if steps else None) for text in texts]
        candidates = tuple(
            Candidate(response, j == 0, step_labels=(1, 0, -1) if steps else None, tags={"source": f"s{i % 3}"})
            for j, response in enumerate(responses)
        )
        # with steps there are ten views, each of which states every metric of every facet
        facets = {"subset": "even" if i % 2 else "odd"} | ({} if steps else {"level": str(i % 3)})
        prompt = (Message("user", f"prompt {i}"),)
        made.append(Example(f"e{i}", prompt, candidates, facets=facets, cluster=f"c{i // 2}"))
    return made


def worth(text: str) -> float:
    return len(text) + random.Random(text).random() * 6 + ("0" in text) * 4


def rewards(request: Request) -> Reward:
    text = request.responses[0].text or ""
    if text.startswith("b") and len(text) == 5:
        return Reward((math.nan,), status="refused", detail="no reward: of a short text")
    cut = int(len(text) > 11)
    return Reward((worth(text),), heads={"other": (-worth(text),)}, n_tokens=len(text), truncated=cut, read=text)


def steps(request: Request) -> Reward:
    parts = [random.Random(f"{request.responses[0].text}{i}").random() for i in range(3)]
    return Reward((parts[-1],), steps=tuple(parts), step_heads={"doubt": tuple(1 - part for part in parts)})


def compared(request: Request) -> Reward:
    first, second = (worth(response.text or "") for response in request.responses)
    win = 1 / (1 + math.exp(second - first))
    return Reward((win, 1 - win), spread=(0.1, 0.1), n_tokens=7, read=f"{first:.3f}{second:.3f}")


def picked(request: Request) -> Reward:
    values = [worth(response.text or "") for response in request.responses]
    best = values.index(max(values))
    return Reward(tuple(float(i == best) for i in range(len(values))), pick=best)


def task(**more: Any) -> Task:
    made = Task("given", 1, "given examples", "none", read=lambda rows: iter(()), **more)
    object.__setattr__(made, "examples", examples())
    return made


def stepped() -> Task:
    made = task()
    object.__setattr__(made, "examples", examples(steps=True))
    return made


def classed(count: int = 24) -> list[Example]:
    """The same with classes for labels, some of them missing, and what three annotators said."""
    return [
        dataclasses.replace(example, candidates=tuple(
            dataclasses.replace(one, label=None if (i + j) % 7 == 0 else ("right" if one.label else "wrong"),
                                annotations=(1.0, 0.5, float(i % 2))[: 2 + i % 2])
            for j, one in enumerate(example.candidates)
        ))
        for i, example in enumerate(examples(count))
    ]  # fmt: skip


def heads(request: Request) -> Reward:
    value = worth(request.responses[0].text or "")
    return Reward((value,), heads={"right": (value,), "wrong": (10 - value,)}, spread=(0.1 * value,), n_tokens=3)


class GivenGrades(Grading):
    """A grading task whose examples are given."""

    load = Task.load


class GivenSteps(Steps):
    """A task of step labels whose examples are given."""

    load = Task.load


def given(kind: Any, some: list[Example], **more: Any) -> Any:
    made = kind("given", 1, "given examples", "none", read=lambda rows: iter(()), **more)
    object.__setattr__(made, "examples", some)
    return made


KINDS: Mapping[str, tuple[Any, Any, Any]] = {
    "rewards": (lambda: Scripted(rewards), task, None),
    "steps": (lambda: Scripted(steps, answers=["steps"]), stepped, None),
    "pairs": (lambda: Scripted(compared, answers=["compare"]), lambda: task(orders="both"), None),
    "picks": (lambda: Scripted(picked, answers=["compare"]), lambda: task(orders="permutations:2"), None),
    "grades": (lambda: Scripted(rewards), lambda: given(GivenGrades, examples()), None),
    "classes": (lambda: Scripted(heads), lambda: given(GivenGrades, classed(), measure=Grades(positive="right")), None),
    "step labels": (
        lambda: Scripted(steps, answers=["steps"]),
        lambda: given(GivenSteps, examples(steps=True), measure=Errors(on={"subset": "odd"})),
        None,
    ),
    "probe": (lambda: "length", lambda: load_task("length_bias"), 16),
}


@pytest.fixture(scope="module", params=[*KINDS, "generation"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskResult, Any]:
    """A result as it was read back, and its task."""
    out = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RMBENCH_CACHE", str(out / "cache"))
        if request.param == "generation":
            rows = [
                {"prompt": f"p{i}", "subset": "ab"[i % 2], "output": "word " * (i + 1), "tokens": i + 1}
                for i in range(12)
            ]
            (out / "written.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            data = {"lengths": str(out / "written.jsonl")}
            (result,) = evaluate_policy(f"outputs:{out / 'written.jsonl'}", ["lengths"], Sampling(), data=data, out=out)
            asked: Any = load_task("lengths")
        else:
            model, made_task, limit = KINDS[request.param]
            asked = made_task()
            (result,) = evaluate(model(), [asked], limit=limit, out=out)
    read = files.read(out / files.result_path(result), tables=True)
    assert read.model_dump() == result.model_dump()
    return read, asked


def places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Every place of a JSON document, leaves and what holds them."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield from places(inside, (*path, key))


def is_attested(path: Path_) -> bool:
    return any(".".join(map(str, path[:n])) in ATTESTED for n in (1, 2))


def at(document: Any, path: Path_) -> Any:
    for key in path:
        document = document[key]
    return document


def other(value: Any) -> Any:
    """Another value of the same sort."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 1.25 + 0.125
        case str():
            return f"{value}x"
        case None:
            return 0.5
        case _:
            raise AssertionError(value)


def refused(document: Any, original: TaskResult, asked: Any) -> str | None:
    """What is said of a changed document, by the schema or by the check; None where nothing is."""
    try:
        changed = TaskResult.model_validate_json(json.dumps(document))
    except ValueError as error:
        return str(error)
    changed._records, changed._requests = original.records, original.requests
    try:
        files.check_ids(changed)
        verify(changed, asked)
    except ResultError as error:
        said = str(error)
    else:
        return None
    assert "no records" not in said, "the records are as they were"
    return said


def thinned(paths: list[Path_]) -> list[Path_]:
    """Of places that differ by nothing but their names or numbers, three: the first, one between and the last."""
    alike: dict[tuple[Any, ...], list[Path_]] = {}
    for path in paths:
        shape = tuple("*" if isinstance(key, int) else key for key in path)
        alike.setdefault(shape[:2] + tuple(sorted(map(str, shape[2:])))[-1:] + (len(shape),), []).append(path)
    return [path for some in alike.values() for path in {*some[:1], *some[len(some) // 2 :][:1], *some[-1:]}]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn and fitted is computed once for the same draws and fits: the records stay what they are here."""
    known: dict[str, Any] = {}
    slow, slow_written, slow_calibrated = figures._metrics, written.fields_of, figures.calibrate

    def metrics(*given: Any) -> Any:
        key = repr(given[2:])
        if key not in known:
            known[key] = slow(*given)
        return known[key]

    def fields(rows: Any, contrasts: Any, drawn: Any) -> Any:
        if repr(drawn) not in known:
            known[repr(drawn)] = slow_written(rows, contrasts, drawn)
        return dict(known[repr(drawn)])

    def calibrated(*given: Any, **how: Any) -> Any:
        key = repr(sorted(how.items()))
        if key not in known:
            known[key] = slow_calibrated(*given, **how)
        return known[key]

    def replayed_once(result: TaskResult) -> Any:
        if "replayed" not in known:
            known["replayed"] = list(replayed(result))
        return known["replayed"]

    monkeypatch.setattr(verification, "replayed", replayed_once)
    monkeypatch.setattr(figures, "_metrics", metrics)
    monkeypatch.setattr(figures, "calibrate", calibrated)
    monkeypatch.setattr(written, "fields_of", fields)


def test_a_result_as_it_was_made_is_accepted(made: tuple[TaskResult, Any]) -> None:
    verify(*made)


def test_every_changed_field_is_refused(made: tuple[TaskResult, Any], quick: None) -> None:
    result, asked = made
    text = result.model_dump_json()
    document = json.loads(text)
    leaves = [p for p in places(document) if not isinstance(at(document, p), dict | list) and not is_attested(p)]
    for path in thinned(leaves):
        changed = json.loads(text)
        at(changed, path[:-1])[path[-1]] = other(at(changed, path))
        assert refused(changed, result, asked), f"{path}: {at(document, path)!r} became {at(changed, path)!r}"


def test_every_field_that_is_missing_is_refused(made: tuple[TaskResult, Any], quick: None) -> None:
    result, asked = made
    text = result.model_dump_json()
    document = json.loads(text)
    for path in thinned([p for p in places(document) if not is_attested(p)]):
        optional = ("at", "p", "note", "null_verdict", "orders", "n_effective", "clusters_effective", "responses")
        if path[-1] in optional and at(document, path) is None:
            continue  # null is what a missing one is
        if path == ("noted",) and not document["noted"]:
            continue  # nothing is what a missing one is, as in results of before there was any
        changed = json.loads(text)
        del at(changed, path[:-1])[path[-1]]
        assert refused(changed, result, asked), f"{path} is gone"


def test_what_is_made_up_is_refused(made: tuple[TaskResult, Any], quick: None) -> None:
    result, asked = made
    text = result.model_dump_json()
    document = json.loads(text)
    for path in thinned([(), *(p for p in places(document) if not is_attested(p))]):
        changed = json.loads(text)
        holder = at(changed, path)
        if isinstance(holder, dict):
            holder["made_up"] = copy.deepcopy(next(iter(holder.values()), 1))
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[-1]) if holder else 1)
        else:
            continue
        assert refused(changed, result, asked), f"something was added to {path}"


@pytest.mark.parametrize(
    "changes", [{"name": "made_up"}, {"view": "made_up"}, {"subset": "subset=made up"}, {"at": 3.0}]
)
def test_a_metric_that_nothing_gives_is_named(
    made: tuple[TaskResult, Any], changes: dict[str, Any], quick: None
) -> None:
    result, asked = made
    text = result.model_dump_json()
    document = json.loads(text)
    document["metrics"].append(document["metrics"][0] | changes)
    assert "its records give none" in (refused(document, result, asked) or "")
    document["metrics"][-1] = document["metrics"][0]
    assert f"{document['metrics'][0]['name']} of view" in (refused(document, result, asked) or "")
    assert "is listed twice" in (refused(document, result, asked) or "")


def test_attested_fields_may_be_anything(made: tuple[TaskResult, Any], quick: None) -> None:
    result, asked = made
    text = result.model_dump_json()
    document = json.loads(text)
    document["created"], document["timing"]["seconds"], document["environment"] = "then", 1.0, {}
    document["dataset"]["excluded"], document["dataset"]["noted"] = {"odd": 1}, {}
    assert refused(document, result, asked) is None


def test_every_changed_column_is_named(made: tuple[TaskResult, Any]) -> None:
    result, asked = made
    for table, name in [(t, name) for t in tables(result) for name in tables(result)[t].column_names]:
        found = tables(result)[table]
        changed = result.model_copy()
        place = found.column_names.index(name)
        values = found[name].to_pylist()
        odd = next((i for i, value in enumerate(values) if value is not None), 0)
        values[odd] = altered(values[odd], found.schema.field(name).type)
        column = pa.array(values, found.schema.field(name).type)
        swap(changed, result, table, found.set_column(place, found.schema.field(name), column))
        with pytest.raises(ResultError, match=name):
            verify(changed, asked)
        swap(changed, result, table, found.drop_columns([name]))
        with pytest.raises(ResultError, match=f"{name}|no records"):
            verify(changed, asked)


def test_made_up_columns_and_rows_are_refused(made: tuple[TaskResult, Any]) -> None:
    result, asked = made
    for table, found in tables(result).items():
        changed = result.model_copy()
        swap(changed, result, table, found.append_column("tag_made_up", pa.array([1] * found.num_rows)))
        with pytest.raises(ResultError, match="tag_made_up"):
            verify(changed, asked)
        for rows in (
            found.slice(1),
            pa.concat_tables([found, found.slice(0, 1)]),
            found.take([*range(1, found.num_rows), 0]),
        ):
            swap(changed, result, table, rows)
            with pytest.raises(ResultError):
                verify(changed, asked)


def test_hashes_made_anew_do_not_hide_another_reward(made: tuple[TaskResult, Any]) -> None:
    """Who changes a record and its hash too is found out by the figures."""
    result, asked = made
    table, name = ("requests", "values") if result.requests is not None else ("candidates", "reward")
    if result.subject.kind == "policy":
        table, name = "candidates", "tokens"
    if table == "requests" and result.requests["pick"].null_count == 0:
        name = "pick"  # all that counts, where a judge named the best alone
    if "steps" in result.records.column_names and result.records["steps"].null_count == 0:
        name = "steps"
    found = tables(result)[table]
    values = [None if value is None else forge(value, found[name].type) for value in found[name].to_pylist()[:9]]
    values += found[name].to_pylist()[9:]
    column = pa.array(values, found[name].type)
    forged = found.set_column(found.column_names.index(name), found.schema.field(name), column)
    both = tables(result) | {table: forged}
    text = result.model_dump_json()
    document = json.loads(text)
    document["columns"] = provenance.columns_of(both["candidates"], both.get("requests"))
    changed = TaskResult.model_validate(document)
    swap(changed, result, table, forged)
    with pytest.raises(ResultError, match="its records give|its calibration gives|no records"):
        verify(changed, asked)


def forge(value: Any, kind: pa.DataType) -> Any:
    """The other one wins, or another number."""
    if isinstance(value, int) and kind == pa.int32() and value < 3:
        return (value + 1) % 3
    return value[::-1] if isinstance(value, list) and len(value) > 1 else altered(value, kind)


def tables(result: TaskResult) -> dict[str, pa.Table]:
    return {"candidates": result.records} | ({} if result.requests is None else {"requests": result.requests})


def swap(changed: TaskResult, original: TaskResult, table: str, new: pa.Table) -> None:
    changed._records = new if table == "candidates" else original.records
    changed._requests = new if table == "requests" else original.requests


def altered(value: Any, kind: pa.DataType) -> Any:
    """Another value of a column, as Arrow takes it."""
    if pa.types.is_map(kind):
        return [("made up", altered(None, kind.item_type))]
    if pa.types.is_list(kind):
        return [altered(one, kind.value_type) for one in value or [None]]
    if value is None:
        return "made up" if pa.types.is_string(kind) else False if pa.types.is_boolean(kind) else 1
    if isinstance(value, float) and not math.isfinite(value):
        return 0.5
    return other(value)


@pytest.mark.parametrize("kind", KINDS)
def test_what_records_give_again_is_what_was_measured(kind: str) -> None:
    model, made_task, limit = KINDS[kind]
    asked = made_task()
    seen: list[Any] = []
    outcome = type(asked).outcome

    def remembered(self: Any, *given: Any) -> Any:
        seen.append(outcome(self, *given))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(asked), "outcome", remembered)
        (result,) = evaluate(model(), [made_task()], limit=limit)
    for ours, theirs in zip(seen, outcomes_of(result), strict=True):
        assert plain(ours) == plain(theirs)


def plain(value: Any) -> Any:
    """Everything in an outcome, so that two can be compared; nan is a text."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(one) for one in value]
    return "nan" if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize("name", ["..", "../up", "/etc/model", "C:\\model", "a\0b", "NUL", "org/con", "aux.json", ""])
def test_an_id_that_leaves_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    (result,) = evaluate(Scripted(rewards), [task()], out=tmp_path)
    path = tmp_path / files.result_path(result)
    document = json.loads(path.read_text())
    document["subject"]["id"] = name
    path.write_text(json.dumps(document))
    with pytest.raises(ResultError, match="subject.id"):
        read_result(path, lambda _: task())


def test_a_task_that_is_not_installed_is_one_line(tmp_path: Path) -> None:
    (result,) = evaluate(Scripted(rewards), [task()], out=tmp_path)
    with pytest.raises(ResultError, match="task 'given' is not installed"):
        read_result(tmp_path / files.result_path(result), load_task)


def test_not_a_number_and_an_old_schema_are_refused(tmp_path: Path) -> None:
    (result,) = evaluate(Scripted(rewards), [task()], out=tmp_path)
    path = tmp_path / files.result_path(result)
    text = path.read_text()
    path.write_text(text.replace(f'"value": {result.metrics[0].value}', '"value": NaN', 1))
    with pytest.raises(ResultError, match="metrics"):
        read_result(path, lambda _: task())
    path.write_text(text.replace('"schema_version": 3', '"schema_version": 2'))
    with pytest.raises(ResultError, match="schema version 2; this rmbench reads 3"):
        read_result(path, lambda _: task())


def test_a_file_beside_a_result_is_read_the_same_after_it_was_packed_again(tmp_path: Path) -> None:
    """The hash is of the values, not of the file that they are in."""
    (result,) = evaluate(Scripted(rewards), [task()], out=tmp_path)
    path = tmp_path / files.result_path(result)
    table = pq.read_table(path.with_suffix(".parquet"), partitioning=None)
    pq.write_table(table, path.with_suffix(".parquet"), compression="none", row_group_size=7)
    assert isinstance(task(), Comparison)
    assert read_result(path, lambda _: task()).model_dump() == result.model_dump()


def forged(
    result: TaskResult,
    asked: Any,
    records: list[dict[str, Any]] | None = None,
    requests: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> TaskResult:
    """A result with other records, in which every figure and every hash is made anew from them."""
    document = json.loads(result.model_dump_json())
    for name, value in changes.items():
        document[name] = {**document[name], **value} if isinstance(value, dict) else value
    made = TaskResult.model_validate(document)
    made._records, made._requests = result.records, result.requests
    if records is not None:
        made._records = pa.Table.from_pylist(records, schema=result.records.schema)
    if requests is not None:
        assert result.requests is not None
        made._requests = pa.Table.from_pylist(requests, schema=result.requests.schema)
    counts, outcomes = figures.Counts(), []
    for one in replayed(made):
        outcomes.append(one.outcome)
        counts.add(one.given, one.texts)
    found = figures.figures(asked, outcomes, made.bootstrap)
    if found.probabilities is not None:
        rows = [row for example in verification.examples_of(made) for row in example.rows]
        column = np.full(made.records.num_rows, np.nan)
        column[rows] = np.concatenate(found.probabilities)
        place = made.records.column_names.index("probability")
        made._records = made.records.set_column(place, "probability", pa.array(column, pa.float64(), from_pandas=True))
    due = verification.plain({"dataset": verification._dataset_due(made)} | counts.fields() | dict(found.fields))
    document["dataset"] |= due.pop("dataset")
    document["fitted"]["measure"] = due.pop("fitted")["measure"]
    document |= due | {"columns": provenance.columns_of(made.records, made.requests)}
    new = TaskResult.model_validate(document)
    new._records, new._requests = made.records, made.requests
    return new


def evaluated(kind: str) -> tuple[TaskResult, Any]:
    model, made_task, limit = KINDS[kind]
    asked = made_task()
    (result,) = evaluate(model(), [asked], limit=limit)
    return result, asked


def lost(result: TaskResult, row: Mapping[str, Any]) -> bool:
    """Whether the right one of a pair, which stands at index 0, did not win it."""
    return 0 in row["candidates"] and row["values"][row["candidates"].index(0)] <= 0.5


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The requests of each example, counted from 0 again."""
    seen: dict[str, int] = {}
    for row in rows:
        row["request"] = seen.get(row["example_id"], 0)
        seen[row["example_id"]] = row["request"] + 1
    return rows


def kwise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One pick of the right one instead of every pair of an example."""
    return [
        {**row, "candidates": [0, 1, 2], "values": [1.0, 0.0, 0.0], "spread": None, "pick": 0}
        for row in rows
        if row["request"] == 0
    ]


def each(change: Any) -> Any:
    return lambda rows: [{**row, **change(row)} for row in rows]


ASKED_OTHERWISE: Mapping[str, tuple[str, Any, str]] = {
    "a pick instead of pairs": ("pairs", kwise, "candidates .* have"),
    "pairs left out": (
        "pairs", lambda rows: numbered([row for row in rows if 0 not in row["candidates"]]), "have 0 of"
    ),
    "a pair twice": ("pairs", lambda rows: numbered([*rows, dict(rows[0])]), "have 3 of"),
    "one order of two": ("pairs", each(lambda row: {"candidates": sorted(row["candidates"])}), "in that order"),
    "one against itself": ("pairs", each(lambda row: {"candidates": [0, 0]}), "expected different ones"),
    "one that is not there": ("pairs", each(lambda row: {"candidates": [0, 3]}), "from 0 to 2|no records"),
    "one before the first": ("pairs", each(lambda row: {"candidates": [-1, 0]}), "from 0 to 2"),
    "an example that is not there": (
        "pairs", lambda rows: [*rows, {**rows[0], "example_id": "ghost", "request": 0}], "no candidate"
    ),
    "a value too many": ("pairs", each(lambda row: {"values": [0.5, 0.3, 0.2]}), "3 values; expected 2"),
    "a spread too few": ("pairs", each(lambda row: {"spread": [0.5]}), "1 spreads; expected 2"),
    "pairs instead of some picks": (
        "picks",
        lambda rows: numbered([
            {**row, "candidates": list(pair), "values": [1.0, 0.0], "pick": None} if row["example_id"] == "e0" else row
            for row in rows for pair in [(0, 1), (1, 0)][: 1 + (row["example_id"] == "e0")]
        ]),
        "have",
    ),
    "a permutation twice": ("picks", each(lambda row: {"candidates": [0, 1, 2]}), "shown 2 times"),
}  # fmt: skip


@pytest.mark.parametrize("what", ASKED_OTHERWISE)
def test_what_was_asked_is_what_the_task_asks(what: str) -> None:
    kind, change, said = ASKED_OTHERWISE[what]
    result, asked = evaluated(kind)
    assert result.requests is not None
    requests = pa.Table.from_pylist(change(result.requests.to_pylist()), schema=result.requests.schema)
    changed = result.model_copy(update={"columns": provenance.columns_of(result.records, requests)})
    changed._records, changed._requests = result.records, requests
    with pytest.raises(ResultError, match=said):
        verify(changed, asked)


def test_lost_pairs_cannot_be_left_out() -> None:
    result, asked = evaluated("pairs")
    assert result.requests is not None
    rows = result.requests.to_pylist()
    kept = numbered([row for row in rows if not lost(result, row)])
    assert 0 < len(kept) < len(rows)
    with pytest.raises(ResultError, match="have [01] of 'compare', its task asks 2"):
        verify(forged(result, asked, requests=kept), asked)


def test_pairs_are_asked_of_a_model_that_compares_no_more() -> None:
    class Pairs(Scripted):
        most = 2

    asked = task(orders="permutations:2")
    (result,) = evaluate(Pairs(compared, answers=["compare"]), [asked])
    assert result.requests is not None
    assert {len(some) for some in result.requests["candidates"].to_pylist()} == {2}
    verify(result, asked)


def test_every_candidate_is_asked_about() -> None:
    """Who leaves out the wrong ones that beat the right one would win."""
    result, asked = evaluated("rewards")
    rows = result.records.to_pylist()
    right = {row["example_id"]: row["reward"] for row in rows if row["candidate"] == 0}
    unasked = dict.fromkeys(("ask", "read", "reward", "heads", "spread", "status", "reason", "n_tokens", "truncated"))
    kept = [
        {**row, **(unasked if row["candidate"] and row["reward"] > right[row["example_id"]] else {})} for row in rows
    ]
    better = forged(result, asked, kept)
    assert better.metric("accuracy").value > result.metric("accuracy").value  # type: ignore[operator]
    with pytest.raises(ResultError, match="candidates . have 0 of 'reward', its task asks 1"):
        verify(better, asked)


def test_a_task_that_asks_by_texts_asks_of_every_example_alike() -> None:
    class ByTexts(Task):
        def due(self, *given: Any) -> None:
            return None

    result, _ = evaluated("pairs")
    asked = given(ByTexts, examples(), orders="both")
    verify(result, asked)
    assert result.requests is not None
    rows = result.requests.to_pylist()
    kept = numbered([row for row in rows if row["example_id"] != "e3" or 2 not in row["candidates"]])
    with pytest.raises(ResultError, match="example e3: not every candidate"):
        verify(forged(result, asked, requests=kept), asked)


OTHER_DATA: Mapping[str, Any] = {
    "facets": lambda row: [("subset", "easy")],
    "cluster": lambda row: "one",
    "prompt": lambda row: "0" * 12,
    "label": lambda row: float(row["candidate"] == 1),
    "class": lambda row: "right" if row["candidate"] else "wrong",
    "annotations": lambda row: [1.0, 0.0],
    "step_labels": lambda row: [1.0, -1.0, 1.0],
    "text_hash": lambda row: f"{row['candidate']}" * 32,
    "characters": lambda row: 1000 if row["label"] else 1,
    "tag_source": lambda row: "none",
}


@pytest.mark.parametrize("column", OTHER_DATA)
def test_what_the_data_state_is_in_their_hashes(column: str) -> None:
    """So that a result whose facets, tags, lengths or labels were chosen stands in no section with others."""
    result, asked = evaluated("rewards")
    rows = [{**row, column: OTHER_DATA[column](row)} for row in result.records.to_pylist()]
    other = forged(result, asked, rows)
    assert (collection.why_not(result, other) or "").startswith("different ")
    assert len(collection.groups([result, other])["given"]) == 2


def test_results_on_the_same_data_agree_whichever_model_ran(tmp_path: Path) -> None:
    (one,), (other,) = (evaluate(model, [task()], out=tmp_path) for model in (Scripted(rewards), "length"))
    assert one.dataset.examples_sha256 == other.dataset.examples_sha256
    assert one.dataset.responses_sha256 == other.dataset.responses_sha256
    records = (tmp_path / files.result_path(one)).with_suffix(".parquet")
    (again,) = evaluate(f"scores:{records}", [task()])
    assert (again.dataset.examples_sha256, again.metrics) == (one.dataset.examples_sha256, one.metrics)
    verify(again, task())


def without_texts(result: TaskResult, asked: Any, some: Sequence[int], *names: str) -> TaskResult:
    rows = [
        {**row, **(dict.fromkeys(names) if at in some else {})} for at, row in enumerate(result.records.to_pylist())
    ]
    return forged(result, asked, rows)


def test_a_text_that_a_model_has_read_is_known() -> None:
    """Responses that nobody knows may be compared with any, so that only a score file may leave them out."""
    result, asked = evaluated("rewards")
    with pytest.raises(ResultError, match="candidate 1, is None and its characters are"):
        verify(without_texts(result, asked, [1], "text_hash"), asked)
    with pytest.raises(ResultError, match="candidate 1, is missing; only a score file"):
        verify(without_texts(result, asked, [1], "text_hash", "characters"), asked)


OTHER_ANSWERS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "a status that is none": ("rewards", {"status": "wonderful"}, "has the status 'wonderful'"),
    "refused with a reward": ("rewards", {"status": "refused"}, "is refused, and has an answer"),
    "missing with a reward": ("rewards", {"status": "missing"}, "is missing, and has an answer"),
    "no number, and ok": ("rewards", {"reward": math.nan}, "is 'ok', its numbers make it 'nan'"),
    "no end, and ok": ("rewards", {"reward": math.inf}, "is 'ok', its numbers make it 'inf'"),
    "a number, and nan": ("rewards", {"status": "nan"}, "is 'nan', its numbers make it 'ok'"),
    "less than no tokens": ("rewards", {"n_tokens": -5}, "read -5 tokens"),
    "less than nothing cut": ("rewards", {"truncated": -1}, "cut -1"),
    "steps of none that is a number": ("steps", {"reward": math.nan, "steps": [math.nan]}, "make it 'nan'"),
    "a pair without values": ("pairs", {"values": [math.nan, math.nan]}, "make it 'nan'"),
    "a refused pair with values": ("pairs", {"status": "error"}, "is error, and has an answer"),
}


@pytest.mark.parametrize("what", OTHER_ANSWERS)
def test_a_status_is_that_of_its_numbers(what: str) -> None:
    kind, cells, said = OTHER_ANSWERS[what]
    result, asked = evaluated(kind)
    table = "candidates" if result.requests is None else "requests"
    rows = tables(result)[table].to_pylist()
    rows[0].update(cells)
    changed = pa.Table.from_pylist(rows, schema=tables(result)[table].schema)
    both = tables(result) | {table: changed}
    forged = result.model_copy(update={"columns": provenance.columns_of(both["candidates"], both.get("requests"))})
    swap(forged, result, table, changed)
    with pytest.raises(ResultError, match=said):
        verify(forged, asked)


def test_what_was_not_asked_has_no_reward() -> None:
    result, asked = evaluated("pairs")
    rows = result.records.to_pylist()
    rows[0]["reward"] = 1.0
    with pytest.raises(ResultError, match="reward: a candidate that was not asked about has one"):
        verify(forged(result, asked, rows), asked)


def right_ones_first(request: Request) -> Reward:
    """Rewards that put every right response first, so that no temperature is too low."""
    text = request.responses[0].text or ""
    return Reward((len(text) / 100 + 5 * text.endswith("0"),))


@pytest.mark.parametrize("factor", [1e-6, 1 - 1e-8, 1 + 1e-8, 10.0])
def test_a_temperature_at_its_prior_is_the_fit_and_no_other(factor: float) -> None:
    asked = task()
    (result,) = evaluate(Scripted(right_ones_first), [asked])
    verify(result, asked)
    assert result.calibration is not None
    document = json.loads(result.model_dump_json())
    found = next(
        one for one in document["calibration"]["maps"] if (one["scope"], one["map"]) == ("softmax", "temperature")
    )
    assert "at its prior" in found["note"]
    found["parameters"]["temperature"] *= factor
    assert "temperature" in (refused(document, result, asked) or "")


def test_parameters_are_those_of_the_fit_but_for_rounding() -> None:
    rows = maps.Rows(
        np.array([-1.0, 0.3, 2.0, 1.1, 0.2, 0.4]), np.array([0.0, 1, 1, 0, 1, 0]), np.ones(6), np.arange(6) // 2
    )
    for scope, how in (("softmax", "temperature"), ("pooled", "platt"), ("pooled", "isotonic")):
        made = maps.fit(scope, how, rows)  # type: ignore[arg-type]
        for factor, taken in ((1 + 1e-9, True), (1 + 1e-4, False)):
            stated = {
                name: (np.asarray(value) * (1 if name == "x" else factor)).tolist()
                for name, value in made.parameters.items()
            }
            found = maps.accepted(scope, how, stated, rows)  # type: ignore[arg-type]
            assert (found.parameters == stated) is taken, (how, factor)


@pytest.mark.parametrize("orders", ["my own order", "permutations:0", None])
def test_orders_are_those_that_a_task_has(orders: str | None) -> None:
    result, asked = evaluated("rewards")
    config = json.loads(result.config.model_dump_json()) | {"task": {"orders": orders}}
    other = forged(result, asked, config=config, task={"orders": orders})
    with pytest.raises(ResultError, match=f"task.orders is {orders!r}, which its task does not have"):
        verify(other, asked)
    with pytest.raises(ResultError, match="task.orders"):
        verify(forged(result, asked, task={"orders": orders or "both"}), asked)


@pytest.mark.parametrize(("column", "value"), [
    ("label", 0.25), ("facets", [("subset", "easy")]), ("text_hash", "0" * 32), ("characters", 1), ("tag_edit", "none"),
    ("prompt", "0" * 12), ("cluster", "one"), ("step_labels", [1.0]), ("annotations", [1.0]),
])  # fmt: skip
def test_rows_that_are_bundled_are_the_tasks_own(column: str, value: Any) -> None:
    asked = load_task("length_bias")
    (result,) = evaluate("length", [asked], limit=12)
    verify(result, asked)
    rows = result.records.to_pylist()
    place = next(at for at, row in enumerate(rows) if row["candidate"] == 2)
    rows[place][column] = value
    with pytest.raises(ResultError, match=rf"{column.replace('tag_', 'tag ')} of example .*, candidate 2, is"):
        verify(forged(result, asked, rows), asked)


def test_examples_that_are_bundled_are_whole_and_the_tasks_own() -> None:
    asked = load_task("best_of_n")
    (result,) = evaluate("length", [asked], limit=20)
    rows = result.records.to_pylist()
    with pytest.raises(ResultError, match="example made up, candidate 0, is none of the rows bundled with best_of_n"):
        verify(forged(result, asked, [*rows, *({**row, "example_id": "made up"} for row in rows[:2])]), asked)
    last = max(row["candidate"] for row in rows)
    with pytest.raises(ResultError, match="candidates, the rows bundled with best_of_n"):
        verify(forged(result, asked, [row for row in rows if row["candidate"] < last]), asked)


@pytest.mark.parametrize("table", ["candidates", "requests"])
def test_a_table_that_was_damaged_is_named(table: str, tmp_path: Path) -> None:
    (result,) = evaluate(Scripted(compared, answers=["compare"]), [task(orders="both")], out=tmp_path)
    path = tmp_path / files.result_path(result)
    file = path.with_suffix(".parquet") if table == "candidates" else files.requests_path(path)
    whole = file.read_bytes()
    for start in range(4, len(whole), len(whole) // 12):
        file.write_bytes(whole[:start] + bytes(byte ^ 0x5A for byte in whole[start : start + 40]) + whole[start + 40 :])
        try:
            read = collection.read_checked(path)
        except ResultError as error:
            assert str(error).startswith(f"{file}: ")  # noqa: PT017
        else:
            assert tables(read)[table].equals(tables(result)[table])
    found = tables(result)[table]
    file.write_bytes(whole)
    collection.read_checked(path)
    pq.write_table(found.slice(0, found.num_rows - 1), file)
    with pytest.raises(ResultError, match=f"{file}: "):
        collection.read_checked(path)
    file.unlink()
    with pytest.raises(ResultError, match=f"{file}: "):
        collection.read_checked(path)
