"""Asking a teacher in the background, and keeping what it said.

Answers are kept on disk under the hash of what they depend on (the teacher, the question, the image's bytes), so a
build that was killed goes on where it stopped (``files.kept``). Any number of builds may share the folder at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.image_files import MAX_BYTES
from senna_autoprune.files.json_files import text_fault
from senna_autoprune.files.kept import KeptAnswers
from senna_autoprune.files.regular import read_regular
from senna_autoprune.nuscenes.teacher.backend import Backend, TeacherError

FILE, IDENTITY = "answers.sqlite", {"answers": "of teachers"}  # in the cache's folder; a key holds whatever an answer depends on
MOST_CACHED = 4_000_000  # bytes of an answer that was kept in a file of its own
FAILURES_IN_A_ROW = 8  # then the teacher, not the question, is at fault


class Teacher:
    """Answers questions about images in the background, from the cache where it can. A context manager."""

    def __init__(self, backend: Backend, cache: str | os.PathLike[str]) -> None:
        self.concurrency = backend.concurrency
        self.asked = self.cached = self.failed = 0
        self.last_failure = ""
        self._backend = backend
        self._cache = Path(cache)
        self._kept = KeptAnswers(self._cache / FILE, IDENTITY, "name another folder with --teacher-cache")
        self._in_a_row = 0
        self._fatal: SennaPruneError | None = None  # after it no question is asked any more
        self._lock = threading.Lock()
        self._waiting: SimpleQueue[tuple[Future[str], str, Path] | None] = SimpleQueue()
        # Daemons, not an executor: that one would keep an interrupted build alive until a hanging server answers.
        self._working = backend.concurrency
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(backend.concurrency)]
        for thread in self._threads:
            thread.start()

    def submit(self, question: str, image: str | os.PathLike[str]) -> Future[str]:
        """The answer to a question about an image file, as a future.

        Its result raises TeacherError if this question got none, SennaPruneError if no other will get one either.
        """
        future: Future[str] = Future()
        self._waiting.put((future, question, Path(image)))
        return future

    def describe(self) -> dict[str, Any]:
        """Who answered, how often it was asked, what came from the cache and what failed."""
        return {**self._backend.identity, "asked": self.asked, "cached": self.cached, "failed": self.failed}

    def close(self) -> None:
        """Drop what is not answered yet; what is answered is in the cache."""
        self._backend.close()
        while True:
            try:
                item = self._waiting.get_nowait()
            except Empty:
                break
            if item is not None:
                item[0].cancel()
        for _ in self._threads:
            self._waiting.put(None)

    def __enter__(self) -> Teacher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _work(self) -> None:
        """One thread: answers until told to stop (None). Once no question can be answered, none is asked."""
        self._answer_all()
        with self._lock:
            self._working -= 1
            if not self._working:  # not when the build ends: a server's last answers are kept even then
                self._kept.close()

    def _answer_all(self) -> None:
        while (item := self._waiting.get()) is not None:
            future, question, image = item
            if future.set_running_or_notify_cancel():
                try:
                    if self._fatal is not None:
                        raise self._fatal
                    answer = self._answer(question, image)
                except BaseException as error:  # the caller gets whatever went wrong
                    if isinstance(error, SennaPruneError):
                        self._fatal = error  # before the caller hears of it
                    future.set_exception(error)
                else:
                    future.set_result(answer)

    def _answer(self, question: str, image: Path) -> str:
        try:
            image_sha256 = hashlib.sha256(read_regular(image, MAX_BYTES)).hexdigest()
        except OSError as error:
            raise self._failure(TeacherError(f"{image}: {error.strerror}")) from error
        entry = {**self._backend.identity, "question": question, "image_sha256": image_sha256}
        key = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
        answer = _answer_of(self._kept.get(key)) or _answer_of(self._kept_alone(key))
        if answer is not None:
            with self._lock:
                self.cached += 1
            return answer
        try:
            answer = self._backend.answer(question, image).strip()
            if not any(letter.isprintable() and letter != " " for letter in answer):  # or nothing in it can be seen
                raise TeacherError("the answer is empty")
            if fault := text_fault(answer):  # a question file that holds it would be refused, and a terminal steered
                raise TeacherError(f"the answer is {fault}")
        except TeacherError as error:
            raise self._failure(error) from error
        self._kept.add(key, {**entry, "answer": answer})
        with self._lock:
            self.asked += 1
            self._in_a_row = 0
        return answer

    def _failure(self, error: TeacherError) -> Exception:
        """Count a failure; after too many in a row it is the teacher's."""
        with self._lock:
            self.failed += 1
            self._in_a_row += 1
            self.last_failure = str(error)
            if self._in_a_row < FAILURES_IN_A_ROW:
                return error
        return SennaPruneError(f"the teacher failed {FAILURES_IN_A_ROW} times in a row, last: {error}; answers so far are in {self._cache}")

    def _kept_alone(self, key: str) -> Any:
        """What earlier versions kept, each answer in a file of its own."""
        try:
            return json.loads(read_regular(self._cache / key[:2] / f"{key}.json", MOST_CACHED))
        except (OSError, ValueError, RecursionError, SennaPruneError):
            return None


def _answer_of(entry: Any) -> str | None:
    """The answer that was kept; None if it is not one of ours (it is then asked anew)."""
    answer = entry.get("answer") if isinstance(entry, dict) else None
    return answer if isinstance(answer, str) and answer and text_fault(answer) is None else None
