"""Compare the planning answers of two runs, or of two settings of one: who is right more often, and is it more than luck?

    python tools/compare_runs.py runs/base runs/finetuned
    python tools/compare_runs.py runs/base runs/base --setting unpruned --setting-b autoprune

This is `senna-prune compare` under its older name, with the worst changed answers listed; without --setting each run's own method.
"""

from __future__ import annotations

import argparse
import sys

from senna_autoprune import SennaPruneError
from senna_autoprune.cli.compare import command


def main(arguments: list[str] | None = None) -> None:
    """SennaPruneError: a run cannot be read, or the two have no question in common."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", help="run folder")
    parser.add_argument("b", help="run folder to compare with it")
    parser.add_argument("--setting", help="whose answers, as the run's table calls it (default: the run's own method)")
    parser.add_argument("--setting-b", help="whose answers of B (default: the run's own method)")
    parser.add_argument("--flips", type=int, default=5, help="how many changed answers to list, worst first (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sign flips, where they are drawn (default: %(default)s)")
    given = vars(parser.parse_args(arguments))
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if name not in "ab" and value is not None]
    command.main([*flags, "--", given["a"], given["b"]], standalone_mode=False)


if __name__ == "__main__":
    try:
        main()
    except SennaPruneError as error:
        sys.exit(f"error: {error}")
