"""What a report reads of a run directory: its description, questions and answers, measured anew from what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.demo import label_of_run
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.config import MOST_RESAMPLES
from senna_autoprune.evaluation.measures.summary import summarise
from senna_autoprune.evaluation.runs.bulk import uncollected
from senna_autoprune.evaluation.runs.results import METRICS, read_result, there
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow, SeenImage
from senna_autoprune.evaluation.runs.store import RunStore

RESAMPLES = 2000  # of the bootstrap, where a run does not say
LONGEST_VALUE = 400  # characters of a fact


@dataclass(frozen=True)
class Run:
    """A run of ``eval``. metrics: ``summarise`` of its rows. asked: rows that the finished run has. label: see ``demo``.
    seen: image -> the file that answers were made from; none where the run was made before they were kept: no picture is shown then.
    """

    directory: Path
    description: dict[str, Any]
    questions: list[QuestionRow]
    answers: list[AnswerRow]
    method: str
    metrics: dict[str, Any]
    asked: int
    label: str | None
    seen: dict[str, SeenImage] = field(default_factory=dict)

    @property
    def images(self) -> Path:
        """The folder that the questions' image paths are relative to."""
        return Path(str(section(self.description, "places").get("images_root") or "."))


def read_run(directory: str | Path) -> Run:
    """A run of ``eval``, finished or not. Its measures are computed from the stored answers, never taken from a file.

    Raises:
        SennaPruneError: no run, one of ``sweep``, one without answers, or a config.yaml that is not ours.
    """
    directory = Path(directory)
    with uncollected(), RunStore.read(directory) as store:
        description, questions, answers = store.config, store.questions(), store.measured()
        seen = {one.image: one for one in store.seen()}
    config, settings = section(description, "config"), section(description, "settings")
    method = config.get("method")
    if not isinstance(method, str) or method not in settings:
        raise SennaPruneError(f"{directory}/config.yaml names no method with a setting: not written by senna-prune eval")
    seed = config.get("seed")
    seed = seed if isinstance(seed, int) and 0 <= seed < 2**32 else 0
    if not any(row.setting == method for row in answers):
        raise SennaPruneError(f"the run {directory} has no answers of {method} yet: continue it with senna-prune eval")
    reading = Reading.of(description.get("adapter"), f"{directory}/config.yaml")
    with uncollected():
        metrics = summarise(questions, answers, method, seed, _resamples(directory), reading)
    metrics["run"] = description
    asked, label = len(questions) * len(settings), label_of_run(description)
    return Run(directory, description, questions, answers, method, metrics, asked, label, seen)


def section(description: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section of config.yaml; empty where it is none."""
    found = description.get(name)
    return found if isinstance(found, dict) else {}


def _resamples(directory: Path) -> int:
    """As many as ``eval`` drew, so that the intervals are the same (runs made before could draw more than ``MOST_RESAMPLES``)."""
    if not there(directory / METRICS):
        return RESAMPLES  # not finished yet
    found = int(read_result(directory / METRICS)["bootstrap"]["resamples"])
    return min(found, MOST_RESAMPLES) if found >= 100 else RESAMPLES


FactSections = list[tuple[str, list[tuple[str, str]]]]


def facts(description: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> FactSections:
    """What was run, as titled lists of (name, value): everything that config.yaml says, nothing left out but what is empty."""
    places, identity, config = (section(description, name) for name in ("places", "identity", "config"))
    hashes = {name.removesuffix("_sha256"): value for name, value in identity.items() if name.endswith("_sha256")}
    asked: dict[str, Any] = {}
    if metrics is not None:
        asked["questions asked"] = ", ".join(f"{count} {kind}" for kind, count in metrics["questions"]["by_type"].items())
        asked["scenes"] = metrics["scenes"]["count"]
        asked["labels"] = ", ".join(f"{name}: {count}" for name, count in metrics["questions"]["label_counts"].items())
    settings = section(description, "settings")
    method = settings.get(str(config.get("method")))
    groups: list[tuple[str, dict[str, Any]]] = [
        (
            "Model",
            {
                **_pick(places, "model", "adapter"),
                **_pick(section(description, "model"), "layout", "vision_tower", "dtype", "device", "attn_implementation"),
                **{f"{name} sha256": hashes[name] for name in hashes if name not in ("questions", "truths")},
            },
        ),
        (
            "Questions and images",
            {
                **_pick(places, "questions", "images_root"),
                **section(description, "questions"),
                **{f"{name} sha256": hashes[name] for name in hashes if name in ("questions", "truths")},
                **asked,
            },
        ),
        ("Pruning", {**_pick(method if isinstance(method, dict) else {}, "method", "options"), **section(description, "sweep")}),
        ("How it was asked", {name: value for name, value in config.items() if name not in ("method", "options", "dtype", "device")}),
        ("Software and machine", {**section(identity, "versions"), **section(description, "machine")}),
    ]
    found = [(title, [(name.replace("_", " "), value) for name, value in flatten(group)]) for title, group in groups]
    return [(title, entries) for title, entries in found if entries]


def _pick(found: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: found[name] for name in names if name in found}


def flatten(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of plain data as (name, text), a nested name after its parents'; what is empty is left out."""
    for name, value in found.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name} ")
        elif value is not None and value != "" and value != []:
            text = ", ".join(map(_word, value)) if isinstance(value, list) else _word(value)
            yield f"{prefix}{name}", short(text, LONGEST_VALUE)


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def short(text: str, limit: int) -> str:
    """A text of at most ``limit`` characters; one that was cut says how long it was."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
