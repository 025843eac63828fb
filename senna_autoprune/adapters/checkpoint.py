"""A stock vision-language checkpoint with its processor, loaded without pickles or remote code."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from senna_autoprune.adapters.templates import check_templates
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna.checkpoint import usable_device
from senna_autoprune.senna.folder import check_folder
from senna_autoprune.senna.lora import base_of, merge, refuse_wrapped

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass
class Checkpoint:
    """model: ``*ForConditionalGeneration`` in evaluation mode; processor: pads on the left; provenance: for the reader."""

    model: Any
    processor: Any
    device: torch.device
    provenance: dict[str, str] = field(default_factory=dict)


def load_checkpoint(
    pretrained: str,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | torch.device | None = None,
    attn_implementation: str | None = None,
) -> Checkpoint:
    """A checkpoint folder or hub id of a vision-language model that transformers has a class for; or a LoRA adapter beside its base.

    Args:
        dtype: "auto" is the checkpoint's own. device: None is the first GPU of this process, else the CPU.
    Raises:
        SennaPruneError: no such folder, not such a model, pickled or damaged weights, no chat template.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    if not Path(pretrained).is_dir() and not HUB_ID.fullmatch(pretrained):
        raise SennaPruneError(f"pretrained={pretrained!r} is neither a folder nor a hub id like llava-hf/llava-1.5-7b-hf")
    if Path(pretrained).is_dir():
        check_folder(Path(pretrained))
    base = base_of(Path(pretrained)) if Path(pretrained).is_dir() else None
    if base is not None:
        whole = load_checkpoint(str(base), None, dtype, device, attn_implementation)
        whole.provenance |= {"checkpoint": pretrained, "base": str(base), **merge(whole.model, Path(pretrained))}
        return whole
    if dtype not in DTYPES:
        raise SennaPruneError(f"dtype={dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    where = {"revision": revision} if revision is not None else {}
    chosen = _device(device)
    attention = {"attn_implementation": attn_implementation} if attn_implementation is not None else {}
    try:
        found: Any = AutoModelForImageTextToText.from_pretrained(
            pretrained, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **attention, **where
        )
        processor = _processor(found[0].config.model_type, pretrained, where)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise SennaPruneError(f"cannot load {pretrained}: {' '.join(str(error).split())[:300]}") from error
    model, loaded = found
    refuse_wrapped(Path(pretrained), loaded["unexpected_keys"])
    if loaded["missing_keys"]:  # transformers would go on with random weights in their place
        missing = sorted(loaded["missing_keys"])
        raise SennaPruneError(f"cannot load {pretrained}: {len(missing)} of its weights are missing, the first is {missing[0]}")
    if getattr(processor, "chat_template", None) is None:
        raise SennaPruneError(f"{pretrained}: its processor has no chat template, so nobody says how it wants to be asked")
    check_templates(processor.chat_template, pretrained)
    if getattr(model.config, "image_token_id", None) is None:
        raise SennaPruneError(f"{pretrained}: {type(model).__name__} names no image token, so its visual tokens cannot be told from text")
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    provenance = {
        "checkpoint": str(pretrained),
        "layout": str(getattr(model.config, "model_type", "")),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(chosen),
        "attn_implementation": str(model.config._attn_implementation),
    }
    return Checkpoint(model.eval().to(chosen), processor, chosen, provenance)


def _processor(model_type: str, pretrained: str, where: dict[str, Any]) -> Any:
    """The checkpoint's processor; where torchvision is not installed, without its part for films, which nothing here shows."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    try:
        import torchvision  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError:
        stock = getattr(transformers, PROCESSOR_MAPPING_NAMES.get(model_type, ""), None)
        if stock is not None and "video_processor" in stock.get_attributes():
            return without_films(stock).from_pretrained(pretrained, trust_remote_code=False, **where)
    return transformers.AutoProcessor.from_pretrained(pretrained, trust_remote_code=False, **where)


def without_films(stock: Any) -> Any:
    """A processor class of transformers that takes no video processor: those need torchvision, its pictures do not."""

    def get_attributes(cls: Any) -> list[str]:
        return [name for name in stock.get_attributes() if name != "video_processor"]

    return type(stock.__name__, (stock,), {"get_attributes": classmethod(get_attributes), "__module__": stock.__module__})


def default_device() -> torch.device:
    """The GPU of this process (``LOCAL_RANK`` under accelerate or torchrun), else the CPU."""
    import os

    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")


def _device(device: str | torch.device | None) -> torch.device:
    return default_device() if device is None else usable_device(device)
