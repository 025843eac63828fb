"""What a checkpoint folder may hold before a library reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna.folder import check_folder, check_tokenizer, nested_repeat

# of tokenizers in use: GPT-2, GPT-4 and Qwen, GPT-4o, Llama's and DeepSeek's splitters
IN_USE = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t)?|\p{N}{1,3}|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+",
    r"[!-/:-~!-/:-~‘-‟　-。]+", r"\s?[A-Za-z\xb5]+", r"\s+$", r"[一-龥ࠀ-一가-퟿]+", r"[+*][^)]*(?:a+b)[()]?",
)  # fmt: skip
BLOW_UP = (r"(a+)+", r"(.*)*x", r"(?:[a-z]*\s?)+\d", r"((ab)*c)*", r"(x(y+)z){2,}", r"(a|b+){1,}", r"(?:a+?)+?", r"(\w++)*")


@pytest.mark.parametrize("pattern", IN_USE)
def test_patterns_in_use_pass(pattern: str) -> None:
    assert not nested_repeat(pattern)


@pytest.mark.parametrize("pattern", BLOW_UP)
def test_a_repeat_within_a_repeat_is_seen(pattern: str) -> None:
    assert nested_repeat(pattern)


def replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


@pytest.mark.parametrize(
    "normalizer",
    [
        None,
        sequence({"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")),
        sequence({"type": "NFD"}, {"type": "Lowercase"}, {"type": "Strip"}, *[replace("x", "y")] * 20),
        replace("e" * 10, "x" * 100),
    ],
)
def test_normalisers_in_use_pass(normalizer: Any) -> None:
    check_tokenizer({"normalizer": normalizer, "decoder": {"type": "Sequence", "decoders": [replace("▁", " ")]}}, Path("t.json"))


@pytest.mark.parametrize(
    ("normalizer", "line"),
    [
        (replace("e", "x" * 33), "33 times as long"),
        (sequence(*[replace("e", "ee")] * 6), "64 times as long"),
        (sequence(sequence(*[replace("e", "ee")] * 3), sequence(*[replace("e", "ee")] * 3)), "64 times as long"),
        ({"type": "Prepend", "prepend": "x" * 1000}, "1000 times as long"),
        (sequence(*[replace("x", "y")] * 65), "65 steps"),
        ({"type": "Replace", "pattern": {"Regex": "a" * 2001}, "content": ""}, "search without an end"),
    ],
)
def test_normalisers_that_grow_are_refused(normalizer: Any, line: str) -> None:
    with pytest.raises(SennaPruneError, match=line):
        check_tokenizer({"normalizer": normalizer}, Path("t.json"))
    with pytest.raises(SennaPruneError, match=line):
        check_tokenizer({"decoder": normalizer}, Path("t.json"))


def test_a_folder_of_files_links_and_folders_passes(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "x").write_text(json.dumps({"normalizer": None}))
    (tmp_path / "tokenizer.json").symlink_to("blobs/x")  # as the hub's cache has it
    (tmp_path / "gone.json").symlink_to("nowhere")
    check_folder(tmp_path)


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "chat_template.jinja")
    with pytest.raises(SennaPruneError, match=r"chat_template\.jinja is no regular file"):
        check_folder(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "vocab.json").touch()
    os.truncate(tmp_path / "vocab.json", 64_000_001)
    with pytest.raises(SennaPruneError, match=r"vocab\.json is larger than 64000000 bytes"):
        check_folder(tmp_path)
