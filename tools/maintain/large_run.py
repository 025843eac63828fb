"""A made-up run as large as nuScenes' questions under five settings, and what each command costs on it.

    python tools/maintain/large_run.py --out /tmp/large                       # makes 100,000 questions, 500,000 answers; measures
    python tools/maintain/large_run.py --out /tmp/large --answers 5000        # a small one
    python tools/maintain/large_run.py --out /tmp/large --measure report      # what is there: one command again

``report-replay`` and ``flips`` replay twelve frames through the model; ``report`` and ``flips-alone`` are what is left without it, and
what grows with the answers. Questions are the embedded ones over and over, with tokens and scenes of their own, so that pictures are
there to show; answers are made up, with traces as long as a 7B model's, by an engine that answers at once. ``commits``: rows a second of
the store alone. Each measurement is a process of its own: seconds on the clock, of CPU, and the greatest memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

LAYERS, VIEWS, VIEW_TOKENS, SCENES = 32, 6, 128, 850
ASKED = 200_000  # questions of the file that is asked from
COMMITTED = 20_000  # rows that are committed to a store of their own
MEASURES = ("commits", "make", "first-answer", "limit", "end-of-run", "report", "report-replay", "curves", "flips", "flips-alone")


# --- what is measured on ----------------------------------------------------------------------------------------------


def write_questions(path: Path, count: int) -> None:
    """``count`` planning questions of ``SCENES`` scenes (of fewer, where that would leave a scene with less than ten)."""
    from senna_autoprune.demo import embedded
    from senna_autoprune.nuscenes.questions_file import QuestionWriter, iter_questions

    found = embedded()
    assert found is not None
    known, rng = [one for one in iter_questions(found.questions_file) if one.type == "plan"], random.Random(0)
    scenes = max(1, min(SCENES, count // 10))
    images = path.parent / "images"  # without the tables beside them, which do not know these tokens
    images.mkdir(exist_ok=True)
    if not (images / "samples").exists():
        (images / "samples").symlink_to(found.dataroot / "samples")

    def describe(writer: Any) -> dict[str, Any]:
        return {"sha256": writer.sha256, "records": writer.count, "dataroot": str(images.resolve())}

    with QuestionWriter(path, describe) as writer:
        for number in range(count):
            scene = number * scenes // count
            record = dict(rng.choice(known))
            record["token"] = f"{rng.getrandbits(128):032x}"
            record["id"] = f"{record['token']}-plan"
            record["senna_prune"] = {**record["senna_prune"], "scene": f"scene-{scene:04d}"}
            writer.write(record)


class MadeUp:
    """An engine that answers at once: the label or another plan, with a trace as long as a 7B model's."""

    at_work, since, start_up_s = 1, 0.0, 0.0

    def facts(self) -> Any:
        from senna_autoprune.evaluation.answering.engine import ModelFacts

        return ModelFacts({"weights_sha256": "made up"}, {}, {}, {"device": "cpu"})

    def answer(self, asking: Any, units: Sequence[Any], verdicts: Any) -> Iterator[Any]:
        from senna_autoprune.evaluation.runs.rows import AnswerRow

        rng = random.Random(1)
        plans = [f"{speed}, {path}" for speed in ("KEEP", "ACCELERATE", "DECELERATE", "STOP") for path in ("STRAIGHT", "LEFT_TURN")]
        for unit in units:
            for question in (question for sample in unit.samples for question in sample):
                for setting in asking.settings:
                    if (question.question, setting.name) in unit.todo:
                        right = rng.random() < (0.5 if setting.method != "autoprune" else 0.45)
                        trace = _trace(rng) if setting.method is not None else None
                        yield AnswerRow(
                            question.question,
                            setting.name,
                            "ok",
                            question.label.strip() if right else rng.choice(plans),
                            None,
                            rng.uniform(20, 30),
                            rng.uniform(80, 120),
                            rng.uniform(150, 250),
                            5,
                            10**8,
                            trace,
                            sent=question.text,
                            missing_frames=0,
                        )


def _trace(rng: random.Random) -> dict[str, Any]:
    full = VIEWS * VIEW_TOKENS
    information, steepness = rng.gauss(0.6, 0.1), abs(rng.gauss(0.4, 0.1))
    counts = sorted((rng.randrange(full) for _ in range(LAYERS)), reverse=True)
    average = sum(counts) / LAYERS
    return {
        "mutual_information": information,
        "k": steepness,
        "x0": rng.uniform(5, 12),
        "visual_tokens": full,
        "text_tokens": 171,
        "tokens_per_layer": counts,
        "average_tokens": average,
        "retention_tokens": average / full,
        "per_view": [rng.uniform(20, 60) for _ in range(VIEWS)],
        "flops_full": 6.1e12,
        "flops_pruned": 2.2e12 + rng.random() * 1e11,
        "kv_bytes": 10**8,
        "pruner_ms": rng.uniform(1, 3),
        "notes": [],
    }


# --- the measurements -------------------------------------------------------------------------------------------------


def _config(out: Path, questions: str, folder: str, **more: Any) -> Any:
    from senna_autoprune.demo import embedded
    from senna_autoprune.evaluation.config import EvalConfig

    found = embedded()
    assert found is not None
    return EvalConfig(model=str(found.model_dir), questions=str(out / questions), out=str(out / folder), **more)


def commits(out: Path) -> str:
    """Rows that come as fast as a store takes them, a disk's wait and all."""
    from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
    from senna_autoprune.evaluation.runs.store import RunStore

    shutil.rmtree(out / "committed", ignore_errors=True)
    rng, question = random.Random(2), QuestionRow(0, "t", "plan", "text", "KEEP, STRAIGHT", ("a.jpg",), "s", True, {})
    rows = [
        AnswerRow(n, "autoprune", "ok", "KEEP, STRAIGHT", None, 1.0, 2.0, 3.0, 5, 10**8, _trace(rng), sent="prompt", missing_frames=0)
        for n in range(COMMITTED)
    ]
    with RunStore.start(out / "committed", {"identity": {}}, [question]) as store:
        started, spent = time.perf_counter(), time.process_time()
        for row in rows:
            store.add(row)
        store.flush()
        clock, cpu = time.perf_counter() - started, time.process_time() - spent
    shutil.rmtree(out / "committed")
    return f"{COMMITTED / clock:.0f} rows a second on the clock, {COMMITTED / cpu:.0f} a second of CPU"


def make(out: Path) -> str:
    """Answers every question of the run's file: rows a second of the store alone, from the first row to the last."""
    from senna_autoprune.evaluation.evaluate import evaluate

    shutil.rmtree(out / "run", ignore_errors=True)
    times: list[float] = []

    def on_row(row: Any, done: int, total: int) -> None:
        if done in (1, total):
            times.append(time.perf_counter())

    result = evaluate(_config(out, "questions.json", "run"), MadeUp(), on_row=on_row)  # type: ignore[arg-type]
    return f"{result.rows} answers, {result.rows / (times[-1] - times[0]):.0f} rows a second"


def first_answer(out: Path, **more: Any) -> str:
    """``eval`` on the large file with the embedded model, stopped at its first answer."""
    from senna_autoprune.evaluation.answering.open import open_engine
    from senna_autoprune.evaluation.evaluate import evaluate, prepare

    class Enough(Exception):
        pass

    def on_row(row: Any, done: int, total: int) -> None:
        raise Enough

    shutil.rmtree(out / "asked", ignore_errors=True)
    config = _config(out, "asked.json", "asked", **more)
    started, spent = time.perf_counter(), time.process_time()
    prepared = prepare(config)
    read, read_cpu = time.perf_counter() - started, time.process_time() - spent
    with open_engine(config, lambda line: None) as engine:
        loaded, spent = time.perf_counter(), time.process_time()
        with contextlib.suppress(Enough):
            evaluate(config, engine, prepared, on_row)
        after, after_cpu = time.perf_counter() - loaded, time.process_time() - spent
    shutil.rmtree(out / "asked")
    said = f"{len(prepared.questions)} questions read in {read:.1f} s ({read_cpu:.1f} s of CPU)"
    return f"{said}, first answer {after:.1f} s ({after_cpu:.1f} s of CPU) after the model was loaded"


def limited(out: Path) -> str:
    return first_answer(out, limit=100)


def end_of_run(out: Path) -> str:
    """``eval`` on the finished run: nothing is asked, all is measured and written."""
    from senna_autoprune.evaluation.evaluate import evaluate

    result = evaluate(_config(out, "questions.json", "run"), MadeUp())  # type: ignore[arg-type]
    return f"{result.rows} answers"


def choose_flips(out: Path) -> str:
    """What ``flips`` does before the model is loaded: the run is read, its flips are judged and sorted."""
    from senna_autoprune.replay.setup import prepare

    job = prepare(run=str(out / "run"), flips="worst", out=str(out / "shown"), images=str(out / "images"))
    return f"{len(job.source.shots)} frames chosen"


def command(*words: str) -> Callable[[Path], str]:
    """A command of the user's on the run; RUN, OUT and IMAGES stand for the folders."""

    def run(out: Path) -> str:
        from senna_autoprune.cli import main

        places = {"RUN": str(out / "run"), "OUT": str(out / "shown"), "IMAGES": str(out / "images")}
        sys.argv = ["senna-prune", *(places.get(word, word) for word in words)]
        try:
            main()
        except SystemExit as left:
            if left.code:
                raise
        made = [path for path in (out / "shown" / "report.html", out / "run" / "report.html") if path.exists()]
        return f"{made[0].name} {made[0].stat().st_size / 1e6:.1f} MB" if words[0] == "report" else ""

    return run


RUNS: dict[str, Callable[[Path], str]] = {
    "commits": commits,
    "make": make,
    "first-answer": first_answer,
    "limit": limited,
    "end-of-run": end_of_run,
    "report": command("report", "RUN", "--out", "OUT"),
    "report-replay": command("report", "RUN", "--out", "OUT", "--replay", "--images", "IMAGES"),
    "curves": command("curves", "RUN"),
    "flips": command("replay", "--run", "RUN", "--flips", "worst", "--out", "OUT", "--images", "IMAGES"),
    "flips-alone": choose_flips,
}


def measure(out: Path, name: str) -> None:
    """One measurement in this process: a line."""
    started = time.perf_counter()
    said = RUNS[name](out)
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "measure": name,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_GiB": round(used.ru_maxrss / 2**20, 2),
    }
    print(json.dumps({**figures, **({"said": said} if said else {})}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the questions and of the run")
    parser.add_argument("--answers", type=int, default=500_000, help="of the run (default: %(default)s)")
    parser.add_argument("--asked", type=int, default=ASKED, help="questions of the file that is asked from (default: %(default)s)")
    parser.add_argument("--measure", nargs="*", choices=MEASURES, default=MEASURES, help="which (default: all)")
    parser.add_argument("--here", choices=MEASURES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        measure(options.out, options.here)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    for name, count in (("questions.json", options.answers // 5), ("asked.json", options.asked)):
        if not (options.out / name).exists():
            write_questions(options.out / name, count)
    return max(_apart(options.out, name) for name in options.measure)


def _apart(out: Path, name: str) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return subprocess.run([sys.executable, __file__, "--out", str(out), "--here", name], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
