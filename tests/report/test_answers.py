"""The page of all answers: every question, searched and filtered in a browser; hostile strings stay text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.report import answers
from senna_autoprune.report.answers import answer_rows, render_answers
from senna_autoprune.report.run import Run, read_run
from tests.replay.browser import chromium, errors, resize
from tests.report.rendering import REPLAYS, hostile


def embedded(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_every_question_is_there(run: Run) -> None:
    rows = answer_rows(run, REPLAYS)
    assert [row["number"] for row in rows] == [question.question for question in run.questions]
    harmful = sum(row["kind"] == "harmful" for row in rows)
    assert harmful == run.metrics["flips"][run.method]["harmful"] > 0
    for row in rows:
        if row["right"][1] is not None:
            assert row["right"][1] == (row["pruned"] == row["label"])
    assert {row["number"]: row["frame"] for row in rows if row["frame"]} == dict(REPLAYS.frames)


def test_what_is_left_out_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_ROWS", 2)
    page = render_answers(run, None)
    assert len(embedded(page)["rows"]) == 2 and f"{len(run.questions) - 2} further questions are not in this page" in page


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_search_and_filters(driver: Any, run: Run, tmp_path: Path, width: int, dark: bool) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    file = tmp_path / "answers.html"
    file.write_text(render_answers(run, REPLAYS), encoding="utf-8")
    resize(driver, width, 900, dark)
    driver.get(file.as_uri())
    assert errors(driver) == [] and driver.execute_script("return document.documentElement.scrollWidth") == width
    shown = "return [...document.querySelectorAll('#rows th')].map((n) => Number(n.textContent))"
    rows = answer_rows(run, REPLAYS)
    assert driver.execute_script(shown) == [row["number"] for row in rows]
    links = driver.execute_script("return [...document.querySelectorAll('#rows a')].map((a) => a.getAttribute('href'))")
    assert sorted(links) == sorted(f"flips.html#frame={frame}" for frame in REPLAYS.frames.values())
    chosen = Select(driver.find_element(By.ID, "kind"))
    chosen.select_by_visible_text("harmful")
    assert driver.execute_script(shown) == [row["number"] for row in rows if row["kind"] == "harmful"]
    chosen.select_by_visible_text("all")
    driver.find_element(By.ID, "search").send_keys("zzzz")
    assert driver.execute_script(shown) == [] and "none of" in driver.find_element(By.ID, "count").text


def test_hostile_strings_stay_text(driver: Any, tmp_path: Path) -> None:
    file = tmp_path / "answers.html"
    file.write_text(render_answers(read_run(hostile(tmp_path / "run").write()), REPLAYS), encoding="utf-8")
    driver.get(file.as_uri())
    assert errors(driver) == [] and driver.execute_script("return window.attacked") is None
    assert driver.execute_script("return document.documentElement.dataset.ready") == "true"
    assert driver.execute_script("return document.querySelectorAll('main script, img[src=x]').length") == 0
