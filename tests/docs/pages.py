"""The pages a user reads, and what stands in them: links, headings, commands, code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_PROGRAMS = ("senna-prune", "make", "python tools/", ".venv-lmms/bin/senna-prune")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language; "" for those without one."""
    return [body for kind, body in _FENCE.findall(text_of(page)) if kind == language]


def links(page: Path) -> list[str]:
    """Targets of links and pictures outside fenced blocks."""
    return _LINK.findall(_FENCE.sub("", text_of(page)))


def anchors(page: Path) -> set[str]:
    """Headings as the fragments that forges and the site's builder make of them."""
    heads = re.findall(r"^#+ (.*)$", _FENCE.sub("", text_of(page)), flags=re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", head.lower()).strip()) for head in heads}


def commands(page: Path) -> list[list[str]]:
    """Every command of ours as words: lines of blocks without a language and code spans; variables in front are dropped.

    A line that ends in a backslash goes on; what follows a # is a comment.
    """
    lines = "\n".join(blocks(page, "")).replace("\\\n", " ").splitlines()
    prose = _FENCE.sub("", text_of(page))
    spans = re.findall(r"`((?:[A-Z_]+=\S+ )*(?:senna-prune|make|python tools/)[^`\n]*)`", prose)
    lines += [re.sub(r"[\[\]]", "", span) for span in spans]  # brackets: may be left out
    found = []
    for line in lines:
        words = shlex.split(line.strip().removeprefix("$ "), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if "senna-prune" in words[1:] and words[:2] == ["ray", "job"]:
            words = words[words.index("senna-prune") :]
        if words and " ".join(words).startswith(_PROGRAMS):
            found.append(words)
    return found
