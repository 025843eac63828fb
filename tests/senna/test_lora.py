"""What LoRA training leaves: an adapter is merged into its base where that is here, and named for what it is where it is not."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from senna_autoprune import SennaPruneError, load_senna
from senna_autoprune.adapters.checkpoint import load_checkpoint
from senna_autoprune.adapters.open import family_of
from senna_autoprune.senna.lora import merge
from tests.adapters.tiny import save
from tests.models import tiny_llama
from tests.senna.tiny import tiny_model, tiny_processor

# as PEFT writes it, settings of training and empty ones included
SETTINGS = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 8,
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "lora_dropout": 0.05,
    "target_modules": ["q_proj", "down_proj"],
    "modules_to_save": None,
    "rank_pattern": {},
    "init_lora_weights": True,
    "inference_mode": True,
    "megatron_core": "megatron.core",
    "task_type": "CAUSAL_LM",
}


def wrap(folder):
    path = folder / "model.safetensors"
    save_file({f"base_model.model.{name}": value.clone() for name, value in load_file(path).items()}, path, {"format": "pt"})


def adapter(folder, model, base="", prefix="", names=("layers.0.self_attn.q_proj", "layers.2.mlp.down_proj"), change=None, **settings):
    """An adapter of two layers of ``model``'s decoder in ``folder``; its A and B by the name of the module."""
    generator, tensors, pairs = torch.Generator().manual_seed(3), {}, {}
    decoder = model.get_decoder()
    for name in names:
        out, width = decoder.get_submodule(name).weight.shape
        pairs[name] = torch.randn(2, width, generator=generator), torch.randn(out, 2, generator=generator)
        for part, tensor in zip("AB", pairs[name], strict=True):
            tensors[f"base_model.model.{prefix}{name}.lora_{part}.weight"] = tensor
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**SETTINGS, "base_model_name_or_path": str(base), **settings}))
    save_file(change(tensors) if change else tensors, folder / "adapter_model.safetensors")
    return pairs


def test_merged_weights_under_the_wrappers_names(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    wrap(tmp_path)
    with pytest.raises(SennaPruneError, match=r"names begin with 'base_model\.', the first is base_model\.model\..*merge_and_unload"):
        load_senna(tmp_path)


@pytest.mark.parametrize("load", [load_senna, lambda folder: load_checkpoint(str(folder))])
@pytest.mark.parametrize(("base", "words"), [("owner/senna-7b", "its base 'owner/senna-7b'"), (None, "its base, which it does not name")])
def test_an_adapter_alone_says_its_base(base, words, load, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    save_file({}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(SennaPruneError, match=words):
        load(tmp_path)


@pytest.mark.parametrize("prefix", ["language_model.", "model."])  # our names, and the original code's
@pytest.mark.parametrize(("rs", "scale"), [(False, 8 / 2), (True, 8 / 2**0.5)])
def test_an_adapter_beside_its_base_is_merged(prefix, rs, scale, tmp_path):
    model, base, folder = tiny_model(), tmp_path / "base", tmp_path / "adapter"
    model.save_pretrained(base)
    tiny_processor().save_pretrained(base)
    pairs = adapter(folder, model, base, prefix, use_rslora=rs)
    assert family_of(str(folder)) == family_of(str(base))
    found = load_senna(folder)
    for name, weight in model.get_decoder().named_parameters():
        down, up = pairs.get(name.removesuffix(".weight"), (None, None))
        by_hand = weight if down is None else weight + scale * torch.einsum("or,ri->oi", up, down)
        torch.testing.assert_close(found.model.get_decoder().get_parameter(name), by_hand)
    assert found.provenance["base"] == str(base) and found.provenance["checkpoint"] == str(folder)
    assert found.provenance["merged"].endswith("of rank 2, alpha 8, into 2 weights")
    adapter(tmp_path / "again", model, folder)
    with pytest.raises(SennaPruneError, match="is a LoRA adapter again"):
        load_senna(tmp_path / "again")


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_an_adapter_of_a_stock_model_is_merged(family, tmp_path):
    base = save(family, tmp_path / "base")
    whole = load_checkpoint(str(base)).model
    decoder = next(name for name, module in whole.named_modules() if module is whole.get_decoder())
    pairs = adapter(tmp_path / "adapter", whole, base, f"{decoder}.", names=("layers.0.self_attn.q_proj", "layers.1.mlp.down_proj"))
    assert family_of(str(tmp_path / "adapter")) == family
    found = load_checkpoint(str(tmp_path / "adapter"))
    assert found.provenance["base"] == str(base)
    for name, (down, up) in pairs.items():
        weight = whole.get_decoder().get_submodule(name).weight + 4 * up @ down
        torch.testing.assert_close(found.model.get_decoder().get_submodule(name).weight, weight)


def renamed(old, new):
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


OTHERS = {
    "dora": ({"use_dora": True}, None, "no plain LoRA: use_dora is True"),
    "saved modules": ({"modules_to_save": ["lm_head"]}, None, r"modules_to_save is \['lm_head'\]"),
    "bias": ({"bias": "all"}, None, "bias is 'all'"),
    "pissa": ({"init_lora_weights": "pissa"}, None, "init_lora_weights is 'pissa'"),
    "ranks by layer": ({"rank_pattern": {"q_proj": 4}}, None, "rank_pattern is"),
    "of tomorrow": ({"use_something_new": True}, None, "use_something_new is True"),
    "another kind": ({"peft_type": "IA3"}, None, "an adapter of type 'IA3'"),
    "another rank": ({"r": 3}, None, "for rank 3 and a weight of"),
    "no rank": ({"r": 0}, None, "names no rank"),
    "a magnitude": ({}, lambda tensors: {**tensors, "base_model.model.model.norm.lora_magnitude_vector": torch.ones(2)}, "lora_magnitude"),
    "half": ({}, lambda tensors: dict(list(tensors.items())[:3]), "only one of A and B"),
    "empty": ({}, lambda tensors: {}, "it holds no weights"),
    "of another model": ({}, renamed("q_proj", "query"), "for another model: its base has no linear layer"),
    "not a number": ({}, lambda tensors: {name: tensor / 0 for name, tensor in tensors.items()}, "not finite"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_whatever_is_no_plain_lora_is_refused_and_the_base_is_as_before(kind, tmp_path):
    settings, change, words = OTHERS[kind]
    model = tiny_llama(layers=3)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    adapter(tmp_path, model, prefix="model.", change=change, **settings)
    with pytest.raises(SennaPruneError, match=words):
        merge(model, tmp_path)
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())


def test_an_adapter_of_tied_weights_or_of_a_pickle_is_refused(tmp_path):
    model = tiny_llama(layers=3)
    adapter(tmp_path, model, prefix="model.", change=lambda tensors: {
        "base_model.model.lm_head.lora_A.weight": torch.ones(2, 32), "base_model.model.lm_head.lora_B.weight": torch.ones(64, 2)
    })  # fmt: skip
    model.lm_head.weight = model.model.embed_tokens.weight
    with pytest.raises(SennaPruneError, match="the base's embedding too"):
        merge(model, tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(SennaPruneError, match=r"no adapter_model\.safetensors"):
        merge(model, tmp_path)
