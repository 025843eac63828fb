"""Which vision tower a checkpoint gets: the argument's, the configured one, its own (spec: senna, item 3)."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionModel

from senna_autoprune import load_senna
from senna_autoprune.errors import SennaPruneError
from tests.senna.files import class_embedding, edit_config, read_weights, same_tokens, write_weights

TOWER = "model.vision_tower.vision_tower.vision_model."


def spoil(path: Path):
    """Other weights in a tower's directory, so that it is seen which one was used."""
    weights = torch.load(path / "pytorch_model.bin", weights_only=True)
    weights["vision_model.embeddings.class_embedding"] += 1
    torch.save(weights, path / "pytorch_model.bin")


@pytest.fixture
def tower(checkpoint_copy) -> Path:
    return checkpoint_copy.parent / "openai" / "clip-vit-large-patch14-336"


def test_argument_comes_first(checkpoint_copy, tower, senna):
    other = checkpoint_copy.parent / "other"
    shutil.copytree(tower, other)
    spoil(other)
    edit_config(checkpoint_copy, unfreeze_mm_vision_tower=True)
    loaded = load_senna(checkpoint_copy, vision_tower=other)
    assert torch.equal(class_embedding(loaded), class_embedding(senna) + 1)
    assert str(other) in loaded.provenance["vision_tower"]


def test_own_weights_if_the_tower_was_trained(checkpoint_copy, tower, senna):
    spoil(tower)
    edit_config(checkpoint_copy, unfreeze_mm_vision_tower=True)
    loaded = load_senna(checkpoint_copy)
    assert torch.equal(class_embedding(loaded), class_embedding(senna))
    assert "unfreeze_mm_vision_tower" in loaded.provenance["vision_tower"]


def test_configured_path_beats_own_weights(checkpoint_copy, tower, senna, caplog):
    spoil(tower)
    with caplog.at_level("INFO", logger="senna_autoprune"):
        loaded = load_senna(checkpoint_copy)
    assert torch.equal(class_embedding(loaded), class_embedding(senna) + 1)
    assert str(tower) in loaded.provenance["vision_tower"]
    assert str(tower) in caplog.text
    edit_config(checkpoint_copy, mm_vision_tower=str(tower))
    assert torch.equal(class_embedding(load_senna(checkpoint_copy)), class_embedding(loaded))


def test_configured_name_below_the_working_directory(checkpoint_copy, tower, senna, tmp_path, monkeypatch):
    spoil(tower)
    moved = tmp_path / "elsewhere" / "checkpoint"
    shutil.copytree(checkpoint_copy, moved)
    assert torch.equal(class_embedding(load_senna(moved)), class_embedding(senna))
    monkeypatch.chdir(tmp_path)
    assert torch.equal(class_embedding(load_senna(moved)), class_embedding(senna) + 1)


@pytest.mark.parametrize("name", ["/cluster/home/author/clip-vit-large-patch14-336", "openai/clip-vit-large-patch14-336"])
def test_own_weights_if_the_configured_tower_is_not_here(checkpoint_copy, tower, s0, name, caplog):
    """The normal case of the released checkpoint: a path on the authors' cluster."""
    shutil.rmtree(tower)
    edit_config(checkpoint_copy, mm_vision_tower=name)
    loaded = load_senna(checkpoint_copy)
    assert same_tokens(loaded, s0)
    assert "not here" in loaded.provenance["vision_tower"]
    assert "4 heads inferred" in loaded.provenance["vision_tower"]
    assert "4 heads are assumed" in caplog.text


def test_hub_cache_is_looked_at_without_the_network(checkpoint_copy, tower, senna, tmp_path, monkeypatch):
    import huggingface_hub

    spoil(tower)
    cached = tmp_path / "cache"
    shutil.move(tower, cached)
    asked = []

    def snapshot(name, local_files_only=False, **kwargs):
        assert local_files_only
        asked.append(name)
        return str(cached)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert torch.equal(class_embedding(load_senna(checkpoint_copy)), class_embedding(senna) + 1)
    assert asked == ["openai/clip-vit-large-patch14-336"]


def test_no_tower_at_all(checkpoint_copy, tower):
    shutil.rmtree(tower)
    weights = {name: value for name, value in read_weights(checkpoint_copy).items() if "vision_tower" not in name}
    write_weights(checkpoint_copy, weights)
    with pytest.raises(SennaPruneError, match="vision_tower=DIR"):
        load_senna(checkpoint_copy)
    edit_config(checkpoint_copy, unfreeze_mm_vision_tower=True)
    with pytest.raises(SennaPruneError, match="unfreeze_mm_vision_tower"):
        load_senna(checkpoint_copy)


def test_checkpoint_without_a_tower_uses_the_configured_one(checkpoint_copy, s0):
    weights = {name: value for name, value in read_weights(checkpoint_copy).items() if "vision_tower" not in name}
    write_weights(checkpoint_copy, weights)
    assert same_tokens(load_senna(checkpoint_copy), s0)


def test_tower_saved_by_transformers(checkpoint_copy, tower, senna, s0):
    other = checkpoint_copy.parent / "vision_only"
    CLIPVisionModel.from_pretrained(tower).save_pretrained(other)
    assert same_tokens(load_senna(checkpoint_copy, vision_tower=other), s0)


def test_broken_towers_are_named(checkpoint_copy, tower):
    weights = torch.load(tower / "pytorch_model.bin", weights_only=True)
    torch.save({**weights, "vision_model.surprise": torch.ones(1)}, tower / "pytorch_model.bin")
    with pytest.raises(SennaPruneError, match=r"unexpected .*vision_model\.surprise"):
        load_senna(checkpoint_copy, vision_tower=tower)
    del weights["vision_model.pre_layrnorm.bias"]
    torch.save(weights, tower / "pytorch_model.bin")
    with pytest.raises(SennaPruneError, match=r"missing .*pre_layrnorm\.bias"):
        load_senna(checkpoint_copy, vision_tower=tower)
    (tower / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(SennaPruneError, match="siglip"):
        load_senna(checkpoint_copy, vision_tower=tower)
    with pytest.raises(SennaPruneError, match="vision tower not found: /no/such/tower"):
        load_senna(checkpoint_copy, vision_tower="/no/such/tower")
