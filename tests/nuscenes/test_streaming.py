"""A build holds few records back: only those that wait for the teacher, and not more than its limit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from senna_autoprune.nuscenes.questions import _answered
from senna_autoprune.nuscenes.records import BuildCounts, PendingRecord
from senna_autoprune.nuscenes.teacher.backend import TeacherError


class Source:
    """Records by number; ``made`` says how many were asked for, ``futures`` are what taught ones wait for."""

    def __init__(self, taught: list[bool]) -> None:
        self.taught, self.made = taught, 0
        self.futures: dict[int, Future[str]] = {}

    def __iter__(self) -> Iterator[PendingRecord]:
        for number, taught in enumerate(self.taught):
            self.made = number + 1
            future: Future[str] | None = Future() if taught else None
            if future is not None:
                future.set_result(f"answer {number}")
                self.futures[number] = future
            value = None if taught else f"label {number}"
            yield PendingRecord({"id": number, "conversations": [{}, {"value": value}]}, "light" if taught else "plan", future)


@pytest.mark.parametrize("limit", [1, 4])
def test_a_teachers_records_are_not_held_back_to_the_end(limit: int) -> None:
    source = Source([True] * 50)
    records = _answered(source, BuildCounts(), limit)
    for number in range(50):
        record = next(records)
        assert record["id"] == number and record["conversations"][1]["value"] == f"answer {number}"
        assert source.made <= number + 1 + limit
    assert list(records) == []


def test_without_a_teacher_a_record_is_written_before_the_next_is_made() -> None:
    source = Source([False] * 5)
    for number, record in enumerate(_answered(source, BuildCounts(), 0)):
        assert (record["id"], source.made) == (number, number + 1)


def test_order_is_kept_and_what_got_no_answer_is_left_out_and_counted() -> None:
    source = Source([False, True, False, True, False])
    counts, records = BuildCounts(), []
    made = list(source)
    failed: Future[str] = Future()
    failed.set_exception(TeacherError("no"))
    made[1] = PendingRecord(made[1].record, made[1].kind, failed)
    records = [record["id"] for record in _answered(made, counts, 8)]
    assert records == [0, 2, 3, 4]
    assert {kind: sum(reasons.values()) for kind, reasons in counts.skipped.items()} == {"light": 1}
