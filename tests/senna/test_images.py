import numpy as np
import pytest
from PIL import Image

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files import image_files
from senna_autoprune.files.image_files import image_header, open_image
from senna_autoprune.senna.images import SennaImageProcessor, content_patches, pad_to_square


def test_recorded_pixels(recording):
    pixels = SennaImageProcessor().preprocess(recording.images)["pixel_values"]
    assert np.abs(pixels.numpy() - recording.pixels).max() <= 1e-5


def test_pil_images_equal_paths(s0):
    processor = SennaImageProcessor()
    opened = [Image.open(path) for path in s0.images]
    assert (processor.preprocess(opened)["pixel_values"] == processor.preprocess(s0.images)["pixel_values"]).all()


def test_padding_colour_and_offset():
    assert SennaImageProcessor().padding_colour == (122, 116, 104)
    square = np.asarray(pad_to_square(Image.new("RGB", (4, 7), "white"), (122, 116, 104)))
    assert square.shape == (7, 7, 3)
    assert (square[:, 1:5] == 255).all()  # 3 columns to fill: 1 before (floor), 2 after
    assert (square[:, [0, 5, 6]] == (122, 116, 104)).all()


def patches_twin(width: int, height: int, grid: int) -> np.ndarray:
    """Paint the image's area at a resolution where every edge is exact, and look whether a patch holds any of it."""
    side = max(width, height)
    canvas = np.zeros((side * grid, side * grid), dtype=bool)
    top, left = (side - height) // 2 * grid, (side - width) // 2 * grid
    canvas[top : top + height * grid, left : left + width * grid] = True
    return canvas.reshape(grid, side, grid, side).any((1, 3))


@pytest.mark.parametrize("size", [(16, 9), (9, 16), (10, 10), (31, 17), (7, 100), (101, 3), (1, 1)])
def test_content_patches_equal_painted_twin(size):
    assert (content_patches(*size, 6) == patches_twin(*size, 6)).all()


def test_ten_of_24_patch_rows_of_a_camera_frame_are_padding():
    mask = content_patches(1600, 900, 24)
    assert mask.sum() == 14 * 24
    assert mask[5:19].all()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_any_mode(mode, tmp_path):
    image = Image.new("L", (20, 10), 128).convert("I") if mode == "I;16" else Image.new("RGB", (20, 10), "gray")
    image = image.convert(mode)
    assert SennaImageProcessor(image_size=32, patch_size=8).preprocess([image])["pixel_values"].shape == (1, 3, 32, 32)


def test_broken_images_name_the_file(tmp_path, s0):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(s0.images[0].read_bytes()[:5000])
    text = tmp_path / "text.png"
    text.write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    for path in (broken, text, tmp_path / "none.jpg", tmp_path / "folder.jpg"):
        with pytest.raises(SennaPruneError, match=path.name):
            open_image(path)
    with pytest.raises(SennaPruneError, match="int"):
        open_image(7)


def test_decompression_bombs_are_errors_without_a_warning(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(image_files, "MAX_SIDE", 30)
    for size in [(35, 35), (60, 60), (1, 100)]:  # Pillow warns; Pillow refuses; a strip whose square is huge
        path = tmp_path / f"{size[0]}.png"
        Image.new("RGB", size).save(path)
        with pytest.raises(SennaPruneError, match=rf"too large: .*{path.name}"):
            open_image(path)
    assert not recwarn


def test_only_image_formats_of_cameras_are_opened(tmp_path):
    """Pillow starts Ghostscript for EPS."""
    for suffix in ("eps", "gif", "tiff"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"image.{suffix}")
        (tmp_path / f"image.{suffix}").rename(tmp_path / "image.jpg")
        with pytest.raises(SennaPruneError, match=r"broken image: .*cannot identify"):
            open_image(tmp_path / "image.jpg")


def test_header_of_a_file(tmp_path):
    Image.new("RGB", (8, 5)).save(tmp_path / "image.jpg")
    assert image_header(tmp_path / "image.jpg") == ("jpeg", (8, 5))
    with pytest.raises(SennaPruneError, match="not found"):
        image_header(tmp_path / "none.jpg")


def test_zero_views():
    with pytest.raises(SennaPruneError, match="zero views"):
        SennaImageProcessor().preprocess([])
