"""What ``make verdict`` printed, made again from the committed certificate of that run.

python -m tests.docs.readme_budget    # prints command and block of README.md as they follow from docs/results/budget/budget.json
"""

from __future__ import annotations

import io
import json
import shlex
from typing import Any

from rich.console import Console

from senna_autoprune.cli.budget import show
from senna_autoprune.cli.screen import WIDE
from senna_autoprune.evaluation.budget.config import EMBEDDED
from tests.docs.pages import DOCS

CERTIFICATE = DOCS / "results" / "budget" / "budget.json"


def certificate() -> dict[str, Any]:
    return json.loads(CERTIFICATE.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def command_of(found: dict[str, Any]) -> str:
    """The command that makes this certificate again: what differs from its defaults."""
    asked = found["run"]["config"]
    grid = ",".join(f"{share:g}" for share in asked["grid"])
    words = ["senna-prune", "budget", "--each", "--methods", ",".join(asked["methods"]), "--grid", grid]
    if {name: asked[name] for name in EMBEDDED} != EMBEDDED:
        words += ["--margin", f"{asked['margin']:g}", "--safety", f"{asked['safety']:g}"]
    return shlex.join(words)


def printed(found: dict[str, Any]) -> str:
    """The sentence, the table and its notes, without trailing blanks; what it is made with is said above the block."""
    screen = io.StringIO()
    show(found, Console(file=screen, width=WIDE, highlight=False), full=False)
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines()).strip()


if __name__ == "__main__":
    print(command_of(certificate()), printed(certificate()), sep="\n\n")
