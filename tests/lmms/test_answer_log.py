"""The file of a benchmark's answers: what a kill leaves of it, and what a next run makes of that. Needs no lmms-eval."""

from __future__ import annotations

from pathlib import Path

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.lmms.answer_log import Answer, AnswerLog, Cost, mean_cost

IDENTITY = {"model": "tiny", "method": "autoprune", "tokens": 8}
COST = Cost(prompt_tokens=20, new_tokens=3, visual_tokens=16, average_visual_tokens=8.0, flops_full=10.0, flops_pruned=5.0)


def log_of(path: Path, keys: str) -> None:
    log = AnswerLog(path, IDENTITY)
    for key in keys:
        log.add(key, Answer(f"answer {key}", COST))


def test_answers_come_back(tmp_path: Path) -> None:
    log_of(tmp_path / "log.jsonl", "ab")
    again = AnswerLog(tmp_path / "log.jsonl", IDENTITY)
    assert again.get("a") == Answer("answer a", COST) and again.get("b").text == "answer b" and again.get("c") is None
    scored = Answer("", COST, loss=0.5, greedy=True)
    again.add("s", scored)
    assert AnswerLog(tmp_path / "log.jsonl", IDENTITY).get("s") == scored


@pytest.mark.parametrize("left", [1, 20, -2, -1])
def test_a_torn_last_line_is_mended(tmp_path: Path, left: int) -> None:
    """The next answer must not be glued to half a line: it would be lost with it, at every run anew."""
    path = tmp_path / "log.jsonl"
    log_of(path, "ab")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:left])
    log_of(path, "cd")
    again = AnswerLog(path, IDENTITY)
    assert [again.get(key) is not None for key in "acd"] == [True, True, True]
    assert (again.get("b") is not None) == (left == -1)  # only the line's end was missing


def test_a_torn_first_line_is_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log_of(path, "")
    path.write_text(path.read_text()[:-9])
    log_of(path, "a")
    assert AnswerLog(path, IDENTITY).get("a") is not None


def test_rubbish_between_answers_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log_of(path, "a")
    with path.open("a") as file:
        file.write('[]\n{"key": "x"}\n\n{"key": "y", "cost": 3}\nnonsense\n')
    log_of(path, "b")
    again = AnswerLog(path, IDENTITY)
    assert [again.get(key) is not None for key in "axyb"] == [True, False, False, True]


def test_another_settings_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log_of(path, "a")
    before = path.read_bytes()
    with pytest.raises(SennaPruneError, match="another model or setting"):
        AnswerLog(path, {**IDENTITY, "tokens": 9})
    assert path.read_bytes() == before


def test_mean_cost_sums_flops_and_leaves_out_questions_without_images() -> None:
    long = Cost(900, 3, 16, 4.0, 1000.0, 100.0)
    blind = Cost(5, 3, 0, 0.0, 77.0, 77.0)
    found = mean_cost([COST, long, blind])
    assert found["flops_share"] == pytest.approx(105 / 1010)  # the mean of the shares would be 0.3
    assert (found["visual_tokens"], found["visual_tokens_unpruned"], found["questions_with_images"]) == (6.0, 16.0, 2.0)
    assert mean_cost([blind]) == {}
    assert mean_cost([Cost(20, 3, 16, 16.0)])["flops_share"] == 1.0
