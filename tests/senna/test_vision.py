import pytest
import torch
from transformers import CLIPVisionModel

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna.vision import cls_attention, tower_features
from tests.senna.tiny import TOKENS, tiny_config, tiny_model


def pixels(batch=2, count=3):
    return torch.randn(batch, count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", [-1, -2, -3, 1])
def test_tower_equals_stock_forward_with_all_hidden_states_and_attentions(layer):
    """The twin runs the whole stock tower, eagerly, keeping every hidden state and attention matrix."""
    model = tiny_model()
    twin = CLIPVisionModel._from_config(model.config.vision_config, attn_implementation="eager").eval()
    twin.load_state_dict(model.vision_tower.state_dict())
    images = pixels().flatten(0, 1)
    with torch.no_grad():
        full = twin(images, output_hidden_states=True, output_attentions=True)
        features, layer_input = tower_features(model.vision_tower, images, layer)
        attention = cls_attention(model.vision_tower, layer_input, layer)
    assert torch.allclose(features, full.hidden_states[layer][:, 1:], atol=1e-6)
    wanted = full.attentions[layer if layer < 0 else layer - 1][:, :, 0, 1:].mean(1)
    assert torch.allclose(attention, wanted, atol=1e-6)


def test_cls_scores_are_weighted_patch_attention_without_padding():
    model = tiny_model()
    mask = torch.rand(2, 3, 16, generator=torch.Generator().manual_seed(2)) > 0.4
    with torch.no_grad():
        features = model.get_image_features(pixels(), cls_scores=True, patch_mask=mask)
        unmasked = model.get_image_features(pixels(), cls_scores=True)
        linear = [model.img_adapter.adapter[i].weight for i in (0, 2, 4)]
        weights = linear[2].abs() @ linear[1].abs() @ linear[0].abs()  # (T, P)
        for b in range(2):
            for v in range(3):
                _, layer_input = tower_features(model.vision_tower, pixels()[b, v][None], -2)
                patches = cls_attention(model.vision_tower, layer_input, -2)[0]
                patches[~mask[b, v]] = 0
                for t in range(TOKENS):
                    wanted = sum(weights[t, i] / weights[t].sum() * patches[i] for i in range(16))
                    assert features.cls_scores[b, v, t] == pytest.approx(wanted.item(), rel=1e-4)
    assert (unmasked.cls_scores > features.cls_scores).all()
    assert torch.equal(unmasked.tokens, features.tokens)
    assert model.get_image_features(pixels()).cls_scores is None


def test_adapter_rows_sum_to_one():
    weights = tiny_model().img_adapter.patch_weights()
    assert weights.shape == (TOKENS, 16)
    assert torch.allclose(weights.sum(-1), torch.ones(TOKENS))


def test_shapes_are_checked():
    model = tiny_model()
    with pytest.raises(SennaPruneError, match="zero views"):
        model.get_image_features(torch.zeros(1, 0, 3, 32, 32))
    with pytest.raises(SennaPruneError, match=r"\(B, V, 3, H, W\)"):
        model.get_image_features(torch.zeros(6, 3, 32, 32))
    with pytest.raises(SennaPruneError, match="patch_mask"):
        model.get_image_features(pixels(), cls_scores=True, patch_mask=torch.ones(1, 3, 16, dtype=torch.bool))


def test_feature_layer_must_exist():
    with pytest.raises(SennaPruneError, match="vision_feature_layer"):
        tiny_model(vision_feature_layer=-9)


def test_sizes_come_from_the_config():
    assert tiny_config().num_patches == 16
    features = tiny_model().get_image_features(pixels())
    assert features.tokens.shape == (2, 3, TOKENS, 32)
