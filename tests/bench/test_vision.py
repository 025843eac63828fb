"""The vision stage is the model's own, and is timed on all views."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from senna_autoprune.bench import vision as bench_vision
from senna_autoprune.bench.shapes import SHAPES, build_filled
from senna_autoprune.bench.vision import VisionStage, time_vision
from senna_autoprune.cli import bench as bench_command
from senna_autoprune.senna.configuration import SennaConfig
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from tests.bench.test_passes import SHAPE, TINY

TINY_VISION = SennaConfig(
    vision_config={
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    },
    text_config={"model_type": "llama", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4},
    num_visual_tokens=8,
)


def test_the_stage_is_what_the_model_does_with_pixels():
    stage = build_filled(lambda: VisionStage(TINY_VISION), torch.float32, "cpu", 0)
    model = SennaForConditionalGeneration(TINY_VISION).eval()
    model.vision_tower, model.mm_projector, model.img_adapter = stage.tower, stage.projector, stage.adapter
    pixels = torch.randn(3, 3, 28, 28)
    with torch.inference_mode():
        tokens = stage(pixels)
        assert tokens.shape == (3, 8, 32)
        assert torch.allclose(tokens, model.get_image_features(pixels[None]).tokens[0], atol=1e-6)


def test_every_round_sees_all_views(monkeypatch: pytest.MonkeyPatch):
    shapes: list[torch.Size] = []
    forward = VisionStage.forward
    monkeypatch.setattr(VisionStage, "forward", lambda self, pixels: (shapes.append(pixels.shape), forward(self, pixels))[1])
    done: list[int] = []
    timing = time_vision(TINY_VISION, 6, torch.bfloat16, "cpu", rounds=2, on_round=done.append)
    assert shapes == [(6, 3, 28, 28)] * 3 and done == [1, 2, 3]
    assert 0 < timing.p10 <= timing.median <= timing.p90


def test_a_named_shape_has_its_vision_stage_in_the_split(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SHAPES, "senna-7b", SHAPE)
    monkeypatch.setattr(bench_vision, "senna_config", lambda hidden: TINY_VISION)
    short = TINY[TINY.index("--rounds") :]
    result = CliRunner().invoke(bench_command.command, ["--shape", "senna-7b", *short, "--retention", "0.5", "--dtype", "bfloat16"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.output.strip().splitlines()[-1])
    assert (document["shape_name"], document["shape"]["layers"]) == ("senna-7b", 4)
    assert document["vision_ms"]["median"] > 0 and document["scaled"] is None
    assert "stages of a question" in result.output and "vision" in result.output
    assert "batches" not in document  # eight prompts of a 7B at once are asked for by name
