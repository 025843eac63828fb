"""``questions filter``, ``sample`` and ``merge``: which questions of a file are asked, with the sidecar saying how they were chosen.

A sample that is not drawn evenly carries weights: a question's ``senna_prune.weight`` is its group's share of all questions over
its group's share of the sample, so that weighted means over the sample estimate those over the file it was drawn from.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from senna_autoprune import __version__
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.breakdown import ATTRIBUTES, attributes_of
from senna_autoprune.files.yaml_files import suggest
from senna_autoprune.nuscenes.labels import LabelCounts, labels_of
from senna_autoprune.nuscenes.questions import FORMAT
from senna_autoprune.nuscenes.questions_file import Question, QuestionFile, QuestionWriter, read_questions, write_sidecar
from senna_autoprune.nuscenes.scene_facts import scene_facts

CONDITIONS = ("type", "scene", "label", "category", *ATTRIBUTES)
NO_LABEL = "no label"
KEPT = ("data", "variant", "scenes", "source", "teacher", "notes")  # of the first file's sidecar

Key = Callable[[Question], str]


def condition_of(file: QuestionFile, name: str) -> Key:
    """What a question says of a condition. SennaPruneError: an unknown one."""
    if name not in CONDITIONS:
        raise SennaPruneError(f"unknown condition {name!r}{suggest(name, CONDITIONS)}")

    def key(question: Question) -> str:
        if name == "type":
            return question.type
        if name == "scene":
            return question.scene or question.token
        if name == "label":
            found = labels_of(question.type, question.answer)
            return found[0] if len(found) == 1 else NO_LABEL if not found else "several labels"
        if name == "category":
            return str(question.get("senna_prune", {}).get("category", "unknown"))
        facts = scene_facts(question, file.sidecar)
        return attributes_of(question.text, facts.get("description"), facts.get("location"))[name]

    return key


def filter_questions(
    path: str | os.PathLike[str], out: str | os.PathLike[str], where: Mapping[str, Collection[str]], limit: int | None = None
) -> dict[str, Any]:
    """The questions that have one of the named values of every condition.

    Args:
        where: condition -> accepted values; for scenes their names or tokens.
        limit: only the first of them.
    Raises:
        SennaPruneError: an unknown condition, a value no question has (names those there are), or none is left.
    """
    file = _read(path, out)
    chosen = list(file.records)
    for name, accepted in where.items():
        key = condition_of(file, name)
        known = Counter(key(question) for question in file.records)
        for value in accepted:
            if value not in known:
                listed = list(known)[:20] + ([f"and {len(known) - 20} more"] if len(known) > 20 else [])
                raise SennaPruneError(f"{path}: no question has {name} {value!r}{suggest(value, listed)}")
        chosen = [question for question in chosen if key(question) in accepted]
    if not chosen:
        raise SennaPruneError(f"{path}: no question is left: no two of these conditions hold together")
    if limit is not None:
        chosen = chosen[:limit]
    return _write(out, chosen, [file], {"filter": {name: sorted(values) for name, values in where.items()}, "of": len(file.records)})


def sample_questions(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    count: int,
    by: str = "label",
    balanced: bool = True,
    seed: int = 0,
    types: Collection[str] = (),
) -> dict[str, Any]:
    """``count`` questions drawn without replacement from the groups of a condition, in file order, with weights.

    Args:
        balanced: as many of each group as there are (smaller groups give all they have, the others make up for them); else in
            proportion to the groups (largest remainders), so that every weight is near 1.
        types: only questions of these types; empty: of all.
    Raises:
        SennaPruneError: more questions than there are, an unknown condition, or fewer than one a group.
    """
    file = _read(path, out)
    there = [(index, question) for index, question in enumerate(file.records) if not types or question.type in types]
    if not 0 < count <= len(there):
        kinds = f" of type {' or '.join(types)}" if types else ""
        raise SennaPruneError(f"{path} has {len(there)} questions{kinds}: a sample of {count} cannot be drawn")
    key = condition_of(file, by)
    groups: dict[str, list[int]] = {}
    for index, question in there:
        groups.setdefault(key(question), []).append(index)
    if count < len(groups):
        raise SennaPruneError(f"{len(groups)} groups by {by}: a sample of {count} would leave some out; draw at least {len(groups)}")
    sizes, total = {name: len(members) for name, members in groups.items()}, len(there)
    taken = _even(sizes, count) if balanced else _in_proportion(sizes, count)
    rng = np.random.default_rng(seed)
    weights: dict[int, float] = {}
    for name in sorted(groups):
        weight = _weight(sizes[name], taken[name], total, count)
        for index in rng.choice(groups[name], size=taken[name], replace=False):
            weights[int(index)] = weight
    chosen = []
    for index in sorted(weights):
        record = Question(file.records[index])
        before = record.get("senna_prune", {}).get("weight", 1.0)
        record["senna_prune"] = {**record.get("senna_prune", {}), "weight": weights[index] * before}
        chosen.append(record)
    facts = {name: {"of": sizes[name], "taken": taken[name], "weight": _weight(sizes[name], taken[name], total, count)} for name in groups}
    design = {"by": by, "balanced": balanced, "seed": seed, "of": total, "groups": facts, **({"types": sorted(types)} if types else {})}
    return _write(out, chosen, [file], {"sample": design})


def _weight(size: int, taken: int, total: int, count: int) -> float:
    """A group's share of all questions over its share of the sample."""
    return (size * count) / (total * taken)


def merge_questions(paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> dict[str, Any]:
    """All questions of several files, in order; what is asked twice is kept once.

    Relative image paths of files with different data roots become absolute.

    Raises:
        SennaPruneError: one asks the same question with another answer than an earlier one (names both).
    """
    files = [_read(path, out) for path in paths]
    roots = [str(Path(file.sidecar.get("dataroot") or file.path.parent).resolve()) for file in files]
    one_root = len(set(roots)) == 1
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    chosen, repeated = [], 0
    for file, root in zip(files, roots, strict=True):
        for index, question in enumerate(file.records):
            where = f"{file.path}: record {index}"
            key = (question.token, question.text)
            if key in seen:
                if seen[key][0] != question.answer.strip():
                    raise SennaPruneError(f"{where} asks the same as {seen[key][1]} and has another answer: remove one of them")
                repeated += 1
                continue
            seen[key] = (question.answer.strip(), where)
            chosen.append(question if one_root else _absolute(question, root))
    facts = {"merged": [{"file": file.path.name, "records": len(file.records), **_source(file)} for file in files], "asked_twice": repeated}
    scenes: dict[str, Any] = {}
    for file in files:
        scenes.update(file.sidecar.get("scenes", {}))
    return _write(out, chosen, files, {**facts, **({"scenes": scenes} if scenes else {})}, roots[0] if one_root else None)


def _read(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> QuestionFile:
    if Path(out).exists() and Path(path).exists() and Path(path).samefile(out):
        raise SennaPruneError(f"--out {out} is the file that is read: name another")
    file = read_questions(path)
    if not file.records:
        raise SennaPruneError(f"{path} has no question")
    return file


def _source(file: QuestionFile) -> dict[str, Any]:
    return {key: file.sidecar[key] for key in ("sha256", "source") if key in file.sidecar}


def _absolute(question: Question, root: str) -> Question:
    images = [str(Path(root) / image) for image in question.images]
    return Question({**question, "image": images[0], "images": images})


def _even(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """As equal as the groups' sizes allow; what is left of an uneven division goes to the first by name."""
    taken = dict.fromkeys(sizes, 0)
    left = count
    while left:
        open_groups = [name for name in sorted(sizes) if taken[name] < sizes[name]]
        each = max(1, left // len(open_groups))
        for name in open_groups:
            more = min(each, sizes[name] - taken[name], left)
            taken[name] += more
            left -= more
    return taken


def _in_proportion(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Largest remainders, and at least one of each group."""
    total = sum(sizes.values())
    shares = {name: count * size / total for name, size in sizes.items()}
    taken = {name: max(1, int(share)) for name, share in shares.items()}
    by_remainder = sorted(sizes, key=lambda name: (taken[name] - shares[name], name))
    while sum(taken.values()) < count:
        for name in by_remainder:
            if sum(taken.values()) < count and taken[name] < sizes[name]:
                taken[name] += 1
    while sum(taken.values()) > count:
        name = max((name for name in sizes if taken[name] > 1), key=lambda name: (taken[name] - shares[name], name))
        taken[name] -= 1
    return taken


def _write(
    out: str | os.PathLike[str], chosen: Sequence[Question], files: Sequence[QuestionFile], facts: dict[str, Any], root: str | None = None
) -> dict[str, Any]:
    counts = LabelCounts()
    with QuestionWriter(out) as writer:
        for question in chosen:
            counts.add(question)
            writer.write(question)
    first = files[0].sidecar if len(files) == 1 else {}
    dataroot = root or first.get("dataroot") or (str(files[0].path.parent.resolve()) if len(files) == 1 else None)
    sidecar = {
        "format": FORMAT,
        "sha256": writer.sha256,
        "records": writer.count,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"senna_autoprune": __version__},
        **{key: first[key] for key in KEPT if key in first},
        **({"dataroot": dataroot} if dataroot else {}),
        "chosen_from": [{"file": file.path.name, **_source(file)} for file in files],
        **facts,
        **counts.to_dict(),
    }
    write_sidecar(out, sidecar)
    return sidecar
