"""Fig. 1 for one question: the numbers against an obvious twin, the picture by its pixels, the command as a user types it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import senna_autoprune.demo
from senna_autoprune.cli import main
from senna_autoprune.demo import LABEL
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.nuscenes.view_order import PANORAMA
from senna_autoprune.report import drawing
from senna_autoprune.report.attention import (
    LayerAttention,
    Movement,
    QuestionAttention,
    choose,
    default_layers,
    draw_attention,
    look,
    movement,
)
from senna_autoprune.senna import Senna
from tests.fixtures import shared
from tests.senna.tiny import TOKENS, question, tiny_model, tiny_processor, views

DATAROOT = Path(senna_autoprune.demo.__file__).parent / "data"
VIEWS = 3


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def asked(folder: Path, text: str = "go?", count: int = VIEWS) -> QuestionRow:
    """A question over noise images in ``folder``."""
    names = []
    for index, view in enumerate(views(count)):
        names.append(f"{index}.png")
        view.save(folder / names[-1])
    return QuestionRow(0, "t", "plan", question(count, text), "KEEP, STRAIGHT\n", tuple(names), "s", True, {})


@pytest.fixture
def senna() -> Senna:
    return Senna(tiny_model(), tiny_processor(), {"checkpoint": "tiny"})


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_attention_is_that_of_the_eager_model(senna: Senna, tmp_path: Path) -> None:
    """Twin: transformers' own attention weights, text rows and visual columns picked one by one."""
    row = asked(tmp_path)
    found = look(senna, row, tmp_path, layers=(2, 0, 1, 1))
    batch = senna.processor(text=row.text, images=[str(tmp_path / name) for name in row.images])
    senna.model.set_attn_implementation("eager")
    with torch.no_grad():
        output = senna.model(**batch, output_attentions=True)
    mask = senna.model.get_visual_mask(batch["input_ids"])[0]
    columns = [i for i in range(len(mask)) if mask[i]]
    rows = range(columns[-1] + 1, len(mask))
    assert [one.layer for one in found.layers] == [0, 1, 2]
    for one in found.layers:
        weights = output.attentions[one.layer][0]  # (H, N, N)
        mean = [float(np.mean([weights[h, j, i] for h in range(len(weights)) for j in rows])) for i in columns]
        assert one.on_views == pytest.approx(sum(mean), rel=1e-5)
        assert one.tokens.shape == (VIEWS, TOKENS)
        assert one.tokens.ravel() == pytest.approx(np.array(mean) / sum(mean), rel=1e-4, abs=1e-7)
        assert one.views == pytest.approx(one.tokens.sum(1))


def test_the_answer_is_the_unpruned_one_and_the_model_is_as_before(senna: Senna, tmp_path: Path) -> None:
    row = asked(tmp_path)
    batch = senna.processor(text=row.text, images=[str(tmp_path / name) for name in row.images])
    with torch.no_grad():
        ids = senna.model.generate(**batch, max_new_tokens=32, do_sample=False)
    expected = senna.processor.decode_answers(ids, batch["input_ids"].shape[1])[0]
    assert look(senna, row, tmp_path).answer == expected
    hooked = [name for name, module in senna.model.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    assert hooked == []


def test_heat_is_the_tokens_share_spread_by_attribution(senna: Senna, tmp_path: Path) -> None:
    """All of a view's share stays in the view, and none lands on the padding of a wide image."""
    row = asked(tmp_path)
    for name in row.images:
        with Image.open(tmp_path / name) as image:
            image.resize((64, 16)).save(tmp_path / name)
    found = look(senna, row, tmp_path)
    assert found.patches.sum() == VIEWS * 2 * 4  # two of four rows
    for one in found.layers:
        assert one.heat.sum() == pytest.approx(1, abs=1e-5)
        assert one.heat.sum(-1) == pytest.approx(one.views, abs=1e-6)
        assert np.all(one.heat[~found.patches] == 0)
    through_adapter = look(senna, row, tmp_path, through="adapter")
    assert np.array_equal(through_adapter.layers[0].tokens, found.layers[0].tokens)
    assert not np.allclose(through_adapter.layers[0].heat, found.layers[0].heat)


def test_movement_by_hand() -> None:
    p = np.array([[0.5, 0.5], [0.0, 0.0]])
    same = movement(p, p)
    assert (same.total_variation, same.staying) == (0, 1) and same.jensen_shannon == pytest.approx(0, abs=1e-12)
    away = movement(p, np.array([[0.0, 0.0], [0.5, 0.5]]))
    assert (away.total_variation, away.staying) == (1, 0) and away.jensen_shannon == pytest.approx(1)
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): JS = (log2(4/3) + (log2(2/3) + log2 2) / 2) / 2
    half = movement(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    assert half.total_variation == pytest.approx(0.5)
    assert half.jensen_shannon == pytest.approx((np.log2(4 / 3) + (np.log2(2 / 3) + np.log2(2)) / 2) / 2)
    # the strongest two of eight: 7 and 6 of the one, 7 and 5 of the other
    rising, other = np.arange(8) / 28, np.array([0, 1, 2, 3, 4, 6, 5, 7]) / 28
    assert movement(rising, other).staying == 0.5


def test_movement_is_from_the_layer_drawn_above(senna: Senna, tmp_path: Path) -> None:
    first, _, last = look(senna, asked(tmp_path), tmp_path, layers=(0, 1, 2)).layers
    far = look(senna, asked(tmp_path), tmp_path, layers=(0, 2)).layers
    assert first.moved is None and last.moved is not None
    assert far[1].moved == movement(first.tokens, last.tokens)


def test_default_layers_spread_over_the_depth() -> None:
    assert default_layers(16) == (0, 1, 4, 8, 15)
    assert default_layers(32) == (0, 1, 8, 16, 31)
    assert default_layers(3) == (0, 1, 2) and default_layers(1) == (0,)


def test_faults_are_said(senna: Senna, tmp_path: Path) -> None:
    row = asked(tmp_path)
    for layers in ((3,), (-1,), ()):
        with pytest.raises(SennaPruneError, match="layers 0 to 2"):
            look(senna, row, tmp_path, layers)
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(SennaPruneError, match=r"broken image: .*1\.png"):
        look(senna, row, tmp_path)
    with torch.no_grad():
        senna.model.language_model.layers[1].self_attn.q_proj.weight.fill_(float("nan"))
    with pytest.raises(SennaPruneError, match="attention of layer 1"):
        look(senna, asked(tmp_path), tmp_path)


# --- the picture ------------------------------------------------------------------------------------------------------


def made_up(folder: Path, text: str = "go?") -> QuestionAttention:
    """Six views of 4 x 4 patches, all content; in layer 5 all attention lies on one patch of view 4."""
    row = asked(folder, text, len(PANORAMA))
    for name in row.images:
        Image.new("RGB", (40, 40), "grey").save(folder / name)
    tokens, heat = np.full((6, 2), 1 / 12), np.full((6, 16), 1 / 96)
    spot = np.zeros((6, 16))
    spot[4, 7] = 1  # row 1, last column
    at = np.zeros((6, 2))
    at[4, 0] = 1
    layers = [LayerAttention(0, 0.25, tokens, heat), LayerAttention(5, 0.5, at, spot, Movement(0.917, 0.8, 0.5))]
    images = tuple(folder / name for name in row.images)
    return QuestionAttention("mine", row, images, "KEEP, STRAIGHT\n", layers, np.ones((6, 16), dtype=bool), "projector")


def test_the_picture_shows_the_numbers(tmp_path: Path) -> None:
    names = ("front", "front left", "front right", "back left", "back right", "back")  # as the prompt feeds them
    with drawing.style():
        figure = draw_attention(made_up(tmp_path), names, "synthetic scenes")
    panels = [axis for axis in figure.axes if len(axis.images)]
    assert [axis.get_title() for axis in panels[:6]] == list(PANORAMA)
    heat_rows = [[axis for axis in panels if len(axis.images) == 2][start : start + 6] for start in (0, 6)]
    assert [axis.get_title() for axis in heat_rows[0]] == ["17%"] * 6
    assert [axis.get_title() for axis in heat_rows[1]] == ["0%", "0%", "0%", "0%", "100%", "0%"]  # back right is the fifth of the ring
    hot = np.asarray(heat_rows[1][4].images[1].get_array())
    ys, xs = np.nonzero(hot == hot.max())
    height, width = hot.shape
    assert hot.max() == pytest.approx(96)  # times an even share of 6 x 16 patches
    assert (ys.min(), ys.max() + 1) == (height // 4, height // 2) and (xs.min(), xs.max() + 1) == (width * 3 // 4, width)
    said = [text.get_text() for axis in figure.axes for text in axis.texts] + [text.get_text() for text in figure.texts]
    assert any("since layer 0:\n92% moved (TV)\nJS 0.800 bit\n50% of the strongest" in text for text in said)
    assert "synthetic scenes" in said and any(text.startswith("answer: KEEP, STRAIGHT") for text in said)
    assert any("Model: mine" in text for text in said)


def test_text_of_a_stranger_is_only_text(tmp_path: Path) -> None:
    found = made_up(tmp_path, "$\\frac{broken$ \x1b[31m \x00 好")
    with drawing.style():
        figure = draw_attention(found, ("",) * 6)
        drawing.save(figure, tmp_path / "out.svg", tmp_path / "out.png")
    assert "\x1b" not in (tmp_path / "out.svg").read_text() and "\x00" not in (tmp_path / "out.svg").read_text()


# --- the command ------------------------------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["senna-prune", "attention", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_with_nothing_given_the_embedded_model_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert "using the embedded model and questions (none given)" in shown.err
    assert lines[0] == LABEL
    assert [line.split(":")[0] for line in lines if line.startswith("layer")] == [f"layer {n}" for n in (0, 1, 8, 16, 31)]
    assert sum("total variation" in line for line in lines) == 4
    with Image.open(tmp_path / lines[-1]) as picture:
        assert picture.width > 1500


def test_real_frames_by_the_recorded_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = shared("fixtures", "senna-tiny-a", "checkpoint"), shared("nuscenes", "subset")
    place = ("--model", model, "--dataroot", data, "--scene", "scene-0368", "--keyframe", 1)
    assert command(monkeypatch, *place, "--layers", "3,0", "--attribution", "adapter", "--out", tmp_path / "real.pdf") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("scene-0368-1: answer ") and LABEL not in shown and "embedded" not in shown
    assert (tmp_path / "real.pdf").read_bytes().startswith(b"%PDF")


def test_what_can_be_chosen() -> None:
    file = str(DATAROOT / "questions.json")
    by_number = choose(questions=file, question=7)
    assert by_number.question.question == 7 and by_number.label == LABEL and by_number.views[0] == "front"
    assert by_number.said == ["using the embedded model (none given)"]
    by_scene = choose(model="/models/mine", scene=by_number.question.scene, keyframe=1)
    assert by_scene.label == "synthetic scenes" and by_scene.name == f"{by_number.question.scene}-1"
    assert all(Path(image).is_file() for image in by_scene.question.images)


def test_bad_choices_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (("--question", 0, "--scene", "scene-9001"), "--scene, --keyframe"),
        (("--question", 90000), "has questions 0 to"),
        (("--keyframe", 99), "has keyframes 0 to"),
        (("--keyframe", -1), "has keyframes 0 to"),
        (("--layers", "a"), "like 0,1,4,8,15"),
        (("--out", "x.gif"), ".png, .svg, .pdf"),
        (("--model", tmp_path / "none"), "checkpoint not found"),
    ):
        assert command(monkeypatch, *arguments) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("senna-prune: error")]
        assert len(errors) == 1 and words in errors[0], errors
    monkeypatch.setattr("senna_autoprune.demo.embedded", lambda: None)
    assert command(monkeypatch) == 2
    assert "give --model DIR" in capsys.readouterr().err
