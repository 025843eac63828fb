"""Reading checkpoints: every layout, every choice of vision tower, and every way in which a file can be wrong."""

import json
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from senna_autoprune import load_senna
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna import SennaConfig, SennaForConditionalGeneration
from senna_autoprune.senna.original import original_name, own_name
from tests.senna.files import class_embedding, edit_config, read_weights, same_tokens, write_weights
from tests.senna.tiny import question, tiny_model, tiny_processor, views

TOWER = "model.vision_tower.vision_tower.vision_model."


# ---- formats


@pytest.mark.parametrize(("kind", "shards"), [("safetensors", 1), ("bin", 1), ("bin", 3), ("old bin", 1), ("safetensors", 2)])
def test_formats(checkpoint_copy, s0, kind, shards):
    write_weights(checkpoint_copy, read_weights(checkpoint_copy), kind, shards)
    assert same_tokens(load_senna(checkpoint_copy), s0)


def test_every_recorded_key_is_read(senna):
    from tests.fixtures import shared

    keys = json.loads(shared("fixtures", "senna-tiny-a", "state_dict_keys.json").read_text())
    assert {original_name(name) for name in senna.model.state_dict()} == set(keys)
    assert all(original_name(own_name(name)) == name for name in keys)


def test_old_buffers_are_ignored(checkpoint_copy, s0):
    weights = read_weights(checkpoint_copy)
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    weights["model.rotary_emb.inv_freq"] = torch.ones(8)
    weights[TOWER + "embeddings.position_ids"] = torch.arange(577)[None]
    write_weights(checkpoint_copy, weights, "bin")
    assert same_tokens(load_senna(checkpoint_copy), s0)


@pytest.mark.parametrize(("name", "dtype"), [("float16", torch.float16), ("bfloat16", torch.bfloat16)])
def test_dtype(checkpoint_copy, s0, name, dtype):
    senna = load_senna(checkpoint_copy, dtype=name)
    assert {value.dtype for value in senna.model.parameters()} == {dtype}
    assert senna.model.dtype == dtype == load_senna(checkpoint_copy, dtype=dtype).model.dtype
    assert senna.provenance["dtype"] == name
    if name == "bfloat16":
        with torch.no_grad():
            assert senna.model(**s0.inputs(), logits_to_keep=1).logits.isfinite().all()


def test_rotary_frequencies_stay_float32(checkpoint_copy):
    rotary = load_senna(checkpoint_copy, dtype="bfloat16").model.get_decoder().rotary_emb
    assert rotary.inv_freq.dtype == torch.float32


def test_generation_config_is_greedy(senna):
    config = senna.model.generation_config
    assert not config.do_sample
    assert (config.temperature, config.top_p, config.max_length) == (None, None, None)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 0)


def test_plain_generate_is_greedy_and_silent(senna, s0, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = senna.model.generate(**s0.inputs(), max_new_tokens=8)
    assert not caplog.records
    assert out[0, -8:].tolist() == s0.dump["generated_ids"][1:9].tolist()


# ---- what can be wrong


def test_missing_weights_are_named(checkpoint_copy):
    weights = read_weights(checkpoint_copy)
    del weights["model.layers.3.mlp.up_proj.weight"], weights["model.mm_projector.2.bias"]
    write_weights(checkpoint_copy, weights)
    with pytest.raises(SennaPruneError, match=r"missing .*layers\.3\.mlp\.up_proj\.weight.*mm_projector\.2\.bias"):
        load_senna(checkpoint_copy)


def test_missing_adapter_means_no_senna(checkpoint_copy):
    weights = {name: value for name, value in read_weights(checkpoint_copy).items() if "img_adapter" not in name}
    write_weights(checkpoint_copy, weights)
    with pytest.raises(SennaPruneError, match=r"not a Senna checkpoint.*img_adapter\.adapter\.0"):
        load_senna(checkpoint_copy)


def test_unexpected_and_misshaped_weights_are_named(checkpoint_copy):
    weights = read_weights(checkpoint_copy)
    write_weights(checkpoint_copy, {**weights, "model.layers.8.input_layernorm.weight": torch.ones(64)})
    with pytest.raises(SennaPruneError, match=r"unexpected .*layers\.8\.input_layernorm"):
        load_senna(checkpoint_copy)
    write_weights(checkpoint_copy, {**weights, "vision_tower.pre_layrnorm.bias": torch.ones(32)})
    with pytest.raises(SennaPruneError, match=r"unexpected .*: vision_tower\.pre_layrnorm\.bias"):
        load_senna(checkpoint_copy)
    write_weights(checkpoint_copy, {**weights, "lm_head.weight": torch.ones(511, 64)})
    with pytest.raises(SennaPruneError, match=r"misshaped .*lm_head\.weight is \[511, 64\], expected \[512, 64\]"):
        load_senna(checkpoint_copy)


def test_adapter_must_fit_the_towers_patches(checkpoint_copy):
    weights = read_weights(checkpoint_copy)
    weights["model.img_adapter.adapter.0.weight"] = torch.ones(128, 575)
    write_weights(checkpoint_copy, weights)
    with pytest.raises(SennaPruneError, match=r"img_adapter\.adapter\.0\.weight is \[128, 575\], expected \[128, 576\]"):
        load_senna(checkpoint_copy)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_must_be_finite(checkpoint_copy, value):
    weights = read_weights(checkpoint_copy)
    weights["model.layers.1.mlp.down_proj.weight"][3, 5] = value
    write_weights(checkpoint_copy, weights)
    with pytest.raises(SennaPruneError, match=r"layers\.1\.mlp\.down_proj\.weight holds NaN or infinity"):
        load_senna(checkpoint_copy)


def test_overflow_of_the_dtype_is_an_error(checkpoint_copy):
    weights = read_weights(checkpoint_copy)
    weights["model.norm.weight"][0] = 1e6
    write_weights(checkpoint_copy, weights)
    with pytest.raises(SennaPruneError, match=r"model\.norm\.weight holds values beyond torch\.float16"):
        load_senna(checkpoint_copy, dtype="float16")


class Payload:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def test_pickles_never_run(checkpoint_copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_weights(checkpoint_copy, {})
    (checkpoint_copy / "model.safetensors").unlink()
    (checkpoint_copy / "pytorch_model.bin").write_bytes(pickle.dumps({"lm_head.weight": Payload()}))
    with pytest.raises(SennaPruneError, match=r"broken or unsafe weight file: .*pytorch_model\.bin"):
        load_senna(checkpoint_copy)
    torch.save({"lm_head.weight": Payload()}, checkpoint_copy / "pytorch_model.bin")
    with pytest.raises(SennaPruneError, match="broken or unsafe"):
        load_senna(checkpoint_copy)
    assert not (tmp_path / "pwned").exists()


def test_broken_files_are_named(checkpoint_copy):
    weights = read_weights(checkpoint_copy)
    write_weights(checkpoint_copy, weights, shards=2)
    shard = checkpoint_copy / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:1000])
    with pytest.raises(SennaPruneError, match="model-00002-of-00002"):
        load_senna(checkpoint_copy)
    shard.unlink()
    with pytest.raises(SennaPruneError, match=r"missing weight file: .*model-00002-of-00002"):
        load_senna(checkpoint_copy)
    index = checkpoint_copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../secret.safetensors"}}))
    with pytest.raises(SennaPruneError, match="outside its directory"):
        load_senna(checkpoint_copy)
    index.write_text('{"weight_map": ')
    with pytest.raises(SennaPruneError, match="broken JSON"):
        load_senna(checkpoint_copy)
    index.write_text('{"weight_map": ["a"]}')
    with pytest.raises(SennaPruneError, match="weight_map"):
        load_senna(checkpoint_copy)
    index.unlink()
    (checkpoint_copy / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(SennaPruneError, match="no weights in"):
        load_senna(checkpoint_copy)


def test_bad_configs(checkpoint_copy):
    edit_config(checkpoint_copy, mm_projector_type="linear")
    with pytest.raises(SennaPruneError, match="mm_projector_type is 'linear'"):
        load_senna(checkpoint_copy)
    edit_config(checkpoint_copy, mm_projector_type="mlp2x_gelu", num_attention_heads=5)
    with pytest.raises(SennaPruneError, match=r"config.json"):
        load_senna(checkpoint_copy)
    edit_config(checkpoint_copy, num_attention_heads="four")
    with pytest.raises(SennaPruneError, match=r"config.json"):
        load_senna(checkpoint_copy)
    edit_config(checkpoint_copy, num_attention_heads=4, model_type="llama", mm_vision_tower=...)
    with pytest.raises(SennaPruneError, match=r"not a Senna checkpoint.*'llama'"):
        load_senna(checkpoint_copy)
    (checkpoint_copy / "config.json").write_text("[]")
    with pytest.raises(SennaPruneError, match="JSON object"):
        load_senna(checkpoint_copy)
    (checkpoint_copy / "config.json").unlink()
    with pytest.raises(SennaPruneError, match=r"config\.json"):
        load_senna(checkpoint_copy)


def test_bad_arguments(checkpoint_copy, monkeypatch):
    import huggingface_hub

    with pytest.raises(SennaPruneError, match="/no/such/dir is no directory"):
        load_senna("/no/such/dir")
    with pytest.raises(SennaPruneError, match=r"config.json is no directory"):
        load_senna(checkpoint_copy / "config.json")
    with pytest.raises(SennaPruneError, match="unknown dtype 'int8'"):
        load_senna(checkpoint_copy, dtype="int8")
    with pytest.raises(SennaPruneError, match="device"):
        load_senna(checkpoint_copy, device="abacus")
    with pytest.raises(SennaPruneError, match="attn_implementation"):
        load_senna(checkpoint_copy, attn_implementation="magic")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **kwargs: str(checkpoint_copy))
    assert load_senna("owner/senna").provenance["checkpoint"] == "owner/senna"  # a hub id is the user's wish


def test_tokenizer_is_needed_and_must_fit(checkpoint_copy):
    weights = read_weights(checkpoint_copy)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:500].clone()
    write_weights(checkpoint_copy, weights)
    edit_config(checkpoint_copy, vocab_size=500)
    with pytest.raises(SennaPruneError, match="512 ids but the model only 500"):
        load_senna(checkpoint_copy)
    (checkpoint_copy / "tokenizer.model").unlink()
    with pytest.raises(SennaPruneError, match=r"tokenizer\.model"):
        load_senna(checkpoint_copy)


# ---- our own layout


def test_round_trip_of_a_loaded_checkpoint(senna, s0, tmp_path):
    senna.model.save_pretrained(tmp_path)
    senna.processor.save_pretrained(tmp_path)
    wanted = senna.model.generate(**s0.inputs(), max_new_tokens=8, do_sample=False).tolist()
    again = load_senna(tmp_path)
    assert again.provenance["layout"] == "senna-prune"
    assert again.model.generate(**s0.inputs(), max_new_tokens=8, do_sample=False).tolist() == wanted
    stock, info = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.get(key) for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    assert stock.generate(**s0.inputs(), max_new_tokens=8, do_sample=False).tolist() == wanted
    batch = again.processor(text=s0.question, images=s0.images)
    assert batch["input_ids"].tolist() == s0.inputs()["input_ids"].tolist()
    assert torch.equal(batch["pixel_values"][0], torch.tensor(s0.pixels))


def save_tiny(directory: Path, **changes) -> SennaForConditionalGeneration:
    model = tiny_model(**changes)
    model.save_pretrained(directory)
    tiny_processor().save_pretrained(directory)
    return model


@pytest.mark.parametrize("tied", [False, True])
def test_own_layout(tmp_path, tied):
    model = save_tiny(tmp_path, tie_word_embeddings=tied)
    loaded = load_senna(tmp_path)
    assert (loaded.model.lm_head.weight is loaded.model.language_model.embed_tokens.weight) == tied
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name
    batch = loaded.processor(text=question(2), images=views(2))
    with torch.no_grad():
        assert torch.equal(loaded.model(**batch).logits, model(**batch).logits)
        assert torch.equal(AutoModel.from_pretrained(tmp_path)(**batch).logits, model(**batch).logits)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), SennaConfig)


def test_own_layout_is_checked_as_strictly(tmp_path):
    save_tiny(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "language_model.layers.1.mlp.up_proj.weight"
    save_file({k: v for k, v in weights.items() if k != name}, tmp_path / "model.safetensors")
    with pytest.raises(SennaPruneError, match=r"missing .*layers\.1\.mlp\.up_proj"):
        load_senna(tmp_path)
    save_file({**weights, name: torch.full_like(weights[name], float("nan"))}, tmp_path / "model.safetensors")
    with pytest.raises(SennaPruneError, match="NaN"):
        load_senna(tmp_path)
    (tmp_path / "processor_config.json").write_text("{")
    with pytest.raises(SennaPruneError, match="broken checkpoint"):
        load_senna(tmp_path)


def test_own_layout_with_another_tower(tmp_path):
    model = save_tiny(tmp_path / "model")
    other = tiny_model(seed=5).vision_tower
    other.save_pretrained(tmp_path / "tower")
    loaded = load_senna(tmp_path / "model", vision_tower=tmp_path / "tower")
    assert torch.equal(class_embedding(loaded), other.embeddings.class_embedding)
    assert torch.equal(loaded.model.lm_head.weight, model.lm_head.weight)
    assert str(tmp_path / "tower") in loaded.provenance["vision_tower"]
