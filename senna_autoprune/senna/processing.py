"""``SennaProcessor``: a question and its views to model inputs, and generated ids back to text."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna.images import ImageLike, SennaImageProcessor
from senna_autoprune.senna.prompts import IMAGE_TOKEN_ID, build_prompt, split_at_images

IGNORED_LABEL = -100

Views = Sequence[ImageLike]


class SennaProcessor(ProcessorMixin):
    """Tokenizer, image processor and conversation template in one.

    Args:
        image_processor: makes ``pixel_values`` and ``patch_mask``.
        tokenizer: any fast tokenizer with bos, eos and pad; :class:`SennaTokenizer` for original checkpoints.
        num_visual_tokens: positions each view takes in the decoder (128), for the length check.
        prompt_max_length: position limit of a prompt (2048).
    """

    image_processor: SennaImageProcessor
    tokenizer: PreTrainedTokenizerBase

    def __init__(
        self,
        image_processor: SennaImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        num_visual_tokens: int = 128,
        prompt_max_length: int = 2048,
    ) -> None:
        self.num_visual_tokens = num_visual_tokens
        self.prompt_max_length = prompt_max_length
        super().__init__(image_processor, tokenizer)

    # ---- text to ids

    def encode_chunk(self, text: str) -> list[int]:
        """Ids of one chunk, without BOS; special-token strings inside it stay text."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids

    def encode_prompt(self, prompt: str) -> list[int]:
        """Ids of a whole prompt: BOS, then each chunk between ``<image>`` marks tokenised alone, -200 at the marks."""
        ids = [self.tokenizer.bos_token_id]
        for index, chunk in enumerate(split_at_images(prompt)):
            if index:
                ids.append(IMAGE_TOKEN_ID)
            ids.extend(self.encode_chunk(chunk))
        return ids

    def __call__(  # type: ignore[override]
        self,
        images: Views | Sequence[Views] | ImageLike | None = None,
        text: str | Sequence[str] | None = None,
        prompt_template: str = "eval",
        answers: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs of one question or a batch, padded on the left.

        Args:
            images: the views of the question, in the order of its ``<image>`` marks (paths or PIL images); for a list
                of questions a list of such lists, or one list shared by all of them. None when ``image_features`` will
                be given instead.
            text: the question(s), each holding one ``<image>`` (or ``<image-placeholder>``) a view.
            prompt_template: ``"eval"`` (the original evaluation's wording, default) or ``"train"`` (the training's).
            answers: what the model should say; appended with EOS, and ``labels`` are returned, for training.

        Returns:
            input_ids (B, n) with -200 once a view, attention_mask (B, n), pixel_values (B, V, 3, H, W), patch_mask (B,
            V, P), and labels (B, n) with ``answers``. With shared images the last two have B = 1, which ``forward``
            accepts.

        Raises:
            SennaPruneError: zero views, marks and images that differ in number, a broken image, or a prompt beyond the
                limit.
        """
        if kwargs.pop("return_tensors", "pt") != "pt":
            raise SennaPruneError("SennaProcessor returns torch tensors only: return_tensors must be 'pt'")
        if kwargs:
            raise SennaPruneError(f"unknown processor argument(s): {', '.join(sorted(kwargs))}")
        if text is None:
            raise SennaPruneError("text is missing: give the question(s)")
        questions = [text] if isinstance(text, str) else list(text)
        if not questions:
            raise SennaPruneError("text is an empty list: give at least one question")
        replies: list[str | None] = [None] * len(questions)
        if answers is not None:
            replies = [answers] if isinstance(answers, str) else list(answers)
            if len(replies) != len(questions):
                raise SennaPruneError(f"{len(questions)} questions but {len(replies)} answers")
        scenes = self._scenes(images, len(questions))
        views = [len(scene) for scene in scenes] if scenes is not None else None

        rows, labels = [], []
        for index, (question, reply) in enumerate(zip(questions, replies, strict=True)):
            ids = self.encode_prompt(build_prompt(question, prompt_template))
            self._check(ids, None if views is None else views[index if len(views) > 1 else 0])
            said = [] if reply is None else [*self.encode_chunk(reply), self.tokenizer.eos_token_id]
            rows.append(ids + said)
            labels.append([IGNORED_LABEL] * len(ids) + said)
        data = self._pad(rows)
        if answers is not None:
            width = data["input_ids"].shape[1]
            data["labels"] = torch.tensor([[IGNORED_LABEL] * (width - len(row)) + row for row in labels])
        if scenes is not None:
            done = [self.image_processor.preprocess(scene) for scene in scenes]
            data["pixel_values"] = torch.stack([scene["pixel_values"] for scene in done])  # (B, V, 3, H, W)
            data["patch_mask"] = torch.stack([scene["patch_mask"] for scene in done])  # (B, V, P)
        return BatchFeature(data)

    def _scenes(self, images: Any, questions: int) -> list[list[ImageLike]] | None:
        """``images`` as one list of views a question, or a single list shared by all."""
        if images is None:
            return None
        if isinstance(images, (str, PathLike, Image.Image)):
            images = [images]
        nested = [isinstance(item, (list, tuple)) for item in images]
        if any(nested) and not all(nested):
            raise SennaPruneError("images mixes single images and lists of views: give one list of views a question")
        scenes = [list(item) for item in images] if nested and all(nested) else [list(images)]
        if len(scenes) not in (1, questions):
            raise SennaPruneError(f"{questions} questions but {len(scenes)} lists of views")
        if any(not scene for scene in scenes):
            raise SennaPruneError("zero views: give at least one image a question")
        if len({len(scene) for scene in scenes}) > 1:
            raise SennaPruneError("questions of one batch must have the same number of views")
        return scenes

    def _check(self, ids: list[int], images: int | None) -> None:
        marks = ids.count(IMAGE_TOKEN_ID)
        if images is not None and marks != images:
            raise SennaPruneError(
                f"the question holds {marks} <image> marks but {images} images were given: they must be equal, in the same order"
            )
        if marks == 0:
            raise SennaPruneError("zero views: the question holds no <image> mark")
        length = len(ids) + marks * (self.num_visual_tokens - 1)
        if length > self.prompt_max_length:
            raise SennaPruneError(
                f"the prompt takes {length} positions ({marks} views of {self.num_visual_tokens} tokens) "
                f"but the limit is {self.prompt_max_length}: shorten the question"
            )

    def _pad(self, rows: list[list[int]]) -> dict[str, Tensor]:
        """Left padding: generation continues every row at its right end."""
        width = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id
        pad = 0 if pad is None else pad
        return {
            "input_ids": torch.tensor([[pad] * (width - len(row)) + row for row in rows]),
            "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
        }

    # ---- ids to text

    def decode(self, ids: Any, skip_special_tokens: bool = False, **kwargs: Any) -> Any:
        """Text of one row of ids (or of each row of a batch); image marks are dropped."""
        if hasattr(ids, "tolist"):  # a tensor or an array
            ids = ids.tolist()
        if isinstance(ids, int):
            ids = [ids]
        if ids and isinstance(ids[0], (list, tuple, Tensor)):
            return self.batch_decode(ids, skip_special_tokens=skip_special_tokens, **kwargs)
        kept = [int(index) for index in ids if index != IMAGE_TOKEN_ID]
        return self.tokenizer.decode(kept, skip_special_tokens=skip_special_tokens, **kwargs)

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **kwargs: Any) -> list[str]:
        """Text of each row of ids; image marks are dropped."""
        return [self.decode(row, skip_special_tokens=skip_special_tokens, **kwargs) for row in sequences]

    def decode_answers(self, generated: Tensor, prompt_length: int) -> list[str]:
        """The answers in what ``generate`` returned: (B, prompt_length + new) ids -> B stripped texts, as the original
        prints them."""
        return [text.strip() for text in self.batch_decode(generated[:, prompt_length:], skip_special_tokens=True)]
