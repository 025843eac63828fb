"""Any stock vision-language model of transformers, asked through its processor's own chat template.

The prompt's parts (text and pictures in order) become one user turn; the template decides where its image marks stand, and
the text it makes is kept verbatim. The vision tower runs once for the questions of the same pictures (tower.py; a method that needs what
it attends to must see it run), and its time is taken apart from the prefill.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from senna_autoprune.adapters.checkpoint import Checkpoint
from senna_autoprune.adapters.model import Generated, Prepared, Seen, cut_at, digest
from senna_autoprune.adapters.prompt import fill
from senna_autoprune.adapters.schema import Adapter
from senna_autoprune.adapters.templates import bounded
from senna_autoprune.adapters.tower import TowerMemory
from senna_autoprune.adapters.views import Asked, Picture, pictures_of
from senna_autoprune.device import Marks
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.image_files import open_image
from senna_autoprune.files.yaml_files import to_dict

ROWS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")  # (B, n), padded on the left
GREY = (0.48145466, 0.4578275, 0.40821073)  # CLIP's image mean, where a processor states none


@dataclass
class StockModel:
    """One checkpoint with its adapter.

    Raises:
        SennaPruneError: a pixel budget for a processor that has none.
    """

    checkpoint: Checkpoint
    adapter: Adapter

    def __post_init__(self) -> None:
        self.model: Any = self.checkpoint.model
        self.processor: Any = self.checkpoint.processor
        self.provenance = dict(self.checkpoint.provenance)
        self.vocabulary = len(self.processor.tokenizer)
        self._memory, self._looked_ms = TowerMemory(self.model.base_model), 0.0
        self._set_budget()
        self._be_greedy()
        added = self.processor.tokenizer.added_tokens_decoder.values()
        self._control = sorted(token.content for token in added if token.special or "image" in token.content)

    def _set_budget(self) -> None:
        views, images = self.adapter.views, self.processor.image_processor
        if views.min_pixels is None and views.max_pixels is None:
            return
        size = dict(images.size) if getattr(images, "size", None) else {}
        size = {key: value for key, value in size.items() if value is not None}
        if set(size) != {"shortest_edge", "longest_edge"} or not hasattr(images, "merge_size"):
            raise SennaPruneError(
                f"{type(images).__name__} has no pixel budget: leave min_pixels and max_pixels out of the adapter's views"
            )
        low, high = views.min_pixels or size["shortest_edge"], views.max_pixels or size["longest_edge"]
        if low > high:
            raise SennaPruneError(f"views.max_pixels {high} is less than the processor's own least, {low} pixels: give min_pixels too")
        images.size = {"shortest_edge": low, "longest_edge": high}

    def _be_greedy(self) -> None:
        """Nothing is drawn; what else the checkpoint's generation config asks for (a repetition penalty, say) stays, and is told."""
        own = self.model.generation_config
        own.do_sample = False
        for name in ("temperature", "top_p", "top_k", "min_p", "typical_p"):
            setattr(own, name, None)
        if own.pad_token_id is None:
            own.pad_token_id = self.processor.tokenizer.pad_token_id
        for name, plain in (("repetition_penalty", 1.0), ("no_repeat_ngram_size", 0)):
            value = getattr(own, name, None)
            if value not in (None, plain):
                self.provenance[name] = f"{value:g}"

    def identity(self) -> dict[str, str]:
        return {
            "adapter_sha256": digest(to_dict(self.adapter)),
            "generation_config_sha256": digest(_decided(self.model.generation_config)),
            "chat_template_sha256": digest(self.processor.chat_template),
            "image_processor_sha256": digest(self.processor.image_processor.to_dict()),
        }

    def open(self, asked: Asked) -> Seen:
        """Pictures, decoded; may run in another thread. SennaPruneError as in ``see``."""
        pictures = tuple(pictures_of(asked, self.adapter.views))
        opened: dict[Any, Any] = {}
        for picture in pictures:
            key = picture.source if isinstance(picture.source, str) else id(picture.source)
            if key not in opened:
                opened[key] = open_image(picture.source)
        return Seen(pictures, [opened[one.source if isinstance(one.source, str) else id(one.source)] for one in pictures])

    def see(self, asked: Asked, needs: frozenset[str] = frozenset(), opened: Seen | None = None) -> Seen:
        return self.open(asked) if opened is None else opened

    def prepare(self, asked: Asked, seen: Seen) -> Prepared:
        parts = self._parts(asked, seen.pictures)
        turns = [{"role": "user", "content": [_part(part) for part in parts]}]
        if self.adapter.prompt.system is not None:
            system = "".join(fill(self.adapter.prompt.system, asked.question, [asked.question], {}, asked.facts, asked.where))
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
        with bounded(asked.where):
            text = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        order = [part for part in parts if not isinstance(part, str)]
        images = [seen.content[seen.pictures.index(picture)] for picture in order]
        inputs = self._encode(text, images)
        mask = inputs["input_ids"] == self.model.config.image_token_id  # (1, N)
        sizes = _sizes(mask[0].tolist(), images, asked.where)
        return Prepared(asked, text, tuple(order), mask, sizes, {"inputs": inputs, "images": images}, group=_group(inputs))

    def new_tokens(self, question_type: str) -> int | None:
        return self.adapter.generation.max_new_tokens

    def generate(
        self, batch: Sequence[Prepared], max_new_tokens: int, blind: bool = False, logits_processor: Sequence[Any] = ()
    ) -> Generated:
        rows = [self._blank(one) if blind else one.inputs["inputs"] for one in batch]
        inputs = collate(rows, self.processor.tokenizer.pad_token_id)
        inputs = {name: _placed(value, self.model) for name, value in inputs.items()}
        stops = self.adapter.generation.stop
        with self._memory.at_work(), self._timed() as vision_ms:
            ids = self.model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                logits_processor=LogitsProcessorList(logits_processor),
                **({"stop_strings": list(stops), "tokenizer": self.processor.tokenizer} if stops else {}),
            )
        return Generated(ids[:, inputs["input_ids"].shape[1] :], sum(vision_ms) if vision_ms else None)

    def blind_key(self, one: Prepared) -> Hashable:
        return one.text, tuple(image.size for image in one.inputs["images"])

    def answer(self, ids: Tensor) -> str:
        text = self.processor.tokenizer.decode(ids.tolist(), skip_special_tokens=True)
        return cut_at(text, self.adapter.generation.stop).strip()

    # --- the prompt -------------------------------------------------------------------------------------------------

    def _parts(self, asked: Asked, pictures: Sequence[Picture]) -> list[str | Picture]:
        by_camera: dict[str, list[tuple[float, Picture]]] = {}
        for picture in pictures:
            by_camera.setdefault(picture.camera or "", []).append((picture.frame, picture))
        own: list[str | Picture] = []
        if self.adapter.views.cameras is None:
            first, *others = asked.pieces()
            own = [first, *(part for pair in zip(pictures, others, strict=True) for part in pair)]
        for text in (asked.text if own else asked.question, *asked.facts.values()):
            self._no_control(text, asked)
        return fill(self.adapter.prompt.user, asked.question, own, by_camera, asked.facts, asked.where)

    def _no_control(self, text: str, asked: Asked) -> None:
        """A question that spells one of the tokenizer's own marks would be read as that mark."""
        plain = "".join(Asked(text, asked.type, ()).pieces())
        found = next((token for token in self._control if token.strip() and token in plain), None)
        if found is not None:
            raise SennaPruneError(f"{asked.where} holds {found!r}, a control token of this model's tokenizer: take it out of the text")

    def _encode(self, text: str, images: Sequence[Any]) -> dict[str, Tensor]:
        """Inputs of one prompt, a batch of one, on the CPU."""
        bos = self.processor.tokenizer.bos_token
        extra = {"add_special_tokens": False} if bos is not None and text.startswith(bos) else {}
        try:
            found = self.processor(text=[text], images=[list(images)], return_tensors="pt", **extra)
        except (ValueError, IndexError) as error:  # marks that the chat template left out
            raise SennaPruneError(f"the processor refuses the prompt ({' '.join(str(error).split())[:200]})") from error
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def _blank(self, one: Prepared) -> dict[str, Tensor]:
        """Its inputs with every picture all in the processor's mean colour, of the same size: as many visual tokens."""
        from PIL import Image

        mean = getattr(self.processor.image_processor, "image_mean", None) or GREY
        red, green, blue = (int(255 * value) for value in mean)
        return self._encode(one.text, [Image.new("RGB", image.size, (red, green, blue)) for image in one.inputs["images"]])

    @contextmanager
    def _timed(self) -> Iterator[list[float]]:
        """Milliseconds of each run of the vision tower within the block, or of the run that is used again; a policy's own watch stays."""
        base, taken = self.model.base_model, []
        before = vars(base).get("get_image_features")
        plain, marks = base.get_image_features, Marks(self.model.device)

        @wraps(plain)
        def get_image_features(*args: Any, **kwargs: Any) -> Any:
            start = marks.mark()
            output = plain(*args, **kwargs)
            took = marks.ms(start, marks.mark())
            if not self._memory.reused:
                self._looked_ms = took
            taken.append(self._looked_ms)  # of the run whose output this is
            return output

        base.get_image_features = get_image_features
        try:
            yield taken
        finally:
            if before is None:
                del base.get_image_features
            else:
                base.get_image_features = before


def _decided(config: Any) -> dict[str, Any]:
    """What a generation config says, without the version that wrote it."""
    return {name: value for name, value in config.to_diff_dict().items() if name not in ("transformers_version", "_from_model_config")}


def _part(part: str | Picture) -> dict[str, str]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


def _placed(value: Tensor, model: Any) -> Tensor:
    return value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)


def _sizes(mask: Sequence[bool], images: Sequence[Any], where: str) -> tuple[int, ...]:
    """Visual tokens of each picture: runs of the mask; runs that touch are parted evenly among pictures of one size.

    Raises:
        SennaPruneError: the prompt shows fewer pictures than it was given, or they cannot be told apart.
    """
    runs = [len(list(run)) for visual, run in groupby(mask) if visual]
    if len(runs) == len(images):
        return tuple(runs)
    if images and len({image.size for image in images}) == 1 and sum(runs) % len(images) == 0:
        each = sum(runs) // len(images)
        if each and all(run % each == 0 for run in runs):
            return (each,) * len(images)
    raise SennaPruneError(
        f"{where}: the prompt holds {len(runs)} runs of image tokens for {len(images)} pictures: put some text between the views"
    )


def _group(inputs: Mapping[str, Tensor]) -> tuple[Any, ...]:
    """What must be equal to share a batch: the kinds of input, and all but the first (and the tiles') axes of them."""
    return tuple(sorted((name, tuple(value.shape[2:])) for name, value in inputs.items() if name not in ROWS))


def collate(rows: Sequence[Mapping[str, Tensor]], pad: int | None) -> dict[str, Tensor]:
    """Inputs of single prompts as one batch: texts padded on the left, pictures one after the other.

    Tiles of a picture, where they have an axis of their own (LLaVA-NeXT: (images, tiles, 3, H, W)), are padded with zeros.
    """
    if len(rows) == 1:
        return dict(rows[0])
    width = max(row["input_ids"].shape[1] for row in rows)
    batch: dict[str, Tensor] = {}
    for name in rows[0]:
        parts = [row[name] for row in rows]
        if name in ROWS:
            fill_in = (0 if pad is None else pad) if name == "input_ids" else 0
            parts = [torch.nn.functional.pad(part, (width - part.shape[1], 0), value=fill_in) for part in parts]
        elif parts[0].dim() == 5:
            tiles = max(part.shape[1] for part in parts)
            parts = [torch.nn.functional.pad(part, (0, 0) * 3 + (0, tiles - part.shape[1])) for part in parts]
        batch[name] = torch.cat(parts)
    return batch
