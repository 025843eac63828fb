"""Checkpoints that name code of their own, and tokenizers and processors that do not work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.case import Corpus, Place

CASES = Corpus("code and tokenizers")
FILES = ("config.json", "processor_config.json", "tokenizer_config.json", "generation_config.json")
AUTO = ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor")


def _plant(model: Path, place: Place) -> None:
    """Python files that leave a mark wherever they are imported."""
    (model / "custom_generate").mkdir()
    for name in ("remote.py", "custom_generate/generate.py", "configuration_senna.py", "modeling_senna.py"):
        (model / name).write_text(f"open({str(place.pwned)!r}, 'w').close()\nclass Remote: pass\ndef generate(*a, **k): pass\n")


def _edit(model: Path, file: str, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((model / file).read_text()) if (model / file).exists() else {}
    change(values)
    (model / file).write_text(json.dumps(values))


def _code(name: str, change: Callable[[Path], object], line: str, *codes: int, original: bool = False) -> None:
    """A checkpoint with Python files beside it that something names. Its weights are good: ignoring the code is right too."""

    def make(place: Place) -> list[str]:
        model = place.checkpoint(original)
        _plant(model, place)
        change(model)
        return place.evaluate(model=model)

    CASES.add(name + (" (original layout)" if original else ""), make, line, *codes)


ASKED = r"Planning: 2 questions|remote code|trust_remote_code|custom code|broken checkpoint"
for file in FILES:
    _code(
        f"auto_map in {file}", lambda m, f=file: _edit(m, f, lambda v: v.update(auto_map=dict.fromkeys(AUTO, "remote.Remote"))), ASKED, 0, 2
    )
    _code(f"trust_remote_code in {file}", lambda m, f=file: _edit(m, f, lambda v: v.update(trust_remote_code=True)), ASKED, 0, 2)
    _code(
        f"auto_map to another repository in {file}",
        lambda m, f=file: _edit(m, f, lambda v: v.update(auto_map=dict.fromkeys(AUTO, "evil/repo--remote.Remote"), trust_remote_code=True)),
        ASKED,
        0,
        2,
    )
    _code(f"custom_generate in {file}", lambda m, f=file: _edit(m, f, lambda v: v.update(custom_generate="custom_generate")), ASKED, 0, 2)
_code(
    "auto_map in config.json",
    lambda m: _edit(m, "config.json", lambda v: v.update(auto_map=dict.fromkeys(AUTO, "remote.Remote"))),
    ASKED,
    0,
    2,
    original=True,
)
_code(
    "model_type of a class with code",
    lambda m: _edit(m, "config.json", lambda v: v.update(model_type="remote")),
    r"is of the family 'remote'",
)
_code(
    "tokenizer_class with code",
    lambda m: _edit(m, "tokenizer_config.json", lambda v: v.update(tokenizer_class="remote.Remote")),
    ASKED,
    0,
    2,
)
_code(
    "processor_class with code",
    lambda m: _edit(m, "processor_config.json", lambda v: v.update(processor_class="remote.Remote")),
    ASKED,
    0,
    2,
)
_code(
    "quantization with code",
    lambda m: _edit(m, "config.json", lambda v: v.update(quantization_config={"quant_method": "remote"})),
    ASKED,
    0,
    2,
)
_code("attention with code", lambda m: _edit(m, "config.json", lambda v: v.update(attn_implementation="evil/kernel")), ASKED, 0, 2)
_code(
    "attention of the hub",
    lambda m: _edit(m, "config.json", lambda v: v["text_config"].update(_attn_implementation="evil/kernel")),
    ASKED,
    0,
    2,
)
_code(
    "chat template that looks around",
    lambda m: (m / "chat_template.jinja").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    ASKED,
    0,
    2,
)

# --- tokenizers and processors ----------------------------------------------------------------------------------------

TOKENIZER = r"broken checkpoint|tokenizer"


def _file(name: str, file: str, content: Callable[[bytes], bytes], line: str = TOKENIZER, original: bool = False) -> None:
    def make(place: Place) -> list[str]:
        model = place.checkpoint(original)
        old = (model / file).read_bytes() if (model / file).exists() else b""
        (model / file).write_bytes(content(old))
        return place.evaluate(model=model)

    CASES.add(name + (" (original layout)" if original else ""), make, line)


def _tokenizer(name: str, change: Callable[[dict[str, Any]], object], line: str = TOKENIZER) -> None:
    def rewrite(data: bytes) -> bytes:
        values = json.loads(data)
        changed = change(values)
        return json.dumps(values if changed is None else changed).encode()

    _file(name, "tokenizer.json", rewrite, line)


_file("tokenizer cut off", "tokenizer.json", lambda data: data[:200])
_file("tokenizer is empty", "tokenizer.json", lambda data: b"")
_file("tokenizer is no JSON", "tokenizer.json", lambda data: b"\xff\xfe")
_file("tokenizer nested beyond all depth", "tokenizer.json", lambda data: b"[" * 100_000)
_tokenizer("tokenizer is a list", lambda v: [])
_tokenizer("tokenizer without a model", lambda v: v.pop("model") and None)
_tokenizer("tokenizer of an unknown model", lambda v: v["model"].update(type="Remote"))
_tokenizer("tokenizer with a merge of nothing", lambda v: v["model"].update(merges=[["no", "such"]]))
_tokenizer("tokenizer whose ids are texts", lambda v: v["model"].update(vocab={"a": "b"}))
_tokenizer("tokenizer with negative ids", lambda v: v["model"]["vocab"].update(A=-1))
_tokenizer("tokenizer with an id of 60,000", lambda v: v["model"]["vocab"].update(K=60_000), r"tokenizer .*60000|tokenizer has .* ids")
_tokenizer("tokenizer with an id of 2**32", lambda v: v["model"]["vocab"].update(K=2**32))
_tokenizer(
    "tokenizer with an unending expression",
    lambda v: v.update(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$("}, "content": ""}),
)
_tokenizer("added token beyond the model", lambda v: v["added_tokens"].append({**v["added_tokens"][0], "id": 99, "content": "state"}))
_file("tokenizer configuration cut off", "tokenizer_config.json", lambda data: data[:20])
_file("tokenizer configuration is a list", "tokenizer_config.json", lambda data: b"[]")
_file("processor configuration cut off", "processor_config.json", lambda data: data[:20])
_file("processor configuration is a list", "processor_config.json", lambda data: b"[]")
_file("sentencepiece model is empty", "tokenizer.model", lambda data: b"", r"broken tokenizer|unsupported tokenizer", original=True)
_file("sentencepiece model cut off", "tokenizer.model", lambda data: data[:-20], r"broken tokenizer|unsupported tokenizer", original=True)
_file(
    "sentencepiece model is text",
    "tokenizer.model",
    lambda data: b"not a model" * 100,
    r"broken tokenizer|unsupported tokenizer",
    original=True,
)
_file(
    "sentencepiece model of zeros", "tokenizer.model", lambda data: bytes(10_000), r"broken tokenizer|unsupported tokenizer", original=True
)
_file("sentencepiece model twice", "tokenizer.model", lambda data: data + data, r"tokenizer", original=True)


def _processor(name: str, path: str, value: Any) -> None:
    def make(place: Place) -> list[str]:
        model = place.checkpoint()

        def change(values: dict[str, Any]) -> None:
            *parents, last = path.split(".")
            for parent in parents:
                values = values[parent]
            values[last] = value

        _edit(model, "processor_config.json", change)
        return place.evaluate(model=model)

    CASES.add(name, make, r"processor_config\.json|broken checkpoint")


for key, values in {
    "image_processor.image_size": (0, -5, 10**9, "large", 40),
    "image_processor.patch_size": (0, "small", 16),
    "image_processor.image_mean": ([], [0.5], "grey", [float("nan")] * 3, [[1, 2, 3]] * 3),
    "image_processor.image_std": ([0, 0, 0], [], None, [1e-300] * 3),
    "num_visual_tokens": (0, 10**9, "five", 6),
    "prompt_max_length": (-1, "long"),
}.items():
    for value in values:
        _processor(f"{key} is {str(value)[:30]!r}", key, value)
