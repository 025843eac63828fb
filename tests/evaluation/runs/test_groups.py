"""Rows that share a commit: few together, none for long, none twice, none lost but by a kill."""

from __future__ import annotations

import threading
import time

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs import groups
from senna_autoprune.evaluation.runs.groups import Groups
from senna_autoprune.evaluation.runs.rows import AnswerRow


def row(number: int) -> AnswerRow:
    return AnswerRow(number, "unpruned", "ok", "KEEP, STRAIGHT")


class Disk:
    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.full = False

    @property
    def rows(self) -> list[int]:
        return [number for group in self.groups for number in group]

    def write(self, rows: list[AnswerRow]) -> None:
        if self.full:
            raise SennaPruneError("the disk is full")
        self.groups.append([one.question for one in rows])


def test_fast_rows_come_in_groups_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SECONDS", 3600.0)
    disk = Disk()
    held = Groups(disk.write)
    for number in range(1 + 2 * groups.ROWS + 5):
        held.add(row(number))
    assert [len(one) for one in disk.groups] == [1, groups.ROWS, groups.ROWS]  # the first has nothing to wait for
    held.flush()
    held.close()
    assert disk.rows == list(range(1 + 2 * groups.ROWS + 5))


def test_slow_rows_are_committed_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SECONDS", 0.0)
    disk = Disk()
    held = Groups(disk.write)
    for number in range(3):
        held.add(row(number))
        assert disk.groups[-1] == [number]
    held.close()


def test_a_row_that_nothing_follows_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    held = Groups(disk.write)
    before = threading.active_count()
    held.add(row(0))
    for number in range(1, 4):
        held.add(row(number))
    end = time.monotonic() + 30
    while len(disk.rows) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert disk.rows == [0, 1, 2, 3]
    held.close()
    assert threading.active_count() == before


def test_a_fault_of_the_thread_is_said_and_its_rows_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SECONDS", 0.2)
    disk = Disk()
    held = Groups(disk.write)
    held.add(row(0))
    disk.full = True
    held.add(row(1))
    time.sleep(1.0)
    with pytest.raises(SennaPruneError, match="full"):
        held.add(row(2))
    disk.full = False
    held.flush()
    held.close()
    assert disk.rows == [0, 1, 2]


def test_closed_while_the_thread_has_just_looked_it_ends() -> None:
    held = Groups(Disk().write)
    look = held._closed.wait

    def late(timeout: float | None = None) -> bool:
        held._closed.wait = look  # type: ignore[method-assign]
        held._closed.set()
        held._waiting.set()
        return False  # as it was a moment ago

    held._closed.wait = late  # type: ignore[method-assign]
    held.add(row(0))
    held.add(row(1))
    assert held._thread is not None
    held._thread.join(30)
    assert not held._thread.is_alive()
