"""Question files: what the original writes is read, unknown keys are kept, broken files say what and where."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files import json_stream
from senna_autoprune.nuscenes.builders import QuestionAnswer, conversation
from senna_autoprune.nuscenes.questions_file import (
    Question,
    QuestionWriter,
    iter_questions,
    read_questions,
    read_sidecar,
    sidecar_path,
    write_sidecar,
)

VIEWS = [f"{i}.jpg" for i in range(6)]


def record(number: int = 0, **more) -> dict:
    """A record as the released converter writes it: no id."""
    return {
        "token": f"t{number}",
        "image": VIEWS[0],
        "images": VIEWS,
        "prev": "",
        "next": "",
        "scene_token": "s",
        "fut_valid_flag": "True",
        "ego_fut_trajs": "[0.0, 1.0]",
        "conversations": conversation(QuestionAnswer("... Please answer your SPEED plan ...", "KEEP, STRAIGHT\n")),
        **more,
    }


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_original_records_are_read_and_unknown_keys_kept(tmp_path):
    records = [record(0, extra={"deep": [1, None]}), record(1, id="mine")]
    file = read_questions(written(tmp_path / "q.json", records))
    assert [dict(question) for question in file.records] == records
    assert file.sidecar == {}
    first, second = file.records
    assert (first.id, second.id) == ("t0-plan", "mine")
    assert (first.token, first.type, first.view, first.scene) == ("t0", "plan", None, "s")
    assert (first.images, first.answer) == (VIEWS, "KEEP, STRAIGHT\n")
    assert first.text.startswith("<FRONT VIEW>:")


def test_types_can_be_picked(tmp_path):
    other = record(1, conversations=conversation(QuestionAnswer("Do you see any vulnerable road users?", "No.")))
    path = written(tmp_path / "q.json", [record(0), other])
    assert [q.token for q in read_questions(path, types={"vru"}).records] == ["t1"]


@pytest.mark.parametrize("layout", [None, 2, "spread", "bom"])
def test_any_json_layout_is_read(tmp_path, layout):
    records = [record(i, text="é漢🚗" * i) for i in range(5)]
    text = json.dumps(records, indent=layout if isinstance(layout, int) else None, ensure_ascii=False)
    if layout == "spread":
        text = "\n \t" + text.replace("[{", "[\n\n{") + "\n\n  "
    if layout == "bom":
        text = "\ufeff" + text
    path = tmp_path / "q.json"
    path.write_text(text, encoding="utf-8")
    assert [dict(q) for q in iter_questions(path)] == records


def test_reading_crosses_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", 7)
    records = [record(i) for i in range(3)]
    assert [dict(q) for q in iter_questions(written(tmp_path / "q.json", json.dumps(records, indent=1)))] == records
    assert list(iter_questions(written(tmp_path / "empty.json", " [ ] \n"))) == []


def test_every_pair_of_a_record_is_asked(tmp_path):
    """A record of three pairs, as LLaVA's own files hold them: the images stand in the first question alone."""
    asked = [("How fast?", "KEEP"), ("Which way?", "STRAIGHT"), ("Why?", "The road is free.")]
    turns = [turn for question, answer in asked for turn in conversation(QuestionAnswer(question, answer))]
    for later in turns[2::2]:
        later["value"] = later["value"].rsplit("<image>\n", 1)[1]
    several = {**record(1, id="mine"), "conversations": turns}
    found = list(iter_questions(written(tmp_path / "q.json", [record(0), several, record(2)])))
    assert [q.id for q in found] == ["t0-plan", "mine", "mine-2", "mine-3", "t2-plan"]
    assert [(q.text, q.answer) for q in found[1:4]] == [(conversation(QuestionAnswer(*pair))[0]["value"], pair[1]) for pair in asked]
    assert all(q.images == VIEWS and len(q["conversations"]) == 2 for q in found)


def test_paths_of_windows_are_understood(tmp_path):
    names = [f"samples\\CAM\\{i}.jpg" for i in range(6)]
    (question,) = iter_questions(written(tmp_path / "q.json", [record(images=names)]))
    assert question.images[5] == "samples/CAM/5.jpg" and question["images"] == names


GOOD = json.dumps([record(0), record(1)])


@pytest.mark.parametrize(
    "content,says",
    [
        ("", "not a JSON list"),
        ("{}", "not a JSON list"),
        ("null", "not a JSON list"),
        (GOOD[:-1], "cut off after 2 records"),
        (GOOD[: len(GOOD) - 40], "record 1 is broken or cut off"),
        ("[", "cut off after 0 records"),
        (GOOD + "x", "text after the end"),
        (GOOD.replace('}]}, {"token"', '}]} {"token"'), "record 1 is broken or cut off (Expecting ','"),
        ("[1]", "record 0 is not an object"),
        ('["a"]', "record 0 is not an object"),
        ("[[1]]", "record 0: not an object but list"),
        (GOOD[:-1] + ",]", "record 2 is broken or cut off"),
        ([{**record(), "token": 5}], "record 0: no sample 'token'"),
        ([record(0), {k: v for k, v in record().items() if k != "token"}], "record 1: no sample 'token'"),
        ([record(conversations=[])], "human and a gpt turn"),
        ([record(conversations="hello")], "human and a gpt turn"),
        ([record(conversations=record()["conversations"] + record()["conversations"][:1])], "3 turns: the last one has no answer"),
        ([record(conversations=[{"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}])], "from: human"),
        ([record(conversations=[{"from": "human", "value": "a"}, {"from": "gpt", "value": None}])], "from: gpt"),
        ([record(images="a.jpg")], "list of file paths"),
        ([record(images=[])], "list of file paths"),
        ([record(images=[None] * 6)], "list of file paths"),
        ([record(images=VIEWS[:5])], "6 image marks, 'images' lists 5"),
        ([record(senna_prune="x")], "'senna_prune' must be an object"),
        ("[" * 100_000, "q.json"),
    ],
)
def test_broken_files_say_what_and_where(tmp_path, content, says):
    path = written(tmp_path / "q.json", content)
    with pytest.raises(SennaPruneError) as caught:
        read_questions(path)
    assert says in str(caught.value)
    assert "q.json" in str(caught.value) and "\n" not in str(caught.value)


def test_unreadable_files(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SennaPruneError, match=r"cannot read|no regular file"):
            read_questions(path)
    (tmp_path / "latin.json").write_bytes(b'["\xff"]')
    with pytest.raises(SennaPruneError, match="cannot read"):
        read_questions(tmp_path / "latin.json")


def test_writer_streams_and_renames_at_the_end(tmp_path):
    path = tmp_path / "q.json"
    with QuestionWriter(path) as writer:
        for i in range(3):
            writer.write(record(i))
            assert not path.exists()
    assert json.loads(path.read_text()) == [record(i) for i in range(3)]
    assert [q.token for q in read_questions(path).records] == ["t0", "t1", "t2"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_writer_leaves_the_old_file(tmp_path):
    path = written(tmp_path / "q.json", "[]")
    with pytest.raises(KeyboardInterrupt), QuestionWriter(path) as writer:
        writer.write(record())
        raise KeyboardInterrupt
    assert path.read_text() == "[]"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writers_remains_are_overwritten(tmp_path):
    path = tmp_path / "q.json"
    written(tmp_path / "q.json.part", "rubbish" * 1000)
    with QuestionWriter(path):
        pass
    assert json.loads(path.read_text()) == []


def test_writer_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(SennaPruneError, match="cannot write"), QuestionWriter(tmp_path / "no" / "q.json"):
        pass
    with pytest.raises(SennaPruneError, match="is a folder"), QuestionWriter(tmp_path):
        pass


def test_sidecar_belongs_to_its_file(tmp_path):
    path = tmp_path / "q.json"
    with QuestionWriter(path) as writer:
        writer.write(record())
    write_sidecar(path, {"sha256": writer.sha256, "data": {"version": "v"}})
    assert read_questions(path).sidecar["data"] == {"version": "v"}
    written(path, [record(5)])
    with pytest.raises(SennaPruneError, match="another content"):
        read_questions(path)
    for rubbish in ("{", "[]", "3"):
        sidecar_path(path).write_text(rubbish)
        with pytest.raises(SennaPruneError, match=r"meta\.json"):
            read_sidecar(path)


def test_memory_stays_flat(tmp_path):
    path = tmp_path / "q.json"
    tracemalloc.start()
    with QuestionWriter(path) as writer:
        for i in range(6_000):
            writer.write(record(i))
    count = sum(1 for _ in iter_questions(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 6_000 and path.stat().st_size > 3e6
    assert peak < 5 * (1 << 20), f"{peak} bytes"  # a few chunks, whatever the file's size


def test_question_is_the_record_itself():
    question = Question(record())
    question["answer_of_mine"] = 1
    assert json.loads(json.dumps(question))["answer_of_mine"] == 1


@pytest.mark.parametrize("chunk", [7, 300, 1 << 20])
@pytest.mark.parametrize("odd", ["\\u001b", "\\b", "\\ud800", "\\u007f", "\x7f", "\x9b"])
def test_what_is_no_text_is_found_in_whichever_chunk(tmp_path, monkeypatch, odd, chunk):
    """Of chunks that hold no mark of it the records are not looked through."""
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = tmp_path / "qa.json"
    good = [json.dumps(record(number)) for number in range(4)]
    path.write_text("[" + ",\n".join([*good, json.dumps(record(4, scene_token="KEY")).replace("KEY", odd), *good]) + "]")
    with pytest.raises(SennaPruneError, match="record 4 is broken or cut off"):
        list(iter_questions(path))
    path.write_text("[" + ",\n".join([*good, json.dumps(record(4, scene_token="é\\n")), *good]) + "]")
    assert [question.token for question in iter_questions(path)] == ["t0", "t1", "t2", "t3", "t4", "t0", "t1", "t2", "t3"]


def test_texts_that_nobody_shows_are_not_looked_through(tmp_path, monkeypatch):
    """nuScenes' large tables: looking at each chunk for odd characters was a fifth of the time that loading takes."""
    path = tmp_path / "ego_pose.json"
    path.write_text(json.dumps([{"token": "a\\u0062"}, {"token": "b"}]))
    monkeypatch.setattr(json_stream, "_ODD", None)
    asked = (path, "table", "rows", "row", "unpack again")
    assert len(list(json_stream.iter_elements(*asked))) == 2
    with pytest.raises(TypeError):  # a question file is
        list(json_stream.iter_elements(*asked, text=True))


ELEMENTS = ("things.json", "file", "things", "thing", "write it again")


@pytest.mark.parametrize("chunk", [5, 1 << 12])
@pytest.mark.parametrize(
    ("odd", "value"),
    [
        ("NaN", float("nan")),
        ('NaN, "says": "premature EOF"', float("nan")),
        ('NaN, "says": "trailing garbage"', float("nan")),
        ("-Infinity", float("-inf")),
        ("1e999", float("inf")),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ('"\\ud83d\\ude97"', "\U0001f697"),
        ('"\\ud83d"', "\ud83d"),
        ("[" * 500 + "]" * 500, None),
    ],
)
def test_what_ijson_would_not_read_rightly_is_read_by_the_standard_decoder(tmp_path, monkeypatch, odd, value, chunk):
    """Elements before it come in pieces, the rest of a file whole, each once; none that is larger than is read whole."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    monkeypatch.setattr(json_stream, "BRACKETS", 400 - chunk)
    Path("things.json").write_text("[" + ", ".join([*(f'{{"n": {n}}}' for n in range(3)), f'{{"odd": {odd}}}', '{"n": 4}']) + "]")
    found = list(json_stream.iter_elements(*ELEMENTS))
    assert [one.get("n") for one in found] == [0, 1, 2, None, 4]
    assert value is None or repr(found[3]["odd"]) == repr(value)
    monkeypatch.setattr(json_stream, "WHOLE", 50)
    seen = []
    with pytest.raises(SennaPruneError, match=r"thing \d is broken or cut off \(not to be read in pieces: .*too large to be read whole"):
        seen.extend(json_stream.iter_elements(*ELEMENTS))


@pytest.mark.parametrize("before", range(7))
def test_what_lies_across_two_chunks_is_seen(tmp_path, monkeypatch, before):
    monkeypatch.chdir(tmp_path)
    begin = '[{"text": "'
    filled = begin + "x" * (json_stream.CHUNK - len(begin) - before)
    Path("things.json").write_text(filled + '\\ud83d"}]')
    (found,) = json_stream.iter_elements(*ELEMENTS)
    assert found["text"][-1] == "\ud83d"
    Path("things.json").write_text(filled + '\\u001b"}]')
    with pytest.raises(SennaPruneError, match="thing 0 is broken or cut off"):
        list(json_stream.iter_elements(*ELEMENTS, text=True))


def test_a_plain_file_is_never_read_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(json_stream, "WHOLE", 0)
    things = [{"n": n, "text": "é [{", "place": [1.5, -0.0, 1e-9, n]} for n in range(2000)]
    for escaped in (False, True):
        Path("things.json").write_text("\ufeff \n" + json.dumps(things, ensure_ascii=escaped, indent=1), encoding="utf-8")
        assert list(json_stream.iter_elements(*ELEMENTS, text=True)) == things


def test_memory_does_not_grow_with_brackets(tmp_path, monkeypatch):
    """ijson's would with their square: a gigabyte for twenty thousand."""
    monkeypatch.chdir(tmp_path)
    deep = '{"a": "]]]]]]]]", "b": ' * 30_000
    Path("things.json").write_text("[" + deep)
    tracemalloc.start()
    try:
        with pytest.raises(SennaPruneError, match="thing 0 is broken or cut off"):
            list(json_stream.iter_elements(*ELEMENTS))
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("name", ["qa.json.part", "qa.json.meta.json.part", "qa.json", "qa.json.meta.json"])
def test_a_link_that_waits_in_the_folder_is_not_written_through(tmp_path, name, hard):
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    (tmp_path / "out").mkdir()
    link = tmp_path / "out" / name
    link.hardlink_to(precious) if hard else link.symlink_to(precious)
    path = tmp_path / "out" / "qa.json"
    with QuestionWriter(path, lambda writer: {"sha256": writer.sha256}) as writer:
        writer.write(record())
    assert precious.read_text() == "precious" and not path.is_symlink() and not sidecar_path(path).is_symlink()
    assert [question.token for question in iter_questions(path)] == ["t0"] and read_sidecar(path) == writer.sidecar
