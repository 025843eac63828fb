"""N questions of one keyframe against N single ones: through the evaluator, and what is shared is done once."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from senna_autoprune import SennaPruneError
from senna_autoprune.adapters.senna import SennaModel
from senna_autoprune.bench import vision as bench_vision
from senna_autoprune.bench.keyframe import PIXELS, STAGES, QuestionsRow, build_senna, keyframe, measure_questions, questions_of
from senna_autoprune.bench.passes import Timing
from senna_autoprune.bench.shapes import SHAPES, BenchShape
from senna_autoprune.cli.bench import command
from senna_autoprune.evaluation.answering.answerer import asked_of
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.tables.bench import questions_table
from tests.bench.test_vision import TINY_VISION

SHAPE = BenchShape(layers=2, hidden=32, heads=4, vocabulary=300, views=2, text_tokens=60)


def test_questions_are_as_long_as_they_should_be_and_all_different(tmp_path: Any) -> None:
    senna = build_senna(SHAPE, TINY_VISION, torch.float32, "cpu")
    images = keyframe(tmp_path, 2)
    asked = questions_of(senna, SHAPE, images, 3)
    assert len({question.text for question in asked}) == 3 and {question.token for question in asked} == {"keyframe"}
    model = SennaModel(senna)
    for question in asked:
        one = asked_of(question, tmp_path)
        ready = model.prepare(one, model.see(one))
        assert ready.visual_mask.shape[1] == SHAPE.tokens and int(ready.visual_mask.sum()) == 2 * 128
    from PIL import Image

    with Image.open(tmp_path / images[0]) as first, Image.open(tmp_path / images[1]) as second:
        assert first.size == second.size == PIXELS and first.format == "JPEG" and first.tobytes() != second.tobytes()
    with pytest.raises(SennaPruneError, match="the conversation alone takes"):
        questions_of(senna, BenchShape(views=2, text_tokens=12), images, 1)


def test_a_keyframe_is_opened_and_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    look = SennaModel._look

    def counted(self: Any, seen: Any, needs: Any) -> Any:
        looked.append(len(seen["pixel_values"]))
        return look(self, seen, needs)

    monkeypatch.setattr(SennaModel, "_look", counted)
    generated: list[int] = []
    generate = SennaModel.generate
    monkeypatch.setattr(SennaModel, "generate", lambda self, batch, *args: (generated.append(len(batch)), generate(self, batch, *args))[1])
    steps: list[tuple[str, int, int | None]] = []
    settings = [Setting("random@0.75", "random", {"retention": 0.75})]
    rows = measure_questions(
        SHAPE, TINY_VISION, settings, questions=5, answer_tokens=2, rounds=2, warmup=1, on_step=lambda *step: steps.append(step)
    )
    assert looked == [2] * (2 * (1 + 2 * 2))  # a setting: once to warm up, then a round one for all questions and one for the single one
    assert generated == [1] * (2 * (1 + 2 * (5 + 1)))
    assert steps[-1] == ("rounds of questions", 3, 3)
    for row, name in zip(rows, ("unpruned", "random@0.75"), strict=True):
        assert (row.setting, row.questions) == (name, 5)
        assert row.ratio > 0 and row.shared.p10 <= row.shared.median <= row.shared.p90
        assert set(row.shared_ms) == set(STAGES) and all(ms > 0 for ms in (*row.shared_ms.values(), *row.single_ms.values()))
        assert sum(row.shared_ms.values()) <= 1e3 * row.shared.p90


def test_the_table_counts_single_questions_as_often_as_there_are() -> None:
    ms = dict.fromkeys(STAGES, 100.0)
    row = QuestionsRow("unpruned", 3, Timing(0.5, 0.5, 0.5), Timing(0.25, 0.25, 0.25), 0.6667, ms, ms)
    table = questions_table("t", [row])
    assert table.rows[0] == ["unpruned", "3 of one keyframe", "100", "100", "100", "100", "100", "0.50", "0.667"]
    assert table.rows[1] == ["unpruned", "3 x one alone", "300", "300", "300", "300", "-", "0.75", "1"]


def test_a_budget_that_cannot_be_is_refused() -> None:
    with pytest.raises(SennaPruneError, match="retention"):
        measure_questions(
            SHAPE, TINY_VISION, [Setting("fastv@0.10", "fastv", {"retention": 0.1})], questions=2, answer_tokens=1, rounds=1, warmup=0
        )


def test_the_command_measures_at_the_7b_width_with_two_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "senna-7b", BenchShape(layers=4, hidden=32, heads=4, vocabulary=300, views=2, text_tokens=60))
    monkeypatch.setattr(bench_vision, "senna_config", lambda hidden: TINY_VISION)
    result = CliRunner().invoke(command, ["--questions", "3", "--rounds", "1", "--warmup", "0"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.output.strip().splitlines()[-1])
    assert document["shape"]["layers"] == 2 and document["answer_tokens"] == 16
    assert [row["setting"] for row in document["questions"]] == ["unpruned", "autoprune@0.60"]
    assert "3 questions of one keyframe" in result.output and "of 3 single ones" in result.output
    ratio = document["questions"][0]["ratio"]
    times = document["questions"][0]
    assert ratio == pytest.approx(times["shared_s"]["median"] / (3 * times["single_s"]["median"]))
