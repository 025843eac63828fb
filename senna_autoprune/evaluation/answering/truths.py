"""What some adapters want beyond a question's own text and images: facts for the prompt, earlier frames, the true future.

All of it is found before a model is loaded and kept in the run with the questions, so that a run can be measured, reported and
replayed without tables.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from senna_autoprune.adapters.answers import TO_RIGHT_FORWARD, Waypoints
from senna_autoprune.adapters.prompt import FACTS, placeholders
from senna_autoprune.adapters.reading import Reading
from senna_autoprune.adapters.waypoints import at_steps
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.breakdown import UNKNOWN, command_of, speed_of
from senna_autoprune.evaluation.runs.rows import QuestionRow

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

    from senna_autoprune.adapters.schema import Adapter
    from senna_autoprune.evaluation.config import AskConfig
    from senna_autoprune.nuscenes.questions_file import Question


def adapter_before_loading(config: AskConfig) -> Adapter | None:
    """The configuration's adapter, as far as it is known without the model's weights; None: Senna's, or a Python adapter's that
    says nothing of itself.

    Raises:
        SennaPruneError: a bad adapter, or none for this checkpoint.
    """
    from senna_autoprune.adapters.open import adapter_for

    return None if config.model is None and config.adapter is None else adapter_for(config.model, config.adapter)


def facts_of(record: Question) -> dict[str, str]:
    """Speed (m/s), command and history: as the record states them, else as its words do."""
    found: dict[str, str] = {}
    for source in (record.get("senna_prune"), record):
        if isinstance(source, dict):
            found.update({name: str(source[name]) for name in FACTS if isinstance(source.get(name), str | int | float)})
    return {**said_facts(record.text), **found}


def said_facts(text: str) -> dict[str, str]:
    """Speed and command as a question's words state them."""
    speed, command = speed_of(text), command_of(text)
    return {**({"speed": str(speed)} if speed is not None else {}), **({"command": command} if command != UNKNOWN else {})}


def asks_for_facts(config: AskConfig) -> bool:
    """Whether the adapter's prompt states facts of a question (``facts_of``). SennaPruneError as ``adapter_before_loading``."""
    adapter = adapter_before_loading(config)
    return adapter is not None and bool(_facts(adapter))


def with_truths(rows: Sequence[QuestionRow], config: AskConfig, root: Path) -> list[QuestionRow]:
    """The questions with what their adapter will ask for, and nothing else: Senna's stay as they are.

    Args:
        rows: with their facts, where the adapter asks for them. root: folder of relative image paths.
    Raises:
        SennaPruneError: the adapter shows earlier frames, or a history that no record states, and there are no tables to find them in.
    """
    adapter = adapter_before_loading(config)
    if adapter is None:
        return list(rows)
    rows = list(rows)
    frames = any(adapter.views.frames)
    history = "history" in _facts(adapter) and not all("history" in row.facts for row in rows)
    planned = any(Reading(adapter).kind(row.type) == "waypoints" for row in rows)
    if not (planned or frames or history):
        return rows
    nusc = _tables(config.tables, root)
    if nusc is None:
        if frames or (history and not any("history" in row.facts for row in rows)):
            shown = "shows earlier frames" if frames else "states a {history}"
            raise SennaPruneError(f"the adapter {adapter.name} {shown}: say where the tables are with --tables DIR")
        return rows
    return from_tables(rows, adapter, nusc, root)


def from_tables(rows: Sequence[QuestionRow], adapter: Adapter, nusc: NuScenes, root: Path | None = None) -> list[QuestionRow]:
    """The questions about the tables' samples with the earlier frames and the history that the adapter shows, and with the true
    future where it reads waypoints. A history that a record states stays; it is written in the axes of the waypoints.

    Args:
        root: earlier frames are named relative to it; None: as the tables name them.
    Raises:
        SennaPruneError: the tables miss a row of a sample.
    """
    from senna_autoprune.nuscenes.earlier import earlier_images
    from senna_autoprune.nuscenes.futures import future_of
    from senna_autoprune.nuscenes.history import history_of, history_words

    reading, steps = Reading(adapter), round(2 * max(adapter.score.horizons_s))
    frames = [frame for frame in adapter.views.frames if frame]
    there = {sample["token"] for sample in nusc.sample}
    futures: dict[str, Any] = {}
    wanted = {row.token for row in rows if row.token in there} if frames else set()
    earlier = earlier_images(nusc, wanted, adapter.views.cameras or (), frames) if wanted else {}
    if root is not None:
        earlier = {token: {key: os.path.relpath(path, root) for key, path in seen.items()} for token, seen in earlier.items()}
    driven: dict[str, Any] = {}
    found = []
    for row in rows:
        token, plans, facts = row.token, reading.kind(row.type) == "waypoints", dict(row.facts)
        if token in there and plans and token not in futures:
            at_steps(Waypoints(np.zeros((1, 2)), adapter.parse.of(row.type).dt), 1)  # SennaPruneError: they miss the half seconds
            futures[token] = future_of(nusc, token, steps).to_dict()
        if token in there and "history" in _facts(adapter) and "history" not in facts:
            if token not in driven:
                driven[token] = history_of(nusc, token)
            turned = driven[token] @ TO_RIGHT_FORWARD[adapter.parse.of(row.type).axes].T
            facts["history"] = history_words(turned)
        found.append(replace(row, facts=facts, future=futures.get(token) if plans else None, earlier=earlier.get(token, {})))
    return found


def _facts(adapter: Adapter) -> set[str]:
    """Facts that its prompt states."""
    return {one.name for one in (*placeholders(adapter.prompt.user), *placeholders(adapter.prompt.system or ""))} & set(FACTS)


def _tables(given: str | None, root: Path) -> Any:
    """The tables at ``given``, or beside the images, if that folder is a data root with one version; else None."""
    from senna_autoprune.nuscenes.scenes import load_tables

    place = Path(given) if given is not None else root
    versions = sorted(path.parent.name for path in place.glob("*/scene.json"))
    if given is not None and len(versions) != 1:
        there = f"it holds {', '.join(versions)}" if versions else "no folder in it has a scene.json"
        raise SennaPruneError(f"--tables {given} must be a folder that holds one table version, like v1.0-mini ({there})")
    return load_tables(place, versions[0]) if len(versions) == 1 else None


def truths_identity(questions: Sequence[QuestionRow]) -> dict[str, str]:
    """A hash of all of it, for ``config.yaml``; empty where no question has any."""
    known = [
        [question.question, dict(question.facts), sorted([*key, path] for key, path in question.earlier.items()), question.future]
        for question in questions
        if question.facts or question.earlier or question.future
    ]
    return {"truths_sha256": hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()} if known else {}
