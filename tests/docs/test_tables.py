"""Tables of pages say what the code and the committed results say."""

from __future__ import annotations

import json

import pytest

from senna_autoprune.pruning.methods.facts import method_facts
from senna_autoprune.pruning.methods.registry import METHODS
from tests.docs import readme_table
from tests.docs.pages import DOCS, ROOT, blocks, text_of
from tests.docs.readme_eval import METRICS, printed
from tests.test_house import ROOMS


def rows(text: str) -> dict[str, list[str]]:
    """First cell, without backticks -> the other cells, of every table row."""
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_readmes_table_follows_from_the_results() -> None:
    assert "\n".join(readme_table.lines()) in text_of(ROOT / "README.md")


def test_the_readme_shows_exactly_what_eval_printed() -> None:
    assert f"```text\n{printed()}\n```" in text_of(ROOT / "README.md")


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
