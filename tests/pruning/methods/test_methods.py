"""What each method promises of its own: options, errors, notes, where its numbers come from."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from senna_autoprune import SennaPruneError
from senna_autoprune.pruning.context import VisualContext
from senna_autoprune.pruning.methods.registry import build_policy
from tests.models import six_blocks, tiny_llama

VISUAL, SIZES = 48, (8,) * 6


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def prefill(policy, model=None, **offered):
    model = model or tiny_llama()
    embeds, mask = six_blocks(size=8, after=9)
    with policy(model, visual_mask=mask, **offered) as trace, torch.no_grad():
        output = model(inputs_embeds=embeds, use_cache=True)
    return trace[0], output


@pytest.mark.parametrize("name", ["fastervlm", "divprune", "cdpruner", "visionzip", "tome"])
def test_before_the_decoder_means_a_shorter_prompt(name):
    """Positions are renumbered, so a stock model that is given what is left computes the same, also when it generates."""
    model, (embeds, mask), seen = tiny_llama(), six_blocks(size=8, after=9), []
    options = {"max_new_tokens": 8, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    with build_policy(name, retention=0.4)(model, visual_mask=mask, cls_scores=torch.rand(1, VISUAL)):
        layer = model.model.layers[0]
        handle = layer.register_forward_pre_hook(lambda module, args, kwargs: seen.append(args[0]), with_kwargs=True)
        pruned = model.generate(inputs_embeds=embeds, **options)
        handle.remove()
    plain = model.generate(inputs_embeds=seen[0], **options)
    assert seen[0].shape[1] == embeds.shape[1] - VISUAL + 19
    assert pruned.sequences.tolist() == plain.sequences.tolist()
    assert max(float((a - b).abs().max()) for a, b in zip(pruned.logits, plain.logits, strict=True)) < 1e-5


def test_fastv_cuts_where_it_is_told():
    sample, _ = prefill(build_policy("fastv", retention=0.5, k=3))
    assert sample.tokens_per_layer == [48] * 3 + [10] * 5  # (3 x 48 + 5 n) / 8 = 24
    with pytest.raises(SennaPruneError, match=r"nearest possible is 0\.2"):
        prefill(build_policy("fastv", retention=0.2))  # 2 of 8 layers are above the cut
    with pytest.raises(SennaPruneError, match="k=0"):
        build_policy("fastv", retention=0.5, k=0)
    sample, _ = prefill(build_policy("fastv", retention=1.0, k=12))
    assert sample.tokens_per_layer == [48] * 8
    with pytest.raises(SennaPruneError, match=r"nearest possible is 1\.0"):
        prefill(build_policy("fastv", retention=0.5, k=12))  # deeper than the decoder


def test_pyramid_is_geometric():
    sample, _ = prefill(build_policy("pyramiddrop", retention=0.46875))
    assert sample.tokens_per_layer == [48, 48, 24, 24, 12, 12, 6, 6]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "paper"}, "give exactly one"),
        ({"mode": "release", "retention": 0.5}, "drop retention"),
        ({"mode": "released"}, "unknown"),
        ({"mode": "release", "layer_list": (4, 2)}, "layer_list"),
        ({"mode": "release", "layer_list": (2, 4), "ratio_list": (0.5, 0.7)}, "ratio_list"),
        ({"mode": "release", "layer_list": (2, 4), "ratio_list": (0.5,)}, "ratio_list"),
    ],
)
def test_pyramiddrop_errors(options, message):
    with pytest.raises(SennaPruneError, match=message):
        build_policy("pyramiddrop", **options)


def test_pyramiddrop_release_says_what_does_nothing():
    sample, _ = prefill(build_policy("pyramiddrop", mode="release", layer_list=(2, 24), ratio_list=(0.5, 0.25)))
    assert sample.tokens_per_layer == [48, 48] + [24] * 6
    assert "24" in sample.notes[0] and sample.retention_tokens == pytest.approx((2 + 6 * 0.5) / 8)


@pytest.mark.parametrize("positions", ["paper", "release"])
@pytest.mark.parametrize("groups", [4, 2])
def test_lookahead_is_what_the_layer_then_computes(positions, groups):
    """Nothing dropped by the cut itself: the coming layer's own attention rows, taken while it runs, are the scores."""
    from senna_autoprune.pruning.decoder import attention, lookahead

    options = {"retention": 0.6} if positions == "paper" else {"layer_list": (2, 4), "ratio_list": (0.5, 0.25)}
    policy, seen = build_policy("pyramiddrop", mode=positions, **options), []
    plain = lookahead.next_layer_attention

    class Peek(type(policy)):
        def select(self, context, layer, count):
            scores = plain(context)
            capture = attention.Capture([context.layout], None, "last")
            module, states = context.decoder.layers[layer].self_attn, context.hidden[None]
            slots = context.layout.origin if self.positions == "original" else torch.arange(states.shape[1])
            attention.request(module, capture)
            module(
                context.decoder.layers[layer].input_layernorm(states),
                position_embeddings=context.decoder.rotary_emb(states, slots[None]),
                attention_mask=None,
            )
            seen.append((scores, capture.result[0].mean_to_visual()))
            return super().select(context, layer, count)

    prefill(Peek(mode=positions, **options), tiny_llama(groups=groups))
    assert len(seen) >= 2
    for scores, rows in seen:
        assert torch.allclose(scores, rows, atol=1e-6)


def test_lookahead_uses_the_norms_of_a_decoder_that_has_them():
    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=64, vocab_size=64
    )
    model = Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_norm.weight.uniform_(0.5, 4)
            layer.self_attn.k_norm.weight.uniform_(0.5, 4)
    embeds, mask = six_blocks(size=8, after=9)
    with build_policy("pyramiddrop", retention=0.6)(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        rows = model(inputs_embeds=embeds, output_attentions=True).attentions[1][0, :, -1].mean(0)[mask[0]]
    kept = trace[0].tokens_per_layer[1]
    assert kept < VISUAL
    assert trace[0].kept[1].tolist() == sorted(rows.topk(kept).indices.tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give exactly one"),
        ({"mode": "v1.5", "tokens": 192}, "drop tokens"),
        ({"mode": "v3"}, "unknown"),
        ({"mode": "v2.0", "retain": 100}, "192, 128, 96 or 64"),
    ],
)
def test_sparsevlm_errors(options, message):
    with pytest.raises(SennaPruneError, match=message):
        build_policy("sparsevlm", **options)


def test_sparsevlm_keeps_the_released_proportions():
    model = tiny_llama(layers=32)
    embeds, mask = six_blocks(size=96)
    total = (3 * 576 + 4 * 309 + 9 * 204 + 16 * 113) / 32  # v1.5's list 192 with its recycled tokens
    with build_policy("sparsevlm", tokens=total)(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    first, second, third = (trace[0].tokens_per_layer[layer] for layer in (3, 7, 16))
    assert trace[0].average_tokens == pytest.approx(total, abs=0.5)
    assert second / first == pytest.approx(200 / 300, abs=0.01) and third / first == pytest.approx(110 / 300, abs=0.01)
    assert first == pytest.approx(309, abs=4)
    assert trace[0].merged_per_layer[3] > 0 and trace[0].merged_per_layer[2] == 0


def test_sparsevlm_v2_says_when_heads_are_missing():
    model = tiny_llama(layers=20)
    embeds, mask = six_blocks(size=60)
    with build_policy("sparsevlm", mode="v2.0", retain=64)(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    assert trace[0].tokens_per_layer == [360] * 3 + [66] * 4 + [34] * 9 + [20] * 4
    assert "14 best heads" in trace[0].notes[0]


def test_sparsevlm_first_version_adapts_to_the_text():
    model, counts = tiny_llama(layers=10), []
    for after in (6, 20):
        embeds, mask = six_blocks(size=20, after=after)
        with build_policy("sparsevlm", mode="v1.0", scale=4.0)(model, visual_mask=mask) as trace, torch.no_grad():
            model(inputs_embeds=embeds)
        counts.append(trace[0].tokens_per_layer[3])
    assert counts[0] < counts[1] < 120


@pytest.mark.parametrize("name", ["fastervlm", "vispruner", "visionzip"])
def test_cls_scores_are_needed(name):
    with pytest.raises(SennaPruneError, match="CLS attention"):
        prefill(build_policy(name, retention=0.5))


def test_scores_without_a_mask_are_not_lost_silently():
    policy = build_policy("fastervlm", retention=0.5)
    with pytest.raises(SennaPruneError, match="visual_mask"), policy(tiny_llama(), cls_scores=torch.rand(1, 8)):
        pass


def test_fastervlm_per_view_or_over_the_scene():
    scores = torch.arange(48.0)[None]
    by_view, _ = prefill(build_policy("fastervlm", retention=0.25), cls_scores=scores)
    assert by_view.per_view[0] == [2] * 6 and by_view.kept[0].tolist()[:2] == [6, 7]
    scene, _ = prefill(build_policy("fastervlm", retention=0.25, scope="scene"), cls_scores=scores)
    assert scene.kept[0].tolist() == list(range(36, 48))


@pytest.mark.parametrize("name", ["divprune", "cdpruner", "visionzip", "tome"])
def test_scope(name):
    scores = torch.rand(1, 48)
    by_view, _ = prefill(build_policy(name, retention=0.25, scope="view"), cls_scores=scores)
    scene, _ = prefill(build_policy(name, retention=0.25, scope="scene"), cls_scores=scores)
    assert by_view.tokens_per_layer == scene.tokens_per_layer == [12] * 8
    assert by_view.ids[0].tolist() != scene.ids[0].tolist()


def test_prune2drive_ratios():
    ratios = (3, 1, 1, 1, 1, 1)
    sample, _ = prefill(build_policy("prune2drive", retention=1 / 3, view_ratios=ratios))
    assert sample.per_view[0] == [6, 2, 2, 2, 2, 2]
    full, _ = prefill(build_policy("prune2drive", retention=0.75, view_ratios=ratios))
    assert full.per_view[0][0] == 8 and sum(full.per_view[0]) == 36  # the front view keeps all it has
    with pytest.raises(SennaPruneError, match="2 view ratios are given, but the prompt has 6"):
        prefill(build_policy("prune2drive", retention=0.5, view_ratios=(1, 2)))
    for bad in ((-1, 2), (0, 0), ()):
        with pytest.raises(SennaPruneError, match="view_ratios"):
            build_policy("prune2drive", retention=0.5, view_ratios=bad)
    with pytest.raises(SennaPruneError, match="divprune"):
        build_policy("prune2drive", retention=0.5, scope="scene")


def test_divprune_does_not_hear_the_question_and_cdpruner_does():
    model, mask = tiny_llama(), six_blocks(size=8, after=9)[1]
    kept = {}
    for name in ("divprune", "cdpruner"):
        for question in (1, 2):
            embeds = six_blocks(size=8, after=9)[0].clone()
            embeds[:, -12:] = torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(question))
            with build_policy(name, retention=0.3)(model, visual_mask=mask) as trace, torch.no_grad():
                model(inputs_embeds=embeds)
            kept[name, question] = trace[0].kept[0].tolist()
    assert kept["divprune", 1] == kept["divprune", 2]
    assert kept["cdpruner", 1] != kept["cdpruner", 2]
    assert "question's mean embedding" in trace[0].notes[0]


@pytest.mark.parametrize("name", ["visionzip", "tome"])
def test_keys_of_the_vision_tower_decide_what_is_alike(name):
    scores, keys = torch.rand(1, VISUAL), torch.randn(1, VISUAL, 6)
    plain, without = prefill(build_policy(name, retention=0.4, scope="scene"), cls_scores=scores)
    keyed, output = prefill(build_policy(name, retention=0.4, scope="scene"), cls_scores=scores, keys=keys)
    assert any("ours" in note for note in plain.notes) and not any("keys" in note for note in keyed.notes)
    assert not torch.equal(without.logits, output.logits)


def test_tome_steps():
    with pytest.raises(SennaPruneError, match="steps"):
        build_policy("tome", retention=0.5, steps=0)
    one, _ = prefill(build_policy("tome", retention=0.2, steps=1))
    assert one.tokens_per_layer == [10] * 8  # more steps than asked: one can merge half of the tokens at most
    fewer, _ = prefill(build_policy("tome", tokens=4))
    assert fewer.tokens_per_layer == [4] * 8  # fewer tokens than views


def test_what_a_model_says_of_its_scores_reaches_the_trace():
    class Offers(type(tiny_llama())):
        def visual_context(self, needs, **inputs):
            assert needs == {"cls_scores"}
            mask = six_blocks(size=8, after=9)[1]
            return VisualContext(mask, SIZES, cls_scores=torch.rand(1, VISUAL), notes=("scores are our rule",))

    model = tiny_llama()
    model.__class__ = Offers
    embeds, _ = six_blocks(size=8, after=9)
    with build_policy("fastervlm", retention=0.5)(model) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    assert trace[0].notes == ["scores are our rule"] and trace[0].to_dict()["notes"] == ["scores are our rule"]


def test_merged_tokens_have_names_of_their_own():
    """A name is never 0 or positive: that would be an original token. Before layer 1 there is no -1000 x layer to count from."""
    for policy in (build_policy("tome", retention=0.4), build_policy("autoprune", retention=0.4, revival="merge")):
        sample, _ = prefill(policy)
        for ids, merged, count in zip(sample.ids, sample.merged_per_layer, sample.tokens_per_layer, strict=True):
            assert len(set(ids.tolist())) == count and int((ids < 0).sum()) == merged
        assert max(sample.merged_per_layer) > 0
