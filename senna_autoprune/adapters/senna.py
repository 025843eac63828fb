"""Senna behind the interface of every driving model: its features are computed once a sample and shared by all questions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessorList

from senna_autoprune.adapters.model import Generated, Prepared, Seen, cut_at, digest
from senna_autoprune.adapters.prompt import fill
from senna_autoprune.adapters.schema import Adapter
from senna_autoprune.adapters.views import Asked, Picture, pictures_of
from senna_autoprune.device import Marks
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.parsing import PATHS, SPEEDS
from senna_autoprune.files.yaml_files import to_dict
from senna_autoprune.senna.expansion import expand_marks
from senna_autoprune.senna.prompts import build_prompt
from senna_autoprune.senna.vision import SennaImageFeatures

if TYPE_CHECKING:
    from senna_autoprune.senna import Senna

AS_RELEASED = Adapter(name="senna", family="senna")
NEW_TOKENS = {"vru": 192, "motion": 640, "light": 16, "description": 512, "explanation": 256}
OTHER_TOKENS = 512  # what the original allows for everything
PLAN_TOKENS = 16  # enough for any planning answer with the original's tokenizer


@dataclass
class SennaModel:
    """``prompt_template``: wording of the conversation, eval or train."""

    senna: Senna
    adapter: Adapter = AS_RELEASED
    prompt_template: str = "eval"
    _grey: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.adapter.prompt.system is not None:
            raise SennaPruneError("Senna's conversation has its own system text: leave prompt.system out of the adapter")
        if self.adapter.views.min_pixels is not None or self.adapter.views.max_pixels is not None:
            raise SennaPruneError("Senna resizes every picture to one size: leave min_pixels and max_pixels out of the adapter's views")
        self.model: Any = self.senna.model
        self.processor: Any = self.senna.processor
        self.provenance = dict(self.senna.provenance)
        self.vocabulary = len(self.processor.tokenizer)
        encode = self.processor.encode_chunk
        longest = max(len(encode(f"{speed}, {path}\n")) for speed in SPEEDS for path in PATHS)
        self._plan_tokens = max(PLAN_TOKENS, 1 + longest)  # the end mark included

    def identity(self) -> dict[str, str]:
        return {} if self.adapter == AS_RELEASED else {"adapter_sha256": digest(to_dict(self.adapter))}

    def open(self, asked: Asked) -> Any:
        """Pictures and what the tower takes of them, on the CPU; may run in another thread. SennaPruneError as in ``see``."""
        pictures = tuple(pictures_of(asked, self.adapter.views))
        return pictures, self.processor.image_processor([picture.source for picture in pictures])

    def see(self, asked: Asked, needs: frozenset[str] = frozenset(), opened: Any = None) -> Seen:
        pictures, pixels = self.open(asked) if opened is None else opened
        features, vision_ms = self._look(pixels, needs)
        return Seen(pictures, features, vision_ms)

    def prepare(self, asked: Asked, seen: Seen) -> Prepared:
        text = self._text(asked, seen.pictures)
        inputs = self.processor(text=[text], prompt_template=self.prompt_template)
        size = self.processor.num_visual_tokens
        spread = expand_marks(inputs["input_ids"], self.model.config.image_token_id, size)
        views = len(seen.pictures)
        return Prepared(
            asked,
            build_prompt(text, self.prompt_template),
            seen.pictures,
            spread.visual_mask,
            (size,) * views,
            (text, seen.content),
            group=(views,),
            vision_ms=seen.vision_ms,
        )

    def new_tokens(self, question_type: str) -> int | None:
        if self.adapter.generation.max_new_tokens is not None:
            return self.adapter.generation.max_new_tokens
        return self._plan_tokens if question_type == "plan" else NEW_TOKENS.get(question_type, OTHER_TOKENS)

    def generate(
        self, batch: Sequence[Prepared], max_new_tokens: int, blind: bool = False, logits_processor: Sequence[Any] = ()
    ) -> Generated:
        texts = [one.inputs[0] for one in batch]
        inputs = self.processor(text=texts, prompt_template=self.prompt_template).to(self.model.device)
        stops = self.adapter.generation.stop
        ids = self.model.generate(
            **inputs,
            image_features=self._blank(len(batch[0].pictures)) if blind else together([one.inputs[1] for one in batch]),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            logits_processor=LogitsProcessorList(logits_processor),
            **({"stop_strings": list(stops), "tokenizer": self.processor.tokenizer} if stops else {}),
        )
        return Generated(ids[:, inputs["input_ids"].shape[1] :])

    def blind_key(self, one: Prepared) -> Hashable:
        return one.inputs[0], len(one.pictures)

    def answer(self, ids: torch.Tensor) -> str:
        return cut_at(self.processor.decode_answers(ids[None], 0)[0], self.adapter.generation.stop).strip()

    def _text(self, asked: Asked, pictures: Sequence[Picture]) -> str:
        """The question with a mark where each picture stands."""
        if self.adapter.views.cameras is None and self.adapter.prompt.user == "{asked}":
            return asked.text
        by_camera: dict[str, list[tuple[float, str]]] = {}
        for picture in pictures:
            by_camera.setdefault(picture.camera or "", []).append((picture.frame, "<image>"))
        return "".join(fill(self.adapter.prompt.user, asked.question, [asked.text], by_camera, asked.facts, asked.where))

    def _look(self, seen: Any, needs: frozenset[str]) -> tuple[SennaImageFeatures, float]:
        """Features of a sample's views, and the time the tower, the projector and the adapter took. seen: of the image processor."""
        device = self.model.device
        pixels = seen["pixel_values"][None].to(device)  # (1, V, 3, H, W)
        masks = seen["patch_mask"][None].to(device)  # (1, V, P)
        marks = Marks(device)
        start = marks.mark()
        with torch.inference_mode():
            features = self.model.get_image_features(pixels, cls_scores="cls_scores" in needs, patch_mask=masks)
        return features, marks.ms(start, marks.mark())

    def _blank(self, views: int) -> torch.Tensor:
        """Features of ``views`` grey views, (1, V, T, d); they are all the same, so the tower sees one."""
        if self._grey is None:
            from PIL import Image

            images = self.processor.image_processor
            grey = Image.new("RGB", (images.image_size, images.image_size), images.padding_colour)
            self._grey, _ = self._look(images([grey]), frozenset())
        return self._grey.tokens.expand(-1, views, -1, -1)


def together(batch: Sequence[SennaImageFeatures]) -> SennaImageFeatures:
    """The features of a batch: tokens (B, V, T, d) and CLS scores (B, V, T)."""
    if len(batch) == 1:
        return batch[0]
    scores = [one.cls_scores for one in batch]
    known = [score for score in scores if score is not None]
    return SennaImageFeatures(torch.cat([one.tokens for one in batch]), torch.cat(known) if len(known) == len(batch) else None)
