"""The report as a page: what it says, one file without links and scripts, strings that stay strings."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from senna_autoprune.evaluation.sweep.cells import cells_of
from senna_autoprune.evaluation.sweep.config import SweepConfig
from senna_autoprune.report.page import SECTIONS, confusions, headline, lead
from senna_autoprune.report.run import Run, read_run
from senna_autoprune.report.thumbnails import GAP, TILE, thumbnail
from senna_autoprune.survival.measure import ObjectSurvival
from senna_autoprune.survival.run import Survived
from senna_autoprune.survival.write import result_of, write
from tests.report.rendering import Outline, rendered
from tests.report.runs import VIEWS, made, trace

# --- what it says -----------------------------------------------------------------------------------------------------


def test_headline_by_hand(run: Run) -> None:
    cards = {card.name: card for card in headline(run.metrics)}
    assert cards["Planning accuracy, unpruned → pruned"].value == "83.3 % → 66.7 %"
    assert cards["Retention of accuracy"].value.startswith("80.0 % [")
    assert cards["Harmful flips"].value == "2" and "3 changed" in cards["Harmful flips"].detail
    assert cards["Prefill speed-up, measured"].value == "2.00×" and "2.50×: 0.80" in cards["Prefill speed-up, measured"].detail
    assert cards["Visual tokens kept"].value == "50.0 %"
    assert "right where random is wrong: 3, the reverse: 1" in cards["Retention of random at the same budget"].detail
    said = lead(run.metrics)
    assert "83.3 % unpruned and 66.7 % pruned" in said and "random 40.0 %" in said and "no-image 40.0 %" in said and "majority" in said


def test_nothing_is_retained_of_nothing(tmp_path: Path) -> None:
    broken = made(tmp_path)
    broken.answers = [replace(row, answer="?") if row.setting == "unpruned" else row for row in broken.answers]
    run = read_run(broken.write())
    card = next(card for card in headline(run.metrics) if card.name == "Retention of accuracy")
    assert (card.value, card.detail) == ("n/a", "the unpruned model got nothing right")
    assert "Retained" not in lead(run.metrics)
    assert "retention: n/a (unpruned accuracy is 0" in rendered(run)


def test_confusion_before_and_after(run: Run) -> None:
    found = {one.title: one for one in confusions(run.metrics)}
    assert list(found) == ["Speed, unpruned", "Speed, pruned (autoprune)", "Path, unpruned", "Path, pruned (autoprune)"]
    before, after = found["Speed, unpruned"], found["Speed, pruned (autoprune)"]
    assert before.columns == ["KEEP", "ACCELERATE", "DECELERATE", "STOP", "invalid"]
    counts = {label: [count for count, _, _ in cells] for label, cells, _ in after.rows}
    assert counts == {"KEEP": [2, 0, 0, 1, 0], "DECELERATE": [0, 0, 2, 0, 0], "STOP": [1, 0, 0, 0, 0]}
    assert {label: recall for label, _, recall in before.rows} == {"KEEP": "100.0 %", "DECELERATE": "50.0 %", "STOP": "100.0 %"}
    assert [right for _, _, right in after.rows[0][1]] == [True, False, False, False, False]


def test_all_that_a_report_must_have(page: str) -> None:
    for words in (
        "What was run", "variant navigation", "weights sha256", "a1a1a1", "b2b2b2", "transformers", "5.23",  # run
        "unpruned", "random-answer", "majority", "no-image", "95 % interval", "McNemar",  # controls
        "Speed, unpruned", "Path, pruned", "missed brake", "false brake", "repaired",  # confusion and flips
        "vision", "prefill", "of it\npruning", "decode", "FLOPs\nbound", "reached",  # cost
        "Mann-Whitney", "tokens,\nlast quarter", "speed band", "5-9 m/s",  # information and conditions
    ):  # fmt: skip
        assert words in page, words
    assert "embedded model" not in page


def test_the_verdict_comes_first_and_hashes_last(run: Run, page: str) -> None:
    places = [page.index(f'<section id="{name}"') for name in SECTIONS if f'<section id="{name}"' in page]
    assert places == sorted(places) and [*SECTIONS][:1] + [*SECTIONS][-1:] == ["short", "run"]
    assert page.index(run.metrics["verdict"]["sentence"]) < page.index("<table") < page.index("<details>") < page.index("sha256")
    assert str(run.directory) not in page.split("<footer>")[0].split("<details>")[0].replace(f"--run {run.directory}", "")
    flips = next(card for card in headline(run.metrics) if card.name == "Harmful flips")
    assert "of scenes have one (95 %)" in flips.detail


def test_what_was_not_measured_is_said_so(tmp_path: Path) -> None:
    old = made(tmp_path)
    old.answers = [
        replace(row, decode_ms=None, trace=row.trace and {key: value for key, value in row.trace.items() if key != "pruner_ms"})
        for row in old.answers
    ]
    table = rendered(read_run(old.write())).split('id="cost-table"')[1].split("</table>")[0]
    assert table.count("not measured") == 4 + 4 + 4 + 2  # pictures, decode and whole question of four settings, pruning of two


def test_an_unfinished_run_with_failures_says_so(tmp_path: Path) -> None:
    part = made(tmp_path)
    part.answers = [row for row in part.answers if (row.question, row.setting) != (0, "no-image")]
    part.answers = [
        replace(row, status="failed", answer=None, reason="broken image", trace=None) if row.question == 1 else row for row in part.answers
    ]
    page = rendered(read_run(part.write()))
    assert "unfinished: 23 of 24 answers are there" in page
    assert "about the 4 of 6 questions" in page
    assert "4 answers of 1 samples failed; the first: sample t1" in page and "broken image" in page


def test_a_method_without_mutual_information_says_so(tmp_path: Path) -> None:
    plain = made(tmp_path)
    plain.answers = [row if row.trace is None else replace(row, trace=trace(None)) for row in plain.answers]
    page = rendered(read_run(plain.write()))
    assert "no planning answer of autoprune has mutual information" in page and "Mann-Whitney" not in page


def test_questions_that_are_not_about_planning(tmp_path: Path) -> None:
    seen = made(tmp_path)
    seen.questions = [replace(row, type="vru", label="No, I don't see any.\n") for row in seen.questions]
    page = rendered(read_run(seen.write()))
    assert "Vulnerable road users" in page and "Confusion before and after" not in page and 'href="#confusion"' not in page


def test_flips_beyond_the_pictures_are_listed_in_words(run: Run) -> None:
    page = rendered(run, flips=1)
    assert page.count('<a class="shot"') == 1 and 'href="flips.html#frame=1"' in page
    rest = page.split('id="flips-rest"')[1].split("</table>")[0]
    assert rest.count("<tr") == 1 + 2 and "false brake" in rest and "repaired" in rest
    without = rendered(run, None)
    assert "flips.html" not in without and "senna-prune replay --run" in without


def test_views_are_placed_as_round_the_car(tmp_path: Path) -> None:
    row = made(tmp_path).questions[0]
    names = ("front", "front right", "front left", "back", "back left", "back right")
    paths = [tmp_path / image for image in row.images]
    found = thumbnail(paths, names)
    assert found is not None
    source, size = found
    picture = Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))
    assert picture.size == size == (3 * TILE[0] + 2 * GAP, 2 * TILE[1] + GAP)
    for place, name in enumerate(("front left", "front", "front right", "back left", "back", "back right")):
        middle = (place % 3 * (TILE[0] + GAP) + 50, place // 3 * (TILE[1] + GAP) + 50)
        index = names.index(name)
        pixel = picture.getpixel(middle)
        assert isinstance(pixel, tuple) and abs(pixel[0] - 40 * index) < 12, VIEWS[index]
    assert thumbnail(paths[:2], ("", ""))[1] == (2 * TILE[0] + GAP, TILE[1])  # type: ignore[index]
    paths[3].unlink()
    assert thumbnail(paths, names) is None


def test_no_picture_but_the_one_that_was_answered(tmp_path: Path) -> None:
    run = read_run(made(tmp_path).write())
    shown = rendered(run).count('src="data:image')
    assert shown > 0 and rendered(replace(run, seen={})).count('src="data:image') < shown
    Image.new("RGB", (32, 18), (1, 2, 3)).save(tmp_path / run.questions[0].images[2])
    assert rendered(run).count('src="data:image') < shown


# --- the page ---------------------------------------------------------------------------------------------------------


def test_one_file_without_links_and_scripts(page: str) -> None:
    outline = Outline(page)
    assert not outline.all("script") and not outline.all("iframe")
    links = [found["href"] or "" for found in outline.all("a")]
    assert links and all(link.startswith(("#", "flips.html", "answers.html")) for link in links)
    assert all((found["src"] or "").startswith("data:image/") for found in outline.all("img"))
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", page)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'\"" in page
    assert {found["href"] for found in outline.all("link")} == {"data:,"}


def test_it_can_be_read_without_seeing_it(page: str) -> None:
    outline = Outline(page)
    assert outline.headings[0] == 1 and outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert len(outline.ids) == len(set(outline.ids))
    ids = set(outline.ids)
    for _, found in outline.elements:
        assert set((found.get("aria-labelledby") or "").split()) <= ids
    assert all((found["href"] or "")[1:] in ids for found in outline.all("a") if (found["href"] or "").startswith("#"))
    assert outline.all("html")[0]["lang"] == "en"
    for landmark in ("header", "nav", "main", "footer"):
        assert len(outline.all(landmark)) == 1
    assert all(found.get("scope") in ("col", "row") for found in outline.all("th"))
    assert len(outline.all("table")) == len(outline.all("caption"))
    assert all(found.get("alt") for found in outline.all("img"))
    graphs = outline.all("svg")
    assert len(graphs) == len(outline.all("figure")) == len(outline.all("figcaption")) == 6
    assert all(found["role"] == "img" and len(found["aria-label"] or "") > 60 for found in graphs)


def test_what_graphs_say_to_those_who_do_not_see_them(page: str) -> None:
    said = [found["aria-label"] or "" for found in Outline(page).all("svg")]
    assert "unpruned 83.3 %" in said[0] and "autoprune 66.7 %" in said[0]
    assert "autoprune: vision 5.0, pruning 1.5, prefill 8.5, decode 3.0" in said[1]
    assert "pruned, wrong: 2 questions, median 0.150" in said[3]
    assert "speed band 5-9 m/s: 83.3 % unpruned, 66.7 % pruned" in said[5]


def test_graphs_take_the_colours_of_the_page(page: str) -> None:
    graph = page.split("<svg")[1].split("</svg>")[0]
    assert "var(--accent)" in graph and "var(--text)" in graph and "a1b2" not in page
    assert "<!--" not in page and "<metadata" not in page
    assert "<text" in graph and "planning accuracy" in graph  # text stays text


# --- strings of strangers ---------------------------------------------------------------------------------------------


def test_hostile_strings_are_no_markup(attack: Path) -> None:
    page = attack.read_text(encoding="utf-8")
    outline = Outline(page)
    assert not outline.all("script")
    assert not [name for _, found in outline.elements for name in found if name.startswith("on")]
    assert {(found["src"] or "")[:11] for found in outline.all("img")} == {"data:image/"}
    assert "49" not in page.split("<header>")[1].split("</header>")[0]
    assert page.count("&lt;script&gt;window.attacked=1") > 20 and "<!--" not in page
    assert len(outline.all("svg")) == 6


def test_survival_of_evidence_has_a_section_where_it_was_measured(tmp_path: Path) -> None:
    run = read_run(made(tmp_path).write())
    assert 'id="survival"' not in rendered(run)
    rows = [ObjectSurvival("autoprune@0.25", 0, "s", "pedestrian", "0-10 m", "front", np.array([1.0, 0.5]), np.array([1.0, 0.25]))]
    cells = cells_of(SweepConfig(questions="q", methods=("autoprune",), retention=(0.25,)), None)
    name = next(cell.setting.name for cell in cells if cell.row.label == "autoprune")
    write(result_of(Survived([replace(row, setting=name) for row in rows], samples=1), cells, "boxes", None), run.directory)
    page = rendered(run)
    assert 'id="survival"' in page and "Survival of evidence" in page and "pedestrian" in page and "50.0 %" in page
