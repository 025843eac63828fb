"""``with policy(model): model.generate(**inputs)`` on stock vision-language models, which say themselves where their images are."""

from __future__ import annotations

import copy

import pytest
import torch

from senna_autoprune import AutoPrune, SennaPruneError
from senna_autoprune.pruning.decoder.whole_batch import one_prompt_at_a_time
from senna_autoprune.pruning.methods.registry import METHODS, build_policy
from tests.pruning.multimodal import tiny
from tests.pruning.multimodal.tiny import (
    BAND,
    FAMILIES,
    IMAGE,
    LAYERS,
    QWEN,
    SQUARE,
    TALL,
    WIDE,
    WINDOW,
    batch,
    build,
    decoder_inputs,
    prompt,
)
from tests.twins import MaskedDecoder

STEPS = 6
NEED_CLS = ("fastervlm", "vispruner", "visionzip")
ORIGINAL = ("autoprune", "fastv", "pyramiddrop", "prune2drive", "random", "uniform")  # keep positions and merge nothing

every_family = pytest.mark.parametrize("family", FAMILIES)


def generate(model, inputs, **options):
    output = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False, return_dict_in_generate=True, output_logits=True, **options)
    return output.sequences[:, inputs["input_ids"].shape[1] :], torch.stack(output.logits, 1)  # (B, steps), (B, steps, vocab)


def acts(method, family):
    return not (family == "qwen" and method in NEED_CLS)


def close(ours, theirs, tolerance=1e-5):
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp_min(1)


@every_family
@pytest.mark.parametrize("method", METHODS)
def test_every_method_acts_or_says_why_not(method, family):
    model, inputs = tiny.model(family), prompt(family, [SQUARE, WIDE])
    visual = int((inputs["input_ids"] == IMAGE).sum())
    policy = build_policy(method, tokens=0.5 * visual)
    if not acts(method, family):
        reason = r"CLS attention, and Qwen2.5-VL's vision tower has no \[CLS\] token; pass"
        with pytest.raises(SennaPruneError, match=reason), policy(model):
            generate(model, inputs)
        return
    with policy(model) as trace:
        tokens, logits = generate(model, inputs)
    assert tokens.shape == (1, STEPS) and logits.isfinite().all()
    (sample,) = trace
    assert sample.visual_tokens == visual
    images = {name: value for name, value in inputs.items() if name in ("pixel_values", "image_sizes", "image_grid_thw")}
    assert list(sample.view_sizes) == tiny.counts(family, images)
    assert sample.average_tokens == pytest.approx(0.5 * visual, abs=0.5)
    assert sample.kept[-1].max() < visual and sample.flops_pruned < 0.8 * sample.flops_full


@every_family
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("method", ORIGINAL)
def test_masked_full_length_twin_is_equal(method, attention, family):
    """Two images of different shapes; the prompt is longer than the window of the Mistral that has one."""
    model, inputs = tiny.model(family, attention), prompt(family, [SQUARE, BAND])
    embeds, positions = decoder_inputs(model, inputs)
    visual = (inputs["input_ids"][0] == IMAGE).nonzero().flatten()
    with build_policy(method, retention=0.5)(model) as trace, torch.no_grad():
        first = model(**inputs, use_cache=True).logits[0, -1]
        tokens, logits = generate(model, inputs)
    assert min(trace[1].tokens_per_layer) < len(visual)
    assert [one.tolist() for one in trace[0].kept] == [one.tolist() for one in trace[1].kept]
    assert len(embeds) > WINDOW
    twin = MaskedDecoder(model, positions, WINDOW if family == "next-window" else None)
    expected_tokens, expected = twin.generate(embeds, trace[0].kept, visual, STEPS)
    close(first, expected[0])
    assert tokens[0].tolist() == expected_tokens
    close(logits[0], expected)


@every_family
@pytest.mark.parametrize("method", METHODS)
def test_everything_kept_is_bit_identical(method, family):
    model, inputs = tiny.model(family), prompt(family, [WIDE])
    plain, plain_logits = generate(model, inputs)
    if not acts(method, family):
        return
    with build_policy(method, retention=1.0)(model) as trace:
        pruned, logits = generate(model, inputs)
    assert torch.equal(pruned, plain) and torch.equal(logits, plain_logits)
    assert trace[0].tokens_per_layer == [trace[0].visual_tokens] * LAYERS


def prompts_of(family, third):
    """Three prompts of different lengths and images."""
    return [prompt(family, [TALL], seed=1), prompt(family, [SQUARE, WIDE], seed=2, after=5), prompt(family, third, seed=3, after=9)]


def as_alone(model, policy, family, prompts):
    """A left-padded batch under ``policy`` answers, keeps and counts as each of its prompts alone."""
    single = []
    for one in prompts:
        with policy(model) as trace:
            single.append((*generate(model, one), trace[0]))
    with policy(model) as trace:
        tokens, logits = generate(model, batch(family, prompts))
    for row, (alone, alone_logits, sample) in enumerate(single):
        assert trace[row].view_sizes == sample.view_sizes
        assert [ids.tolist() for ids in trace[row].ids] == [ids.tolist() for ids in sample.ids]
        assert torch.equal(tokens[row], alone[0])
        close(logits[row], alone_logits[0], 1e-4)


@every_family
@pytest.mark.parametrize("method", METHODS)
def test_batch_of_different_images_equals_one_by_one(method, family):
    """One, two and no images a prompt; CLS scores, keys and views find their samples."""
    if acts(method, family):
        as_alone(tiny.model(family), build_policy(method, retention=0.5), family, prompts_of(family, ()))


@every_family
def test_a_batch_of_prompts_with_images_is_cut_as_each_alone(family):
    """AutoPrune's short way of a batch, where every prompt has images."""
    as_alone(tiny.model(family), build_policy("autoprune", retention=0.5), family, prompts_of(family, [SQUARE]))


@every_family
def test_an_unpruned_batch_of_prompts_one_at_a_time_equals_one_by_one(family):
    model, prompts = tiny.model(family), prompts_of(family, ())
    single = [generate(model, one) for one in prompts]
    with one_prompt_at_a_time(model) as there:
        tokens, logits = generate(model, batch(family, prompts))
    assert there == (family != "next-window")  # a sliding window stays with the batch
    for row, (alone, alone_logits) in enumerate(single):
        assert torch.equal(tokens[row], alone[0])
        close(logits[row], alone_logits[0], 1e-4)


@every_family
@pytest.mark.parametrize("method", ["autoprune", "random"])
def test_manual_decoding_continues_from_the_original_length(method, family):
    """Without generate's position ids a model would count on from the first layer's shortened cache."""
    model, inputs = tiny.model(family), prompt(family, [SQUARE])
    del inputs["attention_mask"]
    embeds, positions = decoder_inputs(model, inputs)
    visual = (inputs["input_ids"][0] == IMAGE).nonzero().flatten()
    with build_policy(method, retention=0.4)(model) as trace, torch.no_grad():
        output = model(**inputs, use_cache=True)
        word = output.logits[:, -1].argmax(-1, keepdim=True)
        second = model(input_ids=word, past_key_values=output.past_key_values, use_cache=True).logits[0, -1]
    twin = MaskedDecoder(model, positions, WINDOW if family == "next-window" else None)
    close(second, twin.generate(embeds, trace[0].kept, visual, 2)[1][1])


@pytest.mark.parametrize("family", ["llava", "next-vicuna", "qwen"])
@pytest.mark.parametrize("method", ["autoprune", "fastervlm", "divprune"])
def test_beams_share_their_images(method, family):
    if not acts(method, family):
        return
    model, inputs = tiny.model(family), prompt(family, [SQUARE, WIDE])
    policy = build_policy(method, retention=0.5)
    with policy(model) as trace:
        generate(model, inputs)
        generate(model, inputs, num_beams=2)
    assert len(trace) == 3
    assert trace[0].ids[-1].tolist() == trace[1].ids[-1].tolist() == trace[2].ids[-1].tolist()
    assert trace[0].view_sizes == trace[1].view_sizes == trace[2].view_sizes


def all_hooks(model):
    return [hook for module in model.modules() for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())]


@every_family
def test_model_is_untouched_afterwards_also_after_exceptions(family):
    model, inputs = build(family), prompt(family)
    before, _ = generate(model, inputs)
    hooks = all_hooks(model)  # transformers leaves some of its own behind
    base = model.base_model
    assert "get_image_features" not in vars(base)
    with pytest.raises(RuntimeError, match="stop"), build_policy("divprune", retention=0.4)(model):
        assert "get_image_features" in vars(base)
        raise RuntimeError("stop")
    with pytest.raises(SennaPruneError), AutoPrune(tokens=0.5)(model):
        generate(model, inputs)
    if family != "qwen":
        with pytest.raises(ValueError), build_policy("fastervlm", tokens=8)(model):
            model.generate(**{**inputs, "pixel_values": torch.zeros(3)})
        with build_policy("fastervlm", tokens=8)(model):
            generate(model, inputs)
    assert "get_image_features" not in vars(base)
    assert model.get_decoder().config._attn_implementation == "sdpa"
    assert all_hooks(model) == hooks
    assert torch.equal(generate(model, inputs)[0], before)


@every_family
def test_a_policy_within_a_policy_is_refused_and_the_outer_one_stays_at_work(family):
    model, inputs = build(family), prompt(family)
    with build_policy("random", retention=0.5)(model) as outer:
        with pytest.raises(SennaPruneError, match="already inside the with of RandomPruning"), build_policy("random", retention=1.0)(model):
            pass
        generate(model, inputs)
    assert outer[0].view_sizes == (outer[0].visual_tokens,)
    assert "get_image_features" not in vars(model.base_model)


@pytest.mark.parametrize("method", ["divprune", "cdpruner"])
def test_methods_that_renumber_keep_three_axes_as_they_are(method):
    model, inputs = tiny.model("qwen"), prompt("qwen", [SQUARE, BAND])
    embeds, positions = decoder_inputs(model, inputs)
    with build_policy(method, retention=0.5)(model) as trace:
        tokens, logits = generate(model, inputs)
    visual = (inputs["input_ids"][0] == IMAGE).nonzero().flatten()
    expected_tokens, expected = MaskedDecoder(model, positions).generate(embeds, trace[0].kept, visual, STEPS)
    assert tokens[0].tolist() == expected_tokens
    close(logits[0], expected)
    assert any("three axes" in note for note in trace[0].notes)


RELEASED = [
    ("autoprune", {"mode": "release", "tokens": 10}),
    ("pyramiddrop", {"mode": "release", "layer_list": (1, 2, 4)}),
    ("sparsevlm", {"mode": "v1.0", "scale": 0.5}),
    *(("sparsevlm", {"mode": mode, "retain": 64}) for mode in ("v1.5", "v2.0")),
]


@every_family
@pytest.mark.parametrize(("method", "options"), RELEASED)
def test_released_modes_act_too(method, options, family):
    model, inputs = tiny.model(family), prompt(family, [SQUARE, SQUARE], after=9)
    with build_policy(method, **options)(model) as trace:
        tokens, logits = generate(model, inputs)
    assert tokens.shape == (1, STEPS) and logits.isfinite().all()
    assert len(trace[0].kept[-1]) < trace[0].visual_tokens
    if method == "autoprune":
        assert any("no CLS scores" in note for note in trace[0].notes) == (family == "qwen")


def test_films_are_pruned_as_images_are():
    """A film of four frames, then an image: contiguous runs are the views."""
    model, image = tiny.model("qwen"), prompt("qwen", [SQUARE])
    film = torch.randn(2 * 16, 96, generator=torch.Generator().manual_seed(1))  # two temporal patches of 4 x 4
    ids = torch.tensor([[1, 5, tiny.VISION_START, *[tiny.VIDEO] * 8, tiny.VISION_END, *image["input_ids"][0].tolist()]])
    inputs = {
        "input_ids": ids,
        "pixel_values_videos": film,
        "video_grid_thw": torch.tensor([[2, 4, 4]]),
        "pixel_values": image["pixel_values"],
        "image_grid_thw": image["image_grid_thw"],
        "mm_token_type_ids": (ids == IMAGE).int() + 2 * (ids == tiny.VIDEO).int(),
    }
    embeds, positions = decoder_inputs(model, inputs)
    visual = ((ids[0] == IMAGE) | (ids[0] == tiny.VIDEO)).nonzero().flatten()
    with AutoPrune(retention=0.5)(model) as trace:
        tokens, logits = generate(model, inputs)
    assert trace[0].view_sizes == (8, len(visual) - 8)
    expected_tokens, expected = MaskedDecoder(model, positions).generate(embeds, trace[0].kept, visual, STEPS)
    assert tokens[0].tolist() == expected_tokens
    close(logits[0], expected)


@pytest.mark.parametrize(("size", "tokens"), [((672, 672), 2928), ((1344, 336), 1890)])
def test_next_at_its_real_size(size, tokens):
    """Tiles of 24 x 24 patches: five of them are 2,880 tokens and a newline ends each of 48 rows; or 576 and 18 rows of 72 and one."""
    config = tiny.model("next-vicuna").config.to_dict()
    config["vision_config"].update(image_size=336, patch_size=14)
    config["image_grid_pinpoints"] = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    model = tiny.LlavaNextForConditionalGeneration(tiny.LlavaNextConfig(**config)).eval()
    processor = tiny.LlavaNextImageProcessorPil(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, image_grid_pinpoints=config["image_grid_pinpoints"]
    )
    pixels = processor(tiny.picture(*size), return_tensors="pt")
    ids = torch.tensor([[1, 5, *[IMAGE] * tokens, 7, 9, 4]])
    for method in ("autoprune", "fastervlm"):
        with build_policy(method, tokens=640)(model) as trace:
            generate(model, {"input_ids": ids, **pixels})
        assert trace[0].visual_tokens == tokens and trace[0].view_sizes == (tokens,)
        assert trace[0].average_tokens == pytest.approx(640, abs=0.5)
        assert trace[0].flops_pruned < 0.4 * trace[0].flops_full


def test_a_conversation_goes_on_or_is_refused():
    """generate counts the cache to see what is new: dropped tokens count too, unless the method renumbers what is left."""
    model, inputs = tiny.model("llava"), prompt("llava", after=30)
    more = torch.tensor([[8, 3, 5, 9]])
    options = {"max_new_tokens": 3, "do_sample": False, "return_dict_in_generate": True}
    for method in ("autoprune", "random"):
        with build_policy(method, retention=0.5)(model) as trace:
            first = model.generate(**inputs, **options)
            ids = torch.cat([first.sequences, more], dim=1)
            second = model.generate(input_ids=ids, past_key_values=first.past_key_values, output_logits=True, **options)
        assert len(trace) == 1 and second.sequences.shape[1] == ids.shape[1] + 3
        embeds, _ = decoder_inputs(model, inputs)
        words = model.get_input_embeddings()(ids[0, len(embeds) :])
        visual = (inputs["input_ids"][0] == IMAGE).nonzero().flatten()
        expected = MaskedDecoder(model).logits(torch.cat([embeds, words]), trace[0].kept, visual)[-1]
        close(second.logits[0][0], expected)
    with build_policy("divprune", retention=0.5)(model):
        first = model.generate(**inputs, **options)
        ids = torch.cat([first.sequences, more], dim=1)
        with pytest.raises(SennaPruneError, match="start afresh"):
            model.generate(input_ids=ids, past_key_values=first.past_key_values, **options)


@pytest.mark.parametrize("family", QWEN)
@pytest.mark.parametrize("method", ["autoprune", "random"])
def test_positions_that_the_model_keeps_of_another_prompt_are_refused(method, family):
    """Qwen counts on from the last prompt it has seen, not from the cache's."""
    model, question = tiny.model(family), torch.tensor([[3, 9, 4]])
    inputs, other = prompt(family, [SQUARE]), prompt(family, [SQUARE, SQUARE])
    start = int(decoder_inputs(model, inputs)[1].max()) + 1
    with build_policy(method, retention=0.4)(model), torch.no_grad():
        cache = model(**inputs, use_cache=True).past_key_values
        again = copy.deepcopy(cache)
        expected = model(input_ids=question, past_key_values=cache).logits
        model(**other)
        with pytest.raises(SennaPruneError, match="do not follow its pruned prompt"):
            model(input_ids=question, past_key_values=again)
        positions = torch.arange(start, start + 3).expand(3, 1, 3)
        assert torch.equal(model(input_ids=question, position_ids=positions, past_key_values=again).logits, expected)
