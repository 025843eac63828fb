"""Kill an evaluation of the embedded model again and again, resume it, and compare what it ends with to an unbroken run's.

    python tools/maintain/chaos.py --kills 50 --out runs/chaos

Every process is `senna-prune eval` as a user starts it, ended by SIGKILL at a random moment of one of four stages: start-up
(Python, the model), opening (the run directory is locked, no new answer yet), answering, writing (all answers are there).
The moments hang on what a process has done so far, and on how long a stage took in the unbroken run. A run that ends before
its kill is compared, and the next one begins in another directory, until the kills are used up. At the end of each run its
answers (byte by byte, without times), measures (without times), settings and file names must be the unbroken run's, and no
answer that a kill left committed may have been lost or asked again. The last line is JSON; exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from senna_autoprune.demo import LABEL
from senna_autoprune.files.yaml_files import read_yaml

STAGES = {"start-up": 2, "opening": 2, "answering": 3, "writing": 3}  # how often each is chosen, of ten
WRITTEN = ("answers.jsonl", "metrics.json")  # of all answers, in this order
LOOK_EVERY_S = 0.004
TIMED = ("prefill_ratio", "total_ratio", "prefill_speedup", "reached")  # measures that hang on times, besides those in _ms

Rows = dict[tuple[int, str], tuple[Any, ...]]  # (question, setting) -> the whole row


class Differs(Exception):
    """A resumed run is not what the unbroken one is."""


class Evaluation:
    """One process of `senna-prune eval`, watched from outside."""

    def __init__(self, directory: Path, limit: int) -> None:
        self.directory = directory
        self.before = count(directory)
        self.begun = time.monotonic()
        self.start_up_s: float | None = None  # until it held the run directory; None: not seen yet
        self._found = {name: changed(directory / name) for name in WRITTEN}
        words = ("eval", "--retention", "0.25", "--limit", str(limit), "--out", str(directory))
        with directory.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "senna_autoprune", *words], stdout=log, stderr=log)

    def opened(self) -> bool:
        """Whether this process has been seen to hold the run directory: its lock names its holder until it is released."""
        if self.start_up_s is None:
            with contextlib.suppress(OSError, ValueError):
                if json.loads((self.directory / "run.lock").read_bytes())["pid"] == self.process.pid:
                    self.start_up_s = time.monotonic() - self.begun
        return self.start_up_s is not None

    def has_written(self, name: str) -> bool:
        """Whether this process has put its own file in place."""
        return changed(self.directory / name) != self._found[name]

    def stage(self, total: int) -> str:
        """The one of STAGES it is in, or just ended in."""
        if not self.opened():
            return "start-up"
        rows = count(self.directory)
        return "writing" if rows == total else "answering" if rows > self.before else "opening"

    def wait_until(self, reached: Callable[[], bool]) -> bool:
        """False if the process ended before."""
        while self.process.poll() is None:
            self.opened()  # it has to be seen while the lock is held
            if reached():
                return True
            time.sleep(LOOK_EVERY_S)
        return False

    def finish(self) -> None:
        """Let it come to its end. Differs: it failed."""
        if self.process.wait() != 0:
            last = self.directory.with_suffix(".log").read_text(errors="replace").strip().splitlines()[-1:]
            raise Differs(f"{self.directory.name}: exit code {self.process.returncode}: {' '.join(last)}")

    def kill(self) -> bool:
        """SIGKILL; False if it had ended by itself."""
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL


@dataclass
class Chaos:
    """Kills as asked for, over as many runs as they take."""

    out: Path
    limit: int
    rng: random.Random
    total: int = 0  # rows of a whole run
    seconds: dict[str, float] = field(default_factory=dict)  # stage -> how long it took, unbroken
    kills: Counter[str] = field(default_factory=Counter)  # stage -> how many processes were killed in it
    resumed: int = 0
    finished: int = 0

    def unbroken(self) -> None:
        """The run that all others must equal; it also times the stages."""
        moments = [time.monotonic()]
        evaluation = Evaluation(self.out / "unbroken", self.limit)
        all_asked = (evaluation.directory / "answers.jsonl").exists  # the first thing that is written of all answers
        for reached in (evaluation.opened, lambda: count(evaluation.directory) > 0, all_asked):
            evaluation.wait_until(reached)
            moments.append(time.monotonic())
        evaluation.finish()
        moments.append(time.monotonic())
        self.total = count(evaluation.directory)
        self.seconds = {stage: end - start for stage, (start, end) in zip(STAGES, pairwise(moments), strict=True)}

    def run(self, kills: int) -> None:
        """Use the kills up. Differs: a run that ended is not the unbroken one."""
        while self.kills.total() < kills:
            self._one_run(self.out / f"run{self.finished}", kills)

    def _one_run(self, directory: Path, kills: int) -> None:
        """From the first start to the end, killed as often as it happens."""
        kept: Rows = {}
        starts = 0
        while True:
            evaluation = Evaluation(directory, self.limit)
            starts += 1
            self.resumed += starts > 1
            if self.kills.total() == kills or not self._killed(evaluation):
                break
            now = committed(directory)
            lost = [key for key, row in kept.items() if now.get(key) != row]
            if lost:
                raise Differs(f"{directory.name}: answers lost or asked again: {lost[:3]}")
            kept = now
        evaluation.finish()
        self.finished += 1
        compare(directory, self.out / "unbroken", kept)
        print(f"{directory.name}: ended after {starts} starts, {len(kept)} of {self.total} answers kept over kills; identical", flush=True)

    def _killed(self, evaluation: Evaluation) -> bool:
        """Wait for a moment and kill; False if the process ended before."""
        aim = self.rng.choices(list(STAGES), list(STAGES.values()))[0]
        rows = self.rng.randint(min(evaluation.before + 1, self.total), self.total)
        file = self.rng.choice(WRITTEN)
        reached, longest_s = {
            "start-up": (lambda: True, self.seconds["start-up"]),
            "opening": (evaluation.opened, self.seconds["opening"]),
            "answering": (lambda: count(evaluation.directory) >= rows > evaluation.before, self.seconds["answering"] / self.total),
            "writing": (lambda: evaluation.has_written(file), self.seconds["writing"] / len(WRITTEN)),
        }[aim]
        if not evaluation.wait_until(reached):
            return False
        moment = time.monotonic() + self.rng.random() * longest_s
        if not evaluation.wait_until(lambda: time.monotonic() >= moment):
            return False
        stage = evaluation.stage(self.total)
        if not evaluation.kill():
            return False
        self.kills[stage] += 1
        if evaluation.start_up_s is not None:  # the unbroken run's may have been slow: it was the first
            self.seconds["start-up"] = min(self.seconds["start-up"], evaluation.start_up_s)
        rows = count(evaluation.directory)
        print(f"{evaluation.directory.name}: kill {self.kills.total()}, {stage}, {rows} of {self.total} answers", flush=True)
        return True


def changed(path: Path) -> int | None:
    """When a file was written last (ns), None without one."""
    return path.stat().st_mtime_ns if path.exists() else None


def count(directory: Path) -> int:
    """Answers that are committed, read without touching anything (a journal left by a kill is the resumed process' to
    roll back); 0 while there is nothing to read.
    """
    path = directory / "answers.sqlite"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0) as connection:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.Error:
        return len(committed(directory))


def committed(directory: Path) -> Rows:
    """Every answer that is committed, whole, from a copy of the files."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("answers.sqlite", "answers.sqlite-journal"):
            with contextlib.suppress(FileNotFoundError):  # a journal lives as long as its transaction
                shutil.copy(directory / name, folder)
        connection = sqlite3.connect(Path(folder) / "answers.sqlite")
        try:
            return {(row[0], row[1]): row for row in connection.execute("SELECT * FROM answers")}
        except sqlite3.Error:  # killed before the tables were made
            return {}
        finally:
            connection.close()


def compare(directory: Path, unbroken: Path, kept: Rows) -> None:
    """Differs: says in what."""
    if (directory / "answers.jsonl").read_bytes() != (unbroken / "answers.jsonl").read_bytes():
        raise Differs(f"{directory.name}: answers.jsonl differs")
    measures = [untimed(json.loads((run / "metrics.json").read_text())) for run in (directory, unbroken)]
    settings = [read_yaml(run / "config.yaml") for run in (directory, unbroken)]
    for described in settings:
        described.pop("database", None)  # its number, another one in every run
    for description in (*settings, *(measure["run"] for measure in measures)):
        del description["places"]["out"]
    if measures[0] != measures[1]:
        raise Differs(f"{directory.name}: metrics.json differs")
    if settings[0] != settings[1]:
        raise Differs(f"{directory.name}: config.yaml differs")
    names = [sorted(path.name for path in run.iterdir()) for run in (directory, unbroken)]
    if names[0] != names[1]:
        raise Differs(f"{directory.name}: files {names[0]}, unbroken {names[1]}")
    final = committed(directory)
    again = [key for key, row in kept.items() if final[key] != row]
    if again:
        raise Differs(f"{directory.name}: answers asked again though they were kept: {again[:3]}")


def untimed(value: Any) -> Any:
    """Plain data without the measures that hang on times."""
    if isinstance(value, dict):
        return {key: untimed(one) for key, one in value.items() if not key.endswith("_ms") and key not in TIMED}
    return [untimed(one) for one in value] if isinstance(value, list) else value


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, all runs are identical; 1, one differs or failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="processes to kill (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=12, help="questions of a run, each under five settings (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of stages and moments (default: %(default)s)")
    parser.add_argument("--out", help="folder of the runs, new or empty (default: a temporary one)")
    options = parser.parse_args(arguments)
    out = Path(options.out or tempfile.mkdtemp(prefix="senna-prune-chaos-"))
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        parser.error(f"--out {out}: it is not empty")

    begun = time.monotonic()
    chaos = Chaos(out, options.limit, random.Random(options.seed))
    differs = None
    print(f"{LABEL}; runs in {out}", flush=True)
    try:
        chaos.unbroken()
        stages = ", ".join(f"{stage} {took:.2f} s" for stage, took in chaos.seconds.items())
        print(f"unbroken: {chaos.total} answers; {stages}", flush=True)
        chaos.run(options.kills)
    except Differs as error:
        differs = str(error)
        print(differs, flush=True)
    result = {
        "label": LABEL,
        "kills": chaos.kills.total(),
        "resumed": chaos.resumed,
        "identical": differs is None,
        "runs": chaos.finished,
        "kills_by_stage": {stage: chaos.kills[stage] for stage in STAGES},
        "answers_a_run": chaos.total,
        "seed": options.seed,
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(result if differs is None else {**result, "difference": differs}))
    return 0 if differs is None else 1


if __name__ == "__main__":
    sys.exit(main())
