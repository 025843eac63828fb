"""The watch over hostile cases sees what it is for."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile import guard


def _connect() -> None:
    with socket.socket() as client:
        client.settimeout(0.1)
        client.connect(("127.0.0.1", 9))


@pytest.mark.parametrize(
    ("act", "seen"),
    [
        (lambda folder: (folder / "private.txt").read_text(), "read "),
        (lambda folder: (folder / "private.txt").write_text(""), "open "),
        (lambda folder: (folder / "private.txt").unlink(), "os.remove "),
        (lambda folder: (folder / "private.txt").rename(folder / "run" / "x"), "os.rename "),
        (lambda folder: subprocess.run([sys.executable, "-c", ""], check=False), "subprocess.Popen "),
        (lambda folder: _connect(), "socket.connect "),
        (lambda folder: exec(compile("1", str(folder / "input" / "x.py"), "exec")), "exec "),
    ],
)
def test_it_sees(act: Callable[[Path], object], seen: str, tmp_path: Path) -> None:
    for name in ("run", "input"):
        (tmp_path / name).mkdir()
    (tmp_path / "private.txt").write_text("precious")

    def main() -> None:
        with contextlib.suppress(OSError):
            act(tmp_path)

    guard.install()
    found = guard.call(main, [], tmp_path, tmp_path / "run", (tmp_path / "input",))
    assert any(offence.startswith(seen) for offence in found.offences), found.offences


def test_it_lets_pass_what_a_command_needs(tmp_path: Path) -> None:
    def main() -> None:
        (tmp_path / "run" / "x").write_text("1")
        assert (tmp_path / "input" / "y").read_text() == "2"
        Path(pytest.__file__).read_text()

    for name in ("run", "input"):
        (tmp_path / name).mkdir()
    (tmp_path / "input" / "y").write_text("2")
    guard.install()
    assert guard.call(main, [], tmp_path, tmp_path / "run", (tmp_path / "input",)).offences == []
