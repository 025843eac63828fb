"""Tables of pages say what the code and the committed results say."""

from __future__ import annotations

import json

import pytest

from senna_autoprune.pruning.methods.facts import method_facts
from senna_autoprune.pruning.methods.registry import METHODS
from tests.docs import readme_budget, readme_table
from tests.docs.pages import DOCS, ROOT, blocks, text_of
from tests.docs.readme_eval import METRICS, printed
from tests.test_house import ROOMS
from tools.maintain import verdict

CONTROLS = ("random-lengths", "random", "uniform")
EMPTY = {"budget": None, "at": None, "sequence": [], "stopped": "20 %: out of reach", "together": False}
NO_VERDICT = {
    "sentence": "a sentence",
    "warning": None,
    "measure": "accuracy",
    "margins": {"margin": 0.05, "safety": 0.1, "source": "stated"},
    "halves": {"choose": [], "certify": ["a"] * 67, "stops": [22, 45, 67]},
    "controls": [],
}


def rows(text: str) -> dict[str, list[str]]:
    """First cell, without backticks -> the other cells, of every table row."""
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_table_of_methods_follows_from_the_results() -> None:
    page = text_of(DOCS / "results" / "README.md")
    assert "\n".join(readme_table.lines()) in page and "\n".join(readme_table.lines_by_type()) in page
    assert "\n".join(readme_table.lines_by_budget()) in page and "\n".join(readme_table.lines("test_split")) in page
    assert "\n".join(readme_table.lines_of_interaction()) in page and "\n".join(readme_table.lines_of_slopes()) in page
    assert "\n".join(readme_table.lines_by_band()) in page and "\n".join(readme_table.lines_of_survival()) in page
    assert "\n".join(readme_table.lines_of_positions()) in page


def test_what_repeating_shapes_cost_follows_from_the_results() -> None:
    """docs/speed.md: the three budgets of every row but the one without options are those of the committed table."""
    found = rows(text_of(DOCS / "results" / "shapes" / "table.md").split("by constructed complexity")[0])
    told = rows(text_of(DOCS / "speed.md").split("## Shapes that repeat")[1].split("\n## ")[0])
    expected = {
        name.removeprefix("autoprune:").replace("autoprune", "as it is"): cells for name, cells in found.items() if "autoprune" in name
    }
    shown = {name: cells[2:] for name, cells in told.items() if name in expected}
    assert len(shown) == 7 and shown == {name: [cell.removesuffix(" R+") for cell in expected[name]] for name in shown}


def test_the_readme_shows_exactly_what_eval_printed() -> None:
    assert f"```text\n{printed()}\n```" in text_of(ROOT / "README.md")


def test_the_readme_leads_with_the_verdict_as_it_was_printed() -> None:
    """Once ``make verdict`` has run: its certificate and the README's first blocks come and go together."""
    readme = text_of(ROOT / "README.md")
    assert readme_budget.CERTIFICATE.is_file() == (verdict.HEADING in readme)
    if readme_budget.CERTIFICATE.is_file():
        found = readme_budget.certificate()
        assert verdict.write_block(readme, readme_budget.printed(found)) == readme
        assert readme.index(verdict.HEADING) < readme.index(verdict.NEXT)
        assert verdict.page_of(found, readme_budget.command_of(found)) == text_of(readme_budget.CERTIFICATE.with_name("verdict.md"))
        for page, (begin, _) in verdict.ROWS.items():
            assert begin in text_of(ROOT / page)


def test_the_readme_keeps_two_pages_with_the_verdict_in_it() -> None:
    """Whether or not it is there yet: every method of the registry in a row, the most notes that there are."""
    each = [{**EMPTY, "method": name, "kind": "control" if name in CONTROLS else "method"} for name in METHODS]
    found = {**NO_VERDICT, "each": each, "power": "20 % would need about 220 scenes"}
    page = verdict.write_block(text_of(ROOT / "README.md"), readme_budget.printed(found))
    assert len(page.splitlines()) <= 120


def test_a_verdict_is_written_where_it_belongs_and_again_over_itself() -> None:
    page = f"# A tool\n\n{verdict.NEXT}\n\n```\nmake eval\n```\n\n```text\nanother\n```\n"
    once = verdict.write_block(page, "25 % is safe")
    assert once.startswith(f"# A tool\n\n{verdict.HEADING}\n\nOn the plan questions") and once.endswith(page.partition(verdict.NEXT)[2])
    assert once.index("```text\n25 % is safe\n```") < once.index(verdict.NEXT)
    assert verdict.write_block(once, "25 % is safe") == once
    assert verdict.write_block(once, "none") == once.replace("25 % is safe", "none")
    with pytest.raises(ValueError, match=r"no .* with a block"):
        verdict.write_block("# A page", "")


def test_a_row_is_put_in_its_place_and_again_over_itself() -> None:
    page = "| a | b |\n|---|---|\n| the table | 1 |\n"
    once = verdict.write_row(page, "| mine |", " 2 |", "| the table |")
    assert once.splitlines()[2:] == ["| mine | 2 |", "| the table | 1 |"]
    assert verdict.write_row(once, "| mine |", " 3 |", "| the table |") == once.replace("2 |", "3 |")
    with pytest.raises(ValueError, match="no row"):
        verdict.write_row("# A page\n", "| mine |", " 2 |", "| the table |")
    for name, (begin, before) in verdict.ROWS.items():
        assert begin in verdict.write_row(text_of(ROOT / name), begin, " |", before)


def test_that_run_agrees_with_the_table_of_methods() -> None:
    """Both are of the same questions and seeds: accuracy and retention at 25 % are the same figures; the table's intervals are older."""
    table = json.loads((DOCS / "results" / "table3" / "table.json").read_text(encoding="utf-8"))
    settings = json.loads(METRICS.read_text(encoding="utf-8"))["settings"]
    found = {name: table["plain"][name] for name in ("unpruned", "no-image", "majority")}
    cells = [cell for cell in table["cells"] if cell["budget"] == "0.25"]
    found |= {cell["row"]: cell for cell in cells if cell["row"] in ("autoprune", "random", "uniform")}
    for name, measured in found.items():
        plan = settings[name]["plan"]
        assert plan["exact_accuracy"] == pytest.approx(measured["accuracy"]["value"], abs=1e-9)
        if name != "unpruned":
            assert plan["retention"]["exact_accuracy"]["value"] == pytest.approx(measured["retention"]["value"], abs=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_described_as_they_are(name: str) -> None:
    paper, cuts, *rest = rows(text_of(DOCS / "methods.md"))[name]
    facts = method_facts(name)
    assert (paper, cuts) == (facts.paper, facts.cuts)
    needs = rest[1]
    assert ("[CLS] attention" in needs) == ("[CLS]" in facts.acts_on), needs
    assert ("keys" in needs) == ("keys" in facts.needs)
    assert rest[-1].startswith("one") == (cuts == "before the decoder")


def test_the_picture_shows_the_laws_rooms_in_their_order() -> None:
    (picture,) = blocks(DOCS / "architecture.md", "text")
    lines = [line.split()[0] for line in picture.splitlines()]
    place = -1
    for room in ROOMS:
        leaf = room.rpartition(".")[2]
        assert leaf in lines[place + 1 :], f"docs/architecture.md: {room} is not shown, or not in its place"
        place += 1 + lines[place + 1 :].index(leaf)
