"""What LoRA training leaves is named for what it is, not for what is missing."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file, save_file

from senna_autoprune import SennaPruneError, load_senna
from senna_autoprune.adapters.checkpoint import load_checkpoint
from tests.senna.tiny import tiny_model, tiny_processor


def wrap(folder):
    path = folder / "model.safetensors"
    save_file({f"base_model.model.{name}": value.clone() for name, value in load_file(path).items()}, path, {"format": "pt"})


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
