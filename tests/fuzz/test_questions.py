"""The question reader: any bytes give records or one error of ours, however the file is cut into chunks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from senna_autoprune.errors import SennaPruneError, one_line
from senna_autoprune.files import json_stream
from senna_autoprune.nuscenes.questions_file import iter_questions, read_sidecar, sidecar_path

FUZZ = settings(settings.get_profile("fuzz"), max_examples=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = ("token", "image", "images", "conversations", "id", "scene_token", "senna_prune")
GOOD = {"token": "t", "images": ["a.png"], "conversations": [{"from": "human", "value": "<image> go?"}, {"from": "gpt", "value": "KEEP"}]}
NEARLY = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3).map(lambda changes: {**GOOD, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read(path: Path, content: bytes, chunk: int = 1 << 20) -> list[dict[str, Any]] | None:
    """The records, each used as the package uses it; None if the file is refused with one line."""
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        try:
            records = list(iter_questions(path))
        except SennaPruneError as error:
            assert one_line(error).isprintable()
            return None
    for record in records:
        assert all(isinstance(text, str) for text in (record.token, record.text, record.answer, record.type, record.id, *record.images))
        assert isinstance(record.scene, str | None)
        "".join((record.token, record.text, record.answer, *record.images)).encode()
    return [dict(record) for record in records]


@FUZZ
@given(st.binary())
@example(b"[" * 3000)
@example(b"[" + b"9" * 5000)
@example(b'[{"a": ' + b"9" * 5000 + b"}]")
def test_any_bytes(folder: Path, content: bytes) -> None:
    read(folder / "bytes.json", content)


@FUZZ
@given(st.lists(NEARLY | JSON, max_size=4), st.integers(1, 40))
def test_any_records_in_any_chunks(folder: Path, records: list[Any], chunk: int) -> None:
    content = json.dumps(records).encode()
    whole = read(folder / "records.json", content)
    assert read(folder / "records.json", content, chunk) == whole or whole != whole  # NaN differs from itself
    if whole is not None:
        assert json.dumps(whole) == json.dumps(records)


@FUZZ
@given(
    st.lists(st.lists(JSON, max_size=3) | st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=4),
    st.booleans(),
    st.integers(1, 40),
)
def test_elements_are_those_of_the_standard_decoder(folder: Path, values: list[Any], escaped: bool, chunk: int) -> None:
    """The slow twin reads the file at once: half characters, NaN, infinities and large whole numbers are as they are there."""
    path = folder / "list.json"
    try:
        path.write_text(json.dumps(values, ensure_ascii=escaped), encoding="utf-8")
    except UnicodeEncodeError:
        return  # half a character, not escaped
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        found = list(json_stream.iter_elements(path, "file", "things", "thing", "write it again"))
    assert json.dumps(found) == json.dumps(json.loads(path.read_text(encoding="utf-8")))


@FUZZ
@given(st.lists(NEARLY, min_size=1, max_size=3), st.data())
def test_a_cut_or_changed_file_is_never_read_as_the_whole(folder: Path, records: list[Any], data: st.DataObject) -> None:
    content = json.dumps(records).encode()
    cut = data.draw(st.integers(0, len(content) - 1))
    assert read(folder / "cut.json", content[:cut]) is None
    place, byte = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 255))
    read(folder / "cut.json", content[:place] + bytes([byte]) + content[place + 1 :])


@FUZZ
@given(JSON | st.dictionaries(st.sampled_from(("dataroot", "data", "variant", "scenes", "sha256")), JSON))
def test_any_sidecar(folder: Path, value: Any) -> None:
    path = folder / "side.json"
    path.write_text("[]")
    sidecar_path(path).write_text(json.dumps(value))
    try:
        found = read_sidecar(path)
    except SennaPruneError as error:
        assert one_line(error).isprintable()
    else:
        assert isinstance(found.get("dataroot", ""), str)
        assert isinstance(found.get("data", {}).get("version", ""), str)
        assert isinstance(found.get("variant", {}), dict)
