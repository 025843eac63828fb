"""The page: one file without links, strings that stay strings, and a browser that uses it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from senna_autoprune.errors import visible
from senna_autoprune.replay.frames import Replay
from senna_autoprune.replay.heat import levels, multiples
from senna_autoprune.replay.html import page_data, render_page, script_json
from tests.replay.browser import ATTACKS, chromium, errors, resize


def hostile(replay: Replay) -> Replay:
    """The replay with every string that comes from a checkpoint, a question file or the tables replaced."""
    frames = []
    for index, frame in enumerate(replay.frames):
        text = ATTACKS[index % len(ATTACKS)] + "".join(ATTACKS)
        question = replace(frame.shot.question, text=text, label=text, scene=text, token=text)
        row = replace(frame.pruned, answer=text, reason=text)
        shot = replace(frame.shot, question=question, views=(text, *frame.shot.views[1:]))
        frames.append(replace(frame, shot=shot, unpruned=row, pruned=replace(row, answer=text[1:])))
    text = "".join(ATTACKS)
    changed = {"title": text, "description": text, "method": text, "budget": text}
    return replace(replay, frames=frames, notes=[text], model={text: text}, **changed)


def embedded_json(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_one_file_without_links(replay: Replay) -> None:
    page = render_page(replay)
    outside = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", outside)  # the SVG name space is a name, not a link
    assert not re.search(r"<(link|script|img|iframe)[^>]*(src|href)=(?!\"data:)", outside)
    assert "default-src 'none'" in page


def test_the_data_say_what_the_frames_hold(replay: Replay) -> None:
    data = embedded_json(render_page(replay))
    assert data == json.loads(json.dumps(page_data(replay)))
    assert data["layers"] == 3 and data["tokens"] == 5 and data["grid"] == 4 and len(data["frames"]) == len(replay.frames)
    for frame, shown in zip(replay.frames, data["frames"], strict=True):
        sight = frame.sight
        assert sight is not None and frame.trace is not None
        assert shown["unpruned"]["text"] == frame.unpruned.answer and shown["pruned"]["text"] == frame.pruned.answer
        assert shown["trace"]["tokens_per_layer"] == frame.trace.tokens_per_layer
        assert "<image>" not in shown["question"] and "SPEED plan" in shown["question"]
        shades = np.frombuffer(base64.b64decode(shown["sight"]["heat"][-1]), np.uint8).reshape(6, 16)
        np.testing.assert_allclose(shades / 255, levels(multiples(sight.heat[-1], sight.full > 0), replay.heat_top), atol=0.003)
        bits = np.unpackbits(np.frombuffer(base64.b64decode(shown["sight"]["kept"][-1]), np.uint8))[:30]
        assert (bits.reshape(6, 5) == sight.kept[-1]).all()
        share = np.frombuffer(base64.b64decode(shown["sight"]["share"][0]), np.uint8).reshape(6, 16)
        assert ((share == 255) == (sight.full > 0)).all()


def test_frames_of_several_scenes_have_no_common_clock(replay: Replay) -> None:
    times = [frame["time_s"] for frame in page_data(replay)["frames"]]
    stamps = [frame.shot.timestamp_us or 0 for frame in replay.frames]
    assert times == [(stamp - stamps[0]) / 1e6 for stamp in stamps]
    first = replay.frames[0]
    other = replace(first, shot=replace(first.shot, question=replace(first.shot.question, scene="another")))
    mixed = page_data(replace(replay, frames=[other, *replay.frames[1:]]))
    assert all(frame["time_s"] is None for frame in mixed["frames"])


@pytest.mark.parametrize("attack", ATTACKS)
def test_json_in_a_script_stays_inside(attack: str) -> None:
    text = script_json({attack: [attack]})
    assert not re.search("[<>&\u2028\u2029]", text) and json.loads(text) == {attack: [visible(attack)]}


def test_hostile_strings_are_no_markup(replay: Replay) -> None:
    page, harmless = render_page(hostile(replay)), render_page(replay)
    for tag in ("<script", "<img", "<svg", "<!--"):
        assert page.count(tag) == harmless.count(tag)
    assert "49" not in page.split("<header>")[1].split("</header>")[0]


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def page(replay: Replay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "replay.html"
    file.write_text(render_page(replay), encoding="utf-8")
    return file


def opened(driver: Any, page: Path, width: int = 1280, dark: bool = False) -> None:
    resize(driver, width, 900, dark)
    driver.get(page.as_uri())
    assert driver.execute_script("return document.documentElement.dataset.ready") == "true"


def said(driver: Any, name: str) -> str:
    return driver.execute_script("return document.getElementById(arguments[0]).textContent", name)


def press(driver: Any, key: str) -> None:
    from selenium.webdriver.common.by import By

    driver.find_element(By.TAG_NAME, "body").send_keys(key)


def slide(driver: Any, name: str, key: str) -> None:
    from selenium.webdriver.common.by import By

    driver.find_element(By.ID, name).send_keys(key)


def lit(driver: Any) -> list[int]:
    """Tokens that the captions count, view by view."""
    texts = driver.execute_script("return [...document.querySelectorAll('figcaption .count')].map((n) => n.textContent)")
    return [int(text.split()[0]) for text in texts]


def pixels(driver: Any) -> str:
    """A fingerprint of all overlays."""
    return driver.execute_script("return [...document.querySelectorAll('.picture canvas')].map((c) => c.toDataURL()).join()")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_loads_and_fits(driver: Any, page: Path, width: int, dark: bool) -> None:
    opened(driver, page, width, dark)
    assert errors(driver) == []
    assert driver.execute_script("return document.documentElement.scrollWidth") == width
    names = driver.execute_script("return [...document.querySelectorAll('figure')].map((f) => f.dataset.view)")
    boxes = driver.execute_script(
        "return [...document.querySelectorAll('figure')].map((f) => f.getBoundingClientRect()).map((r) => [r.left, r.top])"
    )
    place = dict(zip(names, boxes, strict=True))
    assert place["front left"][0] < place["front right"][0] and place["front"][1] < place["back"][1]
    if width == 1280:
        assert place["front left"][0] < place["front"][0] < place["front right"][0]
        assert place["front left"][1] == place["front"][1] == place["front right"][1]
    loaded = driver.execute_script("return [...document.images].map((i) => i.complete && i.naturalWidth)")
    assert len(loaded) == 6 and all(loaded)


def test_frame_slider_and_keys(driver: Any, page: Path, replay: Replay) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(driver, page)
    count = len(replay.frames)
    first = said(driver, "pruned"), pixels(driver), driver.execute_script("return document.images[0].src")
    assert said(driver, "frame-text") == f"1 of {count}"
    slide(driver, "frame", Keys.ARROW_RIGHT)
    assert said(driver, "frame-text") == f"2 of {count}" and said(driver, "pruned") == replay.frames[1].pruned.answer
    assert driver.execute_script("return document.images[0].src") != first[2] and pixels(driver) != first[1]
    driver.execute_script("document.activeElement.blur()")
    press(driver, Keys.ARROW_LEFT)
    assert (said(driver, "pruned"), pixels(driver)) == first[:2]
    press(driver, Keys.END)
    assert said(driver, "frame-text") == f"{count} of {count}"
    press(driver, Keys.ARROW_RIGHT)
    assert said(driver, "frame-text") == f"{count} of {count}"
    driver.execute_script("document.querySelector('#timeline button').click()")
    assert said(driver, "frame-text") == f"1 of {count}" and errors(driver) == []


def test_layer_slider_thins_the_survivors(driver: Any, page: Path, replay: Replay) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(driver, page)
    trace = replay.frames[0].trace
    assert trace is not None
    slide(driver, "layer", Keys.HOME)
    for layer in range(3):
        assert said(driver, "layer-text") == f"{layer} of 0–2"
        assert sum(lit(driver)) == trace.tokens_per_layer[layer]
        before = pixels(driver)
        slide(driver, "layer", Keys.ARROW_RIGHT)
        assert (pixels(driver) != before) == (layer < 2)
    driver.execute_script("document.activeElement.blur()")
    press(driver, Keys.ARROW_UP)
    assert said(driver, "layer-text") == "1 of 0–2" and errors(driver) == []


def test_modes(driver: Any, page: Path) -> None:
    opened(driver, page)
    shown = {}
    for key, mode in (("1", "unpruned"), ("2", "pruned"), ("3", "attribution")):
        press(driver, key)
        assert driver.execute_script("return document.querySelector('input[name=mode]:checked').value") == mode
        shown[mode] = pixels(driver)
        assert (sum(lit(driver)) == 30) == (mode == "unpruned")
    assert len(set(shown.values())) == 3
    driver.execute_script("document.querySelector('input[value=pruned]').click()")
    assert pixels(driver) == shown["pruned"] and errors(driver) == []


def test_it_opens_on_pruned_with_a_key_of_the_scale(driver: Any, page: Path, replay: Replay) -> None:
    opened(driver, page)
    assert driver.execute_script("return document.querySelector('input[name=mode]:checked').value") == "pruned"
    assert said(driver, "key-high") == "100 %"
    press(driver, "3")
    assert said(driver, "key-high") == f"×{replay.heat_top:.1f} and more, a doubling the same step" and "even share" in said(
        driver, "key-low"
    )
    press(driver, "1")
    assert driver.execute_script("return document.getElementById('key').hidden") is True
    assert driver.execute_script("return document.querySelector('#numbers td').textContent") == "question"


def test_space_plays(driver: Any, page: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    opened(driver, page)
    press(driver, " ")
    WebDriverWait(driver, 60).until(lambda d: not said(d, "frame-text").startswith("1 "))
    press(driver, " ")
    assert driver.execute_script("return document.getElementById('play').getAttribute('aria-pressed')") == "false"


def test_flips_are_marked(driver: Any, replay: Replay, tmp_path: Path) -> None:
    answers = [("STOP, STRAIGHT", "KEEP, STRAIGHT"), ("KEEP, STRAIGHT", "KEEP, STRAIGHT")]
    frames = []
    for frame, (before, after) in zip(replay.frames, answers, strict=False):
        question = replace(frame.shot.question, label="STOP, STRAIGHT\n")
        rows = {"unpruned": replace(frame.unpruned, answer=before), "pruned": replace(frame.pruned, answer=after)}
        frames.append(replace(frame, shot=replace(frame.shot, question=question), **rows))
    file = tmp_path / "flips.html"
    file.write_text(render_page(replace(replay, frames=frames)), encoding="utf-8")
    opened(driver, file)
    marks = driver.execute_script("return [...document.querySelectorAll('#timeline button')].map((b) => b.className)")
    assert marks == ["bad", ""]
    assert said(driver, "verdict").startswith("missed brake")
    assert driver.execute_script("return document.getElementById('unpruned').className") == "right"
    assert driver.execute_script("return document.getElementById('pruned').className") == "wrong"
    labels = driver.execute_script("return [...document.querySelectorAll('#timeline button')].map((b) => b.ariaLabel)")
    assert labels == ["frame 1: missed brake", "frame 2: agrees"]


def test_hostile_strings_stay_text_in_the_browser(driver: Any, replay: Replay, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    file, bad = tmp_path / "hostile.html", hostile(replay)
    file.write_text(render_page(bad), encoding="utf-8")
    opened(driver, file)
    assert said(driver, "unpruned") == visible(bad.frames[0].unpruned.answer)
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_DOWN, "1", "2"):
        press(driver, key)
    assert driver.execute_script("return window.attacked") is None
    assert driver.execute_script("return document.querySelectorAll('main script, header script, img[src=x]').length") == 0
    assert errors(driver) == []


def test_a_link_opens_its_frame(driver: Any, page: Path, replay: Replay) -> None:
    count = len(replay.frames)
    for text, shown in (("#frame=2", 2), ("#frame=999999", count), ("#frame=0", 1), ("#frame=x", 1), ("#question", 1)):
        driver.get("about:blank")
        driver.get(page.as_uri() + text)
        assert said(driver, "frame-text") == f"{shown} of {count}"
    driver.execute_script("location.hash = 'frame=2'")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 60).until(lambda d: said(d, "frame-text") == f"2 of {count}")
    assert errors(driver) == []
