"""Pictures opened ahead: the same answers and faults as without, in order, never many at once, and the thread ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_autoprune.adapters.views import Asked
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering import look_ahead
from senna_autoprune.evaluation.answering.local_engine import LocalEngine
from senna_autoprune.evaluation.answering.look_ahead import LookAhead, worth_it
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.runs.store import RunStore
from tests.evaluation.answering.test_keyframes import count_opened
from tests.evaluation.conftest import Place, counting_senna, make_place

ASKED = [Asked(f"question {index}", "plan", (f"{index}.jpg",)) for index in range(6)]
PATIENCE = 60.0  # seconds for a thread to do what it does at once


def until(condition: Any) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.002)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("pictures")}


def test_two_keyframes_are_opened_ahead_and_no_more() -> None:
    opened: list[str] = []
    with LookAhead(lambda asked: (opened.append(asked.text), threading.get_ident(), asked.text)[1:], iter(ASKED)) as ahead:
        until(lambda: len(opened) == 2)
        for index, asked in enumerate(ASKED):
            ident, text = ahead.take(asked)
            assert text == asked.text and ident != threading.get_ident()
            expected = min(index + 3, len(ASKED))
            until(lambda expected=expected: len(opened) == expected)
            time.sleep(0.02)
            assert len(opened) == expected
    assert opened == [asked.text for asked in ASKED]


def test_a_fault_is_raised_where_the_picture_is_wanted() -> None:
    def opens(asked: Asked) -> str:
        if asked.text == "question 1":
            raise SennaPruneError("broken image: 1.jpg")
        return asked.text

    with LookAhead(opens, iter(ASKED[:3])) as ahead:
        assert ahead.take(ASKED[0]) == "question 0"
        with pytest.raises(SennaPruneError, match=r"broken image: 1\.jpg"):
            ahead.take(ASKED[1])
        assert ahead.take(ASKED[2]) == "question 2"
        assert ahead.take(ASKED[4]) == "question 4"  # one that nobody announced


def test_it_stops_though_much_is_still_to_come() -> None:
    before, begun, go = threads(), threading.Event(), threading.Event()

    def opens(asked: Asked) -> None:
        begun.set()
        assert go.wait(PATIENCE)

    def endless() -> Iterator[Asked]:
        while True:
            yield ASKED[0]

    with pytest.raises(KeyboardInterrupt), LookAhead(opens, endless()):
        assert begun.wait(PATIENCE)
        raise KeyboardInterrupt  # leaving does not wait for the picture
    go.set()
    for thread in threads() - before:
        thread.join(PATIENCE)
    assert not threads() - before


def _run(place: Place, out: str, ahead: bool, **changes: Any) -> tuple[bytes, Any, list[int]]:
    asked = counting_senna()
    opened = count_opened(asked)
    engine = LocalEngine(asked.senna, ahead=ahead)
    result = evaluate(place.config(out=str(place.folder / out), types=["plan", "vru"], **changes), engine, force=True)
    return (result.directory / "answers.jsonl").read_bytes(), result, opened


@pytest.mark.parametrize("batch_size", [1, 3])
def test_answers_and_faults_are_those_without_a_thread(tmp_path: Path, batch_size: int) -> None:
    place = make_place(tmp_path, samples=7)
    (tmp_path / "images" / "2-1.png").write_bytes(b"no picture")
    (tmp_path / "images" / "5-0.png").unlink()
    before = threads()
    plain, without, opened = _run(place, "without", False, batch_size=batch_size)
    ahead, with_thread, opened_ahead = _run(place, "with", True, batch_size=batch_size)
    assert ahead == plain and without.failed == with_thread.failed == 2 * 2 * 5
    assert sorted(opened) == sorted(opened_ahead) == [1] + [3] * 7  # and a grey picture
    failed = [json.loads(line) for line in ahead.splitlines() if b'"failed"' in line]
    assert {line["reason"].split(":")[0] for line in failed} == {"broken image", "image not found"}
    with RunStore.read(with_thread.directory) as store:
        assert {row.question for row in store.answers() if row.images_ms is not None} == set(range(14)) - {4, 5, 10, 11}
    for thread in threads() - before:
        thread.join(PATIENCE)
    assert not threads() - before


def test_the_thread_ends_when_the_asking_breaks_off(place: Place) -> None:
    before = threads()

    def stop(row: Any, done: int, wanted: int) -> None:
        assert threads() - before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(place.config(), LocalEngine(counting_senna().senna, ahead=True), on_row=stop)
    for thread in threads() - before:
        thread.join(PATIENCE)
    assert not threads() - before


def test_a_thread_is_worth_it_beside_an_accelerator_or_on_idle_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_ahead, "cores", lambda: torch.get_num_threads())
    assert worth_it(torch.device("cuda")) and not worth_it(torch.device("cpu"))
    monkeypatch.setattr(look_ahead, "cores", lambda: torch.get_num_threads() + 1)
    assert worth_it(torch.device("cpu"))
