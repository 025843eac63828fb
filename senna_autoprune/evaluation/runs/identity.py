"""Is this that run? config.yaml says what was asked and what it met; it is written once and compared when a run is continued."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.description import check_description
from senna_autoprune.evaluation.runs.schema import LAYOUT
from senna_autoprune.files.atomic import disk_errors, replace_file
from senna_autoprune.files.database import database_errors
from senna_autoprune.files.regular import require_own
from senna_autoprune.files.yaml_files import dump_yaml, read_yaml

logger = logging.getLogger(__name__)

CONFIG, ANSWERS, METRICS = "config.yaml", "answers.sqlite", "metrics.json"
CONFIG_BYTES = 4_000_000  # of config.yaml: a sweep writes down some hundred bytes a setting
ANSWER_LINES = "answers.jsonl"
COMPARED = ("config", "identity")  # sections of config.yaml that must be the same to continue
LATER = ("processor_sha256", "generation_config_sha256")  # of the identity, which runs made before do not state
CERTIFIED = "budget"  # section of config.yaml that a search of `budget` has once it is finished
DATABASE = "database"  # section of config.yaml: the number that answers.sqlite holds, too
CODE = "adapter_code"  # how the names of hashes of a Python adapter's code begin (``adapters.code``)


def match_or_write(directory: Path, description: dict[str, Any]) -> str | None:
    """The number of the database that config.yaml names; None where it names none (yet)."""
    path = directory / CONFIG
    require_own(path)
    if not path.exists():
        if (directory / ANSWERS).exists():
            raise SennaPruneError(f"{directory} has answers but no {CONFIG}: give another directory with --out")
        replace_file(path, dump_yaml(description))
        return None
    stored = read_yaml(path, CONFIG_BYTES)
    wanted = {key: description.get(key) for key in COMPARED}
    known = stored.get("identity")
    unknown = [name for name in LATER if isinstance(known, dict) and name not in known and name in (wanted["identity"] or {})]
    if unknown:
        wanted["identity"] = {name: value for name, value in wanted["identity"].items() if name not in unknown}  # type: ignore[union-attr]
    found = differences({key: stored.get(key) for key in COMPARED}, wanted)
    if isinstance(known, dict) and not any(str(name).startswith(CODE) for name in known):  # made before code was hashed
        found = [one for one in found if not one[0].startswith(CODE)]
    if found:
        shown = "; ".join(f"{name}: {_short(there)} there, {_short(here)} now" for name, there, here in found)
        raise SennaPruneError(f"the run directory {directory} was made with other settings ({shown}); give another with --out")
    if unknown:
        names = ", ".join(name.removesuffix("_sha256").replace("_", " ") for name in unknown)
        logger.warning(f"{directory} was made before runs noted their {names}: it goes on, that is not compared")
    number = stored.get(DATABASE)
    return str(number["id"]) if isinstance(number, dict) and "id" in number else None


def read_description(directory: Path) -> dict[str, Any]:
    """A run's config.yaml. SennaPruneError: it is a link, unreadable, or not what a run writes."""
    require_own(directory / CONFIG)
    return check_description(read_yaml(directory / CONFIG, CONFIG_BYTES), directory / CONFIG)


def differences(there: Any, here: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Leaves that differ between two trees of plain data: (dotted name, there, here). The section's own name is left
    out.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in dict.fromkeys([*there, *here]):
            name = "" if not prefix and key in COMPARED else f"{prefix}{key}."
            found += differences(there.get(key), here.get(key), name)
        return found
    return [] if there == here else [(prefix.rstrip("."), there, here)]


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def finished_before(directory: Path) -> int:
    """Good answers that the run had when it was last finished."""
    path = directory / ANSWER_LINES
    try:
        require_own(path)
        with path.open("rb") as file:
            return sum(b'"status": "ok"' in line for line in file)
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def run_errors(directory: Path) -> Iterator[None]:
    """Faults of the disk and of the run's database as one line."""
    with disk_errors(directory), database_errors(directory / ANSWERS, LAYOUT.remedy):
        yield
