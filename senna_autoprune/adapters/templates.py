"""A checkpoint's chat template is a program by whoever made the checkpoint: jinja, in transformers' sandbox. Here it is bounded.

The sandbox keeps it from the machine, but it may loop, or make a page of a letter, for as long as it likes. So one prompt may run so many
of its lines, for so long, with so much memory; and what no such watch can interrupt, powers and products of what is not known, is refused
before it is compiled.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from senna_autoprune.errors import SennaPruneError, one_line

MOST_LINES = 200_000  # that one prompt runs; a template in use runs some hundred a turn
MOST_S = 2.0  # of CPU, for one prompt
MEMORY = 512 << 20  # bytes that one prompt may add while it is written
LONGEST = 500_000  # characters of a template
LARGEST_FACTOR = 1000
SLOW = ("urlize", "wordwrap", "striptags")  # filters whose search is not bounded
_FILE = "<template>"  # what jinja calls the code that it makes of a template
_one_at_a_time = threading.Lock()  # limits are of the process


class _Endless(BaseException):
    """Raised in the middle of a template; nothing in it can hold it up."""


def check_templates(found: Any, where: str) -> None:
    """``found``: a processor's ``chat_template``, one or several by name; ``where`` names the checkpoint.

    Raises:
        SennaPruneError: no template, or it holds a power, a product with no small number, or a filter that may search for ever.
    """
    for template in found.values() if isinstance(found, dict) else [found]:
        _check(template, where)


def _check(template: Any, where: str) -> None:
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):  # the tag that transformers adds: a block like any other
        tags = {"generation"}  # noqa: RUF012  # as jinja declares it

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    if not isinstance(template, str) or len(template) > LONGEST:
        raise SennaPruneError(f"{where}: its chat template is no text of at most {LONGEST} characters")
    try:
        tree = ImmutableSandboxedEnvironment(extensions=[Generation, loopcontrols]).parse(template)
    except (TemplateError, RecursionError) as error:
        raise SennaPruneError(f"{where}: its chat template cannot be read ({one_line(error)[:200]})") from error
    for node in tree.find_all((nodes.Pow, nodes.Mul, nodes.Filter)):
        if isinstance(node, nodes.Filter) and node.name not in SLOW:
            continue
        if isinstance(node, nodes.Mul) and any(_small(side) for side in (node.left, node.right)):
            continue
        what = f"the filter {node.name}" if isinstance(node, nodes.Filter) else "a power or a product that may grow without an end"
        raise SennaPruneError(f"{where}: line {node.lineno} of its chat template has {what}: not of a template in use")


def _small(node: Any) -> bool:
    value = getattr(node, "value", None)
    return isinstance(value, int) and abs(value) <= LARGEST_FACTOR


@contextlib.contextmanager
def bounded(where: str) -> Iterator[None]:
    """Within it a template's lines, time and memory are bounded; what it raises is one line.

    Args:
        where: what was being asked.
    Raises:
        SennaPruneError: it ran too long, took too much, or failed.
    """
    from jinja2 import TemplateError

    lines, started = 0, time.thread_time()

    def step(frame: FrameType, event: str, _value: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != _FILE:
            return None
        lines += 1
        if lines > MOST_LINES or time.thread_time() - started > MOST_S:
            raise _Endless
        return step

    before = sys.gettrace()
    try:
        with _one_at_a_time, _memory():
            sys.settrace(step)
            try:
                yield
            finally:
                sys.settrace(before)
    except _Endless as error:
        said = f"{MOST_LINES} lines" if lines > MOST_LINES else f"{MOST_S:g} s"
        raise SennaPruneError(f"{where}: the checkpoint's chat template runs for more than {said}") from error
    except MemoryError as error:
        raise SennaPruneError(f"{where}: the checkpoint's chat template takes more than {MEMORY >> 20} MB for one prompt") from error
    except (TemplateError, ArithmeticError, RecursionError, TypeError, ValueError) as error:
        raise SennaPruneError(f"{where}: the checkpoint's chat template fails ({one_line(error)[:200]})") from error


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """``MEMORY`` more address space than now at most, where the system has such limits."""
    try:
        import resource
        from pathlib import Path

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + MEMORY
    if soft != resource.RLIM_INFINITY and soft <= wanted:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
