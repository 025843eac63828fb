"""Frames of a scene and of a run: what is asked, what is kept, what is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.runs.rows import AnswerRow
from senna_autoprune.nuscenes.builders import plan_question
from senna_autoprune.nuscenes.can_bus import CanBus
from senna_autoprune.nuscenes.scenes import iter_samples, load_tables
from senna_autoprune.pruning.trace import PromptTrace
from senna_autoprune.replay.frames import Frame, Replay, make_replay, sight_of
from senna_autoprune.replay.sources import find_version, scene_source, views_of
from senna_autoprune.senna import Senna
from senna_autoprune.senna.images import content_patches
from tests.fixtures import shared
from tests.replay.conftest import DATAROOT
from tests.replay.twins import jacobian_attribution
from tests.senna.tiny import TOKENS


def test_frames_are_the_scene_s_keyframes_in_order(replay: Replay, nusc: Any) -> None:
    scene = next(row for row in nusc.scene if row["name"] == replay.title)
    samples = {s.token: s for s in iter_samples(nusc, scene, CanBus(nusc.dataroot), "fixed")}
    times = [frame.shot.timestamp_us for frame in replay.frames]
    assert len(replay.frames) >= 2 and times == sorted(times)
    for frame in replay.frames:
        pair = plan_question(samples[frame.shot.question.token].geometry)
        assert pair is not None and frame.shot.question.text.endswith(pair.question)
        assert frame.shot.question.label == pair.answer
        assert frame.shot.views[0] == "front" and "CAM_FRONT/" in frame.shot.question.images[0]
    left_out = len(samples) - len(replay.frames)
    assert any(note.startswith(f"{left_out} of {len(samples)} keyframes") for note in replay.notes)


def test_answers_equal_a_plain_generate(replay: Replay, senna: Senna) -> None:
    frame = replay.frames[0]
    batch = senna.processor(text=frame.shot.question.text, images=list(frame.shot.question.images))
    ids = senna.model.generate(**batch, max_new_tokens=4, do_sample=False)
    assert senna.processor.decode_answers(ids, batch["input_ids"].shape[1]) == [frame.unpruned.answer]


def test_sight_adds_up(replay: Replay) -> None:
    for frame in replay.frames:
        sight, trace = frame.sight, frame.trace
        assert sight is not None and trace is not None
        kept = sight.kept[sight.set_of_layer]  # (L, V, T)
        assert kept.shape == (3, 6, TOKENS) and kept[0].all()
        assert kept.sum((1, 2)).tolist() == trace.tokens_per_layer
        np.testing.assert_allclose(sight.heat[sight.set_of_layer[0]], sight.full, rtol=1e-4)
        assert (sight.heat[-1].sum() < sight.full.sum()) and (sight.heat <= sight.full * 1.001).all()
        for view, size in enumerate(frame.sizes):
            assert ((sight.full[view] > 0) == content_patches(*size, 4).ravel()).all()


def test_heat_is_the_jacobian_of_the_model_itself(replay: Replay, senna: Senna) -> None:
    """From the tower's patches of one view to its tokens, by automatic differentiation of the model's own modules."""
    frame, view, model = replay.frames[0], 2, senna.model
    assert frame.sight is not None
    pixels = senna.processor.image_processor(list(frame.shot.question.images))["pixel_values"]
    states = model.vision_tower(pixels[view : view + 1], output_hidden_states=True).hidden_states
    patches = states[model.config.vision_feature_layer][0, 1:].detach()
    twin = jacobian_attribution(lambda x: model.img_adapter(model.mm_projector(x)[None])[0], patches).detach()  # (T, P)
    last = frame.sight.kept[-1, view]
    expected = twin[torch.from_numpy(last)].sum(0) * content_patches(*frame.sizes[view], 4).ravel()
    np.testing.assert_allclose(frame.sight.heat[-1, view], expected.numpy(), rtol=1e-3, atol=1e-6)


def test_adapter_alone_is_another_measure(replay: Replay, senna: Senna, nusc: Any) -> None:
    setting = Setting("uniform", "uniform", {"retention": 0.6})
    source = scene_source(nusc, replay.frames[0].shot.question.token)
    other = make_replay(senna, source, setting, "", max_new_tokens=2, through="adapter")
    assert len(other.frames) == 1 and other.frames[0].sight is not None and replay.frames[0].sight is not None
    assert len(other.frames[0].sight.kept) == 1  # chosen once, before the decoder
    assert not np.allclose(other.frames[0].sight.full, replay.frames[0].sight.full, rtol=0.05)


def test_layers_with_equal_sets_share_them() -> None:
    ids = [torch.arange(4), torch.tensor([0, 3]), torch.tensor([0, 3])]
    trace = PromptTrace(4, 3, (2, 2), [4, 2, 2], 2, 1.0, 0.5, 0, device_ids=ids)
    sight = sight_of(trace, torch.rand(2, 2, 9))
    assert sight.set_of_layer == [0, 1, 1] and sight.kept[1].tolist() == [[True, False], [False, True]]
    np.testing.assert_allclose(sight.mean_heat, (sight.heat[0] + 2 * sight.heat[1]) / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("label", "before", "after", "agrees", "flip"),
    [
        ("STOP, STRAIGHT\n", "STOP, STRAIGHT", "KEEP, STRAIGHT", False, "missed_brake"),
        ("", "STOP, STRAIGHT", "KEEP, STRAIGHT", False, "missed_brake"),
        ("KEEP, STRAIGHT\n", "STOP, STRAIGHT", "KEEP, STRAIGHT", False, "repaired"),
        ("KEEP, STRAIGHT\n", "KEEP, STRAIGHT", "KEEP,STRAIGHT ", True, None),
        ("KEEP, STRAIGHT\n", "KEEP, STRAIGHT", None, None, None),
    ],
)
def test_flips(replay: Replay, label: str, before: str, after: str | None, agrees: bool | None, flip: str | None) -> None:
    shot = replay.frames[0].shot
    asked = replace(shot, question=replace(shot.question, label=label))
    frame = Frame(asked, AnswerRow(0, "unpruned", "ok", before), AnswerRow(0, "x", "ok", after), ())
    assert (frame.agrees, frame.flip) == (agrees, flip)


def test_a_broken_image_fails_its_frame_only(senna: Senna, nusc: Any, tmp_path: Any) -> None:
    source = scene_source(nusc, None, limit=2)
    bad = tmp_path / "samples.jpg"
    bad.write_bytes(b"no image")
    row = source.shots[1].question
    source.shots[1] = replace(source.shots[1], question=replace(row, images=(str(bad), *row.images[1:])))
    setting = Setting("random", "random", {"retention": 0.6})
    replay = make_replay(senna, source, setting, "", max_new_tokens=2)
    assert replay.frames[0].sight is not None and replay.frames[1].sight is None
    assert "broken image" in (replay.frames[1].pruned.reason or "") and replay.frames[1].agrees is None
    assert any(note.startswith("1 of 2 frames failed") for note in replay.notes)
    with pytest.raises(SennaPruneError, match="not one frame could be asked"):
        make_replay(senna, replace(source, shots=source.shots[1:]), setting, "", max_new_tokens=2)


def test_scenes_that_cannot_be_found(nusc: Any, tmp_path: Any) -> None:
    with pytest.raises(SennaPruneError, match="no scene or sample 'scene-0000'"):
        scene_source(nusc, "scene-0000")
    assert find_version(DATAROOT) == "v1.0-demo"
    with pytest.raises(SennaPruneError, match="--version"):
        find_version(tmp_path)


def test_without_a_name_the_scene_with_most_images(nusc: Any, tmp_path: Any) -> None:
    counts: dict[str, int] = {}
    for scene in nusc.scene:
        try:
            counts[scene["name"]] = len(scene_source(nusc, scene["name"]).shots)
        except SennaPruneError:
            counts[scene["name"]] = 0
    assert scene_source(nusc, None).title == max(counts, key=lambda name: counts[name])  # the first of equals


def test_real_frames_near_the_end_have_no_label() -> None:
    """Single keyframes of real scenes; a scene without images says so."""
    tables = load_tables(shared("nuscenes", "subset"), "v1.0-mini")
    source = scene_source(tables, "scene-0368")
    assert len(source.shots) == 5 and any("35 of 40 keyframes" in note for note in source.notes)
    with pytest.raises(SennaPruneError, match="has all six image files"):
        scene_source(tables, "scene-0578")
    alone = scene_source(tables, source.shots[2].question.token)
    assert [shot.question.token for shot in alone.shots] == [source.shots[2].question.token]
    token = next(scene["token"] for scene in tables.scene if scene["name"] == "scene-0368")
    assert len(scene_source(tables, token, limit=3).shots) == 3


def test_label_is_empty_where_the_future_is_unknown(nusc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senna_autoprune.replay.sources.os.path.isfile", lambda path: True)
    source = scene_source(nusc, None)
    labels = [bool(shot.question.label) for shot in source.shots]
    assert labels[-6:] == [False] * 6 and all(labels[:-6])
    assert all("SPEED plan" in shot.question.text for shot in source.shots)
    assert any("no label" in note for note in source.notes)


def test_views_by_folder_else_by_the_prompt() -> None:
    assert views_of(["a/CAM_BACK/x.jpg", "a/CAM_FRONT_LEFT/y.jpg"]) == ("back", "front left")
    assert views_of([f"{i}.png" for i in range(6)])[0] == "front"
    assert views_of(["1.png", "2.png"]) == ("", "")
