"""What a terminal gets: nothing that steers it, and the faults of the output itself."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import click
import pytest

import senna_autoprune.cli
from senna_autoprune.cli import eval_tables, main, screen
from senna_autoprune.errors import SennaPruneError, visible
from senna_autoprune.tables.grid import Grid

EVIL = "a\x1b]0;title\x07\x1b[2J\u202eb\u2066c\x9b31m\u200b\ud800\r"
SHOWN = r"a\x1b]0;title\x07\x1b[2J\u202eb\u2066c\x9b31m\u200b\ud800\r"


def test_visible_leaves_what_people_write() -> None:
    for text in ("KEEP, STRAIGHT\n\tx", "前方の車　です", "d\xe9j\xe0 vu\xa0!", "\N{GRINNING FACE} नमस्ते"):
        assert visible(text) == text
    assert visible(EVIL) == SHOWN
    assert visible("\u2028\U000e0041\ue000") == r"\u2028\U000e0041\ue000"


class Terminal(io.StringIO):
    """Takes what a real one takes."""

    encoding = "utf-8"

    def __init__(self, tty: bool) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


def printed(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: str | None = None) -> None:
    """What Python does with a warning."""
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def everything(_: Any = None) -> None:
    """Every way in which a command, or a library under it, prints."""
    click.echo(EVIL)
    print(EVIL, file=sys.stderr)
    logging.getLogger("elsewhere").warning(EVIL)
    warnings.warn(EVIL, stacklevel=1)
    for stderr in (False, True):
        console = eval_tables.console_for(stderr)
        console.print(EVIL, markup=False)
        eval_tables.show_grid(Grid(EVIL, ["name", EVIL], [[EVIL, "1"]], notes=[EVIL]), console)
    raise SennaPruneError(f"{EVIL} is wrong")


@pytest.mark.parametrize("tty", [False, True])
def test_nothing_foreign_steers_a_terminal(tty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Terminal(tty), Terminal(tty)
    monkeypatch.setattr(senna_autoprune.cli, "cli", lambda **_: everything())
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    with warnings.catch_warnings(), pytest.raises(SystemExit) as left:
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", printed)  # pytest keeps them
        main()
    assert left.value.code == 2
    for text in (out.getvalue(), err.getvalue()):
        for code in ("\x1b]", "\x1b[2J", "\u202e", "\u2066", "\x9b", "\u200b", "\ud800", "\x07", "\r"):
            assert code not in text
        assert text.count(r"\u202eb") >= 3
        assert ("\x1b[" in text) == tty  # our own colours do reach it
    assert sys.stdout is out and sys.stderr is err


def test_text_that_an_encoding_lacks_is_shown_all_the_same() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1", write_through=True)
    screen.Screen(stream).write("é 前\n")
    assert raw.getvalue() == b"\xe9 \\u524d\n"


def started(argv: list[str], stdout: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "senna_autoprune", *argv], stdout=stdout, stderr=subprocess.PIPE, check=False, **options)


@pytest.mark.parametrize("argv", [["--help"], ["methods", "--json"]])
def test_a_full_disk_under_standard_output_is_one_line(argv: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = started(argv, full)
    assert ended.returncode == 2
    assert ended.stderr == b"senna-prune: error: cannot write the output: No space left on device; what was computed is kept\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    reader = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)
    reader.wait()
    ended = started(["--help"], reader.stdin)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_output_that_is_closed_from_the_start_is_no_error() -> None:
    ended = subprocess.run(["/bin/sh", "-c", f"{sys.executable} -m senna_autoprune --help >&- 2>&-"], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
