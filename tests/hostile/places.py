"""What a stranger's run folder points to on the user's machine, or beyond it: opened only after the user names it himself."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from tests.hostile.case import Corpus, Place

CASES = Corpus("what a run points to")
Change = Callable[[Path, Place], object]


def named(place: Place, *left_out: str) -> list[str]:
    """The options that name the good world again."""
    options = {"--model": place.world.checkpoint, "--images": place.world.questions.parent}
    return [text for option, value in options.items() if option not in left_out for text in (option, str(value))]


def flipped(place: Place, setting: str = "autoprune") -> Path:
    """The finished run with an answer that changed, so that there is something to replay."""
    run = place.finished()
    connection = sqlite3.connect(run / "answers.sqlite")
    with connection:
        connection.execute("UPDATE answers SET answer = 'KEEP, STRAIGHT' WHERE setting = 'unpruned'")
        connection.execute("UPDATE answers SET answer = 'STOP, STRAIGHT' WHERE setting = 'autoprune'")
        connection.execute("UPDATE answers SET setting = ? WHERE setting = 'autoprune'", (setting,))
    connection.close()
    return run


def pointing(run: Path, key: str, value: object) -> None:
    """``places`` of the run with another value."""
    path = run / "config.yaml"
    text = re.sub(f"(?m)^  {key}: .*\n", "", path.read_text())
    path.write_text(re.sub("(?m)^places:\n", f"places:\n  {key}: {json.dumps(str(value))}\n", text))


def users(place: Place, name: str) -> Path:
    """Something of the user's that the guard lets nobody read."""
    home = place.canary.parent / name
    if name == "adapter.yaml":
        home.write_text("name: mine\n")
        return home
    shutil.copytree(place.world.questions.parent if name == "pictures" else place.world.checkpoint, home)
    for picture in home.glob("images/*"):
        picture.write_bytes(picture.read_bytes() + b"another than the run's")
    return home


def _points(name: str, key: str, value: Callable[[Place], object], option: str, line: str, left_out: str = "") -> None:
    """A run that points to ``value``: a replay refuses, showing ``option``; a report is written without a replay."""

    def replayed(place: Place) -> list[str]:
        pointing(flipped(place), key, value(place))
        return ["replay", "--run", "run", *named(place, option, left_out), "--flips", "all", "--out", "run/replay"]

    def reported(place: Place) -> list[str]:
        pointing(flipped(place), key, value(place))
        return ["report", "run", "--replay", *named(place, option, left_out)]

    CASES.add(f"{name} (replayed)", replayed, line)
    CASES.add(f"{name} (reported)", reported, r"^(?!.*flips\.html)run/report\.html", 0)


_points(
    "a checkpoint of the user's",
    "model",
    lambda place: users(place, "checkpoint"),
    "--model",
    r"run was answered with (\S+/home/checkpoint): name it again to open it: --model \1$",
)
_points("a hub id", "model", lambda _: "some-one/some-model", "--model", r"name it again to open it: --model some-one/some-model$")
_points("an address", "model", lambda _: "https://some.one/model", "--model", r"--model https://some\.one/model$")
_points("a share of the network", "model", lambda _: "//some.one/share", "--model", r"--model //some\.one/share$")
_points("a name with a shell's words", "model", lambda _: "m; touch pwned", "--model", r"--model 'm; touch pwned'$")
_points("a way back from the embedded model", "model", lambda place: Path(_embedded(), "..", "..", "..", ".."), "--model", r"--model \S+$")
_points(
    "a vision tower of the user's",
    "vision_tower",
    lambda place: users(place, "tower"),
    "--vision-tower",
    r"was answered with the vision tower (\S+/home/tower): name it again to open it: --vision-tower \1$",
)
_points("a vision tower of the hub", "vision_tower", lambda _: "some-one/tower", "--vision-tower", r"--vision-tower some-one/tower$")
_points(
    "images of the user's",
    "images_root",
    lambda place: users(place, "pictures"),
    "--images",
    r"was answered with the images in (\S+/home/pictures): name it again to open it: --images \1$",
)
_points("the whole disk", "images_root", lambda _: "/", "--images", r"--images /$")
_points("an adapter of the user's", "adapter", lambda place: users(place, "adapter.yaml"), "--adapter", r"the adapter .*--adapter \S+yaml$")
_points(
    "an adapter that is a program", "adapter", lambda _: "this:s", "--adapter", r"--adapter this:s; this:s is a program: only if you trust"
)
_points(
    "both model and images of the user's",
    "model",
    lambda place: users(place, "checkpoint"),
    "--model",
    r"name them again to open them: --model \S+ --images \S+$",
    "--images",
)


def _embedded() -> Path:
    from senna_autoprune.demo import embedded

    found = embedded()
    assert found is not None
    return found.model_dir


# --- pictures that lead out of the folder that was named --------------------------------------------------------------


def _picture(name: str, image: Callable[[Place], str], line: str) -> None:
    """The first picture of every question is another, which the run never noted."""

    def make(place: Place) -> list[str]:
        run = flipped(place)
        picture = users(place, "pictures") / "images" / "0-0.png"
        assert picture.is_file()
        connection = sqlite3.connect(run / "answers.sqlite")
        with connection:
            connection.execute("UPDATE questions SET images = json_set(images, '$[0]', ?)", (image(place),))
        connection.close()
        return ["replay", "--run", "run", *named(place), "--flips", "all", "--out", "run/replay"]

    CASES.add(f"a picture {name}", make, line)


_picture(
    "by its whole name",
    lambda place: str(place.canary.parent / "pictures" / "images" / "0-0.png"),
    r"run names the picture \S+/home/pictures/images/0-0\.png, which is not under \S+/questions: name a folder .* --images$",
)
_picture("that climbs out", lambda _: "../" * 30 + "etc/hostname", r"names the picture .*etc/hostname, which is not under")
_picture("that climbs out from within", lambda _: "images/../../checkpoint/x.png", r"which is not under")


# --- programs ---------------------------------------------------------------------------------------------------------


def _method(run: Path, name: str) -> None:
    """The run's method is a program. name: of its setting."""
    path = run / "config.yaml"
    text = path.read_text().replace("method: autoprune\n", "method: run.evil:Evil\n")
    path.write_text(text.replace("  autoprune:\n", f"  {name}:\n").replace("  method: run.evil:Evil\n  ", f"  method: {name}\n  ", 1))
    (run / "evil.py").write_text("open('pwned', 'w')\n")


@CASES.case("a method that is a program (replayed)", r"the method run\.evil:Evil: .* --method run\.evil:Evil; .* is a program")
def _replayed(place: Place) -> list[str]:
    _method(flipped(place), "autoprune")
    return ["replay", "--run", "run", *named(place), "--flips", "all", "--out", "run/replay"]


@CASES.case("a method that is a program, its setting named (replayed)", r"the method run\.evil:Evil: .* is a program")
def _named_setting(place: Place) -> list[str]:
    _method(flipped(place), "autoprune")
    return ["replay", "--run", "run", *named(place), "--method", "autoprune", "--flips", "all", "--out", "run/replay"]


@CASES.case("a method that is a program (reported)", r"^(?!.*flips\.html)run/report\.html", 0)
def _reported(place: Place) -> list[str]:
    _method(flipped(place, "run.evil:Evil"), "run.evil:Evil")
    return ["report", "run", "--replay", *named(place)]


# --- whatever else opens a run folder asks no model and opens nothing of it -------------------------------------------

READERS = {
    "report": (["report", "run", "--csv", "run/answers.csv"], r"report\.html"),
    "compare": (["compare", "run", "run", "--setting-b", "unpruned"], r"no verdict"),
    "curves": (["curves", "run"], r"curves-0\.6\.png"),
    "runs": (["runs", "."], r"autoprune"),
}
for command, (argv, said) in READERS.items():

    def make(place: Place, argv: list[str] = argv) -> list[str]:
        run = flipped(place)
        for key, name in {"model": "checkpoint", "vision_tower": "tower", "images_root": "pictures", "adapter": "adapter.yaml"}.items():
            pointing(run, key, users(place, name))
        for key in ("questions", "tables"):
            pointing(run, key, place.canary)
        return argv

    CASES.add(f"everything of the user's, in {command}", make, said, 0)
