"""Rendering: the same ids as transformers' own chat template, one BOS, counted cuts, templates in their box."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import CHAT, bert_wordpiece, bytes_bpe, deberta_unigram, make, modernbert_bpe, roberta_bpe
from tokenizers import Regex, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rmbench.checkpoints.forms import Form, Mark, Turn
from rmbench.checkpoints.notes import CONTROLS, CONTROLS_AS_TEXT, LEFT_OUT, PROMPT_CUT, RESPONSE_CUT, SYSTEM_LEFT_OUT
from rmbench.checkpoints.rebuilt import warn_if_rebuilt
from rmbench.checkpoints.rendering import Limits, Rendering, choose
from rmbench.checkpoints.template import plain
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Encoded
from rmbench.types import Message, Request, Response, ToolCall

Tokenizer = PreTrainedTokenizerFast
ANY = Limits(positions=None, rows=1000)


def ask(prompt: str, response: str | None, *, system: str | None = None) -> Request:
    turns = [Message("user", prompt)] if system is None else [Message("system", system), Message("user", prompt)]
    return Request("reward", tuple(turns), (Response(response),))


def templated(tokenizer: Tokenizer, template: str, limits: Limits = ANY, **manner: Any) -> Rendering:
    tokenizer.chat_template = template
    return choose(tokenizer, None, limits, "org/model", **manner)


def encode(rendering: Rendering, request: Request) -> Encoded:
    return rendering.encode([request])[0]


def text(rendering: Rendering, request: Request) -> str:
    return rendering.tokenizer.decode(encode(rendering, request).ids)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return bytes_bpe()


@pytest.mark.parametrize("tokenizer", [bytes_bpe, bert_wordpiece, roberta_bpe], ids=lambda made: made.__name__)
def test_ids_are_those_of_the_tokenizers_own_chat_template(tokenizer: Callable[[], Tokenizer]) -> None:
    rendering = choose(tokenizer(), None, ANY, "org/model")
    requests = [ask("What is 2 + 2?", "4"), ask("Name\n\na colour", "  Red\t", system="Be brief"), ask("Hm", "")]
    for request, encoded in zip(requests, rendering.encode(requests), strict=True):
        turns = [{"role": turn.role, "content": turn.text} for turn in request.prompt]
        turns.append({"role": "assistant", "content": request.responses[0].text})
        assert encoded.ids == rendering.tokenizer.apply_chat_template(turns, return_dict=False)


@pytest.mark.parametrize("template", [CHAT, CHAT.replace("{{ bos_token or '' }}", "")], ids=["with", "without"])
def test_one_bos_whether_the_template_writes_it_or_not(tokenizer: Tokenizer, template: str) -> None:
    ids = encode(templated(tokenizer, template), ask("Hi", "Hello")).ids
    assert [i for i, token in enumerate(ids) if token == tokenizer.bos_token_id] == [0]


@pytest.mark.parametrize(
    "template",
    [
        "{{ bos_token }}{{ messages[-1].content }}",
        "\n {{ bos_token }}{{ messages[-1].content }}",
        "{{ messages[-1].content }}",
        "{% if messages | length > 2 %}{{ messages[-1].content }}{% else %}{{ bos_token }}{{ messages[-1].content }}"
        "{% endif %}",
    ],
    ids=["first", "after whitespace", "not at all", "only in short conversations"],
)
def test_exactly_one_bos(tokenizer: Tokenizer, template: str) -> None:
    rendering = templated(tokenizer, template)
    for request in (ask("Hi", "Hello"), ask("Hi", "Hello", system="Be brief")):
        assert list(encode(rendering, request).ids).count(tokenizer.bos_token_id) == 1


def test_a_bos_at_each_turn_stays_as_written(tokenizer: Tokenizer) -> None:
    llama_2 = "{% for m in messages %}{{ bos_token if m.role == 'user' }}[{{ m.content }}]{% endfor %}"
    request = Request(
        "reward", (Message("user", "a"), Message("assistant", "b"), Message("user", "c")), (Response("d"),)
    )
    assert text(templated(tokenizer, llama_2), request) == "<s>[a][b]<s>[c][d]"


@pytest.mark.parametrize("end", ["{{ sep_token }}", "{{ sep_token }} \n", ""])
def test_exactly_one_closing_token(end: str) -> None:
    rendering = templated(bert_wordpiece(), "{{ messages[-1].content }}" + end)
    ids = list(encode(rendering, ask("hi", "hello")).ids)
    assert (ids.count(rendering.tokenizer.cls_token_id), ids.count(rendering.tokenizer.sep_token_id)) == (1, 1)


def test_a_byte_level_closing_token_before_whitespace_is_not_doubled() -> None:
    rendering = templated(roberta_bpe(), "{{ messages[-1].content }}{{ eos_token }}{{ '\\n' }}")
    assert text(rendering, ask("hi", "hello")) == "<s>hello</s>\n"


def test_no_bos_where_the_tokenizer_has_none() -> None:
    rendering = choose(bytes_bpe(bos=None), None, ANY, "org/model")
    assert text(rendering, ask("Hi", "Hello")).startswith("<|user|>")


def test_plain_text_gets_the_tokenizers_own_special_tokens(tokenizer: Tokenizer) -> None:
    rendering = choose(tokenizer, "plain", ANY, "org/model")
    assert text(rendering, ask("Hi", "Hello")) == "<s>User: Hi\n\nAssistant: Hello"


def test_pair_is_the_tokenizers_text_pair_with_type_ids() -> None:
    rendering = choose(bert_wordpiece(), "pair", ANY, "org/model")
    encoded, pair = encode(rendering, ask("sort the words", "plum")), rendering.tokenizer("sort the words", "plum")
    assert (encoded.ids, encoded.type_ids) == (pair["input_ids"], pair["token_type_ids"])
    assert encoded.type_ids is not None
    assert set(encoded.type_ids) == {0, 1}


def test_pair_shows_several_turns_as_plain_text() -> None:
    rendering = choose(bert_wordpiece(), "pair", ANY, "org/model")
    pair = rendering.tokenizer("System: be brief\n\nUser: sort", "plum")
    assert encode(rendering, ask("sort", "plum", system="be brief")).ids == pair["input_ids"]


def test_pair_with_two_bos_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ModelError, match="org/model: the tokenizer's text pair has two BOS tokens"):
        choose(tokenizer, "pair", ANY, "org/model")


def test_a_jinja_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "rm.jinja"
    file.write_text("{{ bos_token }}{{ messages[-1]['content'] }}!")
    assert text(choose(tokenizer, str(file), ANY, "org/model"), ask("Hi", "Hello")) == "<s>Hello!"


def test_a_jinja_file_that_is_not_there(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="'plane': no such file; give plain, pair or a Jinja file"):
        choose(tokenizer, "plane", ANY, "org/model")


def test_no_chat_template_names_the_choices(tokenizer: Tokenizer) -> None:
    tokenizer.chat_template = None
    with pytest.raises(
        ModelError, match="org/model: the tokenizer has no chat template; choose --template plain, pair"
    ):
        choose(tokenizer, None, ANY, "org/model")


def test_a_template_that_leaves_the_response_out(tokenizer: Tokenizer) -> None:
    with pytest.raises(ModelError, match="leaves the response out"):
        templated(tokenizer, "{{ messages[0].content }}")


def test_templates_have_what_transformers_offers_them(tokenizer: Tokenizer) -> None:
    rendering = templated(
        tokenizer,
        """
        {%- for message in messages %}
            {%- if message.role == 'user' %}{% continue %}{% endif %}
            {%- set found = namespace(text=message.content) %}
            {%- set found.text = found.text + '>' %}
            {%- generation %}{{ {'text': found.text} | tojson }}{% endgeneration %}
        {%- endfor %}""",
    )
    assert text(rendering, ask("Hi", "ä")) == '<s>{"text": "ä>"}'


def test_templates_that_ask_for_today_get_a_fixed_day(tokenizer: Tokenizer) -> None:
    rendering = templated(tokenizer, "{{ strftime_now('%d %b %Y') }}: {{ messages[-1].content }}")
    assert text(rendering, ask("Hi", "Hello")) == "<s>26 Jul 2024: Hello"


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append({'role': 'user', 'content': 'x'}) }}",
        "{{ strftime_now.__self__.today() }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__base__ }}",
        "{% set box = namespace() %}{% set box.__html__ = messages %}",
        "{{ namespace(__call__=1) }}",
        "{{ '{0.append.__self__.x}'.format(messages) }}",
        "{% for i in range(1000000) %}{% endfor %}",
    ],
)
def test_templates_stay_in_their_box(tokenizer: Tokenizer, attack: str) -> None:
    with pytest.raises(ModelError, match="the chat template fails on a plain conversation"):
        templated(tokenizer, attack + "{{ messages[-1].content }}")


def test_what_a_template_refuses_is_an_error_of_that_request_alone(tokenizer: Tokenizer) -> None:
    rendering = templated(
        tokenizer, "{% if messages[0].role == 'system' %}{{ raise_exception('No system') }}{% endif %}" + CHAT
    )
    refused, fine = rendering.encode([ask("Hi", "Hello", system="Be brief"), ask("Hi", "Hello")])
    assert refused.refused
    assert refused.error is not None
    assert refused.error.startswith(
        "the chat template takes no system turn (No system); the option fold_system puts it"
    )
    assert fine.error is None


def test_a_response_without_text_is_an_error(tokenizer: Tokenizer) -> None:
    assert encode(templated(tokenizer, CHAT), ask("Hi", None)).error == "the response has no text"


def test_a_sequence_over_the_models_positions_is_an_error(tokenizer: Tokenizer) -> None:
    encoded = encode(templated(tokenizer, CHAT, Limits(positions=512, rows=1000)), ask("Hi", "x" * 2000))
    assert encoded.error == "2,011 tokens, the model has 512 positions; --max-length 512 cuts and counts"
    assert encoded.ids == ()


def test_cutting_at_the_left_keeps_bos_and_end(tokenizer: Tokenizer) -> None:
    request = ask("What is 2 + 2?", "It is 4")
    whole = encode(templated(tokenizer, CHAT), request).ids
    cut = encode(templated(tokenizer, CHAT, Limits(None, 1000, max_length=8)), request)
    assert cut.ids == [whole[0], *whole[-7:]]
    assert cut.cut == len(whole) - 8


def test_cutting_keeps_a_bos_that_stands_after_whitespace(tokenizer: Tokenizer) -> None:
    limits = Limits(None, 1000, max_length=3)
    rendering = templated(tokenizer, "\n{{ bos_token }}{{ messages[-1].content }}", limits)
    assert text(rendering, ask("Hi", "qxqxqyz")) == "<s>yz"


def test_a_pair_cut_at_the_left_keeps_both_separators_and_their_types() -> None:
    limits = Limits(None, 1000, max_length=8)
    rendering = choose(bert_wordpiece(), "pair", limits, "org/model")
    cut = encode(rendering, ask("sort the words by their last letter", "apple banana"))
    words = rendering.tokenizer.convert_ids_to_tokens(cut.ids)
    assert (words[0], words[-1], words.count("[SEP]")) == ("[CLS]", "[SEP]", 2)
    middle = words.index("[SEP]")
    assert cut.type_ids == [0] * (middle + 1) + [1] * (7 - middle)
    whole = rendering.tokenizer("sort the words by their last letter", "apple banana")
    assert cut.ids[1:] == whole["input_ids"][-7:]
    assert cut.cut == len(whole["input_ids"]) - 8


def test_a_cut_that_takes_all_of_the_prompt_goes_on_in_the_response() -> None:
    limits = Limits(None, 1000, max_length=4)
    rendering = choose(bert_wordpiece(), "pair", limits, "org/model")
    cut = encode(rendering, ask("sort the words", "q z"))
    assert rendering.tokenizer.convert_ids_to_tokens(cut.ids) == ["[CLS]", "[SEP]", "z", "[SEP]"]
    assert cut.type_ids == [0, 0, 1, 1]


def test_a_separator_in_a_text_is_text_to_a_cut() -> None:
    limits = Limits(None, 1000, max_length=4)
    rendering = choose(bert_wordpiece(), "pair", limits, "org/model")
    cut = encode(rendering, ask("sort [SEP] the", "z"))
    assert rendering.tokenizer.convert_ids_to_tokens(cut.ids) == ["[CLS]", "[SEP]", "z", "[SEP]"]


def test_cutting_at_the_right_keeps_the_closing_token() -> None:
    limits = Limits(None, 1000, max_length=10, side="right")
    rendering = choose(bert_wordpiece(), "pair", limits, "org/model")
    whole = rendering.tokenizer("sort the words", "apple banana cherry plum")
    cut = encode(rendering, ask("sort the words", "apple banana cherry plum"))
    assert cut.ids == [*whole["input_ids"][:9], rendering.tokenizer.sep_token_id]
    assert cut.type_ids == [*whole["token_type_ids"][:9], 1]
    assert cut.cut == len(whole["input_ids"]) - 10


def test_a_token_beyond_the_embedding_is_an_error(tokenizer: Tokenizer) -> None:
    encoded = encode(templated(tokenizer, CHAT, Limits(None, rows=6)), ask("", ""))
    assert encoded.error is not None
    assert "lies beyond the 6 rows of the model's embedding" in encoded.error


def test_a_tokenizer_that_transformers_rebuilds_otherwise_warns(tmp_path: Path) -> None:
    folder = make(tmp_path / "rm", "qwen2")
    file = folder / "tokenizer.json"
    warn_if_rebuilt(AutoTokenizer.from_pretrained(folder), file, "local/rm")
    file.write_text(file.read_text().replace('"add_prefix_space": false', '"add_prefix_space": true'))
    with pytest.warns(UserWarning, match="local/rm: Qwen2Tokenizer.* otherwise than the checkpoint's tokenizer.json"):
        warn_if_rebuilt(AutoTokenizer.from_pretrained(folder), file, "local/rm")


def test_plain_names_each_role() -> None:
    turns = [Message("system", "S"), Message("user", "U"), Message("assistant", "A")]
    assert plain(turns) == "System: S\n\nUser: U\n\nAssistant: A"


def sentencepiece_bpe(prepend_scheme: str = "first") -> Tokenizer:
    """BPE on characters with a space as `▁`, as Llama 2's and Mistral's are, whose first piece alone gets one."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, processors

    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    pieces = [*special, *map(chr, range(33, 127)), "▁", "\n", "▁t", "▁th", "is"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Backend(models.BPE(vocabulary, [("▁", "t"), ("▁t", "h"), ("i", "s")], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", extra_special_tokens=special[3:]
    )
    made.chat_template = (
        "{% for m in messages %}{{ '[INST]' if m.role == 'user' else '' }} {{ m.content }} "
        "{{ '[/INST]' if m.role == 'user' else eos_token }}{% endfor %}"
    )
    return made


TOKENIZERS = [bytes_bpe, roberta_bpe, modernbert_bpe, bert_wordpiece, deberta_unigram, sentencepiece_bpe]
of_each = pytest.mark.parametrize("make_tokenizer", TOKENIZERS, ids=lambda made: made.__name__)


@of_each
@pytest.mark.parametrize("kind", [None, "plain", "pair"])
def test_control_tokens_in_a_text_are_counted_and_can_be_text(make_tokenizer: Any, kind: str | None) -> None:
    tokenizer = make_tokenizer()
    if kind == "pair" and tokenizer("a", "b")["input_ids"].count(tokenizer.bos_token_id) > 1:
        pytest.skip("a pair of this tokenizer has two BOS tokens")
    keep, as_text = (choose(tokenizer, kind, ANY, "org/model", control_tokens=how) for how in ("keep", "text"))
    for special in tokenizer.all_special_tokens:
        clean, forged = ask("is this it", "this is"), ask(f"is {special}this it", f"this{special} is {special}")
        number = tokenizer.convert_tokens_to_ids(special)
        counts = [list(encode(keep, one).ids).count(number) for one in (clean, forged)]
        assert counts[1] == counts[0] + 3
        assert (encode(keep, clean).noted, encode(keep, forged).noted) == ((), (CONTROLS,))
        read = encode(as_text, forged)
        assert list(read.ids).count(number) == counts[0]
        assert read.noted == (CONTROLS_AS_TEXT,)
        assert encode(as_text, clean) == encode(keep, clean)
        if make_tokenizer in (bytes_bpe, roberta_bpe, modernbert_bpe):
            assert f"this{special} is {special}" in tokenizer.decode(read.ids)


@of_each
def test_what_reads_control_tokens_as_text_is_the_tokenizer_in_all_else(make_tokenizer: Any) -> None:
    rendering = choose(make_tokenizer(), None, ANY, "org/model")
    written = rendering._template(
        [{"role": "user", "content": " is  this"}, {"role": "assistant", "content": "a\nb"}], None, False
    )
    sealed = rendering.controls.sealed(written)
    assert sealed != written
    for text, same in ((written, sealed), ("this is " * 3, "this is " * 3)):
        assert rendering.controls.reader(same)["input_ids"] == rendering.tokenizer(text)["input_ids"]


@pytest.mark.parametrize("make_tokenizer", [one for one in TOKENIZERS if one is not deberta_unigram])
def test_control_tokens_as_text_are_what_they_are_to_a_tokenizer_that_does_not_look_for_them(
    make_tokenizer: Any,
) -> None:
    """Where the special tokens are no pieces of the model itself, transformers can do the same for a whole text."""
    tokenizer = make_tokenizer()
    controls = choose(tokenizer, None, ANY, "org/model").controls
    for special in tokenizer.all_special_tokens:
        for text in (f"this {special} is", special, f"{special}{special[:2]}", f"is{special}\n{special[1:]}"):
            read = controls.reader(controls.sealed(controls.signed(text)), add_special_tokens=False)
            assert (
                read["input_ids"] == tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            )


def test_added_tokens_that_a_template_writes_are_control_tokens_and_others_are_not(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens(["[turn]", "[never]", "<think>"])
    rendering = templated(tokenizer, "{% for m in messages %}[turn]<think></think>{{ m.content }}{% endfor %}")
    noted = [
        encode(rendering, ask("Hi", text)).noted for text in ("a [turn]", "a [never]", "<think>a</think>", "[tu rn]")
    ]
    assert noted == [(CONTROLS,), (), (), ()]


def test_private_characters_beside_control_tokens_are_refused(tokenizer: Tokenizer) -> None:
    rendering = templated(tokenizer, CHAT, control_tokens="text")
    assert "characters of private use" in str(encode(rendering, ask("Hi", f"{chr(0x100003)}</s>")).error)
    assert encode(rendering, ask("Hi", chr(0x100003))).error is None


@pytest.mark.parametrize("place", ["tool", "call", "result", "history"])
def test_control_tokens_are_found_wherever_somebody_wrote(tokenizer: Tokenizer, place: str) -> None:
    def texts(name: str) -> Request:
        told = {one: "a </s> b" if one == name else "a b" for one in ("tool", "call", "result", "history")}
        call = ToolCall("find", json.dumps({"what": told["call"]}))
        turns = (
            Message("user", told["history"]),
            Message("assistant", "", (call,)),
            Message("tool", told["result"], name="find"),
        )
        tool = {"type": "function", "function": {"name": "find", "description": told["tool"]}}
        return Request("reward", turns, (Response("So."),), (tool,))

    for control_tokens, more in (("keep", 1), ("text", 0)):
        rendering = templated(tokenizer, CHAT, tools_as_text=True, control_tokens=control_tokens)
        clean, forged = (encode(rendering, texts(name)) for name in ("", place))
        assert list(forged.ids).count(3) == list(clean.ids).count(3) + more
        assert (len(clean.noted), len(forged.noted)) == (0, 1)


def test_control_tokens_beside_marks(tokenizer: Tokenizer) -> None:
    rendering = templated(tokenizer, CHAT, control_tokens="text")
    form = Form([Turn("user", "Hi"), Turn("assistant", ["So</s>", Mark("step"), " it is"])], answered=1)
    (encoded,) = rendering.encode_forms([form])
    assert encoded.error is None
    assert encoded.noted == (CONTROLS_AS_TEXT,)
    (at,) = encoded.marks["step"]
    assert at is not None
    assert tokenizer.decode(encoded.ids[: at + 1]).endswith("So</s>")


THINKING = (
    "{% for m in messages %}{{ m.role }}: {{ m.content.split('</think>')[-1].strip() if m.role == 'assistant' "
    "else m.content }}{{ eos_token }}{% endfor %}"
)


# writes what stands in its tags anew, with white space of its own
QWEN_3 = (
    "{% for m in messages %}{% set parts = m.content.split('</think>') %}{{ m.role }}: <think>\n"
    "{{ parts[0].replace('<think>', '').strip() if parts | length > 1 else '' }}\n</think>\n\n{{ parts[-1].strip() }}\n"
    "{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "response", "noted"),
    [
        (THINKING, "<think>So it is.</think>Yes.", (LEFT_OUT,)),
        (THINKING, "  Yes.\n", ()),
        (QWEN_3, "<think>So it is.</think>Yes.", ()),
        (QWEN_3, "Yes.", ()),
        (CHAT, "<think>So it is.</think>Yes.", ()),
        ("{% for m in messages %}{{ m.content[:9] }};{% endfor %}", "It is so because", (LEFT_OUT,)),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "", ()),
    ],
)
def test_what_a_template_leaves_out_of_a_response_is_noted(
    tokenizer: Tokenizer, template: str, response: str, noted: tuple[str, ...]
) -> None:
    rendering = templated(tokenizer, template)
    assert encode(rendering, ask("Hi", response)).noted == noted
    turns = (Message("assistant", response), Message("user", "And?"), Message("assistant", "Well."))
    assert encode(rendering, Request("reward", (Message("user", "Hi"),), (Response(turns),))).noted == noted
    history = (Message("user", "Hi"), Message("assistant", response), Message("user", "And?"))
    assert encode(rendering, Request("reward", history, (Response("Well."),))).noted == ()


REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('No system') }}{% endif %}" + CHAT
IGNORES = "{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }};{% endfor %}"


@pytest.mark.parametrize("template", [REFUSES, IGNORES, CHAT])
def test_the_system_turn_can_stand_in_the_first_user_turn(tokenizer: Tokenizer, template: str) -> None:
    folded = templated(tokenizer, template, fold_system=True)
    request = ask("Hi", "Hello", system="Be brief")
    assert encode(folded, request) == encode(templated(tokenizer, template), ask("Be brief\n\nHi", "Hello"))
    assert encode(folded, ask("Hi", "Hello")) == encode(templated(tokenizer, template), ask("Hi", "Hello"))


def test_a_system_turn_that_a_template_leaves_out_is_noted(tokenizer: Tokenizer) -> None:
    assert encode(templated(tokenizer, IGNORES), ask("Hi", "Hello", system="Be brief")).noted == (SYSTEM_LEFT_OUT,)
    assert encode(templated(tokenizer, CHAT), ask("Hi", "Hello", system="Be brief")).noted == ()


BOS_TEMPLATES = {
    "written": "{{ bos_token }}{{ messages[-1].content }}",
    "twice": "{{ bos_token }}{{ bos_token }}{{ messages[-1].content }}",
    "behind white space": "\n{{ bos_token }}{{ messages[-1].content }}",
    "not written": "{{ messages[-1].content }}",
    "at each turn": "{% for m in messages %}{{ bos_token }}{{ m.content }}{% endfor %}",
}


@pytest.mark.parametrize("template", BOS_TEMPLATES)
@pytest.mark.parametrize("adds", [True, False])
def test_bos_is_one_or_none_as_asked(template: str, adds: bool) -> None:
    tokenizer = bytes_bpe() if adds else bytes_bpe(bos=None)
    tokenizer.bos_token = "<s>"
    later = 1 if template == "at each turn" else 0
    for bos, leading in (("none", 0), ("one", 1), ("tokenizer", int(adds))):
        rendering = templated(tokenizer, BOS_TEMPLATES[template], bos=bos)
        ids = list(encode(rendering, ask("Hi", "Hello")).ids)
        assert ids.count(2) == leading + later
        assert (ids[0] == 2) == bool(leading)
    written = {"written": 1, "twice": 2, "behind white space": 1, "not written": 0, "at each turn": 2}[template]
    auto = list(encode(templated(tokenizer, BOS_TEMPLATES[template]), ask("Hi", "Hello")).ids)
    assert auto.count(2) == max(written, int(adds))


@pytest.mark.parametrize("kind", ["plain", "pair"])
@pytest.mark.parametrize(("bos", "count"), [("none", 0), ("one", 1), ("tokenizer", 1)])
def test_bos_of_texts_that_the_tokenizer_frames(kind: str, bos: str, count: int) -> None:
    tokenizer = deberta_unigram()
    rendering = choose(tokenizer, kind, Limits(None, 1000, max_length=12), "org/model", bos=bos)
    for request in (ask("Hi", "Hello"), ask("Hi", "Hello and so on and on, for a long time and more")):
        encoded = encode(rendering, request)
        assert list(encoded.ids).count(tokenizer.bos_token_id) == count
        assert encoded.type_ids is None or len(encoded.type_ids) == len(encoded.ids)
        assert encoded.ids[-1] == tokenizer.sep_token_id
    whole = choose(tokenizer, kind, ANY, "org/model", bos=bos)
    texts = ("Hi", ["Hello", Mark("end"), " and"]) if kind == "pair" else (["Hello", Mark("end"), " and"],)
    (encoded,) = whole.encode_forms([Form(texts=texts)])
    (at,) = encoded.marks["end"]
    assert at is not None
    assert tokenizer.decode(encoded.ids[: at + 1]).endswith("H e l l o")


def test_a_bos_that_a_tokenizer_has_not() -> None:
    with pytest.raises(UsageError, match="bos=one: the tokenizer of org/model has no BOS token"):
        choose(bytes_bpe(bos=None), None, ANY, "org/model", bos="one")


def test_templates_by_name(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"default": "{{ messages[-1].content }}", "rag": "{{ messages[-1].content }}!"}
    tokenizer.chat_template = own
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert text(choose(loaded, None, ANY, "org/model"), ask("Hi", "Hello")) == "<s>Hello"
    assert text(choose(loaded, "rag", ANY, "org/model"), ask("Hi", "Hello")) == "<s>Hello!"
    identities = [choose(loaded, name, ANY, "org/model").identity for name in (None, "rag")]
    assert identities[0] != identities[1]
    with pytest.raises(
        UsageError, match="'rug': no such file; .*the tokenizer of org/model has the templates default, rag"
    ):
        choose(loaded, "rug", ANY, "org/model")
    (tmp_path / "rag").write_text("{{ messages[-1].content }}?")
    monkeypatch.chdir(tmp_path)
    assert text(choose(loaded, "rag", ANY, "org/model"), ask("Hi", "Hello")) == "<s>Hello?"
    loaded.chat_template = {"rag": own["rag"], "tool_use": own["rag"]}
    with pytest.raises(UsageError, match="several chat templates; choose --template rag or tool_use"):
        choose(loaded, None, ANY, "org/model")


def test_every_option_is_in_the_identity(tokenizer: Tokenizer) -> None:
    manners: list[dict[str, Any]] = [
        {},
        {"bos": "none"},
        {"bos": "one"},
        {"fold_system": True},
        {"control_tokens": "text"},
    ]
    identities = [str(templated(tokenizer, CHAT, **manner).identity) for manner in manners]
    assert len(set(identities)) == len(manners)


@pytest.mark.parametrize("make_tokenizer", [bytes_bpe, bert_wordpiece, deberta_unigram, sentencepiece_bpe])
@pytest.mark.parametrize("kind", [None, "plain", "pair"])
@pytest.mark.parametrize(
    ("side", "left", "noted"),
    [
        ("left", "of the prompt", (PROMPT_CUT,)),
        ("left", "of the response", (PROMPT_CUT, RESPONSE_CUT)),
        ("right", "of the prompt", (RESPONSE_CUT,)),
        ("right", "nothing", (PROMPT_CUT, RESPONSE_CUT)),
    ],
)
def test_a_cut_says_whether_it_went_through_the_prompt_or_the_response(
    make_tokenizer: Any, kind: str | None, side: Any, left: str, noted: tuple[str, ...]
) -> None:
    tokenizer = make_tokenizer()
    if kind == "pair" and tokenizer("a", "b")["input_ids"].count(tokenizer.bos_token_id) > 1:
        pytest.skip("a pair of this tokenizer has two BOS tokens")
    prompt, response = "sort the words apple and plum and orange", "is that what you want, or is it not"
    whole = choose(tokenizer, kind, ANY, "org/model")
    length = len(encode(whole, ask(prompt, response)).ids)
    inside = len(tokenizer(response, add_special_tokens=False)["input_ids"]) // 2
    most = length - inside if (side, left) in (("left", "of the prompt"), ("right", "of the prompt")) else inside
    if (side, left) == ("left", "of the prompt"):
        most = length - 8
    if (side, left) == ("right", "nothing"):
        most = whole.least + 4
    cut = encode(choose(tokenizer, kind, Limits(None, 1000, most, side), "org/model"), ask(prompt, response))
    assert cut.cut == length - most
    assert cut.noted == noted


def test_a_cut_of_a_trajectory_and_of_what_a_template_changed(tokenizer: Tokenizer) -> None:
    turns = (Message("assistant", "First so."), Message("user", "And?"), Message("assistant", "Then so."))
    request = Request("reward", (Message("user", "What is it, what is it?"),), (Response(turns),))
    length = len(encode(templated(tokenizer, CHAT), request).ids)
    noted = [encode(templated(tokenizer, CHAT, Limits(None, 1000, n)), request).noted for n in (length, length - 10, 8)]
    assert noted == [(), (PROMPT_CUT,), (PROMPT_CUT, RESPONSE_CUT)]
    changed = "{% for m in messages %}{{ m.content | upper }};{% endfor %}"
    assert encode(templated(tokenizer, changed, Limits(None, 1000, 6)), ask("what is it", "so it is")).noted == (
        LEFT_OUT,
    )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("make_tokenizer", "template"),
    [(bytes_bpe, None), (bytes_bpe, "plain"), (bert_wordpiece, None), (bert_wordpiece, "pair"), (roberta_bpe, "pair")],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
def test_it_is_noted_whether_prompt_or_response_was_cut(
    make_tokenizer: Callable[[], Tokenizer], template: str | None, side: Any
) -> None:
    asked = ask("2 2 2 2 2", "4 4 4 4")
    tokenizer = make_tokenizer()

    def encoded(most: int | None) -> Encoded:
        return encode(choose(tokenizer, template, Limits(None, 1000, most, side), "org/model"), asked)

    whole = encoded(None)
    given = tokenizer.decode(whole.ids)
    assert whole.noted == ()
    for most in range(len(tokenizer("").input_ids) + 1, len(whole.ids)):
        one = encoded(most)
        if one.error is None:
            left = tokenizer.decode(one.ids)
            lost = {note for note, letter in ((PROMPT_CUT, "2"), (RESPONSE_CUT, "4"))
                    if left.count(letter) < given.count(letter)}  # fmt: skip
            assert lost <= set(one.noted), (most, left)
            assert set(one.noted) == lost or (set(one.noted) - lost) <= {PROMPT_CUT}  # what the template writes, too


def test_a_text_at_which_the_tokenizer_fails_is_an_error_of_that_request_alone(tokenizer: Tokenizer) -> None:
    """A pattern that backtracks without an end stops the library in the middle of a batch."""
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex("(a|a)+$"), "a")
    rendering = templated(tokenizer, "{{ messages[0].content }} {{ messages[1].content }}")
    fine, bad = ask("Hi", "Hello"), ask("Hi", "a" * 60 + "b")
    encoded = rendering.encode([fine, bad, fine])
    assert [bool(one.error) for one in encoded] == [False, True, False]
    assert encoded[0].ids == rendering.encode([fine])[0].ids
    assert (encoded[1].error or "").startswith("the tokenizer fails on its text: ")
