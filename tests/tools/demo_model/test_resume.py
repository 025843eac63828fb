"""The trainer on a handful of made-up keyframes: a run that stops and goes on ends in the weights of one that did not."""

import json
import sys

import numpy as np
import pytest
import torch

from demo_model import train_senna_mini, training
from demo_model.keyframes import KeyframeData
from demo_model.mini import build_config, initialise
from demo_model.team import Team
from demo_model.training import DecoderTrainer, Schedule, TowerTrainer, patch_heads
from demo_world.facts import RELATIONS
from demo_world.meshes import CLASSES
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.lock import RunLock
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from senna_autoprune.senna.tokenization import load_sentencepiece

ROW = {
    "seed": 1,
    "family": "town",
    "cause": "signal",
    "speed": 8,
    "command": "go straight",
    "answer": "KEEP, STRAIGHT",
    "night": False,
    "rain": True,
    "signal": "green",
    "ahead": "nothing",
    "brake_lights": False,
    "walker": False,
    "left": "",
    "right": "",
    "asked": [
        ["plan", None, "KEEP, STRAIGHT\n", "Your current speed is 8 m/s."],
        ["light", None, "Green", None],
        ["vru", None, "No, I don't see any.", None],
        ["motion", "front", "Object 1: KEEP, STRAIGHT\n", "Object 1: car."],
        ["description", "back", "It is day.", None],
        ["explanation", None, "The light is green.", "Why?"],
    ],
}
KEYFRAMES = 5


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "VALIDATION", 1)
    monkeypatch.setattr(training, "SAVE_EVERY", 1)
    rng = np.random.default_rng(0)
    for part in range(2):
        base = tmp_path / f"part{part}"
        np.save(f"{base}.images.npy", rng.integers(0, 256, (KEYFRAMES, 6, 126, 224, 3), dtype=np.uint8))
        np.save(f"{base}.classes.npy", rng.integers(0, len(CLASSES), (KEYFRAMES, 6, 128), dtype=np.uint8))
        np.save(f"{base}.relations.npy", rng.integers(0, len(RELATIONS), (KEYFRAMES, 6, 128), dtype=np.uint8))
        rows = [ROW | {"speed": part * KEYFRAMES + i} for i in range(KEYFRAMES)]
        base.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return KeyframeData(tmp_path)


def trained(data, tokenizer_file, run, tower_steps, decoder_steps):
    run.mkdir(exist_ok=True)
    tokenizer = load_sentencepiece(tokenizer_file)
    torch.manual_seed(0)
    model, heads = SennaForConditionalGeneration(build_config(len(tokenizer), layers=2)), patch_heads()
    initialise(model)
    TowerTrainer(model, heads, data, run, 0, Team(0, 1)).run(tower_steps, batch=2)
    if decoder_steps:
        DecoderTrainer(model, heads, tokenizer, data, run, 0, Team(0, 1)).run(Schedule(decoder_steps, 2, shallow=1, short=2, few=48))
    return model.state_dict()


def test_the_tower_learns_at_a_rate_of_its_own(data, tokenizer_file, tmp_path):
    tokenizer = load_sentencepiece(tokenizer_file)
    model, heads = SennaForConditionalGeneration(build_config(len(tokenizer), layers=2)), patch_heads()
    initialise(model)
    trainer, plan = (
        DecoderTrainer(model, heads, tokenizer, data, tmp_path, 0, Team(0, 1)),
        Schedule(2, 2, shallow=1, short=2, few=48, joined=0),
    )
    trainer.run(plan)
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups[:1]]
    assert rates == pytest.approx([lr * plan.rate(1) * share for lr, share in zip(trainer.base_lr, (1, 1, 0.3, 0.3), strict=True)])


def test_stopped_and_unbroken_runs_agree(data, tokenizer_file, tmp_path, monkeypatch):
    whole = trained(data, tokenizer_file, tmp_path / "whole", 2, 2)

    class Killed(Exception):
        pass

    def at_step_one(function):
        def wrapped(self, *args):
            if self.step == 1:
                raise Killed
            return function(self, *args)

        return wrapped

    for trainer in (TowerTrainer, DecoderTrainer):
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "_learn", at_step_one(trainer._learn))
            with pytest.raises(Killed):
                trained(data, tokenizer_file, tmp_path / "stopped", 2, 2)
    again = trained(data, tokenizer_file, tmp_path / "stopped", 2, 2)
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    fresh = SennaForConditionalGeneration(build_config(len(load_sentencepiece(tokenizer_file)), layers=2))
    assert not torch.equal(fresh.state_dict()["lm_head.weight"], whole["lm_head.weight"])


def test_every_keyframe_once_an_epoch_and_none_held_out(data, tokenizer_file, tmp_path):
    run = tmp_path / "run"
    trained(data, tokenizer_file, run, 0, 0)
    tokenizer = load_sentencepiece(tokenizer_file)
    model = SennaForConditionalGeneration(build_config(len(tokenizer), layers=2))
    trainer = DecoderTrainer(model, patch_heads(), tokenizer, data, run, 0, Team(0, 1))
    seen = []
    for trainer.step in range(6):
        seen.append(trainer._rows(3))
    assert sorted(np.concatenate(seen[:3])) == sorted(np.concatenate(seen[3:])) == list(range(9))
    assert not np.array_equal(np.concatenate(seen[:3]), np.concatenate(seen[3:]))


def test_two_trainings_in_one_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_senna_mini.py", "--out", str(tmp_path), "--parts", "0"])
    with RunLock(tmp_path), pytest.raises(SennaPruneError, match="is in use by process"):
        train_senna_mini.main()
    assert not (tmp_path / "tokenizer.model").exists()
