"""Broken, mislabelled and oversized image files: the sample fails and is recorded, the others are answered."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.hostile.case import FAILED_SAMPLES, Corpus, Place
from tests.hostile.world import VERSION, jpeg

CASES = Corpus("image")


def _file(name: str, content: Callable[[], bytes], line: str) -> None:
    """A case whose second sample has an image file with this content."""

    def make(place: Place) -> list[str]:
        questions = place.questions()
        (place.input / "images" / "1-0.png").write_bytes(content())
        return place.evaluate(questions)

    CASES.add(name, make, line, FAILED_SAMPLES)


def _path(name: str, put: Callable[[Place, Path], object], line: str) -> None:
    """A case whose second sample has something else than a file in an image's place."""

    def make(place: Place) -> list[str]:
        questions = place.questions()
        image = place.input / "images" / "1-0.png"
        image.unlink()
        put(place, image)
        return place.evaluate(questions)

    CASES.add(name, make, line, FAILED_SAMPLES)


# --- JPEG -------------------------------------------------------------------------------------------------------------


def _jpeg_size(width: int, height: int) -> bytes:
    """A JPEG whose header claims another size than its data holds."""
    data = jpeg()
    at = data.index(b"\xff\xc0")  # start of frame: length (2), precision (1), height (2), width (2)
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


BROKEN = r"broken image: .*1-0\.png"
LARGE = r"image too large: .*1-0\.png"
for share in (0.02, 0.1, 0.3, 0.5, 0.9):
    _file(f"JPEG cut off at {share:.0%}", lambda share=share: (lambda d: d[: int(len(d) * share)])(jpeg(256, 144)), BROKEN)
_file("JPEG of the start mark alone", lambda: b"\xff\xd8", BROKEN)
_file("JPEG without its end", lambda: jpeg(256, 144)[: -len(jpeg(256, 144)) // 4], BROKEN)
_file("JPEG without quantisation tables", lambda: (lambda d: d[: d.index(b"\xff\xdb")] + d[d.index(b"\xff\xc0") :])(jpeg()), BROKEN)
_file("JPEG of zero width", lambda: _jpeg_size(0, 36), BROKEN)
_file("JPEG of zero height", lambda: _jpeg_size(64, 0), BROKEN)
_file("JPEG that claims 65,500 x 65,500", lambda: _jpeg_size(65500, 65500), LARGE)
_file("JPEG that claims 10,000 x 9,000", lambda: _jpeg_size(10000, 9000), LARGE)
_file("JPEG that claims 1 x 65,500", lambda: _jpeg_size(1, 65500), LARGE)
_file("JPEG that claims 7,000 x 7,000", lambda: _jpeg_size(7000, 7000), LARGE)


def _frame_header(at: int, value: bytes, mark: bytes = b"\xff\xc0") -> bytes:
    """A JPEG with other bytes at an offset from a segment's mark (start of frame by default)."""
    data = jpeg()
    at += data.index(mark)
    return data[:at] + value + data[at + len(value) :]


_file("JPEG with 12 bits a sample", lambda: _frame_header(4, b"\x0c"), BROKEN)
_file("JPEG with a lying segment length", lambda: _frame_header(2, b"\xff\xff", b"\xff\xdb"), BROKEN)


# --- PNG and other containers -----------------------------------------------------------------------------------------


def _chunk(kind: bytes, data: bytes, check: int | None = None) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if check is None else check)


def png(width: int, height: int, data: bytes | None = None, *more: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG with this header; ``data`` are its compressed rows, good ones if None. more: chunks before them."""
    if data is None:
        data = zlib.compress((b"\0" + bytes(3 * width)) * height)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(more) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _bomb(side: int) -> bytes:
    """All-black pixels, a thousandth of their size."""
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(b"\0" + bytes(3 * side)) for _ in range(side))
    return png(side, side, rows + packer.flush())


def _zeros(size: int) -> bytes:
    """So many zeros, compressed a thousandfold, without ever being there at once."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


_file("empty file", lambda: b"", BROKEN)
_file("one byte", lambda: b"\xff", BROKEN)
_file("text", lambda: b"This is no image.\n", BROKEN)
_file("zeros", lambda: bytes(5000), BROKEN)
_file("HTML page under an image's name", lambda: b"<!doctype html><script>alert(1)</script>", BROKEN)
_file("SVG under an image's name", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', BROKEN)
_file("EPS, for which Pillow starts a program", lambda: _eps(), BROKEN)
_file("PDF", lambda: b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n", BROKEN)
_file("ZIP", lambda: b"PK\x03\x04" + bytes(100), BROKEN)
_file("Python pickle", lambda: b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.", BROKEN)
_file("PNG cut off", lambda: png(64, 36)[:60], BROKEN)
_file("PNG of zero size", lambda: png(0, 0), BROKEN)
_file("PNG of zero height", lambda: png(64, 0), BROKEN)
_file("PNG with broken check sum", lambda: png(8, 8, None, _chunk(b"gAMA", b"\0\0\0\1", 7)), BROKEN)
_file("PNG with broken compression", lambda: png(8, 8, b"not deflate"), BROKEN)
_file("PNG of unknown colour type", lambda: png(8, 8, None, colour=5), BROKEN)
_file("PNG with a text bomb", lambda: png(8, 8, None, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000), 1))), BROKEN)
_file("PNG with a colour profile bomb", lambda: png(8, 8, None, _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(80_000_000), 1))), BROKEN)
_file("PNG with a profile bomb of 1 GB", lambda: png(8, 8, None, _chunk(b"iCCP", b"a\0\0" + _zeros(1 << 30))), BROKEN)
_file("PNG with a bomb of international text", lambda: png(8, 8, None, _chunk(b"iTXt", b"a\0\1\0\0\0" + _zeros(80_000_000))), BROKEN)
_file("PNG with a hundred texts", lambda: png(8, 8, None, *[_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))] * 100), BROKEN)
_file("PNG that claims 2,000,000,000 x 2,000,000,000", lambda: png(2_000_000_000, 2_000_000_000, b""), LARGE)
_file("PNG bomb of 9,500 x 9,500", lambda: _bomb(9500), LARGE)
_file("PNG bomb of 20,000 x 20,000 claimed", lambda: png(20000, 20000, zlib.compress(bytes(1000))), LARGE)
_file("PNG strip of 100,000 x 1", lambda: png(100_000, 1), LARGE)
_file("GIF", lambda: b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x08\0\x08\0\0\x02\x07\x84\x8f\xa9\xcb\xed\x0f\0;", BROKEN)
_file("BMP of negative height", lambda: _bmp(8, -(2**31)), f"{BROKEN}|{LARGE}")
_file("BMP without pixels", lambda: _bmp(64, 64), BROKEN)
_file("TIFF whose directory is itself", lambda: b"II*\0\x08\0\0\0" + b"\x00\x00" + b"\x08\0\0\0", BROKEN)
_file("PPM without pixels", lambda: b"P6\n9000 9000\n255\n", f"{BROKEN}|{LARGE}")
_file("WebP with a lying length", lambda: b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff" + bytes(30), BROKEN)


def _bmp(width: int, height: int) -> bytes:
    """The header of a BMP and nothing else."""
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def _eps() -> bytes:
    """PostScript that writes a file, if anything runs it."""
    program = b"(pwned) (w) file (x) writestring showpage\n"
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n" + program + b"%%EOF\n"


# --- no file at all ---------------------------------------------------------------------------------------------------

_path("missing file", lambda place, image: None, r"image not found: .*1-0\.png")
_path("folder", lambda place, image: image.mkdir(), BROKEN)
_path("link to nothing", lambda place, image: image.symlink_to("nowhere.png"), r"image not found: .*1-0\.png")
_path("link to itself", lambda place, image: image.symlink_to("1-0.png"), r"image not found: .*1-0\.png")
_path("link to the user's file", lambda place, image: image.symlink_to(place.canary), BROKEN)
_path("named pipe, which nobody writes", lambda place, image: os.mkfifo(image), BROKEN)
_path("device that never ends", lambda place, image: image.symlink_to("/dev/zero"), BROKEN)
_path("sparse file of 10 GB", lambda place, image: (image.touch(), os.truncate(image, 10 << 30)), LARGE)


@CASES.case("no sample has its images", r"not one of 2 samples has all its images .*--images DIR")
def _none(place: Place) -> list[str]:
    questions = place.questions()
    for image in (place.input / "images").iterdir():
        image.unlink()
    return place.evaluate(questions)


@CASES.case("every image is broken", r"2 answers of|4 answers of 2 samples failed", FAILED_SAMPLES)
def _every(place: Place) -> list[str]:
    questions = place.questions()
    for image in (place.input / "images").iterdir():
        image.write_bytes(b"\xff\xd8\xff")
    return place.evaluate(questions)


@CASES.case("bomb in a replayed scene", r"of 3 frames failed .*too large", FAILED_SAMPLES)
def _replay(place: Place) -> list[str]:
    root = place.tables()
    first = sorted((root / "samples" / "CAM_FRONT").iterdir())[0]
    first.unlink()
    first.write_bytes(_jpeg_size(65500, 65500))
    argv = ["replay", "--model", str(place.world.checkpoint), "--dataroot", str(root), "--retention", "0.6", "--limit", "3"]
    return [*argv, "--out", "run"]


@CASES.case("text in a replayed scene", r"of 3 frames failed .*broken image", FAILED_SAMPLES)
def _replay_text(place: Place) -> list[str]:
    argv = _replay(place)
    first = sorted((place.input / "nusc" / "samples" / "CAM_FRONT").iterdir())[0]
    first.write_text("no image")
    return argv


@CASES.case("bomb to be drawn", r"image too large: .*CAM_FRONT")
def _inspect(place: Place) -> list[str]:
    root = place.tables()
    first = sorted((root / "samples" / "CAM_FRONT").iterdir())[0]
    first.unlink()
    first.write_bytes(_jpeg_size(65500, 65500))
    built = place.world.folder / "built.json"
    token = json.loads(built.read_text())[0]["token"]
    return ["questions", "inspect", str(built), "--image", token, "run/x.png", "--dataroot", str(root), "--version", VERSION]
