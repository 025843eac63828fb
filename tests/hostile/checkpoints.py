"""Checkpoints with wrong weights, wrong files, wrong numbers, and code that wants to run."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.hostile.case import FAILED_SAMPLES, Corpus, Place

CASES = Corpus("checkpoint")
NORM = "language_model.norm.weight"
Weights = dict[str, torch.Tensor]


def _folder(name: str, change: Callable[[Path, Place], object], line: str, *codes: int, original: bool = False) -> None:
    """A checkpoint folder after ``change``."""

    def make(place: Place) -> list[str]:
        model = place.checkpoint(original)
        change(model, place)
        return place.evaluate(model=model)

    CASES.add(name + (" (original layout)" if original else ""), make, line, *codes)


def _weights(name: str, change: Callable[[Weights], object], line: str, *codes: int, original: bool = False) -> None:
    def edit(model: Path, _place: Place) -> None:
        weights = load_file(model / "model.safetensors")
        change(weights)
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})

    _folder(name, edit, line, *codes, original=original)


def _json(name: str, file: str, change: Callable[[dict[str, Any]], object], line: str, *codes: int, original: bool = False) -> None:
    def edit(model: Path, _place: Place) -> None:
        values = json.loads((model / file).read_text())
        change(values)
        (model / file).write_text(json.dumps(values))

    _folder(name, edit, line, *codes, original=original)


def _bytes(name: str, file: str, content: Callable[[bytes], bytes], line: str, original: bool = False) -> None:
    _folder(name, lambda model, _: (model / file).write_bytes(content((model / file).read_bytes())), line, original=original)


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets ``a.b.c`` of a JSON object."""

    def change(values: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            values = values[parent]
        values[last] = value

    return change


# --- weights ----------------------------------------------------------------------------------------------------------

_weights("a weight missing", lambda w: w.pop(NORM), r"missing weights in .*model\.norm\.weight")
_weights("a weight too many", lambda w: w.update({"language_model.backdoor": torch.ones(3)}), r"unexpected weights .*backdoor")
_weights("a weight of another shape", lambda w: w.update({NORM: torch.ones(33)}), r"misshaped weights .*\[33\], expected \[32\]")
_weights("a weight of no dimension", lambda w: w.update({NORM: torch.tensor(1.0)}), r"misshaped weights .*\[\], expected \[32\]")
_weights("an empty weight", lambda w: w.update({NORM: torch.ones(0)}), r"misshaped weights .*\[0\], expected \[32\]")
_weights("a transposed weight", lambda w: w.update({"lm_head.weight": w["lm_head.weight"].T.contiguous()}), r"misshaped weights")
_weights("NaN in a weight", lambda w: w[NORM].fill_(float("nan")), r"broken weight: .*norm\.weight holds NaN or infinity")
_weights("infinity in a weight", lambda w: w[NORM].fill_(float("-inf")), r"broken weight: .*norm\.weight holds NaN or infinity")
_weights(
    "beyond float32 in a weight", lambda w: w.update({NORM: torch.full((32,), 1e300, dtype=torch.float64)}), r"values beyond torch\.float32"
)
_weights(
    "a weight of integers",
    lambda w: w.update({NORM: torch.ones(32, dtype=torch.int64)}),
    r"broken weight: .*norm\.weight holds torch\.int64",
)
_weights(
    "a weight of truth values",
    lambda w: w.update({NORM: torch.ones(32, dtype=torch.bool)}),
    r"broken weight: .*norm\.weight holds torch\.bool",
)
_weights(
    "a complex weight",
    lambda w: w.update({NORM: torch.ones(32, dtype=torch.complex64)}),
    r"broken weight: .*norm\.weight holds torch\.complex64",
)
_weights("weights so large that the logits overflow", lambda w: w["lm_head.weight"].fill_(3e38), r"logits are not finite", FAILED_SAMPLES)
_weights("no weights at all", lambda w: w.clear(), r"missing weights|no weights")
for original in (False, True):
    adapter = "model.img_adapter.adapter.0.weight" if original else "img_adapter.adapter.0.weight"
    _weights("adapter of another shape", lambda w, a=adapter: w.update({a: torch.ones(3, 3)}), r"misshaped weights", original=original)
    _weights("adapter missing", lambda w, a=adapter: w.pop(a), r"missing weights|not a Senna checkpoint", original=original)
_weights("adapter of one dimension", lambda w: w.update({"model.img_adapter.adapter.4.weight": torch.ones(5)}), r"misshaped", original=True)
_weights(
    "adapter of no dimension", lambda w: w.update({"model.img_adapter.adapter.4.weight": torch.tensor(1.0)}), r"img_adapter", original=True
)
_weights(
    "tower without layers",
    lambda w: [w.pop(n) for n in list(w) if "encoder.layers" in n],
    r"vision tower inside .* is incomplete",
    original=True,
)
_weights(
    "tower of width zero",
    lambda w: w.update({"model.vision_tower.vision_tower.vision_model.embeddings.patch_embedding.weight": torch.ones(0, 3, 8, 8)}),
    r"vision tower|number of heads",
    original=True,
)
_weights(
    "tower layer of number 10**12",
    lambda w: w.update({"model.vision_tower.vision_tower.vision_model.encoder.layers.1000000000000.mlp.fc1.weight": torch.ones(24, 16)}),
    r"layers",
    original=True,
)

# --- safetensors that lie ---------------------------------------------------------------------------------------------

FILE = "model.safetensors"
BROKEN = r"broken weight file: .*model\.safetensors"


def _header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """The file with another header before the same data."""

    def rewrite(data: bytes) -> bytes:
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + size :]

    return rewrite


_bytes("empty weight file", FILE, lambda data: b"", BROKEN)
_bytes("weight file cut off", FILE, lambda data: data[:-1000], BROKEN)
_bytes("weight file cut off in its header", FILE, lambda data: data[:100], BROKEN)
_bytes("header of 2**60 bytes", FILE, lambda data: struct.pack("<Q", 2**60) + data[8:], BROKEN)
_bytes("header of no bytes", FILE, lambda data: struct.pack("<Q", 0) + data[8:], BROKEN)
_bytes("header is no JSON", FILE, lambda data: data[:8] + b"\xff" * 50 + data[58:], BROKEN)
_bytes("header nested beyond all depth", FILE, lambda data: struct.pack("<Q", 100_000) + b"[" * 100_000, BROKEN)
_bytes("a tensor beyond the end", FILE, _header(lambda h: h[NORM].update(data_offsets=[2**50, 2**50 + 128])), BROKEN)
_bytes("a tensor of negative size", FILE, _header(lambda h: h[NORM].update(data_offsets=[128, 0])), BROKEN)
_bytes("a tensor over another", FILE, _header(lambda h: h[NORM].update(data_offsets=h["lm_head.weight"]["data_offsets"])), BROKEN)
_bytes("a shape beyond the data", FILE, _header(lambda h: h[NORM].update(shape=[2**40])), BROKEN)
_bytes("a shape of 2**63", FILE, _header(lambda h: h[NORM].update(shape=[2**63, 2])), BROKEN)
_bytes("a negative shape", FILE, _header(lambda h: h[NORM].update(shape=[-32])), BROKEN)
_bytes("an unknown type", FILE, _header(lambda h: h[NORM].update(dtype="PWN")), BROKEN)
_bytes("a type of four bits", FILE, _header(lambda h: h[NORM].update(dtype="F4", shape=[256])), r"broken weight|misshaped")
_bytes("an 8-bit type", FILE, _header(lambda h: h[NORM].update(dtype="F8_E4M3", shape=[128])), r"broken weight|misshaped")
_bytes("a pickle named safetensors", FILE, lambda data: pickle.dumps({"a": 1}), BROKEN)
_folder("weight file is a folder", lambda m, _: ((m / FILE).unlink(), (m / FILE).mkdir()), r"no weights in")
_folder("weight file is a link to itself", lambda m, _: ((m / FILE).unlink(), (m / FILE).symlink_to(FILE)), r"no weights in")
_folder("weight file is a pipe", lambda m, _: ((m / FILE).unlink(), os.mkfifo(m / FILE)), r"no regular file")
_folder("sparse weight file of 100 GB", lambda m, _: os.truncate(m / FILE, 100 << 30), BROKEN)

# --- indices ----------------------------------------------------------------------------------------------------------


def _index(name: str, content: Any, line: str) -> None:
    _folder(name, lambda m, place: (m / "model.safetensors.index.json").write_text(json.dumps(content)), line)


_index("index points outside", {"weight_map": {"a": "../../home/canary.txt"}}, r"outside its directory")
_index("index points to an absolute path", {"weight_map": {"a": "/etc/passwd"}}, r"outside its directory")
_index("index names a missing shard", {"weight_map": {"a": "model-00001-of-00002.safetensors"}}, r"missing weight file")
_index("index names the folder above", {"weight_map": {"a": ".."}}, r"outside its directory|missing weight file")
_index("index without a map", {"weights": {}}, r"holds no weight_map")
_index("index of numbers", {"weight_map": {"a": 7}}, r"holds no weight_map")
_index("index is a list", [1], r"must hold a JSON object|is not a JSON object")
_index("index of nothing", {"weight_map": {}}, r"no weights in|holds no weight_map|missing weights")

# --- pickles ----------------------------------------------------------------------------------------------------------


class _Payload:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str, how: Callable[..., Any] = os.system) -> None:
        self._command, self._how = command, how

    def __reduce__(self) -> tuple[Any, ...]:
        return self._how, (self._command,)


def _pickle(name: str, write: Callable[[Path, Place], object], line: str = r"broken or unsafe weight file: .*pytorch_model\.bin") -> None:
    def edit(model: Path, place: Place) -> None:
        (model / FILE).unlink()
        write(model / "pytorch_model.bin", place)

    _folder(name, edit, line)


def _touch(place: Place) -> str:
    return f"touch {place.pwned}"


def _zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(f"archive/{name}", data)


_pickle("pickle that runs a command", lambda path, place: path.write_bytes(pickle.dumps({NORM: _Payload(_touch(place))})))
_pickle("zip pickle that runs a command", lambda path, place: torch.save({NORM: _Payload(_touch(place))}, path))
_pickle(
    "old pickle that runs a command", lambda p, place: torch.save({NORM: _Payload(_touch(place))}, p, _use_new_zipfile_serialization=False)
)
_pickle("pickle that evaluates", lambda p, place: p.write_bytes(pickle.dumps(_Payload(f"open({str(place.pwned)!r}, 'w')", eval))))
_pickle(
    "pickle that executes", lambda p, place: p.write_bytes(pickle.dumps(_Payload(f"open({str(place.pwned)!r}, 'w')", exec), protocol=0))
)
_pickle("pickle of a whole module", lambda path, place: torch.save(torch.nn.Linear(2, 2), path))
_pickle("pickle cut off", lambda path, place: path.write_bytes(pickle.dumps({"a": list(range(1000))})[:-10]))
_pickle("pickle of opcodes that make no sense", lambda path, place: path.write_bytes(b"\x80\x02" + b"R" * 50 + b"."))
_pickle("pickle that is empty", lambda path, place: path.write_bytes(b""))
_pickle("pickle of random bytes", lambda path, place: path.write_bytes(bytes(range(256)) * 10))
_pickle("pickle of a list", lambda path, place: torch.save([torch.ones(3)], path), r"must hold a dict of tensors")
_pickle("pickle of numbers", lambda path, place: torch.save({NORM: 3}, path), r"must hold a dict of tensors")
_pickle("pickle with keys that are no names", lambda path, place: torch.save({7: torch.ones(3)}, path), r"must hold a dict of tensors")
_pickle("pickle nested beyond all depth", lambda path, place: path.write_bytes(b"\x80\x02" + b"(" * 200_000 + b"l" * 200_000 + b"."))
_pickle("zip without a pickle", lambda path, place: _zip(path, {"version": b"3"}))
_pickle("zip bomb", lambda path, place: _zip(path, {"data.pkl": bytes(200_000_000), "version": b"3"}, zipfile.ZIP_DEFLATED))
_pickle(
    "zip with paths outside",
    lambda path, place: _zip(path, {"../../home/pwned": b"x", "data.pkl": b"\x80\x02}."}),
    r"broken|missing|no weights",
)
_pickle("sparse tensor", lambda path, place: torch.save({NORM: torch.ones(32).to_sparse()}, path), r"broken weight file: .*plain tensor")
_pickle("tensor without data", lambda path, place: torch.save({NORM: torch.ones(32, device="meta")}, path), r"broken.* weight file")
_pickle(
    "one number stretched to 10**15",
    lambda path, place: torch.save({NORM: torch.ones(1).expand(10**15)}, path),
    r"broken weight file: .*plain tensor",
)

# --- configurations: numbers ------------------------------------------------------------------------------------------

CONFIG = r"config\.json|broken checkpoint|misshaped weights|missing weights|layers|number of heads|tokenizer has|not finite"
for key, values in {
    "hidden_size": (0, -32, 10**9, "large", None, 33),
    "num_hidden_layers": (0, -1, 10**9, 10**30, "three", 2, [3]),
    "num_attention_heads": (0, -4, 5, "four", 10**9),
    "num_key_value_heads": (0, 3, "two"),
    "vocab_size": (0, -1, 10**12, 10**30, "all"),
    "intermediate_size": (0, -1, 10**12),
    "head_dim": (0, -8, 10**9, 7),
    "hidden_act": ("os.system", "", 7),
    "rms_norm_eps": ("small", float("nan")),
    "rope_parameters": ({"rope_type": "exec"}, {"rope_type": "default", "rope_theta": "x"}, "yarn"),
}.items():
    for index, value in enumerate(values):  # the two layouts take turns
        original = index % 2 == 1
        path = key if original else f"text_config.{key}"
        _json(f"{key} is {str(value)[:30]!r}", "config.json", _set(path, value), CONFIG, original=original)
for key, value in {
    "vision_config.num_hidden_layers": 10**9,
    "vision_config.image_size": 10**6,
    "vision_config.patch_size": 0,
    "vision_config.num_attention_heads": 0,
    "vision_config.num_channels": -1,
    "vision_config.hidden_size": "wide",
    "vision_config": [1],
    "text_config": "llama",
    "vision_feature_layer": 99,
    "num_visual_tokens": 10**9,
    "adapter_hidden_size": -1,
    "prompt_max_length": "long",
    "image_token_id": "mark",
    "tie_word_embeddings": "perhaps",
}.items():
    _json(f"{key} is {value!r}", "config.json", _set(key, value), CONFIG + "|vision_feature_layer|tie_word")
for key, value in {
    "mm_projector_type": "linear",
    "mm_vision_select_layer": 99,
    "mm_vision_select_feature": "cls_patch",
    "tokenizer_model_max_length": "long",
}.items():
    _json(f"{key} is {value!r}", "config.json", _set(key, value), r"config\.json|vision_feature_layer|SennaConfig", original=True)
_json("eos_token_id is a text", "config.json", _set("text_config.eos_token_id", "</s>"), CONFIG)
_json("eos_token_id is 10**30", "config.json", _set("text_config.eos_token_id", 10**30), CONFIG + "|token_id")
_json("pad_token_id is -7", "config.json", _set("text_config.pad_token_id", -7), CONFIG + "|token_id")
_bytes("configuration cut off", "config.json", lambda data: data[:50], r"broken JSON in .*config\.json")
_bytes("configuration is a list", "config.json", lambda data: b"[]", r"must hold a JSON object|is not a JSON object")
_bytes("configuration nested beyond all depth", "config.json", lambda data: b"[" * 100_000, r"broken JSON in .*nested too deeply")
_bytes(
    "configuration with an integer of 10,000 digits",
    "config.json",
    lambda data: b'{"a": ' + b"9" * 10_000 + b"}",
    r"broken JSON in .*digits",
)
_bytes("configuration of another model", "config.json", lambda data: b'{"model_type": "gpt2"}', r"is of the family 'gpt2'")
_folder("configuration missing", lambda m, _: (m / "config.json").unlink(), r"file not found: .*config\.json")
_folder(
    "configuration is an endless device",
    lambda m, _: ((m / "config.json").unlink(), (m / "config.json").symlink_to("/dev/zero")),
    r"is no regular file",
)
_folder("empty folder", lambda m, _: [path.unlink() for path in m.iterdir()], r"file not found: .*config\.json")


@CASES.case("checkpoint is missing", r"checkpoint not found: .*/none is no directory")
def _none(place: Place) -> list[str]:
    return place.evaluate(model=place.input / "none")


@CASES.case("checkpoint is a file", r"checkpoint not found")
def _file(place: Place) -> list[str]:
    return place.evaluate(model=place.canary)
