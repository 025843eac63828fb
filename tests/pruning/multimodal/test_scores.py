"""CLS scores and keys found from the model, against whole attention matrices and packing written out tile by tile."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from transformers import CLIPVisionModel, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

from senna_autoprune import AutoPrune, SennaPruneError
from senna_autoprune.pruning.methods.registry import build_policy
from senna_autoprune.pruning.multimodal.finder import VisualFinder
from tests.pruning.methods.twins import SLOW, slow_run
from tests.pruning.multimodal import tiny
from tests.pruning.multimodal.tiny import BAND, IMAGE, LAYERS, PATCH, SQUARE, TALL, TILE, WIDE, build, decoder_inputs, prompt

SIDE = TILE // PATCH
BOTH = frozenset({"cls_scores", "keys"})


def whole_tower(model, pixel_values, layer=-2):
    """CLS row (T, 1 + P) and mean key over heads (T, 1 + P, c) of hidden state ``layer``, from an eager tower that keeps everything."""
    tower = CLIPVisionModel._from_config(model.config.vision_config, attn_implementation="eager").eval()
    tower.load_state_dict(model.model.vision_tower.state_dict())
    pixel_values = pixel_values.flatten(0, 1) if pixel_values.dim() == 5 else pixel_values
    with torch.no_grad():
        full = tower(pixel_values, output_attentions=True, output_hidden_states=True)
        block = tower.encoder.layers[range(len(full.hidden_states))[layer] - 1]
        below = full.hidden_states[range(len(full.hidden_states))[layer] - 1]
        keys = block.self_attn.k_proj(block.layer_norm1(below))
    heads = block.self_attn.num_heads
    rows = full.attentions[layer if layer < 0 else layer - 1][:, :, 0].mean(1)
    return rows, sum(keys.chunk(heads, -1)) / heads


def slow_pack(tiles, grid, shown, newline):
    """One NeXT image: tiles (T, P, ...), the first of the whole image; ``shown`` (rows, columns) of the ``grid`` are not padding."""
    packed = list(tiles[0])
    (down, across), (rows, columns) = grid, shown
    top, left = (down * SIDE - rows) // 2, (across * SIDE - columns) // 2
    for row in range(top, top + rows):
        for column in range(left, left + columns):
            tile = 1 + (row // SIDE) * across + column // SIDE
            packed.append(tiles[tile, (row % SIDE) * SIDE + column % SIDE])
        packed.append(newline)
    return torch.stack(packed)


# size of the picture -> tiles down and across, patches down and across without padding
GEOMETRY = {
    SQUARE: ((2, 2), (8, 8)),
    WIDE: ((1, 2), (4, 8)),
    TALL: ((2, 1), (8, 4)),
    BAND: ((1, 2), (2, 8)),
    (30, 90): ((2, 1), (8, 2)),
    (100, 40): ((1, 2), (4, 8)),  # 3.2 rows of 4: half of what is too much, rounded down, is nothing
}


def seen_by_finder(model, inputs, needs=BOTH):
    finder = VisualFinder(model, needs)
    with ExitStack() as stack, torch.no_grad():
        finder.attach(stack, ask=True)
        model(**inputs)
        return finder.context()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_llava_scores_are_the_tower_s_attention(attention):
    model, inputs = tiny.model("llava", attention), prompt("llava", [SQUARE, WIDE])
    found = seen_by_finder(model, inputs)
    rows, keys = whole_tower(model, inputs["pixel_values"])
    assert found.views(0) == (16, 16) and torch.equal(found.mask, inputs["input_ids"] == IMAGE)
    torch.testing.assert_close(found.cls_scores[0], rows[:, 1:].flatten(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.keys[0], keys[:, 1:].flatten(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("layer", "counts"), [(-1, -1), (1, 1), ([-3, -2], -2), ([2, 1], 2)])
def test_scores_are_of_the_layer_that_gives_the_features(layer, counts):
    torch.manual_seed(0)
    parts = {"vision_config": tiny.vision(), "text_config": tiny.text(tiny.LlamaConfig)}
    model = LlavaForConditionalGeneration(LlavaConfig(**parts, image_token_index=IMAGE, vision_feature_layer=layer)).eval()
    inputs = prompt("llava")
    found = seen_by_finder(model, inputs)
    torch.testing.assert_close(found.cls_scores[0], whole_tower(model, inputs["pixel_values"], counts)[0][0, 1:], atol=1e-6, rtol=0)
    if isinstance(layer, int):
        asked = seen_by_finder(tiny.model("llava"), {**inputs, "vision_feature_layer": layer})
        expected = whole_tower(tiny.model("llava"), inputs["pixel_values"], layer)[0][0, 1:]
        torch.testing.assert_close(asked.cls_scores[0], expected, atol=1e-6, rtol=0)


def test_cls_is_a_visual_token_where_the_model_keeps_it():
    model = build("llava")
    model.config.vision_feature_select_strategy = "full"
    inputs = prompt("llava")
    ids = inputs["input_ids"]
    inputs["input_ids"] = torch.cat([ids[:, :8], torch.full((1, 1), IMAGE), ids[:, 8:]], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    found = seen_by_finder(model, inputs)
    torch.testing.assert_close(found.cls_scores[0], whole_tower(model, inputs["pixel_values"])[0][0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", ["next-vicuna", "next-mistral"])
def test_next_packs_scores_and_keys_as_the_model_packs_features(family):
    model, sizes = tiny.model(family), list(GEOMETRY)
    inputs = prompt(family, sizes)
    found = seen_by_finder(model, inputs)
    tiles = [1 + down * across for (down, across), _ in GEOMETRY.values()]
    pixels = torch.cat([image[:count] for image, count in zip(inputs["pixel_values"], tiles, strict=True)])
    rows, keys = (part[:, 1:].split(tiles) for part in whole_tower(model, pixels))
    features = model.model.multi_modal_projector(
        model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    ).split(tiles)
    packed = model.model.get_image_features(inputs["pixel_values"], inputs["image_sizes"]).pooler_output
    scores, views, start = found.cls_scores[0], found.views(0), 0
    for image, (grid, shown) in enumerate(GEOMETRY.values()):
        part = slice(start, start + views[image])
        # the packing written here is the model's own, or the twin would prove nothing
        torch.testing.assert_close(packed[image], slow_pack(features[image], grid, shown, model.model.image_newline))
        torch.testing.assert_close(scores[part], slow_pack(rows[image], grid, shown, torch.tensor(0.0)), atol=1e-6, rtol=0)
        ours, expected = found.keys[0][part], slow_pack(keys[image], grid, shown, torch.zeros(8))
        torch.testing.assert_close(ours[:, :-1], expected, atol=1e-5, rtol=0)
        newline = (expected == 0).all(-1)
        assert torch.equal(ours[:, -1] == 1, newline) and int(newline.sum()) == shown[0]
        start += views[image]
    assert start == len(scores)


@pytest.mark.parametrize("family", ["llava", "next-mistral"])
@pytest.mark.parametrize("method", sorted(set(SLOW) - {"tome", "visionzip"}))  # those two merge by the keys that the twin has not
def test_found_from_the_model_equals_told_by_the_user(method, family):
    """The slow twin of each method, given the matrix's CLS scores and the number of tokens of each image."""
    model, inputs = tiny.model(family), prompt(family, [TALL, SQUARE])
    policy = build_policy(method, retention=0.6)
    with policy(model) as trace, torch.no_grad():
        logits = model(**inputs).logits[0, -1]
    embeds, _ = decoder_inputs(model, inputs)
    found = seen_by_finder(model, inputs)
    names, expected = slow_run(
        model,
        embeds,
        inputs["input_ids"][0] == IMAGE,
        SLOW[method],
        counts=trace[0].tokens_per_layer,
        compact=policy.positions == "compact",
        sizes=trace[0].view_sizes,
        scores=found.cls_scores[0].tolist(),
    )
    assert [[max(int(name), -1) for name in ids] for ids in trace[0].ids] == names
    assert (logits - expected).abs().max() <= 2e-4 * expected.abs().max()


def test_newline_tokens_are_chosen_last_and_the_trace_says_so():
    model, inputs = tiny.model("next-vicuna"), prompt("next-vicuna", [SQUARE])
    with build_policy("fastervlm", tokens=80)(model) as trace, torch.no_grad():
        model(**inputs)
    newlines = {16 + 9 * row + 8 for row in range(8)}
    assert set(range(88)) - set(trace[0].kept[0].tolist()) == newlines
    assert any("newline" in note for note in trace[0].notes)


def siglip():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    vision = SiglipVisionConfig(**sizes, image_size=TILE, patch_size=PATCH)
    config = LlavaConfig(
        vision_config=vision,
        text_config=tiny.text(tiny.LlamaConfig),
        image_token_index=IMAGE,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return LlavaForConditionalGeneration(config).eval()


def test_a_tower_without_cls_is_named():
    model, inputs = siglip(), prompt("llava")
    reason = r"SiglipVisionModel has no \[CLS\] token; pass"
    with pytest.raises(SennaPruneError, match=reason) as error, build_policy("visionzip", tokens=8)(model):
        model(**inputs)
    assert "\n" not in str(error.value)
    with AutoPrune(tokens=8)(model) as trace, torch.no_grad():
        model(**inputs)
    assert trace[0].average_tokens == pytest.approx(8, abs=0.5)


def test_features_computed_before_the_policy_have_no_scores():
    model, inputs = tiny.model("llava"), prompt("llava", [SQUARE, WIDE])
    features = model.get_image_features(inputs.pop("pixel_values"))
    with pytest.raises(SennaPruneError, match="computed before the policy"), build_policy("fastervlm", tokens=8)(model):
        model(**inputs, mm_encoder_outputs={"image": features})
    with AutoPrune(tokens=20)(model) as trace, torch.no_grad():
        model(**inputs, mm_encoder_outputs={"image": features})
    assert trace[0].view_sizes == (16, 16)


def test_scores_never_outlive_their_prompt():
    """Other pixels, then the first ones again: what is kept follows the image, also through features encoded inside the policy."""
    model, one, two = tiny.model("llava"), prompt("llava", seed=1), prompt("llava", seed=2)
    two["input_ids"] = one["input_ids"]
    with build_policy("fastervlm", tokens=6)(model) as trace, torch.no_grad():
        for inputs in (one, two, one):
            model(**inputs)
        encoded = model.get_image_features(two["pixel_values"])
        model(**one)
        with pytest.raises(SennaPruneError, match="computed before"):  # the policy looked at another image since
            model(input_ids=one["input_ids"], mm_encoder_outputs={"image": encoded})
        encoded = model.get_image_features(two["pixel_values"])
        model(input_ids=one["input_ids"], mm_encoder_outputs={"image": encoded})
    kept = [sample.kept[0].tolist() for sample in trace]
    assert kept[0] == kept[2] == kept[3] != kept[1] == kept[4]


def test_images_must_end_where_prompts_do():
    model = tiny.model("llava")
    joined = tiny.batch("llava", [prompt("llava", [SQUARE]), prompt("llava", [SQUARE])])
    spot = (joined["input_ids"][1] == IMAGE).nonzero()[0, 0]
    joined["input_ids"][1, spot], joined["input_ids"][0, 1] = 5, IMAGE  # the sum still fits
    with pytest.raises(SennaPruneError, match=r"prompts of \[17, 15\] image tokens"), AutoPrune(tokens=8)(model):
        model(**joined)


def test_inputs_without_ids_are_refused_in_one_line():
    model, inputs = tiny.model("llava"), prompt("llava")
    embeds, _ = decoder_inputs(model, inputs)
    with pytest.raises(SennaPruneError, match="visual positions are unknown; pass visual_mask="), AutoPrune(tokens=8)(model):
        model(inputs_embeds=embeds[None])
    with AutoPrune(tokens=8)(model, visual_mask=inputs["input_ids"] == IMAGE) as trace, torch.no_grad():
        model(inputs_embeds=embeds[None])
    assert trace[0].average_tokens == pytest.approx(8, abs=0.5)


def test_a_prompt_of_text_alone_is_left_alone():
    for family in tiny.FAMILIES:
        model, inputs = tiny.model(family), prompt(family, ())
        method = "autoprune" if family == "qwen" else "fastervlm"
        with build_policy(method, retention=0.5)(model) as trace, torch.no_grad():
            model(**prompt(family, [SQUARE]))  # whose images are not this prompt's
            pruned = model(**inputs).logits
            model.generate(**inputs, max_new_tokens=2)
        assert torch.equal(pruned, model(**inputs).logits)
        assert [sample.view_sizes for sample in trace][1:] == [(), ()]
        assert trace[1].tokens_per_layer == trace[2].tokens_per_layer == [0] * LAYERS
