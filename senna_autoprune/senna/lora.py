"""What LoRA training leaves: an adapter beside its base, which is merged into it, and merged weights under the wrapper's names.

An adapter folder is data: a JSON of settings and one safetensors file. Plain LoRA is W + s B A with s = alpha / r (rsLoRA: alpha over
the root of r); whatever else PEFT can do to a model is refused by name, and so is any setting that is not known to change nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from senna_autoprune.errors import SennaPruneError, one_line
from senna_autoprune.files.json_files import read_json
from senna_autoprune.senna.original import own_name

ADAPTER, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WRAPPED = "base_model."  # what PEFT puts before every name
MERGE = "PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(OUT)"
USED = ("peft_type", "r", "lora_alpha", "use_rslora", "bias", "init_lora_weights", "base_model_name_or_path")
# of training, of where to look, or repeated by the weights' names: with any value the merged weights are the same
NEUTRAL: tuple[str, ...] = ("auto_mapping", "revision", "task_type", "inference_mode", "lora_dropout", "target_modules", "exclude_modules")
NEUTRAL = (*NEUTRAL, "peft_version", "layers_to_transform", "layers_pattern", "qalora_group_size", "runtime_config", "megatron_core")
NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")


def base_of(directory: Path) -> Path | None:
    """The base's folder, if ``directory`` holds an adapter alone; None: it holds a model.

    Raises:
        SennaPruneError: the adapter does not name a folder that is here; it says which base is needed.
    """
    if not _alone(directory):
        return None
    base = _settings(directory).get("base_model_name_or_path")
    if isinstance(base, str) and base and Path(base).is_dir():
        if _alone(Path(base)):
            raise SennaPruneError(f"the base of {directory} is a LoRA adapter again ({one_line(base)}); merge that one first")
        return Path(base)
    needs = f"its base {one_line(repr(base))}" if isinstance(base, str) and base else "its base, which it does not name"
    raise SennaPruneError(
        f"{directory} is a LoRA adapter alone and needs {needs}: write the folder of the base into its {ADAPTER} "
        f"(base_model_name_or_path), or merge them ({MERGE}) and give OUT"
    )


@torch.no_grad()
def merge(model: nn.Module, directory: Path) -> dict[str, str]:
    """Add the adapter in ``directory`` to the weights of its base, in place.

    Returns:
        provenance: what was merged.

    Raises:
        SennaPruneError: no plain LoRA, weights that do not fit the model, or a broken file. The model is then as it was.
    """
    settings = _settings(directory)
    _refuse_others(settings, directory)
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1 or not math.isfinite(alpha):
        raise SennaPruneError(f"{directory / ADAPTER} names no rank r >= 1 and lora_alpha")
    scale = alpha / math.sqrt(rank) if settings.get("use_rslora") else alpha / rank
    modules, pairs = dict(model.named_modules()), _pairs(directory)
    looked_up = {id(module.weight) for module in modules.values() if isinstance(module, nn.Embedding)}
    into: list[tuple[Tensor, Tensor, Tensor]] = []
    for name, (down, up) in pairs.items():
        module = next((modules[known] for known in (name, own_name(f"{name}.weight").removesuffix(".weight")) if known in modules), None)
        if not isinstance(module, nn.Linear):
            raise SennaPruneError(f"{directory} is for another model: its base has no linear layer {one_line(name)}")
        weight = module.weight  # (out, in)
        if down.shape != (rank, weight.shape[1]) or up.shape != (weight.shape[0], rank):
            raise SennaPruneError(
                f"{directory}: {one_line(name)} has A {tuple(down.shape)} and B {tuple(up.shape)} for rank {rank} and a weight of "
                f"{tuple(weight.shape)}"
            )
        if not bool(down.isfinite().all() and up.isfinite().all()):
            raise SennaPruneError(f"{directory}: {one_line(name)} holds numbers that are not finite")
        if id(weight) in looked_up:
            raise SennaPruneError(
                f"{directory} changes {one_line(name)}, whose weight is the base's embedding too; merge it with PEFT: {MERGE}"
            )
        into.append((weight, down, up))
    for weight, down, up in into:  # one after the other: a change is as large as its weight
        change = scale * (up.to(weight.device, torch.float32) @ down.to(weight.device, torch.float32))
        weight.copy_((weight.float() + change).to(weight.dtype))
    kind = "rsLoRA" if settings.get("use_rslora") else "LoRA"
    return {"adapter": str(directory), "merged": f"{kind} of rank {rank}, alpha {alpha:g}, into {len(into)} weights"}


def refuse_wrapped(directory: Path, names: Iterable[str]) -> None:
    """Raise SennaPruneError if weights carry the names of a PEFT wrapper."""
    wrapped = [name for name in names if name.startswith(WRAPPED)]
    if wrapped:
        raise SennaPruneError(
            f"unexpected weights in {directory}: {len(wrapped)} names begin with {WRAPPED!r}, the first is {one_line(wrapped[0])}: "
            "they were saved from a PEFT wrapper; save the model that merge_and_unload() returns"
        )


# --- parts -----------------------------------------------------------------------------------------------------------------------------


def _alone(directory: Path) -> bool:
    whole = any(directory.glob("model*.safetensors")) or any(directory.glob("pytorch_model*.bin"))
    return (directory / ADAPTER).is_file() and not whole


def _settings(directory: Path) -> dict[str, Any]:
    values = read_json(directory / ADAPTER)
    return values if isinstance(values, dict) else {}


def _refuse_others(settings: dict[str, Any], directory: Path) -> None:
    """Raise SennaPruneError for anything but plain LoRA."""
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise SennaPruneError(f"{directory} holds an adapter of type {one_line(repr(kind))}; only LoRA is merged here: {MERGE}")
    wrong = [name for name, value in settings.items() if value and name not in USED and name not in NEUTRAL]
    if settings.get("bias") not in (None, "none"):
        wrong.append("bias")
    if settings.get("init_lora_weights") not in (None, True, False, "gaussian"):  # others change the base's weights too
        wrong.append("init_lora_weights")
    if wrong:
        value = one_line(repr(settings[wrong[0]]))[:60]
        raise SennaPruneError(f"{directory} is no plain LoRA: {one_line(wrong[0])} is {value}; merge it with PEFT: {MERGE}")


def _pairs(directory: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A (r, in) and B (out, r) by the name of the module that they change."""
    path = directory / WEIGHTS
    if not path.is_file():
        raise SennaPruneError(f"no {WEIGHTS} in {directory}; save the adapter with safe_serialization=True")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, MemoryError) as error:
        raise SennaPruneError(f"broken weight file: {path} ({one_line(str(error))})") from error
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = NAME.fullmatch(name)
        if match is None or tensor.dim() != 2 or not tensor.is_floating_point():
            raise SennaPruneError(
                f"{directory} is no plain LoRA: it holds {one_line(name)} {tuple(tensor.shape)}; merge it with PEFT: {MERGE}"
            )
        parts.setdefault(match["module"], {})[match["part"]] = tensor
    half = [name for name, both in parts.items() if len(both) < 2]
    if half or not parts:
        what = f"{one_line(half[0])} has only one of A and B" if half else "it holds no weights"
        raise SennaPruneError(f"{directory} is no whole adapter: {what}")
    return {name: (both["A"], both["B"]) for name, both in parts.items()}
