"""What ``make verdict`` printed, made again from the committed certificate of that run.

python -m tests.docs.readme_budget    # prints the blocks of README.md that follow from docs/results/budget/budget.json
"""

from __future__ import annotations

import io
import json
import shlex
from typing import Any

from rich.console import Console

from senna_autoprune.cli.budget import show
from senna_autoprune.cli.screen import WIDE
from senna_autoprune.demo import LABEL
from senna_autoprune.evaluation.budget.config import EMBEDDED
from tests.docs.pages import DOCS

CERTIFICATE = DOCS / "results" / "budget" / "budget.json"


def certificate() -> dict[str, Any]:
    return json.loads(CERTIFICATE.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def command_of() -> str:
    """The command that makes this certificate again: what differs from its defaults."""
    asked = certificate()["run"]["config"]
    grid = ",".join(f"{share:g}" for share in asked["grid"])
    words = ["senna-prune", "budget", "--each", "--methods", ",".join(asked["methods"]), "--grid", grid]
    if {name: asked[name] for name in EMBEDDED} != EMBEDDED:
        words += ["--margin", f"{asked['margin']:g}", "--safety", f"{asked['safety']:g}"]
    return shlex.join(words)


def printed() -> str:
    """What it is made with, the sentence, the table and its notes, without trailing blanks."""
    screen = io.StringIO()
    screen.write(f"{LABEL}\n")
    show(certificate(), Console(file=screen, width=WIDE, highlight=False), full=False)
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines()).strip()


if __name__ == "__main__":
    print(command_of(), printed(), sep="\n\n")
