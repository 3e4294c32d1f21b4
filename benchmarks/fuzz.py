"""Hostile values through the whole flow: results, records, data, score files, specs, tables and stores, one wrong place
at a time, each given to the commands that read it. Every call ends in a result or one line, in bounds.

    python benchmarks/fuzz.py [--full] [--seed N]     # a round of each kind in about half a minute; --full: 40 rounds
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from hostile import Ended, Server, served  # type: ignore[import-not-found]

ROUNDS, FULL = 2, 40
SECONDS = 30  # that a small run may take; what is left of a round then waits for a full one
Call = tuple[object, ...]


def deep(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


VALUES: Sequence[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**32,
    2**63,
    -(2**63) - 1,
    2**64,
    10**30,
    10**400,
    0.5,
    -0.0,
    1e308,
    -1e308,
    5e-324,
    math.nan,
    math.inf,
    -math.inf,
    "",
    " ",
    "x",
    "\0",
    "\ud800",
    "y" * 100_000,
    "../../etc/passwd",
    "[bold]x[/]",
    "{{ 1 }}",
    "<script>",
    "=1+1",
    "\u202e\n\r\t\x1b[2J",
    "1e400",
    "nan",
    [],
    {},
    [None],
    [[]],
    [1, "a", None],
    {"": None},
    {"a": {"b": []}},
    deep(150, lambda value: [value]),
    deep(150, lambda value: {"a": value}),
    [0.5] * 5000,
]


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, the whole first."""
    yield place
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in children:
        yield from places(inner, (*place, name))


def mutated(value: Any, drawn: random.Random) -> tuple[Any, str]:
    """The value with one place changed, dropped or named otherwise, and what was done."""
    value = copy.deepcopy(value)
    kinds: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for place in places(value):
        if place:
            kinds.setdefault(tuple("#" if isinstance(part, int) else part for part in place), []).append(place)
    place = drawn.choice(kinds[drawn.choice([*kinds])])
    inside = value
    for part in place[:-1]:
        inside = inside[part]
    how = drawn.random()
    if how < 0.1:
        del inside[place[-1]]
        return value, f"{place} dropped"
    if how < 0.2 and isinstance(inside, dict):
        name = drawn.choice(["", "x" * 5000, "a\0b", "é", "all", "a=b"])
        inside[name] = inside.pop(place[-1])
        return value, f"{place} named {name[:9]!r}"
    new = drawn.choice(VALUES)
    inside[place[-1]] = new
    return value, f"{place} = {repr(new)[:60]}"


def arrays(rows: int) -> Sequence[pa.Array]:
    """Columns of types and values that nobody writes."""
    return [
        pa.nulls(rows),
        pa.array([None] * rows, pa.string()),
        pa.array([2**63] * rows, pa.uint64()),
        pa.array([2**40] * rows),
        pa.array([-1] * rows),
        pa.array([1e308, -1e308] * rows)[:rows].cast(pa.float64()),
        pa.array([math.nan] * rows),
        pa.array([math.inf] * rows),
        pa.array([b"\xff\xfe"] * rows),
        pa.array([True] * rows),
        pa.array([2**62] * rows, pa.int64()).cast(pa.timestamp("s")),
        pa.array([2**31 - 1] * rows, pa.int32()).cast(pa.date32()),
        pa.array([2**62] * rows).cast(pa.duration("s")),
        pa.array([2**62] * rows).cast(pa.timestamp("ns", "UTC")),
        pa.array([10**37] * rows, pa.decimal128(38, 0)),
        pa.array([[1, 2]] * rows),
        pa.array([{"a": 1}] * rows),
        pa.array([[("a", 1.0)]] * rows, pa.map_(pa.string(), pa.float64())),
        pa.array(["x"] * rows),
        pa.array(["x"] * rows).dictionary_encode(),
        pa.array(["y" * 100_000] * rows),
        pa.array([86399] * rows, pa.time32("s")),
    ]


class Fuzz:
    """A folder with two results, and what each round makes of them."""

    def __init__(self, server: Server, folder: Path, drawn: random.Random) -> None:
        self.server, self.folder, self.drawn = server, folder, drawn
        self.calls, self.faults = 0, list[str]()
        (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in PAIRS))
        models = ("-m", "length", "-m", "random")
        self.check("the plain run", ("run", *models, "-t", "best_of_n", "--limit", "12", "--out", "results"))
        self.check(
            "pairs", ("run", *models, "-t", "preference", "--data", "preference=pairs.jsonl", "--out", "results")
        )
        self.results = sorted((folder / "results").rglob("*.json"))
        self.places = {}
        for path in self.results:
            self.places[path] = json.loads(path.read_text())

    def check(self, what: str, call: Call, **environment: str) -> Ended:
        """Calls, and keeps what is wrong with how that ended."""
        ended = self.server.call(self.folder, *call, **environment)
        self.calls += 1
        if ended.faults:
            told = (ended.err.strip().splitlines() or [""])[-1][:300]
            self.faults.append(f"{what}: rmbench {' '.join(map(str, call))}: {', '.join(ended.faults)}: {told}")
            print(f"FAULT {self.faults[-1]}", flush=True)
        return ended

    def some(self, calls: Sequence[Call], what: str, **environment: str) -> None:
        for call in self.drawn.sample(calls, min(2, len(calls))):
            self.check(what, call, **environment)

    def copied(self) -> tuple[Path, Path]:
        """A folder of results, and one of them in it, to be changed."""
        target = self.folder / "changed" / "results"  # where a board has them
        shutil.rmtree(target.parent, ignore_errors=True)
        shutil.copytree(self.folder / "results", target)
        path = self.drawn.choice(self.results)
        return target, target / path.relative_to(self.folder / "results")

    def read(self, folder: Path, path: Path) -> Sequence[Call]:
        """The commands that read results."""
        shutil.rmtree(self.folder / "board", ignore_errors=True)
        return [
            ("show", path),
            ("compare", folder),
            ("compare", folder, "--json"),
            ("view", folder, "--all", "--no-browser"),
            ("leaderboard", "add", path, "--folder", "board"),
            ("select", "--result", path),
            ("correlate", "--results", folder),
            ("correlate", "--mismatch", "best_of_n", "--results", folder),
            ("distances", folder),
            ("overoptimize", folder),
            ("score", "pairs.jsonl", "-m", "length", "--calibrator", path, "-o", "o.csv"),
            ("leaderboard", "build", "--folder", folder.parent),
            ("leaderboard", "check", "--folder", folder.parent),
        ]

    def result(self) -> None:
        folder, path = self.copied()
        value, what = mutated(json.loads(path.read_text()), self.drawn)
        path.write_text(json.dumps(value))
        self.some(self.read(folder, path), f"result {what}")

    def records(self) -> None:
        folder, path = self.copied()
        path = path.with_suffix(".parquet")
        table = pq.read_table(path)
        place = self.drawn.randrange(table.num_columns)
        array = self.drawn.choice(arrays(table.num_rows))
        name = table.column_names[place]
        pq.write_table(table.set_column(place, name, array), path)
        self.some(self.read(folder, path.with_suffix(".json")), f"records {name}: {array.type}")

    def damage(self) -> None:
        folder, path = self.copied()
        path = self.drawn.choice([path, path.with_suffix(".parquet")])
        path.write_bytes(damaged(path.read_bytes(), self.drawn))
        self.some(self.read(folder, path.with_suffix(".json")), f"damaged {path.suffix}")

    def data(self) -> None:
        rows, what = mutated(copy.deepcopy(self.drawn.choice([PAIRS, GROUPS, CHATS])), self.drawn)
        form = self.drawn.choice(["jsonl", "json", "csv", "parquet", "bytes"])
        path = self.folder / f"data.{'jsonl' if form == 'bytes' else form}"
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        if form == "parquet":
            table = pa.table({name: [row.get(name) for row in PAIRS] for name in PAIRS[0]})
            place, array = self.drawn.randrange(table.num_columns), self.drawn.choice(arrays(table.num_rows))
            what = f"{table.column_names[place]}: {array.type}"
            pq.write_table(table.set_column(place, table.column_names[place], array), path)
        elif form == "bytes":
            path.write_bytes(damaged(text.encode(), self.drawn))
        elif form == "csv":
            cells = [
                json.dumps(str(value).replace('"', "'"))
                for row in rows
                if isinstance(row, dict)
                for value in row.values()
            ]
            path.write_text(f"prompt,chosen,rejected\n{','.join(cells)}\n", errors="replace")
        else:
            path.write_text(text if form == "jsonl" else json.dumps(rows))
        self.some(
            [
                ("run", "-m", "length", "-t", "preference", "--data", f"preference={path}", "--out", "made"),
                ("run", "-m", "length", "-t", "best_of_n", "--data", f"best_of_n={path}", "--out", "made"),
                ("run", "-m", "random", "-t", "ratings", "--data", f"ratings={path}", "--out", "made"),
                ("score", path, "-m", "length", "-o", "o.jsonl"),
                ("score", path, "-m", "random", "-o", "o.parquet"),
                ("select", path, "-m", "length", "-o", "o.csv"),
                ("select", path, "-m", "length", "--gold", "random"),
                ("run", "-p", f"outputs:{path}", "-t", "lengths", "--data", f"lengths={path}", "--out", "made"),
            ],
            f"data {form} {what}",
        )

    def scores(self) -> None:
        rows, what = mutated(self.drawn.choice(SCORES), self.drawn)
        path = self.folder / "scores.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        call = ("run", "-m", f"scores:{path}", "-t", "preference", "--data", "preference=pairs.jsonl", "--out", "made")
        self.check(f"scores {what}", call)

    def spec(self) -> None:
        head = self.drawn.choice(["", 'family = "random"\n', 'family = "length"\n'])
        value = self.drawn.choice(TOML)
        key = self.drawn.choice(["family", "source", "revision", "options", "members", "seed", "x"])
        path = self.folder / "model.toml"
        path.write_text(f"{head}{key} = {value}\n", errors="replace")
        what = f"toml {head.strip()} {key} = {value[:40]}"
        self.check(what, ("run", "-m", path, "-t", "best_of_n", "--limit", "2", "--out", "made"))
        self.check(what, ("correlate", "--aliases", path))

    def tables(self) -> None:
        kind = self.drawn.choice(["metrics", "policy-results"])
        heading = (
            "model,benchmark,metric,value,source" if kind == "metrics" else "model,policy,benchmark,method,value,source"
        )
        cells = ["a", "b", "c", "0.5", "d", "e"][: heading.count(",") + 1]
        for _ in range(4):
            cells[self.drawn.randrange(len(cells))] = str(self.drawn.choice(VALUES))[: 10 ** self.drawn.randrange(1, 6)]
        path = self.folder / "table.csv"
        path.write_text(f"{heading}\n{','.join(cells)}\n", errors="replace")
        self.check(f"table {kind} {[cell[:20] for cell in cells]}", ("correlate", f"--{kind}", path))

    def store(self) -> None:
        cache = self.folder / "store"
        shutil.rmtree(cache, ignore_errors=True)
        call = ("run", "-m", "length", "-t", "preference", "--data", "preference=pairs.jsonl", "--out", "made")
        self.check("a store", call, RMBENCH_CACHE=str(cache))
        for path in sorted(cache.glob("*.sqlite*")):
            path.write_bytes(damaged(path.read_bytes(), self.drawn))
        for command in (call, ("cache", "info"), ("score", "pairs.jsonl", "-m", "length", "-o", "o.jsonl")):
            self.check("damaged store", command, RMBENCH_CACHE=str(cache))


def damaged(content: bytes, drawn: random.Random) -> bytes:
    """Some bytes changed, cut off, doubled, or made nothing."""
    how, data = drawn.randrange(5), bytearray(content)
    if how == 0:
        return content[: drawn.randrange(len(content) + 1)]
    if how == 1:
        return content * 2
    if how == 2:
        return bytes(len(content))
    for _ in range(drawn.choice([1, 8, 64])):
        if data:
            data[drawn.randrange(len(data))] = drawn.randrange(256)
    return bytes(data)


PAIRS: Sequence[Mapping[str, Any]] = [
    {
        "id": f"p{n}",
        "prompt": f"Say {n}.",
        "chosen": f"It is {n}." * (1 + n % 3),
        "rejected": "No." * (1 + n % 4),
        "subset": "ab"[n % 2],
        "cluster": f"c{n // 2}",
    }
    for n in range(8)
]
GROUPS: Sequence[Mapping[str, Any]] = [
    {"id": f"g{n}", "prompt": f"Say {n}.", "responses": ["a", "bb", "ccc"], "labels": [1, 0, 0], "policy": "p"}
    for n in range(4)
]
CHATS: Sequence[Mapping[str, Any]] = [
    {
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "t"}]}],
        "chosen": [
            {"role": "assistant", "content": "yes", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}
        ],
        "rejected": [{"role": "assistant", "content": "no", "reasoning_content": "r"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "helpfulness": 3,
    }
]
SCORES: Sequence[Sequence[Mapping[str, Any]]] = [
    [
        {
            "example_id": f"p{n}",
            "candidate": c,
            "reward": n - c,
            "heads": {"a": 1.0},
            "n_tokens": 3,
            "truncated": 0,
            "status": "ok",
        }
        for n in range(8)
        for c in range(2)
    ],
    [
        {"example_id": f"p{n}", "candidates": [0, 1], "values": [1.0, 0.0], "pick": 0, "spread": [0.1, 0.2]}
        for n in range(8)
    ],
    [{"example_id": f"p{n}", "first": 0, "second": 1, "win_first": 0.5} for n in range(8)],
    [{"example_id": f"p{n}", "candidate": c, "steps": [0.1, 0.2]} for n in range(8) for c in range(2)],
    [{"id": f"p{n}", "chosen_reward": 1e308, "rejected_reward": -1e308} for n in range(8)],
]
TOML = [
    "9" * 5000,
    "0x" + "f" * 5000,
    "1e400",
    "-1",
    "[" * 2000,
    "[" * 900 + "]" * 900,
    "{a=" * 400 + "1" + "}" * 400,
    '"\\u0000"',
    '"' + "x" * 100_000 + '"',
    "[[]]",
    "{}",
    "nan",
    "1979-05-27T07:32:00Z",
    "9999-99-99",
    "true",
    '["length", "length"]',
    '[{family="random"}]',
    '"length"',
    "a.b.c = 1",
    "'''\n'''",
]


def main() -> None:
    """Prints each fault and how much was tried; exits with 1 where there is one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--kind", action="append")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served() as server:
        fuzz = Fuzz(server, Path(folder), random.Random(given.seed))
        kinds = [fuzz.result, fuzz.records, fuzz.data, fuzz.damage, fuzz.scores, fuzz.spec, fuzz.tables, fuzz.store]
        if given.kind:
            kinds = [kind for kind in kinds if kind.__name__ in given.kind]
        end = math.inf if given.full else time.monotonic() + SECONDS
        for _ in range(FULL if given.full else ROUNDS):
            for kind in kinds:
                if time.monotonic() < end:
                    kind()
        print(f"{fuzz.calls:,} calls, {len(fuzz.faults)} faults; seed {given.seed}")
    sys.exit(bool(fuzz.faults))


if __name__ == "__main__":
    main()
