"""CodeJudgeBench: code, repairs and tests of which one passes and one fails (Jiang et al., arXiv 2507.10535).

A judge is asked in both orders, and every verdict counts by itself; one that cannot be read is wrong. The wording
around a program to repair and around a test is rmbench's own, of the parts that the authors' code puts together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.pairs import named_after
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import verdicts
from rmbench.types import Candidate, Example, Message

KINDS = ("codegen", "coderepair", "testgen")
SPLITS = (
    "claude_3.7_sonnet",
    "claude_4_opus",
    "claude_4_sonnet",
    "gemini_2.5_flash",
    "gemini_2.5_flash_lite",
    "gemini_2.5_pro",
    "qwen3_235b",
)
# what is wrong with a program: what to call it, and the fields of `wrong_meta` that say it
_ERRORS = {
    -1: ("It does not compile.", ("error",)),
    -2: ("Its answer is wrong.", ("inputs", "output", "expected")),
    -3: ("It takes too long.", ("error", "inputs", "expected")),
    -4: ("It stops with an error.", ("inputs", "expected", "error")),
}
_WITHOUT_INPUTS = ("error_message",)  # the one field that says it where a program stops on no input of its own
_EXPECTED = (
    "a CodeJudgeBench row has `question_content`, `pos_response`, `neg_response` and `difficulty`, with `wrong_code` "
    "and `wrong_meta` of a repair, or `pos_input` and `neg_input` of a test"
)


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, the response that passes first; what sort of row it is its columns say."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("question_content", "pos_response", "neg_response", "difficulty"):
        row.need((field,), _EXPECTED)
    kind = "coderepair" if row.first(("wrong_code", "wrong_meta")) else "codegen"
    kind = "testgen" if row.first(("pos_input", "neg_input")) else kind
    prompt, texts = row.text("question_content"), [row.text(f"{side}_response") for side in ("pos", "neg")]
    if kind == "coderepair":
        prompt = _to_repair(row, prompt)
    elif kind == "testgen":
        prompt = f"Write one test, its input and its output, for this question.\n\n{prompt}"
        inputs = [row.text(row.need((f"{side}_input",), _EXPECTED)) for side in ("pos", "neg")]
        texts = [
            f"Input:\n```\n{one}\n```\n\nOutput:\n```\n{text}\n```" for one, text in zip(inputs, texts, strict=True)
        ]
    split = named_after(row, SPLITS)
    facets = {"kind": kind, "difficulty": row.text("difficulty")} | ({} if split is None else {"subset": split})
    candidates = tuple(Candidate(text, right) for text, right in zip(texts, (True, False), strict=True))
    return Example("", (Message("user", prompt),), candidates, facets=facets)


def _to_repair(row: Row, question: str) -> str:
    for field in ("wrong_code", "wrong_meta"):
        row.need((field,), _EXPECTED)
    meta: Any = row.value["wrong_meta"]
    code = meta.get("error_code") if isinstance(meta, Mapping) else None
    if isinstance(code, bool) or not isinstance(code, int) or code not in _ERRORS:
        raise row.error(f"expected an object with `error_code`, -1 to -4, got {shown(meta)}", "wrong_meta")
    problem, fields = _ERRORS[code]
    if code == -4 and meta.get("inputs") is None:
        fields = _WITHOUT_INPUTS
    details = [f"{field}:\n{meta[field]}" for field in fields if meta.get(field) is not None]
    program = f"```python\n{row.text('wrong_code')}\n```"
    return "\n\n".join(["Repair the program, which fails on this question.", question, program, problem, *details])


def of_hub(name: str, kinds: Iterable[str]) -> tuple[HubSet, ...]:
    """The sets of these kinds, each with every split that it has, as the authors' code goes through them."""
    return tuple(HubSet(name, config=kind, split="all") for kind in kinds)


TASK = Comparison(
    name="codejudgebench",
    version=1,
    summary="CodeJudgeBench: code, repairs and tests of which one passes, each verdict of both orders",
    card="codejudgebench",
    read=read,
    sources=of_hub("mattymchen/codejudgebench", KINDS),
    orders="both",
    null_verdict="loss",
    measure=verdicts.ORDERS,
)
