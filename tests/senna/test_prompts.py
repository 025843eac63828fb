import json

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna.prompts import build_prompt, prompt_data, split_at_images
from tests.fixtures import shared


def test_recorded_prompt(recording):
    assert build_prompt(recording.question) == recording.run["prompt"]


def test_templates_are_the_originals():
    recorded = json.loads(shared("fixtures", "senna-samples", "conversation_prompts.json").read_text())
    assert build_prompt("QUESTION", "eval") == recorded["llava_v1"]
    assert build_prompt("QUESTION", "train") == recorded["vicuna_v1"]


def test_source_and_licence_are_kept_with_the_strings():
    assert "cddce26" in prompt_data()["source"]
    assert prompt_data()["licence"] == "Apache-2.0"


def test_placeholder_becomes_a_mark():
    assert build_prompt("a<image-placeholder>b").count("<image>") == 1
    assert len(split_at_images(build_prompt("a<image-placeholder>b<image>"))) == 3


@pytest.mark.parametrize("arguments", [("q", "vicuna"), (7,)])
def test_bad_prompt_is_a_user_error(arguments):
    with pytest.raises(SennaPruneError):
        build_prompt(*arguments)
