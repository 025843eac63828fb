"""FasterVLM and VisionZip against every recorded run on the tiny CLIP tower: which patches are kept, what the merged tokens hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from senna_autoprune import SennaPruneError
from senna_autoprune.pruning.methods.registry import build_policy
from senna_autoprune.pruning.methods.visionzip import contextual_targets, contextual_tokens
from senna_autoprune.pruning.parts.selection import top_tokens
from senna_autoprune.senna.vision import cls_attention, tower_features
from tests.fixtures import FIXTURES, shared
from tests.models import tiny_llama

FOLDER = FIXTURES / "baselines"
LAYER = -2


def runs(method):
    file = FOLDER / method / f"runs_{method}.json"
    return [run for run in json.loads(file.read_text()) if "error" not in run] if file.exists() else []


FASTER, ZIP = runs("fastervlm"), runs("visionzip")


@pytest.fixture(scope="module")
def tower():
    folder = shared("fixtures", "senna-tiny-a", "openai", "clip-vit-large-patch14-336")
    config = CLIPVisionConfig.from_dict(json.loads((folder / "config.json").read_text())["vision_config"])
    model = CLIPVisionModel(config).eval()
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    names = {name.removeprefix("vision_model."): value for name, value in weights.items() if name.startswith("vision_model.")}
    model.load_state_dict({name: value for name, value in names.items() if not name.endswith("position_ids")})
    return model


@pytest.fixture(scope="module")
def scenes(tower):
    """Per recorded sample: hidden states with CLS (6, 577, c), CLS attention (6, 576), keys of layer -2 (6, 577, c / heads)."""
    scenes = {}
    for sample in {run["sample"] for run in FASTER + ZIP}:
        pixels = np.load(shared("fixtures", "senna-samples", "pixels", f"{sample}.npz"))
        images = torch.tensor(np.stack([pixels["lut"][channel][pixels["u8"][:, channel]] for channel in range(3)], 1))
        with torch.no_grad():
            _, layer_input = tower_features(tower, images, LAYER)
            hidden = tower.encoder.layers[LAYER](layer_input, None)
            scores = cls_attention(tower, layer_input, LAYER)
            layer = tower.encoder.layers[LAYER]
            keys = layer.self_attn.k_proj(layer.layer_norm1(layer_input)).unflatten(-1, (layer.self_attn.num_heads, -1)).mean(2)
        scenes[sample] = hidden, scores, keys
    return scenes


def as_recorded(tokens, arrays):
    """Most runs hold only the norms of the tokens that are left."""
    return tokens.numpy() if arrays["hidden_states_save"].ndim == 3 else tokens.norm(dim=-1).numpy()


def test_recordings_are_there():
    shared("fixtures", "baselines")
    assert len(FASTER) >= 12 and len(ZIP) >= 8


@pytest.mark.parametrize("run", FASTER, ids=[run["run"] for run in FASTER])
def test_fastervlm_selection(run, scenes):
    arrays, (_, scores, _) = np.load(FOLDER / "fastervlm" / f"{run['run']}.npz"), scenes[run["sample"]]
    np.testing.assert_allclose(scores.numpy(), arrays["cls_attn_mean"], atol=1e-6)
    for view in range(6):
        kept = top_tokens(scores[view], run["T"]).tolist()
        assert kept == run["kept"][view] == arrays["mask"][view].nonzero()[0].tolist()


@pytest.mark.parametrize("run", ZIP, ids=[run["run"] for run in ZIP])
def test_visionzip_selection_and_merging(run, scenes):
    arrays, (hidden, scores, keys) = np.load(FOLDER / "visionzip" / f"{run['run']}.npz"), scenes[run["sample"]]
    np.testing.assert_allclose(keys.norm(dim=-1).numpy(), arrays["metric_norm"], atol=1e-5)
    for view in range(6):
        dominant = torch.cat([torch.tensor([0]), top_tokens(scores[view], run["dominant_num"]) + 1])  # CLS is one of them
        assert dominant.tolist() == sorted(arrays["all_indices"][view].tolist()) == run["cls_plus_dominant"][view]
        rest = torch.tensor(sorted(set(range(577)) - set(dominant.tolist())))
        made = contextual_tokens(hidden[view, rest], keys[view, rest], contextual_targets(run["contextual"], len(rest)))
        left = torch.cat([hidden[view, dominant], made])
        np.testing.assert_allclose(as_recorded(left, arrays), arrays["hidden_states_save"][view], atol=2e-5)


def decoder_input(policy, features, scores, keys):
    """What layer 0 is given of the visual tokens when a decoder as wide as the tower sees the 6 x 576 patches as its prompt."""
    model, (views, size, width) = tiny_llama(layers=2, hidden=features.shape[-1]), features.shape
    visual = torch.tensor([False] * 4 + [True] * (views * size) + [False] * 5)
    embeds = torch.randn(1, len(visual), width, generator=torch.Generator().manual_seed(0))
    embeds[0, visual] = features.reshape(-1, width)
    seen = []
    offered = {"cls_scores": scores.reshape(1, -1), "keys": keys.reshape(1, views * size, -1)}
    with policy(model, visual_mask=visual[None], view_sizes=(size,) * views, **offered) as trace, torch.no_grad():
        handle = model.model.layers[0].register_forward_pre_hook(lambda module, args, kwargs: seen.append(args[0]), with_kwargs=True)
        model(inputs_embeds=embeds)
        handle.remove()
    return trace[0], seen[0][0, 4:-5]


@pytest.mark.parametrize("run", FASTER, ids=[run["run"] for run in FASTER])
def test_fastervlm_through_the_engine(run, scenes):
    hidden, scores, keys = scenes[run["sample"]]
    sample, left = decoder_input(build_policy("fastervlm", tokens_per_view=run["T"]), hidden[:, 1:], scores, keys[:, 1:])
    expected = [view * 576 + index for view in range(6) for index in run["kept"][view]]
    assert sample.kept[0].tolist() == expected
    assert torch.equal(left, hidden[:, 1:].reshape(6 * 576, -1)[expected])


@pytest.mark.parametrize("run", ZIP, ids=[run["run"] for run in ZIP])
def test_visionzip_through_the_engine(run, scenes):
    """All but the CLS token, which no LLaVA-like decoder is given."""
    arrays, (hidden, scores, keys) = np.load(FOLDER / "visionzip" / f"{run['run']}.npz"), scenes[run["sample"]]
    tokens = run["dominant_num"] + run["contextual"]
    policy = build_policy("visionzip", tokens_per_view=tokens, contextual_share=run["contextual"] / tokens)
    sample, left = decoder_input(policy, hidden[:, 1:], scores, keys[:, 1:])
    np.testing.assert_allclose(as_recorded(left.view(6, tokens, -1), arrays), arrays["hidden_states_save"][:, 1:], atol=2e-5)
    assert sample.merged_per_layer == [6 * run["contextual"]] * 2
    assert sample.notes == []


def test_more_dominant_tokens_than_patches_fail(scenes):
    """As in the recording d600: the release fails too."""
    hidden, scores, keys = next(iter(scenes.values()))
    with pytest.raises(SennaPruneError, match="nearest possible"):
        decoder_input(build_policy("visionzip", tokens_per_view=609), hidden[:, 1:], scores, keys[:, 1:])
