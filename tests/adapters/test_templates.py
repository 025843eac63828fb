"""Chat templates that loop, grow or hide a power end in one line; those in use are written as transformers writes them."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from senna_autoprune.adapters import Asked, open_model
from senna_autoprune.adapters.templates import MEMORY, bounded, check_templates
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.lmms.stock import load_stock
from tests.adapters import tiny
from tests.pruning.multimodal.tiny import picture

TURNS = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What now?"}]}]
USED = (
    "{%- set ns = namespace(images=0) %}{% for m in messages %}{{ '=' * 3 }}<|{{ m['role'] }}|>"
    "{% for part in m['content'] %}{% if part.type == 'image' %}{% set ns.images = ns.images + 1 %}<image>{% else %}"
    "{{ part['text'] | trim }}{% endif %}{% endfor %}{% if loop.index0 % 2 == 0 %}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{% generation %}ASSISTANT:{% endgeneration %}{% endif %}"
)
ENDLESS = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops that write": "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "a macro of two of itself": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a macro of itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "more than a range may be": "{% for a in range(10000000) %}{% endfor %}",
    "a loop that sorts": "{% for a in range(9999) %}{{ (range(99999) | list | sort) and '' }}{% endfor %}",
    "text that doubles": "{% set ns = namespace(x='x') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "text that is replaced": "{% set ns = namespace(x='x') %}{% for a in range(60) %}{% set ns.x = ns.x.replace('x', 'xxx') %}{% endfor %}",
    "a list that doubles": "{% set ns = namespace(x=[1]) %}{% for a in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "a width": "{{ '%999999999d' % 1 }}",
    "a format": "{{ '{:>999999999}'.format(1) }}",
    "a margin": "{{ 'x' | center(999999999) }}",
    "a message of its own": "{{ raise_exception('\x1b[2J' ~ 'no') }}",
    "an unknown filter's sum": "{{ messages + 1 }}",
}
REFUSED = {
    "a power": "{{ 9 ** 9 ** 9 }}",
    "a power of a name": "{% set n = 9 %}{{ n ** n }}",
    "a product of names": "{% set ns = namespace(n=9) %}{% for a in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "a text a billion times": "{{ 'x' * 999999999 }}",
    "links to be found": "{{ messages | string | urlize }}",
    "words to be wrapped": "{{ 'x' | wordwrap(1) }}",
    "no template": "{% for %}",
    "brackets without an end": "{{ " + "(" * 5000,
}


def written(template: str) -> str:
    with bounded("sample t0"):
        return str(render_jinja_template(conversations=[TURNS], chat_template=template, add_generation_prompt=True)[0][0])


@pytest.mark.parametrize("name", ENDLESS)
def test_what_does_not_end_is_stopped(name: str) -> None:
    before, trace, started = resource.getrlimit(resource.RLIMIT_AS), sys.gettrace(), time.process_time()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_templates(ENDLESS[name], "m")
    with pytest.raises(SennaPruneError, match=r"^sample t0: the checkpoint's chat template (runs for more|takes more|fails)") as caught:
        written(ENDLESS[name])
    assert time.process_time() - started < 5
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown) < 1.5 * MEMORY
    assert str(caught.value).isprintable()
    assert (resource.getrlimit(resource.RLIMIT_AS), sys.gettrace()) == (before, trace)


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_watch_could_stop_is_refused(name: str) -> None:
    with pytest.raises(SennaPruneError, match=r"^m: .*chat template"):
        check_templates({"default": USED, "other": REFUSED[name]}, "m")


def test_a_template_in_use_is_written_as_it_stands() -> None:
    check_templates(USED, "m")
    expected = render_jinja_template(conversations=[TURNS], chat_template=USED, add_generation_prompt=True)[0][0]
    assert written(USED) == expected == "===<|user|><image>What now?\nASSISTANT:"


def test_other_code_is_not_watched() -> None:
    with bounded("sample t0"):
        assert sum(1 for _ in range(500_000)) == 500_000


def test_a_checkpoint_with_such_a_template(tmp_path: Path) -> None:
    folder = tiny.save("llava", tmp_path / "m")
    asked = Asked("<image>\nIs the road free?", "other", (picture(64, 36),))
    template = folder / "chat_template.jinja"
    template.write_text(REFUSED["a power"])
    for load in (open_model, load_stock):
        with pytest.raises(SennaPruneError, match=r"line 1 of its chat template has a power"):
            load(str(folder))
    template.write_text(ENDLESS["loops in loops"])
    model = open_model(str(folder))
    with pytest.raises(SennaPruneError, match=r"chat template runs for more than"):
        model.prepare(asked, model.see(asked))
    with pytest.raises(SennaPruneError, match=r"chat template runs for more than"):
        load_stock(str(folder)).encode([("Is the road free?", [picture(64, 36)])])
