"""docs/your_model.md followed literally; waypoints against real futures; an adapter of a family that is not built in."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from senna_autoprune import SennaPruneError
from senna_autoprune.adapters.answers import Waypoints
from senna_autoprune.adapters.schema import Score
from senna_autoprune.adapters.waypoints import waypoint_row
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.nuscenes.futures import Future, future_of
from senna_autoprune.nuscenes.scenes import load_tables
from tests.families.test_commands import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your_model.md"
RUN = ("--retention", 0.5, "--max-new-tokens", 3, "--resamples", 100, "--no-controls")


def test_the_pages_yaml_runs_with_l2_and_collisions(family, questions, frames, tmp_path):
    """The file as it stands on the page, by the page's own command."""
    text = PAGE.read_text()
    (yaml,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(yaml.splitlines()) <= 26
    (tmp_path / "my-model.yaml").write_text(yaml)
    (command,) = [line for line in text.splitlines() if line.startswith("senna-prune eval --model my-model ")]
    here = {"my-model": family("qwen2_5_vl")[0], "my-model.yaml": tmp_path / "my-model.yaml", "/data/nuscenes": frames}
    words = [str({**here, "questions.json": questions["senna"]}.get(word, word)) for word in command.split()[1:]]
    printed = run(*words, "--out", tmp_path / "run", *RUN)
    assert "Waypoints: 2 questions of type plan" in printed
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    entry = metrics["settings"]["unpruned"]["measures"]["plan"]
    assert entry["kind"] == "waypoints" and entry["unlabelled"] == 0 and "plan" not in metrics["settings"]["unpruned"]
    assert set(entry["measures"]["l2_m"]) == set(entry["measures"]["collision_rate"]) == {"stp3", "uniad"}
    with RunStore.read(tmp_path / "run") as store:
        (first, _), (sent, missing) = store.questions(), next(iter(store.sent().values()))
    assert sent.startswith("<|im_start|>system\nYou drive a car.<|im_end|>") and sent.count("<|image_pad|>") == 3 and missing == 0
    assert re.search(r"The speed is \d+ m/s and the command is (go straight|turn)", sent)
    kept, true = Future.of(first.future), future_of(load_tables(frames, "v1.0-mini"), first.token)
    assert kept.to_dict() == true.to_dict()
    on_the_path = Waypoints(true.path, 0.5)  # the stored truth measures as the tables do: the true path has no error and no collision
    assert set(waypoint_row(on_the_path, kept, Score()).values()) == {0.0}


ADAPTER = '''
from senna_autoprune.adapters.answers import Choice, Invalid
from senna_autoprune.adapters.checkpoint import load_checkpoint
from senna_autoprune.adapters.schema import adapter_of
from senna_autoprune.adapters.stock import StockModel


class Shouting(StockModel):
    """Says its letter anywhere, and wants to be shouted at."""

    adapter = adapter_of({"name": "shouting", "views": {"max_pixels": 1024, "min_pixels": 64}}, "shouting")

    def __init__(self, model, dtype="float32", device="cpu"):
        super().__init__(load_checkpoint(model, None, dtype, device), type(self).adapter)

    def _parts(self, asked, pictures):
        return [part.upper() if isinstance(part, str) else part for part in super()._parts(asked, pictures)]

    def parse(self, text, question_type, question):
        letters = [letter for letter in text if letter in "ABCD"]
        return Choice(letters[0]) if letters else Choice("ABCD"[len(text) % 4]) if text else Invalid(text, "silent")
'''


def test_an_adapter_in_python(family, questions, frames, tmp_path, monkeypatch):
    assert len(ADAPTER.strip().splitlines()) <= 40
    (tmp_path / "shouting_model.py").write_text(ADAPTER)
    monkeypatch.syspath_prepend(tmp_path)
    model, _ = family("qwen2_5_vl")
    config = json.loads((model / "config.json").read_text())
    strange = tmp_path / "strange"
    strange.mkdir()
    for file in model.iterdir():
        (strange / file.name).symlink_to(file)
    asked = ("--questions", questions["drivelm"], "--images", frames, "--types", "choice", "--out", tmp_path / "run", *RUN)
    run("eval", "--model", strange, "--adapter", "shouting_model:Shouting", *asked)
    sys.modules.pop("shouting_model", None)  # the report needs no code of the adapter
    monkeypatch.undo()
    assert config["model_type"] == "qwen2_5_vl"
    run("report", tmp_path / "run", "--no-replay")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    measured = metrics["settings"]["unpruned"]["measures"]["choice"]
    assert measured["measures"]["unreadable"] == 0 and measured["kind"] == "choice"
    with RunStore.read(tmp_path / "run") as store:
        rows, sent = store.answers(), store.sent()
    assert all(row.said in "ABCD" for row in rows) and all("PLEASE SELECT" in text for text, _ in sent.values())
    changed = ADAPTER.replace('"ABCD"[len(text) % 4]', '"ABCD"[len(text) % 3]')
    (tmp_path / "shouting_model.py").write_text(changed)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(SennaPruneError, match=r"made with other settings \(adapter_code shouting_model\.py: "):
            run("eval", "--model", strange, "--adapter", "shouting_model:Shouting", *asked)
        sys.modules.pop("shouting_model", None)
    with pytest.raises(Exception, match="cannot be imported"):
        run("eval", "--model", strange, "--adapter", "shouting_model:Shouting", *asked)
