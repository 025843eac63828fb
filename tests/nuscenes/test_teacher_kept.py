"""What a teacher said is kept: by what it depends on, also by earlier versions, and also if it comes too late for its build."""

# ruff: noqa: F811  fixtures

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from PIL import Image

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.teacher.open import open_teacher
from senna_autoprune.nuscenes.teacher.teacher import FILE, Teacher
from tests.nuscenes.test_teacher import kept_in, picture, server  # noqa: F401  fixtures


def test_answers_are_kept_by_content(server, tmp_path, picture):
    other = tmp_path / "copy.jpg"
    other.write_bytes(picture.read_bytes())

    def ask(model: str, question: str, image: Path) -> int:
        with open_teacher(f"openai:{server.url}#{model}", tmp_path / "cache") as teacher:
            teacher.submit(question, image).result()
        return len(server.requests)

    assert ask("m", "q", picture) == 1
    assert ask("m", "q", picture) == 1
    assert ask("m", "q", other) == 1  # the same bytes under another name
    assert ask("m", "another q", picture) == 2
    assert ask("another m", "q", picture) == 3
    Image.new("RGB", (64, 36)).save(other)
    assert ask("m", "q", other) == 4


@pytest.mark.parametrize("rubbish", ["", "{", "[]", '{"answer": 3}', '{"answer": ""}'])
def test_a_broken_cache_entry_is_asked_anew(server, tmp_path, picture, rubbish):
    for _ in range(2):
        with open_teacher(f"openai:{server.url}#m", tmp_path / "cache") as teacher:
            assert teacher.submit("q", picture).result() == "answer q"
        with sqlite3.connect(tmp_path / "cache" / FILE) as connection:
            assert connection.execute("UPDATE kept SET value = ?", (rubbish,)).rowcount == 1
    assert len(server.requests) == 2


@pytest.mark.parametrize("rubbish", [None, "", "{", "[]", '{"answer": 3}', '{"answer": ""}', '{"answer": "\\u001b[2J"}'])
def test_an_answer_in_a_file_of_its_own_is_still_known(server, tmp_path, picture, rubbish):
    """As earlier versions kept them: they were paid for."""
    with open_teacher(f"openai:{server.url}#m", tmp_path / "cache") as teacher:
        teacher.submit("q", picture).result()
    ((key, value),) = kept_in(tmp_path / "cache").items()
    (tmp_path / "cache" / FILE).unlink()
    (tmp_path / "cache" / key[:2]).mkdir()
    (tmp_path / "cache" / key[:2] / f"{key}.json").write_text(value if rubbish is None else rubbish)
    with open_teacher(f"openai:{server.url}#m", tmp_path / "cache") as teacher:
        assert teacher.submit("q", picture).result() == "answer q"
    assert len(server.requests) == (1 if rubbish is None else 2)


class Slow:
    """A backend that answers when it is let."""

    identity, concurrency = {"teacher": "slow"}, 2

    def __init__(self) -> None:
        self.asked, self.let = threading.Event(), threading.Event()

    def answer(self, question: str, image: Path) -> str:
        self.asked.set()
        assert self.let.wait(60)
        return f"answer {question}"

    def close(self) -> None:
        pass


def test_an_answer_that_comes_after_its_build_is_kept(picture, tmp_path):
    """And the file is closed once nobody answers any more."""
    backend = Slow()
    with Teacher(backend, tmp_path / "cache") as teacher:
        late = teacher.submit("q", picture)
        assert backend.asked.wait(60)
    backend.let.set()
    assert late.result(60) == "answer q"
    for thread in teacher._threads:
        thread.join(60)
    assert len(kept_in(tmp_path / "cache")) == 1
    with pytest.raises(SennaPruneError, match="closed"):
        teacher._kept.get("key")


def test_a_cache_that_cannot_be_written_is_a_set_up_error(server, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(SennaPruneError, match="teacher-cache"):
        open_teacher(f"openai:{server.url}#tiny", tmp_path / "cache")
    assert not server.requests
