"""A stock vision-language model of transformers with its processor: loaded without pickles or remote code, prompted by its own template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from senna_autoprune.adapters.checkpoint import load_checkpoint
from senna_autoprune.adapters.templates import bounded
from senna_autoprune.evaluation.answering.settings import MEAN_GREY


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
        template = self._template()
        with bounded("a question"):  # written once for itself: what tensors take is not the template's
            self.processor.apply_chat_template(conversations, chat_template=template, add_generation_prompt=True, tokenize=False)
        batch = self.processor.apply_chat_template(
            conversations,
            chat_template=template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
            sanitize_control_tokens=True,
        )
        return batch.to(self.device, dtype=self.model.dtype)

    def _template(self) -> str:
        """The chat template, with the begin mark written in front if it leaves that to the tokenizer (LLaVA-1.5's does): text that
        holds special strings can only be encoded as text where the template writes them all.
        """
        template, tokenizer = self.processor.chat_template, self.processor.tokenizer
        begin = tokenizer.bos_token
        if begin is None or tokenizer("").input_ids != [tokenizer.bos_token_id]:
            return template
        turn = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
        with bounded("a question"):
            written = self.processor.apply_chat_template(turn, tokenize=False).startswith(begin)
        return template if written else "{{- bos_token }}" + template


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
    found = load_checkpoint(pretrained, revision, dtype, device, attn_implementation)
    return StockModel(found.model, found.processor, found.device)


def blank(image: Image.Image) -> Image.Image:
    """An image of the same size all in CLIP's mean colour: as many visual tokens, nothing to see."""
    return Image.new("RGB", image.size, MEAN_GREY)
