"""Tables of pages say what the code and the committed results say."""

from __future__ import annotations

import pytest

from senna_autoprune.pruning.methods.facts import method_facts
from senna_autoprune.pruning.methods.registry import METHODS
from tests.docs import readme_table
from tests.docs.pages import DOCS, ROOT, text_of


def rows(text: str) -> dict[str, list[str]]:
    """First cell, without backticks -> the other cells, of every table row."""
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_readmes_table_follows_from_the_results() -> None:
    assert "\n".join(readme_table.lines()) in text_of(ROOT / "README.md")


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_described_as_they_are(name: str) -> None:
    paper, cuts, *rest = rows(text_of(DOCS / "methods.md"))[name]
    facts = method_facts(name)
    assert (paper, cuts) == (facts.paper, facts.cuts)
    needs = rest[1]
    assert ("[CLS] attention" in needs) == ("[CLS]" in facts.acts_on), needs
    assert ("keys" in needs) == ("keys" in facts.needs)
    assert rest[-1].startswith("one") == (cuts == "before the decoder")
