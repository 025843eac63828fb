"""Which run is this: what may change between a kill and the same command again, and what is refused, named in one line."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.runs.identity import ANSWERS, CONFIG
from senna_autoprune.evaluation.runs.rows import AnswerRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.yaml_files import read_yaml
from senna_autoprune.replay.setup import prepare
from tests.evaluation.conftest import Place, counting_senna, make_place
from tests.senna.tiny import views

ROWS, BEFORE = 4, 3  # of a run of two planning questions, unpruned and pruned; and when it was killed


class Killed(Exception):
    pass


@pytest.fixture
def begun(tmp_path: Path) -> Place:
    """A run that ended after ``BEFORE`` of its ``ROWS`` answers."""
    (tmp_path / "data").mkdir()
    place = make_place(tmp_path / "data", samples=2)

    def on_row(row: AnswerRow, done: int, total: int) -> None:
        assert total == ROWS
        if done == BEFORE:
            raise Killed

    with pytest.raises(Killed):
        evaluate(config(place), counting_senna().senna, on_row=on_row)
    return place


def config(place: Place, **changes: Any) -> Any:
    return place.config(types="plan", controls=False, **changes)


def asked_again(place: Place, **changes: Any) -> int:
    """The same command: how many answers it still asks for."""
    asked = counting_senna()
    assert evaluate(config(place, **changes), asked.senna).rows == ROWS
    return asked.generated


def refused(place: Place, asked: Any = None, **changes: Any) -> str:
    with pytest.raises(SennaPruneError) as caught:
        evaluate(config(place, **changes), (asked or counting_senna()).senna)
    assert "\n" not in str(caught.value)
    with RunStore.read(place.folder / "run") as store:
        assert store.counts()[0] in (0, BEFORE)  # nothing was added, nothing lost
    return str(caught.value)


def seen_images(place: Place) -> list[Path]:
    with RunStore.read(place.folder / "run") as store:
        return [place.folder / one.image for one in store.seen()]


# --- images -----------------------------------------------------------------------------------------------------------


def test_every_image_of_an_answer_is_noted(begun: Place) -> None:
    assert len(set(seen_images(begun))) == 6  # two samples of three views
    assert asked_again(begun) == ROWS - BEFORE
    assert len(seen_images(begun)) == 6


def test_an_image_of_the_same_size_and_date_and_another_content(begun: Place) -> None:
    image = seen_images(begun)[1]
    before, content = image.stat(), bytearray(image.read_bytes())
    content[-20] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (image.stat().st_size, image.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert f"{image} is not the image that answers of {begun.folder / 'run'} were made from (same size" in refused(begun)


def test_two_images_that_changed_places(begun: Place) -> None:
    one, other, *_ = seen_images(begun)
    one.rename(one.with_suffix(".away"))
    other.rename(one)
    one.with_suffix(".away").rename(other)
    assert "is not the image" in refused(begun)


def test_another_folder_of_images(begun: Place, tmp_path: Path) -> None:
    for sample in range(2):
        for index, view in enumerate(views(3, seed=sample + 7)):
            path = tmp_path / "others" / "images" / f"{sample}-{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            view.save(path)
    assert "--images" in refused(begun, images=str(tmp_path / "others"))


def test_a_replay_of_other_images(begun: Place) -> None:
    """What it shows is what the run has seen; of questions that it does not show nothing is compared."""
    assert asked_again(begun) == ROWS - BEFORE
    run = begun.folder / "run"

    def shown(token: str) -> list[str]:
        named = {"model": "m", "images": str(begun.questions.parent)}
        job = prepare(scene=token, run=str(run), out=str(begun.folder / "shown.html"), **named)
        return [image for shot in job.source.shots for image in shot.question.images]

    image = Path(shown("t1")[0])
    assert str(image) not in shown("t0")
    image.write_bytes(image.read_bytes()[:-1] + b"?")
    with pytest.raises(SennaPruneError, match=rf"{image} is not the image that answers of {run} were made from \(same size"):
        shown("t1")
    assert len(shown("t0")) == 3


def _copied(place: Place) -> dict[str, Any]:
    for image in shutil.copytree(place.folder, place.folder.parent / "copy").glob("images/*"):
        os.utime(image, (1, 1))
    return {"images": str(place.folder.parent / "copy")}


def _linked(place: Place) -> dict[str, Any]:
    (place.folder.parent / "link").symlink_to(place.folder)
    return {"images": str(place.folder.parent / "link")}


def _moved(place: Place) -> dict[str, Any]:
    (place.folder / "images").rename(place.folder.parent / "images")
    return {"images": str(place.folder.parent)}


def _touched(place: Place) -> dict[str, Any]:
    for image in (place.folder / "images").iterdir():
        os.utime(image, (5, 5))
        image.chmod(0o600)
    return {}


@pytest.mark.parametrize("change", [_copied, _linked, _moved, _touched])
def test_the_same_images_elsewhere_are_the_same(begun: Place, change: Callable[[Place], dict[str, Any]]) -> None:
    assert asked_again(begun, **change(begun)) == ROWS - BEFORE


def test_images_that_are_gone_are_said(begun: Place, caplog: pytest.LogCaptureFixture) -> None:
    asked_again(begun)
    seen_images(begun)[0].unlink()
    with caplog.at_level(logging.WARNING):
        assert asked_again(begun) == 0
    assert "1 images that answers" in caplog.text


# --- the model's other files ------------------------------------------------------------------------------------------


def _shorter(asked: Any) -> None:
    asked.senna.processor.prompt_max_length -= 1


def _brighter(asked: Any) -> None:
    asked.senna.processor.image_processor.image_mean = [0.1, 0.2, 0.3]


def _ended(asked: Any) -> None:
    asked.senna.model.generation_config.eos_token_id = 5


def _other_weights(asked: Any) -> None:
    parameter = next(asked.senna.model.parameters())
    parameter.data[0] += 1e-3


def _other_tokenizer(asked: Any) -> None:
    asked.senna.processor.tokenizer.add_tokens(["zebra"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_shorter, "processor_sha256"),
        (_brighter, "processor_sha256"),
        (_ended, "generation_config_sha256"),
        (_other_weights, "weights_sha256"),
        (_other_tokenizer, "tokenizer_sha256"),
    ],
)
def test_a_changed_model_is_named(begun: Place, change: Callable[[Any], None], named: str) -> None:
    asked = counting_senna()
    change(asked)
    message = refused(begun, asked)
    assert named in message and "made with other settings" in message
    assert message.count("_sha256") == 1  # and nothing else is blamed


# --- the database -----------------------------------------------------------------------------------------------------


def test_another_runs_database(begun: Place, tmp_path: Path) -> None:
    other = tmp_path / "other"
    evaluate(config(begun, out=str(other)), counting_senna().senna)
    shutil.copy(other / ANSWERS, begun.folder / "run" / ANSWERS)
    with pytest.raises(SennaPruneError, match=r"is another run's \(\w{8} there, \w{8} in config.yaml\), not the database that this run"):
        evaluate(config(begun), counting_senna().senna)


@pytest.mark.parametrize("empty", [lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_an_emptied_database(begun: Place, empty: Callable[[Path], None]) -> None:
    empty(begun.folder / "run" / ANSWERS)
    with pytest.raises(SennaPruneError, match="is empty or was made before, not the database that this run began: put it back"):
        evaluate(config(begun), counting_senna().senna)


def test_answers_that_a_finished_run_has_lost(begun: Place) -> None:
    asked_again(begun)
    with sqlite3.connect(begun.folder / "run" / ANSWERS) as connection:
        connection.execute("DELETE FROM answers WHERE question = 0")
    with pytest.raises(SennaPruneError, match=r"holds 2 answers, answers.jsonl beside it 4: some were lost"):
        evaluate(config(begun), counting_senna().senna)


def test_killed_while_it_began(begun: Place) -> None:
    """Before there was a database, and before config.yaml named it: both begin."""
    run = begun.folder / "run"
    described = read_yaml(run / CONFIG)
    named = described.pop("database")
    for database in (False, True):
        (run / CONFIG).write_text(yaml.safe_dump(described))
        if database:
            with sqlite3.connect(run / ANSWERS) as connection:
                connection.execute("DELETE FROM answers")
        else:
            (run / ANSWERS).unlink()
        with RunStore.start(run, described, []) as store:
            assert store.counts()[0] == 0
        assert read_yaml(run / CONFIG)["database"] != named


def test_a_run_made_before_goes_on_with_a_note(begun: Place, caplog: pytest.LogCaptureFixture) -> None:
    run = begun.folder / "run"
    described = read_yaml(run / CONFIG)
    del described["database"], described["identity"]["processor_sha256"], described["identity"]["generation_config_sha256"]
    (run / CONFIG).write_text(yaml.safe_dump(described))
    with sqlite3.connect(run / ANSWERS) as connection:
        connection.executescript("DROP TABLE run; DROP TABLE seen;")
    with caplog.at_level(logging.WARNING):
        assert asked_again(begun) == ROWS - BEFORE
    assert [record.getMessage().split(" runs ")[1] for record in caplog.records] == [
        "noted their processor, generation config: it goes on, that is not compared",
        "named their databases: it goes on, that is not compared",
        "noted their images: it goes on, they are not compared",
    ]
    image = begun.folder / "images" / "0-0.png"
    image.write_bytes(image.read_bytes() + b"x")
    assert asked_again(begun) == 0  # of its first answers the images are not known
