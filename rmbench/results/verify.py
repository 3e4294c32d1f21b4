"""Whether a result says what its records give: every figure, count and hash is computed again and compared.

Attested, and not computed again: `subject`, `config`, `timing`, `environment`, `created`, what a model fitted itself
(`fitted.model`), and of `dataset` its `sources`, `sha256`, `excluded`, `noted` and `part`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rmbench.errors import ResultError, RmbenchError, UsageError
from rmbench.results import provenance
from rmbench.results.asked import Asked
from rmbench.results.bundled import check_bundled
from rmbench.results.figures import DRAWS, RULE, Counts, figures
from rmbench.results.judged import task_info
from rmbench.results.records import TAG, candidate_types, request_types
from rmbench.results.replay import data_hashes, examples_of, replayed
from rmbench.results.schema import TaskResult
from rmbench.types import Array, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

ATTESTED = frozenset({
    "schema_version", "subject", "config", "timing", "environment", "created", "fitted.model", "dataset.sources",
    "dataset.sha256", "dataset.excluded", "dataset.noted", "dataset.part",
})  # fmt: skip
TOLERANCE = 1e-9  # of a figure's scale
_ROUNDING = 1e-15
_GIVEN = ("read", "reward", "heads", "steps", "step_heads", "spread", "status", "reason", "n_tokens", "truncated")


def verify(result: TaskResult, task: Any) -> None:
    """Raises ResultError with the first field that is not what the records of `result` give by the measure of `task`.

    `result` has been read with its tables. What differs, what is invented and what is missing is refused alike.
    """
    _compare("columns", result.columns, provenance.columns_of(result.records, result.requests))
    _check_drawn(result)
    try:
        _compare("task", result.task.model_dump(), _task_due(result, task))
        recompute = getattr(task, "recomputed", None)
        due = plain(_judged_due(result, task) if recompute is None else recompute(result))
    except ResultError:
        raise
    except (RmbenchError, ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ResultError(f"these are no records of a result ({type(error).__name__}: {error})") from error
    stated = {name: value for name, value in result.model_dump().items() if name not in ATTESTED}
    stated["dataset"] = {name: value for name, value in stated["dataset"].items() if f"dataset.{name}" not in ATTESTED}
    stated["fitted"] = {"measure": stated["fitted"]["measure"]}
    for name in ("task", "bootstrap", "columns"):
        del stated[name]
    for name, place in (("metrics", _metric_name), ("maps", _map_name)):
        for holder in (stated, due):
            _key_by(name, holder, place)
    for name, value in due.items():
        _compare(name, stated.get(name), value)
    for name, value in stated.items():
        if name not in due:
            raise ResultError(f"{name} is {_shown(value)}, its records give none")


def _check_unasked(records: pa.Table) -> None:
    """Raises ResultError where a candidate that was not asked about by itself has a reward."""
    import pyarrow.compute as pc

    unasked = records.filter(pc.is_null(records["ask"]))
    for name in (*_GIVEN, *({"noted"} & {*unasked.column_names})):
        if unasked[name].null_count < unasked.num_rows:
            raise ResultError(f"{name}: a candidate that was not asked about has one")


def check_tables(result: TaskResult) -> None:
    """Raises ResultError where a table of records has not the columns, and the types, that it should have."""
    _check_columns("records", result.records, _due_types(result.records, candidate_types(), "noted"))
    if result.requests is not None:
        _check_columns("requests", result.requests, _due_types(result.requests, request_types(), "heads", "noted"))
        _check_picks(result.requests)
    elif result.records.num_rows and result.records["ask"].null_count == result.records.num_rows:
        raise ResultError("requests: missing; this model was shown several responses at once")


def _due_types(table: pa.Table, types: Mapping[str, pa.DataType], *rare: str) -> dict[str, pa.DataType]:
    """The columns of a table, of the `rare` ones those that it has: they are left out where they would be empty."""
    return {name: kind for name, kind in types.items() if name not in rare or name in table.column_names}


def _judged_due(result: TaskResult, task: Any) -> dict[str, Any]:
    check_tables(result)
    _check_texts(result)
    _check_unasked(result.records)
    check_bundled(result, task)
    outcomes, counts = list[Outcome](), Counts()
    asked = _asked(result, _as_run(result, task))
    for one in replayed(result):
        asked.check(one)
        outcomes.append(one.outcome)
        counts.add(one.given, one.texts)
    made = figures(
        task, outcomes, result.bootstrap, fitted=_accepted_fits(result, task, outcomes), calibration=result.calibration
    )
    _check_probabilities(result, made.probabilities)
    return {"dataset": _dataset_due(result)} | counts.fields() | dict(made.fields)


def _asked(result: TaskResult, task: Any) -> Asked:
    tables = [table for table in (result.records, result.requests) if table is not None]
    answers = frozenset(ask for table in tables for ask in table["ask"].unique().to_pylist() if ask is not None)
    shown = 1 if result.requests is None else max(map(len, result.requests["candidates"].to_pylist()), default=1)
    return Asked(getattr(task, "due", lambda *given: None), answers, shown)


def _as_run(result: TaskResult, task: Any) -> Any:
    """The task in the orders that a run chose. Raises ResultError for orders that it does not have."""
    orders = result.task.orders
    if orders == task.orders:
        return task
    try:
        return replace(task, orders=orders)
    except (TypeError, ValueError, UsageError) as error:
        raise ResultError(f"task.orders is {orders!r}, which its task does not have ({error})") from error


def _dataset_due(result: TaskResult) -> dict[str, Any]:
    """What the records give of `dataset`."""
    hashes = data_hashes(result.records)
    return {
        "examples_sha256": hashes.examples,
        "responses_sha256": hashes.responses,
        "examples": len(result.records["example_id"].unique()),
        "candidates": result.records.num_rows,
    }


def plain(value: Any) -> Any:
    """Models as mappings, as they stand in a file."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def _task_due(result: TaskResult, task: Any) -> dict[str, Any]:
    """What the installed task says of itself; orders are those of the run where it chose others, if they were."""
    due: dict[str, Any] = task_info(task).model_dump()
    due["orders"] = result.config.task.get("orders", due["orders"])
    return due


def _check_texts(result: TaskResult) -> None:
    """Raises ResultError where a text has a hash and no length, or the other way; or where one is not known whose
    others are, and the model is no score file: any other has read it.
    """
    names = ("example_id", "candidate", "text_hash", "characters")
    rows = [*zip(*(result.records[name].to_pylist() for name in names), strict=True)]
    has_texts = any(text is not None for _, _, text, _ in rows)
    for name, candidate, text, length in rows:
        place = f"example {name}, candidate {candidate}"
        if (text is None) != (length is None) or (length or 0) < 0:
            raise ResultError(
                f"text_hash of {place}, is {text!r} and its characters are {length}; expected both or none"
            )
        if text is None and has_texts and result.subject.family != "scores":
            raise ResultError(f"text_hash of {place}, is missing; only a score file rates what it does not know")


def _check_picks(requests: pa.Table) -> None:
    """Raises ResultError where a response is said to be picked, and fewer samples named it than another."""
    columns = (requests[name].to_pylist() for name in ("example_id", "request", "status", "values", "pick"))
    for name, request, status, values, pick in zip(*columns, strict=True):
        if pick is not None and status == "ok" and not (0 <= pick < len(values) and values[pick] == max(values)):
            raise ResultError(f"pick of example {name}, request {request}, is {pick}; the values of its records give "
                              f"{values.index(max(values))}")  # fmt: skip


def _check_drawn(result: TaskResult) -> None:
    seed = result.config.data.get("seed", 0)
    _compare("bootstrap", result.bootstrap.model_dump(), {"rule": RULE, "draws": DRAWS, "seed": seed})


def _accepted_fits(result: TaskResult, task: Any, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The measure's fits as stated, those that are what the measure fits to the records but for rounding."""
    accepted = {}
    for view, stated in result.fitted.measure.items():
        try:
            _compare("fit", stated, task.measure.fit(outcomes, view))
        except ResultError:
            continue
        accepted[view] = stated
    return accepted


def _check_probabilities(result: TaskResult, due: Sequence[Array] | None) -> None:
    stated = result.records["probability"].to_numpy(zero_copy_only=False).astype(float)
    expected = np.full(len(stated), np.nan)
    if due is not None and len(stated):
        rows = np.array([row for example in _in_order(result) for row in example], np.intp)
        expected[rows] = np.concatenate(due)
    wrong = ~np.isclose(stated, expected, rtol=0, atol=TOLERANCE, equal_nan=True)
    if wrong.any():
        row = int(np.argmax(wrong))
        name, candidate = result.records["example_id"][row].as_py(), result.records["candidate"][row].as_py()
        raise ResultError(
            f"probability of example {name}, candidate {candidate}, is {stated[row]:.6g}, its calibration gives "
            f"{expected[row]:.6g}"
        )


def _in_order(result: TaskResult) -> Iterator[list[int]]:
    return (example.rows for example in examples_of(result))


def _check_columns(table: str, read: pa.Table, due: Mapping[str, pa.DataType]) -> None:
    for name, kind in due.items():
        if name not in read.column_names:
            raise ResultError(f"{table}: column {name!r} is missing")
        if read[name].type != kind:
            raise ResultError(f"{table}: column {name!r} holds {read[name].type}; expected {kind}")
    for name in read.column_names:
        if read.column_names.count(name) > 1:
            raise ResultError(f"{table}: column {name!r} stands there twice")
        if name not in due and not (table == "records" and name.startswith(TAG)):
            raise ResultError(f"{table}: column {name!r} is none of a result's")


def _key_by(name: str, holder: dict[str, Any], place: Any) -> None:
    """Makes a mapping of the list `name`, wherever it stands in `holder`. Raises ResultError where one is twice."""
    for key, value in holder.items():
        if key == name and isinstance(value, list):
            named: dict[str, Any] = {}
            for item in value:
                if place(item) in named:
                    raise ResultError(f"{place(item)} is listed twice")
                named[place(item)] = item
            holder[key] = named
        elif isinstance(value, dict):
            _key_by(name, value, place)


def _metric_name(metric: Mapping[str, Any]) -> str:
    subset = "" if metric["subset"] == "all" else f", {metric['subset']}"
    at = "" if metric["at"] is None else f" at {metric['at']:g}"
    return f"{metric['name']}{at} of view {metric['view']!r}{subset}"


def _map_name(fitted_map: Mapping[str, Any]) -> str:
    return f"{fitted_map['scope']}, {fitted_map['map']}"


def _compare(place: str, stated: Any, due: Any, scale: float = 0.0) -> None:
    """Raises ResultError with the first place in which `stated` is not `due`; numbers within 1e-9 of their scale."""
    if isinstance(stated, dict) and isinstance(due, dict):
        scale = _scale(due)
        for name in (*due, *(name for name in stated if name not in due)):
            inside = _inside(place, name)
            if name not in stated:
                raise ResultError(f"{inside} is missing, its records give {_shown(due[name])}")
            if name not in due:
                raise ResultError(f"{inside} is {_shown(stated[name])}, its records give none")
            _compare(inside, stated[name], due[name], scale)
    elif isinstance(stated, list | tuple) and isinstance(due, list | tuple):
        if len(stated) != len(due):
            raise ResultError(f"{place} has {len(stated)} entries, its records give {len(due)}")
        for number, (one, other) in enumerate(zip(stated, due, strict=True)):
            _compare(f"{place}[{number}]", one, other, scale)
    elif _is_number(stated) and _is_number(due):
        tolerance = TOLERANCE * max(scale, abs(due)) + _ROUNDING
        if not (stated == due or abs(stated - due) <= tolerance):
            raise ResultError(f"{place} is {_shown(stated)}, its records give {_shown(due)}")
    elif type(stated) is not type(due) or stated != due:
        raise ResultError(f"{place} is {_shown(stated)}, its records give {_shown(due)}")


def _scale(due: Mapping[str, Any]) -> float:
    """What 1e-9 is of, in the numbers of one mapping: 1 for shares and probabilities, else the largest end."""
    if due.get("kind") in ("proportion", "fraction") or "observed" in due:
        return 1.0
    ends: list[Any] = [due.get(name) for name in ("value", "ci_low", "ci_high")]
    return max((abs(end) for end in ends if _is_number(end)), default=0.0)


def _inside(place: str, name: str) -> str:
    if place in ("metrics", "calibration.maps"):
        return name
    if " of view " in place and place.count(".") == 0:
        return place if name == "value" else f"{place}, {name},"
    return f"{place}.{name}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    return f"{value!r:.200}"
