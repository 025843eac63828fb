"""Standard benchmarks through lmms-eval: one process of its command line for every cell (row of the table, task), and its results read.

Nothing of a benchmark is here: lmms-eval loads the data, asks the plug-in (senna_autoprune/lmms) and scores the answers.

    OUT/cells/ROW/TASK/   lmms-eval's results; answers.sqlite, with which a killed cell goes on; lmms-eval.log
    OUT/table.*           the table of all cells so far
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.atomic import write_atomically
from senna_autoprune.files.lock import RunLock
from senna_autoprune.files.regular import read_regular
from senna_autoprune.lmms import MODEL_ID
from senna_autoprune.lmms.answers import stamp
from senna_autoprune.lmms.suites import Row, SuiteConfig, TaskConfig, rows

INSTALL = "pip install 'senna_autoprune[lmms]', in an environment of its own (from a checkout: make lmms)"
MAX_RESULTS_BYTES = 50_000_000
IMPOSSIBLE = "budget:"  # how an error of a method begins that cannot reach the row's budget on this model
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REASON = re.compile(r"Error during evaluation: (.*?)\.? Please set `--verbosity=DEBUG`", re.DOTALL)
_RESULTS = re.compile(r"\d{8}_\d{6}_results\.json")  # lmms-eval's; tasks write files of like names (mmbench_..._results.json) beside it
_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): .*", re.MULTILINE)
_CODES = re.compile(r"\x1b\[[0-9;]*m")


class UselessResult(SennaPruneError):
    """A cell's results hold no number for its column; running it again would give the same."""


@dataclass(frozen=True)
class Place:
    """What all cells have in common: the checkpoint, the folder, and how lmms-eval is run."""

    model: str
    out: Path
    limit: int | None = None
    device: str | None = None
    dtype: str = "auto"
    batch_size: int = 1
    include_path: str | None = None


@dataclass(frozen=True)
class TaskCell:
    """One run of lmms-eval."""

    row: Row
    task: TaskConfig
    place: Place

    @property
    def directory(self) -> Path:
        return self.place.out / "cells" / re.sub(r"[^\w.@-]", "-", self.row.name) / self.task.name

    @property
    def log(self) -> Path:
        return self.directory / "lmms-eval.log"

    @property
    def model_args(self) -> str:
        """lmms-eval's ``--model_args``, a string of name=value with commas between."""
        given = {"pretrained": self.place.model, **self.row.arguments}
        if self.place.dtype != "auto":
            given["dtype"] = self.place.dtype
        given["answers"] = str(self.directory / "answers.sqlite")
        return ",".join(f"{name}={_word(value)}" for name, value in given.items())

    @property
    def command(self) -> list[str]:
        """The command line, ready to run."""
        place = self.place
        words = [sys.executable, "-m", "lmms_eval", "--model", MODEL_ID, "--model_args", self.model_args, "--tasks", self.task.name]
        words += ["--batch_size", str(place.batch_size), "--output_path", str(self.directory)]
        words += ["--limit", str(place.limit)] if place.limit is not None else []
        words += ["--device", place.device] if place.device is not None else []
        return words + (["--include_path", place.include_path] if place.include_path is not None else [])


@dataclass(frozen=True)
class CellResult:
    """What lmms-eval measured of a cell.

    score: the task's column; stderr: lmms-eval's, where the column is one metric; questions: how many were asked.
    visual_tokens (averaged over layers and questions), visual_tokens_unpruned, flops_share: from the traces of this very run; None
    where no question had an image. missing: metrics that a ``--limit`` left without a question.
    """

    score: float
    stderr: float | None
    questions: int
    visual_tokens: float | None
    visual_tokens_unpruned: float | None
    flops_share: float | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A cell after its turn: a result, or the reason why there is none. ``impossible``: no run of it can have one."""

    cell: TaskCell
    result: CellResult | None = None
    reason: str | None = None
    impossible: bool = False


def place_of(model: str, out: str | Path, include_path: str | None = None, **options: Any) -> Place:
    """A Place, its paths made absolute.

    Raises:
        SennaPruneError: no such model, or a path that lmms-eval's ``name=value,name=value`` arguments cannot carry.
    """
    if model and Path(model).is_dir():
        model = str(Path(model).resolve())
    elif not _HUB_ID.fullmatch(model):
        raise SennaPruneError(f"--model {model!r} is neither a folder nor a hub id like llava-hf/llava-1.5-7b-hf")
    if include_path is not None:
        if not Path(include_path).is_dir():
            raise SennaPruneError(f"--include-path {include_path!r} is not a folder; name the folder of your own tasks' YAML files")
        include_path = str(Path(include_path).resolve())
    place = Place(model=model, out=Path(out).resolve(), include_path=include_path, **options)
    for flag, text in (("--model", place.model), ("--out", str(place.out))):
        if any(mark in text for mark in ",='\"{}[]\n") or text != text.strip():
            raise SennaPruneError(f"{flag} {text!r}: lmms-eval's arguments cannot carry , = quotes, brackets or line breaks; rename it")
    return place


def cells_of(suite: SuiteConfig, place: Place) -> list[TaskCell]:
    """Every cell of the table, row by row, the ones that all others are compared with first."""
    return [TaskCell(row, task, place) for row in rows(suite) for task in suite.tasks]


def require_lmms_eval() -> None:
    """SennaPruneError, with what to type, unless lmms-eval and the plug-in are installed where this runs."""
    if find_spec("lmms_eval") is None:
        raise SennaPruneError(f"lmms-eval is not installed in this environment ({sys.prefix}): {INSTALL}")
    if MODEL_ID not in {point.name for point in entry_points(group="lmms_eval.models")}:
        raise SennaPruneError(f"lmms-eval does not know {MODEL_ID}: install this package again, so that its entry point is written")


def run_cells(cells: Sequence[TaskCell], on_start: Callable[[TaskCell], None] = lambda _: None) -> Iterator[Outcome]:
    """Outcomes of the cells in order. Finished ones are read, others run; what failed before is tried again.

    One method's impossible budget is found once: its other tasks are not run for it.

    Raises:
        SennaPruneError: another process works in the folder, or a cell on disk was made with other arguments.
    """
    if not cells:
        return
    out = cells[0].place.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SennaPruneError(f"cannot write to {out}: {error.strerror or error}; give another folder with --out") from error
    impossible: dict[str, str] = {}
    with RunLock(out):
        _same_checkpoint(cells[0].place)
        for cell in cells:
            name, reason = cell.row.name, None
            try:
                result = read_result(cell)
                if result is None and name not in impossible:
                    on_start(cell)
                    reason = _run(cell)
                    result = read_result(cell)
            except UselessResult as error:
                yield Outcome(cell, reason=str(error))
                continue
            if result is None and reason is not None and reason.startswith(IMPOSSIBLE):
                impossible[name] = reason
            if result is None:
                yield Outcome(cell, reason=impossible.get(name, reason), impossible=name in impossible)
            else:
                yield Outcome(cell, result)


def _same_checkpoint(place: Place) -> None:
    """Refuse to go on with a folder of results if the checkpoint folder has changed since."""
    path, now = place.out / "checkpoint.json", {"model": place.model, "stamp": stamp(place.model)}
    if not path.exists():
        write_atomically(path, json.dumps(now) + "\n")
        return
    try:
        then = json.loads(read_regular(path, MAX_RESULTS_BYTES))
    except (OSError, ValueError) as error:
        raise SennaPruneError(f"cannot read {path}; give another folder with --out") from error
    if then != now:
        raise SennaPruneError(f"the results in {place.out} are of another checkpoint, or its files changed; give another with --out")


def _run(cell: TaskCell) -> str:
    """Run lmms-eval. Returns the error it ended with, "" if it named none: its exit code is 0 either way."""
    try:
        cell.directory.mkdir(parents=True, exist_ok=True)
        with cell.log.open("w", encoding="utf-8") as log:
            code = subprocess.run(cell.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        text = _CODES.sub("", cell.log.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise SennaPruneError(f"cannot write to {cell.directory}: {error.strerror or error}; give another folder with --out") from error
    found = _REASON.findall(text)
    if found and found[-1].startswith("RetryError") and (causes := _ERROR.findall(text)):
        found = causes[:1]  # of a chain of tracebacks the first is the cause
    if found:
        return " ".join(found[-1].split())[:500]
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it printed nothing")
    return f"lmms-eval ended (exit code {code}) without results: {last[:300]}"


def read_result(cell: TaskCell) -> CellResult | None:
    """The newest results of a cell; None if there are none, or a kill tore them.

    Raises:
        UselessResult: they lack what the column is made of.
        SennaPruneError: they were made with other arguments.
    """
    dated = [path for path in cell.directory.glob("**/*_results.json") if _RESULTS.fullmatch(path.name)]
    for path in sorted(dated, key=lambda path: path.name, reverse=True):
        try:
            data = json.loads(read_regular(path, MAX_RESULTS_BYTES))
        except (OSError, ValueError, RecursionError, SennaPruneError):
            continue
        if isinstance(data, dict):
            return _result(cell, data, path)
    return None


def _result(cell: TaskCell, data: dict[str, Any], path: Path) -> CellResult:
    there = (_but_answers(str(_at(data, "config", "model_args"))), _at(data, "config", "limit"))
    here = (_but_answers(cell.model_args), cell.place.limit)
    if there != here:
        shown = "; now ".join(f"{arguments}, limit {limit}" for arguments, limit in (there, here))
        raise SennaPruneError(f"{path} was made with other arguments ({shown}); give another folder with --out")
    measured = _at(data, "results", cell.task.name)
    values, errors, missing = [], [], []
    for metric in cell.task.metrics:
        value, error = _metric(measured, metric)
        if value is None:
            missing.append(metric)
        else:
            values.append(value)
            errors.append(error)
    if not values or (missing and cell.place.limit is None):
        raise UselessResult(f"{path}: no number for {', '.join(missing)} of task {cell.task.name}; mend the suite or drop the file")
    single = errors[0] if len(cell.task.metrics) == 1 else None
    return CellResult(
        score=sum(values) * cell.task.scale,
        stderr=single * cell.task.scale if single is not None else None,
        questions=int(_number(_at(data, "n-samples", cell.task.name, "effective")) or 0),
        visual_tokens=_number(_at(data, "throughput", "avg_visual_tokens")),
        visual_tokens_unpruned=_number(_at(data, "throughput", "avg_visual_tokens_unpruned")),
        flops_share=_number(_at(data, "throughput", "avg_flops_share")),
        missing=tuple(missing),
    )


def _but_answers(model_args: str) -> str:
    """The arguments that results depend on: the folder may have been moved."""
    return model_args.partition(",answers=")[0]


def _metric(measured: Any, metric: str) -> tuple[float | None, float | None]:
    """Value and standard error of a metric, which lmms-eval names ``metric,filter``."""
    if not isinstance(measured, dict):
        return None, None
    key = next((name for name in measured if name.startswith(f"{metric},")), None)
    if key is None:
        return None, None
    return _number(measured[key]), _number(measured.get(key.replace(",", "_stderr,", 1)))


def _at(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _word(value: Any) -> str:
    """A value as lmms-eval reads it back."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if any(mark in text for mark in ",'\"{}[]\n"):
        raise SennaPruneError(f"lmms-eval's arguments cannot carry {text!r}")
    return text
