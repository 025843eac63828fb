"""Whose a run directory is: the living holder's, and nobody's whatever a dead one left behind."""

from __future__ import annotations

import json
import logging
import os
import socket
from multiprocessing import get_context
from pathlib import Path

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.lock import LOCK_NAME, RunLock

HERE = socket.gethostname()


def left_by(directory: Path, pid: int, host: str) -> None:
    """The lock file of a process that was killed: it names its holder, and nobody holds it."""
    (directory / LOCK_NAME).write_text(json.dumps({"pid": pid, "host": host}))


def test_it_names_its_holder_and_is_empty_after_release(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text()) == {"pid": os.getpid(), "host": HERE}
        with pytest.raises(SennaPruneError, match=f"in use by process {os.getpid()} on {HERE}"), RunLock(tmp_path):
            pass
    assert (tmp_path / LOCK_NAME).read_text() == ""


@pytest.mark.parametrize("pid", [1, os.getpid(), 2**22 - 1], ids=["init", "ours", "last"])
def test_the_id_of_a_dead_holder_may_be_anybodys_now(tmp_path: Path, pid: int, caplog: pytest.LogCaptureFixture) -> None:
    left_by(tmp_path, pid, HERE)
    with caplog.at_level(logging.WARNING), RunLock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert caplog.records == []


def test_a_dead_holder_of_another_host_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left_by(tmp_path, 7, "node-3")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with RunLock(tmp_path):
                pass
    (record,) = caplog.records
    assert "left by process 7 on node-3" in record.getMessage() and str(tmp_path) in record.getMessage()


def test_a_living_holder_of_another_host_is_named(tmp_path: Path) -> None:
    """A file system that hosts share gives the lock to one of them; the file says which."""
    holder = RunLock(tmp_path)
    with holder:
        left_by(tmp_path, 7, "node-3")
        with pytest.raises(SennaPruneError, match="in use by process 7 on node-3; wait for it"), RunLock(tmp_path):
            pass


RUBBISH = {
    "empty": "",
    "no JSON": "\x00 not json",
    "a list": "[]",
    "no number": '{"pid": "x", "host": "y"}',
    "infinite": '{"pid": 1e999, "host": "y"}',
    "no host": '{"pid": 3}',
    "escapes": '{"pid": 3, "host": "\\u001b[2J"}',
    "deep": "[" * 5000,
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
def test_a_file_that_names_nobody(tmp_path: Path, rubbish: str) -> None:
    (tmp_path / LOCK_NAME).write_text(rubbish)
    with RunLock(tmp_path):
        (tmp_path / LOCK_NAME).write_text(rubbish)
        with pytest.raises(SennaPruneError, match="in use by another process"), RunLock(tmp_path):
            pass


def test_a_child_of_the_holder_does_not_keep_it(tmp_path: Path) -> None:
    """A forked worker has the lock's descriptor, too, and may outlive the run."""
    context = get_context("fork")
    release = context.Event()
    with RunLock(tmp_path):
        child = context.Process(target=release.wait, args=(120,))
        child.start()
    try:
        with RunLock(tmp_path):
            assert child.is_alive()
    finally:
        release.set()
        child.join(120)


def test_a_lock_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(SennaPruneError, match="cannot write to the run directory"), RunLock(tmp_path):
        pass
