"""The conversation templates a Senna checkpoint was trained and evaluated with.

The strings are the trained interface, so they live in ``prompts.json`` with their source and licence; this file only
joins them. Training wrapped questions with "user" wording, the original evaluation with "human" wording (spec/senna.md
item 5).
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from senna_autoprune.errors import SennaPruneError

IMAGE_TOKEN_ID = -200  # the original's IMAGE_TOKEN_INDEX: one mark a view in input_ids, outside any vocabulary


@cache
def prompt_data() -> dict[str, Any]:
    """The whole of ``prompts.json``: source, licence, image mark and placeholder, templates by name."""
    return json.loads(files(__package__).joinpath("prompts.json").read_text(encoding="utf-8"))


def template_names() -> tuple[str, ...]:
    """Names accepted as ``prompt_template``."""
    return tuple(prompt_data()["templates"])


def build_prompt(question: str, template: str = "eval") -> str:
    """``system USER: question ASSISTANT:`` with every ``<image-placeholder>`` turned into ``<image>``.

    No image mark is added: as in the original, the question itself holds one ``<image>`` a view.

    Raises:
        SennaPruneError: the template is unknown, or the question is not a string.
    """
    data = prompt_data()
    if template not in data["templates"]:
        raise SennaPruneError(f"unknown prompt_template {template!r}: choose one of {', '.join(template_names())}")
    if not isinstance(question, str):
        raise SennaPruneError(f"a question must be a string, got {type(question).__name__}")
    parts = data["templates"][template]
    query = question.replace(data["image_placeholder"], data["image_mark"])
    return f"{parts['system']} {parts['user']}: {query} {parts['assistant']}:"


def split_at_images(prompt: str) -> list[str]:
    """The text chunks between ``<image>`` marks: one more chunk than there are marks."""
    return prompt.split(prompt_data()["image_mark"])
