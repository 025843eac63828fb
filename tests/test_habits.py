"""What the project says of itself in several files is the same in all of them."""

from __future__ import annotations

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

import senna_autoprune

ROOT = Path(__file__).resolve().parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def made(target: str) -> str:
    """The commands that a target of the Makefile would run."""
    command = ["make", "--dry-run", "--always-make", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_one_version():
    setup = ConfigParser()
    setup.read_string(text("setup.cfg"))
    released = re.findall(r"^## \[(\d[^\]]*)\]", text("CHANGELOG.md"), flags=re.MULTILINE)
    versions = {senna_autoprune.__version__, setup["metadata"]["version"], yaml.safe_load(text("CITATION.cff"))["version"], released[0]}
    assert versions == {senna_autoprune.__version__}


def test_the_changelog_keeps_its_form():
    heads = re.findall(r"^## (.*)$", text("CHANGELOG.md"), flags=re.MULTILINE)
    assert heads[0] == "[Unreleased]" and all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head) for head in heads[1:])
    kinds = set(re.findall(r"^### (.*)$", text("CHANGELOG.md"), flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_names_all_papers():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["message"]
    papers = {paper["identifiers"][0]["value"]: paper for paper in citation["references"]}
    assert {"arXiv:2509.23931", "arXiv:2410.22313"} <= papers.keys()
    assert all(author["family-names"] for paper in papers.values() for author in paper["authors"])


@pytest.mark.parametrize("name", ["new_method", "new_model", "fault"])
def test_issue_templates_have_a_head(name: str):
    _, head, body = text(f".github/ISSUE_TEMPLATE/{name}.md").split("---\n", 2)
    assert {"name", "about", "title", "labels"} == yaml.safe_load(head).keys() and body.strip()


def test_every_target_that_contributing_names_is_there():
    named = set(re.findall(r"`make ([a-z-]+)`", text("CONTRIBUTING.md") + text("CHANGELOG.md")))
    assert {"test-fast", "test", "test-lmms", "lint", "docs", "bench", "mutants", "hooks"} <= named
    for target in sorted(named):
        assert made(target), target


def test_the_fast_tests_are_there():
    """A file that moved away would otherwise take its tests out of `make test-fast` without a word."""
    asked = re.search(r"pytest -q (.*)", made("test-fast"))[1].split()
    assert asked and all((ROOT / path).exists() for path in asked)


def test_hooks_fetch_nothing():
    for repository in yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]:
        assert repository["repo"] == "local"
        assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in repository["hooks"])
