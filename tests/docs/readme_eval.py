"""What `make eval` prints, made again from the committed measures of one run.

python -m tests.docs.readme_eval    # prints the block of README.md that follows from docs/results/eval/metrics.json
"""

from __future__ import annotations

import io
import json

from rich.console import Console

from senna_autoprune.cli.eval_tables import show
from senna_autoprune.tables.summary import COLUMNS
from tests.docs.pages import DOCS

METRICS = DOCS / "results" / "eval" / "metrics.json"


def printed() -> str:
    """The verdict, the table and its notes, without trailing blanks."""
    screen = io.StringIO()
    show(json.loads(METRICS.read_text(encoding="utf-8")), Console(file=screen, width=COLUMNS, highlight=False), full=False)
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines()).strip()


if __name__ == "__main__":
    print(printed())
