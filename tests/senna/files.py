"""Checkpoint folders taken apart and put together again."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def read_weights(directory: Path) -> dict[str, torch.Tensor]:
    weights = {}
    for shard in directory.glob("*.safetensors"):
        weights.update(load_file(shard))
    return weights


def write_weights(directory: Path, weights: dict[str, torch.Tensor], kind: str = "safetensors", shards: int = 1):
    for path in [*directory.glob("*.safetensors"), *directory.glob("*.index.json"), *directory.glob("*.bin")]:
        path.unlink()
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    names = list(weights)
    weight_map = {}
    for index in range(shards):
        part = {name: weights[name] for name in names[index::shards]}
        file = f"{stem}.{suffix}" if shards == 1 else f"{stem}-{index + 1:05}-of-{shards:05}.{suffix}"
        weight_map.update(dict.fromkeys(part, file))
        if kind == "safetensors":
            save_file(part, directory / file, metadata={"format": "pt"})
        else:
            torch.save(part, directory / file, _use_new_zipfile_serialization=kind != "old bin")
    if shards > 1:
        (directory / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def edit_config(directory: Path, **changes):
    path = directory / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def same_tokens(senna, s0) -> bool:
    out = senna.model.generate(**s0.inputs(), max_new_tokens=8, do_sample=False)
    return out[0, -8:].tolist() == s0.dump["generated_ids"][1:9].tolist()


def class_embedding(senna) -> torch.Tensor:
    return senna.model.vision_tower.embeddings.class_embedding
