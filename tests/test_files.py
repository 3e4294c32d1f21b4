"""Reading rows: what is written comes back, and what cannot be read is one clear line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmbench.data.files import Row, file_sha256, read_rows, stem
from rmbench.data.steps import split_steps
from rmbench.errors import DataError

Rows = list[dict[str, Any]]

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | texts
json_rows = st.lists(st.dictionaries(texts, values | st.lists(values)), min_size=1)
text_tables = st.lists(st.fixed_dictionaries({"prompt": texts, 'näme, "it\'s"': texts}), min_size=1)
quick = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_json(rows: Rows) -> bytes:
    return json.dumps(rows).encode()


def as_json_lines(rows: Rows) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def as_csv(rows: Rows) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def as_parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def read(path: Path) -> Rows:
    return [row.value for row in read_rows(path)]


def complaint_of(path: Path) -> str | None:
    try:
        read(path)
    except DataError as error:
        return str(error)
    return None


@quick
@given(rows=json_rows, suffix=st.sampled_from(["json", "json.gz", "JSON"]))
def test_json_lists_come_back(tmp_path: Path, rows: Rows, suffix: str) -> None:
    assert read(written(tmp_path, f"rows.{suffix}", as_json(rows))) == rows
    assert read(written(tmp_path, f"rows.{suffix}", json.dumps(rows, indent=2).encode())) == rows


@quick
@given(rows=json_rows, suffix=st.sampled_from(["jsonl", "jsonl.gz", "json"]))
def test_json_lines_come_back_also_from_a_json_file(tmp_path: Path, rows: Rows, suffix: str) -> None:
    assert read(written(tmp_path, f"rows.{suffix}", as_json_lines(rows))) == rows


@quick
@given(rows=text_tables, suffix=st.sampled_from(["csv", "csv.gz"]))
def test_csv_comes_back(tmp_path: Path, rows: Rows, suffix: str) -> None:
    assert read(written(tmp_path, f"rows.{suffix}", as_csv(rows))) == rows


@quick
@given(rows=text_tables, suffix=st.sampled_from(["parquet", "parquet.gz"]))
def test_parquet_comes_back(tmp_path: Path, rows: Rows, suffix: str) -> None:
    nested = [{**row, "messages": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    assert read(written(tmp_path, f"rows.{suffix}", as_parquet(nested))) == nested


@quick
@given(
    data=st.binary(max_size=200), suffix=st.sampled_from(["json", "jsonl", "csv", "parquet", "jsonl.gz", "parquet.gz"])
)
def test_any_bytes_are_rows_or_one_line_of_error(tmp_path: Path, data: bytes, suffix: str) -> None:
    complaint = complaint_of(written(tmp_path, f"rows.{suffix}", data))
    assert complaint is None or (f"rows.{suffix}" in complaint and complaint.splitlines() == [complaint])


@quick
@given(rows=json_rows, cut=st.integers(1, 40))
def test_a_cut_json_list_is_an_error(tmp_path: Path, rows: Rows, cut: int) -> None:
    data = as_json(rows)
    with pytest.raises(DataError, match=r"rows\.json"):
        read(written(tmp_path, "rows.json", data[: max(1, len(data) - cut)]))


def test_a_row_knows_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.jsonl", b'{"a": 1}\n\n{"a": 2}\n')
    assert list(read_rows(path)) == [Row({"a": 1}, "rows.jsonl", 1), Row({"a": 2}, "rows.jsonl", 3)]


def test_a_folder_is_its_data_files_in_order(tmp_path: Path) -> None:
    written(tmp_path, "b.jsonl", b'{"a": 3}')
    written(tmp_path, "a/x.csv.gz", b"a\n1\n2\n")
    written(tmp_path, "README.md", b"no data")
    written(tmp_path, ".cache/c.jsonl", b"no data either")
    assert list(read_rows(tmp_path)) == [
        Row({"a": "1"}, "a/x.csv.gz", 1),
        Row({"a": "2"}, "a/x.csv.gz", 2),
        Row({"a": 3}, "b.jsonl", 1),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    for name, data in (
        ("a.csv", "\ufeffprompt\nx\n"),
        ("a.jsonl", '\ufeff{"prompt": "x"}'),
        ("a.json", '\ufeff[{"prompt": "x"}]'),
    ):
        assert read(written(tmp_path, name, data.encode())) == [{"prompt": "x"}]


def test_a_response_may_be_longer_than_csv_readers_expect(tmp_path: Path) -> None:
    rows = [{"response": "long " * 50_000}]
    assert read(written(tmp_path, "rows.csv", as_csv(rows))) == rows


def test_an_object_of_lists_of_rows_is_all_of_them_one_list_after_the_other(tmp_path: Path) -> None:
    file = written(tmp_path, "x.json", b'{\n"one": [{"a": 1}, {"a": 2}],\n"other": [{"a": 3}]\n}')
    assert read(file) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert [row.number for row in read_rows(file)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.txt", b"", r"x\.txt: unsupported format \.txt; expected \.json, \.jsonl, .*, each also with \.gz"),
        ("x.jsonl", b"", r"x\.jsonl: no rows in it"),
        ("x.json", b"[]", r"x\.json: no rows in it"),
        ("x.csv", b"a,b\n", r"x\.csv: no rows in it"),
        ("x.jsonl", b'{"a": 1}\n{"a": }\n', r"x\.jsonl, row 2: invalid JSON: Expecting value at line 1, column 7"),
        ("x.json", b'[{"a": 1},\n {"a" 2}]', r"x\.json, row 2: invalid JSON: Expecting ':' .* line 2, column 7"),
        ("x.json", b'[{"a": 1} {"a": 2}]', r"x\.json, row 1: invalid JSON: expected `,` or `\]` after it, got '\{'"),
        ("x.json", b'[{"a": 1}', r"x\.json, row 1: invalid JSON: expected `,` or `\]` after it, got ''"),
        ("x.json", b'[{"a": 1}] 2', r"x\.json, row 1: invalid JSON: more text after the end of the list"),
        ("x.jsonl", b'{"a": 1} {"a": 2}', r"x\.jsonl, row 1: invalid JSON: more text after the object"),
        ("x.json", b'{\n"a": 1\n}', r"x\.json: one JSON object over several lines; expected a list of objects, one"),
        ("x.json", b'{\n"a": [{"b": 1}],\n"c": 2}', r"x\.json: one JSON object over several lines; expected a list of"),
        ("x.json", b'{\n"a": [{"b": 1}],\n"c": }', r"x\.json: invalid JSON: Expecting value at line 3, column 6"),
        ("x.jsonl", b'{"a": 1}\n[1, 2]', r"x\.jsonl, row 2: expected an object with named fields, got \[1, 2\]"),
        ("x.jsonl", b'{"a": 1}\n{"a": "\xff"}', r"x\.jsonl, row 2: not UTF-8: byte 0xff at offset 7"),
        ("x.jsonl", rb'{"a": "\ud800"}', r"x\.jsonl, row 1: .*surrogates not allowed"),
        ("x.jsonl", b'{"a": ' + b"[" * 200_000, r"x\.jsonl, row 1: .*recursion"),
        ("x.csv", b"a,b\n1,2\n3\n", r"x\.csv, row 2: 1 fields; the header has 2"),
        ("x.csv", b"a,a\n1,2\n", r"x\.csv: two columns of one name in the header: \['a', 'a'\]"),
        ("x.csv", b'a,b\n1,"2\n', r"x\.csv, row 1: invalid CSV: unexpected end of data"),
        ("x.csv", b"a\n\xff\n", r"x\.csv: not UTF-8: byte 0xff at line 2"),
        ("x.parquet", b"no", r"x\.parquet: not a readable Parquet file"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_where_and_why(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(written(tmp_path, name, data))


def test_files_that_are_missing_or_broken_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.jsonl: no such file or folder"):
        read(tmp_path / "nothing.jsonl")
    with pytest.raises(DataError, match=r"no data file in this folder; expected \.json, .*"):
        read(tmp_path)
    for name, data in (("cut.jsonl.gz", gzip.compress(b'{"a": 1}')[:-9]), ("plain.jsonl.gz", b'{"a": 1}')):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}: cannot be read: "):
            read(tmp_path / name)


def test_a_missing_column_lists_what_was_found_and_what_would_do() -> None:
    row = Row({"question": "?", "good": 1}, "x.jsonl", 7)
    assert row.need(("prompt", "question"), "") == "question"
    with pytest.raises(DataError) as error:
        row.need(("chosen",), "a row has `chosen` and `rejected`")
    assert (
        str(error.value) == "x.jsonl, row 7: no `chosen`; found `question`, `good`; a row has `chosen` and `rejected`"
    )


def test_a_value_is_the_first_that_is_there() -> None:
    row = Row({"a": None, "b": "", "c": [], "d": 0, "e": 1}, "x.jsonl", 1)
    assert row.filled(("x", "a", "b", "c", "d", "e")) == "d"
    assert row.filled(("x", "a", "b", "c")) is None
    assert row.name(("a", "b", "d", "e")) == "0"


@pytest.mark.parametrize("change", [lambda p: p.write_text("2"), lambda p: p.rename(p.with_name("c.csv"))])
def test_the_hash_of_a_folder_is_of_its_names_and_bytes(tmp_path: Path, change: Callable[[Path], None]) -> None:
    written(tmp_path, "a.csv", b"1"), written(tmp_path, "b.csv", b"1")
    before = file_sha256(tmp_path)
    assert before == file_sha256(tmp_path)
    change(tmp_path / "b.csv")
    assert file_sha256(tmp_path) != before


def test_the_stem_of_a_data_file_has_no_suffix() -> None:
    assert [stem(Path(name)) for name in ("a/v1.2.json.gz", "b.jsonl", "c.d")] == ["v1.2", "b", "c.d"]


texts_of_lines = st.text(st.sampled_from("a b.\n\r\t\u2003\x1c"), max_size=40) | texts


def test_steps_are_paragraphs_else_lines() -> None:
    assert split_steps("One.\n\nTwo,\nstill two.\n \n\n Three.\n") == ("One.", "Two,\nstill two.", "Three.")
    assert split_steps("\n\nOne.\nTwo.\r\nThree.\n\n") == ("One.", "Two.", "Three.")
    assert split_steps("One.") == ("One.",)
    assert split_steps("a\r\n\r\nb\r\nc") == ("a", "b\r\nc")


@given(text=texts_of_lines)
def test_steps_lose_white_space_and_nothing_else(text: str) -> None:
    steps = split_steps(text)
    assert "".join("".join(steps).split()) == "".join(text.split())
    assert [step.strip() for step in steps] == list(steps)
    assert bool(steps) == bool(text)
    assert all(steps) or not text.strip()


@given(paragraphs=st.lists(st.from_regex(r"[a-z]+(\n[a-z]+)*", fullmatch=True), min_size=2))
def test_paragraphs_come_back(paragraphs: list[str]) -> None:
    assert split_steps("\n\n".join(paragraphs)) == tuple(paragraphs)
