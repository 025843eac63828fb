"""``--csv`` and ``--parquet`` of the commands that leave a run behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from senna_autoprune.errors import SennaPruneError


@dataclass(frozen=True)
class Export:
    """Files that every answer is written to beside the run folder; none: nothing."""

    csv: Path | None
    parquet: Path | None

    @classmethod
    def of(cls, csv_file: str | None, parquet_file: str | None) -> Export:
        """SennaPruneError, before anything is computed: a folder that is not there, or pyarrow is not installed."""
        from senna_autoprune.tables.answers import require_parquet

        found = cls(*(None if file is None else Path(file) for file in (csv_file, parquet_file)))
        for flag, path in (("--csv", found.csv), ("--parquet", found.parquet)):
            if path is not None and (path.is_dir() or not path.parent.is_dir()):
                raise SennaPruneError(f"{flag} {path}: name a file in a folder that is there")
        if found.parquet is not None:
            require_parquet()
        return found

    def write(self, run: str | Path) -> Iterator[str]:
        """What was written, a line a file. SennaPruneError: the run has no answers, or the file cannot be written."""
        from senna_autoprune.files.regular import require_no_link
        from senna_autoprune.tables.answers import write_csv, write_parquet

        for path in filter(None, (self.csv, self.parquet)):
            require_no_link(path.parent, Path(run))
        if self.csv is not None:
            yield f"{write_csv(run, self.csv)} answers in {self.csv}"
        if self.parquet is not None:
            yield f"{write_parquet(run, self.parquet)} answers in {self.parquet}"
