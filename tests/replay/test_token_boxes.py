"""A token's box holds the pixels that its patch was made of, whatever the processor did to the image before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from senna_autoprune import SennaPruneError
from senna_autoprune.pruning.methods.registry import build_policy
from senna_autoprune.pruning.multimodal.llava_next import pack
from senna_autoprune.replay.token_boxes import heat_over_image, token_boxes
from tests.models import tiny_llama
from tests.pruning.multimodal import tiny
from tests.pruning.multimodal.tiny import IMAGE, PINPOINTS, TILE

SIZES = [(280, 280), (560, 280), (280, 560), (900, 300), (300, 900), (333, 251), (777, 400)]
CROP = {"size": {"shortest_edge": TILE}, "crop_size": {"height": TILE, "width": TILE}}
PROCESSORS = {
    "llava": CLIPImageProcessorPil(**CROP),
    "llava, larger than its crop": CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=CROP["crop_size"]),
    "llava, squeezed": CLIPImageProcessorPil(size={"height": TILE, "width": TILE}, do_center_crop=False),
    "llava, padded": LlavaImageProcessorPil(**CROP, do_pad=True),
    "next-vicuna": LlavaNextImageProcessorPil(**CROP, image_grid_pinpoints=PINPOINTS),
    "qwen": Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 64, "longest_edge": 4096}),
}


def ramp(width: int, height: int) -> Image.Image:
    """Red says how far right a pixel is, green how far down."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).round()
    pixels[..., 1] = np.linspace(0, 255, height).round()[:, None]
    return Image.fromarray(pixels)


def patch_colours(model, pixels: dict[str, torch.Tensor]) -> np.ndarray:
    """Mean red and green, 0..1, of the pixels that each visual token's patch was given, (V, 2); NaN at newline tokens."""
    mean, std = (np.array(values)[:2] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    values = pixels["pixel_values"]
    if "image_grid_thw" in pixels:
        merged = values.unflatten(1, (3, -1)).mean(-1)[:, :2].unflatten(0, (-1, 4)).mean(1)  # (V, 2)
        return merged.numpy() * std + mean
    tiles = values.reshape(-1, 3, 4, TILE // 4, 4, TILE // 4)[:, :2].mean((3, 5)).flatten(2).transpose(1, 2)  # (T, P, 2)
    if "image_sizes" in pixels:
        tiles = pack(model.model, tiles, torch.full((2,), torch.nan), pixels["image_sizes"])[0][None]
    return tiles[0].numpy() * std + mean


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PROCESSORS)
def test_the_colours_of_a_patch_say_where_it_was(name, size):
    model, processor = tiny.model(name.split(",")[0]), PROCESSORS[name]
    colours = patch_colours(model, dict(processor(ramp(*size), return_tensors="pt")))
    (boxes,) = token_boxes(model, processor, [size])
    assert boxes.shape == (len(colours), 4)
    newline = np.isnan(colours[:, 0])
    assert (boxes[newline] == 0).all()
    inside = ~newline & (boxes[:, :2] >= 0).all(1) & (boxes[:, 2:] <= 1).all(1)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert inside.any() or (name == "llava, padded" and max(size) == 3 * min(size))  # there every patch holds some padding
    np.testing.assert_allclose(colours[inside], centres[inside], atol=0.03)


def kept_and_pictures(method, size, picture):
    model, processor = tiny.model("llava"), PROCESSORS["llava"]
    pixels = torch.cat([processor(ramp(*size), return_tensors="pt")["pixel_values"], tiny.pixels("llava", [tiny.SQUARE])["pixel_values"]])
    ids = torch.tensor([[1, 5, *[IMAGE] * 16, 7, *[IMAGE] * 16, 9, 8, 4]])
    with build_policy(method, tokens=8)(model) as trace, torch.no_grad():
        model(input_ids=ids, pixel_values=pixels)
    boxes = token_boxes(model, processor, [size, (TILE, TILE)])
    return trace[0], boxes, heat_over_image(trace[0], boxes, [picture, picture])


def test_heat_of_kept_tokens_over_a_cropped_image():
    """560 x 280: the middle half is what CLIP saw; four by four patches of 70 pixels."""
    sample, _, (first, second) = kept_and_pictures("fastervlm", (560, 280), (560, 280))
    expected = np.zeros((280, 560))
    for token in sample.kept[0].tolist():
        if token < 16:
            row, column = divmod(token, 4)
            expected[70 * row : 70 * (row + 1), 140 + 70 * column : 140 + 70 * (column + 1)] = 1
    np.testing.assert_allclose(first, expected)
    assert (first[:, :140] == 0).all() and (first[:, 420:] == 0).all() and first.any() and second.any()
    assert second.sum() == pytest.approx(280 * 560 / 16 * (8 - first.sum() / 70**2), rel=0.01)


def test_heat_is_the_share_of_layers():
    sample, _, (first, _) = kept_and_pictures("autoprune", (280, 280), (64, 64))
    layers = [sum(token in kept.tolist() for kept in sample.kept) / len(sample.kept) for token in range(16)]
    assert len(set(layers)) > 2
    np.testing.assert_allclose(first.reshape(4, 16, 4, 16)[:, 0, :, 0].ravel(), layers)


def test_both_scales_of_next_add_up():
    model, inputs = tiny.model("next-vicuna"), tiny.prompt("next-vicuna", [(60, 28)])
    with build_policy("random", retention=1.0)(model) as trace, torch.no_grad():
        model(**inputs)
    boxes = token_boxes(model, PROCESSORS["next-vicuna"], [(60, 28)])
    (heat,) = heat_over_image(trace[0], boxes, [(120, 56)])
    assert np.isclose(heat, 2).mean() > 0.95  # everywhere but at an edge that unpadding cut


def test_other_images_and_other_models_are_refused():
    sample, boxes, _ = kept_and_pictures("autoprune", (280, 280), (64, 64))
    with pytest.raises(SennaPruneError, match="do not belong"):
        heat_over_image(sample, boxes[:1], [(64, 64)])
    with pytest.raises(SennaPruneError, match="only of llava, llava_next, qwen2_5_vl"):
        token_boxes(tiny_llama(), None, [(64, 64)])
