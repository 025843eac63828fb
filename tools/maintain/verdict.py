"""``make verdict``: every method's certificate on the embedded model -> docs/results/budget/ and the README's first block.

    python tools/maintain/verdict.py                          # all methods; goes on where it was killed
    python tools/maintain/verdict.py --engine ray --workers 2 # further options of senna-prune budget

Margins are those that the package states for its embedded questions, before any answer (evaluation/budget/config.py).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[2]
RUN, RESULTS, README = ROOT / "runs" / "verdict", ROOT / "docs" / "results" / "budget", ROOT / "README.md"
COMMAND = ["senna-prune", "budget", "--each", "--methods", "all", "--grid", "0.1,0.15,0.2,0.25,0.3,0.4,0.5"]
HEADING, NEXT = "## How far may it be pruned?", "## Two commands"
SECTION = f"""{HEADING}

```
```

On the embedded model and synthetic scenes that ends in:

```text
```

Both margins were stated before any answer existed, and they are wide: so few scenes cannot show less, whatever a model answers.
Of your model and questions, `senna-prune budget --model DIR --questions FILE` asks for half of what sight is worth, at most 2 points,
and for 2 % of the scenes where yours can show it; it refuses beforehand what they cannot, and says how many could
([what that holds, simulated](docs/results/statistics.md)).

"""
FINISHED = (0, 4, 5)  # exit codes of a run that ended in a verdict


def write_block(page: str, command: str, printed: str) -> str:
    """The page with this command and what it printed as the first two fenced blocks below ``HEADING``, which is put before ``NEXT``
    where the page does not have it yet.

    Raises:
        ValueError: the page has neither.
    """
    if HEADING not in page:
        page = page.replace(f"{NEXT}\n", f"{SECTION}{NEXT}\n", 1)
    pattern = re.compile(rf"({re.escape(HEADING)}\n.*?)```\n.*?```(.*?)```text\n.*?```", flags=re.DOTALL)
    new, count = pattern.subn(lambda found: f"{found[1]}```\n{command}\n```{found[2]}```text\n{printed}\n```", page, count=1)
    if not count:
        raise ValueError(f"no {HEADING!r} with two blocks below it, and no {NEXT!r} to put it before")
    return new


def placed(certificate: dict) -> dict:
    """The certificate without this machine's paths: they are told from the repository's root."""
    places = certificate["run"].get("places", {})
    certificate["run"]["places"] = {key: str(value).replace(f"{ROOT}/", "") for key, value in places.items()}
    return certificate


def main() -> int:
    more, begun = sys.argv[1:], perf_counter()
    arguments = [*COMMAND[1:], *more, "--out", str(RUN)]
    code = subprocess.run([sys.executable, "-m", "senna_autoprune", *arguments], cwd=ROOT).returncode
    if code not in FINISHED:
        return code
    RESULTS.mkdir(parents=True, exist_ok=True)
    certificate = placed(json.loads((RUN / "budget.json").read_text(encoding="utf-8")))
    (RESULTS / "budget.json").write_text(json.dumps(certificate, indent=1) + "\n", encoding="utf-8")
    for picture in sorted((RUN / "figures").glob("*.svg")):
        shutil.copy(picture, RESULTS / picture.name)
    sys.path.insert(0, str(ROOT))
    from tests.docs.readme_budget import command_of, printed

    README.write_text(write_block(README.read_text(encoding="utf-8"), command_of(), printed()), encoding="utf-8")
    print(f"{RESULTS / 'budget.json'} and {README} written; {perf_counter() - begun:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
