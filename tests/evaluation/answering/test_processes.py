"""Workers as processes beside the engine of one process: equal answers, an error in one line, a death that loses nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.engine import ModelPlace
from senna_autoprune.evaluation.answering.local_engine import LocalEngine
from senna_autoprune.evaluation.answering.open import open_engine
from senna_autoprune.evaluation.answering.process_engine import ProcessEngine
from senna_autoprune.evaluation.config import EvalConfig
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.files.yaml_files import build
from tests.evaluation.conftest import make_place
from tests.senna.tiny import tiny_model, tiny_processor


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelPlace:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return ModelPlace(str(folder), None, "float32", "cpu")


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def engine(model: ModelPlace, said: list[str]) -> Iterator[ProcessEngine]:
    with ProcessEngine(model, 2, said.append) as engine:
        yield engine
    assert not any(seat.process.is_alive() for seat in engine._seats)


def test_answers_are_the_one_process_engines(engine: ProcessEngine, model: ModelPlace, tmp_path: Path, said: list[str]) -> None:
    place = make_place(tmp_path, samples=8)
    (tmp_path / "images" / "5-0.png").unlink()
    result = evaluate(place.config(types="plan,vru"), engine)
    alone = evaluate(place.config(types="plan,vru", out=str(tmp_path / "alone")), LocalEngine.load(model), force=True)
    assert (result.directory / "answers.jsonl").read_bytes() == (alone.directory / "answers.jsonl").read_bytes()
    assert result.failed == alone.failed == 2 * 5
    assert engine.at_work == 2 and engine.start_up_s is not None
    assert len(said) == 1 and said[0].startswith("2 workers ready after ")
    assert result.metrics["run"]["machine"]["threads"] == 1


def test_an_impossible_set_up_is_one_line(tmp_path: Path) -> None:
    missing = ModelPlace(str(tmp_path / "nowhere"), None, "float32", "cpu")
    with ProcessEngine(missing, 1, print) as engine, pytest.raises(SennaPruneError, match="nowhere"):
        engine.facts()


def test_a_killed_worker_ends_the_run_and_the_same_command_continues(model: ModelPlace, tmp_path: Path) -> None:
    place = make_place(tmp_path, samples=6)
    seen: list[Any] = []
    with ProcessEngine(model, 2, print) as engine:

        def kill(row: Any, done: int, total: int) -> None:
            seen.append(row)
            if len(seen) == 7:
                for seat in engine._seats:
                    os.kill(seat.process.pid, signal.SIGKILL)

        with pytest.raises(SennaPruneError, match=r"it was killed.*the same command continues"):
            evaluate(place.config(), engine, on_row=kill)
    assert 7 <= len(seen) < 30
    finished = evaluate(place.config(), LocalEngine.load(model))
    assert len((finished.directory / "answers.jsonl").read_text().splitlines()) == 30


def test_the_configuration_says_who_asks(model: ModelPlace) -> None:
    config = EvalConfig(model=model.model, workers=2, device="cpu")
    lines: list[str] = []
    opened = open_engine(config, lines.append)
    assert isinstance(opened, ProcessEngine) and "2 processes of one thread" in lines[0]
    with pytest.raises(SennaPruneError, match="the local engine's workers share a CPU"):
        build(EvalConfig, {"workers": 2, "device": "meta"}, "here")
    assert EvalConfig(workers=1).workers == 1
