"""The shipped model answers as it was measured to: rightly with its cameras, and not by luck without them."""

import json

import pytest
import torch

from senna_autoprune.demo import embedded
from senna_autoprune.nuscenes.questions_file import read_questions
from senna_autoprune.senna import load_senna


@pytest.fixture(scope="module")
def asked():
    found = embedded()
    assert found is not None, "the package ships no model"
    senna = load_senna(str(found.model_dir))
    rows = [record for record in read_questions(found.questions_file).records if record.type == "plan"][::21]
    answers = {"cameras": [], "grey": []}
    for row in rows:
        text = row["conversations"][0]["value"]
        for name, images in (("cameras", [found.dataroot / i for i in row["images"]]), ("grey", None)):
            batch = senna.processor(text=text, images=images or [found.dataroot / i for i in row["images"]])
            if images is None:
                batch["pixel_values"] = torch.zeros_like(batch["pixel_values"])
            ids = senna.model.generate(**batch, max_new_tokens=16, do_sample=False)
            answers[name].append(senna.processor.decode_answers(ids, batch["input_ids"].shape[1])[0])
    return [row["conversations"][1]["value"].strip() for row in rows], answers, found


def test_it_sees(asked):
    labels, answers, _ = asked
    right = {name: sum(a == b for a, b in zip(said, labels, strict=True)) / len(labels) for name, said in answers.items()}
    assert right["cameras"] >= 0.75 and right["cameras"] - right["grey"] >= 0.25


def test_it_is_small_and_deep(asked):
    found = asked[2]
    assert (found.model_dir / "model.safetensors").stat().st_size <= 12_000_000
    config = json.loads((found.model_dir / "config.json").read_text())
    assert config["text_config"]["num_hidden_layers"] == 32 and config["num_visual_tokens"] == 128
