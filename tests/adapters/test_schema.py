"""Adapters as data: what a file may say, and that every fault names its key."""

from __future__ import annotations

import pytest

from senna_autoprune import SennaPruneError
from senna_autoprune.adapters.open import FAMILIES, built_in, load_adapter
from senna_autoprune.adapters.prompt import Placeholder, fill, split_template
from senna_autoprune.adapters.schema import adapter_of

THREE = ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"]
SHOWN = "{view:CAM_FRONT_LEFT}{view:CAM_FRONT}{view:CAM_FRONT_RIGHT} {speed} m/s {question}"


@pytest.mark.parametrize("family", FAMILIES)
def test_built_in_adapters_are_valid_and_named_after_their_family(family):
    adapter = built_in(family)
    assert (adapter.name, adapter.family) == (family, family)
    assert adapter.views.cameras is None and adapter.prompt.user == "{asked}"


def test_a_file_of_some_lines_is_an_adapter(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "family: qwen2_5_vl\n"
        f"views: {{cameras: {THREE}, frames: [-0.5, 0.0], max_pixels: 200704}}\n"
        f"prompt: {{system: Drive., user: '{SHOWN}'}}\n"
        "generation: {max_new_tokens: 64, stop: END}\n"
        "parse: {kind: waypoints, dt: 0.5, axes: forward-left, count: 6, by_type: {choice: {kind: choice}}}\n"
        "score: {agreement_m: 1.0}\n"
    )
    adapter = load_adapter(str(path))
    assert adapter.name == "mine" and adapter.views.cameras == tuple(THREE) and adapter.generation.stop == ("END",)
    assert adapter.parse.of("choice").kind == "choice" and adapter.parse.of("plan").axes == "forward-left"


FAULTS = [
    ({"parse": {"by_type": {"choise": {"kind": "choice"}}}}, r"by_type: unknown question type 'choise' \(did you mean 'choice'"),
    ({"score": {"horizons_s": [0.7]}}, "score.horizons_s: horizons are whole half seconds"),
    ({"viewz": {}}, "unknown key 'viewz'.*views"),
    ({"views": {"camras": THREE}}, r"unknown key 'views.camras' \(did you mean 'cameras'"),
    ({"views": {"frames": [0.0, -0.5], "cameras": THREE}}, "views.frames: frames must ascend"),
    ({"views": {"frames": [-0.5, 0.0]}}, "views: frames in time need cameras"),
    ({"views": {"min_pixels": 9, "max_pixels": 4}}, "views: min_pixels 9 is more"),
    ({"views": {"max_pixels": 0}}, "views.max_pixels"),
    ({"prompt": {"user": "{asked} {spede}"}}, r"prompt.user: unknown placeholder \{spede\}"),
    ({"prompt": {"user": "{asked.__class__}"}}, "unknown placeholder"),
    ({"prompt": {"user": "no question"}}, "prompt: prompt.user asks nothing"),
    ({"prompt": {"user": "{question}"}}, "shows no picture"),
    ({"prompt": {"user": "{asked} }"}}, "a '}' alone"),
    ({"prompt": {"user": "{view} {question}"}}, "names no camera"),
    ({"prompt": {"system": "{asked}"}}, "pictures belong into prompt.user"),
    ({"prompt": {"user": "{view:CAM_FRONT} {question}"}}, "list it in views.cameras"),
    ({"views": {"cameras": ["CAM_FRONT"]}}, r"use \{question\}"),
    ({"views": {"cameras": ["CAM_FRONT", "CAM_BACK"]}, "prompt": {"user": "{view:CAM_FRONT}{question}"}}, "CAM_BACK, which prompt.user"),
    (
        {"views": {"cameras": ["CAM_FRONT", "CAM_BACK"]}, "prompt": {"user": "{view:CAM_BACK}{view:CAM_FRONT}{question}"}},
        "give both in one order",
    ),
    (
        {"views": {"cameras": ["CAM_FRONT"], "frames": [-1, 0]}, "prompt": {"user": "{view:CAM_FRONT@0}{question}"}},
        "must show CAM_FRONT once at each of views.frames",
    ),
    ({"generation": {"max_new_tokens": 0}}, "generation.max_new_tokens"),
    ({"generation": {"temperature": 1}}, "unknown key 'generation.temperature'"),
    ({"parse": "wayponts"}, "parse.kind"),
    ({"parse": {"kind": "label"}}, "parse: kind label needs labels"),
    ({"parse": {"kind": "json"}}, "parse: kind json needs a path"),
    ({"parse": {"kind": "json", "path": "$..x"}}, "parse.path"),
    ({"parse": {"kind": "waypoints", "dt": float("nan")}}, "parse.dt"),
    ({"score": {"horizons_s": [3, 1]}}, "score.horizons_s"),
    ({"score": {"measures": ["l3"]}}, "score.measures"),
]


@pytest.mark.parametrize(("values", "message"), FAULTS)
def test_a_fault_names_its_key(values, message):
    with pytest.raises(SennaPruneError, match=message) as caught:
        adapter_of(values, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ") and "\n" not in str(caught.value)


def test_unknown_adapters_are_refused_with_a_suggestion():
    with pytest.raises(SennaPruneError, match="did you mean 'qwen2_5_vl'"):
        load_adapter("qwen2_5_v")


def test_a_template_is_text_and_placeholders():
    assert split_template("a {{b}} {view:CAM_FRONT@-0.5}{question}") == [
        "a ",
        "{",
        "b",
        "}",
        " ",
        Placeholder("view", "CAM_FRONT", -0.5),
        Placeholder("question"),
    ]


def test_filling_joins_text_and_refuses_what_is_not_known():
    pictures = {"CAM_FRONT": [(-0.5, 1), (0.0, 2)]}
    template = "go {view:CAM_FRONT}, now {view:CAM_FRONT@0} at {speed} m/s. {question}"
    parts = fill(template, "Free?", [], pictures, {"speed": "4"}, "question 3")
    assert parts == ["go ", 1, 2, ", now ", 2, " at 4 m/s. Free?"]
    with pytest.raises(SennaPruneError, match="question 3 states no command"):
        fill("{command}{question}", "Free?", [], {}, {"speed": "4"}, "question 3")
    with pytest.raises(SennaPruneError, match="question 3 has no picture of CAM_BACK"):
        fill("{view:CAM_BACK}", "Free?", [], pictures, {}, "question 3")
    assert fill("{question}", "{speed} <image>", [], {}, {}, "it") == ["{speed} <image>"]  # a question is no template
