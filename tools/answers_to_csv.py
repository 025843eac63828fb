"""Every answer of a run as CSV, one line a question and setting, for a spreadsheet or pandas.

    python tools/answers_to_csv.py runs/mine --out answers.csv

`senna-prune report runs/mine --csv answers.csv` does the same (`--parquet` for data frames); how text that a spreadsheet would run
is kept from it stands in senna_autoprune/tables/answers.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from senna_autoprune import SennaPruneError
from senna_autoprune.files.csv_cells import csv_text
from senna_autoprune.tables.answers import COLUMNS, lines, write_csv


def main(arguments: list[str] | None = None) -> None:
    """SennaPruneError: no run, no such setting, or a file that cannot be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder of `senna-prune eval` or `sweep`")
    parser.add_argument("--setting", help="only this setting's answers (default: all)")
    parser.add_argument("--out", type=Path, help="file to write (default: the terminal)")
    options = parser.parse_args(arguments)
    if options.out is None:
        sys.stdout.write(csv_text(COLUMNS, lines(options.run, options.setting)))
    else:
        print(f"{write_csv(options.run, options.out, options.setting)} answers in {options.out}")


if __name__ == "__main__":
    try:
        main()
    except SennaPruneError as error:
        sys.exit(f"error: {error}")
