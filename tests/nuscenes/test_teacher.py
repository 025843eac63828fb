"""Teachers: a real HTTP server with every fault a server has, a tiny transformers model, and the cache of answers."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes import records
from senna_autoprune.nuscenes.questions import build_questions
from senna_autoprune.nuscenes.questions_file import read_questions
from senna_autoprune.nuscenes.records import BuildSettings
from senna_autoprune.nuscenes.teacher import openai
from senna_autoprune.nuscenes.teacher.backend import TeacherError
from senna_autoprune.nuscenes.teacher.open import open_teacher
from senna_autoprune.nuscenes.teacher.teacher import FAILURES_IN_A_ROW, FILE
from tests.nuscenes.tiny_teacher import save_tiny_llava

TAUGHT = BuildSettings(types=("light", "description", "explanation"))


def completion(text) -> tuple[int, dict, str]:
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


def kept_in(cache) -> dict[str, str]:
    connection = sqlite3.connect(cache / FILE)
    found = dict(connection.execute("SELECT key, value FROM kept"))
    connection.close()
    return found


class Server:
    """An OpenAI-compatible server in a thread. ``script``: (number of the request, body) -> status, headers, text."""

    def __init__(self) -> None:
        self.script = lambda number, body: completion(f"answer {body['messages'][0]['content'][1]['text'][:20]}")
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.now = self.most = 0
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.requests.append(body)
                    server.keys.append(self.headers.get("Authorization"))
                    server.paths.append(self.path)
                    number = len(server.requests)
                    server.now += 1
                    server.most = max(server.most, server.now)
                try:
                    status, headers, text = server.script(number, body)
                finally:
                    with lock:
                        server.now -= 1
                data = text.encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args) -> None:
                pass

        class QuietServer(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address) -> None:
                pass  # a client that went away, as some tests do

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(openai, "FIRST_DELAY_S", 0.01)
    monkeypatch.delenv(openai.KEY_VARIABLE, raising=False)
    made = Server()
    yield made
    made.close()


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "x.jpg"
    Image.new("RGB", (64, 36), (200, 0, 0)).save(path)
    return path


@pytest.fixture
def teacher(server, tmp_path):
    with open_teacher(f"openai:{server.url}#tiny", tmp_path / "cache", concurrency=3, timeout_s=60) as made:
        yield made


def test_request_holds_model_image_and_question(server, teacher, picture):
    assert teacher.submit("What colour?", picture).result() == "answer What colour?"
    assert server.paths == ["/v1/chat/completions"]
    body = server.requests[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny", 0, 512)
    image, text = body["messages"][0]["content"]
    head, data = image["image_url"]["url"].split(",")
    assert (head, base64.b64decode(data)) == ("data:image/jpeg;base64", picture.read_bytes())
    assert text == {"type": "text", "text": "What colour?"}
    assert server.keys == [None]


def test_key_comes_from_the_environment_and_stays_out_of_files(server, picture, tmp_path, monkeypatch):
    monkeypatch.setenv(openai.KEY_VARIABLE, "sk-very-secret")
    with open_teacher(f"openai:{server.url}#tiny", tmp_path / "cache") as teacher:
        teacher.submit("Why?", picture).result()
        assert "secret" not in json.dumps(teacher.describe())
    assert server.keys == ["Bearer sk-very-secret"]
    assert len(kept_in(tmp_path / "cache")) == 1
    assert not any(b"secret" in file.read_bytes() for file in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, teacher, picture, status):
    server.script = lambda number, body: (status, {}, "busy") if number < 4 else completion("at last")
    assert teacher.submit("q", picture).result() == "at last"
    assert len(server.requests) == 4 and teacher.failed == 0


def test_retry_after_is_kept(server, teacher, picture):
    server.script = lambda number, body: (429, {"Retry-After": "0.3"}, "") if number == 1 else completion("ok")
    start = time.perf_counter()
    assert teacher.submit("q", picture).result() == "ok"
    assert time.perf_counter() - start >= 0.3


def test_a_server_that_stays_busy_fails_the_question_alone(server, teacher, picture):
    server.script = lambda number, body: (503, {}, "down for maintenance")
    with pytest.raises(TeacherError, match=r"503: down for maintenance \(tried 5 times\)"):
        teacher.submit("q", picture).result()
    assert len(server.requests) == 5 and teacher.failed == 1


def test_a_refused_question_is_not_asked_again(server, teacher, picture):
    server.script = lambda number, body: (400, {}, "image too large")
    with pytest.raises(TeacherError, match="image too large"):
        teacher.submit("q", picture).result()
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 307])
def test_a_wrong_set_up_stops_at_once(server, teacher, picture, status):
    server.script = lambda number, body: (status, {"Location": "/elsewhere"}, "no such model")
    with pytest.raises(SennaPruneError, match=f"{status}: no such model"):
        teacher.submit("q", picture).result()
    assert len(server.requests) == 1


def test_after_a_wrong_set_up_no_other_question_is_sent(server, teacher, picture):
    server.script = lambda number, body: (401, {}, "who are you") if number == 1 else completion("never asked")
    with pytest.raises(SennaPruneError, match="who are you"):
        teacher.submit("q", picture).result()
    for future in [teacher.submit(f"q{i}", picture) for i in range(6)]:
        with pytest.raises(SennaPruneError, match="who are you"):
            future.result()
    assert len(server.requests) == 1


@pytest.mark.parametrize("text", ["<html>", "{}", '{"choices": []}', '{"choices": [{"message": {"content": 5}}]}', "[]"])
def test_an_answer_that_is_none_is_a_failure(server, teacher, picture, text):
    server.script = lambda number, body: (200, {}, text)
    with pytest.raises(TeacherError):
        teacher.submit("q", picture).result()
    assert not kept_in(teacher._cache)


@pytest.mark.parametrize("nothing", ["  \n", "\u200b\u200b", "\u202e \u2066", "\ufeff"])
def test_an_empty_answer_is_a_failure(server, teacher, picture, nothing):
    server.script = lambda number, body: completion(nothing)
    with pytest.raises(TeacherError, match="empty"):
        teacher.submit("q", picture).result()


def test_a_hanging_server_times_out(server, picture, tmp_path):
    release = threading.Event()
    server.script = lambda number, body: release.wait(60) and completion("late")
    spec = f"openai:{server.url}#tiny"
    hasty = open_teacher(spec, tmp_path / "cache", timeout_s=0.1, attempts=2)
    with hasty as teacher, pytest.raises(TeacherError, match=r"ReadTimeout.*tried 2 times"):
        teacher.submit("q", picture).result()
    release.set()


def test_no_server_at_all(picture, tmp_path, monkeypatch):
    monkeypatch.setattr(openai, "FIRST_DELAY_S", 0.01)
    nobody = open_teacher("openai:http://127.0.0.1:9/v1#tiny", tmp_path / "cache", attempts=2)
    with nobody as teacher, pytest.raises(TeacherError, match="ConnectError"):
        teacher.submit("q", picture).result()


def test_too_many_failures_in_a_row_are_the_teachers(server, teacher, picture):
    server.script = lambda number, body: (400, {}, "no")
    futures = [teacher.submit(f"q{i}", picture) for i in range(FAILURES_IN_A_ROW)]
    errors = [type(future.exception()) for future in futures]
    assert errors.count(SennaPruneError) == 1
    assert teacher.failed == FAILURES_IN_A_ROW


def test_requests_at_once_are_bounded(server, teacher, picture):
    three = threading.Barrier(3)  # lets requests pass three at a time, however slow the machine
    server.script = lambda number, body: (three.wait(60), completion("ok"))[1]
    for future in [teacher.submit(f"q{i}", picture) for i in range(12)]:
        assert future.result() == "ok"
    assert server.most == 3


@pytest.mark.parametrize("spec", ["", "gpt", "hf:", "openai:", "openai:http://host/v1", "openai:host:8000#m", "openai:#m", "ftp:x"])
def test_bad_specifications(tmp_path, spec):
    with pytest.raises(SennaPruneError, match="BASE_URL#MODEL"):
        open_teacher(spec, tmp_path)


def test_build_with_a_teacher(server, subset, tmp_path):
    with open_teacher(f"openai:{server.url}#tiny", tmp_path / "cache") as teacher:
        sidecar = build_questions(subset, tmp_path / "q.json", TAUGHT, scenes=["scene-0061"], teacher=teacher)
    assert sidecar["questions"] == {"description": 6, "light": 1, "explanation": 1}
    assert sidecar["skipped"] == {
        "light": {records.NO_IMAGE: 38},
        "description": {records.NO_IMAGE: 38 * 6},
        "explanation": {records.NO_IMAGE: 32, records.SHORT_FUTURE: 6},
    }
    assert (sidecar["teacher"]["model"], sidecar["teacher"]["asked"]) == ("tiny", 8)
    for question in read_questions(tmp_path / "q.json").records:
        bare = question.text.split("<BACK VIEW>:\n<image>\n")[1]
        assert question.answer == f"answer {bare[:20]}".strip()
        (request,) = [r for r in server.requests if r["messages"][0]["content"][1]["text"] == bare]
        seen = base64.b64decode(request["messages"][0]["content"][0]["image_url"]["url"].split(",")[1])
        channel = {"front": "CAM_FRONT"}.get(question.view or "front", f"CAM_{(question.view or '').upper().replace(' ', '_')}")
        (path,) = [p for p in question.images if p.split("/")[-2] == channel]
        assert seen == Path(path).read_bytes()


def test_a_killed_build_goes_on_where_it_stopped(server, subset, tmp_path):
    def build(name: str) -> dict:
        with open_teacher(f"openai:{server.url}#tiny", tmp_path / "cache", concurrency=1) as teacher:
            return build_questions(subset, tmp_path / name, TAUGHT, scenes=["scene-0061"], teacher=teacher)

    works = server.script
    server.script = lambda number, body: works(number, body) if number <= 5 else (401, {}, "killed here")
    with pytest.raises(SennaPruneError, match="killed here"):
        build("q.json")
    assert not (tmp_path / "q.json").exists()
    server.script = works
    assert len(server.requests) == 6  # the refused one was the last: those that waited behind it were not sent
    sidecar = build("q.json")
    assert (sidecar["teacher"]["cached"], sidecar["teacher"]["asked"]) == (5, 3)
    assert len(server.requests) == 6 + 3
    assert sidecar["records"] == 8


def test_questions_without_an_answer_are_left_out_and_counted(server, subset, tmp_path):
    server.script = lambda number, body: (
        (400, {}, "no") if "traffic light that" in body["messages"][0]["content"][1]["text"] else completion("ok")
    )
    with open_teacher(f"openai:{server.url}#tiny", tmp_path / "cache") as teacher:
        sidecar = build_questions(subset, tmp_path / "q.json", TAUGHT, scenes=["scene-0061"], teacher=teacher)
        assert teacher.failed == 1 and "400" in teacher.last_failure
    assert sidecar["skipped"]["light"][records.NO_ANSWER] == 1
    assert sidecar["questions"] == {"description": 6, "explanation": 1}


def test_order_of_records_does_not_depend_on_who_answers_first(server, subset, tmp_path):
    works = server.script
    server.script = lambda number, body: time.sleep(0.05 * (number % 3)) or works(number, body)
    orders = []
    for name, concurrency in (("one", 1), ("four", 4)):
        with open_teacher(f"openai:{server.url}#{name}", tmp_path / "cache", concurrency=concurrency) as teacher:
            build_questions(subset, tmp_path / f"{name}.json", scenes=["scene-0061"], teacher=teacher)
        orders.append([question.id for question in read_questions(tmp_path / f"{name}.json").records])
    assert orders[0] == orders[1]


def test_closing_does_not_wait_for_a_hanging_server(server, picture, tmp_path):
    release = threading.Event()
    server.script = lambda number, body: release.wait(60) and completion("late")
    teacher = open_teacher(f"openai:{server.url}#tiny", tmp_path / "cache", timeout_s=60)
    future = teacher.submit("q", picture)
    while not server.now:
        assert not future.done(), future.exception()
        time.sleep(0.01)
    teacher.close()
    assert server.now == 1  # the request hangs still
    release.set()
    assert future.exception(timeout=60) is not None or future.result() == "late"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    save_tiny_llava(folder)
    return folder


def test_hf_teacher_answers_with_a_real_model(tiny_model, picture, tmp_path):
    with open_teacher(f"hf:{tiny_model}", tmp_path / "cache") as teacher:
        answer = teacher.submit("a car turns left", picture).result()
        assert answer and teacher.submit("a car turns left", picture).result() == answer
        assert (teacher.asked, teacher.cached, teacher.concurrency) == (1, 1, 1)


def test_hf_teacher_builds_questions(tiny_model, subset, tmp_path):
    settings = BuildSettings(types=("light", "plan"), require_images=True)
    with open_teacher(f"hf:{tiny_model}", tmp_path / "cache") as teacher:
        sidecar = build_questions(subset, tmp_path / "q.json", settings, scenes=["scene-0103"], teacher=teacher)
    assert sidecar["questions"] == {"light": 2, "plan": 2}
    assert sidecar["teacher"]["teacher"] == "hf"
    assert all(question.answer for question in read_questions(tmp_path / "q.json").records)


def test_hf_teacher_set_up_errors(tiny_model, picture, tmp_path):
    (tmp_path / "empty").mkdir()
    save_tiny_llava(tmp_path / "no_template", chat_template=None)
    for name, says in (("empty", "cannot load the teacher"), ("no_template", "cannot answer a chat with an image")):
        made = open_teacher(f"hf:{tmp_path / name}", tmp_path / "cache")
        with made as teacher, pytest.raises(SennaPruneError, match=says):
            teacher.submit("q", picture).result()


def test_hf_teacher_and_a_broken_image(tiny_model, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a jpeg")
    with open_teacher(f"hf:{tiny_model}", tmp_path / "cache") as teacher:
        with pytest.raises(TeacherError, match=r"broken\.jpg"):
            teacher.submit("q", broken).result()
        with pytest.raises(TeacherError, match=r"none\.jpg"):
            teacher.submit("q", tmp_path / "none.jpg").result()
