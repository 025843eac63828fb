"""A stock vision-language model of transformers with its processor: loaded without pickles or remote code, prompted by its own template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.controls import MEAN_GREY

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass
class StockModel:
    """model: ``*ForConditionalGeneration`` in evaluation mode; processor: pads on the left; device: where inputs belong."""

    model: Any
    processor: Any
    device: torch.device

    @property
    def image_token_id(self) -> int:
        return self.model.config.image_token_id

    @property
    def commit(self) -> str | None:
        """The hub's commit, of a hub id."""
        return getattr(self.model.config, "_commit_hash", None)

    def encode(self, questions: Sequence[tuple[str, Sequence[Image.Image]]]) -> Any:
        """Prompts of some questions, either all with images or all without, as a batch on the device.

        The images come first, then the text, as the checkpoint's chat template writes them. Special strings typed in a question
        stay text: no question can pretend to hold an image.
        """
        conversations = [
            [{"role": "user", "content": [*({"type": "image", "image": image} for image in images), {"type": "text", "text": text}]}]
            for text, images in questions
        ]
        batch = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
            sanitize_control_tokens=True,
        )
        return batch.to(self.device, dtype=self.model.dtype)


def load_stock(
    pretrained: str,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | torch.device | None = None,
    attn_implementation: str | None = None,
) -> StockModel:
    """A checkpoint folder or hub id of the llava, llava_next or qwen2_5_vl kind.

    Args:
        dtype: "auto" is the checkpoint's own. device: None is the first GPU of this process, else the CPU.
    Raises:
        SennaPruneError: no such folder, not such a model, pickled or damaged weights, no chat template.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor

    if not Path(pretrained).is_dir() and not HUB_ID.fullmatch(pretrained):
        raise SennaPruneError(f"pretrained={pretrained!r} is neither a folder nor a hub id like llava-hf/llava-1.5-7b-hf")
    if dtype not in DTYPES:
        raise SennaPruneError(f"dtype={dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    where = {"revision": revision} if revision is not None else {}
    chosen = torch.device(device) if device is not None else default_device()
    attention = {"attn_implementation": attn_implementation} if attn_implementation is not None else {}
    try:
        found: Any = AutoModelForImageTextToText.from_pretrained(
            pretrained, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **attention, **where
        )
        processor = AutoProcessor.from_pretrained(pretrained, trust_remote_code=False, **where)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise SennaPruneError(f"cannot load {pretrained}: {' '.join(str(error).split())[:300]}") from error
    model, loaded = found
    if loaded["missing_keys"]:  # transformers would go on with random weights in their place
        missing = sorted(loaded["missing_keys"])
        raise SennaPruneError(f"cannot load {pretrained}: {len(missing)} of its weights are missing, the first is {missing[0]}")
    if getattr(processor, "chat_template", None) is None:
        raise SennaPruneError(f"{pretrained}: its processor has no chat template, so nobody says how it wants to be asked")
    if getattr(model.config, "image_token_id", None) is None:
        raise SennaPruneError(f"{pretrained}: {type(model).__name__} names no image token, so its visual tokens cannot be told from text")
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return StockModel(model.eval().to(chosen), processor, chosen)


def default_device() -> torch.device:
    """The GPU of this process (``LOCAL_RANK`` under accelerate or torchrun), else the CPU."""
    import os

    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")


def blank(image: Image.Image) -> Image.Image:
    """An image of the same size all in CLIP's mean colour: as many visual tokens, nothing to see."""
    return Image.new("RGB", image.size, MEAN_GREY)
