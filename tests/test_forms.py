"""Forms: marks find tokens and change none, pieces are tokenised apart and cut, tools reach templates or nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from typing import Any

import pytest
from checkpoints import CHAT, bert_wordpiece, bytes_bpe, deberta_unigram, roberta_bpe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from rmbench.checkpoints.forms import Form, Mark, Turn
from rmbench.checkpoints.rendering import Limits, Rendering, choose
from rmbench.models.base import Encoded
from rmbench.types import Image, Message, Request, Response, ToolCall

Tokenizer = PreTrainedTokenizerFast
ANY = Limits()
END = Mark("end")
TRIMS = CHAT.replace("message.content", "message.content | trim")
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
TOOLS = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function.name }} {{ call.function.arguments.city }}</call>"
    "{% endfor %}{% endfor %}"
)
TRAJECTORY = (
    Message("assistant", "", (ToolCall("weather", '{"city": "Rome"}', "c1"),)),
    Message("tool", "Sunny", (), "c1", "weather"),
    Message("assistant", "It is sunny in Rome."),
)


def by(template: str | None, tokenizer: Tokenizer | None = None, limits: Limits = ANY, **options: Any) -> Rendering:
    tokenizer = tokenizer or bytes_bpe()
    if template not in (None, "plain", "pair"):
        tokenizer.chat_template, template = template, None
    return choose(tokenizer, template, limits, "org/model", **options)


def encoded(rendering: Rendering, form: Form) -> Encoded:
    (one,) = rendering.encode_forms([form])
    return one


def before(rendering: Rendering, form: Form, name: str = "end") -> list[str]:
    """The text up to and with the last token before each mark."""
    one = encoded(rendering, form)
    assert one.error is None
    ids = list(one.ids)
    return [rendering.tokenizer.decode(ids[: (last if last is not None else -1) + 1]) for last in one.marks[name]]


def asked(*parts: str | Mark, prompt: str = "What is 2 + 2?") -> Form:
    return Form(messages=(Message("user", prompt), Turn("assistant", parts)))


@pytest.mark.parametrize("tokenizer", [bytes_bpe, roberta_bpe, bert_wordpiece, deberta_unigram])
@pytest.mark.parametrize("template", [None, "plain"])
def test_a_mark_changes_no_id(tokenizer: Callable[[], Tokenizer], template: str | None) -> None:
    rendering = by(template, tokenizer())
    form = asked("First, 2 + ", END, "2 is ", END, "four.", END)
    plain = Request("reward", (Message("user", "What is 2 + 2?"),), (Response("First, 2 + 2 is four."),))
    one = encoded(rendering, form)
    assert list(one.ids) == list(rendering.encode([plain])[0].ids)
    assert len(one.marks["end"]) == 3


@pytest.mark.parametrize("tokenizer", [bytes_bpe, roberta_bpe, bert_wordpiece, deberta_unigram])
def test_the_last_token_before_a_mark(tokenizer: Callable[[], Tokenizer]) -> None:
    rendering = by("plain", tokenizer())
    one = encoded(rendering, Form(texts=(("the train", END, " and the two", END, " of them"),)))
    tokens = rendering.tokenizer.convert_ids_to_tokens(one.ids)
    ends = ["".join(tokens[1 : (last or 0) + 1]).replace("##", "") for last in one.marks["end"]]
    assert [end.replace("Ġ", "").replace("▁", "") for end in ends] == ["thetrain", "thetrainandthetwo"]


@pytest.mark.parametrize(
    ("tokenizer", "beyond"), [(bytes_bpe, 1), (roberta_bpe, 1), (deberta_unigram, 1), (bert_wordpiece, 0)]
)
def test_a_token_over_the_seam_belongs_to_what_stands_before(tokenizer: Callable[[], Tokenizer], beyond: int) -> None:
    one = encoded(by("plain", tokenizer()), Form(texts=(("the train", Mark("a"), " ", Mark("b"), "and"),)))
    (before_space,), (behind_space,) = one.marks["a"], one.marks["b"]
    assert (behind_space or 0) - (before_space or 0) == beyond  # the token of " and", where a token has the space


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("ab 1.\n\té→😀", max_size=8), min_size=2, max_size=6))
def test_marks_stand_where_the_bytes_of_the_tokens_say(parts: list[str]) -> None:
    """A byte-level token is so many bytes of the text: the last before a mark is the first that reaches up to it."""
    rendering = byte_level()
    text = tuple(part for piece in parts for part in (piece, END))
    one = encoded(rendering, Form(texts=(text,)))
    assert list(one.ids) == rendering.tokenizer("".join(parts))["input_ids"]
    lengths = [len(token) for token in rendering.tokenizer.convert_ids_to_tokens(one.ids[1:])]
    sums = [0, *accumulate(lengths)]
    for last, before_it in zip(one.marks["end"], accumulate(len(part.encode()) for part in parts), strict=True):
        assert last == next(i for i, total in enumerate(sums) if total >= before_it)


@cache
def byte_level() -> Rendering:
    return by("plain")


def test_a_process_model_reads_at_its_own_tokens_as_qwen_s_does() -> None:
    """Qwen2.5-Math-PRM: a token behind each step, in one turn of the assistant."""
    made = bytes_bpe(bos=None)
    made.add_special_tokens({"extra_special_tokens": ["<extra_0>"]})
    steps = ("First, 2 + 2.", "That is 4.")
    form = asked(*(part for step in steps for part in (f"{step}<extra_0>", Mark("step"))))
    one = encoded(by(None, made), form)
    (separator,) = made("<extra_0>", add_special_tokens=False)["input_ids"]
    assert one.marks["step"] == tuple(i for i, token in enumerate(one.ids) if token == separator)
    assert len(one.marks["step"]) == 2


def test_an_implicit_reward_reads_the_response_between_two_marks() -> None:
    rendering = by(TRIMS)
    start, end = Mark("start"), Mark("end")
    one = encoded(rendering, asked(start, "It is 4.", end))
    (first,), (last,) = one.marks["start"], one.marks["end"]
    assert rendering.tokenizer.decode(one.ids[(first or 0) + 1 : (last or 0) + 1]) == "It is 4."


def test_white_space_that_a_template_trims_is_passed_over() -> None:
    rendering = by(TRIMS)
    start, end = Mark("start"), Mark("end")
    form = asked(" \n", start, "  It is 4.", end, "  ")
    assert before(rendering, form, "start")[0].endswith("<|assistant|>\n")
    assert before(rendering, form, "end")[0].endswith("It is 4.")
    assert "It is 4.</s>" in rendering.tokenizer.decode(encoded(rendering, form).ids)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ messages[0].content }}{{ messages[-1].content[:2] }}", "drops the mark 'end'"),
        ("{{ messages[-1].content }}{{ messages[-1].content }}", "doubles the mark 'end'"),
        ("{{ messages[-1].content | reverse }}", "moves the mark 'end'"),
        ("{{ messages[-1].content }}{{ messages[-1].content | length }}", "writes another text where the marks 'end'"),
    ],
)
def test_a_mark_that_a_template_does_not_keep_is_an_error_of_that_form_alone(template: str, told: str) -> None:
    rendering = by(template)
    wrong, fine = rendering.encode_forms([asked("one", END, "two", END), asked("one")])
    assert wrong.error is not None
    assert told in wrong.error
    assert not wrong.refused
    assert fine.error is None


def test_a_text_may_have_the_characters_that_stand_for_marks() -> None:
    rendering = by(None)
    form = asked(f"a{chr(0xF0000)}b", END, "c")
    assert before(rendering, form)[0].endswith(f"a{chr(0xF0000)}b")


def test_marks_in_a_pair_of_texts() -> None:
    rendering = by("pair", bert_wordpiece())
    one = encoded(rendering, Form(texts=(("sort", Mark("a"), " the"), (Mark("b"), "plum", Mark("c")))))
    ids = rendering.tokenizer("sort the", "plum")["input_ids"]
    assert list(one.ids) == ids
    shown = {name: rendering.tokenizer.decode(ids[: (last or 0) + 1]) for name, (last,) in one.marks.items()}
    assert shown == {"a": "[CLS] sort", "b": "[CLS] sort the [SEP]", "c": "[CLS] sort the [SEP] plum"}


def test_a_mark_that_is_cut_is_none_and_the_others_move() -> None:
    text = Form(texts=(("apple", END, " banana", END, " cherry", END),))
    whole = encoded(by("plain"), text)
    cut = encoded(by("plain", limits=Limits(max_length=len(whole.ids) - 3)), text)
    first, second, third = (last or 0 for last in whole.marks["end"])
    assert first <= 3 < second
    assert cut.marks["end"] == (None, second - 3, third - 3)
    assert cut.cut == 3


def test_due_writes_the_generation_prompt_and_closes_nothing() -> None:
    chat = CHAT + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    form = Form(messages=(Message("user", "Hi"),), due=True)
    assert by(chat).tokenizer.decode(encoded(by(chat), form).ids) == "<s><|user|>\nHi</s>\n<|assistant|>\n"
    encoder = by("plain", bert_wordpiece())
    assert encoder.tokenizer.decode(encoded(encoder, form).ids) == "[CLS] user : h ##i assistant :"


def test_pieces_apart_are_tokenised_each_by_itself() -> None:
    rendering = by("plain")
    pieces = ("Let us ad", "d the te", "ns first")
    form = Form(texts=((pieces[0], END, pieces[1], END, pieces[2]),), apart=True)
    tokens = [rendering.tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces]
    one = encoded(rendering, form)
    assert list(one.ids) == [rendering.tokenizer.bos_token_id, *tokens[0], *tokens[1], *tokens[2]]
    assert one.marks["end"] == (len(tokens[0]), len(tokens[0]) + len(tokens[1]))
    assert list(one.ids) != rendering.tokenizer("".join(pieces))["input_ids"]


def test_each_piece_has_its_limit_as_pairrm_wants_it() -> None:
    rendering = by("plain", bert_wordpiece())
    source, first, second, seam = Mark("source"), Mark("first"), Mark("second"), Mark("seam")
    text = ("sort", source, " a b c d e", seam, " the", first, " f g h", seam, " words", second, " i", seam)
    one = encoded(rendering, Form(texts=(text,), at_most=(None, 3, None, 2, None, 2)))
    assert rendering.tokenizer.decode(one.ids) == "[CLS] sort a b c the f g words i [SEP]"
    assert one.cut == 3
    at = {name: rendering.tokenizer.decode([one.ids[lasts[0] or 0]]) for name, lasts in one.marks.items()
          if name != "seam"}  # fmt: skip
    assert at == {"source": "sort", "first": "the", "second": "words"}
    assert one.marks["seam"] == (None, None, 9)


def test_a_slow_tokenizer_finds_marks_by_its_tokens_before_them() -> None:
    rendering = by("plain")
    texts = (("the banana", END, " and the ", END, "cherry"),)
    fast = encoded(rendering, Form(texts=texts))

    class Slow:
        is_fast = False

        def __init__(self, tokenizer: Any) -> None:
            self.tokenizer = tokenizer

        def __getattr__(self, name: str) -> Any:
            return getattr(self.tokenizer, name)

        def __call__(self, *texts: Any, return_offsets_mapping: bool = False, **options: Any) -> Any:
            assert not return_offsets_mapping
            return self.tokenizer(*texts, **options)

    slow = encoded(Rendering(Slow(rendering.tokenizer), "plain", ANY), Form(texts=texts))
    assert (list(slow.ids), slow.marks) == (list(fast.ids), fast.marks)


def test_forms_that_can_mean_nothing() -> None:
    with pytest.raises(ValueError, match="a form has messages, or one or two texts"):
        Form()
    with pytest.raises(ValueError, match="neither due nor apart"):
        Form(texts=("a", "b"), apart=True)


# tools


def trajectory(tools: tuple[Any, ...] = (TOOL,)) -> Request:
    return Request("reward", (Message("user", "Weather in Rome?"),), (Response(TRAJECTORY),), tools)


def test_tools_and_calls_reach_a_template_as_the_hub_has_them() -> None:
    rendering = by(TOOLS, bytes_bpe(bos=None))
    assert rendering.takes_tools
    (one,) = rendering.encode([trajectory()])
    assert rendering.tokenizer.decode(one.ids) == (
        f"<tools>{json.dumps(TOOL)}</tools><user>Weather in Rome?<assistant><call>weather Rome</call><tool>Sunny"
        "<assistant>It is sunny in Rome."
    )


def test_what_a_template_would_leave_out_is_refused_with_the_reason() -> None:
    rendering = by(CHAT)
    assert not rendering.takes_tools
    with_tools, calls, fine = rendering.encode([
        trajectory(), trajectory(()), Request("reward", (Message("user", "Hi"),), (Response("Hello"),)),
    ])  # fmt: skip
    assert (
        with_tools.error == "the chat template takes no tools; the option tools_as_text puts them into the system turn"
    )
    assert calls.error == "the chat template leaves tool calls out; the option tools_as_text puts them into turns"
    assert with_tools.refused
    assert calls.refused
    assert fine.error is None


def test_a_template_without_turns_of_tools_refuses_them() -> None:
    strict = (
        "{% if messages | map(attribute='role') | select('eq', 'tool') | list %}{{ raise_exception('No') }}{% endif %}"
    )
    request = Request("reward", (Message("user", "Hi"),), (Response(TRAJECTORY[1:]),))
    (one,) = by(strict + CHAT).encode([request])
    assert one.refused
    assert one.error == "the chat template takes no turns of role tool; the option tools_as_text makes them the user's"


def test_tools_as_text_stand_in_the_system_turn() -> None:
    rendering = by(CHAT, tools_as_text=True)
    assert rendering.takes_tools
    (one,) = rendering.encode([trajectory()])
    text = rendering.tokenizer.decode(one.ids)
    assert text.startswith("<s><|system|>\nYou can call these functions")
    assert json.dumps(TOOL) in text
    assert '<|assistant|>\n{"name": "weather", "arguments": {"city": "Rome"}}</s>' in text
    assert "<|user|>\nResult of weather:\nSunny</s>" in text


def test_an_image_is_refused() -> None:
    image = Image("0" * 64, "image/png", lambda: b"")
    (one,) = by(CHAT).encode([Request("reward", (Message("user", ["Look", image]),), (Response("Nice"),))])
    assert one.refused
    assert "image" in (one.error or "")
