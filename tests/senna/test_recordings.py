"""Agreement with what the original code computed from the same checkpoint, images and questions, at every stage."""

import json
import logging
import warnings

import numpy as np
import pytest
import torch

from senna_autoprune.senna.vision import tower_features
from tests.fixtures import shared
from tests.senna.conftest import recorded

TOLERANCE = 1e-4  # float32; the original's own two library versions differ by 2.5e-5


def difference(ours: torch.Tensor, theirs: np.ndarray) -> float:
    return float(np.abs(ours.numpy() - theirs).max())


@torch.no_grad()
def test_clip_features(senna, s0):
    features, _ = tower_features(senna.model.vision_tower, torch.tensor(s0.pixels), -2)
    assert difference(features, s0.dump["clip_features"]) <= TOLERANCE


@torch.no_grad()
def test_visual_tokens_and_embeddings(senna, recording):
    inputs = recording.inputs()
    features = senna.model.get_image_features(inputs["pixel_values"])
    assert difference(features.tokens[0], recording.dump["visual_tokens"]) <= TOLERANCE
    seen = {}
    hook = senna.model.get_decoder().register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    senna.model(input_ids=inputs["input_ids"], image_features=features, logits_to_keep=1)
    hook.remove()
    assert difference(seen["inputs_embeds"][0], recording.dump["inputs_embeds"]) <= TOLERANCE
    mask = senna.model.get_visual_mask(inputs["input_ids"])
    assert mask.sum() == 6 * 128
    assert difference(seen["inputs_embeds"][mask].view(6, 128, -1), recording.dump["visual_tokens"]) <= TOLERANCE


@torch.no_grad()
def test_logits_and_hidden_states(senna, recording):
    """Logits of all positions where recorded (s0), of the last one elsewhere; every layer's input by its norms."""
    layers = senna.model.get_decoder().layers
    inputs: list[torch.Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for layer in layers]
    hooks.append(layers[-1].register_forward_hook(lambda _, args, out: inputs.append(out)))
    hooks.append(senna.model.get_decoder().norm.register_forward_hook(lambda _, args, out: inputs.append(out)))
    out = senna.model(**recording.inputs())
    for hook in hooks:
        hook.remove()
    assert out.logits.shape[1] == recording.run["n_positions"]
    assert difference(out.logits[0, -1], recording.dump["last_logits"]) <= TOLERANCE
    if "all_logits" in recording.dump:
        assert difference(out.logits[0], recording.dump["all_logits"]) <= TOLERANCE
    states = torch.stack([state[0] for state in inputs])  # (L + 2, N, d)
    assert difference(states[:, -1], recording.dump["last_pos_hidden"]) <= TOLERANCE
    assert difference(states.norm(dim=-1), recording.dump["hidden_norms"]) <= 10 * TOLERANCE  # a norm sums 64 terms


def test_all_logits_were_compared():
    assert "all_logits" in recorded("s0").dump


def test_greedy_tokens_text_and_step_logits(senna, recording, caplog):
    inputs = recording.inputs()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        out = senna.model.generate(**inputs, max_new_tokens=32, do_sample=False, return_dict_in_generate=True, output_logits=True)
    assert not caplog.records
    prompt = inputs["input_ids"].shape[1]
    assert out.sequences[0, :prompt].tolist() == inputs["input_ids"][0].tolist()
    assert out.sequences[0, prompt:].tolist() == recording.dump["generated_ids"][1:].tolist()  # theirs begin with BOS
    assert senna.processor.decode_answers(out.sequences, prompt) == [recording.run["text"]]
    assert difference(torch.cat(out.logits), recording.dump["step_logits"]) <= TOLERANCE


def test_s4_under_the_pinned_library(senna):
    """The second recording of s4, under transformers 4.31.0: its other ids for special strings, its own answer."""
    root = shared("fixtures", "senna-tiny-a", "dump_f32_transformers4310")
    dump, run = np.load(root / "s4.npz"), json.loads((root / "s4_run.json").read_text())
    inputs = {**recorded("s4").inputs(), "input_ids": torch.tensor(dump["input_ids"])[None]}
    with torch.no_grad():
        assert difference(senna.model(**inputs).logits[0, -1], dump["last_logits"]) <= TOLERANCE
    out = senna.model.generate(**inputs, max_new_tokens=32, do_sample=False)
    new = out[0, inputs["input_ids"].shape[1] :].tolist()
    assert new == dump["generated_ids"][1:].tolist()
    assert senna.processor.decode(new, skip_special_tokens=True).strip() == run["text"]


def test_from_files_to_text(senna):
    """The whole way in one go, as a user types it (s4 is not comparable: its question is tokenised as text)."""
    for name in ("s0", "s1", "s2", "s3"):
        recording = recorded(name)
        batch = senna.processor(text=recording.question, images=recording.images)
        out = senna.model.generate(**batch, max_new_tokens=32, do_sample=False)
        assert senna.processor.decode_answers(out, batch["input_ids"].shape[1]) == [recording.run["text"]]


def test_batch_of_recorded_samples(senna):
    """Questions of different lengths, padded on the left, give the recorded tokens too."""
    recordings = [recorded(name) for name in ("s0", "s1", "s2")]
    batch = senna.processor(text=[r.question for r in recordings], images=[r.images for r in recordings])
    out = senna.model.generate(**batch, max_new_tokens=32, do_sample=False)
    wanted = [recording.dump["generated_ids"][1:].tolist() for recording in recordings]
    assert out[:, batch["input_ids"].shape[1] :].tolist() == wanted


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_kernels_agree(attn_implementation, s0):
    from senna_autoprune import load_senna

    senna = load_senna(shared("fixtures", "senna-tiny-a", "checkpoint"), attn_implementation=attn_implementation, device="cpu")
    assert senna.model.get_decoder().config._attn_implementation == attn_implementation
    with torch.no_grad():
        logits = senna.model(**s0.inputs(), logits_to_keep=1).logits
    assert difference(logits[0, -1], s0.dump["last_logits"]) <= TOLERANCE
