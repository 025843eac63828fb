"""The Ray engine beside the local one: equal answers, also when a worker or the driver dies. One cluster for all tests."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from senna_autoprune.cli import main
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering import ray_engine
from senna_autoprune.evaluation.answering.driver import by_scene
from senna_autoprune.evaluation.answering.engine import ModelFacts, ModelPlace, Unit
from senna_autoprune.evaluation.answering.local_engine import LocalEngine
from senna_autoprune.evaluation.answering.open import open_engine
from senna_autoprune.evaluation.answering.questions import load_questions, samples_of
from senna_autoprune.evaluation.answering.ray_engine import DEATHS, RayEngine
from senna_autoprune.evaluation.config import EvalConfig
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.sweep.config import SweepConfig
from senna_autoprune.evaluation.sweep.sweep import in_turn_units, sweep
from senna_autoprune.files.yaml_files import build
from tests.evaluation.conftest import Place, make_place
from tests.senna.tiny import tiny_model, tiny_processor

TIMED = {"prefill_ratio", "total_ratio", "prefill_speedup", "reached"}  # beside all that ends in _ms
WORKERS = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelPlace:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return ModelPlace(str(folder), None, "float32", "cpu")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A local cluster as the engine starts it, with room for a second engine."""
    before = dict(os.environ)
    with ExitStack() as stack:
        ray = ray_engine._import_ray(None)
        ray_engine._connect(ray, None, 2 * WORKERS, stack)
        yield ray
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def engine(cluster: Any, model: ModelPlace, said: list[str]) -> Iterator[RayEngine]:
    with RayEngine(model, WORKERS, 0, None, said.append) as engine:
        yield engine


def _untimed(data: Any) -> Any:
    """Measures without times, machine and folder."""
    if isinstance(data, dict):
        left_out = TIMED | {"machine", "places"}
        return {key: _untimed(value) for key, value in data.items() if key not in left_out and not key.endswith("_ms")}
    return [_untimed(one) for one in data] if isinstance(data, list) else data


def _files(directory: Path) -> tuple[bytes, Any]:
    return (directory / "answers.jsonl").read_bytes(), _untimed(json.loads((directory / "metrics.json").read_text()))


def _locally(place: Place, at: ModelPlace, **changes: Any) -> tuple[bytes, Any]:
    return _files(evaluate(place.config(out=str(place.folder / "local"), **changes), LocalEngine.load(at), force=True).directory)


def test_answers_and_measures_are_the_local_engines(engine: RayEngine, model: ModelPlace, tmp_path: Path) -> None:
    place = make_place(tmp_path, samples=8)
    (tmp_path / "images" / "0-1.png").write_bytes(b"no image")  # nothing is known of the settings after the first sample
    (tmp_path / "images" / "5-0.png").unlink()
    result = evaluate(place.config(types="plan,vru"), engine)
    assert result.failed == 2 * 2 * 5
    assert "0-1.png" in result.metrics["questions"]["failed"][0]["reason"]
    assert result.speed is not None
    assert result.speed.workers <= WORKERS
    assert engine.facts().machine["threads"] == 1
    assert all(row["cost"]["prefill_ms"]["median"] > 0 for row in result.metrics["settings"].values() if "cost" in row)
    assert _files(result.directory) == _locally(place, model, types="plan,vru")


def test_batches_form_as_in_the_local_engine(engine: RayEngine, model: ModelPlace, tmp_path: Path) -> None:
    place = make_place(tmp_path, samples=6)
    assert _files(evaluate(place.config(batch_size=3), engine).directory) == _locally(place, model, batch_size=3)


def test_a_killed_worker_is_replaced_and_its_scene_done_again(
    engine: RayEngine, model: ModelPlace, said: list[str], tmp_path: Path
) -> None:
    place = make_place(tmp_path, samples=12)
    killed: list[int] = []

    def kill_one(row: Any, done: int, total: int) -> None:
        if done == total // 3:
            killed.append(int(engine.processes[0].split()[1]))
            os.kill(killed[0], signal.SIGKILL)

    result = evaluate(place.config(), engine, on_row=kill_one, force=True)
    assert killed
    assert result.failed == 0
    assert any(f"process {killed[0]} " in line and "died" in line for line in said)
    assert not any(f"process {killed[0]} " in name for name in engine.processes)
    assert _files(result.directory) == _locally(place, model)


def test_a_sweep_with_calibration_and_impossible_cells(engine: RayEngine, model: ModelPlace, tmp_path: Path) -> None:
    place = make_place(tmp_path, samples=4)
    found = []
    for name, asked in (("ray", engine), ("local", LocalEngine.load(model))):
        values = {"questions": str(place.questions), "out": str(tmp_path / name), "max_new_tokens": 2, "resamples": 100}
        config = SweepConfig(**values, methods="autoprune,fastv", retention=(0.5, 0.8), ablation="indicators")
        found.append(_files(sweep(config, asked).directory))
    assert found[0] == found[1]
    lines = list(map(json.loads, found[0][0].splitlines()))
    assert {line["status"] for line in lines if line["setting"] == "fastv@0.5"} == {"n/a"}
    assert len({line["reason"] for line in lines if line["setting"] == "fastv@0.5"}) == 1
    assert any("indicator_scale" in line["setting"] for line in lines)


def test_a_wrong_set_up_stops_the_run_and_the_workers_go_on(engine: RayEngine, tmp_path: Path) -> None:
    place = make_place(tmp_path)
    with pytest.raises(SennaPruneError, match="nearest possible"):
        evaluate(place.config(retention=0.01), engine)
    assert evaluate(place.config(controls=False, out=str(tmp_path / "other")), engine).failed == 0


def test_a_killed_driver_resumes_to_the_same_files(cluster: Any, engine: RayEngine, model: ModelPlace, tmp_path: Path) -> None:
    place = make_place(tmp_path, samples=60)
    address = cluster.get_runtime_context().gcs_address
    flags = ["--model", model.model, "--questions", place.questions, "--out", tmp_path / "run", "--retention", "0.6"]
    more = ["--force", "--max-new-tokens", 3, "--resamples", 100, "--engine", "ray", "--ray-address", address]
    command = [sys.executable, "-m", "senna_autoprune", "eval", *map(str, flags + more)]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    total = 60 * 5
    while (rows := _count(tmp_path / "run" / "answers.sqlite")) < total // 20:
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.02)
    driver.kill()
    driver.communicate()
    assert rows <= _count(tmp_path / "run" / "answers.sqlite") < total
    result = evaluate(place.config(model=model.model), engine, force=True)
    assert result.speed is not None
    assert result.speed.answers < total
    assert _files(result.directory) == _locally(place, model, model=model.model)


def _count(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def test_a_model_that_cannot_be_loaded_is_one_line(cluster: Any, tmp_path: Path) -> None:
    place = ModelPlace(str(tmp_path), None, "float32", "cpu")
    with RayEngine(place, 1, 0, None, lambda line: None) as engine, pytest.raises(SennaPruneError, match=r"config\.json") as caught:
        engine.facts()
    assert "\n" not in str(caught.value)


# --- without a cluster ----------------------------------------------------------------------------------------------


def _idle(said: list[str]) -> RayEngine:
    """An engine of one seat over a Ray that starts nothing."""
    engine = RayEngine(ModelPlace("model", None, "float32", "cpu"), 1, 0.5, None, said.append)
    resources = {"cluster_resources": lambda: {"CPU": 4.0}, "available_resources": lambda: {"CPU": 0.0}}
    engine._ray = SimpleNamespace(kill=lambda actor: None, wait=lambda *args, **kwargs: ([], []), **resources)
    engine._start = lambda: (object(), object())  # type: ignore[method-assign]
    engine._seats = [ray_engine._Seat(*engine._start())]
    return engine


def test_workers_that_die_again_and_again_end_the_run() -> None:
    said: list[str] = []
    engine = _idle(said)
    with pytest.raises(SennaPruneError, match=f"could not be started, {DEATHS} times: no memory"):
        for _ in range(DEATHS):
            engine._replace(engine._seats[0], ray_engine._Died("no memory"))
    assert len(said) == DEATHS - 1

    task = ray_engine._Task(Unit(((SimpleNamespace(token="t7"),),), frozenset()))  # type: ignore[arg-type]
    with pytest.raises(SennaPruneError, match=f"{DEATHS} workers died one after the other over the scene of sample t7: why"):
        for _ in range(DEATHS):
            engine._seats[0].name, engine._seats[0].task = "process 1 on here", task
            engine._replace(engine._seats[0], ray_engine._Died("why"))


def test_workers_with_other_weights_or_versions_are_refused() -> None:
    engine = _idle([])
    engine._workers = 2
    first = ModelFacts({"weights_sha256": "a"}, {"torch": "1"}, {}, {})
    engine._welcome(engine._seats[0], first, "process 1 on here")
    assert (engine.at_work, engine.start_up_s) == (1, None)
    for other, word in (
        (ModelFacts({"weights_sha256": "b"}, {"torch": "1"}, {}, {}), "weights_sha256"),
        (ModelFacts({"weights_sha256": "a"}, {"torch": "2"}, {}, {}), "torch"),
    ):
        with pytest.raises(SennaPruneError, match=f"process 2 on there: .*{word}"):
            engine._welcome(ray_engine._Seat(object(), object()), other, "process 2 on there")


def test_it_says_once_what_a_cluster_lacks() -> None:
    said: list[str] = []
    engine = _idle(said)
    assert engine._stirring() == engine._stirring() == []
    assert said == ["no worker has its model yet; a worker takes 1 CPU and 0.5 GPUs, free in the cluster: 0 of 4 CPUs, 0 of 0 GPUs"]


def test_without_ray_it_is_one_line(
    tmp_path: Path, model: ModelPlace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make_place(tmp_path, samples=1)
    monkeypatch.setitem(sys.modules, "ray", None)  # what an import of a missing package meets
    monkeypatch.setattr(os, "environ", dict(os.environ))
    flags = ["--model", model.model, "--questions", str(place.questions), "--engine", "ray"]
    monkeypatch.setattr(sys, "argv", ["senna-prune", "eval", *flags])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("senna-prune: error: --engine ray needs Ray")
    assert "pip install 'senna_autoprune[ray]'" in line


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ray_address": "auto"}, "ray_address belongs to the ray engine"),
        ({"engine": "ray", "gpus_per_worker": 1, "device": "cpu"}, "say device cuda"),
        ({"engine": "ray", "device": "cuda:1"}, "say device cuda"),
        ({"engine": "dask"}, "engine"),
        ({"engine": "ray", "workers": 0}, "workers"),
    ],
)
def test_engine_keys_that_do_not_go_together(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SennaPruneError, match=words):
        build(EvalConfig, values, "here")


def test_a_ray_client_address_is_refused(model: ModelPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setattr(ray_engine, "_import_ray", lambda address: fake)
    config = EvalConfig(model=model.model, engine="ray", ray_address="ray://head:10001")
    with pytest.raises(SennaPruneError, match="--ray-address auto"), open_engine(config, print):
        raise AssertionError("it must not open")


def test_gpus_of_a_worker() -> None:
    gpus = [EvalConfig(engine="ray", device=device).worker_gpus for device in ("cpu", "cuda")]
    assert gpus == [0, 1]
    assert EvalConfig(engine="ray", device="cuda", gpus_per_worker=0.5).worker_gpus == 0.5


def test_work_units(tmp_path: Path) -> None:
    rows, _ = load_questions(make_place(tmp_path, samples=6).config())
    samples = samples_of(rows)

    def tokens(units: list[Any]) -> list[list[str]]:
        return [[sample[0].token for sample in unit] for unit in units]

    assert tokens(by_scene(samples, 1)) == [["t0", "t1"], ["t2", "t3"], ["t4", "t5"]]
    assert tokens(by_scene(samples, 3)) == [["t0", "t1", "t2", "t3"], ["t4", "t5"]]  # a scene is never cut
    assert tokens(in_turn_units(samples, 1)) == [["t0"], ["t2"], ["t4"], ["t1"], ["t3"], ["t5"]]
    assert tokens(in_turn_units(samples, 4)) == [["t0", "t2", "t4", "t1"], ["t3", "t5"]]
