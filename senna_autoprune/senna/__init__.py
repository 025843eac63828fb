"""Senna as a citizen of transformers 5: configuration, model, processor, and the reader of the original checkpoints.

Importing this package registers the classes with ``AutoConfig``, ``AutoModel``, ``AutoModelForImageTextToText``,
``AutoTokenizer``, ``AutoImageProcessor`` and ``AutoProcessor``.
"""

from __future__ import annotations

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from senna_autoprune.senna.checkpoint import Senna, load_senna
from senna_autoprune.senna.configuration import SennaConfig
from senna_autoprune.senna.images import SennaImageProcessor
from senna_autoprune.senna.modeling import SennaForConditionalGeneration, SennaOutput
from senna_autoprune.senna.processing import SennaProcessor
from senna_autoprune.senna.prompts import IMAGE_TOKEN_ID, build_prompt
from senna_autoprune.senna.tokenization import SennaTokenizer
from senna_autoprune.senna.vision import SennaImageFeatures

AutoConfig.register("senna", SennaConfig, exist_ok=True)
AutoModel.register(SennaConfig, SennaForConditionalGeneration, exist_ok=True)
AutoModelForImageTextToText.register(SennaConfig, SennaForConditionalGeneration, exist_ok=True)
AutoTokenizer.register(SennaConfig, fast_tokenizer_class=SennaTokenizer, exist_ok=True)
AutoImageProcessor.register(SennaConfig, image_processor_classes={"pil": SennaImageProcessor}, exist_ok=True)
AutoProcessor.register(SennaConfig, SennaProcessor, exist_ok=True)

__all__ = [
    "IMAGE_TOKEN_ID",
    "Senna",
    "SennaConfig",
    "SennaForConditionalGeneration",
    "SennaImageFeatures",
    "SennaImageProcessor",
    "SennaOutput",
    "SennaProcessor",
    "SennaTokenizer",
    "build_prompt",
    "load_senna",
]
