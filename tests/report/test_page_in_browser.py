"""The report in a real browser: it fits, is legible in both schemes, obeys the keyboard, prints; hostile strings stay text."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.replay.browser import chromium, errors, resize


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def file(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


WIDTHS = pytest.mark.parametrize("width", [1280, 390])
SCHEMES = pytest.mark.parametrize("dark", [False, True])


@WIDTHS
@SCHEMES
def test_loads_fits_and_is_legible(driver: Any, file: Path, width: int, dark: bool) -> None:
    resize(driver, width, 900, dark)
    driver.get(file.as_uri())
    assert errors(driver) == []
    assert driver.execute_script("return document.documentElement.scrollWidth") == width
    loaded = driver.execute_script("return [...document.images].map((i) => i.complete && i.naturalWidth)")
    assert len(loaded) == 3 and all(loaded)
    wide = driver.execute_script(
        "return [...document.querySelectorAll('svg, img, table')].filter((n) => !n.closest('.scroll') && "
        "n.getBoundingClientRect().right > innerWidth).length"
    )
    assert wide == 0
    first, more = driver.execute_script(STICKY)
    assert first == 0 and (more or width > 390)  # the setting stays in sight, and the table goes on to the right
    low = driver.execute_script(CONTRAST)
    assert low == []
    sizes = driver.execute_script("return [...document.querySelectorAll('svg text')].map((t) => t.getBoundingClientRect().height)")
    assert min(sizes) > 8


# how far the first column moves when the main table is scrolled, and whether it can be
STICKY = """
const box = document.querySelector('#plan-table').closest('.scroll'), name = box.querySelector('tbody th');
const before = name.getBoundingClientRect().left, more = box.scrollWidth > box.clientWidth;
box.scrollLeft = 80;
const moved = name.getBoundingClientRect().left - before;
box.scrollLeft = 0;
return [Math.round(moved), more];
"""

# texts whose colour is too near to their background's (WCAG 2 AA: 4.5)
CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = (text) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (node) => {
  const layers = [];
  for (let n = node; n && layers.at(-1)?.[3] !== 255; n = n.parentElement) layers.push(rgba(getComputedStyle(n).backgroundColor));
  return layers.reverse().reduce((under, c) => under.map((v, i) => v + (c[i] - v) * c[3] / 255), [255, 255, 255]);
};
const found = [];
for (const node of document.querySelectorAll('body *')) {
  if (!node.checkVisibility() || ![...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  const svg = node.namespaceURI.endsWith('svg'), style = getComputedStyle(node);
  const a = light(rgba(svg ? style.fill : style.color)), b = light(behind(node));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) found.push([node.tagName, node.textContent.trim().slice(0, 30), ratio.toFixed(2)]);
}
return found;
"""


def test_the_keyboard_reaches_everything(driver: Any, file: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    resize(driver, 390, 900)
    driver.get(file.as_uri())
    reached = []
    for _ in range(60):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        element = driver.switch_to.active_element
        if element.tag_name == "body":
            break
        outline = driver.execute_script("return getComputedStyle(arguments[0]).outlineStyle", element)
        assert outline == "solid"
        reached.append((element.tag_name, element.get_dom_attribute("href") or element.get_dom_attribute("aria-labelledby")))
    assert reached[0] == ("a", "#main") and reached[-1][0] == "summary"  # hashes and paths are folded, and last
    assert [name for tag, name in reached if tag == "div"] == [
        "summary-table", "plan-table", "confusion-1", "confusion-2", "confusion-3", "confusion-4", "recall-table", "flips-table",
        "cost-table", "information-table", "breakdown-table",
    ]  # fmt: skip
    assert [name for _, name in reached if name and name.startswith("flips.html")] == [
        "flips.html", "flips.html#frame=1", "flips.html#frame=2", "flips.html#frame=3"
    ]  # fmt: skip
    driver.get(file.as_uri())
    driver.switch_to.active_element.send_keys(Keys.TAB, Keys.ENTER)
    assert driver.execute_script("return document.activeElement.id") == "main"


def test_it_prints_on_white_with_whole_tables(driver: Any, file: Path) -> None:
    resize(driver, 720, 900, dark=True)
    driver.get(file.as_uri())
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    try:
        assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert driver.execute_script("return getComputedStyle(document.querySelector('nav')).display") == "none"
        assert driver.execute_script("return getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 720
        pdf = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
        assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@WIDTHS
@SCHEMES
def test_hostile_strings_stay_text_in_the_browser(driver: Any, attack: Path, width: int, dark: bool) -> None:
    resize(driver, width, 900, dark)
    driver.get(attack.as_uri())
    assert errors(driver) == []
    assert driver.execute_script("return window.attacked") is None
    assert driver.execute_script("return document.querySelectorAll('script, img[src=x], body svg[onload]').length") == 0
    assert driver.execute_script("return document.documentElement.scrollWidth") == width
    assert "<script>window.attacked=1</script>" in driver.execute_script("return document.querySelector('h1').textContent")
