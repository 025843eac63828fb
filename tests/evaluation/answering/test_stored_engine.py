"""A finished run without its model: only where nothing can have changed, and the model all the same where something is left to ask."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering import stored_engine
from senna_autoprune.evaluation.answering.engine import ModelPlace
from senna_autoprune.evaluation.answering.open import open_engine
from senna_autoprune.evaluation.answering.stamp import stamp_of
from senna_autoprune.evaluation.answering.stored_engine import facts_of_finished
from senna_autoprune.evaluation.evaluate import evaluate
from tests.evaluation.conftest import Place
from tests.senna.tiny import tiny_model, tiny_processor


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def at(model: Path | str, tower: str | None = None, adapter: str | None = None) -> ModelPlace:
    return ModelPlace(str(model), tower, "float32", "cpu", adapter)


def test_a_stamp_changes_with_every_file(tmp_path: Path) -> None:
    model, tower, adapter = tmp_path / "model", tmp_path / "tower", tmp_path / "adapter.yaml"
    (model / "inner").mkdir(parents=True)
    tower.mkdir()
    files = [model / "a.safetensors", model / "inner" / "b.json", tower / "c.json", adapter]
    for file in files:
        file.write_text("{}")
    seen = {stamp_of(at(model, str(tower), str(adapter)))}
    for file in files:
        os.utime(file, ns=(1, 1))
        seen.add(stamp_of(at(model, str(tower), str(adapter))))
    (model / "new.json").write_text("{}")
    seen.add(stamp_of(at(model, str(tower), str(adapter))))
    assert None not in seen and len(seen) == len(files) + 2


def test_the_tower_that_an_original_checkpoint_names_counts(tmp_path: Path) -> None:
    model, tower = tmp_path / "model", tmp_path / "clip"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"mm_vision_tower": str(tower)}))
    before = stamp_of(at(model))
    tower.mkdir()
    (tower / "config.json").write_text("{}")
    assert before is not None and stamp_of(at(model)) not in (None, before)


@pytest.mark.parametrize("place", [at("owner/name"), at("/", adapter="package.module:Class")])
def test_what_no_files_tell(place: ModelPlace) -> None:
    assert stamp_of(place) is None


def run(place: Place, checkpoint: Path, **more: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    config = place.config(model=str(checkpoint), controls=False, **more)
    with open_engine(config, said.append, place.folder / "run") as engine:
        return evaluate(config, engine, retry_failed=True), said


def test_only_a_finished_run_of_the_same_files_and_packages(place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = at(checkpoint)
    assert facts_of_finished(place.folder / "run", where) is None
    first, said = run(place, checkpoint)
    assert said[0].startswith("loading")
    known = facts_of_finished(place.folder / "run", where)
    assert known is not None and known.identity["weights_sha256"] and known.versions["torch"]
    again, said = run(place, checkpoint)
    assert "not loaded" in said[0] and again.metrics["settings"] == first.metrics["settings"]
    monkeypatch.setattr(stored_engine, "versions", lambda: {**known.versions, "torch": "0"})
    assert facts_of_finished(place.folder / "run", where) is None


def test_failed_answers_are_asked_again_by_the_model(place: Place, checkpoint: Path) -> None:
    picture = place.folder / "images" / "1-0.png"
    whole = picture.read_bytes()
    picture.write_bytes(b"broken")
    assert run(place, checkpoint)[0].failed == 2
    picture.write_bytes(whole)
    found, said = run(place, checkpoint)
    assert found.failed == 0 and ["not loaded" in said[0], said[1].startswith("loading")] == [True, True]


def test_another_model_behind_the_same_stamp_is_refused(place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.folder / "images" / "1-0.png").write_bytes(b"broken")
    run(place, checkpoint)
    loaded = stored_engine.facts_of_finished

    def lying(directory: Path, where: ModelPlace) -> Any:
        found = loaded(directory, where)
        assert found is not None
        found.identity["weights_sha256"] = "f" * 64
        return found

    monkeypatch.setattr(stored_engine, "facts_of_finished", lying)
    config = place.folder / "run" / "config.yaml"
    stored = facts_of_finished(place.folder / "run", at(checkpoint))
    assert stored is not None
    config.write_text(config.read_text().replace(stored.identity["weights_sha256"], "f" * 64))
    with pytest.raises(SennaPruneError, match="not the one that this run was made with"):
        run(place, checkpoint)
