"""Rendering: the same ids as transformers' own chat template, one BOS, counted cuts, templates in their box."""

from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import CHAT, bert_wordpiece, bytes_bpe, make, roberta_bpe
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rmbench.checkpoints.rendering import Limits, Rendering, choose, warn_if_rebuilt
from rmbench.checkpoints.template import plain
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Encoded
from rmbench.types import Message, Request, Response

Tokenizer = PreTrainedTokenizerFast
ANY = Limits(positions=None, rows=1000)


def ask(prompt: str, response: str | None, *, system: str | None = None) -> Request:
    turns = [Message("user", prompt)] if system is None else [Message("system", system), Message("user", prompt)]
    return Request("reward", tuple(turns), (Response(response),))


def templated(tokenizer: Tokenizer, template: str, limits: Limits = ANY) -> Rendering:
    tokenizer.chat_template = template
    return choose(tokenizer, None, limits, "org/model")


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
    assert refused.error == "the chat template fails: No system"
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
