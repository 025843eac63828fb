"""The formats people hold, each as a stream of pairs: DriveLM v1.1, RoboSense and DriveBench, LLaVA's JSON, tables.

Which one a file is, is read from its content. What is no such file is refused with the keys that were found.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import read_json, text_fault
from senna_autoprune.files.regular import open_regular_text
from senna_autoprune.formats.pairs import Pair
from senna_autoprune.nuscenes.questions_file import iter_json_list

LARGEST = 2_000_000_000  # bytes of a file that is one JSON object (DriveLM's training set has some hundred million)
LONGEST_LINE = 16_000_000
STAGES = ("perception", "prediction", "planning", "behavior")
IMAGE_KEYS = ("img_paths", "image_paths", "image_path", "img_path")
ROLES = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt", "system": "system"}
LICENCES = {"drivelm": "CC BY-NC-SA 4.0 (OpenDriveLab/DriveLM; the pictures are nuScenes', under its own terms)"}


def read_pairs(path: Path) -> tuple[str, Iterator[Pair]]:
    """The format's name (drivelm, robosense, llava, table) and the file's pairs, one at a time.

    Raises:
        SennaPruneError: unreadable, broken, or of no known format; while it is read, a record that is broken (names it).
    """
    if path.is_dir() or not path.exists():
        raise SennaPruneError(f"{path} is a folder: name a file" if path.is_dir() else f"file not found: {path}")
    if path.suffix.lower() in (".csv", ".tsv"):
        return "table", _table(path)
    head = _head(path).lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        return _by_record(path, iter_json_list(path))
    if head.startswith("{"):
        lines = _lines(path)
        try:
            first = next(lines)
        except (SennaPruneError, StopIteration):
            return "drivelm", _drivelm(path)
        if isinstance(first, dict) and _reader(first) is not None:
            return _by_record(path, _lines(path))
        return "drivelm", _drivelm(path)
    raise SennaPruneError(f"{path} is neither JSON, JSON lines nor CSV: see `senna-prune questions convert --help` for the formats")


def _head(path: Path) -> str:
    try:
        with open_regular_text(path, errors="replace") as file:
            return file.read(4096)
    except OSError as error:
        raise SennaPruneError(f"cannot read {path}: {error.strerror or error}") from error


def _lines(path: Path) -> Iterator[Any]:
    """JSON lines; empty ones are skipped."""
    try:
        with open_regular_text(path, "utf-8-sig") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise SennaPruneError(f"{path}:{number}: a line of more than {LONGEST_LINE} characters")
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise SennaPruneError(f"{path}:{number}: broken JSON ({' '.join(str(error).split())[:100]})") from error
                fault = text_fault(value)
                if fault:
                    raise SennaPruneError(f"{path}:{number}: {fault}")
                yield value
    except (OSError, UnicodeDecodeError) as error:
        raise SennaPruneError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _by_record(path: Path, records: Iterator[Any]) -> tuple[str, Iterator[Pair]]:
    """The format that the first record is of; all others must be of it."""
    try:
        first = next(records)
    except StopIteration:
        raise SennaPruneError(f"{path} holds no record") from None
    found = _reader(first) if isinstance(first, dict) else None
    if found is None:
        keys = ", ".join(sorted(map(str, first))[:12]) if isinstance(first, dict) else type(first).__name__
        raise SennaPruneError(
            f"{path}: its first record ({keys}) is of no known format: LLaVA's has 'conversations', RoboSense's 'question' and 'img_paths'"
        )
    name, read = found

    def pairs() -> Iterator[Pair]:
        yield from read(first, f"{path}: record 0")
        for number, record in enumerate(records, 1):
            where = f"{path}: record {number}"
            if not isinstance(record, dict):
                raise SennaPruneError(f"{where} is not an object but {type(record).__name__}")
            yield from read(record, where)

    return name, pairs()


def _reader(record: dict[str, Any]) -> tuple[str, Callable[[dict[str, Any], str], Iterator[Pair]]] | None:
    if "conversations" in record or "messages" in record:
        return "llava", _llava
    if "question" in record and any(key in record for key in IMAGE_KEYS):
        return "robosense", _robosense
    return None


def _text(value: Any, where: str, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SennaPruneError(f"{where}: '{name}' must be a text")
    return value


def _optional(value: Any, where: str, name: str) -> str | None:
    """A text, or None where the file has none; a list of texts is its first."""
    if isinstance(value, list) and value:
        value = value[0]
    if value is None or value == "" or value == []:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SennaPruneError(f"{where}: '{name}' must be a text")
    return str(value)


def _pictures(value: Any, where: str) -> tuple[list[str], dict[str, str]]:
    """Paths in a list or a text, or by camera."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, dict) and value and all(isinstance(path, str) and path for path in value.values()):
        return [], value
    if isinstance(value, list) and all(isinstance(path, str) and path for path in value):
        return value, {}
    raise SennaPruneError(f"{where}: images must be paths, in a list or by camera")


# --- formats ----------------------------------------------------------------------------------------------------------


def _drivelm(path: Path) -> Iterator[Pair]:
    """{scene token: {key_frames: {sample token: {QA: {stage: [{Q, A, tag}]}, image_paths}}}}."""
    data = read_json(path, LARGEST)
    first = next(iter(data.values()), None) if isinstance(data, dict) else None
    if not (isinstance(first, dict) and "key_frames" in first):
        keys = ", ".join(sorted(map(str, data))[:5]) if isinstance(data, dict) else type(data).__name__
        raise SennaPruneError(f"{path}: an object of no known format (it holds {keys[:200]}): DriveLM's has 'key_frames' in each scene")
    for scene, content in data.items():
        frames = content.get("key_frames") if isinstance(content, dict) else None
        if not isinstance(frames, dict):
            raise SennaPruneError(f"{path}: scene {scene}: no 'key_frames'")
        for token, frame in frames.items():
            where = f"{path}: frame {token}"
            if not isinstance(frame, dict) or not isinstance(frame.get("QA"), dict):
                raise SennaPruneError(f"{where}: no 'QA'")
            images, cameras = _pictures(frame.get("image_paths", []), where)
            for stage, pairs in frame["QA"].items():
                if not isinstance(pairs, list) or not all(isinstance(one, dict) for one in pairs):
                    raise SennaPruneError(f"{where}: QA '{stage}' must be a list of objects")
                for one in pairs:
                    answer = _optional(one.get("A"), where, "A")
                    question = _text(one.get("Q"), where, "Q")
                    tag = one.get("tag")
                    facts = {"tag": tag} if isinstance(tag, list) and all(isinstance(number, int) for number in tag) else {}
                    yield Pair(question, answer, images, cameras, str(token), str(scene), str(stage), facts=facts)


def _robosense(record: dict[str, Any], where: str) -> Iterator[Pair]:
    """{scene_token, frame_token, question, answer, category, img_paths}."""
    key = next(key for key in IMAGE_KEYS if key in record) if any(key in record for key in IMAGE_KEYS) else IMAGE_KEYS[0]
    images, cameras = _pictures(record.get(key), where)
    category = _optional(record.get("category", record.get("question_type")), where, "category")
    corruption = _optional(record.get("corruption"), where, "corruption")
    yield Pair(
        _text(record.get("question"), where, "question"),
        _optional(record.get("answer"), where, "answer"),
        images,
        cameras,
        _optional(record.get("frame_token", record.get("sample_token")), where, "frame_token"),
        _optional(record.get("scene_token"), where, "scene_token"),
        category,
        facts={"corruption": corruption} if corruption else {},
    )


def _llava(record: dict[str, Any], where: str) -> Iterator[Pair]:
    """{id, image | images, conversations: [{from: human, value}, {from: gpt, value}, ...]}, or messages with role and content.

    Every pair of turns is a question of its own. The first turn's image marks are put before the later ones, too.
    """
    turns = record.get("conversations", record.get("messages"))
    if not isinstance(turns, list) or not turns:
        raise SennaPruneError(f"{where}: 'conversations' must be a list of turns")
    spoken: list[tuple[str, str]] = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise SennaPruneError(f"{where}: a turn must be an object")
        role = ROLES.get(str(turn.get("from", turn.get("role"))))
        value = turn.get("value", turn.get("content"))
        if role is None or not isinstance(value, str):
            raise SennaPruneError(f"{where}: a turn is {{from: human or gpt, value: text}} (or role and content)")
        spoken.append((role, value))
    systems = [value for role, value in spoken if role == "system"]
    spoken = [one for one in spoken if one[0] != "system"]
    if [role for role, _ in spoken] != ["human", "gpt"] * (len(spoken) // 2) + ["human"] * (len(spoken) % 2):
        raise SennaPruneError(f"{where}: turns of human and gpt must take turns, human first")
    images, cameras = _pictures(record.get("images", record.get("image", [])), where)
    token = _optional(record.get("token", record.get("sample_token")), where, "token")
    scene = _optional(record.get("scene_token", record.get("scene")), where, "scene_token")
    category = _optional(record.get("category"), where, "category")
    for turn, start in enumerate(range(0, len(spoken), 2)):
        answer = spoken[start + 1][1] if start + 1 < len(spoken) else None
        facts = {"turns": (len(spoken) + 1) // 2, **({"system": systems[0]} if systems else {})} if len(spoken) > 2 or systems else {}
        yield Pair(_text(spoken[start][1], where, "value"), answer, images, cameras, token, scene, category, turn, facts)


def _table(path: Path) -> Iterator[Pair]:
    """A CSV (or TSV) with a header: images (several separated by ; or |), question, answer; token, scene, category if there."""
    try:
        with open_regular_text(path, "utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, dialect="excel-tab" if path.suffix.lower() == ".tsv" else "excel", strict=True)
            names = {str(name).strip().lower(): name for name in rows.fieldnames or ()}
            image = next((name for name in ("images", "image", *IMAGE_KEYS) if name in names), None)
            if image is None or "question" not in names:
                found = ", ".join(names)[:200]
                raise SennaPruneError(f"{path}: its first line must name columns images, question and answer (it names {found})")
            for row in rows:
                where = f"{path}:{rows.line_num}"
                if None in row:
                    raise SennaPruneError(f"{where}: more cells than columns: put cells that hold a separator into quotes")
                fault = text_fault({str(key): value for key, value in row.items()})
                if fault:
                    raise SennaPruneError(f"{where}: {fault}")

                def cell(name: str, row: Any = row) -> str | None:
                    return ((row.get(names[name]) or "").strip() or None) if name in names else None

                paths = [part.strip() for part in (cell(image) or "").replace("|", ";").split(";") if part.strip()]
                scene = cell("scene_token") or cell("scene")
                token = cell("token") or cell("frame_token")
                yield Pair(_text(cell("question"), where, "question"), cell("answer"), paths, {}, token, scene, cell("category"))
    except csv.Error as error:
        raise SennaPruneError(f"{path}:{rows.line_num}: not a CSV ({error})") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SennaPruneError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
