"""Every link of a page leads somewhere, also on the built site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import DOCS, PAGES, ROOT, anchors, links, name_of, text_of


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        assert not fragment or fragment in anchors(target), f"{name_of(page)}: {link}: {sorted(anchors(target))}"
        assert DOCS not in page.parents or target.is_relative_to(DOCS), f"{name_of(page)}: {link} leaves the site"


def test_every_page_is_reached_from_the_first() -> None:
    seen, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file():
                waiting.append(target)
    assert sorted(map(name_of, seen)) == sorted(name_of(page) for page in DOCS.rglob("*.md"))


def test_every_picture_is_shown() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page) if link.endswith(".png")}
    assert shown == set(DOCS.rglob("*.png"))


def test_the_site_is_built_of_these_pages() -> None:
    site = yaml.safe_load((ROOT / "configs" / "mkdocs.yml").read_text(encoding="utf-8"))
    assert (ROOT / "configs" / site["docs_dir"]).resolve() == DOCS and "nav" not in site  # every page is listed, by its heading


def test_the_readme_is_two_pages() -> None:
    readme = text_of(ROOT / "README.md")
    assert len(readme.splitlines()) <= 120
    for words in ("costs nothing measurable", "nothing measurable"):
        assert all(words not in " ".join(text_of(page).split()) for page in PAGES), words


def test_files_that_pages_name_are_there() -> None:
    """Paths in code spans: below the repository or the package, or beside the path named before in the same table row or sentence."""
    for page in PAGES:
        for line in text_of(page).splitlines():
            folder = ROOT
            for path in re.findall(r"`((?:[\w.-]+/)+[\w-]+\.(?:yaml|json|md|txt)|(?:[\w.-]+/)*[\w-]+\.py)`", line):
                places = [ROOT / path, ROOT / "senna_autoprune" / path, folder / path, page.parent / path]
                found = next((place for place in places if place.exists()), None)
                if path not in MADE:
                    assert found is not None, f"{name_of(page)}: {path}"
                    folder = found.parent


MADE = {"mymethods.py"}  # by the reader
