"""Every shape of preference data is read alike by `run`, `score` and `select`, and what is not read is said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import rmbench
from rmbench.checkpoints.template import turns_of
from rmbench.cli import main
from rmbench.data.conversation import CONTRADICTED, PREFILLED, SEVERAL, read_all
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Rows, read_rows
from rmbench.data.rows import told
from rmbench.errors import DataError, UsageError, WrongFileError
from rmbench.plugins import load_task
from rmbench.runs.loading import load_tasks
from rmbench.scoring.keys import request_keys
from rmbench.types import Message, Request, Response

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PAIR = {"chosen": "good", "rejected": "bad"}
SHARES = {"from": "human", "value": "?"}


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def sides(*before: dict[str, Any], key: str = "content") -> dict[str, Any]:
    """A chosen and a rejected conversation behind these turns."""
    who = ("role", "assistant") if key == "content" else ("from", "gpt")
    return {side: [*before, {who[0]: who[1], key: text}] for side, text in PAIR.items()}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def both(*rows: dict[str, Any]) -> tuple[list[Any], list[Any], dict[str, int]]:
    """What `run` and what `score` and `select` read of rows, and what is noted of them."""
    data = Rows(rows)
    scored = list(read_all(data))
    judged = list(load_task("preference").read(data))
    return judged, scored, data.noted()


def said(prompt: tuple[Message, ...]) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in prompt]


ASKED = [("user", "?")]
BRIEF = [("system", "Be brief."), *ASKED]
BEFORE = [("user", "one"), ("assistant", "two"), *ASKED]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"system": "Be brief.", "question": "?", **PAIR}, BRIEF),
        ({"system_prompt": "Be brief.", "prompt": [turn("user", "?")], **PAIR}, BRIEF),
        ({"system": "Be brief.", **sides(turn("user", "?"))}, BRIEF),
        ({"system": "Be brief.", "prompt": [turn("system", "Be brief."), turn("user", "?")], **PAIR}, BRIEF),
        ({"history": [["one", "two"]], "instruction": "?", "input": "", **PAIR}, BEFORE),
        ({"history": [turn("user", "one"), turn("assistant", "two")], "prompt": "?", **PAIR}, BEFORE),
        ({"history": [{"question": "one", "answer": "two"}], "query": "?", **PAIR}, BEFORE),
        ({"history": '[["one", "two"]]', "prompt": "?", **PAIR}, BEFORE),
        ({"history": [["one", "two"]], "system": "Be brief.", "prompt": "?", **PAIR}, [BRIEF[0], *BEFORE]),
        ({"history": "?", **PAIR}, ASKED),
        ({"context": [turn("user", "?")], **PAIR}, ASKED),
        ({"context": "?", **PAIR}, ASKED),
        ({"conversations": [SHARES], **PAIR}, ASKED),
        ({"conversations": [SHARES], "chosen": {"from": "gpt", "value": "good"},
          "rejected": {"from": "gpt", "value": "bad"}}, ASKED),
        (sides(SHARES, key="value"), ASKED),
        (sides({"from": "system", "value": "Be brief."}, SHARES, key="value"), BRIEF),
        (sides(turn("user", [{"type": "text", "text": "?"}])), ASKED),
        (sides(turn("user", [{"type": "input_text", "text": "?"}, {"text": ""}])), ASKED),
        (sides(turn("developer", "Be brief."), turn("user", ["?"])), BRIEF),
        ({"prompt": [turn("user", [{"type": "text", "text": "?"}])], **PAIR}, ASKED),
        ({"messages": json.dumps([turn("user", "?")]), **PAIR}, ASKED),
        ({"prompt": str([turn("user", "?")]), **PAIR}, ASKED),
        ({side: json.dumps(turns) for side, turns in sides(turn("user", "?")).items()}, ASKED),
        ({"prompt": [turn("user", "one")], **sides(turn("assistant", "two"), turn("user", "?"))}, BEFORE),
        ({"prompt": "one", **sides(turn("user", "one"), turn("assistant", "two"), turn("user", "?"))}, BEFORE),
        ({"prompt": [turn("user", "one"), turn("assistant", "two")], **sides(turn("user", "?"))}, BEFORE),
        ({"prompt": [turn("system", "Be brief."), turn("user", "?")], **sides(turn("user", "?"))}, BRIEF),
        ({"prompt": " ?\n", **sides(turn("user", "?"))}, ASKED),
        ({"prompt": "another", **sides(turn("user", "?"))}, ASKED),
        ({"messages": [turn("user", "?"), turn("assistant", "good")], "rejected_response": "bad"}, ASKED),
        ({"messages": [turn("user", "?"), turn("assistant", "good")], "rejected_response": ["bad"]}, ASKED),
        ({"messages": [turn("user", "?"), turn("assistant", "good")],
          "rejected_messages": [turn("user", "?"), turn("assistant", "bad")]}, ASKED),
        ({"messages": [turn("user", "?"), turn("assistant", "good")], **PAIR}, ASKED),
        ({"query": "?", "response": "good", "rejected_response": "bad"}, ASKED),
        ({"system": "Be brief.", "query": "?", "response": "good", "rejected_response": ["bad"]}, BRIEF),
        ({"prompt": "?", "completion": "good", "rejected": "bad"}, ASKED),
        ({"messages": [turn("user", "?")], "response": "good", "rejected_response": "bad"}, ASKED),
        ({"messages": [turn("user", "?"), turn("assistant", "good")], "rejected": "bad", "text": "all of it"}, ASKED),
        ({"system": turn("system", "Be brief."), "prompt": "?", **PAIR}, BRIEF),
        ({"system": [turn("developer", "Be brief.")], "prompt": "?", **PAIR}, BRIEF),
        ({"prompt": json.dumps(turn("user", "?")), **PAIR}, ASKED),
        ({"prompt": "?", "chosen": json.dumps(turn("assistant", "good")),
          "rejected": str({"from": "gpt", "value": "bad"})}, ASKED),
        ({"prompt": "[{'role': 'user', 'content': 'one'}\n {'role': 'assistant', 'content': 'two'}\n {'role': "
                    "'user', 'content': '?'}]", **PAIR}, BEFORE),
        ({"prompt": [turn("user", "?"), turn("assistant", "Sure: ")], **PAIR}, [*ASKED, ("assistant", "Sure: ")]),
        ({"prompt": [turn("user", "?"), turn("assistant", "go")], **sides(turn("user", "?"))} | {
            "rejected": [turn("user", "?"), turn("assistant", "gone")]}, ASKED),
    ],
)  # fmt: skip
def test_a_pair_of_any_shape_is_read_alike_by_every_command(row: dict[str, Any], prompt: list[Any]) -> None:
    (judged,), (scored,), _ = both(row)
    assert said(judged.prompt) == said(scored.prompt) == prompt
    texts = tuple(candidate.text for candidate in judged.candidates)
    assert texts == scored.texts
    assert texts in (("good", "bad"), ("good", "gone"))
    assert [candidate.label for candidate in judged.candidates] == [True, False]


@pytest.mark.parametrize("text", ['{"role": "admin", "content": "?"}', '{"role": "user"}', "{'a': 1}", "{", "[1\n]"])
def test_a_text_that_only_looks_like_a_turn_stays_a_text(text: str) -> None:
    (judged,), (scored,), _ = both({"prompt": text, "chosen": text, "rejected": "bad"})
    assert said(judged.prompt) == said(scored.prompt) == [("user", text)]
    assert judged.candidates[0].text == scored.texts[0] == text


@pytest.mark.parametrize("row", [
    {"prompt": "?", "response": "a", "outputs": "b"},
    {"prompt": "?", "response": "a", "rejected": True},
    {"prompt": "?", "response": "a", "rejected_response": 3.5},
    {"prompt": "?", "completion": "a", "candidates": "b"},
])  # fmt: skip
def test_a_column_that_was_looked_at_and_not_used_is_not_read(row: dict[str, Any]) -> None:
    rows = Rows([row])
    (scored,) = read_all(rows)
    assert scored.texts == ("a",)
    assert told(rows.noted()) == [f"columns not read: {[*row][-1]} (1)"]


@pytest.mark.parametrize("value", [None, []])
@pytest.mark.parametrize("row", [{"messages": sides(turn("user", "?"))["chosen"]}, {"prompt": "?", "response": "good"}])
def test_a_pair_that_lacks_its_rejected_response_names_its_column(row: dict[str, Any], value: Any) -> None:
    with pytest.raises(DataError, match="row 1, `rejected_response`: no response: .* got (null|..)$"):
        load_task("preference").load(Rows([{**row, "rejected_response": value}]))


@pytest.mark.parametrize("column", ["responses", "generations", "completions"])
def test_a_list_of_responses_may_be_json_text(column: str) -> None:
    row = {"prompt": "?", column: json.dumps(["a", "b"]), "labels": "[1, 0]"}
    (scored,) = read_all(Rows([row]))
    (group,) = load_task("best_of_n").read(Rows([row]))
    assert scored.texts == tuple(candidate.text for candidate in group.candidates) == ("a", "b")


@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL]), [json.dumps(TOOL)]])
@pytest.mark.parametrize("column", ["tools", "functions"])
def test_tools_go_with_the_request_whatever_they_are_written_as(tools: Any, column: str) -> None:
    (judged,), (scored,), noted = both({"prompt": "?", column: tools, **PAIR})
    assert judged.tools == scored.tools == (TOOL,)
    assert noted == {}


def test_a_turn_of_a_tool_is_part_of_the_response_and_reaches_the_template() -> None:
    row = sides(turn("user", "?"))
    row["chosen"].insert(1, turn("tool", "dry"))
    (judged,), (scored,), _ = both(row)
    assert said(judged.prompt) == said(scored.prompt) == ASKED
    assert said(judged.candidates[0].response.messages) == [("tool", "dry"), ("assistant", "good")]


def test_what_goes_on_from_the_prompt_of_the_row_is_the_response_where_turns_of_the_user_differ() -> None:
    rows = {side: [turn("assistant", text), turn("user", text), turn("assistant", text)] for side, text in PAIR.items()}
    (judged,), (scored,), _ = both({"prompt": [turn("user", "?")], **rows})
    assert said(judged.prompt) == ASKED
    assert [len(one.messages) for one in scored.responses] == [3, 3]


IMAGE = {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "?", "images": ["a.png"], **PAIR}, "has images, which no model here sees"),
        ({"prompt": "?", "image": {"path": "a.png"}, **PAIR}, "has images, which no model here sees"),
        ({"prompt": "?", "videos": ["a.mp4"], **PAIR}, "has videos, which no model here sees"),
        ({"prompt": "?", "audios": ["a.wav"], **PAIR}, "has audio, which no model here sees"),
        ({"prompt": "?", "documents": [{"title": "t"}], **PAIR}, "has documents, which no model here sees"),
        (sides(turn("user", "?", images=["a.png"])), "has images, which no model here sees"),
        (sides(turn("user", ["?", IMAGE][1:])), "has images, which no model here sees"),
        (sides(turn("user", [{"type": "audio", "url": "x"}])), "has audio, which no model here sees"),
        ({"system": "Be long.", "prompt": [turn("system", "Be brief."), turn("user", "?")], **PAIR},
         "two system messages that differ"),
        ({"prompt": [turn("system", "Be long."), turn("user", "?")],
          **sides(turn("system", "Be brief."), turn("user", "?"))}, "two system messages that differ"),
        ({"history": "earlier", "prompt": "?", **PAIR}, "`history` is a text beside a prompt"),
        ({"source": "web", **PAIR}, "no prompt"),
        ({"prompt": " \n", **PAIR}, "no prompt"),
        ({"prompt": [turn("user", "")], **PAIR}, "no prompt"),
        ({"system": "Be brief.", "dialogue": "?", **PAIR}, "no prompt"),
        ({"prompt": "<image>?", "image_url": "https://a.b/c.png", **PAIR}, "has images, which no model here sees"),
    ],
)  # fmt: skip
def test_a_row_that_no_model_sees_whole_is_left_out_by_reason_and_the_others_are_not(
    row: dict[str, Any], reason: str
) -> None:
    judged, scored, _ = both({"prompt": "?", **PAIR}, row)
    assert judged[1] == scored[1] == LeftOut(reason)
    assert not isinstance(judged[0], LeftOut)
    with pytest.raises(DataError, match=r"rows: no usable example \(" + reason.replace("`", ".")):
        load_task("preference").load(Rows([row]))


@pytest.mark.parametrize("row", [{"prompt": " "}, {"question": ""}, {"other": "?"}, {"system": "s"},
                                 {"messages": [turn("system", "s")]}, {"prompt": "?", "images": ["x"]}])  # fmt: skip
def test_a_row_that_asks_a_policy_nothing_is_left_out_and_counted(row: dict[str, Any]) -> None:
    (asked,) = load_tasks(
        ["lengths"], data={"lengths": [{"prompt": "?"}, row, {"history": [["a", "b"]], "query": "!"}]}
    )
    assert [example.prompt[-1].text for example in asked.data.examples] == ["?", "!"]
    assert sum(asked.data.excluded.values()) == 1


def test_a_file_without_a_prompt_lists_its_columns_and_the_option(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "rows.jsonl", [{"ask": "?", **PAIR}] * 3)
    out = tmp_path / "o.jsonl"
    for command in (["run", "-t", "preference", "--data", f"preference={path}"], ["score", path, "-o", out],
                    ["select", path, "-o", out]):  # fmt: skip
        assert run(*command, "-m", "length") == 1
        error = capsys.readouterr().err
        assert "no usable example (no prompt: 3; columns not read: ask (3)); --columns prompt=COLUMN" in error


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "my_own"])
def test_a_field_of_a_message_reaches_the_template_and_the_key(name: str) -> None:
    (judged,), (scored,), noted = both(sides(turn("user", "?", **{name: ["why"]})))
    assert turns_of(judged.prompt)[0][name] == ["why"]
    assert told(noted) == [f"message fields that only a template sees: {name} (2)"]
    plain = Request("reward", (Message("user", "?"),), (Response("good"),))
    keys = list(request_keys("m", [plain, Request("reward", scored.prompt, (Response("good"),))]))
    assert keys[0] != keys[1]
    assert keys[0].hex()[:16] == "320718c710d986b6", "requests without such fields keep the keys they had"


def test_the_name_of_who_speaks_is_kept_and_said_and_bookkeeping_is_counted() -> None:
    judged, scored, noted = both(sides(turn("user", "?", name="Ada", timestamp=3, weight=None)))
    assert judged[0].prompt[0].name == scored[0].prompt[0].name == "Ada"
    assert told(noted) == ["message fields not read: timestamp (2)",
                           "message fields that only a template sees: name (2)"]  # fmt: skip


def test_what_a_turn_holds_beside_its_text_is_written_with_it_and_read_again(tmp_path: Path) -> None:
    asked = [
        turn("user", "one", name="Ada"),
        turn("assistant", "two", reasoning_content="why"),
        turn("user", "?", mine=0),
    ]
    path = write(tmp_path / "rows.jsonl", [sides(*asked)])
    scored, written = tmp_path / "o.jsonl", tmp_path / "g.jsonl"
    assert run("score", path, "-m", "length", "-o", scored) == 0
    write(tmp_path / "said.jsonl", [{"prompt": asked, "output": "good"}])
    prompts = write(tmp_path / "prompts.jsonl", [{"messages": asked, "id": 1}])
    assert run("generate", prompts, "-p", f"outputs:{tmp_path / 'said.jsonl'}", "-o", written) == 0
    for out in (scored, written):
        row = json.loads(out.read_text().splitlines()[0])
        assert row["prompt"] == asked
        assert row["response"] == "good"


@pytest.mark.parametrize("command", ["run", "score", "select"])
def test_what_is_not_read_is_named_once_with_its_count(command: str, tmp_path: Path, capsys: Any) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"{i}?", **PAIR, "source": "web", "mine": None} for i in range(3)]
    rows[0] |= {"margin": 2, "system": "Be brief.", "images": []}
    path = write(tmp_path / "rows.jsonl", [*rows, {"prompt": "?", "images": ["x"], **PAIR}])
    given = ["-t", "preference", "--data", f"preference={path}"] if command == "run" else [path]
    out = tmp_path / "out" if command == "run" else tmp_path / "o.jsonl"
    assert run(command, *given, "-m", "length", "--out", out) == 0
    printed = " ".join("".join(capsys.readouterr()).split())
    assert printed.count("columns not read: source (3), margin (1)") == 1
    assert "rows left out: has images, which no model here sees" in printed


@pytest.mark.parametrize("command", ["run", "score", "select"])
def test_equal_responses_and_broken_calls_are_noted_by_every_command(command: str, tmp_path: Path, capsys: Any) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{"}}
    broken = [turn("user", "?"), turn("assistant", "", tool_calls=[call]), turn("tool", "4"), turn("user", "So?")]
    rows = [{"prompt": "?", "chosen": "a", "rejected": "a"}, {"prompt": broken, **PAIR}]
    path = write(tmp_path / "rows.jsonl", rows)
    given = ["-t", "preference", "--data", f"preference={path}"] if command == "run" else [path]
    out = tmp_path / "out" if command == "run" else tmp_path / "o.jsonl"
    assert run(command, *given, "-m", "length", "--out", out) == 3, "tools are nothing for length"
    printed = " ".join("".join(capsys.readouterr()).split())
    assert "examples with identical responses: 1" in printed
    assert "tool calls whose arguments are not JSON: 1" in printed


@pytest.mark.parametrize(
    ("row", "labels"),
    [
        ({"prompt": "?", "chosen": "good", "rejected": ["bad", "worse"]}, [1, 0, 0]),
        ({"prompt": "?", "chosen": ["good", "better"], "rejected": ["bad", "worse"]}, [1, 1, 0, 0]),
        ({"messages": [*sides(turn("user", "?"))["chosen"]], "rejected_response": ["bad", "worse"]}, [1, 0, 0]),
        ({"prompt": "?", "chosen": [[turn("assistant", "good")]],
          "rejected": [[turn("assistant", "bad")], [turn("assistant", "worse")]]}, [1, 0, 0]),
    ],
)  # fmt: skip
def test_lists_of_sides_are_one_example_of_n_and_it_is_said(row: dict[str, Any], labels: list[int]) -> None:
    (judged,), (scored,), noted = both(row)
    assert [candidate.label for candidate in judged.candidates] == labels
    assert len(scored.responses) == len(labels)
    assert noted == {SEVERAL: 1}
    (group,) = load_task("best_of_n").read(Rows([row]))
    assert [candidate.label for candidate in group.candidates] == labels


def test_a_contradiction_is_counted() -> None:
    _, _, noted = both({"prompt": "another", **sides(turn("user", "?"))}, {"prompt": "?", **sides(turn("user", "?"))})
    assert noted == {CONTRADICTED: 1}


PREFILL = [turn("user", "?"), turn("assistant", "Sure: ")]


@pytest.mark.parametrize("given", [{"response": "4"}, {"responses": ["4", "5", "6"]}, {"chosen": "4", "rejected": "5"},
                                   {"output": ""}])  # fmt: skip
def test_a_response_wins_over_a_turn_that_ends_the_prompt(given: dict[str, Any]) -> None:
    rows = Rows([{"prompt": PREFILL, **given}])
    (scored,) = read_all(rows)
    texts = next(iter(given.values())) if isinstance(next(iter(given.values())), list) else [*given.values()]
    assert [said(scored.prompt)[-1], list(scored.texts)] == [("assistant", "Sure: "), texts]
    assert rows.noted() == {PREFILLED: 1}
    (asked,) = load_tasks(["lengths"], data={"lengths": [{"prompt": PREFILL, **given}]})
    assert said(asked.data.examples[0].prompt) == said(scored.prompt)
    assert PREFILLED in asked.data.noted


def test_without_a_response_a_conversation_ends_with_it() -> None:
    for row in ({"messages": PREFILL}, {"prompt": PREFILL}, {"prompt": "?", "messages": PREFILL}):
        (scored,) = read_all(Rows([row]))
        assert (said(scored.prompt), scored.texts) == (ASKED, ("Sure: ",))


# files


def test_tables_are_read_by_the_delimiter_that_is_there(tmp_path: Path) -> None:
    for name, text in (("a.csv", "prompt;chosen;rejected\n?;good, very;bad\n"), ("b.tsv", "prompt\tchosen\trejected\n"
                       "?\tgood, very\tbad\n"), ("c.csv", 'prompt,chosen,rejected\n?,"good, very",bad\n'),
                       ("d.csv", "prompt\tchosen\trejected\n?\tgood, very\tbad\n")):  # fmt: skip
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            (tmp_path / name).write_bytes(text.encode(encoding))
            (row,) = read_rows(tmp_path / name)
            assert row.value == {"prompt": "?", "chosen": "good, very", "rejected": "bad"}


def test_what_save_to_disk_wrote_is_read_as_the_rows_it_was(tmp_path: Path) -> None:
    import datasets

    rows = [{"prompt": f"{i}?", **sides(turn("user", f"{i}?"))} for i in range(3)]
    saved = datasets.Dataset.from_list(rows)
    saved.save_to_disk(tmp_path / "one")
    assert [row.value for row in read_rows(tmp_path / "one")] == rows
    datasets.DatasetDict({"train": saved, "test": saved}).save_to_disk(tmp_path / "two")
    with pytest.raises(WrongFileError, match="splits test, train; give one, as two/SPLIT"):
        list(read_rows(tmp_path / "two"))
    assert len(list(read_rows(tmp_path / "two" / "test"))) == 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{not json", "bad row: invalid JSON"),
        ('["a", "b"]', "bad row: expected an object with named fields"),
        ('{"prompt": "?", "chosen": null, "rejected": "b"}', "bad row: `chosen`: no response"),
        ('{"prompt": "?", "chosen": 3, "rejected": "b"}', "bad row: `chosen`: expected a text"),
        ('{"prompt": 3, "chosen": "a", "rejected": "b"}', "bad row: `prompt`: expected a text"),
        ('{"prompt": "?", "chosen": "a"', "bad row: invalid JSON"),
    ],
)
def test_a_bad_row_is_one_line_or_skipped_and_counted(bad: str, reason: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps({'prompt': '?', **PAIR})}\n{bad}\n")
    out = tmp_path / "o.jsonl"
    for command in (["run", "-t", "preference", "--data", f"preference={path}", "--out", tmp_path / "r"],
                    ["score", path, "-o", out], ["select", path, "-o", out]):  # fmt: skip
        assert run(*command, "-m", "length") == 1
        assert "rows.jsonl, row 2" in capsys.readouterr().err
        assert run(*command, "-m", "length", "--skip-bad-rows") == 0
        assert reason in " ".join("".join(capsys.readouterr()).split())


# columns of other names


def test_columns_can_be_named(tmp_path: Path, capsys: Any) -> None:
    path, out = write(tmp_path / "rows.jsonl", [{"ask": "?", "Good": "aa", "bad": "b", "prompt": "not this"}]), tmp_path
    columns = ("-m", "length", "--columns", "prompt=ask,chosen=Good", "--columns", "rejected=bad")
    data = ("-t", "preference", "--data", f"preference={path}")
    assert run("run", *data, "--out", out / "r", *columns) == 0
    assert "columns not read: prompt (1)" in capsys.readouterr().out
    assert run("score", path, "-o", out / "s.jsonl", *columns) == 0
    assert [json.loads(line)["reward"] for line in (out / "s.jsonl").read_text().splitlines()] == [2, 1]
    assert run("select", path, "-o", out / "b.jsonl", *columns) == 0
    assert json.loads((out / "b.jsonl").read_text())["prompt"] == "?"
    assert run("run", *data, "-m", "length", "--columns", "chosen=goood") != 0
    for wrong, words in (("promt=ask", "nothing here reads `promt`"), ("prompt", "is not NAME=COLUMN"),
                         ("prompt=aks", "has no column `aks`; found `ask`")):  # fmt: skip
        capsys.readouterr()
        assert run("run", *data, *columns[:2], "--columns", f"chosen=Good,rejected=bad,{wrong}") == 2
        assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("rows", [{"Prompt": "?", "Chosen": "a", "Rejected": "b"}, {"PROMPT": "?", "CHOSEN": "a"}])
def test_a_file_of_other_columns_says_how_to_read_it(rows: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "rows.jsonl", [rows])
    assert run("run", "-m", "length", "-t", "preference", "--data", f"preference={path}") == 2
    chosen = next(name for name in rows if name.lower() == "chosen")
    error = capsys.readouterr().err
    assert f"found `{next(iter(rows))}`" in error
    assert f"--columns chosen={chosen}" in error
    assert run("score", path, "-m", "length", "-o", tmp_path / "o.jsonl") == 2


# in memory, and several


def test_rows_and_datasets_in_memory_are_data() -> None:
    import datasets

    rows = [{"prompt": f"{i}?", "chosen": "good", "rejected": "bad"} for i in range(4)]
    saved = datasets.Dataset.from_list(rows)
    results = [rmbench.evaluate("length", ["preference"], data={"preference": data})[0] for data in (rows, saved)]
    assert {result.dataset.sha256 for result in results} == {results[0].dataset.sha256}
    assert [result.metric("accuracy").n for result in results] == [4, 4]
    splits = datasets.DatasetDict({"easy": saved, "hard": saved.select(range(2))})
    named = rmbench.evaluate("length", ["preference"], data={"preference": splits})
    assert [(result.label, result.metric("accuracy").n) for result in named] == [("easy", 4), ("hard", 2)]
    turned = {"chosen": "rejected", "rejected": "chosen"}
    (other,) = rmbench.evaluate("length", ["preference"], data={"preference": rows}, columns=turned)
    assert other.metric("accuracy").value == 0


@pytest.mark.parametrize("data", [3, None, b"x", ["a"], [{"prompt": "?"}, 3], object()])
def test_data_that_are_not_understood_raise(data: Any) -> None:
    with pytest.raises(UsageError, match=r"data: expected a path, a list of mappings or a datasets.Dataset, got"):
        rmbench.evaluate("length", ["preference"], data={"preference": data})


def test_a_limit_draws_from_every_file_of_a_folder(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.jsonl", [{"prompt": f"{name}{i}", **PAIR} for i in range(5)])
    (item,) = load_tasks(["preference"], data={"preference": tmp_path}, limit=4)
    assert sorted({one.prompt[0].text[0] for one in item.data.examples}) == ["a", "b", "c"]
    assert len(item.data.examples) == 4
    (whole,) = load_tasks(["preference"], data={"preference": tmp_path})
    assert [one.prompt[0].text for one in whole.data.examples][:2] == ["a0", "a1"]


def test_a_task_runs_on_several_data_each_under_its_name(tmp_path: Path, capsys: Any) -> None:
    for name, chosen in (("one", "longer"), ("two", "x")):
        write(tmp_path / f"{name}.jsonl", [{"prompt": f"{i}?", "chosen": chosen, "rejected": "bad"} for i in range(3)])
    named = [part for name in ("one", "two") for part in ("--data", f"{name}=preference:{tmp_path}/{name}.jsonl")]
    assert run("run", "-m", "length", "-t", "preference", *named, "--out", tmp_path / "r") == 0
    files = sorted(path.name.partition("-")[0] for path in (tmp_path / "r").rglob("*.json"))
    assert files == ["one", "two"]
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in ("one", "two"))
    with pytest.raises(UsageError, match="expected TASK=PATH, or NAME=TASK:PATH"):
        load_tasks(["preference"], data={"one": "best_of_n:x.jsonl"})


# ratings


def rated(*ratings: float | None) -> list[dict[str, Any]]:
    return [{"prompt": "?", "response": "x" * (at + 1), "helpfulness": rating, "verbosity": at, "prompt_id": at}
            for at, rating in enumerate(ratings)]  # fmt: skip


@pytest.mark.parametrize(
    "rows",
    [
        rated(1, 3, 2),
        [{"prompt": "?", "responses": ["x", "xx", "xxx"], "helpfulness": [1, 3, 2], "verbosity": [0, 1, 2]}],
        [{"prompt": "?", "answers": ["x", "xx", "xxx"], "ratings": {"helpfulness": [1, 3, 2], "verbosity": [0, 1, 2]}}],
        [{"instruction": "?", "completions": [
            {"response": "x" * (i + 1), "annotations": {"helpfulness": {"Rating": f"{rating}", "Rationale": "r"},
                                                        "verbosity": {"Rating": f"{i}"}}}
            for i, rating in enumerate((1, 3, 2))]}],
    ],
)  # fmt: skip
def test_ratings_are_labels_of_every_respect(rows: list[dict[str, Any]]) -> None:
    (result,) = rmbench.evaluate("length", ["ratings"], data={"ratings": rows})
    assert result.metric("pair_accuracy", subset="attribute=verbosity").value == 1
    assert result.metric("pair_accuracy", subset="attribute=helpfulness").value == pytest.approx(2 / 3)
    assert result.metric("spearman", subset="attribute=helpfulness").value == pytest.approx(0.5)
    assert result.timing.unique == 3, "each response is asked once, whatever it is rated in"


def test_scores_of_both_sides_are_ratings_and_what_has_none_is_left_out() -> None:
    rows = [{"prompt": f"{i}?", "chosen": "xxx", "rejected": "x" * i, "score_chosen": 8, "score_rejected": s}
            for i, s in ((1, 5), (2, 8), (4, 7.5))]  # fmt: skip
    (result,) = rmbench.evaluate("length", ["ratings"], data={"ratings": rows})
    accuracy = result.metric("pair_accuracy", subset="attribute=score")
    assert (accuracy.value, accuracy.n) == (0.5, 2)
    with pytest.raises(DataError, match="row 1: no `rating`; found `prompt`"):
        rmbench.evaluate("length", ["ratings"], data={"ratings": [{"prompt": "?", **PAIR}]})
    missing = rmbench.evaluate("length", ["ratings"], data={"ratings": rated(None, 2, 1)})[0]
    assert missing.dataset.excluded == {}, "it is rated in another respect"
    assert missing.metric("pair_accuracy", subset="attribute=helpfulness").value == 0


@pytest.mark.parametrize("gap", [None, "", math.nan])
@pytest.mark.parametrize("place", [0, 1])
def test_a_row_without_its_rating_is_left_out_and_the_others_are_not(gap: object, place: int) -> None:
    rows = [{"prompt": "?", "response": text, "score": rating} for text, rating in (("xx", 2), ("x", 1))]
    rows.insert(place, {"prompt": "?", "response": "xxx", "score": gap})
    (result,) = rmbench.evaluate("length", ["ratings"], data={"ratings": rows})
    assert result.dataset.excluded == {"no rating": 1}
    assert result.metric("pair_accuracy", subset="attribute=score").value == 1


@pytest.mark.parametrize("name", ["rank", "Ranking", "overall_rank", "n_words", "timestamp", "characters", "draw_idx"])
def test_ranks_and_what_counts_are_no_ratings(name: str) -> None:
    """The first rank is the best one, and where there are ranks alone they are not taken for the opposite."""
    rows = [{"prompt": "?", "response": "x" * n, "score": n, name: 3 - n} for n in (1, 2)]
    listed = [{"prompt": "?", "responses": ["x", "xx"], "scores": [1, 2], f"{name}": [2, 1]}]
    for data in (rows, listed):
        (result,) = rmbench.evaluate("length", ["ratings"], data={"ratings": data})
        assert result.metric("pair_accuracy").value == 1
        assert told(result.dataset.noted) == [f"columns not read: {name} ({len(data)})"]
    nectar = {"prompt": "?", "answers": [{"answer": "xx", "rank": 1.0}, {"answer": "x", "rank": 2.0}]}
    with pytest.raises(DataError, match="row 1: no `rating`; found `prompt`, `answers`"):
        rmbench.evaluate("length", ["ratings"], data={"ratings": [nectar]})


def test_lists_of_ratings_in_an_object_are_read() -> None:
    rows = [{"prompt": "?", "responses": ["x", "xx"], "scores": {"helpfulness": [1, 2]}, "source": "web"}]
    (result,) = rmbench.evaluate("length", ["ratings"], data={"ratings": rows})
    assert told(result.dataset.noted) == ["columns not read: source (1)"]


# scores row by row


@pytest.mark.parametrize("names", [("chosen_reward", "rejected_reward"), ("score_chosen", "score_rejected")])
@pytest.mark.parametrize("texts", [True, False])
def test_a_score_file_may_have_a_row_a_pair(names: tuple[str, str], texts: bool, tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", **PAIR} for i in range(4)]
    scores = [{names[0]: float(i), names[1]: 1.0, **(rows[i] if texts else {})} for i in range(4)]
    path = write(tmp_path / "s.jsonl", scores[::-1] if texts else scores)
    (result,) = rmbench.evaluate(f"scores:{path}", ["preference"], data={"preference": rows})
    assert (result.metric("accuracy").value, result.ties["default"]) == (0.5, 1)
    if not texts:
        with pytest.raises(DataError, match="4 rows without an id, and the data have 3 examples"):
            rmbench.evaluate(f"scores:{path}", ["preference"], data={"preference": rows[:3]})
    assert math.isclose(result.records["reward"].to_pylist()[0], 0)


def test_rows_of_texts_join_data_that_have_ids_of_their_own(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", **PAIR} for i in range(4)]
    scores = [{**row, "chosen_reward": i, "rejected_reward": 1.5} for i, row in enumerate(rows)]
    path = write(tmp_path / "s.jsonl", scores[::-1])
    data = [{"id": f"mine-{i}", **row} for i, row in enumerate(rows)]
    (result,) = rmbench.evaluate(f"scores:{path}", ["preference"], data={"preference": data})
    assert result.records["reward"].to_pylist() == [0, 1.5, 1, 1.5, 2, 1.5, 3, 1.5]


def test_a_score_file_may_be_a_table_of_texts(tmp_path: Path) -> None:
    rows = [{"id": f"{i}e3", "prompt": f"{i}?", **PAIR} for i in range(3)]
    rewards = [(i, c, i + 0.5 if c == 0 else 1.5) for i in range(3) for c in (0, 1)]
    tables = {
        "pairs.csv": ["id;chosen_score;rejected_score", *(f"{i}e3;{i}.5;1.5" for i in range(3))],
        "candidates.tsv": ["example_id\tcandidate\treward", *(f"{i}e3\t{c}\t{reward}" for i, c, reward in rewards)],
    }
    for name, lines in tables.items():
        (tmp_path / name).write_text("\n".join(lines))
        (result,) = rmbench.evaluate(f"scores:{tmp_path / name}", ["preference"], data={"preference": rows})
        assert result.metric("accuracy").value == pytest.approx(1 / 3)
        assert result.ties["default"] == 1
