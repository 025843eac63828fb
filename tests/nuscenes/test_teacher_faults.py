"""Servers and keys as they should not be: no secret is printed, no answer is endless, no control code gets into a file."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.kept import KeptAnswers
from senna_autoprune.nuscenes.inspection import inspect_questions
from senna_autoprune.nuscenes.teacher import openai
from senna_autoprune.nuscenes.teacher.backend import TeacherError
from senna_autoprune.nuscenes.teacher.open import open_teacher
from senna_autoprune.nuscenes.teacher.secrets import Mask
from senna_autoprune.nuscenes.teacher.teacher import FILE, IDENTITY
from tests.fixtures import shared
from tests.nuscenes.test_teacher import Server, completion, kept_in, picture, server  # noqa: F401  fixtures

SECRET = "sk-very-secret"


def asked(spec: str, picture: Path, folder: Path, **options) -> str:  # noqa: F811
    """The error's words."""
    with pytest.raises((TeacherError, SennaPruneError)) as caught, open_teacher(spec, folder / "cache", attempts=2, **options) as teacher:
        teacher.submit("q", picture).result(timeout=60)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_a_key_that_ends_in_a_line_break_is_stripped(server, picture, tmp_path, monkeypatch, end):  # noqa: F811
    monkeypatch.setenv(openai.KEY_VARIABLE, SECRET + end)
    with open_teacher(f"openai:{server.url}#m", tmp_path / "cache") as teacher:
        assert teacher.submit("q", picture).result() == "answer q"
    assert server.keys == [f"Bearer {SECRET}"]


@pytest.mark.parametrize("key", ["sk-sécret", "sk-very\nsecret", "sk-\x1b[31m", "ключ"])
def test_a_key_no_header_can_hold_is_one_line_without_it(tmp_path, monkeypatch, key):
    monkeypatch.setenv(openai.KEY_VARIABLE, key)
    with pytest.raises(SennaPruneError) as caught:
        open_teacher("openai:http://127.0.0.1:9/v1#m", tmp_path)
    assert str(caught.value).startswith("$OPENAI_API_KEY holds") and key not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 400, 401, 503])
def test_a_server_that_echoes_the_key_is_masked(server, picture, tmp_path, monkeypatch, status):  # noqa: F811
    monkeypatch.setenv(openai.KEY_VARIABLE, SECRET)
    server.script = lambda number, body: (status, {}, f"bad request: Authorization: Bearer {server.keys[-1]}, {SECRET!r}")
    words = asked(f"openai:{server.url}#m", picture, tmp_path)
    assert SECRET not in words and "***" in words


def test_a_password_in_the_address_is_masked(server, picture, tmp_path):  # noqa: F811
    address = server.url.replace("http://", "http://user:pa55%40word@")
    server.script = lambda number, body: (400, {}, f"who is {server.keys[-1]}? pa55@word")
    words = asked(f"openai:{address}#m", picture, tmp_path)
    assert server.keys[-1].startswith("Basic ") and server.keys[-1][6:] not in words
    assert "pa55" not in words and "http://***@127.0.0.1" in words
    for spec in (
        "openai:http://user:pa55word@host/v1",
        "opnai:http://user:pa55word@host/v1#m",
        "openai:http://user:pa55word@host:99999999/v1#m",
    ):
        with pytest.raises(SennaPruneError) as caught:
            open_teacher(spec, tmp_path)
        assert "pa55" not in str(caught.value)
    words = asked("openai:http://user:pa55word@127.0.0.1:9/v1#m", picture, tmp_path)
    assert "pa55" not in words and "ConnectError" in words


def test_masks_every_form_and_nothing_else():
    mask = Mask("key/1", "https://me:a%2Fb@host/v1")
    text = "key/1 key%2F1 a/b a%2Fb bWU6YS9i https://x:y@host keys"
    assert mask(text) == "*** *** *** *** *** https://***@host keys"
    assert Mask("", "http://host")("nothing to hide") == "nothing to hide"


def test_an_answer_without_an_end_is_cut(server, picture, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(openai, "MOST_BYTES", 10_000)
    server.script = lambda number, body: completion("x" * 200_000)
    assert "more than 10000 bytes" in asked(f"openai:{server.url}#m", picture, tmp_path)
    server.script = lambda number, body: (400, {}, "y" * 200_000)
    assert len(asked(f"openai:{server.url}#m", picture, tmp_path)) < 400


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
def test_a_server_that_drips_is_given_up_in_time(picture, tmp_path, head, monkeypatch):  # noqa: F811
    """A byte every so often keeps each read alive; the request as a whole is bounded."""
    monkeypatch.setattr(openai, "FIRST_DELAY_S", 0.01)
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip() -> None:
        while not over.is_set():
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                try:
                    client.sendall(head)
                    while not over.wait(0.05):
                        client.sendall(b"H" if not head else b" ")
                except OSError:
                    pass

    threading.Thread(target=drip, daemon=True).start()
    try:
        started = time.perf_counter()
        words = asked(f"openai:http://127.0.0.1:{listening.getsockname()[1]}/v1#m", picture, tmp_path, timeout_s=0.5)
        assert "Timeout" in words or "ProtocolError" in words
        assert time.perf_counter() - started < 20
    finally:
        over.set()
        listening.close()


@pytest.mark.parametrize(
    "answer", ["\x1b[31mred", "a\x00b", "bell\x07", "half \ud800", "\x9b2J"], ids=["escape", "null", "bell", "surrogate", "csi"]
)
def test_control_codes_are_no_answer_and_not_kept(server, picture, tmp_path, answer):  # noqa: F811
    server.script = lambda number, body: completion(answer)
    assert "not text" in asked(f"openai:{server.url}#m", picture, tmp_path)
    assert not kept_in(tmp_path / "cache")


def test_a_kept_answer_with_control_codes_is_asked_anew(server, picture, tmp_path):  # noqa: F811
    for _ in range(2):
        with open_teacher(f"openai:{server.url}#m", tmp_path / "cache") as teacher:
            assert teacher.submit("q", picture).result() == "answer q"
        ((key, value),) = kept_in(tmp_path / "cache").items()
        with KeptAnswers(tmp_path / "cache" / FILE, IDENTITY, "") as kept:
            kept.add(key, {**json.loads(value), "answer": "\x1b[2J"})
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "body", ["[" * 100_000, '{"choices": ' + "9" * 10_000 + "}", '{"choices": [{"message": null}]}'], ids=["deep", "digits", "null"]
)
def test_json_of_any_kind_is_one_line(server, picture, tmp_path, body):  # noqa: F811
    server.script = lambda number, _: (200, {}, body)
    assert "no chat completion" in asked(f"openai:{server.url}#m", picture, tmp_path)


def test_a_model_named_in_no_text_is_one_line(tmp_path):
    for name in ("half\ud800", "\x1b[2J"):
        with pytest.raises(SennaPruneError, match="model's name is not text"):
            open_teacher(f"openai:http://127.0.0.1:9/v1#{name}", tmp_path)


def test_killed_builds_continue_to_the_same_bytes(server, tmp_path):  # noqa: F811
    """SIGKILL and SIGTERM at any moment: no half file under a final name; the same command ends in what an unbroken build writes."""
    words = ["questions", "build", "--dataroot", str(shared("nuscenes", "subset")), "--version", "v1.0-mini", "--scenes", "scene-0061"]
    words += ["--teacher", f"openai:{server.url}#tiny", "--teacher-concurrency", "2", "--types", "plan,light,description"]
    entry = [sys.executable, "-c", "from senna_autoprune.cli import main; main()", *words]
    works = server.script
    server.script = lambda number, body: time.sleep(0.02) or works(number, body)

    def run(out: Path, kill_after: int | None = None, sent: int = signal.SIGKILL) -> int:
        before = len(server.requests)
        build = subprocess.Popen([*entry, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while kill_after is not None and build.poll() is None:
            if len(server.requests) - before >= kill_after:
                build.send_signal(sent)
                break
            time.sleep(0.002)
        return build.wait(timeout=240)

    unbroken = tmp_path / "unbroken" / "q.json"
    killed = tmp_path / "killed" / "q.json"
    for path in (unbroken, killed):
        path.parent.mkdir()
    assert run(unbroken) == 0
    assert run(killed, 2) != 0 and not killed.exists() and not (killed.parent / "q.json.meta.json").exists()
    assert run(killed, 3, signal.SIGTERM) != 0 and not killed.exists()
    assert run(killed) == 0
    assert killed.read_bytes() == unbroken.read_bytes()
    assert {path.name for path in killed.parent.iterdir()} == {path.name for path in unbroken.parent.iterdir()}
    inspect_questions(killed)  # the sidecar is that of this content
