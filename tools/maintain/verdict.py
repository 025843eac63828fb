"""``make verdict``: every method's certificate on the embedded model -> docs/results/budget/ and the README's first block.

    python tools/maintain/verdict.py                         # all methods, a process a core; goes on where it was killed
    python tools/maintain/verdict.py --workers 4             # further options of senna-prune budget
    python tools/maintain/verdict.py --into /tmp/try --limit 24 --methods autoprune --grid 0.5 --margin 45 --safety 40   # a trial

Margins are those that the package states for its embedded questions, before any answer (evaluation/budget/config.py). Plan questions
alone count: they are what a certificate is over, whatever other types the embedded file asks.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["senna-prune", "budget", "--each", "--methods", "all", "--grid", "0.1,0.2,0.25,0.4"]
HEADING, NEXT = "## How far may it be pruned?", "## Two commands"
SECTION = f"""{HEADING}

On the plan questions of the embedded model `make verdict` says of every method ([figure and tables](docs/results/budget/verdict.md)):

```text
```

Both margins were fixed before this run asked anything, and they are wide: so few scenes cannot show less, whatever a model answers. By
itself `budget` takes half of what sight is worth, at most 2 points, and 2 % of enough scenes ([checked](docs/results/statistics.md)).

"""
PAGES = (Path("README.md"), Path("docs/results/README.md"), Path("docs/reproduce.md"))
ROWS = {  # page: (how the row begins, the row before which it is put)
    PAGES[1]: ("| [budget](budget/verdict.md) |", "| [table3]"),
    PAGES[2]: ("| the README's verdict: [every method's certificate](results/budget/verdict.md) |", "| the README's table |"),
}
FIGURE = "ladders.png"
SCOPE = "Plan questions of synthetic scenes alone: other types have no certificate."
FINISHED = (0, 4, 5)  # exit codes of a run that ended in a verdict


def write_block(page: str, printed: str) -> str:
    """The page with what the command printed as the first block of text below ``HEADING``, which is put before ``NEXT`` where the
    page does not have it yet.

    Raises:
        ValueError: the page has neither.
    """
    if HEADING not in page:
        page = page.replace(f"{NEXT}\n", f"{SECTION}{NEXT}\n", 1)
    pattern = re.compile(rf"({re.escape(HEADING)}\n.*?)```text\n.*?```", flags=re.DOTALL)
    new, count = pattern.subn(lambda found: f"{found[1]}```text\n{printed}\n```", page, count=1)
    if not count:
        raise ValueError(f"no {HEADING!r} with a block of text below it, and no {NEXT!r} to put it before")
    return new


def write_row(page: str, begin: str, rest: str, before: str) -> str:
    """The page with the table row ``begin`` + ``rest``: in place of the one that begins so, or before the one that begins with ``before``.

    Raises:
        ValueError: the page has neither.
    """
    lines = page.splitlines()
    at = next((i for i, line in enumerate(lines) if line.startswith(begin)), None)
    if at is not None:
        lines[at] = begin + rest
    else:
        at = next((i for i, line in enumerate(lines) if line.startswith(before)), None)
        if at is None:
            raise ValueError(f"no row that begins with {begin!r} or {before!r}")
        lines.insert(at, begin + rest)
    return "\n".join(lines) + "\n"


def placed(certificate: dict[str, Any]) -> dict[str, Any]:
    """The certificate without this machine's paths: they are told from the repository's root."""
    places = certificate["run"].get("places", {})
    certificate["run"]["places"] = {key: str(value).replace(f"{ROOT}/", "") for key, value in places.items()}
    return certificate


def page_of(certificate: Mapping[str, Any], command: str) -> str:
    """docs/results/budget/verdict.md: the sentence, the figure, every method in a sentence, the tables."""
    from senna_autoprune.report.budget import CAPTIONS, picture_of
    from senna_autoprune.tables.budget import grids
    from senna_autoprune.tables.grid import markdown

    lines = ["# How far the embedded model may be pruned", "", f"```\n{command}\n```", "", SCOPE, "", f"{certificate['sentence']}.", ""]
    if picture_of(certificate) is not None:
        lines += [f"![{CAPTIONS['ladders']}]({FIGURE})", ""]
    lines += [f"- {one['method']}: {one['sentence']}" for one in certificate.get("each", [])]
    for grid in grids(certificate):
        lines += ["", *markdown(grid)]
    lines += [
        "",
        "The whole certificate, every look of it: [budget.json](budget.json). What it says and does not: [metrics](../../metrics.md).",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def publish(run: Path, into: Path, seconds: float | None) -> list[Path]:
    """Write the finished run's certificate into ``into``/docs and its README. seconds: None: it was continued, so nobody timed it."""
    from tests.docs.readme_budget import command_of, printed

    certificate = placed(json.loads((run / "budget.json").read_text(encoding="utf-8")))
    results = into / "docs" / "results" / "budget"
    results.mkdir(parents=True, exist_ok=True)
    (results / "budget.json").write_text(json.dumps(certificate, indent=1) + "\n", encoding="utf-8")
    (results / "verdict.md").write_text(page_of(certificate, command_of(certificate)), encoding="utf-8")
    (results / FIGURE).unlink(missing_ok=True)
    if (run / "figures" / FIGURE).is_file():  # a set that cannot show harm has none
        shutil.copy(run / "figures" / FIGURE, results / FIGURE)
    with sqlite3.connect(f"file:{run / 'answers.sqlite'}?mode=ro", uri=True) as store:
        answers = store.execute("SELECT count(*) FROM answers").fetchone()[0]
    took = "continued, not timed" if seconds is None else f"{seconds:.0f} s"
    rests = (
        " `make verdict` | every method's smallest safe budget, with margins stated beforehand |",
        f" `make verdict` | {answers:,} answers, {took} |",
    )
    for name, rest in zip(PAGES[1:], rests, strict=True):
        page, (begin, before) = (into / name).read_text(encoding="utf-8"), ROWS[name]
        if seconds is None and begin in page:
            continue  # the time that was measured stays
        (into / name).write_text(write_row(page, begin, rest, before), encoding="utf-8")
    readme = into / PAGES[0]
    readme.write_text(write_block(readme.read_text(encoding="utf-8"), printed(certificate)), encoding="utf-8")
    return [results / "verdict.md", readme]


def main() -> int:
    """Exit code of the run; its results are written where it ended in a verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=ROOT, help="write run, results and README below another folder: a trial")
    options, more = parser.parse_known_args()
    into, begun = options.into.resolve(), perf_counter()
    run = into / "runs" / "verdict"
    continued = (run / "answers.sqlite").exists()
    for name in PAGES:
        if not (into / name).exists():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, into / name)
    arguments = [*COMMAND[1:], *more, "--out", str(run)]
    print("$ senna-prune", *arguments, flush=True)
    code = subprocess.run([sys.executable, "-m", "senna_autoprune", *arguments], cwd=ROOT).returncode
    if code not in FINISHED:
        return code
    seconds = perf_counter() - begun
    written = publish(run, into, None if continued else seconds)
    print(f"{' and '.join(map(str, written))} written; {seconds:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
