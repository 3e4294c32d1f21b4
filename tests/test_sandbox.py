"""Chat templates that run away, draw by chance or ask for more than a template needs; and those that do not."""

from __future__ import annotations

import time

import jinja2
import pytest

from rmbench.checkpoints.template import compiled

TURNS = [{"role": "user", "content": " hat b"}]
DOUBLED = "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}"
LONG = "{% set s = 'a' * 100000 %}"
RUN_AWAY = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macro": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "filters": "{% set l = range(99999) | map('string') | list %}{{ range(9999) | map('join', l) | list | length }}",
    "product": "{{ 'a' * 10000000000 }}",
    "list product": "{{ ([1] * 10000000000) | length }}",
    "sums": "{% set ns = namespace(s='aa') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "joined": "{% set ns = namespace(s='aa') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "blocks": "{% set a %}aaaaaaaa{% endset %}" + "{% set a %}{{ a }}{{ a }}{{ a }}{{ a }}{% endset %}" * 40,
    "output": "{% for a in range(99999) %}" + "z" * 60_000 + "{% endfor %}",
    "power": "{{ (9 ** 9999) ** 9999 }}",
    "format filter": "{{ '%1000000000d' | format(1) }}",
    "format operator": "{{ '%*d' % (1000000000, 1) }}",
    "format method": "{{ '{:>{}}'.format('a', 1000000000) }}",
    "center": "{{ 'a' | center(1000000000) }}",
    "replace": LONG + "{{ s.replace('a', s) }}",
    "replace filter": LONG + "{{ s | replace('a', s) }}",
    "join": LONG + "{{ s | join(s) }}",
    "join method": LONG + "{{ s.join(s) }}",
    "indent": "{{ ('a\n' * 10000) | indent(1000000) }}",
    "expandtabs": "{{ ('\t' * 100000).expandtabs(1000000) }}",
    "translate": LONG + "{{ s.translate({97: s}) }}",
    "nested JSON": DOUBLED + "{{ ns.l | tojson }}",
    "nested text": DOUBLED + "{{ ns.l }}",
    "nested format": DOUBLED + "{{ '%s' % ns.l }}",
    "batch": "{{ [1] | batch(10000000000, 0) | list | length }}",
    "date": "{{ strftime_now('%1000000000Y') }}",
}


@pytest.mark.parametrize("name", RUN_AWAY)
def test_a_template_that_runs_away_is_an_error_soon(name: str) -> None:
    template, begun = compiled(RUN_AWAY[name], {}), time.perf_counter()
    with pytest.raises(jinja2.TemplateError, match="the template (takes|makes|gives|formats)"):
        template(TURNS)
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize(
    "source", ["{{ raise_exception }}", "{{ messages | map('string') }}", "{{ messages[0].items }}"]
)
def test_places_in_memory_are_not_shown(source: str) -> None:
    with pytest.raises(jinja2.TemplateError, match="the template shows a "):
        compiled(source, {})(TURNS)


def test_nothing_is_drawn_by_chance() -> None:
    assert {compiled("{{ [3, 1, 2] | random }}", {})(TURNS) for _ in range(9)} == {"3"}
    with pytest.raises(jinja2.TemplateError, match="'lipsum' is undefined"):
        compiled("{{ lipsum() }}", {})(TURNS)


def test_long_conversations_and_usual_filters_are_written_as_ever() -> None:
    source = (
        "{{ nothing }}{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }} "
        "{{ m['content'].split('a')[0] ~ 'x' }}{% if loop.index0 is divisibleby 7 %}"
        "{{ '%s-%s' % ('a', 1) }}{{ 'b'.replace('b', 'cc') }}"
        "{% endif %}{% endfor %}"
    )
    written = compiled(source, {})(TURNS * 3000)
    assert written[:30] == "<|user|>hat b  hxa-1cc<|user|>"
    assert len(compiled("{{ messages[0].content | trim }}", {})([{"content": "word " * 2_000_000}])) == 9_999_999


def test_each_rendering_starts_anew() -> None:
    template = compiled("{% for a in range(90000) %}{% endfor %}done", {})
    assert [template(TURNS) for _ in range(4)] == ["done"] * 4
