"""Pipes and devices in the place of files, at every door: nobody waits for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.hostile.case import Corpus, Place
from tests.hostile.tables import build
from tests.hostile.world import VERSION

CASES = Corpus("pipe")
REFUSED = r"no regular file|no plain file|not a file|is neither a|unreadable|has no table\.json yet"


def _pipe(path: Path) -> Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def _device(path: Path) -> Path:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")
    return path


def _everywhere(name: str, make: Callable[[Place, Callable[[Path], Path]], list[str]], line: str = REFUSED) -> None:
    CASES.add(f"{name} is a pipe", lambda place: make(place, _pipe), line)
    CASES.add(f"{name} is a device", lambda place: make(place, _device), line)


def _of_checkpoint(file: str, original: bool = False) -> Callable[[Place, Callable[[Path], Path]], list[str]]:
    def make(place: Place, put: Callable[[Path], Path]) -> list[str]:
        model = place.checkpoint(original)
        put(model / file)
        return place.evaluate(model=model)

    return make


for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"):
    _everywhere(f"{file} of a checkpoint", _of_checkpoint(file))
_everywhere("tokenizer.model of an original checkpoint", _of_checkpoint("tokenizer.model", original=True))


def _questions(place: Place, put: Callable[[Path], Path]) -> list[str]:
    return place.evaluate(put(place.questions()))


def _inspected(place: Place, put: Callable[[Path], Path]) -> list[str]:
    return ["questions", "inspect", str(put(place.questions()))]


def _converted(place: Place, put: Callable[[Path], Path]) -> list[str]:
    place.run.mkdir()
    return ["questions", "convert", str(put(place.questions())), "--images", str(place.input), "--out", "run/out.json"]


def _sidecar(place: Place, put: Callable[[Path], Path]) -> list[str]:
    questions = place.questions()
    put(Path(f"{questions}.meta.json"))
    return place.evaluate(questions)


def _configured(place: Place, put: Callable[[Path], Path]) -> list[str]:
    return [*place.evaluate(), "--config", str(put(place.input / "eval.yaml"))]


def _adapted(place: Place, put: Callable[[Path], Path]) -> list[str]:
    return [*place.evaluate(), "--adapter", str(put(place.input / "adapter.yaml"))]


def _table(place: Place, put: Callable[[Path], Path]) -> list[str]:
    root = place.tables()
    place.run.mkdir()
    put(root / VERSION / "scene.json")
    return build(root)


def _run_config(place: Place, put: Callable[[Path], Path]) -> list[str]:
    put(place.finished() / "config.yaml")
    return ["report", "run", "--no-replay"]


def _sweep_table(place: Place, put: Callable[[Path], Path]) -> list[str]:
    run = place.finished()
    (run / "config.yaml").write_text("sweep: {}\n")
    put(run / "table.json")
    return ["report", "run", "--no-replay"]


for name, make in {
    "a question file": _questions,
    "a question file to be inspected": _inspected,
    "a question file to be converted": _converted,
    "a sidecar": _sidecar,
    "a configuration": _configured,
    "an adapter": _adapted,
    "a table": _table,
    "a run's config.yaml": _run_config,
    "a sweep's table.json": _sweep_table,
}.items():
    _everywhere(name, make)
