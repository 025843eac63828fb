"""The MP4 plays: right length, size and codec, and its pictures are the frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import ImageDraw

from senna_autoprune.demo import LABEL
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.replay import video
from senna_autoprune.replay.frames import Replay
from senna_autoprune.replay.video import HOLD, RATE, SIZE, draw_frame, write_video
from tests.replay.test_page import hostile


def test_frames_can_be_decoded(replay: Replay, tmp_path: Path) -> None:
    path = tmp_path / "replay.mp4"
    write_video(replay, path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height) == SIZE and stream.average_rate == RATE
        pictures = [picture.to_ndarray(format="rgb24") for picture in container.decode(stream)]
    assert len(pictures) == HOLD * len(replay.frames)
    for number in range(len(replay.frames)):
        expected = draw_frame(replay, number).astype(float)
        got = [np.abs(pictures[HOLD * number + shift] - expected).mean() for shift in (0, HOLD - 1)]
        assert max(got) < 6  # of 255: what compression costs
        other = draw_frame(replay, (number + 1) % len(replay.frames)).astype(float)
        assert np.abs(pictures[HOLD * number] - other).mean() > 2 * max(got)


def test_views_stand_on_the_ring(replay: Replay) -> None:
    """Swapping the order in which images were fed moves no view."""
    frame = replay.frames[0]
    assert frame.sight is not None
    order = [1, 0, 2, 3, 4, 5]
    question = replace(frame.shot.question, images=tuple(frame.shot.question.images[i] for i in order))
    shot = replace(frame.shot, question=question, views=tuple(frame.shot.views[i] for i in order))
    sight = replace(frame.sight, kept=frame.sight.kept[:, order], heat=frame.sight.heat[:, order], full=frame.sight.full[order])
    other = replace(frame, shot=shot, sight=sight, sizes=tuple(frame.sizes[i] for i in order))
    same = draw_frame(replace(replay, frames=[frame]), 0)
    assert (draw_frame(replace(replay, frames=[other]), 0) == same).all()


def test_what_is_shown_is_named(replay: Replay) -> None:
    named, unnamed = (draw_frame(replace(replay, description=words), 0) for words in (LABEL, ""))
    changed = np.argwhere((named != unnamed).any(-1))
    assert len(changed) > 100 and (changed.min(0) > (482, 20)).all()  # below the pictures, right of the margin


def test_any_answer_can_be_drawn(replay: Replay) -> None:
    assert draw_frame(hostile(replay), 0).shape == (720, 1280, 3)
    failed = [replace(frame, sight=None, trace=None, sizes=()) for frame in replay.frames]
    assert draw_frame(replace(replay, frames=failed), 0).shape == (720, 1280, 3)


def test_a_missing_encoder_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", set())
    with pytest.raises(SennaPruneError, match=r"no H\.264 encoder"):
        video.require_encoder()
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(SennaPruneError, match=r"senna_autoprune\[video\]"):
        video.require_encoder()


@pytest.mark.parametrize("words", [60, 400])
def test_the_disclaimer_is_never_cut(replay: Replay, monkeypatch: pytest.MonkeyPatch, words: int) -> None:
    drawn: list[str] = []
    text = ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda draw, at, said, **more: (drawn.append(said), text(draw, at, said, **more)))
    draw_frame(replace(replay, description=f"{'rain ' * (words // 5)}· {LABEL}"), 0)
    assert LABEL in " ".join(drawn) and any(f"×{replay.heat_top:g} and more" in said for said in drawn)
