"""Adapter files and files of other formats are somebody else's: whatever they hold, they work or are refused in one line."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from senna_autoprune import SennaPruneError
from senna_autoprune.adapters.schema import Adapter, adapter_of
from senna_autoprune.formats.convert import convert
from senna_autoprune.nuscenes.questions_file import read_questions

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=8) | st.just(float("nan"))
WORDS = ["{asked}", "{question}", "{view:CAM_FRONT}", "CAM_FRONT", "waypoints", "json", "label", "$.a", "auto", "right-forward"]
words = st.sampled_from(WORDS)
parts = {
    "views": ("cameras", "frames", "min_pixels", "max_pixels"),
    "prompt": ("system", "user"),
    "generation": ("max_new_tokens", "stop"),
    "parse": ("kind", "labels", "dt", "axes", "count", "path", "then", "by_type"),
    "score": ("measures", "horizons_s", "conventions", "agreement_m", "heading"),
}
values = scalars | words | st.lists(scalars | words, max_size=3)
adapters = st.fixed_dictionaries(
    {},
    optional={
        name: values | st.dictionaries(st.sampled_from([*keys, "x"]), values | st.dictionaries(words, values, max_size=1), max_size=3)
        for name, keys in parts.items()
    },
)


@given(adapters)
def test_any_adapter_is_one_or_is_refused_in_a_line(mapping):
    try:
        assert isinstance(adapter_of(mapping, "it"), Adapter)
    except SennaPruneError as error:
        assert "\n" not in str(error) and str(error).startswith("it")


KEYS = [
    "key_frames",
    "QA",
    "Q",
    "A",
    "image_paths",
    "img_paths",
    "images",
    "image",
    "question",
    "answer",
    "conversations",
    "messages",
    "from",
    "role",
    "value",
    "content",
    "scene_token",
    "frame_token",
    "tag",
    "perception",
    "CAM_FRONT",
]
texts = st.sampled_from(["a.jpg", "human", "gpt", "user", "<image>", "Free?", "A. x B. y", "Yes.", "", "\x00", "../a.jpg", "/etc/passwd"])
anything = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5), max_leaves=12
)
turn = st.fixed_dictionaries({"from": texts, "value": texts | anything})
talk = st.lists(turn, max_size=4)
record = st.fixed_dictionaries(
    {}, optional={"question": texts, "answer": anything, "img_paths": anything, "images": anything, "conversations": talk}
)
frames = st.dictionaries(
    texts,
    st.fixed_dictionaries(
        {"key_frames": st.dictionaries(texts, st.fixed_dictionaries({}, optional={"QA": anything, "image_paths": anything}), max_size=2)}
    ),
    max_size=2,
)


@settings(max_examples=60)
@given(st.lists(record | anything, max_size=3) | frames | anything, st.sampled_from(["x.json", "x.jsonl", "x.csv"]))
def test_any_file_is_converted_or_refused_in_a_line(tmp_path_factory, value, name):
    folder = tmp_path_factory.mktemp("any")
    Image.new("RGB", (4, 4)).save(folder / "a.jpg")
    lines = isinstance(value, list) and name == "x.jsonl"
    (folder / name).write_text("\n".join(map(json.dumps, value)) if lines else json.dumps(value))
    try:
        sidecar = convert(folder / name, folder, folder / "out.json")
    except SennaPruneError as error:
        assert "\n" not in str(error) and not (folder / "out.json").exists() and not (folder / "out.json.part").exists()
    else:
        assert len(read_questions(folder / "out.json").records) == sidecar["records"] > 0
